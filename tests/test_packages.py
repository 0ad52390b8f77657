"""What a package index gets: the page, the source distribution, and a wheel that works alone."""

import email
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
HOOK = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
LINK = re.compile(r"!?\[[^\]]*\]\((?!https?:)[^)\s]*\)")
"""One that holds in the repository alone."""


def page_of(text):
    """The README as the hook in pyproject.toml changes it."""
    for change in HOOK["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    return text


def test_the_page_of_a_package_index_has_no_link_into_the_repository():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [fragment["path"] for fragment in HOOK["fragments"]] == ["README.md"]
    assert len(LINK.findall(readme)) > 20
    page = page_of(readme)
    assert LINK.findall(page) == []
    assert "`docs/tutorial.md`" in page
    assert len(page) > 0.9 * len(readme)


def test_what_the_page_makes_of_links_and_pictures():
    text = (
        "![a](docs/a.png)\n\n*Of\na.*\n\n[b](docs/b.md#c), [d](#d), [e.md](e.md), [f](https://f)\n"
    )
    assert page_of(text) == "b (`docs/b.md`), d, `e.md`, [f](https://f)\n"


def test_pictures_hold_no_path_of_a_machine_and_say_what_they_are_of():
    picture = (ROOT / "docs/pictures/reproduce.svg").read_text("utf-8")
    shown = re.sub(r"<[^>]*>", " ", picture).replace("&#160;", " ")
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt)\b", shown)
    assert "http" not in re.sub(r"https?://www\.w3\.org/\S*|<!--.*?-->", "", picture)
    (plan,) = re.findall(r"\$ ragcun reproduce --profile (\w+)", shown)
    assert f"plan `{plan}`" in (ROOT / "README.md").read_text("utf-8")
    for name in ("reproduce.svg", "report.png"):
        assert (ROOT / "docs/pictures" / name).stat().st_size < 300_000


@pytest.mark.system
def test_the_distributions_are_accepted_and_the_wheel_runs_smoke_in_an_empty_folder(tmp_path):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    venv.create(tmp_path / "tools", with_pip=True)
    tools = tmp_path / "tools/bin"
    made, here, empty = (tmp_path / name for name in ("made", "here", "empty"))
    for words in (
        (tools / "pip", "install", "--quiet", "build", "twine"),
        (tools / "python", "-m", "build", "--outdir", made, ROOT),
        (tools / "twine", "check", "--strict", *[made / "*"]),
    ):
        text = " ".join(map(str, words))
        done = subprocess.run(text, shell=True, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = made.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(here)
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        head = email.message_from_string(archive.read(metadata).decode("utf-8"))
    assert head.get_payload() == page_of((ROOT / "README.md").read_text("utf-8"))
    empty.mkdir()
    # The wheel alone, beside the packages that it needs: nothing of the repository is read.
    alone = {**os.environ, "PYTHONPATH": str(here)}
    code = "import ragcun_cli, sys; sys.stdout.write(ragcun_cli.__file__)"
    for words, wanted in (
        (("-c", code), str(here)),
        (("-m", "ragcun_cli", "data", "get", "--profile", "smoke"), ""),
        (("-m", "ragcun_cli", "reproduce", "--profile", "smoke"), "Retrieval quality"),
    ):
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=empty, env=alone, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert wanted in done.stdout
    tables = json.loads((empty / "workspace/reports/smoke/report.json").read_text("utf-8"))
    assert tables["tables"]
