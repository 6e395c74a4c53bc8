"""What the catalogue holds, as values, and the columns they are read from. Knows no connection.

A passage carries a *seal*: a digest of everything that its citation is made of. It is computed when the passage is
inserted and compared whenever one is read, so that a flipped bit is never cited.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from colbert_mcp.documents import display_path
from colbert_mcp.errors import REPAIR, IndexCorruptError
from colbert_mcp.types import Chunk, DocumentRecord, FileStamp, Part, Span

_SPAN = "char_start, char_end, byte_start, byte_end, line_start, column_start, line_end, column_end"
CHUNK = f"{_SPAN}, page, cell, part_start, part_end, heading, sha256, text_sha256, text"
CHUNK_WIDTH = CHUNK.count(",") + 1
# What is sealed, in this order: CHUNK, then these.
_SEALED_WIDTH = CHUNK_WIDTH + 8
LIVE_PASSAGES = (
    "SELECT " + ", ".join(f"c.{name.strip()}" for name in CHUNK.split(",")) + ", c.passage_id, c.ordinal, d.path,"
    " d.sha256, d.format, d.encoding, d.newline, d.indexed_at, c.seal, c.id, d.size, d.mtime_ns, c.segment, c.row"
    " FROM chunks c JOIN documents d ON d.id = c.document"
)
FORMER_PASSAGES = (
    f"SELECT {CHUNK}, passage_id, ordinal, path, file_sha256, format, encoding, newline, indexed_at, seal, NULL"
    " FROM former"
)
_SEAL_BYTES = 8


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


def _chunk_of(row: Sequence[Any]) -> Chunk:
    """The chunk in the first columns of a row, which are CHUNK."""
    page, cell, start, end, heading, sha256, text_sha256, text = row[8:CHUNK_WIDTH]
    part = (
        None if start is None else Part("cell" if page is None else "page", cell if page is None else page, start, end)
    )
    return Chunk(
        Span(*row[:8]), text, sha256, text_sha256 or sha256, tuple(heading.split("\n")) if heading else (), part
    )


def seal_of(values: tuple[object, ...]) -> bytes:
    """8 bytes of BLAKE2b over integers, strings, bytes and None, which tell their types and where they end."""
    return hashlib.blake2b(ascii(values).encode("ascii"), digest_size=_SEAL_BYTES).digest()


def stored_passage(row: tuple[Any, ...]) -> StoredPassage:
    """The passage in a row of LIVE_PASSAGES or FORMER_PASSAGES; raises IndexCorruptError where its seal is broken."""
    sealed, seal, chunk_id = row[:_SEALED_WIDTH], row[_SEALED_WIDTH], row[_SEALED_WIDTH + 1]
    passage_id, ordinal, path, *facts = sealed[CHUNK_WIDTH:]
    if seal != seal_of(sealed):
        of = f" of {display_path(path)}" if isinstance(path, bytes) else ""
        raise IndexCorruptError(f"Passage {passage_id!a}{of} is damaged in the index; {REPAIR}")
    stamp = None if chunk_id is None else FileStamp(*row[_SEALED_WIDTH + 2 : _SEALED_WIDTH + 4])
    return StoredPassage(passage_id, chunk_id, ordinal, _chunk_of(sealed), path, stamp, *facts)
