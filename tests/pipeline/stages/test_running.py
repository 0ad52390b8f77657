"""Signs of life: what a command says that it is doing, and when it counts as gone."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.stages import running
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.manifest import Stage

HERE = socket.gethostname()


def task(folder, action):
    return Task(
        stage=Stage.TRAIN,
        label="train it",
        folder=folder,
        key="train",
        values={},
        action=action,
        outputs=("out",),
        feeds=("out",),
    )


def sign(**changes):
    made = running.Sign("runs/a train", "train a", HERE, os.getpid(), time.time(), time.time())
    return replace(made, **changes)


def put(workspace, *signs):
    (workspace / "running").mkdir(exist_ok=True)
    for number, one in enumerate(signs):
        (workspace / "running" / f"{number}.json").write_text(json.dumps(asdict(one)))


def test_what_a_loop_does_is_to_be_read_while_it_runs_and_not_after(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "EVERY", 0.0)
    seen = []

    def action(draft, progress):
        with progress.bar("steps", total=10, unit="steps") as advance:
            advance(4)  # what an earlier attempt had done
            progress.measure({"loss": 0.5})
            time.sleep(0.05)
            advance(2)
            seen.extend(running.signs_of_life(tmp_path))
        (draft / "out").touch()
        return {}

    assert Runner(Silent(), attempts=tmp_path / "attempts.jsonl").run(task(tmp_path / "a", action))
    (one,) = seen
    assert (one.record, one.label) == ("a train", "train it")
    assert (one.host, one.pid) == (HERE, os.getpid())
    assert (one.loop, one.done, one.total, one.unit) == ("steps", 6, 10, "steps")
    assert one.measured == {"loss": 0.5}
    assert 2 / 5 < one.rate <= 2 / 0.05
    assert one.left == pytest.approx(4 / one.rate)
    assert time.time() - 60 < one.since <= one.seen <= time.time()
    assert not (tmp_path / "running").exists()


@pytest.mark.parametrize("error", [DataError("no"), ValueError("a bug"), KeyboardInterrupt()])
def test_what_fails_or_is_stopped_leaves_no_sign(tmp_path, error):
    def action(draft, progress):
        assert len(running.signs_of_life(tmp_path)) == 1
        raise error

    with pytest.raises(type(error)):
        Runner(Silent(), attempts=tmp_path / "attempts.jsonl").run(task(tmp_path / "a", action))
    assert not (tmp_path / "running").exists()


def test_a_process_that_is_gone_is_not_taken_for_alive(tmp_path):
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True
    )
    mine = sign(born=running._born(os.getpid()))
    put(tmp_path, sign(pid=int(gone.stdout)), mine)
    assert running.signs_of_life(tmp_path) == [mine]
    assert [file.name for file in tmp_path.glob("running/*")] == ["1.json"]


@pytest.mark.needs("/proc/self/stat")
def test_another_process_of_the_same_number_is_not_taken_for_it(tmp_path):
    put(tmp_path, sign(born="1"))
    assert running.signs_of_life(tmp_path) == []


def test_a_command_of_another_machine_is_gone_when_it_has_been_silent(tmp_path):
    recent = sign(host="node1", seen=time.time() - running.SILENT / 2, pid=1)
    silent = sign(host="node2", seen=time.time() - running.SILENT * 2, pid=1)
    put(tmp_path, recent, silent)
    assert running.signs_of_life(tmp_path) == [recent]


def test_what_is_no_sign_is_passed_over(tmp_path):
    assert running.signs_of_life(tmp_path) == []
    (tmp_path / "running").mkdir()
    for number, text in enumerate(("", "{", "[]", '{"record": 1}', '{"more": 1}')):
        (tmp_path / "running" / f"{number}.json").write_text(text)
    assert running.signs_of_life(tmp_path) == []


def test_a_stage_that_ends_removes_what_a_kill_left(tmp_path):
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True
    )
    put(tmp_path, sign(pid=int(gone.stdout)))

    def action(draft, progress):
        (draft / "out").touch()
        return {}

    Runner(Silent(), attempts=tmp_path / "attempts.jsonl").run(task(tmp_path / "a", action))
    assert not (tmp_path / "running").exists()


def test_a_folder_that_cannot_be_written_ends_no_stage(tmp_path, unprivileged):
    root = tmp_path / "ws"
    (root / "a").mkdir(parents=True)

    def action(draft, progress):
        (draft / "out").touch()
        return {}

    root.chmod(0o555)
    with unprivileged():
        assert Runner(Silent(), attempts=root / "attempts.jsonl").run(task(root / "a", action))
    root.chmod(0o755)
    shutil.rmtree(root)
