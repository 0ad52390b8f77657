"""A search divided, interrupted and cached finds what one that is none of this finds."""

import gzip
import hashlib
import json
import subprocess
import time

import numpy as np
import pytest
import pytrec_eval
import torch
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.search.ranking import merge
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.kept import EmbeddingCache, open_cache
from ragcun_cli.pipeline.encoders.model_source import ModelSource
from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search import judged
from ragcun_cli.pipeline.search.dense import PLAIN, WHOLE, Search, Share, named_hits
from ragcun_cli.pipeline.search.hits_files import read_hits, write_hits
from ragcun_cli.pipeline.search.lexical.search import LexicalIndex
from ragcun_cli.pipeline.search.rankings import ranking_of, read_run, score_ranking, write_run
from ragcun_cli.spec.errors import EncoderError, WorkspaceError
from ragcun_cli.spec.manifest import digest
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace

WORDS = ["graph", "matrix", "sort", "rows", "edges", "path", "node", "array", "sum", "mean", "copy"]
CONFIG = EvaluationConfig(depth=100, block_passages=16, batch_size=4)


def text(number):
    drawn = hashlib.sha256(str(number).encode()).digest()
    return " ".join(WORDS[byte % len(WORDS)] for byte in drawn[: 3 + drawn[31] % 20])


@pytest.fixture(scope="module")
def test_set():
    texts = {f"p{number:03}": text(number) for number in range(150)}
    texts |= {f"same{number:03}": "sort rows" for number in range(120)}  # ties across blocks
    queries = {f"q{number}": text(1000 + number) for number in range(6)} | {"p007": "sort rows"}
    return judged.JudgedSet("made", Corpus.of(texts), queries, {q: {"p001": 1} for q in queries})


@pytest.fixture
def search(model, test_set):
    def make(config=CONFIG, **options):
        return Search(model, test_set, config, progress=Silent(), **options)

    return make


def same(first, second):
    first, second = (hits[""] if isinstance(hits, dict) else hits for hits in (first, second))
    return np.array_equal(first.rows, second.rows) and np.array_equal(first.scores, second.scores)


def test_hits_are_those_of_a_brute_force_on_the_same_embeddings(search, model, test_set):
    hits = search().run()[PLAIN]
    texts = list(test_set.corpus.texts)
    passages = torch.cat(
        [
            model.encode_document(texts[at : at + 16], convert_to_tensor=True)
            for at in range(0, 270, 16)
        ]
    ).double()
    queries = model.encode_query(list(test_set.queries.values()), convert_to_tensor=True).double()
    scores = torch.nn.functional.cosine_similarity(queries[:, None], passages[None], dim=2)
    best = scores.topk(101, dim=1).values.numpy()
    assert hits.scores.shape == (7, 101)
    assert np.allclose(hits.scores, best, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4, 40])
def test_shares_merged_find_what_one_search_finds(search, count):
    parts = [search().run(WHOLE.part(index, count))[PLAIN] for index in range(count)]
    assert same(merge(parts, k=101), search().run())


def test_a_share_of_a_share_is_a_share():
    rows = [
        b for i in range(3) for r in range(2) for b in WHOLE.part(i, 3).part(r, 2).blocks(100, 7)
    ]
    assert sorted(row for block in rows for row in block) == list(range(100))
    assert Share(1, 3).blocks(20, 4) == [range(4, 8), range(16, 20)]
    assert Share(7, 8).blocks(20, 4) == []


@pytest.mark.parametrize("chunk", [1, 33, 10**9])
def test_a_chunk_of_any_size_moves_nothing(search, tmp_path, chunk):
    assert same(search().run(state=tmp_path / "state.npz", chunk=chunk), search().run())
    assert read_hits(tmp_path / "state.npz")[1] == 17


@pytest.mark.parametrize("stop", [1, 5, 16])
def test_an_interrupted_search_goes_on_to_the_same_bytes(search, model, tmp_path, stop):
    """Interrupted in the block of 16 passages, four batches, that comes after ``stop`` blocks."""
    first, second, batches = search(), search(), []

    def interrupt(*arguments):
        batches.append(1)
        if len(batches) == 4 * stop + 3:
            raise KeyboardInterrupt

    with model[0].register_forward_pre_hook(interrupt), pytest.raises(KeyboardInterrupt):
        first.run(state=tmp_path / "state.npz", chunk=32)
    batches.clear()
    with model[0].register_forward_pre_hook(lambda *arguments: batches.append(1)):
        found = second.run(state=tmp_path / "state.npz", chunk=32)
    assert len(batches) == 4 * (17 - stop // 2 * 2)
    assert same(found, search().run())


def test_a_state_that_was_damaged_is_none(tmp_path, search):
    file = tmp_path / "state.npz"
    write_hits(file, search().run(), done=3)
    file.write_bytes(file.read_bytes()[:-300])
    assert read_hits(file) is None
    assert read_hits(tmp_path / "absent.npz") is None
    assert same(search().run(state=file), search().run())


def test_kept_embeddings_are_used_and_move_nothing(search, tmp_path, model):
    def cache():
        return EmbeddingCache(tmp_path / "kept")

    first = search(cache=cache()).run()
    assert same(first, search().run())
    encoded = []
    hook = model[0].register_forward_pre_hook(lambda *args: encoded.append(1))
    try:
        second = search(cache=cache())
        queries = len(encoded)
        assert same(second.run(), first)
    finally:
        hook.remove()
    assert len(encoded) == queries > 0


def test_beside_kept_embeddings_lies_whose_they_are(test_set, tiny, tmp_path):
    source, workspace = ModelSource(tiny, "cpu"), Workspace(tmp_path, tmp_path)
    open_cache(source, test_set.corpus, "digest", CONFIG, workspace)
    (ids,) = tmp_path.rglob("ids.txt")
    assert ids.read_text().splitlines() == list(test_set.corpus.ids)
    recipe = json.loads(ids.with_name("index.json").read_text())
    assert recipe["corpus"] == "digest"
    assert workspace.embeddings(digest(recipe)) == ids.parent


def test_queries_that_are_encoded_are_searched_with_as_they_are(search, model, test_set):
    queries = model.encode_query(list(test_set.queries.values()), convert_to_tensor=True)
    passes = []
    with model[0].register_forward_pre_hook(lambda *arguments: passes.append(1)):
        given = search(queries=queries.flip(0))
    assert passes == []
    found, expected = given.run()[PLAIN], search().run()[PLAIN]
    assert np.array_equal(found.rows[::-1, 0], expected.rows[:, 0])


def test_embeddings_kept_in_half_precision_are_searched_as_they_are_kept(search, tmp_path):
    config = CONFIG.model_copy(update={"embeddings": "fp16"})
    cache = EmbeddingCache(tmp_path / "kept", "fp16")
    first = search(config, cache=cache).run()
    assert same(first, search(config).run())
    assert same(first, search(config, cache=cache).run())
    assert not same(first, search().run())
    assert np.load(next((tmp_path / "kept").glob("*.npy"))).dtype == np.float16


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_cache_is_one_error(search, tmp_path, damage):
    cache = EmbeddingCache(tmp_path / "kept")
    search(cache=cache).run()
    file = sorted((tmp_path / "kept").glob("*.npy"))[2]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(WorkspaceError, match="cache is damaged") as caught:
        search(cache=cache).run()
    assert caught.value.hint == f"rm -r {tmp_path / 'kept'}"


def test_a_model_whose_embeddings_are_not_finite_is_refused(test_set, tmp_path):
    build_tiny_encoder(tmp_path / "broken")
    broken = SentenceTransformer(str(tmp_path / "broken"), device="cpu")
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    with pytest.raises(EncoderError, match=r"'made'.*not finite"):
        Search(broken, test_set, CONFIG, progress=Silent()).run()


def test_a_similarity_that_is_not_searched_by_is_refused(test_set, tmp_path):
    build_tiny_encoder(tmp_path / "odd")
    odd = SentenceTransformer(str(tmp_path / "odd"), device="cpu", similarity_fn_name="manhattan")
    with pytest.raises(EncoderError, match="manhattan"):
        Search(odd, test_set, CONFIG, progress=Silent())
    config = CONFIG.model_copy(update={"similarity": "dot"})
    assert Search(odd, test_set, config, progress=Silent()).run()[PLAIN].rows.shape == (7, 101)


def test_scaled_distance_with_a_large_factor_ranks_as_the_product_does(search):
    scaled = CONFIG.model_copy(update={"similarity": "scaled_euclidean"})
    dot = CONFIG.model_copy(update={"similarity": "dot"})
    far, product = (
        search(config, query_scale=scale).run()[PLAIN]
        for config, scale in ((scaled, 1e6), (dot, 1.0))
    )
    assert np.array_equal(far.rows[:, 0], product.rows[:, 0])
    plain = search(CONFIG.model_copy(update={"similarity": "euclidean"})).run()
    assert same(search(scaled, query_scale=1.0).run(), plain)


def test_the_passage_that_is_the_query_itself_is_left_out(search, test_set):
    hits = named_hits(search().run()[PLAIN], test_set.queries)
    ranking = ranking_of(hits, test_set.corpus, depth=100)
    assert all(len(found) == 100 for found in ranking.values())
    assert "p007" not in [passage for passage, _ in ranking["p007"]]
    ties = [p for p, _ in ranking["p007"] if p.startswith("same")]
    assert ties == sorted(ties)
    assert len(ties) > 10


def test_a_run_file_is_read_back_as_it_was_written(tmp_path):
    ranking = {"b": [("p 1", -0.25), ("p2", -0.5)], "a": [("é", 1e-12)]}
    write_run(ranking, tmp_path / "runs/x.trec.gz", tag="t")
    lines = lines_of(tmp_path / "runs/x.trec.gz")
    assert lines[0] == "a Q0 é 1 1e-12 t"
    assert lines[2] == "b Q0 p2 2 -0.5 t"
    ranking["b"] = ranking["b"][1:]
    write_run(ranking, tmp_path / "runs/x.trec.gz", tag="t")
    assert read_run(tmp_path / "runs/x.trec.gz") == ranking


def lines_of(file):
    """By the system's own program, as a user of trec_eval has them."""
    done = subprocess.run(["zcat", file], capture_output=True, check=True)
    return done.stdout.decode().splitlines()


def test_a_run_file_has_the_bytes_of_its_ranking_whenever_and_wherever_it_is_written(tmp_path):
    ranking = {"q": [("p1", 0.5), ("p2", 0.25)]}
    write_run(ranking, tmp_path / "one/x.trec.gz", tag="t")
    time.sleep(1.1)
    write_run(ranking, tmp_path / "another/y.trec.gz", tag="t")
    raw = (tmp_path / "one/x.trec.gz").read_bytes()
    assert raw == (tmp_path / "another/y.trec.gz").read_bytes()
    flags, time_of_header = raw[3], raw[4:8]
    assert (flags, time_of_header) == (0, bytes(4))


def test_a_run_file_of_an_earlier_version_is_read_where_there_is_no_other(tmp_path):
    (tmp_path / "x.trec").write_text("q Q0 p1 1 0.5 t\nq Q0 p2 2 0.25 t\n")
    assert read_run(tmp_path / "x.trec.gz") == {"q": [("p1", 0.5), ("p2", 0.25)]}
    write_run({"q": [("p3", 1.0)]}, tmp_path / "x.trec.gz", tag="t")
    assert read_run(tmp_path / "x.trec.gz") == {"q": [("p3", 1.0)]}


def by_trec_eval(file, qrels):
    """All measures of a run file by trec_eval, which keeps scores in single precision."""
    run = {}
    for line in lines_of(file):
        query, _, passage, _, score, _ = line.split()
        run.setdefault(query, {})[passage] = float(score)
    wanted = {"ndcg_cut", "recall", "map_cut", "recip_rank"}
    return pytrec_eval.RelevanceEvaluator(qrels, wanted).evaluate(run)


OURS = {
    "ndcg_cut_5": "ndcg@5", "ndcg_cut_10": "ndcg@10", "ndcg_cut_100": "ndcg@100",
    "recall_10": "recall@10", "recall_100": "recall@100", "recall_1000": "recall@1000",
    "map_cut_100": "map@100", "map_cut_1000": "map@1000",
}  # fmt: skip


def tied(seed):
    """1,000 ids and their scores, best first: exact ties, near ties and all of one score."""
    rng = np.random.default_rng(seed)
    near = 1 + 1e-9 * rng.integers(0, 50, 1000)
    scores = [
        rng.integers(-5, 5, 1000) * 1.0,
        near,
        -near * 1e-3,
        np.zeros(1000),
        np.full(1000, 12.3456789),
        np.concatenate([[2.0] * 400, [np.nextafter(np.float32(2), np.float32(0))] * 600]),
        rng.standard_normal(1000).astype(np.float32) * 1e-40,
        rng.standard_normal(1000) * 1e30,
    ][seed]
    ids = [f"p{number:04}" for number in rng.permutation(1000)]
    return sorted(zip(ids, scores.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))


def test_trec_eval_scores_a_run_file_as_it_is_reported_whatever_the_ties(tmp_path):
    rng = np.random.default_rng(9)
    ranking = {f"q{seed}": tied(seed) for seed in range(8)}
    qrels = {
        query: {hits[at][0]: int(rng.integers(-1, 4)) for at in rng.choice(1000, 200, False)}
        for query, hits in ranking.items()
    }
    write_run(ranking, tmp_path / "x.trec.gz", tag="t")
    reported = score_ranking(ranking, judged_set(qrels), depth=1000)
    assert reported == score_ranking(
        read_run(tmp_path / "x.trec.gz"), judged_set(qrels), depth=1000
    )
    theirs = by_trec_eval(tmp_path / "x.trec.gz", qrels)
    for query, found in theirs.items():
        for name, ours in OURS.items():
            assert found[name] == reported[ours][query], (query, name)
        assert found["ndcg_cut_100"] < 1
    for query, hits in ranking.items():  # what is written is what was found, or next to it
        written = read_run(tmp_path / "x.trec.gz")[query]
        assert [passage for passage, _ in written] == [passage for passage, _ in hits]
        scores = np.array(
            [[ours, theirs[1]] for (_, ours), theirs in zip(hits, written, strict=True)]
        )
        assert (np.diff(scores[:, 1].astype(np.float32)) < 0).all()
        assert np.allclose(scores[:, 0], scores[:, 1], rtol=2e-4, atol=1e-38)


def judged_set(qrels):
    return judged.JudgedSet("made", Corpus.of({"p": ""}), dict.fromkeys(qrels, ""), qrels)


def test_scores_without_ties_are_written_to_nine_digits_as_they_are(tmp_path):
    scores = [3.0, 1 / 3, 1 / 3 - 1e-6, -2 / 3, -1e10]
    write_run({"q": [(f"p{n}", s) for n, s in enumerate(scores)]}, tmp_path / "x.trec.gz", tag="t")
    written = [line.split()[4] for line in lines_of(tmp_path / "x.trec.gz")]
    assert written == ["3", "0.333333333", "0.333332333", "-0.666666667", "-1e+10"]


@pytest.mark.parametrize("kind", ["dense", "bm25"])
def test_ties_of_a_search_are_scored_by_trec_eval_as_they_are_reported(
    search, test_set, tmp_path, kind
):
    """120 passages of one text tie; some of them are relevant."""
    ids = [f"same{number:03}" for number in range(0, 120, 7)]
    qrels = {query: dict.fromkeys(ids, 1) for query in test_set.queries}
    if kind == "dense":
        hits = named_hits(search().run()[PLAIN], test_set.queries)
    else:
        hits = LexicalIndex(test_set.corpus, MiningConfig()).search_batches(
            test_set.queries, depth=101
        )
    ranking = ranking_of(hits, test_set.corpus, depth=100)
    write_run(ranking, tmp_path / "x.trec.gz", tag="t")
    reported = score_ranking(ranking, judged_set(qrels), depth=100)
    theirs = by_trec_eval(tmp_path / "x.trec.gz", qrels)
    assert {q: found["map_cut_100"] for q, found in theirs.items()} == reported["map@100"]
    assert {q: found["ndcg_cut_10"] for q, found in theirs.items()} == reported["ndcg@10"]
    first = {q: found["recip_rank"] for q, found in theirs.items()}
    assert {q: value if value >= 0.1 else 0 for q, value in first.items()} == reported["mrr@10"]
    tie_in_order = [passage for passage, _ in ranking["p007"] if passage.startswith("same")]
    assert tie_in_order == sorted(tie_in_order)
    assert reported["map@100"]["p007"] > 0


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("x.trec", lambda raw: gzip.decompress(raw)[:-8]),
        ("x.trec.gz", lambda raw: gzip.compress(gzip.decompress(raw)[:-8])),
        ("x.trec.gz", lambda raw: raw[:-9]),
        ("x.trec.gz", lambda raw: raw[:5]),
        ("x.trec.gz", lambda raw: b"no gzip" + raw),
        ("x.trec.gz", lambda raw: raw[:12] + bytes([raw[12] ^ 255]) + raw[13:]),
        ("x.trec.gz", lambda raw: raw[:-8] + bytes(4) + raw[-4:]),
    ],
)
def test_a_run_file_that_was_cut_or_damaged_is_one_error(tmp_path, name, damage):
    file = tmp_path / "x.trec.gz"
    write_run({"a": [("p", 1.0), ("q", 0.5)]}, file, tag="t")
    raw = file.read_bytes()
    file.unlink()
    (tmp_path / name).write_bytes(damage(raw))
    with pytest.raises(WorkspaceError, match=r"x\.trec(\.gz)?, (after )?line \d") as error:
        read_run(file)
    assert f"rm {tmp_path / name}" in error.value.hint
