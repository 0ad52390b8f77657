"""Every kind of file of a finished workspace, damaged in every way: noticed, and never a number."""

import json
import os
import shutil
from contextlib import ExitStack, contextmanager

import pytest

pytestmark = pytest.mark.system

KINDS = {
    "a corpus": "data/datasets/smoke-numpy/passages/passages.arrow",
    "what a corpus is": "data/datasets/smoke-numpy/passages/corpus.json",
    "queries": "data/datasets/smoke-numpy/queries.jsonl",
    "judgements": "data/datasets/smoke-numpy/qrels/test.tsv",
    "training queries": "data/datasets/smoke/queries.jsonl",
    "the record of a data set": "data/datasets/smoke/manifest.json",
    "weights of a base": "data/encoders/tiny/model.safetensors",
    "a tokenizer": "data/encoders/tiny/tokenizer.json",
    "docstrings": "data/cache/pydocs/*.jsonl",
    "the mark of docstrings": "data/cache/pydocs/*.jsonl.sha256",
    "terms of an index": "cache/bm25/*/terms.txt",
    "starts of an index": "cache/bm25/*/starts.npy",
    "scores of an index": "cache/bm25/*/scores.f32",
    "rows of an index": "cache/bm25/*/rows.i32",
    "what an index is": "cache/bm25/*/index.json",
    "outputs of a base": "cache/base-outputs/*/*.npy",
    "what outputs are of": "cache/base-outputs/*/recipe.json",
    "negatives": "negatives/*/*/seed-1/negatives.jsonl",
    "the summary of a mining": "negatives/*/*/seed-1/summary.json",
    "details of a mining": "negatives/*/*/seed-1/details.jsonl",
    "the record of a mining": "negatives/*/*/seed-1/manifest.json",
    "what a run is": "runs/with_isotropy/*/seed-1/run.json",
    "the record of a run": "runs/with_isotropy/*/seed-1/manifest.json",
    "weights of a model": "runs/with_isotropy/*/seed-1/model/3_Dense/model.safetensors",
    "modules of a model": "runs/with_isotropy/*/seed-1/model/modules.json",
    "a kept checkpoint": "runs/with_isotropy/*/seed-1/checkpoints/*/model.safetensors",
    "the log of a training": "runs/with_isotropy/*/seed-1/training_log.jsonl",
    "a ranking": "runs/with_isotropy/*/seed-1/eval/smoke-numpy/runs/smoke-numpy.trec.gz",
    "scores by query": "runs/with_isotropy/*/seed-1/eval/smoke-numpy/per_query.jsonl",
    "scores as columns": "runs/with_isotropy/*/seed-1/eval/smoke-numpy/scores.npz",
    "mean scores": "runs/with_isotropy/*/seed-1/eval/smoke-numpy/metrics.json",
    "isotropy": "runs/with_isotropy/*/seed-1/isotropy.json",
    "what a reference is": "runs/untouched/*/reference.json",
    "the record of BM25": "runs/bm25/*/manifest.json",
    "a page of a report": "reports/smoke/report.html",
}

DAMAGES = {
    "lost": None,
    "emptied": lambda raw: b"",
    "cut": lambda raw: raw[: len(raw) * 2 // 3],
    "a bit": lambda raw: bytes([*raw[:-2], raw[-2] ^ 4, raw[-1]]),
    "zeroed": lambda raw: bytes(min(16, len(raw))) + raw[16:],
    "a digit": lambda raw: _other_digit(raw),
}


def _other_digit(raw):
    """The last digit of a text is another, so that it can still be read."""
    place = max(raw.rfind(b"%d" % digit) for digit in range(10))
    new = b"8" if raw[place : place + 1] == b"9" else b"9"
    return raw[:place] + new + raw[place + 1 :] if place >= 0 else b"9" + raw[1:]


@contextmanager
def damaged(file, damage):
    """Damage a file, its times put back; at the end it is whole again."""
    status, raw = file.stat(), file.read_bytes()
    change = DAMAGES[damage]
    if change is None:
        file.unlink()
    else:
        assert change(raw) != raw
        file.write_bytes(change(raw))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        yield
    finally:
        file.write_bytes(raw)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture(scope="module")
def workspace(smoke_workspace, tmp_path_factory):
    return shutil.copytree(smoke_workspace, tmp_path_factory.mktemp("damage") / "ws")


def found_in(workspace, kind):
    files = sorted(workspace.glob(KINDS[kind]))
    assert files, kind
    return files[0]


def names(text, file):
    return file.name.removesuffix(".sha256") in text or str(file.parent) in text


def notices(outcome, file):
    """Whether a verified dry run names what was damaged, or what would be made anew of it."""
    if outcome.code == 0 and "is not what was written" not in outcome.err:
        stages = json.loads(outcome.out)["stages"]
        return any(stage["state"] == "to run" for stage in stages)
    return outcome.code in (0, 2) and names(outcome.err, file)


def cells(outcome):
    """Row and column -> what stands there, of the columns that rest on one data set or measure.

    An average is of fewer sets where one is not measured, which the table says.
    """
    tables = {table["key"]: table["rows"] for table in json.loads(outcome.out)["tables"]}
    wanted = {"results": ("smoke", "isotropy", "trainable"), "isotropy": ("",)}
    return {
        (key, row["model"], column): value
        for key, columns in wanted.items()
        for row in tables.get(key, [])
        for column, value in row.items()
        if column.startswith(columns) and column != "model"
    }


@pytest.fixture(scope="module")
def known(workspace):
    """Filled with the cells of the undamaged workspace."""
    return {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_noticed_with_verify_and_no_number_without(ragcun, workspace, known, kind):
    plan = ("--profile", "smoke", "-w", workspace)
    if not known:
        known.update(cells(ragcun("report", *plan, "--json")))
        assert len(known) > 100
        one = cells(ragcun("report", *plan, "--seed", "2", "--json"))
        known.update(
            {(key, f"{row} (1 of 2 seeds)", name): one[key, row, name] for key, row, name in one}
        )
        whole = ragcun("reproduce", *plan, "--dry-run", "--json", "--verify")
        assert {stage["state"] for stage in json.loads(whole.out)["stages"]} == {"current"}
        assert "not what was written" not in whole.err
    file = found_in(workspace, kind)
    for damage in DAMAGES:
        with damaged(file, damage):
            seen = ragcun("reproduce", *plan, "--dry-run", "--json", "--verify")
            assert notices(seen, file), (damage, seen)
            shown = ragcun("report", *plan, "--json")
            if shown.code == 0:
                got = cells(shown)
                moved = {key: got[key] for key in got if got[key] not in (None, known.get(key))}
                assert moved == {}, (damage, moved)
            else:
                assert shown.code == 2, (damage, shown)
                assert names(shown.err, file), (damage, shown)


@pytest.mark.parametrize("kind", ["what a run is", "the record of a run", "weights of a model"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_left_out_of_a_report_and_named(ragcun, workspace, kind, damage):
    file = found_in(workspace, kind)
    with damaged(file, damage):
        shown = ragcun("report", "--all-runs", "-w", workspace, "--json", "--verify")
    assert shown.code == 0, shown
    assert "left out: with_isotropy" in shown.err
    (cost,) = [t["rows"] for t in json.loads(shown.out)["tables"] if t["key"] == "cost"]
    seeds = {row["model"]: row["seeds"] for row in cost}
    assert seeds["with_isotropy (1 of 2 seeds)"] == 1
    assert seeds["baseline_no_isotropy"] == 2


INPUT = {
    "weights of a model": ("eval", "--datasets", "smoke-numpy"),
    "a corpus": ("isotropy",),
    "queries": ("eval", "--datasets", "smoke-numpy"),
    "judgements": ("eval", "--datasets", "smoke-numpy"),
    "negatives": ("train",),
    "training queries": ("mine",),
    "scores of an index": ("mine",),
    "rows of an index": ("mine",),
    "terms of an index": ("mine",),
    "outputs of a base": ("train",),
}


@pytest.mark.parametrize("kind", INPUT)
def test_a_stage_does_not_compute_with_what_was_damaged(ragcun, workspace, kind):
    command, *options = INPUT[kind]
    with ExitStack() as stack:
        for file in sorted(workspace.glob(KINDS[kind])):
            stack.enter_context(damaged(file, "a bit"))
        words = ("--profile", "smoke", "-w", workspace, "--force", *options)
        outcome = ragcun(command, *words)
    assert outcome.code == 2, outcome
    assert any(file.name in outcome.err for file in workspace.glob(KINDS[kind]))
    assert outcome.err.count("Hint:") == 1
