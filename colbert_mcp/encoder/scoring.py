"""Scorers that torch computes: int8 on processors with instructions for it, float32 on a GPU that holds the matrices.

The int8 product is exact in int32; only the query is rounded, to two planes of int8, which is a step of 2**-14 of its
largest number. A scan, which only orders candidates, takes the first plane alone. Knows arrays and devices; nothing of
files or the index.
"""

import threading
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from colbert_mcp.encoder.hardware import computes_in_int8, free_memory, is_out_of_memory, release_memory
from colbert_mcp.encoder.passes import computing_on
from colbert_mcp.maxsim import Floats, TokenMatrix
from colbert_mcp.scoring import Ints, NumpyScorer, PooledMatrix, Scorer

_PLANE = 127  # a step of the first plane is as many of the second
# Two planes of more dimensions could leave int32; and of one dimension torch misreads the layout.
_DIMENSIONS = range(2, 1025)
_BLOCK = 8192  # rows of vectors on a processor, whose products its caches hold
_THREADS = 1  # a block is a tenth of a millisecond, which threads would spend on waiting for each other
_DEVICE_PRODUCTS = 2**28  # numbers that products on a device may have at once (1 GiB)
T = TypeVar("T")
_SHARE = 0.5  # of a device's free memory


def scorer_for(device: str) -> Scorer:
    """The scorer for a device (cpu, cuda or mps) and this processor."""
    processor: Scorer = Int8Scorer() if computes_in_int8() else NumpyScorer()
    return processor if device == "cpu" else ResidentScorer(device, processor)


class Int8Scorer:
    """Scores on the processor by int8 products accumulated in int32."""

    name = "int8 on cpu"

    def __init__(self) -> None:
        self._exact = NumpyScorer()

    def best_matches(self, query: Floats, tokens: TokenMatrix, rows: Ints | None = None) -> Floats:
        """See Scorer. Tokens that are kept in float16, or have very many dimensions, are scored in float32."""
        if tokens.values.dtype != np.int8 or query.shape[1] not in _DIMENSIONS:
            return self._exact.best_matches(query, tokens, rows)
        taken = tokens if rows is None else tokens.take(rows)
        planes = _planes_of(query)
        matches = np.full((len(query), len(taken.offsets) - 1), -1.0, np.float32)
        with computing_on(_THREADS):
            for first, end, chunks in taken.blocks(_BLOCK):
                products = planes.products(_tensor(taken.values[first:end]), _tensor(taken.scales[first:end]))
                matches[:, chunks] = np.maximum.reduceat(products.numpy(), taken.offsets[chunks] - first, axis=1)
        matches[:, np.diff(taken.offsets) > 0] *= planes.steps
        return matches

    def best_pooled_matches(self, query: Floats, pooled: PooledMatrix, rows: Ints | None = None) -> Floats:
        """See Scorer. From the first plane of the query alone."""
        if query.shape[1] not in _DIMENSIONS:
            return self._exact.best_pooled_matches(query, pooled, rows)
        count = len(pooled) if rows is None else len(rows)
        k, dimension = pooled.values.shape[1:]
        planes = _planes_of(query)
        matches = np.empty((len(query), count), np.float32)
        step = max(1, _BLOCK // k)
        with computing_on(_THREADS):
            for start in range(0, count, step):
                chosen = slice(start, start + step) if rows is None else rows[start : start + step]
                block = pooled.take(chosen)
                # The first vectors of all chunks, then the second ones: their maxima are taken row by row.
                values, scales = (_tensor(part).transpose(0, 1) for part in (block.values, block.scales))
                products = planes.rough_products(values.reshape(-1, dimension), scales.reshape(-1))
                matches[:, start : start + step] = products.reshape(len(query), k, -1).amax(dim=1).numpy()
        matches *= planes.steps * _PLANE
        return matches


@lru_cache(maxsize=16)
def _planes(query: bytes, shape: tuple[int, int]) -> "_Planes":
    """Made once for all the segments of a search."""
    return _Planes(np.frombuffer(query, np.float32).reshape(shape))


def _planes_of(query: Floats) -> "_Planes":
    return _planes(query.tobytes(), (query.shape[0], query.shape[1]))


class _Planes:
    """A query in two planes of int8: its rows are ``(first * 127 + second) * steps`` within half a step.

    ``steps`` is float32 [q, 1].
    """

    def __init__(self, query: Floats) -> None:
        peaks = np.maximum(np.abs(query).max(axis=1, keepdims=True, initial=0), 1e-30)
        self.steps = peaks / np.float32(_PLANE * _PLANE)
        whole = np.rint(query / self.steps).astype(np.int32)
        first = np.rint(whole / _PLANE).astype(np.int32)
        self._count = len(query)
        self._first = torch.from_numpy(first.astype(np.int8))
        self._both = torch.from_numpy(np.concatenate([first, whole - first * _PLANE]).astype(np.int8))

    def products(self, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """Inner products of the query's rows with rows (int8 [t, d], float16 [t]), in steps; float32 [q, t]."""
        both = torch._int_mm(self._both, values.T)
        whole = both[: self._count].mul_(_PLANE).add_(both[self._count :])
        return whole.float().mul_(scales.float())

    def rough_products(self, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """The same of the first plane alone, in steps of it."""
        return torch._int_mm(self._first, values.T).float().mul_(scales.float())


class ResidentScorer:
    """Scores on a device, in float32, matrices that it keeps there as long as they live here.

    A matrix is copied when it is first scored, if it takes no more than half of the memory that is free then; those
    that do not fit are left to ``processor``.
    """

    def __init__(self, device: str, processor: Scorer) -> None:
        self._device = torch.device(device)
        self._processor = processor
        self._lock = threading.Lock()
        self._resident: dict[int, _Resident | None] = {}
        self.name = f"float32 on {device}, what does not fit {processor.name}"

    def best_matches(self, query: Floats, tokens: TokenMatrix, rows: Ints | None = None) -> Floats:
        """See Scorer."""
        kept = self._kept(tokens.values, tokens.scales)
        found = None if kept is None else self._or_none(lambda: self._best(kept, query, tokens, rows))
        return self._processor.best_matches(query, tokens, rows) if found is None else found

    def _best(self, kept: "_Resident", query: Floats, tokens: TokenMatrix, rows: Ints | None) -> Floats:
        chosen = np.arange(len(tokens.offsets) - 1) if rows is None else rows
        lengths = tokens.offsets[chosen + 1] - tokens.offsets[chosen]
        matches = np.full((len(query), len(chosen)), -1.0, np.float32)
        filled = np.flatnonzero(lengths > 0)
        most = max(1, _DEVICE_PRODUCTS // max(len(query), tokens.values.shape[1]))
        ends = np.cumsum(lengths[filled])
        position = 0
        while position < len(filled):
            before = int(ends[position - 1]) if position else 0
            stop = max(position + 1, int(np.searchsorted(ends, before + most, side="right")))
            block = filled[position:stop]
            matches[:, block] = kept.segment_maxima(query, tokens.offsets[chosen[block]], lengths[block])
            position = stop
        return matches

    def best_pooled_matches(self, query: Floats, pooled: PooledMatrix, rows: Ints | None = None) -> Floats:
        """See Scorer."""
        kept = self._kept(pooled.values, pooled.scales)
        found = None if kept is None else self._or_none(lambda: self._best_pooled(kept, query, pooled, rows))
        return self._processor.best_pooled_matches(query, pooled, rows) if found is None else found

    def _best_pooled(self, kept: "_Resident", query: Floats, pooled: PooledMatrix, rows: Ints | None) -> Floats:
        count = len(pooled) if rows is None else len(rows)
        k, dimension = pooled.values.shape[1:]
        matches = np.empty((len(query), count), np.float32)
        step = max(1, _DEVICE_PRODUCTS // (k * max(len(query), dimension)))
        for start in range(0, count, step):
            block = slice(start, start + step) if rows is None else rows[start : start + step]
            matches[:, start : start + step] = kept.row_maxima(query, block)
        return matches

    def _kept(self, values: npt.NDArray[Any], scales: npt.NDArray[np.float16]) -> "_Resident | None":
        """The copy of a matrix on the device; None where it is too large for it."""
        key = id(values)
        with self._lock:
            if key not in self._resident:
                self._resident[key] = self._copied(values, scales)
                # Called when the array goes, before its id can be another's.
                weakref.finalize(values, self._resident.pop, key, None).atexit = False
            return self._resident[key]

    def _copied(self, values: npt.NDArray[Any], scales: npt.NDArray[np.float16]) -> "_Resident | None":
        if values.nbytes + 2 * scales.nbytes > _SHARE * free_memory(str(self._device)):
            return None
        return self._or_none(
            lambda: _Resident(
                _tensor(values).to(self._device, copy=True), _tensor(scales).to(self._device, torch.float32)
            )
        )

    def _or_none(self, compute: Callable[[], T]) -> T | None:
        """What is computed on the device; None where it has not the memory."""
        try:
            return compute()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        release_memory(str(self._device))
        return None


class _Resident:
    """Vectors and scales on a device."""

    def __init__(self, values: torch.Tensor, scales: torch.Tensor) -> None:
        self._values = values
        self._scales = scales

    def segment_maxima(self, query: Floats, starts: Ints, lengths: Ints) -> Floats:
        """The best product of each query row with rows starts[i] … starts[i] + lengths[i] (none is 0); [q, n]."""
        device = self._values.device
        counts = torch.from_numpy(lengths).to(device)
        owners = torch.repeat_interleave(torch.arange(len(lengths), device=device), counts)
        firsts = torch.from_numpy(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]])).to(device)
        rows = torch.arange(len(owners), device=device) + firsts[owners]
        products = self._products(query, self._values[rows], self._scales[rows])
        best = torch.full((len(lengths), len(query)), -torch.inf, device=device)
        best.scatter_reduce_(0, owners[:, None].expand_as(products), products, "amax")
        return best.T.cpu().numpy()

    def row_maxima(self, query: Floats, block: slice | Ints) -> Floats:
        """The best product of each query row with the vectors of chunks; [q, n]."""
        chosen = block if isinstance(block, slice) else torch.from_numpy(block).to(self._values.device)
        values, scales = self._values[chosen], self._scales[chosen]
        count, k, dimension = values.shape
        products = self._products(query, values.reshape(-1, dimension), scales.reshape(-1))
        return products.reshape(count, k, len(query)).amax(dim=1).T.cpu().numpy()

    def _products(self, query: Floats, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        asked = torch.from_numpy(query).to(values.device)
        return (values.float() @ asked.T) * scales[:, None]


def _tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """The array as a tensor without a copy; by DLPack, since torch warns of arrays that are mapped read-only."""
    return torch.utils.dlpack.from_dlpack(np.asarray(array))
