"""Where a number came from: command, versions, device, threads, source commit."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ragcun_cli
from ragcun_cli.spec.addresses import without_home, without_secrets

RECORDED = ("ragcun", "torch", "transformers", "sentence-transformers", "bm25s", "numpy")


@cache
def versions() -> dict[str, str]:
    """Versions of Python, of ragcun and of the libraries that move its numbers."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def device_name() -> str:
    """The accelerator torch would use if it is loaded and has one, else the processor."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} x {torch.cuda.device_count()}"
    return all_cores()


def all_cores() -> str:
    """The processor and how many cores it has."""
    return f"{processor()}, {os.cpu_count()} cores"


@cache
def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def commit() -> str | None:
    """Commit of the checkout ragcun runs from, ``-dirty`` if changed; None outside one."""
    root = Path(ragcun_cli.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    described = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--match="],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None


def circumstances(started: datetime) -> dict[str, Any]:
    """Under what a stage that began then is computed: no secret, and no home folder.

    ``torch`` is None where it was not loaded. ``driver`` is that of NVIDIA's devices.
    """
    torch = sys.modules.get("torch")
    return {
        "command": without_home(without_secrets(shlex.join(["ragcun", *sys.argv[1:]]))),
        "started": started.isoformat(timespec="seconds"),
        "host": platform.node(),
        "processor": all_cores(),
        "driver": _driver(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "torch": torch
        and {
            "threads": torch.get_num_threads(),
            "cuda": torch.version.cuda,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "matmul_fp32": torch.backends.cuda.matmul.fp32_precision,
            "conv_fp32": torch.backends.cudnn.conv.fp32_precision,
        },
    }


@cache
def _driver() -> str | None:
    with suppress(OSError):
        said = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        return next(iter(re.findall(r" (\d+\.[\d.]+) ", said)), None)
    return None
