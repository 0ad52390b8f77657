"""Bring a data set from the Hugging Face Hub, whatever form its files have there."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ragcun_cli.core.folders import discard
from ragcun_cli.pipeline.data.bring.download import RemoteFile, flaw
from ragcun_cli.pipeline.data.bring.hub_tables import write_qrels, write_texts
from ragcun_cli.pipeline.data.sets.beir import SPLITS
from ragcun_cli.pipeline.machine.progress import Advance, Progress
from ragcun_cli.spec.errors import DataError, first_line
from ragcun_cli.spec.paths import CORPUS, QRELS, QUERIES

_TEXTS = {"queries": QUERIES, "corpus": CORPUS}
_SPLITS = {split: split for split in SPLITS} | dict.fromkeys(("validation", "valid", "val"), "dev")

_SHARD = r"(-\d+-of-\d+(-[0-9a-f]+)?|/\d+)?\.parquet"
_FORMS = tuple(
    re.compile(form)
    for form in (
        r"(?P<text>corpus|queries)\.jsonl",
        r"(?P<text>corpus|queries)\.jsonl\.gz",
        rf"(?P<text>corpus|queries)/(?!partial-)[^/]+?{_SHARD}",
        r"qrels/(?P<split>\w+)\.jsonl",
        r"qrels/(?P<split>\w+)\.jsonl\.gz",
        r"qrels/(?P<split>\w+)\.tsv",
        r"qrels/(?P<split>\w+)\.tsv\.gz",
        *(rf"{folder}/(?P<split>\w+?){_SHARD}" for folder in ("qrels", "default", "data")),
    )
)
"""Names of files; where a part is there in several forms, the first of them is read.

JSONL and TSV as BEIR packs them; ``test-00000-of-00001.parquet`` as `datasets` uploads tables, with
judgements as the configuration ``qrels`` or the default one; ``test/0000.parquet`` as the Hub
converts them, where ``partial-`` marks what it did not convert to the end.
"""

_REFUSALS = (
    ("GatedRepoError", "it is given only to those who accept its terms on the Hub (set HF_TOKEN)"),
    ("RepositoryNotFoundError", "there is no such data set, or none without a token (HF_TOKEN)"),
    ("RevisionNotFoundError", "it has no such revision"),
)


def fetch_set(repo: str, revision: str, folder: Path, *, progress: Progress) -> None:
    """Bring a BEIR data set from the Hugging Face Hub into a folder, in BEIR's layout.

    What has come stays in ``.hub`` in the folder until the set is whole, so that a second try
    fetches only the files that are missing.

    Args:
        repo: a data set on the Hub, such as ``mteb/scifact``.
        revision: a full commit of it.
        folder: gets ``corpus.jsonl`` and ``queries.jsonl``, packed by gzip where they are so on the
            Hub, and ``qrels/{train,dev,test}.tsv``, whichever there are.
        progress: told of the download and of tables that are written out.

    Raises:
        DataError: the Hub cannot be reached or does not have it, or its files are in no form that
            is known, or malformed.
    """
    if not re.fullmatch("[0-9a-f]{40}", revision):
        raise DataError(
            f"{repo}@{revision}: the revision is not a full commit",
            hint=shlex.join(["hf", "datasets", "info", repo]),
        )
    files = dict(_listed(repo, revision))
    parts = _choose(files, repo, revision)
    scratch = folder / ".hub"
    chosen = {name: files[name] for names in parts.values() for name in names}
    _download(repo, revision, chosen, scratch, progress)
    (folder / QRELS).mkdir(exist_ok=True)
    for part, names in parts.items():
        tables = [scratch / name for name in names]
        if part in _TEXTS:
            write_texts(tables, folder / _TEXTS[part], progress)
        else:
            write_qrels(tables, folder / QRELS / f"{part}.tsv", progress)
    discard(scratch)


def _listed(repo: str, revision: str) -> Iterator[tuple[str, RemoteFile]]:
    from huggingface_hub import HfApi, constants

    # LookupError and TypeError are what the client makes of an answer that is not the Hub's.
    with _told(repo, revision, LookupError, TypeError):
        found = HfApi().dataset_info(
            repo,
            revision=revision,
            files_metadata=True,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
    if found.sha != revision:
        raise DataError(f"{repo}@{revision}: the Hub answered with revision {found.sha}")
    for file in found.siblings or ():
        name, parts = file.rfilename, file.rfilename.split("/")
        drive = any(re.match("[A-Za-z]:", part) for part in parts)
        if drive or "\\" in name or not name.isprintable() or {"", ".", ".."} & set(parts):
            raise DataError(f"{repo}@{revision}: the file name {name!r} leads out of the folder")
        # A small file has no digest: the Hub keeps it in git.
        yield name, RemoteFile((), file.size or 0, sha256=file.lfs.sha256 if file.lfs else None)


def _choose(names: Iterable[str], repo: str, revision: str) -> dict[str, list[str]]:
    """Part of the set -> the files that hold it; the large ones, which take longest, are last."""
    found: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(names):
        for rank, form in enumerate(_FORMS):
            if match := form.fullmatch(name):
                groups = match.groupdict()
                part = groups.get("text") or _SPLITS.get(groups["split"])
                if part:
                    found[part][rank].append(name)
    missing = [part for part in _TEXTS if part not in found]
    if found.keys().isdisjoint(SPLITS):
        missing.append("judgements of train, dev or test")
    if missing:
        raise DataError(
            f"{repo}@{revision} is not in a form that BEIR's sets have on the Hub; not found: "
            + ", ".join(missing),
            hint=shlex.join(["hf", "datasets", "ls", repo, "--revision", revision, "-R"]),
        )
    order = [part for part in (*SPLITS, *_TEXTS) if part in found]
    return {part: found[part][min(found[part])] for part in order}


def _download(
    repo: str, revision: str, files: Mapping[str, RemoteFile], scratch: Path, progress: Progress
) -> None:
    from huggingface_hub import hf_hub_download

    total = sum(file.size or 0 for file in files.values())
    with progress.bar(f"download {repo}", total=total, unit="B") as step:
        for name, file in files.items():
            told = _Bytes(step)
            with _told(repo, revision):
                path = hf_hub_download(
                    repo,
                    name,
                    repo_type="dataset",
                    revision=revision,
                    local_dir=scratch,
                    tqdm_class=cast(Any, told),
                )
            if wrong := flaw(file, Path(path)):
                Path(path).unlink()
                raise _not_given(repo, revision, f"{name} came, and {wrong}")
            step((file.size or 0) - told.count)


@contextmanager
def _told(repo: str, revision: str, *more: type[Exception]) -> Iterator[None]:
    """Makes one DataError of what goes wrong between here and the Hub in a call of its client."""
    from huggingface_hub import constants, errors

    if constants.is_offline_mode():
        raise DataError(
            f"{repo}@{revision} is to come from the Hub, and HF_HUB_OFFLINE keeps it out of reach",
            hint="unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE",
        )
    # httpx's or httpx2's, whichever the Hub's client uses: a proxy that refuses, a cut connection.
    http_error = errors.HfHubHTTPError.__bases__[0]
    # RuntimeError is Xet's, ValueError of a name or an answer that is malformed.
    expected = cast(tuple[type[Exception]], (http_error, OSError, RuntimeError, ValueError, *more))
    try:
        yield
    except expected as error:
        raise _not_given(repo, revision, _reason(error)) from error


@contextmanager
def out_of_reach(repo: str, revision: str) -> Iterator[None]:
    """Inside, others' clients of a Hub that does not answer look into their caches alone.

    They would ask it for half a minute, and say so each time.
    """
    import datasets
    from huggingface_hub import HfApi, constants, errors

    kept = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    http_error = errors.HfHubHTTPError.__bases__[0]
    try:
        HfApi().dataset_info(repo, revision=revision, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
    except Exception as error:  # noqa: BLE001  # any but no answer is told by the client itself
        if isinstance(error, http_error) and not isinstance(error, errors.HfHubHTTPError):
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = kept


def _not_given(repo: str, revision: str, reason: str) -> DataError:
    command = ["hf", "download", repo, "--repo-type", "dataset", "--revision", revision]
    return DataError(f"the Hub did not give {repo}@{revision}: {reason}", hint=shlex.join(command))


def _reason(error: BaseException) -> str:
    from huggingface_hub import errors

    for kind, reason in _REFUSALS:
        if isinstance(error, getattr(errors, kind)):
            return reason
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


class _Bytes:
    """Stands where huggingface_hub wants the class of a progress bar, and tells ours instead."""

    def __init__(self, step: Advance) -> None:
        self._step = step
        self.count = 0

    def __call__(self, **settings: object) -> _Bytes:
        return self

    def __enter__(self) -> _Bytes:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, count: int) -> None:
        """Count bytes of the file; fewer than none where it begins anew."""
        self.count += count
        self._step(count)

    def update_transfer(self, count: int) -> None:
        """Leave out bytes on the wire, of which a packed file has fewer."""

    def set_postfix_str(self, text: str, *, refresh: bool = True) -> None:
        """Show no speed."""

    set_transfer_postfix_str = set_postfix_str
