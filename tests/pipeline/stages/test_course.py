"""How far a command is, told before each stage."""

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


def test_what_the_first_stages_took_corrects_the_guess_for_the_others(tmp_path, monkeypatch):
    now = iter([0.0, 0.0, 1200.0])
    monkeypatch.setattr(course.time, "perf_counter", lambda: next(now))
    first, second = tasks(tmp_path, 10, 20)
    way = course.Course([first, second])
    assert way.comes_to(first) == "stage 1 of 2, about 30 min left: mine 0"
    assert way.comes_to(second) == "stage 2 of 2, about 38 min left: mine 1"


def test_a_short_stage_hardly_moves_the_guess_for_the_others(tmp_path, monkeypatch):
    now = iter([0.0, 0.0, 36.0])
    monkeypatch.setattr(course.time, "perf_counter", lambda: next(now))
    first, second = tasks(tmp_path, 0.15, 10)
    way = course.Course([first, second])
    assert way.comes_to(first) == "stage 1 of 2, about 10 min left: mine 0"
    assert way.comes_to(second) == "stage 2 of 2, about 14 min left: mine 1"
