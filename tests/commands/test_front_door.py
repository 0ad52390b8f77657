"""What somebody sees first: the road, and what comes after a plan was walked."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from ragcun_cli import console

ROAD = ["data", "mine", "train", "eval", "isotropy", "report", "reproduce", "profile", "serve"]


@pytest.fixture
def terminal(monkeypatch):
    """Call it with a width for a stdout that is a terminal of it."""

    def of(width):
        monkeypatch.setattr(
            console,
            "out",
            console.SafeConsole(
                force_terminal=True, color_system=None, width=width, soft_wrap=True
            ),
        )

    return of


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_the_first_screen_shows_the_road_in_its_order_and_where_to_begin(ragcun, words):
    shown = ragcun(*words)
    text = shown.out + shown.err
    assert re.findall(r"(?m)^\W*([a-z]+) {2,}[A-Z]", text) == ROAD
    assert "data → mine → train → eval → isotropy → report" in text
    assert "Begin with: ragcun reproduce --profile quickstart" in text


def next_steps(outcome):
    """The commands that are said after a plan was walked."""
    lines = outcome.err.splitlines()
    found = [line.partition(": ragcun ")[2] for line in lines if ": ragcun " in line]
    return [shlex.split(line) for line in found]


def test_after_a_plan_come_the_answer_one_table_and_commands_that_run(ragcun, smoke_workspace):
    outcome = ragcun("reproduce", "--profile", "smoke", "-w", smoke_workspace)
    assert "with_isotropy − baseline_no_isotropy is" in outcome.err
    assert outcome.out.count("Retrieval quality") == 1
    assert "What the plan asks" not in outcome.out
    assert outcome.err.count("seed-1/model:") + outcome.err.count("/model\n") == 1
    steps = next_steps(outcome)
    assert [step[0] for step in steps] == ["report", "eval", "reproduce"]
    for step in steps:
        assert ragcun(*step).code == 0, step


def test_with_all_there_are_more_tables_and_every_model(ragcun, smoke_workspace):
    outcome = ragcun("reproduce", "--profile", "smoke", "-w", smoke_workspace, "--all")
    assert "What the plan asks" in outcome.out
    assert "What a query takes" in outcome.out
    assert outcome.err.count("/model\n") == 10


def test_a_plan_without_two_models_has_no_hits_to_compare(ragcun, smoke_workspace, tmp_path):
    words = ("--profile", "smoke", "--experiment", "with_isotropy", "--references", "none")
    workspace = shutil.copytree(smoke_workspace, tmp_path / "ws")
    outcome = ragcun("reproduce", *words, "-w", workspace)
    assert outcome.code == 0, outcome.err
    steps = next_steps(outcome)
    assert [step[0] for step in steps] == ["report", "reproduce"]
    assert all("with_isotropy" in step for step in steps[1:])


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_is_shortened_on_a_terminal_and_whole_with_all(
    ragcun, smoke_workspace, terminal, width
):
    terminal(width)
    words = ("reproduce", "--profile", "smoke", "-w", smoke_workspace)
    short, whole = ragcun(*words).out, ragcun(*words, "--all").out
    assert all(len(line) <= width for line in short.splitlines())
    assert short.count("with_isotropy ") == 1
    assert ("smoke-numpy" in short, "smoke-numpy" in whole) == (False, True)
    assert "Not shown: 2 columns of single data sets; --all shows them." in short
    assert "Not shown" not in whole


def test_the_picture_of_a_workspace_is_of_one(smoke_workspace):
    page = (Path(__file__).parents[2] / "docs/RUNNING.md").read_text("utf-8")
    drawn = re.search(r"(?s)```text\nworkspace/\n(.*?)```", page)[1].splitlines()
    at, seen = [], 0
    for line in drawn:
        indent, name = re.match(r"((?:│   |    )*)[├└]── (\S+)", line).groups()
        at = [*at[: len(indent) // 4], name]
        assert smoke_workspace.joinpath(*at).exists(), line
        seen += 1
    assert seen > 15
