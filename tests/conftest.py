import os
import resource
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# Tiny models are slower on two threads than on one, many times so where the machine is shared. Set
# before torch is imported, and passed on to the programs that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import pytest

from ragcun_cli.pipeline.machine.kernels import keep_kernels

keep_kernels()

from ragcun_cli.app import main  # noqa: E402
from ragcun_cli.pipeline.data import sources  # noqa: E402

# Shared machines pause; an example that took long is no fault.
hypothesis.settings.register_profile("ragcun", deadline=None)
hypothesis.settings.load_profile("ragcun")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sources, "HOST", "file:///there/is/no/host/{name}.zip")
    monkeypatch.delenv("RAGCUN_WORKSPACE", raising=False)
    monkeypatch.delenv("RAGCUN_DATA", raising=False)


@pytest.fixture
def ragcun(monkeypatch, capsys):
    """Run the command line in this process, errors and exit codes included."""

    def run(*args: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ragcun", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def full_disk():
    """``with full_disk(size)``: no file can grow over so many bytes, as if the disk were full."""

    @contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def smoke_workspace(tmp_path_factory):
    """A workspace in which the smoke plan has been reproduced once; tests only read it.

    First `data get` brings what it needs; then every connection is an error.
    """
    root = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        _run(patch, "data", "get", "--profile", "smoke", "--workspace", root)
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, _no_connection)
        patch.setattr(socket, "getaddrinfo", _no_connection)
        _run(patch, "reproduce", "--profile", "smoke", "--workspace", root)
    return root


def _run(patch, *words):
    patch.setattr(sys, "argv", ["ragcun", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code


def _no_connection(*args, **kwargs):
    raise OSError("there is no network")
