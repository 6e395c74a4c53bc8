"""What cites for the text below it: a heading, the item around a list, or the text that introduces it with a colon.

A title is nothing but a citation (``### docs/setup.md``, ``**[Setup](docs/setup.md)**``), or ends in a sentence that
names one and in a colon. Knows units and their citations.
"""

from collections.abc import Callable
from typing import TypeAlias

import regex

from colbert_mcp.quoting.answer_units import Unit, masked
from colbert_mcp.quoting.attribution import Citation, Citations, only_opens
from colbert_mcp.quoting.quotation_marks import quotation_marks

CitedIn: TypeAlias = Callable[[str], list[Citation]]
_LONGEST = 1_000
_COLON = regex.compile(r"[:：][\s*_]*\Z")
_BOLD = regex.compile(r"\*\*(?!Sources?:)[^*]*\*\*\s*", regex.IGNORECASE)
_NUMBER = regex.compile(r"[\s*_]*(?:\d{1,3}[.)]\s)?")
_END = regex.compile(r"[\s)\]*_.]*+(?:\Z|[:：(,§—–][^\n]{0,80}\Z)")


class Titles:
    """The titles above the unit at hand; units are taken in order."""

    def __init__(self, cited_in: CitedIn) -> None:
        self._cited_in = cited_in
        self._heading: Citation | None = None
        self._last: tuple[int, ...] = ()
        self._above: dict[tuple[int, ...], Citation] = {}

    def of(self, items: tuple[int, ...]) -> Citation | None:
        """The nearest title of what comes next, in these list items: text beside it is one for what follows at once."""
        levels = (items[:depth] for depth in range(len(items) - (items != self._last), -1, -1))
        return next((self._above[level] for level in levels if level in self._above), self._heading)

    def take(self, unit: Unit, *, quotes: bool) -> None:
        """Go on to a unit that is no block quote; ``quotes``: it has quotations or follows some, so that a
        citation alone is theirs.
        """
        self._last = unit.items
        if unit.is_heading:
            self._heading = only_cites(unit.text, self._cited_in)
            self._above.clear()
            return
        found = None
        if introduces(unit.text):
            found = introducing(unit.text, self._cited_in, far=False)
        elif not quotes or is_title(unit.text):
            found = only_cites(unit.text, self._cited_in)
        if found:
            self._above[unit.items] = found
        else:
            self._above.pop(unit.items, None)


def introduces(text: str) -> bool:
    """Whether a text ends in a colon."""
    return _COLON.search(text, max(0, len(text) - 20)) is not None


def is_title(text: str) -> bool:
    """Whether a text is about what follows, and not about what stands before it: it ends in a colon, or all is bold."""
    return introduces(text) or _BOLD.fullmatch(text) is not None


def introducing(text: str, cited_in: CitedIn, *, far: bool = True) -> Citation | None:
    """The citation of what a text introduces: the last of its last sentence, or (``far``) the last link before that."""
    plain = masked(text)
    cited = Citations(text, plain, cited_in(text), quotation_marks(plain).pairs)
    return cited.of(len(text), len(text), far=far)


def only_cites(text: str, cited_in: CitedIn) -> Citation | None:
    """The citation of which a text is made, but for a number before it and a remark behind it."""
    first = next(iter(cited_in(text)), None) if len(text) <= _LONGEST else None
    if first is None or not only_opens(text, _NUMBER.match(text).end(), first.start):
        return None
    return first if _END.match(text, first.end) else None
