import json
import shutil
import string
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from drafts import contents
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.beir import words
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.mining.candidates import Candidates, Relevant
from ragcun_cli.pipeline.mining.mine import mine
from ragcun_cli.pipeline.mining.rows import read_rows
from ragcun_cli.pipeline.mining.second_models import MiningModels
from ragcun_cli.pipeline.search.dense import PLAIN
from ragcun_cli.pipeline.search.hits_files import read_hits
from ragcun_cli.pipeline.search.lexical.search import LexicalIndex
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import DataConfig

PASSAGES, QUERIES = 40, 12

LOOKS = 2
"""Passes through a model when it is loaded: a word alone, and beside a longer text."""


@pytest.fixture(scope="module")
def sea(tmp_path_factory):
    """Passages of random spelling that share words; each query's second relevant one has a twin."""
    folder = tmp_path_factory.mktemp("models") / "sea"
    draw = np.random.Generator(np.random.PCG64(5))
    terms = ["".join(draw.choice(list(string.ascii_lowercase), 5)) for _ in range(12)]
    corpus = {f"p{n:02}": " ".join(draw.choice(terms, 6)) for n in range(PASSAGES)}
    corpus |= {f"t{n:02}": corpus[f"p{n + 12:02}"].title() + "!" for n in range(QUERIES)}
    queries = {f"q{n:02}": " ".join(corpus[f"p{n:02}"].split()[:3]) for n in range(QUERIES)}
    judged = {f"q{n:02}": {f"p{n:02}": 1, f"p{n + 12:02}": 2} for n in range(QUERIES)}
    beir.write_set(folder, corpus=corpus, queries=queries, qrels={"train": judged})
    return folder, dict(sorted(corpus.items())), queries, judged


def euclidean_copy(tiny, folder):
    """The tiny encoder without its Normalize, compared by distance, as a run's model is."""
    model = SentenceTransformer(modules=list(SentenceTransformer(str(tiny), device="cpu"))[:2])
    model.similarity_fn_name = "euclidean"
    model.save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def unnormalised(tiny, tmp_path_factory):
    return euclidean_copy(tiny, tmp_path_factory.mktemp("euclidean") / "model")


def save_cross_encoder(tiny, folder, *, seed=0, labels=1):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,
        num_labels=labels,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def crossed(tiny, tmp_path_factory):
    return save_cross_encoder(tiny, tmp_path_factory.mktemp("crossed") / "model")


class Listening(Silent):
    """Knows which bars were shown, and is interrupted at one of them."""

    def __init__(self, *, stop_at_search=0):
        self.bars, self.stop_at_search = [], stop_at_search

    def bar(self, label, *, total, unit):
        self.bars.append(label)
        if label == "train passages" and self.bars.count(label) == self.stop_at_search:
            raise KeyboardInterrupt
        return super().bar(label, total=total, unit=unit)


def mined(folder, tmp_path, *, draft=None, progress=None, **mining):
    config = MiningConfig(**mining)
    workspace = Workspace(tmp_path, tmp_path)
    draft = draft or tmp_path / "draft"
    if draft.name == "draft":
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
    summary = mine(
        folder,
        draft,
        data=DataConfig(train="sea"),
        mining=config,
        seed=1,
        workspace=workspace,
        progress=progress or Silent(),
        models=MiningModels(workspace).fetch(config),
    )
    facts = [json.loads(line) for line in (draft / "details.jsonl").read_text().splitlines()]
    return list(read_rows(draft / "negatives.jsonl")), facts, summary


def logits(folder, query, texts):
    """One pair at a time, by transformers alone."""
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [
            float(model(**tokenizer(query, text, return_tensors="pt", truncation=True)).logits)
            for text in texts
        ]


def distances(folder, query, texts):
    """Minus the distance, one text at a time, by numpy."""
    model = SentenceTransformer(str(folder), device="cpu")
    asked = model.encode(query).astype(float)
    return [-float(np.linalg.norm(asked - model.encode(text).astype(float))) for text in texts]


SCORED = {"cross-encoder": logits, "dense": distances}


@pytest.fixture(scope="module")
def scored(sea, crossed, unnormalised):
    """Kind -> query -> passage -> score, by hand."""
    _, corpus, queries, _ = sea
    models = {"cross-encoder": crossed, "dense": unnormalised}
    return {
        kind: {
            query: dict(zip(corpus, SCORED[kind](models[kind], text, corpus.values()), strict=True))
            for query, text in queries.items()
        }
        for kind in models
    }


@pytest.mark.parametrize("kind", ["cross-encoder", "dense"])
def test_a_hit_stays_only_if_a_second_model_scores_it_a_margin_below_the_positive(
    sea, crossed, unnormalised, scored, tmp_path, kind
):
    folder, corpus, queries, judged = sea
    every = {"negatives_per_query": 8, "hard_share": 1.0}
    margin = float(np.median([np.std(list(row.values())) for row in scored[kind].values()])) / 4
    model = str(crossed if kind == "cross-encoder" else unnormalised)
    _, plain, _ = mined(folder, tmp_path, **every)
    rows, facts, summary = mined(
        folder, tmp_path, rescore=kind, rescore_model=model, rescore_margin=margin, **every
    )
    small = Corpus.open(folder)
    found = LexicalIndex(small, MiningConfig()).search_batches(queries, depth=100)
    twins = {query: {words(corpus[name]) for name in judged[query]} for query in judged}
    hits = {
        query: [name for name in small.ids_of(rows) if words(corpus[name]) not in twins[query]]
        for query, rows, _ in found
    }
    for row, fact, before in zip(rows, facts, plain, strict=True):
        scores = scored[kind][row.query]
        bound = scores[row.positive] - margin
        assert min(abs(scores[hit] - bound) for hit in hits[row.query]) > 1e-5
        stay = {hit for hit in hits[row.query] if scores[hit] <= bound}
        assert set(row.hard) <= stay
        assert len(row.hard) == min(8, len(stay))
        assert fact["candidates"] == len(stay)
        assert fact["dropped"]["rescore"] == before["candidates"] - len(stay)
        assert list(fact["dropped"]) == ["relevant", "same_text", "rescore"]
    dropped = summary["dropped"]["rescore"]
    assert 0 < dropped < sum(fact["candidates"] for fact in plain)


def test_with_no_margin_the_score_of_the_positive_itself_is_kept(tmp_path, crossed):
    same = "abcde fghij"
    corpus = {"pos": same, "one": f"{same} klmno", "two": "pqrst", "three": "uvwxy"}
    beir.write_set(
        tmp_path / "sea",
        corpus=corpus,
        queries={"q": "abcde"},
        qrels={"train": {"q": {"pos": 1}}},
    )
    alone = {"negatives_per_query": 1, "hard_share": 1.0}
    again = {"rescore": "cross-encoder", "rescore_model": str(crossed)}
    positive, other = logits(crossed, "abcde", [same, corpus["one"]])
    exactly = max(positive - other, 0.0)
    for margin in (0.0, exactly + 1e-4, 1e9):
        rows, facts, _ = mined(tmp_path / "sea", tmp_path, rescore_margin=margin, **alone, **again)
        kept = other <= positive - margin
        assert (rows[0].hard == ("one",)) is kept
        assert facts[0]["dropped"]["rescore"] == (not kept)

    class Constant:
        def scores(self, query, passages):
            return np.zeros(len(passages))

    small = Corpus.of(corpus)
    config = MiningConfig(rescore_margin=0, **alone, **again)
    index = LexicalIndex(small, config)
    hits = next(index.search_batches({"q": "abcde"}, depth=4))
    relevant = Relevant.of({"pos": 1}, small)
    found = Candidates(index, small, "abcde", hits, relevant, "pos", config, Constant())
    assert (found.ids, found.dropped["rescore"]) == (["one"], 0)


def test_a_huge_margin_leaves_random_passages_alone(sea, crossed, tmp_path):
    rows, facts, summary = mined(
        sea[0],
        tmp_path,
        rescore="cross-encoder",
        rescore_model=str(crossed),
        rescore_margin=1e6,
        hard_share=1.0,
    )
    assert all((len(row.hard), len(row.random)) == (0, 2) for row in rows)
    assert all(fact["candidates"] == 0 for fact in facts)
    assert summary["queries_short_of_hard_negatives"] == QUERIES


@pytest.mark.parametrize("depth", [4, 20])
def test_dense_candidates_are_the_nearest_passages_of_the_model(
    sea, unnormalised, scored, tmp_path, depth
):
    folder, corpus, _, judged = sea
    rows, facts, _ = mined(
        folder,
        tmp_path,
        candidates="dense",
        dense_model=str(unnormalised),
        depth=depth,
        negatives_per_query=depth,
        hard_share=1.0,
    )
    for row, fact in zip(rows, facts, strict=True):
        scores = scored["dense"][row.query]
        order = sorted(corpus, key=lambda name: (-round(scores[name], 6), name))[: depth + 2]
        twins = {words(corpus[name]) for name in judged[row.query]}
        left = [name for name in order if words(corpus[name]) not in twins][:depth]
        assert set(row.hard) == set(left)
        assert fact["dropped"]["same_text"] == sum(
            words(corpus[name]) in twins and name not in judged[row.query] for name in order
        )
        assert fact["positive"] == pytest.approx(scores[row.positive], abs=2e-4)
        assert fact["hard"] == pytest.approx([scores[name] for name in row.hard], abs=2e-4)
        place = order.index(row.positive) + 1 if row.positive in order else None
        assert fact["rank"] == place
    assert depth == 4 or any(fact["dropped"]["same_text"] for fact in facts)
    lengths = SentenceTransformer(str(unnormalised), device="cpu").encode(list(corpus.values()))
    assert np.ptp(np.linalg.norm(lengths, axis=1)) > 1e-3  # or cosine would rank alike


def test_blocks_of_the_corpus_do_not_move_dense_candidates(
    sea, unnormalised, tmp_path, monkeypatch
):
    dense = {"candidates": "dense", "dense_model": str(unnormalised), "depth": 10}
    whole = mined(sea[0], tmp_path, **dense)
    monkeypatch.setattr("ragcun_cli.pipeline.mining.dense_index.TEXTS_AT_ONCE", 7)
    assert mined(sea[0], tmp_path, **dense)[0] == whole[0]


def test_a_mining_with_models_that_was_stopped_goes_on_to_the_same_bytes(
    sea, crossed, unnormalised, tmp_path
):
    both = {
        "candidates": "dense",
        "dense_model": str(unnormalised),
        "rescore": "cross-encoder",
        "rescore_model": str(crossed),
        "rescore_margin": 0.01,
        "depth": 10,
    }
    mined(sea[0], tmp_path, **both)
    whole = contents(tmp_path / "draft")
    for rows, kept in ((0, True), (5, True), (5, False), (QUERIES, True)):
        draft = tmp_path / f"stopped-{rows}-{kept}"
        draft.mkdir()
        for name in ("negatives.jsonl", "details.jsonl"):
            lines = whole[name].splitlines(keepends=True)
            (draft / name).write_bytes(b"".join(lines[:rows]))
        if kept:
            shutil.copytree(tmp_path / "draft/dense", draft / "dense")
        listening = Listening()
        with encoding_passes() as passes:
            mined(sea[0], tmp_path, draft=draft, progress=listening, **both)
        assert (len(passes) == LOOKS) == kept
        assert "mine train" in listening.bars
        left = contents(draft)
        assert left.keys() == whole.keys()
        hits = {name for name in whole if name.endswith(".npz")}
        assert len(hits) == 1
        assert all(left[name] == whole[name] for name in whole.keys() - hits)
        for name in hits:
            new, old = (
                read_hits(folder / name)[0][PLAIN] for folder in (draft, tmp_path / "draft")
            )
            assert (new.rows == old.rows).all()
            assert (new.scores == old.scores).all()


@contextmanager
def encoding_passes():
    """A list that grows by each batch that goes through a SentenceTransformer."""
    passes = []

    def count(module, inputs):
        if isinstance(module, SentenceTransformer):
            passes.append(module)

    with register_module_forward_pre_hook(count):
        yield passes


def test_neither_groups_of_queries_nor_how_the_draft_is_kept_move_dense_candidates(
    sea, unnormalised, tmp_path, monkeypatch
):
    dense = {"candidates": "dense", "dense_model": str(unnormalised), "depth": 10}
    mined(sea[0], tmp_path, **dense)
    whole = contents(tmp_path / "draft")
    for group in (1, 5, QUERIES):
        monkeypatch.setattr("ragcun_cli.pipeline.mining.dense_index.GROUP_QUERIES", group)
        mined(sea[0], tmp_path, **dense)
        found = contents(tmp_path / "draft")
        assert sum(name.endswith(".npz") for name in found) == -(-QUERIES // group)
        kept = {name for name in found if ".npz" not in name}
        assert all(found[name] == whole[name] for name in kept)


def test_a_stopped_dense_mining_loses_one_group_of_queries_at_most(
    sea, unnormalised, tmp_path, monkeypatch
):
    dense = {"candidates": "dense", "dense_model": str(unnormalised), "depth": 10}
    monkeypatch.setattr("ragcun_cli.pipeline.mining.dense_index.GROUP_QUERIES", 5)
    mined(sea[0], tmp_path, **dense)
    whole = contents(tmp_path / "draft")
    draft = tmp_path / "stopped"
    draft.mkdir()
    with pytest.raises(KeyboardInterrupt):
        mined(sea[0], tmp_path, draft=draft, progress=Listening(stop_at_search=2), **dense)
    assert len(contents(draft)["negatives.jsonl"].splitlines()) == 5
    listening = Listening()
    mined(sea[0], tmp_path, draft=draft, progress=listening, **dense)
    assert listening.bars.count("train passages") == 2  # the second group again, and the third
    found = contents(draft)
    assert all(found[name] == whole[name] for name in whole if ".npz" not in name)


def test_scores_of_dense_candidates_take_no_pass_through_the_model(sea, unnormalised, tmp_path):
    dense = {"candidates": "dense", "dense_model": str(unnormalised), "depth": 10}
    with encoding_passes() as passes:
        _, facts, _ = mined(sea[0], tmp_path, **dense)
    assert len(facts) == QUERIES
    assert len(passes) == LOOKS + 2  # all passages, and all queries


def test_an_embedding_without_a_direction_is_an_error_that_says_so(tmp_path):
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "sea": 1, "moon": 2}, "[UNK]"))
    weights = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    static = StaticEmbedding(tokenizer, embedding_weights=weights)
    model = SentenceTransformer(modules=[static], device="cpu", similarity_fn_name="cosine")
    model.save(str(tmp_path / "zero"), create_model_card=False)
    corpus = {f"p{n}": f"tide {n}" for n in range(9)}
    beir.write_set(
        tmp_path / "sea", corpus=corpus, queries={"q": "tide"}, qrels={"train": {"q": {"p1": 1}}}
    )
    with pytest.raises(EncoderError, match=r"mining\.dense_model: .* 1 query embeddings are"):
        mined(tmp_path / "sea", tmp_path, candidates="dense", dense_model=str(tmp_path / "zero"))


def test_dense_candidates_of_a_corpus_smaller_than_depth_are_all_passages(unnormalised, tmp_path):
    corpus = {f"p{n}": f"tide {n}" for n in range(9)}
    beir.write_set(
        tmp_path / "sea", corpus=corpus, queries={"q": "tide"}, qrels={"train": {"q": {"p1": 1}}}
    )
    _, facts, _ = mined(
        tmp_path / "sea", tmp_path, candidates="dense", dense_model=str(unnormalised)
    )
    assert (facts[0]["hits"], facts[0]["candidates"]) == (9, 8)


@pytest.mark.parametrize("key", ["dense_model", "rescore_model"])
def test_another_weight_file_than_the_pinned_one_is_refused(tiny, crossed, tmp_path, key):
    model = {"dense_model": tiny, "rescore_model": crossed}[key]
    chosen = {"dense_model": ("candidates", "dense"), "rescore_model": ("rescore", "cross-encoder")}
    keys = {chosen[key][0]: chosen[key][1], key: str(model)}
    models = MiningModels(Workspace(tmp_path, tmp_path))
    found = models.find(MiningConfig(**keys))[key]
    pinned = {**keys, f"{key}_sha256": found.sha256}
    assert models.fetch(MiningConfig(**pinned)) == {key: found}
    other = MiningConfig(**{**keys, f"{key}_sha256": "0" * 64})
    for look in (models.find, models.fetch):
        with pytest.raises(EncoderError, match=f"mining.{key} '.*' .local path. has weights") as no:
            look(other)
    assert f"mining.{key}_sha256" in no.value.hint


def test_the_revision_of_a_model_is_looked_up_in_the_hub_cache(tiny, tmp_path, monkeypatch):
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    repository = cache / "models--some--model"
    for commit, branch in (("a" * 40, "main"), ("b" * 40, "second")):
        shutil.copytree(tiny, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / branch).write_text(commit)
    models = MiningModels(Workspace(tmp_path, tmp_path))
    places = {}
    for revision in (None, "second", "c" * 40):
        config = MiningConfig(
            candidates="dense", dense_model="some/model", dense_model_revision=revision
        )
        places[revision] = models.find(config)["dense_model"]
    assert places[None].folder.name == "a" * 40
    assert places["second"].folder.name == "b" * 40
    assert places["c" * 40] is None


@pytest.mark.parametrize(
    ("keys", "message", "hint"),
    [
        (
            {"rescore": "cross-encoder", "rescore_model": "no-such/reranker"},
            "mining.rescore_model: encoder 'no-such/reranker' is no folder",
            "hf download no-such/reranker",
        ),
        (
            {"candidates": "dense", "dense_model": "/no/such/folder/model"},
            "mining.dense_model: encoder '/no/such/folder/model' is no folder",
            "--set mining.dense_model=FOLDER",
        ),
    ],
)
def test_a_model_that_is_nowhere_is_an_error_with_a_hint(tmp_path, keys, message, hint):
    models = MiningModels(Workspace(tmp_path, tmp_path))
    config = MiningConfig(**keys)
    assert set(models.find(config).values()) == {None}
    with pytest.raises(EncoderError, match=message) as error:
        models.fetch(config)
    assert error.value.hint.startswith(hint)


def test_a_model_of_the_wrong_kind_is_refused(sea, tiny, crossed, tmp_path):
    models = MiningModels(Workspace(tmp_path, tmp_path))
    with pytest.raises(EncoderError, match="is no cross-encoder: a head to score pairs would be"):
        models.find(MiningConfig(rescore="cross-encoder", rescore_model=str(tiny)))
    with pytest.raises(EncoderError, match="is no sentence-transformers folder"):
        models.find(MiningConfig(rescore="dense", rescore_model=str(crossed)))
    two = save_cross_encoder(tiny, tmp_path / "two", labels=2)
    with pytest.raises(EncoderError, match="gives 2 scores a pair"):
        mined(sea[0], tmp_path, rescore="cross-encoder", rescore_model=str(two))
    with pytest.raises(EncoderError, match="cosines, from -1 to 1: no passage lies 3 below"):
        mined(sea[0], tmp_path, rescore="dense", rescore_model=str(tiny))
    pickled = shutil.copytree(crossed, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="pickled weights are never loaded"):
        models.find(MiningConfig(rescore="cross-encoder", rescore_model=str(pickled)))


@pytest.mark.system
def test_another_model_of_the_same_name_makes_the_mining_stale(ragcun, tiny, tmp_path):
    """And one that is not here any more does not."""
    model = save_cross_encoder(tiny, tmp_path / "judge")
    mining = [
        *("mine", "--profile", "smoke", "--workspace", tmp_path / "space", "--seed", "1"),
        *("--set", "data.max_train_queries=5", "--set", "mining.rescore=cross-encoder"),
        *("--set", f"mining.rescore_model={model}", "--set", "mining.rescore_margin=0.01"),
        "--yes",
    ]
    first = ragcun(*mining)
    assert first.code == 0, first.err
    (folder,) = (tmp_path / "space").rglob("negatives.jsonl")
    manifest = json.loads((folder.parent / "manifest.json").read_text())
    record = manifest["stages"]["mine"]["details"]["models"]["rescore_model"]
    assert (record["name"], record["source"]) == ("judge", "local path")
    assert "dropped: rescore" in first.out
    assert "nothing to do" in ragcun(*mining).err
    shutil.move(model, tmp_path / "away")
    assert "nothing to do" in ragcun(*mining).err
    save_cross_encoder(tiny, model, seed=1)
    again = ragcun(*mining)
    assert again.code == 0
    assert "nothing to do" not in again.err


def test_a_second_round_is_mined_with_a_model_from_the_command_line(ragcun, unnormalised, tmp_path):
    mining = [
        *("mine", "--profile", "smoke", "--workspace", tmp_path / "space", "--seed", "1", "--yes"),
        *("--set", "data.max_train_queries=5", "--set", "mining.candidates=dense"),
        *("--set", f"mining.dense_model={unnormalised}"),
    ]
    assert ragcun(*mining).code == 0
    (file,) = (tmp_path / "space").rglob("negatives.jsonl")
    assert not (tmp_path / "space/cache/bm25").exists()
    kept = {path.name for path in file.parent.iterdir() if not path.name.startswith(".")}
    rows = {f"{split}{kind}.jsonl" for split in ("", "dev_") for kind in ("negatives", "details")}
    assert kept == rows | {"summary.json", "manifest.json"}
    shown = ragcun(*mining, "--show", next(read_rows(file)).query)
    assert shown.code == 0
    assert "BM25" not in shown.out
    lost = ragcun(*mining[:-1], "mining.dense_model=/no/such/model")
    assert lost.code == 2
    assert "--set mining.dense_model=FOLDER" in lost.err
