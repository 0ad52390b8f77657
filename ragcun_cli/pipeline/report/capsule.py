"""A capsule: what the numbers of a plan rest on, in one archive that anyone can check.

It is an RO-Crate: `report.json` has the tables, `README.md` the table of artifacts, `profiles` how
to make each row again, and `workspace` what was measured, as a workspace has it.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.formats.markdown import render_markdown
from ragcun_cli.pipeline.report.licences import README
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.report.runs import recipe_of
from ragcun_cli.pipeline.report.table import Cell, Column, Table, cell_text
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import StaleInputError, WorkspaceError
from ragcun_cli.spec.manifest import Manifest, Stage, StageRecord, file_digest, replaced
from ragcun_cli.spec.plan import PaperPlan

CRATE, TABLES, INSIDE = "ro-crate-metadata.json", "report.json", "workspace"
PLAN = f"{INSIDE}/{paths.PLAN_FILE}"
RUN_END = ".trec.gz"

_TAKEN = (RUN_END, paths.METRICS_FILE, paths.PER_QUERY, paths.SCORES, paths.ISOTROPY)
"""How names of files end that have ids and numbers, and no texts."""

_CLAIMED = {"contrasts": ("contrast", "difference"), "claims": ("claim", "measured")}
"""Table -> columns of what is claimed, and of its number."""


def tested_sets(run: Run, road: Road) -> list[str]:
    """The data sets of a run that are here."""
    return [one for one in run.profile.evaluation.datasets if not road.place.sets.is_absent(one)]


def measured_tasks(runs: Sequence[Run], road: Road) -> list[Task]:
    """What the rows of runs rest on."""
    return with_needs(task for run in runs for task in road.results_of(run, tested_sets(run, road)))


def write_capsule(
    file: Path,
    plan: PaperPlan,
    rows: Sequence[ModelRow],
    tables: Sequence[Table],
    road: Road,
    runner: Runner,
) -> None:
    """Write the capsule of a plan; the same results give the same bytes.

    Raises:
        StaleInputError: a stage of the plan is missing or out of date.
        WorkspaceError: the file cannot be written.
    """
    tasks = measured_tasks([seed.run for row in rows for seed in row.every], road)
    if pending := [task.label for task in tasks if not runner.is_current(task)]:
        more = f" and {len(pending) - 5} more" * (len(pending) > 5)
        raise StaleInputError(
            f"stages of {plan.name} are missing or out of date: {', '.join(pending[:5])}{more}",
            hint=plan.command,
        )
    try:
        with TemporaryDirectory(prefix="ragcun-capsule-") as scratch:
            folder = Path(scratch)
            _fill(folder, plan, rows, tables, tasks, road, runner)
            with replaced(file) as stream, ZipFile(stream, "w") as archive:
                for name in _names(folder):
                    info = ZipInfo(name)  # of 1980, whenever it is written
                    info.compress_type, info.external_attr = ZIP_DEFLATED, 0o644 << 16
                    archive.writestr(info, (folder / name).read_bytes())
    except OSError as error:
        raise WorkspaceError(f"{file} cannot be written: {error.strerror}") from error


def _fill(
    folder: Path,
    plan: PaperPlan,
    rows: Sequence[ModelRow],
    tables: Sequence[Table],
    tasks: Sequence[Task],
    road: Road,
    runner: Runner,
) -> None:
    """Lay all that a capsule has into an empty folder."""
    actions = [_lay_out(task, folder, road, runner) for task in tasks]
    for run in [seed.run for row in rows for seed in row.every]:
        for name in tested_sets(run, road):
            _put_head(run, name, plan, folder, road, runner)
    texts = {PLAN: plan.to_json().decode(), TABLES: render_json(tables)}
    texts |= {_profile_of(row): text for row in rows if (text := recipe_of(row).profile)}
    texts[README] = readme(plan, rows, tables, tasks, runner)
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="")
    records = [record for task in tasks if (record := runner.record(task)) is not None]
    crate = _crate(plan, folder, [one for one in actions if one["result"]], records)
    (folder / CRATE).write_text(crate, encoding="utf-8", newline="")


def _names(folder: Path) -> list[str]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _home(task: Task, road: Road) -> str:
    """Folder of what a task wrote, in a capsule."""
    workspace, of_data = road.place.workspace, task.stage is Stage.DATA
    beside = task.folder.relative_to(workspace.data if of_data else workspace.root).as_posix()
    return f"{INSIDE}/{'data/' * of_data}{beside}"


def _lay_out(task: Task, folder: Path, road: Road, runner: Runner) -> dict[str, Any]:
    """Copy what has a place in a capsule of what a task wrote; the stage as an RO-Crate has it."""
    record, home = runner.record(task), _home(task, road)
    assert record is not None
    about = {key: value for key, value in record.provenance.items() if key != "host"}
    manifest = Manifest.load(folder / home / paths.MANIFEST)
    record = record.model_copy(update={"provenance": about})
    manifest.with_stage(task.key, record).save(folder / home / paths.MANIFEST)
    ends: tuple[str, ...] = _TAKEN
    if task.stage is Stage.DATA:
        ends = (paths.CORPUS_RECORD, f"{paths.QRELS}/{reported_split(task.folder.name)}.tsv")
    wrote = [output.path for output in record.outputs if output.path.endswith(ends)]
    for name in wrote:
        (folder / home / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / home / name).write_bytes((task.folder / name).read_bytes())
    return {
        "@id": f"#{home.removeprefix(f'{INSIDE}/')}/{task.key}",
        "@type": "CreateAction",
        "name": task.label,
        "description": about.get("command"),
        "instrument": {"@id": "#ragcun"},
        "startTime": about.get("started"),
        "endTime": record.finished,
        "object": [{"@id": f"{_home(one, road)}/{paths.MANIFEST}"} for one in task.needs],
        "result": [{"@id": f"{home}/{name}"} for name in wrote],
    }


def _put_head(
    run: Run, dataset: str, plan: PaperPlan, folder: Path, road: Road, runner: Runner
) -> None:
    """Put how a ranking was made before each of its files, in the form of ir-metadata.org.

    It is a gzip member of its own: what follows are the bytes that the search wrote.
    """
    search = road.evaluations.search(run, dataset)
    record = runner.record(search)
    assert record is not None
    about = defaultdict(lambda: None, record.provenance)
    base = run.profile.encoder.base if run.embeds else None
    trained_on = None if run.reference else run.profile.data.train
    facts = {"run": run, "plan": plan, "record": record, "about": about, "dataset": dataset}
    said = _data("ir_metadata.txt").format(**facts, base=base, trained_on=trained_on)
    head = gzip.compress(said.replace(": None\n", ": null\n").encode(), mtime=0)
    for file in (folder / _home(search, road) / search.outputs[0]).glob(f"*{RUN_END}"):
        if not file.read_bytes().startswith(head):  # two rows may share a run
            file.write_bytes(head + file.read_bytes())


def _crate(
    plan: PaperPlan,
    folder: Path,
    actions: Sequence[dict[str, Any]],
    records: Sequence[StageRecord],
) -> str:
    """The content of `ro-crate-metadata.json`, of what else lies in the folder."""
    document = json.loads(_data("crate.json"))
    _, root, *_, software = document["@graph"]
    parts = [
        {
            "@id": name,
            "@type": "File",
            "name": name,
            "sha256": file_digest(folder / name),
        }
        for name in _names(folder)
    ]
    software["softwareVersion"] = ", ".join(sorted({one.versions["ragcun"] for one in records}))
    root["name"] = f"Results of {plan.name}"
    root["description"] = plan.description or root["name"]
    root["datePublished"] = max(record.finished for record in records)
    root["hasPart"] = [{"@id": part["@id"]} for part in parts]
    root["mentions"] = [{"@id": action["@id"]} for action in actions]
    document["@graph"] += [*actions, *parts]
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _data(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _profile_of(row: ModelRow) -> str:
    return f"profiles/{re.sub('[^A-Za-z0-9_-]+', '-', row.name)}.toml"


def readme(
    plan: PaperPlan,
    rows: Sequence[ModelRow],
    tables: Sequence[Table],
    tasks: Collection[Task],
    runner: Runner,
) -> str:
    """The page of a capsule: what is claimed, and by which command each number is made again."""
    found = [runner.record(task) for task in tasks if task.stage is not Stage.DATA]
    records = [record for record in found if record is not None]
    minutes = sum(record.seconds for record in records) / 60
    hardware = ", ".join(sorted({record.device for record in records}))
    claims: list[tuple[Cell, ...]] = []
    for table in tables:
        of, number = _CLAIMED.get(table.key.partition("-")[0], ("", ""))
        for row in table.rows if of in [column.key for column in table.columns] else ():
            cells = zip(table.columns, row, strict=True)
            said = {column.key: cell_text(column, cell) for column, cell in cells}
            p_value = f", p {said['p_value']}" if "p_value" in said else ""
            name = f"{len(claims) + 1}. {said[of]}"
            claims.append((name, plan.command, minutes, hardware, said[number] + p_value))
    heads = ("Claim", "Command", "Minutes", "Hardware", "Number")
    columns = tuple(Column(head.lower(), head, digits=1) for head in heads)
    artifacts = Table("artifacts", "What is claimed", columns, tuple(claims))
    commands = []
    for model in rows:
        recipe, name = recipe_of(model), f"{model.run.profile.name}.toml"
        commands.append(f"- {model.shown}: `{recipe.command.replace(name, _profile_of(model))}`")
    return _data("capsule.md").format(
        plan=plan.name,
        description=plan.description,
        claims=render_markdown([artifacts]),
        commands="\n".join(commands),
    )
