"""What indexing, removing and looking after an index answer."""

from typing import Literal, TypeAlias

from pydantic import Field

from colbert_mcp.results.base import Result
from colbert_mcp.types import EmbeddingFormat

RunState: TypeAlias = Literal["running", "done", "cancelled", "failed", "planned"]
WatchState: TypeAlias = Literal["starting", "watched", "polled", "missing", "empty"]
# Reasons for skipping that a person chose or expects: they are listed after the others, and counted only in a terminal.
EXPECTED_SKIPS = frozenset({"hidden", "ignored by .gitignore or .ignore", "excluded", "not included", "empty"})


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
    skipped_as_before: bool = Field(
        default=False, description="whether the last run skipped the same, leaving aside what a person chose or expects"
    )
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


class Reclaimed(Result):
    """Bytes on disk of a part of the index."""

    before: int
    after: int


class GcOutput(Result):
    """What gc did, and what it gave back."""

    former: int = Field(description="former passages deleted, whose ids are not answered any more")
    merged: int = Field(description="segments of token embeddings rewritten as one")
    embedding_format: EmbeddingFormat = Field(description="how token embeddings are kept")
    converted: int = Field(description="passages whose token embeddings were kept otherwise, and were converted")
    chroma_rebuilt: bool = Field(description="whether Chroma's files held what was deleted, and were written anew")
    parts: dict[str, Reclaimed] = Field(description="catalogue, tokens and chroma")
    seconds: float
    generation: int
    notice: str | None = None


class Ledger(Result):
    """Non-blank characters of the indexed texts that no token embedding stands for."""

    unchunked: int = Field(description="outside of every encoded chunk; must be 0")
    unknown: int = Field(description="under the tokenizer's unknown token")
    skipped: int = Field(description="under tokens that the model skips, such as punctuation")
    untokenized: int = Field(description="under no token, such as control characters")


class WatchedRoot(Result):
    """A root that is watched for changes, and what the last run did that a change led to."""

    path: str
    state: WatchState = Field(
        description="watched; polled: looked through every minute, for the reason given; missing or empty: waited for"
    )
    reason: str | None
    last_run: str | None
    last_state: RunState | None
    indexed: int = Field(description="files that the last run read")
    removed: int = Field(description="files that left the index in it")


class StatusOutput(Result):
    """The index, the model and what is going on."""

    index: str
    generation: int
    documents: int
    passages: int
    tokens: int
    characters: int
    ledger: Ledger
    embedding_format: EmbeddingFormat = Field(description="how token embeddings of new passages are kept")
    kept_otherwise: int = Field(description="passages whose token embeddings are not kept so, until gc converts them")
    bytes: dict[str, int] = Field(description="disk use of catalogue, tokens and chroma")
    roots: int
    model: str
    device: str | None = Field(description="null until the model has been needed")
    dtype: str | None
    document_length: int | None
    reranker: str | None = Field(description="the configured one; null if there is none")
    chroma: str
    read_only: bool
    runs: list[IndexOutput]
    watching: list[WatchedRoot] | None = Field(description="the roots that are watched; null if none ever is")
    version: str
    notice: str | None = Field(default=None, description="what to know of the model, once it is loaded")


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
    silent_pid: int | None = Field(default=None, description="its process, where that does not answer")
    log: str | None = Field(default=None, description="what the latest engine wrote, if there was one")
