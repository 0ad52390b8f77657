"""Which device a stage computes on."""

from __future__ import annotations

import os
import re

from ragcun_cli.spec.errors import RagcunError, first_line

_KNOWN = re.compile("auto|cpu|mps|(cuda|xpu)(:[0-9]{1,3})?")


def refuse_no_device(name: str) -> None:
    """Pass if a name can be that of a device; asking imports nothing.

    Raises:
        RagcunError: it cannot.
    """
    if not _KNOWN.fullmatch(name):
        of = "RAGCUN_DEVICE: " if os.environ.get("RAGCUN_DEVICE") == name else ""
        raise RagcunError(
            f"{of}there is no device '{name}'; these are: auto, cpu, cuda, cuda:1, mps, xpu",
            hint="--device auto",
        )


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
            f"device '{name}' cannot be used: {first_line(error)}", hint="--device auto"
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
