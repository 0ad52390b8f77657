"""Runs on GPUs: which there are, who begins where and when, and what becomes of those that end."""

import os
import signal
import sys
import textwrap
import threading
import time

import pytest

from ragcun_cli.pipeline.machine import stops
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.reproduce.launch.gpus import Gpu, GpuLauncher, visible_gpus
from ragcun_cli.pipeline.reproduce.launch.jobs import RunJob
from ragcun_cli.spec.errors import NotReproducedError, RagcunError

TWO = "0, GPU-aaa, NVIDIA Fake, 15000, 16000\n1, GPU-bbb, NVIDIA Fake, 400, 16000\n"
GPUS = [Gpu(f"{index}", f"GPU-{index}", "Fake", 8 * 2**30, 16 * 2**30) for index in range(2)]


class Heard(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Call it with what nvidia-smi prints there, and its exit code."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def prints(text, code=0):
        (folder / "text").write_text(text)
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat {folder}/text\nexit {code}\n")
        program.chmod(0o755)

    return prints


def indices(chosen=None):
    return [gpu.index for gpu in visible_gpus(chosen)]


def test_the_gpus_are_those_of_nvidia_smi_in_the_order_that_was_asked_for(machine):
    machine(TWO)
    first, second = visible_gpus(None)
    assert first == Gpu("0", "GPU-aaa", "NVIDIA Fake", 15000 * 2**20, 16000 * 2**20)
    assert second.free == 400 * 2**20
    assert indices("1") == ["1"]
    assert indices("1, 0,1") == ["1", "0"]
    assert indices("GPU-bbb") == ["1"]


def test_cuda_visible_devices_leaves_out_what_it_does_not_name(machine, monkeypatch):
    machine(TWO)
    for named, found in (("1", ["1"]), ("GPU-bbb,0", ["1", "0"]), ("1,7", ["1"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert indices() == found
        assert indices("0") == ["0"]  # what is typed comes first
    for named in ("", "7"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        with pytest.raises(RagcunError, match="no GPU that CUDA_VISIBLE_DEVICES leaves"):
            visible_gpus(None)


@pytest.mark.parametrize("chosen", ["2", "0,2", "a", "GPU-ccc", "-1", "0;1"])
def test_a_gpu_that_is_not_there_is_named(machine, chosen):
    machine(TWO)
    with pytest.raises(RagcunError, match="these are: 0, 1") as caught:
        visible_gpus(chosen)
    assert f"there is no GPU '{chosen.rpartition(',')[2]}'" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "No devices were found\n", "0, GPU-aaa\n", "0, GPU-a, Fake, [N/A], 16000\n", "\0"]
)
def test_where_nvidia_smi_names_none_there_is_none(machine, text):
    machine(text)
    with pytest.raises(RagcunError, match="nvidia-smi names no GPU") as caught:
        visible_gpus(None)
    assert caught.value.hint == "--launcher local"


def test_without_nvidia_smi_or_where_it_fails_there_is_none(machine, tmp_path, monkeypatch):
    machine("NVIDIA-SMI has failed because it couldn't communicate with the driver\n", 9)
    with pytest.raises(RagcunError, match=r"names no GPU of this machine.*exit status 9"):
        visible_gpus(None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RagcunError, match="names no GPU of this machine") as caught:
        visible_gpus(None)
    assert caught.value.hint == "--launcher local"


STAND_IN = """#!{python}
import os, sys, time

def says(text):
    with open({seen!r}, "a") as stream:
        stream.write(text + "\\n")

_, m, package, code = sys.argv
assert (m, package) == ("-m", "ragcun_cli")
exec(code)
"""


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Call it with jobs whose only word is a program in Python; it runs beside a file `seen`.

    Each writes to it, with `says(text)`.
    """
    program = tmp_path / "python"
    program.write_text(STAND_IN.format(python=sys.executable, seen=str(tmp_path / "seen")))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    def run(jobs, gpus=GPUS, watch=lambda: None):
        heard = Heard()
        launcher = GpuLauncher(gpus, tmp_path / "logs", heard, watch=watch)
        try:
            found = launcher.launch(jobs)
        finally:
            file = tmp_path / "seen"
            heard.seen = file.read_text().splitlines() if file.exists() else []
        return found, heard

    return run


def job(name, code, *after, **more):
    return RunJob(name, (textwrap.dedent(code),), after, **more)


TIMED = """
says(f'{time.time()} begin %s ' + os.environ['CUDA_VISIBLE_DEVICES'])
time.sleep(0.7)
says(f'{time.time()} end %s')
"""


def test_each_gpu_has_one_run_at_a_time_and_what_needs_none_runs_beside(launch):
    jobs = [job(name, TIMED % (name, name)) for name in "abc"]
    jobs.append(job("x", TIMED % ("x", "x"), on_gpu=False))
    found, heard = launch(jobs)
    assert found.failed == {}
    lines = [line.split(" ") for line in heard.seen]
    when = {(kind, name): float(at) for at, kind, name, *_ in lines}
    where = {name: rest[0] for _, kind, name, *rest in lines if kind == "begin"}
    assert {where["a"], where["b"]} == {"0", "1"}
    assert where["x"] == ""
    assert when["begin", "a"] < when["end", "b"]
    assert when["begin", "b"] < when["end", "a"]
    assert when["begin", "x"] < when["end", "a"]
    assert when["begin", "c"] > min(when["end", "a"], when["end", "b"])
    assert sum("begins on GPU" in note for note in heard.notes) == 3
    assert any("x begins beside the GPUs; what it says: " in note for note in heard.notes)
    assert sum(note.endswith(" is done") for note in heard.notes) == 4


def test_a_job_begins_after_those_that_it_waits_for_however_they_ended(launch):
    jobs = [
        job("last", "says('last')", "fails", "slow", "no-such-job"),
        job("fails", "says('fails'); sys.exit(1)"),
        job("slow", "time.sleep(0.5); says('slow')"),
    ]
    found, heard = launch(jobs)
    assert heard.seen[-1] == "last"
    assert sorted(heard.seen) == ["fails", "last", "slow"]
    assert list(found.failed) == ["fails"]


def test_what_became_of_those_that_failed_is_told_and_the_others_go_on(launch, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "silent.log").write_text("Error: of an earlier attempt\n")
    jobs = [
        job("killed", "import signal; os.kill(os.getpid(), signal.SIGKILL)"),
        job(
            "error", "print('Error: the disk is full\\nHint: df -h', file=sys.stderr); sys.exit(1)"
        ),
        job("bug", "[][1]"),
        job("silent", "sys.exit(75)"),
        job("fine", "print('all is well'); says('fine')"),
    ]
    found, heard = launch(jobs, GPUS[:1])
    assert found.failed == {
        "killed": "it was ended by SIGKILL",
        "error": "the disk is full",
        "bug": "list index out of range",
        "silent": f"{tmp_path}/logs/silent.log says why",
    }
    assert heard.seen == ["fine"]
    assert (tmp_path / "logs" / "fine.log").read_text() == "all is well\n"
    assert "failed: error: the disk is full" in heard.notes


def test_a_base_without_its_published_scores_ends_all(launch):
    jobs = [
        job("untouched", "print('Error: 0.1, published 0.6', file=sys.stderr); sys.exit(3)"),
        job("a", "says('a')", "untouched"),
        job("b", "time.sleep(60); says('b')"),
    ]
    began = time.monotonic()
    with pytest.raises(NotReproducedError, match=r"0\.1, published 0\.6"):
        launch(jobs)
    assert time.monotonic() < began + 30


def test_a_gpu_without_room_is_left_alone_and_said(launch):
    small = Gpu("7", "GPU-7", "Small", 2 * 2**30, 16 * 2**30)
    jobs = [job(name, TIMED % (name, name), gpu_bytes=4 * 2**30) for name in "ab"]
    _, heard = launch(jobs, [small, GPUS[1]])
    assert {line.split(" ")[3] for line in heard.seen if " begin " in line} == {"1"}
    (note,) = [note for note in heard.notes if "left alone" in note]
    assert note == ("GPU 7 (Small) is left alone: about 2.1 GB are free, and a run takes 4.3 GB")
    with pytest.raises(RagcunError, match=r"no GPU has the 4\.3 GB that a run takes"):
        launch(jobs, [small])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_asks_every_job_and_waits_for_their_ends(launch, tmp_path, number):
    code = f"""
    import signal
    def heed(number, frame):
        time.sleep(0.5)
        says(f'heeded {{number}}')
        sys.exit(128 + number)
    signal.signal({int(number)}, heed)
    says('ready')
    time.sleep(60)
    """
    ready = []

    def watch():
        file = tmp_path / "seen"
        if not ready and file.exists() and file.read_text().count("ready") == 2:
            ready.append(threading.Timer(0.1, os.kill, (os.getpid(), number)))
            ready[0].start()

    with stops.heeded(), pytest.raises(stops.Stopped):
        launch([job("a", code), job("b", code), job("c", "says('c')", "a")], watch=watch)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert sorted(seen) == [f"heeded {int(number)}"] * 2 + ["ready"] * 2


def test_a_job_knows_who_leads_it_and_has_no_terminal(launch):
    code = """
    says(os.environ['RAGCUN_LED'])
    says(str(os.getpgrp() == os.getpid()))
    says(repr(sys.stdin.read()))
    says(os.environ['CUDA_DEVICE_ORDER'])
    """
    _, heard = launch([job("a", code)])
    assert heard.seen == [str(os.getpid()), "True", "''", "PCI_BUS_ID"]


def test_no_jobs_are_done_at_once(launch):
    assert launch([])[0].failed == {}
