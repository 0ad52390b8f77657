"""The package as its syntax trees show it: files, what each imports, rooms, chains."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ragcun_cli"

Arrows = dict[str, set[str]]
"""What imports -> what it imports."""


@cache
def trees(package: Path = PACKAGE) -> Mapping[str, ast.Module]:
    """Dotted name -> syntax tree of every file; a folder's is its ``__init__``."""
    return {
        ".".join(file.relative_to(package.parent).with_suffix("").parts): ast.parse(
            file.read_text("utf-8")
        )
        for file in sorted(package.rglob("*.py"))
    }


def imports(package: Path = PACKAGE) -> Arrows:
    """The files of the package that each imports, in functions and under TYPE_CHECKING, too."""
    files = trees(package)
    names = {name.removesuffix(".__init__"): name for name in files}
    found: Arrows = {}
    for file, tree in files.items():
        asked = [name for node in ast.walk(tree) for name in _imported(node)]
        found[file] = {names[name] for name in asked if name in names} - {file}
    return found


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module is not None:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(arrows: Arrows, prefix: str) -> Arrows:
    """Those between files below a package."""
    return {
        file: {other for other in others if other.startswith(prefix)}
        for file, others in arrows.items()
        if file.startswith(prefix)
    }


def rooms(arrows: Arrows, prefix: str) -> Arrows:
    """Arrows between what lies directly in a package: its folders, and files beside them."""

    def room(file: str) -> str:
        return file.removeprefix(prefix).split(".")[0]

    found: Arrows = {}
    for file, others in inside(arrows, prefix).items():
        found.setdefault(room(file), set()).update(map(room, others))
    return {name: others - {name} for name, others in found.items()}


def longest_chain(arrows: Arrows) -> list[str]:
    """The longest way along the arrows, from the top.

    Raises:
        CycleError: they go in a circle, which it names.
    """
    chains: dict[str, list[str]] = {}
    for name in TopologicalSorter(arrows).static_order():
        below = (chains[other] for other in sorted(arrows.get(name, ())))
        chains[name] = [name, *max(below, key=len, default=[])]
    return max(chains.values(), key=len)
