"""The mistakes a person can make and can mend. Anything else is a bug and keeps its traceback."""

from collections.abc import Sequence

from ragcun_cli.spec.addresses import shown


class RagcunError(Exception):
    """An expected failure: one message, one hint that can be pasted, one exit code, no traceback.

    Exit codes: 1 a stage failed while it ran; 2 something the person has to change before anything
    runs; 3 not reproduced; 4 a claim is not shown, or a check did not come out; 75 what a stage
    reads is not there yet.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(shown(message))
        self.hint = None if hint is None else shown(hint)


class ProfileError(RagcunError):
    """A profile or plan is missing or does not describe a valid run."""


class DataError(RagcunError):
    """A data set is missing, or its files do not say what they should."""


class EncoderError(RagcunError):
    """An encoder cannot be found, or is not the one the profile names."""


class WorkspaceError(RagcunError):
    """The workspace cannot be read or written, or holds nothing to work on."""


class NewerFormatError(WorkspaceError):
    """A later version of ragcun wrote a file, in a form that this one does not know."""


class StaleInputError(RagcunError):
    """A stage reads files that are missing or were made with other settings."""


class BlockedError(StaleInputError):
    """A stage reads what another command is still to make: it may be there later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class StageFailedError(RagcunError):
    """A stage began and could not finish."""

    exit_code = 1


class DiskFullError(StageFailedError):
    """The disk has no room left, which the next stage would not have either."""


class NotReproducedError(RagcunError):
    """What was measured is not what was published or expected."""

    exit_code = 3


class ClaimsError(RagcunError):
    """What a plan claims was not shown."""

    exit_code = 4


class CheckFailedError(RagcunError):
    """What was checked is not what it should be."""

    exit_code = 4


def did_you_mean(near: Sequence[str]) -> str:
    """What stands behind a name that is not known, of those that are nearest to it."""
    return f"; did you mean '{near[0]}'?" if near else ""


def extra_hint(extra: str) -> str:
    """How what an extra of this package brings is installed: no index has the package."""
    return f"pip install '.[{extra}]', in the clone of ragcun"


def first_line(error: BaseException) -> str:
    """What an error of others says, without the rest; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
