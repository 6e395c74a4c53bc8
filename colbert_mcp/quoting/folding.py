"""Text without its typography, every character of which can be traced back: what makes two quotations "the same".

Folding joins white space into one space, and writes typographic quotation marks, dashes, the ellipsis sign and Latin
ligatures plainly; it drops soft hyphens and zero-width characters, lowers case, and composes (Unicode NFC). It never
uses compatibility forms: x² is not x2. Also says where words begin and end. Knows strings only.
"""

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import regex

_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\u30fc\uff70"
IGNORED = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
# One for one, so that offsets stay. Single and double quotation marks stay two things; so do primes and backticks.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛ʼ‹›", "'"),
        **dict.fromkeys("“”„‟«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys(filter(str.isspace, map(chr, range(0x3001))), " "),
        "ς": "σ",
    }
)
_KINDS = {**dict.fromkeys("–—―", "—"), "--": "2", "---": "3"}
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ſt", "ﬆ": "st"}
# Two or three hyphens are a dash between words or between spaces, not before an option of a command.
_DASH = r"(?:(?<=[\w.,;:!?”’)\]]|[\w.!?][\"'])-{2,3}(?=[\w\"'“‘(\[])|(?<=\s)-{2,3}(?=\s))"
_COMMON = (
    # A word divided at a line's end by a soft hyphen is one word.
    r"(?P<none>\u00ad[ \t]*+(?:\r\n|\n|\r)[ \t]*+)"
    rf"|(?P<space>\s[\s{IGNORED}]++|[{IGNORED}]++\s[\s{IGNORED}]*+)"
    rf"|(?P<nothing>[{IGNORED}]++)"
    r"|(?P<ellipsis>…)"
    r"|(?P<ligature>[ﬀ-ﬆ])"
    rf"|(?P<dash>{_DASH})"
)
_DASHES = regex.compile(rf"{_DASH}|[-‐‑‒–—―−]")
# The look ahead spares most characters the alternatives, at a seventh of the time.
_SPECIAL = regex.compile(rf"(?=[{IGNORED}…ﬀ-ﬆ\-]|\s[\s{IGNORED}])(?:{_COMMON})")
_SPECIAL_DECOMPOSED = regex.compile(
    _COMMON
    + r"|(?P<cluster>[^\p{M}\s]\p{M}++|[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?|[\uac00-\ud7a3][\u11a8-\u11c2]"
    r"|\p{NFC_Quick_Check=No})"
)
_TOKEN = regex.compile(
    rf"[{_SPACELESS}]\p{{M}}*+"
    rf"|[[\p{{L}}\p{{N}}\p{{M}}_]--[{_SPACELESS}]]++"
    rf"(?:(?:['\-]|(?<=\p{{N}})[.,:/](?=\p{{N}}))[[\p{{L}}\p{{N}}\p{{M}}_]--[{_SPACELESS}]]++)*+"
    r"|\.\.\.|\S",
    regex.VERSION1,
)
_WORDLIKE = regex.compile(r"[\p{L}\p{N}\p{M}_]")
_IS_SPACELESS = regex.compile(rf"[{_SPACELESS}]")
_SHORT_WORDS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\u30fc\uff70]")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a character of a script without spaces, or a mark: folded, and ``[start, end)`` in the raw text."""

    text: str
    start: int
    end: int


class Folded:
    """A text, ``raw``, and its folded form, ``text``, with the way back."""

    __slots__ = ("_at", "_dashes", "_from", "_plain", "_tokens", "raw", "text")

    def __init__(self, raw: str) -> None:
        self.raw = raw
        # Piece i is text[_at[i]:_at[i+1]], made of raw[_from[i]:_from[i+1]]; where _plain, character for character.
        self._at: list[int] = []
        self._from: list[int] = []
        self._plain: list[bool] = []
        pieces: list[str] = []
        length = 0
        for piece, start, plain in _pieces(raw):
            self._at.append(length)
            self._from.append(start)
            self._plain.append(plain)
            pieces.append(piece)
            length += len(piece)
        self._at.append(length)
        self._from.append(len(raw))
        self.text = "".join(pieces)
        self._tokens: list[Token] | None = None
        self._dashes: tuple[list[int], str] | None = None

    def raw_start(self, index: int) -> int | None:
        """The raw character at which a folded one starts; None inside of what became several (``…``)."""
        piece = min(bisect_right(self._at, index), len(self._plain)) - 1
        if piece < 0 or self._at[piece] == index:
            return self._from[max(piece, 0)]
        return self._from[piece] + index - self._at[piece] if self._plain[piece] else None

    def raw_end(self, index: int) -> int | None:
        """The raw character at which the folded one before ``index`` ends; None inside of what became several."""
        piece = bisect_left(self._at, index)
        if piece < len(self._at) and self._at[piece] == index:
            return self._from[piece]
        piece -= 1
        return self._from[piece] + index - self._at[piece] if self._plain[piece] else None

    def folded_at(self, raw: int) -> int:
        """The first folded character that comes of what starts at or after a raw one (inside of a run: of the run)."""
        piece = bisect_right(self._from, raw) - 1
        if piece >= len(self._plain):
            return len(self.text)
        return self._at[piece] + raw - self._from[piece] if self._plain[piece] else self._at[piece]

    def dashes(self, start: int, end: int) -> str:
        """What each hyphen folded from ``raw[start:end]`` was, a letter each, in order: "-", "—" (any long dash), or
        "2" or "3" for that many hyphens in place of a dash.
        """
        if self._dashes is None:
            found = list(_DASHES.finditer(self.raw))
            kinds = "".join(_KINDS.get(match.group(), "-") for match in found)
            self._dashes = [match.start() for match in found], kinds
        places, kinds = self._dashes
        return kinds[bisect_left(places, start) : bisect_left(places, end)]

    def tokens(self) -> list[Token]:
        """The tokens of the text, in order."""
        if self._tokens is None:
            self._tokens = list(self._cut())
        return self._tokens

    def _cut(self) -> Iterator[Token]:
        for match in _TOKEN.finditer(self.text):
            start, end = self.raw_start(match.start()), self.raw_end(match.end())
            if start is not None and end is not None:
                yield Token(match.group(), start, end)


def fold(text: str) -> str:
    """The folded form of a text."""
    return Folded(text).text


def is_wordlike(text: str) -> bool:
    """Whether the text holds a letter, a digit or an accent."""
    return _WORDLIKE.search(text) is not None


def has_spaceless(text: str) -> bool:
    """Whether the text holds characters of a script that puts no spaces between words."""
    return _IS_SPACELESS.search(text) is not None


def count_words(folded: Folded) -> int:
    """Words of a text. In scripts without spaces two characters of Chinese or Japanese, or four of others, are one."""
    quarters = 0
    for token in folded.tokens():
        if not is_wordlike(token.text):
            continue
        if not has_spaceless(token.text):
            quarters += 4
        else:
            quarters += 2 if _SHORT_WORDS.match(token.text) else 1
    return quarters // 4


def _pieces(raw: str) -> Iterator[tuple[str, int, bool]]:
    """(folded, start in raw, character for character) of each piece, in order; together they are all of ``raw``."""
    special = _SPECIAL if unicodedata.is_normalized("NFC", raw) else _SPECIAL_DECOMPOSED
    done = 0
    for match in special.finditer(raw):
        if match.start() > done:
            yield _lowered(raw[done : match.start()]), done, True
        yield _replacement(match.lastgroup or "", match.group()), match.start(), False
        done = match.end()
    if done < len(raw):
        yield _lowered(raw[done:]), done, True


def _replacement(kind: str, found: str) -> str:
    match kind:
        case "space":
            return " "
        case "ellipsis":
            return "..."
        case "ligature":
            return _LIGATURES[found]
        case "dash":
            return "-"
        case "cluster":
            return _lowered(unicodedata.normalize("NFC", found))
        case _:
            return ""


def _lowered(text: str) -> str:
    """In lower case and without typography, character for character (``İ`` has no lower case of one character)."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(low if len(low := c.lower()) == 1 else c for c in text)
    return lower.translate(_PLAIN)
