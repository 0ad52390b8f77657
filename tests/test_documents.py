"""The documents: links that lead somewhere, commands that parse, profiles that are there."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import typer
import yaml

from ragcun_cli.app import app, spread_lists
from ragcun_cli.pipeline.profiles.load import load, summaries

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/guides/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WIDTH = 100
AS_MEASURED = {"CHANGELOG.md", "docs/RESULTS.md"}
"""Wrapped as they were when their numbers came."""

USAGE_ERROR = typer.BadParameter.__bases__[0]
"""Of Typer's own Click, which it does not export."""

UNFINISHED = {"MissingParameter", "NoArgsIsHelpError", "BadOptionUsage"}
"""What a sentence may leave out of a command that it names."""

PLACEHOLDERS = {"NAME", "mine", "mine_isotropic", "mine_paper", "my_paper", "my_sweep", "stdlib"}
"""What stands for a profile of the reader's own."""

_LINK = re.compile(r"(?<!!)\[[^]]*]\(([^)\s]+)\)")
_INLINE = re.compile(r"(?<!`)`((?:ragcun|torchrun)\s[^`]+)`")


def without_code(text):
    """The text without fenced and indented code, as GitHub reads it for links and paragraphs."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", text)
    return re.sub(r"(?m)(?<=\n\n)(?: {4,}\S.*(?:\n|\Z)|\n(?= {4}))+", "", text)


def anchors(page):
    """Of its headings, as GitHub makes them."""
    seen, found = Counter(), set()
    for heading in re.findall(r"(?m)^#+ +(.+?) *$", without_code(page.read_text("utf-8"))):
        plain = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("name", NAMES)
def test_links_between_the_documents_lead_somewhere(name):
    page, broken = ROOT / name, []
    for target in _LINK.findall(without_code(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n\n## Twice\n\n## Twice\n\n    # no heading\n\n```\n# none\n```\n")
    assert anchors(page) == {"a-b-c", "twice", "twice-1"}


def commands(text):
    """Arguments of each ragcun command in code, and whether it stood within a sentence."""
    joined = re.sub(r"\\\n\s*", "", text)
    # What a paragraph breaks over two lines is one command; what a block has on two lines is two.
    inline = [(re.sub(r"\s+", " ", code), True) for code in _INLINE.findall(without_code(joined))]
    blocks = re.findall(
        r"(?m)^(?: {4,}|\$ )?\s*(?:\$ )?((?:\S+=\S+ |time )?(?:ragcun|torchrun|pip) .*)", joined
    )
    for code, within in [*inline, *((line, False) for line in blocks)]:
        words = []
        lexer = shlex.shlex(code, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                words.append(word)
                continue
            if (arguments := _arguments(words)) is not None:
                yield ["1" if word == "N" else word for word in arguments], within
            words = []


def _arguments(words):
    """What ragcun is given, directly or by torchrun; None of another command, or of an outline."""
    if any("…" in word or "..." in word for word in words):
        return None
    for name in ("ragcun", "ragcun_cli"):
        if name in words:
            return words[words.index(name) + 1 :]
    return None


def parsed(arguments):
    """Read arguments as the command line does, and run nothing."""
    command = typer.main.get_command(app)
    context, rest = None, spread_lists(arguments)
    while True:
        context = command.make_context(command.name, list(rest), parent=context)
        if not hasattr(command, "resolve_command"):
            return context
        _, command, rest = command.resolve_command(context, context._protected_args + context.args)


FOUND = [(name, *one) for name in NAMES for one in commands((ROOT / name).read_text("utf-8"))]


def test_the_documents_have_commands():
    assert len(FOUND) > 150
    pages = {name for name, *_ in FOUND}
    assert {"README.md", "docs/RUNNING.md", "docs/coming-from.md", "docs/DATA.md"} <= pages


def test_every_command_in_the_documents_parses(capsys):
    wrong = []
    for name, arguments, within in FOUND:
        try:
            parsed(arguments)
        except typer.Exit:
            pass  # --help
        except USAGE_ERROR as error:
            if within and type(error).__name__ in UNFINISHED:
                continue
            wrong.append((name, shlex.join(arguments), str(error)))
    assert wrong == []


@pytest.mark.parametrize(
    "line", ["ragcun eval --dataset scifact", "ragcun train", "ragcun minne --profile smoke"]
)
def test_a_command_that_does_not_parse_is_seen(line):
    ((arguments, _),) = commands(f"    {line}\n")
    with pytest.raises(USAGE_ERROR):
        parsed(arguments)


def test_profiles_and_keys_in_the_documents_are_there():
    known, wrong, loaded = {row["name"] for row in summaries()}, [], 0
    for name, arguments, _ in FOUND:
        at = [place + 1 for place, word in enumerate(arguments) if word in ("--profile", "-p")]
        named = arguments[at[0]] if at and at[0] < len(arguments) else None
        sets = [arguments[at + 1] for at, word in enumerate(arguments[:-1]) if word == "--set"]
        if named in known:
            load(named, sets=[one for one in sets if "=" in one])
            loaded += 1
        elif named is not None and named not in PLACEHOLDERS:
            wrong.append((name, named))
    assert wrong == []
    assert loaded > 40


@pytest.mark.parametrize("name", sorted(set(NAMES) - AS_MEASURED))
def test_paragraphs_are_wrapped_at_one_width(name):
    text = re.sub(r"(?ms)^\$\$.*?\$\$$", "", (ROOT / name).read_text("utf-8"))
    lines = re.sub(r"(?ms)^ *```.*?^ *```$", "", text).splitlines()
    prose = [line for line in lines if not line.startswith(("|", "    ", "#"))]
    whole = [re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "_"), line) for line in prose]
    assert [line for line in whole if len(line) > WIDTH and " " in line.strip()[:WIDTH]] == []


def recipe(target):
    """The commands of a target of the Makefile."""
    text = (ROOT / "Makefile").read_text("utf-8")
    return re.search(rf"(?m)^{target}:.*\n((?:\t.*\n)+)", text)[1].split("\n\t")


def test_pre_commit_checks_what_make_lint_checks():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (repo,) = config["repos"]
    assert repo["repo"] == "local"
    entries = [hook["entry"] for hook in repo["hooks"]]
    assert entries == [line.strip().removeprefix("$(BIN)/") for line in recipe("lint")]
    assert all(not hook["pass_filenames"] for hook in repo["hooks"])


@pytest.mark.needs("program:make")
def test_make_help_has_a_line_for_each_target():
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    phony = re.search(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"))[1].split()
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == phony
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert project["name"] in citation["title"]


@pytest.mark.system
def test_the_checks_of_the_theory_come_out():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "theory.py"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    rows = [line.replace(",", "").split() for line in done.stdout.splitlines() if "." in line]
    null = [[float(cell) for cell in row[:5]] for row in rows if "to" in row]
    seen = [[float(cell) for cell in row[:4]] for row in rows if len(row) == 7 and row[0].isdigit()]
    assert (len(null), len(seen)) == (6, 4)
    for *_, formula, simulated, error in [*null, *seen]:
        assert abs(formula - simulated) < 4 * error + 0.002
    page = (ROOT / "docs" / "theory.md").read_text("utf-8")
    for row in rows:  # the formulas' column; draws differ between versions
        assert "to" not in row or row[2] in page
