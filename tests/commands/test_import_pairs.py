"""Pairs of passages, through the command line."""

import json
import random

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.encode import kept_base_of
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.search.dense import Search
from ragcun_cli.pipeline.search.judged import read_judged_set
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.profile import EncoderConfig, RunProfile

NOUNS = [
    "return",
    "array",
    "index",
    "value",
    "matrix",
    "graph",
    "node",
    "edge",
    "sort",
    "list",
    "number",
    "mean",
]
BASE = ("--base", "ragcun/tiny", "--max-seq-length", "32")


@pytest.fixture
def docs(tmp_path):
    """A folder of 60 documents with two sections each."""
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    for n in range(60):
        words = random.Random(n)
        said = [
            " ".join(f"{words.choice(NOUNS)} {words.randrange(900)}" for _ in range(12))
            for _ in range(4)
        ]
        text = f"# Part {n}\n\n{said[0]}. {said[1]}.\n\n## Use {n}\n\n{said[2]}. {said[3]}.\n"
        (folder / ("sub" if n % 2 else "") / f"part{n}.md").write_text(text)
    (folder / "picture.png").write_bytes(b"\0")
    (folder / "old.txt").write_bytes("größer".encode("latin-1"))
    return folder


def test_the_round_trip_keeps_what_the_base_ranks_within_20_and_is_encoded_once(
    ragcun, tmp_path, docs
):
    ws = tmp_path / "ws"
    command = ("data", "import", docs, "--name", "mine", "--pairs", "heading", "-w", ws)
    outcome = ragcun(*command, *BASE, "--json")
    assert outcome.code == 0, outcome.err
    details = json.loads(outcome.out)["mine"]
    trip = details["round_trip"]
    assert (trip["pairs"], trip["within"]) == (120, 20)
    assert 0 < trip["kept"] < 120
    assert f"finds the passages of {trip['kept']} of 120 queries within 20" in outcome.err
    folder = ws / "data/datasets/mine"
    whole = ragcun(*command[:4], "whole", *command[5:], "--no-round-trip")
    assert whole.code == 0, whole.err
    corpus, all_queries = Corpus.open(folder), beir.read_queries(ws / "data/datasets/whole")
    workspace = open_workspace(str(ws))
    config = EncoderConfig(base="ragcun/tiny", max_seq_length=32)
    place = Place(workspace)
    model = SentenceTransformer(str(place.fetch_encoder(config).folder), device="cpu")
    model.max_seq_length = 32
    passages = model.encode(list(corpus.texts))
    qrels = beir.read_splits(ws / "data/datasets/whole")
    found = set()
    for judged in qrels.values():
        for query, (passage,) in ((query, [*ids]) for query, ids in judged.items()):
            scores = model.similarity(model.encode([all_queries[query]]), passages).numpy()[0]
            row = corpus.ids.index(passage)
            found |= {query} if np.sum(scores > scores[row] + 1e-5) < 20 else set()
    assert {query for some in beir.read_splits(folder).values() for query in some} == found
    profile = RunProfile(name="other", encoder=config)
    untouched = place.source(Run(profile, None, "untouched", workspace)).load()
    test = read_judged_set("mine", folder)
    before = kept_base_of(untouched).encoded
    Search(untouched, test, profile.evaluation, progress=Silent()).run()
    assert kept_base_of(untouched).encoded - before == len(test.queries)


def test_a_set_of_pairs_says_what_it_is_and_what_was_left_out(ragcun, tmp_path, docs):
    ws = tmp_path / "ws"
    command = ("data", "import", docs, "--name", "mine", "--pairs", "heading", "-w", ws)
    outcome = ragcun(*command, *BASE)
    assert outcome.code == 0, outcome.err
    for what in ("62 files", "120 passages", "of another kind", "picture.png", "not in UTF-8"):
        assert what in outcome.out
    assert (
        "proxy queries: passages are asked for by headings" in ragcun("data", "list", "-w", ws).out
    )
    stats = ragcun("data", "stats", "mine", "-w", ws)
    assert "whose passage the base ranks too low" in stats.out
    assert "proxy queries: passages of 'mine' are asked for by headings above them" in stats.err
    details = json.loads(ragcun("data", "stats", "mine", "-w", ws, "--json").out)["mine"]
    assert details["overlap"]["near_queries"] == details["overlap"]["same_relevant_passages"] == 0
    plan = ("-p", "smoke", "--set", "data.train=mine", "--set", 'evaluation.datasets=["mine"]')
    dry = ragcun("reproduce", *plan, "-w", ws, "--dry-run")
    assert "120 of 120 passages of 'mine' have more than 32 word pieces" in dry.out + dry.err
    again = ragcun(*command, *BASE)
    assert again.code == 2
    assert "--pairs heading --base ragcun/tiny --max-seq-length 32 --force" in again.err
    untouched = ("eval", *plan, "--references", "untouched", "--experiment", "with_isotropy")
    assert ragcun(*untouched, "-w", ws).code in (0, 2)


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no document that can be read: it is empty"),
        ({"a.md": b"\0\1", "b.bin": b"\0"}, "can be read: 1 of another kind, 1 binary"),
        ({"a.md": "# On one\n\n" + "word one two three four five six. " * 9}, "1 document ('a.md'"),
        (
            {f"{n}.md": "# Some heading\n\nword" for n in range(9)},
            "none is left: 9 whose passage has",
        ),
        ({"a.jsonl": "{}"}, "can be read: 1 of another kind"),
    ],
)
def test_a_folder_of_no_use_is_refused_and_leaves_nothing(ragcun, tmp_path, files, message):
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in files.items():
        write(folder, name, content)
    ws = tmp_path / "ws"
    command = ("data", "import", folder, "--name", "mine", "--pairs", "heading", "-w", ws)
    outcome = ragcun(*command, "--no-round-trip")
    assert outcome.code == 2, outcome.err
    assert message in outcome.err.replace("\n", " ")
    assert not [*ws.glob("data/datasets/mine/[!.]*")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-pairs", 9), "--max-pairs: of pairs, and neither --pairs nor --queries"),
        (("--pairs", "title", "--queries", "q.jsonl"), "or come in --queries, not both"),
        (("--queries", "absent.jsonl"), "absent.jsonl is missing"),
        (("--pairs", "title", "--base", "no/such"), "no/such"),
        (("--pairs", "title", "--columns", "body=text"), "on the left stands id, title or text"),
        (("--pairs", "title", "--columns", "text=body"), "no column 'body'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(ragcun, tmp_path, options, message):
    file = tmp_path / "d.jsonl"
    file.write_text('{"text": "some text of a document"}\n')
    ws = tmp_path / "ws"
    outcome = ragcun("data", "import", file, "--name", "mine", *options, "-w", ws)
    assert outcome.code == 2
    assert message in outcome.err.replace("\n", " ")
    refused = ragcun("data", "import", file, "--name", "scifact", "--pairs", "title", "-w", ws)
    assert "'scifact' is the name of a public set" in refused.err


def test_a_table_of_documents_has_lines_of_ten_megabytes(ragcun, tmp_path):
    file, ws = tmp_path / "d.csv", tmp_path / "ws"
    rows = [f'long,"{" ".join(f"word{n:0100}" for n in range(100_000))}"']
    rows += [
        f"d{n},number {n} is not {n + 1} and never {n * n}. It was {n} all along and is {n}"
        for n in range(40)
    ]
    file.write_text("key,body\n" + "\n".join(rows) + "\n")
    options = ("--pairs", "first-sentence", "--columns", "id=key,text=body", "--no-round-trip")
    more = ("--max-pairs", 30, "--passage-words", 2_000, "-w", ws)
    outcome = ragcun("data", "import", file, "--name", "mine", *options, *more)
    assert outcome.code == 0, outcome.err
    ids = Corpus.open(ws / "data/datasets/mine").ids
    assert {"d1", "long#1", "long#50"} <= {*ids}
    file.write_text(f"key,body\nlong,{'x' * (1 << 24)}\n")
    refused = ragcun("data", "import", file, "--name", "two", *options, "-w", ws)
    assert refused.code == 2
    assert "more than 16,777,216" in refused.err
