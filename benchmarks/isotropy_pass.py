"""One pass over a million embeddings beside the float64 products alone, and its peak memory.

    python benchmarks/isotropy_pass.py [ROWS] [DIMENSIONS] [ROUNDS]

Both are given the same float32 chunks of 20,480 rows, as an encoder would give them. Alone: each is
widened and multiplied, X^T X, blocks added up. The pass: names are digested, rows checked, centred
and added to 20 blocks and to the reservoir. Chunks are made outside the clock, in turn for both, so
that neither has the machine at a better time than the other.
"""

import resource
import statistics
import sys
import time

import numpy as np
from setting import machine

from ragcun_cli.core.draw import ISOTROPY_TEXTS, name_digest
from ragcun_cli.core.isotropy.embedding_pass import EmbeddingPass

CHUNK = 20_480


class Alone:
    """The products that no pass can do without."""

    def __init__(self, dimensions: int) -> None:
        self.total = np.zeros((dimensions, dimensions))

    def add(self, rows: np.ndarray, first: int) -> None:
        wide = rows.astype(np.float64)
        self.total += wide.T @ wide


class Pass:
    def __init__(self) -> None:
        self.seen = EmbeddingPass()

    def add(self, rows: np.ndarray, first: int) -> None:
        names = (f"benchmark\t{row}" for row in range(first, first + len(rows)))
        keys = b"".join(name_digest(ISOTROPY_TEXTS, name)[:8] for name in names)
        keys = np.frombuffer(keys, ">u8").astype(np.uint64)
        self.seen.add(rows, first_row=first, keys=keys)


def once(count: int, dimensions: int) -> tuple[float, float]:
    """Seconds of the products alone and of the pass, each the sum over all chunks."""
    rng = np.random.default_rng(0)
    ways = (Alone(dimensions), Pass())
    seconds = [0.0, 0.0]
    for number, first in enumerate(range(0, count, CHUNK)):
        rows = rng.standard_normal((min(CHUNK, count - first), dimensions), np.float32)
        for turn in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter()
            ways[turn].add(rows, first)
            seconds[turn] += time.perf_counter() - started
    alone, seen = ways[0].total, ways[1].seen.moments.total()
    apart = np.abs(seen.scatter + count * np.outer(seen.mean, seen.mean) - alone).max()
    assert seen.count == count
    assert apart <= 1e-9 * np.abs(alone).max(), apart
    return seconds[0], seconds[1]


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    defaults = ["1000000", "512", "3"]
    count, dimensions, rounds = map(int, sys.argv[1:] + defaults[len(sys.argv) - 1 :])
    print(machine("cpu"), time.strftime("%Y-%m-%d"), flush=True)
    before = peak_megabytes()
    ratios = []
    for _ in range(rounds):
        alone, passed = once(count, dimensions)
        ratios.append(passed / alone)
        print(
            f"{count:,} x {dimensions}: products alone {alone:.1f} s, pass {passed:.1f} s, "
            f"ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(
        f"median ratio {statistics.median(ratios):.2f}, peak of the process "
        f"{peak_megabytes():,.0f} MB, of which {before:,.0f} MB before it began"
    )


if __name__ == "__main__":
    main()
