"""What can be quoted alone: the sentences of prose, and the lines of code, tables and lists.

Blank lines, list items and line ends that were put on purpose end a sentence, and so does its own punctuation, in any
script (``stops``). Used to choose quotes only: how chunks are cut does not depend on it. Knows a text and nothing else.
"""

import re
from itertools import pairwise

from colbert_mcp.abbreviations import abbreviates
from colbert_mcp.stops import CLOSING, first_word_length, is_spaceless, phrase_ends, stop_ends

_LINE_END = re.compile(r"\r\n|\n|\r")
_SENTENCE_END = re.compile(rf"(?<![.!?…])(?P<stop>[.!?…]+)(?:[{CLOSING}]|[ \u00a0\u202f][»›])*\s+(?=(?P<next>\S))")
_ITEM = re.compile(r"\s*(?:[-*+•>]\s|[・●○■□◆◇▪‣]|#{1,6}\s|\||\d{1,3}(?:[.)]\s|[．）、])|\.\.\s)")
_HEADING = re.compile(r"#{1,6}\s")
_CODE_END = re.compile(r"[;{}(\[,:=\\|]\Z")
# A line end is a wrap only where lines are filled to a width that people wrap at.
_WIDEST = 120
_NARROWEST = 16  # in scripts without spaces, where nearly everything would be filled
_FILLED = 0.85
_CAPITALS = 0.005


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """The sentences and lines of a passage as ``[start, end)``, in order, without the blanks around them."""
    edges = {0, len(text)}
    lines = _lines(text)
    for first, last in _blocks(text, lines):
        block = lines[first:last]
        width = max(end - start for start, end in block)
        for this, following in pairwise(block):
            if not _is_wrap(text, this, following, width):
                edges.add(following[0])
        edges.add(block[-1][1])
    edges.update(_sentence_ends(text))
    edges.update(stop_ends(text))
    for start, end in pairwise(sorted(edges)):
        edges.update(phrase_ends(text, start, end))
    trimmed = (_trim(text, start, end) for start, end in pairwise(sorted(edges)))
    return [(start, end) for start, end in trimmed if start < end]


def _lines(text: str) -> list[tuple[int, int]]:
    ends = [(match.start(), match.end()) for match in _LINE_END.finditer(text)]
    starts = [0, *(end for _, end in ends)]
    stops = [*(start for start, _ in ends), len(text)]
    return list(zip(starts, stops, strict=True))


def _blocks(text: str, lines: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs of lines that are not blank, as ``[first, last)``."""
    blocks: list[tuple[int, int]] = []
    first = 0
    for index, (start, end) in enumerate([*lines, (len(text), len(text))]):
        if not text[start:end].strip():
            if first < index:
                blocks.append((first, index))
            first = index + 1
    return blocks


def _is_wrap(text: str, line: tuple[int, int], following: tuple[int, int], width: int) -> bool:
    """Whether prose was wrapped between two lines: the next word had no room left, and no mark says otherwise.

    In wrapped prose every line but the last is filled, so a line with room for the next word was ended on purpose.
    """
    this, after = text[slice(*line)], text[slice(*following)]
    if width > _WIDEST or _ITEM.match(after) or _HEADING.match(this):
        return False
    if _CODE_END.search(this.rstrip()) and not _is_prose(this):
        return False
    if not _ITEM.match(this) and _indent(this) != _indent(after):
        return False
    if width < _NARROWEST and is_spaceless(this):
        return False
    return len(this) + first_word_length(after) + 1 > _FILLED * width


def _is_prose(line: str) -> bool:
    """Whether a line that ends in a mark which code ends in too is prose: words and blanks, for the most part."""
    plain = sum(character.isalpha() or character == " " for character in line)
    return line.rstrip()[-1] in ",:" and plain > 0.85 * len(line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _sentence_ends(text: str) -> list[int]:
    """Where sentences end by their punctuation, after the blanks that follow."""
    matches = list(_SENTENCE_END.finditer(text))
    # Elsewhere a small letter goes on with the sentence.
    if any(match["next"].islower() for match in matches) and not _is_caseless(text):
        matches = [match for match in matches if not match["next"].islower()]
    return [match.end() for match in matches if not _abbreviates(text, match)]


def _is_caseless(text: str) -> bool:
    """Whether a text is written without capitals."""
    return sum(map(str.isupper, text)) <= _CAPITALS * sum(map(str.isalpha, text))


def _abbreviates(text: str, match: re.Match[str]) -> bool:
    return match["stop"] == "." and abbreviates(text, match.start(), match["next"])


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
