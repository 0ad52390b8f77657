"""Exact search beside its floor and its peers: seconds, and the memory it takes.

    python benchmarks/search.py [--passages 200000 1000000] [--k 100 1000] [--queries 1000]
                                [--rounds 3] [--contenders floor ragcun beir semantic_search faiss]

float32 vectors of 512 dimensions: 256 clusters of spread 0.5 and a common offset of length 23 under
N(0, I), queries near passages. They lie in a scratch file, which is read in chunks of 65,536. Each
measure is of a process of its own, after a small search that compiles and warms up, and contenders
take turns; the table has medians over rounds. Reading is not timed.

- floor: the bare float32 matrix products by numpy, 16,384 passages at a time, nothing kept.
- ragcun: ExactTopK, Euclidean, `hits` included.
- beir: DenseRetrievalExactSearch, dot product, with its own chunks of 50,000.
- semantic_search: of sentence-transformers, dot product, as it stands.
- faiss: the search of an IndexFlatL2 that is filled beforehand, which is not timed.

"peak" is resident memory above what the process had before it read a passage; the last three of
these hold the corpus or, beir, a chunk of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import torch

WIDTH, CHUNK, CLUSTERS = 512, 65536, 256
PRODUCT = 16384
CONTENDERS = ("floor", "ragcun", "beir", "semantic_search", "faiss")

Chunks = Callable[[], Iterator[np.ndarray]]


class Clock:
    """Wall and processor seconds of what runs under it."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]


def floor(queries: np.ndarray, chunks: Chunks, k: int, clock: Clock) -> None:
    products = np.empty((len(queries), PRODUCT), np.float32)
    for chunk in chunks():
        for start in range(0, len(chunk), PRODUCT):
            part = chunk[start : start + PRODUCT]
            out = products.reshape(-1)[: len(queries) * len(part)].reshape(len(queries), -1)
            with clock:
                np.matmul(queries, part.T, out=out)


def ragcun(queries: np.ndarray, chunks: Chunks, k: int, clock: Clock) -> None:
    from ragcun_cli.core.search.ranking import ExactTopK

    with clock:
        search, first_row = ExactTopK(torch.from_numpy(queries), k=k, similarity="euclidean"), 0
    for chunk in chunks():
        with clock:
            search.add(torch.from_numpy(chunk), first_row=first_row)
        first_row += len(chunk)
    with clock:
        search.hits()


def beir(queries: np.ndarray, chunks: Chunks, k: int, clock: Clock) -> None:
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    class Looked:
        def __init__(self) -> None:
            self._vectors, self._seen = whole(chunks), 0

        def __len__(self) -> int:
            return len(self._vectors)

        def encode_queries(self, texts: list[str], **_: object) -> torch.Tensor:
            return torch.from_numpy(queries)

        def encode_corpus(self, corpus: list[dict[str, str]], **_: object) -> torch.Tensor:
            self._seen += len(corpus)
            return self._vectors[self._seen - len(corpus) : self._seen]

    model = Looked()
    corpus = {f"p{row}": {"text": ""} for row in range(len(model))}
    asked = {f"q{row}": "" for row in range(len(queries))}
    search = DenseRetrievalExactSearch(model, show_progress_bar=False)
    with clock:
        search.search(corpus, asked, k, "dot")


def semantic_search(queries: np.ndarray, chunks: Chunks, k: int, clock: Clock) -> None:
    from sentence_transformers.util import dot_score
    from sentence_transformers.util import semantic_search as search

    passages = whole(chunks)
    with clock:
        search(torch.from_numpy(queries), passages, top_k=k, score_function=dot_score)


def faiss(queries: np.ndarray, chunks: Chunks, k: int, clock: Clock) -> None:
    import faiss

    index = faiss.IndexFlatL2(WIDTH)
    for chunk in chunks():
        index.add(chunk)
    with clock:
        index.search(queries, k)


def whole(chunks: Chunks) -> torch.Tensor:
    return torch.cat([torch.from_numpy(chunk) for chunk in chunks()])


def write(file: Path, passages: int, queries: int) -> None:
    """Passages, then queries."""
    rng = np.random.default_rng(0)
    centres = 0.5 * rng.standard_normal((CLUSTERS, WIDTH), np.float32)
    centres += rng.standard_normal(WIDTH, np.float32)
    with file.open("wb") as stream:
        for start in range(0, passages, CHUNK):
            count = min(CHUNK, passages - start)
            chunk = rng.standard_normal((count, WIDTH), np.float32)
            chunk += centres[rng.integers(0, CLUSTERS, count)]
            chunk.tofile(stream)
        near = chunk[rng.integers(0, len(chunk), queries)]
        (0.6 * near + 0.8 * rng.standard_normal(near.shape, np.float32)).tofile(stream)


def measure(name: str, file: Path, passages: int, queries: int, k: int) -> dict[str, float]:
    """In this process."""
    asked = np.fromfile(file, np.float32, offset=4 * WIDTH * passages).reshape(queries, WIDTH)

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, passages, CHUNK):
            count = min(CHUNK, passages - start) * WIDTH
            yield np.fromfile(file, np.float32, count, offset=4 * WIDTH * start).reshape(-1, WIDTH)

    search = globals()[name]
    search(asked[:8].copy(), lambda: iter([asked[:64].copy()]), 5, Clock())
    process, done, clock = psutil.Process(), threading.Event(), Clock()
    before = process.memory_info().rss
    peak = [before]

    def watch() -> None:
        while not done.wait(0.02):
            peak.append(max(peak.pop(), process.memory_info().rss))

    watcher = threading.Thread(target=watch)
    watcher.start()
    search(asked, chunks, k, clock)
    done.set()
    watcher.join()
    return {"seconds": clock.seconds, "cpu": clock.cpu, "peak": (peak[0] - before) / 1e6}


def in_turns(
    arguments: argparse.Namespace, passages: int, k: int
) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.contenders}
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        file = Path(folder) / "vectors"
        write(file, passages, arguments.queries)
        for _ in range(arguments.rounds):
            for name, measures in found.items():
                command = [sys.executable, __file__, "--measure", name, str(file)]
                command += map(str, (passages, arguments.queries, k))
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                measures.append(json.loads(output))
    return found


def show(found: dict[str, list[dict[str, float]]], passages: int, k: int) -> None:
    """Ratios are medians of the rounds' ratios."""

    def median(name: str, key: str) -> float:
        return statistics.median(measure[key] for measure in found[name])

    def ratio(key: str, name: str) -> str:
        if not found.get("floor"):
            return "-"
        pairs = zip(found[name], found["floor"], strict=True)
        return f"{statistics.median(one[key] / floor[key] for one, floor in pairs):.2f}"

    print(f"\n{passages:,} passages, k = {k}")
    print(f"{'':16}{'seconds':>9}{'/ floor':>9}{'CPU s':>9}{'/ floor':>9}{'peak MB':>9}")
    for name in found:
        print(
            f"{name:16}{median(name, 'seconds'):9.2f}{ratio('seconds', name):>9}"
            f"{median(name, 'cpu'):9.2f}{ratio('cpu', name):>9}{median(name, 'peak'):9.0f}",
            flush=True,
        )


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        name, file, *numbers = sys.argv[2:]
        print(json.dumps(measure(name, Path(file), *map(int, numbers))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--k", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--scratch", help="folder with room for the vectors")
    arguments = parser.parse_args()
    if importlib.util.find_spec("faiss") is None and "faiss" in arguments.contenders:
        arguments.contenders = [name for name in arguments.contenders if name != "faiss"]
        print("faiss is not installed, and left out (pip install faiss-cpu)")
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    for passages in arguments.passages:
        for k in arguments.k:
            show(in_turns(arguments, passages, k), passages, k)


if __name__ == "__main__":
    main()
