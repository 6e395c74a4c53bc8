"""From a stored passage to a citation: what it says, where it stands, and whether its source still says so.

The source is read only to compare hashes; the text that is returned is always the indexed one, whose seal the store
has compared. Knows stored passages and files; nothing of ranking.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from colbert_mcp.documents import (
    Document,
    display_path,
    file_hash,
    file_stamp,
    file_url,
    in_scope,
    open_file,
    os_reason,
    read_document,
    text_span,
)
from colbert_mcp.errors import DocumentError, PassageNotFoundError
from colbert_mcp.results import Passage, Place
from colbert_mcp.store import Reader, StoredPassage
from colbert_mcp.types import EXTRACTED, Part, PartKind, Span, Status

# The text may stand in very many places whose bytes differ (a file saved in another encoding): not all are tried.
_MOST_PLACES = 100
# Formats whose lines are those of the extracted text, and nowhere to be seen in the file.
_LINELESS = frozenset({"docx", "html"})
_GONE = "the passage no longer stands in the file"
_OTHERWISE = "its words still stand in the file, in other bytes (encoding, line ends or blanks)"
_PASSAGE_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether the source still says so, and where it does (for ``modified`` and ``missing``: where it did)."""

    status: Status
    path: bytes
    span: Span
    part: Part | None
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

    def __init__(self, reader: Reader, max_bytes: int) -> None:
        self._reader = reader
        self._max_bytes = max_bytes
        self._documents: dict[bytes, Document | DocumentError] = {}
        self._hashes: dict[bytes, str] = {}

    def locate(self, stored: StoredPassage) -> Standing:
        """Compare a passage with its file as it is now.

        ``current``: the bytes at the span have the passage's hash (one read of the span; lines are counted anew if the
        file's stat changed). Otherwise the file is read once: ``relocated`` to the nearest place where the passage
        stands, ``modified`` if it stands nowhere, ``missing`` if there is no file that can be read. A passage of
        extracted text is ``current`` while its file has the hash that it had; the file is never parsed again.
        """
        extracted = stored.encoding == EXTRACTED
        return self._in_extract(stored) if extracted else self._in_file(stored)

    def follow(self, stored: StoredPassage, scope: Sequence[bytes] = ()) -> tuple[Standing, StoredPassage | None]:
        """``locate``, and for a former passage whose file is gone, the live passage of the same bytes, if one stands.

        The standing is then ``relocated`` to that passage's place. Of several, one of a file that is the same as a
        whole comes first (the file was moved), then one of the same name. ``scope`` holds real paths outside of which
        nothing is shown (empty: everywhere).
        """
        standing = self.locate(stored)
        if standing.status != "missing" or stored.chunk_id is not None:
            return standing, None
        equal = self._reader.equal_passages([stored.chunk.sha256]).get(stored.chunk.sha256, [])
        equal = [twin for twin in equal if in_scope(twin.path, scope)]
        name = os.path.basename(stored.path)
        for twin in sorted(
            equal, key=lambda t: (t.file_sha256 != stored.file_sha256, os.path.basename(t.path) != name)
        ):
            now = self.locate(twin)
            if now.status in ("current", "relocated"):
                reason = f"its file is gone; passage {twin.passage_id} says the same"
                return replace(now, status="relocated", reason=reason), twin
        return standing, None

    def _in_file(self, stored: StoredPassage) -> Standing:
        there = partial(Standing, path=stored.path, part=stored.chunk.part)
        span = stored.chunk.span
        try:
            in_place = _span_hash(stored) == stored.chunk.sha256
            unchanged = file_stamp(stored.path) == stored.stamp
        except OSError as error:
            return there("missing", span=span, reason=os_reason(error))
        if in_place and unchanged:
            return there("current", span=span)
        document = self._document(stored.path)
        if isinstance(document, DocumentError):
            return there("missing", span=span, reason=str(document))
        if document.extracted:
            # What was added makes it read as an encoding whose characters have no bytes of their own.
            return there("current" if in_place else "modified", span=span, reason="the file is read otherwise now")
        if in_place:
            return there("current", span=_span_now(document, stored) or span)
        found = _nearest(document, stored)
        if found is None:
            otherwise = _words_stand(document.text, stored.chunk.text)
            return there("modified", span=span, reason=_OTHERWISE if otherwise else _GONE)
        return there("relocated", span=found)

    def _in_extract(self, stored: StoredPassage) -> Standing:
        there = partial(Standing, path=stored.path, span=stored.chunk.span, part=stored.chunk.part)
        try:
            digest = self._hash(stored.path)
        except (DocumentError, OSError) as error:
            return there("missing", reason=os_reason(error) if isinstance(error, OSError) else str(error))
        if digest == stored.file_sha256:
            return there("current")
        extract = self._reader.extracted_text(stored.path)
        if extract is None or extract[1] != digest:
            return there("modified", reason="the file has changed; index it again to see where the passage stands")
        for start in _places(extract[0], stored.chunk.text, stored.chunk.span.char_start):
            end = start + len(stored.chunk.text)
            holder = self._reader.passage_at(stored.path, start)
            part = holder.chunk.part if holder else None
            if holder and (part is None or end <= part.end):
                return Standing("relocated", stored.path, text_span(extract[0], start, end), part)
        return there("modified", reason=_GONE)

    def _document(self, path: bytes) -> Document | DocumentError:
        if path not in self._documents:
            try:
                self._documents[path] = read_document(path, self._max_bytes)
            except DocumentError as error:
                self._documents[path] = error
        return self._documents[path]

    def _hash(self, path: bytes) -> str:
        if path not in self._hashes:
            self._hashes[path] = file_hash(path, self._max_bytes)
        return self._hashes[path]


def cite(
    stored: StoredPassage, standing: Standing, *, also_at: Sequence[Place] = (), twin: StoredPassage | None = None
) -> Passage:
    """The citation of a passage.

    ``twin`` is the passage of another file that ``standing`` is about, whose file and headings are then cited.
    """
    chunk, span, part = stored.chunk, standing.span, standing.part
    source = twin or stored
    name = os.path.basename(display_path(source.path))
    heading = " > ".join(source.chunk.headings) or None
    return Passage(
        id=stored.passage_id,
        title=f"{name} > {heading}" if heading else name,
        url=link(source.path, source.format, part, span.line_start, span.line_end),
        text=chunk.text,
        path=display_path(source.path),
        byte_start=span.byte_start,
        byte_end=span.byte_end,
        char_start=span.char_start,
        char_end=span.char_end,
        line_start=span.line_start,
        line_end=span.line_end,
        column_start=span.column_start,
        column_end=span.column_end,
        page=part_number(part, "page"),
        cell=part_number(part, "cell"),
        part_span=(span.char_start - part.start, span.char_end - part.start) if part else None,
        heading=heading,
        sha256=chunk.sha256,
        file_sha256=source.file_sha256,
        encoding=source.encoding,
        newline=source.newline,
        status=standing.status,
        status_reason=standing.reason,
        indexed_at=stored.indexed_at,
        also_at=list(also_at),
    )


def link(path: bytes, kind: str, part: Part | None, line_start: int, line_end: int) -> str:
    """An openable link to a place in a file of a format: its page or cell, else its lines if the file shows such."""
    if part is not None:
        return file_url(path, f"{part.kind}={part.number}")
    return file_url(path, "" if kind in _LINELESS else f"L{line_start}-L{line_end}")


def part_number(part: Part | None, kind: PartKind) -> int | None:
    """The number of a page or cell; None for a part of the other kind, or none."""
    return part.number if part is not None and part.kind == kind else None


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
    descriptor = open_file(stored.path)
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
    for start in _places(document.text, stored.chunk.text, stored.chunk.span.char_start):
        span = _span_at(document, stored, start)
        if span is not None:
            return span
    return None


def _places(text: str, part: str, near: int) -> Iterator[int]:
    """Where ``part`` stands in ``text``, nearest to a character first; at most 100 places."""
    before, after = text.rfind(part, 0, near + len(part)), text.find(part, near)
    for _ in range(_MOST_PLACES):
        if before < 0 and after < 0:
            return
        take_before = before >= 0 and (after < 0 or near - before <= after - near)
        yield before if take_before else after
        if take_before:
            before = text.rfind(part, 0, before + len(part) - 1)
        else:
            after = text.find(part, after + 1)


def _words_stand(text: str, part: str) -> bool:
    """Whether a text holds the words of another, however they are spaced."""
    return f" {' '.join(part.split())} " in f" {' '.join(text.split())} "


def _span_at(document: Document, stored: StoredPassage, start: int) -> Span | None:
    try:
        chunk = document.chunk(start, start + len(stored.chunk.text), ())
    except DocumentError:
        return None
    return chunk.span if chunk.sha256 == stored.chunk.sha256 else None
