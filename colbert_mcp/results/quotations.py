"""What became of a quotation, and of every quotation of an answer."""

from typing import Literal, TypeAlias

from pydantic import Field

from colbert_mcp.results.base import Result
from colbert_mcp.types import Status

Verdict: TypeAlias = Literal["exact", "normalised", "elided", "misattributed", "altered", "not_found"]
VERIFIED: frozenset[Verdict] = frozenset({"exact", "normalised", "elided"})


class QuoteMatch(Result):
    """A place where a quote stands, or for ``altered`` the closest text; where it stands now, if relocated."""

    passage_id: str
    passage_ids: list[str] = Field(description="every passage it spans, in order; passage_id is the first")
    path: str
    url: str = Field(description="openable link to the lines; cite as [title](url)")
    char_start: int
    char_end: int
    line_start: int
    line_end: int
    page: int | None = None
    cell: int | None = None
    text: str = Field(description="what the index holds there, verbatim")
    spans: list[tuple[int, int]] = Field(description="[char_start, char_end] of each part; several only if elided")
    status: Status = Field(description="whether the file still says so")
    status_reason: str | None = None


class QuoteEdit(Result):
    """A step of the word diff from the quote to the closest text."""

    op: Literal["same", "changed", "added", "dropped"] = Field(
        description="added: only the quote has it; dropped: only the source has it"
    )
    quote: str
    source: str


class VerifyOutput(Result):
    """Whether a quote stands in the indexed text, where, and whether the source still says so."""

    quote: str
    verdict: Verdict = Field(
        description="exact; normalised (but for white space, typography, case); elided (marked omissions); "
        "misattributed (stands elsewhere); altered (see diff); not_found. Only the first three are quotes of the source"
    )
    status: Status | None = Field(description="of the first match's source, else of the named passage's")
    status_reason: str | None = None
    matches: list[QuoteMatch] = Field(description="where it stands, at most ten; for altered the closest text")
    omitted: list[str] = Field(description="what the ellipses of an elided quote leave out, in order")
    diff: list[QuoteEdit] | None = Field(default=None, description="for altered: word for word, quote against source")
    similarity: float | None = Field(default=None, description="for altered: 0 to 1, share of common words")
    notice: str | None = None
    generation: int


class QuoteCheck(Result):
    """A quotation found in an answer, and what became of it; ``output`` is null where it could not be verified."""

    line: int = Field(description="line of the answer, from 1")
    quote: str
    citation: str | None = Field(description="the link or id it belongs to, as the answer writes it")
    output: VerifyOutput | None
    problem: str | None = None


class AnswerOutput(Result):
    """The quotations of an answer."""

    checks: list[QuoteCheck]
    verified: int
    skipped: int = Field(description="one or two words between quotation marks, no citation in their sentence")
