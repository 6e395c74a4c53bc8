"""Which passages hold the exact texts of a query (quoted phrases, names, codes) as they are, and how much that tells.

BM25 stems words and drops signs, and an encoder takes a rare name for any other, so neither can tell. FTS5 finds the
passages that may hold an exact text, and those are read. Knows the catalogue and BM25's queries; nothing of embeddings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from colbert_mcp.lexical import ExactText
from colbert_mcp.store import Reader

# How many passages are counted, and how many read, for one exact text.
_COUNTED = 10_000
_READ = 1000


@dataclass(frozen=True, slots=True)
class Held:
    """{chunk: weight} of the chunks that hold any of some exact texts, the sum of the weights of those that they hold;
    and the texts that no chunk holds.
    """

    weights: dict[int, float]
    missing: tuple[ExactText, ...]


def held(
    reader: Reader,
    exact: Sequence[ExactText],
    bm25: Mapping[int, float],
    among: Callable[[Sequence[int]], Sequence[int]],
    passages: int,
) -> Held:
    """Which chunks hold some exact texts.

    A quoted phrase weighs 1. A name weighs what it tells, 0 to 1: its inverse document frequency, as a share of that of
    one in a single passage. ``bm25``: scores of the chunks for the whole query, whose best are read first; ``among``:
    those of some chunks that the filters let through; ``passages``: how many there are.
    """
    found: dict[int, float] = {}
    missing = []
    for text in exact:
        matching = reader.matching_chunks(text.expression, _COUNTED)
        weight = 1.0 if text.quoted else _rarity(len(matching), passages)
        likely = sorted(among(matching), key=lambda chunk: (-bm25.get(chunk, 0.0), chunk))[:_READ]
        holding = [chunk for chunk, read in reader.texts(likely) if text.pattern.search(read)]
        for chunk in holding:
            found[chunk] = found.get(chunk, 0.0) + weight
        if not holding and len(matching) < _COUNTED and len(likely) < _READ:
            missing.append(text)
    return Held(found, tuple(missing))


def _rarity(count: int, passages: int) -> float:
    """1 for what stands in one passage of many, 0 for what stands in all."""
    return (
        math.log((passages + 1) / (count + 0.5)) / math.log((passages + 1) / 1.5) if 0 < count <= passages > 1 else 1.0
    )
