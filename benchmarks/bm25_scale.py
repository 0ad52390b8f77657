"""BM25 over a corpus of MS MARCO's shape: what the index and the search of all queries cost.

    python benchmarks/bm25_scale.py FOLDER --passages 100000 300000 1000000

writes generated passages into FOLDER (56 words in the mean; words by Zipf's law, with 33 stop words
before all others and new ones without end), and queries of 6 words taken from passages, 7 of 10
after a question word. Index and search run in processes of their own, beside plain bm25s with its
numba backend; then lines through the sizes are drawn on to MS MARCO's.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bm25s
import numpy as np
import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from ragcun_cli.pipeline.data.sets.corpus import Corpus, Passage
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import Notes
from ragcun_cli.pipeline.data.sets.records import read_record
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.lexical.index import open_or_build
from ragcun_cli.pipeline.search.lexical.search import LexicalIndex
from ragcun_cli.spec.mining_config import MiningConfig

PASSAGES, QUERIES, DEPTH = 8_841_823, 502_939, 100
HEAD, TAIL = 20_000, 1.7  # rank after which frequency falls faster than 1/rank, and how fast
SYLLABLES = [c + v for c in "bcdfghjklmnprstvwxyz" for v in "aeiou"]
WARM_UP = 20


class Language:
    """Words by rank and frequency."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        weights = 1 / (np.arange(1, HEAD + 1) + 2.7)
        self._head = np.cumsum(weights) / (weights.sum() + HEAD * weights[-1] / (TAIL - 1))
        self._words: dict[int, str] = {}

    def ranks(self, count: int) -> np.ndarray:
        drawn = self._rng.random(count)
        ranks = np.searchsorted(self._head, drawn)
        rare = ranks == HEAD
        ranks[rare] = HEAD * (1 - self._rng.random(rare.sum())) ** (-1 / (TAIL - 1))
        return np.minimum(ranks, 10**9)

    def word(self, rank: int) -> str:
        if rank < len(STOPWORDS_EN):
            return STOPWORDS_EN[rank]
        if rank not in self._words:
            left, parts = rank + 100, []
            while left:
                left, syllable = divmod(left, len(SYLLABLES))
                parts.append(SYLLABLES[syllable])
            self._words[rank] = "".join(parts)
        return self._words[rank]

    def texts(self, count: int) -> Iterator[list[str]]:
        for start in range(0, count, 10_000):
            block = min(10_000, count - start)
            lengths = np.clip(self._rng.normal(56, 22, block), 5, 300).astype(int)
            words = list(map(self.word, self.ranks(int(lengths.sum())).tolist()))
            ends = np.cumsum(lengths)
            yield from (words[a:b] for a, b in zip(ends - lengths, ends, strict=True))

    def query(self, text: list[str]) -> str:
        start = int(self._rng.integers(max(1, len(text) - 5)))
        asked = [self.word(len(STOPWORDS_EN) + int(self._rng.integers(4)))]
        return " ".join((asked if self._rng.random() < 0.7 else []) + text[start : start + 6])


def make(folder: Path, passages: int, queries: int) -> dict[str, float]:
    language, asked = Language(1), []
    every = max(1, passages // queries)

    def generated() -> Iterator[Passage]:
        for number, text in enumerate(language.texts(passages)):
            if number % every == 0 and len(asked) < queries:
                asked.append(language.query(text))
            yield Passage(f"{number:08}", "", " ".join(text))

    folder.mkdir(parents=True)
    write_corpus(generated(), folder, source=folder, notes=Notes())
    (folder / "queries.json").write_text(json.dumps(asked))
    return {}


def opened(folder: Path) -> LexicalIndex:
    corpus, config, sha256 = Corpus.open(folder), MiningConfig(), read_record(folder).sha256
    kept = open_or_build(folder / "index", corpus, config, digest=sha256, progress=Silent())
    return LexicalIndex(corpus, config, postings=kept)


def index(folder: Path) -> dict[str, float]:
    started = time.perf_counter()
    postings = opened(folder)._postings
    seconds = time.perf_counter() - started
    size = sum(file.stat().st_size for file in (folder / "index").iterdir())
    queries = json.loads((folder / "queries.json").read_text())
    often = np.diff(postings.starts)
    read = np.mean([often[postings.terms.of(query)].sum() for query in queries])
    return {
        "seconds": seconds,
        "bytes": size,
        "terms": len(often),
        "most": often.max() / postings.passages,
        "read": read / postings.passages,
        "postings": often.sum() / postings.passages,
    }


def search(folder: Path, threads: int) -> dict[str, float]:
    started = time.perf_counter()
    ours = opened(folder)
    opening = time.perf_counter() - started
    queries = dict(enumerate(json.loads((folder / "queries.json").read_text())))
    list(ours.search_batches(dict(list(queries.items())[:WARM_UP]), depth=DEPTH, threads=threads))
    started = time.perf_counter()
    scores = [hit.scores for hit in ours.search_batches(queries, depth=DEPTH, threads=threads)]
    seconds = time.perf_counter() - started
    found = np.zeros((len(scores), DEPTH), np.float32)
    for query, row in enumerate(scores):
        found[query, : len(row)] = row
    np.save(folder / "scores.npy", found)
    return {"opening": opening, "seconds": seconds / len(queries)}


def plain(folder: Path, threads: int) -> dict[str, float]:
    def words(texts: list[str]) -> bm25s.tokenization.Tokenized:
        stemmer = Stemmer.Stemmer("english")
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)

    started = time.perf_counter()
    theirs = bm25s.BM25(k1=0.9, b=0.4, backend="numba")
    theirs.index(words(list(Corpus.open(folder).texts)), show_progress=False)
    indexing = time.perf_counter() - started
    indexing_peak = peak()
    queries = words(json.loads((folder / "queries.json").read_text()))
    few = bm25s.tokenization.Tokenized(queries.ids[:WARM_UP], queries.vocab)
    theirs.retrieve(few, k=DEPTH, n_threads=threads, show_progress=False)
    started = time.perf_counter()
    _, scores = theirs.retrieve(queries, k=DEPTH, n_threads=threads, show_progress=False)
    seconds = time.perf_counter() - started
    same = float((np.load(folder / "scores.npy") == scores).all(1).mean())
    return {
        "indexing": indexing,
        "indexing_peak": indexing_peak,
        "seconds": seconds / len(queries.ids),
        "same": same,
    }


def peak() -> float:
    """Most memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def in_a_process(work: str, folder: Path, *options: str) -> dict[str, float]:
    command = [sys.executable, __file__, str(folder), "--work", work, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(folder: Path, passages: int, queries: int, plain_up_to: int) -> dict[str, float]:
    if not (folder / "queries.json").exists():
        in_a_process("make", folder, "--passages", str(passages), "--queries", str(queries))
    shutil.rmtree(folder / "index", ignore_errors=True)
    found = {"passages": passages}
    works = ["index", "search 1", "search 2"]
    works += ["plain 1", "plain 2"] if passages <= plain_up_to else []
    for work in works:
        name, *threads = work.split()
        options = ["--threads", *threads] if threads else []
        row = in_a_process(name, folder, *options)
        found |= {f"{work} {key}": value for key, value in row.items()}
    return found


ROWS = {
    "index, s": ("index seconds", 1, ".0f"),
    "index, GB": ("index bytes", 1e-9, ".3f"),
    "index peak, GB": ("index peak", 1, ".2f"),
    "search peak, GB": ("search 2 peak", 1, ".2f"),
    "queries/s, 1 thread": ("search 1 seconds", -1, ",.0f"),
    "queries/s, 2 threads": ("search 2 seconds", -1, ",.0f"),
    "bm25s index, s": ("plain 1 indexing", 1, ".0f"),
    "bm25s index peak, GB": ("plain 1 indexing_peak", 1, ".2f"),
    "bm25s queries/s, 1 thread": ("plain 1 seconds", -1, ",.0f"),
    "bm25s queries/s, 2 threads": ("plain 2 seconds", -1, ",.0f"),
    "queries with bm25s' very scores": ("plain 1 same", 1, ".1%"),
    "terms": ("index terms", 1, ",.0f"),
    "postings a passage": ("index postings", 1, ".1f"),
    "passages with the most frequent term": ("index most", 1, ".1%"),
    "postings read a query / passages": ("index read", 1, ".1%"),
}
UNPROJECTED = list(ROWS)[-5:]


def projected(found: list[dict[str, float]], key: str) -> float | None:
    points = [(row["passages"], row[key]) for row in found if key in row]
    if len(points) < 2:
        return None
    slope, start = np.polyfit(*zip(*points, strict=True), 1)
    return float(start + slope * PASSAGES)


def shown(value: float | None, factor: float, form: str) -> str:
    if value is None:
        return "not measured"
    return format(1 / value if factor < 0 else value * factor, form)


def show(found: list[dict[str, float]]) -> None:
    print("| passages |", *(f"{row['passages']:,} |" for row in found), f"{PASSAGES:,} (line) |")
    print("|---|" + "---|" * (len(found) + 1))
    for label, (key, factor, form) in ROWS.items():
        values = [shown(row.get(key), factor, form) for row in found]
        line = "" if label in UNPROJECTED else shown(projected(found, key), factor, form)
        print(f"| {label} |", *(f"{value} |" for value in values), f"{line} |")
    for name, indexing, threads in [
        ("ragcun", "index seconds", "search {}"),
        ("bm25s", "plain 1 indexing", "plain {}"),
    ]:
        for count in (1, 2):
            once = projected(found, f"{threads.format(count)} seconds")
            build = projected(found, indexing)
            if once is not None and build is not None:
                hours = (build + once * QUERIES) / 3600
                print(f"\n{name}, {count} threads: {hours:.2f} h for index and {QUERIES:,} queries")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000, 300_000])
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--plain-up-to", type=int, default=1_000_000, help="passages for bm25s")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", choices=["make", "index", "search", "plain"])
    given = parser.parse_args()
    if given.work is None:
        show(
            [
                measure(given.folder / str(count), count, given.queries, given.plain_up_to)
                for count in given.passages
            ]
        )
        return
    if given.work == "make":
        found = make(given.folder, given.passages[0], given.queries)
    elif given.work == "index":
        found = index(given.folder)
    else:
        found = (search if given.work == "search" else plain)(given.folder, given.threads)
    print(json.dumps({**{key: float(value) for key, value in found.items()}, "peak": peak()}))


if __name__ == "__main__":
    main()
