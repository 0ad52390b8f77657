"""Take in data that a person has: a folder in BEIR's layout, or a table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.bring.published import differences
from ragcun_cli.pipeline.data.bring.user_tables import store_table
from ragcun_cli.pipeline.data.sets import storing
from ragcun_cli.pipeline.data.sets.lending import share_with_like
from ragcun_cli.pipeline.data.sets.lines import locate
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import CORPUS


def take_in(
    source: Path,
    target: Path,
    draft: Path,
    *,
    held_out: Mapping[str, int],
    columns: str,
    progress: Progress,
) -> dict[str, Any]:
    """Check and store it, and return its counts.

    Args:
        source: a folder in BEIR's layout (CQADupStack's holds one for each forum), or a .jsonl,
            .csv or .tsv file of query, positive and perhaps negatives.
        target: folder that the set will have; one with a public set's name has to have its counts.
        draft: where it goes until then.
        held_out: of a table, split -> queries that leave the training split for it.
        columns: of a table, what it calls them: ``query=question,positive=answer``.
        progress: told of passages that are compared with those of a set that is like it.

    Raises:
        DataError: there is neither, or what there is is malformed.
    """
    name = target.name
    published = sources.BEIR.get(name)
    command = shlex.join(["ragcun", "data", "import", str(source), "--name", name])
    if source.resolve().is_relative_to(target.resolve()):
        raise DataError(
            f"{source} is where ragcun keeps '{name}', and would be written over",
            hint=f"move it elsewhere, then {command}",
        )
    if source.is_dir():
        if any(held_out.values()) or columns:
            raise DataError(
                f"{source} is a folder, which says itself what is what; only a table takes "
                "--columns, --test-queries and --dev-queries",
                hint=command,
            )
        counts = _take_in_folder(source, published, draft)
    elif source.is_file():
        dev, test = held_out["dev"], held_out["test"]
        counts = store_table(source, draft, dev_queries=dev, test_queries=test, columns=columns)
    else:
        odd = "is neither a folder in BEIR's layout nor a table"
        why = odd if source.exists() else "does not exist"
        raise DataError(f"{source} {why}", hint="ragcun data import --help")
    if published is None:
        return counts.details()
    if published.split not in counts.judged:
        raise DataError(f"{source} judges nothing in {published.split}, the split that is reported")
    wrong = differences(published, draft, counts)
    if not wrong:
        share_with_like(published, draft, target.parent, progress=progress)
        return {"verified": "counts", **counts.details()}
    if not published.gated:
        raise DataError(
            f"this is not the published '{name}': {'; '.join(wrong)}",
            hint=f"{command}-mine",
        )
    # What a licence brings is prepared by hand, and no two come out alike.
    said = f"not the counts that others publish: {'; '.join(wrong)}"
    return replace(counts, notes=(*counts.notes, said)).details()


def _take_in_folder(
    source: Path, published: sources.PublishedSet | None, draft: Path
) -> storing.Counts:
    if published is None or not published.forums or locate(source, CORPUS).is_file():
        return storing.store(source, draft, published=published is not None)
    return storing.added(
        [storing.store(source / part, draft / part, published=True) for part in published.forums]
    )
