"""Markdown headings (CommonMark), front matter left alone. Knows only text."""

import re
from itertools import pairwise

from markdown_it import MarkdownIt

from colbert_mcp.documents.decoding import line_starts
from colbert_mcp.documents.outline import Heading, nest
from colbert_mcp.types import Section

# Block structure is all that is needed; inline parsing is most of the cost.
_PARSER = MarkdownIt("commonmark").disable(["inline"])
_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*(?:\r\n|\n|\r)(?:.*?(?:\r\n|\n|\r))??\1[ \t]*(?=\r|\n|\Z)", re.DOTALL)


def sections(text: str) -> list[Section]:
    """The sections opened by ATX and setext headings that stand at the top level of the document."""
    return nest(headings(text), len(text))


def headings(text: str) -> list[Heading]:
    """Those headings, in order."""
    starts = line_starts(text)
    tokens = _PARSER.parse(_without_front_matter(text))
    found = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map:
            first, after = token.map
            body = starts[after] if after < len(starts) else len(text)
            found.append(Heading(starts[first], body, int(token.tag[1:]), inline.content.strip()))
    return found


def _without_front_matter(text: str) -> str:
    """Blank the front matter line by line: its closing ``---`` would read as a setext heading."""
    return _FRONT_MATTER.sub(lambda match: "\n" * (len(line_starts(match.group())) - 1), text, count=1)
