"""What one commit will hold, gathered while files are read and encoded. A document never spans two batches."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from colbert_mcp.maxsim import Floats
from colbert_mcp.store.catalog_writer import NewChunk, NewDocument
from colbert_mcp.store.failures import told
from colbert_mcp.store.tokens import Segment, SegmentWriter, stored_rows
from colbert_mcp.types import Chunk, Coverage, DocumentRecord


@dataclass(frozen=True, slots=True)
class RowReference:
    """Where a chunk's embeddings are, in the batch's segment or in an earlier one; ``dense`` (float16 [e]) is what
    Chroma gets.
    """

    segment: int
    row: int
    token_start: int
    token_count: int
    dense: npt.NDArray[np.float16]

    @classmethod
    def of(cls, number: int, row: int, segment: Segment) -> "RowReference":
        """Of a row of an open segment."""
        start, end = int(segment.tokens.offsets[row]), int(segment.tokens.offsets[row + 1])
        return cls(number, row, start, end - start, segment.dense[row])


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """A chunk with its token count, what of it no embedding stands for, and the row of its embeddings."""

    chunk: Chunk
    tokens: int
    coverage: Coverage
    reference: RowReference


@dataclass(frozen=True, slots=True)
class PutDocument:
    """A document to be inserted or replaced, with the rows of its chunks."""

    new: NewDocument
    references: list[RowReference]


class Batch:
    """Token embeddings go to the segment's files at once; the rest waits here for the commit.

    ``directory`` is the index; ``rows`` are those written so far, by the SHA-256 of the text that was encoded.
    """

    def __init__(self, directory: Path, segment: int, open_writer: Callable[[], SegmentWriter]) -> None:
        self._directory = directory
        self.segment = segment
        self.documents: list[PutDocument] = []
        self.rows: dict[str, RowReference] = {}
        self.tokens = 0
        self._open_writer = open_writer
        self.writer: SegmentWriter | None = None

    def append(self, text_sha256: str, token_embeddings: Floats, dense: Floats) -> None:
        """Write the embeddings (float32 [n, d] and [e]) of one text to the segment.

        Raises StoreError where the disk refuses them.
        """
        with told(self._directory):
            if self.writer is None:
                self.writer = self._open_writer()
            rows = stored_rows(token_embeddings, dense, self.writer.embedding_format)
            self.rows[text_sha256] = RowReference(self.segment, *self.writer.append(rows), rows.dense)

    def put(self, record: DocumentRecord, chunks: Sequence[EncodedChunk], unchunked: int, extract: str | None) -> None:
        """Add a document: its chunks in order, and the rest of what ``NewDocument`` says of it."""
        ids = passage_ids(record.path, [encoded.chunk.sha256 for encoded in chunks])
        new = [
            NewChunk(passage_id, item.chunk, item.tokens, item.coverage, item.reference.segment, item.reference.row)
            for passage_id, item in zip(ids, chunks, strict=True)
        ]
        # Those of shared rows count too: what waits here for the commit is bounded by them.
        self.tokens += sum(item.reference.token_count for item in chunks)
        self.documents.append(
            PutDocument(NewDocument(record, unchunked, extract, new), [item.reference for item in chunks])
        )


def passage_ids(path: bytes, hashes: Sequence[str]) -> list[str]:
    """Stable ids of a document's passages, in order.

    The first 16 hex digits of SHA-256(path, NUL, passage SHA-256, NUL, ordinal among equal passages of the document).
    """
    seen: Counter[str] = Counter()
    ids = []
    for digest in hashes:
        key = b"\0".join([path, digest.encode(), str(seen[digest]).encode()])
        ids.append(hashlib.sha256(key).hexdigest()[:16])
        seen[digest] += 1
    return ids
