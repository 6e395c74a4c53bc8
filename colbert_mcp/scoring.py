"""How a query is scored against stored token embeddings, whatever computes it: the contract, and numpy's answer.

A ``Scorer`` computes the matches of ``maxsim`` for some rows of a matrix. Every scorer gives the same numbers: for
tokens within ``TOLERANCE`` (within a few times that for made-up vectors all of whose roundings add up), and for pooled
vectors, which only order candidates, within ``ROUGH_TOLERANCE``. On the processor a score never depends on what it is
computed beside. Knows arrays only; those that torch computes are in ``encoder.scoring``.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from colbert_mcp.maxsim import Floats, TokenMatrix, similarities

TOLERANCE = 1e-4
ROUGH_TOLERANCE = 1e-2
_BLOCK = 4_096  # rows of vectors; small, since their products with many queries are held at once
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PooledMatrix:
    """The same number of vectors for each of many chunks, quantised: ``values[i, j] * scales[i, j]``.

    ``values``: int8 [n, k, d]; ``scales``: float16 [n, k].
    """

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: slice | Ints) -> "PooledMatrix":
        """The vectors of some chunks, in the order given."""
        # Plain arrays: each piece of a memory map would be a memory map, which costs more than what is read.
        return PooledMatrix(np.asarray(self.values)[rows], np.asarray(self.scales)[rows])


class Scorer(Protocol):
    """Scores float32 query rows [q, d] against chunks; ``rows`` picks these, in the order given (None: all)."""

    @property
    def name(self) -> str:
        """What computes, in which number format: fit to be shown."""

    def best_matches(self, query: Floats, tokens: TokenMatrix, rows: Ints | None = None) -> Floats:
        """``maxsim.best_matches`` of chunks; float32 [q, n], a chunk without tokens has -1."""

    def best_pooled_matches(self, query: Floats, pooled: PooledMatrix, rows: Ints | None = None) -> Floats:
        """The best similarity of each query row with the vectors of each chunk; float32 [q, n]."""


class NumpyScorer:
    """Scores in float32 by numpy alone."""

    name = "float32 on cpu"

    def best_matches(self, query: Floats, tokens: TokenMatrix, rows: Ints | None = None) -> Floats:
        """See Scorer. Chunk by chunk: a product of another shape is rounded otherwise, and near-ties would swap."""
        chosen = range(len(tokens.offsets) - 1) if rows is None else rows.tolist()
        matches = np.full((len(query), len(chosen)), -1.0, np.float32)
        for column, chunk in enumerate(chosen):
            start, end = int(tokens.offsets[chunk]), int(tokens.offsets[chunk + 1])
            if end > start:
                similarities(query, tokens, start, end).max(axis=1, out=matches[:, column])
        return matches

    def best_pooled_matches(self, query: Floats, pooled: PooledMatrix, rows: Ints | None = None) -> Floats:
        """See Scorer."""
        count = len(pooled) if rows is None else len(rows)
        k, dimension = pooled.values.shape[1:]
        matches = np.empty((len(query), count), np.float32)
        step = max(1, _BLOCK // k)
        for start in range(0, count, step):
            block = pooled.take(slice(start, start + step) if rows is None else rows[start : start + step])
            products = query @ block.values.reshape(-1, dimension).astype(np.float32).T
            products *= block.scales.reshape(-1).astype(np.float32)
            matches[:, start : start + step] = products.reshape(len(query), -1, k).max(axis=2)
        return matches
