"""What a paper takes of a report: floats, macros of its numbers, references and a checklist."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path

from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.report.figure import Drawing
from ragcun_cli.pipeline.report.formats.formats import write_figures
from ragcun_cli.pipeline.report.formats.latex import as_latex, render_latex
from ragcun_cli.pipeline.report.layout import for_appendix
from ragcun_cli.pipeline.report.licences import licence_of_base
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.report.table import (
    Cell,
    Column,
    Table,
    WithDeviation,
    WithInterval,
    cell_parts,
    one_line,
)
from ragcun_cli.pipeline.stages.attempts import Attempt, read_attempts
from ragcun_cli.pipeline.stages.runs import runs_on_disk
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import Manifest, StageRecord
from ragcun_cli.spec.paths import MANIFEST, Workspace

UNKNOWN = "not recorded"
_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


@dataclass(frozen=True)
class PaperFacts:
    """What manifests know that a checklist asks, by what it is of; empty is not recorded."""

    commands: Mapping[str, str]
    seeds: Mapping[str, str]
    """Of rows that were trained."""
    trials: Mapping[str, str]
    """Of experiments: how many different profiles of that name the workspace has trained."""
    hours: Mapping[str, str]
    """Of devices, over all that the workspace's stages took, failed and stopped ones too."""
    lost_hours: Mapping[str, str]
    """Of those that failed or were stopped."""
    memory: Mapping[str, str]
    """The most of a process, or of a GPU."""
    licences: Mapping[str, str]
    """Of data sets."""
    bases: Mapping[str, str]
    versions: Mapping[str, str]
    commits: Mapping[str, str]


def paper_facts(rows: Sequence[ModelRow], place: Place, name: str | None) -> PaperFacts:
    """The facts of gathered rows and of the workspace that they lie in.

    Args:
        rows: of the report.
        place: of a workspace all of whose stages are counted, those of other plans too.
        name: of the plan; None for all finished runs.
    """
    workspace = place.workspace
    records, attempts = list(_records(workspace)), read_attempts(workspace.attempts)
    trained = [run for run in runs_on_disk(workspace)[0] if run.reference is None]
    trials = Counter(name for name, _ in {(run.name, run.folder.parent) for run in trained})
    profiles = [row.run.profile for row in rows]
    sets = [each for one in profiles for each in (*one.evaluation.datasets, one.data.train)]
    commands = [f"reproduce --profile {name}", f"report --profile {name} --paper DIR"]
    return PaperFacts(
        commands=_listed(("of this plan", f"`ragcun {command}`") for command in commands if name),
        seeds=_listed(
            (row.label, one.run.seed)
            for row in rows
            for one in row.seeds
            if one.run.seed is not None
        ),
        trials=_listed(sorted(trials.items())),
        hours=_hours(attempts or records),
        lost_hours=_hours(one for one in attempts if one.ended != "finished")
        or ({"all": "none of the attempts that are on record"} if attempts else {}),
        memory={"the most": f"{max(peaks) / 1e9:,.1f} GB"}
        if (peaks := [one.peak_bytes for one in attempts])
        else {},
        licences=_listed((each, "{} ({})".format(*place.sets.licence(each))) for each in sets),
        bases=_listed(
            (one.encoder.base, "{} ({})".format(*licence_of_base(one.encoder, place)))
            for one in profiles
        ),
        versions=_listed(pair for record in records for pair in record.versions.items()),
        commits=_listed(("ragcun", record.commit) for record in records),
    )


def _hours(found: Iterable[Attempt | StageRecord]) -> Mapping[str, str]:
    """Device -> hours, those of several at once summed."""
    hours: dict[str, float] = defaultdict(float)
    for one in found:
        device, count = re.fullmatch(r"(.*?)(?: x (\d+))?", one.device).groups("1")  # type: ignore[union-attr]
        hours[device] += one.seconds * int(count)
    return {device: f"{seconds / 3600:,.2f} hours" for device, seconds in hours.items()}


def _listed(pairs: Iterable[tuple[str, object]]) -> Mapping[str, str]:
    """Of what -> all that is known of it, each once."""
    found: dict[str, dict[str, None]] = {}
    for of, what in pairs:
        found.setdefault(of, {})
        if what is not None:
            found[of][str(what)] = None
    return {of: ", ".join(known) or UNKNOWN for of, known in found.items()}


def _records(workspace: Workspace) -> Iterator[StageRecord]:
    """Of every manifest that can be read."""
    found = {file for root in (workspace.root, workspace.data) for file in root.rglob(MANIFEST)}
    for file in sorted(found):
        try:
            yield from Manifest.load(file).stages.values()
        except WorkspaceError:
            continue


def write_paper(
    folder: Path,
    tables: Sequence[Table],
    figures: Sequence[Drawing],
    facts: PaperFacts,
    *,
    transpose: bool | None = None,
) -> list[Path]:
    """The files of a paper, written: what a text reads, cites and answers.

    Args:
        folder: made where it is not there.
        tables: of the report.
        figures: of the report.
        facts: for the checklist.
        transpose: whether data sets are rows; None decides by their number.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    text = [table for table in tables if not for_appendix(table)]
    appendix = [table for table in tables if for_appendix(table)]
    macros = (
        rf"\newcommand{{\{name}}}{{{as_latex(value)}}}% {one_line(meant)}" + "\n"
        for name, meant, value in numbers_of(tables)
    )
    contents = {
        "results.tex": render_latex(text, figures, transpose=transpose),
        "appendix.tex": render_latex(appendix, transpose=transpose),
        "numbers.tex": "".join(macros),
        "references.bib": _data_file("references.bib"),
        "checklist.md": checklist(facts),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_text(content, encoding="utf-8", newline="")
        return [*(folder / name for name in contents), *write_figures(figures, folder, ["pdf"])]
    except OSError as error:
        raise WorkspaceError(f"{folder} cannot be written: {error.strerror}") from error


def checklist(facts: PaperFacts) -> str:
    """Questions of the NeurIPS paper checklist and of ACM's artifact review, with their answers."""
    answers = {}
    for field in fields(facts):
        known: Mapping[str, str] = getattr(facts, field.name)
        said = (f"{of}: {what}" for of, what in known.items())
        answers[field.name] = "; ".join(said) or UNKNOWN
    return _data_file("checklist.md").format_map(answers)


def _data_file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def numbers_of(tables: Sequence[Table]) -> Iterator[tuple[str, str, str]]:
    """Name of a macro, what it is of, and its value as printed, for each number of the tables.

    A name is of the table, the row and the column, in letters; namesakes are numbered.
    """
    taken: set[str] = set()
    for table in tables:
        for row in table.rows:
            cells = list(zip(table.columns, row, strict=True))[table.heading_columns :]
            for column, cell in cells:
                values = dict(_values(column, cell))
                name = stem = _letters(table.key, table.row_name(row), column.key)
                number = 1
                while taken & {name + end for end in values}:
                    number += 1
                    name = stem + _letters(str(number))
                taken |= {name + end for end in values}
                meant = f"{table.key}: {table.row_name(row)}: {column.label}"
                yield from ((name + end, meant, value) for end, value in values.items())


def _values(column: Column, cell: Cell) -> Iterator[tuple[str, str]]:
    """End of a macro's name -> what it says; words are no number."""
    main, detail = cell_parts(column, cell)
    if not isinstance(cell, str):
        yield "", main
    if isinstance(cell, WithDeviation):
        yield "Deviation", detail.removeprefix("± ")
    if isinstance(cell, WithInterval):
        yield "Interval", detail


def _letters(*parts: str) -> str:
    words = []
    for part in parts:
        plain = unicodedata.normalize("NFKD", part).encode("ascii", "ignore").decode()
        for word in re.findall("[A-Za-z]+|[0-9]", plain):
            words.append(_DIGITS[int(word)] if word.isdigit() else word[0].upper() + word[1:])
    text = "".join(words)
    return text[:1].lower() + text[1:] if len(parts) > 1 else text
