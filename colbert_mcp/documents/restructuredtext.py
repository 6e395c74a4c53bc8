"""reStructuredText section titles, by the rules of the docutils specification. Knows only text.

docutils itself runs directives that read other files and gives no character offsets, so titles are found by their
adornment: a line of one punctuation character under (and perhaps also over) a title that it is at least as long as.
"""

import re

from colbert_mcp.documents.decoding import line_starts
from colbert_mcp.documents.outline import Heading, nest
from colbert_mcp.types import Section

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1*\Z")


def sections(text: str) -> list[Section]:
    """The sections of the document; levels follow the order in which adornment styles first appear."""
    starts = line_starts(text)
    lines = [text[a:b].rstrip() for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    levels: dict[tuple[str, bool], int] = {}
    headings = []
    last = -1  # the underline of the title before: neither text nor the overline of the next
    for number in range(1, len(lines)):
        title, under = lines[number - 1], lines[number]
        if not _is_title(title, under):
            continue
        above = lines[number - 2] if number >= 2 and number - 2 != last else ""
        over = above == under
        if not over and above:
            continue  # text directly above: a paragraph's last line or a table, not a title
        if not over and title[0].isspace():
            continue
        last = number
        level = levels.setdefault((under[0], over), len(levels))
        body = starts[number + 1] if number + 1 < len(starts) else len(text)
        headings.append(Heading(starts[number - 2 if over else number - 1], body, level, title.strip()))
    return nest(headings, len(text))


def _is_title(title: str, under: str) -> bool:
    return (
        len(under) >= max(2, min(4, len(title)))
        and len(under) >= len(title.strip())
        and bool(title.strip())
        and _ADORNMENT.match(under) is not None
        and _ADORNMENT.match(title) is None
    )
