"""nDCG@10 of every finished run of a workspace, and of its references, on its own dev queries.

To choose the quickstart's values by; no test query is looked at.

    ragcun train --profile quickstart --set training.max_steps=64 --workspace W
    python benchmarks/quickstart_dev.py W
"""

import sys

from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.reproduce.walk import finished_runs
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.search.dense import PLAIN, rank_forms
from ragcun_cli.pipeline.search.judged import read_judged_set
from ragcun_cli.pipeline.search.rankings import mean_ndcg
from ragcun_cli.pipeline.stages.runner import Runner


def main() -> None:
    workspace = open_workspace(sys.argv[1])
    road = Road.of(Place(workspace))
    for run in finished_runs(road, Runner(Silent())):
        train = run.profile.data.train
        dev = read_judged_set(train, workspace.dataset(train), split="dev")
        if run.reference == "bm25":
            continue
        model, config = road.place.load(run), run.profile.evaluation
        score = mean_ndcg(rank_forms(model, dev, config, progress=Silent())[PLAIN], dev)
        print(f"{score:.4f}  {run.label}  {run.folder.name}  {run.values.get('training', {})}")


if __name__ == "__main__":
    main()
