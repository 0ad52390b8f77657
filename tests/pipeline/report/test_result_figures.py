"""Figures of results and of trainings, of numbers that are written here."""

import json

import numpy as np
import pytest

from ragcun_cli.core.rankings.contrasts import Contrast
from ragcun_cli.core.rankings.random_effects import random_effects
from ragcun_cli.pipeline.report.contrasts import Compared
from ragcun_cli.pipeline.report.figure import Estimate, Forest
from ragcun_cli.pipeline.report.figures.contrasts import forest_figure
from ragcun_cli.pipeline.report.figures.draw import draw, inline_svg
from ragcun_cli.pipeline.report.figures.training import _mean_line
from ragcun_cli.pipeline.report.formats.formats import render
from ragcun_cli.spec.plan import PlannedContrast


def found(mean, *, variance=1e-5, by_seed=(-0.002, 0.0, 0.002)):
    return Contrast(mean, variance, 8.0, tuple(mean + each for each in by_seed), 0.5)


def compared(means, **more):
    by_set = {f"set{n}": found(mean, **more) for n, mean in enumerate(means)}
    planned = PlannedContrast(arm="a", against="b", primary=True)
    return Compared(planned, "a − b", 3, 3, (), found(float(np.mean(means)), **more), by_set)


def test_a_forest_has_a_line_for_each_set_and_from_three_on_sets_as_a_sample():
    one = compared([0.01, -0.005, 0.02])
    figure = forest_figure(one)
    assert figure.lines == ["set0", "set1", "set2", "macro mean", "sets as a sample"]
    low, high = one.by_set["set1"].interval()
    first = figure.estimates[1]
    assert (first.value, first.low, first.high) == pytest.approx((-0.5, 100 * low, 100 * high))
    assert first.seeds == pytest.approx((-0.7, -0.5, -0.3))
    means = np.array([each.by_seed for each in one.by_set.values()]).T
    summary = random_effects(means, np.full(3, 1e-5))
    last = figure.summaries[-1]
    assert last.value == pytest.approx(100 * summary.mean)
    assert (last.low, last.high) == pytest.approx([100 * end for end in summary.interval()])
    assert last.prediction == pytest.approx([100 * end for end in summary.prediction()])
    assert forest_figure(compared([0.01, 0.02])).lines == ["set0", "set1", "macro mean"]
    assert forest_figure(compared([0.01])).lines == ["set0"]


def test_a_forest_of_one_seed_has_no_dots_and_is_blind_to_training_noise():
    figure = forest_figure(compared([0.01, 0.02, 0.03], by_seed=(0.0,)))
    assert {estimate.seeds for estimate in figure.estimates} == {()}
    assert "One seed: blind to training noise." in figure.notes
    assert not any("blind" in note for note in forest_figure(compared([0.01])).notes)


def test_what_was_not_measured_has_no_forest():
    planned = PlannedContrast(arm="a", against="b", primary=True)
    assert forest_figure(None) is None
    assert forest_figure(Compared(planned, "a − b", 0, 3, (), why="not measured")) is None


def test_a_forest_is_drawn_the_same_and_stands_in_every_format():
    figure = forest_figure(compared([0.01, -0.005, 0.02]))
    assert draw(figure, "svg") == draw(figure, "svg")
    assert draw(figure, "pdf").startswith(b"%PDF")
    assert inline_svg(figure).startswith("<svg")
    for kind in ("latex", "markdown", "html"):
        assert figure.caption in render([], [figure], kind, title="t").replace("$-$", "−")
    (content,) = json.loads(render([], [figure], "json", title="t"))["figures"]
    assert [line["label"] for line in content["estimates"]] == ["set0", "set1", "set2"]


def test_the_drawing_shows_every_interval_whole(monkeypatch):
    from matplotlib.figure import Figure

    canvases = []
    real = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (canvases.append(self), real(self, *a, **k))[1]
    )
    figure = forest_figure(compared([0.01, -0.005, 0.5]))
    draw(figure, "svg")
    left, right = canvases[0].axes[0].get_xlim()
    for line in (*figure.estimates, *figure.summaries):
        for end in (line.low, line.high, *line.seeds, *(line.prediction or ())):
            assert left <= end <= right
    ticks = [label.get_text() for label in canvases[0].axes[0].get_yticklabels()]
    assert ticks == figure.lines


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_forest_that_cannot_be_shown_is_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        Estimate("a", 0.0, bad, 1.0)
    with pytest.raises(ValueError, match="do not tell its lines apart"):
        Forest("forest", "c", "x", (Estimate("a", 0, 0, 0), Estimate("a", 0, 0, 0)))


def test_a_line_of_a_training_is_the_mean_of_the_steps_that_all_seeds_logged():
    first = [
        {"step": 5, "loss": 4.0},
        {"step": 10, "loss": 2.0, "eval": 1.0},
        {"step": 15, "loss": 1.0},
    ]
    second = [{"step": 5, "loss": 2.0}, {"step": 10, "loss": 1.0}]
    assert _mean_line([first, second], "loss") == ((5.0, 10.0), (3.0, 1.5))
    assert _mean_line([first, second], "eval") == ((), ())
