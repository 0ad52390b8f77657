"""Whether a capsule comes out again: scores from its rankings, and tables from its scores."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from zipfile import BadZipFile
from zlib import crc32

import numpy as np

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sets.records import read_record
from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.pipeline.data.tasks import DataTasks
from ragcun_cli.pipeline.encoders.find import FoundEncoder
from ragcun_cli.pipeline.evaluation.scores import write_scores
from ragcun_cli.pipeline.evaluation.tasks import recorded
from ragcun_cli.pipeline.machine.progress import Progress, Silent
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.report.capsule import (
    CRATE,
    PLAN,
    README,
    RUN_END,
    TABLES,
    WITHIN,
    measured_tasks,
    readme,
    unpack,
    without_head,
)
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.table import Column, Table
from ragcun_cli.pipeline.report.tasks import Part, columns_of, tables_of
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.stages.runner import CHANGED, Runner, Stale
from ragcun_cli.pipeline.stages.runs import Run, runs_of
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import RagcunError, WorkspaceError
from ragcun_cli.spec.manifest import Manifest, digest_once
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.plan import PaperPlan
from ragcun_cli.spec.profile import EncoderConfig

DEPTHS = {
    "runs": "Run, scores, table",
    "scores": "Scores, table",
    "records": "Table alone",
    "differs": "Differ",
}
"""How far down a number was followed: to rankings, to scores by query, to what was recorded."""

_LICENCES = "licences"
"""A table of words, which are those of others."""

_Flat = dict[str, Any]
"""Where a value stands -> the value."""

_Evaluations = Collection[tuple[Path, str]]
"""Folder of a run and a data set, of each."""


@dataclass(frozen=True)
class Checked:
    """What was found out about a capsule."""

    numbers: Mapping[str, str]
    """Where a number of the tables stands -> how far down it was followed, a key of `DEPTHS`."""
    differences: Sequence[str]
    notes: Sequence[str]
    """Why numbers were followed less far than others."""
    made_with: str

    def table(self) -> Table:
        """How many numbers of each table were followed how far."""
        counts: dict[str, Counter[str]] = {}
        for place, depth in self.numbers.items():
            counts.setdefault(place.partition(": ")[0], Counter())[depth] += 1
        return Table(
            key="checked",
            caption="Numbers of each table, by how far down they were followed",
            columns=(Column("table", "Table"), *(Column(*pair) for pair in DEPTHS.items())),
            rows=tuple((name, *(of[depth] for depth in DEPTHS)) for name, of in counts.items()),
            notes=(
                "Run, scores, table: the scores were computed from the rankings, and the number "
                "from the scores. Table alone: the number is the one on record of what was "
                "measured, as isotropy and seconds are, which no ranking tells.",
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """The same as JSON."""
        equal = not self.differences
        return {"equal": equal, "made_with": self.made_with, "numbers": dict(self.numbers)} | {
            "differences": [*self.differences],
            "notes": [*self.notes],
        }


def check_capsule(file: Path, progress: Progress) -> Checked:
    """Compute what a capsule holds again, in a folder that is removed.

    Raises:
        WorkspaceError: nothing could be compared.
    """
    with TemporaryDirectory(prefix="ragcun-capsule-") as scratch:
        folder = Path(scratch)
        names = unpack(file, folder)
        try:
            return _Check(folder, names, progress).run()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WorkspaceError(
                f"{file}: what it holds is not what ragcun writes: {error}"
            ) from error


class _RecordedSets(DataTasks):
    """Data sets of which the records alone are here."""

    def _new(self, name: str) -> Task:
        return self._take_in(name, self._absent(name), size="not here")


class _RecordedPlace(Place):
    """A workspace without encoders."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self.sets = _RecordedSets(workspace)

    def encoder(self, config: EncoderConfig) -> FoundEncoder | None:
        return None


class _RecordedRunner(Runner):
    """Takes what is on record for current: whether it is as written is asked of each file."""

    def _find_stale(self, task: Task) -> Stale | None:
        return None if self.record(task) is not None else Stale("absent", "it is not there")

    def read(self, task: Task, name: str) -> bytes:
        try:
            return (task.folder / name).read_bytes()
        except OSError as error:
            raise WorkspaceError(f"{name} cannot be read: {error.strerror}") from error


class _Check:
    """One capsule that is being checked."""

    def __init__(self, folder: Path, names: set[str], progress: Progress) -> None:
        self._folder, self._names, self._progress = folder, names, progress
        self._plan = PaperPlan.from_json((folder / PLAN).read_bytes())
        workspace = Workspace(folder / WITHIN, folder / WITHIN / "data")
        self._road = Road.of(_RecordedPlace(workspace))
        self._runner = _RecordedRunner(Silent())
        self._differences: list[str] = []
        self._notes: list[str] = []

    def run(self) -> Checked:
        crate = {one["@id"]: one for one in json.loads(self._text(CRATE))["@graph"]}
        versions = {one["softwareVersion"] for one in crate.values() if "softwareVersion" in one}
        made_with = f"ragcun {', '.join(sorted(versions))}"
        self._hold_digests(crate)
        if changed := self._changed_records():
            return Checked({}, [*self._differences, *changed], (), made_with)
        runs = runs_of(self._plan, self._road.place.workspace)
        tasks = {t.identity: t for run in runs for t in measured_tasks(run, self._road)}
        self._hold_records(list(tasks.values()))
        lost: set[tuple[Path, str]] = set()
        every: set[tuple[Path, str]] = set()
        asked = [(run, name) for run in runs for name in run.profile.evaluation.datasets]
        with self._progress.bar("scoring", total=len(asked), unit="evaluations") as advance:
            for run, name in asked:
                if self._runner.record(self._road.evaluations.score(run, name)) is not None:
                    every.add((run.folder, name))
                    lost |= set() if self._hold_scores(run, name) else {(run.folder, name)}
                advance(1)
        rows = gather(runs, self._road, self._runner, columns_of(self._plan))
        numbers = self._hold_tables(rows, tasks, every, lost)
        return Checked(numbers, self._differences, self._notes, made_with)

    def _text(self, name: str) -> str:
        return (self._folder / name).read_text(encoding="utf-8")

    def _hold_digests(self, crate: Mapping[str, Mapping[str, Any]]) -> None:
        """Every file against its sha256 in the crate; heads of run files are taken off then."""
        listed = {name: one["sha256"] for name, one in crate.items() if "sha256" in one}
        for name in sorted(listed.keys() | self._names - {CRATE}):
            file, run = self._folder / name, name.endswith(RUN_END)
            if name not in self._names:
                if not run:
                    self._differences.append(f"{name} is missing")
                continue
            if sha256(file.read_bytes()).hexdigest() != listed.get(name):
                what = "not the file that" if name in listed else "a file that is not in"
                end = " describes" if name in listed else ""
                self._differences.append(f"{name} is {what} {CRATE}{end}")
            if run:
                try:
                    without_head(file)
                except (ValueError, OSError, EOFError) as error:
                    self._differences.append(f"{name}: {error}")
                    file.unlink()

    def _changed_records(self) -> list[str]:
        """What is wrong with manifests: nothing can be followed through one that was changed."""
        found = []
        for name in sorted(name for name in self._names if name.endswith(f"/{paths.MANIFEST}")):
            try:
                Manifest.load(self._folder / name)
            except WorkspaceError as error:
                found.append(self._within(str(error)))
        return found

    def _hold_records(self, tasks: Sequence[Task]) -> None:
        """Every file against what the manifest of its stage says of it."""
        for task in tasks:
            record = self._runner.record(task)
            for output in () if record is None else record.outputs:
                file = task.folder / output.path
                if file.is_file() and digest_once(file) != output.sha256:
                    self._differences.append(f"{task.label}: {output.path} {CHANGED}")

    def _hold_scores(self, run: Run, dataset: str) -> bool:
        """Compute scores from rankings and judgements again; whether they are those on record."""
        score, data = (
            self._road.evaluations.score(run, dataset),
            self._road.place.sets.task(dataset),
        )
        folder = score.folder / score.key
        if not list((folder / paths.RUN_FILES).glob(f"*{RUN_END}")):
            return self._less(f"{score.label}: its rankings are not in the capsule")
        if recorded(data).get("pages"):
            return self._less(f"{score.label}: scores of pages rest on more than judgements")
        files = (paths.PER_QUERY, paths.METRICS_FILE, paths.SCORES)
        try:
            metrics = json.loads((folder / paths.METRICS_FILE).read_bytes())
            draft = self._folder / "again"
            config = run.profile.evaluation
            write_scores(
                _judged_sets(dataset, data.folder),
                folder,
                draft,
                depth=config.depth,
                variants=config.variants if run.embeds else (),
                settings=metrics["settings"],
            )
            found = [
                f"{score.label}: {name}: {where} is {a!r}, and its rankings give {b!r}"
                for name in files
                for where, a, b in _unequal(_read(folder / name), _read(draft / name))
            ]
        except (RagcunError, ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            found = [f"{score.label}: cannot be computed again: {self._within(str(error))}"]
        self._differences += found
        return not found

    def _less(self, why: str) -> bool:
        self._notes.append(f"Not followed to rankings: {why}.")
        return False

    def _within(self, text: str) -> str:
        return text.replace(f"{self._folder}/", "")

    def _hold_tables(
        self,
        rows: Sequence[ModelRow],
        tasks: Mapping[Any, Task],
        every: _Evaluations,
        lost: _Evaluations,
    ) -> dict[str, str]:
        """Compute the tables again; how far down each of their numbers was followed."""
        stored = _flat_tables(self._text(TABLES))
        tables, again = self._tables(rows)
        by_scores = self._tables(_with_other_scores(rows, every))[1]
        by_lost = self._tables(_with_other_scores(rows, lost))[1] if lost else again
        numbers = {}
        for place in stored.keys() | again.keys():
            old, new = stored.get(place), again.get(place)
            if not (equal := _same(old, new)):
                self._differences.append(f"{TABLES}: {place} is {old!r}, and is {new!r} again")
            if isinstance(new if old is None else old, int | float):
                moved = [not _same(found.get(place), new) for found in (by_lost, by_scores)]
                depth = "scores" if moved[0] else "runs" if moved[1] else "records"
                numbers[place] = depth if equal else "differs"
        page = readme(self._plan, rows, tables, [*tasks.values()], self._runner)
        if page != self._text(README):
            old, new = set(self._text(README).splitlines()), set(page.splitlines())
            self._differences += [f"{README}: not so again: {line.strip()}" for line in old - new]
            self._differences += [f"{README}: lacks: {line.strip()}" for line in new - old]
        return dict(sorted(numbers.items()))

    def _tables(self, rows: Sequence[ModelRow]) -> tuple[list[Table], _Flat]:
        tables = tables_of([Part(self._plan.name, rows, self._plan)])
        return tables, _flat_tables(render_json(tables))


def _judged_sets(name: str, folder: Path) -> list[JudgedSet]:
    """The judgements of a data set, with as many passages as it has; their texts are elsewhere."""
    parts = beir.parts(folder)
    own, split = paths.dataset_folder(name), reported_split(name)
    names = [own] if parts == [folder] else [f"{own}/{part.name}" for part in parts]
    return [
        JudgedSet(
            called,
            cast(Corpus, range(read_record(part).passages)),
            {},
            beir.read_qrels(part, split),
            part,
        )
        for called, part in zip(names, parts, strict=True)
    ]


def _with_other_scores(rows: Sequence[ModelRow], which: _Evaluations) -> list[ModelRow]:
    """The rows with random scores in some evaluations: a number that then moves rests on them."""

    def other(value: Any, rng: np.random.Generator) -> Any:  # noqa: ANN401
        if isinstance(value, Mapping):
            return {key: other(one, rng) for key, one in value.items()}
        return rng.random() if isinstance(value, int | float) else value

    def changed(seed: SeedResults) -> SeedResults:
        kept = ("settings", "queries", "passages", "dataset")
        names = {name for folder, name in which if folder == seed.run.folder}
        scores, metrics = dict(seed.scores), dict(seed.metrics)
        for name in sorted(names & metrics.keys()):
            rng = np.random.default_rng(crc32(f"{seed.run.label} {name}".encode()))
            columns = scores[name].values.items()
            values = {
                key: {part: rng.random(of.shape) for part, of in by.items()} for key, by in columns
            }
            scores[name] = replace(scores[name], values=values)
            found = metrics[name].items()
            metrics[name] = {key: one if key in kept else other(one, rng) for key, one in found}
        return replace(seed, scores=scores, metrics=metrics)

    return [
        replace(row, seeds=(*map(changed, row.seeds),), left_out=(*map(changed, row.left_out),))
        for row in rows
    ]


# Values by where they stand


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    pairs: Any = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value, 1)
    else:
        yield place, value
    for key, one in pairs:
        yield from _flat(one, f"{place}, {key}" if place else str(key))


def _flat_tables(text: str) -> _Flat:
    """Every value of the tables of a `report.json`, by table, row and column."""
    found: _Flat = {}
    for table in json.loads(text)["tables"]:
        if table["key"] == _LICENCES:
            continue
        keys = [column["key"] for column in table["columns"]]
        heads = keys[: table["heading_columns"]]
        for row in table["rows"]:
            name = " / ".join(str(row[key]) for key in heads)
            cells = {key: cell for key, cell in row.items() if key not in heads}
            found |= dict(_flat(cells, f"{table['key']}: {name}"))
        rest = {key: one for key, one in table.items() if key != "rows"}
        found |= {where: str(one) for where, one in _flat(rest, f"{table['key']}: its")}
    return found


def _read(file: Path) -> _Flat:
    """Every value of a file of scores."""
    content = file.read_bytes()
    if file.suffix == ".npz":
        with np.load(io.BytesIO(content)) as arrays:
            return dict(_flat({name: arrays[name].tolist() for name in arrays.files}))
    if file.suffix == ".json":
        return dict(_flat(json.loads(content)))
    found: _Flat = {}
    for line in content.decode().splitlines():
        row = json.loads(line)
        found |= dict(_flat(row, f"{row.get('part', '')} {row['query']}".strip()))
    return found


def _unequal(stored: _Flat, again: _Flat) -> list[tuple[str, Any, Any]]:
    return [
        (place, stored.get(place), again.get(place))
        for place in sorted(stored.keys() | again.keys())
        if not _same(stored.get(place), again.get(place))
    ]


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Whether values are equal, numbers to nine digits: machines differ in the last."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return type(one) is type(other) and bool(one == other)
