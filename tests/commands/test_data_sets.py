"""Sets of several parts, samples and tables, through the command line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sources import PublishedSet

KILLED = Path(__file__).with_name("killed_command.py")


@pytest.fixture
def workspace(smoke_workspace, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(smoke_workspace, copy)
    return copy


@pytest.fixture
def forums(workspace, tmp_path, monkeypatch, ragcun):
    """A set of two parts, made of the smoke test sets."""
    for part in ("numpy", "sklearn"):
        beir.export_set(workspace / f"data/datasets/smoke-{part}", tmp_path / "forums" / part)
    known = PublishedSet("two", 160, 160, forums=("numpy", "sklearn"), zip_bytes=1)
    monkeypatch.setitem(sources.BEIR, "forums", known)
    outcome = ragcun("data", "import", tmp_path / "forums", "--name", "forums", "-w", workspace)
    assert outcome.code == 0, outcome.err


@pytest.mark.system
def test_parts_are_searched_apart_and_their_means_are_averaged(ragcun, workspace, forums):
    options = ("-p", "smoke", "--seed", "1", "-w", workspace)
    sets = ("--set", 'evaluation.datasets=["forums","smoke-numpy","smoke-sklearn"]')
    outcome = ragcun("reproduce", *options, *sets, "--json")
    assert outcome.code == 0, outcome.err
    tables = {table["key"]: table["rows"] for table in json.loads(outcome.out)["tables"]}
    differing = 0
    for row in tables["results"]:
        single = [row["smoke-numpy"], row["smoke-sklearn"]]
        assert row["forums"] == pytest.approx(sum(single) / 2)
        assert row["average"] == pytest.approx(row["forums"])
        differing += single[0] != single[1]
    assert differing
    (folder,) = workspace.glob("runs/bm25/*/eval/")
    for part in ("numpy", "sklearn"):
        alone = (folder / f"smoke-{part}/runs/smoke-{part}.trec.gz").read_bytes()
        assert (folder / f"forums/runs/{part}.trec.gz").read_bytes() == alone
    rows = (folder / "forums/per_query.jsonl").read_text().splitlines()
    assert {json.loads(row)["part"] for row in rows} == {"numpy", "sklearn"}
    assert len(rows) == 160


def test_a_sample_keeps_what_is_judged_and_says_that_it_compares_with_nothing(
    ragcun, workspace, tmp_path
):
    command = ("data", "sample", "smoke", "--queries", "10", "--passages", "60", "-w", workspace)
    outcome = ragcun(*command, "--json")
    assert outcome.code == 0, outcome.err
    assert "scores are not comparable" in outcome.err
    counts = json.loads(outcome.out)["smoke-q10-p60-s1"]
    assert counts["sample"] == {"of": "smoke", "queries": 10, "passages": 60, "seed": 1}
    assert (counts["passages"], counts["judged"]) == (60, {"train": 10, "dev": 10})
    datasets = workspace / "data/datasets"
    whole, sample = (Corpus.open(datasets / name) for name in ("smoke", "smoke-q10-p60-s1"))
    texts = dict(zip(whole.ids, whole.texts, strict=True))
    assert len(sample.ids) == 60
    assert all(texts[name] == text for name, text in zip(sample.ids, sample.texts, strict=True))
    for split in ("train", "dev"):
        judged = beir.read_qrels(datasets / "smoke-q10-p60-s1", split)
        assert judged.items() <= beir.read_qrels(datasets / "smoke", split).items()
    assert ragcun(*command).code == 2
    assert ragcun("data", "verify", "-w", workspace).code == 0
    assert "sample of smoke" in ragcun("data", "list", "-w", workspace).out
    other = ragcun(*command, "--seed", "2", "--json")
    assert other.code == 0
    again = Corpus.open(datasets / "smoke-q10-p60-s2")
    assert set(again.ids) != set(sample.ids)


def test_a_table_says_which_of_its_sets_are_samples(ragcun, workspace):
    command = ("data", "sample", "smoke-numpy", "--queries", "9", "--passages", "30")
    assert ragcun(*command, "--name", "few", "-w", workspace).code == 0
    options = ("-p", "smoke", "--seed", "1", "--set", 'evaluation.datasets=["few"]')
    assert ragcun("eval", *options, "-w", workspace).code == 0
    report = ragcun("report", *options, "-w", workspace, "--format", "markdown").out
    assert "Samples, whose scores are comparable with no others: few (of smoke-numpy)." in report


@pytest.mark.parametrize(
    ("name", "passages", "message"),
    [
        ("smoke", "100000", "'smoke' has 160: 100,000 is not between them"),
        ("nothing", "5", "no data set 'nothing' in this workspace"),
        ("scifact", "5", "no data set 'scifact' in this workspace"),
    ],
)
def test_a_sample_that_cannot_be_drawn_is_refused(ragcun, workspace, name, passages, message):
    outcome = ragcun(
        *("data", "sample", name, "--queries", "5", "--passages", passages, "-w", workspace)
    )
    assert outcome.code == 2
    assert message in outcome.err


def test_a_sample_of_parts_is_refused(ragcun, workspace, forums):
    outcome = ragcun(
        *("data", "sample", "forums", "--queries", "5", "--passages", "5", "-w", workspace)
    )
    assert outcome.code == 2
    assert "'forums' consists of 2 sets that are searched apart" in outcome.err


def test_statistics_say_what_of_the_test_is_in_the_training_data(ragcun, workspace):
    command = ("data", "stats", "smoke-numpy", "-w", workspace)
    alone = ragcun(*command)
    assert alone.code == 0, alone.err
    assert "no training data to compare with; name one by --train" in alone.err
    found = json.loads(ragcun(*command, "--json").out)["smoke-numpy"]["statistics"]
    assert found["passages"]["count"] == found["splits"]["test"]["queries"] == 80
    against = ragcun(*command, "--train", "smoke", "--json")
    overlap = json.loads(against.out)["smoke-numpy"]["overlap"]
    assert (overlap["train"], overlap["queries"], overlap["train_queries"]) == ("smoke", 80, 128)
    shown = ragcun(*command, "--train", "smoke").out
    assert "its test in the training data of smoke" in shown


def test_statistics_count_tokens_that_the_tokenizer_of_a_profile_does_not_know(ragcun, workspace):
    file = workspace / "data/encoders/tiny/tokenizer.json"
    content = json.loads(file.read_text())
    row = content["model"]["vocab"].pop("##x")
    content["model"]["vocab"]["nothing else"] = row
    file.write_text(json.dumps(content))
    command = ("data", "stats", "smoke-numpy", "--profile", "smoke", "-w", workspace)
    outcome = ragcun(*command, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)["smoke-numpy"]["unknown_tokens"]
    tokenizer = AutoTokenizer.from_pretrained(workspace / "data/encoders/tiny")
    queries = beir.read_queries(workspace / "data/datasets/smoke-numpy").values()
    words = [re.sub(r"[!-@\[-`{-~]", " ", text) for text in queries]
    pieces = [piece for text in words for piece in tokenizer.tokenize(text)]
    assert found["ragcun/tiny"]["queries"] == pieces.count("[UNK]") / len(pieces)
    assert all(0 < share < 0.1 for share in found["ragcun/tiny"].values())
    assert "tokens that the tokenizer of ragcun/tiny does not know: " in ragcun(*command).err


def test_statistics_of_parts_are_given_part_by_part(ragcun, workspace, forums):
    found = json.loads(ragcun("data", "stats", "forums", "-w", workspace, "--json").out)
    assert list(found) == ["forums/numpy", "forums/sklearn"]


@pytest.mark.parametrize("new", ["smoke", "scifact", "robust04", "trec-dl-2019", "all", "x" * 101])
def test_a_sample_takes_no_name_that_means_something_else(ragcun, workspace, new):
    command = ("data", "sample", "smoke", "--queries", "5", "--passages", "50", "--force")
    before = (workspace / "data/datasets/smoke/queries.jsonl").read_bytes()
    assert ragcun(*command, "--name", new, "-w", workspace).code == 2
    assert (workspace / "data/datasets/smoke/queries.jsonl").read_bytes() == before


def test_a_sample_smaller_than_what_is_judged_is_refused(ragcun, workspace):
    outcome = ragcun(
        *("data", "sample", "smoke", "--queries", "10", "--passages", "3", "-w", workspace)
    )
    assert outcome.code == 2
    assert "20 passages are judged for the queries" in outcome.err
    assert "Hint: --passages 20" in outcome.err


def test_a_set_that_was_changed_by_hand_is_not_overwritten_unasked(ragcun, workspace, tmp_path):
    beir.export_set(workspace / "data/datasets/smoke", tmp_path / "mine")
    command = ("data", "import", tmp_path / "mine", "--name", "mine", "-w", workspace)
    assert ragcun(*command).code == 0
    file = workspace / "data/datasets/mine/queries.jsonl"
    file.write_text(file.read_text() + '{"_id": "more", "text": "by hand"}\n')
    outcome = ragcun(*command)
    assert outcome.code == 2
    assert "there is a data set 'mine' already" in outcome.err
    assert "by hand" in file.read_text()
    outcome = ragcun("eval", "-p", "smoke", "--seed", "1", "--datasets", "mine", "-w", workspace)
    assert outcome.code == 2
    assert "files of 'mine' were changed since it was imported" in outcome.err
    assert ragcun(*command, "--force").code == 0


def test_a_folder_where_the_set_will_lie_is_not_taken_in(ragcun, workspace):
    folder = workspace / "data/datasets/mine"
    beir.export_set(workspace / "data/datasets/smoke", folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    outcome = ragcun("data", "import", folder, "--name", "mine", "-w", workspace)
    assert outcome.code == 2
    assert "is where ragcun keeps 'mine'" in outcome.err
    assert {file: file.read_bytes() for file in before} == before


def test_a_missing_split_is_found_out_before_any_work(ragcun, workspace, tmp_path):
    beir.export_set(workspace / "data/datasets/smoke-numpy", tmp_path / "test-only")
    ragcun("data", "import", tmp_path / "test-only", "--name", "test-only", "-w", workspace)
    options = ("-p", "smoke", "--seed", "7", "-w", workspace)
    outcome = ragcun("train", *options, "--set", "data.train=test-only")
    assert outcome.code == 2
    assert "needs judgements of train, and 'test-only' has those of test alone" in outcome.err
    outcome = ragcun("eval", *options, "--datasets", "smoke")
    assert "needs judgements of test, and 'smoke' has those of train, dev alone" in outcome.err
    assert not list(workspace.glob("runs/*/*/seed-7"))


def test_damaged_passages_are_an_error_and_no_traceback(ragcun, workspace, tmp_path):
    file = workspace / "data/datasets/smoke/passages/passages.arrow"
    file.write_bytes(b"junk")
    for command in (("export", "smoke", tmp_path / "out"), ("stats", "smoke")):
        outcome = ragcun("data", *command, "-w", workspace)
        assert outcome.code == 2
        assert "passages.arrow was changed after it was written" in outcome.err
        assert "ragcun data verify smoke" in outcome.err
    assert not (tmp_path / "out").exists()
    file.unlink()
    assert ragcun("data", "stats", "smoke", "-w", workspace).code == 2


def test_an_export_that_cannot_be_written_is_an_error(ragcun, workspace, forums, tmp_path):
    (tmp_path / "file").write_text("")
    assert ragcun("data", "export", "smoke", tmp_path / "file/sub", "-w", workspace).code == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious").write_text("")
    outcome = ragcun("data", "export", "forums", tmp_path / "full", "-w", workspace)
    assert outcome.code == 2
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["precious"]


def test_an_export_among_the_workspaces_own_sets_is_refused(ragcun, workspace, tmp_path):
    (tmp_path / "link").symlink_to(workspace / "data/datasets")
    before = sorted((workspace / "data/datasets").iterdir())
    for target in (workspace / "data/datasets/copy", tmp_path / "link/copy/deeper"):
        outcome = ragcun("data", "export", "smoke", target, "-w", workspace)
        assert outcome.code == 2
        assert "lies among the workspace's own data sets" in outcome.err
    assert sorted((workspace / "data/datasets").iterdir()) == before
    assert ragcun("data", "export", "smoke", workspace / "copy", "-w", workspace).code == 0


def test_a_plan_lacks_no_training_set_unsaid(ragcun, tmp_path):
    command = ("data", "get", "-p", "smoke", "--set", "data.train=robust04", "-w", tmp_path)
    outcome = ragcun(*command)
    assert outcome.code == 2
    assert "'robust04' needs NIST's TREC disks" in outcome.err


def test_a_set_that_is_not_here_is_to_be_got(ragcun, workspace):
    outcome = ragcun("data", "verify", "fiqa", "-w", workspace)
    assert outcome.code == 2
    assert "needs" not in outcome.err
    assert "Hint: ragcun data get fiqa" in outcome.err


@pytest.mark.parametrize(("force", "next_time"), [([], "goes on"), (["--force"], "begins anew")])
def test_an_interrupted_command_says_what_the_same_one_will_do(
    ragcun, tmp_path, monkeypatch, force, next_time
):
    def interrupt(descriptor):
        os.kill(os.getpid(), signal.SIGINT)

    table = tmp_path / "table.jsonl"
    table.write_text('{"query": "what is tide", "positive": "the moon moves the sea"}\n')
    monkeypatch.setattr(os, "fsync", interrupt)
    words = ("data", "import", table, "--name", "mine", "-w", tmp_path / "ws", *force)
    outcome = ragcun(*words)
    assert outcome.code == 130
    assert f"the same command {next_time}" in outcome.err


@pytest.mark.system
def test_a_set_that_is_replaced_is_the_old_or_the_new_one_wherever_it_stops(ragcun, tmp_path):
    """Killed before each fourth change of a name below the workspace."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for name in ("old", "new"):
        rows = [{"query": f"{name} {n}", "positive": f"a {name} text {n}"} for n in range(3)]
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)

    first, root = tmp_path / "first", tmp_path / "w"
    words = ["data", "import", tmp_path / "old.jsonl", "--name", "mine", "-w", first]
    assert ragcun(*words).code == 0
    found = []
    for number in range(0, 200, 4):
        shutil.copytree(first, root)
        words = ["data", "import", "../new.jsonl", "--name", "mine", "--force", "-w", "."]
        done = subprocess.run(
            [sys.executable, KILLED, str(number), *words],
            cwd=root,
            env=environment,
            capture_output=True,
            check=False,
        )
        queries = beir.read_queries(root / "data/datasets/mine").values()
        found.append({text.split()[0] for text in queries})
        assert len(queries) == 3
        shown = ragcun("data", "verify", "-w", root)
        assert shown.code == 0, (number, shown.err)
        assert "mine: intact" in shown.err
        shutil.rmtree(root)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert found[0] == {"old"}
    assert found[-1] == {"new"}
    assert all(len(kinds) == 1 for kinds in found)
    assert len(found) > 5
