"""A capsule: what the numbers of a plan rest on, in one archive that anyone can check.

It is an RO-Crate: `report.json` has the tables, `README.md` the table of artifacts, `profiles` how
to make each row again, and `workspace` what was measured, as a workspace has it.
"""

from __future__ import annotations

import gzip
import re
import shutil
import zlib
from collections.abc import Collection, Sequence
from hashlib import file_digest, sha256
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.pipeline.report.crate import Entry, crate_document, run_head
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.formats.markdown import render_markdown
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.report.runs import recipe_of
from ragcun_cli.pipeline.report.table import Cell, Column, Table, cell_text
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import StaleInputError, WorkspaceError
from ragcun_cli.spec.manifest import Manifest, Stage, replaced
from ragcun_cli.spec.plan import PaperPlan

README, CRATE, TABLES, WITHIN = "README.md", "ro-crate-metadata.json", "report.json", "workspace"
PLAN = f"{WITHIN}/{paths.PLAN_FILE}"
RUN_END = ".trec.gz"

_MEASURED = (paths.METRICS_FILE, paths.PER_QUERY, paths.SCORES, paths.ISOTROPY)
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._@+-]*/)*[A-Za-z0-9_][A-Za-z0-9._@+-]*/?")
_MOST_FILES, _MOST_TIMES, _ALWAYS = 100_000, 200, 10_000_000
"""Files of an archive; bytes that one byte of it may become; bytes that any may have."""


class _Member(NamedTuple):
    """A file of a capsule: some bytes, and those of a file after them."""

    begins: bytes
    rest: Path | None = None

    @property
    def size(self) -> int:
        return len(self.begins) + (0 if self.rest is None else self.rest.stat().st_size)

    def digest(self) -> str:
        found = sha256(self.begins)
        if self.rest is not None:
            with self.rest.open("rb") as stream:
                file_digest(stream, lambda: found)
        return found.hexdigest()


def measured_tasks(run: Run, road: Road) -> list[Task]:
    """What the rows of a run rest on, of the data sets that are here."""
    asked = run.profile.evaluation.datasets
    scores = [road.evaluations.score(run, n) for n in asked if not road.place.sets.is_absent(n)]
    found = [road.trainings.task(run), *scores, road.isotropies.task(run)]
    return with_needs(task for task in found if task is not None)


def write_capsule(
    file: Path,
    plan: PaperPlan,
    rows: Sequence[ModelRow],
    tables: Sequence[Table],
    road: Road,
    runner: Runner,
) -> None:
    """Write the capsule of a plan; the same results give the same bytes.

    Args:
        file: to be made.
        plan: that the rows are of.
        rows: that were gathered.
        tables: made of them.
        road: of their tasks.
        runner: knows which are current.

    Raises:
        StaleInputError: a stage of the plan is missing or out of date.
        WorkspaceError: the file cannot be written.
    """
    runs = [seed.run for row in rows for seed in row.every]
    tasks = {task.identity: task for run in runs for task in measured_tasks(run, road)}
    if pending := [task for task in tasks.values() if not runner.is_current(task)]:
        names = ", ".join(task.label for task in pending[:5])
        more = f" and {len(pending) - 5} more" if len(pending) > 5 else ""
        raise StaleInputError(
            f"{len(pending)} stages of {plan.name} are missing or out of date: {names}{more}",
            hint=plan.command,
        )
    members, entries = _measured(plan, runs, list(tasks.values()), road, runner)
    for row in rows:
        if (recipe := recipe_of(row)).profile:
            members[_profile_file(row)] = _Member(recipe.profile.encode())
    members[PLAN] = _Member(plan.to_json())
    members[TABLES] = _Member(render_json(tables).encode())
    members[README] = _Member(readme(plan, rows, tables, tasks.values(), runner).encode())
    listed = {name: (one.size, one.digest()) for name, one in sorted(members.items())}
    versions = {version for entry in entries for version in [entry.record.versions["ragcun"]]}
    members[CRATE] = _Member(crate_document(plan, listed, entries, sorted(versions)))
    try:
        with replaced(file) as stream, ZipFile(stream, "w") as archive:
            for name, member in sorted(members.items()):
                _add(archive, name, member)
    except OSError as error:
        raise WorkspaceError(f"{file} cannot be written: {error.strerror}") from error


def _add(archive: ZipFile, name: str, member: _Member) -> None:
    info = ZipInfo(name)  # of 1980, whenever it is written
    info.create_system, info.external_attr = 3, 0o644 << 16
    info.compress_type = ZIP_STORED if name.endswith(RUN_END) else ZIP_DEFLATED
    with archive.open(info, "w", force_zip64=member.size > 2**30) as stream:
        stream.write(member.begins)
        if member.rest is not None:
            with member.rest.open("rb") as source:
                shutil.copyfileobj(source, stream)


def _measured(
    plan: PaperPlan, runs: Sequence[Run], tasks: Sequence[Task], road: Road, runner: Runner
) -> tuple[dict[str, _Member], list[Entry]]:
    """What was measured, where a workspace has it, and which stage wrote what of it."""
    workspace = road.place.workspace
    tested = {name: run for run in runs for name in run.profile.evaluation.datasets}
    splits = {workspace.dataset(name): reported_split(name) for name in tested}
    searches = {
        road.evaluations.search(run, name).identity: (run, name)
        for run in runs
        for name in run.profile.evaluation.datasets
        if not road.place.sets.is_absent(name)
    }
    manifests: dict[str, Manifest] = {}
    members: dict[str, _Member] = {}
    entries = []
    for task in tasks:
        of_data = task.stage is Stage.DATA
        root = workspace.datasets if of_data else workspace.root
        beside = task.folder.relative_to(root).as_posix()
        folder = f"{WITHIN}/{'data/datasets/' * of_data}{beside}"
        record = runner.record(task)
        assert record is not None
        about = {key: value for key, value in record.provenance.items() if key != "host"}
        record = record.model_copy(update={"provenance": about})
        known = manifests.get(folder, Manifest())
        manifests[folder] = known.with_stage(task.key, record)
        wrote = []
        for output in record.outputs:
            name = output.path
            if goes_in(task, name, splits.get(task.folder)):
                head = b""
                if task.identity in searches:
                    head = run_head(*searches[task.identity], record, plan)
                members[f"{folder}/{name}"] = _Member(head, task.folder / name)
                wrote.append(f"{folder}/{name}")
        reads = [one.identity for one in task.needs]
        entries.append(Entry(task.identity, task.label, task.stage, record, wrote, reads))
    for folder, manifest in manifests.items():
        text = manifest.model_dump_json(indent=2) + "\n"
        members[f"{folder}/{paths.MANIFEST}"] = _Member(text.encode())
    return members, entries


def goes_in(task: Task, name: str, split: str | None) -> bool:
    """Whether a file that a task wrote has a place in a capsule: ids and numbers, no texts.

    Args:
        task: that wrote it.
        name: under its folder.
        split: of the judgements, if it is of a data set that is tested on.
    """
    if task.stage is Stage.DATA:
        ends = (paths.CORPUS_RECORD, f"{paths.QRELS}/{split}.tsv")
        return split is not None and name.endswith(ends)
    if task.stage is Stage.SEARCH:
        return name.endswith(RUN_END)
    return Path(name).name in _MEASURED and paths.MTEB not in Path(name).parts


def _profile_file(row: ModelRow) -> str:
    return f"profiles/{re.sub('[^A-Za-z0-9_.-]+', '-', row.name).strip('-.')}.toml"


# The page that people read


def readme(
    plan: PaperPlan,
    rows: Sequence[ModelRow],
    tables: Sequence[Table],
    tasks: Collection[Task],
    runner: Runner,
) -> str:
    """The page of a capsule: what it claims, and by which command each number is made again."""
    records = [runner.record(task) for task in tasks if task.stage is not Stage.DATA]
    done = [record for record in records if record is not None]
    hardware = ", ".join(sorted({record.device for record in done}))
    minutes = sum(record.seconds for record in done) / 60
    claims = [
        (*said, plan.command, minutes, hardware) for table in tables for said in _claims(table)
    ]
    columns = (
        Column("claim", "Claim"),
        Column("number", "Number"),
        Column("verdict", "Verdict"),
        Column("command", "Command"),
        Column("minutes", "Minutes", digits=1),
        Column("hardware", "Hardware"),
    )
    artifacts = Table("artifacts", "What is claimed", columns, tuple(claims))
    commands = []
    for row in rows:
        recipe, name = recipe_of(row), f"{row.run.profile.name}.toml"
        commands.append(f"- {row.shown}: `{recipe.command.replace(name, _profile_file(row))}`")
    text = files(__package__).joinpath("capsule.md").read_text("utf-8")
    return text.format(
        plan=plan.name,
        description=plan.description,
        claims=render_markdown([artifacts]) if claims else "The plan claims nothing.\n",
        commands="\n".join(commands),
    )


def _claims(table: Table) -> list[tuple[Cell, ...]]:
    """Claim, number and verdict of each row of a table that answers what the plan asks."""
    key = table.key.partition("-")[0]
    kinds = {"contrasts": ("contrast", "difference"), "claims": ("claim", "measured")}
    found: list[tuple[Cell, ...]] = []
    for row in table.rows if key in kinds else ():
        cells = zip(table.columns, row, strict=True)
        said = {column.key: cell_text(column, cell) for column, cell in cells}
        name, number = (said[column] for column in kinds[key])
        number += f", p {said['p_value']}" if "p_value" in said else ""
        found.append((f"{kinds[key][0]}: {name}", number, said["verdict"]))
    return found


# The way back


def unpack(file: Path, folder: Path) -> set[str]:
    """Lay the files of a capsule into an empty folder; their names.

    Run files are laid down as the search wrote them, without the head that a capsule gives them.

    Raises:
        WorkspaceError: it is no capsule, or one that is not unpacked for safety's sake.
    """
    try:
        with ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            _refuse_odd(file, infos)
            for info in infos:
                target = folder / info.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, target.open("xb") as stream:
                    shutil.copyfileobj(source, stream)
    except (OSError, EOFError, ValueError, zlib.error, BadZipFile, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise WorkspaceError(f"{file} cannot be read as a capsule: {why}") from error
    names = {info.filename for info in infos}
    if lacking := {CRATE, TABLES, README, PLAN} - names:
        raise WorkspaceError(
            f"{file} is no capsule of ragcun: it has no {', '.join(sorted(lacking))}",
            hint="ragcun report --profile PLAN --capsule FILE.zip",
        )
    return names


def _refuse_odd(file: Path, infos: Sequence[ZipInfo]) -> None:
    """Pass if no file would lie outside its folder or grow without bounds."""
    names = [info.filename.casefold() for info in infos]
    odd = [info.filename for info in infos if not _NAME.fullmatch(info.filename)]
    odd += [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
    size = sum(info.file_size for info in infos)
    if odd:
        raise WorkspaceError(f"{file} is not unpacked: it has a file of the name {odd[0]!r}")
    if len(infos) > _MOST_FILES or size > _MOST_TIMES * file.stat().st_size + _ALWAYS:
        raise WorkspaceError(
            f"{file} is not unpacked: {len(infos):,} files of {size:,} bytes in all"
        )


def without_head(file: Path) -> None:
    """Take the head from a run file, which leaves it as the search wrote it.

    Raises:
        ValueError: it has none, or its text is larger than that of any ranking.
    """
    first = zlib.decompressobj(wbits=31)
    content = file.read_bytes()
    head = first.decompress(content, _ALWAYS)
    if not (first.eof and head.startswith(b"# ir_metadata.start\n")):
        raise ValueError(f"{file.name} does not begin with its metadata")
    file.write_bytes(first.unused_data)
    most, size = _MOST_TIMES * len(content) + _ALWAYS, 0
    with gzip.open(file) as stream:
        while block := stream.read(1 << 20):
            if (size := size + len(block)) > most:
                raise ValueError(f"{file.name} grows beyond {most:,} bytes")
