"""Full stops that belong to the word before them: abbreviations, initials, numbers of lists. Knows strings only."""

import re

from colbert_mcp.stops import is_phrased

_LAST_WORD = re.compile(r"[^\s(\[\"'“‘«]*\Z")
# Without their full stop. A name or another word follows the first kind, a number the second.
_ABBREVIATIONS = frozenset(
    "al approx bzw ca capt cf co col corp dr e.g est gen gov hon i.e inc jr lit lt ltd messrs mr mrs ms mt p.ex prof "
    "rev sen sgt sr st u.a u.k u.s viz vs z.b أ.د إلخ ق.م डॉ पं प्रो श्री सुश्री".split()
)
_BEFORE_NUMBERS = frozenset(
    "abb art bd ch chap cit ed eq eqs fig figs kap no nos nr op p pp pt ref refs sec tab vol vols apr aug dec feb "
    "jan jul jun mar nov oct sep sept".split()
)


def abbreviates(text: str, stop: int, following: str) -> bool:
    """Whether the full stop at ``stop`` ends a word, not a sentence; ``following`` is the next visible character."""
    found = _LAST_WORD.search(text, max(0, stop - 20), stop)
    word = found.group() if found else ""
    before = stop - len(word)
    if word.casefold() in _BEFORE_NUMBERS:
        return following.isdigit()
    while before and text[before - 1] in " \t":
        before -= 1
    return _is_abbreviation(word, opens_line=before == 0 or text[before - 1] in "\n\r")


def _is_abbreviation(word: str, *, opens_line: bool) -> bool:
    """Whether the full stop after a word belongs to it: an abbreviation, an initial, or the number of a list item."""
    if word.casefold() in _ABBREVIATIONS:
        return True
    if len(word) == 1 and word.isalpha() and not word.islower() and word != "I":
        return True
    if is_phrased(word):
        return True
    return opens_line and word.isdigit() and len(word) <= 3
