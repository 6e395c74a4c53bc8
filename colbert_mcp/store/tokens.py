"""Token segments: immutable folders of ``.npy`` files, written once, fsynced, then only mapped.

A segment holds, for each of its rows (a row is a chunk): its quantised token embeddings, sixteen pooled vectors of
them, their mean, and one dense vector. Files are mapped read-only, and only where their header is that of the plain
array that was written: no pickle can be in them. Knows arrays and files; nothing of passages or the catalogue.
"""

import hashlib
import math
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from colbert_mcp.errors import REPAIR, IndexCorruptError
from colbert_mcp.maxsim import Floats, TokenMatrix, converted, kept_in, pool, quantise
from colbert_mcp.scoring import PooledMatrix
from colbert_mcp.store.durability import fsync_directory
from colbert_mcp.types import EmbeddingFormat

POOLED = 16
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '(?P<descr>[^'\x80-\xff]+)', 'fortran_order': False, 'shape': \((?P<shape>[0-9, ]*)\), \} *\n"
)
_COPY_BYTES = 1_048_576
_CONVERTED_ROWS = 8_192


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """Rows ready to be written: what ``kept_in`` and ``pool`` made of one chunk's embeddings."""

    values: npt.NDArray[Any]
    scales: npt.NDArray[np.float16]
    pooled: npt.NDArray[np.int8]
    pooled_scales: npt.NDArray[np.float16]
    mean: npt.NDArray[np.int8]
    mean_scale: npt.NDArray[np.float16]
    dense: npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Segment:
    """An open segment: memory maps, not copies.

    ``tokens``: see TokenMatrix; ``pooled``: int8 [n, 16, d]; ``means``: int8 [n, 1, d], the means of the tokens, not of
    length 1; ``dense``: float16 [n, e].
    """

    tokens: TokenMatrix
    pooled: PooledMatrix
    means: PooledMatrix
    dense: npt.NDArray[np.float16]

    def release(self) -> None:
        """Unmap the pages that reading has mapped; they stay in the system's cache and are mapped again when read."""
        matrices = (self.tokens, self.pooled, self.means)
        for array in (*(part for matrix in matrices for part in (matrix.values, matrix.scales)), self.dense):
            pages = getattr(array, "_mmap", None)
            if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
                pages.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, slots=True)
class SegmentFiles:
    """What the catalogue keeps of a finished segment: its size, and each file's length and SHA-256."""

    rows: int
    tokens: int
    files: dict[str, tuple[int, str]]


def stored_rows(token_embeddings: Floats, dense: Floats, embedding_format: EmbeddingFormat = "int8") -> SegmentRows:
    """Pool one chunk's token embeddings (float32 [n, d]), and bring them into a format; dense is float32 [e]."""
    values, scales = kept_in(token_embeddings, embedding_format)
    pooled, pooled_scales = quantise(pool(token_embeddings, POOLED))
    mean, mean_scale = quantise(_mean(token_embeddings)[None])
    return SegmentRows(values, scales, pooled, pooled_scales, mean, mean_scale, dense.astype(np.float16))


def _mean(token_embeddings: Floats) -> Floats:
    mean: Floats = token_embeddings.sum(axis=0) / np.float32(max(1, len(token_embeddings)))
    return mean


class SegmentWriter:
    """Appends rows to a new segment's files as they come, so that memory does not grow with the segment."""

    def __init__(
        self, directory: Path, dimension: int, dense_dimension: int, embedding_format: EmbeddingFormat = "int8"
    ) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.embedding_format = embedding_format
        self._files = {
            "tokens.npy": _ArrayFile(directory / "tokens.npy", embedding_format, (dimension,)),
            "scales.npy": _ArrayFile(directory / "scales.npy", np.float16, ()),
            "offsets.npy": _ArrayFile(directory / "offsets.npy", np.int64, ()),
            "pooled.npy": _ArrayFile(directory / "pooled.npy", np.int8, (POOLED, dimension)),
            "pooled_scales.npy": _ArrayFile(directory / "pooled_scales.npy", np.float16, (POOLED,)),
            "means.npy": _ArrayFile(directory / "means.npy", np.int8, (1, dimension)),
            "mean_scales.npy": _ArrayFile(directory / "mean_scales.npy", np.float16, (1,)),
            "dense.npy": _ArrayFile(directory / "dense.npy", np.float16, (dense_dimension,)),
        }
        self._files["offsets.npy"].append(np.zeros(1, np.int64))
        self.rows = 0
        self.tokens = 0

    def append(self, row: SegmentRows) -> tuple[int, int, int]:
        """Write one row; returns its number, and its first token row and token count in the segment."""
        start = self.tokens
        self._files["tokens.npy"].append(row.values)
        self._files["scales.npy"].append(row.scales)
        self._files["pooled.npy"].append(row.pooled[None])
        self._files["pooled_scales.npy"].append(row.pooled_scales[None])
        self._files["means.npy"].append(row.mean[None])
        self._files["mean_scales.npy"].append(row.mean_scale[None])
        self._files["dense.npy"].append(row.dense[None])
        self.tokens += len(row.values)
        self._files["offsets.npy"].append(np.array([self.tokens], np.int64))
        self.rows += 1
        return self.rows - 1, start, len(row.values)

    def copy(self, directory: Path, rows: Sequence[int], files: Mapping[str, tuple[int, str]]) -> None:
        """Append rows of another segment, in ascending order; ``files`` are its lengths and hashes.

        They are read from its files rather than from memory maps, whose pages would stay resident. Raises
        IndexCorruptError where they do not have their hashes: copied under a new one, damage would never be found.
        """
        for name, expected in files.items():
            if _length_and_hash(directory / name) != tuple(expected):
                raise IndexCorruptError(f"{directory / name} is damaged; {REPAIR}")
        offsets = np.array(_map(directory / "offsets.npy", np.int64, 1))
        if rows and not 0 <= rows[0] <= rows[-1] < len(offsets) - 1:
            raise IndexCorruptError(f"The catalogue is damaged: {directory} lacks rows of passages; {REPAIR}")
        differs = format_of(directory) != self.embedding_format
        for first, last in _runs(rows):
            token_rows = int(offsets[first]), int(offsets[last])
            if differs:
                self._convert(directory, *token_rows)
            for name, file in self._files.items():
                if name in ("tokens.npy", "scales.npy"):
                    if not differs:
                        file.copy(directory / name, *token_rows)
                elif name != "offsets.npy":
                    file.copy(directory / name, first, last)
            shifted = offsets[first + 1 : last + 1] - token_rows[0] + self.tokens
            self._files["offsets.npy"].append(shifted)
            self.rows += last - first
            self.tokens += token_rows[1] - token_rows[0]

    def _convert(self, directory: Path, first: int, last: int) -> None:
        """Append token rows of a segment that keeps them in the other format, a few at a time."""
        values = _map(directory / "tokens.npy", format_of(directory), 2)
        scales = _map(directory / "scales.npy", np.float16, 1)
        for start in range(first, last, _CONVERTED_ROWS):
            rows = slice(start, min(last, start + _CONVERTED_ROWS))
            tokens = converted(np.asarray(values[rows]), np.asarray(scales[rows]), self.embedding_format)
            for name, array in zip(("tokens.npy", "scales.npy"), tokens, strict=True):
                self._files[name].append(array)

    def finish(self) -> SegmentFiles:
        """Complete the headers and make every byte durable before the catalogue names the segment."""
        for file in self._files.values():
            file.finish()
        fsync_directory(self._directory)
        fsync_directory(self._directory.parent)
        files = {name: _length_and_hash(self._directory / name) for name in self._files}
        return SegmentFiles(self.rows, self.tokens, files)

    def abandon(self) -> None:
        """Close the files of a segment that is not going to be committed."""
        for file in self._files.values():
            file.close()


def open_segment(directory: Path, files: Mapping[str, tuple[int, str]]) -> Segment:
    """Map a segment; raises IndexCorruptError where a file is missing, has another length, or does not fit the rest."""
    for name, (length, _) in files.items():
        try:
            found = (directory / name).stat().st_size
        except OSError:
            raise IndexCorruptError(f"{directory / name} is missing; {REPAIR}") from None
        if found != length:
            raise IndexCorruptError(f"{directory / name} has {found} bytes instead of {length}; {REPAIR}")
    tokens = TokenMatrix(
        _map(directory / "tokens.npy", format_of(directory), 2),
        _map(directory / "scales.npy", np.float16, 1),
        np.array(_map(directory / "offsets.npy", np.int64, 1)),
    )
    segment = Segment(
        tokens,
        PooledMatrix(_map(directory / "pooled.npy", np.int8, 3), _map(directory / "pooled_scales.npy", np.float16, 2)),
        PooledMatrix(_map(directory / "means.npy", np.int8, 3), _map(directory / "mean_scales.npy", np.float16, 2)),
        _map(directory / "dense.npy", np.float16, 2),
    )
    _check_shapes(directory, segment)
    return segment


def format_of(directory: Path) -> EmbeddingFormat:
    """How a segment keeps its tokens, by the header of their file; "int8" where that cannot be told."""
    try:
        with (directory / "tokens.npy").open("rb") as stream:
            _read_header(stream, np.dtype(np.float16))
            return "float16"
    except (OSError, ValueError):
        return "int8"


def _map(file: Path, dtype: Any, dimensions: int) -> npt.NDArray[Any]:
    try:
        with file.open("rb") as stream:
            shape = _read_header(stream, np.dtype(dtype))
            start = stream.tell()
        # A header in which a digit has changed may still be one: of another array than the file holds.
        if len(shape) != dimensions or start + np.dtype(dtype).itemsize * math.prod(shape) != file.stat().st_size:
            raise IndexCorruptError(f"{file} holds another array than it should; {REPAIR}")
        return np.memmap(file, dtype, "r", start, shape)
    except (OSError, ValueError, OverflowError) as error:
        raise IndexCorruptError(f"Cannot map {file}: {error}; {REPAIR}") from error


def _read_header(stream: BinaryIO, dtype: np.dtype[Any]) -> tuple[int, ...]:
    """The shape that a ``.npy`` header of version 1.0 gives, read up to the data; raises ValueError for any other.

    Not by numpy, which evaluates the header with ``ast``: in Python 3.11 that fails at times where threads do it at
    once (a SystemError that speaks of recursion depth).
    """
    magic, length = stream.read(8), int.from_bytes(stream.read(2), "little")
    found = _HEADER.fullmatch(stream.read(length))
    if magic != _MAGIC or found is None or found["descr"].decode() != np.lib.format.dtype_to_descr(dtype):
        raise ValueError("its header is not that of the array that was written")
    return tuple(int(size) for size in found["shape"].replace(b" ", b"").split(b",") if size)


def _check_shapes(directory: Path, segment: Segment) -> None:
    offsets, rows = segment.tokens.offsets, len(segment.tokens.offsets) - 1
    pooled, means, dimension = segment.pooled, segment.means, segment.tokens.values.shape[1]
    fits = (
        rows >= 0
        and len(segment.dense) == rows
        and pooled.scales.shape == (rows, POOLED)
        and means.scales.shape == (rows, 1)
        and pooled.values.shape == (rows, POOLED, dimension)
        and means.values.shape == (rows, 1, dimension)
        and offsets[0] == 0
        and offsets[-1] == len(segment.tokens.values) == len(segment.tokens.scales)
        and bool(np.all(np.diff(offsets) >= 0))
    )
    if not fits:
        raise IndexCorruptError(f"The arrays in {directory} do not fit together; {REPAIR}")


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Half-open ranges of consecutive numbers."""
    start = 0
    for index in range(1, len(rows) + 1):
        if index == len(rows) or rows[index] != rows[index - 1] + 1:
            yield rows[start], rows[index - 1] + 1
            start = index


def _length_and_hash(file: Path) -> tuple[int, str]:
    with file.open("rb") as stream:
        return file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()


class _ArrayFile:
    """A ``.npy`` file that grows along its first axis (numpy pads headers so that they can be rewritten)."""

    def __init__(self, path: Path, dtype: Any, row_shape: tuple[int, ...]) -> None:
        self._dtype = np.dtype(dtype)
        self._row_shape = row_shape
        self._count = 0
        self._file: BinaryIO = path.open("xb")
        self._write_header()

    def append(self, rows: npt.NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self._count += len(rows)

    def copy(self, source: Path, first: int, last: int) -> None:
        with source.open("rb") as file:
            _read_header(file, self._dtype)
            row_bytes = self._dtype.itemsize * int(np.prod(self._row_shape))
            file.seek(first * row_bytes, os.SEEK_CUR)
            left = (last - first) * row_bytes
            while left:
                block = file.read(min(left, _COPY_BYTES))
                if not block:
                    raise IndexCorruptError(f"{source} is shorter than it should be; {REPAIR}")
                self._file.write(block)
                left -= len(block)
        self._count += last - first

    def finish(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        with suppress(OSError):  # what waits to be written is not wanted any more, and a full disk takes none of it
            self._file.close()

    def _write_header(self) -> None:
        shape = (self._count, *self._row_shape)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
