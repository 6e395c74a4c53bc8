"""Bytes to text, with the byte at which every character starts.

No text is changed: byte order marks are left out of the text but counted in the bytes, line endings, tabs and Unicode
forms stay. Byte maps come from the decoder's own steps, never from encoding the text again. Knows nothing of files.
"""

import codecs
import re
from bisect import bisect_right
from dataclasses import dataclass

import chardet
import numpy as np
import numpy.typing as npt

from colbert_mcp.errors import UnreadableDocumentError, UnsupportedFormatError

# Longest first: the mark of UTF-32 LE begins with the mark of UTF-16 LE.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_STATEFUL = re.compile(r"iso2022|hz|utf[-_]?7")
# Such text is in bytes of ASCII and would pass for that. UTF-7 is believed by its mark only: base64 looks like it.
_STATEFUL_HINT = re.compile(rb"\x1b[$(]|~\{")
_UTF7_MARK = re.compile(rb"\+/v[89+/]")
# Old code pages of Macintoshes, DOS and mainframes decode any text too, and win by chance on short ones.
_ERA = chardet.EncodingEra.MODERN_WEB
# One sentence of real text scores from 0.06 upwards, random bytes above 127 below 0.05.
_LEAST_CONFIDENCE = 0.05
_SAMPLE = 262_144
SNIFF = 8_192
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text, how it was encoded, and where each of its characters starts.

    ``char_bytes``: int64 [len(text) + 1], the byte offset of each character and of the end; None where the offset is
    the character's index plus ``mark``. A ``stateful`` encoding has no such offsets at all: what a byte means depends
    on those before it.
    """

    text: str
    encoding: str
    mark: int
    char_bytes: npt.NDArray[np.int64] | None

    @property
    def stateful(self) -> bool:
        """Whether the encoding keeps state between characters, so that a span of bytes cannot be decoded alone."""
        return _STATEFUL.match(self.encoding) is not None

    def byte_at(self, char: int) -> int:
        """The byte offset in the file at which the character starts (or, at the end of the text, ends)."""
        if self.char_bytes is None:
            return min(char, len(self.text)) + self.mark
        return int(self.char_bytes[min(char, len(self.text))])

    def char_at(self, byte: int) -> int:
        """The first character that starts at or after a byte offset, at most the end of the text."""
        if self.char_bytes is None:
            return min(max(byte - self.mark, 0), len(self.text))
        return min(int(np.searchsorted(self.char_bytes, byte)), len(self.text))


def decode(raw: bytes) -> Decoded:
    """Decode a file by its byte order mark, as UTF-8, as UTF-16 without a mark, or as what a detector finds.

    ISO-2022, HZ and marked UTF-7 are found too, but their text has no byte offsets.

    Raises UnsupportedFormatError for binary data and UnreadableDocumentError where no encoding decodes every byte.
    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            text = _strict(raw[len(mark) :], encoding)
            if text is None:
                raise UnreadableDocumentError(f"its byte order mark says {encoding}, but it does not decode as that")
            return Decoded(text, encoding, len(mark), _char_bytes(raw, len(mark), text, encoding))
    encoding, text = _stateful(raw) or _without_mark(raw)
    offsets = None if _STATEFUL.match(encoding) else _char_bytes(raw, 0, text, encoding)
    return Decoded(text, encoding, 0, offsets)


def seems_binary(head: bytes) -> bool:
    """Whether a file that begins with these bytes, SNIFF of them if it has so many, is refused as binary."""
    return not has_mark(head) and _utf16_without_mark(head) is None and b"\0" in head


def has_mark(raw: bytes) -> bool:
    """Whether the bytes begin with a byte order mark."""
    return any(raw.startswith(mark) for mark, _ in _MARKS)


def line_starts(text: str) -> list[int]:
    """The character at which each line starts: the first at 0, each other after an LF, a CRLF or a lone CR."""
    return [0, *(match.end() for match in _LINE_END.finditer(text))]


def line_and_column(starts: list[int], char: int) -> tuple[int, int]:
    """Line and column of a character, both counted from 1; columns count code points."""
    line = bisect_right(starts, char)
    return line, char - starts[line - 1] + 1


def newline_style(text: str) -> str:
    """``lf``, ``crlf``, ``cr``, ``none``, or ``mixed``."""
    found = {match.group() for match in _LINE_END.finditer(text)}
    names = {"\n": "lf", "\r\n": "crlf", "\r": "cr"}
    return "mixed" if len(found) > 1 else names[found.pop()] if found else "none"


def _stateful(raw: bytes) -> tuple[str, str] | None:
    """Encoding and text of what is in a stateful encoding, None for all other bytes."""
    if not raw.isascii():
        return None
    if _UTF7_MARK.match(raw):
        marked = _strict(raw, "utf-7")
        return ("utf-7", marked[1:]) if marked and marked[0] == "\ufeff" else None
    if not _STATEFUL_HINT.search(raw):
        return None
    name = chardet.detect(_sample(raw))["encoding"]
    encoding = codecs.lookup(name).name if name else ""
    if not encoding.startswith(("iso2022", "hz")):
        return None
    text = _strict(raw, encoding)
    return (encoding, text) if text is not None and not text.isascii() else None


def _without_mark(raw: bytes) -> tuple[str, str]:
    wide = _utf16_without_mark(raw[:SNIFF])
    if wide is not None:
        text = _strict(raw, wide)
        if text is not None:
            return wide, text
    if b"\0" in raw[:SNIFF]:
        raise UnsupportedFormatError("binary")
    text = _strict(raw, "utf-8")
    if text is not None:
        return "utf-8", text
    return _detected(raw)


def _utf16_without_mark(head: bytes) -> str | None:
    """UTF-16 text in a script of the first 256 code points has a zero in nearly every second byte."""
    pairs = len(head) // 2
    if pairs < 2:
        return None
    low, high = head[0::2].count(0), head[1::2].count(0)
    if high > 0.4 * pairs and low == 0:
        return "utf-16-le"
    return "utf-16-be" if low > 0.4 * pairs and high == 0 else None


def _detected(raw: bytes) -> tuple[str, str]:
    guess = chardet.detect(_sample(raw), encoding_era=_ERA)
    encoding = guess["encoding"]
    if encoding is None or (guess["confidence"] or 0) < _LEAST_CONFIDENCE:
        raise UnreadableDocumentError("its encoding could not be detected; save it as UTF-8")
    encoding = codecs.lookup(encoding).name
    text = _strict(raw, encoding)
    if text is None:
        raise UnreadableDocumentError(f"it looks like {encoding} but does not decode as that; save it as UTF-8")
    return encoding, text


def _sample(raw: bytes) -> bytes:
    return raw if len(raw) <= _SAMPLE else raw[: raw.rfind(b"\n", 0, _SAMPLE) + 1 or _SAMPLE]


def _strict(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding, "strict")
    except UnicodeDecodeError:
        return None


def _char_bytes(raw: bytes, mark: int, text: str, encoding: str) -> npt.NDArray[np.int64] | None:
    body = raw[mark:]
    if encoding == "utf-8":
        if len(text) == len(body):
            return None
        starts = np.flatnonzero((np.frombuffer(body, np.uint8) & 0xC0) != 0x80)
    elif encoding.startswith("utf-16"):
        units = np.frombuffer(body, "<u2" if encoding.endswith("le") else ">u2")
        starts = 2 * np.flatnonzero((units & 0xFC00) != 0xDC00)
    elif encoding.startswith("utf-32"):
        starts = np.arange(0, len(body), 4)
    elif _single_byte(body, encoding):
        return None
    else:
        starts = _stepwise(body, encoding)
    return np.append(starts, len(body)).astype(np.int64) + mark


def _single_byte(body: bytes, encoding: str) -> bool:
    return all(len(_strict(bytes([byte]), encoding) or "") == 1 for byte in set(body))


def _stepwise(body: bytes, encoding: str) -> npt.NDArray[np.int64]:
    """Feed the decoder one byte at a time: a character starts where the bytes that produced it began."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    starts: list[int] = []
    begin = 0
    for index in range(len(body)):
        produced = decoder.decode(body[index : index + 1])
        if produced:
            starts.extend([begin] * len(produced))
            begin = index + 1
    starts.extend([begin] * len(decoder.decode(b"", final=True)))
    return np.array(starts, np.int64)
