import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import bm25s
import numpy as np
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.lexical import index as lexical_index
from ragcun_cli.pipeline.search.lexical import search, terms
from ragcun_cli.pipeline.search.lexical.index import open_or_build
from ragcun_cli.pipeline.search.lexical.search import LexicalIndex
from ragcun_cli.pipeline.search.lexical.terms import Terms
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.mining_config import MiningConfig

METHODS = ["lucene", "robertson", "atire", "bm25l", "bm25+"]
WORDS = [
    "tide",
    "tides",
    "moon",
    "the",
    "ship",
    "shipping",
    "of",
    "Storm",
    "stormy",
    "reef",
    "Kühe",
]


def corpus_of(texts):
    return Corpus.of({f"p{number:05}": text for number, text in enumerate(texts)})


def plain_tokens(texts, config):
    return bm25s.tokenize(
        texts,
        stopwords=[] if config.stopwords == "none" else config.stopwords,
        stemmer=None if config.stemmer == "none" else Stemmer.Stemmer(config.stemmer),
        return_ids=False,
        show_progress=False,
    )


def plain_scores(texts, queries, config):
    """Scores of every passage for every query by bm25s itself."""
    index = bm25s.BM25(method=config.method, k1=config.k1, b=config.b)
    index.index(plain_tokens(texts, config), show_progress=False)
    nothing = np.zeros(len(texts), np.float32)
    return [
        index.get_scores(words) if words else nothing for words in plain_tokens(queries, config)
    ]


def drawn(seed, *, passages=400, queries=40):
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(WORDS) + 1)
    rare = [f"rare{number}" for number in range(200)]

    def text(longest):
        length = int(rng.integers(0, longest))
        return " ".join(
            rng.choice(rare) if rng.random() < 0.1 else rng.choice(WORDS, p=share / share.sum())
            for _ in range(length)
        )

    return [text(30) for _ in range(passages)], [text(9) for _ in range(queries)]


def found(index, queries, **asked):
    named = {f"q{number}": text for number, text in enumerate(queries)}
    hits = list(index.search_batches(named, **asked))
    assert [hit.query for hit in hits] == list(named)
    return [(hit.rows.tolist(), hit.scores.tolist()) for hit in hits]


@pytest.fixture
def small_passes(monkeypatch):
    """An index of a few hundred passages is then made in many blocks and passes."""
    monkeypatch.setattr(lexical_index, "PASSAGES_AT_ONCE", 37)
    monkeypatch.setattr(lexical_index, "POSTINGS_AT_ONCE", 50)
    monkeypatch.setattr(terms, "_KNOWN_WORDS", 5)


@pytest.mark.usefixtures("small_passes")
@pytest.mark.parametrize("language", ["english", "none"])
@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_one_plain_bm25s_index_to_the_bit(method, language):
    config = MiningConfig(method=method, k1=1.3, b=0.6, stemmer=language, stopwords=language)
    texts, queries = drawn(5)
    index = LexicalIndex(corpus_of(texts), config)
    hits = found(index, queries, depth=len(texts))
    absent = "bm25l", "bm25+"
    for query, (rows, scores), expected in zip(
        queries, hits, plain_scores(texts, queries, config), strict=True
    ):
        assert index.scores_of(query, range(len(texts))).tolist() == expected.tolist()
        # Where every passage gets something, the least is what a passage without any term gets.
        sharing = np.flatnonzero(expected > (expected.min() if method in absent else 0))
        order = sharing[np.argsort(-expected[sharing], kind="stable")]
        assert rows == order.tolist()
        assert scores == expected[order].tolist()
    assert sum(len(rows) for rows, _ in hits) > 1000


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(st.characters(max_codepoint=0x2FF, exclude_characters="\u0130")), max_size=5),
    st.sampled_from(get_args(MiningConfig.model_fields["stemmer"].annotation)),
)
def test_texts_are_taken_apart_as_bm25s_does(texts, language):
    config = MiningConfig(stemmer=language)
    new = Terms(config)
    numbers, lengths = new.add([*texts, "The ships, Ships"])
    known = list(new.numbers)
    expected = plain_tokens([*texts, "The ships, Ships"], config)
    assert [known[number] for number in numbers] == [word for text in expected for word in text]
    assert lengths.tolist() == [len(text) for text in expected]
    again = Terms(config, known)
    assert [[known[number] for number in again.of(text)] for text in texts] == expected[:-1]


HINDI = {
    "गंगा नदी हिमालय से निकलती है": ["गंगा", "नदी", "हिमालय", "से", "निकलती", "है"],
    "हिमालय में बर्फ": ["हिमालय", "में", "बर्फ"],
    "नदी का पानी": ["नदी", "का", "पानी"],
    "東京タワー": ["東京", "京タ", "タワ", "ワー"],
    "京都と東京": ["京都", "都と", "と東", "東京"],
}


def test_scores_of_other_scripts_are_those_of_bm25s_on_words_written_by_hand():
    config = MiningConfig(stemmer="none", stopwords="none")
    theirs = bm25s.BM25(method="lucene", k1=config.k1, b=config.b)
    theirs.index(list(HINDI.values()), show_progress=False)
    index = LexicalIndex(corpus_of(list(HINDI)), config)
    for text, terms_by_hand in HINDI.items():
        expected = theirs.get_scores(terms_by_hand)
        assert index.scores_of(text, range(len(HINDI))).tolist() == expected.tolist()
        ((rows, _),) = found(index, [text], depth=5)
        assert rows[0] == list(HINDI).index(text)
        assert len(rows) == np.count_nonzero(expected) > 1


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_neither_threads_nor_batches_change_a_result(monkeypatch, batch, threads):
    texts, queries = drawn(6, queries=60)
    index = LexicalIndex(corpus_of(texts), MiningConfig())
    expected = [found(index, [query], depth=9, threads=1)[0] for query in queries]
    monkeypatch.setattr(search, "QUERIES_AT_ONCE", batch)
    assert found(index, queries, depth=9, threads=threads) == expected


class Recorded(dict):
    """Queries that know which of them were read."""

    def __init__(self, queries):
        super().__init__(queries)
        self.read = []

    def __getitem__(self, name):
        self.read.append(name)
        return super().__getitem__(name)


def test_queries_are_taken_up_as_their_hits_are_read(monkeypatch):
    texts, queries = drawn(6)
    queries = Recorded(enumerate(queries))
    monkeypatch.setattr(search, "QUERIES_AT_ONCE", 1)
    index = LexicalIndex(corpus_of(texts), MiningConfig())
    next(index.search_batches(queries, depth=5, threads=2))
    assert queries.read == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", METHODS)
def test_a_corpus_of_one_text_is_one_tie(method):
    hits = found(
        LexicalIndex(corpus_of(["high tide"] * 50), MiningConfig(method=method)), ["tide"], depth=7
    )
    worthless = method in ("robertson", "atire")  # what every passage has tells none apart
    assert hits[0][0] == ([] if worthless else list(range(7)))
    assert len(set(hits[0][1])) == (0 if worthless else 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("texts", [[""], ["", "?!", "the of"]])
def test_passages_without_terms_are_no_hits_and_no_error(method, texts):
    index = LexicalIndex(corpus_of(texts), MiningConfig(method=method))
    assert found(index, ["tide", "", "the"], depth=3) == [([], [])] * 3
    assert index.scores_of("tide", range(len(texts))).tolist() == [0.0] * len(texts)


@pytest.mark.parametrize("method", METHODS)
def test_queries_of_no_known_term_have_no_hits(method):
    index = LexicalIndex(corpus_of(["high tide", "low water"]), MiningConfig(method=method))
    assert found(index, ["", "granite", "?", "the", "granite basalt"], depth=5) == [([], [])] * 5
    assert found(index, [], depth=5) == []


class Watched(Silent):
    """Counts the bars, and calls back at each step of one."""

    def __init__(self, at=None, step=lambda: None):
        self.bars, self._at, self._step = [], at, step

    @contextmanager
    def bar(self, label, *, total, unit):
        self.bars.append(label)
        yield lambda count: self._step() if label == self._at else None


def opened(folder, texts, *, digest="corpus", progress=None, config=None):
    corpus, config = corpus_of(texts), config or MiningConfig()
    kept = open_or_build(folder, corpus, config, digest=digest, progress=progress or Silent())
    return LexicalIndex(corpus, config, postings=kept)


def test_an_index_that_is_opened_again_is_not_made_again(tmp_path):
    texts, queries = drawn(8)
    folder = tmp_path / "cache" / "bm25" / "abc"
    first = found(opened(folder, texts), queries, depth=20)
    progress = Watched()
    assert found(opened(folder, texts, progress=progress), queries, depth=20) == first
    assert progress.bars == []
    assert first == found(LexicalIndex(corpus_of(texts), MiningConfig()), queries, depth=20)


@pytest.mark.parametrize("other", [{"digest": "else"}, {"config": MiningConfig(k1=2.0)}])
def test_an_index_of_another_corpus_or_of_other_settings_is_not_taken(tmp_path, other):
    texts, _ = drawn(8)
    opened(tmp_path / "index", texts)
    progress = Watched()
    opened(tmp_path / "index", texts, progress=progress, **other)
    assert progress.bars == ["BM25 terms", "BM25 postings"]


def test_the_folder_holds_the_index_and_nothing_else_and_is_memory_mapped(tmp_path):
    index = opened(tmp_path / "index", drawn(8)[0])
    assert sorted(file.name for file in (tmp_path / "index").iterdir()) == [
        *("absent.npy", "absent.npy.sha256"),
        *("index.json", "index.json.sha256"),
        *("rows.i32", "rows.i32.sha256"),
        *("scores.f32", "scores.f32.sha256"),
        *("starts.npy", "starts.npy.sha256"),
        *("terms.txt", "terms.txt.sha256"),
    ]
    assert not (tmp_path / ".index.draft").exists()
    for kept in (index._postings.rows, index._postings.scores):
        assert isinstance(kept.base, np.memmap)
        assert not kept.flags.writeable


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        opened(tmp_path / "index", drawn(8)[0], progress=Watched("BM25 postings", fail))
    assert [file.name for file in tmp_path.iterdir()] == [".index.lock"]


INDEX_FILES = ["absent.npy", "index.json", "rows.i32", "scores.f32", "starts.npy", "terms.txt"]


@pytest.mark.parametrize("name", INDEX_FILES)
@pytest.mark.parametrize("damage", ["cut", "lost", "emptied", "negated"])
def test_an_index_that_is_not_what_was_written_is_refused(tmp_path, name, damage):
    folder = tmp_path / "index"
    opened(folder, drawn(8)[0])
    file = folder / name
    raw = file.read_bytes()
    if damage == "negated":  # the highest bit of a number, as of a score that changes its sign
        file.write_bytes(bytes([*raw[:-1], raw[-1] ^ 0x80]))
    elif damage == "lost":
        file.unlink()
    else:
        file.write_bytes(raw[:-1] if damage == "cut" else b"")
    with pytest.raises(WorkspaceError, match="cache is damaged") as refused:
        opened(folder, drawn(8)[0])
    assert refused.value.hint == f"rm -r {folder}"


def test_two_that_want_one_index_make_it_once(tmp_path):
    texts, queries = drawn(9)
    both = threading.Barrier(2)
    watched = [Watched(), Watched()]

    def work(progress):
        both.wait()
        return found(opened(tmp_path / "index", texts, progress=progress), queries, depth=5)

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(work, watched)
    assert one == two
    assert sorted(map(len, (progress.bars for progress in watched))) == [0, 2]


BUILD = """
import sys, time
from pathlib import Path
from tests.pipeline.search.test_lexical_index import Watched, drawn, opened

def wait():
    print("here", flush=True)
    time.sleep(600)

opened(Path(sys.argv[1]), drawn(10)[0], progress=Watched(sys.argv[2], wait))
"""


@pytest.mark.parametrize("bar", ["BM25 terms", "BM25 postings"])
def test_a_build_that_is_killed_leaves_no_index_and_hinders_no_other(tmp_path, bar):
    folder = tmp_path / "index"
    command = [sys.executable, "-c", BUILD, str(folder), bar]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as building:
        assert building.stdout.readline() == "here\n"
        assert (tmp_path / ".index.draft").is_dir()
        building.send_signal(signal.SIGKILL)
    assert not folder.exists()
    texts, queries = drawn(10)
    expected = found(LexicalIndex(corpus_of(texts), MiningConfig()), queries, depth=9)
    assert found(opened(folder, texts), queries, depth=9) == expected
    assert not (tmp_path / ".index.draft").exists()
