"""One docstring, tidied: a summary, and a plain-text body that does not give the summary away."""

import inspect
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest

QUERY_CHARACTERS = (25, 200)
QUERY_WORDS = 3
PASSAGE_CHARACTERS = (150, 2000)
HOLE = "\ue000"
"""Stands where a docstring's source has a placeholder that only running it would fill."""

_PLACEHOLDER = re.compile(
    r"%\(\w+\)[srd]"  # %(name)s
    r"|\$\{[A-Z_]+\}"  # ${NAME}
    r"|(?<![\\\w}^$])\{[A-Za-z]{2}[A-Za-z_]*\}(?!\})"  # {name}, but not the braces of LaTeX
)
_HOLES_ONLY = re.compile(rf"[\W_]*{HOLE}[\W_]*$")
_HOLE_BEFORE_SENTENCE = re.compile(rf"^(\s*){HOLE}\s+(?=[A-Z])")
_NO_WORDS = re.compile(r"[\W_]*$")
_UNDERLINE = re.compile(r"\s*([-=~^\"'*#+])\1{2,}\s*$")
_SIGNATURE = re.compile(
    r"(?:class )?[\w.]+\(.*\)(?:\s*->.*)?(?:\\| --)?$"  # f(x) -> y
    r"|.*\) ?-> ?[\w\[\], .|()]+$"  # the last line of a long one
    r"|--$"  # what CPython wants below one
)
_DIRECTIVE = re.compile(
    r"\s*\.\. *(\[?[\w:+-]+?\]?)(?: ?::| |$) ?(.*)$"
)  # also comments, footnotes
_DROPPED_BLOCK = re.compile(r"\s*(?:See also|References?)\s*:{1,2}\s*$", re.I)
_EMPTY_MARKUP = re.compile(r"\s*(?::[a-z-]+:\s*|</?[A-Z]\w*[^>]*>\s*|Examples?:{0,2}\s*)$")
_FIELD = re.compile(r"(\s*)[:@](?:param|arg|type|returns?|rtype|raises?|keyword|var)\b ?([^:]*):")
_NEW_BLOCK = re.compile(
    r"\s*(?:[-*+] |[#\d]+[.)] |[:@](?:param|type|return|raise)"
    r"|(?:Arg(?:ument)?s|Param(?:eter)?s|Inputs?|Shape|Returns?|Yields|Raises|Notes?|Warnings?) ?:)"
)
_KEPT_DIRECTIVES = {
    *("admonition", "attention", "caution", "danger", "hint", "important", "math", "note", "tip"),
    *("topic", "warning"),
}
_DROPPED_SECTIONS = {"see also", "references", "methods"}
_SILENT_HEADINGS = {"description", "example", "examples", "explanation", "notes"}
_SENTENCE_END = re.compile(
    r"(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)(?<!cf\.)(?<!al\.)(?<!\b[A-Z]\.)(?<=[.!?])\s+(?=[A-Z\"'(*])"
)
_NOT_A_SUMMARY = re.compile(
    r"(?:alias|deprecated|examples?|notes?|see|todo|usage|warning)\b|\W*\w+ ?(?:\(.*\))? ?:", re.I
)
_IDENTIFIER = re.compile(r"[a-z\d][_A-Z\d]")
_INLINE = (
    (re.compile(r":[\w:+-]+:`~(?:[\w.]*\.)?([^`<>]+)`"), r"\1"),  # :class:`~a.b.C` -> C
    (re.compile(r":[\w:+-]+:`([^`<>]+?)\s*<[^`]*>`"), r"\1"),  # :ref:`text <target>` -> text
    (re.compile(r":[\w:+-]+:`!?([^`]*)`"), r"\1"),  # :func:`f` -> f
    (re.compile(r"`([^`<>]+?)\s*<[^`<>]+>`__?"), r"\1"),  # `text <url>`_ -> text
    (re.compile(r"!?\[([^\[\]]+)\]\([^()\s]*\)"), r"\1"),  # [text](url) -> text
    (re.compile(r"\[(`[^`\[\]]+`)\]"), r"\1"),  # [`Class`] -> `Class`
    (re.compile(r"(\[[\w#*+-]+\])_"), r"\1"),  # a footnote mark
    (re.compile(r"`{1,3}~?([^`]*)`{1,3}_{0,2}"), r"\1"),
    (re.compile(r"(?<![\w*\\^])(\*{1,2})(?=[^\s*])([^*]+?)(?<=[^\s*])\1(?![\w*])"), r"\2"),
    (re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.S), " "),  # tables of LaTeX
    (re.compile(r"\\([*_`|])"), r"\1"),
    (re.compile(r"(?<=\w)\\ (?=\w)"), ""),  # `i`\ th
    (re.compile(r"::(?=\s|$)"), ":"),
    (re.compile(r"^\s*#+ ", re.M), ""),
)


def normalised(text: str) -> str:
    """The lowercase letters and digits of a text, its words one space apart."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def query_and_passage(docstring: str, name: str) -> tuple[str, str] | None:
    """A docstring's summary, and the rest of it without what gives the summary away.

    Both are plain text on one line. The query is the first sentence of the first paragraph, or more
    of it where that is short: ``QUERY_CHARACTERS`` long, of ``QUERY_WORDS`` words or more. The
    passage has a length within ``PASSAGE_CHARACTERS``, cut between words, and never holds the
    ``normalised`` query.

    Dropped from both: signatures, code, notes on versions, tables of LaTeX, and the sections "See
    Also", "Methods" and "References", which hold other objects' summaries and papers' titles.

    Args:
        docstring: As in the source, with ``HOLE`` for what is unknown before running it.
        name: The documented object's own name, which ``without_give_aways`` treats.

    Returns:
        None where the summary or the rest is missing or of another length, or where a placeholder
        stands within a sentence: ``{name}``, ``%(name)s``, ``HOLE``. One that fills a whole line is
        a piece that other docstrings share, and is dropped.
    """
    lines = _prose(_PLACEHOLDER.sub(HOLE, inspect.cleandoc(docstring)).splitlines())
    if any(HOLE in line for line in lines):
        return None
    paragraph, rest = _first_paragraph(lines)
    query, remainder = _first_sentence(_plain(paragraph))
    if not _is_summary(query):
        return None
    body = without_give_aways(f"{remainder} {_plain(rest)}", query, name)
    passage = _shortened(body, PASSAGE_CHARACTERS[1])
    if len(passage) < PASSAGE_CHARACTERS[0] or normalised(query) in normalised(passage):
        return None
    return query, passage


def without_give_aways(body: str, query: str, name: str) -> str:
    """A body without repeats of the query, and without the object's name where the query holds it.

    A repeat has the query's words in the same order, whatever the case and punctuation. A name is
    struck with the modules and classes before it, and only if it looks like one (``lu_factor``,
    ``Conv2d``): "add" and "solve" are words of the language, and no give-away.
    """
    needle = normalised(query)
    words = r"[\W_]+".join(needle.split())
    before = ""
    while needle and before != body and needle in normalised(body):
        before, body = body, re.sub(rf"(?<![^\W_]){words}(?![^\W_])[.:]?", " ", body, flags=re.I)
    if _IDENTIFIER.search(name) and re.search(rf"\b{re.escape(name)}\b", query):
        body = re.sub(rf"(?:\b\w+\.)*\b{re.escape(name)}\b(?:\(\))?", "", body)
    return " ".join(body.split())


def _prose(lines: list[str]) -> list[str]:
    """The lines that are text, without signatures, code, directives and dropped sections."""
    marked = (_HOLE_BEFORE_SENTENCE.sub(r"\1", line) for line in lines)
    whole = [line for line in marked if not _HOLES_ONLY.match(line)]
    text = _without_directives(_without_code(_without_sections(_without_signature(whole))))
    return [line for line in text if not _HOLES_ONLY.match(line)]


def _without_signature(lines: list[str]) -> list[str]:
    """The lines after leading signatures, each of which fills a line or a paragraph."""
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and lines[end].strip():
            end += 1
        if end == start or _SIGNATURE.match(lines[start]):
            start += 1
        elif _SIGNATURE.match(" ".join(lines[start:end])):
            start = end
        else:
            break
    return lines[start:]


def _without_sections(lines: list[str]) -> Iterator[str]:
    """Lines without the dropped sections; an underlined heading becomes ``Heading:``."""
    kept = True
    for line, below in zip_longest(lines, lines[1:], fillvalue=""):
        if _UNDERLINE.match(below) and not _NO_WORDS.match(line):
            heading = line.strip().rstrip(":")
            kept = heading.lower() not in _DROPPED_SECTIONS
            silent = not kept or heading.lower() in _SILENT_HEADINGS
            yield from ("", "" if silent else f"{heading}:")
        elif kept:
            yield line


def _without_code(lines: Iterable[str]) -> list[str]:
    """Lines without doctests, fenced code, and the short paragraphs that announce them."""
    kept: list[str] = []
    fenced = doctest = False
    for line in lines:
        text = line.strip()
        begins = not (fenced or doctest) and text.startswith((">>>", "```"))
        if begins:
            _drop_announcement(kept)
        doctest = bool(text) and (doctest or (begins and text.startswith(">>>")))
        if text.startswith("```"):
            fenced = begins and not text.endswith("```", 3)
        elif not (fenced or doctest):
            kept.append(line)
    return kept


def _drop_announcement(kept: list[str]) -> None:
    """Take off the last paragraph if it ends in a colon, is short, even, and not the first."""
    end = len(kept)
    while end and not kept[end - 1].strip():
        end -= 1
    start = end
    while start and kept[start - 1].strip():
        start -= 1
    indents = {_indent(line) for line in kept[start:end]}
    if start and end - start <= 3 and len(indents) == 1 and kept[end - 1].rstrip().endswith(":"):
        del kept[start:]


def _without_directives(lines: Iterable[str]) -> Iterator[str]:
    """Lines without directives, except the text of notes and the like, and without rulers."""
    dropped_below: int | None = None
    for line in lines:
        if dropped_below is not None and (not line.strip() or _indent(line) > dropped_below):
            continue
        dropped_below = None
        directive = _DIRECTIVE.match(line)
        if directive and directive[1] in _KEPT_DIRECTIVES:
            yield from ("", directive[2])
        elif directive or _DROPPED_BLOCK.match(line):
            dropped_below = _indent(line)
            yield ""
        elif not line.strip() or HOLE in line:
            yield line
        elif not (_EMPTY_MARKUP.match(line) or _NO_WORDS.match(line)):
            yield _FIELD.sub(r"\1\2:", line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _first_paragraph(lines: list[str]) -> tuple[str, str]:
    """The lines up to a blank one or the start of a list, and those after it."""
    start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    end = start + 1
    while end < len(lines) and lines[end].strip() and not _NEW_BLOCK.match(lines[end]):
        end += 1
    return "\n".join(lines[start:end]), "\n".join(lines[end:])


def _first_sentence(paragraph: str) -> tuple[str, str]:
    """The sentences of a paragraph up to the first end that makes a query, and the rest."""
    for cut in _SENTENCE_END.finditer(paragraph):
        if cut.start() >= QUERY_CHARACTERS[0]:
            return paragraph[: cut.start()], paragraph[cut.end() :]
    return paragraph.rstrip(": "), ""


def _is_summary(text: str) -> bool:
    return (
        QUERY_CHARACTERS[0] <= len(text) <= QUERY_CHARACTERS[1]
        and len(re.findall(r"[^\W\d_]{2,}", text)) >= QUERY_WORDS
        and not _NOT_A_SUMMARY.match(text)
    )


def _plain(text: str) -> str:
    """Text without the marks of reST and Markdown, on one line."""
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _shortened(text: str, characters: int) -> str:
    """As many whole words as fit."""
    if len(text) <= characters:
        return text
    return text[: characters + 1].rpartition(" ")[0] or text[:characters]
