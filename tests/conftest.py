import ctypes
import importlib.util
import os
import resource
import shutil
import signal
import socket
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

# Tiny models are slower on two threads than on one, many times so where the machine is shared. Set
# before torch is imported, and passed on to the programs that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import pytest
from filelock import FileLock

from ragcun_cli.pipeline.machine.kernels import keep_kernels

keep_kernels()

from ragcun_cli.app import main  # noqa: E402
from ragcun_cli.pipeline.data import sources  # noqa: E402

# Shared machines pause; an example that took long is no fault.
hypothesis.settings.register_profile("ragcun", deadline=None)
hypothesis.settings.load_profile("ragcun")


# `nohup`, and a shell that starts something in the background, have signals ignored, which tests
# would hand on to the commands that they start.
for _name in ("SIGINT", "SIGHUP"):
    _number = signal.Signals[_name]
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

ABSENT = pytest.StashKey[bool]()


def _program(name):
    """Path of an installed program; a Python may lie where pyenv keeps it, too."""
    kept = sorted(Path.home().glob(f".pyenv/versions/*/bin/{name}"), reverse=True)
    on_path = [] if kept else [shutil.which(name)]
    return next((str(path) for path in kept + on_path if path), None)


def is_here(need):
    """Whether there is a package of Python, a program (``program:NAME``), a path, or ``root``."""
    if need == "root":
        return os.geteuid() == 0
    if need.startswith("/"):
        return Path(need).exists()
    kind, _, name = need.rpartition(":")
    return bool(_program(name) if kind else importlib.util.find_spec(name))


def pytest_runtest_setup(item):
    absent = [
        need for mark in item.iter_markers("needs") for need in mark.args if not is_here(need)
    ]
    item.stash[ABSENT] = bool(absent)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that is skipped although all that it needs is here has failed."""
    report = yield
    if report.skipped and not item.stash[ABSENT] and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although what it needs is here: {report.longrepr}"
    return report


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sources, "HOST", "file:///there/is/no/host/{name}.zip")
    for name in [name for name in os.environ if name.startswith("RAGCUN_")]:
        monkeypatch.delenv(name)


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
def program():
    """Call it for the path of an installed program, or None."""
    return _program


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


@pytest.fixture
def unprivileged():
    """``with unprivileged():`` the modes of files bind this thread, even one of root."""
    if os.geteuid() != 0:
        return nullcontext
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)

    @contextmanager
    def without():
        held = (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable
        assert libc.capget(header, held) == 0
        less = (ctypes.c_uint32 * 6)(*held)
        less[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
        assert libc.capset(header, less) == 0
        try:
            yield
        finally:
            assert libc.capset(header, held) == 0

    return without


@pytest.fixture(scope="session")
def smoke_workspace(tmp_path_factory):
    """A workspace in which the smoke plan has been reproduced once; tests only read it.

    All processes of a run of pytest share it: the first that needs it makes it.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke"
    done = root.with_name("smoke.done")
    with FileLock(root.with_name("smoke.lock")):
        if not done.exists():
            _reproduce_smoke(root)
            done.touch()
    return root


def _reproduce_smoke(root):
    """First `data get` brings what it needs; then every connection is an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        _run(patch, "data", "get", "--profile", "smoke", "--workspace", root)
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, _no_connection)
        patch.setattr(socket, "getaddrinfo", _no_connection)
        _run(patch, "reproduce", "--profile", "smoke", "--workspace", root)


def _run(patch, *words):
    patch.setattr(sys, "argv", ["ragcun", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code


def _no_connection(*args, **kwargs):
    raise OSError("there is no network")
