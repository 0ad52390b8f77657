"""What docs/guides/serve.md promises that needs none of the stores; `make test-serving` runs it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs/guides/serve.md"
TEXT = GUIDE.read_text("utf-8")
HEADINGS = re.findall(r"^###? (.+)$", TEXT, re.M)
SNIPPETS = re.findall(r"^```python\n(.+?)^```$", TEXT, re.M | re.S)
TABLE = re.findall(r"^\| (\[.+) \|$", TEXT, re.M)
PINS = [
    line.split("#")[0].strip()
    for name in ("requirements.txt", "constraints.txt")
    for line in (ROOT / "tests/serving" / name).read_text("utf-8").splitlines()
    if line and line[0] not in "#-"
]


def anchor(heading):
    """As GitHub makes it of a heading of words and hyphens."""
    return heading.lower().replace(" ", "-")


def test_each_row_of_the_table_has_its_section_and_each_section_its_row():
    assert all(row.count(" | ") == 4 for row in TABLE)
    stores = re.findall(r"^### (.+)$", TEXT, re.M)
    assert [re.search(r"\(#(.+?)\)", row)[1] for row in TABLE] == [anchor(name) for name in stores]


def test_what_the_table_names_is_what_runs_or_is_said_not_to_run():
    aside = TEXT.index("## Not run here")
    for row in TABLE:
        name, version = re.match(r"\[(.+?)\]\(\S+\),?(?: (\S+ [\d.]+| ?[\d.]+))?", row).groups()
        assert ("not run here" in row) == (TEXT.index(f"### {name}\n") > aside)
        if "not run here" in row or name == "pgvector":
            continue
        package, number = version.split() if " " in version else (name.lower(), version)
        package = {
            "faiss": "faiss-cpu",
            "llamaindex": "llama-index-core",
            "chroma": "chromadb",
        }.get(package, package)
        assert f"{package}=={number}" in PINS


def test_a_snippet_is_short_and_python():
    assert SNIPPETS
    for snippet in SNIPPETS:
        ast.parse(snippet)
        assert len(snippet.splitlines()) <= 20
        assert max(map(len, snippet.splitlines())) <= 100


def test_every_version_is_one_version_and_each_package_has_one():
    assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", pin) for pin in PINS)
    versions = {}
    for pin in PINS:
        package, version = re.sub(r"\[\w+\]", "", pin).lower().replace("_", "-").split("==")
        assert versions.setdefault(package, version) == version


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((\S+?)\)", TEXT))))
def test_a_link_leads_to_a_heading_a_file_or_an_address_over_https(link):
    if link.startswith("#"):
        assert link[1:] in map(anchor, HEADINGS)
    elif "://" in link:
        assert re.fullmatch(r"https://[\w.-]+\.\w+/[\w./#-]+", link)
    else:
        assert (GUIDE.parent / link).exists()
