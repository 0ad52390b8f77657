"""`reproduce --dry-run`: what is said of a plan before anything of it runs."""

import json
import math
import subprocess
import sys

import pytest

from ragcun_cli.pipeline.data.sources import BEIR, GATED
from ragcun_cli.pipeline.profiles import load

HEAVY = {"torch", "transformers", "sentence_transformers", "scipy", "matplotlib", "datasets"}
PUBLIC = [name for name in BEIR if name not in GATED]


@pytest.fixture
def planned(ragcun, tmp_path):
    def plan(profile, *words, workspace=tmp_path / "empty"):
        outcome = ragcun("reproduce", "-p", profile, "-w", workspace, "--dry-run", "--json", *words)
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)

    return plan


def by_name(found):
    return {stage["what"]: stage for stage in found["stages"]}


def test_the_paper_is_estimated_without_a_network_or_torch(tmp_path):
    code = f"""
import json, socket, sys
def none(*args, **kwargs):
    raise OSError("there is no network")
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, none)
socket.getaddrinfo = none
from ragcun_cli.app import main
sys.argv = ["ragcun", "reproduce", "-p", "publication", "-w", {str(tmp_path / "w")!r}, "--dry-run"]
sys.argv.append("--json")
try:
    main()
except SystemExit:
    pass
print(json.dumps(sorted({HEAVY!r} & set(sys.modules))), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert not (tmp_path / "w").exists()
    found = json.loads(done.stdout)
    stages = by_name(found)
    assert len(stages) > 700
    for name, stage in stages.items():
        assert stage["state"] in ("to run", "blocked"), name
        assert stage["seconds"] > 0 or stage["stage"] in ("data", "train"), name
        assert stage["ram_bytes"] > 1e8, name
        assert stage["rate"] == "guessed", name
    for name in PUBLIC:
        assert stages[f"data {name}"]["download_bytes"] == BEIR[name].zip_bytes
        if name != "msmarco":
            searched = stages[f"search untouched on {name}"]["size"]
            assert searched == f"{BEIR[name].passages:,} passages"
    loaded = sum(BEIR[name].zip_bytes for name in PUBLIC)
    assert found["kinds"]["data"]["download_bytes"] == loaded
    whole, kinds = found["kinds"].pop("in all"), found["kinds"].values()
    for key in ("to run", "blocked", "download_bytes"):
        assert whole[key] == sum(kind[key] for kind in kinds), key
    assert whole["seconds"] == pytest.approx(sum(kind["seconds"] for kind in kinds))
    assert "work for one: ragcun reproduce --profile publication --dry-run --gpu t4" in "".join(
        found["notes"]
    )


def test_what_needs_a_licence_is_blocked_and_costs_nothing(planned):
    found = planned("publication_minimum", "--gpu", "t4")
    stages = by_name(found)
    blocked = {name for name, stage in stages.items() if stage["state"] == "blocked"}
    assert {name for name in blocked if name.startswith("data")} == {f"data {n}" for n in GATED}
    for name in GATED:
        assert f"eval with_isotropy, seed 1 on {name}" in blocked
        assert BEIR[name].obtain in stages[f"eval with_isotropy, seed 1 on {name}"]["why"]
    run = [stage["seconds"] for stage in found["stages"] if stage["state"] == "to run"]
    assert found["kinds"]["in all"]["seconds"] == pytest.approx(math.fsum(run), rel=1e-6)


def test_a_frozen_base_encodes_each_set_once(planned):
    """Every head was said to take as long as the base."""
    stages = by_name(planned("quickstart", "--seed", "1", "--seed", "2"))
    first = stages["search untouched on pydocs-numpy"]["seconds"]
    trained = stages["search with_isotropy, seed 1 on pydocs-numpy"]["seconds"]
    heads = [
        stages[f"search frozen_efficient, seed {s} on pydocs-numpy"]["seconds"] for s in (1, 2)
    ]
    assert first == pytest.approx(trained, rel=0.1)
    assert max(heads) < first / 20


def test_kept_outputs_beyond_the_cache_are_computed_each_time(planned):
    found = planned("publication", "--gpu", "h100")
    stages = by_name(found)
    first, second = (
        stages[f"search frozen_efficient, seed {seed} on fever"]["seconds"] for seed in (1, 2)
    )
    assert first == second > 1000
    assert any("--cache-gb 9" in note for note in found["notes"])


def test_rates_of_finished_stages_correct_the_guesses(
    planned, ragcun, smoke_workspace, monkeypatch
):
    done = planned("smoke", workspace=smoke_workspace)
    assert {stage["state"] for stage in done["stages"]} == {"current"}
    anew = ("--set", "training.scale=11")
    short = planned("smoke", *anew, workspace=smoke_workspace)
    assert {stage["rate"] for stage in short["stages"] if stage["state"] == "to run"} == {"guessed"}
    monkeypatch.setattr("ragcun_cli.pipeline.reproduce.dry_run.TELLING", 0.0)
    guessed, measured = planned("smoke", *anew), planned("smoke", *anew, workspace=smoke_workspace)
    took = {"train": 0.0, "isotropy": 0.0}
    for file in smoke_workspace.glob("runs/*/*/seed-*/manifest.json"):
        for key, record in json.loads(file.read_text())["stages"].items():
            if (kind := key.partition("/")[0]) in took:
                took[kind] += record["seconds"]
    for kind, seconds in took.items():
        run = [
            stage
            for stage in measured["stages"]
            if stage["what"].startswith(f"{kind} ") and stage["state"] == "to run"
        ]
        assert {stage["rate"] for stage in run} == {"measured here"}
        # References are of the same pace and not of these seconds.
        assert sum(stage["seconds"] for stage in run) == pytest.approx(seconds, rel=0.5)
    assert {stage["rate"] for stage in guessed["stages"]} == {"guessed"}
    (note,) = (note for note in measured["notes"] if "measured here" in note)
    assert "60 by rates measured here, 1 guessed" in note


def test_money_is_hours_times_the_price_and_a_faster_card_is_not_slower(planned):
    hours = []
    for gpu in ("t4", "v100", "a100", "h100"):
        whole = planned("publication_minimum", "--gpu", gpu, "--price-per-hour", "0.5")
        whole = whole["kinds"]["in all"]
        hours.append(whole["seconds"] / 3600)
        assert whole["money"] == pytest.approx(hours[-1] * 0.5, rel=1e-6)
        assert whole["gpu_bytes"] > 5e9
    assert hours == sorted(hours, reverse=True)


def test_a_batch_that_no_card_holds_is_named_with_one_that_fits(planned):
    big = ("--experiment", "with_isotropy", "--set", "training.batch_size=512", "--gpu", "t4")
    stage = by_name(planned("publication_minimum", *big))["train with_isotropy, seed 1"]
    assert stage["gpu_bytes"] > 16e9
    said = "fp16: no bf16 there: --set training.precision=fp16; does not fit: "
    assert stage["note"].startswith(f"{said}--set training.mini_batch_size=")
    size = stage["note"].rpartition("=")[2]
    part = planned("publication_minimum", *big, "--set", f"training.mini_batch_size={size}")
    stage = by_name(part)["train with_isotropy, seed 1"]
    assert stage["gpu_bytes"] <= 14.4e9
    assert "does not fit" not in stage["note"]


def test_the_original_plans_figures_stand_beside_its_two_plans_alone(planned):
    notes = {name: "\n".join(planned(name)["notes"]) for name in ("publication", "quickstart")}
    notes["least"] = "\n".join(planned("publication_minimum")["notes"])
    assert (
        "15 to 18 days on one T4, about $150, or 6 days on three GPUs, about $200"
        in (notes["publication"])
    )
    assert "10 to 12 days on one T4, about $100, 35 GB of disk" in notes["least"]
    assert "original plan" not in notes["quickstart"]


@pytest.mark.parametrize("profile", sorted(load.profile_files()))
def test_every_profile_has_a_dry_run(ragcun, tmp_path, profile):
    words = ("reproduce", "-p", profile, "-w", tmp_path / "w", "--dry-run")
    outcome = ragcun(*words)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"Plan {profile}")
    assert max(map(len, outcome.out.splitlines())) <= 90
    every = ragcun(*words, "--stages", "--gpu", "l4", "--price-per-hour", "1")
    assert every.code == 0, every.err
    assert "Every stage" in every.out
    assert "report " in every.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu", "t4"], "--gpu and --price-per-hour are for --dry-run"),
        (["--price-per-hour", "1"], "--gpu and --price-per-hour are for --dry-run"),
        (["--dry-run", "--gpu", "k80"], "no figures of a GPU 'k80'"),
        (["--dry-run", "--price-per-hour", "nan"], "it has to be 1000000.0 or less"),
        (["--dry-run", "--price-per-hour", "inf"], "it has to be 1000000.0 or less"),
    ],
)
def test_what_no_estimate_can_be_made_of_is_refused(ragcun, tmp_path, words, said):
    outcome = ragcun("reproduce", "-p", "smoke", "-w", tmp_path / "w", *words)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.replace("│", " ").split())
    assert not (tmp_path / "w").exists()
