"""A report over results of the size of `publication`: seconds and peak memory, twice.

    python benchmarks/report_scale.py FOLDER

Ten rows, 24 runs, 18 data sets, 50,000 queries in all. FOLDER gets two workspaces, and keeps them:
one in which the smoke plan is reproduced, and one in which the stages of `publication` left drawn
scores and what they leave on the smoke plan beside them. Then `ragcun report` is run twice in
processes of its own, as a page with all figures in its files, and as tables for the terminal.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from setting import machine

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.evaluation.score_columns import write_score_columns
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.profiles.load import load_plan
from ragcun_cli.pipeline.reproduce.walk import descriptions, stage_tasks
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import runs_of
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec import paths
from ragcun_cli.spec.manifest import Manifest, Stage

CHANGES = ["encoder.base=ragcun/tiny", "encoder.max_seq_length=32"]
QUERIES = 50_000


def example(smoke: Path, stage: Stage, name: str) -> bytes:
    """A file that a stage left on the smoke plan."""
    pattern = {
        Stage.MINE: "negatives/*/*/seed-1",
        Stage.EVAL: "runs/with_isotropy/*/seed-1/eval/smoke-numpy",
    }.get(stage, "runs/with_isotropy/*/seed-1")
    files = list(smoke.glob(f"{pattern}/{name}"))
    return files[0].read_bytes() if files else b"drawn\n"


def fill(task: Task, smoke: Path, details: dict, counts: dict[str, int], draft: Path) -> dict:
    """Leave what a stage would leave, its scores drawn."""
    dataset = task.key.rpartition("/")[2]
    seed = [*task.label.encode()]
    for output in task.outputs:
        file, name = draft / output, Path(output).name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name in (paths.MODEL, paths.RUN_FILES, paths.MTEB, paths.CHECKPOINTS, "passages"):
            file.mkdir()
            (file / "drawn").touch()
        elif name == paths.SCORES:
            drawn = np.random.default_rng(seed).beta(2, 2, counts[dataset])
            metrics = json.loads(example(smoke, Stage.EVAL, paths.METRICS_FILE))["metrics"]
            ids = [f"query-{number:06}" for number in range(counts[dataset])]
            scores = dict(zip(ids, drawn.tolist(), strict=True))
            write_score_columns(file, {"": {"float32": dict.fromkeys(metrics, scores)}})
        elif name == paths.PER_QUERY:
            row = json.dumps({"query": "query-000000", "ndcg@10": 0.123456789012345})
            file.write_text(f"{row}\n" * counts[dataset])
        else:
            file.write_bytes(example(smoke, task.stage, name))
    return details.get(task.stage, {})


def make(folder: Path) -> Path:
    """The workspace of drawn results."""
    smoke, drawn = folder / "smoke", folder / "publication"
    words = ("reproduce", "--profile", "smoke", "--workspace", str(smoke))
    subprocess.run([sys.executable, "-m", "ragcun_cli", *words], check=True)
    if (drawn / "done").exists():
        return drawn
    shutil.rmtree(drawn, ignore_errors=True)
    shutil.copytree(smoke / "data/encoders", drawn / "data/encoders")
    place = Place(open_workspace(str(drawn)))
    road, runner = Road.of(place), Runner(Silent())
    plan = load_plan("publication", sets=CHANGES)
    runs = runs_of(plan, place.workspace)
    sizes = {name: sources.BEIR[name].queries for name in plan.datasets}
    counts = {name: round(QUERIES * n / sum(sizes.values())) for name, n in sizes.items()}
    run = next(smoke.glob("runs/with_isotropy/*/seed-1"))
    stages = Manifest.load(run / paths.MANIFEST).stages
    data = Manifest.load(smoke / "data/datasets/smoke/manifest.json").stages["data"].details
    details = {
        Stage.TRAIN: stages["train"].details,
        Stage.SEARCH: stages["search/smoke-numpy"].details,
        Stage.DATA: data,
    }
    stages_made = (Stage.TRAIN, Stage.EVAL, Stage.ISOTROPY)
    sets = {run.folder: plan.datasets for run in runs}
    tasks = with_needs(stage_tasks(Stage.EVAL, runs, road, sets))
    data_first = [task for task in tasks if task.stage is Stage.DATA]
    rest = (stage_tasks(stage, runs, road, sets) for stage in stages_made)
    for task in chain(data_first, (one for made in rest for one in with_needs(made))):
        runner.run(
            replace(
                task,
                action=lambda draft, _, task=task: fill(task, smoke, details, counts, draft),
                check=None,
                still_good=None,
            )
        )
    for task in descriptions(runs, runner):
        runner.run(task)
    (drawn / "done").touch()
    return drawn


def measure(workspace: Path, *words: str) -> tuple[float, float]:
    """Seconds and megabytes of one report."""
    sets = [word for change in CHANGES for word in ("--set", change)]
    command = ["report", "--profile", "publication", *sets, "--workspace", str(workspace), *words]
    code = "import resource, sys; from ragcun_cli.app import main; main()"
    started = time.perf_counter()
    with (workspace / "shown").open("w") as shown:
        program = [sys.executable, "-c", code, *command]
        subprocess.run(program, check=True, stdout=shown)
    seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    workspace = make(Path(sys.argv[1]))
    print(machine("cpu"))
    for words in ((), ("--format", "html", "--output", str(workspace / "report.html"))):
        for turn in ("first", "second"):
            seconds, _ = measure(workspace, *words)
            print(f"{' '.join(words[:2]) or 'terminal':16} {turn:7} {seconds:5.1f} s")
    print(f"peak {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:,.0f} MB")
