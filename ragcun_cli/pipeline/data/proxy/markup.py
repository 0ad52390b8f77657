"""The title and the sections of a text: of HTML, of Markdown, and of text without marks."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple

from markdown_it import MarkdownIt

_UNSEEN = {"script", "style", "template", "noscript", "svg", "title"}
_HEADING = re.compile(r"h([1-6])")
_INLINE = re.compile(
    "a|abbr|b|bdi|bdo|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|q|s|samp|small|span|"
    "strong|sub|sup|time|tt|u|var|wbr"
)
"""Elements that end no line; all others do."""

_FRONT = re.compile(r"\A---\s*\n(?P<lines>.*?)\n(?:---|\.\.\.)\s*\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"""^title:\s*["']?(.+?)["']?\s*$""", re.MULTILINE)


class TextSection(NamedTuple):
    """A text and the headings above it, the outermost first."""

    path: tuple[str, ...]
    text: str
    """Paragraphs, a line each."""


class _Reader(HTMLParser):
    """Collects lines under headings."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[TextSection] = []
        self.title = ""
        self._path: dict[int, str] = {}
        self._level = 0
        self._unseen: list[str] = []
        self._pieces: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _UNSEEN:
            self._unseen.append(tag)
        elif match := _HEADING.fullmatch(tag):
            self.end_section()
            self._level = int(match[1])
        elif not _INLINE.fullmatch(tag):
            self._pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]
        elif self._level and _HEADING.fullmatch(tag):
            self._end_heading()
        elif not _INLINE.fullmatch(tag):
            self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._pieces.append(data if self._level else data.replace("\n", " "))
        elif self._unseen == ["title"]:
            self.title = " ".join([*self.title.split(), *data.split()])

    def _end_heading(self) -> None:
        level, heading = self._level, " ".join("".join(self._pieces).split())
        self._path = {depth: said for depth, said in self._path.items() if depth < level}
        if heading:
            self._path[level] = heading
        self._pieces, self._level = [], 0

    def end_section(self) -> None:
        """Keep what stands under the last heading."""
        if self._level:  # a heading that nothing ends
            self._end_heading()
        if text := _lines("".join(self._pieces).split("\n")):
            self.sections.append(TextSection(tuple(self._path.values()), text))
        self._pieces = []


def _lines(paragraphs: list[str]) -> str:
    return "\n".join(filter(None, (" ".join(part.split()) for part in paragraphs)))


def read_html(text: str) -> tuple[str, list[TextSection]]:
    """Title and sections of a page: the title is its first heading, or what its head says."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    reader.end_section()
    first = next((section.path[0] for section in reader.sections if section.path), "")
    return first or reader.title, reader.sections


def read_markdown(text: str) -> tuple[str, list[TextSection]]:
    """Title and sections of CommonMark with tables; a title in front of the text wins."""
    front = _FRONT.match(text)
    said = _FRONT_TITLE.search(front["lines"]) if front else None
    body = text[front.end() :] if front else text
    title, sections = read_html(MarkdownIt("commonmark").enable("table").render(body))
    return said[1] if said else title, sections


def read_plain(text: str) -> tuple[str, list[TextSection]]:
    """A text without marks, which has no title: paragraphs are parted by blank lines."""
    found = _lines(re.split(r"\n\s*\n", text))
    return "", [TextSection((), found)] if found else []
