r"""Tables for a paper, in the style of ``booktabs``, and its figures.

The text compiles with pdfLaTeX, LuaLaTeX and XeLaTeX and the two packages its first line names. No
table is scaled: its letters have 7 points or more, and it fits a two-column paper (``layout.py``).
pdfLaTeX sets Latin and Greek letters and the common signs; other scripts need one of the others.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ragcun_cli.pipeline.report.figure import Drawing
from ragcun_cli.pipeline.report.layout import (
    DETAIL,
    GAPS,
    LEADING,
    Float,
    PrintedBest,
    cell_lines,
    floats_of,
    for_appendix,
    for_print,
    heading_lines,
)
from ragcun_cli.pipeline.report.table import (
    Cell,
    Column,
    Table,
    WithDeviation,
    WithInterval,
    best_cells,
    cell_parts,
    column_align,
    legend,
    one_line,
)
from ragcun_cli.spec.paths import FIGURES

PACKAGES = (
    r"% Needs \usepackage{booktabs} and \usepackage{graphicx}; names in other scripts than Latin "
    "and Greek need XeLaTeX or LuaLaTeX."
)
MISSING = "--"
DETAIL_SIZE = rf"\fontsize{{{DETAIL}}}{{{DETAIL}}}\selectfont "

NARROWEST_NOTES = 300.0
"""Points, under a table that spans both columns."""
LONGEST_WORD = 24
"""Letters after which a word of a caption or a note may be broken."""

_GREEK = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ"
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
_SIGNS = {
    "±": "pm", "\N{MULTIPLICATION SIGN}": "times", "·": "cdot", "∞": "infty", "≤": "leq",
    "≥": "geq", "≈": "approx", "≠": "neq", "←": "leftarrow", "→": "rightarrow", "↑": "uparrow",
    "↓": "downarrow",
}  # fmt: skip
_MATHS = dict(zip(_GREEK, _GREEK_NAMES.split(), strict=True)) | _SIGNS
_ESCAPES = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%#_{}"}
    | {sign: f"$\\{name}$" for sign, name in _MATHS.items()}
    # \$ would come from a second font, which is a bitmap in a small installation.
    | {"$": r"\symbol{36}"}
    # Bare brackets and stars would be arguments of the \\ or the \midrule before them.
    | {sign: f"{{{sign}}}" for sign in "[]*"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"`": r"\textquoteleft{}", "\N{MINUS SIGN}": "$-$", "°": r"$^\circ$", "†": r"$\dagger$"}
)


def render_latex(
    tables: Sequence[Table],
    figures: Sequence[Drawing] = (),
    *,
    transpose: bool | None = None,
    generated_from: str | None = None,
) -> str:
    r"""Floats of tables and figures, to be read with ``\input``.

    Files of figures are named from the document's own folder; elsewhere ``\graphicspath`` helps.

    Args:
        tables: in the order to print; those of an appendix come last.
        figures: after the tables of the text.
        transpose: whether data sets are rows; None decides by their number.
        generated_from: one line of comment that says what the numbers come from.
    """
    comment = [f"% {one_line(generated_from)}"] if generated_from else []
    text, appendix = (
        [
            _float(one)
            for table in tables
            if for_appendix(table) is later
            for printed in for_print(table, transpose=transpose)
            for one in floats_of(printed)
        ]
        for later in (False, True)
    )
    blocks = [*text, *map(_figure, figures), *["% For an appendix."][: len(appendix)], *appendix]
    return "\n".join([PACKAGES, *comment]) + "\n" + "".join(f"\n{one}\n" for one in blocks)


def as_latex(text: str) -> str:
    """The text on one line, set as it reads: no commands, and no ligatures such as ``--``."""
    return re.sub(r"([-'])(?=\1)", r"\1{}", one_line(text).translate(_ESCAPES))


def _float(shown: Float) -> str:
    environment = "table*" if shown.is_wide else "table"
    size, leading, gap = shown.size, shown.size * LEADING, GAPS[shown.size] / 2
    blocks = [_tabular(block, size) for block in shown.blocks]
    lines = [
        rf"\begin{{{environment}}}[t]",
        r"  \centering",
        r"  \setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{5pt}",
        rf"  \caption{{{_sentence(shown.table.caption)}}}",
        rf"  \label{{tab:{shown.table.key}}}",
        rf"  \fontsize{{{size}}}{{{leading:g}}}\selectfont",
        rf"  \setlength{{\tabcolsep}}{{{gap:g}pt}}",
        *[line for block in blocks for line in (r"  \par\medskip", *block)][1:],
        *_notes(shown),
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines)


def _figure(figure: Drawing) -> str:
    lines = [
        r"\begin{figure}[t]",
        r"  \centering",
        rf"  \includegraphics[width=\linewidth]{{{FIGURES}/{figure.key}.pdf}}",
        rf"  \caption{{{_sentence(figure.caption)}}}",
        rf"  \label{{fig:{figure.key}}}",
        *_minipage([_paragraph(note) for note in figure.notes], width=r"\linewidth"),
        r"\end{figure}",
    ]
    return "\n".join(lines)


def _paragraph(text: str) -> str:
    """The text, its long words in pieces that lines may end between."""
    words = [re.findall(f".{{1,{LONGEST_WORD}}}", word) for word in one_line(text).split()]
    return " ".join(r"\allowbreak{}".join(map(as_latex, pieces)) for pieces in words)


def _sentence(text: str) -> str:
    return _paragraph(text) + "." * (not text.rstrip().endswith((".", "?", "!")))


def _tabular(table: Table, size: int) -> list[str]:
    best = best_cells(table)
    slots = [_Slot.of(table, index) for index in range(len(table.columns))]
    headings = [
        slot.across(_stacked(heading_lines(table, index, size), slot.place, "b"))
        for index, slot in enumerate(slots)
    ]
    rows = [
        [
            _words(cell_lines(table, index, cell, size), cell, slot)
            if isinstance(cell, str)
            else _cell(
                column, cell, slot, bold=(number, index) in best, dagger=table.dagger(row, index)
            )
            for index, (column, cell, slot) in enumerate(
                zip(table.columns, row, slots, strict=True)
            )
        ]
        for number, row in enumerate(table.rows)
    ]
    return [
        rf"  \begin{{tabular}}{{@{{}}{''.join(slot.preamble for slot in slots)}@{{}}}}",
        r"    \toprule",
        f"    {_row(headings)}",
        r"    \midrule",
        *(f"    {_row(cells)}" for cells in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
    ]


@dataclass(frozen=True)
class _Slot:
    """Where a column stands: numbers with an uncertainty take two, so that both are aligned."""

    place: str
    is_pair: bool
    is_last: bool

    @classmethod
    def of(cls, table: Table, index: int) -> "_Slot":
        is_pair = any(isinstance(row[index], WithDeviation | WithInterval) for row in table.rows)
        place = "c" if is_pair else column_align(table, index)[0]
        return cls(place, is_pair, index == len(table.columns) - 1)

    @property
    def preamble(self) -> str:
        return r"r@{\,}l" if self.is_pair else self.place

    def across(self, text: str) -> str:
        """The text over the whole slot."""
        edge = "@{}" if self.is_last else ""
        return rf"\multicolumn{{2}}{{c{edge}}}{{{text}}}" if self.is_pair else text


def _row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _stacked(lines: Sequence[str], place: str, vertical: str) -> str:
    """Lines below each other."""
    if len(lines) == 1:
        return as_latex(lines[0])
    text = r"\\".join(as_latex(line) for line in lines)
    return rf"\begin{{tabular}}[{vertical}]{{@{{}}{place}@{{}}}}{text}\end{{tabular}}"


def _cell(column: Column, cell: Cell, slot: _Slot, *, bold: bool, dagger: str) -> str:
    if cell is None:
        return slot.across(MISSING)
    main, detail = (as_latex(part) for part in cell_parts(column, cell))
    main = as_latex(dagger) + (rf"\textbf{{{main}}}" if bold else main)
    if not slot.is_pair:
        return main
    detail = detail.replace(r"$\pm$ ", r"$\pm$")
    return rf"{main} & {{{DETAIL_SIZE}{detail}}}" if detail else f"{main} &"


def _words(lines: Sequence[str], cell: str, slot: _Slot) -> str:
    if isinstance(cell, PrintedBest):
        value, _, detail = as_latex(cell).partition(" ")
        return rf"\textbf{{{value}}} {detail}".rstrip()
    return slot.across(_stacked(lines, slot.place, "t"))


def _notes(shown: Float) -> list[str]:
    """The table's own notes, then what its marks mean; hardly wider than the table."""
    marks = [as_latex(sentence) for sentence in legend(shown.blocks)]
    if any(cell is None for row in shown.table.rows for cell in row):
        marks.append(f"{MISSING}: not measured.")
    notes = [_paragraph(note) for note in shown.table.notes] + [" ".join(marks)] * bool(marks)
    wide = f"{max(shown.width, NARROWEST_NOTES):.0f}pt"
    return _minipage(notes, width=wide if shown.is_wide else r"\linewidth")


def _minipage(notes: Sequence[str], *, width: str) -> list[str]:
    if not notes:
        return []
    return [
        r"  \par\smallskip",
        rf"  \begin{{minipage}}{{{width}}}",
        r"    \fontsize{8}{9.6}\selectfont\raggedright",
        *(rf"    {note}\par" for note in notes),
        r"  \end{minipage}",
    ]
