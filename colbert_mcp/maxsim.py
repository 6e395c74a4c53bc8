"""Late interaction, exactly: MaxSim over ragged token matrices, int8 storage of tokens, and their pooling.

MaxSim (Khattab and Zaharia, ColBERT, SIGIR 2020) is the sum over query tokens of the best inner product with any token
of the document; here it is divided by the number of query tokens, so that scores of different queries compare.
Everything is scored ragged: padding never takes part, so a score does not depend on what it was computed beside.
Knows arrays only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from colbert_mcp.types import EmbeddingFormat

Floats = npt.NDArray[np.float32]
_BLOCK = 65_536
_POOL_GROUP = 512


@dataclass(frozen=True, slots=True)
class TokenMatrix:
    """Token embeddings of many chunks: row r stands for ``values[r] * scales[r]``.

    ``values``: int8 or float16 [t, d]; ``scales``: float16 [t]; ``offsets``: int64 [n + 1], chunk i
    has rows offsets[i]:offsets[i+1].
    """

    values: npt.NDArray[np.int8] | npt.NDArray[np.float16]
    scales: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.int64]

    def take(self, chunks: npt.NDArray[np.int64]) -> "TokenMatrix":
        """The rows of some chunks, copied, in the order given."""
        lengths = self.offsets[chunks + 1] - self.offsets[chunks]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = np.empty((int(offsets[-1]), self.values.shape[1]), self.values.dtype)
        scales = np.empty(int(offsets[-1]), np.float16)
        # Plain arrays: each piece of a memory map would be a memory map, which costs more than what is read.
        whole, steps = np.asarray(self.values), np.asarray(self.scales)
        firsts, lasts = self.offsets[chunks].tolist(), self.offsets[chunks + 1].tolist()
        for first, last, start, end in zip(firsts, lasts, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            values[start:end] = whole[first:last]
            scales[start:end] = steps[first:last]
        return TokenMatrix(values, scales, offsets)

    def blocks(self, size: int) -> Iterator[tuple[int, int, npt.NDArray[np.int64]]]:
        """(first row, end, chunks): the chunks that have rows, as many together as ``size`` rows hold, at least one."""
        filled = np.flatnonzero(np.diff(self.offsets) > 0)
        position = 0
        while position < len(filled):
            first = int(self.offsets[filled[position]])
            stop = max(position + 1, int(np.searchsorted(self.offsets[filled + 1], first + size, side="right")))
            yield first, int(self.offsets[filled[stop - 1] + 1]), filled[position:stop]
            position = stop


def quantise(embeddings: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Rows as int8 [t, d] and float16 [t] such that values * scales is within half a step of each row."""
    peaks = np.abs(embeddings).max(axis=1, initial=0.0)
    # Rounded up in float16 first, so that the division below never leaves the int8 range.
    scales = np.nextafter((peaks / 127).astype(np.float16), np.float16(np.inf))
    return np.rint(embeddings / scales.astype(np.float32)[:, None]).astype(np.int8), scales


def kept_in(embeddings: Floats, embedding_format: EmbeddingFormat) -> tuple[npt.NDArray[Any], npt.NDArray[np.float16]]:
    """Rows [t, d] as values and scales of a TokenMatrix: ``quantise``, or float16 and ones."""
    if embedding_format == "int8":
        return quantise(embeddings)
    return embeddings.astype(np.float16), np.ones(len(embeddings), np.float16)


def converted(
    values: npt.NDArray[Any], scales: npt.NDArray[np.float16], embedding_format: EmbeddingFormat
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float16]]:
    """Rows of the other format in this one. Those that come from int8 go back to it as they were, however often."""
    if embedding_format == "float16":
        return values.astype(np.float16), scales
    whole = np.all((values == np.rint(values)) & (np.abs(values) <= 127), axis=1) & (scales != 1)
    quantised, steps = quantise(values.astype(np.float32) * scales.astype(np.float32)[:, None])
    return np.where(whole[:, None], values, quantised).astype(np.int8), np.where(whole, scales, steps)


def similarities(query: Floats, tokens: TokenMatrix, start: int = 0, end: int | None = None) -> Floats:
    """Inner products of query rows [q, d] with token rows start:end; float32 [q, t]."""
    rows = slice(start, end)
    products = query @ tokens.values[rows].astype(np.float32).T
    products *= tokens.scales[rows].astype(np.float32)
    return products


def best_matches(query: Floats, tokens: TokenMatrix) -> Floats:
    """The best similarity of each query row (float32 [q, d]) with each chunk; float32 [q, n], -1…1, higher is better.

    Accumulates in float32. A chunk without rows has -1.
    """
    matches = np.full((len(query), len(tokens.offsets) - 1), -1.0, np.float32)
    for first, end, chunks in tokens.blocks(_BLOCK):
        products = similarities(query, tokens, first, end)
        matches[:, chunks] = np.maximum.reduceat(products, tokens.offsets[chunks] - first, axis=1)
    return matches


def maxsim(query: Floats, tokens: TokenMatrix) -> Floats:
    """MaxSim of a query (float32 [q, d]) with each chunk, divided by q; float32 [n], within -1…1, higher is better."""
    scores: Floats = best_matches(query, tokens).mean(axis=0)
    return scores


def pool(embeddings: Floats, k: int) -> Floats:
    """Cluster a chunk's rows [t, d] into k normalised means [k, d] (Ward linkage on cosine distance).

    As in Clavié et al., Reducing the Footprint of Multi-Vector Retrieval, 2024, with similarities clipped: rounding can
    take them past 1, and linkage refuses a negative distance. Fewer than k rows are repeated, which changes no MaxSim.
    """
    if len(embeddings) <= k:
        return np.resize(embeddings, (k, embeddings.shape[1]))
    # Linkage takes quadratic time and memory, so a long chunk is clustered stretch by stretch.
    groups = np.array_split(embeddings, min(k, -(-len(embeddings) // _POOL_GROUP)))
    shares = _shares(k, [len(group) for group in groups])
    means = np.concatenate([_cluster_means(group, share) for group, share in zip(groups, shares, strict=True)])
    return np.resize(means, (k, embeddings.shape[1])) if len(means) < k else means


def _shares(k: int, sizes: Sequence[int]) -> list[int]:
    edges = np.rint(np.cumsum([0, *sizes]) * k / sum(sizes)).astype(int)
    return [max(1, int(share)) for share in np.diff(edges)]


def _cluster_means(rows: Floats, k: int) -> Floats:
    if len(rows) <= k:
        return rows
    distances = 1 - np.clip(rows @ rows.T, -1, 1)
    np.fill_diagonal(distances, 0)
    labels = _labels(linkage(squareform(distances, checks=False), method="ward"), k)
    sums: Floats = (labels == np.arange(k)[:, None]).astype(np.float32) @ rows
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return sums


def _labels(merges: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.int64]:
    """The cluster, 0 to k - 1, of each of n rows when the n - k nearest of their merges [n - 1, 4] are carried out.

    As scipy's ``fcluster`` has them, but for ties, at a fraction of the time: it checks the merges of each chunk.
    """
    count = len(merges) + 1
    parents = np.arange(2 * count - k)
    parents[merges[: count - k, :2].astype(np.int64)] = np.arange(count, len(parents))[:, None]
    while not np.array_equal(parents, above := parents[parents]):
        parents = above
    labels: npt.NDArray[np.int64] = np.unique(parents[:count], return_inverse=True)[1].astype(np.int64)
    return labels
