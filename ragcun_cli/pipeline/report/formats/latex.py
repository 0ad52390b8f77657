r"""Tables for a paper, in the style of ``booktabs``, and its figures.

The text compiles with pdfLaTeX, LuaLaTeX and XeLaTeX and the two packages its first line names.
pdfLaTeX sets Latin and Greek letters and the common signs; other scripts need one of the others.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ragcun_cli.pipeline.report.figure import Drawing
from ragcun_cli.pipeline.report.table import (
    Cell,
    Column,
    Table,
    WithDeviation,
    WithInterval,
    best_cells,
    cell_parts,
    cell_text,
    column_align,
    legend,
    one_line,
)
from ragcun_cli.spec.paths import FIGURES

PACKAGES = r"% Needs \usepackage{booktabs} and \usepackage{graphicx}."
MISSING = "--"

# A table with more letters on a line spans both columns of a two-column paper; one with fewer
# fits a column of it, shrunk to no less than about four fifths.
LETTERS_PER_LINE = 56
# A longer heading over a wide table is set on two lines.
LETTERS_PER_HEADING = 8

# Box 2 holds the tabular: it is shrunk where it is wider than the line, never enlarged, and the
# notes are as wide as it is shown.
WIDTH = r"\ifdim\wd2>\linewidth\linewidth\else\wd2\fi"

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
    | {"`": r"\textquoteleft{}", "\N{MINUS SIGN}": "$-$", "°": r"$^\circ$", "†": r"$^\dagger$"}
)


def render_latex(
    tables: Sequence[Table],
    figures: Sequence[Drawing] = (),
    *,
    generated_from: str | None = None,
) -> str:
    r"""A float for each table and figure, to be read with ``\input``.

    Files of figures are named from the document's own folder; elsewhere ``\graphicspath`` helps.

    Args:
        tables: in the order to print.
        figures: after the tables.
        generated_from: one line of comment that says what the numbers come from.
    """
    comment = [f"% {one_line(generated_from)}"] if generated_from else []
    floats = [*map(_float, tables), *map(_figure, figures)]
    return "\n".join([PACKAGES, *comment]) + "\n" + "".join(f"\n{text}\n" for text in floats)


def as_latex(text: str) -> str:
    """The text on one line, set as it reads: no commands, and no ligatures such as ``--``."""
    return re.sub(r"([-'])(?=\1)", r"\1{}", one_line(text).translate(_ESCAPES))


def _float(table: Table) -> str:
    is_wide = _letters(table) > LETTERS_PER_LINE
    environment = "table*" if is_wide else "table"
    lines = [
        rf"\begin{{{environment}}}[t]",
        r"  \centering",
        r"  \setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{5pt}",
        rf"  \caption{{{as_latex(table.caption)}}}",
        rf"  \label{{tab:{table.key}}}",
        r"  \small\setlength{\tabcolsep}{4pt}" if is_wide else r"  \small",
        r"  \sbox2{%",
        *_tabular(table, is_wide=is_wide),
        "  }",
        rf"  \resizebox{{{WIDTH}}}{{!}}{{\usebox2}}",
        *_notes(table),
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines)


def _figure(figure: Drawing) -> str:
    lines = [
        r"\begin{figure}[t]",
        r"  \centering",
        rf"  \includegraphics[width=\linewidth]{{{FIGURES}/{figure.key}.pdf}}",
        rf"  \caption{{{as_latex(figure.caption)}}}",
        rf"  \label{{fig:{figure.key}}}",
        *_minipage([as_latex(note) for note in figure.notes], width=r"\linewidth"),
        r"\end{figure}",
    ]
    return "\n".join(lines)


def _letters(table: Table) -> int:
    """Letters on the widest line of the table, two blanks between its columns."""
    widths = [
        max([len(column.label), *(len(cell_text(column, row[index])) for row in table.rows)])
        for index, column in enumerate(table.columns)
    ]
    return sum(widths) + 2 * (len(widths) - 1)


def _tabular(table: Table, *, is_wide: bool) -> list[str]:
    best = best_cells(table)
    slots = [_Slot.of(table, index) for index in range(len(table.columns))]
    headings = [
        slot.across(_heading(column.label, slot.place, is_wide=is_wide))
        for column, slot in zip(table.columns, slots, strict=True)
    ]
    rows = [
        [
            _cell(column, cell, slot, bold=(number, index) in best, dagger=table.dagger(row, index))
            for index, (column, cell, slot) in enumerate(
                zip(table.columns, row, slots, strict=True)
            )
        ]
        for number, row in enumerate(table.rows)
    ]
    return [
        rf"    \begin{{tabular}}{{@{{}}{''.join(slot.preamble for slot in slots)}@{{}}}}",
        r"      \toprule",
        f"      {_row(headings)}",
        r"      \midrule",
        *(f"      {_row(cells)}" for cells in rows),
        r"      \bottomrule",
        r"    \end{tabular}%",
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


def _heading(label: str, place: str, *, is_wide: bool) -> str:
    """The label, over two lines if it is long and has a place to break near its middle."""
    label = one_line(label)
    breaks = [match.end() for match in re.finditer(r"[ -](?=[^ -])", label)]
    if not is_wide or len(label) <= LETTERS_PER_HEADING or not breaks:
        return as_latex(label)
    middle = min(breaks, key=lambda at: abs(2 * at - len(label)))
    lines = rf"{as_latex(label[:middle])}\\{as_latex(label[middle:])}"
    return rf"\begin{{tabular}}[b]{{@{{}}{place}@{{}}}}{lines}\end{{tabular}}"


def _cell(column: Column, cell: Cell, slot: _Slot, *, bold: bool, dagger: str) -> str:
    if cell is None:
        return slot.across(MISSING)
    main, detail = cell_parts(column, cell)
    if isinstance(cell, str):
        return slot.across(as_latex(main))
    main = as_latex(dagger + main)
    main = rf"\textbf{{{main}}}" if bold else main
    if not slot.is_pair:
        return main
    # The row begins with a text, so the brackets of an interval need no guard here.
    detail = detail.replace("± ", r"$\pm$").replace("\N{MINUS SIGN}", "$-$")
    return rf"{main} & {{\scriptsize {detail}}}" if detail else f"{main} &"


def _notes(table: Table) -> list[str]:
    """The table's own notes, then what its marks mean."""
    marks = [as_latex(sentence) for sentence in legend([table])]
    if any(cell is None for row in table.rows for cell in row):
        marks.append(f"{MISSING}: not measured.")
    notes = [as_latex(note).replace("/", r"/\allowbreak{}") for note in table.notes]  # addresses
    notes += [" ".join(marks)] * bool(marks)
    return _minipage(notes, width=WIDTH)


def _minipage(notes: Sequence[str], *, width: str) -> list[str]:
    if not notes:
        return []
    return [
        r"  \par\smallskip",
        rf"  \begin{{minipage}}{{{width}}}",
        r"    \footnotesize\raggedright",
        *(rf"    {note}\par" for note in notes),
        r"  \end{minipage}",
    ]
