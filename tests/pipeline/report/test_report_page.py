"""The web page: what stands where, and how it looks in a browser at two widths."""

import io
import re
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from chromium import Chromium
from PIL import Image

from ragcun_cli.pipeline.report.background import Background, Recipe
from ragcun_cli.pipeline.report.figure import Figure, Series
from ragcun_cli.pipeline.report.formats.html_page import render_html
from ragcun_cli.pipeline.report.table import Column, Difference, Table, WithDeviation, WithInterval

ANSWER = "with_isotropy − baseline_no_isotropy is +1.23 points [+0.45, +2.01]: above 0."
NAMES = (
    "untouched",
    "untouched_start",
    "bm25",
    "baseline_no_isotropy",
    "with_isotropy (λ=0.1) & <script>",
    "a_name_of_eighty_letters_" + "without_a_single_blank_in_it_and_" + "x" * 22,
    '*naïve*, "quoted" | C:\\tmp\\~50% #1 {a} $x^2$',
    "frozen_efficient (training.lambda_isotropy=0.05, encoder.output_dim=256)",
    "nebenwirkungsfreie 等方性 модель",
    "[<b>bold</b>] --seed '' ``",
)
SETS = [*(f"set-{number}" for number in range(16)), "cqadupstack", "climate-fever-of-a-long-name"]
LONG = "Nothing was measured here, and what a reader has to know of it takes a whole sentence. " * 2


def score(row, place):
    return WithDeviation((row * 7 + place) % 90 / 100, 0.004) if (row + place) % 9 else None


def publication():
    """Tables, figures and background of the size of the plan `publication`, with hostile names."""
    results = Table(
        key="results",
        caption="Retrieval quality & more <i>",
        columns=(
            Column("model", "Model"),
            *(Column(name, name, digits=1, scale=100) for name in SETS),
            Column("average", "Average of 18", digits=1, scale=100),
            Column("difference", "Difference to untouched", digits=1, scale=100),
        ),
        rows=tuple(
            (
                name,
                *(
                    WithDeviation((row * 7 + place) % 90 / 100, 0.004)
                    if (row + place) % 9
                    else None
                    for place in range(len(SETS) + 1)
                ),
                Difference(0.012, -0.004, 0.028) if row else "reference",
            )
            for row, name in enumerate(NAMES)
        ),
        notes=(LONG, "x" * 300),
        best=frozenset({(name, "average") for name in NAMES[::2]}),
    )
    contrasts = Table(
        key="contrasts",
        caption="What the plan asks",
        columns=(
            Column("contrast", "Contrast"),
            Column("kind", "Kind"),
            Column("difference", "Difference", digits=2, scale=100),
            Column("verdict", "Verdict"),
            *(Column(f"p{number}", "p, queries alone", digits=3) for number in range(6)),
        ),
        rows=tuple(
            (f"{name} − untouched", "secondary", Difference(0.012, 0.004, 0.02), LONG, *[0.5] * 6)
            for name in NAMES
        ),
        notes=(ANSWER, "Points."),
    )
    isotropy = Table(
        key="isotropy",
        caption="Isotropy of the query embeddings",
        columns=(Column("model", "Model"), *(Column(f"m{n}", f"Measure {n}") for n in range(14))),
        rows=tuple((name, *[WithInterval(0.5, 0.4, 0.6)] * 14) for name in NAMES),
    )
    claims = Table(
        key="claims",
        caption="Claims",
        columns=(Column("claim", "Claim"), Column("verdict", "Verdict"), Column("why", "Evidence")),
        rows=(("gain of more than 1.0 points over the arm without isotropy", "undecided", LONG),),
    )
    forest, mining = (
        Figure(key, f"Figure {key}", "x", "y", (Series(NAMES[5], (1.0, 2.0), (1.0, 3.0)),))
        for key in ("forest", "mining-ranks")
    )
    runs = Table(
        key="runs",
        caption="Every run",
        columns=(Column("model", "Model"), Column("seed", "Seed"), Column("folder", "Folder")),
        rows=tuple(
            (name, seed, f"runs/{'folder' * 6}/{'0' * 8}/seed-{seed}")
            for name in NAMES[2:]
            for seed in (1, 2, 3)
        ),
        heading_columns=2,
    )
    background = Background(
        answers=(ANSWER,),
        warnings=("Not measured: " + "; ".join(NAMES) + ": it has not run.", "x" * 200),
        software=("python 3.11, torch 2.9, on a GPU: every run.",),
        runs=runs,
        digests="\n".join(f"{'0f' * 32}  runs/{name}/model.safetensors" for name in NAMES),
        recipes=tuple(
            Recipe(name, f"ragcun reproduce --profile {name}.toml", f'name = "{"y" * 200}"')
            for name in NAMES
        ),
    )
    return (results, isotropy, contrasts, claims), (mining, forest), background


def page(**changed):
    tables, figures, background = publication()
    given = {"title": "T", "generated_from": "plan", "background": background} | changed
    return render_html(tables, figures, **given)


class Parts(HTMLParser):
    """Elements with their attributes, and the text of headings."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.headings = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((tag, ""))

    def handle_data(self, data):
        if self.headings and re.fullmatch("h[1-6]", self.elements[-1][0]):
            tag, text = self.headings[-1]
            self.headings[-1] = tag, text + data.strip()


def test_the_answer_and_the_warnings_stand_before_every_table_and_the_appendix_after_the_figures():
    text = page()
    assert text.index(ANSWER) < text.index("Not measured: untouched") < text.index("<nav")
    assert text.count(ANSWER) == 1, "the note of the table says it again"
    parts = Parts(text)
    assert [text for tag, text in parts.headings if tag == "h2"] == [
        *("Contrasts and claims", "Results", "Appendix", "Runs")
    ]
    keys = [each["id"] for tag, each in parts.elements if tag == "figure" and "id" in each]
    assert keys == ["contrasts", "claims", "forest", "results", "isotropy", "mining-ranks", "runs"]


def test_tables_of_a_second_group_of_rows_stand_beside_those_of_the_first():
    tables = [
        Table(key, key, (Column("model", "Model"),), (("a",),))
        for key in ("results", "isotropy", "cost-2", "contrasts-2", "isotropy-passages-2")
    ]
    found = Parts(render_html(tables, title="T", generated_from="plan")).headings
    assert [text for _, text in found] == [
        *("T", "Contrasts and claims", "contrasts-2", "Results", "results", "cost-2"),
        *("Appendix", "isotropy", "isotropy-passages-2"),
    ]


def test_headings_skip_no_level_and_every_reference_leads_somewhere():
    parts = Parts(page())
    levels = [int(tag[1]) for tag, _ in parts.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    names = [each["id"] for _, each in parts.elements if "id" in each]
    assert len(names) == len(set(names))
    asked = [each["aria-labelledby"] for _, each in parts.elements if "aria-labelledby" in each]
    asked += [each["href"][1:] for tag, each in parts.elements if tag == "a"]
    assert len(asked) > 20
    assert set(asked) <= set(names)
    assert all(each["scope"] in ("col", "row") for tag, each in parts.elements if tag == "th")


def test_a_page_without_a_background_has_no_section_of_runs():
    text = page(background=None)
    assert "Runs" not in text
    assert ANSWER in text, "it stays a note"


# In a browser

FAULTS = """(() => {
  const faults = [], wide = document.documentElement.clientWidth;
  const say = (element, what) => faults.push(`${what}: ${element.outerHTML.slice(0, 150)}`);
  for (const details of document.querySelectorAll("details")) details.open = true;
  if (document.documentElement.scrollWidth > wide) say(document.body, "the page scrolls sideways");
  const seen = [...document.querySelectorAll("main, main *")].filter(
    element => !element.closest("svg") && element.getClientRects().length);
  for (const element of seen) {
    const box = element.getBoundingClientRect();
    const rolls = element.matches(".scroll");
    if (!rolls && getComputedStyle(element).display != "inline"
        && element.scrollWidth > element.clientWidth + 1) say(element, "cut or running over");
    if (!element.closest(".scroll") && (box.left < -1 || box.right > wide + 1))
      say(element, "outside of the window");
    const children = [...element.children].filter(child => seen.includes(child));
    const boxes = children.map(child => [...child.getClientRects()]);
    for (let second = 1; second < boxes.length; second++)
      for (const one of boxes[second - 1]) for (const other of boxes[second]) {
        const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
        const down = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
        if (across > 1 && down > 1) say(children[second], "over its neighbour");
      }
  }
  return faults;
})()"""
LINES = """[...document.querySelectorAll("tbody tr > th:first-child .words")].map(name =>
  [name.textContent, name.clientHeight / parseFloat(getComputedStyle(name).lineHeight)])
"""


@pytest.fixture
def browser(tmp_path, program):
    with Chromium(program("chromium"), tmp_path / "profile") as started:
        yield started


@contextmanager
def opened(browser, file, **how):
    browser.open(file, **how)
    assert browser.requests() == [file.resolve().as_uri()]
    yield
    assert browser.complaints() == []
    assert len(browser.requests()) == 1


@pytest.mark.system
@pytest.mark.needs("program:chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_overlaps_is_cut_or_asked_for(browser, tmp_path, width):
    file = tmp_path / "report.html"
    file.write_text(page(), encoding="utf-8")
    for dark in (False, True):
        with opened(browser, file, width=width, dark=dark):
            assert browser.measure(FAULTS) == []
            lines = browser.measure(LINES)
    assert {name for name, _ in lines} >= set(NAMES)
    assert all(height < 1.5 for name, height in lines if len(name) <= 28)
    assert all(height < 2.5 for name, height in lines if name in NAMES)


@pytest.mark.system
@pytest.mark.needs("program:chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_that_reproduce_writes_looks_as_well(browser, smoke_workspace, width):
    with opened(browser, smoke_workspace / "reports/smoke/report.html", width=width):
        assert browser.measure(FAULTS) == []
        assert all(height < 1.5 for name, height in browser.measure(LINES) if len(name) <= 28)
        assert browser.measure("document.querySelector('.answer').textContent.length") > 50


@pytest.mark.system
@pytest.mark.needs("program:chromium")
def test_the_measuring_finds_what_is_wrong(browser, tmp_path):
    file = tmp_path / "report.html"
    broken = page().replace(
        "</style>", "td { max-width: 2rem } h3 { margin-bottom: -2rem }</style>"
    )
    file.write_text(broken, encoding="utf-8")
    with opened(browser, file):
        found = browser.measure(FAULTS)
    assert {fault.split(":")[0] for fault in found} >= {"cut or running over", "over its neighbour"}


@pytest.mark.system
@pytest.mark.needs("program:chromium")
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True])
def test_a_wide_table_has_a_shadow_where_it_goes_on(browser, tmp_path, dark, width):
    file = tmp_path / "report.html"
    file.write_text(page(), encoding="utf-8")
    with opened(browser, file, width=width, dark=dark):
        box = 'document.querySelector("#results .scroll")'
        assert browser.measure(f"{box}.scrollWidth - {box}.clientWidth") > 100
        browser.measure(f"{box}.scrollIntoView()")
        before = edge(browser, box)
        browser.measure(f"{box}.scrollLeft = 1e6")
        after = edge(browser, box)
    assert abs(before - after) > 30
    assert after > 240 or dark


def edge(browser, box):
    """How light the right edge of an element is, between two lines of its first row."""
    right, top = browser.measure(
        f"(() => {{ const row = {box}.querySelector('tbody tr').getBoundingClientRect();"
        f"return [{box}.getBoundingClientRect().right, row.top] }})()"
    )
    pixels = Image.open(io.BytesIO(browser.screenshot())).convert("L")
    return pixels.getpixel((int(right) - 2, int(top) + 3))


@pytest.mark.system
@pytest.mark.needs("program:chromium")
def test_a_printed_page_holds_what_is_folded_on_the_screen(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(), encoding="utf-8")
    with opened(browser, file):
        browser.call("Emulation.setEmulatedMedia", media="print")
        heights = browser.measure(
            "[...document.querySelectorAll('details pre')].map(text => text.clientHeight)"
        )
    assert len(heights) > len(NAMES)
    assert min(heights) > 5
