"""A retrieval set that needs no download: (summary, rest of the docstring) of installed libraries.

The source files are read, never run: importing eight libraries would take longer than reading them,
and a docstring that only exists at run time may depend on the machine.
"""

import ast
import importlib.metadata
import importlib.util
import re
import string
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from ragcun_cli.core.draw import DOCSTRINGS, name_digest
from ragcun_cli.pipeline.data.pydocs.docstrings import HOLE, normalised, query_and_passage
from ragcun_cli.pipeline.machine.progress import Progress, Silent
from ragcun_cli.spec.errors import DataError, extra_hint

PASSAGE_OVERLAP = 0.7
"""Two passages are one if their 5-word shingles have this Jaccard similarity or more."""
QUERY_OVERLAP = 0.8
"""Two queries are one if their words have this Jaccard similarity or more."""
SHINGLE_WORDS = 5

_SILENT = Silent()
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
_SKIPPED_FOLDERS = {
    *("test", "tests", "testing", "_testing"),
    *("_vendor", "_vendored", "extern", "externals"),
    *("array_api_compat", "array_api_extra", "_uarray", "pyprima", "cobyqa"),  # copied into scipy
    "distutils",  # numpy's wheels for Python 3.12 and later leave it out
}
_DOC_CALL = re.compile(r"_?add_(?:docstr|newdoc)\w*$")
_NAME = re.compile(r"\w+(?:\.\w+)*$")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Pair:
    """One query and the one passage that answers it."""

    id: str
    """The passage's id: where the object is defined, as in "networkx.classes.graph.Graph.nodes"."""
    query: str
    passage: str

    @property
    def query_id(self) -> str:
        """Another id than the passage's: BEIR leaves a passage out of its namesake's ranking."""
        return f"q:{self.id}"


def library_version(library: str) -> str:
    """The installed version of the distribution that provides an import package.

    Raises:
        DataError: it is not installed.
    """
    try:
        full = importlib.metadata.version(_DISTRIBUTIONS.get(library, library))
        return full.partition("+")[0]  # a CPU and a GPU build have the same docstrings
    except importlib.metadata.PackageNotFoundError:
        raise _not_installed(library) from None


def read_pairs(library: str, *, progress: Progress = _SILENT) -> list[Pair]:
    """All usable pairs of one import package ("sklearn", "torch"), sorted by id; see ``pairs_in``.

    Raises:
        DataError: it is not installed, or is a single module.
    """
    spec = importlib.util.find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        raise _not_installed(library)
    return pairs_in(Path(next(iter(spec.submodule_search_locations))), library, progress=progress)


def pairs_in(folder: Path, package: str, *, progress: Progress = _SILENT) -> list[Pair]:
    """All usable pairs of the package whose source files lie in a folder, sorted by id.

    Taken are public functions, classes and methods, and the docstrings given to compiled ones by
    ``add_docstr`` and ``add_newdoc``; left out are tests and copies of other projects. What makes a
    docstring usable is said in ``query_and_passage``. Of equal or nearly equal queries or passages
    (``QUERY_OVERLAP``, ``PASSAGE_OVERLAP``) the first stays.

    Depends on the files alone: not on the order of the folder, the platform, or the hash seed.
    Files that this Python cannot parse are left out, and counted in a note.
    """
    found: dict[str, Pair] = {}
    unreadable = 0
    files = _source_files(folder)
    with progress.bar(f"read {package}", total=len(files), unit="files") as step:
        for file in files:
            tree = _parsed(folder / file)
            unreadable += tree is None
            module = ".".join((package, *file.with_suffix("").parts)).removesuffix(".__init__")
            for name, docstring in _documented(tree.body if tree else [], module):
                parts = query_and_passage(docstring, name.rpartition(".")[2])
                if parts and name not in found:
                    found[name] = Pair(name, *parts)
            step(1)
    if unreadable:
        progress.note(
            f"{package}: {unreadable} of {len(files)} files left out: not readable as Python"
        )
    return _distinct([found[name] for name in sorted(found)])


def choose_pairs(pairs: Iterable[Pair], *, limit: int | None) -> list[Pair]:
    """At most ``limit`` pairs (None: all), the same ones whatever the order they come in.

    Sorted by the sha256 of their ids, so that a smaller limit gives the beginning of a larger one.
    """
    return sorted(pairs, key=lambda pair: name_digest(DOCSTRINGS, pair.id))[:limit]


def _not_installed(library: str) -> DataError:
    return DataError(
        f"The Python library '{library}', whose docstrings are read, is not installed.",
        hint=extra_hint("offline"),
    )


def _source_files(folder: Path) -> list[PurePath]:
    """The Python files that are the package's own and no tests, relative to the folder, sorted."""
    files = sorted(file.relative_to(folder).parts for file in folder.rglob("*.py"))
    return [PurePath(*parts) for parts in files if not _is_skipped(parts)]


def _is_skipped(parts: tuple[str, ...]) -> bool:
    is_test = parts[-1].startswith(("test_", "testing_", "conftest."))
    return is_test or not _SKIPPED_FOLDERS.isdisjoint(parts[:-1])


def _parsed(file: Path) -> ast.Module | None:
    """A file's syntax tree; None where it is not Python, as this version reads it, or not text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return None


def _documented(nodes: Iterable[ast.AST], scope: str) -> Iterator[tuple[str, str]]:
    """The full name and the docstring of each public object that the statements define."""
    for node in nodes:
        if isinstance(node, _Definition):
            if node.name.startswith("_"):
                continue
            name = f"{scope}.{node.name}"
            yield name, ast.get_docstring(node, clean=False) or ""
            if isinstance(node, ast.ClassDef):
                yield from _documented(node.body, name)
        elif isinstance(node, ast.Assign | ast.Expr):
            for name, docstring in _given(node, scope):
                if _NAME.match(name) and not name.rpartition(".")[2].startswith("_"):
                    yield name, docstring
        elif isinstance(node, ast.stmt | ast.ExceptHandler):
            yield from _documented(ast.iter_child_nodes(node), scope)


def _given(node: ast.Assign | ast.Expr, scope: str) -> Iterator[tuple[str, str]]:
    """Docstrings given outside a definition: ``X.__doc__ = ...``, ``add_docstr(X, ...)``."""
    target = _dotted(node.targets[0]) if isinstance(node, ast.Assign) else ""
    owner, _, attribute = f"{scope}.{target}".rpartition(".")
    if attribute == "__doc__":
        yield owner, _text(node.value)
    elif isinstance(node.value, ast.Call) and len(node.value.args) > 1:
        function = _dotted(node.value.func).rpartition(".")[2]
        if _DOC_CALL.match(function):
            *where, docs = node.value.args
            name = target or ".".join(filter(None, map(_dotted, where)))
            is_full = name.split(".")[0] == scope.split(".")[0]
            yield from _of_call(name if is_full else f"{scope}.{name}", docs)


def _of_call(name: str, docs: ast.expr) -> Iterator[tuple[str, str]]:
    """One docstring, or those of attributes: ``("T", "...")``, ``[("T", "..."), ...]``."""
    for doc in docs.elts if isinstance(docs, ast.List) else [docs]:
        if isinstance(doc, ast.Tuple) and len(doc.elts) == 2:
            yield f"{name}.{_dotted(doc.elts[0])}", _text(doc.elts[1])
        else:
            yield name, _text(doc)


def _dotted(node: ast.expr) -> str:
    """``a.b`` for the expression a.b and for the string "a.b"; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _text(node: ast.expr) -> str:
    """What a string expression says, with a ``HOLE`` for each part that is no literal."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(_text, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
        case ast.Call(func=ast.Attribute(value=template, attr="format")):
            return _unformatted(_text(template))
    return HOLE


def _unformatted(template: str) -> str:
    """A ``str.format`` template with its fields as holes; a hole itself where it is no template."""
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError:
        return HOLE
    return "".join(text + (HOLE if field is not None else "") for text, field, _, _ in fields)


def _distinct(pairs: list[Pair]) -> list[Pair]:
    """The pairs of which neither the passage nor, among those left, the query was there before."""
    different = _first_of_alike(pairs, [_shingles(pair.passage) for pair in pairs], PASSAGE_OVERLAP)
    queries = [normalised(pair.query) for pair in different]
    return _first_of_alike(different, queries, QUERY_OVERLAP)


def _shingles(passage: str) -> str:
    """All runs of so many words, each written as one word; those of no words are alike, too."""
    words = normalised(passage).split()
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
    return " ".join("_".join(words[start : start + SHINGLE_WORDS]) for start in starts) or "_"


def _first_of_alike(pairs: list[Pair], texts: list[str], near: float) -> list[Pair]:
    """The pairs whose text is not near that of any one kept before."""
    from ragcun_cli.core.jaccard import first_of_alike

    stays = first_of_alike(texts, near=near)
    return [pair for pair, kept in zip(pairs, stays, strict=True) if kept]
