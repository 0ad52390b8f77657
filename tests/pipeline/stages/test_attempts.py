"""What a workspace notes of each time that a stage ran."""

from dataclasses import replace

import pytest

from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.report.paper import paper_facts
from ragcun_cli.pipeline.stages.attempts import read_attempts
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.manifest import Stage
from ragcun_cli.spec.paths import Workspace


@pytest.fixture
def space(tmp_path):
    return Workspace(root=tmp_path, data=tmp_path / "data")


@pytest.fixture
def task(space):
    def action(draft, progress):
        (draft / "out").write_text("done")
        return {}

    return Task(
        stage=Stage.MINE,
        label="mine it",
        folder=space.root / "negatives",
        key="mine",
        values={},
        action=action,
        outputs=("out",),
        feeds=("out",),
    )


def raising(error):
    def action(draft, progress):
        raise error

    return action


def test_every_attempt_is_noted_with_how_it_ended(space, task):
    runner = Runner(Silent(), attempts=space.attempts)
    for error in (DataError("it cannot be"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            runner.run(replace(task, action=raising(error)))
    assert runner.run(task)
    assert not runner.run(task)
    found = read_attempts(space.attempts)
    assert [one.ended for one in found] == ["failed", "stopped", "finished"]
    assert {(one.stage, one.label) for one in found} == {("mine", "mine it")}
    assert all(one.seconds >= 0 and one.peak_bytes > 10e6 for one in found)
    facts = paper_facts([], Place(space), "mine")
    assert facts.memory["the most"].endswith(" GB")
    assert list(facts.lost_hours) == [found[0].device]


def test_a_line_that_was_cut_short_and_an_absent_file_hold_no_attempts(space, task):
    assert read_attempts(space.attempts) == []
    Runner(Silent(), attempts=space.attempts).run(task)
    with space.attempts.open("a") as stream:
        stream.write('{"stage": "mi')
    assert len(read_attempts(space.attempts)) == 1
    facts = paper_facts([], Place(space), None)
    assert facts.lost_hours == {"all": "none of the attempts that are on record"}


def test_devices_of_one_kind_are_counted_together(space):
    space.attempts.write_text(
        '{"stage":"train","label":"a","ended":"finished","seconds":1800,"device":"GPU x 8",'
        '"peak_bytes":5000000000}\n'
        '{"stage":"train","label":"a","ended":"stopped","seconds":3600,"device":"GPU x 1",'
        '"peak_bytes":1}\n'
    )
    facts = paper_facts([], Place(space), None)
    assert facts.hours == {"GPU": "5.00 hours"}
    assert facts.lost_hours == {"GPU": "1.00 hours"}
    assert facts.memory == {"the most": "5.0 GB"}


def test_without_a_file_nothing_is_noted(space, task):
    assert Runner(Silent()).run(task)
    assert not space.attempts.exists()
