"""Every command that a document has in a block runs, on small data, or is said to need more."""

import csv
import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_documents import FOUND

NEEDS = {
    "a Python package index and a network": ("data get", "mteb:"),
    "published test sets": ("--baseline-check", "--published"),
    "a server": ("serve check",),
    "GPUs": ("--launcher gpus",),
    "a cluster": ("--launcher slurm",),
    "hours": ("evidence",),
    "sets that are no downloads": ("debian-desc",),
    "minutes, and a trained encoder": ("reproduce --profile stdlib",),
    "a corpus of several blocks": ("--shard", "--merge"),
    "a plan with claims": ("--strict",),
    "queries that the reader has generated": ("exported/corpus.jsonl",),
    "tensorboard": ("report_to=tensorboard",),
}
"""What the machine of the tests lacks -> what the commands have that need it."""

SMALL = {
    "quickstart": "smoke",
    "publication": "smoke",
    "NAME": "smoke",
    "scifact": "smoke-numpy",
    "nfcorpus": "smoke-sklearn",
    "fiqa": "stdlib",
    "fever": "smoke-numpy",
    "public": "smoke-numpy",
    "pydocs-numpy": "smoke-numpy",
    "msmarco": "smoke",
    "draft": "drafted",
    "fine_tune": "with_isotropy",
    "1000": "5",
    "100000": "50",
    "200": "20",
    "training.batch_size=1024": "training.batch_size=16",
    "training.mini_batch_size=64": "training.mini_batch_size=8",
    'evaluation.variants=["int8", "binary", "truncate-128"]': 'evaluation.variants=["truncate-8"]',
}
"""A word of a document -> the word that stands for it here."""

DRAFTED = {("init", "mine"): "walked", ("--data", "mine"): "stdlib"}
"""profiles/mine.toml is there, and the set has too few test queries for a plan."""

ONE = ["smoke", "--experiment", "with_isotropy", "--seed", "1"]
MODELS = {"NAME_OR_FOLDER", "A", "sentence-transformers/all-MiniLM-L6-v2"}

PLAN = """
name = "mine"
experiments = ["with_isotropy"]
seeds = [1]
[overrides]
encoder = { base = "ragcun/tiny", max_seq_length = 32, output_dim = 16 }
data.train = "mine"
evaluation.datasets = ["mine"]
[overrides.training]
batch_size = 8
max_steps = 4
warmup_steps = 0.1
precision = "fp32"
probe_texts = 64
"""


@pytest.fixture
def reader(ragcun, smoke_workspace, tmp_path, monkeypatch):
    """The folder of somebody who follows the documents, with files of the names that they have."""
    here = tmp_path / "reader"
    shutil.copytree(smoke_workspace, here / "workspace")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("RAGCUN_YES", "1")
    assert ragcun("data", "export", "smoke-sklearn", here / "corpus").code == 0
    queries, documents = (
        [json.loads(line) for line in (here / "corpus" / name).read_text("utf-8").splitlines()]
        for name in ("queries.jsonl", "corpus.jsonl")
    )
    asked = {query["_id"].removeprefix("q:"): query["text"] for query in queries}
    documents = [one | {"title": asked[one["_id"]]} for one in documents if one["_id"] in asked]
    pairs = [(asked[one["_id"]], one["text"]) for one in documents]
    written(here / "pairs.csv", [("query", "positive"), *pairs])
    written(here / "faq.csv", [("question", "answer"), *pairs])
    titled = [(one["_id"], one["title"], one["text"]) for one in documents]
    written(here / "docs.csv", [("key", "name", "body"), *titled])
    lines(here / "docs.jsonl", documents)
    lines(here / "corpus.jsonl", [one | {"title": one["_id"]} for one in documents])
    found = [{"query": asked[key], "passage_id": key} for key, *_ in titled]
    lines(here / "generated.jsonl", found)
    (here / "docs").mkdir()
    for key, title, text in titled:
        (here / "docs" / f"{key}.md").write_text(f"# {title}\n\n{text}\n")
    (here / "profiles").mkdir()
    (here / "profiles/mine.toml").write_text(PLAN)
    return here


def written(file, rows):
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)


def lines(file, rows):
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def small(arguments, models, query):
    """A command of a document, about data that is here."""
    words = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        is_profile = before in ("--profile", "-p")
        if is_profile and word == "with_isotropy":
            words += ONE
        elif before == "--model":
            words.append(models["A" if word in MODELS else "B"])
        elif before == "--what-if" or word == "MODEL":
            words.append(models["A"])
        elif word == "training.selection.queries=500":
            words += ["training.selection.queries=10", "--set", "training.selection.every=10"]
        elif word == "nfcorpus" and "--what-if" in arguments:
            continue  # its dev queries are asked for, and what stands for it has none
        elif (before, word) in DRAFTED:
            words.append(DRAFTED[before, word])
        elif word == "QUERY_ID":
            words.append(query)
        else:
            words.append(
                SMALL.get(word, str(Path(word).expanduser()) if word.startswith("~") else word)
            )  # as a shell does
    if words[:2] == ["profile", "init"]:
        words += ["--base", "ragcun/tiny"]
    return words


def needed(arguments):
    """What a command needs that is not here, or None."""
    text = shlex.join(arguments)
    return next((what for what, signs in NEEDS.items() if any(map(text.__contains__, signs))), None)


def is_first(arguments):
    """Whether a command makes what stands for another here, or is of a plan as it is finished."""
    makes_set = arguments[:2] == ["data", "import"] and "stdlib" in arguments
    return makes_set or "--capsule" in arguments or "--check" in arguments


BLOCKS = [
    *{
        shlex.join(arguments): arguments
        for name, arguments, within in sorted(FOUND, key=lambda one: not is_first(one[1]))
        if not within and name not in ("CHANGELOG.md", "docs/RESULTS.md")
    }.values()
]


def test_most_commands_need_nothing_that_is_not_here():
    lacking = [needed(arguments) for arguments in BLOCKS]
    assert len(BLOCKS) > 70
    assert lacking.count(None) > 0.75 * len(BLOCKS)
    assert {*lacking} - {None} <= {*NEEDS}


@pytest.mark.system
def test_every_command_of_a_block_runs_on_small_data(ragcun, reader):
    found = {
        letter: str(next((reader / "workspace").glob(f"runs/{name}/*/seed-1/model")))
        for letter, name in {"A": "with_isotropy", "B": "baseline_no_isotropy"}.items()
    }
    mined = next((reader / "workspace").glob("negatives/smoke/*/seed-1/negatives.jsonl"))
    query = json.loads(mined.read_text("utf-8").splitlines()[0])["query"]
    failed, ran = [], set()
    for arguments in BLOCKS:
        words = small(arguments, found, query)
        if needed(arguments) or tuple(words) in ran:
            continue
        ran.add(tuple(words))
        if words[:2] in (["data", "import"], ["data", "sample"]):
            words = [*words, "--force"]
        outcome = ragcun(*words)
        if outcome.code not in ((0, 4) if "--review" in words else (0,)):
            failed.append(f"{shlex.join(words)}\n{outcome.err[-300:]}")
    assert not failed, "\n".join(failed)
    assert len(ran) > 50
