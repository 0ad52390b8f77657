"""What it costs to take in a corpus of MS MARCO's shape: seconds, peak memory, reading it back.

    python benchmarks/msmarco_conversion.py FOLDER --share 0.1 0.3 1

writes a synthetic set (8,841,823 passages of 56 words in the mean, 509,919 queries, 532,761
training judgements, at the shares asked for) into FOLDER, stores it in a process of its own, and
then reads texts by id in another. Needs 4 times the text's 4 GB on disk at the full share.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ragcun_cli.pipeline.data.sets import beir, corpus, corpus_writer, storing

PASSAGES, TRAIN, DEV, PAIRS = 8_841_823, 502_939, 6_980, 532_761
VOCABULARY = 30_000
EXAMPLES = 50_000


def synthesise(folder: Path, share: float) -> int:
    """Write a BEIR folder of MS MARCO's shape and return its bytes."""
    (folder / "qrels").mkdir(parents=True)
    rng = np.random.default_rng(1)
    words = np.array([f"w{number:05}" for number in range(VOCABULARY)])
    passages = round(PASSAGES * share)
    with (folder / "corpus.jsonl").open("w") as stream:
        for start in range(0, passages, 10_000):
            count = min(10_000, passages - start)
            lengths = np.clip(rng.normal(56, 22, count), 5, 300).astype(int)
            drawn = words[(VOCABULARY * rng.random(lengths.sum()) ** 3).astype(int)]
            parts = np.split(drawn, np.cumsum(lengths)[:-1])
            rows = [
                f'{{"_id": "{row}", "title": "", "text": "{" ".join(text)}", "metadata": {{}}}}\n'
                for row, text in enumerate(parts, start)
            ]
            stream.write("".join(rows))
    train, dev = round(TRAIN * share), round(DEV * share)
    with (folder / "queries.jsonl").open("w") as stream:
        for query in range(train + dev):
            text = " ".join(words[rng.integers(0, VOCABULARY, 6)])
            stream.write(f'{{"_id": "{1_000_000 + query}", "text": "{text}", "metadata": {{}}}}\n')
    _judge(folder / "qrels/train.tsv", range(train), round(PAIRS * share), passages, rng)
    _judge(folder / "qrels/dev.tsv", range(train, train + dev), dev, passages, rng)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _judge(file: Path, queries: range, pairs: int, passages: int, rng: np.random.Generator) -> None:
    extra = rng.integers(queries.start, queries.stop, pairs - len(queries))
    judged = sorted({(q, int(rng.integers(passages))) for q in [*queries, *extra.tolist()]})
    lines = "".join(f"{1_000_000 + query}\t{passage}\t1\n" for query, passage in judged)
    file.write_text("query-id\tcorpus-id\tscore\n" + lines)


def store(source: Path, draft: Path) -> dict[str, float]:
    started = time.perf_counter()
    counts = storing.store(source, draft)
    return {"passages": counts.passages, "seconds": time.perf_counter() - started}


def read(source: Path, draft: Path) -> dict[str, float]:
    """Draw texts by id, as training examples and the judging of test sets do."""
    passages = corpus.Corpus.open(draft)
    judged = beir.read_qrels(draft, "train")
    ids = [passage for grades in judged.values() for passage in grades][:EXAMPLES]
    started = time.perf_counter()
    texts = passages.texts_by_id(ids)
    return {"texts": len(texts), "seconds": time.perf_counter() - started}


WORK = {"store": store, "read": read}


def in_a_process(work: str, source: Path, draft: Path, run: int | None) -> dict[str, float]:
    command = [sys.executable, __file__, str(source), "--work", work, "--draft", str(draft)]
    command += ["--run-characters", str(run)] if run else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, nargs="+", default=[0.01])
    parser.add_argument("--work", choices=WORK)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--run-characters", type=int, help="held in memory while sorting")
    given = parser.parse_args()
    if given.work:
        if given.run_characters:
            corpus_writer.RUN_CHARACTERS = given.run_characters
        found = WORK[given.work](given.folder, given.draft)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    print("| share | passages | GB of text | seconds | passages/s | peak MB | ms a text by id |")
    print("|---|---|---|---|---|---|---|")
    for share in given.share:
        source, draft = given.folder / "source", given.folder / "stored"
        size = synthesise(source, share)
        draft.mkdir()
        kept = in_a_process("store", source, draft, given.run_characters)
        drawn = in_a_process("read", source, draft, given.run_characters)
        rate = kept["passages"] / kept["seconds"]
        each = 1000 * drawn["seconds"] / drawn["texts"]
        print(
            f"| {share:.0%} | {kept['passages']:,.0f} | {size / 1e9:.2f} | {kept['seconds']:.0f} "
            f"| {rate:,.0f} | {kept['peak_mb']:,.0f} | {each:.3f} |",
            flush=True,
        )
        shutil.rmtree(source)
        shutil.rmtree(draft)


if __name__ == "__main__":
    main()
