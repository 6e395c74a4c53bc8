"""Which indexed files a path or its end names (``docs/setup.md``), and which place in them (``#cell=3``, ``:12``).

A place is taken as loosely as people write it: lines name the passages that they touch, and a place of a kind that the
file does not have (a page of plain text, a line of a PDF) names nothing. Knows stored passages; nothing of quotes.
"""

import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from urllib.request import url2pathname

from colbert_mcp.citations import part_number
from colbert_mcp.documents import in_scope, real_path
from colbert_mcp.errors import PassageNotFoundError, UnreadableDocumentError
from colbert_mcp.quoting.file_names import PLACE_IN_WORDS
from colbert_mcp.store import Reader, StoredPassage
from colbert_mcp.types import EXTRACTED

_WHOLE = 2**62
_MOST_DIGITS = 20
# How many files of one name are looked at.
_MOST_FILES = 50
_PLACE = re.compile(rf"(?:#[^/#]*|:\d+(?:-\d+)?|{PLACE_IN_WORDS})\Z")
_NUMBERS = r"(\d+)(?:(?:[-–]|\.\.| to | and )L?(\d+))?"
_PART = re.compile(rf"(?:#|,? \(?)(?i:(p)(?:ages?|p?\.)|cells?)[= ]?{_NUMBERS}(?!\d)")
_LINES = re.compile(rf"(?:#L|:|,? \(?(?i:lines?|ll?\.|l) ?){_NUMBERS}\)?\Z")
_SCHEME = re.compile(r"\Afile:(?://(?:localhost)?(?=/))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CitedPlace:
    """A page, a cell, or lines ``first`` to ``last``, as a citation gives it."""

    kind: Literal["page", "cell", "line"]
    first: int
    last: int

    def __str__(self) -> str:
        if self.first == self.last:
            return f"{self.kind} {self.first}"
        return f"{self.kind}s {self.first} to {self.last}"

    def passages(self, passages: Sequence[StoredPassage]) -> Sequence[StoredPassage] | None:
        """Those of a file's passages that the place touches; None where the file has no places of this kind."""
        if self.kind == "line":
            if passages[0].encoding == EXTRACTED:
                return None
            return [p for p in passages if self.touches(p.chunk.span.line_start, p.chunk.span.line_end)]
        numbers = [(p, part_number(p.chunk.part, self.kind)) for p in passages]
        if all(number is None for _, number in numbers):
            return None
        return [p for p, number in numbers if number is not None and self.touches(number, number)]

    def touches(self, first: int, last: int) -> bool:
        """Whether the place and ``first`` to ``last`` have anything in common."""
        return self.first <= last and first <= self.last


def named_files(
    reader: Reader, name: str, scope: Sequence[bytes]
) -> tuple[list[list[StoredPassage]], CitedPlace | None]:
    """The passages of each indexed file that a name may mean, and the place that it gives.

    A name is a path, absolute or relative to the working directory or an indexed root, or a URL of one; else the end of
    the paths of files. Raises PassageNotFoundError where there is none in the scope.
    """
    bare = _PLACE.sub("", name)
    for reading in dict.fromkeys((name, bare, urllib.parse.unquote(bare))):
        place = None if reading == name else _cited_place(name[len(bare) :])
        for find in (_paths, _endings):
            paths = [path for path in dict.fromkeys(find(reader, reading)) if in_scope(path, scope)]
            files = [reader.passages_between(path, -1, _WHOLE) for path in paths[:_MOST_FILES]]
            files = [passages for passages in files if passages]
            if files:
                return files, place
    raise PassageNotFoundError(f"No indexed file is at {name[:300]!a}; list the sources to see what is indexed.")


def _cited_place(written: str) -> CitedPlace | None:
    if part := _PART.match(written):
        return CitedPlace("page" if part[1] else "cell", _number(part[2]), _number(part[3] or part[2]))
    if lines := _LINES.match(written):
        return CitedPlace("line", _number(lines[1]), _number(lines[2] or lines[1]))
    return None


def _number(digits: str) -> int:
    # Python reads no number of thousands of digits; and no file has a line of so many.
    return int(digits[:_MOST_DIGITS])


def _paths(reader: Reader, name: str) -> Iterator[bytes]:
    if name.lower().startswith("file:"):
        location = _SCHEME.sub("", name)
        name = url2pathname(location) if os.name == "nt" else os.fsdecode(urllib.parse.unquote_to_bytes(location))
    folders = [] if os.path.isabs(name) else [os.fsdecode(root.path) for root in reader.roots()]
    for folder in ("", *folders):
        with suppress(UnreadableDocumentError):  # what can be no path is no indexed file either
            yield real_path(os.path.join(folder, name))


def _endings(reader: Reader, name: str) -> Sequence[bytes]:
    """The files whose paths end in a name, shortest path first."""
    if name.lower().startswith(("file:", "/", "~", ".")):
        return []
    try:
        ending = os.fsencode(os.path.normpath(name))
    except UnicodeEncodeError:
        return []
    return sorted(reader.paths_ending(ending), key=lambda path: (len(path), path))
