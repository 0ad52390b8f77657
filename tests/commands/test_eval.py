"""`ragcun eval` as people type it."""

import gzip
import json
import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from ragcun_cli.pipeline.data import sources

BLOCKS = ("--set", "evaluation.block_passages=16", "--set", "evaluation.depth=100")


@pytest.fixture
def workspace(smoke_workspace, tmp_path):
    return shutil.copytree(smoke_workspace, tmp_path / "ws")


@pytest.fixture
def model(smoke_workspace):
    return next(smoke_workspace.glob("runs/with_isotropy/*/seed-1/model"))


@pytest.fixture
def evaluate(ragcun, workspace, model):
    """Evaluate a saved model in blocks of 16 passages, and return what was said."""

    def run(*words, code=0, of=model, dataset="smoke-numpy"):
        datasets = ("--datasets", dataset) if dataset else ()
        outcome = ragcun("eval", "--model", of, *datasets, "-w", workspace, *BLOCKS, *words)
        assert outcome.code == code, outcome.err
        return outcome

    return run


@pytest.fixture
def run_file(results_of_models):
    """Call it for the one run file of smoke-numpy by a model that was evaluated by name."""

    def found():
        (file,) = (file for file in results_of_models() if file.name == "smoke-numpy.trec.gz")
        return file

    return found


@pytest.fixture
def whole(evaluate, run_file):
    """Bytes of the run file of one process that searches everything, which is then removed."""
    evaluate()
    content = run_file().read_bytes()
    shutil.rmtree(run_file().parents[3])
    assert len(gzip.decompress(content).splitlines()) == 80 * 80
    return content


def test_four_shards_merged_are_one_search(evaluate, whole, run_file, results_of_models):
    for shard in ("3/4", "1/4", "4/4", "2/4"):
        assert "ragcun eval --merge" in evaluate("--shard", shard).err
        assert results_of_models() == []
    outcome = evaluate("--merge", "--json")
    assert run_file().read_bytes() == whole
    (row,) = json.loads(outcome.out)
    assert row["metrics"]["ndcg@10"] > 0


@pytest.mark.system
def test_two_ranks_are_one_process(workspace, model, whole, run_file):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--standalone", "-m", "ragcun_cli", "eval", "--model", model),
        *("--datasets", "smoke-numpy", "-w", workspace, *BLOCKS),
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert run_file().read_bytes() == whole


@pytest.mark.parametrize("chunk", ["1", "40"])
def test_a_chunk_of_any_size_gives_the_same_run_file(evaluate, whole, run_file, chunk):
    evaluate("--chunk", chunk)
    assert run_file().read_bytes() == whole


def test_a_missing_shard_is_not_merged(evaluate, results_of_models):
    assert "no shard" in evaluate("--merge", code=2).err
    evaluate("--shard", "1/2")
    outcome = evaluate("--merge", code=2)
    assert "shard 2/2' is not finished" in outcome.err
    assert "ragcun eval --shard 2/2 --datasets smoke-numpy" in outcome.err
    assert results_of_models() == []
    evaluate("--shard", "2/2")
    evaluate("--merge")
    names = {file.name for file in results_of_models()}
    assert {"smoke-numpy.trec.gz", "per_query.jsonl", "metrics.json"} <= names


def test_shards_of_another_model_are_not_merged(evaluate, workspace, model, tmp_path):
    own = shutil.copytree(model, tmp_path / "own")
    evaluate("--shard", "1/2", of=own)
    weights = next(own.glob("**/model.safetensors"))
    save_file({name: value + 0.01 for name, value in load_file(weights).items()}, weights)
    evaluate("--shard", "2/2", of=own)
    assert "is of another model" in evaluate("--merge", code=2, of=own).err


def test_shards_of_two_divisions_are_not_merged(evaluate):
    evaluate("--shard", "1/2")
    evaluate("--shard", "1/3")
    assert "of [2, 3] parts" in evaluate("--merge", code=2).err


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_what_is_no_shard_is_refused(evaluate, shard):
    assert "is no shard" in evaluate(f"--shard={shard}", code=2).err


def test_shards_are_searched_or_merged_but_not_both(evaluate):
    assert "not both" in evaluate("--shard", "1/2", "--merge", code=2).err


def test_kept_embeddings_are_used_by_another_depth(evaluate, workspace):
    evaluate("--keep-embeddings")
    blocks = {f: f.stat().st_mtime_ns for f in workspace.glob("cache/embeddings/*/*.npy")}
    assert len(blocks) == 5
    evaluate("--keep-embeddings", "--set", "evaluation.depth=200")
    assert {f: f.stat().st_mtime_ns for f in workspace.glob("cache/embeddings/*/*.npy")} == blocks
    damaged = next(iter(blocks))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    outcome = evaluate("--keep-embeddings", "--set", "evaluation.depth=300", code=2)
    assert "cache is damaged" in outcome.err


def test_without_names_a_model_is_evaluated_on_all_sets_that_are_here(evaluate):
    rows = json.loads(evaluate("--json", dataset=None).out)
    assert {row["dataset"] for row in rows} == {"smoke-numpy", "smoke-sklearn"}


def test_a_query_shows_what_two_models_find(ragcun, workspace, model):
    words = ("eval", "--query", "sort an array", "--datasets", "smoke-numpy", "-w", workspace)
    other = next(workspace.glob("runs/standard_cosine/*/seed-1/model"))
    outcome = ragcun(*words, "--model", model, "--model", other, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [len(hits) for hits in found.values()] == [10, 10]
    for hits in found.values():
        assert [hit["score"] for hit in hits] == sorted((h["score"] for h in hits), reverse=True)
        assert all(hit["text"] for hit in hits)
    shown = ragcun(*words, "--datasets", "smoke-numpy,", "--model", model, "--model", other)
    assert "B4: model B has the same passage in place 4" in shown.out
    assert shown.out.startswith("smoke-numpy: sort an array")
    assert ragcun(*words).code == 2
    many = ragcun(*words, "--profile", "smoke", "--seed", "1")
    assert "hits of up to 6 models are looked at" in many.err


def test_public_sets_that_are_not_here_are_named_before_anything_is_done(ragcun, workspace, model):
    before = set(workspace.rglob("*"))
    outcome = ragcun("eval", "--model", model, "--datasets", "public", "-w", workspace)
    assert outcome.code == 2
    assert "GB to download" in outcome.err
    public = [name for name, source in sources.BEIR.items() if not source.gated]
    assert len(public) == 15
    assert [name for name in public if f"first: data {name} (" not in outcome.err] == []
    assert set(workspace.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--datasets", "nosuch"), "nosuch"),
        (("--set", "evaluation.depth=3"), "evaluation.depth"),
        (("--set", "evaluation.similarity=manhattan"), "evaluation.similarity"),
        (("--chunk", "0"), "chunk"),
    ],
)
def test_what_cannot_be_evaluated_is_one_error(ragcun, workspace, model, words, said):
    outcome = ragcun("eval", "--model", model, "-w", workspace, *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_a_model_that_is_nowhere_is_one_error(ragcun, workspace):
    outcome = ragcun("eval", "--model", "no/such", "--datasets", "smoke-numpy", "-w", workspace)
    assert outcome.code == 2
    assert "no/such" in outcome.err


def test_a_model_of_nan_leaves_no_result(evaluate, model, results_of_models, tmp_path):
    broken = shutil.copytree(model, tmp_path / "broken")
    weights = next(broken.glob("**/model.safetensors"))
    save_file({name: value * float("nan") for name, value in load_file(weights).items()}, weights)
    outcome = evaluate(of=broken, code=2)
    assert "not finite" in outcome.err
    assert results_of_models() == []
    evaluate()
    assert results_of_models() != []


def test_a_query_scale_is_fitted_once_for_a_run_and_kept_with_it(ragcun, workspace):
    words = ("eval", "--profile", "smoke", "--seed", "1", "-w", workspace, "--json")
    words += ("--datasets", "smoke-numpy", "--set", "evaluation.similarity=scaled_euclidean")
    outcome = ragcun(*words)
    assert outcome.code == 0, outcome.err
    (run,) = workspace.glob("runs/with_isotropy/*/seed-1")
    fitted = json.loads((run / "query_scale.json").read_text())
    assert fitted["ndcg@10"] == max(score for _, score in fitted["curve"])
    assert fitted["ndcg@10"] >= fitted["ndcg@10_unscaled"]
    assert (fitted["split"], fitted["queries"]) == ("dev", 32)
    settings = json.loads((run / "eval/smoke-numpy@scaled_euclidean/metrics.json").read_text())
    assert settings["settings"]["query_scale"] == fitted["query_scale"]
    assert (run / "eval/smoke-numpy/metrics.json").is_file()
    before = (run / "query_scale.json").stat().st_mtime_ns
    assert ragcun(*words[:-4], "--datasets", "smoke-sklearn", *words[-2:]).code == 0
    assert (run / "query_scale.json").stat().st_mtime_ns == before
