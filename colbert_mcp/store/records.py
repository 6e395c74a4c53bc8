"""What Chroma keeps of a chunk, so that any Chroma client can go from a record to its file and its token matrix."""

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from colbert_mcp.documents import display_path
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
