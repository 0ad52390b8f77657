"""What a workspace keeps of its runs when something happens to their files."""

import gzip
import json
import os
import shutil

import pytest

from ragcun_cli.spec.manifest import Artifact, Manifest, digest


@pytest.fixture
def seed_folder(workspace):
    (folder,) = workspace.glob("runs/with_isotropy/*/seed-1")
    return folder


def rotted(file):
    """One bit is another, size and time as they were."""
    status, raw = file.stat(), file.read_bytes()
    file.write_bytes(bytes([*raw[:-2], raw[-2] ^ 1, raw[-1]]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("damage", ["lost", "cut", "another seed"])
def test_a_run_whose_description_is_damaged_is_named_and_described_again(
    ragcun, workspace, seed_folder, damage
):
    file = seed_folder / "run.json"
    whole = file.read_text()
    if damage == "lost":
        file.unlink()
    elif damage == "cut":
        file.write_text(whole[:100])
    else:
        file.write_text(whole.replace('"seed": 1', '"seed": 3'))
    name = seed_folder.relative_to(workspace / "runs")
    for words in (["report", "--all-runs"], ["eval", "--datasets", "smoke-numpy"], ["isotropy"]):
        shown = ragcun(*words, "-w", workspace, "--json")
        assert shown.code == 0
        assert f"left out: {name}: run.json is" in shown.err
    again = ragcun("eval", "--profile", "smoke", "-w", workspace)
    assert again.code == 0, again.err
    assert "nothing to do" in again.err
    assert file.read_text() == whole
    assert "left out" not in ragcun("report", "--all-runs", "-w", workspace, "--json").err


def test_what_a_later_version_wrote_is_refused_and_left_as_it_is(ragcun, workspace, seed_folder):
    file = seed_folder / "manifest.json"
    newer = file.read_text().replace('"schema_version": 2', '"schema_version": 3')
    file.write_text(newer)
    assert "its form is number 3" in ragcun("report", "-w", workspace).err
    for command in ("train", "eval", "reproduce"):
        outcome = ragcun(command, "--profile", "smoke", "-w", workspace)
        assert outcome.code == 2
        assert "its form is number 3" in outcome.err
        assert "Hint: pip install --upgrade ragcun" in outcome.err
    assert file.read_text() == newer


def test_a_stop_after_a_training_and_before_its_description_loses_nothing(
    ragcun, workspace, seed_folder
):
    file = seed_folder / "manifest.json"
    content = json.loads(file.read_text())
    del content["stages"]["run"]
    file.write_text(json.dumps(content))
    (seed_folder / "run.json").unlink()
    (seed_folder / ".train.draft/resume").mkdir(parents=True)
    model = (seed_folder / "model/model.safetensors").stat().st_mtime_ns
    assert ragcun("train", "--profile", "smoke", "-w", workspace).code == 0
    assert not (seed_folder / ".train.draft").exists()
    assert "left out" not in ragcun("report", "--all-runs", "-w", workspace, "--json").err
    assert (seed_folder / "model/model.safetensors").stat().st_mtime_ns == model


@pytest.mark.parametrize("command", ["eval", "isotropy"])
def test_only_train_and_reproduce_make_a_damaged_training_anew(
    ragcun, workspace, seed_folder, command
):
    weights = seed_folder / "model/3_Dense/model.safetensors"
    damaged = bytes(16) + weights.read_bytes()[16:]
    weights.write_bytes(damaged)
    outcome = ragcun(command, "--profile", "smoke", "-w", workspace, "--yes")
    assert outcome.code == 2
    said = "'train with_isotropy, seed 1' was finished, and model/3_Dense/model.safetensors was"
    assert said in outcome.err
    assert "Hint: ragcun train --profile with_isotropy --seed 1" in outcome.err
    assert weights.read_bytes() == damaged


def test_train_says_what_was_damaged_and_makes_the_same_model_of_it(ragcun, workspace, seed_folder):
    weights = seed_folder / "model/3_Dense/model.safetensors"
    whole = weights.read_bytes()
    rotted(weights)
    planned = ragcun("reproduce", "--profile", "smoke", "-w", workspace, "--dry-run", "--verify")
    assert "model/3_Dense/model.safetensors was changed after it was written" in planned.err
    outcome = ragcun("train", "--profile", "smoke", "-w", workspace, "--verify")
    assert outcome.code == 0, outcome.err
    said = "out of date: train with_isotropy, seed 1: model/3_Dense/model.safetensors was changed"
    assert said in outcome.err
    assert weights.read_bytes() == whole
    assert "nothing to do" in ragcun("eval", "--profile", "smoke", "-w", workspace).err


def test_a_rotted_seed_is_no_number_and_leaves_the_others_standing(ragcun, workspace, seed_folder):
    whole = json.loads(ragcun("report", "--profile", "smoke", "-w", workspace, "--json").out)
    rotted(seed_folder / "eval/smoke-numpy/scores.npz")
    rotted(seed_folder / "isotropy.json")
    shown = ragcun("report", "--profile", "smoke", "-w", workspace, "--json")
    assert shown.code == 0, shown.err
    assert "not measured: eval with_isotropy, seed 1 on smoke-numpy: " in shown.err
    assert "not measured: isotropy with_isotropy, seed 1: " in shown.err
    rows, before = (
        {
            row["model"]: row
            for table in content["tables"]
            if table["key"] == "results"
            for row in table["rows"]
        }
        for content in (json.loads(shown.out), whole)
    )
    assert list(rows).index("with_isotropy (1 of 2 seeds)") == list(before).index("with_isotropy")
    other = seed_folder.with_name("seed-2")
    metrics = json.loads((other / "eval/smoke-numpy/metrics.json").read_text())
    left = rows["with_isotropy (1 of 2 seeds)"]
    assert left["smoke-numpy"] == metrics["metrics"]["ndcg@10"]
    isotropy = json.loads((other / "isotropy.json").read_text())
    assert left["isotropy"]["value"] == isotropy["queries"]["plan_score"]
    assert rows["spread_out"] == before["spread_out"]


def test_eval_prints_no_number_of_a_rotted_file(ragcun, workspace, seed_folder):
    rotted(seed_folder / "eval/smoke-numpy/metrics.json")
    words = ("eval", "--profile", "smoke", "-w", workspace, "--json")
    outcome = ragcun(*words)
    assert outcome.code == 2
    assert "metrics.json was changed after it was written" in outcome.err
    assert "--verify" in outcome.err
    again = ragcun(*words, "--verify")
    assert again.code == 0, again.err
    assert ragcun(*words).out == again.out


def test_a_damaged_cache_is_named_by_every_stage_that_verifies(ragcun, workspace):
    file = next(workspace.glob("cache/bm25/*/scores.f32"))
    rotted(file)
    for command in ("mine", "train", "eval", "isotropy", "report", "reproduce"):
        outcome = ragcun(command, "--profile", "smoke", "-w", workspace, "--verify")
        assert outcome.code == 0
        assert f"the cache is damaged: {file} is not what was written" in outcome.err
    shutil.rmtree(file.parent)
    assert "damaged" not in ragcun("report", "-w", workspace, "--verify").err


def test_report_says_of_how_many_stages_it_read_all_files(ragcun, workspace, seed_folder):
    words = ("report", "--profile", "smoke", "-w", workspace)
    said = "stages whose files were all read and are intact: "
    assert said not in ragcun(*words).err
    whole = int(ragcun(*words, "--verify").err.partition(said)[2].split()[0])
    rotted(seed_folder / "eval/smoke-numpy/scores.npz")
    assert int(ragcun(*words, "--verify").err.partition(said)[2].split()[0]) == whole - 1 > 0


def test_plain_run_files_of_an_earlier_version_are_read_and_make_nothing_stale(
    ragcun, workspace, seed_folder
):
    """A finished evaluation as it was before run files were gzipped, records and all."""
    packed = seed_folder / "eval/smoke-numpy/runs/smoke-numpy.trec.gz"
    plain = packed.with_suffix("")
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    manifest = Manifest.load(seed_folder / "manifest.json")
    search, score = (manifest.stages[f"{kind}/smoke-numpy"] for kind in ("search", "eval"))
    file = Artifact.of(plain, root=seed_folder)
    inputs = [{f"search/smoke-numpy:{file.path}": file.sha256}, *score.made_of["inputs"][1:]]
    made_of = score.made_of | {"inputs": inputs}
    changed = {
        "search/smoke-numpy": search.model_copy(update={"outputs": (file,)}),
        "eval/smoke-numpy": score.model_copy(
            update={"made_of": made_of, "recipe": digest(made_of)}
        ),
    }
    for key, record in changed.items():
        manifest = manifest.with_stage(key, record)
    manifest.save(seed_folder / "manifest.json")
    words = ("--profile", "smoke", "-w", workspace)
    planned = json.loads(ragcun("reproduce", *words, "--dry-run", "--verify", "--json").out)
    pending = [stage for stage in planned["stages"] if stage["state"] != "current"]
    assert {stage["stage"] for stage in pending} <= {"report"}  # which names all of its input
    metrics = seed_folder / "eval/smoke-numpy/metrics.json"
    before = metrics.read_bytes()
    metrics.unlink()
    assert ragcun("eval", *words).code == 0
    assert metrics.read_bytes() == before
    assert plain.exists()
    assert not packed.exists()
