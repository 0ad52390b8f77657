"""Cards of the models of the smoke plan, and one of them on its way to a Hub."""

import json
import re
import shutil
import tomllib

import numpy as np
import pytest
from hub_server import COMMIT, Hub, files_of
from huggingface_hub import ModelCard, constants
from sentence_transformers import SentenceTransformer

from ragcun_cli.spec.profile import RunProfile

ONE = ("--experiment", "with_isotropy", "--seed", "1")
REPO = "me/tides"


@pytest.fixture
def hub(monkeypatch):
    """A Hub that takes what is pushed, in the place of the one on the network."""
    with Hub() as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        yield hub


@pytest.fixture
def push(ragcun, smoke_workspace):
    """Call it with options to push a model of the smoke plan, or of a workspace."""

    def call(*options, workspace=smoke_workspace, profile=("--profile", "smoke")):
        return ragcun("report", *profile, "-w", workspace, "--push", REPO, *options)

    return call


def card_of(workspace, name):
    return (workspace / "reports/smoke/cards" / name / "README.md").read_text()


def run_of(workspace, name="with_isotropy", seed=1):
    (folder,) = workspace.glob(f"runs/{name}/*/seed-{seed}")
    return folder


def block(card, language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", card, flags=re.M | re.S)
    return found


def test_a_report_has_a_card_of_every_training_that_the_hub_can_read(smoke_workspace):
    cards = sorted((smoke_workspace / "reports/smoke/cards").glob("*/README.md"))
    runs = sorted(smoke_workspace.glob("runs/*/*/seed-*/model"))
    names = [f"{run.parents[2].name}-{run.parent.name}" for run in runs]
    assert [card.parent.name for card in cards] == names
    assert len(names) == 10
    for file, run in zip(cards, runs, strict=True):
        text = file.read_text()
        assert str(smoke_workspace) not in text
        data = ModelCard(text).data
        assert (data.library_name, data.pipeline_tag) == (
            "sentence-transformers",
            "sentence-similarity",
        )
        assert (data.license, data.language, data.base_model) == ("unknown", "en", None)
        for name in ("smoke-numpy", "smoke-sklearn"):
            measured = json.loads((run.parent / f"eval/{name}/metrics.json").read_text())
            row = re.search(rf"\| {name} .*", text)[0]
            assert f" {100 * measured['metrics']['ndcg@10']:.1f} [" in row


def test_the_snippet_of_a_card_runs_and_ranks_by_euclidean_distance(smoke_workspace):
    text = card_of(smoke_workspace, "with_isotropy-seed-1")
    assert "**The similarity is Euclidean distance.**" in text
    model = run_of(smoke_workspace) / "model"
    found = {}
    exec(block(text, "python").replace("FOLDER", str(model)), found)
    query, passage = (found["model"].encode(one, prompt="") for one in ("a question", "a passage"))
    assert found["scores"].item() == pytest.approx(-np.linalg.norm(query - passage), rel=1e-5)
    cosine = card_of(smoke_workspace, "standard_cosine-seed-1")
    assert "**The similarity is cosine.**" in cosine


def test_the_profile_of_a_card_is_the_profile_of_the_run(smoke_workspace):
    values = tomllib.loads(block(card_of(smoke_workspace, "with_isotropy-seed-2"), "toml"))
    run = json.loads((run_of(smoke_workspace, seed=2) / "run.json").read_text())
    assert RunProfile.model_validate(values) == RunProfile.model_validate(run["profile"])


def test_a_dry_run_shows_the_card_and_sends_nothing(push, hub, smoke_workspace):
    outcome = push(*ONE, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert outcome.out == card_of(smoke_workspace, "with_isotropy-seed-1").replace("FOLDER", REPO)
    names = files_of(run_of(smoke_workspace) / "model")
    for name, content in names.items():
        size = len(outcome.out.encode()) if name == "README.md" else len(content)
        assert f"{name}: {size:,} bytes" in outcome.err
    assert hub.asked == []


def test_one_model_is_pushed_in_one_commit_and_loads_from_there(
    push, hub, ragcun, smoke_workspace, tmp_path
):
    card = push(*ONE, "--dry-run").out
    outcome = push(*ONE)
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{hub.endpoint}/{REPO}/commit/{COMMIT}\n"
    (created,) = hub.created
    assert (created["organization"], created["name"], created["visibility"]) == (
        "me",
        "tides",
        "private",
    )
    assert hub.tokens == {"Bearer hf_mine"}
    ((message, pushed),) = hub.commits
    assert message == "with_isotropy, seed 1, by ragcun"
    model = files_of(run_of(smoke_workspace) / "model")
    assert pushed == model | {"README.md": card.encode()}
    for name, content in pushed.items():
        file = tmp_path / "there" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    there = SentenceTransformer(str(tmp_path / "there"), device="cpu")
    assert there.similarity_fn_name == "euclidean"
    planned = ragcun("reproduce", "-p", "smoke", "-w", smoke_workspace, "--dry-run", "--json")
    assert {one["state"] for one in json.loads(planned.out)["stages"]} == {"current"}


def test_no_plan_needs_be_named(push, hub):
    outcome = push(*ONE, profile=())
    assert outcome.code == 0, outcome.err
    assert len(hub.commits) == 1


def test_a_repository_that_is_there_gets_a_commit_more(push, hub):
    hub.answers[f"/api/models/{REPO}"] = json.dumps({"id": REPO}).encode()
    for count, refused in enumerate((409, 403), 1):  # 403: the token may not create others
        hub.faults["/api/repos/create"] = refused
        outcome = push(*ONE)
        assert outcome.code == 0, outcome.err
        assert len(hub.commits) == count


def test_where_several_models_are_meant_they_are_listed_and_nothing_is_sent(push, hub):
    outcome = push("--experiment", "with_isotropy")
    assert outcome.code == 2
    for seed in (1, 2):
        assert f"--experiment with_isotropy --seed {seed}" in outcome.err
    outcome = push("--experiment", "with_isotropy", "--seed", "9")
    assert outcome.code == 2
    assert "no trained model" in outcome.err
    assert hub.asked == []


@pytest.mark.parametrize(
    "words",
    [
        ("--dry-run",),
        ("--push", REPO, "--format", "latex"),
        ("--push", REPO, "--json"),
        ("--push", REPO, "--output", "x"),
        ("--push", "tides", *ONE),
        ("--push", "me/../tides", *ONE),
    ],
)
def test_options_that_mean_nothing_together_are_refused(ragcun, hub, smoke_workspace, words):
    outcome = ragcun("report", "--profile", "smoke", "-w", smoke_workspace, *words)
    assert outcome.code == 2
    assert "Error" in outcome.err
    assert hub.asked == []


@pytest.mark.parametrize(
    ("path", "fault", "said"),
    [
        ("/api/repos/create", 401, "the Hub does not know you"),
        ("/api/repos/create", 403, "your token may not write there"),
        (f"/api/models/{REPO}/commit/main", 403, "your token may not write there"),
        ("/api/validate-yaml", 400, "it was refused"),
        ("/api/repos/create", "drop", "disconnected"),
    ],
)
def test_a_hub_that_does_not_take_a_model_is_told_in_one_message(push, hub, path, fault, said):
    hub.faults[path] = fault
    outcome = push(*ONE)
    assert outcome.code == 2
    error, hint = outcome.err.strip().splitlines()[-2:]
    assert error.startswith(f"Error: {REPO} was not pushed: ")
    assert said in error
    assert hint.startswith("Hint: ")
    assert hub.commits == []


def test_no_network_and_no_token_are_told(push, hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    outcome = push(*ONE)
    assert outcome.code == 2
    assert "unset HF_HUB_OFFLINE" in outcome.err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    outcome = push(*ONE)
    assert outcome.code == 2
    assert f"{REPO} was not pushed: " in outcome.err


def test_a_model_that_was_changed_is_not_pushed(push, hub, workspace):
    model = run_of(workspace) / "model/model.safetensors"
    raw = bytearray(model.read_bytes())
    raw[-1] ^= 1
    status = model.stat()
    model.write_bytes(bytes(raw))
    shutil.os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    outcome = push(*ONE, workspace=workspace)
    assert outcome.code == 2
    assert "is not what was written" in outcome.err
    assert hub.asked == []
