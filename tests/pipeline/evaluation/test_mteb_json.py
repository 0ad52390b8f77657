"""The files in `mteb_example` are such as mteb 2.26.24 was seen to read, but for two nulls.

`evaluation_time` and the languages of a model, which its types let be null, had values there.
"""

import json
import math
from pathlib import Path

import pytest

from ragcun_cli.pipeline.data.mteb_names import MtebTask, recorded_task, task_of
from ragcun_cli.pipeline.data.sources import BEIR
from ragcun_cli.pipeline.evaluation.mteb_files import model_meta, task_result, write_results

EXAMPLE = Path(__file__).parent / "mteb_example"
METRICS = {
    "ndcg@10": 0.6557123456,
    "recall@100": 0.9,
    "mrr@10": 0.62,
    "map@1000": 0.601,
    "precision@1": None,
    "judged@10": 0.4,
}
PUBLIC = [name for name, source in BEIR.items() if not source.gated]
FORUMS = [f"cqadupstack/{forum}" for forum in BEIR["cqadupstack"].forums]


SETTINGS = {"dimensions": 512, "max_tokens": 128, "parameters": 109_880_064}


def meta(name="ragcun/with-isotropy", similarity="euclidean"):
    return model_meta(
        name,
        revision="0a1b2c3d-seed-1",
        settings=SETTINGS | {"similarity": similarity},
        adapted_from="sentence-transformers/all-mpnet-base-v2",
    )


def test_files_are_those_that_mteb_was_seen_to_read(tmp_path):
    result = task_result(task_of("scifact"), METRICS)
    files = write_results(tmp_path, meta(), [result])
    home = tmp_path / "ragcun__with-isotropy" / "0a1b2c3d-seed-1"
    assert files == [home / "model_meta.json", home / "SciFact.json"]
    for file in files:
        assert file.read_text() == (EXAMPLE / file.name).read_text()


def test_every_public_set_and_forum_has_a_task_with_a_revision_of_its_own():
    tasks = [task_of(name) for name in PUBLIC + FORUMS]
    assert len(tasks) == 27
    assert len({task.name for task in tasks}) == 27
    revisions = [task.revision for task in tasks if task.name != "CQADupstackRetrieval"]
    assert len(set(revisions)) == 26
    assert all(len(revision) == 40 for revision in revisions)
    assert task_of("cqadupstack") == MtebTask("CQADupstackRetrieval", "1")
    assert task_of("cqadupstack/gis").name == "CQADupstackGisRetrieval"


@pytest.mark.parametrize("name", ["bioasq", "pydocs", "mine", "cqadupstack/cooking", "scifact/x"])
def test_a_set_without_a_task_has_none(name):
    assert task_of(name) is None


def test_a_similarity_that_mteb_reads_is_stated():
    assert meta(similarity="cosine")["similarity_fn_name"] == "cosine"
    assert meta(similarity="scaled_euclidean")["similarity_fn_name"] is None


def test_a_task_of_another_language_split_and_main_score_is_written_as_its_record_says():
    details = {"mteb": {"name": "Some", "revision": "abc", "split": "dev", "subset": "de"}}
    details["mteb"] |= {"languages": ["deu-Latn"], "main_score": "recall_at_5"}
    result = task_result(recorded_task(details), {"ndcg@10": 0.1, "recall@5": 0.2})
    (scores,) = result["scores"]["dev"]
    assert (scores["main_score"], scores["hf_subset"]) == (0.2, "de")
    assert scores["languages"] == ["deu-Latn"]
    assert (result["task_name"], result["dataset_revision"]) == ("Some", "abc")
    assert result["evaluation_time"] is None
    assert recorded_task({"passages": 3}) is None


def test_the_split_is_the_reported_one():
    assert task_of("msmarco").split == "dev"
    assert task_of("cqadupstack/tex").split == task_of("scifact").split == "test"


def test_what_would_be_no_result_is_refused():
    task = task_of("scifact")
    for metrics in ({}, {"ndcg@10": None}, {"recall@100": 0.5}):
        with pytest.raises(ValueError, match="no ndcg_at_10"):
            task_result(task, metrics)
    with pytest.raises(ValueError, match="not a finite number"):
        task_result(task, {"ndcg@10": 0.5, "mrr@10": math.nan})
    with pytest.raises(ValueError, match="organisation/model"):
        meta("with-isotropy")


@pytest.mark.system
@pytest.mark.needs("mteb")
def test_mteb_reads_them_and_pins_the_same_revisions(tmp_path):
    import mteb

    results = [task_result(task_of(name), METRICS) for name in PUBLIC + FORUMS]
    meta_file, *files = write_results(tmp_path / "results", meta(similarity="cosine"), results)
    for file in files:
        result = mteb.TaskResult.from_disk(file)
        task = mteb.get_task(result.task_name, eval_splits=list(result.scores))
        assert result.dataset_revision == task.metadata.revision
        assert task.metadata.main_score == "ndcg_at_10"
        assert result.validate_and_filter_scores(task).get_score() == 0.655712
        assert [scores[0]["languages"] for scores in result.scores.values()] == [
            task.metadata.eval_langs
        ]
    name, revision = (json.loads(meta_file.read_text())[key] for key in ("name", "revision"))
    cache = mteb.ResultCache(cache_path=tmp_path)
    assert cache.load_task_result("SciFact", name, revision).main_score == 0.655712
    found = cache.load_results(models=[name], tasks=["SciFact"], include_remote=False)
    assert found.to_dataframe()[name].tolist() == [0.655712]
