"""The text of a document as a reader finds it, with its headings and parts. Knows nothing of formats or processes."""

import re
from dataclasses import dataclass, field

MOST_HEADINGS = 20_000
LONGEST_TITLE = 300
# Between pages or cells: blank, and the strongest place to cut.
SEPARATOR = "\n\n"

_LINE_ENDS = re.compile(r"\r\n?|[\f\v\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Refusal(Exception):  # noqa: N818
    """A file that cannot be read, by a reason's name: what the file says is never in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Cell:
    """A part of a notebook: its kind, and where its source ends and its outputs begin."""

    kind: str
    source_end: int


@dataclass(slots=True)
class Text:
    """Text that grows up to ``limit`` characters; headings are (start, body, level, title), parts (start, end)."""

    limit: int
    headings: list[tuple[int, int, int, str]] = field(default_factory=list)
    parts: list[tuple[int, int]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    language: str = ""
    length: int = 0
    _pieces: list[str] = field(default_factory=list)

    def add(self, text: str) -> int:
        """Append text as it is, and return where it starts. Raises Refusal beyond the limit."""
        start = self.length
        self.length += len(text)
        if self.length > self.limit:
            raise Refusal("text")
        self._pieces.append(text)
        return start

    def add_heading(self, start: int, body: int, level: int, title: str) -> None:
        """Note a heading that stands at ``[start, body)``; what exceeds the most that are kept is dropped."""
        if len(self.headings) < MOST_HEADINGS:
            self.headings.append((start, body, level, " ".join(title.split())[:LONGEST_TITLE]))

    def add_part(self, text: str) -> tuple[int, int]:
        """Append a page or cell, apart from the one before it, and return its span."""
        if self.parts:
            self.add(SEPARATOR)
        start = self.add(text)
        self.parts.append((start, self.length))
        return self.parts[-1]

    def __str__(self) -> str:
        return "".join(self._pieces)


def clean(text: str) -> str:
    """Every line end as LF, and what no one can read (control characters, lone surrogates) as U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", _LINE_ENDS.sub("\n", text))
