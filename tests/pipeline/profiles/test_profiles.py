import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from ragcun_cli.pipeline.profiles import load as profiles
from ragcun_cli.pipeline.profiles.problems import _IN_WORDS
from ragcun_cli.pipeline.profiles.schema import json_schema
from ragcun_cli.pipeline.profiles.toml_text import as_toml
from ragcun_cli.spec.errors import ProfileError
from ragcun_cli.spec.plan import PaperPlan, PlanFile
from ragcun_cli.spec.profile import RunProfile, model_values
from ragcun_cli.spec.section import dotted

EXPERIMENTS = (
    "baseline_no_isotropy",
    "with_isotropy",
    "frozen_efficient",
    "variance_only",
    "frozen_no_isotropy",
    "standard_cosine",
    "spread_out",
    "baseline_tuned",
    "with_isotropy_tuned",
    "frozen_tuned",
)
PLANS = (
    *(f"evidence{which}" for which in ("", "_public", "_full", "_debian", "_mpnet", "_sweep")),
    *("evidence_clipping", "lambda_sweep", "never_trained", "publication"),
    *("publication_minimum", "publication_tuned", "quickstart", "quickstart_trials", "smoke"),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(name, text):
    file = Path("profiles") / f"{name}.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def refusal(name, *sets):
    with pytest.raises(ProfileError) as caught:
        profiles.load(name, sets=sets)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_these_are_all_the_shipped_names():
    assert sorted(profiles.profile_files()) == sorted(EXPERIMENTS + PLANS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_shipped_experiment_loads_under_the_name_of_its_file(name):
    loaded = profiles.load(name)
    assert isinstance(loaded, RunProfile)
    assert loaded.name == name
    assert loaded.description


@pytest.mark.parametrize("name", PLANS)
def test_every_shipped_plan_loads_under_the_name_of_its_file(name):
    loaded = profiles.load(name)
    assert isinstance(loaded, PaperPlan)
    assert loaded.name == name
    assert loaded.description
    assert loaded.datasets


@pytest.mark.parametrize(
    ("name", "freeze_base", "lambda_isotropy", "lambda_reg"),
    [
        ("baseline_no_isotropy", False, 0.0, 0.0),
        ("with_isotropy", False, 1.0, 0.1),
        ("frozen_efficient", True, 1.0, 0.1),
    ],
)
def test_the_three_experiments_hold_the_values_of_the_plan(
    name, freeze_base, lambda_isotropy, lambda_reg
):
    loaded = profiles.load(name)
    training = loaded.training
    assert (training.freeze_base, training.lambda_isotropy, training.lambda_reg) == (
        freeze_base,
        lambda_isotropy,
        lambda_reg,
    )
    assert training.base_learning_rate == 1e-5
    assert training.projection_learning_rate == 5e-4
    assert training.epochs == 3
    assert training.batch_size == 16
    assert training.warmup_steps == 1000
    assert training.save_interval == 1
    assert training.max_steps is None
    assert loaded.encoder.base == "sentence-transformers/all-mpnet-base-v2"
    assert loaded.encoder.output_dim == 512
    assert loaded.data.train == "msmarco"


def test_the_three_experiments_differ_in_those_three_values_alone():
    first, *others = (profiles.load(name) for name in EXPERIMENTS[:3])
    differing = set()
    for other in others:
        differing |= {
            key
            for key, value in other.training.model_dump().items()
            if value != first.training.model_dump()[key]
        }
        assert model_values(other) | {"training": 0} == model_values(first) | {"training": 0}
    assert differing == {"freeze_base", "lambda_isotropy", "lambda_reg"}


def test_a_layer_replaces_values_and_merges_tables():
    base = {"a": 1, "t": {"x": 1, "y": {"z": 1}}, "list": [1, 2]}
    top = {"a": 2, "t": {"y": {"w": 2}}, "list": [3], "new": {"k": 1}}
    assert profiles.overlay(base, top) == {
        "a": 2,
        "t": {"x": 1, "y": {"z": 1, "w": 2}},
        "list": [3],
        "new": {"k": 1},
    }
    assert base == {"a": 1, "t": {"x": 1, "y": {"z": 1}}, "list": [1, 2]}


def test_a_profile_holds_its_own_values_over_those_it_extends():
    put("base", 'name = "base"\n[training]\nepochs = 5\nbatch_size = 8\n')
    put("top", 'extends = "base"\nname = "top"\n[training]\nbatch_size = 4\n')
    loaded = profiles.load("top")
    assert (loaded.name, loaded.training.epochs, loaded.training.batch_size) == ("top", 5, 4)


def test_a_profile_may_extend_one_that_extends_as_deep_as_it_likes():
    put("p0", 'extends = "with_isotropy"\nname = "p0"\n[training]\nepochs = 7\nbatch_size = 4\n')
    for level in range(1, 1100):
        put(f"p{level}", f'extends = "p{level - 1}"\n[training.sigreg]\nslices = {level}\n')
    loaded = profiles.load("p1099")
    assert (loaded.training.epochs, loaded.training.sigreg.slices) == (7, 1099)
    assert loaded.training.lambda_isotropy == 1.0  # of with_isotropy
    assert loaded.training.warmup_steps == 1000  # of what that extends


@pytest.mark.parametrize(
    ("arrows", "circle"),
    [
        ({"a": "a"}, "a extends a"),
        ({"a": "b", "b": "c", "c": "a"}, "a extends b extends c extends a"),
        ({"a": "b", "b": "c", "c": "./profiles/b.toml"}, "b extends c extends b"),
    ],
)
def test_profiles_that_extend_each_other_in_a_circle_are_named(arrows, circle):
    for name, base in arrows.items():
        put(name, f'extends = "{base}"\nname = "{name}"\n')
    assert refusal("a") == f"profiles extend each other in a circle: {circle}"
    plan = put("plan", 'name = "plan"\nexperiments = ["with_isotropy", "a"]\n')
    assert circle in refusal(str(plan))


OPTIONAL = [
    "encoder.revision",
    "encoder.sha256",
    "encoder.max_seq_length",
    "data.max_train_queries",
    "mining.dense_model",
    "mining.dense_model_revision",
    "mining.dense_model_sha256",
    "mining.max_score_ratio",
    "mining.near_duplicate",
    "mining.rescore_model",
    "mining.rescore_model_revision",
    "mining.rescore_model_sha256",
    "training.max_steps",
    "training.mini_batch_size",
    "training.selection.dataset",
    "training.selection.split",
    "training.selection.patience",
    "isotropy.max_queries",
]


def dotted_value(values, key):
    for part in key.split("."):
        values = values[part]
    return values


def test_none_unsets_every_key_that_may_be_unset():
    unset = {
        key
        for key, value in dotted(profiles.resolved(RunProfile(name="x"))).items()
        if value is None
    }
    assert unset == set(OPTIONAL)
    lengths = ["encoder.max_seq_length=64", "training.max_steps=9", "training.mini_batch_size=4"]
    cleared = profiles.load("quickstart", sets=[*lengths, *(f"{key}=none" for key in OPTIONAL)])
    for experiment in cleared.experiments:
        values = profiles.resolved(experiment)
        assert {key: dotted_value(values, key) for key in OPTIONAL} == dict.fromkeys(OPTIONAL)
    put("mine", 'extends = "cut"\nname = "mine"\n[training]\nmax_steps = "none"\n')
    put("cut", 'name = "cut"\n[training]\nmax_steps = 3\n')
    assert profiles.load("mine").training.max_steps is None
    assert profiles.load("mine", sets=['training.max_steps="none"']).training.max_steps is None


def test_none_is_a_value_where_a_key_has_it_and_is_refused_where_it_has_no_meaning():
    loaded = profiles.load("with_isotropy", sets=["mining.stemmer=none", "description=none"])
    assert (loaded.mining.stemmer, loaded.description) == ("none", "none")
    assert "training.epochs: " in refusal("with_isotropy", "training.epochs=none")


def test_a_profile_that_extends_a_plan_is_refused():
    put("mine", 'extends = "smoke"\nname = "mine"\n')
    assert "extends 'smoke', which is a plan" in refusal("mine")


def test_a_plan_that_extends_is_refused():
    put("mine", 'extends = "smoke"\nname = "mine"\nexperiments = ["with_isotropy"]\n')
    assert "a plan extends nothing" in refusal("mine")


def test_all_problems_are_named_at_once_by_their_dotted_keys():
    put(
        "mine",
        'name = "mine"\ncolour = 1\n'
        '[training]\nbatchsize = 8\nepochs = 0\nprecision = "fp8"\n'
        "[training.sigreg]\nknots = 4\n"
        "[encoder.head]\ndropout = 1.0\n",
    )
    lines = refusal("mine").splitlines()
    assert lines[0] == "profiles/mine.toml is not valid:"
    problems = dict(line.strip().split(": ", 1) for line in lines[1:])
    assert set(problems) == {
        "colour",
        "training.batchsize",
        "training.epochs",
        "training.precision",
        "training.sigreg",
        "encoder.head.dropout",
    }
    assert problems["training.batchsize"] == (
        "there is no such key; did you mean 'training.batch_size'?"
    )
    assert problems["colour"].startswith("there is no such key")
    assert problems["training.epochs"].endswith("(got 0)")
    assert problems["training.precision"].endswith("(got 'fp8')")
    assert problems["training.sigreg"] == "knots must be odd, got 4"


def test_a_key_set_outside_its_section_is_told_its_section():
    said = "lambda_isotropy: there is no such key; did you mean 'training.lambda_isotropy'?"
    assert refusal("with_isotropy", "lambda_isotropy=1") == f"--set {said}"


@pytest.mark.parametrize("name", ["with_isotropy", "quickstart"])
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "training.lamda_isotropy=1",
            "lamda_isotropy: there is no such key; did you mean 'training.lambda_isotropy'?",
        ),
        ("training.lambda_isotropy=abc", "lambda_isotropy: a number is needed, without quotes"),
        ("training=1", "--set training: a table of keys and values is needed (got 1)"),
        ("evaluation.datasets=[1]", "--set evaluation.datasets.0: a text is needed, in quotes"),
    ],
)
def test_what_is_wrong_with_a_typed_set_by_itself_is_said_once_and_of_nothing_else(
    name, typed, said
):
    message = refusal(name, typed)
    assert said in message
    assert message.startswith("--set ")
    assert "\n" not in message
    assert "toml" not in message


def test_a_set_that_does_not_fit_experiments_of_a_plan_is_named_before_them():
    lines = refusal("quickstart", "training.sigreg.knots=4").splitlines()
    assert lines[0].startswith("--set training.sigreg.knots is not valid in baseline_no_isotropy, ")
    assert lines[1:] == ["  training.sigreg: knots must be odd, got 4"]
    put(
        "mine",
        'name = "mine"\nexperiments = ["with_isotropy"]\n[overrides.training]\nepochs = 0\n',
    )
    message = refusal("mine", "training.sigreg.knots=4")  # the plan's own mistake comes first
    assert "training.epochs" in message
    assert "--set" not in message


def test_values_that_do_not_go_together_are_a_problem_of_the_whole_profile():
    message = refusal("standard_cosine", "training.contrastive=euclidean")
    assert "(whole profile): training.contrastive 'euclidean' needs the head" in message


def test_set_reads_numbers_texts_lists_and_booleans():
    loaded = profiles.load(
        "baseline_no_isotropy",
        sets=[
            "training.batch_size=8",
            "training.base_learning_rate = 2e-5",
            "encoder.base=someone/an-encoder",
            'description="in quotes"',
            'evaluation.datasets=["nq", "scifact"]',
            "training.freeze_base=true",
            "training.sigreg.slices=7",
            "encoder.revision=a=b",
        ],
    )
    assert loaded.training.batch_size == 8
    assert loaded.training.base_learning_rate == 2e-5
    assert loaded.encoder.base == "someone/an-encoder"
    assert loaded.description == "in quotes"
    assert loaded.evaluation.datasets == ("nq", "scifact")
    assert loaded.training.freeze_base is True
    assert loaded.training.sigreg.slices == 7
    assert loaded.encoder.revision == "a=b"


def test_the_last_of_two_sets_of_one_key_holds():
    loaded = profiles.load("with_isotropy", sets=["training.epochs=1", "training.epochs=2"])
    assert loaded.training.epochs == 2


@pytest.mark.parametrize("text", ["training.batch_size", "=8", "", ".a=1", "training..epochs=1"])
def test_a_set_that_is_no_key_and_value_is_refused(text):
    assert refusal("with_isotropy", text) == f"--set takes key=value, got '{text}'"


@pytest.mark.parametrize("name", ["with_isotropy", "smoke"])
def test_set_changes_neither_name_nor_what_is_extended(name):
    assert "--set cannot change name" in refusal(name, "name=other")
    assert "extends: there is no such key" in refusal(name, "extends=with_isotropy")


def test_set_on_a_plan_reaches_every_experiment_and_beats_the_overrides():
    plan = profiles.load("smoke", sets=["training.max_steps=3", "encoder.head.dropout=0"])
    assert len(plan.experiments) == 5
    assert {e.training.max_steps for e in plan.experiments} == {3}
    assert {e.encoder.head.dropout for e in plan.experiments} == {0.0}
    assert {e.training.batch_size for e in plan.experiments} == {8}


def test_overrides_lie_over_every_experiment_and_leave_the_rest():
    put(
        "mine",
        f'name = "mine"\nexperiments = {list(EXPERIMENTS[:3])}\n'
        "[overrides]\ndemonstration = true\n[overrides.training]\nmax_steps = 40\n",
    )
    plan = profiles.load("mine")
    assert [e.name for e in plan.experiments] == list(EXPERIMENTS[:3])
    assert [e.training.lambda_isotropy for e in plan.experiments] == [0.0, 1.0, 1.0]
    assert {e.training.max_steps for e in plan.experiments} == {40}
    assert {e.training.batch_size for e in plan.experiments} == {16}
    assert all(e.demonstration for e in plan.experiments)


def test_problems_of_all_the_experiments_of_a_plan_are_named_at_once():
    put(
        "mine",
        'name = "mine"\nexperiments = ["with_isotropy", "nowhere", "standard_cosine"]\n'
        '[overrides.training]\ncontrastive = "cosine"\nepochs = 0\n',
    )
    message = refusal("mine")
    assert message.count("training.epochs: ") == 1  # what is wrong with both is told once
    for file in ("with_isotropy.toml", "standard_cosine.toml"):
        assert f"{file} with overrides of mine.toml is not valid" in message
    assert "no profile is named 'nowhere'" in message


def test_an_experiment_of_a_plan_that_is_nowhere_is_refused():
    put("mine", 'name = "mine"\nexperiments = ["with_isotropi"]\n')
    assert "no profile is named 'with_isotropi'; did you mean 'with_isotropy'?" in refusal("mine")


def test_experiments_of_a_plan_with_different_data_sets_are_refused():
    put("one", 'name = "one"\n[evaluation]\ndatasets = ["nq"]\n')
    put("two", 'name = "two"\n[evaluation]\ndatasets = ["scifact"]\n')
    put("mine", 'name = "mine"\nexperiments = ["one", "two"]\n')
    assert "its experiments differ in evaluation.datasets" in refusal("mine")
    same = profiles.load("mine", sets=['evaluation.datasets=["nq"]'])
    assert same.datasets == ("nq",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'experiments = ["with_isotropy", "with_isotropy"]',
            "experiments names the same one twice",
        ),
        ("experiments = []", "experiments: "),
        ('experiments = ["with_isotropy"]\nseeds = [1, 1]', "seeds names the same one twice"),
        ('experiments = ["with_isotropy"]\nseeds = []', "seeds: "),
        ('experiments = ["with_isotropy"]\nseed = [1]', "did you mean 'seeds'?"),
        ('experiments = ["with_isotropy"]\nreferences = ["tfidf"]', "references.0: "),
        ('experiments = ["with_isotropy"]\noverrides.name = "x"', "overrides cannot change name"),
    ],
)
def test_a_plan_that_is_not_valid_is_refused(line, message):
    put("mine", f'name = "mine"\n{line}\n')
    assert message in refusal("mine")


@pytest.mark.parametrize("name", ["publication", "publication_minimum"])
def test_the_plans_of_the_paper_keep_the_best_on_dev_and_an_experiment_the_last(name):
    plan = profiles.load(name)
    for experiment in plan.experiments:
        assert experiment.training.selection.queries == 500
        assert experiment.selection_sets == (("msmarco-select", "dev"),)
        assert "msmarco-select" in experiment.named_datasets
        alone = profiles.load(experiment.name)
        assert alone.training.selection.queries == 0
    mine = profiles.load(name, sets=["data.train=mine"])
    assert mine.experiments[0].selection_sets == (("mine", "train"),)


def test_the_old_name_of_a_reference_is_read():
    put("mine", 'name = "mine"\nexperiments = ["with_isotropy"]\nreferences = ["untouched_pca"]\n')
    assert profiles.load("mine").references == ("untouched_start",)
    both = '["untouched_pca", "untouched_start"]'
    put("mine", f'name = "mine"\nexperiments = ["with_isotropy"]\nreferences = {both}\n')
    assert "references names the same one twice" in refusal("mine")


def test_an_experiment_can_stand_where_a_plan_is_wanted():
    plan = profiles.load_plan("with_isotropy", sets=["training.epochs=1"])
    assert [e.training.epochs for e in plan.experiments] == [1]
    assert (plan.name, plan.references, plan.seeds) == ("with_isotropy", ("untouched",), (1,))


def test_an_unknown_name_suggests_a_near_one():
    assert refusal("with_isotopy") == (
        "no profile is named 'with_isotopy'; did you mean 'with_isotropy'?"
    )
    assert refusal("zzzzzzzz") == "no profile is named 'zzzzzzzz'"


def test_a_path_to_no_file_is_refused():
    assert refusal("profiles/none.toml") == "no profile file at profiles/none.toml"


def test_a_profile_can_be_named_by_its_path():
    file = put("mine", 'name = "mine"\n')
    file = file.rename("elsewhere.toml")
    assert profiles.load("elsewhere.toml").name == "mine"
    assert profiles.load(str(file.resolve())).name == "mine"


def test_a_file_that_is_not_toml_is_refused_with_the_place():
    put("mine", 'name = "mine"\n[training\n')
    message = refusal("mine")
    assert message.startswith("profiles/mine.toml is not TOML: ")
    assert "line 2" in message


def test_a_file_that_is_not_utf8_is_refused():
    put("mine", "").write_bytes(b'name = "\xff"\n')
    assert refusal("mine").startswith("profiles/mine.toml cannot be read: ")


def test_a_profile_beside_you_comes_before_the_shipped_one():
    put("with_isotropy", 'name = "with_isotropy"\n[training]\nepochs = 9\n')
    assert profiles.load("with_isotropy").training.epochs == 9
    assert profiles.profile_files()["with_isotropy"] == Path("profiles/with_isotropy.toml")


@pytest.mark.parametrize("base", EXPERIMENTS)
def test_a_new_profile_starts_with_the_values_of_the_one_it_was_made_from(base):
    file = profiles.write_new("my_own", extends=base)
    assert file == Path("profiles/my_own.toml")
    made, source = profiles.load("my_own"), profiles.load(base)
    assert made.name == "my_own"
    assert model_values(made) == model_values(source)
    assert made.model_copy(update={"name": base, "description": source.description}) == source


@pytest.mark.parametrize("base", EXPERIMENTS + PLANS)
def test_a_new_plan_has_what_another_has_or_one_experiment(base):
    file = profiles.write_new("my_own", extends=base, is_plan=True)
    made, source = profiles.load(str(file)), profiles.load_plan(base)
    assert made.name == "my_own"
    assert made == dataclasses.replace(source, name="my_own", description=made.description)
    assert {"overrides", "tuning"} & set(tomllib.loads(file.read_text()))


def test_where_no_profile_can_be_written_it_is_said():
    Path("profiles").write_text("a file")
    with pytest.raises(ProfileError, match=r"profiles/my_own.toml cannot be written"):
        profiles.write_new("my_own", extends="with_isotropy")
    assert len(profiles.summaries()) == len(EXPERIMENTS + PLANS)


def test_a_new_profile_can_be_made_from_one_that_was_made():
    profiles.write_new("first", extends="frozen_efficient")
    profiles.write_new("second", extends="first")
    assert model_values(profiles.load("second")) == model_values(profiles.load("frozen_efficient"))


@pytest.mark.parametrize(
    ("name", "extends", "message"),
    [
        ("My Own", "with_isotropy", "'My Own' is not a name"),
        ("../mine", "with_isotropy", "'../mine' is not a name"),
        ("with_isotropy", "with_isotropy", "there is a profile 'with_isotropy' already"),
        ("mine", "smoke", "'smoke' is a plan"),
        ("mine", "nowhere", "no profile is named 'nowhere'"),
    ],
)
def test_a_new_profile_that_cannot_be_is_refused_and_nothing_is_written(name, extends, message):
    with pytest.raises(ProfileError, match=message):
        profiles.write_new(name, extends=extends)
    assert list(Path().rglob("*")) == []


def without_nones(value):
    if isinstance(value, dict):
        return {key: without_nones(item) for key, item in value.items() if item is not None}
    return [without_nones(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", EXPERIMENTS + PLANS)
def test_a_resolved_profile_as_toml_reads_back_as_the_same_values(name):
    values = profiles.resolved(profiles.load(name))
    text = as_toml(values)
    assert tomllib.loads(text) == without_nones(values)
    assert "None" not in text


def test_toml_keeps_quotes_backslashes_and_letters_of_any_script():
    values = {"text": 'a "b" \\ c\n\tü 字', "list": [], "t": {"empty": {}, "n": 1e-05}}
    assert tomllib.loads(as_toml(values)) == values
    assert as_toml({"a": None}) == "# a is not set\n"


def test_every_file_has_a_line_in_the_list():
    put("mine", 'name = "mine"\ndescription = "my own"\n')
    rows = {row["name"]: tuple(row.values())[1:] for row in profiles.summaries()}
    assert rows["mine"] == ("experiment", "my own", "profiles/mine.toml")
    assert rows["smoke"][0] == "plan"
    assert list(rows) == sorted((*EXPERIMENTS, *PLANS, "mine"))


def test_a_broken_file_says_so_in_the_list_and_hides_no_other():
    put("mine", "[training\n")
    rows = {row["name"]: tuple(row.values())[1:] for row in profiles.summaries()}
    assert rows["mine"][0] == "broken"
    assert "is not TOML" in rows["mine"][1]
    assert rows["smoke"][0] == "plan"


def test_every_pattern_of_a_profile_is_told_in_words():
    def patterns(schema):
        if isinstance(schema, dict):
            found = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
            return found.union(*map(patterns, schema.values()))
        return set().union(*map(patterns, schema)) if isinstance(schema, list) else set()

    used = patterns(RunProfile.model_json_schema()) | patterns(PlanFile.model_json_schema())
    assert used == set(_IN_WORDS)


def test_the_schema_describes_plans_and_what_both_have_beside_their_values():
    whole, of_plan = (json_schema(of_plan=kind) for kind in (False, True))
    plan, profile = (whole["$defs"][name] for name in ("PlanFile", "RunProfile"))
    assert whole["if"] == {"required": ["experiments"]}
    assert (whole["then"]["$ref"], whole["else"]["$ref"]) == (
        "#/$defs/PlanFile",
        "#/$defs/RunProfile",
    )
    assert of_plan["$ref"] == "#/$defs/PlanFile"
    assert set(plan["properties"]) == {
        *("name", "description", "experiments", "references", "seeds", "overrides", "launch"),
        *("contrasts", "smallest_effect", "claims", "tuning"),
    }
    laid_over = plan["properties"]["overrides"]
    assert laid_over["additionalProperties"] is False
    assert laid_over["properties"]["training"]["$ref"] == "#/$defs/TrainingConfig"
    assert set(profile["properties"]) - set(laid_over["properties"]) == {"name", "extends"}
    steps = whole["$defs"]["TrainingConfig"]["properties"]["max_steps"]["anyOf"]
    assert {"const": "none"} in steps
    assert json.loads(json.dumps(whole)) == whole


def test_the_plan_of_the_readme_is_one():
    readme = Path(profiles.shipped_profiles().parent / "README.md").read_text("utf-8")
    put("my_paper", readme.partition("```toml\n")[2].partition("```")[0])
    plan = profiles.load("my_paper")
    assert [e.name for e in plan.experiments] == ["baseline_no_isotropy", "with_isotropy"]
    assert {e.training.max_steps for e in plan.experiments} == {2000}
    assert (len(plan.references), plan.seeds) == (3, (1, 2, 3))


CONTRASTS = """
name = "mine"
experiments = ["with_isotropy", "baseline_no_isotropy"]
references = ["untouched"]
smallest_effect = 0.5

[[contrasts]]
arm = "with_isotropy"
against = "baseline_no_isotropy"
primary = true

[[contrasts]]
arm = "with_isotropy"
against = "untouched"
metric = "mrr@10"
"""


def test_a_plan_names_its_contrasts():
    put("mine", CONTRASTS)
    plan = profiles.load("mine")
    assert [(one.arm, one.against, one.metric, one.primary) for one in plan.contrasts] == [
        ("with_isotropy", "baseline_no_isotropy", "ndcg@10", True),
        ("with_isotropy", "untouched", "mrr@10", False),
    ]
    assert plan.smallest_effect == 0.5
    assert profiles.resolved(plan)["contrasts"][1]["metric"] == "mrr@10"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('against = "untouched"', 'against = "bm25"', "name 'bm25', which is not a row"),
        ('metric = "mrr@10"', 'metric = "mrr@7"', "name 'mrr@7', which is not a metric that is"),
        ('metric = "mrr@10"', 'form = "int4"', "name 'int4', which is not a form that is scored"),
        (
            "smallest_effect = 0.5",
            'claims = [{name = "a", measure = "gain"}]',
            "needs arm, against",
        ),
        (
            "smallest_effect = 0.5",
            'claims = [{name = "a", measure = "rows", rows = ["bm25"]}]',
            "name 'bm25', which is not a row",
        ),
        ('against = "untouched"', 'against = "with_isotropy"', "'with_isotropy' against itself"),
        ('metric = "mrr@10"', 'met = "mrr@10"', "contrasts.1.met: there is no such key"),
        ("smallest_effect = 0.5", "smallest_effect = 0", "smallest_effect: it has to be above 0"),
        (
            'against = "untouched"\nmetric = "mrr@10"',
            'against = "baseline_no_isotropy"',
            "contrasts names the same one twice",
        ),
    ],
)
def test_contrasts_that_cannot_be_are_refused(old, new, said):
    assert old in CONTRASTS
    put("mine", CONTRASTS.replace(old, new))
    assert said in refusal("mine")


@pytest.mark.parametrize(
    "sets",
    [
        ["training.lambda_isotropy.x=1"],
        ["training=x", "training.epochs=2"],
        ["training.epochs=2", "training=x"],
    ],
)
def test_a_table_and_a_value_under_one_key_are_refused(sets):
    with pytest.raises(ProfileError, match="is a table of keys in one place, and a value in"):
        profiles.load("with_isotropy", sets=sets)
