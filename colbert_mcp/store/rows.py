"""What the catalogue holds, as values, and the columns they are read from. Knows no connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from colbert_mcp.types import Chunk, DocumentRecord, FileStamp, Part, Span

_SPAN = "char_start, char_end, byte_start, byte_end, line_start, column_start, line_end, column_end"
CHUNK = f"{_SPAN}, page, cell, part_start, part_end, heading, sha256, text_sha256, text"
CHUNK_WIDTH = CHUNK.count(",") + 1
LIVE_PASSAGES = (
    "SELECT " + ", ".join(f"c.{name.strip()}" for name in CHUNK.split(",")) + ", c.passage_id, c.id, c.ordinal, d.path,"
    " d.size, d.mtime_ns, d.sha256, d.format, d.encoding, d.newline, d.indexed_at, c.segment, c.row"
    " FROM chunks c JOIN documents d ON d.id = c.document"
)


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as the catalogue has it."""

    id: int
    record: DocumentRecord
    indexed_at: str


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage as the catalogue has it, with what it keeps of its file when it was indexed.

    ``chunk_id`` and ``stamp`` are None for a former passage, which is no longer searched.
    """

    passage_id: str
    chunk_id: int | None
    ordinal: int
    chunk: Chunk
    path: bytes
    stamp: FileStamp | None
    file_sha256: str
    format: str
    encoding: str
    newline: str
    indexed_at: str


@dataclass(frozen=True, slots=True)
class Root:
    """A folder or file given to index_path."""

    id: int
    path: bytes
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    indexed_at: str | None


def chunk_of(row: Sequence[Any]) -> Chunk:
    """The chunk in the first columns of a row, which are CHUNK."""
    page, cell, start, end, heading, sha256, text_sha256, text = row[8:CHUNK_WIDTH]
    part = (
        None if start is None else Part("cell" if page is None else "page", cell if page is None else page, start, end)
    )
    return Chunk(
        Span(*row[:8]), text, sha256, text_sha256 or sha256, tuple(heading.split("\n")) if heading else (), part
    )


def stored_passage(row: Sequence[Any]) -> StoredPassage:
    """The passage in a row of LIVE_PASSAGES."""
    passage_id, chunk_id, ordinal, path, size, mtime, *facts = row[CHUNK_WIDTH : CHUNK_WIDTH + 11]
    return StoredPassage(passage_id, chunk_id, ordinal, chunk_of(row), path, FileStamp(size, mtime), *facts)
