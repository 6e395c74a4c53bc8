"""How a passage aligns with a query, and the run of its sentences that the alignment points at.

Knows arrays and spans; nothing of models, ranking or the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# Tuned on half of a set of 472 questions with gold spans (ARCHITECTURE.md, Quotes).
_NEAR = 0.7


@dataclass(frozen=True, slots=True)
class Alignment:
    """Every token of a query beside every kept token of one passage.

    ``similarities``: float32 [q, t], -1…1; ``spans``: int64 [t, 2], characters of the passage's text, in order but for
    special tokens, which have (0, 0); ``tokens``: the passage's tokens by their names in the vocabulary, or none.
    """

    similarities: Floats
    spans: Ints
    tokens: tuple[str, ...]


def quote_span(
    alignment: Alignment, sentences: Sequence[tuple[int, int]], held: Sequence[int] | None = None
) -> tuple[int, int]:
    """The characters of the passage's text to be quoted: a run of neighbouring sentences.

    It grows from the sentence with the highest MaxSim of its own, over its neighbours while theirs stands at least
    ``_NEAR`` of the way from the passage's mean sentence to the best. ``sentences`` are sorted ``[start, end)``, at
    least one, and do not overlap. Without a token in any of them it is the first. ``held`` is how many exact texts of
    the query each of them holds: only those with most can be the best.
    """
    scores = _sentence_scores(alignment, sentences)
    if np.isneginf(scores).all():
        return sentences[0]
    most = np.zeros(len(scores), np.int64) if held is None else np.array(held)
    best, mean = int(np.lexsort((-scores, -most))[0]), float(scores[~np.isneginf(scores)].mean())
    least = mean + _NEAR * max(0.0, float(scores[best]) - mean)
    near = (scores >= least) & (scores > mean) & (scores[best] > mean)
    first = last = best
    while first > 0 and near[first - 1]:
        first -= 1
    while last < len(sentences) - 1 and near[last + 1]:
        last += 1
    return sentences[first][0], sentences[last][1]


def _sentence_scores(alignment: Alignment, sentences: Sequence[tuple[int, int]]) -> Floats:
    """MaxSim of each sentence's own tokens, float32 [s]; -inf where it has none."""
    scores = np.full(len(sentences), -np.inf, np.float32)
    own = np.flatnonzero(alignment.spans[:, 1] > 0)
    starts, ends = alignment.spans[own].T
    edges = np.array(sentences)
    runs = np.stack([ends.searchsorted(edges[:, 0], "right"), starts.searchsorted(edges[:, 1])], axis=1)
    filled = runs[:, 0] < runs[:, 1]
    if filled.any():
        # One more column, since no run of reduceat may begin behind the last; every other one lies between sentences.
        similarities = alignment.similarities[:, np.append(own, 0)]
        scores[filled] = np.maximum.reduceat(similarities, runs[filled].ravel(), axis=1)[:, ::2].mean(axis=0)
    return scores
