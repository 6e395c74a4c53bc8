"""The quotations in an answer as an assistant writes it, each with the citation it belongs to.

A quotation is what stands between quotation marks, or in a block quote; code and code spans hold none. Its citation is
the nearest link to a file or passage, or passage id, after it in its paragraph, list item or table row, else before it;
a block quote's stands in it, or in the paragraph after or before it. Knows Markdown strings only.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

from colbert_mcp.folding import Folded, count_words, fold

_SCARE_WORDS = 2
_LINK = r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?(?P<link>(?:file:|passage://)(?:[^\s()<>]|\([^\s()<>]*\))+)>?(?:\s+\"[^\"]*\")?\s*\)"
_CITATION = re.compile(
    rf"{_LINK}|<?(?P<bare>(?:file:/|passage://)[^\s<>()\[\]\"“”`]+[^\s<>()\[\]\"“”`.,;:!?])>?"
    r"|(?<![0-9A-Za-z/])(?P<id>[0-9a-f]{16})(?![0-9A-Za-z])"
)
_URL = re.compile(
    r"\]\(\s*<?[^()\s]*(?:\([^()\s]*\)[^()\s]*)*(?:\s+\"[^\"]*\")?\s*\)|<?\b(?:file|https?|passage):[^\s<>]+>?"
)
_QUOTED = re.compile(
    r"„((?:(?!\n\n)[^„“”])+)[“”]|“((?:(?!\n\n)[^“”])+)”|«((?:(?!\n\n)[^«»])+)»"
    r"|(?<!\w)\"(?=\S)((?:(?!\n\n)[^\"])+)(?<=\S)\"(?!\w)"
)
_ATTRIBUTION = re.compile(r"\n\s*(?:—|–|--|-\s|Source:)[^\n]*\Z")
_AROUND_CITATION = (re.compile(r"[\s(\[]*(?:(?:—|–|--|-|Source:)\s*)?\Z"), re.compile(r"\s*[)\]]*\.?"))
_CALLOUT = re.compile(r"\A\[!\w+\]")
_GROUPS = frozenset({"list_item_open", "tr_open"})


@dataclass(frozen=True, slots=True)
class Quotation:
    """A quotation at a line (from 1) of the answer. ``plain`` is it without Markdown's emphasis, code marks and links;
    ``citation`` is as the answer writes it, and one of ``passage_id`` and ``path`` (a ``file:`` URL) is what it names.
    """

    line: int
    text: str
    plain: str
    citation: str | None
    passage_id: str | None
    path: str | None


@dataclass(frozen=True, slots=True)
class _Citation:
    start: int
    end: int
    target: str


@dataclass(slots=True)
class _Unit:
    """Text within which citations are looked for; ``lines`` says at which character which line of the answer starts."""

    is_block_quote: bool
    text: str
    lines: list[tuple[int, int]]

    def line_at(self, char: int) -> int:
        start, line = self.lines[bisect_right(self.lines, (char, 2**62)) - 1]
        return line + self.text.count("\n", start, char)


def quotations(answer: str) -> tuple[list[Quotation], int]:
    """The quotations of an answer in order, and how many were skipped: one or two words with no citation after them."""
    units = _units(MarkdownIt("commonmark").enable("table").parse(answer))
    found: list[Quotation] = []
    for index, unit in enumerate(units):
        if unit.is_block_quote:
            found.extend(_block_quote(units, index))
        else:
            found.extend(_quoted(unit))
    kept = [q for q in found if fold(q.text).strip(" '\".,;:!?") and (q.citation or _words(q.text) > _SCARE_WORDS)]
    return kept, len(found) - len(kept)


def _words(text: str) -> int:
    return count_words(Folded(text))


def _units(tokens: Sequence[Token]) -> list[_Unit]:
    """Paragraphs, list items and table rows, each as one text; and outermost block quotes."""
    units: list[_Unit] = []
    groups: list[int] = []
    quotes, serial, open_group = 0, 0, 0
    for token in tokens:
        if token.type == "blockquote_open":
            quotes += 1
        elif token.type == "blockquote_close":
            quotes -= 1
        elif token.type in _GROUPS:
            groups.append(serial)
        elif token.type.replace("_close", "_open") in _GROUPS:
            groups.pop()
        if token.nesting and (quotes == 0 or (token.type == "blockquote_open" and quotes == 1)):
            serial += token.type != "paragraph_open" or not groups
        if token.type == "inline":
            group = serial if not groups or quotes else groups[-1]
            _add(units, token, is_block_quote=quotes > 0, joined=group == open_group)
            open_group = group
    return units


def _add(units: list[_Unit], token: Token, *, is_block_quote: bool, joined: bool) -> None:
    line = (token.map[0] if token.map else 0) + 1
    if joined and units and units[-1].is_block_quote == is_block_quote:
        unit = units[-1]
        unit.text += "\n\n"
        unit.lines.append((len(unit.text), line))
        unit.text += token.content
    else:
        units.append(_Unit(is_block_quote, token.content, [(0, line)]))


def _quoted(unit: _Unit) -> Iterator[Quotation]:
    citations = list(_citations(unit.text))
    for match in _QUOTED.finditer(_masked(unit.text)):
        start, end = match.span(match.lastindex or 0)
        outside = [c for c in citations if c.end <= start or c.start >= end or (c.start < start and end <= c.end)]
        after = [c for c in outside if c.end > end]
        # One or two words after the citation are rather a manner of speaking than a quotation from it.
        before = outside[-1:] if _words(unit.text[start:end]) > _SCARE_WORDS else []
        nearest = next(iter(after or before), None)
        yield _quotation(unit.line_at(match.start()), unit.text[start:end], nearest)


def _block_quote(units: list[_Unit], index: int) -> Iterator[Quotation]:
    unit = units[index]
    if _CALLOUT.match(unit.text):
        return
    text, own = unit.text, list(_citations(unit.text))
    for citation in reversed(own):
        before, after = text[: citation.start], text[citation.end :]
        head = _AROUND_CITATION[0].search(before)
        tail = _AROUND_CITATION[1].match(after)
        text = before[: head.start() if head else None] + after[tail.end() if tail else 0 :]
    text = _ATTRIBUTION.sub("", text).strip()
    if text:
        yield _quotation(unit.line_at(0), text, own[-1] if own else _beside(units, index))


def _beside(units: list[_Unit], index: int) -> _Citation | None:
    """The citation that the text after a block quote opens with, else the last one before it, else the first after."""
    following = units[index + 1] if index + 1 < len(units) and not units[index + 1].is_block_quote else None
    after = list(_citations(following.text)) if following else []
    if following and after and not re.search(r"\w", following.text[: after[0].start].replace("Source", "")):
        return after[0]
    if index and not units[index - 1].is_block_quote:
        before = list(_citations(units[index - 1].text))
        if before:
            return before[-1]
    return after[0] if after else None


def _quotation(line: int, text: str, citation: _Citation | None) -> Quotation:
    target = citation.target if citation else None
    is_path = target is not None and target.startswith("file:")
    return Quotation(
        line=line,
        text=text,
        plain=_plain(text),
        citation=target,
        passage_id=None if is_path else target,
        path=target if is_path else None,
    )


def _citations(text: str) -> Iterator[_Citation]:
    for match in _CITATION.finditer(text):
        yield _Citation(match.start(), match.end(), match["link"] or match["bare"] or match["id"])


def _masked(text: str) -> str:
    """The text with code spans and the addresses of links blanked out, character for character."""
    for start, end in _code_spans(text):
        text = text[:start] + "\0" * (end - start) + text[end:]
    return _URL.sub(lambda match: "\0" * len(match.group()), text)


def _code_spans(text: str) -> Iterator[tuple[int, int]]:
    """A run of backticks opens a code span, and the next run of the same length closes it."""
    runs = [match.span() for match in re.finditer(r"`+", text)]
    places: dict[int, list[int]] = {}
    for index, (start, end) in enumerate(runs):
        places.setdefault(end - start, []).append(index)
    at = 0
    while at < len(runs):
        same = places[runs[at][1] - runs[at][0]]
        later = bisect_right(same, at)
        if later < len(same):
            yield runs[at][0], runs[same[later]][1]
            at = same[later]
        at += 1


def _plain(text: str) -> str:
    text = re.sub(r"\[([^\[\]]*)\]\([^()\s]*\)", r"\1", text)
    text = re.sub(r"`+([^`]+)`+", r"\1", text)
    text = re.sub(r"(\*{1,3}|(?<!\w)_{1,3})(?=\S)([^*_]+?)(?<=\S)\1(?!\w)", r"\2", text)
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
