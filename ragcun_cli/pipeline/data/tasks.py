"""The tasks that bring data sets into a workspace."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.sets.records import find_lender
from ragcun_cli.pipeline.data.sources import Derived, Docstrings, MtebSet
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Workload
from ragcun_cli.pipeline.stages.runner import NUMBERS_VERSIONS
from ragcun_cli.pipeline.stages.task import Action, Details, Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.addresses import without_home
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.manifest import Manifest, Stage
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import EncoderConfig
from ragcun_cli.spec.section import NAME

LONGEST_NAME = 100


class DataTasks:
    """Builds the tasks of one workspace's data sets."""

    def __init__(self, workspace: Workspace, *, mirrors: Sequence[str] = ()) -> None:
        self.workspace = workspace
        self._mirrors = mirrors
        self._tasks: dict[str, Task] = {}
        self._from_mteb: dict[str, MtebSet] = {}

    def task(self, name: str) -> Task:
        """Bring one data set into the workspace.

        Raises:
            DataError: a library that it is made of is not installed.
        """
        if name not in self._tasks:
            self._tasks[name] = self._new(name)
        return self._tasks[name]

    def _new(self, name: str) -> Task:
        if (docstrings := sources.PYDOCS.get(name)) is not None:
            return self._build(name, docstrings)
        if (derived := sources.DERIVED.get(name)) is not None:
            return self._derive(name, derived)
        if (task := self._mteb_set(name)) is not None:
            return self._bring_from_mteb(name, task)
        published = sources.BEIR.get(name)
        if published is None or published.gated:
            return self._take_in(name, self._absent(name), size="not here")

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.data.bring.published import get_published

            return get_published(
                name,
                published,
                draft,
                workspace=self.workspace,
                mirrors=self._mirrors,
                progress=progress,
            )

        size = f"{published.zip_bytes / 1e6:,.0f} MB to download"
        return self._take_in(name, action, size=size)

    def _take_in(self, name: str, action: Action, *, size: str) -> Task:
        """A set that others made, downloaded or imported: the same task, however it comes."""
        published = sources.BEIR.get(name)
        parts = published.forums if published is not None else ()
        return self._task(name, {"source": "import"}, action, size=size, parts=parts)

    def taking_in(self, name: str, action: Action) -> Task:
        """Take data that a person has into the workspace.

        Raises:
            DataError: the name belongs to a set that ragcun makes itself, or is no name.
        """
        if name in sources.PYDOCS or name in sources.DERIVED:
            raise DataError(f"'{name}' is made by ragcun", hint=f"ragcun data get {name}")
        taken = name in (*sources.GROUPS, "all")
        if taken or not re.fullmatch(NAME, name) or len(name) > LONGEST_NAME:
            raise DataError(
                f"'{name:.80}' is no name for a data set: up to {LONGEST_NAME} small letters, "
                "digits, - and _, and no word for several sets",
                hint="--name my-corpus",
            )
        return self._take_in(name, action, size="")

    def _build(self, name: str, source: Docstrings) -> Task:
        from ragcun_cli.pipeline.data.pydocs.build import library_versions

        values = {
            "source": "docstrings",
            "libraries": library_versions(source),
            "limit": source.limit,
            "dev_queries": source.dev_queries,
        }

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.data.pydocs.build import build_docstrings

            return build_docstrings(
                source,
                draft,
                workspace=self.workspace,
                numbers_version=NUMBERS_VERSIONS[Stage.DATA],
                progress=progress,
            )

        size = f"docstrings of {', '.join(source.libraries)}"
        return self._task(name, values, action, size=size)

    def _derive(self, name: str, source: Derived) -> Task:
        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.data.bring.derived import derive

            return derive(name, source, draft, workspace=self.workspace, progress=progress)

        values = {"source": "derived", "queries": source.queries}
        size = f"{source.queries:,} queries of {source.of}"
        return self._task(name, values, action, size=size, needs=(self.task(source.of),))

    def _mteb_set(self, name: str) -> MtebSet | None:
        """The task of mteb that a name means, or that a folder of that name is brought from."""
        if name in self._from_mteb:
            return self._from_mteb[name]
        if name.startswith("mteb-"):
            name = str(self._details(name).get("from", name))
        return sources.find_mteb(name)

    def _bring_from_mteb(self, name: str, source: MtebSet) -> Task:
        from ragcun_cli.pipeline.data.bring.mteb import task_action

        folder = self.workspace.dataset(name)
        other = self._from_mteb.setdefault(folder.name, source)
        if other != source:
            raise DataError(
                f"'{other.name}' and '{source.name}' would both lie in {folder}",
                hint=f"ragcun data get {source.name} --workspace ANOTHER",
            )
        values = {"source": "mteb", "name": source.name}
        return self._task(name, values, task_action(source.name), size="a data set of the Hub")

    def _details(self, name: str) -> dict[str, Any]:
        """What the record of a set remembers of it; nothing of one that is not here."""
        manifest = Manifest.load(self.workspace.dataset(name) / paths.MANIFEST)
        record = manifest.stages.get("data")
        return {} if record is None else dict(record.details)

    def _task(
        self,
        name: str,
        values: dict[str, Any],
        action: Action,
        *,
        size: str,
        parts: Sequence[str] = (),
        needs: tuple[Task, ...] = (),
    ) -> Task:
        within = [f"{part}/" for part in parts] or [""]
        kept = (paths.PASSAGES_FOLDER, paths.QUERIES, paths.QRELS)
        fed = (paths.CORPUS_RECORD, paths.QUERIES, paths.QRELS)
        return Task(
            stage=Stage.DATA,
            label=f"data {name}",
            folder=self.workspace.dataset(name),
            key="data",
            values=values,
            action=action,
            outputs=tuple(parts) or kept,
            feeds=tuple(f"{part}{file}" for part in within for file in fed),
            needs=needs,
            size=size,
            work=self._work(name),
            still_good=lambda: self._lenders_are_here(name),
        )

    def _lenders_are_here(self, name: str) -> bool:
        """Whether the passages that a set keeps with others can be read there."""
        for file in self.workspace.dataset(name).glob(f"[!.]*/**/{Path(paths.LENDER).name}"):
            try:
                find_lender(file.parents[1], self.workspace.datasets)
            except DataError:
                return False
        return True

    def _absent(self, name: str) -> Action:
        def action(draft: Path, progress: Progress) -> Details:
            if not self.is_here(name):
                raise sources.absent_error([name])
            raise DataError(
                f"files of '{name}' were changed since it was imported, or ragcun reads them "
                "another way now",
                hint=f"ragcun data import FOLDER_OR_FILE --name {name} --force",
            )

        return action

    def refuse_overwriting(self, task: Task) -> None:
        """Hold what lies in a data set's folder against what its task would bring.

        Raises:
            DataError: it is another set of that name, or was imported.
        """
        name, here = task.folder.name, self._details(task.folder.name)
        brings, lies = task.values.get("name", name), here.get("from", "a set that was imported")
        downloads = name in sources.BEIR and name not in sources.GATED and "origin" not in here
        if here and brings != lies and (downloads or task.values["source"] == "mteb"):
            raise DataError(
                f"'{brings}' would overwrite {lies}, which lies in {task.folder}",
                hint=f"ragcun data get {brings} --force",
            )

    def is_absent(self, name: str) -> bool:
        """Whether a set is not here, and ragcun can neither make nor download it."""
        made_here = name in self._from_mteb or sources.is_made_here(name)
        return not made_here and not self.is_here(name)

    def is_here(self, name: str) -> bool:
        """Whether a set was brought, current or not."""
        manifest = Manifest.load(self.workspace.dataset(name) / paths.MANIFEST)
        return "data" in manifest.stages

    def licence(self, name: str) -> tuple[str, str]:
        """The licence of a set as declared, and where that is stated."""
        return sources.licence_of(name, self._details(name))

    def proxy_note(self, name: str) -> str | None:
        """What to know of scores on a set whose queries were made for it; None of other sets."""
        details = self._details(name)
        if (proxy := details.get("proxy")) is None:
            return None
        found = details.get("round_trip")
        also = f" and kept where {found['base']} finds them again" if found else ""
        return (
            f"proxy queries: passages of '{name}' are asked for by {proxy['queries']}{also}; read "
            "scores beside BM25's, which is strong where query and passage share words"
        )

    def cut_note(self, name: str, encoder: EncoderConfig) -> str | None:
        """How many passages of a set an encoder cuts, where that was counted; else None."""
        cut = self._details(name).get("cut", {})
        if (cut.get("base"), cut.get("max_seq_length")) != (
            without_home(encoder.base),
            encoder.max_seq_length,
        ):
            return None
        count, total = cut["passages"], self.counts(name)[0]
        return (
            f"{count:,} of {total:,} passages of '{name}' have more than {cut['max_seq_length']} "
            "word pieces, and are cut there"
        )

    def training_queries(self, name: str) -> int | None:
        """Queries that are judged for training; None while their number is not known for sure."""
        if details := self._details(name):
            return int(details["judged"].get("train", 0))
        published = sources.BEIR.get(name)
        return None if published is None else published.train_queries

    def counts(self, name: str) -> tuple[int, int]:
        """Passages and queries of a set, as far as is known before it is here."""
        if details := self._details(name):
            return int(details["passages"]), int(details["queries"])
        if (published := sources.BEIR.get(name)) is not None:
            return published.passages, published.train_queries or published.queries
        if (derived := sources.DERIVED.get(name)) is not None:
            return sources.BEIR[derived.of].passages, derived.queries
        source = sources.PYDOCS.get(name)
        pairs = source.limit or 5_000 if source is not None else 0
        return pairs, pairs

    def tokens(self, name: str) -> float:
        """Word pieces of a passage in the mean, as far as that is published."""
        derived = sources.DERIVED.get(name)
        published = sources.BEIR.get(name if derived is None else derived.of)
        words = None if published is None else published.words
        return estimate.PASSAGE_TOKENS if words is None else estimate.TOKENS_PER_WORD * words

    def _work(self, name: str) -> Workload:
        """A guess; passages that a set shares with another are kept once."""
        published, docstrings = sources.BEIR.get(name), sources.PYDOCS.get(name)
        if docstrings is not None:
            seconds = estimate.DOCSTRINGS_SECONDS * len(docstrings.libraries)
            size = 1_000.0 * self.counts(name)[0]
            return Workload(seconds=seconds, disk_bytes=size, base="docstrings")
        if published is None:
            return Workload(base="derived")
        kept = "passages of " + "/".join(sorted({name, published.like or name}))
        text_bytes = published.passages * (6.5 * (published.words or 60) + 60)
        return Workload(
            seconds=published.passages / estimate.CONVERTED,
            download_bytes=published.zip_bytes,
            draft_bytes=published.zip_bytes,
            ram_bytes=0.35e9 + 75 * published.passages,
            base="downloads",
            shared={kept: Workload(disk_bytes=text_bytes)},
        )
