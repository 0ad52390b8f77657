"""Tables and figures of isotropy, of measures made from drawn embeddings."""

import json
from pathlib import Path

import numpy as np
import pytest

from ragcun_cli.core.isotropy.embedding_pass import EmbeddingPass
from ragcun_cli.pipeline.isotropy.one_side import measures_of
from ragcun_cli.pipeline.report.figures.isotropy import isotropy_figures
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.table import Difference, WithDeviation, WithInterval
from ragcun_cli.pipeline.report.tables.isotropy import isotropy_tables
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import RunProfile

SPACE = Workspace(root=Path("w"), data=Path("w/data"))
ROWS = np.random.default_rng(0).normal(size=(400, 24)) / np.arange(1, 25) ** 0.5


def side(rows, *, digest="same"):
    seen = EmbeddingPass()
    seen.add(rows, first_row=0, keys=np.arange(len(rows), dtype=np.uint64))
    measures = json.loads(json.dumps(measures_of(seen), allow_nan=False))
    return {"texts_digest": digest, **measures}


def content(rows, **kwargs):
    pairs = {"pairs": 20, "alignment": 0.5, "mean_gap": 0.01}
    return {"queries": side(rows, **kwargs), "passages": side(rows[:300]), "pairs": pairs}


HUBS = {
    "scifact": {
        "skewness": 2.0,
        "skewness_of_chance": 0.5,
        "anti_hub_share": 0.3,
        "anti_hub_share_of_chance": 0.1,
        "most": 40,
    }
}


def row(name, *measured, reference=None, hubs=HUBS):
    runs = [
        Run(RunProfile(name="mine"), None if reference else number, reference, SPACE)
        for number in range(len(measured))
    ]
    seeds = [
        SeedResults(
            run=run,
            training=None,
            evaluations={},
            scores={},
            isotropy=found,
            metrics={name: {"hubness": found} for name, found in hubs.items()},
            samples={},
        )
        for run, found in zip(runs, measured, strict=True)
    ]
    return ModelRow(name, tuple(seeds))


@pytest.fixture(scope="module")
def rows():
    bent = ROWS * np.linspace(1, 0.6, 24)
    return [
        row("untouched", content(ROWS[:, :16]), reference="untouched"),
        row("untouched_start", content(ROWS), reference="untouched_start"),
        row("bm25", None, reference="bm25"),
        row("bent", content(bent)),
        row("twice", content(bent), content(ROWS)),
        row("few", content(ROWS[:30])),
        row("other", content(bent, digest="other")),
        row("unknown", None),
    ]


def cells(table):
    keys = [column.key for column in table.columns]
    return {cells[0]: dict(zip(keys, cells, strict=True)) for cells in table.rows}


def test_differences_are_taken_at_equal_n_and_d_alone(rows):
    found = {name: row["difference"] for name, row in cells(isotropy_tables(rows)[0]).items()}
    assert "bm25" not in found
    assert found["untouched"] == "other n or d"
    assert found["few"] == "other n or d"
    assert found["other"] == "other texts"
    assert found["untouched_start"] == "reference"
    assert found["unknown"] is None
    bent, same = rows[3].seeds[0].isotropy["queries"], rows[1].seeds[0].isotropy["queries"]
    expected = bent["plan_score"] - same["plan_score"]
    assert found["bent"].value == pytest.approx(expected)
    assert found["bent"].low < expected < found["bent"].high < 0
    assert found["twice"].value == pytest.approx(expected / 2)


def test_the_interval_of_a_difference_is_narrower_than_those_of_its_sides(rows):
    table = cells(isotropy_tables(rows)[0])
    difference, own = table["bent"]["difference"], table["bent"]["plan_score"]
    assert isinstance(difference, Difference)
    assert isinstance(own, WithInterval)
    assert difference.high - difference.low < 0.7 * (own.high - own.low)


def test_without_the_reference_there_are_no_differences(rows):
    table = isotropy_tables([rows[0], *rows[2:]])[0]
    assert "difference" not in [column.key for column in table.columns]
    assert not any("untouched_start" in note for note in table.notes)


def test_the_untouched_base_is_marked_with_its_own_dimensions(rows):
    (note,) = [n for n in isotropy_tables(rows)[0].notes if n.startswith("untouched stands")]
    assert "its own 16 dimensions" in note
    assert "as in 24" in note


def test_several_seeds_have_a_spread_and_one_has_an_interval(rows):
    table = cells(isotropy_tables(rows)[0])
    assert isinstance(table["twice"]["plan_score"], WithDeviation)
    least, most = rows[3].seeds[0].isotropy["queries"]["gaussian_intervals"]["plan_score_corrected"]
    assert table["bent"]["plan_score_corrected"] < least < most == 1
    assert table["bent"]["plan_score_corrected_of_gaussian"] == least
    assert table["few"]["plan_score"] == rows[5].seeds[0].isotropy["queries"]["plan_score"]
    assert table["unknown"]["plan_score"] is None
    assert (table["bent"]["texts"], table["bent"]["dimensions"]) == (400, 24)


def test_hubs_are_means_over_sets_that_every_row_has(rows):
    table = cells(isotropy_tables(rows)[1])
    assert table["bent"]["skewness"] == 2.0
    assert table["bent"]["alignment"] == 0.5
    assert table["unknown"]["alignment"] is None
    bare = isotropy_tables([*rows, row("bare", content(ROWS), hubs={})])[1]
    assert "skewness" not in [column.key for column in bare.columns]


def test_figures_show_every_measured_row(rows):
    figures = {figure.key: figure for figure in isotropy_figures(rows)}
    assert list(figures) == [
        f"{kind}-{side}"
        for side in ("queries", "passages")
        for kind in ("spectrum", "isotropy-by-n", "cosines")
    ]
    labels = ["untouched", "untouched_start", "bent", "twice", "few", "other"]
    spectrum = figures["spectrum-queries"]
    assert [series.label for series in spectrum.series] == labels
    assert spectrum.x_scale == spectrum.y_scale == "log"
    assert np.mean(spectrum.series[2].y) == pytest.approx(1)
    flat = np.pad(ROWS[:, :10], ((0, 0), (0, 14)))  # 14 of 24 directions hold nothing but rounding
    flat[:, 10:] = 1e-7 * np.random.default_rng(1).normal(size=(400, 14))
    (only, *_) = isotropy_figures([row("flat", content(flat))])
    assert len(only.series[0].y) == 10
    assert len(spectrum.series[0].x) == 16
    curve = figures["isotropy-by-n-queries"]
    assert curve.series[0].x == tuple(range(20, 401, 20))
    assert {s.label for s in curve.series[6:]} == {"a Gaussian, d = 16", "a Gaussian, d = 24"}
    cosines = figures["cosines-queries"]
    assert cosines.kind == "steps"
    assert [series.label for series in cosines.series][:6] == labels
    for series in cosines.series:
        assert sum(series.y) == pytest.approx(1)
        assert -1 <= series.x[0] < series.x[-1] <= 1


def test_nothing_measured_has_no_figures(rows):
    assert isotropy_figures([rows[2], rows[7]]) == []
