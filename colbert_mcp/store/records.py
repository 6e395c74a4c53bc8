"""What Chroma keeps of a chunk, so that any Chroma client can go from a record to its file and its token matrix."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from colbert_mcp.documents import display_path
from colbert_mcp.store.batch import PutDocument
from colbert_mcp.store.snapshot import Snapshot
from colbert_mcp.types import Chunk

Provenance = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class VectorRecord:
    """One chunk for Chroma: ``dense`` is float [e]."""

    passage_id: str
    dense: npt.NDArray[Any]
    text: str
    provenance: Provenance


def provenance(
    path: bytes, file_sha256: str, chunk: Chunk, segment: int, row: int, token_start: int, token_count: int
) -> Provenance:
    """A record's metadata: file, spans, page, heading and hashes, and which rows of which segment it has.

    Every record has the same keys, because Chroma merges metadata and keeps stale ones; it takes no None.
    """
    span, part = chunk.span, chunk.part
    return {
        "path": display_path(path),
        "byte_start": -1 if span.byte_start is None else span.byte_start,
        "byte_end": -1 if span.byte_end is None else span.byte_end,
        "char_start": span.char_start,
        "char_end": span.char_end,
        "line_start": span.line_start,
        "line_end": span.line_end,
        "page": part.number if part and part.kind == "page" else -1,
        "cell": part.number if part and part.kind == "cell" else -1,
        "heading": " > ".join(chunk.headings),
        "sha256": chunk.sha256,
        "file_sha256": file_sha256,
        "segment": f"{segment:06}",
        "row": row,
        "token_start": token_start,
        "token_count": token_count,
    }


def batch_records(document: PutDocument) -> Iterator[VectorRecord]:
    """The records of a document that is being committed."""
    record = document.new.record
    for new, reference in zip(document.new.chunks, document.references, strict=True):
        pointer = (new.segment, new.row, reference.token_start, reference.token_count)
        metadata = provenance(record.path, record.sha256, new.chunk, *pointer)
        yield VectorRecord(new.passage_id, reference.dense, new.chunk.text, metadata)


def stored_records(snapshot: Snapshot, only: int | None) -> Iterator[VectorRecord]:
    """The records of a generation, of all segments or one."""
    for passage, number, row in snapshot.reader.passages_with_rows(only):
        segment = snapshot.segment(number)
        start, end = int(segment.tokens.offsets[row]), int(segment.tokens.offsets[row + 1])
        metadata = provenance(passage.path, passage.file_sha256, passage.chunk, number, row, start, end - start)
        yield VectorRecord(passage.passage_id, segment.dense[row], passage.chunk.text, metadata)
