"""Where a quotation may begin or end: never inside a word or a number; and whether its sentence goes on to a question.

What belongs to a number is told by Unicode categories rather than by a list: signs and comparisons (Sm, dashes),
currency (Sc), exponents (No), marks between digits, and percent signs, primes and degrees after them. Characters that
no reader sees count for nothing here. Knows strings only.
"""

import unicodedata
from functools import lru_cache

import regex

from colbert_mcp.quoting.folding import has_spaceless, is_wordlike

_UNSEEN = regex.compile(r"[\p{Default_Ignorable_Code_Point}--[\p{M}\p{L}]]", regex.VERSION1)
# How many visible characters are looked at on either side, and how many to find them among.
_NEAR = 40
_FAR = 4_096
_APOSTROPHE = r"'’‘‛`´＇′‵\u055a\u05f3"
# Dashes join numbers and words, but not the long ones, which stand between sentences.
_DASH = r"[[\p{Pd}−]--[—―⸺⸻﹘]]"
# Of the mathematical signs, those that say nothing of the number after them are left out: = | ¬ and arrows.
_SIGN = r"[[\p{Sm}\p{Pd}±]--[=|¬—―⸺⸻﹘\u2190-\u21ff]]"
_JOIN = rf"[[\p{{Po}}\p{{Sk}}{_APOSTROPHE}\u00a0\u2007\u2009\u202f]--[!?…\";&@#\\。、！？；‼⁇⁈⁉]]"
_PERCENT = r"[%‰‱٪؉؊％﹪]"
_SPACE = r"[ \u00a0\u2007\u2009\u202f]"
_NUMBER = regex.compile(
    # A sign, unless it closes a tag; ``>=``, ``!=``; a leading point; currency.
    rf"(?:(?<!</?\w[^<>]{{0,32}}){_SIGN}=?|!=|(?<![\w.])\.)*(?:\p{{Sc}}(?:{_SIGN}|\.)?)?"
    rf"\p{{N}}+(?:(?:{_JOIN}|(?:{_SIGN}|[*\^]){{1,4}}|[eE]{_SIGN})\p{{N}}+)*"
    rf"(?:{_SPACE}?{_PERCENT}(?!\w)|[%٪％‰\p{{Sc}}°℃℉′″+＋⁺])*",
    regex.VERSION1,
)
_LETTER = r"[\p{L}\p{N}\p{M}_]"
_JOINED = regex.compile(
    rf"(?<={_LETTER})(?:[{_APOSTROPHE}]|{_DASH}(?:[ \t]*(?:\r\n|\n|\r)[ \t>]*)?)(?={_LETTER})", regex.VERSION1
)
_APOSTROPHES = frozenset("'’‘‛`´＇′‵\u055a\u05f3")
# What may stand between a word and the mark that makes a question or an exclamation of it.
_BETWEEN = regex.compile(
    r"(?:[\p{Pf}\p{Pi}\p{Pe}\"'*_~`.…]|[\p{Default_Ignorable_Code_Point}]|[^\S\n\r]|(?:\r\n|\n|\r)(?![^\S\n\r]*[\n\r]))*+"
)
_GREEK_END = regex.compile(r"\p{Greek}[^\w\s;]*;\Z")


def is_boundary(raw: str, at: int, *, closing: bool) -> bool:
    """Whether a quotation may begin (or, ``closing``, end) before the character ``at``: not inside a word or a number.

    Inside lie: accents; apostrophes (``can`` is not in ``can't``, though ``l'homme`` may be entered after its own);
    hyphens, at the end of a line too (``negotiable`` is not in ``non-negotiable``); what belongs to a number (``5`` is
    in none of ``1.5``, ``-5``, ``$5``, ``5%``, ``5 %``, ``>5``, ``5+``, ``5×10³``). Between characters of scripts
    without spaces, everywhere is a boundary. Where more than 4,000 characters in a row cannot be seen, nothing is.
    """
    left, right = _seen(raw, at, -1), _seen(raw, at, 1)
    if left is None or right is None:
        return False
    if not left or not right:
        return True
    before, after = left[-1], right[0]
    if unicodedata.category(after).startswith("M"):
        return False
    near, middle = left + right, len(left)
    if is_wordlike(before) and is_wordlike(after):
        return has_spaceless(before) or has_spaceless(after)
    if any(found.start() < middle < found.end() for found in _NUMBER.finditer(near)):
        return False
    entered = before in _APOSTROPHES and not closing
    return entered or not any(found.start() <= middle <= found.end() for found in _JOINED.finditer(near))


def asks_or_exclaims(raw: str, at: int) -> bool:
    """Whether the sentence that a quotation leaves at ``at`` goes on to a question or exclamation mark."""
    stop = _BETWEEN.match(raw, at, at + _FAR)
    end = stop.end() if stop else at
    if end >= len(raw):
        return False
    return _is_asking(raw[end]) or is_greek_question(raw[max(0, at - _NEAR) : end + 1])


def is_greek_question(text: str) -> bool:
    """Whether the text ends in a semicolon after Greek, where it is the question mark."""
    return _GREEK_END.search(text) is not None


@lru_cache(maxsize=512)
def _is_asking(mark: str) -> bool:
    name = unicodedata.name(mark, "")
    asks = "QUESTION MARK" in name or "EXCLAMATION MARK" in name or "INTERROBANG" in name
    return asks and "INVERTED" not in name


def _seen(raw: str, at: int, step: int) -> str | None:
    """The nearest characters that can be seen, before ``at`` (``step`` -1) or from it; None if they are too far."""
    size = 2 * _NEAR
    while True:
        part = raw[max(0, at - size) : at] if step < 0 else raw[at : at + size]
        seen = str(_UNSEEN.sub("", part))
        if len(seen) >= _NEAR or len(part) < size:
            return seen[-_NEAR:] if step < 0 else seen[:_NEAR]
        if size >= _FAR:
            return seen or None
        size *= 4
