"""Passages with their citations, and the answers that hold them."""

from typing import Annotated, TypeAlias

from pydantic import Field

from colbert_mcp.results.base import Result
from colbert_mcp.types import Status


class Place(Result):
    """Another place where exactly the same passage stands."""

    id: str
    path: str
    line_start: int
    line_end: int


Score: TypeAlias = Annotated[float | None, Field(description="null where this mode does not use it")]


class TokenMatch(Result):
    """A token of the query and the token of the passage that is most similar to it; MaxSim is the mean of these."""

    query: str = Field(description="as typed; a special token by its name")
    query_span: tuple[int, int] | None = Field(description="[start, end] in the query; null for a special token")
    text: str = Field(description="as it stands in the passage; a special token by its name")
    span: tuple[int, int] | None = Field(description="[char_start, char_end] in the file; null for a special token")
    similarity: float = Field(description="-1 to 1")


class TokenHeat(Result):
    """How similar a token of the passage is to each token of the query."""

    span: tuple[int, int] = Field(description="[char_start, char_end] in the file")
    similarities: list[float] = Field(description="-1 to 1, of each typed token of the query, in the order of matches")


class Explanation(Result):
    """Why a passage was found: each token of the query with its match, and on demand all tokens of the passage."""

    matches: list[TokenMatch]
    heat: list[TokenHeat] | None = None


class Passage(Result):
    """A chunk with its citation: what it says, where exactly it stands, and whether the source still says so."""

    id: str = Field(description="stable id for get_passage")
    title: str
    url: str = Field(description="openable link to the lines; cite as [title](url)")
    text: str = Field(description="the passage, exactly as it stands in the file")
    score: float | None = Field(default=None, description="0 to 1, orders this answer only")
    reranker: float | None = Field(
        default=None, description="higher is better; null without a reranker, or where it has not read the passage"
    )
    maxsim: Score = Field(default=None, description="-1 to 1, mean best similarity per query token")
    bm25: Score = Field(default=None, description="0 or more, higher is better")
    dense: Score = Field(default=None, description="-1 to 1, cosine of whole-passage vectors")
    path: str = Field(description="absolute path; bytes that are not UTF-8 are written as \\xNN")
    byte_start: int | None
    byte_end: int | None
    char_start: int
    char_end: int
    line_start: int
    line_end: int
    column_start: int
    column_end: int
    page: int | None = Field(default=None, description="page of a PDF, from 1")
    cell: int | None = Field(default=None, description="cell of a notebook, from 1")
    part_span: tuple[int, int] | None = Field(
        default=None, description="[char_start, char_end] within that page's or cell's own text"
    )
    heading: str | None = Field(description="heading path or enclosing definitions, joined by ' > '")
    quote: str | None = Field(default=None, description="the sentences nearest to the query, verbatim")
    quote_span: tuple[int, int] | None = Field(default=None, description="[char_start, char_end] of quote in the file")
    sha256: str = Field(
        description="SHA-256, when indexed, of the source bytes at byte_start:byte_end; of text if those are null"
    )
    file_sha256: str = Field(description="SHA-256 of the whole file when indexed")
    encoding: str = Field(description="of the file; 'extracted' where spans count in text extracted from it")
    newline: str = Field(description="lf, crlf, cr, mixed or none")
    status: Status = Field(
        description="whether the file still says so; path and spans are where it stands now if relocated"
    )
    status_reason: str | None = None
    indexed_at: str
    also_at: list[Place] = Field(
        default_factory=list, description="up to ten other files that hold the very same text now"
    )
    near_duplicate_of: str | None = Field(
        default=None, description="id of an earlier result of this answer that says nearly the same"
    )
    explanation: Explanation | None = None


class SearchOutput(Result):
    """Ranked passages and what was left out of them."""

    query: str
    results: list[Passage]
    candidates: int = Field(description="passages scored exactly")
    truncated: bool = Field(description="results were withheld to stay within max_tokens")
    withheld: list[str] = Field(description="ids of the withheld results, best first")
    tokens: int = Field(description="size of this answer, counted with cl100k_base")
    generation: int = Field(description="state of the index that was searched")
    weak: bool | None = Field(
        default=None, description="the best passage matches no better than for unrelated questions; null if not judged"
    )
    uncovered: list[str] | None = Field(
        default=None, description="words of the query that no result is about; null without explain"
    )
    notice: str | None = None


class PassageOutput(Result):
    """One passage with its surroundings."""

    passage: Passage
    before_text: str
    after_text: str
    generation: int
    notice: str | None = None


class ExplainOutput(Result):
    """Why a passage matches a query, token by token."""

    query: str
    passage: Passage = Field(description="with its explanation, heat included")
    generation: int
    notice: str | None = None
