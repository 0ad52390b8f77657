"""What keeps a stage from being up to date is said, and what was damaged is never read."""

import os

import pytest

from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.stages import runner as stages
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import Manifest, Stage
from tests.pipeline.stages.test_stages import Road


@pytest.fixture
def road(tmp_path):
    """A toy road that was walked to its end."""
    walked = Road(tmp_path, [])
    runner = Runner(Silent())
    for task in walked.tasks:
        runner.run(task)
    walked.calls.clear()
    return walked


def why(task, **how):
    stale = Runner(Silent(), **how).stale(task)
    return stale and (stale.kind, stale.why)


def change_unseen(file, content):
    """As a bit that rots: size and times are what they were."""
    status = file.stat()
    assert len(content) == status.st_size
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_is_up_to_date_has_no_reason(road):
    assert [why(task) for task in road.tasks] == [None, None, None]


def test_what_never_ran_is_said_of_it_and_of_what_rests_on_it(tmp_path):
    road = Road(tmp_path, [])
    assert why(road.mine) == ("absent", "it has not run")
    assert why(road.eval) == ("absent", "it has not run")
    Runner(Silent()).run(road.mine)
    assert why(road.mine) is None


def test_a_value_that_is_another_is_said_with_both(road, tmp_path):
    other = Road(tmp_path, [], rate=20)
    assert why(other.train) == ("changed", "rate is 20, was 1")
    assert why(other.eval) == ("input", "train: rate is 20, was 1")


def test_a_value_within_values_is_said_by_its_dotted_name(road, tmp_path):
    class Deeper(Road):
        @property
        def mine(self):
            task = super().mine
            return type(task)(**{**vars(task), "values": {"training": {"scale": self.words}}})

    Runner(Silent()).run(Deeper(tmp_path, [], words="10").mine)
    found = why(Deeper(tmp_path, [], words="20").mine)
    assert found == ("changed", "training.scale is 20, was 10")
    assert why(road.mine) == ("changed", "training.scale is its default, was 10")


def test_a_raised_numbers_version_is_said(road, monkeypatch):
    was = stages.NUMBERS_VERSIONS[Stage.EVAL]
    monkeypatch.setitem(stages.NUMBERS_VERSIONS, Stage.EVAL, was + 1)
    assert why(road.eval) == ("changed", f"numbers version {was + 1}, was {was}")
    assert why(road.train) is None


def test_input_that_is_another_is_named(road, tmp_path):
    other = Road(tmp_path, [], words="other words")
    Runner(Silent()).run(other.mine)
    assert why(other.train) == ("changed", "its input mine:negatives.txt is another")


def test_a_record_that_does_not_say_what_it_was_made_of_is_said(road, tmp_path):
    file = road.train.folder / "manifest.json"
    manifest = Manifest.load(file)
    record = manifest.stages["train"].model_copy(update={"made_of": {}, "recipe": "of old"})
    manifest.with_stage("train", record).save(file)
    assert why(road.train) == ("changed", "it was made of other values, or by an earlier version")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.unlink(), "model/inner/weights is missing"),
        (lambda file: file.write_text("x"), "model/inner/weights was changed after it was written"),
    ],
)
def test_a_damaged_output_is_named(road, damage, reason):
    damage(road.train.folder / "model/inner/weights")
    assert why(road.train) == ("damaged", reason)
    assert why(road.eval) == ("input", f"train: {reason}")


def test_a_change_with_size_and_time_put_back_is_named_with_verify(road):
    file = road.train.folder / "model/inner/weights"
    change_unseen(file, file.read_bytes().swapcase())
    assert why(road.train) is None
    reason = "model/inner/weights was changed after it was written"
    assert why(road.train, verify=True) == ("damaged", reason)


def test_outputs_without_a_record_are_damaged_and_not_merely_absent(road):
    (road.train.folder / "manifest.json").unlink()
    assert why(road.train) == ("damaged", "model has no record of how it was made")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
def test_a_manifest_that_cannot_be_read_is_a_reason_and_no_end(road, content):
    file = road.train.folder / "manifest.json"
    file.write_bytes(content)
    assert why(road.train) == ("damaged", f"{file} cannot be read as a manifest")
    with pytest.raises(WorkspaceError, match="cannot be read as a manifest"):
        Runner(Silent()).run(road.train)
    assert road.calls == []


def test_a_record_that_was_changed_is_damaged_before_anything_runs(road):
    file = road.train.folder / "manifest.json"
    text = file.read_text()
    assert text.count('"seconds"') == 2
    file.write_text(text.replace('"seconds": ', '"seconds": 9', 1))
    kind, reason = why(road.eval)
    assert kind == "damaged"
    assert reason == f"{file}: the record of 'eval/nq' was changed after it was written"


@pytest.mark.parametrize("stage", ["train", "eval"])
def test_a_stage_reads_what_it_rests_on_before_it_runs(road, stage):
    task = getattr(road, stage)
    (need,) = task.needs
    file = need.folder / {"train": "negatives.txt", "eval": "model/inner/weights"}[stage]
    change_unseen(file, file.read_bytes().swapcase())
    with pytest.raises(WorkspaceError, match=f"{file.name} was changed after it was") as refused:
        Runner(Silent()).run(task, force=True)
    assert refused.value.hint == "the same command with --verify"
    assert refused.value.exit_code == 2
    assert road.calls == []


def test_a_result_is_read_as_it_was_written_or_not_at_all(road):
    runner, file = Runner(Silent()), road.eval.folder / "eval/nq/metrics"
    assert runner.read(road.eval, "eval/nq/metrics") == b"tide moon at 1 to 3"
    change_unseen(file, b"tide moon at 1 to 9")
    assert runner.is_current(road.eval)
    with pytest.raises(WorkspaceError, match="metrics was changed after it was written"):
        runner.read(road.eval, "eval/nq/metrics")
    assert not runner.is_current(road.eval)
    file.unlink()
    with pytest.raises(WorkspaceError, match="metrics was changed after it was written"):
        runner.read(road.eval, "eval/nq/metrics")
