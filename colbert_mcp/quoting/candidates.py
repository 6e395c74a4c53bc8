"""Passages in which a quote may stand, or what is closest to it, and how much of the index is looked at for them.

What is outside of the scope is never looked at, so it neither hides a place nor shows. Of the passages that FTS5 finds,
those that hold a telling part of the quote, folded, are searched; the others only count as near. The work is bounded by
characters: a bound that is reached can hide a place, never make one up. Knows stored passages; nothing of verdicts.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from colbert_mcp.lexical import match_expression
from colbert_mcp.quoting.folding import IGNORED, fold, has_spaceless
from colbert_mcp.quoting.quotes import Quote
from colbert_mcp.store import Reader, StoredPassage

# How many characters are folded for one quote, and how many are searched and compared word by word.
FOLDED = 10_000_000
SEARCHED = 400_000
COMPARED = 60_000
_NEAREST = 50
_PHRASE_WORDS = 32
_EDGE_WORDS = 8
_PROBE = 6
_LETTERS = re.compile(r"[a-z]+")
_DIVIDING = re.compile(f"[{IGNORED}ﬀ-ﬆ]")
_MARKS = ".,;:!?\"'()[] "


@dataclass
class Candidates:
    """What may hold a quote, in the order of how sure it is; ``near`` takes in what was looked at, best first."""

    reader: Reader
    quote: Quote
    scope: Sequence[bytes]
    near: dict[str, StoredPassage] = field(default_factory=dict)
    _left: int = FOLDED
    _given: set[str] = field(default_factory=set)

    def stages(self) -> Iterator[Iterator[StoredPassage]]:
        """Ways of finding passages, the surest first; each passage once. A way is meant to be used up or left."""
        words = self.quote.core.text.split()
        parts = [part[0].folded.split() for part in self.quote.parts]
        expression = " AND ".join(_phrase(part) for part in parts) if parts else _phrase(words)
        telling = [_telling(part[:_PHRASE_WORDS]) for part in parts or [words]]
        yield self._holding(self._matching(expression), _Test(telling, all))
        middle, size = len(words) // 2, max(2, min(_EDGE_WORDS, len(words) // 2))
        edges = (words[:size], words[middle : middle + size], words[-size:])
        test = _Test(list(dict.fromkeys(map(_telling, edges))), any)
        yield self._holding(self._matching(" OR ".join(dict.fromkeys(map(_phrase, edges)))), test)
        likely = match_expression(self.quote.core.raw)
        if likely is not None:
            yield self._holding(self._matching(likely), test)
        if likely is None or has_spaceless(self.quote.core.raw):
            for probe in _probes(self.quote.core.raw):
                yield self._holding(self.reader.holding(probe, self.scope), None)

    def _matching(self, expression: str) -> Iterator[StoredPassage]:
        return self.reader.matching(expression, self.scope)

    def _holding(self, passages: Iterator[StoredPassage], test: "_Test | None") -> Iterator[StoredPassage]:
        for count, passage in enumerate(passages):
            if count < _NEAREST:
                self.near.setdefault(passage.passage_id, passage)
            if passage.passage_id in self._given:
                continue
            self._left -= len(passage.chunk.text)
            if self._left < 0:
                return
            if test is None or test.passes(passage.chunk.text):
                self._given.add(passage.passage_id)
                yield passage


class _Test:
    """Whether all, or any, of some folded texts stand in a text when it is folded."""

    def __init__(self, pieces: Sequence[str], quantifier: Callable[[Iterable[bool]], bool]) -> None:
        self._pieces = pieces
        self._letters = [max(_LETTERS.findall(piece), key=len, default="") for piece in pieces]
        self._quantifier = quantifier

    def passes(self, text: str) -> bool:
        # Folding takes its time; where nothing divides or joins letters, they stand in the text as it is.
        if not _DIVIDING.search(text):
            lower = text.lower()
            if not self._quantifier(letters in lower for letters in self._letters):
                return False
        folded = fold(text)
        return self._quantifier(piece in folded for piece in self._pieces)


def _phrase(words: Sequence[str]) -> str:
    text = " ".join(words[:_PHRASE_WORDS]).replace('"', " ").replace("\0", " ")
    return f'"{text}"'


def _telling(words: Sequence[str]) -> str:
    """The words as the source has them if it has them at all: without the marks that may be around them."""
    return " ".join(words).strip(_MARKS)


def _probes(text: str) -> Iterator[str]:
    """Pieces of a quote to be scanned for: its first and longest ones, then others from all over it."""
    pieces = sorted(text.split(), key=len, reverse=True)[:1]
    yield from pieces
    for piece in pieces:
        step = max(1, (len(piece) - _PROBE) // 4)
        yield from dict.fromkeys(piece[start : start + _PROBE] for start in range(0, max(1, len(piece) - _PROBE), step))
