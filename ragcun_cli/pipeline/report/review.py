"""Eleven questions that a reviewer asks, and what the records of a workspace say to each."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.pipeline.evaluation.baseline import BaselineGate
from ragcun_cli.pipeline.report.contrasts import POINTS, Compared
from ragcun_cli.pipeline.report.figures.mining import gather_minings
from ragcun_cli.pipeline.report.gather import read_measured
from ragcun_cli.pipeline.report.rows import ModelRow, samples_of
from ragcun_cli.pipeline.report.runs import DEMONSTRATION, some_of, stages_of
from ragcun_cli.pipeline.report.table import Column, Table
from ragcun_cli.pipeline.report.tables.contrasts import verdict
from ragcun_cli.pipeline.report.tables.seen import seen_scores
from ragcun_cli.pipeline.report.tasks import Part, compared_of
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.manifest import Stage
from ragcun_cli.spec.paths import TRAINING_LOG
from ragcun_cli.spec.plan import PaperPlan

FINDINGS = {True: "open", None: "not measured", False: "answered"}
"""Whether a question is open -> what the table says of it; the first that one of its facts has."""

Facts = Iterator[tuple[bool | None, str]]
"""Of each contrast, row or data set that a question is about: whether it leaves the question open,
None where that was not measured, and what is known."""


class Submission(NamedTuple):
    """What a reviewer reads: the contrasts of a plan, and the records that they rest on."""

    compared: Sequence[Compared]
    plan: PaperPlan | None
    road: Road
    runner: Runner

    def rows(self) -> list[ModelRow]:
        """Those of the contrasts, each once."""
        return list({row.name: row for one in self.compared for row in one.rows}.values())

    def pairs(self) -> dict[str, tuple[ModelRow, ModelRow]]:
        """The two rows of each contrast, whatever it is of, by their names."""
        return {" − ".join(row.shown for row in one.rows): one.rows for one in self.compared}

    def runs(self) -> list[Run]:
        """Those of the rows, of every seed."""
        return [seed.run for row in self.rows() for seed in row.every]

    def regularised(self) -> list[ModelRow]:
        """The trained arms that have an isotropy term, or are named as those that have it.

        The name is their own, or that of the arm that they stand against.
        """
        ends = [both for one in self.compared for both in (one.rows, one.rows[::-1])]
        named = {one.name for one, other in ends if "no_isotropy" in other.run.name}
        arms = [r for r in self.rows() if not (r.run.reference or "no_isotropy" in r.run.name)]
        named |= {row.name for row in arms if row.run.profile.training.lambda_isotropy}
        return [row for row in arms if row.name in named or "isotropy" in row.run.name]


def _judged(is_bad: object, is_measured: object) -> bool | None:
    """Whether a question is open, for all that is known."""
    return True if is_bad else False if is_measured else None


def _seeds(seen: Submission) -> Facts:
    for one in seen.compared:
        if one.asked:
            said = f"{one.name}: {one.seeds} of {one.asked} seeds"
            yield _judged(one.found and one.seeds == 1, one.found), said


def _trials(seen: Submission) -> Facts:
    counts = {arm.name: len(arm.trials) for arm in seen.plan.tuned} if seen.plan else {}
    for name, rows in seen.pairs().items():
        if not any(row.run.reference for row in rows):
            ours, theirs = (counts.get(row.run.name, 0) for row in rows)
            yield _judged(ours != theirs, seen.plan), f"{name}: {ours} and {theirs} trials"


def _published(seen: Submission) -> Facts:
    sets = dict.fromkeys(name for run in seen.runs() for name in run.profile.evaluation.datasets)
    gate = BaselineGate(seen.runs(), seen.road.place, seen.road.evaluations, [*sets])
    for one in gate.check(seen.runner):
        yield not one.within, f"{one.dataset}: {one.measured:.4f}, published {one.published:.4f}"


def _selection(seen: Submission) -> Facts:
    for row in seen.rows():
        tests = {samples_of([row]).get(n, n): n for n in row.run.profile.evaluation.datasets}
        for name, split in row.run.profile.selection_sets:
            record = seen.runner.record(seen.road.place.sets.task(name))
            whole = (record.details if record else {}).get("sample", {}).get("of", name)
            is_open = whole in tests and split == reported_split(tests[whole])
            yield is_open, f"{row.shown}: chosen on {name} ({split})"
    if not any(run.profile.selection_sets for run in seen.runs()):
        yield False, "every training keeps its last step"


def _contamination(seen: Submission) -> Facts:
    sets = {name for one in seen.compared for name in one.by_set}
    daggers, unknown = seen_scores(seen.rows(), {})
    for row in seen.rows():
        saw = sorted(sets & {name for label, name in daggers if label == row.label})
        said = f"{row.shown} or its base saw {', '.join(saw) or 'no test set that is known'}"
        yield _judged(saw, sets and row.label not in unknown), said


def _sizes(seen: Submission) -> Facts:
    for name, rows in seen.pairs().items():
        if all(row.run.embeds for row in rows):
            ours, theirs = map(_sizes_of, rows)
            is_open = _judged(ours and theirs and ours != theirs, ours and theirs)
            yield is_open, f"{name}: {ours or 'unknown'}; {theirs or 'unknown'}"


def _sizes_of(row: ModelRow) -> str:
    """Numbers of texts behind isotropy, dimensions, length; empty where one was not measured."""
    settings = [one["settings"] for seed in row.seeds for one in seed.metrics.values()]
    sides = [row.isotropy(side) or () for side in ("queries", "passages")]
    found = [{one["texts"] for one in side} for side in sides]
    found += [{one[key] for one in settings} for key in ("dimensions", "max_tokens")]
    sizes = (" or ".join(map(str, sorted(values))) for values in found)
    return "n {} + {}, d {}, {} tokens".format(*sizes) if all(found) else ""


def _versions(seen: Submission) -> Facts:
    every = [one for run in seen.runs() for one in stages_of(run, seen.road, seen.runner)]
    records = [record for task, record in every if record and task.stage is not Stage.DATA]
    made_with = [{"commit": one.commit or "none", **one.versions} for one in records]
    for name in made_with[0] if made_with else ():
        said = " and ".join(sorted({one.get(name, "none") for one in made_with}))
        yield " and " in said or said.endswith("-dirty"), f"{name} {said}"


def _detectable(seen: Submission) -> Facts:
    effect = seen.plan.smallest_effect if seen.plan else None
    for one in seen.compared:
        if (found := one.found) is None:
            yield None, f"{one.name}: {one.why}"
            continue
        shows = verdict(found, effect and effect / POINTS)
        is_open = abs(found.mean) < found.detectable and "equivalent" not in shows
        sizes = f"{POINTS * found.mean:+.2f} points, detectable {POINTS * found.detectable:.2f}"
        yield is_open, f"{one.name}: {sizes}, {shows}"


def _term(seen: Submission) -> Facts:
    for seed in (seed for row in seen.regularised() for seed in row.seeds):
        task, key = seen.road.trainings.task(seed.run), "gradient_share_isotropy"
        lines = (read_measured(task, TRAINING_LOG, seen.runner) or b"").splitlines()
        most = max((log[key] for log in map(json.loads, lines) if key in log), default=None)
        weight = seed.run.profile.training.lambda_isotropy
        share = "an unknown part" if most is None else f"up to {most:.1%}"
        is_open = _judged(0 in (weight, most), most is not None)
        yield is_open, f"{seed.run.label}: weight {weight:g}, {share} of the gradient"


def _negatives(seen: Submission) -> Facts:
    for mining in gather_minings(seen.runs(), seen.road, seen.runner):
        scores = mining.summary["scores"]
        hard, low = (scores["hard"] or {}).get("0.75"), scores["positive"]["0.05"]
        said = f"3 of 4 hard negatives score below {hard}, 95 % of positives above {low}"
        said = "all negatives are random" if hard is None else said
        yield hard is None or hard < low, f"{mining.label}: {said}"


def _distance(seen: Submission) -> Facts:
    for row in seen.regularised():
        by = {one["settings"]["similarity"] for seed in row.seeds for one in seed.metrics.values()}
        used = {row.run.profile.training.contrastive, *by}
        is_open = _judged(used - {"euclidean", "scaled_euclidean"}, by)
        yield is_open, f"{row.shown}: trained and ranked by {' and '.join(sorted(used))}"


_QUESTIONS: tuple[tuple[str, Callable[[Submission], Facts], str], ...] = (
    ("Is it more than the luck of one seed?", _seeds, "{plan} --seed 1 --seed 2 --seed 3"),
    ("Had both arms as many trials?", _trials, "{plan}  # after tuning.equal = true in its file"),
    ("Is the base as good as published?", _published, "ragcun eval -p {name} --baseline-check"),
    ("Was it chosen on a test set?", _selection, "{plan} --set training.selection.split=dev"),
    ("Did a training see a test set?", _contamination, "ragcun data stats {test} --train {train}"),
    ("Are n, d and length the same?", _sizes, "{plan} --references untouched_start"),
    ("Is all of it of one clean version?", _versions, "{plan} --workspace ANOTHER"),
    ("Could it see an effect so small?", _detectable, "{plan} --seed 1 --seed 2 --seed 3 --seed 4"),
    ("Does the isotropy term act?", _term, "{plan} --set training.lambda_isotropy=1"),
    ("Are the negatives hard?", _negatives, "ragcun mine -p {name} --set mining.hard_share=1"),
    ("Is the distance Euclidean?", _distance, "{plan} --set training.contrastive=euclidean"),
)


def review_table(part: Part, road: Road, runner: Runner) -> Table:
    """Each question with its finding, what that rests on and the command that answers it."""
    seen, plan = Submission(compared_of(part), part.plan, road, runner), part.plan
    first = next((row for row in part.known if not row.run.reference), part.known[0]).run.profile
    words = {"name": plan.name if plan else first.name, "train": first.data.train}
    words["plan"] = plan.command if plan else f"ragcun reproduce --profile {first.name}"
    words["test"] = first.evaluation.datasets[0]
    body = []
    for asks, question, answer in _QUESTIONS:
        facts = list(question(seen)) if seen.compared else []
        is_open = next((one for one in FINDINGS if one in dict(facts)), None)
        said = [what for of, what in facts if of == is_open] or ["nothing of the kind is recorded"]
        body.append((asks, FINDINGS[is_open], some_of(said), answer.format(**words)))
    columns = tuple(Column(k, k.title()) for k in ("question", "finding", "facts", "command"))
    return Table("review", "Review", columns, tuple(body), (DEMONSTRATION,) * first.demonstration)
