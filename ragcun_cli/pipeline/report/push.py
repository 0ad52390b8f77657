"""One trained model on its way to the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.report.card import Trained, card_files, trained
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.spec.errors import RagcunError, WorkspaceError
from ragcun_cli.spec.paths import MODEL

_REFUSED = {
    401: ("the Hub does not know you: there is no token, or it is not valid", "hf auth login"),
    403: ("your token may not write there", "hf auth login, with a token that may write"),
}


def one_of(rows: Sequence[ModelRow], seeds: Sequence[int]) -> Trained:
    """The one trained model of rows; only of some seeds, where those are named.

    Raises:
        WorkspaceError: there is none, or are several, which it names.
    """
    found = [one for one in trained(rows) if not seeds or one[1].run.seed in seeds]
    if len(found) == 1:
        return found[0]
    runs = [one.run for _, one, _ in found]
    choices = [f"--experiment {run.name} --seed {run.seed}" for run in runs]
    raise WorkspaceError(
        f"one model is pushed at a time, and {len(found)} are meant: {'; '.join(choices)}"
        if found
        else "no trained model that is up to date is meant",
        hint=choices[0] if found else "ragcun report",
    )


def files_of(
    model: Trained, rows: Sequence[ModelRow], place: Place, runner: Runner, *, repo: str
) -> dict[str, Path | bytes]:
    """Name in a repository -> file of a model, or the bytes of its card, which replaces its own.

    Raises:
        WorkspaceError: one is not what was written, or the repository is not named USER/NAME.
    """
    run, record = model[1].run, model[2]
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo):
        raise WorkspaceError(f"'{repo}' is not named USER/NAME", hint=f"--push USER/{run.name}")
    found: dict[str, Path | bytes] = {}
    for file in record.outputs:
        if file.path.startswith(f"{MODEL}/"):
            if not file.is_intact(run.folder, verify=True):
                raise WorkspaceError(f"{run.folder / file.path} is not what was written")
            found[file.path.removeprefix(f"{MODEL}/")] = run.folder / file.path
    made = card_files(model, rows, place, runner, loaded_from=repo)
    return found | {name: text.encode() for name, text in made.items()}


def size(file: Path | bytes) -> int:
    """In bytes."""
    return file.stat().st_size if isinstance(file, Path) else len(file)


def push(repo: str, files: Mapping[str, Path | bytes], *, message: str) -> str:
    """Address of the commit that puts files into a repository; one that is new is private.

    Raises:
        RagcunError: the Hub cannot be reached, or does not take them.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    with _answered(repo):
        hub = HfApi()
        hub.create_repo(repo, private=True, exist_ok=True)
        added = [CommitOperationAdd(name, file) for name, file in files.items()]
        return str(hub.create_commit(repo, added, commit_message=message).commit_url)


@contextmanager
def _answered(repo: str) -> Iterator[None]:
    """Makes one error of what goes wrong between here and the Hub."""
    from huggingface_hub import constants, errors

    if constants.is_offline_mode():
        raise RagcunError(
            f"{repo} cannot be pushed: HF_HUB_OFFLINE keeps the Hub out of reach",
            hint="unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE",
        )
    # httpx's or httpx2's, whichever the Hub's client uses: a proxy that refuses, a cut connection.
    http_error = errors.HfHubHTTPError.__bases__[0]
    # RuntimeError is of an upload in parts and Xet's, ValueError of a card that the Hub refuses.
    expected = cast(tuple[type[Exception]], (http_error, OSError, RuntimeError, ValueError))
    try:
        yield
    except expected as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        status = getattr(getattr(cause, "response", None), "status_code", 0)
        why, hint = _REFUSED.get(status, (" ".join(str(error).split()), "the same command again"))
        raise RagcunError(f"{repo} was not pushed: {why}", hint=hint) from error
