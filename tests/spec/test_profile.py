import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from ragcun_cli.spec.manifest import digest
from ragcun_cli.spec.profile import RunProfile, model_values
from ragcun_cli.spec.section import stated

DEFAULTS = Path(__file__).with_name("defaults.json")


def profile(**sections):
    return RunProfile.model_validate({"name": "x", **sections})


@pytest.mark.parametrize(
    "sections",
    [
        {"colour": "blue"},
        {"training": {"batchsize": 8}},
        {"training": {"sigreg": {"slice": 8}}},
        {"encoder": {"head": {"width": 8}}},
        {"evaluation": {"metric": "ndcg"}},
    ],
)
def test_an_unknown_key_is_refused_in_every_section(sections):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        profile(**sections)


def test_every_default_is_the_one_that_was_written_down():
    seen = RunProfile(name="x").model_dump(mode="json")
    assert seen == json.loads(DEFAULTS.read_text(encoding="utf-8")), (
        "a default changed: finished runs that did not state it would be taken for current. Raise "
        "NUMBERS_VERSIONS of the stages it moves, write a Numbers line in the CHANGELOG, and then "
        "change tests/spec/defaults.json"
    )


def test_a_profile_that_states_only_defaults_states_nothing():
    written_out = json.loads(DEFAULTS.read_text(encoding="utf-8"))
    assert stated(RunProfile.model_validate(written_out)) == {"name": "x"}
    assert stated(profile()) == {"name": "x"}


def test_stating_a_default_leaves_the_identity_alone():
    short = profile(training={"lambda_isotropy": 1.0})
    long = profile(training={"lambda_isotropy": 1, "batch_size": 16, "sigreg": {"knots": 17}})
    assert model_values(short) == model_values(long)
    assert model_values(short) == {
        "encoder": {},
        "data": {},
        "mining": {},
        "training": {"lambda_isotropy": 1.0},
    }


@pytest.mark.parametrize(
    "sections",
    [
        {"name": "y"},
        {"description": "another"},
        {"demonstration": True},
        {"training": {"save_interval": 7}},
        {"training": {"logging_steps": 7}},
        {"evaluation": {"datasets": ["scifact"], "batch_size": 7, "depth": 700}},
        {"isotropy": {"max_queries": 900, "max_passages": 700, "pair_queries": 70}},
    ],
)
def test_what_does_not_change_the_model_does_not_change_its_identity(sections):
    assert digest(model_values(profile(**sections))) == digest(model_values(profile()))


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"batch_size": 8}},
        {"training": {"sigreg": {"slices": 8}}},
        {"training": {"precision": "bf16"}},
        {"encoder": {"output_dim": 8}},
        {"encoder": {"head": {"dropout": 0.2}}},
        {"encoder": {"head": {"rotation": "none"}}},
        {"encoder": {"head": {"rotation_seed": 1}}},
        {"data": {"max_train_queries": 8}},
        {"mining": {"depth": 8}},
    ],
)
def test_what_changes_the_model_changes_its_identity(sections):
    assert digest(model_values(profile(**sections))) != digest(model_values(profile()))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"mining": {"depth": 3, "skip_top": 2, "negatives_per_query": 2}},
            "depth 3 less skip_top 2 leaves too few hits for negatives_per_query 2",
        ),
        ({"training": {"sigreg": {"knots": 16}}}, "knots must be odd, got 16"),
        ({"mining": {"candidates": "dense"}}, "candidates 'dense' needs dense_model"),
        (
            {"mining": {"dense_model": "x"}},
            "dense_model does nothing while candidates is 'bm25'",
        ),
        ({"mining": {"rescore": "dense"}}, "rescore 'dense' needs rescore_model"),
        (
            {"mining": {"dense_model_revision": "main"}},
            "dense_model_revision does nothing without dense_model",
        ),
        (
            {"mining": {"rescore_model_sha256": "0" * 64}},
            "rescore_model_sha256 does nothing without rescore_model",
        ),
        (
            {"mining": {"rescore_model": "x"}},
            "rescore_model does nothing while rescore is 'none'",
        ),
        (
            {"mining": {"rescore_margin": 1.0}},
            "rescore_margin does nothing while rescore is 'none'",
        ),
        (
            {"mining": {"rescore": "dense", "rescore_model": "x", "rescore_margin": -1.0}},
            "greater than or equal to 0",
        ),
        (
            {"mining": {"rescore": "cross-encoder", "rescore_model": "x", "hard_share": 0}},
            "hard_share 0 draws no hits",
        ),
        (
            {"mining": {"candidates": "dense", "dense_model": "x", "max_score_ratio": 0.9}},
            "a share of a distance means nothing",
        ),
        (
            {"encoder": {"head": {"kind": "none"}}},
            "training.contrastive 'euclidean' needs the head",
        ),
        (
            {
                "encoder": {"head": {"kind": "none"}},
                "training": {"contrastive": "cosine", "freeze_base": True},
            },
            "training.freeze_base with encoder.head.kind 'none' trains nothing",
        ),
        (
            {"encoder": {"head": {"init": "random", "rotation": "random"}}},
            "rotation is of the linear start; init is 'random'",
        ),
        (
            {"encoder": {"head": {"init": "random", "rotation_seed": 1}}},
            "rotation_seed does nothing: rotation is 'none'",
        ),
        (
            {"encoder": {"head": {"rotation": "none", "rotation_seed": 1}}},
            "rotation_seed does nothing: rotation is 'none'",
        ),
        ({"encoder": {"head": {"rotation_seed": -1}}}, "greater than or equal to 0"),
        ({"training": {"warmup_steps": 1.5}}, "a whole number of steps or a share below 1"),
        ({"evaluation": {"datasets": ["nq", "nq"]}}, "a data set is named twice"),
        ({"evaluation": {"variants": ["int8", "int8"]}}, "a variant is named twice"),
        (
            {"training": {"selection": {"variants": ["binary", "binary"]}}},
            "a variant is named twice",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(sections, message):
    with pytest.raises(ValidationError, match=message):
        profile(**sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"mining": {"depth": 4, "skip_top": 2, "negatives_per_query": 2}},
        {"training": {"sigreg": {"knots": 3}}},
        {"encoder": {"head": {"kind": "none"}}, "training": {"contrastive": "cosine"}},
        {"training": {"freeze_base": True}},
        {"training": {"warmup_steps": 0.5}},
        {"training": {"warmup_steps": 0}},
        {"training": {"warmup_steps": 7}},
    ],
)
def test_values_at_the_edge_of_what_goes_together_are_taken(sections):
    profile(**sections)


def test_a_random_head_has_no_rotation_and_is_read_back_as_it_was_written():
    plain = profile(encoder={"head": {"init": "random"}})
    assert plain.encoder.head.rotation == "none"
    assert RunProfile.model_validate(plain.model_dump(mode="json")) == plain
    assert profile(encoder={"head": {"init": "random", "rotation": "none"}}) == plain


@pytest.mark.parametrize("name", ["", "Paper", "a b", "../a", "a/b", "-a", "a\n"])
def test_a_name_that_could_not_be_a_folder_is_refused(name):
    with pytest.raises(ValidationError, match="name"):
        RunProfile(name=name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1])
def test_a_weight_is_a_finite_number_from_zero_up(value):
    with pytest.raises(ValidationError, match="lambda_isotropy"):
        profile(training={"lambda_isotropy": value})


@pytest.mark.parametrize(
    ("train", "selection", "expected"),
    [
        ("mine", {}, {"mine": "train"}),
        ("mine", {"split": "dev"}, {"mine": "dev"}),
        ("mine", {"dataset": "other"}, {"other": "dev"}),
        ("msmarco", {}, {"msmarco-select": "dev"}),
        ("msmarco", {"dataset": "msmarco"}, {"msmarco": "train"}),
        ("mine", {"dataset": ["other", "mine"]}, {"other": "dev", "mine": "train"}),
        ("mine", {"dataset": ["mine", "other"], "split": "dev"}, {"mine": "dev", "other": "dev"}),
    ],
)
def test_the_selection_queries_are_of_training_data_unless_another_set_is_named(
    train, selection, expected
):
    values = {"queries": 5, **selection}
    profile = RunProfile(name="x", data={"train": train}, training={"selection": values})
    assert profile.selection_sets == tuple(expected.items())
    assert profile.named_datasets == tuple(dict.fromkeys([train, *expected]))
