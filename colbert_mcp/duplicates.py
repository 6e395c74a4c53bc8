"""Which texts of a list say nearly the same as an earlier one: versions of one file, copied licences, mirrored pages.

Two texts are near duplicates where most of the shorter one's shingles (runs of neighbouring words) stand in the other:
Broder, On the resemblance and containment of documents, 1997. Knows texts only.
"""

import re
from collections.abc import Sequence

_SHINGLE = 4
_SHARE = 0.7
_FEWEST = 8  # of shingles: shorter texts are alike by chance
# Scripts that are written without blanks between words: each character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def near_duplicates(texts: Sequence[str]) -> list[int | None]:
    """For each text, the index of the first earlier text that it nearly repeats, or None.

    A text that repeats another is not itself taken as an original. Compares every pair; meant for one answer's results.
    """
    shingles = [_shingles(text) for text in texts]
    originals: list[int] = []
    result: list[int | None] = []
    for index, own in enumerate(shingles):
        found = next((earlier for earlier in originals if _alike(shingles[earlier], own)), None)
        result.append(found)
        if found is None:
            originals.append(index)
    return result


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return frozenset(zip(*(words[first:] for first in range(_SHINGLE)), strict=False))


def _alike(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    fewer = min(len(one), len(other))
    return fewer >= _FEWEST and len(one & other) >= _SHARE * fewer
