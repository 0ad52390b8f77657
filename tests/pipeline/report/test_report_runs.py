"""What a page says of its runs, from the manifests of a finished workspace."""

import hashlib
import shlex
import shutil
from argparse import ArgumentParser

import pytest

from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.profiles.load import load_plan, profile_of_model
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.runs import DEMONSTRATION, recipe_of
from ragcun_cli.pipeline.report.tasks import Part, answered, build_tables
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run, runs_of
from ragcun_cli.spec.manifest import Manifest
from ragcun_cli.spec.paths import Workspace

ARMS = [profile.name for profile in load_plan("smoke").experiments]


def told(root):
    """The rows of the smoke plan in a workspace, and what a page says beside them."""
    road, runner, plan = Road.of(Place(open_workspace(str(root)))), Runner(Silent()), smoke()
    rows = gather(runs_of(plan, road.place.workspace), road, runner)
    return rows, answered([Part("smoke", rows, plan)], road, runner)


def smoke():
    return load_plan("smoke")


def parsed(command):
    """The options of a command, as a shell and a parser read it."""
    program, name, *words = shlex.split(command)
    assert program == "ragcun"
    parser = ArgumentParser()
    for option in ("--profile", "--references", "--model"):
        parser.add_argument(option)
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--datasets", nargs="*")
    return name, parser.parse_args(words)


def test_every_run_is_listed_with_where_it_lies(smoke_workspace):
    rows, found = told(smoke_workspace)
    assert len(found.runs.rows) == sum(len(row.seeds) for row in rows) == 13
    columns = {column.key: place for place, column in enumerate(found.runs.columns)}
    for cells in found.runs.rows:
        assert (smoke_workspace / cells[columns["folder"]] / "manifest.json").exists()
        assert cells[columns["sets"]] == "2 of 2"
        assert cells[columns["mine"]] == "none" if cells[1] == "none" else cells[2] is not None
    assert found.runs.rows[2][columns["isotropy"]] == "none"
    (line,) = found.software
    assert line.startswith("python 3.")
    assert line.endswith(" cores: every run.")
    assert found.warnings == (DEMONSTRATION,)


def test_the_answer_is_the_one_of_the_table_of_contrasts(smoke_workspace):
    rows, found = told(smoke_workspace)
    said, differs = found.answers
    assert said in build_tables(Part("smoke", rows, smoke()))[0].notes
    assert differs.startswith(
        "with_isotropy and baseline_no_isotropy differ in training.lambda_iso"
    )


def test_digests_are_those_of_the_files_of_models_and_data_sets(smoke_workspace):
    rows, found = told(smoke_workspace)
    lines = found.digests.splitlines()
    checked = [line.split("  ", 1) for line in lines if not line.startswith("#")]
    for sha256, name in checked:
        assert hashlib.sha256((smoke_workspace / name).read_bytes()).hexdigest() == sha256
    folders = {name.split("/")[2] for _, name in checked if name.startswith("data/")}
    assert folders == {"smoke", "smoke-numpy", "smoke-sklearn"}
    trained = [seed.run for row in rows for seed in row.seeds if seed.run.reference is None]
    for run in trained:
        folder = run.folder.relative_to(smoke_workspace).as_posix()
        assert any(name.startswith(f"{folder}/model/") for _, name in checked)
    assert not any("checkpoints" in name for _, name in checked)
    assert [line for line in lines if line.endswith("weights of ragcun/tiny")]


def test_command_and_profile_of_a_row_make_its_runs_again(smoke_workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, found = told(smoke_workspace)
    assert [recipe.label for recipe in found.recipes] == [row.label for row in rows]
    for row, recipe in zip(rows, found.recipes, strict=True):
        name, options = parsed(recipe.command)
        assert name == "reproduce"
        (tmp_path / options.profile).write_text(recipe.profile, encoding="utf-8")
        plan = load_plan(options.profile)
        plan = plan.part(references=options.references, seeds=options.seed)
        again = {run.folder for run in runs_of(plan, row.run.workspace)}
        assert {seed.run.folder for seed in row.seeds} <= again
        assert plan.experiments[0] == row.run.profile


@pytest.mark.parametrize("sets", [[], ["evaluation.depth=200", "encoder.max_seq_length=64"]])
def test_the_command_of_a_named_model_names_its_settings(sets):
    named = "a model's folder"
    profile = profile_of_model(named, ["scifact", "fiqa"], sets=sets)
    run = Run(profile, None, "untouched", Workspace(root=".", data="data"))
    row = ModelRow(named, (SeedResults(run, None, {}, {}, None, {}, {}),))
    name, options = parsed(recipe_of(row).command)
    assert name == "eval"
    assert sorted(options.set) == sorted(sets)
    again = profile_of_model(options.model, options.datasets, sets=options.set)
    assert again == profile


def test_what_is_missing_or_changed_is_said_with_its_cause(smoke_workspace, tmp_path):
    root = shutil.copytree(smoke_workspace, tmp_path / "w")
    road = Road.of(Place(open_workspace(str(root))))
    runs = runs_of(smoke(), road.place.workspace)
    first, second = (run for run in runs if run.name == "with_isotropy")
    (first.folder / "eval/smoke-numpy/per_query.jsonl").unlink()
    (second.folder / "model/model.safetensors").write_bytes(b"other")
    _, found = told(root)
    demonstration, *warnings, how = found.warnings
    assert how == "The commands at the end of the page measure it."
    assert demonstration == DEMONSTRATION
    assert sorted(warnings) == [
        "Not measured: eval with_isotropy, seed 1 on smoke-numpy: "
        "eval/smoke-numpy/per_query.jsonl is missing.",
        "Not measured: train with_isotropy, seed 2: "
        "model/model.safetensors was changed after it was written.",
    ]
    cells = {row[:2]: row for row in found.runs.rows}
    assert cells["with_isotropy", 1][2] == "1 of 2"
    assert cells["with_isotropy", 2][2] == "0 of 2"
    columns = [column.key for column in found.runs.columns]
    assert cells["with_isotropy", 2][columns.index("search")] is None


def test_many_stages_with_one_cause_are_one_warning_and_what_waits_for_them_is_none(
    smoke_workspace, tmp_path
):
    root = shutil.copytree(smoke_workspace, tmp_path / "w")
    shutil.rmtree(root / "runs")
    _, found = told(root)
    _, warning, _ = found.warnings
    trained = [f"train {name}, seed {seed}" for name in ARMS for seed in (1, 2)]
    first = ["set up untouched", "set up untouched_start", "set up bm25", *trained[:3]]
    assert warning == f"Not measured: {'; '.join(first)}; and 7 more: it has not run."


def test_runs_of_another_machine_are_told_apart(smoke_workspace, tmp_path):
    root = shutil.copytree(smoke_workspace, tmp_path / "w")
    run = runs_of(smoke(), open_workspace(str(root)))[-1]
    file = run.folder / "manifest.json"
    manifest = Manifest.load(file)
    record = manifest.stages["train"].model_copy(update={"device": "another machine"})
    manifest.with_stage("train", record).save(file)
    _, found = told(root)
    first, second = found.software
    assert first.endswith(" cores: every run.")
    assert second.endswith(f" on another machine: {run.label}.")
