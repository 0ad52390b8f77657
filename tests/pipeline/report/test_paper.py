"""What a paper takes of a report, and that LaTeX sets it."""

import re
import subprocess
from pathlib import Path

import pytest
from publication import ARMS, HOSTILE, figures, tables

from ragcun_cli.pipeline.report.layout import COLUMN, PAGE
from ragcun_cli.pipeline.report.paper import PaperFacts, checklist, numbers_of, write_paper
from ragcun_cli.pipeline.report.table import Column, Difference, Table, WithDeviation, WithInterval

FACTS = PaperFacts(
    commands={"all": "`ragcun reproduce --profile publication`"},
    seeds={"with_isotropy": "1, 2, 3"},
    trials={"with_isotropy": "4"},
    hours={"NVIDIA H200": "71.50 hours"},
    lost_hours={"NVIDIA H200": "2.50 hours"},
    memory={},
    licences={"scifact": "cc-by-nc-2.0", "mine": "not recorded"},
    bases={"sentence-transformers/all-mpnet-base-v2": "not recorded"},
    versions={"torch": "2.12, 2.13"},
    commits={},
)
PAPER = r"""\documentclass[twocolumn,PAPER]{article}
\usepackage{booktabs}
\usepackage{graphicx}
\input{numbers}
\begin{document}
\typeout{Room: \the\columnwidth, \the\textwidth.}
LeJEPA~\cite{balestriero2025lejepa}: USED.
\nocite{*}
\input{results}
\appendix
\input{appendix}
\bibliographystyle{plain}
\bibliography{references}
\end{document}
"""


def macros(folder: Path) -> dict[str, str]:
    text = (folder / "numbers.tex").read_text("utf-8")
    return dict(re.findall(r"^\\newcommand\{\\([A-Za-z]+)\}\{(.*)\}% ", text, flags=re.MULTILINE))


def test_a_macro_is_named_by_table_row_and_column_and_says_what_is_printed():
    table = Table(
        key="results-2",
        caption="Results",
        columns=(
            Column("model", "Model"),
            Column("ndcg@10", "nDCG@10", digits=1, scale=100),
            Column("gain", "Gain", digits=1, scale=100),
        ),
        rows=(
            ("with_isotropy", WithDeviation(0.476, 0.0031), Difference(-0.012, -0.02, 0.003)),
            ("naïve 2", 0.5, None),
            ("other", 12, WithInterval(0.5, 0.25, 0.75)),
            ("words", 1, "reference"),
        ),
    )
    minus = "\N{MINUS SIGN}"
    assert {name: value for name, _, value in numbers_of([table])} == {
        "resultsTwoWithIsotropyNdcgOneZero": "47.6",
        "resultsTwoWithIsotropyNdcgOneZeroDeviation": "0.3",
        "resultsTwoWithIsotropyGain": f"{minus}1.2",
        "resultsTwoWithIsotropyGainInterval": f"[{minus}2.0, +0.3]",
        "resultsTwoNaiveTwoNdcgOneZero": "50.0",
        "resultsTwoNaiveTwoGain": "not measured",
        "resultsTwoOtherNdcgOneZero": "1,200.0",
        "resultsTwoOtherGain": "50.0",
        "resultsTwoOtherGainInterval": "[25.0, 75.0]",
        "resultsTwoWordsNdcgOneZero": "100.0",
    }


def test_namesakes_are_numbered_and_no_name_is_given_twice():
    columns = (Column("model", "Model"), Column("x", "x"), Column("x_deviation", "x"))
    rows = (("λ", 1.0, 2.0), ("μ", WithDeviation(3.0, 4.0), 5.0), ("中", 6.0, 7.0))
    found = [(name, value) for name, _, value in numbers_of([Table("t", "T", columns, rows)])]
    assert found == [
        *(("tX", "1"), ("tXDeviation", "2")),
        *(("tXTwo", "3"), ("tXTwoDeviation", "4"), ("tXDeviationTwo", "5")),
        *(("tXThree", "6"), ("tXDeviationThree", "7")),
    ]


def test_the_checklist_answers_what_is_recorded_and_says_what_is_not():
    text = checklist(FACTS)
    for answer in (
        "seeds were trained? with_isotropy: 1, 2, 3.",
        "with_isotropy: 4.",
        "included? NVIDIA H200: 71.50 hours.",
        "failed or were stopped? NVIDIA H200: 2.50 hours.",
        "How much memory did it take at most? not recorded.",
        "scifact: cc-by-nc-2.0; mine: not recorded.",
        "all-mpnet-base-v2: not recorded.",
        "used? torch: 2.12, 2.13.",
        "Which state of the source? not recorded.",
        "again? all: `ragcun reproduce --profile publication`.",
    ):
        assert answer in text
    bare = checklist(PaperFacts(*[{}] * 10))
    assert bare.count("not recorded.") == 15 - 3  # settings, error bars and digests hold for all


def test_a_folder_has_all_that_a_paper_reads(tmp_path):
    files = write_paper(tmp_path / "new", tables(), figures(), FACTS)
    assert [file.relative_to(tmp_path / "new").as_posix() for file in files] == [
        *("results.tex", "appendix.tex", "numbers.tex", "references.bib", "checklist.md"),
        *("figures/lines-3.pdf", "figures/lines-10.pdf", "figures/forest.pdf"),
    ]
    labels = {
        name: re.findall(r"\\label\{(.*)\}", (tmp_path / "new" / name).read_text("utf-8"))
        for name in ("results.tex", "appendix.tex")
    }
    assert labels["results.tex"] == [
        *("tab:contrasts", "tab:results", "tab:results-by-set", "tab:calibration", "tab:cost"),
        *("tab:claims", "tab:claims-part-2", "fig:lines-3", "fig:lines-10", "fig:forest"),
    ]
    assert labels["appendix.tex"][0] == "tab:isotropy"
    found = macros(tmp_path / "new")
    assert len(found) > 500
    assert re.fullmatch(r"\d\d\.\d", found["resultsWithIsotropyAverage"])
    bib = (tmp_path / "new" / "references.bib").read_text("utf-8")
    assert "arXiv:2511.08544" in bib
    assert "Joint-Embedding" not in bib


@pytest.mark.system
@pytest.mark.needs("program:pdflatex")
@pytest.mark.parametrize("paper", ["a4paper", "letterpaper"])
@pytest.mark.parametrize("transpose", [None, False])
@pytest.mark.parametrize("arms", [ARMS, (*HOSTILE, *ARMS[:2])], ids=["publication", "hostile"])
def test_latex_sets_a_paper_in_letters_of_7_points_with_nothing_beyond_its_columns(
    tmp_path, arms, transpose, paper
):
    write_paper(*(tmp_path, tables(arms), figures(arms), FACTS), transpose=transpose)
    used = ", ".join(rf"\{name}" for name in macros(tmp_path))
    document = PAPER.replace("PAPER", paper).replace("USED", used)
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]
    for command in (latex, ["bibtex", "paper"], latex, latex):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    log = (tmp_path / "paper.log").read_text(errors="replace")
    over = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert not [points for points in over if points > 1]
    assert "Float too large" not in log
    assert "Missing character" not in log
    assert not re.search("undefined|multiply defined", log)
    column, page = map(float, re.search(r"Room: ([\d.]+)pt, ([\d.]+)pt", log).groups())
    assert column >= COLUMN
    assert page >= PAGE
    fonts = re.findall(r"/(cm[a-z]+)(\d+)\.pfb", log)
    assert len(fonts) > 5
    assert all(int(size) >= 7 for _, size in fonts)
    assert "LeCun" in (tmp_path / "paper.bbl").read_text()
