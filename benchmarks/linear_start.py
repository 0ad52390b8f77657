"""nDCG@10 of the linear start beside the untouched base on the docstring test sets, untrained.

ragcun data build && python benchmarks/linear_start.py WORKSPACE
"""

import sys

from setting import base

from ragcun_cli.core.model import build_encoder
from ragcun_cli.core.rankings.metrics import mean
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sources import TEST_LIBRARIES
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import open_workspace
from ragcun_cli.pipeline.search.dense import PLAIN, rank_forms
from ragcun_cli.pipeline.search.judged import read_judged_set
from ragcun_cli.pipeline.search.rankings import mean_ndcg
from ragcun_cli.spec.measuring_config import EvaluationConfig

START_TEXTS = 2000


def ndcg(model, test) -> float:
    ranking = rank_forms(model, test, EvaluationConfig(depth=100), progress=Silent())[PLAIN]
    return mean_ndcg(ranking, test)


def main() -> None:
    workspace = open_workspace(sys.argv[1])
    encoder = base(tokens=64, device="cpu")
    texts = beir.read_corpus(workspace.dataset("pydocs")).texts[:START_TEXTS]
    start = encoder.encode(list(texts), convert_to_tensor=True)
    models = {"untouched": encoder}
    for width in (128, 192, 256, 384, 512):
        models[f"linear start, K = {width}"] = build_encoder(
            encoder, output_dim=width, dropout=0.1, similarity="euclidean", linear_start=start
        )
    for whitening in (0.5, 1.0):
        models[f"K = 384, whitening {whitening}"] = build_encoder(
            encoder,
            output_dim=384,
            dropout=0.1,
            similarity="euclidean",
            linear_start=start,
            whitening=whitening,
        )
    names = [f"pydocs-{library}" for library in TEST_LIBRARIES]
    tests = [read_judged_set(name, workspace.dataset(name)) for name in names]
    print(" " * 22 + "  ".join([*(name[7:14].rjust(8) for name in names), " average"]))
    for label, model in models.items():
        scores = [ndcg(model, test) for test in tests]
        cells = "  ".join(f"{score:8.4f}" for score in [*scores, mean(scores)])
        print(f"{label:22}{cells}", flush=True)


if __name__ == "__main__":
    main()
