"""Standard output that is not UTF-8, full, closed or read no further, and terminals that obey."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


@pytest.mark.parametrize("words", [(), ("--format", "latex"), ("--format", "markdown")], ids=str)
def test_what_goes_to_a_pipe_is_utf8_whatever_the_locale(smoke_workspace, words):
    command = ("report", "-w", smoke_workspace, *words)
    usual = start(*command)
    for environment in LOCALES if not words else LOCALES[-1:]:
        done = start(*command, **environment)
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
OURS = re.compile("\x1b\\[([0-9;]*m|\\?25[lh]|1A|2K)|\r")
"""What rich sends of its own: colours, and what redraws a bar."""


def assert_tame(got, *, shows=True):
    assert not shows or re.search(r"\\(u001b|x1b)\]0;title", got), repr(got)
    left = OURS.sub("", got)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", left), repr(left)


def test_texts_of_a_profile_command_no_terminal(tmp_path):
    profile = tmp_path / "evil.toml"
    described = "".join(f"\\u{ord(sign):04x}" for sign in EVIL)
    text = f'extends = "baseline_no_isotropy"\nname = "evil"\ndescription = "{described}"\n'
    profile.write_text(text)
    for words in (("profile", "show", profile), ("profile", "show", profile, "--json")):
        assert_tame(on_a_terminal(*words))


class _Rude(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404, EVIL.encode().decode("latin-1"))
        self.end_headers()

    def log_message(self, *args):
        """Nothing."""


@pytest.fixture
def rude():
    """Address of a server whose reasons command terminals."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Rude) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.system
def test_no_text_of_others_commands_a_terminal_in_any_command(rude, tmp_path):
    """Passages, queries, columns, names of files, a profile and the words of a server."""
    rows = [
        {"query": f"question {n} {EVIL}", "positive": f"answer {n} {EVIL}", EVIL: "x"}
        for n in range(60)
    ]
    table, root = tmp_path / "evil.jsonl", tmp_path / "w"
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    values = Path("profiles/smoke.toml").read_text().partition("[overrides]\n")[2]
    values = values.replace('train = "smoke"', 'train = "evil"')
    values = values.replace("epochs = 2", "epochs = 2\nalarms = false")
    values = values.replace('["smoke-numpy", "smoke-sklearn"]', '["evil"]')
    told = f'description = {json.dumps(EVIL)}\nname = "evil"\nexperiments = ["with_isotropy"]\n'
    (tmp_path / "evil.toml").write_text(f"{told}[overrides]\n{values}")
    profile = ("--profile", tmp_path / "evil.toml", "-w", root)
    taken = ("data", "import", table, "--name", "evil", "--test-queries", "20", "-w", root)
    assert_tame(on_a_terminal(*taken))
    assert_tame(on_a_terminal("reproduce", *profile, "--dry-run"), shows=False)
    assert_tame(on_a_terminal("reproduce", *profile), shows=False)
    (model,) = root.glob("runs/with_isotropy/*/seed-1/model")
    named = shutil.copytree(model, tmp_path / f"model {EVIL.replace('/', '')}")
    (mined,) = root.glob("negatives/evil/*/seed-1/negatives.jsonl")
    query = json.loads(mined.read_text().splitlines()[0])["query"]
    for shows, *words in (
        (False, "data", "list", "-w", root),
        (False, "data", "verify", "-w", root),
        (False, "data", "stats", "evil", "-w", root),
        (False, "data", "sample", "evil", "--queries", "5", "--passages", "30", "-w", root),
        (True, "data", "export", "evil", tmp_path / EVIL.replace("/", ""), "-w", root),
        (True, "data", "get", "scifact", "--yes", "--mirror", rude, "-w", root),
        (True, "mine", *profile, "--show", query),
        (False, "train", *profile, "--force", "--seed", "1"),
        (True, "eval", *profile, "--query", EVIL, "--datasets", "evil"),
        (True, "eval", "--model", named, "--datasets", "evil", "-w", root),
        (True, "isotropy", "-w", root),
        (True, "report", "--all-runs", "-w", root),
        (True, "report", "--all-runs", "-w", root, "--format", "csv"),
        *(
            (False, "report", "--all-runs", "-w", root, "--format", form)
            for form in ("markdown", "html")
        ),
        (True, "profile", "show", tmp_path / "evil.toml"),
        (True, "train", "--profile", EVIL),
        (True, "train", *profile, "--set", f"{EVIL}=1"),
        (True, "train", *profile, "--experiment", EVIL),
        (True, "train", *profile, "--device", EVIL),
        (True, "report", "-w", tmp_path / EVIL.replace("/", "")),
    ):
        assert_tame(on_a_terminal(*words), shows=shows)
