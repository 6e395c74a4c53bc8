"""What the catalogue holds, as values, and the columns they are read from. Knows no connection.

A passage carries a *seal*: a digest of everything that its citation is made of. It is computed when the passage is
inserted and compared whenever one is read, so that a flipped bit is never cited.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

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


def skipped_key(root: int) -> str:
    """Where the meta table keeps a digest of what the last run over a root skipped."""
    return f"skipped by root {root}"


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


def stored_document(row: tuple[Any, ...]) -> StoredDocument:
    """The document in a row of (id, path, size, mtime_ns, sha256, format, encoding, newline, reader, indexed_at)."""
    if tuple(map(type, row)) != (int, bytes, int, int, str, str, str, str, int, str):
        _unreadable("a file")
    record = DocumentRecord(row[1], FileStamp(row[2], row[3]), row[4], row[5], row[6], row[7], row[8])
    return StoredDocument(row[0], record, row[9])


def stored_root(row: tuple[Any, ...]) -> Root:
    """The root in a row of (id, path, include, exclude, indexed_at)."""
    number, path, include, exclude, indexed_at = row
    patterns = parsed(include), parsed(exclude)
    lists = all(isinstance(p, list) and all(isinstance(item, str) for item in p) for p in patterns)
    if not (lists and isinstance(path, bytes) and isinstance(indexed_at, str | None)):
        _unreadable("a root")
    return Root(number, path, tuple(patterns[0]), tuple(patterns[1]), indexed_at)


@lru_cache(maxsize=256)  # every search asks for those of all segments
def segment_files(files: object) -> Mapping[str, tuple[int, str]]:
    """The files of a segment, {name: (length, SHA-256)}, as the catalogue writes them down."""
    read = parsed(files)
    if not isinstance(read, dict) or not all(
        isinstance(entry, list) and tuple(map(type, entry)) == (int, str) for entry in read.values()
    ):
        _unreadable("a segment")
    return {name: (length, digest) for name, (length, digest) in read.items()}


def parsed(text: object) -> Any:
    """JSON that the catalogue wrote; raises IndexCorruptError for what it cannot have written."""
    try:
        return json.loads(text) if isinstance(text, str) else _unreadable("a value")
    except ValueError:
        _unreadable("a value")


def not_whole(path: bytes) -> IndexCorruptError:
    """What to raise where passages of a file are missing between or beside others."""
    return IndexCorruptError(f"The passages of {display_path(path)} are not whole in the index; {REPAIR}")


def _unreadable(what: str) -> NoReturn:
    raise IndexCorruptError(f"The catalogue is damaged: it holds {what} that cannot be read; {REPAIR}")


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


def paths_below(path: bytes) -> tuple[bytes, bytes]:
    """The half-open range of paths that lie under a folder ("0" is the byte after "/")."""
    prefix = path.rstrip(b"/")
    return prefix + b"/", prefix + b"0"


def consecutive(passages: list[StoredPassage], path: bytes) -> list[StoredPassage]:
    """The passages, if they follow each other in the file: what is left out between two would pass for blanks."""
    first = passages[0].ordinal if passages else 0
    if any(found.path != path or found.ordinal != at for at, found in enumerate(passages, first)):
        raise not_whole(path)
    return passages


def below(scope: Sequence[bytes]) -> tuple[str, list[bytes]]:
    """A condition on ``d.path``: it is one of the real paths of a scope or lies below it; and its values."""
    condition = " OR ".join(["d.path = ? OR (d.path >= ? AND d.path < ?)"] * len(scope))
    values = [value for root in scope for value in (root, *paths_below(root))]
    return f"({condition or 'TRUE'})", values
