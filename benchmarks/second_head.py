"""What evaluating a second head on the quickstart sets costs, through kept outputs and without.

    python benchmarks/second_head.py FOLDER

Trains frozen_efficient with two seeds, four steps each, in the workspace FOLDER, once with
`training.cache_frozen_base` and once without, each by one command: searches, scores and isotropy on
the six docstring sets. Prints the seconds in the stage records of the second seed. Then it holds
its embeddings of all passages against those of the whole model as sentence-transformers makes them.
"""

import subprocess
import sys

import torch
from sentence_transformers import SentenceTransformer
from setting import machine

from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.encode import encode_block
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.stages.runs import runs_on_disk
from ragcun_cli.spec.manifest import Manifest
from ragcun_cli.spec.paths import MANIFEST

WORDS = ["reproduce", "--profile", "quickstart", "--experiment", "frozen_efficient", "--yes"]
WORDS += ["--references", "none", "--skip-baseline-check", "--seed", "1", "--seed", "2"]
WORDS += ["--set", "training.max_steps=4"]
WITHOUT = ["--set", "training.cache_frozen_base=false"]


def seconds(run) -> dict[str, float]:
    found = {"search": 0.0, "eval": 0.0, "isotropy": 0.0}
    for key, record in Manifest.load(run.folder / MANIFEST).stages.items():
        if (stage := key.partition("/")[0]) in found:
            found[stage] += record.seconds
    return found


def largest_gap(place: Place, run) -> float:
    """Of an embedding, as a share of its length."""
    source, gap = place.source(run), 0.0
    kept, whole = source.load(), SentenceTransformer(str(source.folder), device=source.device)
    for name in run.profile.evaluation.datasets:
        texts = Corpus.open(place.sets.task(name).folder).texts[:]
        found = encode_block(kept, texts, side="document", batch_size=64)
        expected = whole.encode(texts, convert_to_tensor=True)
        gap = max(gap, float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max()))
    return gap


def main() -> None:
    folder = sys.argv[1]
    print(machine("cpu"), torch.get_num_threads(), "threads")
    for more in ([], WITHOUT):
        subprocess.run(
            [sys.executable, "-m", "ragcun_cli", *WORDS, *more, "-w", folder], check=True
        )
    workspace = open_workspace(folder)
    place, found = Place(workspace), {}
    for run in runs_on_disk(workspace)[0]:
        if run.name == "frozen_efficient" and run.profile.training.max_steps == 4:
            found[run.profile.training.cache_frozen_base, run.seed] = run
    for (cached, seed), run in sorted(found.items(), reverse=True):
        way, parts = "through kept outputs" if cached else "whole model", seconds(run)
        listed = ", ".join(f"{stage} {value:.1f}" for stage, value in parts.items())
        print(f"{way}, head {seed}: {sum(parts.values()):.1f} s ({listed})")
    second, whole = (sum(seconds(found[cached, 2]).values()) for cached in (True, False))
    print(f"a second head takes 1/{whole / second:.1f} of the seconds")
    print(f"largest gap of an embedding: {largest_gap(place, found[True, 2]):.1e} of its length")


if __name__ == "__main__":
    main()
