import dataclasses
import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.draw import ISOTROPY_TEXTS, smallest
from ragcun_cli.core.isotropy.geometry import alignment, mean_gap
from ragcun_cli.core.isotropy.spectrum import measure_isotropy
from ragcun_cli.core.objective.sigreg import unbiased_sigreg, unit_directions
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.isotropy import measure
from ragcun_cli.pipeline.isotropy.measure import write_isotropy
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.measuring_config import EvaluationConfig, IsotropyConfig

NUMBERS = 150


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two sets of the same ids; passage i answers query i, and passage i + 150 is judged, too."""
    found = {}
    for name, what in (("one", "river"), ("two", "star")):
        folder = found[name] = tmp_path_factory.mktemp(name)
        texts = {f"p{i:03}": f"{what} {'abcdefghij'[i % 10] * (i % 7 + 1)} {i}" for i in range(300)}
        texts["empty"] = ""
        queries = {f"q{i:03}": f"which {what} has number {i}?" for i in range(NUMBERS)}
        qrels = {f"q{i:03}": {f"p{i:03}": 1, f"p{i + 150:03}": 0} for i in range(NUMBERS)}
        beir.write_set(folder, corpus=texts, queries=queries, qrels={"test": qrels})
    return found


def measured(model, folders, folder, **config):
    folder.mkdir(exist_ok=True)
    write_isotropy(
        model,
        folders,
        folder,
        config=IsotropyConfig(**config),
        evaluation=EvaluationConfig(batch_size=32),
        progress=Silent(),
    )
    return json.loads((folder / "isotropy.json").read_text())


def names(folders, kind):
    read = beir.read_queries if kind == "queries" else lambda f: dict(passages(f))
    return {f"{name}\t{key}": text for name, f in folders.items() for key, text in read(f).items()}


def passages(folder):
    return [(passage.id, passage.content) for passage in beir.Corpus.open(folder)]


def test_all_queries_and_passages_are_measured_once(model, folders, tmp_path):
    content = measured(model, folders, tmp_path)
    assert content["datasets"] == ["one", "two"]
    for side, prefix, count in (("queries", "q", 300), ("passages", "p", 600)):
        texts = [text for text in names(folders, side).values() if text]
        assert len(texts) == count, prefix
        rows = model.encode(texts)
        expected = dataclasses.asdict(measure_isotropy(rows))
        assert content[side]["texts"] == content[side]["sampled"] == count
        for name, value in expected.items():
            assert content[side][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
        directions = unit_directions(1024, 32, seed=0)
        expected = unbiased_sigreg(torch.from_numpy(rows), directions)
        assert content[side]["sigreg"] == pytest.approx(expected, rel=1e-3)
        assert sum(content[side]["cosine_histogram"]) == count * (count - 1) // 2
        assert len(content[side]["spectrum"]) == 32
        assert content[side]["spectrum"] == sorted(content[side]["spectrum"], reverse=True)
        assert content[side]["curve"]["texts"][-1] == count
        low, high = content[side]["intervals"]["plan_score"]
        assert low < content[side]["plan_score"] < high


def test_pairs_are_queries_with_their_relevant_passage(model, folders, tmp_path):
    content = measured(model, folders, tmp_path)["pairs"]
    sides = []
    for kind, letter in (("queries", "q"), ("passages", "p")):
        texts = names(folders, kind)
        asked = [texts[f"{name}\t{letter}{i:03}"] for name in folders for i in range(NUMBERS)]
        sides.append(torch.from_numpy(model.encode(asked)))
    assert content["pairs"] == 300
    assert content["alignment"] == pytest.approx(alignment(*sides), rel=1e-4)
    assert content["mean_gap"] == pytest.approx(mean_gap(*sides), rel=1e-4)


def test_passages_of_pairs_that_are_not_measured_are_encoded_for_them(model, folders, tmp_path):
    whole = measured(model, folders, tmp_path / "a", pair_queries=80)
    few = measured(model, folders, tmp_path / "b", pair_queries=80, max_passages=100)
    assert (whole["passages"]["texts"], few["passages"]["texts"]) == (600, 100)
    assert few["pairs"]["pairs"] == 80
    assert few["pairs"] == pytest.approx(whole["pairs"], rel=1e-4)


def test_the_chosen_texts_have_the_smallest_digests(model, folders, tmp_path):
    content = measured(model, folders, tmp_path, max_queries=110)
    asked = names(folders, "queries")
    chosen = [asked[name] for name in smallest(ISOTROPY_TEXTS, asked, 110)]
    expected = measure_isotropy(model.encode(chosen))
    assert content["queries"]["texts"] == 110
    assert content["queries"]["plan_score"] == pytest.approx(expected.plan_score, rel=1e-4)


def test_neither_the_order_of_the_sets_nor_chunks_move_a_measure(
    model, folders, tmp_path, monkeypatch
):
    first = measured(model, folders, tmp_path / "a")
    turned = dict(reversed(folders.items()))
    assert measured(model, turned, tmp_path / "b") | {"datasets": None} == first | {
        "datasets": None
    }
    monkeypatch.setattr(measure, "TEXTS_AT_ONCE", 64)
    parted = measured(model, folders, tmp_path / "c")
    assert parted["queries"]["texts_digest"] == first["queries"]["texts_digest"]
    for name in ("plan_score", "effective_rank", "uniformity", "mean_cosine"):
        assert parted["queries"][name] == pytest.approx(first["queries"][name], rel=1e-4)


def test_embeddings_without_a_direction_are_named(model, folders, tmp_path):
    class Broken(SentenceTransformer):
        def preprocess(self, texts, **settings):
            marks = torch.tensor([text.endswith("number 7?") for text in texts])
            return super().preprocess(texts, **settings) | {"without direction": marks}

        def forward(self, features, **settings):
            marks = features.pop("without direction")
            found = super().forward(features, **settings)
            found["sentence_embedding"] = torch.where(
                marks[:, None], 0, found["sentence_embedding"]
            )
            return found

    broken = Broken(modules=list(model), device="cpu")
    with pytest.raises(DataError, match=r"isotropy queries: 2 embeddings .*one/q007"):
        measured(broken, folders, tmp_path)


def test_texts_that_all_embed_alike_are_refused(model, tmp_path):
    folder = tmp_path / "same"
    folder.mkdir()
    qrels = {f"q{i}": {"p": 1} for i in range(5)}
    queries = dict.fromkeys(qrels, "the same")
    beir.write_set(folder, corpus={"p": "text"}, queries=queries, qrels={"test": qrels})
    with pytest.raises(DataError, match="isotropy queries: all embeddings are equal"):
        measured(model, {"same": folder}, tmp_path / "out")


def test_few_texts_have_measures_without_intervals(model, tmp_path):
    folder = tmp_path / "few"
    folder.mkdir()
    texts = {f"p{i}": f"passage {i} {'x' * i}" for i in range(9)}
    qrels = {f"q{i}": {f"p{i}": 1} for i in range(9)}
    queries = {name: f"what of {name}?" for name in qrels}
    beir.write_set(folder, corpus=texts, queries=queries, qrels={"test": qrels})
    content = measured(model, {"few": folder}, tmp_path / "out")
    assert content["queries"]["intervals"] is None
    assert np.isfinite(content["queries"]["plan_score"])
    assert content["queries"]["participation_ratio_corrected"] is not None
