"""Plans: the experiments, references and seeds of one results table."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, TypeAdapter, model_validator

from ragcun_cli.spec.errors import ProfileError, did_you_mean
from ragcun_cli.spec.launch_config import LaunchConfig
from ragcun_cli.spec.manifest import digest
from ragcun_cli.spec.measuring_config import FULL_FORM
from ragcun_cli.spec.profile import RunProfile
from ragcun_cli.spec.section import LARGEST, NAME, Section
from ragcun_cli.spec.training_config import SelectionConfig

REFERENCES_ONCE_CALLED = {"untouched_pca": "untouched_start"}
"""Old name of a reference -> its name, in plans and in the files of old runs."""

ReferenceName = Literal["untouched", "untouched_start", "free_transform", "bm25", "fusion"]

Reference = Annotated[
    ReferenceName,
    BeforeValidator(lambda name: REFERENCES_ONCE_CALLED.get(str(name), name)),
]
"""Rows that nothing was trained for: the base encoder as published; the base behind the untrained
linear head that every experiment starts from, rotation included; the base behind the free transform
that held-out queries choose; BM25; and the reciprocal-rank fusion of BM25 with the base."""

FUSED: tuple[ReferenceName, ...] = ("untouched", "bm25")
"""The references whose rankings `fusion` is made of."""


def lacks_of_fusion(references: Collection[str]) -> str:
    """What `fusion` is made of and does not stand beside it, in words; nothing where all does."""
    lacking = [name for name in FUSED if name not in references]
    said = f"fusion is made of the rows {' and '.join(FUSED)}, and references has no "
    return f"{said}{' and no '.join(lacking)}" if lacking and "fusion" in references else ""


Seed = Annotated[int, Field(ge=0, le=LARGEST)]


class PlannedContrast(Section):
    """A difference between two rows that is asked about before it is seen."""

    arm: str
    """Name of an experiment or a reference."""

    against: str
    """Name of another; the difference is the arm's score less this one's."""

    metric: str = "ndcg@10"
    """Of the scores by query."""

    form: str = FULL_FORM
    """Of the embeddings: as they are, or one of `evaluation.variants`, as `int8` or `binary`."""

    datasets: tuple[str, ...] = ()
    """Over which the difference is; without any, over the sets of the averages."""

    primary: bool = False
    """What the plan is for; the others are secondary."""

    @property
    def name(self) -> str:
        """As the plan has it."""
        return self.called(self.arm, self.against)

    @property
    def scores(self) -> str:
        """What the difference is of, for people."""
        metric = "nDCG@10" if self.metric == "ndcg@10" else self.metric
        return metric if self.form == FULL_FORM else f"{metric} of {self.form} embeddings"

    def called(self, arm: str, against: str) -> str:
        """The same with other names of the two rows."""
        metric = "" if self.metric == "ndcg@10" else f", {self.metric}"
        form = "" if self.form == FULL_FORM else f", {self.form}"
        sets = f", {' '.join(self.datasets)}" if self.datasets else ""
        return f"{arm} \N{MINUS SIGN} {against}{metric}{form}{sets}"


class Claim(Section):
    """Something that the plan hopes to show, stated before it is measured."""

    name: str
    """For people."""

    tier: str = ""
    """What it belongs to, as `minimum`."""

    measure: Literal["gain", "average", "isotropy", "isotropy_gain", "data_sets", "rows", "none"]
    """Of what the number is: the difference of two rows in points of nDCG@10, the average of one;
    the corrected isotropy score of one, the difference of two; the number of data sets that all
    rows were evaluated on; whether some rows were evaluated at all; or nothing that ragcun
    measures, where `evidence` says where to look."""

    arm: str | None = None
    """The row whose number it is."""

    against: str | None = None
    """Of a gain, the row that it is over."""

    rows: tuple[str, ...] = ()
    """That have to be there."""

    above: float | None = None
    """What the number has to exceed; of data sets, what it has to reach."""

    expected: str = ""
    """What the original plan hoped for."""

    evidence: str = ""
    """Where it is to be seen, where no number tells."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        needs = {
            "gain": ("arm", "against", "above"),
            "isotropy_gain": ("arm", "against", "above"),
            "average": ("arm", "above"),
            "isotropy": ("arm", "above"),
            "data_sets": ("above",),
            "rows": ("rows",),
            "none": ("evidence",),
        }[self.measure]
        if lacking := [name for name in needs if getattr(self, name) in (None, (), "")]:
            raise ValueError(f"the claim '{self.name}' needs {', '.join(lacking)}")
        return self


Space = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(max_length=20)]
"""Dotted keys of `training` and `encoder.head`, each with the values to try."""


class Arm(Section):
    """An experiment with values of its own, fixed or tuned."""

    profile: str
    """By name or path."""

    name: str | None = Field(None, pattern=NAME)
    """Of its row; the profile's by default."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of a profile, as `data.max_train_queries`, each with its value here."""

    grid: Space | None = None
    """What is tried for this arm beside what is tried for all; may be empty. None tunes nothing."""


Listed = Annotated[
    Annotated[str, Tag("name")] | Annotated[Arm, Tag("arm")],
    Discriminator(lambda value: "arm" if isinstance(value, dict | Arm) else "name"),
]


class TuningConfig(Section):
    """How the values of tuned arms are chosen: by trials, on queries that no table reports."""

    space: Space = Field(default_factory=dict)
    """What is tried for every tuned arm."""

    trials: int | None = Field(None, ge=1)
    """Cells of space and grid that are trained for each arm, drawn by digest; none means all."""

    equal: bool = True
    """All arms have to have the same number, as they are compared; false is for sweeps that change
    one value at a time, each an arm of its own."""

    seed: Seed = 0
    """Of the trials; none of the plan's seeds, so that the luck which chose is in no result."""

    selection: SelectionConfig
    """The queries that cells are compared on, and the best step of every training is chosen on."""

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if not self.selection.queries:
            raise ValueError("tuning.selection.queries is 0: trials are compared on nothing")
        return self


class PlanFile(Section):
    """A plan as its TOML file states it."""

    name: str = Field(pattern=NAME)
    description: str = ""

    experiments: Annotated[tuple[Listed, ...], Field(min_length=1)]
    """Profiles by name or path, in the order of the table's rows; one with other values as
    `{ profile = "NAME", name = "ROW", set = { "training.batch_size" = 64 } }`, a tuned one as
    `{ profile = "NAME", grid = { "training.lambda_isotropy" = [0.5, 1.0] } }`."""

    references: tuple[Reference, ...] = ("untouched",)
    """Rows above the experiments."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1,)
    """Each experiment is trained once for each seed."""

    contrasts: tuple[PlannedContrast, ...] = ()
    """The differences that the plan is for. Without any: `with_isotropy` less
    `baseline_no_isotropy`, and each experiment less `untouched`."""

    smallest_effect: float | None = Field(None, gt=0)
    """Points of a score below which a difference is of no interest: one whose 90 % interval lies
    within is called equivalent."""

    claims: tuple[Claim, ...] = ()
    """What the plan hopes to show; the report judges each."""

    overrides: dict[str, Any] = Field(default_factory=dict)
    """Values laid over every experiment, in the shape of a profile."""

    tuning: TuningConfig | None = None
    """How the values of experiments with a grid are chosen."""

    launch: LaunchConfig = LaunchConfig()
    """Where its jobs run, on a cluster."""

    @model_validator(mode="after")
    def _tuned_by_something(self) -> Self:
        listed = [one for one in self.experiments if isinstance(one, Arm)]
        grids = [arm.grid for arm in listed if arm.grid is not None]
        if bool(grids) != (self.tuning is not None):
            raise ValueError("an experiment with a grid needs [tuning], and [tuning] a grid")
        if self.tuning is None:
            return self
        if self.tuning.seed in self.seeds:
            raise ValueError(f"tuning.seed {self.tuning.seed} is one of the plan's seeds")
        for key in (key for space in (self.tuning.space, *grids) for key in space):
            if not key.startswith(("training.", "encoder.head.")) or ".selection" in key:
                raise ValueError(f"'{key}' is not tuned: only training and encoder.head are")
        return self

    @model_validator(mode="after")
    def _contrasts_of_two(self) -> Self:
        names = [contrast.name for contrast in self.contrasts]
        if len(set(names)) < len(names):
            raise ValueError("contrasts names the same one twice")
        for contrast in self.contrasts:
            if contrast.arm == contrast.against:
                raise ValueError(f"contrasts holds '{contrast.arm}' against itself")
        return self

    @model_validator(mode="after")
    def _listed_once(self) -> Self:
        for name in ("experiments", "references", "seeds", "claims"):
            listed = getattr(self, name)
            values = [getattr(v, "name", v) or getattr(v, "profile", None) for v in listed]
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names the same one twice")
        if said := lacks_of_fusion(self.references):
            raise ValueError(said)
        if {"name", "extends"} & set(self.overrides):
            raise ValueError("overrides cannot change name or extends")
        return self


@dataclass(frozen=True)
class Trial:
    """One cell of what is tried for an arm."""

    values: dict[str, Any]
    """Dotted key -> what it is here."""
    profile: RunProfile
    score: float | None = None
    """nDCG@10 on the selection sets, in [0, 1]; None until the trial is trained."""
    by_set: dict[str, float] = field(default_factory=dict)
    """What that is the mean of, by set and form as `fiqa/binary`; empty where it is of one."""


@dataclass(frozen=True)
class TunedArm:
    """An experiment whose values are chosen by trials."""

    name: str
    trials: tuple[Trial, ...]
    cells: int
    """All that the trials were drawn from."""

    @property
    def best(self) -> Trial | None:
        """The trial with the highest score, the first of equals; None until all are trained."""
        scores = [trial.score for trial in self.trials if trial.score is not None]
        if len(scores) < len(self.trials):
            return None
        return self.trials[scores.index(max(scores))]


@dataclass(frozen=True)
class PaperPlan:
    """A plan with its experiments resolved.

    A tuned arm that has no best trial yet stands there as its first one.
    """

    name: str
    description: str
    experiments: tuple[RunProfile, ...]
    references: tuple[Reference, ...]
    seeds: tuple[int, ...]
    contrasts: tuple[PlannedContrast, ...] = ()
    smallest_effect: float | None = None
    claims: tuple[Claim, ...] = ()
    options: tuple[str, ...] = ()
    """Of a command, as far as they changed it."""
    tuned: tuple[TunedArm, ...] = ()
    tuning_seed: int = 0
    launch: LaunchConfig = field(default_factory=LaunchConfig)

    def to_json(self) -> bytes:
        """What `from_json` makes the same plan of, but where its jobs run."""
        without = {"launch"} if self.tuned else {"launch", "tuned", "tuning_seed"}
        return TypeAdapter(PaperPlan).dump_json(self, indent=2, exclude=without)

    def with_scores(self, scores: Mapping[str, Sequence[Mapping[str, Any] | None]]) -> PaperPlan:
        """The plan once trials were trained: each tuned arm has the values of its best.

        Args:
            scores: name of an arm -> of each of its trials ``kept``, the score, and perhaps
                ``by_set``.
        """
        tuned = []
        for arm in self.tuned:
            pairs = zip(arm.trials, (one or {} for one in scores[arm.name]), strict=True)
            trials = (
                replace(trial, score=found.get("kept"), by_set=dict(found.get("by_set", {})))
                for trial, found in pairs
            )
            tuned.append(replace(arm, trials=tuple(trials)))
        best = {arm.name: arm.best.profile for arm in tuned if arm.best is not None}
        experiments = tuple(best.get(profile.name, profile) for profile in self.experiments)
        return replace(self, experiments=experiments, tuned=tuple(tuned))

    @classmethod
    def from_json(cls, content: bytes) -> PaperPlan:
        """A plan as `to_json` wrote it.

        Raises:
            ValueError: the content is none, or one of another version.
        """
        return TypeAdapter(PaperPlan).validate_json(content)

    @property
    def untried(self) -> tuple[RunProfile, ...]:
        """The experiments as they are before any trial, whatever was chosen since."""
        first = {arm.name: arm.trials[0].profile for arm in self.tuned}
        return tuple(first.get(profile.name, profile) for profile in self.experiments)

    @property
    def folder(self) -> str:
        """Name of the folder of its reports: another where options changed the plan."""
        return f"{self.name}-{digest(self.options)[:8]}" if self.options else self.name

    @property
    def command(self) -> str:
        """What brings all of it up to date."""
        return shlex.join(["ragcun", "reproduce", "--profile", self.name, *self.options])

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets of the results table; the same for every experiment."""
        return self.experiments[0].evaluation.datasets

    def part(
        self,
        experiments: Sequence[str] | None = None,
        references: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> PaperPlan:
        """Some experiments of it, in its order, with other references or seeds.

        Args:
            experiments: names of those to keep; all by default.
            references: names separated by commas, or ``none``.
            seeds: each once; its own by default.

        Raises:
            ProfileError: it has no such experiment, or there is no such reference.
        """
        names = [profile.name for profile in self.experiments]
        known = [*get_args(ReferenceName), *REFERENCES_ONCE_CALLED]
        listed = [name.strip() for name in (references or "").split(",") if name.strip()]
        chosen = dict.fromkeys(name for name in listed if name != "none")
        for wanted, there, what, also in (
            (experiments or (), names, f"an experiment of {self.name}", ""),
            (chosen, known, "a reference", ", or none alone"),
        ):
            for name in wanted:
                if name not in there:
                    meant = did_you_mean(get_close_matches(name, there, n=1))
                    raise ProfileError(
                        f"'{name}' is not {what}; these are: {', '.join(there)}{also}{meant}",
                        hint=f"ragcun profile show {self.name}",
                    )
        if chosen and "none" in listed:
            raise ProfileError(
                "--references: none stands alone, as it leaves all of them out",
                hint=f"--references {','.join(chosen)}",
            )
        if said := lacks_of_fusion(chosen):
            whole = ",".join(dict.fromkeys([*FUSED, *chosen]))
            raise ProfileError(said, hint=f"--references {whole}")
        tuned = tuple(arm for arm in self.tuned if arm.name in (experiments or names))
        if tuned and self.tuning_seed in (seeds or ()):
            raise ProfileError(
                f"seed {self.tuning_seed} is that of the trials, which chose by its luck",
                hint=f"ragcun reproduce --profile {self.name} --seed {self.tuning_seed + 1}",
            )
        return replace(
            self,
            experiments=tuple(p for p in self.experiments if p.name in (experiments or names)),
            tuned=tuned,
            references=self.references
            if references is None
            else tuple(TypeAdapter(Reference).validate_python(name) for name in chosen),
            seeds=tuple(dict.fromkeys(seeds or self.seeds)),
        )
