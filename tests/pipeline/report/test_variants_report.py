"""The table of smaller embeddings, of measures that are written here."""

from pathlib import Path

import pytest

from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.tables.evaluation import variants_table
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import RunProfile

SPACE = Workspace(root=Path("w"), data=Path("w/data"))


def row(label, *, reference=None, variants=True, contrastive="euclidean", **head):
    profile = RunProfile.model_validate(
        {
            "name": "mine",
            "encoder": {"head": head},
            "training": {"contrastive": contrastive},
        }
    )
    metrics = {
        "metrics": {"ndcg@10": 0.5},
        "variants": {"binary": {"ndcg@10": 0.4}} if variants else {},
        "settings": {"bytes_per_passage": {"float32": 2048, "binary": 64}},
    }
    seed = SeedResults(
        run=Run(profile, None if reference else 1, reference, SPACE),
        training=None,
        evaluations={},
        scores={},
        isotropy=None,
        metrics={"scifact": metrics},
        samples={},
    )
    return ModelRow(label, (seed,))


def test_a_note_says_which_basis_each_row_stands_in():
    table = variants_table(
        [
            row("untouched", reference="untouched"),
            row("untouched_start", reference="untouched_start"),
            row("bm25", reference="bm25", variants=False),
            row("arm"),
            row("cosine", kind="none", contrastive="cosine"),
            row("plain", rotation="none"),
            row("drawn", init="random"),
            row("other", rotation_seed=3),
        ]
    )
    (note,) = [note for note in table.notes if "basis" in note]
    assert "In the base's own: untouched, cosine;" in note
    assert "turned at random, seed 0: untouched_start, arm;" in note
    assert "In principal directions of the base: plain;" in note
    assert "In that of a random head: drawn;" in note
    assert "turned at random, seed 3: other." in note
    assert "bm25" not in note
    lost = {cells[0]: cells[-1] for cells in table.rows if cells[1] == "binary"}
    assert lost["arm"] == pytest.approx(-0.1)


def test_without_smaller_forms_there_is_no_table():
    assert variants_table([row("arm", variants=False)]) is None
