"""Stopping where it is safe, when a person, a scheduler or a terminal that closes asks for it.

A signal sets a flag, and the next safe point raises: an exception out of the handler itself would
come in the middle of others' code, some of which swallows it. A stage that is killed is resumable,
too; so what comes to no safe point for a while, such as a library that waits, ends there.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

SIGNALS = [
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if name in signal.Signals.__members__
]
GRACE = 20.0
"""Seconds from a signal to the end of a command that comes to no safe point."""
SAME = 0.25
"""Seconds in which further signals are the first: `timeout` sends two, a launcher passes one on."""
NAMED_AFTER = 2.0
"""Seconds that a lock is waited for before it is said who holds it."""

LED = "RAGCUN_LED"
"""Variable of a command that another one started: the process of that one, whose end is a signal to
it, for nobody is left to pass one on."""

_asked: int | None = None
"""The signal that came."""
_raises_at_once = False
_only_together = False


class Stopped(BaseException):
    """A signal asked for an end. As no `Exception`, it is caught by nobody who means mistakes."""


def asked() -> int | None:
    """The number of the signal that asked for an end; None while none did."""
    return _asked


def ask_for_stop(number: int) -> None:
    """Stop as if that signal had come."""
    global _asked
    _asked = _asked or number


def safe_point() -> None:
    """Stop here if that was asked for: whatever is half done is begun anew or gone on with later.

    Raises:
        Stopped: it was.
    """
    if _asked is not None and not _only_together:
        raise Stopped


@contextmanager
def at_once() -> Iterator[None]:
    """Inside, where nothing is done but to wait, a signal raises `Stopped` itself."""
    global _raises_at_once
    safe_point()
    _raises_at_once = not _only_together
    try:
        yield
    finally:
        _raises_at_once = False


@contextmanager
def only_together() -> Iterator[None]:
    """Inside, safe points are those of all processes, which would wait for one that had left."""
    global _only_together
    _only_together = True
    try:
        yield
    finally:
        _only_together = False


@contextmanager
def locked(file: Path, what: str = "") -> Iterator[None]:
    """Hold a lock that other processes of ragcun hold, too; the wait for it can be stopped.

    Args:
        file: of the lock.
        what: is locked, for who waits for it; the file by default.
    """
    lock = FileLock(file)
    with at_once():
        try:
            lock.acquire(timeout=NAMED_AFTER)
        except Timeout:
            _say(f"waiting for {what or file}: {_holder_of(file)}")
            lock.acquire()
    try:
        with suppress(OSError):
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            told = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
            holder_file(file).write_text(json.dumps(told), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder_file(file).unlink(missing_ok=True)
        lock.release()


def holder_file(lock: Path) -> Path:
    """Where the holder of a lock has written who it is: others that wait empty the lock itself."""
    return lock.with_name(f"{lock.name}.holder")


def _holder_of(lock: Path) -> str:
    try:
        told = json.loads(holder_file(lock).read_text(encoding="utf-8"))
        return f"process {told['process']} on {told['host']} has held it since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process holds it"


@contextmanager
def heeded() -> Iterator[None]:
    """Heed signals, but for those that were ignored before, as `nohup` has it.

    Afterwards they do what they did, and Ctrl-C ends the process, which has no more to do.
    """
    global _asked
    known = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: known[number] for number in SIGNALS if known[number] is not signal.SIG_IGN}
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    leader = os.environ.pop(LED, None)
    told = (reading, None if leader is None else int(leader))
    for number in before:
        signal.signal(number, _heed)
    wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=told, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            own = handler is signal.default_int_handler
            signal.signal(number, signal.SIG_DFL if own else handler)
        writing.close()
        _asked = None


def _heed(number: int, frame: FrameType | None) -> None:
    ask_for_stop(number)
    if _raises_at_once:
        raise Stopped


def _watch(signals: socket.socket, leader: int | None) -> None:
    """End the process at a second signal, and when the patience with the first is over.

    In a thread of its own, which learns of signals while the main one is inside a library.
    """
    first, came, said = 0, 0.0, False
    while first == 0 or time.monotonic() < came + GRACE:
        if first == 0 and leader not in (None, os.getppid()):
            leader = None
            os.kill(os.getpid(), signal.SIGTERM)
        alone = None if leader is None else 1.0
        wait = alone if first == 0 else 1.0 if not said else came + GRACE - time.monotonic()
        if select.select([signals], [], [], wait)[0]:
            number = int.from_bytes(signals.recv(1))
            if number == 0:  # the other end is closed
                return
            if number in SIGNALS and first == 0:
                first, came = number, time.monotonic()
            elif number in SIGNALS and time.monotonic() > came + SAME:
                os._exit(128 + number)
        elif first and not said:
            _say(f"stopping within {GRACE:.0f} seconds; a second signal ends it at once")
            said = True
    _say("stopped; what was finished is kept, and the same command goes on")
    os._exit(128 + first)


def _say(text: str) -> None:
    with suppress(OSError):  # past the stream of the main thread, which may be inside it
        os.write(2, f"\n{text}\n".encode())
