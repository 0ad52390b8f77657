"""What the tasks of a search do when they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.search.division import Searching, Shard
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Details, Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.manifest import Manifest

if TYPE_CHECKING:
    from ragcun_cli.core.search.ranking import Hits
    from ragcun_cli.pipeline.evaluation.search_job import Form


class SearchActions:
    """Searches in one place."""

    def __init__(self, place: Place, how: Searching) -> None:
        self._place, self.how = place, how

    def write_lexical(self, run: Run, dataset: str, draft: Path, progress: Progress) -> Details:
        """Search by BM25."""
        from ragcun_cli.pipeline.evaluation.search_job import write_lexical_runs
        from ragcun_cli.pipeline.search.judged import read_test_sets

        mining = run.profile.mining
        write_lexical_runs(
            read_test_sets(dataset, self._place.sets.task(dataset).folder),
            draft,
            config=run.profile.evaluation,
            mining=mining,
            workspace=self._place.workspace,
            tag=run.name,
            progress=progress,
        )
        return {"similarity": f"BM25, {mining.method}, k1 {mining.k1:g}, b {mining.b:g}"}

    def found(
        self,
        run: Run,
        dataset: str,
        shard: Shard | None,
        draft: Path,
        *,
        shards: Sequence[Task],
        progress: Progress,
    ) -> dict[Form, Hits]:
        """What was found, by this command, or by the shards that are to be merged."""
        from ragcun_cli.pipeline.evaluation.search_job import SearchJob, merged, read_shard
        from ragcun_cli.pipeline.machine import processes
        from ragcun_cli.pipeline.search.dense import WHOLE

        config = run.profile.evaluation
        if shards:
            return merged([read_shard(run.folder / task.outputs[0]) for task in shards], config)
        job = SearchJob(
            source=self._place.source(run),
            dataset=dataset,
            folder=self._place.sets.task(dataset).folder,
            config=config,
            state=draft / "state",
            query_scale=self._query_scale(run),
            share=WHOLE if shard is None else WHOLE.part(shard.index - 1, shard.count),
            chunk=self.how.chunk,
            caches=self._place.workspace if self.how.keep_embeddings else None,
        )
        self._refuse_chosen_queries(run, dataset)
        return merged(processes.shared(job.on_rank, progress), config)

    def write(
        self,
        run: Run,
        dataset: str,
        found: dict[Form, Hits],
        output: Path,
        *,
        whole: bool,
        shards: Sequence[Task],
    ) -> Details:
        """Keep it as run files or, of a shard, as it is; return what the record remembers."""
        from ragcun_cli.pipeline.evaluation.search_job import write_dense_runs, write_shard
        from ragcun_cli.pipeline.search.dense import bytes_per_passage, max_tokens, similarity_of
        from ragcun_cli.pipeline.search.judged import read_test_sets

        config = run.profile.evaluation
        if whole:
            tests = read_test_sets(dataset, self._place.sets.task(dataset).folder)
            write_dense_runs(found, tests, output.parent, config=config, tag=run.name)
        else:
            write_shard(output, found)
        if shards:
            return recorded(shards[0])
        source = self._place.source(run)
        model = source.load()
        details = {
            "similarity": config.similarity
            if config.similarity == "scaled_euclidean"
            else similarity_of(model, config),
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
        from ragcun_cli.pipeline.evaluation.query_scale import read_query_scale
        from ragcun_cli.pipeline.search.held_out import recorded_digests, refuse_test_queries
        from ragcun_cli.pipeline.search.judged import read_test_sets

        chosen = recorded_digests(run.folder)
        if run.profile.evaluation.similarity == "scaled_euclidean":
            chosen += read_query_scale(run.folder)[1]
        if chosen:
            for test in read_test_sets(dataset, self._place.sets.task(dataset).folder):
                refuse_test_queries(chosen, test, where=run.label)

    def _query_scale(self, run: Run) -> float:
        from ragcun_cli.pipeline.evaluation.query_scale import read_query_scale

        if run.profile.evaluation.similarity != "scaled_euclidean":
            return 1.0
        return read_query_scale(run.folder)[0]


def recorded(task: Task) -> Details:
    """What the record of a finished task remembers of it."""
    return dict(Manifest.load(task.folder / paths.MANIFEST).stages[task.key].details)
