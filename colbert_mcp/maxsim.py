"""Late interaction, exactly: MaxSim over ragged token matrices, int8 storage of tokens, and their pooling.

MaxSim (Khattab and Zaharia, ColBERT, SIGIR 2020) is the sum over query tokens of the best inner product with any token
of the document; here it is divided by the number of query tokens, so that scores of different queries compare.
Everything is scored ragged: padding never takes part, so a score does not depend on what it was computed beside.
Knows arrays only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

Floats = npt.NDArray[np.float32]
_BLOCK = 65_536
_POOLED_BLOCK = 4_096  # smaller: these queries are many
_POOL_GROUP = 512


@dataclass(frozen=True, slots=True)
class TokenMatrix:
    """Token embeddings of many chunks, quantised: row r stands for ``values[r] * scales[r]``.

    ``values``: int8 [t, d]; ``scales``: float16 [t]; ``offsets``: int64 [n + 1], chunk i has rows
    offsets[i]:offsets[i+1].
    """

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.int64]

    def take(self, chunks: npt.NDArray[np.int64]) -> "TokenMatrix":
        """The rows of some chunks, copied, in the order given."""
        lengths = self.offsets[chunks + 1] - self.offsets[chunks]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = np.empty((int(offsets[-1]), self.values.shape[1]), np.int8)
        scales = np.empty(int(offsets[-1]), np.float16)
        for chunk, start, end in zip(chunks.tolist(), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            source = slice(int(self.offsets[chunk]), int(self.offsets[chunk + 1]))
            values[start:end] = self.values[source]
            scales[start:end] = self.scales[source]
        return TokenMatrix(values, scales, offsets)


def quantise(embeddings: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Rows as int8 [t, d] and float16 [t] such that values * scales is within half a step of each row."""
    peaks = np.abs(embeddings).max(axis=1, initial=0.0)
    # Rounded up in float16 first, so that the division below never leaves the int8 range.
    scales = np.nextafter((peaks / 127).astype(np.float16), np.float16(np.inf))
    return np.rint(embeddings / scales.astype(np.float32)[:, None]).astype(np.int8), scales


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
    offsets = tokens.offsets
    matches = np.full((len(query), len(offsets) - 1), -1.0, np.float32)
    filled = np.flatnonzero(np.diff(offsets) > 0)
    position = 0
    while position < len(filled):
        first = int(offsets[filled[position]])
        # Whole chunks only, as many as a block holds and at least one.
        stop = max(position + 1, int(np.searchsorted(offsets[filled + 1], first + _BLOCK, side="right")))
        block = filled[position:stop]
        products = similarities(query, tokens, first, int(offsets[block[-1] + 1]))
        matches[:, block] = np.maximum.reduceat(products, offsets[block] - first, axis=1)
        position = stop
    return matches


def maxsim(query: Floats, tokens: TokenMatrix) -> Floats:
    """MaxSim of a query (float32 [q, d]) with each chunk, divided by q; float32 [n], within -1…1, higher is better."""
    scores: Floats = best_matches(query, tokens).mean(axis=0)
    return scores


def maxsim_pooled(query: Floats, pooled: npt.NDArray[np.int8], scales: npt.NDArray[np.float16]) -> Floats:
    """MaxSim over pooled vectors int8 [n, k, d] with scales float16 [n, k], divided by q; float32 [n].

    It stands in for ``maxsim`` where only an order of candidates is needed.
    """
    count, k, dimension = pooled.shape
    scores = np.empty(count, np.float32)
    step = max(1, _BLOCK // k)
    for start in range(0, count, step):
        block = pooled[start : start + step].reshape(-1, dimension)
        products = query @ block.astype(np.float32).T
        products *= scales[start : start + step].reshape(-1).astype(np.float32)
        scores[start : start + step] = products.reshape(len(query), -1, k).max(axis=2).sum(axis=0) / len(query)
    return scores


def best_pooled_matches(query: Floats, pooled: npt.NDArray[np.int8], scales: npt.NDArray[np.float16]) -> Floats:
    """``best_matches`` over pooled vectors int8 [n, k, d] with scales float16 [n, k]; float32 [q, n]."""
    count, k, dimension = pooled.shape
    matches = np.empty((len(query), count), np.float32)
    step = max(1, _POOLED_BLOCK // k)
    for start in range(0, count, step):
        block = pooled[start : start + step].reshape(-1, dimension)
        products = query @ block.astype(np.float32).T
        products *= scales[start : start + step].reshape(-1).astype(np.float32)
        matches[:, start : start + step] = products.reshape(len(query), -1, k).max(axis=2)
    return matches


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
