import os
import random
import subprocess
import sys

import pytest

from ragcun_cli.pipeline.data.pydocs.docstrings import normalised
from ragcun_cli.pipeline.data.pydocs.pairs import (
    Pair,
    choose_pairs,
    library_version,
    pairs_in,
    read_pairs,
)
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.errors import DataError

THINGS = ("anchors", "beacons", "compasses", "dinghies", "engines", "fenders", "galleys", "hawsers")


class Notes(Silent):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def body(thing):
    """Forty words of which every other one is the thing's own, so that no two bodies are alike."""
    words = ["sea", "wind", "port", "tide", "mast", "sail", "keel", "deck", "bow", "stern"] * 2
    pairs = " ".join(f"{word} {thing}{number}" for number, word in enumerate(words))
    return f"{pairs.capitalize()}."


def docstring(thing):
    return f"Count the {thing} of a ship at sea.\n\n{body(thing)}\n"


def function(name, text, *, indent=""):
    return f'{indent}def {name}():\n{indent}    """{text}"""\n'


def library(folder, files):
    for path, source in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source if isinstance(source, bytes) else source.encode())
    return folder


def ids(folder):
    return [pair.id for pair in pairs_in(folder, "ships")]


def test_functions_classes_and_methods_make_pairs_named_by_where_they_are(tmp_path):
    source = (
        f'class Ship:\n    """{docstring("anchors")}"""\n\n'
        + function("sail", docstring("beacons"), indent="    ")
        + "if True:\n    try:\n        pass\n    except ImportError:\n"
        + function("fallback", docstring("compasses"), indent="        ")
    )
    files = {"__init__.py": function("root", docstring("dinghies")), "fleet/_ship.py": source}
    pairs = pairs_in(library(tmp_path, files), "ships")
    assert pairs[0] == Pair(
        id="ships.fleet._ship.Ship",
        query="Count the anchors of a ship at sea.",
        passage=body("anchors"),
    )
    assert [pair.id for pair in pairs[1:]] == [
        "ships.fleet._ship.Ship.sail",
        "ships.fleet._ship.fallback",
        "ships.root",
    ]


def test_a_query_has_another_id_than_its_passage():
    pair = Pair("ships.root", "query", "passage")
    assert pair.query_id != pair.id


def test_private_names_nested_functions_and_modules_are_skipped(tmp_path):
    source = (
        f'"""{docstring("anchors")}"""\n'
        + function("_private", docstring("beacons"))
        + "class _Private:\n"
        + function("method", docstring("compasses"), indent="    ")
        + "def outer():\n"
        + function("inner", docstring("dinghies"), indent="    ")
        + function("public", docstring("engines"))
    )
    assert ids(library(tmp_path, {"a.py": source})) == ["ships.a.public"]


def test_tests_and_copies_of_other_projects_are_skipped(tmp_path):
    places = [
        "tests/a.py",
        "a/test/b.py",
        "test_a.py",
        "a/conftest.py",
        "_vendor/a.py",
        "a/externals/b.py",
    ]
    files = {
        place: function("count", docstring(thing))
        for place, thing in zip([*places, "a/kept.py"], THINGS, strict=False)
    }
    assert ids(library(tmp_path, files)) == ["ships.a.kept.count"]


def test_docstrings_given_to_compiled_objects_are_read(tmp_path):
    source = f"""
add_docstr(ships.float, r'''float(a) -> Ship\n\n{docstring("anchors")}''')
moor = _add_docstr(_c.moor, '''{docstring("beacons")}\n{{note}}\n'''.format(**notes))
add_docstr_all('sink', '''sink() -> None\n''' + '''\n{docstring("compasses")}''')
add_newdoc('ships.core', 'Ship', ('hull', '''{docstring("dinghies")}'''))
add_newdoc('ships.core', 'Ship', [('mast', '''{docstring("engines")}''')])
Ship.__doc__ = '''{docstring("fenders")}''' + shared
class Boat:
    __doc__ = rf'''{docstring("galleys")}
    {{shared}}
    '''
add_docstr(ships._hidden, '''{docstring("hawsers")}''')
add_docstr(getattr(ships, name), text)
"""
    pairs = pairs_in(library(tmp_path, {"docs.py": source}), "ships")
    assert {pair.id: pair.query.split()[2] for pair in pairs} == {
        "ships.float": "anchors",
        "ships.docs.moor": "beacons",
        "ships.docs.sink": "compasses",
        "ships.core.Ship.hull": "dinghies",
        "ships.core.Ship.mast": "engines",
        "ships.docs.Ship": "fenders",
        "ships.docs.Boat": "galleys",
    }
    assert all(pair.passage == body(pair.query.split()[2]) for pair in pairs)


def test_templates_are_skipped(tmp_path):
    source = function("template", docstring("anchors") + "\nWorks on a {klass} only.\n")
    source += function("plain", docstring("beacons"))
    assert ids(library(tmp_path, {"a.py": source})) == ["ships.a.plain"]


def test_the_first_definition_of_a_name_counts(tmp_path):
    source = function("count", docstring("anchors")) + function("count", docstring("beacons"))
    (pair,) = pairs_in(library(tmp_path, {"a.py": source}), "ships")
    assert "anchors" in pair.query


def test_of_equal_queries_or_passages_the_first_id_stays(tmp_path):
    query = "Count the anchors of a ship at sea."
    files = {
        "b.py": function("equal_query", f"{query.upper()}\n\n{body('beacons')}"),
        "a.py": function("first", docstring("anchors")),
        "c.py": function("equal_passage", f"Tell how many there are.\n\n{body('anchors').upper()}"),
    }
    assert ids(library(tmp_path, files)) == ["ships.a.first"]


def test_near_duplicates_go_and_pairs_less_alike_stay(tmp_path):
    near_body = body("anchors").replace(" anchors19", "")
    near_query = "Count the old anchors of a ship at sea."  # 8 of 9 words are those of the first
    far_query = "Count the beacons of a ship at sea."  # 7 of 9
    files = {
        "a.py": function("first", docstring("anchors")),
        "b.py": function("near_body", f"Tell how many there are.\n\n{near_body}"),
        "c.py": function("near_query", f"{near_query}\n\n{body('compasses')}"),
        "d.py": function("far_query", f"{far_query}\n\n{body('dinghies')}"),
    }
    assert ids(library(tmp_path, files)) == ["ships.a.first", "ships.d.far_query"]


def test_pairs_do_not_depend_on_the_order_of_the_folder(tmp_path):
    files = {f"{thing}.py": function("count", docstring(thing)) for thing in THINGS}
    forwards = pairs_in(library(tmp_path / "one", files), "ships")
    backwards = pairs_in(library(tmp_path / "two", dict(reversed(files.items()))), "ships")
    assert forwards == backwards
    assert len(forwards) == len(THINGS)


def test_files_that_are_not_python_are_left_out_and_counted(tmp_path):
    files = {
        "broken.py": "def count(:\n",
        "latin.py": b"a = '\xe9'\n",
        "zero.py": b"a = '\x00'\n",
        "good.py": "a = '\\d'\n" + function("count", docstring("anchors")),
    }
    notes = Notes()
    pairs = pairs_in(library(tmp_path, files), "ships", progress=notes)
    assert [pair.id for pair in pairs] == ["ships.good.count"]
    assert notes.lines == ["ships: 3 of 4 files left out: not readable as Python"]


def test_a_library_is_found_on_the_path_and_not_run(tmp_path, monkeypatch):
    source = "raise RuntimeError\n" + function("count", docstring("anchors"))
    library(tmp_path / "ships_to_read", {"__init__.py": source})
    metadata = "Metadata-Version: 2.1\nName: ships_to_read\nVersion: 1.2.3\n"
    library(tmp_path / "ships_to_read-1.2.3.dist-info", {"METADATA": metadata})
    monkeypatch.syspath_prepend(tmp_path)
    assert [pair.id for pair in read_pairs("ships_to_read")] == ["ships_to_read.count"]
    assert library_version("ships_to_read") == "1.2.3"
    assert "ships_to_read" not in sys.modules


@pytest.mark.parametrize("ask", [read_pairs, library_version])
def test_an_absent_library_is_said_with_what_to_install(ask):
    with pytest.raises(DataError, match="'no_such_ships'") as caught:
        ask("no_such_ships")
    assert caught.value.hint == "pip install '.[offline]', in the clone of ragcun"


def test_the_version_is_that_of_the_distribution():
    assert library_version("sklearn") == library_version("scikit-learn")


def test_a_choice_does_not_depend_on_the_order_and_grows_with_the_limit():
    pairs = [Pair(f"ships.{thing}", thing, thing) for thing in THINGS]
    shuffled = random.Random(0).sample(pairs, len(pairs))
    assert choose_pairs(pairs, limit=3) == choose_pairs(shuffled, limit=3)
    assert choose_pairs(pairs, limit=3) == choose_pairs(pairs, limit=5)[:3]
    assert len(choose_pairs(pairs, limit=3)) == 3
    assert sorted(choose_pairs(pairs, limit=None), key=lambda pair: pair.id) == pairs
    assert choose_pairs(pairs, limit=100) == choose_pairs(pairs, limit=None)


PRINT_NETWORKX = """
import hashlib, sys
from ragcun_cli.pipeline.data.pydocs.pairs import read_pairs
pairs = read_pairs("networkx")
print(len(pairs), hashlib.sha256(repr(pairs).encode()).hexdigest(), "networkx" in sys.modules)
"""


def test_networkx_reads_the_same_under_any_hash_seed_and_is_not_imported():
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PRINT_NETWORKX],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert int(outputs[0].split()[0]) > 600
    assert outputs[0].split()[2] == "False"


def test_numpy_gives_hundreds_of_different_pairs_that_do_not_tell_their_query():
    pairs = read_pairs("numpy")
    assert len(pairs) > 400
    assert pairs == sorted(read_pairs("numpy"), key=lambda pair: pair.id)
    assert len({pair.id for pair in pairs}) == len(pairs)
    assert len({normalised(pair.query) for pair in pairs}) == len(pairs)
    assert not any(normalised(pair.query) in normalised(pair.passage) for pair in pairs)
