"""Hits of several models, side by side, as one web page that needs no network and no script."""

from collections.abc import Sequence
from string import ascii_uppercase

from ragcun_cli.pipeline.evaluation.looked import HITS, Looked
from ragcun_cli.pipeline.report.formats.html_page import filled


def render_hits(found: Sequence[Looked], *, title: str) -> str:
    """The page of one query or of several, the same bytes for the same arguments.

    Args:
        found: of the same models; each has a letter, which stands for it beside the passages of
            the others.
        title: title and first heading of the page.
    """
    letters = dict(zip(found[0].hits, ascii_uppercase, strict=False)) if found else {}
    return filled("hits.html.jinja", title=title, found=found, letters=letters, most=HITS)
