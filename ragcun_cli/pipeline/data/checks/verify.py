"""Hold a data set that is here against its record, against itself and against the registry."""

from __future__ import annotations

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.bring.published import check_published
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.corpus import Corpus, content_digest
from ragcun_cli.pipeline.data.sets.records import read_record
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.errors import DataError


def verify_data(task: Task, runner: Runner) -> storing.Counts:
    """Read all files of a data set; the counts that were found.

    Raises:
        DataError: it is not here, a file changed since it was recorded or is malformed, or the set
            has a published one's name and other counts.
    """
    name = task.folder.name
    record = runner.record(task)
    if record is None:
        raise sources.absent_error([name])
    source = record.details.get("from", name)
    known = sources.is_made_here(source)
    again = f"ragcun data get {source} --force" if known else "import it again"
    changed = [file.path for file in record.outputs if not file.is_intact(task.folder, verify=True)]
    if changed:
        raise DataError(
            f"{task.folder}: changed since it was recorded: {', '.join(changed)}", hint=again
        )
    published = name in {*sources.BEIR, *sources.DERIVED}
    published |= not {"sample", "mteb"}.isdisjoint(record.details)
    parts = beir.parts(task.folder)
    counts = storing.added([storing.check(part, published=published) for part in parts])
    for part in parts:
        if content_digest(Corpus.open(part)) != read_record(part).sha256:
            raise DataError(f"{part}: the passages are not those that were stored", hint=again)
    if name in sources.BEIR and not sources.BEIR[name].gated:
        check_published(name, sources.BEIR[name], task.folder, counts)
    return counts
