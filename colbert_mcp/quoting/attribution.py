"""Which citation a quotation belongs to: links to files and passages, passage ids, and labels that stand for them.

In the quotation's own sentence the nearest citation after it counts, else the nearest before it; then one that the next
sentence opens with; then the nearest before it in its unit. Knows strings only.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import regex
from markdown_it.common.utils import normalizeReference

_TARGET = r"(?:file:|passage://)"
# Of a link to something else than the web: also a path, as people write it.
_LINKED = r"(?![a-z][a-z0-9+.-]*:(?<!file:)(?<!passage:)|[#?]|//)"
_CITATION = regex.compile(
    r"\[(?:[^\[\]\\]|\\.|\[[^\[\]]{0,300}+\]){0,3000}+\]\(\s*"
    rf"(?:<(?P<angled>{_LINKED}[^<>\n]+)>|(?P<link>{_LINKED}(?:[^\s()<>]|\([^\s()<>]*\))+))"
    r"(?:\s+(?:\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|\([^()]*\)))?\s*\)"
    rf"|<a\s[^<>]*?href\s*=\s*[\"']?(?P<anchor>{_TARGET}[^\"'<>]+)[\"']?[^<>]*>"
    r"|<?(?P<bare>(?:file:/|passage://)[^\s<>()\[\]\"“”`]*[^\s<>()\[\]\"“”`.,;:!?])>?"
    # As search and show print a place: an absolute path with a suffix, and perhaps its line.
    r"|(?<![\w/.:~-])(?P<path>/[^\s<>()\[\]\"“”`,;:]+\.\w+(?:#[^\s<>()\[\]\"“”`,;]*\w|:\d+(?:-\d+)?)?)(?![\w/])"
    r"|(?<![0-9A-Za-z/])(?P<id>[0-9a-fA-F]{16})(?![0-9A-Za-z])",
    regex.IGNORECASE,
)
_LABEL = regex.compile(r"\[(?P<text>[^\[\]]{0,1000}+)\](?:\[(?P<label>[^\[\]]{0,300}+)\])?(?!\()")
_STOP = regex.compile(
    r"[.!?…][\p{Pf}\p{Pi}\p{Pe}\"'*_`]*+\s++(?=[^\s\p{Ll}\p{Nd}\-—–])|[。！？][」』”’\"]*+", regex.VERSION1
)
_OPENING = regex.compile(r"[\s\p{Ps}\p{Pd}*_]*+(?:(?:sources?|see|from|cf\.?|via)\b)?[\s:]*+", regex.IGNORECASE)
_ENDING = regex.compile(r"[)\]*_]*+(?:[.,;:]|\s*\Z|\s*\n)")


@dataclass(frozen=True, slots=True)
class Citation:
    """What names a source, at ``[start, end)`` of a unit's text."""

    start: int
    end: int
    target: str


class Citations:
    """The citations of one text, and the sentences between its quotations."""

    def __init__(self, text: str, plain: str, labels: Mapping[str, str], pairs: Sequence[tuple[int, int]]) -> None:
        """``plain``: the text without code and addresses; ``pairs``: its quotations, in order."""
        self.found = citations(text, labels)
        self._text = text
        self._starts = [citation.start for citation in self.found]
        self._ends = [citation.end for citation in self.found]
        self._stops = [0, *self._sentence_ends(plain, pairs)]

    def of(self, start: int, end: int, *, before: bool) -> Citation | None:
        """The citation of the quotation ``[start, end)``; ``before``: one that stands before it may be its own."""
        enclosing = bisect_right(self._starts, start) - 1
        if enclosing >= 0 and self._ends[enclosing] >= end:
            return self.found[enclosing]
        sentence = bisect_right(self._stops, start)
        low = self._stops[sentence - 1]
        high = self._stops[sentence] if sentence < len(self._stops) else len(self._text) + 1
        following, preceding = bisect_left(self._starts, end), bisect_right(self._ends, start) - 1
        after = self.found[following] if following < len(self.found) else None
        prior = self.found[preceding] if preceding >= 0 and before else None
        if after and after.start < high:
            return after
        if prior and prior.start >= low:
            return prior
        return after if after and _only_opens(self._text, high, after.start) else prior

    def _sentence_ends(self, plain: str, pairs: Sequence[tuple[int, int]]) -> Iterator[int]:
        opened = [start for start, _ in pairs]
        for stop in _STOP.finditer(plain):
            inside = bisect_right(opened, stop.start()) - 1
            if (
                inside >= 0
                and stop.start() < pairs[inside][1]
                and (stop.end() <= pairs[inside][1] or self._belongs(stop.end()))
            ):
                continue
            cited = bisect_right(self._starts, stop.start()) - 1
            if cited < 0 or self._ends[cited] < stop.end():
                yield stop.end()

    def _belongs(self, at: int) -> bool:
        """Whether nothing but a citation follows: ``“He left.” [a].``"""
        index = bisect_left(self._starts, at)
        if index == len(self.found) or not _only_opens(self._text, at, self._starts[index]):
            return False
        return _ENDING.match(self._text, self._ends[index]) is not None


def citations(text: str, labels: Mapping[str, str]) -> list[Citation]:
    """The citations of a text, in order."""
    found = [Citation(match.start(), match.end(), _target(match)) for match in _CITATION.finditer(text)]
    taken = [citation.start for citation in found]
    for match in _LABEL.finditer(text) if labels else ():
        target = _labelled(match["label"] or match["text"], labels)
        at = bisect_right(taken, match.start()) - 1
        if target and (at < 0 or found[at].end <= match.start()):
            found.append(Citation(match.start(), match.end(), target))
    return sorted({citation.start: citation for citation in reversed(found)}.values(), key=lambda c: c.start)


def _only_opens(text: str, start: int, end: int) -> bool:
    """Whether ``[start, end)`` is nothing but what may stand before a citation."""
    return start <= end and end - start < 80 and _OPENING.fullmatch(text, start, end) is not None


def _labelled(label: str, labels: Mapping[str, str]) -> str | None:
    named = labels.get(normalizeReference(label), "")
    match = _CITATION.search(named) or _CITATION.search(f"[]({named})")
    return _target(match) if match else None


def _target(match: "regex.Match[str]") -> str:
    if match["id"]:
        return str(match["id"]).lower()
    return str(match["angled"] or match["link"] or match["anchor"] or match["bare"] or match["path"])
