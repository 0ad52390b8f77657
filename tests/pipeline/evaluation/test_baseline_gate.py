"""The gate before training: what it checks, and that it stops a plan whose base is off."""

import json

import pytest

from ragcun_cli.pipeline.encoders import published as published_scores
from ragcun_cli.pipeline.encoders.tiny import TINY_ENCODER, build_tiny_encoder
from ragcun_cli.pipeline.evaluation import baseline
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.profiles.load import profile_of_model
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.manifest import file_digest

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


class Heard(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def gate(tmp_path, *sets, base=MINILM, datasets=("scifact", "smoke-numpy", "fiqa")):
    workspace = open_workspace(str(tmp_path / "ws"))
    profile = profile_of_model(base, ["scifact"], sets=sets)
    run = Run(profile, 1, None, workspace)
    road = Road.of(Place(workspace))
    return baseline.BaselineGate([run, run], road.place, road.evaluations, datasets)


def checked(gate):
    return [task.label.rpartition(" ")[2] for task in gate.tasks()]


def test_sets_with_published_scores_are_checked_once_for_each_base(tmp_path):
    assert checked(gate(tmp_path)) == ["scifact", "fiqa"]
    assert checked(gate(tmp_path, "encoder.max_seq_length=256")) == ["scifact", "fiqa"]


def test_a_copy_in_a_folder_is_checked_by_its_weights(tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    build_tiny_encoder(folder)
    assert checked(gate(tmp_path, base=str(folder))) == []
    weights = file_digest(folder / "model.safetensors")
    monkeypatch.setitem(published_scores._MODELS[MINILM], "sha256", weights)
    assert checked(gate(tmp_path, base=str(folder))) == ["scifact", "fiqa"]


@pytest.mark.parametrize(
    ("sets", "base", "datasets", "said"),
    [
        (["encoder.max_seq_length=64"], MINILM, ["scifact"], "at 64 tokens"),
        (["evaluation.similarity=dot"], MINILM, ["scifact"], "by similarity 'dot'"),
        ([], "someone/else", ["scifact"], "no published scores of 'someone/else' are known"),
        ([], MINILM, ["smoke-numpy"], "none of scifact, nfcorpus"),
    ],
)
def test_what_cannot_be_checked_is_left_out_and_said(tmp_path, sets, base, datasets, said):
    found, heard = gate(tmp_path, *sets, base=base, datasets=datasets), Heard()
    assert found.tasks() == []
    found.say_what_is_left_out(heard)
    assert len(heard.notes) == 1
    assert said in heard.notes[0]


@pytest.mark.system
def test_a_plan_whose_base_is_off_stops_before_any_training(
    ragcun, smoke_workspace, tmp_path, monkeypatch
):
    """The toy encoder is given published scores: right ones let the plan pass, others do not."""
    file = next(smoke_workspace.glob("runs/untouched/*/eval/smoke-numpy/metrics.json"))
    right = json.loads(file.read_text())["metrics"]["ndcg@10"]
    monkeypatch.setattr(baseline, "CHECKED", ("smoke-numpy",))
    encoders = published_scores._MODELS
    (tmp_path / "data").symlink_to(smoke_workspace / "data")

    def reproduce(score, *words):
        known = {"smoke-numpy": {"ndcg_at_10": score, "file": "a source", "mteb": "1.0"}}
        monkeypatch.setitem(
            encoders, TINY_ENCODER, {"max_seq_length": 32, "source": "", "scores": known}
        )
        monkeypatch.setenv("RAGCUN_DATA", str(tmp_path / "data"))
        return ragcun(
            *("reproduce", "--profile", "smoke", "--seed", "1", "-w", tmp_path / "ws", *words),
            *("--set", "training.max_steps=1", "--set", 'evaluation.datasets=["smoke-numpy"]'),
        )

    off = reproduce(right + 0.006)
    assert off.code == 3
    assert "smoke-numpy" in off.err
    models = "runs/with_isotropy/*/seed-1/model"
    assert not list((tmp_path / "ws").glob(models))
    assert reproduce(right + 0.006, "--skip-baseline-check").code == 0
    assert list((tmp_path / "ws").glob(models))
    assert reproduce(right + 0.004).code == 0
