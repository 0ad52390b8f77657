"""nDCG@10 of BM25 on stored test sets, to hold against published ones.

    python benchmarks/bm25_scores.py WORKSPACE [scifact nfcorpus]

The published ones: Anserini's flat index at k1 = 0.9, b = 0.4, and mteb's bm25s at 1.5, 0.75.
"""

from __future__ import annotations

import sys

from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import open_workspace
from ragcun_cli.pipeline.search.judged import read_judged_set
from ragcun_cli.pipeline.search.lexical.rank import rank_lexical
from ragcun_cli.pipeline.search.rankings import mean_ndcg
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.mining_config import MiningConfig

PUBLISHED = {
    ("scifact", 0.9): 0.6789,
    ("nfcorpus", 0.9): 0.3218,
    ("scifact", 1.5): 0.68736,
    ("nfcorpus", 1.5): 0.32082,
}


def main() -> None:
    workspace = open_workspace(sys.argv[1])
    for name in sys.argv[2:] or ["scifact", "nfcorpus"]:
        test = read_judged_set(name, workspace.dataset(name))
        for k1, b in ((0.9, 0.4), (1.5, 0.75)):
            config = MiningConfig(k1=k1, b=b)
            ranking = rank_lexical(
                test, EvaluationConfig(depth=100), config, workspace=workspace, progress=Silent()
            )
            score = mean_ndcg(ranking, test)
            print(f"{name}, k1 {k1}, b {b}: {score:.5f}, published {PUBLISHED.get((name, k1))}")


if __name__ == "__main__":
    main()
