import os
import resource
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file

from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.stages import runner as stages
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.errors import DataError, StageFailedError, StaleInputError, WorkspaceError
from ragcun_cli.spec.manifest import Manifest, Stage


class Listening(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Road:
    """mine -> train -> eval on small text files; `calls` lists the actions that were taken."""

    def __init__(self, root, calls, *, words="tide moon", rate=1, depth=3):
        self.root, self.calls = root, calls
        self.words, self.rate, self.depth = words, rate, depth

    @property
    def mine(self):
        return Task(
            stage=Stage.MINE,
            label="mine",
            folder=self.root / "negatives",
            key="mine",
            values={"words": self.words},
            action=self._mine,
            outputs=("negatives.txt", "summary.txt"),
            feeds=("negatives.txt",),
        )

    @property
    def train(self):
        return Task(
            stage=Stage.TRAIN,
            label="train",
            folder=self.root / "run",
            key="train",
            values={"rate": self.rate},
            action=self._train,
            outputs=("model", "log.txt"),
            feeds=("model",),
            needs=(self.mine,),
        )

    @property
    def eval(self):
        return Task(
            stage=Stage.EVAL,
            label="eval",
            folder=self.root / "run",
            key="eval/nq",
            values={"depth": self.depth},
            action=self._eval,
            outputs=("eval/nq",),
            feeds=("eval/nq",),
            needs=(self.train,),
        )

    @property
    def tasks(self):
        return [self.mine, self.train, self.eval]

    def _mine(self, draft, progress):
        self.calls.append("mine")
        (draft / "negatives.txt").write_text(self.words.lower())
        (draft / "summary.txt").write_text(self.words)
        return {"words": len(self.words.split())}

    def _train(self, draft, progress):
        self.calls.append("train")
        (draft / "model" / "inner").mkdir(parents=True)
        text = (self.root / "negatives" / "negatives.txt").read_text()
        (draft / "model" / "inner" / "weights").write_text(f"{text} at {self.rate}")
        (draft / "log.txt").write_text(f"trained at {time.time_ns()}")
        return {}

    def _eval(self, draft, progress):
        self.calls.append("eval")
        (draft / "eval" / "nq").mkdir(parents=True)
        text = (self.root / "run" / "model" / "inner" / "weights").read_text()
        (draft / "eval" / "nq" / "metrics").write_text(f"{text} to {self.depth}")
        return {}


@pytest.fixture
def walked(tmp_path):
    """Walk the toy road and tell which of its tasks ran."""

    def walk(root=tmp_path, **values):
        calls = []
        road = Road(root, calls, **values)
        runner = Runner(Silent())
        for task in road.tasks:
            assert runner.run(task) == (task.stage.value in calls)
            assert runner.is_current(task)
        return calls

    return walk


def one(folder, action, **changes):
    """A task by itself, with one output."""
    values = {
        "stage": Stage.TRAIN,
        "label": "train",
        "folder": folder,
        "key": "train",
        "values": {"rate": 1},
        "action": action,
        "outputs": ("out.txt",),
        "feeds": ("out.txt",),
    }
    return Task(**{**values, **changes})


def writing(text):
    def action(draft, progress):
        (draft / "out.txt").write_text(text)
        return {}

    return action


def labels(tasks):
    return [task.label for task in tasks]


def pending(root, *, verify=False, **values):
    return labels(Runner(Silent(), verify=verify).pending(Road(root, [], **values).tasks))


def test_nothing_runs_twice(walked):
    assert walked() == ["mine", "train", "eval"]
    assert walked() == []


def test_a_task_leaves_its_outputs_and_record_and_no_draft(walked, tmp_path):
    walked()
    record = Runner(Silent()).current_record(Road(tmp_path, []).mine)
    assert record.details == {"words": 2}
    assert [file.path for file in record.outputs] == ["negatives.txt", "summary.txt"]
    visible = {p.name for p in (tmp_path / "negatives").iterdir() if not p.name.endswith(".lock")}
    assert visible == {"negatives.txt", "summary.txt", "manifest.json"}
    assert (tmp_path / "run/eval/nq/metrics").read_text() == "tide moon at 1 to 3"


@pytest.mark.parametrize(
    ("values", "ran"),
    [
        ({"words": "ebb"}, ["mine", "train", "eval"]),
        ({"rate": 2}, ["train", "eval"]),
        ({"depth": 4}, ["eval"]),
    ],
)
def test_a_changed_value_runs_its_task_and_those_that_follow(walked, values, ran):
    walked()
    assert walked(**values) == ran
    assert walked(**values) == []


def test_a_rerun_that_writes_the_same_bytes_stops_there(walked):
    walked()
    assert walked(words="TIDE Moon") == ["mine"]


def test_an_output_that_feeds_nothing_moves_nothing(walked, tmp_path):
    walked()
    road, runner = Road(tmp_path, []), Runner(Silent())
    before = (tmp_path / "run/log.txt").read_text()
    assert runner.run(road.train, force=True)
    assert (tmp_path / "run/log.txt").read_text() != before
    assert walked() == []


@pytest.mark.parametrize(
    ("stage", "stale"),
    [
        (Stage.DATA, []),
        (Stage.MINE, ["mine", "train", "eval"]),
        (Stage.TRAIN, ["train", "eval"]),
        (Stage.EVAL, ["eval"]),
    ],
)
def test_a_raised_numbers_version_makes_that_stage_and_its_followers_stale(
    walked, tmp_path, monkeypatch, stage, stale
):
    walked()
    monkeypatch.setitem(stages.NUMBERS_VERSIONS, stage, stages.NUMBERS_VERSIONS[stage] + 1)
    assert pending(tmp_path) == stale
    # The same bytes come out again, so only the stage itself has to run.
    assert walked() == stale[:1]


@pytest.mark.parametrize("name", ["run/model/inner/weights", "run/log.txt"])
def test_a_deleted_output_is_made_again(walked, tmp_path, name):
    walked()
    (tmp_path / name).unlink()
    assert pending(tmp_path) == ["train", "eval"]
    assert walked() == ["train"]
    assert (tmp_path / name).is_file()


def test_a_changed_output_is_made_again(walked, tmp_path):
    walked()
    (tmp_path / "run/model/inner/weights").write_text("tide moon at 9")
    assert walked() == ["train"]
    assert (tmp_path / "run/model/inner/weights").read_text() == "tide moon at 1"


def test_only_verify_sees_an_output_changed_behind_its_time(walked, tmp_path):
    walked()
    file = tmp_path / "run/model/inner/weights"
    status = file.stat()
    file.write_text("tide moon at 9")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert pending(tmp_path) == []
    assert pending(tmp_path, verify=True) == ["train", "eval"]


def test_a_lost_manifest_makes_its_folder_run_again(walked, tmp_path):
    walked()
    (tmp_path / "run/manifest.json").unlink()
    assert walked() == ["train", "eval"]


def test_pending_names_what_is_not_current_with_what_it_rests_on_first(tmp_path):
    road, runner = Road(tmp_path, []), Runner(Silent())
    assert labels(runner.pending([road.eval])) == ["mine", "train", "eval"]
    assert labels(runner.pending([road.eval, road.mine, road.eval])) == ["mine", "train", "eval"]
    runner.run(road.mine)
    assert labels(runner.pending([road.eval, road.train])) == ["train", "eval"]
    assert labels(runner.pending([])) == []


def test_a_task_whose_need_has_not_run_is_refused(tmp_path):
    with pytest.raises(StaleInputError, match="'train' reads 'mine', not up to date") as caught:
        Runner(Silent()).run(Road(tmp_path, []).train)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_task_whose_need_is_stale_is_refused_even_by_force(walked, tmp_path):
    walked()
    (tmp_path / "negatives/negatives.txt").write_text("other")
    with pytest.raises(StaleInputError):
        Runner(Silent()).run(Road(tmp_path, []).eval, force=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, ZeroDivisionError])
def test_a_task_that_dies_half_way_leaves_the_old_output_alone(walked, tmp_path, error):
    walked()

    def dying(draft, progress):
        (draft / "model").mkdir()
        (draft / "model" / "half").write_text("half")
        raise error

    train = Road(tmp_path, [], rate=2).train
    runner = Runner(Silent())
    with pytest.raises(error):
        runner.run(Task(**{**vars(train), "action": dying}))
    assert not runner.is_current(train)
    assert (tmp_path / "run/model/inner/weights").read_text() == "tide moon at 1"
    assert pending(tmp_path) == []
    assert walked(rate=2) == ["train", "eval"]
    assert not (tmp_path / "run/model/half").exists()
    assert not any(path.name.endswith(".draft") for path in (tmp_path / "run").iterdir())


def test_a_first_run_that_dies_is_not_current_and_the_next_completes(tmp_path):
    def dying(draft, progress):
        (draft / "out.txt").write_text("half")
        raise KeyboardInterrupt

    runner = Runner(Silent())
    with pytest.raises(KeyboardInterrupt):
        runner.run(one(tmp_path, dying))
    assert not runner.is_current(one(tmp_path, dying))
    assert not (tmp_path / "out.txt").exists()
    assert runner.run(one(tmp_path, writing("whole")))
    assert (tmp_path / "out.txt").read_text() == "whole"


def test_an_action_that_leaves_out_an_output_has_failed(tmp_path):
    task = one(tmp_path, writing("x"), outputs=("out.txt", "log.txt"))
    runner = Runner(Silent())
    with pytest.raises(StageFailedError, match=r"log\.txt"):
        runner.run(task)
    assert not runner.is_current(task)


def failed(task):
    with pytest.raises(StageFailedError, match="'train' could not read or write its files") as e:
        Runner(Silent()).run(task)
    assert e.value.exit_code == 1
    return str(e.value), e.value.hint


@pytest.mark.parametrize("write", [lambda f: f.write(bytes(9000)), np.zeros(9000).tofile])
def test_a_full_disk_is_a_failed_stage_with_exit_code_one(tmp_path, write):
    def fill(draft, progress):
        with open("/dev/full", "wb") as stream:  # noqa: PTH123
            write(stream)

    message, hint = failed(one(tmp_path, fill))
    assert "No space left on device" in message or "0 written" in message
    assert hint == f"df -h {tmp_path}"


@pytest.mark.parametrize(
    "save",
    [
        lambda weights, file: torch.save(weights, file),
        lambda weights, file: save_file(weights, file),
        lambda weights, file: np.save(file, weights["w"].numpy()),
    ],
)
def test_a_full_disk_is_told_whichever_library_noticed_it(tmp_path, save, full_disk):
    def write(draft, progress):
        with full_disk(1000):
            save({"w": torch.zeros(9000)}, draft / "out.npy")

    message, hint = failed(one(tmp_path, write))
    assert "\n" not in message
    assert hint in (f"df -h {tmp_path}", f"ls -ld {tmp_path}")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.zeros(1 << 52),
        lambda: np.zeros(1 << 52),
        lambda: bytearray(1 << 60),
    ],
)
def test_memory_that_gives_out_is_a_failed_stage(tmp_path, ask):
    with pytest.raises(StageFailedError, match="'train' ran out of memory: ") as caught:
        Runner(Silent()).run(one(tmp_path, lambda draft, _: ask()))
    assert "training.mini_batch_size" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "manifest.json").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    def write(draft, progress):
        Path("/sys/ragcun").write_text("")  # to root, too

    message, hint = failed(one(tmp_path, write))
    assert "Permission denied: '/sys/ragcun'" in message
    assert hint == "ls -ld /sys"


def test_a_file_that_is_gone_is_named(tmp_path):
    message, hint = failed(one(tmp_path / "run", lambda draft, _: (draft / "a/b").read_text()))
    assert "No such file or directory" in message
    assert hint == f"ls -ld {tmp_path}"


def test_a_file_that_may_not_grow_is_no_full_disk(tmp_path):
    def write(draft, progress):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            (draft / "out.txt").write_text("x" * 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    message, hint = failed(one(tmp_path / "run", write))
    assert "File too large" in message
    assert hint == f"ls -ld {tmp_path}"


def test_an_error_that_is_the_persons_to_mend_passes_through(tmp_path):
    def refusing(draft, progress):
        raise DataError("the corpus is empty")

    with pytest.raises(DataError, match="the corpus is empty"):
        Runner(Silent()).run(one(tmp_path, refusing))


def test_a_folder_under_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot be written") as caught:
        Runner(Silent()).run(one(tmp_path / "file" / "run", writing("x")))
    assert caught.value.hint == "--workspace FOLDER, or export RAGCUN_WORKSPACE=FOLDER"


def test_a_read_only_folder_cannot_be_written(tmp_path, unprivileged):
    (tmp_path / "run").mkdir(mode=0o555)
    with unprivileged(), pytest.raises(WorkspaceError, match="cannot be written"):
        Runner(Silent()).run(one(tmp_path / "run", writing("x")))


def dying_after(step):
    """Writes a step file, says which it found, and dies."""

    def action(draft, progress):
        found = sorted(path.name for path in draft.glob("step-*"))
        progress.note(f"found {found}")
        (draft / f"step-{step}").write_text("")
        raise KeyboardInterrupt

    return action


def finishing(draft, progress):
    found = sorted(path.name for path in draft.glob("step-*"))
    (draft / "out.txt").write_text(f"went on from {found}")
    return {}


@pytest.mark.parametrize(
    ("resumable", "rate", "text"),
    [
        (True, 1, "went on from ['step-1', 'step-2']"),
        (True, 2, "went on from []"),
        (False, 1, "went on from []"),
    ],
)
def test_a_draft_is_gone_on_from_only_by_a_resumable_task_with_the_same_recipe(
    tmp_path, resumable, rate, text
):
    listening = Listening()
    for step in (1, 2):
        task = one(tmp_path, dying_after(step), resumable=resumable)
        with pytest.raises(KeyboardInterrupt):
            Runner(listening).run(task)
    assert listening.notes == ["found []", "found ['step-1']" if resumable else "found []"]
    task = one(tmp_path, finishing, resumable=resumable, values={"rate": rate})
    assert Runner(listening).run(task)
    assert (tmp_path / "out.txt").read_text() == text
    assert not task.draft.exists()


def test_force_begins_anew_where_an_attempt_was_interrupted(tmp_path):
    task = one(tmp_path, dying_after(1), resumable=True)
    with pytest.raises(KeyboardInterrupt):
        Runner(Silent()).run(task)
    assert Runner(Silent()).run(one(tmp_path, finishing, resumable=True), force=True)
    assert (tmp_path / "out.txt").read_text() == "went on from []"


def stop_in(patch, where, name, *, when):
    """Have a function of others raise KeyboardInterrupt where its first argument is such."""
    real = getattr(where, name)

    def stopping(path, *args, **kwargs):
        if when(Path(path)):
            raise KeyboardInterrupt
        return real(path, *args, **kwargs)

    patch.setattr(where, name, stopping)


@pytest.mark.parametrize("rate", [2, 1])
def test_a_draft_that_a_stop_half_deleted_is_not_gone_on_from(tmp_path, monkeypatch, rate):
    """Of another recipe, before its turn comes again; of a finished stage, before it is forced."""
    with pytest.raises(KeyboardInterrupt):
        Runner(Silent()).run(one(tmp_path, dying_after(1), resumable=True))
    for step in range(2, 30):
        (tmp_path / f".train.draft/step-{step}").touch()
    with monkeypatch.context() as patch:
        stop_in(patch, os, "unlink", when=lambda path: path.name == "recipe")
        with pytest.raises(KeyboardInterrupt):
            Runner(Silent()).run(one(tmp_path, finishing, resumable=True, values={"rate": rate}))
    (tmp_path / "out.txt").unlink(missing_ok=True)
    assert Runner(Silent()).run(one(tmp_path, finishing, resumable=True))
    assert (tmp_path / "out.txt").read_text() == "went on from []"
    assert not [path.name for path in tmp_path.iterdir() if "draft" in path.name]


def test_a_draft_is_gone_on_from_though_a_stop_set_it_aside_with_an_earlier_model(
    tmp_path, monkeypatch
):
    folder = tmp_path / "seed-1"
    common = {"resumable": True, "irreplaceable": True}
    Runner(Silent()).run(one(folder, writing("first"), **common))

    def action(draft, progress):
        found = sorted(path.name for path in draft.glob("step-*"))
        (draft / "step-9").touch()
        return writing(f"went on from {found}")(draft, progress)

    task = one(folder, action, values={"rate": 2}, **common)
    with monkeypatch.context() as patch:
        stop_in(patch, Path, "replace", when=lambda path: path.name == "out.txt")
        with pytest.raises(KeyboardInterrupt):
            Runner(Silent()).run(task)
    assert [path.name for path in tmp_path.glob("seed-1.kept-*/out.txt")] == ["out.txt"]
    assert Runner(Silent()).run(task)
    assert (folder / "out.txt").read_text() == "went on from ['step-9']"
    (kept,) = tmp_path.glob("seed-1.kept-*")
    assert (kept / "out.txt").read_text() == "first"
    assert not list(tmp_path.rglob("*.draft"))


@pytest.mark.parametrize("when", ["before it is deleted", "while it is deleted"])
def test_a_draft_that_a_kill_left_of_a_finished_task_is_removed(tmp_path, monkeypatch, when):
    """Not while another process is at work in it, nor while the task is out of date."""

    def action(draft, progress):
        (draft / "inner").mkdir()
        (draft / "inner/checkpoint").write_text("large")
        return writing("done")(draft, progress)

    folder = tmp_path / "seed-1"
    task = one(folder, action)
    at = ("rename", task.draft.name) if when.startswith("before") else ("unlink", "checkpoint")
    with monkeypatch.context() as patch:
        stop_in(
            patch, os, at[0], when=lambda path: path.name == at[1] and (folder / "out.txt").exists()
        )
        with pytest.raises(KeyboardInterrupt):
            Runner(Silent()).run(task)
    aside = tmp_path / "seed-1.kept-00/.train.draft"
    aside.mkdir(parents=True)

    def left():
        return [path.name for path in tmp_path.rglob("*draft*")]

    assert len(left()) == 2
    Runner(Silent()).remove_left([one(folder, action, values={"rate": 2})])
    with FileLock(task.lock):
        Runner(Silent()).remove_left([task])
    assert len(left()) == 2
    assert Runner(Silent()).is_current(task)
    Runner(Silent()).remove_left([task])
    assert left() == []
    assert (folder / "out.txt").read_text() == "done"


def test_an_irreplaceable_output_of_another_recipe_is_kept_aside(tmp_path):
    def model(rate):
        return one(
            tmp_path / "seed-1",
            writing(f"model at {rate}"),
            values={"rate": rate},
            irreplaceable=True,
        )

    listening = Listening()
    kept = {}
    for rate in (1, 2, 1, 2):
        runner = Runner(listening)
        assert runner.run(model(rate))
        assert runner.is_current(model(rate))
        assert (tmp_path / "seed-1/out.txt").read_text() == f"model at {rate}"
        kept[rate] = runner.record(model(rate)).recipe[:8]
    assert len(listening.notes) == 3
    assert f"the earlier model stays at seed-1.kept-{kept[1]}" in listening.notes[0]
    aside = {path.name: (path / "out.txt").read_text() for path in tmp_path.glob("*.kept-*")}
    assert aside == {
        f"seed-1.kept-{kept[1]}": "model at 1",
        f"seed-1.kept-{kept[2]}": "model at 2",
        f"seed-1.kept-{kept[1]}-2": "model at 1",
    }
    assert not list(tmp_path.rglob(".*.draft"))


def test_an_irreplaceable_output_of_the_same_recipe_is_made_anew_in_its_place(tmp_path):
    runner = Runner(Silent())
    runner.run(one(tmp_path / "seed-1", writing("first"), irreplaceable=True))
    runner.run(one(tmp_path / "seed-1", writing("again"), irreplaceable=True), force=True)
    assert (tmp_path / "seed-1/out.txt").read_text() == "again"
    assert [path.name for path in tmp_path.iterdir()] == ["seed-1"]


def test_the_kept_folder_is_whole_with_all_its_records(tmp_path):
    class Kept(Road):
        @property
        def train(self):
            return Task(**{**vars(super().train), "irreplaceable": True})

    for rate in (1, 2):
        runner = Runner(Silent())
        for task in Kept(tmp_path, [], rate=rate).tasks:
            runner.run(task)
    (kept,) = tmp_path.glob("run.kept-*")
    manifest = Manifest.load(kept / "manifest.json")
    assert sorted(manifest.stages) == ["eval/nq", "train"]
    for record in manifest.stages.values():
        assert record.outputs
        assert all(file.is_intact(kept, verify=True) for file in record.outputs)
    assert (tmp_path / "run/eval/nq/metrics").read_text() == "tide moon at 2 to 3"


def test_a_moved_workspace_stays_current(walked, tmp_path):
    walked(tmp_path / "old")
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert pending(tmp_path / "new", verify=True) == []
    assert walked(tmp_path / "new") == []


@pytest.mark.parametrize("copy", [shutil.copy2, shutil.copyfile])
def test_a_copied_workspace_stays_current_with_its_times_or_without(walked, tmp_path, copy):
    walked(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new", copy_function=copy)
    assert pending(tmp_path / "new") == []
    assert walked(tmp_path / "new") == []
    assert walked(tmp_path / "new", rate=2) == ["train", "eval"]
    assert pending(tmp_path / "old") == []


def test_two_runners_at_the_same_task_run_it_once(tmp_path):
    calls, ran, start = [], [], threading.Barrier(4)

    def slow(draft, progress):
        calls.append("slow")
        time.sleep(0.2)
        (draft / "out.txt").write_text("x")
        return {}

    def run():
        runner = Runner(Silent())
        start.wait()
        ran.append(runner.run(one(tmp_path, slow)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert calls == ["slow"]
    assert sorted(ran) == [False, False, False, True]


def test_two_runners_at_two_tasks_of_one_folder_both_leave_their_record(tmp_path):
    keys = [f"eval/{number}" for number in range(8)]
    start = threading.Barrier(len(keys))

    def run(key):
        def action(draft, progress):
            (draft / key).mkdir(parents=True)
            (draft / key / "metrics").write_text(key)
            return {}

        start.wait()
        Runner(Silent()).run(one(tmp_path, action, key=key, outputs=(key,), feeds=(key,)))

    threads = [threading.Thread(target=run, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(Manifest.load(tmp_path / "manifest.json").stages) == keys
