"""nDCG@10 of the untouched base on stored test sets, to hold against published ones.

python benchmarks/published_scores.py WORKSPACE scifact nfcorpus
"""

from __future__ import annotations

import sys

from ragcun_cli.console import Watcher
from ragcun_cli.pipeline import walk
from ragcun_cli.pipeline.profiles import load_plan
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.runs import runs_of
from ragcun_cli.pipeline.stages import Runner

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PUBLISHED = {"scifact": 0.64508, "nfcorpus": 0.31594, "fiqa": 0.36867}


def main() -> None:
    workspace, names = walk.open_workspace(sys.argv[1]), sys.argv[2:]
    changes = [f"encoder.base={MINILM}", "encoder.max_seq_length=256", "training.precision=fp32"]
    plan = load_plan("baseline_no_isotropy", sets=[*changes, f"data.train={names[0]}"])
    run = next(run for run in runs_of(plan, workspace) if run.reference == "untouched")
    road, runner = Road(workspace), Runner(Watcher())
    for name in names:
        task = road.evaluate(run, name)
        walk.bring_up_to_date(lambda task=task: [task], [run], road, runner, walk.Consent())
        record = runner.record(task)
        print(f"{name}: {record.details['ndcg@10']:.5f}, published {PUBLISHED.get(name)}")


if __name__ == "__main__":
    main()
