"""The words that everything else is written in: spans, sections, parts, documents and chunks.

Spans are half-open. ``char_*`` count code points of the decoded text without its byte order mark, ``byte_*`` count
bytes of the file as it stands on disk, lines and columns count from 1, and a line ends at LF, CRLF or a lone CR.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Mode: TypeAlias = Literal["hybrid", "semantic", "lexical"]
Status: TypeAlias = Literal["current", "relocated", "modified", "missing"]
EmbeddingFormat: TypeAlias = Literal["int8", "float16"]
PartKind: TypeAlias = Literal["page", "cell"]
EXTRACTED = "extracted"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading or definition and what it holds: ``[start, end)`` in characters; its content begins at ``body``."""

    start: int
    body: int
    end: int
    title: str


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of a file in all its coordinates; ``byte_*`` are None where the text was extracted."""

    char_start: int
    char_end: int
    byte_start: int | None
    byte_end: int | None
    line_start: int
    column_start: int
    line_end: int
    column_end: int


@dataclass(frozen=True, slots=True)
class Part:
    """A page of a PDF or a cell of a notebook, counted from 1: ``[start, end)`` in characters of the document's text.

    Parts are sorted, do not overlap, and hold every non-blank character; a chunk lies in one part.
    """

    kind: PartKind
    number: int
    start: int
    end: int


class FileStamp(NamedTuple):
    """What one stat says of a file: enough to notice most changes without reading it.

    A tuple, because an unchanged tree costs little more than making one for each of its files.
    """

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a document that is encoded, scored and cited as one; ``text`` is the source at ``span``.

    ``sha256`` is over the source's bytes, ``text_sha256`` over the text in UTF-8 (the same for most files, and for all
    whose text was extracted). ``part`` is the page or cell it lies in, where the format has such.
    """

    span: Span
    text: str
    sha256: str
    text_sha256: str
    headings: tuple[str, ...]
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Non-blank characters of a text that its token embeddings do not tell apart or do not hold.

    ``unknown``: under the unknown token, which stands for any word; ``skipped``: under tokens of the skiplist, which
    are encoded but not kept; ``untokenized``: under no token at all. No character is counted twice.
    """

    unknown: int
    skipped: int
    untokenized: int


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """What the catalogue keeps of a document.

    ``path`` is the real absolute path in the file system's bytes, ``sha256`` is over the file's bytes. ``encoding`` is
    EXTRACTED where the text is not the decoded file; ``newline`` is then that of the extracted text.
    """

    path: bytes
    stamp: FileStamp
    sha256: str
    format: str
    encoding: str
    newline: str
    reader: int


@dataclass(frozen=True, slots=True)
class IndexingProgress:
    """How far an indexing run has come; ``tokens`` are the chunks' own, without special tokens."""

    files_done: int
    files_total: int
    chunks: int
    tokens: int
    bytes_done: int
    bytes_total: int


def text_hash(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


ProgressCallback: TypeAlias = Callable[[IndexingProgress], None]
