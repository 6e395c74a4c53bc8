"""Which citation a quotation belongs to: links to files and passages, passage ids, labels that stand for them, and
names of files as they are.

What stands right behind the quotation counts; else in its own sentence what stands behind the next one, else what is
before it, unless that is behind another quotation, else what is after it; then what the next sentence opens with; then
the nearest link before it in its unit. Brackets behind a full stop are of the sentence that has ended. A plain name
reaches no further than that sentence, and one that no indexed file has counts only where nothing but a citation can
stand: behind the quotation. Knows strings only.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import regex
from markdown_it.common.utils import normalizeReference

from colbert_mcp.quoting.answer_units import masked
from colbert_mcp.quoting.file_names import PLACE_IN_WORDS, file_names, is_clearly_a_file

IsIndexed: TypeAlias = Callable[[str], bool]

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
    r"[.!?…][\p{Pf}\p{Pi}\p{Pe}\"'*_`]*+\s++(?=[^\s\p{Ll}\p{Nd}\-—–])|[。！？][」』”’\"]*+(?!(?<=[」』])\p{Hiragana})",
    regex.VERSION1,
)
# A sentence may also begin with the name of a file in lower case.
_STOP_BEFORE_NAME = regex.compile(
    r"(?<!\b(?:\p{L}|cf|vgl|ca|incl|bzw|resp|no|nr|pp))[.!?…][\p{Pf}\p{Pi}\p{Pe}\"'*_`]*+\s++\Z", regex.IGNORECASE
)
_OPENING = regex.compile(
    r"[\s\p{Ps}\p{Pd}\p{So}*_<]*+(?:(?:sources?|see|from|cf\.?|via|quellen?|siehe|voir|fuente|出典|来源)\b)?[\s:：*_]*+",
    regex.IGNORECASE,
)
# What stands behind a link to a file, or ends its text, is a place in it: ``[a](a.md), line 3``, ``[a.md:3](a.md)``.
_PLACED = regex.compile(r"#|:\d+(?:-\d+)?\Z|\Apassage:", regex.IGNORECASE)
_PLACE_BEHIND = regex.compile(PLACE_IN_WORDS)
_PLACE_INSIDE = regex.compile(rf"(?:(?<=\.\w+)(:\d+(?:-\d+)?)|({PLACE_IN_WORDS}))[*_`]*\]\(")
_BRACKETED = regex.compile(r"\s?[(\[（][^()\[\]]{0,200}")
_ENDING = regex.compile(r"[)\]>*_]*+(?:[.;]|(?P<clause>[,:])|\s*\Z|\s*\n|\s+(?=\p{Lu}))")
_BRACKET = regex.compile(r"[\p{Ps}<]")
# Of a footnote or list of sources.
_NUMBER = regex.compile(r"\[(?:\^|\d+\])")
_NEXT_SENTENCE = regex.compile(r"[\p{Pe}>*_`]*+\s++(?=[^\s\p{Ll}\p{Nd}\-—–])")


@dataclass(frozen=True, slots=True)
class Citation:
    """What names a source, at ``[start, end)`` of a unit's text: a link (or id), the plain name of an indexed file, or
    what looks like the name of another.
    """

    start: int
    end: int
    target: str
    kind: Literal["link", "name", "likely"] = "link"


class _Row:
    """Citations in order, none within another."""

    def __init__(self, found: Iterable[Citation]) -> None:
        self.found = list(found)
        self.starts = [citation.start for citation in self.found]
        self.ends = [citation.end for citation in self.found]

    def after(self, at: int) -> Citation | None:
        """The first that starts at or after a character."""
        index = bisect_left(self.starts, at)
        return self.found[index] if index < len(self.found) else None

    def before(self, at: int) -> Citation | None:
        """The last that ends at or before a character."""
        index = bisect_right(self.ends, at) - 1
        return self.found[index] if index >= 0 else None

    def around(self, start: int, end: int) -> Citation | None:
        """The one that encloses ``[start, end)``."""
        index = bisect_right(self.starts, start) - 1
        return self.found[index] if index >= 0 and self.ends[index] >= end else None


class Citations:
    """The citations of one text, and the sentences between its quotations."""

    def __init__(self, text: str, plain: str, found: Sequence[Citation], pairs: Sequence[tuple[int, int]]) -> None:
        """``plain``: the text without code and addresses; ``pairs``: its quotations, in order."""
        opened = [start for start, _ in pairs]
        # A file that is named in a quotation is a word of it.
        self._all = _Row(c for c in found if c.kind == "link" or not _encloses(pairs, opened, c))
        self._sure = _Row(c for c in self._all.found if c.kind != "likely")
        self._links = _Row(c for c in self._all.found if c.kind == "link")
        self._text = text
        self._pairs = [end for _, end in pairs]
        self._stops = [0, *self._sentence_ends(plain, pairs, opened)]

    def of(self, start: int, end: int, *, far: bool = True) -> Citation | None:
        """The citation of the quotation ``[start, end)``; ``far``: also one in another sentence than its own."""
        if enclosing := self._links.around(start, end):
            return enclosing
        sentence = bisect_right(self._stops, start)
        low = self._stops[sentence - 1]
        high = self._stops[sentence] if sentence < len(self._stops) else len(self._text) + 1
        behind = self._all.after(end)
        if behind and behind.start < high and only_opens(self._text, end + 1, behind.start):
            return behind
        after = self._sure.after(end)
        if after and (after.start >= high or not (far or self._goes_on(end, after))):
            after = None
        prior = self._sure.before(start)
        if prior and prior.start < low:
            prior = None
        if after and (prior is None or self._follows_quotation(after) or self._follows_quotation(prior)):
            return after
        if prior:
            return prior
        opening = self._all.after(high)
        if opening and self._reaches(high, opening, far or only_opens(self._text, end + 1, opening.start)):
            return opening
        return self._links.before(start) if far else None

    def _follows_quotation(self, citation: Citation) -> bool:
        """Whether a citation stands right behind a quotation, or in brackets there."""
        index = bisect_right(self._pairs, citation.start) - 1
        if index < 0:
            return False
        behind = self._pairs[index] + 1
        return self._bracketed(behind, citation) or only_opens(self._text, behind, citation.start)

    def _goes_on(self, end: int, after: Citation) -> bool:
        """Whether the sentence of a quotation goes on to a citation after it, which no other sentence begins with."""
        return _STOP_BEFORE_NAME.search(self._text, max(end, after.start - 20), after.start) is None

    def _sentence_ends(self, plain: str, pairs: Sequence[tuple[int, int]], opened: Sequence[int]) -> Iterator[int]:
        for stop in _STOP.finditer(plain):
            inside = bisect_right(opened, stop.start()) - 1
            if inside >= 0 and stop.start() < pairs[inside][1]:
                if stop.end() <= pairs[inside][1]:
                    continue
                following = self._all.after(stop.end())
                if following and self._belongs(stop.end(), following):
                    # Of ``“He left.” (a.md) She …`` the next sentence begins behind the citation.
                    if begins := _NEXT_SENTENCE.match(self._text, following.end):
                        yield begins.end()
                    continue
            if self._all.around(stop.start(), stop.end()) is None:
                yield stop.end()

    def _reaches(self, at: int, citation: Citation, far: bool) -> bool:
        """Whether the sentence at ``at`` opens with a citation that a quotation of the one before may have."""
        return self._belongs(at, citation, far=far) or (
            far and citation.kind == "link" and only_opens(self._text, at, citation.start)
        )

    def _belongs(self, at: int, citation: Citation, *, far: bool = True) -> bool:
        """Whether a citation behind a full stop is of the sentence that ends there, at ``at``: ``“He left.” [a].``

        It stands in brackets, or is a number in them, or all of its sentence, and no ``See a.md.``; ``far``: or all of
        a clause, or has other words beside it in brackets.
        """
        if not only_opens(self._text, at, citation.start):
            return far and citation.kind != "likely" and self._bracketed(at, citation)
        if _BRACKET.search(self._text, at, citation.start) or _NUMBER.match(self._text, citation.start):
            return True
        ended = _ENDING.match(self._text, citation.end)
        worded = self._text[at : citation.start].rstrip()[-1:].isalpha()
        return ended is not None and (far or (ended["clause"] is None and not worded))

    def _bracketed(self, at: int, citation: Citation) -> bool:
        """Whether a citation stands in brackets that open at ``at``, with whatever words."""
        return _BRACKETED.fullmatch(self._text, at, max(at, citation.start)) is not None


def citations(text: str, labels: Mapping[str, str], is_indexed: IsIndexed) -> list[Citation]:
    """The citations of a text, in order; ``is_indexed`` says whether an indexed file is called so."""
    links = [_link(match) for match in _CITATION.finditer(text)]
    row = _Row(links)
    labelled = []
    plain = masked(text) if labels else text
    for match in _LABEL.finditer(text) if labels else ():
        if plain[match.start()] == "\0":  # ``items[1]`` is code
            continue
        target = _labelled(match["label"] or match["text"], labels, is_indexed)
        if target and row.around(match.start(), match.start() + 1) is None:
            labelled.append(Citation(match.start(), match.end(), target))
    unique = {citation.start: citation for citation in (*labelled, *links)}
    row = _Row(sorted(unique.values(), key=lambda c: c.start))
    return sorted([*row.found, *_names(text, row, is_indexed)], key=lambda c: c.start)


def _link(match: "regex.Match[str]") -> Citation:
    target, end = _target(match), match.end()
    if match["id"] or _PLACED.search(target):
        return Citation(match.start(), end, target)
    behind = _PLACE_BEHIND.match(match.string, end)
    inside = _PLACE_INSIDE.search(match.group())
    place = behind[0] if behind else inside[1] or inside[2] if inside else ""
    return Citation(match.start(), behind.end() if behind else end, target + place)


def only_opens(text: str, start: int, end: int) -> bool:
    """Whether ``[start, end)`` is nothing but what may stand before a citation."""
    return start <= end and end - start < 80 and _OPENING.fullmatch(text, start, end) is not None


def _names(text: str, links: _Row, is_indexed: IsIndexed) -> Iterator[Citation]:
    for start, end, name in file_names(text):
        if links.around(start, start + 1) is not None:
            continue
        if is_indexed(name):
            yield Citation(start, end, name, "name")
        elif is_clearly_a_file(name):
            yield Citation(start, end, name, "likely")


def _encloses(pairs: Sequence[tuple[int, int]], opened: Sequence[int], citation: Citation) -> bool:
    """Whether a quotation holds a citation and more than that."""
    index = bisect_right(opened, citation.start) - 1
    return index >= 0 and citation.end <= pairs[index][1] and pairs[index] != (citation.start, citation.end)


def _labelled(label: str, labels: Mapping[str, str], is_indexed: IsIndexed) -> str | None:
    named = labels.get(normalizeReference(label), "")
    if match := _CITATION.search(named):
        return _target(match)
    names = [name for _, _, name in file_names(named)]
    if indexed := next(filter(is_indexed, names), None):
        return indexed
    if match := _CITATION.search(f"[]({named})"):
        return _target(match)
    return next(filter(is_clearly_a_file, names), None)


def _target(match: "regex.Match[str]") -> str:
    if match["id"]:
        return str(match["id"]).lower()
    return str(match["angled"] or match["link"] or match["anchor"] or match["bare"] or match["path"])
