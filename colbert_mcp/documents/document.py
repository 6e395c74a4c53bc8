"""One file, read whole: its text, its sections, and chunks in every coordinate. Knows nothing of models or tokens.

Most files are text, and their chunks are spans of bytes. Others (PDF, DOCX, HTML, notebooks, stateful encodings) have
their text extracted first; their chunks are spans of that text, and have no bytes.
"""

import errno
import hashlib
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from colbert_mcp.config import DocumentsConfig
from colbert_mcp.documents import code, html, markdown, notebook, restructuredtext
from colbert_mcp.documents.decoding import (
    SNIFF,
    Decoded,
    decode,
    line_and_column,
    line_starts,
    newline_style,
    seems_binary,
)
from colbert_mcp.documents.extraction import Extracted, Extractor
from colbert_mcp.documents.outline import nest
from colbert_mcp.documents.policy import credential_content
from colbert_mcp.errors import PathNotAllowedError, UnreadableDocumentError, UnsupportedFormatError
from colbert_mcp.types import EXTRACTED, Chunk, DocumentRecord, FileStamp, Part, PartKind, Section, Span, text_hash

# Raise it when a reader's text, sections or offsets change: files read by an older one are then read again.
READER = 2

_MARKUP: dict[str, tuple[str, Callable[[str], list[Section]]]] = {
    ".md": ("markdown", markdown.sections),
    ".markdown": ("markdown", markdown.sections),
    ".mdx": ("markdown", markdown.sections),
    ".rst": ("restructuredtext", restructuredtext.sections),
    ".rest": ("restructuredtext", restructuredtext.sections),
}
# Formats whose text is extracted, as the record and as the extractor call them.
_EXTRACTED = {
    ".docx": ("docx", "docx"),
    ".htm": ("html", "html"),
    ".html": ("html", "html"),
    ".ipynb": ("notebook", "notebook"),
    ".pdf": ("pdf", "pdf"),
    ".xhtml": ("html", "xhtml"),
}
_PARTS: dict[str, PartKind] = {"pdf": "page", "notebook": "cell"}
# Containers that hold another text than the one their bytes would give, if they give any.
_UNSUPPORTED = frozenset(
    {".doc", ".eps", ".epub", ".odp", ".ods", ".odt", ".ppt", ".pptx", ".ps", ".rtf", ".svg", ".xls", ".xlsx"}
)
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_READ_ATTEMPTS = 3
_CREDENTIAL = "holds what looks like a private key, an access token or password hashes"


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file. ``sections`` are sorted and properly nested; with ``is_code``, lines outrank sentences.

    ``parts`` are its pages or cells, empty ones too, where the format has such; no chunk may cross their ends. Without
    ``_decoded``, the text is not that of the bytes: it was extracted.
    """

    record: DocumentRecord
    text: str
    sections: list[Section]
    is_code: bool
    parts: list[Part]
    _raw: bytes = field(repr=False)
    _decoded: Decoded | None = field(repr=False)
    _lines: list[int] = field(repr=False)

    @property
    def extracted(self) -> bool:
        """Whether spans are of extracted text, and have no bytes in the file."""
        return self._decoded is None

    def char_at(self, byte: int) -> int:
        """The character that starts at a byte offset of the file (or the next one that starts after it).

        Raises UnreadableDocumentError where the text was extracted.
        """
        if self._decoded is None:
            raise UnreadableDocumentError("its text was extracted and has no bytes in the file")
        return self._decoded.char_at(byte)

    def chunk(self, start: int, end: int, headings: tuple[str, ...]) -> Chunk:
        """The characters ``[start, end)`` as a chunk, with the citation invariant checked.

        Raises UnreadableDocumentError where the span's bytes do not decode to its text, or where it crosses a part.
        """
        text = self.text[start:end]
        byte_start, byte_end, sha256 = self._bytes_of(start, end, text)
        line_start, column_start = line_and_column(self._lines, start)
        line_end, column_end = line_and_column(self._lines, end)
        span = Span(start, end, byte_start, byte_end, line_start, column_start, line_end, column_end)
        return Chunk(span, text, sha256, text_hash(text), headings, self._part_of(start, end))

    def _bytes_of(self, start: int, end: int, text: str) -> tuple[int | None, int | None, str]:
        if self._decoded is None:
            return None, None, text_hash(text)
        byte_start, byte_end = self._decoded.byte_at(start), self._decoded.byte_at(end)
        source = self._raw[byte_start:byte_end]
        if source.decode(self._decoded.encoding, "replace") != text:
            raise UnreadableDocumentError(
                f"bytes {byte_start}-{byte_end} do not decode to the characters cited for them"
            )
        return byte_start, byte_end, hashlib.sha256(source).hexdigest()

    def _part_of(self, start: int, end: int) -> Part | None:
        if not self.parts:
            return None
        index = bisect_right(self.parts, start, key=lambda part: part.start) - 1
        if index < 0 or end > self.parts[index].end:
            raise UnreadableDocumentError(f"characters {start}-{end} do not lie in one page or cell")
        return self.parts[index]


def read_document(path: bytes, max_bytes: int, extractor: Extractor | None = None) -> Document:
    """Read one regular file: decode it, or extract its text (without an ``extractor``, by one with default limits).

    Raises UnreadableDocumentError, UnsupportedFormatError or PathNotAllowedError; the message is the reason alone,
    fit to stand after the path.
    """
    suffix = _suffix(path)
    if suffix in _UNSUPPORTED:
        raise UnsupportedFormatError(f"format not supported: {suffix}")
    raw, stamp = read_regular_file(path, max_bytes)
    if credential_content(raw):
        raise PathNotAllowedError(_CREDENTIAL)
    if suffix in _EXTRACTED:
        return _extracted_document(path, raw, stamp, suffix, extractor)
    decoded = decode(raw)
    if (decoded.stateful or decoded.encoding.startswith(("utf-16", "utf-32"))) and credential_content(
        decoded.text.encode("utf-8", "replace")
    ):
        raise PathNotAllowedError(_CREDENTIAL)
    text = _LONE_SURROGATES.sub("\ufffd", decoded.text) if decoded.stateful else decoded.text
    name, sections, is_code = _structure(suffix, text)
    encoding = EXTRACTED if decoded.stateful else decoded.encoding
    record = _record(path, raw, stamp, name, encoding, text)
    if decoded.stateful:
        return Document(record, text, sections, is_code, [], b"", None, line_starts(text))
    return Document(record, text, sections, is_code, [], raw, decoded, line_starts(text))


def seems_readable(path: bytes) -> bool:
    """Whether ``read_document`` is likely to read a file, by its name and its first bytes alone."""
    suffix = _suffix(path)
    if suffix in _UNSUPPORTED or suffix in _EXTRACTED:
        return suffix in _EXTRACTED
    try:
        with os.fdopen(open_file(path), "rb") as file:
            return not seems_binary(file.read(SNIFF))
    except OSError:
        return False


def _suffix(path: bytes) -> str:
    return os.path.splitext(os.fsdecode(path))[1].lower()


def _extracted_document(
    path: bytes, raw: bytes, stamp: FileStamp, suffix: str, extractor: Extractor | None
) -> Document:
    name, how = _EXTRACTED[suffix]
    source = html.decode_page(raw).encode("utf-8", "replace") if name == "html" else raw
    if extractor is None:
        with Extractor(DocumentsConfig()) as once:
            found = once.extract(how, source)
    else:
        found = extractor.extract(how, source)
    if credential_content(found.text.encode("utf-8", "replace")):
        raise PathNotAllowedError(_CREDENTIAL)
    kind = _PARTS.get(name)
    parts = [Part(kind, number, *span) for number, span in enumerate(found.parts, 1)] if kind is not None else []
    record = _record(path, raw, stamp, name, EXTRACTED, found.text)
    return Document(record, found.text, _sections(name, found), False, parts, b"", None, line_starts(found.text))


def _sections(name: str, found: Extracted) -> list[Section]:
    if name == "notebook":
        return notebook.sections(found)
    nested = nest(found.headings, len(found.text))
    # Those without a title only end the ones before them; those without a span hold nothing.
    return [section for section in nested if section.title and section.start < section.end]


def _record(path: bytes, raw: bytes, stamp: FileStamp, name: str, encoding: str, text: str) -> DocumentRecord:
    return DocumentRecord(
        path=path,
        stamp=stamp,
        sha256=hashlib.sha256(raw).hexdigest(),
        format=name,
        encoding=encoding,
        newline=newline_style(text),
        reader=READER,
    )


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
            descriptor = open_file(path)
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


def open_file(path: bytes) -> int:
    """A descriptor of a file, which follows no link and waits for no pipe; raises OSError."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


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
