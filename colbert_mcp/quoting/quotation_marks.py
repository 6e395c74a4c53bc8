"""Where quotation marks open and close in a text, outermost pairs first: “…”, „…“, »…«, ‘…’, 「…」, "…" and their like.

Marks nest, and only the outermost pair is a quotation. Apostrophes, inches and marks without a partner are told apart
by what stands beside them; a mark that must be a quotation's but has no partner in its paragraph is reported, so that
no quotation goes unseen. Knows strings only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import regex

_CLOSERS = {
    "“": "”",
    "„": '“”"',
    "”": "”",
    "«": "»",
    "»": "«",
    "‘": "’",
    "‚": "‘’",
    "‹": "›",
    "›": "‹",
    "「": "」",
    "『": "』",
    "＂": "＂",
    '"': '"',
    "'": "'",
}
_MARK = regex.compile(r"\n\n|[“”„«»‚‹›「」『』＂\"]|[‘’'](?!\d\ds\b)")
# Marks that open whatever stands before them, and those that are no apostrophes, inches or the like.
_OPENERS = frozenset("“„«‚「『")
_STRICT = frozenset("“”„«»「」『』＂")
_BEFORE_OPENING = regex.compile(r"[\s\p{Ps}\p{Pi}\p{Pf}\p{Pd}\"'*_~>:|/=,\0]")
_POSSESSIVE = regex.compile(r"[^‘\n]{1,400}?(?<!\s)’(?!\w)")
# Inches are behind a number, also over a space; ditto is alone in its line or cell.
_INCHES_OR_DITTO = regex.compile(r"(?<=\p{N}[ \u00a0\u202f]?\\?)\"|(?<!.)\"(?!.)")
_DEEPEST = 20


@dataclass(slots=True)
class Marks:
    """``[start, end)`` of what stands between each outermost pair, in order; and places of marks without a partner."""

    pairs: list[tuple[int, int]] = field(default_factory=list)
    alone: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    mark: str
    at: int
    inner: Marks = field(default_factory=Marks)


def quotation_marks(text: str) -> Marks:
    """Find the quotations of a text; a blank line ends all that is open. Takes time linear in the text."""
    marks, stack = Marks(), list[_Open]()
    for found in _MARK.finditer(text):
        at, mark = found.start(), found.group()
        if mark == "\n\n":
            _abandon(stack, 0, marks)
            continue
        before, after = _beside(text, at)
        level = _closes(stack, text, at, before, after)
        if level is not None:
            _abandon(stack, level + 1, marks)
            closed = stack.pop()
            (stack[-1].inner if stack else marks).pairs.append((closed.at + 1, at))
        elif _opens(mark, before, after):
            if len(stack) < _DEEPEST:
                stack.append(_Open(mark, at))
        elif _stray(text, at, before, after):
            (stack[-1].inner if stack else marks).alone.append(at)
    _abandon(stack, 0, marks)
    return Marks(sorted(marks.pairs), sorted(marks.alone))


def _beside(text: str, at: int) -> tuple[str, str]:
    """The characters before and after a mark, a space at the ends; the backslash that escapes it does not count."""
    back = at - 1 - (text[at - 1 : at] == "\\")
    after = text[at + 1 : at + 2]
    return text[back] if back >= 0 else " ", text[at + 2 : at + 3] if after == "\\" else after or " "


def _opens(mark: str, before: str, after: str) -> bool:
    if mark not in _CLOSERS:
        return False
    return mark in _OPENERS or (not (after or " ").isspace() and _BEFORE_OPENING.match(before) is not None)


def _closes(stack: Sequence[_Open], text: str, at: int, before: str, after: str) -> int | None:
    """The level of what the mark closes; None if it closes nothing."""
    mark = text[at]
    level = next((i for i in reversed(range(len(stack))) if mark in _CLOSERS[stack[i].mark]), None)
    if level is None:
        return None
    if mark in "\"'’«“" and (before.isspace() or _is_alphanumeric(after)):
        return None
    # What could open as well, after a space or bracket, does.
    if mark in _CLOSERS and mark not in "“«" and before in " \t\n([" and _opens(mark, before, after):
        return None
    if mark in "'’" and _is_possessive(text, at, before, after):
        return None
    return level


def _is_alphanumeric(text: str) -> bool:
    """Whether a character is a letter or digit; ``¹`` is a mark behind a quotation."""
    return any(c.isalpha() or c.isdecimal() for c in text)


def _is_possessive(text: str, at: int, before: str, after: str) -> bool:
    """Whether the mark is that of ``the dogs' owner``: another one that closes comes later."""
    return before in "sS" and after.isspace() and text[at] == "’" and _POSSESSIVE.match(text, at + 1) is not None


def _stray(text: str, at: int, before: str, after: str) -> bool:
    """Whether a mark that neither opens nor closes anything must be half of a quotation."""
    if text[at] == '"':
        within = _is_alphanumeric(before) and _is_alphanumeric(after)
        return not within and _INCHES_OR_DITTO.match(text, at) is None
    return text[at] in _STRICT


def _abandon(stack: list[_Open], level: int, marks: Marks) -> None:
    """Give up what is open from a level on: what was closed inside of it counts, and what has no partner there."""
    outer = stack[level - 1].inner if level else marks
    for opened in _popped(stack, level):
        if opened.mark in _STRICT or opened.mark == '"':
            outer.alone.append(opened.at)
        outer.pairs.extend(opened.inner.pairs)
        outer.alone.extend(opened.inner.alone)


def _popped(stack: list[_Open], level: int) -> Iterator[_Open]:
    while len(stack) > level:
        yield stack.pop()
