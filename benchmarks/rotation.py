"""nDCG@10 of smaller embeddings of the untrained linear start, in several bases of its outputs.

On dev queries of folders in BEIR layout; no test query is looked at. FOLDER:train takes the train
queries of a set that has no dev judgements: nothing is trained here.

    python benchmarks/rotation.py FOLDER [FOLDER:SPLIT ...]
"""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from setting import base, machine

from ragcun_cli.core.draw import START, smallest
from ragcun_cli.core.model import gaussian_head, linear_head_weights, on_cached_outputs
from ragcun_cli.core.rankings.metrics import mean
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sets.lines import Notes
from ragcun_cli.pipeline.encoders.encode import BATCH_TEXTS, encode
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.dense import PLAIN, Search, named_hits
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.search.rankings import mean_ndcg, ranking_of
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.profile import HeadConfig

WIDTH = 512
DRAWS = range(5)
FORMS = ("int8", "binary", "binary-rescored", "truncate-128")
CONFIG = EvaluationConfig(depth=100, variants=FORMS)


def judged(argument: str) -> JudgedSet:
    path, _, split = argument.partition(":")
    folder, notes = Path(path), Notes()
    passages = beir.read_passages(folder / "corpus.jsonl", notes)
    queries, qrels = beir.read_queries(folder), beir.read_qrels(folder, split or "dev")
    corpus = Corpus.of({passage.id: passage.content for passage in passages})
    return JudgedSet(folder.name, corpus, {query: queries[query] for query in qrels}, qrels)


class Kept:
    """What the base makes of the texts of a set, each encoded once."""

    def __init__(self, encoder: SentenceTransformer, test: JudgedSet) -> None:
        texts = list(dict.fromkeys([*test.corpus.texts, *test.queries.values()]))
        self._rows = {text: row for row, text in enumerate(texts)}
        self._outputs = encode(
            encoder, texts, batch_size=BATCH_TEXTS, label=test.name, progress=Silent()
        )

    def __call__(self, texts: Sequence[str], prompt: str = "") -> torch.Tensor:
        return self._outputs[[self._rows[text] for text in texts]]

    def start(self, sample: torch.Tensor, rotation_seed: int | None) -> SentenceTransformer:
        head = gaussian_head(sample.shape[1], output_dim=WIDTH, dropout=0.0)
        first, second, bias = linear_head_weights(
            sample, output_dim=WIDTH, centre=True, rotation_seed=rotation_seed
        )
        with torch.no_grad():
            head[0].linear.weight.copy_(first)
            head[0].linear.bias.zero_()
            head[2].linear.weight.copy_(second)
            head[2].linear.bias.copy_(bias)
        model = on_cached_outputs(head, self, device="cpu")
        model.similarity_fn_name = "euclidean"
        return model


def scores(model: SentenceTransformer, test: JudgedSet) -> list[float]:
    found = Search(model, test, CONFIG, progress=Silent()).run()
    return [
        mean_ndcg(ranking_of(named_hits(found[form], test.queries), test.corpus, depth=100), test)
        for form in (PLAIN, *FORMS)
    ]


def show(label: str, values: Sequence[float]) -> None:
    print(f"{label:34}" + "".join(f"{value:17.4f}" for value in values), flush=True)


def measure(encoder: SentenceTransformer, argument: str) -> dict[str, list[float]]:
    test = judged(argument)
    kept = Kept(encoder, test)
    passages = smallest(START, test.corpus.ids, HeadConfig().init_passages)
    sample = kept(test.corpus.texts_by_id(sorted(passages)))
    untouched = on_cached_outputs([], kept, device="cpu")
    untouched.similarity_fn_name = "cosine"
    found = {
        "untouched": scores(untouched, test),
        "rotation none": scores(kept.start(sample, None), test),
    }
    found |= {f"random, seed {seed}": scores(kept.start(sample, seed), test) for seed in DRAWS}
    print(f"{argument}: {len(test.queries):,} queries, {len(test.corpus):,} passages")
    for label, values in found.items():
        show(label, values)
    return found


def main() -> None:
    encoder = base(tokens=64, device="cpu")
    print(machine("cpu"))
    show_forms = "".join(form.rjust(17) for form in ("as they are", *FORMS))
    print(f"{'':34}{show_forms}")
    by_set = [measure(encoder, argument) for argument in sys.argv[1:]]
    print(f"mean of {len(by_set)} sets")
    means = {
        label: [mean(column) for column in zip(*(found[label] for found in by_set), strict=True)]
        for label in by_set[0]
    }
    for label, values in means.items():
        show(label, values)
    draws = list(zip(*(means[f"random, seed {seed}"] for seed in DRAWS), strict=True))
    show("random, mean of the draws", [mean(column) for column in draws])
    show("random, standard deviation", [statistics.stdev(column) for column in draws])
    show("random, lowest", [min(column) for column in draws])
    show("random, highest", [max(column) for column in draws])


if __name__ == "__main__":
    main()
