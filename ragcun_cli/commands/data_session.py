"""What the `data` commands do and show."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragcun_cli import console
from ragcun_cli.commands.session import Session
from ragcun_cli.pipeline import walk
from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.pipeline.runs import Run, runs_of
from ragcun_cli.pipeline.task import Action, Task
from ragcun_cli.spec.errors import DataError, WorkspaceError


class DataSession(Session):
    """One `data` command at work in one workspace."""

    # Bringing

    def build(self, names: Sequence[str], *, force: bool) -> None:
        """Make sets of docstrings."""
        default = [name for name in sources.PYDOCS if not name.startswith("smoke")]
        unknown = [name for name in names if name not in sources.PYDOCS]
        if unknown:
            raise DataError(
                f"cannot build '{unknown[0]}'; these can be built: {', '.join(sources.PYDOCS)}",
                hint="ragcun data build pydocs",
            )
        self._bring(list(names) or default, [], force=force, yes=True)

    def get(self, names: Sequence[str], *, force: bool, yes: bool) -> None:
        """Bring sets by name; of a group, those that cannot be had are said."""
        wanted: dict[str, None] = {}
        for name in names:
            members = sources.group(name)
            if not members and sources.find(name) is None:
                known = ", ".join([*sources.BEIR, *sources.DERIVED, *sources.PYDOCS])
                raise DataError(
                    f"no data set '{name}' to get; these are: {known}, mteb:TASK",
                    hint="ragcun data list",
                )
            wanted |= dict.fromkeys(self._available(members) if members else [name])
        self._bring(list(wanted), [], force=force, yes=yes)

    def get_plan(self, profile: str, sets: Sequence[str] | None, *, force: bool, yes: bool) -> None:
        """Bring all that a profile needs, so that it runs without a network."""
        runs = runs_of(self.plan(profile, sets=sets, seeds=None), self.workspace)
        tested = {name for run in runs for name in run.profile.evaluation.datasets}
        names = list(dict.fromkeys(name for run in runs for name in run.profile.named_datasets))
        available = self._available([name for name in names if name in tested])
        wanted = [name for name in names if name not in tested or name in available]
        self._bring(wanted, runs, force=force, yes=yes)
        encoders = {run.profile.encoder for run in runs if run.reference != "bm25"}
        found = {encoder.base: self._road.place.fetch_encoder(encoder) for encoder in encoders}
        for name, encoder in found.items():
            console.say(f"encoder {name}: here ({encoder.source})")

    def _available(self, names: Sequence[str]) -> list[str]:
        return walk.without_absent_gated(names, self._road, self._watcher)

    def _bring(self, names: Sequence[str], runs: Sequence[Run], *, force: bool, yes: bool) -> None:
        consent = walk.Consent(force=force, ask=lambda question: console.agree(question, yes=yes))
        walk.bring_up_to_date(
            lambda: [self._road.place.sets.task(name) for name in names],
            runs,
            self._road,
            self._runner,
            consent,
        )
        self._show([self._road.place.sets.task(name) for name in names])

    def take_in(self, source: Path, name: str, *, held_out: dict[str, int], force: bool) -> None:
        """Take in a folder in BEIR layout, or a table of queries and positives."""

        def action(draft: Path, progress: Progress) -> dict[str, Any]:
            from ragcun_cli.pipeline.data.imports import take_in

            target = self.workspace.dataset(name)
            return take_in(source, target, draft, held_out=held_out, progress=progress)

        self._add(name, action, force=force, again=["import", source, "--name", name])

    def sample(
        self, name: str, new: str | None, *, queries: int, passages: int, seed: int, force: bool
    ) -> None:
        """Make a smaller set of one that is here or can be brought."""
        new = new or f"{name}-q{queries}-p{passages}-s{seed}"
        if new == name or sources.find(new) is not None:
            raise DataError(
                f"a sample cannot be called '{new}': that is a whole set", hint="another --name"
            )
        folder = self._here(name).folder

        def action(draft: Path, progress: Progress) -> dict[str, Any]:
            from ragcun_cli.pipeline.data.sample import draw_sample

            return draw_sample(name, folder, draft, queries=queries, passages=passages, seed=seed)

        drawn = ["--queries", queries, "--passages", passages, "--seed", seed]
        self._add(new, action, force=force, again=["sample", name, *drawn, "--name", new])
        console.say(f"'{new}' has fewer passages than '{name}': their scores are not comparable")

    def _add(self, name: str, action: Action, *, force: bool, again: Sequence[object]) -> None:
        task = self._road.place.sets.taking_in(name, action)
        free = force or self._runner.record(task) is None
        if not free or not self._runner.run(task, force=force):
            raise DataError(
                f"there is a data set '{name}' already",
                hint=shlex.join(["ragcun", "data", *map(str, again), "--force"]),
            )
        self._show([task])

    # Using

    def _here(self, name: str) -> Task:
        """The task of a set that is here."""
        task = self._road.place.sets.task(name)
        if self._runner.record(task) is None:
            known = sources.is_made_here(name)
            raise DataError(
                f"no data set '{name}' in this workspace",
                hint=f"ragcun data get {name}" if known else "ragcun data list",
            )
        return task

    def export(self, name: str, target: Path) -> None:
        """Write a set in BEIR layout."""
        from ragcun_cli.pipeline.data.beir import export

        export(self._here(name).folder, target)
        console.say(f"written: {target}")

    def verify(self, names: Sequence[str]) -> None:
        """Read the files of sets that are here; the first fault is an error."""
        from ragcun_cli.pipeline.data.verify import verify_data

        here = sorted(self.names_here())
        if not names and not here:
            raise WorkspaceError("no data set in this workspace", hint="ragcun data build pydocs")
        tasks = [self._road.place.sets.task(name) for name in names or here]
        for task in tasks:
            verify_data(task, self._runner)
            console.say(f"{task.folder.name}: intact")
        self._show(tasks)

    def stats(self, name: str, train: str | None) -> None:
        """Describe a set, and what of its reported split stands in training data."""
        from ragcun_cli.commands.data_tables import show_overlap, show_statistics
        from ragcun_cli.pipeline.data.beir import parts, read_splits
        from ragcun_cli.pipeline.data.overlap import overlap
        from ragcun_cli.pipeline.data.stats import describe

        folder = self._here(name).folder
        training = self._here(train or name).folder
        split = sources.reported_split(name)
        found: dict[str, Any] = {}
        for part in parts(folder):
            label = name if part == folder else f"{name}/{part.name}"
            splits = read_splits(part)
            found[label] = {"statistics": asdict(describe(part, progress=self._watcher))}
            if split in splits and (train or "train" in splits):
                source = part if train is None else training
                compared = overlap(part, split, source, progress=self._watcher)
                found[label]["overlap"] = {"train": train or label, **asdict(compared)}
            else:
                console.say(f"{label}: no training data to compare with; name one by --train")
        if self._json:
            console.write_json(found)
            return
        for label, values in found.items():
            show_statistics(label, values["statistics"])
            if "overlap" in values:
                show_overlap(label, values["overlap"])

    # Showing

    def show_all(self) -> None:
        """All known sets and those that were imported."""
        here = self.names_here()
        known = [*sources.PYDOCS, *sources.BEIR, *sources.DERIVED]
        names = [*known, *sorted(here - set(known))]
        rows = [self._row(name, is_here=name in here) for name in names]
        if self._json:
            console.write_json(rows)
            return
        shown = [
            (
                row["name"],
                "verified" if row["verified"] else row["state"],
                "" if row["passages"] is None else f"{row['passages']:,}",
                "" if row["queries"] is None else f"{row['queries']:,} {row['split']}",
                row["description"] + (f" ({row['licence']})" if row["licence"] else ""),
            )
            for row in rows
        ]
        columns = ("name", "state", "passages", "queries", "what it is (licence)")
        console.show_rows("Data sets", columns, shown)
        gated = {name: sources.BEIR[name].obtain for name in sources.GATED}
        for name in (name for name in names if name in gated and name not in here):
            console.say(f"{name} needs {gated[name]}; then ragcun data import FOLDER --name {name}")

    def _row(self, name: str, *, is_here: bool) -> dict[str, Any]:
        source = sources.find(name)
        record = self._runner.record(self._road.place.sets.task(name)) if is_here else None
        details = {} if record is None else record.details
        published = source if isinstance(source, sources.Published) else None
        counted = None if isinstance(source, sources.Docstrings) else source
        split = sources.reported_split(name)
        return {
            "name": name,
            "state": "here" if is_here else _absent_state(source),
            "verified": details.get("verified"),
            "split": split,
            "passages": details.get("passages", published and published.passages),
            "queries": details.get("judged", {}).get(split, counted and counted.queries),
            "licence": published and published.licence,
            "download_bytes": published and published.zip_bytes,
            "description": details.get("about", "imported")
            if source is None
            else source.description,
        }

    def _show(self, tasks: Sequence[Task]) -> None:
        records = {task.folder.name: self._runner.record(task) for task in tasks}
        details = {name: record.details for name, record in records.items() if record is not None}
        if self._json:
            console.write_json(details)
            return
        for name, found in details.items():
            for note in found.get("notes", ()):
                console.say(f"{name}: {note}")
        rows = [
            (
                name,
                f"{found['passages']:,}",
                f"{found['queries']:,}",
                ", ".join(f"{split} {count:,}" for split, count in found["judged"].items()),
                found.get("verified", ""),
            )
            for name, found in details.items()
        ]
        columns = ("name", "passages", "queries", "judged queries", "as published")
        console.show_rows("Data sets", columns, rows)


def _absent_state(source: sources.Source | None) -> str:
    if isinstance(source, sources.Published):
        return "licensed" if source.gated else f"{source.zip_bytes / 1e6:,.0f} MB"
    return "made here"
