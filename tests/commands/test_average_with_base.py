"""`training.average_with_base`, by the command line."""

from sentence_transformers import SentenceTransformer

TRAIN = ("train", "--profile", "smoke", "--experiment", "with_isotropy", "--seed", "1")
SELECTION = ("--set", "training.selection.queries=20", "--set", "training.selection.every=10")


def weights(folder):
    return SentenceTransformer(str(folder), device="cpu").state_dict()


def test_what_is_saved_lies_between_the_start_and_what_was_trained(ragcun, workspace):
    """With the same selection the same step is trained, whatever is kept of it."""
    before = set(workspace.glob("runs/with_isotropy/*"))
    for share in ("0.25", "0"):
        more = ("--set", f"training.average_with_base={share}", "--set", "training.max_steps=10")
        outcome = ragcun(*TRAIN, *more, *SELECTION, "-w", workspace)
        assert outcome.code == 0, outcome.err
    made = {folder.name: folder for folder in workspace.glob("runs/with_isotropy/*")}
    new = sorted(set(made.values()) - before, key=lambda folder: folder.stat().st_mtime_ns)
    assert len(new) == 2
    averaged, trained = (weights(folder / "seed-1/model") for folder in new)
    (reference,) = workspace.glob("runs/untouched_start/*/model")
    start = weights(reference)
    moved = 0
    for name, value in averaged.items():
        expected = 0.75 * trained[name].double() + 0.25 * start[name].double()
        assert (value.double() - expected).abs().max() < 1e-6
        moved += not value.equal(trained[name])
    assert moved > 10
