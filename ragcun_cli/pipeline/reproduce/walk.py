"""Walk the road: for a plan, for the runs of a workspace, for one stage of either."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragcun_cli.core.folders import is_writable
from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.evaluation.baseline import BaselineGate, sets_to_check
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.reproduce.dry_run import priced
from ragcun_cli.pipeline.reproduce.failures import Failures
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.course import Course
from ragcun_cli.pipeline.stages.runner import Runner, refuse_unwritable
from ragcun_cli.pipeline.stages.runs import Run, description_task, runs_on_disk, trials_of
from ragcun_cli.pipeline.stages.task import Details, Task, with_needs
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import DataError, RagcunError, StaleInputError, WorkspaceError
from ragcun_cli.spec.manifest import Stage
from ragcun_cli.spec.marks import damaged_files
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.plan import PaperPlan
from ragcun_cli.spec.profile import EncoderConfig

ASK_ABOVE_SECONDS = 1800
ASK_ABOVE_BYTES = 1e9


@dataclass(frozen=True)
class Consent:
    """What a person allows a command to do beyond what was typed."""

    prerequisites: bool = True
    """Run earlier stages that are missing or stale."""

    force: bool = False
    """Run the stage that was asked for although it is current."""

    retrains: bool = False
    """Make a finished training anew whose files were damaged."""

    ask: Callable[[str], bool] = lambda question: True
    """Asked before more than half an hour of work, or a gigabyte of download."""

    less: str = ""
    """How to ask for less, said before the question."""


def without_absent_gated(names: Sequence[str], place: Place, progress: Progress) -> list[str]:
    """The sets without the gated ones that are not here, which are said."""
    gated = [name for name in names if name in sources.GATED and place.sets.is_absent(name)]
    if gated:
        progress.note(f"not available, left out: {', '.join(gated)} (they need a licence)")
    return [name for name in names if name not in gated]


def spread_groups(names: Sequence[str], place: Place, progress: Progress) -> list[str]:
    """Data sets by name, each once: those of a group that are not here and need a licence not."""
    found: dict[str, None] = {}
    for name in names:
        group = sources.GROUPS.get(name)
        found |= dict.fromkeys(
            [name] if group is None else without_absent_gated(group, place, progress)
        )
    return list(found)


def datasets_of(
    runs: Sequence[Run], place: Place, progress: Progress, named: Sequence[str] | None = None
) -> dict[Path, list[str]]:
    """Folder of each run -> the sets to evaluate it on: those that are named, or else its own.

    Of its own those that are not here and need a licence are left out, which is said.
    """
    if named is not None:
        return {run.folder: list(named) for run in runs}
    own = {name: None for run in runs for name in run.profile.evaluation.datasets}
    there = without_absent_gated(list(own), place, progress)
    return {
        run.folder: [name for name in run.profile.evaluation.datasets if name in there]
        for run in runs
    }


def finished_runs(
    road: Road, runner: Runner, *, experiments: Sequence[str], seeds: Sequence[int]
) -> list[Run]:
    """Every run of the workspace whose model is current, and the untouched base of each.

    Args:
        road: of their tasks.
        runner: knows which are current.
        experiments: by name, only these and what they start from; none means all.
        seeds: only trainings with these; none means all.

    Raises:
        WorkspaceError: there is none.
    """
    workspace = road.place.workspace
    finished: list[Run] = []
    runs, left_out = runs_on_disk(workspace)
    for run in runs:
        stale = runner.stale(road.trainings.task(run))
        if run.trial is not None:
            left_out[run.label] = "a trial chooses values, and is never tested"
        elif stale is None:
            finished.append(run)
        else:
            left_out[run.label] = stale.why
    _say("left out", left_out, runner.progress)
    trained = [
        run
        for run in finished
        if run.reference is None
        and (not experiments or run.name in experiments)
        and (not seeds or run.seed in seeds)
    ]
    if not (trained if experiments or seeds else finished):
        kind = f" of {', '.join(experiments)}" if experiments else ""
        drawn = f" with seed {', '.join(map(str, seeds))}" if seeds else ""
        raise WorkspaceError(
            f"no finished run{kind}{drawn} in {workspace.root}",
            hint="ragcun report" if finished else "ragcun reproduce --profile quickstart",
        )
    bases = [Run(run.profile, None, "untouched", workspace) for run in trained]
    references = [run for run in finished if run.reference is not None]
    if experiments:
        names = {run.reference for run in references}
        own = {Run(run.profile, None, name, workspace).folder for run in trained for name in names}
        references = [run for run in references if run.folder in own]
    unique: dict[Path, Run] = {}
    for run in [*bases, *references, *trained]:
        unique.setdefault(run.folder, run)
    return list(unique.values())


def with_scores(plan: PaperPlan, road: Road, runner: Runner) -> PaperPlan:
    """A plan with the scores of those trials that are trained."""
    scores: dict[str, list[Details | None]] = {}
    for arm, runs in trials_of(plan, road.place.workspace).items():
        records = [runner.current_record(road.trainings.task(run)) for run in runs]
        scores[arm] = [
            None if record is None else record.details["selection"] for record in records
        ]
    return plan.with_scores(scores)


def stage_tasks(
    stage: Stage, runs: Sequence[Run], road: Road, sets: Mapping[Path, Sequence[str]]
) -> list[Task]:
    """The tasks of one stage for some runs, each once; for eval on their sets, by folder."""
    tasks: list[Task | None] = []
    for run in runs:
        if stage is Stage.MINE and run.seed is not None:
            tasks.append(road.minings.task(run))
        if stage is Stage.TRAIN:
            tasks.append(road.trainings.task(run))
        if stage in (Stage.SEARCH, Stage.EVAL):
            for name in sets[run.folder]:
                found = road.evaluations.tasks(run, name)
                tasks += [task for task in found if stage is Stage.EVAL or task.stage is stage]
        if stage is Stage.ISOTROPY:
            tasks.append(road.isotropies.task(run))
    unique = {task.identity: task for task in tasks if task is not None}
    return list(unique.values())


def bring_up_to_date(
    build: Callable[[], list[Task]],
    runs: Sequence[Run],
    road: Road,
    runner: Runner,
    consent: Consent,
    *,
    gate: BaselineGate | None = None,
    failures: Failures | None = None,
) -> int:
    """Run what is not current of some tasks and of what they rest on; return how many ran.

    Args:
        build: makes the tasks; called again once the encoders are here, whose digests are in them.
        runs: whose encoders are needed.
        road: of the tasks.
        runner: runs them.
        consent: what is allowed.
        gate: is evaluated first, and has to let the rest pass.
        failures: gets what fails, for the caller to raise; None has it raised here.

    Raises:
        NotReproducedError: it does not.
        DataError: a data set is not here, and ragcun cannot make it, lacks a split, or would be
            overwritten by another.
        BlockedError: an earlier stage would have to run, and may not.
        StageFailedError: some failed; what does not rest on them was done all the same.
        WorkspaceError: a folder cannot be written in which a stage would have to run.
        RagcunError: the work is long, and nobody agreed to it.
    """
    targets, gated = build(), [] if gate is None else gate.tasks()
    runner.remove_left([*gated, *targets])
    pending = [
        task
        for task in with_needs([*gated, *targets])
        if not runner.is_current(task) or (consent.force and _among(task, targets))
    ]
    if not pending:
        _describe(runs, runner)
        return 0
    pending = make_ready(pending, targets, runs, road, runner, consent)
    runner.course = Course(pending)
    ran, failed = 0, Failures(runner) if failures is None else failures
    if gate is not None:
        gate.say_what_is_left_out(runner.progress)
        ran = sum(runner.run(task) for task in runner.pending(gate.tasks()))
        gate.require(runner)
    targets = build()
    earlier = [task for task in runner.pending(targets) if not _among(task, targets)]
    ran += failed.run(task for task in earlier if task.stage is Stage.DATA)
    refuse_unfit(pending, runner)  # now that the data sets are here
    ran += failed.run(task for task in earlier if task.stage is not Stage.DATA)
    ran += failed.run(targets, force=consent.force)
    _describe(runs, runner)
    if failures is None:
        failed.require_none(targets)
    return ran


def make_ready(
    pending: Sequence[Task],
    targets: Sequence[Task],
    runs: Sequence[Run],
    road: Road,
    runner: Runner,
    consent: Consent,
    *,
    computes_here: bool = True,
) -> list[Task]:
    """Find out what will be refused, have the work agreed to, and bring encoders here.

    Args:
        pending: tasks to run.
        targets: those of them that were asked for.
        runs: whose encoders are needed.
        road: of the tasks.
        runner: of the tasks.
        consent: what is allowed.
        computes_here: whether the devices of this machine are those of the work.

    Returns:
        The pending tasks, with guesses of their time.

    Raises:
        RagcunError: as `bring_up_to_date` raises before anything runs.
    """
    for task in pending:
        refuse_unwritable(task.folder)
    refuse_absent(pending, road)
    for task in pending:
        if task.stage is Stage.DATA and not (consent.force and _among(task, targets)):
            road.place.sets.refuse_overwriting(task)
    _refuse_damaged(pending, runner, consent)
    if computes_here:
        road.place.refuse_device(runs, {task.stage for task in pending})
    refuse_unfit(pending, runner)
    encoders = [run.profile.encoder for run in runs if run.embeds]
    pending = priced(pending, road)
    _say_why(pending, runner)
    _agree(runs, targets, pending, runner, consent)
    _fetch(encoders, pending, road, runner.progress)
    return pending


def _fetch(
    encoders: Sequence[EncoderConfig], pending: Sequence[Task], road: Road, progress: Progress
) -> None:
    for base in {found.base: None for found in encoders if road.place.encoder(found) is None}:
        progress.note(f"getting the base encoder {base}")
    for encoder in encoders:
        road.place.fetch_encoder(encoder)
    for task in pending:
        if task.fetch is not None:
            task.fetch()


def _descriptions(runs: Sequence[Run], runner: Runner) -> list[Task]:
    """What there is to say in the folders of runs that were made, of what they are.

    One that is evaluated by another similarity than its own does not speak for the run.
    """
    tasks = []
    for run in runs:
        own = run.profile.evaluation.similarity == "model"
        made = (run.folder / paths.MANIFEST).is_file()
        if made and (own or not (run.folder / paths.RUN).is_file()):
            tasks.append(description_task(run))
    return runner.pending(tasks)


def lost_descriptions(runs: Sequence[Run], runner: Runner) -> list[Task]:
    """Those that are missing or damaged; one that another plan wrote is as good."""
    found = [(task, runner.stale(task)) for task in _descriptions(runs, runner)]
    return [task for task, stale in found if stale is not None and stale.kind != "changed"]


def _describe(runs: Sequence[Run], runner: Runner) -> None:
    for task in _descriptions(runs, runner):
        if is_writable(task.folder):  # a workspace of others is shown all the same
            runner.run(task)


def _refuse_damaged(pending: Sequence[Task], runner: Runner, consent: Consent) -> None:
    """A training can have taken days: it is made anew where that was asked for, and only there."""
    for task in pending:
        stale = runner.stale(task)
        if not consent.retrains and task.irreplaceable and stale and stale.kind == "damaged":
            raise StaleInputError(
                f"'{task.label}' was finished, and {stale.why}; this command does not train anew",
                hint=task.again,
            )


def _say_why(pending: Sequence[Task], runner: Runner) -> None:
    """Tell why stages run again that have run before; of those that rest on others nothing."""
    found = {task.label: stale for task in pending if (stale := runner.stale(task)) is not None}
    news = {name: one.why for name, one in found.items() if one.kind in ("changed", "damaged")}
    _say("out of date", news, runner.progress)


def _say(what: str, reasons: Mapping[str, str], progress: Progress) -> None:
    """Name what shares a reason in one line."""
    for why in dict.fromkeys(reasons.values()):
        names = [name for name, reason in reasons.items() if reason == why]
        count = f" ({len(names)})" if len(names) > 1 else ""
        progress.note(f"{what}{count}: {', '.join(names)}: {why}")


def say_damaged_caches(workspace: Workspace, progress: Progress) -> None:
    """Read the files in a workspace's caches, and name those that are not what was written."""
    for file in (file for folder in workspace.caches for file in damaged_files(folder)):
        progress.note(f"the cache is damaged: {file} is not what was written")


def refuse_absent(pending: Sequence[Task], road: Road) -> None:
    """Pass if all data sets are here, or ragcun brings them.

    Raises:
        DataError: one is not, as it needs a licence or was never imported.
    """
    sets = [task.folder.name for task in pending if task.stage is Stage.DATA]
    if absent := [name for name in sets if road.place.sets.is_absent(name)]:
        here = (folder.name for folder in road.place.workspace.datasets.glob("[!.]*"))
        raise sources.absent_error(absent, here)


def refuse_unfit(pending: Sequence[Task], runner: Runner) -> None:
    """Find out before any work what will be refused, as that a set lacks a split it is needed for.

    Raises:
        RagcunError: something will.
    """
    for task in pending:
        if task.check is not None:
            task.check()
        for data, split in task.reads_splits:
            record = runner.current_record(data)
            if record is not None and split not in record.details["judged"]:
                judged = ", ".join(record.details["judged"])
                raise DataError(
                    f"'{task.label}' needs judgements of {split}, and '{data.folder.name}' has "
                    f"those of {judged} alone",
                    hint=f"ragcun data stats {data.folder.name}",
                )


def _among(task: Task, tasks: Sequence[Task]) -> bool:
    return any(task.identity == other.identity for other in tasks)


def _agree(
    runs: Sequence[Run],
    targets: Sequence[Task],
    pending: Sequence[Task],
    runner: Runner,
    consent: Consent,
) -> None:
    earlier, progress = [task for task in pending if not _among(task, targets)], runner.progress
    if not consent.prerequisites:
        own = {run.folder for run in runs}
        runner.require_made([t for t in earlier if t.folder not in own or t.irreplaceable])
    for task in earlier:
        progress.note(f"will run first: {task.label} ({size_and_time(task)})")
    seconds = sum(task.seconds for task in pending)
    size = sum(task.work.download_bytes for task in pending)
    if seconds <= ASK_ABOVE_SECONDS and size <= ASK_ABOVE_BYTES:
        return
    download = f", {size / 1e9:.1f} GB to download" if size > ASK_ABOVE_BYTES else ""
    if consent.less:
        progress.note(consent.less)
    work = f"{len(pending)} stages to run, {estimate.duration(seconds)} on this machine"
    if not consent.ask(f"{work}{download}. Go on?"):
        raise RagcunError("nothing was run", hint="the same command with --yes")


def size_and_time(task: Task) -> str:
    """What a task has to do and a guess of its time."""
    guess = estimate.duration(task.seconds)
    return f"{task.size}, {guess}" if task.size else guess


def gate_of(runs: Sequence[Run], road: Road) -> BaselineGate:
    """Holds the untouched base of a plan against published scores."""
    datasets = sets_to_check(runs[0].profile.evaluation.datasets, road.place)
    return BaselineGate(runs, road.place, road.evaluations, datasets)
