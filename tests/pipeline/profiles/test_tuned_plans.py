"""Plans with grids and `[tuning]`: what is tried, what is refused, and the file of such a plan."""

import dataclasses
import itertools
import json
import tomllib
from pathlib import Path

import pytest

from ragcun_cli.pipeline.profiles import load as profiles
from ragcun_cli.spec.errors import ProfileError
from ragcun_cli.spec.plan import PaperPlan

LAMBDA = '"training.lambda_isotropy" = [0.5, 1.0, 2.0]'
RATE = '"training.base_learning_rate" = [1e-5, 2e-5, 4e-5]'
TUNED = f"""
name = "tuned"
references = ["untouched", "untouched_start"]
experiments = [
    "spread_out",
    {{ profile = "with_isotropy", name = "tuned_isotropy", grid = {{ {LAMBDA} }} }},
    {{ profile = "baseline_no_isotropy", grid = {{ {RATE} }} }},
]
seeds = [1, 2]

[tuning.selection]
queries = 8
every = 5
"""
ARM = f'profile = "with_isotropy", name = "tuned_isotropy", grid = {{ {LAMBDA} }}'
SELECTION = "[tuning.selection]\nqueries = 8\nevery = 5\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(*changes, sets=()):
    """The plan with pieces of its text replaced."""
    text = TUNED
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file = Path("profiles/tuned.toml")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return profiles.load_plan("tuned", sets=sets)


def tried(loaded):
    return {arm.name: [trial.values for trial in arm.trials] for arm in loaded.tuned}


def test_each_cell_of_each_arm_is_a_profile_that_differs_in_its_values_alone():
    loaded = plan()
    assert [profile.name for profile in loaded.experiments] == [
        *("spread_out", "tuned_isotropy", "baseline_no_isotropy")
    ]
    assert tried(loaded) == {
        "tuned_isotropy": [{"training.lambda_isotropy": value} for value in (0.5, 1.0, 2.0)],
        "baseline_no_isotropy": [
            {"training.base_learning_rate": value} for value in (1e-5, 2e-5, 4e-5)
        ],
    }
    first, *others = [trial.profile.model_dump() for trial in loaded.tuned[0].trials]
    assert first["name"] == "tuned_isotropy"
    for number, other in enumerate(others):
        assert other["training"]["lambda_isotropy"] == (1.0, 2.0)[number]
        other["training"]["lambda_isotropy"] = 0.5
        assert other == first
    every = [*loaded.experiments, *(trial.profile for arm in loaded.tuned for trial in arm.trials)]
    assert {(p.training.selection.queries, p.training.selection.every) for p in every} == {(8, 5)}


def scores(*values):
    parts = [{"sea/float32": value, "sea/binary": value} for value in values]
    pairs = zip(values, parts, strict=True)
    return [None if value is None else {"kept": value, "by_set": part} for value, part in pairs]


def test_the_best_trial_is_chosen_once_all_are_scored_and_the_first_of_equals():
    loaded = plan()
    part = loaded.with_scores(
        {"tuned_isotropy": scores(0.1, 0.3, 0.3), "baseline_no_isotropy": scores(1, 2, None)}
    )
    lambdas = {p.name: p.training.lambda_isotropy for p in part.experiments}
    assert lambdas["tuned_isotropy"] == 1.0
    assert part.tuned[0].best.values == {"training.lambda_isotropy": 1.0}
    assert part.tuned[1].best is None
    assert part.experiments[2] == loaded.experiments[2]
    zero = loaded.with_scores(
        {"tuned_isotropy": scores(0.0, 0.0, 0.0), "baseline_no_isotropy": [None] * 3}
    )
    assert zero.tuned[0].best is zero.tuned[0].trials[0]


GRID = f"grid = {{ {LAMBDA} }}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            [("training.lambda_isotropy", "training.lambda_isotropie")],
            "training.lambda_isotropie: there is no such key; did you mean 'training.lambda_isotro",
        ),
        ([("training.lambda_isotropy", "evaluation.depth")], "'evaluation.depth' is not tuned: on"),
        ([("training.lambda_isotropy", "encoder.output_dim")], "'encoder.output_dim' is not tuned"),
        ([("training.lambda_isotropy", "training.selection.queries")], "is not tuned: only traini"),
        ([("[0.5, 1.0, 2.0]", "[]")], "grid.training.lambda_isotropy: the list needs 1 or more"),
        ([("[0.5, 1.0, 2.0]", "0.5")], "grid.training.lambda_isotropy: a list is needed, in squar"),
        ([("[0.5, 1.0, 2.0]", "[0.5, -1.0, 2.0]")], "training.lambda_isotropy: it has to be 0.0 o"),
        ([("[0.5, 1.0, 2.0]", '[0.5, "1.0", 2.0]')], "training.lambda_isotropy: a number is neede"),
        ([("[0.5, 1.0, 2.0]", "[0.5, nan, 2.0]")], "training.lambda_isotropy: a finite number is"),
        ([("[0.5, 1.0, 2.0]", "[0.5, 2020-01-01, 2.0]")], "training.lambda_isotropy: a number is"),
        ([("[0.5, 1.0, 2.0]", "[0.5, 0.5, 2.0]")], "two trials of with_isotropy would train the s"),
        ([("[0.5, 1.0, 2.0]", "[1, 1.0, 2.0]")], "two trials of with_isotropy would train the sam"),
        (
            [(LAMBDA, '"training.resume_minutes" = [1, 2, 3]')],
            "two trials of with_isotropy would train the same model",
        ),
        ([("[0.5, 1.0, 2.0]", "[0.5, 2.0]")], "trials: tuned_isotropy 2, baseline_no_isotropy 3"),
        ([(SELECTION, "")], "an experiment with a grid needs [tuning], and [tuning] a grid"),
        ([(SELECTION, "[tuning]\ntrials = 2\n")], "tuning.selection: it has to be there"),
        ([(SELECTION, f"[tuning]\ntrials = 0\n{SELECTION}")], "tuning.trials: it has to be 1 or m"),
        ([(SELECTION, f"[tuning]\nseed = 2\n{SELECTION}")], "tuning.seed 2 is one of the plan's s"),
        ([("queries = 8", "queries = 0")], "trials are compared on nothing"),
        ([('name = "tuned_isotropy"', 'name = "spread_out"')], "experiments names the same one tw"),
        ([('name = "tuned_isotropy"', 'name = "Tuned"')], "a name has lower-case letters, digits"),
        ([('profile = "with_isotropy", ', "")], "experiments.1.arm.profile: it has to be there"),
        ([(GRID, 'set = { "training.scales" = 3.0 }')], "scales: there is no such key"),
        ([(GRID, 'set = { "training.scale" = -3.0 }')], "training.scale: it has to be above 0.0"),
        ([(GRID, f"grids = {{ {LAMBDA} }}")], "experiments.1.arm.grids: there is no such key"),
        ([('"spread_out"', "7")], "experiments.0.name: a text is needed, in quotes"),
        ([('"with_isotropy"', '"with_isotropie"')], "did you mean 'with_isotropy'?"),
        (
            [(SELECTION, f'{SELECTION}[tuning.space]\ntraining.epochs = [1]\n')],
            "tuning.space.training: a list is needed",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_grid_is_named(changes, said):
    with pytest.raises(ProfileError) as caught:
        plan(*changes)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_arm_has_fixed_values_beside_those_that_are_tried():
    fixed = 'set = { "data.max_train_queries" = 30, "training.scale" = 7.0 }'
    loaded = plan(
        (GRID, f"{GRID}, {fixed}"),
        ('"spread_out"', f'{{ profile = "spread_out", name = "few", {fixed} }}'),
        (SELECTION, f"[overrides.training]\nscale = 9.0\n\n{SELECTION}"),
    )
    found = [*(trial.profile for trial in loaded.tuned[0].trials), loaded.experiments[0]]
    assert {(one.data.max_train_queries, one.training.scale) for one in found} == {(30, 7.0)}
    assert loaded.experiments[0].name == "few"
    assert loaded.experiments[2].training.scale == 9.0
    assert tried(loaded) == tried(plan())


def test_arms_of_a_sweep_may_have_unequal_numbers_of_trials():
    less = ("[0.5, 1.0, 2.0]", "[0.5, 2.0]")
    loaded = plan(less, (SELECTION, f"[tuning]\nequal = false\n\n{SELECTION}"))
    assert [len(arm.trials) for arm in loaded.tuned] == [2, 3]


def test_tuning_without_a_grid_is_refused_too():
    with pytest.raises(ProfileError, match="needs \\[tuning\\], and \\[tuning\\] a grid"):
        plan(
            (f"{{ {ARM} }}", '"with_isotropy"'),
            (f'{{ profile = "baseline_no_isotropy", grid = {{ {RATE} }} }}', '"frozen_efficient"'),
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("training.lambda_isotropy=3", "--set training.lambda_isotropy is what the trials of with"),
        ("training={lambda_isotropy=3}", "--set training.lambda_isotropy is what the trials of wi"),
        ("training.selection.queries=0", "trials are compared on nothing"),
    ],
)  # fmt: skip
def test_set_changes_nothing_that_is_tuned(change, said):
    with pytest.raises(ProfileError) as caught:
        plan(sets=[change])
    assert said in str(caught.value)


def test_set_and_overrides_change_all_trials_but_not_what_they_differ_in():
    loaded = plan(
        (SELECTION, f"[overrides.training]\nlambda_isotropy = 9.0\nepochs = 2\n\n{SELECTION}"),
        sets=["training.batch_size=16"],
    )
    found = [trial.profile.training for trial in loaded.tuned[0].trials]
    assert [one.lambda_isotropy for one in found] == [0.5, 1.0, 2.0]
    assert {(one.epochs, one.batch_size) for one in found} == {(2, 16)}
    assert loaded.experiments[0].training.lambda_isotropy == 9.0


def test_so_many_trials_are_drawn_whatever_the_order_of_keys_and_values():
    draws = []
    keys = ['"training.lambda_isotropy" = [0.5, 1.0, 2.0]', '"training.lambda_reg" = [0.1, 0.2]']
    more = ['"training.lambda_isotropy" = [2.0, 0.5, 1.0]', '"training.lambda_reg" = [0.2, 0.1]']
    for grid in (*itertools.permutations(keys), more):
        loaded = plan(
            (LAMBDA, ", ".join(grid)), (SELECTION, f"[tuning]\ntrials = 3\n\n{SELECTION}")
        )
        arm = loaded.tuned[0]
        assert (arm.cells, len(arm.trials)) == (6, 3)
        draws.append({json.dumps(trial.values, sort_keys=True) for trial in arm.trials})
    assert draws[0] == draws[1] == draws[2]
    drawn = draws[0]
    loaded = plan(
        (LAMBDA, ", ".join(keys)), (SELECTION, f"[tuning]\ntrials = 3\nseed = 5\n\n{SELECTION}")
    )
    other = {json.dumps(trial.values, sort_keys=True) for trial in loaded.tuned[0].trials}
    assert (other != drawn, loaded.tuning_seed) == (True, 5)


def test_a_space_is_tried_for_every_arm_beside_its_own_grid():
    space = '[tuning.space]\n"encoder.head.dropout" = [0.0, 0.1]\n'
    loaded = plan((SELECTION, SELECTION + space))
    found = tried(loaded)
    assert [len(cells) for cells in found.values()] == [6, 6]
    assert found["tuned_isotropy"][:2] == [
        {"encoder.head.dropout": 0.0, "training.lambda_isotropy": 0.5},
        {"encoder.head.dropout": 0.0, "training.lambda_isotropy": 1.0},
    ]
    assert loaded.tuned[0].trials[3].profile.encoder.head.dropout == 0.1


def test_two_arms_of_one_profile_have_names():
    other = f'profile = "baseline_no_isotropy", grid = {{ {RATE} }}'
    second = f'profile = "with_isotropy", name = "tuned_2", grid = {{ {LAMBDA} }}'
    loaded = plan((other, second))
    assert [arm.name for arm in loaded.tuned] == ["tuned_isotropy", "tuned_2"]
    folders = {arm.trials[0].profile.name for arm in loaded.tuned}
    assert folders == {"tuned_isotropy", "tuned_2"}


def test_contrasts_name_tuned_arms_by_the_names_of_their_rows():
    of = '[[contrasts]]\narm = "{}"\nagainst = "baseline_no_isotropy"\nprimary = true\n\n'
    loaded = plan((SELECTION, of.format("tuned_isotropy") + SELECTION))
    assert loaded.contrasts[0].arm == "tuned_isotropy"
    with pytest.raises(ProfileError, match="'with_isotropy', which is not a row"):
        plan((SELECTION, of.format("with_isotropy") + SELECTION))


def test_one_arm_of_a_tuned_plan_keeps_its_own_trials():
    part = plan().part(["tuned_isotropy"], "none", [3])
    assert list(tried(part)) == ["tuned_isotropy"]
    assert (part.seeds, part.references) == ((3,), ())
    assert plan().part(["spread_out"]).tuned == ()


def test_the_seed_of_the_trials_is_no_seed_of_a_command():
    with pytest.raises(ProfileError, match="seed 0 is that of the trials") as caught:
        plan().part(seeds=[0, 1])
    assert caught.value.hint == "ragcun reproduce --profile tuned --seed 1"
    assert plan().part(["spread_out"], seeds=[0]).seeds == (0,)


def test_the_file_of_a_plan_is_read_as_it_was_written():
    scored = plan().with_scores(
        {"tuned_isotropy": scores(0.1, 0.3, 0.2), "baseline_no_isotropy": scores(0.2, None, 0.1)}
    )
    assert PaperPlan.from_json(scored.to_json()) == scored
    options = dataclasses.replace(scored, options=("--seed", "1"))
    assert PaperPlan.from_json(options.to_json()) == options


def test_the_file_of_a_plan_without_grids_has_nothing_of_them():
    """So that reports which were written before there were any are current still."""
    for name in ("smoke", "quickstart", "with_isotropy"):
        loaded = profiles.load_plan(name)
        content = json.loads(loaded.to_json())
        assert list(content) == [
            *("name", "description", "experiments", "references", "seeds", "contrasts"),
            *("smallest_effect", "claims", "options"),
        ]
        assert PaperPlan.from_json(json.dumps(content).encode()) == loaded


def test_a_tuned_plan_can_be_extended_by_one_of_ones_own():
    for listed in (False, True):
        arms = [('    "spread_out",\n', "")] if listed else []
        loaded = plan(*arms)
        file = profiles.write_new(f"mine_{int(listed)}", extends="tuned", is_plan=True)
        mine = profiles.load_plan(f"mine_{int(listed)}")
        assert (mine.tuned, mine.experiments) == (loaded.tuned, loaded.experiments)
        values = tomllib.loads(file.read_text())
        assert values["experiments"][-1]["grid"] == {
            "training.base_learning_rate": [1e-5, 2e-5, 4e-5]
        }


def test_the_shipped_sweep_is_that_of_the_original_plan():
    sweep = profiles.load_plan("lambda_sweep")
    assert tried(sweep) == {
        "with_isotropy": [{"training.lambda_isotropy": value} for value in (0.5, 1.0, 2.0)]
    }
    assert sweep.tuning_seed not in sweep.seeds
    assert sweep.experiments[0].training.selection.queries == 500
