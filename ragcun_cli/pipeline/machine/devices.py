"""Which device a stage computes on."""

from __future__ import annotations

from ragcun_cli.spec.errors import RagcunError


def choose_device(name: str) -> str:
    """``auto`` is the first GPU if torch sees one, else the CPU; any other name must work.

    Apple's MPS is never chosen by itself: training leaks memory there (pytorch#121113).

    Raises:
        RagcunError: torch has no such device here.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise RagcunError(
            f"device '{name}' cannot be used: {str(error).splitlines()[0]}", hint="--device auto"
        ) from error
    return name


def check_precision(precision: str, device: str) -> None:
    """Refuse fp16 where it has no loss scaling and no speed.

    Raises:
        RagcunError: fp16 on a CPU.
    """
    if precision == "fp16" and device == "cpu":
        raise RagcunError(
            "precision 'fp16' needs a GPU; a CPU computes in fp32 or bf16",
            hint="--set training.precision=fp32 --set evaluation.precision=fp32",
        )
