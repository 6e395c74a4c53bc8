"""What is answered: the results that both faces return, and that the MCP server publishes as schemas.

Standard library and pydantic only, so that ``serve`` can publish them before anything heavy is loaded. Spans and lines
count as in ``types``.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from colbert_mcp.types import Status

RunState: TypeAlias = Literal["running", "done", "cancelled", "failed", "planned"]
Verdict: TypeAlias = Literal["exact", "normalised", "elided", "misattributed", "altered", "not_found"]
VERIFIED: frozenset[Verdict] = frozenset({"exact", "normalised", "elided"})

# Reasons for skipping that a person chose or expects: they are listed after the others, and counted only in a terminal.
EXPECTED_SKIPS = frozenset({"hidden", "ignored by .gitignore or .ignore", "excluded", "not included", "empty"})


class Result(BaseModel):
    """Base of all answers: frozen, and strict about what it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    skipped: int = Field(description="one or two words between quotation marks, no citation after them")


class Skipped(Result):
    """A file or folder that was not indexed, and why."""

    path: str
    reason: str


class IndexPlan(Result):
    """What a run would meet and cost; what it would do stands in the counts beside it."""

    new: int = Field(description="files that are not in the index")
    changed: int = Field(description="files that have changed since they were indexed")
    estimated: bool = Field(description="chunks, reused and tokens were counted on a sample, or by another tokenizer")
    seconds: float | None = Field(description="at the rate of the last run; null before there was one")
    bytes: int | None = Field(description="disk space that the index would take in addition; null if not known")


class IndexOutput(Result):
    """How an indexing run went, or how far it is; if ``planned``, what a run would do."""

    state: RunState
    path: str
    files_total: int
    files_done: int
    indexed: int = Field(description="files new or changed, read by this run")
    unchanged: int
    removed: int = Field(description="files that left the index")
    skipped: int
    chunks: int = Field(description="passages encoded")
    reused: int = Field(description="passages whose text had been encoded before, so their embeddings were reused")
    tokens: int = Field(description="of the passages encoded")
    seconds: float
    generation: int
    problems: list[Skipped] = Field(description="what was skipped and why; at most 50 are listed")
    skipped_by_reason: dict[str, int]
    plan: IndexPlan | None = Field(default=None, description="of a dry run")
    notice: str | None = None


class SourceRoot(Result):
    """A folder or file that was given to index_path."""

    path: str
    include: list[str]
    exclude: list[str]
    documents: int
    passages: int
    indexed_at: str | None


class SourceDocument(Result):
    """One indexed file."""

    path: str
    format: str
    encoding: str
    newline: str
    size: int
    passages: int
    sha256: str
    indexed_at: str


class SourcesOutput(Result):
    """What is indexed."""

    roots: list[SourceRoot]
    documents: list[SourceDocument]
    total_documents: int
    truncated: bool
    generation: int


class RemoveOutput(Result):
    """What remove_path took out of the index."""

    path: str
    removed_documents: int
    removed_passages: int
    kept_documents: int = Field(description="files kept because another indexed root holds them")
    generation: int
    notice: str | None = None


class Ledger(Result):
    """Non-blank characters of the indexed texts that no token embedding stands for."""

    unchunked: int = Field(description="outside of every encoded chunk; must be 0")
    unknown: int = Field(description="under the tokenizer's unknown token")
    skipped: int = Field(description="under tokens that the model skips, such as punctuation")
    untokenized: int = Field(description="under no token, such as control characters")


class StatusOutput(Result):
    """The index, the model and what is going on."""

    index: str
    generation: int
    documents: int
    passages: int
    tokens: int
    characters: int
    ledger: Ledger
    bytes: dict[str, int] = Field(description="disk use of catalogue, tokens and chroma")
    roots: int
    model: str
    device: str | None = Field(description="null until the model has been needed")
    dtype: str | None
    document_length: int | None
    chroma: str
    read_only: bool
    runs: list[IndexOutput]
    version: str


class RunOutput(Result):
    """How an indexing run stands, as one process tells another."""

    output: IndexOutput
    bytes_done: int
    bytes_total: int


class EngineStatus(Result):
    """The engine process that owns an index and serves its clients."""

    pid: int
    port: int
    version: str
    started: str
    uptime_seconds: float
    idle_seconds: float = Field(description="since the last call, or since a run ended; 0 while there is one")
    idle_minutes: float = Field(description="after so long without a call it leaves")
    clients: int = Field(description="processes that have called and still live")
    model: str
    model_loaded: bool
    memory_bytes: int | None = Field(description="resident memory; null where the system does not tell")
    index: str
    log: str


class EngineOutput(Result):
    """Whether an engine runs for an index, and which."""

    index: str
    running: bool
    stopped: bool = Field(default=False, description="whether this call ended it")
    engine: EngineStatus | None
