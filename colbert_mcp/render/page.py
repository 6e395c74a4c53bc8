"""One self-contained HTML page of an answer: passages in their source, the quote marked, a heat map of similarities.

The page loads nothing and runs no script but its own, which its policy names by hash; everything from documents is
escaped. It is readable without the script, by keyboard, and in light and dark. Knows result types and Jinja.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from colbert_mcp.render.escaping import visible
from colbert_mcp.results import Passage, SearchOutput, TokenHeat, TokenMatch

# Similarities below it say little: the colours start there, in the script as here.
_COLDEST = 0.5


@dataclass(frozen=True, slots=True)
class Entry:
    """A result with what the page shows of it. ``passage.explanation`` may be None (a lexical search)."""

    passage: Passage
    before_text: str
    after_text: str
    verdict: str | None


class _Piece(NamedTuple):
    """Text of a passage; ``similarities`` are percents, one for each query token, "" where no token stands."""

    text: str
    similarities: str
    heat: str


class _Run(NamedTuple):
    quoted: bool
    pieces: list[_Piece]


def report_page(output: SearchOutput, entries: Sequence[Entry], *, written: str, version: str) -> str:
    """The page as text; ``entries`` are the answer's results, ``written`` is the time to show on it."""
    explanations = [entry.passage.explanation for entry in entries]
    explained = next((explanation for explanation in explanations if explanation is not None), None)
    style, script = _asset("report.css"), _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _template().render(
        query=visible(output.query, keep="\t"),
        words=[visible(m.query, keep="") for m in explained.matches if m.query_span] if explained else [],
        results=[_shown(entry) for entry in entries],
        notice=visible(output.notice) if output.notice else None,
        generation=output.generation,
        written=written,
        version=version,
        style=Markup(style),  # noqa: S704  # both are files of this package
        script=Markup(script),  # noqa: S704
        script_hash=f"sha256-{digest}",
    )


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_asset("report.html"))


def _asset(name: str) -> str:
    return files("colbert_mcp.render").joinpath(name).read_text(encoding="utf-8")


def _shown(entry: Entry) -> dict[str, object]:
    passage, explanation = entry.passage, entry.passage.explanation
    return {
        "passage": passage,
        "title": visible(passage.title, keep=""),
        "where": visible(_where(passage), keep=""),
        "quote": visible(" ".join((passage.quote or "").split()), keep=""),
        "verdict": entry.verdict,
        "before": _source(entry.before_text),
        "after": _source(entry.after_text),
        "runs": list(_runs(passage, explanation.heat or [] if explanation else [])),
        "matches": [_shown_match(match) for match in explanation.matches] if explanation else [],
        "coordinates": list(_coordinates(passage)),
    }


def _shown_match(match: TokenMatch) -> TokenMatch:
    return match.model_copy(update={"query": visible(match.query, keep=""), "text": visible(match.text, keep="")})


def _where(passage: Passage) -> str:
    part = f", page {passage.page}" if passage.page else f", cell {passage.cell}" if passage.cell else ""
    lines = f"line {passage.line_start}" + (f"–{passage.line_end}" if passage.line_end > passage.line_start else "")
    return f"{passage.path}{part}, {lines}"


def _coordinates(passage: Passage) -> Iterator[tuple[str, str]]:
    yield "passage", passage.id
    yield "file", visible(passage.path, keep="")
    if passage.heading:
        yield "heading", visible(passage.heading, keep="")
    if passage.part_span:
        kind, number = ("page", passage.page) if passage.page else ("cell", passage.cell)
        yield kind, f"{number}, characters {passage.part_span[0]}–{passage.part_span[1]} of it"
    yield "characters", f"{passage.char_start}–{passage.char_end}"
    if passage.quote_span:
        yield "of the quote", f"{passage.quote_span[0]}–{passage.quote_span[1]}"
    if passage.byte_start is not None:
        yield "bytes", f"{passage.byte_start}–{passage.byte_end}"
    lines = (passage.line_start, passage.column_start, passage.line_end, passage.column_end)
    yield "lines", "{}:{}–{}:{}".format(*lines)
    yield "encoding", f"{passage.encoding}, line ends {passage.newline}"
    yield "SHA-256", passage.sha256
    yield "of the file", passage.file_sha256
    yield "indexed", passage.indexed_at
    scores = {
        "score": passage.score,
        "reranker": passage.reranker,
        "MaxSim": passage.maxsim,
        "BM25": passage.bm25,
        "dense": passage.dense,
    }
    yield "scores", ", ".join(f"{name} {value:.4f}" for name, value in scores.items() if value is not None)
    for twin in passage.also_at:
        yield "also at", visible(f"{twin.path}:{twin.line_start}", keep="")


def _runs(passage: Passage, heat: Sequence[TokenHeat]) -> Iterator[_Run]:
    """The passage cut at the quote's ends, each stretch cut at its tokens; tokens never overlap in what is shown."""
    start, end = passage.quote_span or (passage.char_end, passage.char_end)
    for quoted, first, last in ((False, passage.char_start, start), (True, start, end), (False, end, passage.char_end)):
        if first < last:
            yield _Run(quoted, list(_pieces(passage, heat, first, last)))


def _pieces(passage: Passage, heat: Sequence[TokenHeat], first: int, last: int) -> Iterator[_Piece]:
    at = first
    for token in heat:
        start, end = max(token.span[0], at), min(token.span[1], last)
        if start >= end:
            continue
        if at < start:
            yield _piece(passage, at, start, None)
        yield _piece(passage, start, end, token)
        at = end
    if at < last:
        yield _piece(passage, at, last, None)


def _piece(passage: Passage, start: int, end: int, token: TokenHeat | None) -> _Piece:
    text = _source(passage.text[start - passage.char_start : end - passage.char_start])
    if token is None:
        return _Piece(text, "", "")
    warmth = max(0.0, (max(token.similarities) - _COLDEST) / (1 - _COLDEST))
    return _Piece(text, " ".join(f"{100 * value:.0f}" for value in token.similarities), f"{warmth:.2f}")


def _source(text: str) -> str:
    return visible(text.replace("\r\n", "\n").replace("\r", "\n"))
