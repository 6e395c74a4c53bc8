"""Whether a text holds a quotation: word for word, but for typography, with marked omissions, or not at all.

Decisions: quotation marks and white space around a quote are not part of it; an ellipsis at its ends, and a comma,
full stop, colon or semicolon at its end that the source has not, are forgiven as typography (but a full stop never
replaces a question or exclamation mark, nor one hyphen two). Everything else is text: words in square brackets, marks
at the start of lines (``>``, ``#``, ``//``), emphasis, spaces around dashes. A quotation never begins or ends inside a
word or number.
Knows strings only; spans are half-open, in characters of the raw text.
"""

import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeAlias

from rapidfuzz.distance import Indel, Levenshtein

from colbert_mcp.errors import EmptyQueryError, QueryError
from colbert_mcp.quoting.boundaries import asks_or_exclaims, is_boundary, is_greek_question
from colbert_mcp.quoting.folding import Folded, Token, count_words, fold

MAX_QUOTE_CHARACTERS = 10_000
MIN_ELIDED_WORDS = 4
FoundAs: TypeAlias = Literal["exact", "normalised", "elided"]
Change: TypeAlias = Literal["same", "changed", "added", "dropped"]
# Text, whether it may be called exact, whether a mark at its end was taken off; in order, each once.
_Readings: TypeAlias = dict[tuple[str, bool, bool], None]
Spans: TypeAlias = tuple[tuple[int, int], ...]

_MARKS = {"“": "”“", "„": '“”"', "”": "”", "«": "»", "»": "«", "‘": "’", "‚": "‘’", "‹": "›", '"': '"', "'": "'"}
_MARKS |= {"「": "」", "『": "』", "《": "》", "〈": "〉", "＂": "＂", "’": "’"}
_MOST_MARKS = 3
_MOST_PARTS = 50
_ELLIPSIS = re.compile(r"\[\s*(?:…|\.{3})\s*\]|…|\.{3,}")
_OUTER_ELLIPSIS = re.compile(rf"\A(?:(?:{_ELLIPSIS.pattern})\s*)+|(?:\s*(?:{_ELLIPSIS.pattern}))+\Z")
_TRAILING = ",.;:，。；：．、｡､،؛۔।"
_DOUBLED = frozenset("23")
# How many places of one quotation are looked at in one text.
_MOST_PLACES = 1_000
# A word that stands more often than this in the text says little about where the quotation comes from.
_COMMON_WORD = 64
_MOST_VOTERS = 256


@dataclass(frozen=True, slots=True)
class Form:
    """One reading of a quote. ``literal``: it may be called exact; ``bare``: a mark at its end was taken off;
    ``dashes``: what its hyphens were (``Folded.dashes``).
    """

    text: str
    folded: str
    dashes: str
    literal: bool
    bare: bool


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote as it is looked for. ``parts`` are what its ellipses separate, each in one or two forms, if it may be
    elided; ``core`` is it without marks, white space and ellipses around it.
    """

    forms: tuple[Form, ...]
    parts: tuple[tuple[Form, ...], ...]
    core: Folded


@dataclass(frozen=True, slots=True)
class Finding:
    """Where a text holds a quote, and how; more than one span where it is elided."""

    kind: FoundAs
    spans: Spans

    @property
    def start(self) -> int:
        """The first character."""
        return self.spans[0][0]

    @property
    def end(self) -> int:
        """The end of the last character."""
        return self.spans[-1][1]


@dataclass(frozen=True, slots=True)
class Edit:
    """A step of a word diff: what the quote says, and what the text says instead."""

    op: Change
    quote: str
    source: str


@dataclass(frozen=True, slots=True)
class Closest:
    """The stretch of a text most like a quote; ``similarity`` is from 0 to 1 (2 · common words / all words)."""

    start: int
    end: int
    similarity: float
    edits: tuple[Edit, ...]


def read_quote(quote: str) -> Quote:
    """Prepare a quote. Raises EmptyQueryError where it holds no words, QueryError where it is no text or too long."""
    try:
        quote.encode()
    except UnicodeEncodeError:
        raise QueryError("The quote holds bytes that are no text; write it in UTF-8.") from None
    if len(quote) > MAX_QUOTE_CHARACTERS:
        raise QueryError(
            f"The quote has {len(quote)} characters; at most {MAX_QUOTE_CHARACTERS} are taken. Verify it in parts."
        )
    readings = list(_without_marks(quote.strip()))
    inner = readings[-1]
    core = _core(inner)
    if not fold(core).strip(" '\""):
        raise EmptyQueryError("The quote is empty; give the words that are to be verified.")
    forms: _Readings = {(text, True, False): None for text in readings}
    forms[core, False, False] = None
    for text in (inner, core):
        forms.update(_bare(text))
    parts = [part for part in (p.strip() for p in _ELLIPSIS.split(core)) if part]
    return Quote(_forms(forms), _parts(parts), Folded(core))


def find(quote: Quote, text: Folded) -> list[Finding]:
    """Every place where the text holds the quote word for word, then every one where it does but for typography."""
    places: dict[tuple[int, int], FoundAs] = {}
    whole = (0, len(text.raw))
    for form in quote.forms:
        if form.literal:
            places.update(dict.fromkeys(_literal(form.text, text.raw, whole), "exact"))
    for form in quote.forms:
        for span in _folded(form, text, whole):
            places.setdefault(span, "normalised")
    found: list[Finding] = []
    taken: list[tuple[int, int]] = []
    for span, kind in sorted(places.items(), key=lambda item: (item[1], item[0][0], -item[0][1])):
        # The readings of a quote overlap, exact before normalised and long before short: the first is the one.
        at = bisect_left(taken, span)
        beside = taken[max(0, at - 1) : at + 1]
        if not any(span[0] < end and start < span[1] for start, end in beside):
            taken.insert(at, span)
            found.append(Finding(kind, (span,)))
    return found


def find_elided(quote: Quote, text: Folded, regions: Sequence[tuple[int, int]]) -> list[Finding]:
    """The regions of the text (one passage each) that hold all parts of an elided quote in order, one finding each."""
    if not quote.parts:
        return []
    found = (_in_order(quote.parts, text, region) for region in regions)
    return [Finding("elided", spans) for spans in found if spans]


def closest(quote: Quote, text: Folded) -> Closest | None:
    """The stretch of the text most like the quote, with a word diff; None where no word is in common.

    The quote's words vote for the offset at which they stand in the text, rare words with more weight; the best offset
    is aligned word by word, and what lies far from the body of the alignment is left out.
    """
    wanted, present = quote.core.tokens(), text.tokens()
    offset = _best_offset([token.text for token in wanted], [token.text for token in present])
    if offset is None:
        return None
    slack = len(wanted) // 2 + 8
    low, high = max(0, offset - slack), min(len(present), offset + len(wanted) + slack)
    near = present[low:high]
    body = _body([token.text for token in wanted], [token.text for token in near])
    if body is None:
        return None
    source = near[body[0] : body[1]]
    similarity = Indel.normalized_similarity([t.text for t in wanted], [t.text for t in source])
    return Closest(source[0].start, source[-1].end, round(similarity, 4), _edits(quote.core, wanted, text, source))


def _without_marks(text: str) -> Iterator[str]:
    """The text, and what is left of it when pairs of quotation marks around it are taken off, one after another."""
    yield text
    for _ in range(_MOST_MARKS):
        if len(text) < 2 or text[-1] not in _MARKS.get(text[0], ""):
            return
        text = text[1:-1].strip()
        yield text


def _core(text: str) -> str:
    """The text without ellipses around it, and without quotation marks inside of those."""
    *_, core = _without_marks(_OUTER_ELLIPSIS.sub("", text).strip())
    return _OUTER_ELLIPSIS.sub("", core).strip()


def _bare(text: str) -> _Readings:
    """The text without the mark at its end, be it in or after quotation marks."""
    if text[-1:] not in _TRAILING or text[-2:-1] == text[-1:] or is_greek_question(text):
        return {}
    bare = text[:-1].rstrip()
    return {(reading, False, True): None for reading in (bare, _core(bare)) if reading}


def _forms(readings: _Readings) -> tuple[Form, ...]:
    folded = ((Folded(text), kind) for text, *kind in readings)
    return tuple(
        Form(form.raw, plain, form.dashes(0, len(form.raw)), *kind)
        for form, kind in folded
        if (plain := form.text.strip(" "))
    )


def _parts(parts: list[str]) -> tuple[tuple[Form, ...], ...]:
    if not 2 <= len(parts) <= _MOST_PARTS or any(count_words(Folded(part)) < MIN_ELIDED_WORDS for part in parts):
        return ()
    readings: list[_Readings] = [{(part, True, False): None} for part in parts]
    readings[-1].update(_bare(parts[-1]))
    return tuple(_forms(reading) for reading in readings)


def _literal(needle: str, raw: str, region: tuple[int, int]) -> Iterator[tuple[int, int]]:
    start = raw.find(needle, *region)
    for _ in range(_MOST_PLACES):
        if start < 0:
            return
        if _stands_free(raw, start, start + len(needle)):
            yield start, start + len(needle)
        start = raw.find(needle, start + 1, region[1])


def _folded(form: Form, text: Folded, region: tuple[int, int]) -> Iterator[tuple[int, int]]:
    low, high = text.folded_at(region[0]), text.folded_at(region[1])
    at = text.text.find(form.folded, low, high)
    for _ in range(_MOST_PLACES):
        if at < 0:
            return
        start, end = text.raw_start(at), text.raw_end(at + len(form.folded))
        if start is not None and end is not None and _stands_for(form, text, start, end):
            yield start, end
        at = text.text.find(form.folded, at + 1, high)


def _stands_free(raw: str, start: int, end: int) -> bool:
    return is_boundary(raw, start, closing=False) and is_boundary(raw, end, closing=True)


def _stands_for(form: Form, text: Folded, start: int, end: int) -> bool:
    """Whether a stretch of the source that folds like the form may be called its source."""
    if not _same_dashes(form.dashes, text.dashes(start, end)):
        return False
    return _stands_free(text.raw, start, end) and not (form.bare and asks_or_exclaims(text.raw, end))


def _same_dashes(ours: str, theirs: str) -> bool:
    """Whether hyphens in place of a dash are as many in both, or a dash in one: ``--`` is never ``-``."""
    if ours == theirs or not _DOUBLED.intersection(ours + theirs):
        return True
    pairs = zip(ours, theirs, strict=False)
    return len(ours) == len(theirs) and all(
        a == b or "—" in a + b or not _DOUBLED.intersection(a + b) for a, b in pairs
    )


def _in_order(parts: Sequence[tuple[Form, ...]], text: Folded, region: tuple[int, int]) -> Spans:
    """One place for each part, each after the last, inside the region; the nearest together that end first."""
    places: list[list[tuple[int, int]]] = []
    at, end = region
    for part in parts:
        inside = sorted(span for form in part for span in _places(form, text, (at, end)))
        if not inside:
            return ()
        places.append(inside)
        at = min(stop for _, stop in inside)
    spans = [min(places[-1], key=lambda span: span[1])]
    for inside in reversed(places[:-1]):
        spans.insert(0, max(span for span in inside if span[1] <= spans[0][0]))
    return tuple(spans)


def _places(form: Form, text: Folded, region: tuple[int, int]) -> Iterator[tuple[int, int]]:
    if form.literal:
        yield from _literal(form.text, text.raw, region)
    yield from (span for span in _folded(form, text, region) if region[0] <= span[0] and span[1] <= region[1])


def _best_offset(wanted: list[str], present: list[str]) -> int | None:
    """The token of the text at which the quote would begin, by the votes of the words that both have."""
    where: dict[str, list[int]] = defaultdict(list)
    asked = set(wanted)
    for index, word in enumerate(present):
        if word in asked:
            where[word].append(index)
    votes: Counter[int] = Counter()
    width = max(2, len(wanted) // 8)
    rarest = sorted((len(where[word]), index) for index, word in enumerate(wanted) if word in where)
    for count, index in islice(rarest, _MOST_VOTERS):
        weight = _weight(wanted[index], count)
        for place in where[wanted[index]][:_COMMON_WORD]:
            # Neighbouring buckets too: insertions and omissions shift what comes after them.
            bucket = (place - index) // width
            for near, share in ((bucket, 1.0), (bucket - 1, 0.5), (bucket + 1, 0.5)):
                votes[near] += weight * share  # type: ignore[assignment]  # Counter takes floats
    return votes.most_common(1)[0][0] * width if votes else None


def _weight(word: str, count: int) -> float:
    return (1.0 if word[0].isalnum() else 0.1) / math.sqrt(count)


def _body(wanted: list[str], near: list[str]) -> tuple[int, int] | None:
    """``[start, end)`` of the tokens that answer to the quote: the run of common blocks that outweighs its gaps,
    and as many tokens at its ends as the quote has there.
    """
    blocks = [op for op in Levenshtein.opcodes(wanted, near) if op.tag == "equal"]
    best, best_score = (0, 0), 0.0
    first, score = 0, 0.0
    for index, block in enumerate(blocks):
        gap = block.dest_start - blocks[index - 1].dest_end if index else 0
        score -= 0.5 * gap
        if score <= 0:
            first, score = index, 0.0
        score += block.dest_end - block.dest_start
        if score > best_score:
            best, best_score = (first, index), score
    if not blocks:
        return None
    head, tail = blocks[best[0]], blocks[best[1]]
    start = max(0, head.dest_start - head.src_start)
    return start, min(len(near), tail.dest_end + len(wanted) - tail.src_end)


def _edits(quote: Folded, wanted: Sequence[Token], text: Folded, source: Sequence[Token]) -> tuple[Edit, ...]:
    names: dict[str, Change] = {"equal": "same", "replace": "changed", "delete": "added", "insert": "dropped"}
    steps = Levenshtein.opcodes([token.text for token in wanted], [token.text for token in source])
    return tuple(
        Edit(
            names[step.tag],
            _slice(quote.raw, wanted[step.src_start : step.src_end]),
            _slice(text.raw, source[step.dest_start : step.dest_end]),
        )
        for step in steps
    )


def _slice(raw: str, tokens: Sequence[Token]) -> str:
    return raw[tokens[0].start : tokens[-1].end] if tokens else ""
