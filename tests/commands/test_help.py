import json
import subprocess
import sys

import pytest

COMMANDS = ["data", "mine", "train", "eval", "isotropy", "report", "reproduce", "profile", "serve"]
HEAVY = {"torch", "transformers", "sentence_transformers", "scipy", "matplotlib", "datasets"}


def test_no_help_page_imports_a_heavy_library():
    pages = [[], *([name] for name in COMMANDS), ["data", "import"], ["profile", "show"]]
    pages += [["serve", "export"], ["serve", "check"]]
    code = f"""
import contextlib, io, json, sys
from ragcun_cli.app import main
shown = []
for page in {pages!r}:
    sys.argv = ["ragcun", *page, "--help"]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main()
    shown.append(len(text.getvalue()))
print(json.dumps([shown, sorted({HEAVY!r} & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, loaded = json.loads(done.stdout.splitlines()[-1])
    assert min(shown) > 300
    assert loaded == []


@pytest.mark.parametrize("command", COMMANDS[1:7])
def test_every_commands_help_has_an_example(ragcun, command):
    outcome = ragcun(command, "--help")
    assert outcome.code == 0
    assert f"Example: ragcun {command}" in " ".join(outcome.out.split())


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "ragcun_cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("ragcun 0.")
