"""Odd profiles, values of ``--set``, environments and model folders, drawn from a seed."""

import json
import shutil
import tomllib

from ragcun_cli.pipeline.profiles.toml_text import as_toml
from ragcun_cli.spec.profile import RunProfile

DIGITS, DEEP = "9" * 4301, "[" * 3000 + "]" * 3000
LONG = "x" * 300

NUMBERS = [
    *(-(10**30), -(2**63), -1, 0, 1, 2, 3, 4, 7, 16, 99, 100, 101, 65_536, 65_537, 10**6, 2**31),
    *(2**32 - 1, 2**32, 2**63, 10**30),
    *(-1e308, -1.0, -0.0, 0.0, 1e-308, 1e-9, 0.05, 0.5, 0.999, 1.0, 1.5, 2.0, 3.0, 1e9, 1e308),
]
TEXTS = [
    "",
    "none",
    "x",
    "../..",
    "~nosuchuser/x",
    LONG,
    "fp16",
    "é\u202e\x1b]0;t\x07",
    "mteb:X",
    "a,b",
]
VALUES = [
    *NUMBERS,
    *TEXTS,
    True,
    False,
    [],
    [1],
    ["x"],
    ["x", "x"],
    [[1]],
    {},
    {"x": 1},
    {"a": {"b": []}},
]
RAW = [
    DIGITS,
    DEEP,
    "0x" + "f" * 9000,
    "inf",
    "nan",
    "-inf",
    "1e999",
    "[",
    '"',
    "'''",
    "{",
    "{a=1",
    "1\nx=2",
]
RAW += [
    "1979-05-27",
    "07:32:00",
    "=",
    " ",
    "1 # c",
    "true",
    "True",
    "None",
    "null",
    "\\",
    "\x00",
    "\x1b[2J",
]
"""What stands behind ``--set KEY=`` as it is."""


def keys_of(model=RunProfile, prefix=""):
    """Every key of a profile -> whether it is a section."""
    found = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        inner = isinstance(kind, type) and hasattr(kind, "model_fields")
        found[prefix + name] = inner
        if inner:
            found |= keys_of(kind, f"{prefix}{name}.")
    return found


KEYS = keys_of()
CHOICES = [
    *("gaussian", "linear", "random", "euclidean", "cosine", "dot", "sum", "convex", "sigreg"),
    *(
        "vicreg",
        "spread_out",
        "bm25",
        "dense",
        "cross-encoder",
        "lucene",
        "english",
        "bf16",
        "int8",
    ),
]
"""Values that some key takes."""


def odd_value(rng, key=""):
    """A value of Python as TOML knows them, half of the time of the kind that a key takes."""
    default = RunProfile(name="x").model_dump(mode="json")
    for part in key.split("."):
        default = default.get(part) if isinstance(default, dict) else None
    if rng.random() < 0.5 and default is not None and not isinstance(default, dict | list):
        if isinstance(default, bool):
            return rng.random() < 0.5
        near = [default, default * 2, default + 1, default / 2] if type(default) is float else None
        return rng.choice(near or ([default, default + 1] if type(default) is int else CHOICES))
    return rng.choice(rng.choice([NUMBERS, TEXTS, VALUES, CHOICES]))


def odd_set(rng):
    """A ``KEY=VALUE``, the key, and the value that it asks for, where it is one of TOML."""
    keys = [key for key, inner in KEYS.items() if not inner or rng.random() < 0.1]
    key = rng.choice(keys)
    if rng.random() < 0.05:
        key = rng.choice(
            [f"{key}.x", key[:-1], "", ".", f"{key}..x", "a." * 3000 + "b", LONG, DEEP]
        )
    if rng.random() < 0.3:
        text = rng.choice(RAW)
        return f"{key}={text}", key, None
    value = odd_value(rng, key)
    if isinstance(value, dict):
        return f"{key}.x={json.dumps(1)}", key, None
    text = as_toml({"value": value}).removeprefix("value = ").rstrip("\n")
    return f"{key}={text}", key, tomllib.loads(f"v = {text}")["v"]


def odd_profile(rng, name):
    """The bytes of a profile or a plan that somebody wrote."""
    values = {
        "name": name,
        "extends": rng.choice(["with_isotropy", "standard_cosine", "frozen_efficient"]),
    }
    if rng.random() < 0.3:
        del values["extends"]
        values |= {"experiments": ["with_isotropy"], "references": ["untouched"], "seeds": [1]}
    for _ in range(rng.randint(0, 2)):
        key = rng.choice([*KEYS, "extends", "experiments", "references", "seeds", "overrides"])
        inner = values
        *way, last = key.split(".")
        for part in way:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                break
        else:
            inner[last] = odd_value(rng, key)
    text = as_toml(values)
    if rng.random() < 0.3:
        key = rng.choice([*KEYS, "extends", "experiments", "seeds", "description"])
        text = f"{key} = {rng.choice(RAW)}\n{text}"
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        at = rng.randrange(len(content))
        content = (
            content[:at]
            + rng.choice([b"\xff", b"\x00", b"[", b'"', b"\r", b"=", b""])
            + content[at + 1 :]
        )
    return content


# Model folders

ODD_JSON = [
    *(
        None,
        True,
        -1,
        0,
        3,
        10**30,
        1.5,
        "",
        "x",
        "../../..",
        "a\x00b",
        LONG * 2,
        ".",
        [],
        [1],
        ["x"],
    ),
    *({}, {"a": 1}, [[]], [None], {"": ""}, "torch.nn.Linear", "os.system", "evil.Evil"),
]
ODD_FILES = [
    *(
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff\xfe",
        b"{}",
        b"[1]",
        b'[{"path": 1}]',
        b"[{}]",
    ),
    *(b"[" * 100_000, b'{"a":' * 20_000, b"9" * 5000, b'{"types": []}', b'{"types": {"": "x"}}'),
]


def _places(value, way=()):
    """Ways to all values in a JSON document."""
    yield way
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in inner:
        yield from _places(item, (*way, key))


def spoil(folder, rng):
    """Change one thing in a model folder, and say what."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".json", ".safetensors"))
    file, kind = rng.choice(files), rng.random()
    where = file.relative_to(folder).as_posix()
    if kind < 0.1:
        return _put_in(folder, rng)
    if file.suffix != ".json" or kind < 0.3:
        content = file.read_bytes()
        choice = rng.choice(["gone", "folder", "cut", "odd", "loop"])
        file.unlink()
        if choice == "folder":
            file.mkdir()
        elif choice == "cut":
            file.write_bytes(content[: rng.randrange(len(content) + 1)])
        elif choice == "odd":
            file.write_bytes(rng.choice(ODD_FILES))
        elif choice == "loop":
            file.symlink_to(file.name)
        return f"{where}: {choice}"
    value = json.loads(file.read_text())
    way = rng.choice([way for way in _places(value) if len(way) < 6][:200])
    odd = rng.choice(ODD_JSON)
    if not way:
        value = odd
    else:
        inner = value
        for key in way[:-1]:
            inner = inner[key]
        if rng.random() < 0.2:
            del inner[way[-1]]
        else:
            inner[way[-1]] = odd
    file.write_text(json.dumps(value))
    return f"{where}: {'.'.join(map(str, way))} {odd!r:.40}"


def _put_in(folder, rng):
    """Add a file that a plain model has not."""
    name = rng.choice(["adapter_config.json", "router_config.json", "model.safetensors.index.json"])
    content = rng.choice(
        [
            *ODD_FILES,
            b'{"types": {".": "sentence_transformers.models.Router"}}',
            b'{"types": {"..": 1}}',
            b'{"base_model_name_or_path": ["x"]}',
            b'{"weight_map": {"a": "../x.safetensors"}}',
            b'{"weight_map": []}',
        ]
    )
    place = rng.choice([folder, *(one for one in folder.iterdir() if one.is_dir())])
    (place / name).write_bytes(content)
    if name.startswith("model") and (place / "model.safetensors").exists():
        (place / "model.safetensors").unlink()
    return f"{place.name}/{name}: {content[:60]!r}"


def copied(model, place):
    """A model folder to spoil, with code beside it that nobody may run."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(model, place)
    evil = f"open({str(place.parent / 'ran')!r}, 'w')\nclass Evil: pass\n"
    for folder in (place, *(one for one in place.iterdir() if one.is_dir())):
        (folder / "evil.py").write_text(evil)
    return place


# Environments


def odd_environments(folder):
    """Name -> variables of the environment and words of a command, each a mistake or a trap."""
    file = folder / "file"
    file.write_text("x")
    there = str(folder / "w")
    roots = [
        "~nosuchuser",
        "~nosuchuser/a",
        LONG,
        "/".join([LONG] * 20),
        str(file),
        f"{file}/x",
        "/dev/null",
    ]
    roots += ["/proc", "", " ", "a\nb", "\udcff", "\x1b[2J", "/proc/1/x", "x" * 5000]
    numbers = ["abc", "", "-1", "0", "1.5", "9" * 5000, " 1", "1 ", "２", "nan"]
    words = [["data", "list"], ["report"], ["eval", "--datasets", "smoke"], ["profile", "list"]]
    words += [["reproduce", "--profile", "smoke", "--dry-run"], ["data", "verify"], ["--version"]]
    found = []
    for command in words:
        plain = command in (["--version"], ["profile", "list"])
        for root in roots:
            found.append(({"RAGCUN_WORKSPACE": root}, command))
            found.append(({"RAGCUN_DATA": root}, [*command, *([] if plain else ["-w", there])]))
        found += [
            ({name: number}, command) for name in ("WORLD_SIZE", "RANK") for number in numbers
        ]
        found += [({"HOME": root}, command) for root in (*roots[:3], str(file))]
        found += [({"XDG_CACHE_HOME": root}, command) for root in (*roots[:3], str(file))]
    return found
