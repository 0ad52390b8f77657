"""The plan of the house: no circle, rooms in order, a terminal without logic, names of one meaning.

What is held here is described in CONTRIBUTING.md.
"""

import ast
import shutil
import subprocess
import sys
from collections import defaultdict
from graphlib import CycleError
from pathlib import Path

import house
import pytest

PIPELINE = "ragcun_cli.pipeline."
ROOT = house.PACKAGE.parent

COMMANDS = sorted((house.PACKAGE / "commands").glob("*.py"))

MEANT_TWICE = {
    "mine": "what is typed, and the stage that it runs",
    "train": "what is typed, and the stage that it runs",
    "show": "what is typed of a profile, and how each result is shown",
}
"""Public name that two files define -> why one word is right for both."""


def test_no_files_import_each_other_in_a_circle():
    arrows = house.imports()
    assert len(arrows) > 150
    assert sum(map(len, arrows.values())) > 500
    assert house.longest_chain(arrows)[0] == "ragcun_cli.__main__"


def test_a_chain_of_files_in_the_pipeline_is_at_most_18_long(capsys):
    chain = house.longest_chain(house.inside(house.imports(), PIPELINE))
    with capsys.disabled():
        names = " ".join(file.removeprefix(PIPELINE) for file in chain)
        sys.stdout.write(f"\nthe longest chain of files, {len(chain)}: {names}\n")
    assert 10 < len(chain) <= 18


def test_rooms_of_the_pipeline_are_a_chain_of_at_most_11():
    chain = house.longest_chain(house.rooms(house.imports(), PIPELINE))
    assert chain[0] == "reproduce"
    assert len(chain) <= 11


def test_few_files_lie_beside_the_rooms():
    files = {file.name for file in (house.PACKAGE / "pipeline").glob("*.py")}
    assert files == {"__init__.py", "place.py", "road.py"}


@pytest.mark.parametrize(
    "line",
    [
        "from ragcun_cli.pipeline.training.train import train",
        "def later():\n    from ragcun_cli.pipeline.training import train\n    return train",
        "if TYPE_CHECKING:\n    import ragcun_cli.pipeline.training.train",
    ],
)
def test_a_circle_that_is_planted_is_found(tmp_path, line):
    package = shutil.copytree(house.PACKAGE, tmp_path / "ragcun_cli")
    with (package / "pipeline/search/hits.py").open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(CycleError) as found:
        house.longest_chain(house.imports(package))
    assert "ragcun_cli.pipeline.search.hits" in found.value.args[1]


@pytest.mark.parametrize(
    ("place", "line", "broken"),
    [
        (
            "pipeline/search/hits.py",
            "def later():\n    import ragcun_cli.pipeline.evaluation.scores",
            "Rooms of the pipeline",
        ),
        ("core/search/bm25.py", "import ragcun_cli.core.training.fit", "Rooms of core"),
        ("spec/paths.py", "import ragcun_cli.core.draw", "Floors"),
    ],
)
def test_an_import_that_runs_upwards_breaks_a_contract(tmp_path, place, line, broken):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = shutil.copytree(house.PACKAGE, tmp_path / "ragcun_cli")
    with (package / place).open("a") as file:
        file.write(f"\n{line}\n")
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    lines = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(line.startswith(broken) for line in lines)


@pytest.mark.parametrize("file", COMMANDS, ids=lambda file: file.stem)
def test_a_command_parses_calls_and_shows(file):
    """No class in its file; in what Typer calls no loop, no try, no branch."""
    tree = ast.parse(file.read_text("utf-8"))
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    commands = [node for node in functions if "Example: ragcun" in (ast.get_docstring(node) or "")]
    assert commands or file.stem in ("__init__", "data_shown", "eval_shown")
    logic = (
        *(ast.If, ast.IfExp, ast.Match, ast.For, ast.While, ast.Try, ast.TryStar),
        *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda),
    )
    for command in commands:
        found = [node for part in command.body for node in ast.walk(part)]
        assert not [ast.unparse(node) for node in found if isinstance(node, logic)], command.name


def test_the_terminal_is_known_to_commands_and_the_entry_point_alone():
    knows = {file for file, others in house.imports().items() if "ragcun_cli.console" in others}
    assert "ragcun_cli.app" in knows
    assert all(file.startswith(("ragcun_cli.app", "ragcun_cli.commands.")) for file in knows)


def test_no_body_of_a_function_is_longer_than_60_lines():
    lengths = {}
    for file, tree in house.trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                if body:
                    lengths[f"{file}.{node.name}"] = node.end_lineno - body[0].lineno + 1
    assert len(lengths) > 800
    assert not {name: length for name, length in lengths.items() if length > 60}


def test_folders_are_deleted_in_one_place():
    """A folder that loses its files one by one under its name would be trusted by someone."""
    deletes = set()
    for file, tree in house.trees().items():
        names = {getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(tree)}
        deletes |= {file} if "rmtree" in names else set()
    assert deletes == {"ragcun_cli.core.folders"}


def test_a_public_name_of_the_package_has_one_meaning():
    homes = defaultdict(list)
    for file, tree in house.trees().items():
        for name in _defined(tree):
            if not name.startswith("_") and name != "app":
                homes[name].append(file)
    assert len(homes) > 500
    twice = {name: files for name, files in homes.items() if len(files) > 1}
    assert not {name: files for name, files in twice.items() if name not in MEANT_TWICE}
    assert twice.keys() == MEANT_TWICE.keys()


def _defined(tree):
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.Assign):
            targets = [name for one in node.targets for name in ast.walk(one)]
            yield from (name.id for name in targets if isinstance(name, ast.Name))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
