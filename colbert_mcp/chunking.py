"""Cuts a text into chunks that the encoder takes whole.

A chunk ends at a heading or definition if it can, else at a blank line, a sentence, a line, a word, and only then
inside a word. Source code has no headings and its lines are its sentences. Chunks never overlap, and together hold
every non-blank character. Knows spans and token offsets; nothing of files, bytes or models.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import regex

from colbert_mcp.abbreviations import abbreviates
from colbert_mcp.stops import CLOSING, stop_ends
from colbert_mcp.types import Part, Section

# Raise it when the same text would be cut otherwise: it is part of an index's fingerprint.
CHUNKER = 2
CHARACTERS_PER_TOKEN = 8
_WINDOW = 50_000
_SMALL = 4  # a chunk below limit / _SMALL tokens is small: what follows may join it

_BLANK_LINES = re.compile(r"(?:\r\n|\n|\r)[^\S\r\n]*(?:\r\n|\n|\r)\s*")
_LINES = re.compile(r"(?:\r\n|\n|\r)+")
_SENTENCES = re.compile(rf"(?<![.!?…])(?P<stop>[.!?…]+)[{CLOSING}]*\s+(?=[^\sa-z])")
_WORDS = re.compile(r"\s+")
# What readers take for one character: grapheme clusters of Unicode (UAX 29).
_CHARACTERS = regex.compile(r"\X")
_LONGEST_CHARACTER = 64


class Tokens(Protocol):
    """The tokens of one text without special tokens: int64 [n] character offsets, sorted by start."""

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each token starts."""

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """Where each token ends."""


T_co = TypeVar("T_co", bound=Tokens, covariant=True)
T = TypeVar("T", bound=Tokens)


class Tokenizer(Protocol[T_co]):
    """Tokenizes each text on its own."""

    def tokenize(self, texts: Sequence[str]) -> Sequence[T_co]:
        """The tokens of each text."""


class SizedTokenizer(Tokenizer[T_co], Protocol[T_co]):
    """An encoder, or the tokenizer of one."""

    @property
    def content_length(self) -> int:
        """Tokens that a chunk may have."""


class Text(Protocol):
    """What a document says, with what its chunks keep to; see ``documents.Document``."""

    @property
    def text(self) -> str:
        """The text."""

    @property
    def sections(self) -> Sequence[Section]:
        """Its headings or definitions, sorted and properly nested."""

    @property
    def is_code(self) -> bool:
        """Whether lines outrank sentences."""

    @property
    def parts(self) -> Sequence[Part]:
        """Its pages or cells."""


@dataclass(frozen=True, slots=True)
class Piece(Generic[T]):
    """A chunk before it has coordinates: characters ``[start, end)``, and its tokens when tokenized alone."""

    start: int
    end: int
    headings: tuple[str, ...]
    tokens: T


def cut_document(document: Text, tokenizer: SizedTokenizer[T]) -> list[Piece[T]]:
    """``cut`` a document for an encoder: as long as it reads, and each piece in one page or cell."""
    walls = [part.start for part in document.parts]
    limit = tokenizer.content_length
    return cut(document.text, document.sections, tokenizer, limit, is_code=document.is_code, walls=walls)


def cut(
    text: str,
    sections: Sequence[Section],
    tokenizer: Tokenizer[T],
    limit: int,
    *,
    is_code: bool,
    walls: Sequence[int] = (),
) -> list[Piece[T]]:
    """Cut a text into pieces of at most ``limit`` tokens each, counted on the piece tokenized alone.

    No piece crosses a wall: a character, in ascending order, at which a page or cell starts.

    The document is tokenized once, and all of its pieces once more together, which is also what the encoder takes.
    A piece holds at most ``8 * limit`` characters, because a tokenizer may call any word one unknown token.
    """
    outline = _Outline(text, sections)
    edges = [0, *walls, len(text)]
    ends = [_trim(text, start, end)[1] for start, end in pairwise(edges)] if walls else [len(text)]
    starts = _document_starts(text, tokenizer)
    ranges: list[tuple[int, int]] = []
    for start, end in zip(edges, ends, strict=False):
        ranges += _Cutter(text, outline, starts, limit, is_code, end).ranges(start, end)
    pieces: list[Piece[T]] = []
    while ranges:
        todo: list[tuple[int, int]] = []
        tokenized = tokenizer.tokenize([text[start:end] for start, end in ranges])
        for (start, end), tokens in zip(ranges, tokenized, strict=True):
            excess = len(tokens.starts) - limit
            if excess <= 0 or end - start == 1:
                pieces.append(Piece(start, end, outline.headings(start, end), tokens))
            else:
                # Alone, its tokens differ from those it had in the document: cut it again by these, and smaller.
                wall = ends[bisect_right(edges, start, hi=len(ends)) - 1]
                again = _Cutter(text, outline, tokens.starts + start, max(1, limit - 2 * excess), is_code, wall)
                todo.extend(again.ranges(start, end))
        ranges = todo
    return sorted(pieces, key=lambda piece: piece.start)


def _document_starts(text: str, tokenizer: Tokenizer[T]) -> npt.NDArray[np.int64]:
    """Where each token of the document starts; long texts are tokenized in windows to bound the tokenizer's memory."""
    edges = [0]
    while len(text) - edges[-1] > _WINDOW:
        line_end = _LINES.search(text, edges[-1] + _WINDOW)
        nearest = line_end.end() if line_end else len(text)
        edges.append(min(nearest, edges[-1] + 2 * _WINDOW))
    edges.append(len(text))
    windows = [text[a:b] for a, b in pairwise(edges)]
    starts = [tokens.starts + edge for edge, tokens in zip(edges, tokenizer.tokenize(windows), strict=False)]
    return np.maximum.accumulate(np.concatenate(starts))


class _Outline:
    """The sections of a text, found by position."""

    def __init__(self, text: str, sections: Sequence[Section]) -> None:
        self._text = text
        self._sections = sections
        self._starts = [section.start for section in sections]
        self._parents: list[int] = []
        for index, section in enumerate(sections):
            parent = index - 1
            while parent >= 0 and sections[parent].end <= section.start:
                parent = self._parents[parent]
            self._parents.append(parent)
        # From the back, so that a run of headings without content is walked once.
        self._contents = [0] * len(sections)
        for index in range(len(sections) - 1, -1, -1):
            content = _skip_blanks(text, sections[index].body, len(text))
            following = bisect_left(self._starts, content)
            adjacent = following < len(sections) and self._starts[following] == content and following > index
            self._contents[index] = self._contents[following] if adjacent else content
        self._stops = sorted({boundary for section in sections for boundary in (section.start, section.end)})

    def stops(self, start: int, end: int) -> Sequence[int]:
        """Where sections start or end within ``(start, end]``."""
        return self._stops[bisect_right(self._stops, start) : bisect_right(self._stops, end)]

    def stop_after(self, position: int) -> int:
        """The next such place after a position, or the end of the text."""
        following = bisect_right(self._stops, position)
        return self._stops[following] if following < len(self._stops) else len(self._text)

    def headings(self, start: int, end: int) -> tuple[str, ...]:
        """Titles of the sections that hold all of a chunk's content, outermost first.

        Headings at the chunk's own beginning count as holding what follows them.
        """
        content = self.after_headings(start)
        content = content if content < end else start
        index = bisect_right(self._starts, content) - 1
        while index >= 0 and self._sections[index].end < end:
            index = self._parents[index]
        titles: list[str] = []
        while index >= 0:
            titles.append(self._sections[index].title)
            index = self._parents[index]
        return tuple(reversed(titles))

    def after_headings(self, start: int) -> int:
        """Where the content begins after the headings, if any, that stand at ``start``."""
        index = bisect_left(self._starts, start)
        found = index < len(self._sections) and self._starts[index] == start
        return self._contents[index] if found else start


class _Cutter:
    """Walks one stretch of text from cut to cut; ``wall`` is the end of the page or cell, or of the whole text."""

    def __init__(
        self, text: str, outline: _Outline, token_starts: npt.NDArray[np.int64], limit: int, is_code: bool, wall: int
    ) -> None:
        self._text = text
        self._outline = outline
        self._token_starts = token_starts
        self._limit = limit
        self._wall = wall
        self._small = max(1, limit // _SMALL)
        self._patterns = [_BLANK_LINES, *([] if is_code else [_SENTENCES]), _LINES, _WORDS]

    def ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The chunks of ``[start, end)``, trimmed of the blanks around them."""
        start, end = _trim(self._text, start, end)
        while start < end:
            stop = self._next(start, end)
            yield _trim(self._text, start, stop)
            start = _skip_blanks(self._text, stop, end)

    def _next(self, start: int, end: int) -> int:
        reach = min(self._reach(start), end)
        structural = self._structural_stop(start, reach)
        if structural is not None:
            return structural
        if reach == end:
            return end
        return self._split(start, reach, min(self._outline.stop_after(reach), end))

    def _structural_stop(self, start: int, reach: int) -> int | None:
        """The first heading or definition within reach after which the chunk is not small.

        A small chunk takes in whole sections only; a bare heading goes with whatever follows it.
        """
        within = self._outline.stops(start, reach)
        for stop in within:
            if self._count(start, stop) >= self._small:
                return stop
        if within and reach < self._wall and self._outline.after_headings(start) < within[-1]:
            return within[-1]
        return None

    def _split(self, start: int, reach: int, section_end: int) -> int:
        """Where to end a chunk inside a section: at the strongest break, nearest to an even share of the section."""
        total = self._count(start, section_end)
        share = total / max(1, -(-total // self._limit))
        content = self._outline.after_headings(start)
        lowest = content if content < reach else start  # headings alone are no chunk
        for pattern in self._patterns:
            breaks = self._breaks(pattern, start, reach)
            usable = [at for at in breaks if at > lowest and self._count(start, at) >= self._small]
            if usable:
                return min(usable, key=lambda at: abs(self._count(start, at) - share))
        return self._whole_characters(start, reach)

    def _breaks(self, pattern: re.Pattern[str], start: int, reach: int) -> list[int]:
        """Where a pattern allows a cut within ``(start, reach]``."""
        found = pattern.finditer(self._text, start, reach)
        if pattern is not _SENTENCES:
            return [match.end() for match in found]
        ends = [match.end() for match in found if not self._abbreviates(match)]
        return [*ends, *stop_ends(self._text, start, reach)]

    def _abbreviates(self, match: re.Match[str]) -> bool:
        return match["stop"] == "." and abbreviates(self._text, match.start(), self._text[match.end()])

    def _whole_characters(self, start: int, reach: int) -> int:
        """Step back to where a character as readers see it ends (a letter with its accents, a flag), if one does."""
        ahead = self._text[start : reach + _LONGEST_CHARACTER]
        ends = (start + match.end() for match in _CHARACTERS.finditer(ahead))
        before = list(takewhile(lambda end: end <= reach, ends))
        return before[-1] if before else reach

    def _reach(self, start: int) -> int:
        last = int(np.searchsorted(self._token_starts, start)) + self._limit
        by_tokens = int(self._token_starts[last]) if last < len(self._token_starts) else len(self._text)
        return max(start + 1, min(by_tokens, start + CHARACTERS_PER_TOKEN * self._limit))

    def _count(self, start: int, end: int) -> int:
        first, last = np.searchsorted(self._token_starts, (start, end))
        return int(last - first)


def _skip_blanks(text: str, start: int, end: int) -> int:
    while start < end and text[start].isspace():
        start += 1
    return start


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Move both ends inwards over blanks."""
    start = _skip_blanks(text, start, end)
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
