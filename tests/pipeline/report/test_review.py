"""A reviewer's eleven questions: each is open where it should be, and nowhere else.

Every case is a copy of the reproduced smoke workspace in which one thing was changed: a file and
its digest in the manifest, a record under a new seal, or the plan. The copy that they start from
has no open question.
"""

import json
import shlex
import shutil
from dataclasses import replace

import pytest
import typer

from ragcun_cli.app import app, spread_lists
from ragcun_cli.pipeline.encoders import published as published_scores
from ragcun_cli.pipeline.encoders.tiny import TINY_ENCODER
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import runs_of
from ragcun_cli.spec.manifest import Artifact, Manifest
from ragcun_cli.spec.plan import PaperPlan, PlannedContrast, Trial, TunedArm
from ragcun_cli.spec.profile import RunProfile

SEEDS = "Is it more than the luck of one seed?"
TRIALS = "Had both arms as many trials?"
PUBLISHED = "Is the base as good as published?"
SELECTION = "Was it chosen on a test set?"
CONTAMINATION = "Did a training see a test set?"
SIZES = "Are n, d and length the same?"
VERSIONS = "Is all of it of one clean version?"
DETECTABLE = "Could it see an effect so small?"
TERM = "Does the isotropy term act?"
NEGATIVES = "Are the negatives hard?"
DISTANCE = "Is the distance Euclidean?"
ALL = [
    *(SEEDS, TRIALS, PUBLISHED, SELECTION, CONTAMINATION, SIZES),
    *(VERSIONS, DETECTABLE, TERM, NEGATIVES, DISTANCE),
]
ARM = "runs/with_isotropy/*/seed-1"


def resealed(folder, key, write=None, **changes):
    """Change one stage: a file of it (name -> a function of its text), and keys of its record."""
    manifest = Manifest.load(folder / "manifest.json")
    record = manifest.stages[key]
    for name, change in (write or {}).items():
        text = (folder / name).read_text()
        assert change(text) != text
        (folder / name).write_text(change(text))
    outputs = tuple(Artifact.of(folder / file.path, root=folder) for file in record.outputs)
    changed = record.model_copy(update={"outputs": outputs, **changes})
    manifest.with_stage(key, changed).save(folder / "manifest.json")


def of_json(change):
    """A change of the content as one of the text."""

    def changed(text):
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return changed


def plan_of(workspace):
    return PaperPlan.from_json((workspace / "reports/smoke/plan.json").read_bytes())


def replan(workspace, **changes):
    plan = replace(plan_of(workspace), **changes)
    (workspace / "reports/smoke/plan.json").write_bytes(plan.to_json())
    return plan


def adopt(workspace, plan, changed):
    """Give the trainings of a plan to another, as if its values had made the same models."""
    space = open_workspace(str(workspace))
    road, runner = Road.of(Place(space)), Runner(Silent())
    for old, new in zip(runs_of(plan, space), runs_of(changed, space), strict=True):
        if old.folder != new.folder:
            shutil.copytree(old.folder, new.folder)
            sets = new.profile.evaluation.datasets
            evaluations = [task for name in sets for task in road.evaluations.tasks(new, name)]
            for task in (road.trainings.task(new), *evaluations, road.isotropies.task(new)):
                resealed(new.folder, task.key, recipe=runner.recipe(task))


def with_training(profile, **values):
    content = profile.model_dump(mode="json")
    content["training"] |= values
    return RunProfile.model_validate(content)


@pytest.fixture(scope="module")
def answered_workspace(smoke_workspace, tmp_path_factory):
    """The smoke plan with its one question as a contrast, in which nothing is open."""
    workspace = tmp_path_factory.mktemp("review") / "ws"
    shutil.copytree(smoke_workspace, workspace)
    asked = PlannedContrast(arm="with_isotropy", against="baseline_no_isotropy", primary=True)
    replan(workspace, contrasts=(asked,), smallest_effect=1.0)
    harder = of_json(lambda content: content["scores"]["hard"].update({"0.75": 9.0}))
    for file in workspace.glob("negatives/smoke/*/seed-*/manifest.json"):
        resealed(file.parent, "mine", {"summary.json": harder})
    for file in [*workspace.glob("runs/**/manifest.json"), *workspace.glob("negatives/**/mani*")]:
        for key in Manifest.load(file).stages:
            resealed(file.parent, key, commit="0123456789ab")
    return workspace


@pytest.fixture
def workspace(answered_workspace, tmp_path):
    return shutil.copytree(answered_workspace, tmp_path / "ws")


@pytest.fixture
def review(ragcun):
    """Call it for the exit code, and question -> finding and facts."""

    def asked(workspace, *words):
        outcome = ragcun("report", "--review", "--json", "-w", workspace, *words)
        assert outcome.code in (0, 4), outcome.err
        (table,) = json.loads(outcome.out)["tables"]
        assert table["key"] == "review"
        found = {row["question"]: (row["finding"], row["facts"]) for row in table["rows"]}
        assert list(found) == ALL
        return outcome.code, found

    return asked


def opened(found):
    return [question for question, (finding, _) in found.items() if finding == "open"]


def test_where_everything_is_in_order_nothing_is_open_and_the_exit_code_is_0(workspace, review):
    code, found = review(workspace)
    assert (code, opened(found)) == (0, [])
    assert found[PUBLISHED][0] == "not measured"
    assert {found[question][0] for question in ALL if question != PUBLISHED} == {"answered"}
    assert found[SEEDS][1].endswith("2 of 2 seeds")
    assert "with_isotropy, seed 2: weight 1, up to" in found[TERM][1]
    assert "commit 0123456789ab; python " in found[VERSIONS][1]


def test_smoke_itself_has_small_effects_easy_negatives_and_a_base_of_other_size(
    smoke_workspace, review
):
    """Whether its version is clean depends on the checkout that the tests run in."""
    code, found = review(smoke_workspace)
    assert code == 4
    assert set(opened(found)) - {VERSIONS} == {SIZES, DETECTABLE, NEGATIVES}
    assert (
        "untouched: n 160 + 160, d 16, 32 tokens; n 160 + 160, d 32, 32 tokens" in found[SIZES][1]
    )
    assert "standard_cosine" not in found[DISTANCE][1]


def one_seed(workspace):
    replan(workspace, seeds=(1,))


def other_trials(workspace):
    arms = {profile.name: profile for profile in plan_of(workspace).experiments}
    counts = {"with_isotropy": 3, "baseline_no_isotropy": 1}
    tuned = [
        TunedArm(name, tuple(Trial({"n": n}, arms[name], 0.1) for n in range(count)), count)
        for name, count in counts.items()
    ]
    replan(workspace, tuned=tuple(tuned))


def sampled(folder, whole):
    details = Manifest.load(folder / "manifest.json").stages["data"].details
    resealed(folder, "data", details={**details, "sample": {"of": whole}})


def selected_on_a_sample_of_a_test_set(workspace):
    source = workspace / "data/datasets/smoke-numpy"
    held = shutil.copytree(source, source.with_name("held"))
    sampled(held, "smoke-numpy")
    plan = plan_of(workspace)
    selection = {"queries": 5, "dataset": "held", "split": "test"}
    changed = tuple(with_training(one, selection=selection) for one in plan.experiments)
    adopt(workspace, plan, replan(workspace, experiments=changed))


def sample_of_the_training_set(workspace):
    sampled(workspace / "data/datasets/smoke-numpy", "smoke")


def measured(change):
    """Change what one arm's evaluation recorded of its settings."""

    def doctored(workspace):
        (folder,) = workspace.glob(ARM)
        write = of_json(lambda content: content["settings"].update(change))
        resealed(folder, "eval/smoke-numpy", {"eval/smoke-numpy/metrics.json": write})

    return doctored


def fewer_texts(workspace):
    for folder in workspace.glob("runs/with_isotropy/*/seed-*"):
        write = of_json(lambda content: content["queries"].update(texts=80))
        resealed(folder, "isotropy", {"isotropy.json": write})


def other_torch(workspace):
    (folder,) = workspace.glob(ARM)
    versions = Manifest.load(folder / "manifest.json").stages["isotropy"].versions
    resealed(folder, "isotropy", versions={**versions, "torch": "1.0"})


def dirty(workspace):
    for file in [*workspace.glob("runs/**/manifest.json"), *workspace.glob("negatives/**/mani*")]:
        for key in Manifest.load(file).stages:
            resealed(file.parent, key, commit="0123456789ab-dirty")


def no_smallest_effect(workspace):
    replan(workspace, smallest_effect=None)


def no_gradient(workspace):
    def write(text):
        lines = [json.loads(line) for line in text.splitlines()]
        return "\n".join(json.dumps(one | {"gradient_share_isotropy": 0.0}) for one in lines)

    (folder,) = workspace.glob(ARM)
    resealed(folder, "train", {"training_log.jsonl": write})


def no_weight(workspace):
    """The one with the term is told by the arm that it stands against."""
    plan = plan_of(workspace)
    changed = tuple(
        with_training(one, lambda_isotropy=0.0) if one.name == "frozen_efficient" else one
        for one in plan.experiments
    )
    asked = PlannedContrast(arm="frozen_efficient", against="baseline_no_isotropy")
    adopt(workspace, plan, replan(workspace, experiments=changed, contrasts=(asked,)))


def negatives(change):
    def doctored(workspace):
        for file in workspace.glob("negatives/smoke/*/seed-*/manifest.json"):
            resealed(file.parent, "mine", {"summary.json": of_json(change)})

    return doctored


CASES = {
    "one seed": (one_seed, SEEDS, "1 of 1 seeds"),
    "trials": (other_trials, TRIALS, "3 and 1 trials"),
    "selection": (
        selected_on_a_sample_of_a_test_set,
        SELECTION,
        "with_isotropy: chosen on held (test)",
    ),
    "contamination": (sample_of_the_training_set, CONTAMINATION, "saw smoke-numpy"),
    "n": (fewer_texts, SIZES, "n 80 + 160, d 16, 32 tokens; n 160 + 160, d 16, 32 tokens"),
    "d": (measured({"dimensions": 8}), SIZES, "d 8 or 16, 32 tokens; n 160 + 160, d 16"),
    "length": (measured({"max_tokens": 64}), SIZES, "32 or 64 tokens; n 160 + 160"),
    "versions": (other_torch, VERSIONS, "torch 1.0 and "),
    "dirty": (dirty, VERSIONS, "commit 0123456789ab-dirty"),
    "detectable": (no_smallest_effect, DETECTABLE, "not told apart from 0"),
    "gradient": (no_gradient, TERM, "with_isotropy, seed 1: weight 1, up to 0.0%"),
    "weight": (no_weight, TERM, "frozen_efficient, seed 1: weight 0,"),
    "random": (
        negatives(lambda content: content["scores"].update(hard=None)),
        NEGATIVES,
        "all negatives are random",
    ),
    "easy": (
        negatives(lambda content: content["scores"]["hard"].update({"0.75": 0.5})),
        NEGATIVES,
        "3 of 4 hard negatives score below 0.5",
    ),
    "cosine": (
        measured({"similarity": "cosine"}),
        DISTANCE,
        "trained and ranked by cosine and euclidean",
    ),
}


@pytest.mark.parametrize(("doctor", "question", "said"), CASES.values(), ids=CASES)
def test_a_question_is_open_where_its_fact_is_bad_and_no_other_is(
    workspace, review, doctor, question, said
):
    doctor(workspace)
    code, found = review(workspace)
    assert opened(found) == [question]
    assert said in found[question][1]
    assert code == 4


@pytest.mark.parametrize(("off", "finding"), [(0.006, "open"), (0.004, "answered")])
def test_the_base_is_held_against_published_scores(workspace, review, monkeypatch, off, finding):
    file = next(workspace.glob("runs/untouched/*/eval/smoke-numpy/metrics.json"))
    right = json.loads(file.read_text())["metrics"]["ndcg@10"]
    scores = {"smoke-numpy": {"ndcg_at_10": right + off, "file": "a source", "mteb": "1.0"}}
    known = {"max_seq_length": 32, "source": "", "scores": scores}
    monkeypatch.setitem(published_scores._MODELS, TINY_ENCODER, known)
    code, found = review(workspace)
    assert found[PUBLISHED][0] == finding
    assert opened(found) == [PUBLISHED] * (finding == "open")
    assert code == 4 * (finding == "open")


def test_what_was_not_measured_is_neither_open_nor_answered(workspace, review):
    """Without the evaluations of one arm there is no contrast to be sure of."""
    for folder in workspace.glob("runs/with_isotropy/*/seed-*"):
        for name in ("smoke-numpy", "smoke-sklearn"):
            shutil.rmtree(folder / "eval" / name)
    code, found = review(workspace)
    assert code == 0
    for question in (SEEDS, CONTAMINATION, SIZES, DETECTABLE, DISTANCE):
        assert found[question][0] == "not measured", question


def test_of_a_plan_that_has_not_begun_only_what_it_plans_is_answered(workspace, review):
    code, found = review(workspace, "--profile", "quickstart")
    assert code == 0
    answered = [question for question, (finding, _) in found.items() if finding == "answered"]
    assert answered == [TRIALS, SELECTION]


def test_where_nothing_is_compared_nothing_is_answered(workspace, review):
    code, found = review(workspace, "--experiment", "with_isotropy", "--references", "none")
    assert code == 0
    assert set(found.values()) == {("not measured", "nothing of the kind is recorded")}


def test_what_answers_a_question_is_a_command_that_parses(workspace, ragcun):
    (table,) = json.loads(ragcun("report", "--review", "--json", "-w", workspace).out)["tables"]
    for line in (row["command"] for row in table["rows"]):
        program, *words = shlex.split(line, comments=True)
        assert program == "ragcun"
        command, context, rest = typer.main.get_command(app), None, spread_lists(words)
        while rest and (context is None or hasattr(command, "resolve_command")):
            context = command.make_context(command.name, list(rest), parent=context)
            if not hasattr(command, "resolve_command"):
                break
            _, command, rest = command.resolve_command(
                context, context._protected_args + context.args
            )


@pytest.mark.parametrize("form", ["markdown", "html", "csv", "latex"])
def test_it_is_a_table_of_every_format(workspace, ragcun, form):
    no_smallest_effect(workspace)
    outcome = ragcun("report", "--review", "-f", form, "-w", workspace)
    assert outcome.code == 4
    assert outcome.err.count("Error: a reviewer's questions are open") == 1
    text = outcome.out.replace("\\\\", " ")  # LaTeX ends a line of a cell so
    assert [question for question in ALL if question not in text] == []
    assert "Retrieval quality" not in outcome.out


def test_beside_what_has_its_own_files_it_is_refused(workspace, ragcun):
    for words in (["--paper", workspace / "paper"], ["--push", "me/model"]):
        outcome = ragcun("report", "--review", *words, "-w", workspace)
        assert outcome.code == 2
        assert "own" in outcome.err or "--review" in outcome.err or "tables" in outcome.err
    assert not (workspace / "paper").exists()
