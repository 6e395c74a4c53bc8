"""Pieces of what a terminal shows. Everything that an index may hold is escaped, since a terminal obeys it."""

import re

from colbert_mcp.render.escaping import visible
from colbert_mcp.results import Passage, QuoteMatch


def safe(text: str) -> str:
    """Text without anything that a terminal would obey or break at."""
    return visible(text, keep="")


def one_line(text: str) -> str:
    """The same on one line."""
    return safe(" ".join(text.split()))


def indented(text: str) -> str:
    """Text with its lines and tabs, indented."""
    return "\n".join(f"   {visible(line, keep=chr(9))}" for line in re.split(r"\r\n|\n|\r", text))


def counted(number: int, what: str) -> str:
    """A number with what it counts."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def megabytes(count: int) -> str:
    """A number of bytes."""
    return f"{count / 1e6:,.1f} MB"


def place(cited: Passage | QuoteMatch) -> str:
    """Path and line; where text was taken out page by page or cell by cell, the page or cell instead."""
    if cited.page is not None or cited.cell is not None:
        return f"{safe(cited.path)}, " + (f"page {cited.page}" if cited.page is not None else f"cell {cited.cell}")
    return f"{safe(cited.path)}:{cited.line_start}"


def standing(passage: Passage) -> str:
    """Whether the source still says so, where it does not."""
    if passage.status == "current":
        return ""
    return safe(f"  [{passage.status}{': ' + passage.status_reason if passage.status_reason else ''}]")


def reasoned(status: str | None, reason: str | None) -> str:
    """A status with its reason."""
    return f"{status}: {reason}" if reason else str(status)
