"""The published scores in the wheel, and what trainings of published models saw."""

import pytest

from ragcun_cli.pipeline.data.mteb_names import TASKS
from ragcun_cli.pipeline.data.sources import BEIR, MtebSet, find
from ragcun_cli.pipeline.encoders import trained_on as trainings
from ragcun_cli.pipeline.encoders.published import PUBLISHED, published_model
from ragcun_cli.pipeline.encoders.trained_on import seen_by, trained_here, trained_on
from ragcun_cli.pipeline.place import open_workspace
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.profile import RunProfile

MPNET = "sentence-transformers/all-mpnet-base-v2"


def run(tmp_path, reference=None, base=MPNET, train="fiqa"):
    values = {"name": "x", "encoder": {"base": base}, "data": {"train": train}}
    space = open_workspace(str(tmp_path))
    return Run(RunProfile.model_validate(values), None if reference else 1, reference, space)


def test_every_score_has_a_source_and_a_data_set_that_ragcun_knows():
    assert len(PUBLISHED) == 30
    scores = [item for name in PUBLISHED for item in published_model(name).scores.items()]
    assert len(scores) == 498
    for dataset, score in scores:
        assert dataset in BEIR or isinstance(find(dataset), MtebSet)
        assert 0 < score.ndcg < 1
        assert score.source.startswith(("https://", "arXiv:"))


def test_models_of_papers_have_all_sets_and_the_scores_that_are_printed_there():
    bm25 = published_model("BM25 (BEIR paper)")
    assert bm25.scores.keys() == BEIR.keys()
    assert (bm25.scores["scifact"].ndcg, bm25.scores["msmarco"].ndcg) == (0.665, 0.228)
    assert "2104.08663" in bm25.source


def test_a_model_is_found_by_its_full_name_or_an_ending_that_is_its_own():
    assert published_model("all-mpnet-base-v2").name == MPNET
    assert published_model("bge-base-en-v1.5").name == "BAAI/bge-base-en-v1.5"
    assert published_model("intfloat/e5-base").name == "intfloat/e5-base"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BM25", "BM25 (BEIR paper), BM25+CE, BM25 (Anserini flat), BM25 (Anserini multifield)"),
        ("e5_base", "intfloat/e5-base"),
        ("base-v2", f"{MPNET}, intfloat/e5-base-v2"),
        ("colbert", "ColBERT (v1), colbert-ir/colbertv2.0"),
    ],
)
def test_a_name_of_none_or_of_several_is_answered_with_the_nearest(name, said):
    with pytest.raises(EncoderError) as caught:
        published_model(name)
    for each in said.split(", "):
        assert each in str(caught.value)
    assert f"is named '{name}'" in str(caught.value)
    assert caught.value.hint.startswith("ragcun report --published '")


def test_what_a_training_saw_is_named_as_here_and_unknown_is_not_none():
    seen = trained_on(MPNET)
    assert seen & TASKS.keys() == {"msmarco", "nq"}
    assert {"trec-dl-2019", "mteb:NQ", "mteb:NQHardNegatives", "mteb:MSMARCO-PL"} <= seen
    assert trained_on("BM25 (BEIR paper)") == frozenset()
    assert trained_on("ragcun/tiny") == frozenset()
    assert trained_on("someone/else") is None
    assert trained_on("Alibaba-NLP/gte-base-en-v1.5") is None


def test_a_run_saw_what_its_base_and_its_own_training_saw(tmp_path):
    own = {"fiqa", "mteb:FiQA2018"}
    assert trained_here(run(tmp_path)) == own
    assert seen_by(run(tmp_path)) == trained_on(MPNET) | own
    assert seen_by(run(tmp_path, base="someone/else")) is None
    assert trained_here(run(tmp_path, base="someone/else")) == own
    assert "trec-dl-2020" in trained_here(run(tmp_path, train="msmarco"))
    assert trained_here(run(tmp_path, train="mine")) == {"mine"}


def test_a_reference_saw_what_its_base_saw_and_bm25_nothing(tmp_path):
    assert seen_by(run(tmp_path, "untouched")) == trained_on(MPNET)
    assert seen_by(run(tmp_path, "untouched_start")) == trained_on(MPNET)
    assert seen_by(run(tmp_path, "bm25", base="someone/else")) == frozenset()


@pytest.mark.system
@pytest.mark.needs("mteb")
def test_the_trainings_are_those_of_mteb():
    import mteb

    if mteb.__version__ != trainings._KNOWN["mteb"]:
        return  # its lists grow
    checked = 0
    for name, tasks in trainings._KNOWN["models"].items():
        full = name.split(" (")[0]
        if not tasks or not full.count("/"):
            continue
        listed = mteb.get_model_meta(full, fetch_from_hf=False).training_datasets
        assert {task for task in listed if task in TASKS.values()} == (
            set(tasks) & set(TASKS.values())
        )
        checked += 1
    assert checked > 10
