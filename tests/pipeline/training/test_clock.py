import os

import pytest

from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.training.train import _Clock


class Listening(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def seconds_before(file, listening):
    return round(_Clock(file, listening).seconds())


@pytest.fixture
def file(tmp_path):
    """What an attempt left of which a step ended 1,000 s after it began."""
    file = tmp_path / "elapsed_seconds"
    clock = _Clock(file, Silent())
    clock._started -= 1000
    clock._kept -= 1000
    clock.on_step(lambda steps: None, 1)
    return file


def test_the_seconds_of_an_earlier_attempt_are_counted(file):
    listening = Listening()
    assert seconds_before(file, listening) == 1000
    assert listening.notes == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: os.truncate(file, 0),
        lambda file: os.truncate(file, 9),
        lambda file: file.write_bytes(file.read_bytes().replace(b"1", b"7", 1)),
        lambda file: file.write_bytes(b"\xff" + file.read_bytes()[1:]),
        lambda file: file.write_text("1000.000"),
    ],
)
def test_seconds_that_are_not_what_was_written_are_not_counted_and_said(file, damage):
    listening = Listening()
    damage(file)
    assert seconds_before(file, listening) == 0
    assert listening.notes == [f"{file} is damaged: the time of earlier attempts is not counted"]
