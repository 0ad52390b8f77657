"""A signal ends a command at the next safe point; a second one, or patience, ends it at once."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from filelock import FileLock

from ragcun_cli.pipeline.machine import processes, stops
from ragcun_cli.pipeline.machine.progress import Silent


@pytest.fixture(params=stops.SIGNALS, ids=lambda number: number.name)
def number(request):
    return request.param


def test_a_signal_stops_at_the_next_safe_point_and_nowhere_else(number):
    with stops.heeded():
        stops.safe_point()
        signal.raise_signal(number)
        assert stops.asked() == number
        with pytest.raises(stops.Stopped):
            stops.safe_point()


def test_a_signal_is_not_lost_in_code_that_swallows_exceptions(number):
    class Theirs:
        def __del__(self):  # an exception out of here is printed and forgotten
            signal.raise_signal(number)

    with stops.heeded():
        Theirs()
        with pytest.raises(stops.Stopped), Silent().bar("", total=1, unit="texts") as advance:
            advance(1)


def test_afterwards_signals_do_what_they_did():
    before = [signal.getsignal(number) for number in stops.SIGNALS]
    try:
        signal.signal(signal.SIGTERM, print)
        with stops.heeded():
            assert signal.getsignal(signal.SIGTERM) is not print
        assert signal.getsignal(signal.SIGTERM) is print
    finally:
        for number, handler in zip(stops.SIGNALS, before, strict=True):
            signal.signal(number, handler)


def test_what_was_ignored_before_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stops.heeded():
            signal.raise_signal(number)
            assert stops.asked() is None
            stops.safe_point()
    finally:
        signal.signal(number, before)


def test_a_wait_ends_at_once(number):
    started = time.monotonic()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), number))
    with stops.heeded():
        timer.start()
        with pytest.raises(stops.Stopped), stops.at_once():
            time.sleep(60)
    assert time.monotonic() < started + 30


def test_the_wait_for_a_lock_ends_at_once_and_leaves_the_lock_to_its_holder(tmp_path):
    file = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        holder.stdout.readline()
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        with stops.heeded():
            timer.start()
            with pytest.raises(stops.Stopped), stops.locked(file):
                pytest.fail("held by two")
    finally:
        holder.communicate(b"\n")
    with stops.locked(file), pytest.raises(TimeoutError):
        FileLock(file, is_singleton=False).acquire(timeout=0)
    with FileLock(file, timeout=0):
        pass


_HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def started(body):
    """A process that heeds signals and does something; and its first line has been read."""
    code = "import signal, sys, time\nfrom ragcun_cli.pipeline.machine import stops\n"
    code += textwrap.dedent(body)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


DEAF = """
    stops.GRACE = {grace}
    with stops.heeded():
        print("ready", flush=True)
        while True:
            time.sleep(1)
    """


def test_what_comes_to_no_safe_point_is_ended_when_patience_is_over(number):
    process = started(DEAF.format(grace=1.5))
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "stopping within 2 seconds; a second signal ends it at once" in err
    assert "stopped; what was finished is kept, and the same command goes on" in err


def test_a_second_signal_ends_at_once():
    process = started(DEAF.format(grace=3600))
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if "a second signal" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_signals_of_one_moment_are_one():
    """`timeout --foreground` and a terminal send to a group and its members."""
    process = started(
        """
        with stops.heeded():
            for _ in range(5):
                signal.raise_signal(signal.SIGTERM)
            print("ready", flush=True)
            time.sleep(1)
            print("still here")
        """
    )
    out, _ = process.communicate(timeout=30)
    assert out == "still here\n"


def test_what_is_done_together_is_left_together():
    with stops.heeded():
        with stops.only_together():
            signal.raise_signal(signal.SIGINT)
            stops.safe_point()
            with stops.at_once():
                signal.raise_signal(signal.SIGINT)
        with pytest.raises(stops.Stopped):
            processes.stop_together()


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        *((b"\x03", 130), (b"n\n", 2)),
        *(
            pytest.param(*each, marks=pytest.mark.system)
            for each in ((b"\x04", 2), ("kill", 143), ("hang up", 129))
        ),
    ],
    ids=["Ctrl-C", "n", "Ctrl-D", "SIGTERM", "the terminal closed"],
)
def test_a_question_can_be_answered_by_a_stop(typed, code, tmp_path):
    """A command that asks whether work of days is meant, on a terminal of its own."""
    process, terminal = pty.fork()
    if process == 0:  # pragma: no cover
        os.chdir(tmp_path)
        command = ["-m", "ragcun_cli", "mine", "--profile", "with_isotropy"]
        os.execv(sys.executable, [sys.executable, *command])
    seen = b""
    while b"[y/N]" not in seen:
        assert select.select([terminal], [], [], 60)[0], seen
        seen += os.read(terminal, 4096)
    if typed == "kill":
        os.kill(process, signal.SIGTERM)
    elif typed == "hang up":
        os.close(terminal)
    else:
        os.write(terminal, typed)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == code


def test_who_holds_a_lock_that_is_waited_for_is_named(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(stops, "NAMED_AFTER", 0.2)
    file = tmp_path / "lock"
    holder = started(
        f"""
        from pathlib import Path
        with stops.locked(Path({str(file)!r})):
            print("ready", flush=True)
            time.sleep(1.5)
        """
    )
    told = json.loads((tmp_path / "lock.holder").read_text())
    assert told["process"] == holder.pid
    with stops.locked(file, "'train it'"):
        assert json.loads((tmp_path / "lock.holder").read_text())["process"] == os.getpid()
    said = capfd.readouterr().err
    assert f"waiting for 'train it': process {holder.pid} on {socket.gethostname()} has" in said
    assert f"held it since {told['since']}" in said
    assert not (tmp_path / "lock.holder").exists()
    assert holder.wait(timeout=30) == 0


def test_a_lock_that_is_free_is_taken_without_a_word_whoever_a_kill_left_named(tmp_path, capfd):
    (tmp_path / "lock.holder").write_text("{")
    with stops.locked(tmp_path / "lock"):
        pass
    assert capfd.readouterr().err == ""
    assert [path.name for path in tmp_path.iterdir() if path.name != "lock"] == []


LEADER = """
import os, subprocess, sys
from ragcun_cli.pipeline.machine import stops
code = '''
import sys, time
{slow}
from ragcun_cli.pipeline.machine import stops
try:
    with stops.heeded():
        print("ready", flush=True)
        for _ in range(300):
            time.sleep(0.1)
            stops.safe_point()
except stops.Stopped:
    print("stopped", flush=True)
'''
led = subprocess.Popen(
    [sys.executable, "-c", code], env={{**os.environ, stops.LED: str(os.getpid())}}, process_group=0
)
print("started", flush=True)
led.wait()
"""


@pytest.mark.parametrize("slow", ["", "sys.stdin.readline()"])
def test_a_command_that_another_led_is_stopped_by_the_end_of_that_one(slow):
    """Before it heeds signals, too, as while Python starts."""
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER.format(slow=slow)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert leader.stdout.readline() == "started\n"
    if not slow:
        assert leader.stdout.readline() == "ready\n"
    leader.kill()
    leader.wait()
    leader.stdin.write("\n")
    leader.stdin.close()
    assert leader.stdout.read().endswith("stopped\n")
