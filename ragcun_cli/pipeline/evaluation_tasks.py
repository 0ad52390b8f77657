"""The tasks that search and score data sets with the models of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.pipeline.mteb_results import is_known_to_mteb, write_mteb
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.pipeline.runs import Run
from ragcun_cli.pipeline.stages import Details, Runner, Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import RagcunError, StaleInputError
from ragcun_cli.spec.manifest import Manifest, Stage
from ragcun_cli.spec.profile import stated

if TYPE_CHECKING:
    from ragcun_cli.core.ranking import Hits
    from ragcun_cli.pipeline.evaluate import Form
    from ragcun_cli.pipeline.road import Road

_PASSAGES_AT_ONCE = 65_536


@dataclass(frozen=True)
class Shard:
    """One of ``count`` processes that divide a search, each a command of its own."""

    index: int
    """From 1."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``2/4`` is the second of four.

        Raises:
            RagcunError: it is no such pair.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise RagcunError(
                f"'{text}' is no shard: the second of four is 2/4", hint="ragcun eval --shard 2/4"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class Searching:
    """How a search is carried out; none of it moves a result."""

    shard: Shard | None = None
    """Find this one's share and keep it, to be merged."""
    merge: bool = False
    """Put together what shards have found instead of searching."""
    chunk: int = _PASSAGES_AT_ONCE
    """Passages between two saves."""
    keep_embeddings: bool = False
    """Keep the embeddings of passages in the workspace's cache, and use those that are there."""


ALONE = Searching()
"""One command that searches whole data sets."""


class EvaluationTasks:
    """Builds the tasks of searching and scoring for a road."""

    def __init__(self, road: Road, how: Searching) -> None:
        self._road, self.how = road, how

    def name(self, run: Run, dataset: str) -> str:
        """Of an evaluation in its run; one by another similarity than the model's is beside it."""
        similarity = run.profile.evaluation.similarity
        own = run.reference == "bm25" or similarity == "model"
        folder = paths.dataset_folder(dataset)
        return folder if own else f"{folder}@{similarity}"

    def tasks(self, run: Run, dataset: str) -> list[Task]:
        """What there is to do for one run and one data set: of a shard, its share of the search.

        BM25 is not divided: it is searched where shards are merged.
        """
        if self.how.shard is None:
            return [self.search(run, dataset), self.score(run, dataset)]
        return [] if run.reference == "bm25" else [self.search(run, dataset)]

    def score(self, run: Run, dataset: str) -> Task:
        """Score the run files of one run on one data set."""
        search, data = self.search(run, dataset), self._road.data(dataset)
        key = f"{paths.EVALUATIONS}/{self.name(run, dataset)}"
        lexical = run.reference == "bm25"
        config = run.profile.evaluation
        variants = () if lexical else config.variants
        names = [paths.METRICS, paths.PER_QUERY]
        if not lexical and is_known_to_mteb(dataset):
            names.append(paths.MTEB)

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.scores import write_scores
            from ragcun_cli.pipeline.test_sets import read_test_sets

            settings = recorded(search)
            content = write_scores(
                read_test_sets(dataset, data.folder),
                run.folder / key,
                draft / key,
                depth=config.depth,
                variants=variants,
                settings=settings,
            )
            if paths.MTEB in names:
                write_mteb(
                    draft / key / paths.MTEB,
                    run,
                    dataset,
                    content,
                    data=recorded(data),
                    weights=settings["model"],
                )
            metrics: Details = content["metrics"]
            return metrics

        return Task(
            stage=Stage.EVAL,
            label=f"eval {run.label} on {dataset}",
            folder=run.folder,
            key=key,
            values={"depth": config.depth, "variants": list(variants)},
            action=action,
            outputs=tuple(f"{key}/{name}" for name in names),
            feeds=(f"{key}/{paths.PER_QUERY}",),
            needs=(search, data),
            size="run files",
            describes=(paths.RUN, run.description()),
        )

    def search(self, run: Run, dataset: str) -> Task:
        """Rank the passages of one data set, by one run, for its judged queries."""
        if self.how.shard is not None and run.reference != "bm25":
            return self._search(run, dataset, self.how.shard)
        return self._search(run, dataset, None)

    def _search(self, run: Run, dataset: str, shard: Shard | None) -> Task:
        lexical = run.reference == "bm25"
        data, train = self._road.data(dataset), self._road.train(run)
        scale = self._scale(run)
        name = self.name(run, dataset)
        key, output = f"search/{name}", f"{paths.EVALUATIONS}/{name}/{paths.RUN_FILES}"
        if shard is not None:
            output = paths.shard_file(name, shard.index, shard.count)
            key = f"{key}/{shard.index}-of-{shard.count}"
        passages, queries = self._road.sets.counts(dataset)
        share = 1 if shard is None else shard.count
        mark = "" if shard is None else f", shard {shard}"

        def action(draft: Path, progress: Progress) -> Details:
            if lexical:
                return self._write_lexical(run, dataset, (draft / output).parent, progress)
            found = self._found(run, dataset, shard, draft, progress)
            return self._write(run, dataset, found, draft / output, whole=shard is None)

        return Task(
            stage=Stage.SEARCH,
            label=f"search {run.label} on {dataset}{mark}",
            folder=run.folder,
            key=key,
            values=self._values(run),
            action=action,
            outputs=(output,),
            feeds=(output,),
            needs=(train, data, *([] if scale is None else [scale])),
            reads_splits=((data, reported_split(dataset)),),
            resumable=not lexical,
            size=f"{passages // share:,} passages",
            seconds=self._road.encoding_seconds(run, passages=passages // share, queries=queries),
            describes=(paths.RUN, run.description()),
        )

    def _values(self, run: Run) -> dict[str, Any]:
        config = run.profile.evaluation
        if run.reference == "bm25":
            return {"depth": config.depth}
        values = stated(config)
        values.pop("datasets", None)
        return values

    # Searching

    def _write_lexical(self, run: Run, dataset: str, draft: Path, progress: Progress) -> Details:
        from ragcun_cli.pipeline.evaluate import write_lexical_runs
        from ragcun_cli.pipeline.test_sets import read_test_sets

        mining = run.profile.mining
        write_lexical_runs(
            read_test_sets(dataset, self._road.data(dataset).folder),
            draft,
            config=run.profile.evaluation,
            mining=mining,
            workspace=self._road.workspace,
            tag=run.name,
            progress=progress,
        )
        return {"similarity": f"BM25, {mining.method}, k1 {mining.k1:g}, b {mining.b:g}"}

    def _found(
        self, run: Run, dataset: str, shard: Shard | None, draft: Path, progress: Progress
    ) -> dict[Form, Hits]:
        """Part of the data set -> what was found, by this command or by shards."""
        from ragcun_cli.pipeline import ranks
        from ragcun_cli.pipeline.evaluate import SearchJob, merged, read_shard
        from ragcun_cli.pipeline.search import WHOLE

        config = run.profile.evaluation
        if shard is None and self.how.merge:
            files = [run.folder / task.outputs[0] for task in self.shards(run, dataset)]
            return merged([read_shard(file) for file in files], config)
        job = SearchJob(
            source=self._road.models.source(run),
            dataset=dataset,
            folder=self._road.data(dataset).folder,
            config=config,
            state=draft / "state",
            query_scale=self._query_scale(run),
            share=WHOLE if shard is None else WHOLE.part(shard.index - 1, shard.count),
            chunk=self.how.chunk,
            caches=self._road.workspace if self.how.keep_embeddings else None,
        )
        self._refuse_chosen_queries(run, dataset)
        return merged(ranks.searching(job, progress), config)

    def _write(
        self, run: Run, dataset: str, found: dict[Form, Hits], output: Path, *, whole: bool
    ) -> Details:
        from ragcun_cli.pipeline.evaluate import write_dense_runs, write_shard
        from ragcun_cli.pipeline.search import bytes_per_passage, max_tokens, similarity_of
        from ragcun_cli.pipeline.test_sets import read_test_sets

        config = run.profile.evaluation
        if whole:
            tests = read_test_sets(dataset, self._road.data(dataset).folder)
            write_dense_runs(found, tests, output.parent, config=config, tag=run.name)
        else:
            write_shard(output, found)
        if whole and self.how.merge:
            return recorded(self.shards(run, dataset)[0])
        source = self._road.models.source(run)
        model = source.load()
        details = {
            "similarity": similarity_of(model, config),
            "dimensions": model.get_embedding_dimension(),
            "precision": config.precision,
            "embeddings": config.embeddings,
            "bytes_per_passage": bytes_per_passage(model, config),
            "max_tokens": max_tokens(model),
            "parameters": sum(values.numel() for values in model.parameters()),
            "model": source.digest(),
        }
        if config.similarity == "scaled_euclidean":
            details["query_scale"] = self._query_scale(run)
        return details

    def _refuse_chosen_queries(self, run: Run, dataset: str) -> None:
        """Hold test queries against those that the model or its query scale was chosen on."""
        from ragcun_cli.pipeline.query_scale import read_query_scale
        from ragcun_cli.pipeline.selection import recorded_digests, refuse_test_queries
        from ragcun_cli.pipeline.test_sets import read_test_sets

        chosen = recorded_digests(run.folder)
        if run.profile.evaluation.similarity == "scaled_euclidean":
            chosen += read_query_scale(run.folder)[1]
        if chosen:
            for test in read_test_sets(dataset, self._road.data(dataset).folder):
                refuse_test_queries(chosen, test, where=run.label)

    # The query scale

    def _scale(self, run: Run) -> Task | None:
        """Fit the query scale of a run, where it is compared by one."""
        config = run.profile.evaluation
        if run.reference == "bm25" or config.similarity != "scaled_euclidean":
            return None
        train = run.profile.data.train
        name = "msmarco-select" if train == "msmarco" else train
        data = self._road.data(name)

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.query_scale import write_query_scale

            model = self._road.models.load(run)
            return write_query_scale(
                model, data.folder, name, draft, config=config, progress=progress
            )

        return Task(
            stage=Stage.SEARCH,
            label=f"fit the query scale of {run.label}",
            folder=run.folder,
            key="query_scale",
            values={k: v for k, v in self._values(run).items() if k in ("batch_size", "precision")},
            action=action,
            outputs=(paths.QUERY_SCALE,),
            feeds=(paths.QUERY_SCALE,),
            needs=(self._road.train(run), data),
            reads_splits=((data, "dev"),),
            describes=(paths.RUN, run.description()),
        )

    def _query_scale(self, run: Run) -> float:
        from ragcun_cli.pipeline.query_scale import read_query_scale

        if run.profile.evaluation.similarity != "scaled_euclidean":
            return 1.0
        return read_query_scale(run.folder)[0]

    # Shards

    def shards(self, run: Run, dataset: str) -> list[Task]:
        """The tasks of all shards that a search was divided into, by what lies there."""
        folder = (run.folder / paths.shard_file(self.name(run, dataset), 1, 1)).parent
        found = [re.fullmatch(r"(\d+)-of-(\d+)\.npz", file.name) for file in folder.glob("*.npz")]
        counts = {int(match[2]) for match in found if match is not None}
        if not counts:
            raise StaleInputError(
                f"no shard of '{run.label}' on '{dataset}' was searched",
                hint=f"ragcun eval --shard 1/2 --datasets {dataset}",
            )
        if len(counts) > 1:
            raise StaleInputError(
                f"shards of '{run.label}' on '{dataset}' are of {sorted(counts)} parts: only one "
                "division can be merged",
                hint=f"rm -r {folder}",
            )
        count = counts.pop()
        return [self._search(run, dataset, Shard(index, count)) for index in range(1, count + 1)]

    def check_shards(self, run: Run, dataset: str, runner: Runner) -> None:
        """Refuse to merge shards that are not all there, or are not of this model and these texts.

        Raises:
            StaleInputError: naming the first of them.
        """
        for task in self.shards(run, dataset):
            if not runner.is_current(task):
                known = runner.record(task) is not None
                why = "is of another model, data set or setting" if known else "is not finished"
                shard = task.label.rpartition(" ")[2]
                raise StaleInputError(
                    f"'{task.label}' {why}",
                    hint=f"ragcun eval --shard {shard} --datasets {dataset}",
                )


def recorded(search: Task) -> Details:
    """What the record of a search remembers of it."""
    return dict(Manifest.load(search.folder / paths.MANIFEST).stages[search.key].details)
