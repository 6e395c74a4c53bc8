"""Where sentences end in scripts that have marks of their own for it, or none: Chinese, Japanese, Arabic, Indic, Thai …

A mark of these scripts (Unicode's Sentence_Terminal) ends a sentence whatever follows, unless the sentence goes on
after the quotation that the mark stands in, as in 「はい。」と言った。 Thai, Lao, Khmer and Burmese put spaces between
phrases: a long stretch without a mark can be divided at these. Full stops that also stand for other things are for
others to judge. Knows strings only.
"""

from collections.abc import Iterator

import regex

# Scripts that put no spaces between words: with short words, and with spaces between phrases.
_SHORT = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\u3005\u30fc\uff70"
_PHRASED = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
CLOSING = r"\"'’”»›“‘«‹)\]）］｝」』】〉》〕"
# Without those of ASCII, and the comma of Burmese. Tibetan ends its clauses so.
_MARK = r"[[\p{STerm}།༎]--[!.?\u2024\u104a．។]]"
_STOP = rf"(?:{_MARK}|(?<!\p{{N}})．|(?<!\u17d4\u179b)\u17d4(?!\u179b\u17d4))"
_ENDS = regex.compile(
    # A number between double dandas is that of a verse; "?" and "!" of ASCII count between letters of Chinese.
    rf"(?P<mark>{_STOP}(?:{_STOP}|[!?…]|\s*[།༎])*(?:(?<=॥)\s*\p{{N}}+\s*॥)?"
    rf"|(?<=[{_SHORT}…]|[{_SHORT}][{CLOSING}])[!?]+(?=[{CLOSING}]*[{_SHORT}「『“‘（《])"
    rf"|(?<=[{_SHORT}])…+(?=[」』”’]))"
    rf"(?P<closing>[{CLOSING}]*)\s*",
    regex.VERSION1,
)
_QUOTED = regex.compile(r"「[^「」\n]{0,200}」|『[^『』\n]{0,200}』|“[^“”\n]{0,200}”|（[^（）\n]{0,200}）")
# What the sentence goes on with after a quotation: a comma, a Japanese particle, or who says it.
_GOES_ON = regex.compile(
    r"[、，,;；]|[とっにはがをのもへでやかだよねま]|など|なんて|なら|より|から|\p{Han}{0,6}[说說道问問答喊叫](?=[。，：])"
)
_BEGINS = regex.compile(rf"(?:^|\n|{_STOP}[{CLOSING}]*)[^\S\n]*\Z", regex.VERSION1)
_BETWEEN_PHRASES = regex.compile(rf"(?<=[{_PHRASED}])(?<!ๆ)[ \u00a0\u200b]+(?=[{_PHRASED}])(?!ๆ)")
_IS_SHORT = regex.compile(rf"[{_SHORT}]")
_IS_PHRASED = regex.compile(rf"[{_PHRASED}]")
_ENDS_SPACELESS = regex.compile(rf"[{_SHORT}{_PHRASED}]\W*\Z")
# A stretch without a mark is divided above the first length, into phrases of the second one or more.
_LONG_STRETCH = 300
_PHRASE = 80
_LONGEST_WORD = 12
_AHEAD = 256


def stop_ends(text: str, start: int = 0, end: int | None = None) -> Iterator[int]:
    """Where sentences end within ``[start, end)`` by marks of their own script, after the blanks that follow."""
    if text.isascii():
        return
    end = len(text) if end is None else end
    # Seen as far as it takes to know what closes behind the last mark.
    ahead = min(len(text), end + _AHEAD)
    inside = _Quotations(text, start, ahead)
    for match in _ENDS.finditer(text, start, ahead):
        closed = match.end("closing")
        if closed <= end and not inside.goes_on(match.start(), closed):
            yield min(match.end(), end)


def phrase_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Where to divide a long stretch ``[start, end)`` of a script that puts spaces between phrases alone."""
    if end - start <= _LONG_STRETCH:
        return
    for match in _BETWEEN_PHRASES.finditer(text, start, end):
        if match.end() - start >= _PHRASE and end - match.end() >= _PHRASE // 2:
            yield match.end()
            start = match.end()


def first_word_length(line: str) -> int:
    """The characters that had to fit into a line to begin the next one in it; line breaks there need no spaces."""
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if _IS_SHORT.match(word):
        return min(len(word), 2)
    return min(len(word), _LONGEST_WORD) if _IS_PHRASED.match(word) else len(word)


def is_phrased(word: str) -> bool:
    """Whether a word is of a script in which a full stop only abbreviates: Thai and its like."""
    return _IS_PHRASED.search(word) is not None


def is_spaceless(line: str) -> bool:
    """Whether a line ends in a script without spaces between words."""
    return _ENDS_SPACELESS.search(line) is not None


class _Quotations:
    """The quotations of a text, looked through once from left to right."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self._text = text
        self._found = _QUOTED.finditer(text, start, end)
        self._current = next(self._found, None)

    def goes_on(self, mark: int, closed: int) -> bool:
        """Whether the sentence goes on after a mark, whose closing marks end at ``closed``."""
        while self._current is not None and self._current.end() <= mark:
            self._current = next(self._found, None)
        quotation = self._current
        if quotation is None or quotation.start() > mark:
            return False
        goes_on = _GOES_ON.match(self._text, quotation.end()) is not None
        if closed >= quotation.end():
            return goes_on
        begins = _BEGINS.search(self._text, max(0, quotation.start() - 8), quotation.start()) is not None
        return goes_on or not (begins or quotation.start() == 0)
