"""The scripts of jobs run for real, and the programs of Slurm stand in for a cluster.

tests/slurm/test_real_slurm.py has a real one.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ragcun_cli.pipeline.reproduce.launch import slurm
from ragcun_cli.pipeline.reproduce.launch.jobs import RunJob
from ragcun_cli.pipeline.reproduce.launch.slurm import SlurmLauncher
from ragcun_cli.spec.errors import RagcunError, WorkspaceError
from ragcun_cli.spec.launch_config import LaunchConfig
from ragcun_cli.spec.paths import Workspace

SEVERAL = {"processes_per_run": 8, "gpus_per_run": 8}

PYTHON = """\
#!{python}
import os, signal, sys, time
with open(os.environ["RECORD"], "a") as out:
    print([sys.argv[1:], os.getcwd(), os.environ["HF_HUB_OFFLINE"]], file=out)
if "sleep" in sys.argv:
    time.sleep(60)
sys.exit(int(os.environ.get("CODE", "0")))
"""
"""Stands in for Python and torchrun: writes down how it was called."""

COMMANDS = {
    "sbatch": 'n=$(grep -c sbatch "$CALLS"); [ "$n" != "$REFUSED" ] || '
    '{ echo "sbatch: error: invalid partition specified: no" >&2; exit 1; }; echo "10$n;cluster"',
    "squeue": 'cat "$QUEUE"',
    "scontrol": 'echo "node-7"',
    "srun": "exit 0",
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Programs of Slurm that write down how they are called, and a queue to put jobs into."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, does in COMMANDS.items():
        file = folder / name
        file.write_text(f'#!/bin/bash\nprintf "%q " {name} "$@" >> "$CALLS"\n'
                        f'echo >> "$CALLS"\n{does}\n')  # fmt: skip
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in ("CALLS", "QUEUE"):
        (tmp_path / name).touch()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("REFUSED", "none")
    return tmp_path


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """What the command of a job was called with, by a Python that stands in for ours."""
    python = tmp_path / "python"
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    return tmp_path / "record"


def calls(cluster):
    return [shlex.split(line) for line in (cluster / "CALLS").read_text().splitlines()]


def launcher(folder, plan="smoke", **config):
    return SlurmLauncher(Workspace(folder, folder / "data"), plan, LaunchConfig(**config))


def job(name, *words, after=(), on_gpu=True):
    return RunJob(name, words or ("reproduce",), tuple(after), on_gpu)


def options(script):
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if "#SBATCH " in line]


def put(folder, launcher, one):
    """Write a job's script, and the file that Slurm appends its output to."""
    launcher.folder.mkdir(parents=True, exist_ok=True)
    file = launcher.folder / f"{one.name}.sh"
    file.write_text(launcher.script(one))
    file.with_suffix(".log").touch()
    return file


# The scripts


def test_a_job_is_told_to_slurm_as_the_configuration_says(tmp_path):
    script = launcher(
        tmp_path,
        partition="gpu,big",
        time="1-12:00:00",
        account="lab",
        qos="long",
        gpus_per_run=2,
        cpus_per_run=8,
        memory="64G",
        signal_seconds=120,
        extra=("--constraint=a100|h100", "--exclude=node-[1-3]"),
        setup=("module load cuda",),
    ).script(job("with_isotropy-2", "reproduce", "--run", "with_isotropy:2"))
    told = options(script)
    assert re.fullmatch("--job-name=ragcun-[0-9a-f]{8}-with_isotropy-2", told.pop(0))
    assert told == [
        "--output=with_isotropy-2.log",
        "--open-mode=append",
        "--requeue",
        "--signal=B:TERM@120",
        "--partition=gpu,big",
        "--time=1-12:00:00",
        "--account=lab",
        "--qos=long",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=8",
        "--mem=64G",
        "--gres=gpu:2",
        "--constraint=a100|h100",
        "--exclude=node-[1-3]",
    ]
    lines = script.splitlines()
    command = f"{sys.executable} -m ragcun_cli reproduce --run with_isotropy:2 &"
    assert lines.index("module load cuda") < lines.index(command)


def test_what_computes_on_no_gpu_asks_for_none_and_is_one_process(tmp_path):
    script = launcher(tmp_path, nodes=2, **SEVERAL).script(job("mine-1", on_gpu=False))
    assert "--nodes=1" in options(script)
    assert not [option for option in options(script) if "gres" in option]
    assert "torch.distributed" not in script


@pytest.mark.parametrize(
    "config", [{}, SEVERAL, {"nodes": 2, **SEVERAL}], ids=["one", "several", "nodes"]
)
@pytest.mark.needs("program:shellcheck")
def test_shellcheck_finds_nothing_in_a_script(tmp_path, config):
    file = put(tmp_path, launcher(tmp_path / "it's $a", **config), job("x", "a b", "c"))
    done = subprocess.run(
        ["shellcheck", "--severity=warning", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)


@given(folder=NAMES.filter(lambda name: name not in (".", "..")), words=st.lists(NAMES, min_size=1))
@example(folder='it\'s $HOME `id` "x"\n!', words=["--set", "evaluation.datasets=['a b']", "&", ""])
@settings(max_examples=15)
def test_odd_words_and_folders_come_to_the_command_as_they_are(folder, words):
    with tempfile.TemporaryDirectory() as kept, pytest.MonkeyPatch.context() as patch:
        here = Path(kept) / folder[:40]
        here.mkdir()
        patch.chdir(here)
        python = here / "python"
        python.write_text(PYTHON.format(python=sys.executable))
        python.chmod(0o755)
        patch.setattr(sys, "executable", str(python))
        patch.setenv("RECORD", f"{kept}/record")
        patch.setenv("RAGCUN_DATA", folder)
        one = launcher(here)
        file = put(here, one, job("x", *words))
        done = subprocess.run(["bash", file], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"export RAGCUN_DATA={shlex.quote(folder)}" in file.read_bytes().decode()
        recorded = [[["-m", "ragcun_cli", *words], str(here), "1"]]
        assert [eval(line) for line in Path(kept, "record").read_text().splitlines()] == recorded


def test_over_nodes_torchrun_is_started_on_each_and_meets_on_the_first(
    cluster, recorded, monkeypatch
):
    one = launcher(cluster, nodes=2, **SEVERAL)
    file = put(cluster, one, job("x", "reproduce", "--run", "a b"))
    for name, value in {"NNODES": "2", "JOB_ID": "31234", "JOB_NODELIST": "node-[7-8]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    subprocess.run(["bash", file], check=True)
    of_srun = next(call for call in calls(cluster) if call[0] == "srun")
    assert of_srun[1:3] == ["--kill-on-bad-exit=1", sys.executable]
    words = [
        *("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=8"),
        *("--rdzv-backend=c10d", "--rdzv-id=31234", "--rdzv-endpoint=node-7:21234"),
        *("-m", "--", "ragcun_cli", "reproduce", "--run", "a b"),  # torchrun has --run-path
    ]
    assert of_srun[3:] == words
    assert "--nodes=2" in options(file.read_text())


# How a job ends


@pytest.fixture
def end(cluster, recorded, monkeypatch):
    """Run a job whose command ends with a code; gives the job's own, and what it asked of Slurm."""

    def run(code, *, state="RUNNING", words=(), stop=False, **config):
        (cluster / "QUEUE").write_text(f"{state}\n")
        (cluster / "CALLS").write_text("")
        monkeypatch.setenv("CODE", str(code))
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        file = put(cluster, launcher(cluster, **config), job("x", *words))
        with file.with_suffix(".log").open("a") as log:
            process = subprocess.Popen(["bash", file], stdout=log, stderr=log)
        while stop and not (recorded.exists() and recorded.read_text()):
            time.sleep(0.01)
        if stop:
            process.send_signal(signal.SIGTERM)
        ended = process.wait(30)
        asked = [call[1:] for call in calls(cluster) if call[0] == "scontrol"]
        return ended, asked, file.with_suffix(".log").read_text()

    return run


@pytest.mark.parametrize("code", [0, 1, 2, 3, 137])
def test_a_command_that_is_done_or_failed_ends_its_job(end, code):
    ended, asked, _ = end(code)
    assert (ended, asked) == (code, [])


def test_a_command_that_was_stopped_is_put_back(end):
    assert end(143)[:2] == (143, [["requeue", "7"]])


def test_a_term_is_passed_on_and_the_job_put_back_whatever_the_command_ends_with(end):
    started = time.monotonic()
    ended, asked, _ = end(1, words=("sleep",), stop=True)
    assert time.monotonic() - started < 20
    assert (ended, asked) == (143, [["requeue", "7"]])


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", "PENDING"])
def test_a_job_that_was_cancelled_or_is_back_already_is_not_put_back(end, state):
    assert end(143, state=state)[:2] == (143, [])


def test_a_job_whose_input_is_not_there_waits_twenty_times_and_then_fails(end, cluster):
    waits = cluster / "slurm/smoke/x.waits"
    for count in range(1, slurm.WAITS + 1):
        ended, asked, _ = end(75, wait_minutes=1.5)
        assert ended == 75
        assert asked == [["requeue", "7"], ["update", "JobId=7", "StartTime=now+90"]]
        assert waits.read_text() == f"{count}\n"
    ended, asked, said = end(75)
    assert (ended, asked) == (1, [])
    assert said.endswith("x has waited 20 times for what is named above, and gives up.\n")
    assert not waits.exists()


def test_only_waits_in_a_row_count(end, cluster):
    waits = cluster / "slurm/smoke/x.waits"
    end(75)
    end(143)
    assert not waits.exists()
    end(75)
    assert waits.read_text() == "1\n"


def test_of_several_processes_the_code_is_what_torchrun_says_that_they_ended_with(end, recorded):
    python = recorded.with_name("python")
    python.write_text("#!/bin/bash\necho '  exitcode  : 75 (pid: 1234)'\nexit 1\n")
    assert end(1, **SEVERAL)[1][0] == ["requeue", "7"]
    python.write_text("#!/bin/bash\nexit 1\n")  # the log has what was said before
    assert end(1, **SEVERAL)[:2] == (1, [])


# Submission


def test_jobs_are_submitted_after_those_that_they_wait_for(cluster):
    plan = [job("mine-1"), job("a-1", after=["mine-1"]), job("report", after=["mine-1", "a-1"])]
    launched = launcher(cluster).launch(plan)
    assert launched.submitted == {"mine-1": "101", "a-1": "102", "report": "103"}
    assert [call for call in calls(cluster) if call[0] == "sbatch"] == [
        ["sbatch", "--parsable", "mine-1.sh"],
        ["sbatch", "--parsable", "--dependency=afterany:101", "a-1.sh"],
        ["sbatch", "--parsable", "--dependency=afterany:101:102", "report.sh"],
    ]
    for one in plan:
        script = cluster / f"slurm/smoke/{one.name}.sh"
        assert script.read_text() == launcher(cluster).script(one)
        subprocess.run(["bash", "-n", script], check=True)


def queue(cluster, *lines):
    """Put jobs into it: number, state, end, reason, name."""
    (cluster / "QUEUE").write_text("".join(f"{'|'.join(line)}\n" for line in lines))


def name_in_queue(cluster, name):
    script = launcher(cluster).script(job(name))
    return re.search("--job-name=(.*)", script)[1]


def test_what_is_in_the_queue_is_not_submitted_again(cluster):
    of_others = f"ragcun-00000000-{name_in_queue(cluster, 'a-2')[16:]}"
    queue(
        cluster,
        ("7", "RUNNING", "2026-11-30T18:04:31", "None", name_in_queue(cluster, "mine-1")),
        ("8", "PENDING", "N/A", "Dependency", name_in_queue(cluster, "a-1")),
        ("9", "PENDING", "N/A", "Dependency", of_others),
        ("10", "COMPLETING", "2020-01-01T00:00:00", "None", name_in_queue(cluster, "a-3")),
        ("11", "COMPLETING", "NONE", "None", name_in_queue(cluster, "a-4")),
        ("12", "RUNNING", "N/A", "None", "somebody's | job"),
    )
    found = launcher(cluster)
    assert found.queued() == {
        "mine-1": ("7", "RUNNING", "None"),
        "a-1": ("8", "PENDING", "Dependency"),
        "a-4": ("11", "COMPLETING", "None"),  # it goes back, and has no end
    }
    trained = [job(f"a-{number}", after=["mine-1"]) for number in (1, 2, 3, 4)]
    launched = found.launch([*trained, job("report", after=["gone", *(f"a-{n}" for n in (1, 2))])])
    submitted = [call[2:] for call in calls(cluster) if call[0] == "sbatch"]
    assert submitted == [
        ["--dependency=afterany:7", "a-2.sh"],
        ["--dependency=afterany:7", "a-3.sh"],
        ["--dependency=afterany:8:101", "report.sh"],
    ]
    kept = {"a-1": "8", "a-2": "101", "a-3": "102", "a-4": "11", "report": "103"}
    assert launched.submitted == kept
    assert not [call for call in calls(cluster) if call[0] == "scontrol"]


def test_what_waits_in_the_queue_waits_for_what_is_submitted_anew_too(cluster):
    queue(
        cluster,
        ("7", "PENDING", "N/A", "Dependency", name_in_queue(cluster, "report")),
        ("8", "RUNNING", "N/A", "None", name_in_queue(cluster, "a-1")),
        ("9", "PENDING", "N/A", "Priority", name_in_queue(cluster, "a-2")),
    )
    mined = [job("mine-1"), *(job(f"a-{number}", after=["mine-1"]) for number in (1, 3))]
    launcher(cluster).launch([*mined, job("a-2"), job("report", after=["a-1", "a-2", "a-3"])])
    changed = [call[1:] for call in calls(cluster) if call[0] == "scontrol"]
    assert changed == [["update", "JobId=7", "Dependency=afterany:8:9:102"]]


def test_jobs_of_two_plans_and_of_two_workspaces_have_different_names(tmp_path):
    of = [launcher(tmp_path, "a"), launcher(tmp_path, "b"), launcher(tmp_path / "other", "a")]
    assert len({options(one.script(job("x")))[0] for one in of}) == 3
    assert len({one.folder for one in of}) == 3


def test_a_new_submission_counts_its_waits_anew(cluster):
    waits = cluster / "slurm/smoke/a.waits"
    waits.parent.mkdir(parents=True)
    waits.write_text("19\n")
    launcher(cluster).launch([job("a")])
    assert not waits.exists()


def test_a_job_that_slurm_refuses_is_named_in_its_words_with_what_is_in_the_queue(
    cluster, monkeypatch
):
    monkeypatch.setenv("REFUSED", "3")
    with pytest.raises(RagcunError) as caught:
        launcher(cluster).launch([job("a"), job("b"), job("c"), job("d")])
    assert str(caught.value) == (
        "c: sbatch refused: sbatch: error: invalid partition specified: no; submitted before it: "
        "a, b"
    )
    assert caught.value.hint == "scancel 101 102"


def test_without_slurm_nothing_is_queued_and_nothing_submitted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launcher(tmp_path).queued() == {}
    with pytest.raises(RagcunError) as caught:
        launcher(tmp_path).launch([job("a")])
    assert str(caught.value) == "there is no sbatch here"


@pytest.mark.parametrize("name", ["50%", "a\\b"])
def test_a_folder_that_slurm_would_misread_is_refused(cluster, name):
    with pytest.raises(WorkspaceError, match="signs of its own"):
        launcher(cluster / name).launch([job("a")])
    assert not calls(cluster)
