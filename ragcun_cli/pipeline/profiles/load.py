"""Find, merge and validate the TOML files of profiles and plans."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import ragcun_cli
from ragcun_cli.pipeline.profiles.problems import refuse_typed, validated
from ragcun_cli.pipeline.profiles.toml_text import as_toml
from ragcun_cli.spec.errors import ProfileError, did_you_mean
from ragcun_cli.spec.launch_config import LaunchConfig
from ragcun_cli.spec.manifest import digest
from ragcun_cli.spec.measuring_config import FULL_FORM, EvaluationConfig
from ragcun_cli.spec.paths import path_of
from ragcun_cli.spec.plan import Arm, PaperPlan, PlanFile, Trial, TunedArm, TuningConfig
from ragcun_cli.spec.profile import NAMED_MODEL, RunProfile, model_values
from ragcun_cli.spec.section import NAME, dotted, stated

Layer = tuple[str, dict[str, Any]]
"""What it is called, and values that are laid over others."""


def shipped_profiles() -> Path:
    """Folder of the profiles that come with ragcun: in the wheel, or in a checkout beside it."""
    package = Path(ragcun_cli.__file__).parent
    inside = package / "profiles"
    return inside if inside.is_dir() else package.parent / "profiles"


def profile_files() -> dict[str, Path]:
    """Every profile and plan that a name can mean; ./profiles comes before the shipped ones."""
    files: dict[str, Path] = {}
    for folder in (shipped_profiles(), Path("profiles")):
        files |= {file.stem: file for file in sorted(folder.glob("*.toml"))}
    return dict(sorted(files.items()))


def load(name: str, *, sets: Sequence[str] = ()) -> RunProfile | PaperPlan:
    """Resolve a profile or plan by name or path, with ``--set`` values laid over it.

    Raises:
        ProfileError: it is missing, is not TOML, or does not describe a valid run. Every problem
            is named by its dotted key, all at once.
    """
    file = _find(name)
    values = _read(file)
    changes = _changes(sets)
    if "experiments" not in values:
        return _experiment(file, [("--set", changes)])
    if "extends" in values:
        raise ProfileError(f"{file}: a plan extends nothing; it names experiments")
    plan = validated(PlanFile, values, file)
    return _plan(plan, file, changes)


def load_plan(name: str, *, sets: Sequence[str] = ()) -> PaperPlan:
    """As `load`, and an experiment becomes a plan of it and the untouched base."""
    loaded = load(name, sets=sets)
    if isinstance(loaded, PaperPlan):
        return loaded
    return PaperPlan(
        name=loaded.name,
        description=loaded.description,
        experiments=(loaded,),
        references=("untouched",),
        seeds=(1,),
    )


def launch_config(own: LaunchConfig) -> LaunchConfig:
    """What a plan says of launching, laid over ./launch.toml or, without one, the user's.

    Raises:
        ProfileError: that file is not TOML, or the two together are not valid.
    """
    users = path_of(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "ragcun/launch.toml"
    file = next((file for file in (Path("launch.toml"), users) if file.exists()), None)
    if file is None:
        return own
    hint = shlex.join(["cat", str(file)])
    kept = validated(LaunchConfig, _read(file), file, hint=hint)
    both = {**kept.model_dump(exclude_unset=True), **own.model_dump(exclude_unset=True)}
    return validated(LaunchConfig, both, f"{file} with the plan's [launch]", hint=hint)


def profile_of_model(
    name: str,
    datasets: Sequence[str],
    *,
    like: RunProfile | None = None,
    sets: Sequence[str] = (),
) -> RunProfile:
    """What evaluates a saved model as it is, with ``--set`` values laid over it.

    Args:
        name: a folder, or a name that is looked up as `encoder.base` is.
        datasets: to evaluate on.
        like: a profile to take the settings of evaluation from; none takes the defaults.
        sets: changes to them.

    Raises:
        ProfileError: a value is not valid.
    """
    changes = _changes(sets)
    allowed = {
        "evaluation": set(EvaluationConfig.model_fields) - {"datasets"},
        "encoder": {"max_seq_length", "revision", "sha256"},
    }
    for section, changed in changes.items():
        for key in changed if isinstance(changed, dict) else {""}:
            if key not in allowed.get(section, set()):
                raise ProfileError(
                    f"--set {section}.{key} does nothing to a model that is evaluated as it is",
                    hint="--set evaluation.KEY=VALUE, or encoder.max_seq_length",
                )
    folder = path_of(name)
    base = str(folder.resolve()) if folder.is_dir() else name
    evaluation: dict[str, Any] = {} if like is None else like.evaluation.model_dump(mode="json")
    values = {
        "name": NAMED_MODEL,
        "description": name,
        "encoder": {"base": base},
        "evaluation": evaluation | {"datasets": list(datasets)},
    }
    return validated(RunProfile, overlay(values, changes), f"--model {name}")


def _plan(plan: PlanFile, file: Path, changes: dict[str, Any]) -> PaperPlan:
    chosen = {} if plan.tuning is None else {"selection": stated(plan.tuning.selection)}
    layers: list[Layer] = [(f"overrides of {file.name}", plan.overrides)]
    layers += [("tuning.selection", {"training": chosen})] * bool(chosen)
    layers += [("--set", changes)]
    experiments: list[RunProfile] = []
    tuned: list[TunedArm] = []
    problems: dict[str, list[str]] = {}
    names = [one if isinstance(one, str) else one.profile for one in plan.experiments]
    for name, one in zip(names, plan.experiments, strict=True):
        try:
            source = _find(name, beside=file)
            arm = Arm(profile=one) if isinstance(one, str) else one
            own: list[Layer] = [("name", {"name": arm.name})] if arm.name else []
            own += [(f"set {', '.join(arm.set)}", _table(arm.set))]
            if arm.grid is None or plan.tuning is None:
                experiments.append(_experiment(source, [*layers[:-1], *own, layers[-1]]))
            else:
                space = plan.tuning.space | arm.grid
                tuned.append(_tuned(space, plan.tuning, source, [*layers[:-1], *own, layers[-1]]))
                experiments.append(tuned[-1].trials[0].profile)
        except ProfileError as error:
            where, _, why = str(error).partition("\n")
            problems.setdefault(why, []).append(name if why and changes else where)
    if problems and changes:
        _plan(plan, file, {})  # what is wrong without them comes first
    if problems:
        raise ProfileError(_told(problems, changes), hint=f"ragcun profile show {names[0]}")
    equal = plan.tuning is not None and plan.tuning.equal
    if equal and len({len(arm.trials) for arm in tuned}) > 1:
        counts = ", ".join(f"{arm.name} {len(arm.trials)}" for arm in tuned)
        raise ProfileError(
            f"{file}: arms that are compared get the same number of trials: {counts}",
            hint="tuning.trials, at most the smallest of them; tuning.equal = false for sweeps",
        )
    _refuse_unknown(plan, file, experiments)
    if len({profile.evaluation.datasets for profile in experiments}) > 1:
        raise ProfileError(
            f"{file}: its experiments differ in evaluation.datasets, so they share no table; "
            "set them under [overrides.evaluation]"
        )
    return PaperPlan(
        name=plan.name,
        description=plan.description,
        experiments=tuple(experiments),
        references=plan.references,
        seeds=plan.seeds,
        contrasts=plan.contrasts,
        smallest_effect=plan.smallest_effect,
        claims=plan.claims,
        tuned=tuple(tuned),
        tuning_seed=0 if plan.tuning is None else plan.tuning.seed,
        launch=plan.launch,
    )


def _told(problems: Mapping[str, Sequence[str]], changes: Mapping[str, Any]) -> str:
    """What is wrong with experiments, once each; where it is ``--set``, that comes first."""
    lines: list[str] = []
    for why, found in problems.items():
        where = list(dict.fromkeys(found))
        if why and changes:
            where = [f"--set {', '.join(dotted(changes))} is not valid in {', '.join(where)}:"]
        lines += [*where, why] if why else where
    return "\n".join(lines)


def _tuned(
    space: Mapping[str, Sequence[Any]], tuning: TuningConfig, source: Path, layers: Sequence[Layer]
) -> TunedArm:
    """An arm with its trials, in the order of the grid."""
    from ragcun_cli.core.draw import TRIALS, smallest

    *below, (_, changes) = layers
    if fixed := [key for key in space if key in dotted(changes)]:
        raise ProfileError(f"--set {fixed[0]} is what the trials of {source.stem} differ in")
    cells = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
    by_text = {json.dumps(cell, sort_keys=True, default=str): cell for cell in cells}
    drawn = smallest(TRIALS, by_text, tuning.trials or len(cells), seed=tuning.seed)
    trials = []
    for text in (text for text in by_text if text in drawn):
        layered = [*below, (f"trial {text}", _table(by_text[text])), layers[-1]]
        trials.append(Trial(by_text[text], _experiment(source, layered)))
    models = {digest(model_values(trial.profile)) for trial in trials}
    if len(by_text) < len(cells) or len(models) < len(trials):
        raise ProfileError(f"two trials of {source.stem} would train the same model")
    if not trials[0].profile.training.selection.queries:
        raise ProfileError("training.selection.queries is 0: trials are compared on nothing")
    return TunedArm(trials[0].profile.name, tuple(trials), len(cells))


def _refuse_unknown(plan: PlanFile, file: Path, experiments: Sequence[RunProfile]) -> None:
    """Find what contrasts and claims name that the plan will not have."""
    evaluation = experiments[0].evaluation
    rows = [*(profile.name for profile in experiments), *plan.references]
    asked = [("a row", name, rows) for one in plan.contrasts for name in (one.arm, one.against)]
    for claim in plan.claims:
        named = filter(None, (claim.arm, claim.against, *claim.rows))
        asked += [("a row", name, rows) for name in named]
    if plan.contrasts:
        from ragcun_cli.core.rankings.metrics import metrics_to

        metrics, forms = metrics_to(evaluation.depth), (FULL_FORM, *evaluation.variants)
        asked += [("a metric that is scored", one.metric, list(metrics)) for one in plan.contrasts]
        asked += [("a form that is scored", one.form, list(forms)) for one in plan.contrasts]
        sets = list(evaluation.datasets)
        asked += [("a data set of it", n, sets) for one in plan.contrasts for n in one.datasets]
    for what, name, known in asked:
        if name not in known:
            raise ProfileError(
                f"{file}: contrasts or claims name '{name}', which is not {what}; these are: "
                f"{', '.join(known)}"
            )


def _experiment(file: Path, layers: Sequence[Layer]) -> RunProfile:
    values = _extended(file)
    sources = [str(file)]
    for label, layer in layers:
        if layer:
            values = overlay(values, layer)
            sources.append(label)
    return validated(RunProfile, values, " with ".join(sources))


def _extended(file: Path) -> dict[str, Any]:
    """The values of a file, laid over those of the one that it extends, and so on."""
    values = _read(file)
    seen = [file.resolve()]
    while (name := values.pop("extends", None)) is not None:
        if not isinstance(name, str):
            raise ProfileError(f"{file}: extends takes the name or path of a profile, in quotes")
        base = _find(name, beside=file)
        below = _read(base)
        if "experiments" in below:
            raise ProfileError(f"{file} extends '{name}', which is a plan", hint=f"mend {file}")
        if (whole := base.resolve()) in seen:
            circle = [*seen[seen.index(whole) :], whole]
            named = " extends ".join(other.stem for other in circle)
            raise ProfileError(
                f"profiles extend each other in a circle: {named}", hint=f"mend {file}"
            )
        file, values = base, overlay(below, values)
        seen.append(whole)
    return values


def overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables key by key; any other value in ``top`` replaces the one in ``base``.

    Raises:
        ProfileError: a key is a table in one of them, and something else in the other.
    """
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if key in merged and isinstance(below, Mapping) != isinstance(value, Mapping):
            raise ProfileError(
                f"'{key}' is a table of keys in one place, and a value in another",
                hint="ragcun profile schema",
            )
        merged[key] = overlay(below, value) if isinstance(below, Mapping) else value
    return merged


def _changes(sets: Sequence[str]) -> dict[str, Any]:
    """``["a.b=1", "a.c=x"]`` as nested tables; a value is TOML, or else the text as it stands."""
    changes: dict[str, Any] = {}
    typed = []
    for text in sets:
        key, equals, value = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ProfileError(
                f"--set takes key=value, got '{text}'", hint="--set training.batch_size=8"
            )
        if parts == ["name"]:
            raise ProfileError("--set cannot change name", hint="ragcun profile init my_name")
        changes = overlay(changes, _nested(parts, _value(value.strip())))
        typed.append(".".join(parts))
    refuse_typed(changes, typed)
    return changes


def _table(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by their dotted keys, as nested tables."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found = overlay(found, _nested(key.split("."), value))
    return found


def _nested(parts: Sequence[str], value: Any) -> dict[str, Any]:  # noqa: ANN401
    for part in reversed(parts):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def _value(text: str) -> Any:  # noqa: ANN401
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # TOML's own errors among them
        return text
    return found["value"] if len(found) == 1 else text


def _find(name: str, *, beside: Path | None = None) -> Path:
    if name.endswith(".toml") or "/" in name:
        path = Path(name)
        if path.is_file():
            return path
        raise ProfileError(f"no profile file at {name}", hint="ragcun profile list")
    if beside is not None and (beside.parent / f"{name}.toml").is_file():
        return beside.parent / f"{name}.toml"
    files = profile_files()
    if name in files:
        return files[name]
    meant = did_you_mean(difflib.get_close_matches(name, files, n=1))
    raise ProfileError(f"no profile is named '{name}'{meant}", hint="ragcun profile list")


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{file} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{file} is not TOML: {error}") from error


def plans_with(experiment: str) -> list[str]:
    """The plans, by name, that have an experiment."""
    found = []
    for name, file in profile_files().items():
        with suppress(ProfileError):
            listed = _read(file).get("experiments")
            if isinstance(listed, list) and experiment in listed:
                found.append(name)
    return found


def summaries() -> list[dict[str, str]]:
    """Name, kind, description and file of everything a name can mean; a broken file says so."""
    keys, rows = ("name", "kind", "description", "file"), []
    for name, file in profile_files().items():
        try:
            values = _read(file)
        except ProfileError as error:
            rows.append((name, "broken", str(error), str(file)))
            continue
        kind = "plan" if "experiments" in values else "experiment"
        said = values.get("description", "")
        rows.append((name, kind, said if isinstance(said, str) else "", str(file)))
    return [dict(zip(keys, row, strict=True)) for row in rows]


def resolved(loaded: RunProfile | PaperPlan) -> dict[str, Any]:
    """Every value of a profile, or of a plan and its experiments."""
    if isinstance(loaded, RunProfile):
        return loaded.model_dump(mode="json")
    return {
        "name": loaded.name,
        "description": loaded.description,
        "references": list(loaded.references),
        "seeds": list(loaded.seeds),
        "contrasts": [contrast.model_dump(mode="json") for contrast in loaded.contrasts],
        "smallest_effect": loaded.smallest_effect,
        "claims": [claim.model_dump(mode="json") for claim in loaded.claims],
        "experiments": [profile.model_dump(mode="json") for profile in loaded.experiments],
        "trials": {arm.name: [trial.values for trial in arm.trials] for arm in loaded.tuned},
    }


def write_new(name: str, *, extends: str, is_plan: bool = False) -> Path:
    """Write ./profiles/NAME.toml, which changes nothing yet.

    An experiment extends another. A plan has what another has, or one experiment.

    Raises:
        ProfileError: the name is taken or not a name, the base is not valid or a plan that an
            experiment would extend, or the file cannot be written.
    """
    refuse_name(name)
    base = load(extends)
    if isinstance(base, PaperPlan) and not is_plan:
        raise ProfileError(
            f"'{extends}' is a plan; an experiment extends an experiment",
            hint=f"ragcun profile init {name} --plan --extends {extends}",
        )
    values: dict[str, Any] = {"name": name, "description": f"As {extends}, but …"}
    if not is_plan:
        values = {"extends": extends, **values}
    elif isinstance(base, PaperPlan):
        values = _read(_find(extends)) | values
    else:
        chosen = {"references": ["untouched"], "experiments": [extends], "seeds": [1]}
        values |= {**chosen, "overrides": {}}
    return write_profile(name, as_toml(values))


def refuse_name(name: str) -> None:
    """Pass if a new profile can have this name.

    Raises:
        ProfileError: it is none, or there is one already.
    """
    if not re.fullmatch(NAME, name):
        raise ProfileError(
            f"'{name}' is not a name: lower-case letters, digits, _ and -",
            hint="ragcun profile init my_experiment",
        )
    if (file := profile_files().get(name)) is not None:
        own = not (shipped_profiles() / file.name).is_file()
        anew = f"rm {shlex.quote(str(file))} before it is written anew, or " if own else ""
        raise ProfileError(
            f"there is a profile '{name}' already: {file}",
            hint=f"ragcun reproduce --profile {name}, to run it; {anew}another name",
        )


def write_profile(name: str, text: str) -> Path:
    """Write ./profiles/NAME.toml, and return it.

    Raises:
        ProfileError: it cannot be written.
    """
    file = Path("profiles") / f"{name}.toml"
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ProfileError(
            f"{file} cannot be written: {error.strerror}", hint="ls -ld . profiles"
        ) from error
    return file
