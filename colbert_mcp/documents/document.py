"""One file, read whole: its text, its sections, and chunks in every coordinate. Knows nothing of models or tokens."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from colbert_mcp.documents import code, markdown, restructuredtext
from colbert_mcp.documents.decoding import Decoded, decode, line_and_column, line_starts, newline_style
from colbert_mcp.documents.policy import credential_content
from colbert_mcp.errors import PathNotAllowedError, UnreadableDocumentError, UnsupportedFormatError
from colbert_mcp.types import EXTRACTED, Chunk, DocumentRecord, FileStamp, Section, Span, text_hash

# Raise it when a reader's text, sections or offsets change: files read by an older one are then read again.
READER = 1

_MARKUP: dict[str, tuple[str, Callable[[str], list[Section]]]] = {
    ".md": ("markdown", markdown.sections),
    ".markdown": ("markdown", markdown.sections),
    ".mdx": ("markdown", markdown.sections),
    ".rst": ("restructuredtext", restructuredtext.sections),
    ".rest": ("restructuredtext", restructuredtext.sections),
}
# Containers whose bytes are text, but not the text that a person sees.
_UNSUPPORTED = frozenset({".eps", ".ipynb", ".pdf", ".ps", ".rtf", ".svg"})
_READ_ATTEMPTS = 3
_CREDENTIAL = "holds what looks like a private key or an access token"


@dataclass(frozen=True, slots=True)
class Document:
    """A decoded file. ``sections`` are sorted and properly nested; with ``is_code``, lines outrank sentences."""

    record: DocumentRecord
    text: str
    sections: list[Section]
    is_code: bool
    _raw: bytes = field(repr=False)
    _decoded: Decoded = field(repr=False)
    _lines: list[int] = field(repr=False)

    @property
    def extracted(self) -> bool:
        """Whether the text is not the decoded file, so that spans count in it and have no bytes."""
        return self.record.encoding == EXTRACTED

    def char_at(self, byte: int) -> int:
        """The character that starts at a byte offset of the file (or the next one that starts after it)."""
        return self._decoded.char_at(byte)

    def chunk(self, start: int, end: int, headings: tuple[str, ...]) -> Chunk:
        """The characters ``[start, end)`` as a chunk, with the citation invariant checked.

        Raises UnreadableDocumentError where the span's bytes do not decode to its text.
        """
        byte_start, byte_end = self._decoded.byte_at(start), self._decoded.byte_at(end)
        source, text = self._raw[byte_start:byte_end], self.text[start:end]
        if source.decode(self._decoded.encoding, "replace") != text:
            raise UnreadableDocumentError(
                f"bytes {byte_start}-{byte_end} do not decode to the characters cited for them"
            )
        line_start, column_start = line_and_column(self._lines, start)
        line_end, column_end = line_and_column(self._lines, end)
        span = Span(start, end, byte_start, byte_end, line_start, column_start, line_end, column_end)
        return Chunk(span, text, hashlib.sha256(source).hexdigest(), text_hash(text), headings)


def read_document(path: bytes, max_bytes: int) -> Document:
    """Read and decode one regular file.

    Raises UnreadableDocumentError, UnsupportedFormatError or PathNotAllowedError; the message is the reason alone,
    fit to stand after the path.
    """
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    if suffix in _UNSUPPORTED:
        raise UnsupportedFormatError(f"format not supported: {suffix}")
    raw, stamp = read_regular_file(path, max_bytes)
    if credential_content(raw):
        raise PathNotAllowedError(_CREDENTIAL)
    decoded = decode(raw)
    if decoded.encoding.startswith(("utf-16", "utf-32")) and credential_content(
        decoded.text.encode("utf-8", "replace")
    ):
        raise PathNotAllowedError(_CREDENTIAL)
    name, sections, is_code = _structure(suffix, decoded.text)
    record = DocumentRecord(
        path=path,
        stamp=stamp,
        sha256=hashlib.sha256(raw).hexdigest(),
        format=name,
        encoding=decoded.encoding,
        newline=newline_style(decoded.text),
        reader=READER,
    )
    return Document(record, decoded.text, sections, is_code, raw, decoded, line_starts(decoded.text))


def file_stamp(path: bytes) -> FileStamp:
    """Size and modification time by one stat; raises OSError."""
    status = os.stat(path)
    return FileStamp(status.st_size, status.st_mtime_ns)


def file_hash(path: bytes, max_bytes: int) -> str:
    """SHA-256 of a regular file; raises UnreadableDocumentError with the reason."""
    return hashlib.sha256(read_regular_file(path, max_bytes)[0]).hexdigest()


def text_span(text: str, start: int, end: int) -> Span:
    """The characters ``[start, end)`` of an extracted text as a span, which has no bytes."""
    starts = line_starts(text)
    return Span(start, end, None, None, *line_and_column(starts, start), *line_and_column(starts, end))


def read_regular_file(path: bytes, max_bytes: int) -> tuple[bytes, FileStamp]:
    """All bytes of a regular file that did not change while it was read.

    Links, FIFOs and devices are never opened for reading. Raises UnreadableDocumentError with the reason.
    """
    for _ in range(_READ_ATTEMPTS):
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise UnreadableDocumentError(os_reason(error)) from None
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)  # fdopen would raise and leave it open
            raise UnreadableDocumentError("not a regular file")
        with os.fdopen(descriptor, "rb") as file:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise UnreadableDocumentError("not a regular file")
            if before.st_size > max_bytes:
                raise UnreadableDocumentError(f"larger than {max_bytes} bytes ([documents] max_file_bytes)")
            try:
                raw = file.read(max_bytes + 1)
            except OSError as error:
                raise UnreadableDocumentError(os_reason(error)) from None
            after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) and len(raw) == before.st_size:
            return raw, FileStamp(before.st_size, before.st_mtime_ns)
    raise UnreadableDocumentError("it kept changing while it was read")


def _structure(suffix: str, text: str) -> tuple[str, list[Section], bool]:
    if suffix in _MARKUP:
        name, find = _MARKUP[suffix]
        return name, find(text), False
    language = code.language_of(suffix)
    if language is not None:
        return language, code.sections(language, text), True
    return "text", [], False


def os_reason(error: OSError) -> str:
    """What the system said of a file, fit to stand after its path."""
    if error.errno == errno.ELOOP:
        return "a symbolic link"
    return (error.strerror or "cannot be read").lower()
