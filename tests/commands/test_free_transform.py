"""The reference `free_transform`, by the command line."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.isotropy.transforms import ROTATIONS, TRANSFORMS
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.search.held_out import SelectionSet, read_held_out
from ragcun_cli.pipeline.stages.runs import runs_on_disk

SMOKE = ("--profile", "smoke", "--experiment", "frozen_efficient", "--seed", "1")
CHOSEN = ("--set", "training.selection.queries=30", "--set", "training.selection.every=5")
BINARY = ("--set", 'training.selection.variants=["binary"]')


def test_the_best_transform_on_held_out_queries_is_saved_and_evaluated(ragcun, workspace):
    asked = (*SMOKE, "--references", "untouched,free_transform", *CHOSEN, *BINARY, "-w", workspace)
    outcome = ragcun("reproduce", *asked)
    assert outcome.code == 0, outcome.err
    place = Place(open_workspace(str(workspace)))
    (run,) = (run for run in runs_on_disk(place.workspace)[0] if run.name == "free_transform")
    details = json.loads((run.folder / "manifest.json").read_text())["stages"]["train"]["details"]
    scores = details["scores"]
    assert len(scores) == len(TRANSFORMS) * len(ROTATIONS)
    assert scores[details["transform"]] == max(scores.values())

    model = place.load(run)
    assert model.similarity_fn_name == "cosine"
    folder, config = place.workspace.dataset("smoke"), run.profile.training.selection
    test = read_held_out(folder, "smoke", "train", config, seed=0)
    again = SelectionSet([test], 64, ("binary",)).scores(model)
    assert np.mean(list(again.values())) == pytest.approx(max(scores.values()), abs=1e-9)

    # What is saved is an affine map of the base, whichever was best.
    whole = SentenceTransformer(str(run.folder / "model"), device="cpu")
    (base,) = (run for run in runs_on_disk(place.workspace)[0] if run.name == "untouched")
    texts = Corpus.open(folder).texts[:]
    inputs, outputs = (one.encode(texts).astype(float) for one in (place.load(base), whole))
    padded = np.hstack([inputs, np.ones((len(inputs), 1))])
    fit, *_ = np.linalg.lstsq(padded, outputs, rcond=None)
    assert np.abs(padded @ fit - outputs).max() < 1e-5

    report = ragcun("report", *asked[:-2], "-w", workspace, "-f", "csv")
    assert report.code == 0, report.err
    assert "free_transform" in report.out


def test_it_needs_queries_to_be_chosen_on(ragcun, workspace):
    outcome = ragcun(
        "reproduce", *SMOKE, "--references", "free_transform", "--dry-run", "-w", workspace
    )
    assert "free_transform is chosen on held-out queries, and the plan names none" in outcome.err
