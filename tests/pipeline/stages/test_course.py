"""How far a command is, told before each stage."""

import pytest

from ragcun_cli.pipeline.stages import course
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.manifest import Stage


def tasks(folder, *minutes):
    return [
        Task(
            stage=Stage.MINE,
            label=f"mine {number}",
            folder=folder,
            key=f"mine/{number}",
            values={},
            action=print,
            outputs=(),
            feeds=(),
            seconds=60.0 * length,
        )
        for number, length in enumerate(minutes)
    ]


def test_it_counts_stages_and_sums_the_guesses_of_those_to_come(tmp_path, monkeypatch):
    monkeypatch.setattr(course, "WEIGHT", 1e12)
    first, second, third = tasks(tmp_path, 10, 20, 30)
    way = course.Course([first, second, third])
    assert way.comes_to(first) == "stage 1 of 3, about 60 min left: mine 0"
    assert way.comes_to(third) == "stage 2 of 3, about 50 min left: mine 2"
    assert way.comes_to(third) is None
    assert way.comes_to(second) == "stage 3 of 3, about 20 min left: mine 1"
    assert course.Course([]).comes_to(first) is None


@pytest.mark.parametrize(
    ("minutes", "took", "before", "after"),
    [((10, 20), 1200.0, 30, 38), ((0.15, 10), 36.0, 10, 14)],
    ids=["a long stage corrects the guess", "a short one hardly moves it"],
)
def test_what_the_first_stage_took_weighs_as_its_length(
    tmp_path, monkeypatch, minutes, took, before, after
):
    now = iter([0.0, 0.0, took])
    monkeypatch.setattr(course.time, "perf_counter", lambda: next(now))
    first, second = tasks(tmp_path, *minutes)
    way = course.Course([first, second])
    assert way.comes_to(first) == f"stage 1 of 2, about {before} min left: mine 0"
    assert way.comes_to(second) == f"stage 2 of 2, about {after} min left: mine 1"
