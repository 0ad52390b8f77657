"""What a profile can ask of a training, through the command line."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.stages import runner
from ragcun_cli.spec.manifest import Stage

KILLED = Path(__file__).with_name("killed_command.py")


@pytest.fixture(scope="module")
def prepared(smoke_workspace, tmp_path_factory):
    """A workspace with data, encoder and negatives, and no run."""
    root = tmp_path_factory.mktemp("prepared") / "ws"
    shutil.copytree(smoke_workspace, root, ignore=shutil.ignore_patterns("runs", "reports"))
    return root


@pytest.fixture
def workspace(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "ws")


@pytest.fixture
def train(ragcun, workspace):
    """Train one experiment of the smoke plan and return what its record says."""

    def run(profile, *sets, code=0, more=()):
        overrides = Path("profiles/smoke.toml").read_text().split("[overrides]")[1]
        file = workspace / f"{profile}-plan.toml"
        file.write_text(
            f'name = "{profile}-plan"\nexperiments = ["{profile}"]\nseeds = [1]\n'
            f"references = []\n[overrides]{overrides}"
        )
        options = [option for value in sets for option in ("--set", value)]
        outcome = ragcun(
            *("train", "--profile", file, "--workspace", workspace, "--seed", "1", "--json"),
            *(*options, *more),
        )
        assert outcome.code == code, outcome.err
        if code:
            return outcome.err
        (record,) = json.loads(outcome.out)
        return {**record, "notes": outcome.err}

    return run


def log_of(record):
    file = Path(record["model"]).parent / "training_log.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def head_of(record):
    return load_file(sorted(Path(record["model"]).glob("*_Dense"))[-1] / "model.safetensors")


def steps_kept(record):
    """Of the encoders in a run's `checkpoints`."""
    folder = Path(record["model"]).parent / "checkpoints"
    return sorted(int(path.name.removeprefix("step-")) for path in folder.iterdir())


def same_weights(*models):
    files = [sorted(model.rglob("*.safetensors")) for model in models]
    return [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def losses(record):
    return [entry["loss"] for entry in log_of(record) if "loss" in entry]


def test_a_frozen_base_trains_alike_with_its_outputs_kept_and_without(train):
    """With the head's dropout, 0.1: the masks are the same."""
    kept = train("frozen_efficient")
    run = train("frozen_efficient", "training.cache_frozen_base=false")
    assert kept["frozen_base"]["texts"] > 100
    assert kept["frozen_base"]["break_even_steps"] > 0
    assert "through the frozen base in" in kept["notes"]
    assert run["frozen_base"] is None
    assert losses(kept) == pytest.approx(losses(run), rel=1e-5)
    again = train("frozen_efficient", "training.lambda_reg=0.2")
    assert again["frozen_base"]["encoded"] == 0


def test_few_steps_are_run_without_keeping_the_outputs(train):
    record = train("frozen_efficient", "training.max_steps=2")
    assert record["frozen_base"] is None
    assert "2 steps encode 64 texts, fewer than the" in record["notes"]


def test_gradient_caching_trains_as_whole_batches_do(train):
    options = ("encoder.head.dropout=0", "training.max_steps=5", "training.freeze_base=true")
    options += ("training.cache_frozen_base=false", "training.logging_steps=1")
    whole = train("with_isotropy", *options)
    parts = train("with_isotropy", *options, "training.mini_batch_size=3")
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)
    assert whole["weights"] == {"contrastive": 1.0, "isotropy": 1.0, "variance": 0.1}


def test_the_record_says_what_the_probe_saw(train):
    record = train("with_isotropy", "training.max_steps=1")
    probe = record["probe"]
    assert (probe["texts"], probe["batch_size"], probe["dimensions"]) == (64, 8, 16)
    assert sum(probe["gradient_shares"].values()) == pytest.approx(1)
    (line,) = [line for line in record["notes"].splitlines() if line.startswith("probe:")]
    assert "contrastive" in line
    assert "with --verbose" in line
    assert sum(probe["head_gradient_shares"].values()) == pytest.approx(1)
    assert list(probe["carried_over"]) == ["16", "32"]
    assert "on the head's parameters" not in record["notes"]
    said = train("with_isotropy", "training.max_steps=3", more=["--verbose"])["notes"]
    assert "  64 texts, batch 8: participation ratio" in said
    assert "on the head's parameters: contrastive" in said
    assert "a starting point for lambda_isotropy in larger batches" in said
    silent = train("with_isotropy", "training.max_steps=2", "training.probe_texts=0")
    assert silent["probe"] is None
    assert "probe:" not in silent["notes"]


def test_the_plans_checkpoints_are_kept_as_encoders(train):
    record = train("baseline_no_isotropy", "training.epochs=3", "training.max_steps=40")
    folder = Path(record["model"]).parent / "checkpoints"
    kept = sorted(folder.iterdir(), key=lambda path: int(path.name.split("-")[1]))
    assert [path.name for path in kept] == ["step-16", "step-32"]
    assert (kept[0] / "modules.json").exists()


def test_the_best_encoder_is_chosen_on_queries_held_out_of_training(train, workspace, ragcun):
    sets = ["training.selection.queries=20", "training.selection.every=5"]
    sets += ["training.selection.passages=60", "training.max_steps=15"]
    record = train("baseline_no_isotropy", *sets)
    plain = train("baseline_no_isotropy", "training.max_steps=15")
    assert record["rows"] == plain["rows"] - 20
    scores = {e["step"]: e["eval_ndcg@10"] for e in log_of(record) if "eval_ndcg@10" in e}
    assert list(scores) == [5, 10, 15]
    assert record["selected_step"] == max(scores, key=scores.get)
    assert plain["selected_step"] is None
    assert 15 in (record["selected_step"], *steps_kept(record))
    chosen = json.loads((Path(record["model"]).parent / "selection.json").read_text())
    assert len(chosen["queries"]) == 20


def test_the_last_encoder_is_scored_beside_the_best_one(train, ragcun, workspace):
    """Also where the last step is no multiple of the steps between scores."""
    sets = ["training.selection.queries=20", "training.selection.every=5"]
    sets += ["training.selection.passages=60", "training.max_steps=12"]
    record = train("baseline_no_isotropy", *sets)
    scores = {e["step"]: e["eval_ndcg@10"] for e in log_of(record) if "eval_ndcg@10" in e}
    assert list(scores) == [5, 10, 12]
    assert record["selected_step"] == max(scores, key=scores.get)
    best = max(scores.values())
    assert record["selection"] == {"queries": 20, "kept": best, "last": scores[12]}
    assert record["selected_step"] != 12
    assert steps_kept(record) == [12]
    last = Path(record["model"]).parent / "checkpoints/step-12"
    plain = train("baseline_no_isotropy", *sets, "training.selection.every=12")
    assert same_weights(last, Path(plain["model"]))
    assert not same_weights(last, Path(record["model"]))
    plan = workspace / "baseline_no_isotropy-plan.toml"
    options = [option for value in sets for option in ("--set", value)]
    words = ("-p", plan, "-w", workspace, "--seed", "1", *options)
    told = ragcun("train", *words).err
    line = f"seed 1: kept the best by nDCG@10 on 20 queries of smoke (train), {best:.4f}"
    assert f"{line} at step {record['selected_step']}; the last has {scores[12]:.4f}" in told
    tables = json.loads(ragcun("report", *words, "--format", "json").out)["tables"]
    (table,) = [table for table in tables if table["key"] == "cost"]
    assert [(row["kept"], row["last"]) for row in table["rows"]] == [(best, scores[12])]
    assert any("the best of several" in note for note in table["notes"])


def test_a_training_without_selection_says_that_it_keeps_the_last(train, ragcun, workspace):
    record = train("with_isotropy", "training.max_steps=2")
    assert (record["selected_step"], record["selection"]) == (None, None)
    plan = workspace / "with_isotropy-plan.toml"
    words = ("-p", plan, "-w", workspace, "--seed", "1", "--set", "training.max_steps=2")
    told = ragcun("train", *words).err
    assert "with_isotropy, seed 1: kept the last; --set training.selection.queries=500" in told
    tables = json.loads(ragcun("report", *words, "--format", "json").out)["tables"]
    (table,) = [table for table in tables if table["key"] == "cost"]
    assert "kept" not in table["rows"][0]


def test_a_best_encoder_survives_an_interrupt_while_it_is_moved(train, workspace, monkeypatch):
    sets = ("training.selection.queries=20", "training.selection.every=5")
    moved, replace = [], Path.replace

    def interrupted(source, target):
        if source.parent.name == ".train.draft" and ".train.draft" not in target.parts:
            moved.append(source.name)
            if len(moved) == 2:
                raise KeyboardInterrupt
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        train("baseline_no_isotropy", *sets, code=130)
    assert moved[0] == "model"
    assert len(moved) == 2
    (model,) = workspace.glob("runs/baseline_no_isotropy/*/seed-1/model")
    chosen = head_of({"model": model})
    record = train("baseline_no_isotropy", *sets)
    again = head_of(record)
    assert chosen.keys() == again.keys() != set()
    assert all(chosen[name].equal(again[name]) for name in chosen)
    scores = {e["step"]: e["eval_ndcg@10"] for e in log_of(record) if "eval_ndcg@10" in e}
    assert list(scores) == [5, 10, 15, 20]
    assert record["selected_step"] == max(scores, key=scores.get)
    assert record["steps"] == 20


def test_a_training_that_diverges_fails_and_says_where_and_what_to_run(train, workspace):
    said = train("with_isotropy", "training.projection_learning_rate=1e6", code=1)
    assert "training with_isotropy" in said
    assert "stopped: the" in said
    assert "at step 5" in said
    assert "--set training.projection_learning_rate=100000" in said
    assert not list(workspace.glob("runs/with_isotropy/*/seed-1/model"))


@pytest.mark.parametrize(("warmup", "said"), [("11", "11 steps"), ("1000", "1,000 steps")])
def test_a_warm_up_over_half_of_the_training_is_refused_before_mining(
    train, workspace, warmup, said
):
    shutil.rmtree(workspace / "negatives")
    refused = train("baseline_no_isotropy", f"training.warmup_steps={warmup}", code=2)
    assert f"a warm-up of {said} is more than half of the 20 of the whole training" in refused
    assert "--set training.warmup_steps=2" in refused
    assert not (workspace / "negatives").exists()


def test_a_share_above_one_half_is_refused_and_one_half_is_not(train):
    refused = train("baseline_no_isotropy", "training.warmup_steps=0.6", code=2)
    assert "a warm-up of 12 steps is more than half of the 20" in refused
    few = ("training.max_steps=5", "training.warmup_steps=0.5")
    assert train("baseline_no_isotropy", *few)["steps"] == 5


def test_a_warm_up_of_half_of_the_training_reaches_its_peak(train):
    sets = ("training.warmup_steps=10", "training.logging_steps=1", "training.freeze_base=true")
    rates = [entry["lr_head"] for entry in log_of(train("baseline_no_isotropy", *sets))]
    assert max(rates) == pytest.approx(5e-4)


def test_a_long_warm_up_is_refused_as_soon_as_the_rows_are_known(train, workspace, ragcun):
    """Of a set yet to be made: after it, before its mining; by --dry-run once it is here."""
    sets = ("training.epochs=1", "training.max_steps=999", "training.warmup_steps=12")
    rows = len(beir.read_qrels(workspace / "data/datasets/smoke", "train"))
    shutil.rmtree(workspace / "negatives")
    shutil.rmtree(workspace / "data/datasets/smoke")
    refused = train("baseline_no_isotropy", *sets, code=2)
    assert f"more than half of the {rows // 8} of" in refused
    assert (workspace / "data/datasets/smoke/manifest.json").exists()
    assert not (workspace / "negatives").exists()
    plan = workspace / "baseline_no_isotropy-plan.toml"
    options = [option for value in sets for option in ("--set", value)]
    outcome = ragcun("reproduce", "-p", plan, "-w", workspace, "--dry-run", *options)
    assert outcome.code == 0
    said = "blocked: baseline_no_isotropy, seed 1: a warm-up of 12 steps is more than half"
    assert f"{said} of the {rows // 8} of" in outcome.err


def test_a_warm_up_too_long_for_the_rows_that_selection_leaves_is_refused(train, workspace):
    """How many those are is known when they are read: before the base encodes anything."""
    rows = len(beir.read_qrels(workspace / "data/datasets/smoke", "train"))
    sets = ("training.epochs=1", "training.max_steps=999", f"data.max_train_queries={rows - 1}")
    sets += ("training.selection.queries=64", "training.selection.every=1")
    sets += (f"training.warmup_steps={(rows - 1) // 8 // 2}",)
    refused = train("baseline_no_isotropy", *sets, code=2)
    steps = int(refused.partition("half of the ")[2].split()[0])
    assert (rows - 65) // 8 <= steps <= (rows - 63) // 8
    assert "head start" not in refused


def test_the_commands_of_the_readme_for_ones_own_corpus_work_as_printed(
    ragcun, workspace, monkeypatch
):
    monkeypatch.chdir(workspace.parent)
    rows = [f"what is number {n} of {n % 7} tides?,tide {n % 7} has number {n}" for n in range(500)]
    Path("pairs.csv").write_text("\n".join(["query,positive", *rows]) + "\n")
    readme = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")
    block = readme.partition("**Your own corpus**")[2].partition("Where columns have other names")[
        0
    ]
    commands = [
        shlex.split(line)[1:]
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip().startswith("ragcun ")
    ]
    assert [command[0] for command in commands] == ["data", "reproduce"]
    small = ["encoder.base=ragcun/tiny", "encoder.max_seq_length=32", "encoder.output_dim=16"]
    small += ["training.precision=fp32", "training.probe_texts=0", "isotropy.max_passages=100"]
    for command in commands:
        options = [option for value in small for option in ("--set", value)]
        more = options if command[0] == "reproduce" else []
        outcome = ragcun(*command, "--workspace", workspace, *more)
        assert outcome.code == 0, outcome.err
    (log,) = workspace.glob("runs/with_isotropy/*/seed-1/training_log.jsonl")
    rates = [json.loads(line)["lr_head"] for line in log.read_text().splitlines()]
    assert max(rates) > 0.5 * 5e-4


def test_selection_on_a_reported_query_is_refused(train, workspace):
    numpy = workspace / "data/datasets/smoke-numpy"
    queries = beir.read_queries(workspace / "data/datasets/smoke")
    qrels = beir.read_qrels(workspace / "data/datasets/smoke", "train")
    text = queries[next(iter(qrels))]
    lines = (numpy / "queries.jsonl").read_text().splitlines()
    row = json.loads(lines[0]) | {"text": text}
    (numpy / "queries.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    said = train("baseline_no_isotropy", "training.selection.queries=500", code=2)
    assert "beside 500 queries of its selection: there are 0 training rows" in said
    said = train("baseline_no_isotropy", "training.selection.queries=120", code=2)
    assert "1 queries of the selection set are test queries of 'smoke-numpy'" in said
    named = train(
        "baseline_no_isotropy",
        *("training.selection.queries=5", "training.selection.dataset=smoke-numpy"),
        "training.selection.split=test",
        code=2,
    )
    assert "would choose on test queries: 'smoke-numpy', test" in named
    nano = ("training.selection.queries=5", "training.selection.dataset=nanonq")
    assert "would choose on test queries" in train("baseline_no_isotropy", *nano, code=2)


def test_accumulated_batches_come_with_a_warning(train):
    sets = ("training.gradient_accumulation_steps=4", "training.max_steps=2")
    record = train("with_isotropy", *sets)
    assert "InfoNCE and SIGReg see 8 rows at a time, not 32" in record["notes"]
    assert "--set training.batch_size=32 --set training.mini_batch_size=8" in record["notes"]


def test_a_tracker_that_is_not_installed_is_named_before_anything_runs(train, workspace):
    said = train("with_isotropy", "training.report_to=trackio", code=2)
    assert "training.report_to is 'trackio', which is not installed" in said
    assert "pip install trackio" in said


def test_prompts_of_the_base_go_before_the_texts_it_is_trained_on(train, workspace):
    encoder = workspace / "data/encoders/tiny"
    file = encoder / "config_sentence_transformers.json"
    plain = losses(train("frozen_efficient", "training.max_steps=20"))
    config = json.loads(file.read_text())
    config["prompts"] = {"query": "query: ", "document": "passage: "}
    file.write_text(json.dumps(config))
    for cached in ("true", "false"):
        record = train("frozen_efficient", f"training.cache_frozen_base={cached}")
        assert losses(record) != pytest.approx(plain, rel=1e-4)
        if cached == "true":
            expected = losses(record)
    assert losses(record) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["training.mini_batch_size=99"], "mini_batch_size 99 is larger than batch_size 8"),
        (["training.combination=convex"], "leaves 1 - lambda_isotropy for the contrastive term"),
        (["encoder.head.whitening=1.5"], "whitening"),
        (["training.contrastive=dot", "encoder.head.kind=none"], "'dot' needs the head"),
        (["training.selection.patience=1"], "patience needs training.selection.queries"),
        (["encoder.head.whitening=1", "encoder.head.init=random"], "is of the linear start"),
        (["training.selection.queries=5"], "the first score would come after 500 steps of 20"),
    ],
)
def test_values_that_do_not_go_together_are_refused(train, sets, message):
    assert message in train("with_isotropy", *sets, code=2)


def test_a_bug_in_a_training_is_no_mistake_of_the_persons(train, monkeypatch):
    def fail(optimiser, closure=None):
        raise ValueError("a bug of ours")

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    with pytest.raises(ValueError, match="a bug of ours"):
        train("with_isotropy", "training.max_steps=2")


def test_an_end_of_file_that_nobody_typed_is_a_bug_and_no_abort(train, monkeypatch):
    def fail(optimiser, closure=None):
        raise EOFError("a file that ended early")

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    with pytest.raises(RuntimeError) as raised:
        train("with_isotropy", "training.max_steps=2")
    assert isinstance(raised.value.__cause__, EOFError)


def test_a_training_whose_checkpoints_a_stop_half_deleted_can_be_repeated(
    train, workspace, monkeypatch, ragcun
):
    deleted = []

    def interrupted(path, *, dir_fd=None, rmdir=os.rmdir):
        deleted.extend([path] if path == "1_Pooling" else [])
        if len(deleted) == 2:
            raise KeyboardInterrupt
        return rmdir(path, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", interrupted)
        train("with_isotropy", code=130)
    left = list(workspace.glob("runs/*/*/seed-1/.*/resume/checkpoint-*"))
    assert left
    assert not any((folder / "1_Pooling/config.json").exists() for folder in left)
    record = train("with_isotropy")
    head = head_of(record)
    forced = ("train", "-p", workspace / "with_isotropy-plan.toml", "-w", workspace)
    outcome = ragcun(*forced, "--seed", "1", "--force", "--json")
    assert outcome.code == 0, outcome.err
    again = head_of(record)
    assert all(again[name].equal(head[name]) for name in head)
    assert not list(workspace.glob("runs/*/*/seed-1/.*/resume"))


OPTIMISER = ("optimizer", "scheduler", "rng_state", "trainer_state", "training_args", "elapsed")


def state_of_optimisers(workspace):
    """Whatever lies in the folders of runs that a training would go on from."""
    files = [path for path in (workspace / "runs").rglob("*") if path.name.startswith(OPTIMISER)]
    return [*files, *(workspace / "runs").rglob(".*.draft")]


def test_no_state_of_an_optimiser_outlives_its_training(train, workspace, monkeypatch):
    """After a kill and its end, after a training that was forced, and in what was kept aside."""
    plan, sets = (
        workspace / "with_isotropy-plan.toml",
        ("training.epochs=3", "training.max_steps=40"),
    )
    first = train("with_isotropy", *sets)
    assert state_of_optimisers(workspace) == []
    shutil.rmtree(Path(first["model"]).parent)
    written = "runs/*/*/seed-1/.train.draft/checkpoints/.step-32.draft/modules.json"
    options = [option for value in sets for option in ("--set", value)]
    done = subprocess.run(
        [sys.executable, KILLED, written, "train", "-p", plan, "-w", ".", "--seed", "1", *options],
        cwd=workspace,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(path.name.startswith("optimizer") for path in state_of_optimisers(workspace))
    record = train("with_isotropy", *sets)
    assert state_of_optimisers(workspace) == []
    assert steps_kept(record) == [16, 32]
    train("with_isotropy", *sets, more=["--force"])
    assert state_of_optimisers(workspace) == []
    raised = {Stage.TRAIN: runner.NUMBERS_VERSIONS[Stage.TRAIN] + 1}
    monkeypatch.setattr(runner, "NUMBERS_VERSIONS", runner.NUMBERS_VERSIONS | raised)
    train("with_isotropy", *sets)
    assert len(list(workspace.glob("runs/*/*/seed-1.kept-*/model"))) == 1
    assert state_of_optimisers(workspace) == []


@pytest.mark.parametrize("sets", [["training.contrastive=dot"], ["training.regulariser=vicreg"]])
def test_every_similarity_and_regulariser_trains_and_is_evaluated(train, ragcun, workspace, sets):
    record = train("with_isotropy", "training.max_steps=3", *sets)
    outcome = ragcun(
        *(
            "eval",
            "--profile",
            workspace / "with_isotropy-plan.toml",
            "-w",
            workspace,
            "--seed",
            "1",
        ),
        *("--datasets", "smoke-numpy", "--json", "--set", "training.max_steps=3"),
        *(option for value in sets for option in ("--set", value)),
    )
    assert outcome.code == 0, outcome.err
    assert len(losses(record)) == 1
    assert any(row["run"].startswith("with_isotropy") for row in json.loads(outcome.out))


@pytest.mark.system
def test_two_ranks_train_what_one_process_does(train, workspace):
    sets = ["encoder.head.dropout=0", "training.freeze_base=true", "training.logging_steps=1"]
    sets += ["training.cache_frozen_base=false", "training.max_steps=4"]
    alone = train("with_isotropy", *sets)
    expected, weights = losses(alone), head_of(alone)
    shutil.rmtree(workspace / "runs")
    options = [option for value in sets for option in ("--set", value)]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--standalone", "-m", "ragcun_cli", "train"),
        *("--profile", workspace / "with_isotropy-plan.toml", "--workspace", workspace),
        *("--seed", "1", "--json", *options),
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["ranks"] == 2
    assert losses(record) == pytest.approx(expected, rel=1e-5)
    for name, value in head_of(record).items():
        assert (value - weights[name]).norm() < 1e-4 * weights[name].norm()


def of_another_script(encoder, letters):
    """The encoder with the words of a Greek one: so many of its Latin letters become Greek."""
    file = encoder / "tokenizer.json"
    content = json.loads(file.read_text())
    greek = {chr(ord("a") + place): chr(ord("\u03b1") + place) for place in range(letters)}
    content["model"]["vocab"] = {
        "".join(greek.get(letter, letter) if word.islower() else letter for letter in word): row
        for word, row in content["model"]["vocab"].items()
    }
    file.write_text(json.dumps(content))


def test_texts_that_the_tokenizer_does_not_know_are_refused_before_training(train, workspace):
    of_another_script(workspace / "data/encoders/tiny", 26)
    said = train("with_isotropy", code=2)
    assert "% of the tokens of training texts are unknown to the tokenizer of 'ragcun/tiny'" in said


def test_a_large_share_of_unknown_tokens_is_said_before_training(train, workspace):
    of_another_script(workspace / "data/encoders/tiny", 1)
    notes = train("with_isotropy", "training.max_steps=1")["notes"]
    assert "% of the tokens of training texts are unknown to the tokenizer of ragcun/tiny" in notes


def test_a_base_serves_the_dimensions_that_the_head_reads(train, workspace):
    base = workspace / "data/encoders/tiny"
    file = base / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncate_dim": 8}))
    start = ["training.max_steps=2", "encoder.output_dim=16", "training.freeze_base=true"]
    record = train("with_isotropy", *start)
    model = SentenceTransformer(record["model"], device="cpu")
    served = SentenceTransformer(str(base), device="cpu")
    assert served.encode(["a graph"]).shape == (1, 8)
    assert model.encode(["a graph"]).shape == (1, 16)
    base_alone = SentenceTransformer(modules=list(model)[:-2], device="cpu")
    below = base_alone.encode(["a graph"], convert_to_tensor=True)
    assert torch.allclose(below, served.encode(["a graph"], convert_to_tensor=True), atol=1e-6)
    assert {tuple(values.shape) for values in head_of(record).values()} == {(16, 16), (16,)}


def test_a_trained_base_without_a_head_keeps_the_dimensions_that_it_serves(train, workspace):
    file = workspace / "data/encoders/tiny/config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncate_dim": 8}))
    start = ("encoder.head.kind=none", "training.contrastive=cosine", "training.max_steps=2")
    record = train("with_isotropy", *start)
    model = SentenceTransformer(record["model"], device="cpu")
    assert model(model.preprocess(["a graph"]))["sentence_embedding"].shape == (1, 8)


def test_a_router_is_refused_before_anything_is_mined(train, workspace):
    base = workspace / "data/encoders/tiny"
    parts = [list(SentenceTransformer(str(base), device="cpu")) for _ in range(2)]
    router = Router.for_query_document(query_modules=parts[0], document_modules=parts[1])
    SentenceTransformer(modules=[router], device="cpu").save(str(workspace / "router"))
    shutil.rmtree(workspace / "negatives")
    said = train("with_isotropy", f"encoder.base={workspace / 'router'}", code=2)
    assert "router' is a Router, a model for each side, and is not trained" in said
    assert not list(workspace.rglob("negatives.jsonl"))


def test_a_base_that_lacks_weights_is_refused_before_anything_is_mined(train, workspace):
    weights = workspace / "data/encoders/tiny/model.safetensors"
    kept = {k: v for k, v in load_file(weights).items() if "layer.1" not in k}
    save_file(kept, weights, metadata={"format": "pt"})
    shutil.rmtree(workspace / "negatives")
    assert "lacks weights that its config.json asks for" in train("with_isotropy", code=2)
    assert not list(workspace.rglob("negatives.jsonl"))
