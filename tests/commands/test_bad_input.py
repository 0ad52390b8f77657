"""A person's mistake is one message, one hint, exit code 2 and nothing written."""

import json
import os
import shutil

import pytest

from ragcun_cli.pipeline.data.sets import beir


def refuses(outcome, *texts, hint="", code=2):
    assert outcome.code == code, outcome
    assert outcome.out == ""
    begins = outcome.err.partition(": looking at what is done and what is not\n")
    assert (begins[2] or begins[0]).startswith("Error: ")
    assert "Traceback" not in outcome.err
    assert f"Hint: {hint}" in outcome.err
    for text in texts:
        assert text in outcome.err, outcome.err


@pytest.fixture
def dataset(tmp_path):
    beir.write_set(
        tmp_path / "stored",
        corpus={"p1": "one passage", "p2": "another"},
        queries={"q1": "which one"},
        qrels={"test": {"q1": {"p1": 1}}},
    )
    beir.export_set(tmp_path / "stored", tmp_path / "mine")
    return tmp_path / "mine"


def test_an_unknown_profile_suggests_the_one_that_was_meant(ragcun, tmp_path):
    outcome = ragcun("train", "--profile", "with_isotropi", "-w", tmp_path / "w")
    refuses(outcome, "did you mean 'with_isotropy'?", hint="ragcun profile list")
    assert not (tmp_path / "w").exists()


def test_all_unknown_keys_and_bad_values_are_named_at_once(ragcun, tmp_path):
    outcome = ragcun(
        *("train", "--profile", "with_isotropy", "-w", tmp_path / "w"),
        *("--set", "training.batchsize=8", "--set", "training.epochs=0"),
        *("--set", "encoder.head.init=lineal"),
    )
    refuses(
        outcome, "did you mean 'training.batch_size'?", "training.epochs:", "encoder.head.init:"
    )
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "corpus.jsonl",
            '{"_id": "p1", "text": "a"}\n{"_id": "p2", \n',
            "corpus.jsonl:2: not JSON",
        ),
        ("corpus.jsonl", "", "the corpus is empty"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq1\tp9\t1\n",
            "'p9' is not in corpus.jsonl",
        ),
        ("queries.jsonl", '{"_id": "q2", "text": "a"}\n', "'q1' is not in queries.jsonl"),
    ],
)
def test_a_malformed_data_set_is_refused_by_file_and_line(
    ragcun, dataset, tmp_path, file, text, said
):
    (dataset / file).write_text(text)
    outcome = ragcun("data", "import", dataset, "--name", "mine", "-w", tmp_path / "w")
    assert outcome.code == 2
    assert said in outcome.err
    assert not list(tmp_path.glob("w/data/datasets/*"))
    assert "mine" not in ragcun("data", "list", "-w", tmp_path / "w").out


@pytest.mark.parametrize(
    ("name", "said"),
    [("nofile.csv", "nofile.csv does not exist"), ("pipe", "nor a table")],
)
def test_what_is_not_there_is_told_from_what_is_neither(ragcun, tmp_path, name, said):
    os.mkfifo(tmp_path / "pipe")
    outcome = ragcun("data", "import", tmp_path / name, "--name", "x", "-w", tmp_path / "w")
    refuses(outcome, said, hint="ragcun data import --help")


def test_an_imported_set_is_listed_verified_and_not_replaced_unasked(ragcun, dataset, tmp_path):
    arguments = ("data", "import", dataset, "--name", "mine", "-w", tmp_path / "w")
    assert ragcun(*arguments).code == 0
    listed = json.loads(ragcun("data", "list", "-w", tmp_path / "w", "--json").out)
    assert {"name": "mine", "state": "here"}.items() <= listed[-1].items()
    assert ragcun("data", "verify", "-w", tmp_path / "w").code == 0
    refuses(ragcun(*arguments), "already", hint="ragcun data import")
    (tmp_path / "w/data/datasets/mine/queries.jsonl").write_text('{"_id": "q1", "text": "odd"}\n')
    assert "changed since" in ragcun("data", "verify", "mine", "-w", tmp_path / "w").err


def test_a_workspace_that_cannot_be_written_is_refused(ragcun, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = ragcun("reproduce", "--profile", "smoke", "-w", tmp_path / "file")
    refuses(outcome, "cannot be read: Not a directory", hint="--workspace FOLDER")


@pytest.mark.parametrize("command", ["eval", "isotropy", "report"])
def test_a_workspace_without_runs_says_which_command_makes_one(ragcun, tmp_path, command):
    outcome = ragcun(command, "-w", tmp_path)
    refuses(outcome, "no finished run", hint="ragcun reproduce --profile quickstart")


def test_large_downloads_are_not_begun_unasked(ragcun, tmp_path):
    outcome = ragcun("reproduce", "--profile", "publication_minimum", "-w", tmp_path / "w")
    assert outcome.code == 2
    assert "left out: bioasq, signal1m, trec-news, robust04" in outcome.err
    assert "will run first: data msmarco (1,082 MB to download" in outcome.err
    assert "11.6 GB to download. Go on?" in outcome.err
    assert "Hint: the same command with --yes" in outcome.err
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("words", [("eval",), ("eval", "--merge"), ("isotropy",), ("reproduce",)])
def test_sets_that_need_a_licence_are_named_once_by_who_leaves_them_out(ragcun, tmp_path, words):
    outcome = ragcun(*words, "--profile", "publication_minimum", "-w", tmp_path / "w")
    assert outcome.code == 2
    assert outcome.err.count("left out: bioasq, signal1m, trec-news, robust04") == 1


def test_data_that_cannot_be_brought_is_refused_before_anything_runs(ragcun, tmp_path):
    outcome = ragcun("train", "-p", "smoke", "-w", tmp_path / "w", "--set", "data.train=mine")
    refuses(outcome, "no data set 'mine'", hint="ragcun data import FOLDER_OR_FILE --name mine")
    gated = ("--datasets", "bioasq")
    outcome = ragcun("eval", "-p", "smoke", "-w", tmp_path / "w", *gated)
    refuses(outcome, "'bioasq' needs participation", hint="ragcun data import")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "-p", "smoke", "--datasets"),
        ("data", "verify"),
        ("data", "stats"),
        ("profile", "init", "own", "--data"),
    ],
)
def test_a_mistyped_data_set_is_told_the_one_that_was_meant(ragcun, tmp_path, words):
    outcome = ragcun(*words, "smoke-nunpy", "-w", tmp_path / "w")
    said = "no data set 'smoke-nunpy' in this workspace; did you mean 'smoke-numpy'?"
    refuses(outcome, said, "data import FOLDER_OR_FILE --name smoke-nunpy", hint="ragcun data list")
    outcome = ragcun("data", "build", "smoke-nunpy", "-w", tmp_path / "w")
    refuses(outcome, "did you mean 'smoke-numpy'?", hint="ragcun data build pydocs")


def test_an_imported_set_is_one_that_may_be_meant(ragcun, dataset, tmp_path):
    here = ("-w", tmp_path / "w")
    assert ragcun("data", "import", dataset, "--name", "stdlib", *here).code == 0
    outcome = ragcun("data", "stats", "stdlb", *here)
    refuses(outcome, "did you mean 'stdlib'?", hint="ragcun data list, or ragcun data import")


def test_stale_input_is_never_used_when_prerequisites_may_not_run(ragcun, tmp_path):
    outcome = ragcun("train", "--profile", "smoke", "--no-prerequisites", "-w", tmp_path / "w")
    refuses(outcome, "data smoke", hint="the same command without --no-prerequisites", code=75)
    assert not (tmp_path / "w").exists()


def test_no_command_but_those_that_train_trains_when_prerequisites_may_not_run(ragcun, tmp_path):
    words = ("--profile", "smoke", "--experiment", "frozen_efficient", "-w", tmp_path / "w")
    assert ragcun("mine", *words).code == 0
    assert ragcun("data", "get", "-p", "smoke", "-w", tmp_path / "w").code == 0
    for command in ("eval", "isotropy"):
        outcome = ragcun(command, *words, "--no-prerequisites")
        refuses(
            outcome,
            "train frozen_efficient",
            hint="the same command without --no-prerequisites",
            code=75,
        )


BLOCKS = [
    ("--set", "training.precision=fp16", "needs a GPU", "--set training.precision=fp32"),
    ("--set", "training.batch_size=1000", "128 training rows, and a batch has 1,000", "--set"),
]
"""What stands in the way of trainings alone, which a dry run shows beside the others."""


@pytest.mark.parametrize("command", [["train"], ["reproduce", "--dry-run"]])
@pytest.mark.parametrize(
    ("option", "value", "said", "hint"),
    [
        *BLOCKS,
        ("--device", "gpu", "there is no device 'gpu'", "--device auto"),
        ("--device", "cuda:99", "device 'cuda:99' cannot be used", "--device auto"),
        ("--set", "training.epochs=true", "epochs: a whole number is needed", "ragcun profile"),
        ("--set", "encoder.output_dim=1000000", "output_dim: it has to be 65536 or", "ragcun"),
        ("--set", "training.max_steps=4294967296", "max_steps: no whole number here is", "ragcun"),
    ],
)
def test_what_cannot_be_computed_here_is_refused_before_anything_runs(
    ragcun, smoke_workspace, tmp_path, command, option, value, said, hint
):
    shutil.copytree(smoke_workspace / "data", tmp_path / "w/data")
    before = {file for file in (tmp_path / "w").rglob("*") if file.is_file()}
    outcome = ragcun(*command, "-p", "smoke", "-w", tmp_path / "w", option, value)
    if (option, value, said, hint) in BLOCKS and "--dry-run" in command:
        assert outcome.code == 0, outcome.err
        assert "train baseline_no_isotropy, seed 1 and others: blocked: " in outcome.err
        assert said in outcome.err
        assert hint in outcome.err
    else:
        refuses(outcome, said, hint=hint)
    assert {file for file in (tmp_path / "w").rglob("*") if file.is_file()} == before


def test_a_length_without_positions_is_refused_before_anything_is_mined(
    ragcun, smoke_workspace, tmp_path
):
    shutil.copytree(smoke_workspace / "data", tmp_path / "w/data")
    words = ("train", "-p", "smoke", "--seed", "1", "-w", tmp_path / "w")
    outcome = ragcun(*words, "--set", "encoder.max_seq_length=65")
    assert outcome.code == 2
    assert "encoder.max_seq_length is 65, and " in outcome.err
    assert "tiny has 64 positions" in outcome.err
    assert not list((tmp_path / "w").glob("negatives/**/*.jsonl"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "-p", "smoke", "--seed", "4294967296"], "it has to be 4294967295 or less"),
        (["train", "-p", "smoke", "--seed", "x"], "a whole number is needed"),
        (["report", "--format", "doc"], "'doc' is not one of"),
        (["data", "sample", "smoke", "--queries", "0"], "it has to be 1 or more"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_in_our_own_words(ragcun, words, said):
    outcome = ragcun(*words)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.replace("│", " ").split())
    assert "Input should" not in outcome.err
    assert "Value error" not in outcome.err


def test_a_usage_error_exits_2(ragcun):
    assert ragcun("train").code == 2
    assert ragcun("trian").code == 2


def test_output_without_a_format_is_refused(ragcun, smoke_workspace, tmp_path):
    outcome = ragcun("report", "-w", smoke_workspace, "--output", tmp_path / "x.tex")
    refuses(outcome, "--output needs a format", hint="ragcun report -f latex")
