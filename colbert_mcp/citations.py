"""From a stored passage to a citation: what it says, where it stands, and whether its source still says so.

The source is read only to compare hashes; the text that is returned is always the indexed one, and it is hashed before
it is returned. Knows stored passages and files; nothing of ranking.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from colbert_mcp.documents import Document, display_path, file_stamp, file_url, in_scope, read_document
from colbert_mcp.errors import DocumentError, IndexCorruptError, PassageNotFoundError
from colbert_mcp.store import Reader, StoredPassage
from colbert_mcp.types import Passage, Place, Span, Status, text_hash

# The text may stand in very many places whose bytes differ (a file saved in another encoding): not all are tried.
_MOST_PLACES = 100
_PASSAGE_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether the source still says so, and the span where it does (for ``modified`` and ``missing``: where it did)."""

    status: Status
    span: Span
    reason: str | None = None


def find_passage(reader: Reader, passage_id: str, scope: Sequence[bytes]) -> tuple[StoredPassage, str | None]:
    """A passage by its id (also as ``passage://id``), live or former, and a notice about a former one.

    Raises PassageNotFoundError where there is none in the scope.
    """
    wanted = passage_id.strip().lower().removeprefix("passage://")
    if not _PASSAGE_ID.fullmatch(wanted):
        raise PassageNotFoundError(
            f"{passage_id[:40]!a} is not a passage id; ids have 16 hex digits, as search gives them."
        )
    stored = reader.passage(wanted)
    if stored is not None and in_scope(stored.path, scope):
        return stored, None
    stored = reader.former(wanted)
    if stored is not None and in_scope(stored.path, scope):
        return stored, "This passage is of an earlier state of its file and is no longer searched."
    raise PassageNotFoundError(f"There is no passage {wanted} in this index; search gives the ids.")


class Sources:
    """The files behind the citations of one answer, each read at most once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._documents: dict[bytes, Document | DocumentError] = {}

    def locate(self, stored: StoredPassage) -> Standing:
        """Compare a passage with its file as it is now.

        ``current``: the bytes at the span have the passage's hash (one read of the span; lines are counted anew if the
        file's stat changed). Otherwise the file is read once: ``relocated`` to the nearest place where the passage
        stands, ``modified`` if it stands nowhere, ``missing`` if there is no file that can be read.
        """
        span = stored.chunk.span
        try:
            in_place = _span_hash(stored) == stored.chunk.sha256
            unchanged = file_stamp(stored.path) == stored.stamp
        except OSError as error:
            return Standing("missing", span, (error.strerror or "cannot be read").lower())
        if in_place and unchanged:
            return Standing("current", span)
        document = self._document(stored.path)
        if isinstance(document, DocumentError):
            return Standing("missing", span, str(document))
        if in_place:
            return Standing("current", _span_now(document, stored) or span)
        found = _nearest(document, stored)
        if found is None:
            return Standing("modified", span, "the passage no longer stands in the file")
        return Standing("relocated", found)

    def _document(self, path: bytes) -> Document | DocumentError:
        if path not in self._documents:
            try:
                self._documents[path] = read_document(path, self._max_bytes)
            except DocumentError as error:
                self._documents[path] = error
        return self._documents[path]


def cite(stored: StoredPassage, standing: Standing, *, also_at: list[Place] | None = None) -> Passage:
    """The citation of a passage; raises IndexCorruptError where its indexed text no longer has its hash."""
    check_text(stored)
    chunk, span = stored.chunk, standing.span
    name = os.path.basename(display_path(stored.path))
    heading = " > ".join(chunk.headings) or None
    return Passage(
        id=stored.passage_id,
        title=f"{name} > {heading}" if heading else name,
        url=file_url(stored.path, f"L{span.line_start}-L{span.line_end}"),
        text=chunk.text,
        path=display_path(stored.path),
        byte_start=span.byte_start,
        byte_end=span.byte_end,
        char_start=span.char_start,
        char_end=span.char_end,
        line_start=span.line_start,
        line_end=span.line_end,
        column_start=span.column_start,
        column_end=span.column_end,
        heading=heading,
        sha256=chunk.sha256,
        status=standing.status,
        status_reason=standing.reason,
        indexed_at=stored.indexed_at,
        also_at=also_at or [],
    )


def check_text(stored: StoredPassage) -> None:
    """Raise IndexCorruptError where the indexed text of a passage no longer has its hash."""
    if text_hash(stored.chunk.text) != stored.chunk.text_sha256:
        raise IndexCorruptError(
            f"Passage {stored.passage_id} is damaged in the index; delete the index and index again."
        )


def place(stored: StoredPassage) -> Place:
    """Where an equal passage stands."""
    span = stored.chunk.span
    return Place(
        id=stored.passage_id, path=display_path(stored.path), line_start=span.line_start, line_end=span.line_end
    )


def with_quote(passage: Passage, quote: tuple[int, int]) -> Passage:
    """Add the quote: characters ``[start, end)`` of the passage's text."""
    start, end = quote
    span = (passage.char_start + start, passage.char_start + end)
    return passage.model_copy(update={"quote": passage.text[start:end], "quote_span": span})


def _span_hash(stored: StoredPassage) -> str | None:
    span = stored.chunk.span
    if span.byte_start is None or span.byte_end is None:
        return None
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(stored.path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        os.lseek(descriptor, span.byte_start, os.SEEK_SET)
        return hashlib.sha256(os.read(descriptor, span.byte_end - span.byte_start)).hexdigest()
    finally:
        os.close(descriptor)


def _span_now(document: Document, stored: StoredPassage) -> Span | None:
    """The coordinates, in the file as it is now, of bytes that have not moved."""
    if stored.chunk.span.byte_start is None:
        return None
    return _span_at(document, stored, document.char_at(stored.chunk.span.byte_start))


def _nearest(document: Document, stored: StoredPassage) -> Span | None:
    """The span nearest to the old one at which the passage's very bytes stand."""
    text, old = stored.chunk.text, stored.chunk.span.char_start
    before, after = document.text.rfind(text, 0, old + len(text)), document.text.find(text, old)
    for _ in range(_MOST_PLACES):
        if before < 0 and after < 0:
            break
        take_before = before >= 0 and (after < 0 or old - before <= after - old)
        start = before if take_before else after
        span = _span_at(document, stored, start)
        if span is not None:
            return span
        if take_before:
            before = document.text.rfind(text, 0, start + len(text) - 1)
        else:
            after = document.text.find(text, start + 1)
    return None


def _span_at(document: Document, stored: StoredPassage, start: int) -> Span | None:
    try:
        chunk = document.chunk(start, start + len(stored.chunk.text), ())
    except DocumentError:
        return None
    return chunk.span if chunk.sha256 == stored.chunk.sha256 else None
