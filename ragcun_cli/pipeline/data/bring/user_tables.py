"""Store a table of queries with their positives, and perhaps negatives: JSONL, CSV or TSV."""

from __future__ import annotations

import csv
import hashlib
import re
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ragcun_cli.core.draw import HELD_OUT, smallest
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.beir import Qrels
from ragcun_cli.pipeline.data.sets.corpus import Passage
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import (
    LONGEST_LINE,
    Notes,
    json_of,
    quoted,
    read_lines,
    read_objects,
    text_of,
    unpacked,
)
from ragcun_cli.spec.errors import DataError

_QUERY, _ANCHOR, _POSITIVE, _NEGATIVES = "query", "anchor", "positive", "negatives"
_NEGATIVE = re.compile(r"negatives?|negative_[0-9]+")
_PAIR = ("query, positive, negative, negatives or negative_1", "query=question,positive=answer")
"""What stands on the left of --columns, and an example."""


class _Tabbed(csv.excel_tab):
    quoting = csv.QUOTE_NONE


_DIALECTS: dict[str, type[csv.Dialect]] = {".csv": csv.excel, ".tsv": _Tabbed}
"""Quotes of a TSV are text: MS MARCO's and those of most tools are not quoted at all."""

_REASONS = {
    "expected after": "a cell that begins with a quote goes on after the quote that ends it",
    "unexpected end": "a cell begins with a quote, and none ends it",
    "new-line": r"a line ends with \r alone, as on an old Macintosh",
}
"""What the csv module says, and what it means."""

_COLUMNS_TOLD, _MOST_COLUMNS = 10, 10_000


class _Row(NamedTuple):
    line: int
    query: str
    positives: list[str]
    negatives: list[str]


def store_table(
    file: Path,
    draft: Path,
    *,
    dev_queries: int = 0,
    test_queries: int = 0,
    seed: int = 1,
    columns: str = "",
) -> storing.Counts:
    """Store a table as a data set, and return its size.

    Equal queries are one query, and equal passages one passage. Ids are made of the texts, so that
    what is stored does not depend on the order of the rows. Positives have grade 1, negatives 0.

    Args:
        file: ``.jsonl``, ``.csv`` or ``.tsv``, perhaps with ``.gz`` after it, with ``query`` (or
            ``anchor``), ``positive`` and any of ``negative``, ``negatives``, ``negative_1``, ... In
            JSONL each but the query is a text or a list of texts; in CSV and TSV, which name their
            columns in the first line, ``negatives`` may be a JSON list. A TSV is not quoted.
        draft: where the set goes. The file is read twice; memory holds queries and judgements.
        dev_queries: that leave the training split for ``dev``, chosen by seed and text.
        test_queries: that leave it for ``test``; they are chosen first.
        seed: of that choice.
        columns: what the file calls them: ``query=question,positive=answer``.

    Raises:
        DataError: a line is malformed, a column is missing, or no query is left to train on.
    """
    notes, names = Notes(), own_names(columns)
    queries, judged = _read_judged(file, names, notes)
    splits = _split(file, judged, {"test": test_queries, "dev": dev_queries}, seed)
    passages = _passages(_rows(file, names, Notes()))  # what there is to note was noted
    write_corpus(passages, draft, source=file, notes=notes)
    beir.write_judged(draft, queries=queries, splits=splits)
    return storing.check(draft, notes=notes)


def own_names(
    columns: str, known: str = rf"query|positive|{_NEGATIVE.pattern}", said: Sequence[str] = _PAIR
) -> dict[str, str]:
    """Name of a column in a file -> what it is, of ``query=question,positive=answer``.

    Args:
        columns: as a person types it.
        known: pattern of what may stand on the left.
        said: that in words, and an example.

    Raises:
        DataError: it cannot be read.
    """
    names: dict[str, str] = {}
    for part in filter(None, columns.split(",")):
        own, _, name = (text.strip() for text in part.partition("="))
        fits = re.fullmatch(known, own)
        if not fits or not name or name in names or own in names.values():
            raise DataError(
                f"--columns cannot read '{part}': on the left stands {said[0]}, on the right a "
                "column of the table, each once",
                hint=f"--columns {said[1]}",
            )
        names[name] = own
    return names


def _named(row: Mapping[str, object], names: Mapping[str, str]) -> Mapping[str, object]:
    """A row with the names that ragcun reads; what has such a name and is not meant goes."""
    if not names:
        return row
    taken = names.values()
    return {names.get(key, key): row[key] for key in row if key in names or key not in taken}


def text_id(kind: str, text: str) -> str:
    """An id that is made of the text alone, after a letter for what it is."""
    return kind + hashlib.sha256(text.encode()).hexdigest()[:16]


def _passages(rows: Iterator[_Row]) -> Iterator[Passage]:
    for row in rows:
        for text in chain(row.positives, row.negatives):
            yield Passage(text_id("p", text), "", text, row.line)


def _read_judged(
    file: Path, names: Mapping[str, str], notes: Notes
) -> tuple[dict[str, str], Qrels]:
    """The texts and the judgements of all queries, both in the order of ids."""
    queries: dict[str, str] = {}
    qrels: Qrels = {}
    for row in _rows(file, names, notes):
        query = text_id("q", row.query)
        if query in queries:
            notes.add(file, "a query that stands in several rows, taken as one")
        queries[query] = row.query
        judged = qrels.setdefault(query, {})
        for grade, texts in ((1, row.positives), (0, row.negatives)):
            for text in texts:
                _judge(judged, text_id("p", text), grade, file, notes)
    if not queries:
        raise DataError(
            f"{file}: there are no rows",
            hint="the line query,positive and, below it, a row for each query with a passage that "
            'answers it; in JSONL {"query": "…", "positive": "…"} on each line',
        )
    ordered = sorted(queries)
    return (
        {query: queries[query] for query in ordered},
        {query: dict(sorted(qrels[query].items())) for query in ordered},
    )


def _judge(judged: dict[str, int], passage: str, grade: int, file: Path, notes: Notes) -> None:
    known = judged.get(passage)
    if known == grade:
        notes.add(file, "a query and a passage that stand together twice, kept once")
    elif known is not None:
        notes.add(file, "a passage is both positive and negative for a query, taken as positive")
    judged[passage] = max(grade, known or 0)


def _split(file: Path, qrels: Qrels, held_out: Mapping[str, int], seed: int) -> dict[str, Qrels]:
    """Split -> judgements; queries are held out by the digest of seed and id, smallest first."""
    if sum(held_out.values()) >= len(qrels):
        wanted = " and ".join(f"{count:,} for {split}" for split, count in held_out.items())
        raise DataError(
            f"{file} has {len(qrels):,} queries; {wanted} leave none to train on",
            hint=f"--test-queries and --dev-queries of {len(qrels) - 1} together, or less",
        )
    drawn = smallest(HELD_OUT, qrels, len(qrels), seed=seed)
    split_of = dict.fromkeys(qrels, "train")
    for split, count in held_out.items():
        split_of.update(dict.fromkeys(drawn[:count], split))
        drawn = drawn[count:]
    splits: dict[str, Qrels] = {}
    for query, judged in qrels.items():
        splits.setdefault(split_of[query], {})[query] = judged
    return splits


def read_table(
    file: Path,
    names: Mapping[str, str],
    notes: Notes,
    *,
    needed: Sequence[str] = (_QUERY, _POSITIVE),
) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Number and values, by what its columns are, of each row of a JSONL, CSV or TSV file.

    Args:
        file: perhaps with ``.gz`` after its name.
        names: of its columns, by `own_names`.
        notes: told of what is harmless.
        needed: what a header has to name.

    Raises:
        DataError: it is no such file, a line is malformed or a column is missing.
    """
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
    if suffix == ".jsonl":
        rows: Iterator[tuple[int, Mapping[str, object]]] = read_objects(file, notes)
    elif suffix in _DIALECTS:
        rows = _read_cells(file, suffix, names, notes, needed)
    else:
        raise DataError(f"{file} is no table: its name has to end in .jsonl, .csv or .tsv")
    for number, read in rows:
        for name, own in names.items():
            if own in needed and name not in read:
                raise _no_column(file, number, name, list(read))
        yield number, _named(read, names)


def _rows(file: Path, names: Mapping[str, str], notes: Notes) -> Iterator[_Row]:
    """The rows of a table, in its order."""
    told: set[str] = set()
    for number, row in read_table(file, names, notes):
        _tell_columns(row, told, file, notes)
        query = _query(row, number, file, notes)
        positives = _texts(row, _POSITIVE, number, file, notes)
        if not positives or not all(positives):
            raise _refused(file, number, f'"{_POSITIVE}" is empty')
        columns = [name for name in row if _NEGATIVE.fullmatch(name)]
        negatives = [_texts(row, name, number, file, notes) for name in columns]
        yield _Row(number, query, positives, list(filter(None, chain.from_iterable(negatives))))


def _query_column(names: Container[str]) -> str:
    return _ANCHOR if _ANCHOR in names and _QUERY not in names else _QUERY


def _tell_columns(row: Mapping[str, object], told: set[str], file: Path, notes: Notes) -> None:
    """Note the columns of a row that are not read; of a great many, the first."""
    query = _query_column(row)
    if query == _ANCHOR:
        notes.add(file, f'"{_ANCHOR}" is read as "{_QUERY}"', once=True)
    for name in row:
        if name in told or name in (query, _POSITIVE) or _NEGATIVE.fullmatch(name):
            continue
        if len(told) < _COLUMNS_TOLD:
            told.add(name)
            notes.add(file, f"column {name!r:.40} left out", once=True)
        else:
            notes.add(file, "more columns left out", once=True)


def _query(row: Mapping[str, object], number: int, file: Path, notes: Notes) -> str:
    column = _query_column(row)
    texts = _texts(row, column, number, file, notes)
    if isinstance(row[column], list):
        raise _refused(file, number, f'"{column}" is not a text')
    if not any(texts):
        raise _refused(file, number, f'"{column}" is empty')
    return texts[0]


def _texts(
    row: Mapping[str, object], column: str, number: int, file: Path, notes: Notes
) -> list[str]:
    """The texts of a column, stripped; none where it holds null."""
    if column not in row:
        example = '{"query": "a question", "positive": "what answers it"}'
        raise DataError(f'{file}:{number}: no "{column}"', hint=f"a line such as {example}")
    value = row[column]
    values = value if isinstance(value, list) else [] if value is None else [value]
    texts = [text_of(text, file, notes, number).strip() for text in values if isinstance(text, str)]
    if len(texts) < len(values):
        raise _refused(file, number, f'"{column}" holds something that is not a text')
    return texts


def _refused(file: Path, number: int, what: str) -> DataError:
    return DataError(f"{file}:{number}: {what}", hint=quoted(file, number))


def _no_column(file: Path, number: int, name: str, there: Sequence[str]) -> DataError:
    listed = ", ".join(map(repr, there[:_COLUMNS_TOLD]))
    more = " and more" if len(there) > _COLUMNS_TOLD else ""
    return DataError(
        f"{file}:{number}: no column {name!r:.100}; these are: {listed:.1000}{more}",
        hint=quoted(file, number),
    )


def _read_cells(
    file: Path, suffix: str, names: Mapping[str, str], notes: Notes, needed: Sequence[str]
) -> Iterator[tuple[int, dict[str, object]]]:
    """Number and cells, by column, of each row under the header."""
    header: list[str] = []
    negatives = next((name for name in names if names[name] == _NEGATIVES), _NEGATIVES)
    for number, cells in _split_rows(file, suffix, notes):
        if suffix == ".tsv":
            _look_at_quotes(cells, number, file, notes, is_header=not header)
        if not header:
            header = _header(cells, number, file, names, needed)
            continue
        if not "".join(cells).strip():  # spreadsheets leave such rows at the end
            notes.add(file, "rows of empty cells left out")
            continue
        if len(cells) != len(header):
            told = f"expected {len(header)} cells, as in the header, got {len(cells)}"
            raise _refused(file, number, told)
        row: dict[str, object] = dict(zip(header, cells, strict=True))
        several = str(row.get(negatives, "")).strip()
        if several.startswith("["):
            row[negatives] = json_of(several, number, file, notes)
        yield number, row


def _look_at_quotes(
    cells: Sequence[str], number: int, file: Path, notes: Notes, *, is_header: bool
) -> None:
    """Refuse a TSV that some tool has quoted; say of other cells that their quote is kept."""
    for cell in (cell for cell in cells if cell.startswith('"')):
        inside = cell[1:-1] if cell.endswith('"') else '"'
        if is_header or ('""' in inside and '"' not in inside.replace('""', "")):
            target = shlex.quote(str(file.with_name(f"{file.name.partition('.')[0]}.csv")))
            command = 'csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, "excel-tab"))'
            raise DataError(
                f"{file}:{number}: {cell!r:.80} stands in quotes, and a TSV is not quoted",
                hint=f"{unpacked(file)} | python -c 'import csv, sys; {command}' > {target}",
            )
        what = "a cell begins with a quote, which is kept, as a TSV is not quoted"
        notes.add(file, what, line=number)


def _header(
    cells: Sequence[str], number: int, file: Path, names: Mapping[str, str], needed: Sequence[str]
) -> list[str]:
    header = [cell.strip() for cell in cells]
    if len(header) > _MOST_COLUMNS:
        told = f"{len(header):,} columns, of {_MOST_COLUMNS:,} allowed"
        raise _refused(file, number, told)
    for name in names:
        if name not in header:
            raise _no_column(file, number, name, header)
    known = {*_named(dict.fromkeys(header), names)}
    known |= {_QUERY} if _ANCHOR in known else set()
    if not known.issuperset(needed):
        more = "negative" if _QUERY in needed else "other"
        wanted = [*needed, *(f"{more}_{n}" for n in range(1, len(cells) - len(needed) + 1))]
        suffix = Path(file.name.lower().removesuffix(".gz")).suffix
        line = _DIALECTS[suffix].delimiter.join(wanted).replace("\t", r"\t")
        target = shlex.quote(str(file.with_name(f"with-header{suffix}")))
        raise DataError(
            f"{file}:{number}: expected a header with {' and '.join(needed)}, got {cells!r:.80}; "
            f"--columns {','.join(f'{name}=NAME' for name in needed)} takes columns of other names",
            hint=f"{{ printf '{line}\\n'; {unpacked(file)}; }} > {target}, if it has none",
        )
    twice = {name for name in header if header.count(name) > 1 and name}
    if twice:
        raise _refused(file, number, f"column '{min(twice)}' stands in the header twice")
    return header


def _split_rows(file: Path, suffix: str, notes: Notes) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line, and cells, of each row that is not blank."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    number, characters = 1, 0

    def lines() -> Iterator[str]:
        nonlocal characters
        for _, line in read_lines(file, notes, keep_blank=True):
            characters += len(line)
            if characters > LONGEST_LINE:
                told = f"the row has more than {LONGEST_LINE:,} characters"
                raise _refused(file, number, f"{told}; does a quote begin that none ends?")
            yield f"{line}\n"

    reader = csv.reader(lines(), _DIALECTS[suffix], strict=True)
    while True:
        number, characters = reader.line_num + 1, 0
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _malformed(file, number, reader.line_num, str(error)) from error
        if cells is None:
            return
        if len(cells) < 2 and not "".join(cells).strip():
            notes.add(file, "blank lines left out")
            continue
        if reader.line_num > number:
            what = "a row that goes over several lines, as its quotes say"
            notes.add(file, what, line=number)
        yield number, cells


def _malformed(file: Path, first: int, last: int, reason: str) -> DataError:
    said = next((ours for theirs, ours in _REASONS.items() if theirs in reason), reason)
    return DataError(
        f"{file}:{first}: {said}" + (f" (read up to line {last})" if last > first else ""),
        hint=quoted(file, first, "\r" if "new-line" in reason else ""),
    )
