"""Whether a quotation stands in the indexed text: in the passage or file it is attributed to, else elsewhere, else what
is closest; and, apart from that, whether the source still says so.

The verdict is on the text that the index holds. A quote may run over several passages of a file: their text is put
together from their spans, with the white space between them rebuilt where line numbers tell it, else as spaces (which
makes such a quote ``normalised``). Knows stored passages and quotes; nothing of ranking or models.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, pairwise

from colbert_mcp.citations import Sources, Standing, find_passage, link, part_number
from colbert_mcp.documents import display_path
from colbert_mcp.errors import QueryError
from colbert_mcp.quoting.candidates import COMPARED, SEARCHED, Candidates
from colbert_mcp.quoting.folding import Folded
from colbert_mcp.quoting.naming import CitedPlace, named_files
from colbert_mcp.quoting.quotes import Closest, Finding, Quote, closest, find, find_elided, read_quote
from colbert_mcp.results import VERIFIED, QuoteEdit, QuoteMatch, Verdict, VerifyOutput
from colbert_mcp.store import Reader, Snapshot, StoredPassage, not_whole
from colbert_mcp.types import Status

MOST_MATCHES = 10
LEAST_SIMILARITY = 0.5
_LONG = 20_000
_TELLING_WORDS = 32
_SURE = 4
_LINE_END = re.compile(r"\r\n|\n|\r")
_WORSE: tuple[Status, ...] = ("current", "relocated", "modified", "missing")
_ORDER = ("exact", "normalised", "elided")


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be verified. ``scope`` holds real paths outside of which nothing is looked at (empty: everywhere);
    ``notice`` is passed on with the answer.
    """

    quote: str
    passage_id: str | None
    path: str | os.PathLike[str] | None
    scope: tuple[bytes, ...] = ()
    notice: str | None = None


@dataclass(frozen=True)
class Stretch:
    """Consecutive passages of one document, and their text put together."""

    passages: tuple[StoredPassage, ...]

    @property
    def base(self) -> int:
        """The character of the document at which the text starts."""
        return self.passages[0].chunk.span.char_start

    @cached_property
    def text(self) -> Folded:
        """The passages' text with what lies between them."""
        windows = any("\r\n" in passage.chunk.text for passage in self.passages)
        parts = [self.passages[0].chunk.text]
        for before, after in pairwise(self.passages):
            length = after.chunk.span.char_start - before.chunk.span.char_end
            lines = after.chunk.span.line_start - before.chunk.span.line_end
            end = "\r\n" if windows else "\n"
            parts.append(end * lines if length == len(end) * lines else " " * length)
            parts.append(after.chunk.text)
        return Folded("".join(parts))

    def region(self, passage: StoredPassage) -> tuple[int, int]:
        """Where a passage stands in the text."""
        return passage.chunk.span.char_start - self.base, passage.chunk.span.char_end - self.base

    def spanned(self, start: int, end: int) -> list[StoredPassage]:
        """The passages that ``[start, end)`` of the text overlaps."""
        return [p for p in self.passages if self.region(p)[0] < end and self.region(p)[1] > start]


@dataclass(frozen=True, slots=True)
class _Place:
    stretch: Stretch
    finding: Finding

    @property
    def key(self) -> tuple[bytes, int]:
        return self.stretch.passages[0].path, self.stretch.base + self.finding.start


@dataclass(frozen=True, slots=True)
class _Named:
    """What a quote is attributed to: ``[start, end)`` of a stretch, wider where less than a file is named."""

    stretch: Stretch
    start: int
    end: int
    passage: StoredPassage | None = None
    place: CitedPlace | None = None
    notice: str | None = None

    def holds(self, place: _Place) -> bool:
        """Whether a place is in the same file."""
        return place.stretch.passages[0].path == self.stretch.passages[0].path


def verify(snapshot: Snapshot, claim: Claim, max_bytes: int) -> VerifyOutput:
    """Verify a quote against a passage, or a file, or (with neither) the whole index.

    Raises PassageNotFoundError where no file of the path is indexed, and only then EmptyQueryError or QueryError for a
    quote that cannot be asked for.
    """
    if claim.passage_id is not None and claim.path is not None:
        raise QueryError("Both a passage and a path are given; give one of them, or neither.")
    files = None if claim.path is None else named_files(snapshot.reader, os.fspath(claim.path), claim.scope)
    verifier = _Verifier(snapshot.reader, read_quote(claim.quote), claim.scope, Sources(snapshot.reader, max_bytes))
    named = verifier.passage(claim.passage_id) if claim.passage_id is not None else None
    if files:
        named = verifier.in_files(*files)
    verdict, places, nearest = verifier.judge(named)
    matches = [verifier.match(place) for place in places[:MOST_MATCHES]]
    status, reason = verifier.standing(matches, named)
    notices = [named.notice if named else None, claim.notice, None if len(snapshot) else "Nothing is indexed yet."]
    if named and named.place and matches and verdict != "altered" and named.holds(places[0]):
        notices.append(_off_place(named.place, places[0], matches[0], verdict))
    if named and nearest and not named.holds(places[0]):
        notices.append("The closest text stands elsewhere than in what was named.")
    return VerifyOutput(
        quote=claim.quote,
        verdict=verdict,
        status=status,
        status_reason=reason,
        matches=matches,
        omitted=_omitted(places[0]) if verdict == "elided" else [],
        diff=[QuoteEdit(op=e.op, quote=e.quote, source=e.source) for e in nearest.edits] if nearest else None,
        similarity=nearest.similarity if nearest else None,
        notice=" ".join(filter(None, notices)) or None,
        generation=snapshot.generation,
    )


class _Verifier:
    """One quote against one generation of the index."""

    def __init__(self, reader: Reader, quote: Quote, scope: Sequence[bytes], sources: Sources) -> None:
        self._reader = reader
        self._quote = quote
        self._scope = scope
        self._sources = sources
        # What a quote of this length may span, with room for more white space than the quote has.
        self._reach = 2 * len(quote.core.raw) + 200
        # A long quote makes wide windows: fewer of them are compared.
        self._most_compared = min(8, max(2, COMPARED // self._reach))
        self._candidates = Candidates(reader, quote, scope)

    def passage(self, passage_id: str) -> _Named:
        """A passage as what the quote is attributed to."""
        stored, notice = find_passage(self._reader, passage_id, self._scope)
        stretch = self._around(stored)
        return _Named(stretch, *stretch.region(stored), passage=stored, notice=notice)

    def in_files(self, files: Sequence[Sequence[StoredPassage]], place: CitedPlace | None) -> _Named:
        """The file of a name that the quote is attributed to: of several the one that holds the quote, if one does."""
        if len(files) == 1:
            return _in_file(files[0], place)
        notice = f"{len(files)} indexed files are called so."
        several = (_in_file(passages, place, notice) for passages in files)
        return next((n for n in several if self._held(n.stretch, n.start, n.end)), _in_file(files[0], place, notice))

    def judge(self, named: _Named | None) -> tuple[Verdict, list[_Place], Closest | None]:
        """The verdict, where the quote stands, and, for ``altered``, the closest text in the first place."""
        if named:
            held = self._held(named.stretch, named.start, named.end)
            if held:
                return held[0].finding.kind, held, None
            beside = self._held(named.stretch, 0, len(named.stretch.text.raw)) if named.place else []
            if beside:
                return "misattributed", beside, None
        elsewhere = self._elsewhere()
        if elsewhere:
            return "misattributed" if named else elsewhere[0].finding.kind, elsewhere, None
        place, nearest = self._closest(named, self._candidates.near.values())
        return ("altered", [place], nearest) if place and nearest else ("not_found", [], None)

    def match(self, place: _Place) -> QuoteMatch:
        """A place as it is reported: where it stands now, if its passages have moved together."""
        stretch, finding = place.stretch, place.finding
        spanned = stretch.spanned(finding.start, finding.end)
        standings = [self._sources.follow(passage, self._scope)[0] for passage in spanned]
        moved = [s.span.char_start - p.chunk.span.char_start for p, s in zip(spanned, standings, strict=True)]
        worst = max(standings, key=lambda standing: _WORSE.index(standing.status))
        status, reason, shift = worst.status, worst.reason, moved[0]
        if len(set(moved)) > 1 and status in ("current", "relocated"):
            status, reason = "modified", "what the quote spans no longer stands together in the file"
        if status in ("modified", "missing"):
            standings, shift = [replace(s, span=p.chunk.span) for p, s in zip(spanned, standings, strict=True)], 0
        first = self._line(spanned[0], standings[0], stretch.base + finding.start)
        last = self._line(spanned[-1], standings[-1], stretch.base + finding.end)
        shift += stretch.base
        return QuoteMatch(
            passage_id=spanned[0].passage_id,
            passage_ids=[passage.passage_id for passage in spanned],
            path=display_path(standings[0].path),
            url=link(standings[0].path, spanned[0].format, standings[0].part, first, last),
            page=part_number(standings[0].part, "page"),
            cell=part_number(standings[0].part, "cell"),
            char_start=finding.start + shift,
            char_end=finding.end + shift,
            line_start=first,
            line_end=last,
            text=stretch.text.raw[finding.start : finding.end],
            spans=[(start + shift, end + shift) for start, end in finding.spans],
            status=status,
            status_reason=reason,
        )

    def standing(self, matches: list[QuoteMatch], named: _Named | None) -> tuple[Status | None, str | None]:
        """The status of the first match's source, else of the named passage's."""
        if matches:
            return matches[0].status, matches[0].status_reason
        if named is None or named.passage is None:
            return None, None
        standing, _ = self._sources.follow(named.passage, self._scope)
        return standing.status, standing.reason

    def _line(self, passage: StoredPassage, standing: Standing, char: int) -> int:
        inside = passage.chunk.text[: max(0, char - passage.chunk.span.char_start)]
        return standing.span.line_start + len(_LINE_END.findall(inside))

    def _around(self, stored: StoredPassage) -> Stretch:
        """A passage with as much of its document as the quote may span; a former passage alone."""
        if stored.chunk_id is None:
            return Stretch((stored,))
        span = stored.chunk.span
        around = self._reader.passages_between(stored.path, span.char_start - self._reach, span.char_end + self._reach)
        if stored.passage_id not in (passage.passage_id for passage in around):
            raise not_whole(stored.path)
        return Stretch(tuple(around))

    def _held(self, stretch: Stretch, start: int, end: int) -> list[_Place]:
        """The places, of the best kind there is, at which the quote overlaps ``[start, end)`` of a stretch."""
        found = [f for f in find(self._quote, stretch.text) if f.start < end and f.end > start]
        if not found and self._quote.parts:
            regions = [stretch.region(passage) for passage in stretch.spanned(start, end)]
            found = find_elided(self._quote, stretch.text, regions)
        return [_Place(stretch, f) for f in found if f.kind == found[0].kind]

    def _elsewhere(self) -> list[_Place]:
        """Where else the quote stands, best kind first."""
        found: dict[tuple[bytes, int], _Place] = {}
        left, exact = SEARCHED, 0
        for passages in self._candidates.stages():
            for passage in passages:
                stretch = self._around(passage)
                # Once the verdict is sure, only a few more places are looked for.
                left -= len(stretch.text.raw) * (_SURE if exact else 1)
                for place in self._held(stretch, *stretch.region(passage)):
                    found.setdefault(place.key, place)
                # Of the best kind enough is enough; a place of another kind hides no better one that comes later.
                exact = sum(place.finding.kind == "exact" for place in found.values())
                if left < 0 or exact >= MOST_MATCHES:
                    break
            if found or left < 0:
                break
        return sorted(found.values(), key=lambda place: (_ORDER.index(place.finding.kind), place.key))

    def _closest(
        self, named: _Named | None, candidates: Iterable[StoredPassage]
    ) -> tuple[_Place | None, Closest | None]:
        """The closest text: in what was named, if it is like the quote at all, else among the candidates."""
        if named:
            alone = [Stretch((named.passage,))] if named.passage else []
            place, nearest = self._nearest([*alone, *self._likeliest(named.stretch)])
            if nearest:
                return place, nearest
        return self._nearest(self._around(passage) for passage in islice(candidates, self._most_compared))

    def _likeliest(self, stretch: Stretch) -> list[Stretch]:
        """The stretch itself, or if it is long, what surrounds those of its passages that share most of the words."""
        if len(stretch.text.raw) <= _LONG:
            return [stretch]
        rare = sorted(set(self._quote.core.text.split()), key=len, reverse=True)[:_TELLING_WORDS]
        shared = {p.passage_id: _count_in(p.chunk.text.lower(), rare) for p in stretch.passages}
        best = sorted(stretch.passages, key=lambda passage: -shared[passage.passage_id])[: self._most_compared]
        return [self._around(passage) for passage in best]

    def _nearest(self, stretches: Iterable[Stretch]) -> tuple[_Place | None, Closest | None]:
        best: tuple[_Place | None, Closest | None] = (None, None)
        for stretch in stretches:
            nearest = closest(self._quote, stretch.text)
            if not nearest or nearest.similarity < LEAST_SIMILARITY:
                continue
            if best[1] is None or nearest.similarity > best[1].similarity:
                # The kind of this finding is not shown: the verdict is ``altered``.
                best = _Place(stretch, Finding("normalised", ((nearest.start, nearest.end),))), nearest
        return best


def _in_file(passages: Sequence[StoredPassage], place: CitedPlace | None, notice: str | None = None) -> _Named:
    """A file, or what it has at a place, as what a quote is attributed to."""
    stretch = Stretch(tuple(passages))
    there = place.passages(passages) if place else None
    if there is None:
        return _Named(stretch, 0, len(stretch.text.raw), notice=notice)
    start, end = (stretch.region(there[0])[0], stretch.region(there[-1])[1]) if there else (0, 0)
    return _Named(stretch, start, end, place=place, notice=notice)


def _off_place(cited: CitedPlace, place: _Place, match: QuoteMatch, verdict: Verdict) -> str | None:
    """Where the quote stands in the file that is cited, if not at the place which is.

    The line may be that at which its passage begins, and a quote that runs over two pages begins on the first of them.
    """
    if cited.kind == "line":
        stands = CitedPlace("line", match.line_start, match.line_end)
        begins = place.stretch.spanned(place.finding.start, place.finding.end)[0].chunk.span.line_start
        near = verdict in VERIFIED and (cited.first == begins or cited.touches(stands.first, stands.last))
    else:
        number = match.page if cited.kind == "page" else match.cell
        stands = CitedPlace(cited.kind, number or 0, number or 0)
        near = verdict in VERIFIED
    return None if near else f"It stands in the file that is cited, but at {stands} and not at {cited}."


def _omitted(place: _Place) -> list[str]:
    raw = place.stretch.text.raw
    return [raw[before[1] : after[0]] for before, after in pairwise(place.finding.spans)]


def _count_in(text: str, words: Sequence[str]) -> int:
    return sum(word in text for word in words)
