"""Standard output that is not UTF-8, full, closed or read no further, and terminals that obey."""

import os
import pty
import re
import subprocess
import sys

import pytest

RAGCUN = [sys.executable, "-c", "from ragcun_cli.app import main; main()"]
"""As its script is installed; ``-m`` would have Python look for the module in the folder first."""

MINUS = "\u2212"


def start(*words, shell=None, **environment):
    """Run ragcun alone, or as ``ragcun`` in a line of a shell, with variables of its own."""
    command = [*RAGCUN, *map(str, words)]
    if shell is not None:
        command = ["bash", "-o", "pipefail", "-c", shell, "ragcun", *command]
    told = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, env=told, timeout=100, check=False)


LOCALES = [
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "gbk"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
]


@pytest.mark.parametrize("environment", LOCALES, ids=str)
@pytest.mark.parametrize("words", [(), ("--format", "latex"), ("--format", "markdown")], ids=str)
def test_what_goes_to_a_pipe_is_utf8_whatever_the_locale(smoke_workspace, words, environment):
    command = ("report", "-w", smoke_workspace, *words)
    usual, done = start(*command), start(*command, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == usual.stdout
    assert words == ("--format", "latex") or MINUS in done.stdout.decode()


def test_a_reader_that_has_enough_is_no_failure(smoke_workspace):
    for words in ("report", "report --format html", "isotropy"):
        line = f'"$@" {words} -w {smoke_workspace} | head -c 1'
        done = start(shell=line)
        assert (done.returncode, len(done.stdout)) == (0, 1), done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.needs("/dev/full")
def test_a_full_disk_behind_standard_output_is_one_message(smoke_workspace):
    for words in ("report", "report --format html", "data list --json"):
        done = start(shell=f'"$@" {words} -w {smoke_workspace} > /dev/full')
        said = done.stderr.decode()
        assert done.returncode == 2
        assert "Error: standard output cannot be written: No space left on device" in said
        assert "Traceback" not in said
        assert "Exception ignored" not in said


def test_a_disk_that_is_full_of_messages_stops_no_work(smoke_workspace):
    usual = start("report", "-w", smoke_workspace, "--format", "csv")
    done = start(shell=f'"$@" report -w {smoke_workspace} --format csv 2> /dev/full')
    assert (done.returncode, done.stdout) == (0, usual.stdout)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_no_work(smoke_workspace, tmp_path, closed):
    file = tmp_path / "page.html"
    words = f"report -w {smoke_workspace} --format html --output {file}"
    done = start(shell=f'"$@" {words} {closed}')
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert "</html>" in file.read_text()


def on_a_terminal(*words):
    """What a terminal gets from ragcun, both streams."""
    ours, theirs = pty.openpty()
    told = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    command = [*RAGCUN, *map(str, words)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=told):
        os.close(theirs)
        got = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # of Linux, at the end
                break
            if not part:
                break
            got += part
    os.close(ours)
    return got.decode()


EVIL = "\x1b]0;title\x07\x1b[2J\x9b2J\u202egnp.exe\x1b]8;;http://x\x1b\\link"
OURS = re.compile("\x1b\\[[0-9;]*m")
"""What rich sends of its own: colours."""


def assert_tame(got):
    assert "\\u001b]0;title" in got
    left = OURS.sub("", got)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", left), repr(left)


def test_texts_of_a_profile_command_no_terminal(tmp_path):
    profile = tmp_path / "evil.toml"
    described = "".join(f"\\u{ord(sign):04x}" for sign in EVIL)
    text = f'extends = "baseline_no_isotropy"\nname = "evil"\ndescription = "{described}"\n'
    profile.write_text(text)
    for words in (("profile", "show", profile), ("profile", "show", profile, "--json")):
        assert_tame(on_a_terminal(*words))
