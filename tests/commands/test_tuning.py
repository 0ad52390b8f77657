"""A plan with a grid for each of two arms: who is trained, who is tested, and what is said."""

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

KILLED = Path(__file__).with_name("killed_command.py")
DRILL = Path(__file__).parents[1] / "drills" / "stops.py"
GRIDS = {
    "tuned_isotropy": ("training.lambda_isotropy", [0.5, 1.0, 2.0]),
    "tuned_baseline": ("training.base_learning_rate", [1e-5, 1e-4, 1e-3]),
}
PLAN = """
name = "tuned"
references = ["untouched", "untouched_start"]
experiments = [
    { profile = "with_isotropy", name = "tuned_isotropy", grid = { KEY = VALUES } },
    { profile = "baseline_no_isotropy", name = "tuned_baseline", grid = { KEY = VALUES } },
]
seeds = [1]

[[contrasts]]
arm = "tuned_isotropy"
against = "tuned_baseline"
primary = true

[tuning.selection]
queries = 20
every = 2

[overrides]
demonstration = true
encoder = { base = "ragcun/tiny", max_seq_length = 32, output_dim = 16 }
data.train = "smoke"
evaluation = { datasets = ["smoke-numpy"], depth = 100 }

[overrides.training]
batch_size = 8
max_steps = 4
warmup_steps = 0.1
precision = "fp32"
sigreg.slices = 64
logging_steps = 3
probe_texts = 64
"""


@pytest.fixture
def tuned(smoke_workspace, tmp_path, monkeypatch):
    """A workspace with data and negatives, beside a plan of that name."""
    text = PLAN
    for key, values in GRIDS.values():
        text = text.replace("KEY = VALUES", f'"{key}" = {values}', 1)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "tuned.toml").write_text(text)
    root = tmp_path / "ws"
    for name in ("data", "negatives"):
        shutil.copytree(smoke_workspace / name, root / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAGCUN_WORKSPACE", str(root))
    return root


def stages(root):
    """Of each run below runs/, its folder's name and its seed: the stages that its manifest has."""
    return {
        file.parent.relative_to(root / "runs"): json.loads(file.read_text())["stages"]
        for file in root.glob("runs/**/manifest.json")
    }


def scores(root, arm):
    """What each trial of an arm scored, by its value in the run file of its folder."""
    key, _ = GRIDS[arm]
    found = {}
    for folder, recorded in stages(root).items():
        if folder.parts[0] == arm and folder.name == "seed-0" and "train" in recorded:
            run = json.loads((root / "runs" / folder / "run.json").read_text())
            value = run["profile"]["training"][key.rpartition(".")[2]]
            found[value] = (recorded["train"]["details"]["selection"]["kept"], run["trial"])
    return found


def test_only_the_chosen_cells_are_tested(ragcun, tuned):
    early = ragcun("train", "--profile", "tuned")
    assert early.code == 2
    assert "the values of tuned_isotropy are not chosen yet: 0 of 3 trials are trained" in early.err
    assert "Hint: ragcun reproduce --profile tuned --until train" in early.err
    for command in ("eval", "isotropy", "report"):
        assert ragcun(command, "--profile", "tuned").code == 2
    assert not (tuned / "runs").exists()

    outcome = ragcun("reproduce", "--profile", "tuned")
    assert outcome.code == 0, outcome.err
    chosen = {}
    for arm, (_, values) in GRIDS.items():
        found = scores(tuned, arm)
        assert {value: trial for value, (_, trial) in found.items()} == {
            value: number for number, value in enumerate(values, 1)
        }
        best = max(score for score, _ in found.values())
        chosen[arm] = next(value for value in values if found[value][0] == best)
    for folder, recorded in stages(tuned).items():
        kinds = {name.partition("/")[0] for name in recorded}
        if folder.name == "seed-0":
            assert kinds == {"run", "train"}
        elif folder.parts[0] == "untouched":
            run = json.loads((tuned / "runs" / folder / "run.json").read_text())
            assert run["profile"]["training"]["lambda_isotropy"] == 0.5  # whenever it is described
        elif folder.parts[0] != "untouched_start":
            assert kinds == {"run", "train", "search", "eval", "isotropy"}
            run = json.loads((tuned / "runs" / folder / "run.json").read_text())
            key = GRIDS[folder.parts[0]][0].rpartition(".")[2]
            assert run["profile"]["training"][key] == chosen.pop(folder.parts[0])
            assert "trial" not in run
    assert chosen == {}

    before = {file: file.stat().st_mtime_ns for file in tuned.glob("runs/tuned_*/**/manifest.json")}
    again = ragcun("reproduce", "--profile", "tuned")
    assert "nothing to do: all is current" in again.err
    everything = ragcun("eval", "--json")
    assert everything.code == 0, everything.err
    assert "left out (6): tuned_" in everything.err
    assert "trial 3: a trial chooses values, and is never tested" in everything.err
    assert {row["run"] for row in json.loads(everything.out)} == {
        *("untouched", "untouched_start", "tuned_isotropy, seed 1", "tuned_baseline, seed 1")
    }
    shown = ragcun("report", "--all-runs", "--format", "csv")
    assert shown.code == 0, shown.err
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert ragcun("train", "--profile", "tuned").code == 0
    assert not list(tuned.rglob("*.holder"))
    assert not (tuned / "running").exists()
    shows_trials(ragcun, tuned)


def shows_trials(ragcun, root):
    """In every format of the report, and as the records have them."""
    outcome = ragcun("report", "--profile", "tuned", "--format", "json")
    assert outcome.code == 0, outcome.err
    (table,) = [t for t in json.loads(outcome.out)["tables"] if t["key"] == "trials"]
    for arm, (key, values) in GRIDS.items():
        found = scores(root, arm)
        rows = [row for row in table["rows"] if row["arm"] == arm]
        assert [row["trial"] for row in rows] == [1, 2, 3]
        assert [row["values"] for row in rows] == [f"{key} = {value}" for value in values]
        assert [row["ndcg"] for row in rows] == [found[value][0] for value in values]
        best = max(row["ndcg"] for row in rows)
        first = next(row["trial"] for row in rows if row["ndcg"] == best)
        assert [row["trial"] for row in rows if row["chosen"] == "yes"] == [first]
    told = " ".join(table["notes"])
    assert "tuned_isotropy had 3 of 3 cells; tuned_baseline had 3 of 3 cells" in told
    assert "with seed 0, and scored on up to 20 queries of smoke (train)" in told
    folder = root / "reports" / "tuned"
    for extension in ("html", "md", "tex", "csv"):
        text = (folder / f"report.{extension}").read_text()
        unbroken = re.sub(r"<wbr>|[\\{}]", "", text)  # where a line of a cell may end
        assert "lambda" in unbroken.partition("tuned_isotropy")[2]
        assert unbroken.count("base_learning_rate") >= 3
    rows = list(csv.DictReader(io.StringIO((folder / "report.csv").read_text())))
    assert sum(row["table"] == "trials" for row in rows) >= 6
    assert json.loads((folder / "plan.json").read_text())["tuned"][0]["trials"][0]["score"] > 0


def test_walked_to_its_negatives_or_its_data_a_tuned_plan_leaves_nothing_undone(ragcun, tuned):
    for stage in ("data", "mine"):
        outcome = ragcun("reproduce", "--profile", "tuned", "--until", stage)
        assert outcome.code == 0, outcome.err
        assert "not done" not in outcome.err
    assert not (tuned / "runs").exists()
    assert {path.name for path in tuned.glob("negatives/smoke/*/*")} == {
        "seed-0",
        "seed-1",
        "seed-2",
    }
    outcome = ragcun("reproduce", "--profile", "tuned", "--dry-run", "--json")
    kinds = {one["stage"] for one in json.loads(outcome.out)["stages"] if one["state"] != "current"}
    assert "mine" not in kinds
    seeded = ragcun("reproduce", "--profile", "tuned", "--seed", "0")
    assert (seeded.code, "seed 0 is that of the trials" in seeded.err) == (2, True)


def test_a_tuned_plan_is_shown_and_one_arm_of_it_reproduced_alone(ragcun, tuned):
    shown = ragcun("profile", "show", "tuned", "--json")
    assert shown.code == 0, shown.err
    key, values = GRIDS["tuned_isotropy"]
    assert json.loads(shown.out)["trials"]["tuned_isotropy"] == [{key: value} for value in values]
    assert ragcun("profile", "show", "tuned").code == 0
    assert "tuned" in ragcun("profile", "list").out
    assert ragcun("profile", "init", "mine", "--plan", "--extends", "tuned").code == 0
    assert (
        json.loads(ragcun("profile", "show", "mine", "--json").out)["trials"]
        == (json.loads(shown.out)["trials"])
    )
    one = ("reproduce", "--profile", "tuned", "--experiment", "tuned_isotropy")
    outcome = ragcun(*one, "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    planned = [stage["what"] for stage in json.loads(outcome.out)["stages"]]
    trained = [what for what in planned if what.startswith("train ")]
    assert trained == [
        *(f"train tuned_isotropy, trial {number}" for number in (1, 2, 3)),
        "train tuned_isotropy, seed 1",
    ]


@pytest.mark.system
def test_a_kill_among_the_trials_changes_no_choice_and_no_byte(ragcun, tuned, tmp_path):
    spec = importlib.util.spec_from_file_location("stops", DRILL)
    drill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drill)
    whole = shutil.copytree(tuned, tmp_path / "whole")
    words = ["reproduce", "--profile", "tuned", "-w"]
    trial = "ws/runs/tuned_baseline/*/seed-0/*model.safetensors"
    done = subprocess.run(
        [sys.executable, KILLED, trial, *words, "ws"],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    trained = [folder.parts[0] for folder, recorded in stages(tuned).items() if "train" in recorded]
    assert trained.count("tuned_isotropy") == len(GRIDS["tuned_isotropy"][1])
    assert trained.count("tuned_baseline") < 3
    for root in (tuned, whole):
        outcome = ragcun(*words, root)
        assert outcome.code == 0, outcome.err
    assert drill.contents(tuned) == drill.contents(whole)
    assert any(name.startswith("runs/tuned_baseline/") for name in drill.contents(whole))
