"""What the `data` commands bring and find."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.reproduce import walk
from ragcun_cli.pipeline.reproduce.imports import Importing, import_action
from ragcun_cli.pipeline.reproduce.session import Choice, Session
from ragcun_cli.pipeline.stages.runs import Run, runs_of
from ragcun_cli.pipeline.stages.task import Action, Details, Task
from ragcun_cli.spec.errors import DataError, WorkspaceError, did_you_mean
from ragcun_cli.spec.profile import EncoderConfig

SetDetails = dict[str, Details]
"""Data set -> what the record of it remembers."""


@dataclass(frozen=True)
class Listing:
    """All known sets and those that were imported."""

    rows: Sequence[dict[str, Any]]
    """In the order to show."""
    to_obtain: dict[str, str]
    """Set that is not here and cannot be downloaded -> how to come by it."""


class DataSession(Session):
    """One `data` command at work in one workspace."""

    # Bringing

    def build(self, names: Sequence[str]) -> SetDetails:
        """Make sets of docstrings."""
        default = [name for name in sources.PYDOCS if not name.startswith("smoke")]
        unknown = [name for name in names if name not in sources.PYDOCS]
        if unknown:
            meant = did_you_mean(get_close_matches(unknown[0], sources.PYDOCS, n=1))
            built = ", ".join(sources.PYDOCS)
            raise DataError(
                f"cannot build '{unknown[0]}'; these can be built: {built}{meant}",
                hint="ragcun data build pydocs",
            )
        return self._get_sets(list(names) or default, [])

    def get(self, names: Sequence[str], choice: Choice) -> SetDetails:
        """Bring sets by name, or all that a profile needs, so that it runs without a network."""
        return self._get_plan(choice) if choice.name else self._get_named(names)

    def _get_named(self, names: Sequence[str]) -> SetDetails:
        for name in names:
            if name not in sources.GROUPS and sources.find(name) is None:
                known = [*sources.BEIR, *sources.DERIVED, *sources.PYDOCS]
                near = get_close_matches(name, [*known, *sources.GROUPS], n=1)
                every = f"{', '.join(known)}, mteb:TASK, and of several: "
                hint = f"ragcun data import FOLDER_OR_FILE --name {name}, of your own"
                hint = f"ragcun data {f'get {near[0]}' if near else 'list'}; or {hint}"
                raise DataError(
                    f"no data set '{name}' to get"
                    + (did_you_mean(near) or f"; these are: {every}{', '.join(sources.GROUPS)}"),
                    hint="ragcun data get --profile NAME, for all of a plan"
                    if name == "all"
                    else hint,
                )
        return self._get_sets(walk.spread_groups(names, self._place, self._progress), [])

    def _get_plan(self, choice: Choice) -> SetDetails:
        runs = runs_of(self.plan(choice), self.workspace)
        tested = {name for run in runs for name in run.profile.evaluation.datasets}
        names = list(dict.fromkeys(name for run in runs for name in run.profile.named_datasets))
        of_tests = [name for name in names if name in tested]
        available = walk.without_absent_gated(of_tests, self._place, self._progress)
        wanted = [name for name in names if name not in tested or name in available]
        found = self._get_sets(wanted, runs)
        configs = {run.profile.encoder for run in runs if run.embeds}
        encoders = {config.base: self._place.fetch_encoder(config) for config in configs}
        for name, encoder in encoders.items():
            self._progress.note(f"encoder {name}: here ({encoder.source})")
        return found

    def _get_sets(self, names: Sequence[str], runs: Sequence[Run]) -> SetDetails:
        self._bring(lambda: [self._place.sets.task(name) for name in names], runs)
        return self._details([self._place.sets.task(name) for name in names])

    def take_in(self, source: Path, name: str, how: Importing) -> SetDetails:
        """Take in what a person has.

        Raises:
            DataError: options do not go together, or what there is cannot be taken in.
        """
        action = import_action(source, name, how, self._place)
        return self._add(name, action, again=["import", source, "--name", name, *how.words])

    def sample(
        self, name: str, new: str | None, *, queries: int, passages: int, seed: int
    ) -> SetDetails:
        """Make a smaller set of one that is here or can be brought."""
        new = new or f"{name}-q{queries}-p{passages}-s{seed}"
        if new == name or sources.find(new) is not None:
            raise DataError(
                f"a sample cannot be called '{new}': that is a whole set", hint="another --name"
            )
        whole = self._here(name)
        folder, about = whole.folder, self._details([whole])[whole.folder.name]
        declared = {key: about[key] for key in ("licence",) if key in about}

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.data.bring.sample import draw_sample

            drawn = draw_sample(name, folder, draft, queries=queries, passages=passages, seed=seed)
            return {**drawn, **declared}

        drawn = ["--queries", queries, "--passages", passages, "--seed", seed]
        found = self._add(new, action, again=["sample", name, *drawn, "--name", new])
        self._progress.note(
            f"'{new}' has fewer passages than '{name}': their scores are not comparable"
        )
        return found

    def _add(self, name: str, action: Action, *, again: Sequence[object]) -> SetDetails:
        task, force = self._place.sets.taking_in(name, action), self._consent.force
        free = force or self._runner.record(task) is None
        if not free or not self._runner.run(task, force=force):
            raise DataError(
                f"there is a data set '{name}' already",
                hint=shlex.join(["ragcun", "data", *map(str, again), "--force"]),
            )
        return self._details([task])

    def _details(self, tasks: Sequence[Task]) -> SetDetails:
        records = {task.folder.name: self._runner.record(task) for task in tasks}
        return {name: record.details for name, record in records.items() if record is not None}

    # Using

    def _here(self, name: str) -> Task:
        """The task of a set that is here as it was stored."""
        task = self._place.sets.task(name)
        if self._runner.record(task) is None:
            raise sources.absent_error([name], self.names_here())
        self._runner.require_intact([task])
        return task

    def export(self, name: str, target: Path) -> None:
        """Write a set in BEIR layout.

        Raises:
            WorkspaceError: the target lies among the workspace's own sets.
        """
        from ragcun_cli.pipeline.data.sets.beir import export_set

        own = self._place.workspace.datasets
        if target.resolve().is_relative_to(own.resolve()):
            raise WorkspaceError(
                f"{target} lies among the workspace's own data sets, which have another layout",
                hint=f"ragcun data export {name} FOLDER, outside of {own}",
            )
        export_set(self._here(name).folder, target)
        self._progress.note(f"written: {target}")

    def verify(self, names: Sequence[str]) -> SetDetails:
        """Read the files of sets that are here; the first fault is an error."""
        from ragcun_cli.pipeline.data.checks.verify import verify_data

        here = sorted(self.names_here())
        if not names and not here:
            raise WorkspaceError("no data set in this workspace", hint="ragcun data build pydocs")
        groups = {
            name: [one for one in here if one in sources.GROUPS[name]] for name in sources.GROUPS
        }
        chosen = [one for name in names for one in groups.get(name, [name])]
        tasks = [self._place.sets.task(name) for name in chosen or here]
        for task in tasks:
            verify_data(task, self._runner)
            self._progress.note(f"{task.folder.name}: intact")
        return self._details(tasks)

    def stats(self, name: str, train: str | None, profile: str | None) -> SetDetails:
        """Describe a set, by parts, and what of its reported split stands in training data.

        With a profile also the share of tokens that its encoders do not know.
        """
        from ragcun_cli.pipeline.data.checks.overlap import overlap
        from ragcun_cli.pipeline.data.checks.stats import describe
        from ragcun_cli.pipeline.data.sets.beir import parts, read_splits

        runs = runs_of(self.plan(Choice(profile)), self.workspace) if profile else []
        encoders = {run.profile.encoder for run in runs if run.embeds}
        folder = self._here(name).folder
        training = self._here(train or name).folder
        split = sources.reported_split(name)
        found: SetDetails = {}
        for part in parts(folder):
            label = name if part == folder else f"{name}/{part.name}"
            splits = read_splits(part)
            found[label] = {"statistics": asdict(describe(part, progress=self._progress))}
            found[label] |= self._by_encoders(part, encoders)
            details = self._details([self._here(name)])[name]
            made = details.get("proxy", details)
            cuts = {self._place.sets.cut_note(name, encoder) for encoder in encoders}
            said = [self._place.sets.proxy_note(name), *cuts]
            found[label] |= {
                "made": made.get("counts", {}),
                "notes": [note for note in said if note],
            }
            if split in splits and (train or "train" in splits):
                source = part if train is None else training
                compared = overlap(part, split, source, progress=self._progress)
                found[label]["overlap"] = {"train": train or label, **asdict(compared)}
            else:
                self._progress.note(
                    f"{label}: no training data to compare with; name one by --train"
                )
        return found

    def _by_encoders(self, folder: Path, encoders: Iterable[EncoderConfig]) -> dict[str, Any]:
        """Shares of tokens that encoders do not know, and of texts that they cut, by base."""
        from ragcun_cli.pipeline.data.checks.stats import some_texts
        from ragcun_cli.pipeline.encoders.find import load_encoder
        from ragcun_cli.pipeline.encoders.look import SAMPLE_TEXTS, cut_count, unknown_share

        found: dict[str, Any] = {"unknown_tokens": {}, "longer_texts": {}}
        texts = some_texts(folder, SAMPLE_TEXTS)
        for config in encoders:
            model = load_encoder(self._place.fetch_encoder(config), config, device="cpu")
            known = {kind: unknown_share(model.tokenizer, some) for kind, some in texts.items()}
            cut = {
                kind: cut_count(model, some, advance=lambda n: None) / len(some)
                for kind, some in texts.items()
            }
            label = f"{config.base} (at {model.max_seq_length} tokens)"
            found["unknown_tokens"][config.base], found["longer_texts"][label] = known, cut
        return found

    def listing(self) -> Listing:
        """All known sets and those that were imported."""
        here = self.names_here()
        known = [*sources.PYDOCS, *sources.BEIR, *sources.DERIVED]
        names = [*known, *sorted(here - set(known))]
        gated = {name: str(sources.BEIR[name].obtain) for name in sources.GATED - here}
        return Listing(
            [self._row(name, is_here=name in here) for name in names],
            {name: gated[name] for name in names if name in gated},
        )

    def _row(self, name: str, *, is_here: bool) -> dict[str, Any]:
        source = sources.find(name)
        record = self._runner.record(self._place.sets.task(name)) if is_here else None
        details = {} if record is None else record.details
        published = source if isinstance(source, sources.PublishedSet) else None
        counted = None if isinstance(source, sources.Docstrings) else source
        split = sources.reported_split(name)
        licence, stated_in = sources.licence_of(name, details)
        return {
            "name": name,
            "state": "here" if is_here else _absent_state(source),
            "verified": details.get("verified"),
            "split": split,
            "passages": details.get("passages", published and published.passages),
            "queries": details.get("judged", {}).get(split, counted and counted.queries),
            "licence": licence,
            "licence_stated_in": stated_in,
            "download_bytes": published and published.zip_bytes,
            "description": details.get("about", "imported")
            if source is None
            else source.description,
        }


def _absent_state(source: sources.Source | None) -> str:
    if isinstance(source, sources.PublishedSet):
        return "licensed" if source.gated else f"{source.zip_bytes / 1e6:,.0f} MB"
    return "made here"
