"""Where a number came from: versions, device, source commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ragcun_cli

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
