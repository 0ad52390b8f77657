"""Whether a capsule comes out again: scores from its rankings, and tables from its scores."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from ragcun_cli.pipeline.data.tasks import DataTasks
from ragcun_cli.pipeline.evaluation.scores import write_scores
from ragcun_cli.pipeline.machine.progress import Progress, Silent
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.report import capsule
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.licences import README
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.table import Column, Table
from ragcun_cli.pipeline.report.tasks import Part, columns_of, tables_of
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.search.judged import read_judged_sets
from ragcun_cli.pipeline.stages.runner import CHANGED, Runner, Stale
from ragcun_cli.pipeline.stages.runs import Run, runs_of
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import RagcunError, WorkspaceError
from ragcun_cli.spec.manifest import Manifest, file_digest
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.plan import PaperPlan
from ragcun_cli.spec.profile import EncoderConfig

DEPTHS = {
    "runs": "Run, scores, table",
    "scores": "Scores, table",
    "record": "Table alone",
    "differs": "Differs",
}
"""How far down a number was followed: to rankings, to scores by query, to what is on record."""

_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._@+-]*/)*[A-Za-z0-9_][A-Za-z0-9._@+-]*/?")
_MOST_FILES, _MOST_TIMES, _ALWAYS = 100_000, 200, 10_000_000
"""Files of an archive; bytes that one byte of it may become; bytes that any may have."""

_MALFORMED = (
    *(RagcunError, OSError, EOFError, zlib.error, BadZipFile),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError),
)
"""What a file raises that is not what ragcun writes."""

_Flat = dict[str, Any]
"""Where a value stands -> the value."""


def check_capsule(file: Path, progress: Progress) -> dict[str, Any]:
    """Compute what a capsule holds again, in a folder that is removed.

    Returns:
        ``equal``; ``numbers``: where a number of the tables stands -> how far down it was followed,
        a key of `DEPTHS`; ``differences`` and ``notes``, in words.

    Raises:
        WorkspaceError: nothing could be compared.
    """
    numbers: dict[str, str] = {}
    with TemporaryDirectory(prefix="ragcun-capsule-") as scratch:
        folder = Path(scratch)
        _unpack(file, folder)
        check = _Check(folder, progress)
        try:
            check.hold_files()
            numbers = check.hold_numbers()
        except _MALFORMED as error:
            why = str(error).replace(f"{folder}/", "")
            if not check.differences:
                raise WorkspaceError(f"{file} does not hold what ragcun writes: {why}") from error
            check.differences.append(f"nothing beyond can be compared: {why}")
    equal = bool(numbers) and not check.differences
    found = {"differences": check.differences, "notes": check.notes}
    return {"equal": equal, "numbers": numbers} | found


def depths_table(numbers: Mapping[str, str]) -> Table:
    """How many numbers of each table of a capsule were followed how far."""
    counts = Counter((place.partition(": ")[0], depth) for place, depth in numbers.items())
    return Table(
        key="checked",
        caption="Numbers of each table, by how far down they were followed",
        columns=(Column("table", "Table"), *(Column(*pair) for pair in DEPTHS.items())),
        rows=tuple(
            (name, *(counts[name, depth] for depth in DEPTHS))
            for name in dict.fromkeys(name for name, _ in counts)
        ),
        notes=(
            "Run, scores, table: the scores were computed from the rankings, and the number from "
            "the scores. Table alone: the number is what is on record as measured, as isotropy and "
            "seconds are, which no ranking tells.",
        ),
    )


def _unpack(file: Path, folder: Path) -> None:
    """Lay the files of a capsule into an empty folder, if that can do no harm."""
    hint = "ragcun report --profile PLAN --capsule FILE.zip"
    try:
        _refuse_odd(file)
        with ZipFile(file) as archive:
            archive.extractall(folder)
        for scores in folder.rglob(paths.SCORES):
            _refuse_odd(scores)
    except (OSError, EOFError, zlib.error, BadZipFile, NotImplementedError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise WorkspaceError(f"{file} cannot be read as a capsule: {why}", hint=hint) from error
    needed = (capsule.CRATE, capsule.TABLES, README, capsule.PLAN)
    if lacking := [name for name in needed if not (folder / name).is_file()]:
        raise WorkspaceError(
            f"{file} is no capsule of ragcun: it has no {', '.join(lacking)}", hint=hint
        )


def _refuse_odd(file: Path) -> None:
    """Pass if no file of an archive would lie outside its folder, or grow without bounds."""
    with ZipFile(file) as archive:
        infos = archive.infolist()
    counts = Counter(info.filename.casefold() for info in infos)
    odd = [name for name, count in counts.items() if count > 1 or not _NAME.fullmatch(name)]
    size = sum(info.file_size for info in infos)
    if odd or len(infos) > _MOST_FILES or size > _MOST_TIMES * file.stat().st_size + _ALWAYS:
        what = f"the name {odd[0]!r}" if odd else f"{len(infos):,} files of {size:,} bytes"
        raise WorkspaceError(f"{file.name} is not unpacked, for it has {what}")


def _take_head(file: Path) -> None:
    """Leave of a run file what the search wrote, if that is no larger than a ranking can be."""
    first, content = zlib.decompressobj(wbits=31), file.read_bytes()
    if not first.decompress(content, _ALWAYS).startswith(b"# ir_metadata.start\n"):
        raise ValueError("does not begin with its metadata")
    file.write_bytes(first.unused_data)
    left = _MOST_TIMES * len(content) + _ALWAYS
    with gzip.open(file) as stream:
        while block := stream.read(1 << 20):
            if (left := left - len(block)) < 0:
                raise ValueError("has more text than a ranking can have")


class _Sets(DataTasks):
    """Data sets of which the records alone are here."""

    def _new(self, name: str) -> Task:
        return self._take_in(name, self._absent(name), size="not here")


class _Place(Place):
    """A workspace without encoders."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self.sets = _Sets(workspace)

    def encoder(self, config: EncoderConfig) -> None:
        return None


class _Runner(Runner):
    """Takes what is on record for current, and files as they are: they are checked before."""

    def _find_stale(self, task: Task) -> Stale | None:
        return None if self.record(task) is not None else Stale("absent", "it is not there")

    def read(self, task: Task, name: str) -> bytes:
        return (task.folder / name).read_bytes()


class _Check:
    """One capsule that is being checked."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder, self._progress, self._runner = folder, progress, _Runner(Silent())
        root = folder / capsule.INSIDE
        self._road = Road.of(_Place(Workspace(root, root / "data")))
        self.differences: list[str] = []
        self.notes: list[str] = []

    def _text(self, name: str) -> str:
        return (self._folder / name).read_text(encoding="utf-8")

    def hold_files(self) -> None:
        """Every file against its digest in the crate; heads of run files are taken off then."""
        parts = {one["@id"]: one for one in json.loads(self._text(capsule.CRATE))["@graph"]}
        listed = {name: one["sha256"] for name, one in parts.items() if "sha256" in one}
        here = {one.relative_to(self._folder).as_posix(): one for one in self._folder.rglob("*")}
        here = {name: one for name, one in here.items() if one.is_file() and name != capsule.CRATE}
        for name in sorted(listed.keys() | here.keys()):
            try:
                if name in here and file_digest(here[name]) != listed.get(name):
                    self.differences.append(f"{name} is not the file that {capsule.CRATE} lists")
                if name in here and name.endswith(capsule.RUN_END):
                    _take_head(here[name])
                elif name in here and name.endswith(f"/{paths.MANIFEST}"):
                    Manifest.load(here[name])
                elif name not in here and not name.endswith(capsule.RUN_END):
                    self.differences.append(f"{name} is missing")
            except _MALFORMED as error:
                self.differences.append(f"{name}: {error}".replace(f"{self._folder}/", ""))
                here[name].unlink()

    def hold_numbers(self) -> dict[str, str]:
        """Compute scores and tables again; how far down each number was followed."""
        plan = PaperPlan.from_json(self._text(capsule.PLAN).encode())
        runs = runs_of(plan, self._road.place.workspace)
        pairs = [(run, name) for run in runs for name in capsule.tested_sets(run, self._road)]
        tasks = capsule.measured_tasks(runs, self._road)
        for task in tasks:
            record = self._runner.record(task)
            for output in () if record is None else record.outputs:
                file = task.folder / output.path
                if file.is_file() and file_digest(file) != output.sha256:
                    self.differences.append(f"{task.label}: {output.path} {CHANGED}")
        lost = set()
        with self._progress.bar("scoring", total=len(pairs), unit="evaluations") as advance:
            for run, name in pairs:
                lost |= set() if self._hold_scores(run, name) else {(run.folder, name)}
                advance(1)
        rows = gather(runs, self._road, self._runner, columns_of(plan))
        tables = tables_of([Part(plan.name, rows, plan)])
        stored, again = _flat_tables(self._text(capsule.TABLES)), _flat_tables(render_json(tables))
        every = {(run.folder, name) for run, name in pairs}
        moved = [
            [
                _flat_tables(render_json(tables_of([Part(plan.name, other, plan)])))
                for other in (with_other_scores(rows, which, apart) for apart in (False, True))
            ]
            for which in (lost, every)
            if which
        ]
        of_scores, of_runs = ([], [], *moved)[-2:]
        numbers = {}
        for place, old, new in _pairs(stored, again):
            if not (equal := _same(old, new)):
                self.differences.append(
                    f"{capsule.TABLES}: {place} is {old!r}, and {new!r} comes out"
                )
            if isinstance(new if old is None else old, int | float):
                rests = [
                    any(not _same(found.get(place), new) for found in draws)
                    for draws in (of_scores, of_runs)
                ]
                depth = "scores" if rests[0] else "runs" if rests[1] else "record"
                numbers[place] = depth if equal else "differs"
        page = capsule.readme(plan, rows, tables, tasks, self._runner).splitlines()
        lines = self._text(README).splitlines()
        self.differences += [
            f"{README}: {one!r} does not come out" for one in lines if one not in page
        ]
        self.differences += [f"{README}: {one!r} is missing" for one in page if one not in lines]
        return numbers

    def _hold_scores(self, run: Run, dataset: str) -> bool:
        """Compute scores from rankings and judgements again; whether they are those on record."""
        score = self._road.evaluations.score(run, dataset)
        data = self._road.place.sets.task(dataset)
        folder, draft = score.folder / score.key, self._folder / "again"
        if not list((folder / paths.RUN_FILES).glob(f"*{capsule.RUN_END}")):
            self.notes.append(f"followed to scores alone: {score.label}: its rankings are not here")
            return False
        try:
            write_scores(
                read_judged_sets(dataset, data.folder, texts_are_here=False),
                folder,
                draft,
                depth=run.profile.evaluation.depth,
                variants=run.profile.evaluation.variants if run.embeds else (),
                settings=json.loads((folder / paths.METRICS_FILE).read_bytes())["settings"],
            )
            found = [
                f"{score.label}: {name}: {place} is {old!r}, and {new!r} comes out"
                for name in (paths.PER_QUERY, paths.METRICS_FILE, paths.SCORES)
                for place, old, new in _pairs(_read(folder / name), _read(draft / name))
                if not _same(old, new)
            ]
        except _MALFORMED as error:
            found = [f"{score.label}: {error}".replace(f"{self._folder}/", "")]
        self.differences += found
        return not found


def with_other_scores(
    rows: Sequence[ModelRow], which: Collection[tuple[Path, str]], apart: bool
) -> list[ModelRow]:
    """The rows with random scores in some evaluations: a number that then moves rests on them.

    Args:
        rows: as they are.
        which: folder of the run and data set of each.
        apart: whether the scores of each row have a height of their own. p-values are then small
            and otherwise large, so that one which stands at an end of its range moves in one case.
    """
    noise = 0.01 if apart else 1.0

    def other(value: Any, rng: np.random.Generator, height: float) -> Any:  # noqa: ANN401
        if isinstance(value, Mapping):
            kept = {key: one for key, one in value.items() if key == "settings"}
            return {key: other(value[key], rng, height) for key in sorted(value)} | kept
        if isinstance(value, np.ndarray):
            return height * (1.0 - noise * rng.random(value.shape))
        number = isinstance(value, int | float)
        return height * (1.0 - noise * rng.random()) if number else value

    def changed(seed: SeedResults, height: float) -> SeedResults:
        metrics, scores = dict(seed.metrics), dict(seed.scores)
        rng = np.random.default_rng(zlib.crc32(seed.run.label.encode()))
        for name in sorted(name for name in metrics if (seed.run.folder, name) in which):
            metrics[name] = other(metrics[name], rng, height)
            scores[name] = replace(scores[name], values=other(scores[name].values, rng, height))
        return replace(seed, metrics=metrics, scores=scores)

    heights = np.linspace(1.0, 0.1 if apart else 1.0, len(rows))
    return [
        replace(row, seeds=tuple(changed(seed, height) for seed in row.seeds))
        for row, height in zip(rows, heights.tolist(), strict=True)
    ]


# Values by where they stand


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    if not isinstance(value, Mapping | list):
        yield place, value
        return
    for key, one in value.items() if isinstance(value, Mapping) else enumerate(value, 1):
        yield from _flat(one, f"{place}, {key}" if place else str(key))


def _flat_tables(text: str) -> _Flat:
    """Every value of a `report.json`, but the licences: those are the words of others."""
    found: _Flat = {}
    for table in json.loads(text)["tables"]:
        heads = [column["key"] for column in table["columns"]][: table["heading_columns"]]
        for row in table.pop("rows"):
            name = " / ".join(str(row.pop(key)) for key in heads)
            found |= _flat(row, f"{table['key']}: {name}")
        found |= {place: str(one) for place, one in _flat(table, f"{table['key']}: its")}
    return {place: one for place, one in found.items() if not place.startswith("licences: ")}


def _read(file: Path) -> _Flat:
    """Every value of a file of scores."""
    content = file.read_bytes()
    if file.suffix == ".npz":
        with np.load(io.BytesIO(content)) as arrays:
            return dict(_flat({name: arrays[name].tolist() for name in arrays.files}))
    if file.suffix == ".json":
        return dict(_flat(json.loads(content)))
    rows = map(json.loads, content.decode().splitlines())
    return dict(_flat({f"{row.get('part', '')} {row['query']}".strip(): row for row in rows}))


def _pairs(stored: _Flat, again: _Flat) -> list[tuple[str, Any, Any]]:
    """Place, and what stands there in each; None where nothing does."""
    places = dict.fromkeys([*stored, *again])
    return [(place, stored.get(place), again.get(place)) for place in places]


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Whether values are equal, numbers to nine digits: machines differ in the last."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return type(one) is type(other) and bool(one == other)
