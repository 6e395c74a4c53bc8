"""One generation of the index, seen whole: a read transaction, the segments it names, and which of their rows live."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from colbert_mcp.errors import REPAIR, IndexCorruptError
from colbert_mcp.maxsim import Floats, TokenMatrix
from colbert_mcp.scoring import PooledMatrix, Scorer
from colbert_mcp.store.catalog import Reader
from colbert_mcp.store.failures import CATALOGUE_ERRORS, store_error
from colbert_mcp.store.tokens import Segment

_SPARSE = 0.5
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Every live chunk, ordered by segment and row: int64 [n] each. A chunk's *position* is its index in these.

    ``by_chunk`` are the positions in the order of chunk ids; ``texts`` number the rows: equal passages share one.
    """

    segments: Ints
    rows: Ints
    chunks: Ints
    documents: Ints
    by_chunk: Ints
    texts: Ints

    @classmethod
    def of(cls, rows: Iterator[tuple[int, int, int, int]]) -> "LiveRows":
        """From the catalogue's (segment, row, chunk, document)."""
        try:
            table: Ints = np.fromiter(rows, np.dtype((np.int64, 4)))
        except (TypeError, ValueError, OverflowError):  # what cannot be, but is there where bits have flipped
            raise IndexCorruptError(f"The catalogue is damaged: it holds rows that are no numbers; {REPAIR}") from None
        segments, places, chunks, documents = (np.ascontiguousarray(table[:, column]) for column in range(4))
        is_new = np.ones(len(chunks), np.bool_)
        is_new[1:] = (segments[1:] != segments[:-1]) | (places[1:] != places[:-1])
        return cls(segments, places, chunks, documents, np.argsort(chunks, kind="stable"), np.cumsum(is_new))

    def check(self, segments: dict[int, Segment]) -> None:
        """Raise IndexCorruptError where a chunk has a row that no segment has."""
        for number in np.unique(self.segments).tolist():
            rows = self.rows[self.segments == number]
            if number not in segments or rows.min() < 0 or rows.max() >= len(segments[number].pooled):
                raise IndexCorruptError(f"The catalogue is damaged: segment {number} lacks rows of passages; {REPAIR}")


class Snapshot:
    """A reader's view; use it as a context manager. Its catalogue questions are ``reader``."""

    def __init__(
        self,
        directory: Path,
        reader: Reader,
        live: LiveRows,
        segments: dict[int, Segment],
        close: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._segments = segments
        self._live = live
        self._close = close
        self.reader = reader
        self.generation = reader.generation

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close it; what SQLite says of damage becomes IndexCorruptError."""
        self._segments = {}  # not read any more, so they may be unmapped and deleted
        self._close()
        if isinstance(error, CATALOGUE_ERRORS):
            raise store_error(error, self._directory) from error

    def __len__(self) -> int:
        return len(self._live.chunks)

    @property
    def chunks(self) -> Ints:
        """Chunk ids by position."""
        return self._live.chunks

    @property
    def documents(self) -> Ints:
        """Document ids by position."""
        return self._live.documents

    def segment(self, number: int) -> Segment:
        """One of the segments this generation names."""
        return self._segments[number]

    def positions(self, chunks: Ints) -> Ints:
        """The positions of chunks; those that are not in this generation are left out."""
        if not len(self):
            return np.zeros(0, np.int64)
        found = np.searchsorted(self._live.chunks, chunks, sorter=self._live.by_chunk)
        positions = self._live.by_chunk[np.minimum(found, len(self) - 1)]
        known: Ints = positions[self._live.chunks[positions] == chunks]
        return known

    def texts(self, positions: Ints) -> Ints:
        """A number for what chunks say: equal passages share it, and it grows with positions; int64 [n]."""
        return self._live.texts[positions]

    def mean_scores(self, scorer: Scorer, query: Floats, positions: Ints) -> Floats:
        """The mean similarity of query rows with the tokens of chunks, in the order given; float32 [n]."""
        mean: Floats = query.mean(axis=0, keepdims=True)
        scores: Floats = self._best_pooled(scorer, mean, positions, lambda segment: segment.means)[0]
        return scores

    def pooled_matches(self, scorer: Scorer, query: Floats, positions: Ints) -> Floats:
        """The best similarity of query rows with the pooled vectors of chunks, in the order given; float32 [q, n]."""
        return self._best_pooled(scorer, query, positions, lambda segment: segment.pooled)

    def _best_pooled(
        self, scorer: Scorer, query: Floats, positions: Ints, matrix: Callable[[Segment], PooledMatrix]
    ) -> Floats:
        matches = np.empty((len(query), len(positions)), np.float32)
        for segment, where in self._per_segment(positions):
            pooled, rows = matrix(segment), self._live.rows[positions[where]]
            if len(rows) < _SPARSE * len(pooled):
                matches[:, where] = scorer.best_pooled_matches(query, pooled, rows)
            else:
                matches[:, where] = scorer.best_pooled_matches(query, pooled)[:, rows]
        return matches

    def token_counts(self, positions: Ints) -> Ints:
        """How many token embeddings chunks have, in the order given; int64 [n]."""
        counts = np.empty(len(positions), np.int64)
        for segment, where in self._per_segment(positions):
            rows, offsets = self._live.rows[positions[where]], segment.tokens.offsets
            counts[where] = offsets[rows + 1] - offsets[rows]
        return counts

    def best_matches(self, scorer: Scorer, query: Floats, positions: Ints) -> Floats:
        """``maxsim.best_matches`` of query rows with the tokens of chunks, in the order given; float32 [q, n]."""
        matches = np.empty((len(query), len(positions)), np.float32)
        for segment, where in self._per_segment(positions):
            matches[:, where] = scorer.best_matches(query, segment.tokens, self._live.rows[positions[where]])
        return matches

    def release(self) -> None:
        """Give back the memory that reading segments has mapped: what is read once would count until it is closed."""
        for segment in self._segments.values():
            segment.release()

    def gather(self, positions: Ints) -> TokenMatrix:
        """The token embeddings of chunks, in the order given."""
        order = np.empty(len(positions), np.int64)
        parts = []
        filled = 0
        for segment, where in self._per_segment(positions):
            parts.append(segment.tokens.take(self._live.rows[positions[where]]))
            order[where] = np.arange(filled, filled + len(where))
            filled += len(where)
        joined = _join(parts)
        return joined.take(order) if len(parts) > 1 else joined

    def dense(self, positions: Ints) -> Floats:
        """The dense vectors of chunks, in the order given; float32 [n, e]."""
        parts = list(self._per_segment(positions))
        if not parts:
            return np.zeros((0, 0), np.float32)
        result = np.empty((len(positions), parts[0][0].dense.shape[1]), np.float32)
        for segment, where in parts:
            result[where] = segment.dense[self._live.rows[positions[where]]]
        return result

    def _per_segment(self, positions: Ints) -> list[tuple[Segment, Ints]]:
        """Split positions by segment: (segment, indices into ``positions``)."""
        owners = self._live.segments[positions]
        parts = ((segment, np.flatnonzero(owners == number)) for number, segment in self._segments.items())
        return [(segment, part) for segment, part in parts if len(part)]


def _join(parts: list[TokenMatrix]) -> TokenMatrix:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return TokenMatrix(np.zeros((0, 1), np.int8), np.zeros(0, np.float16), np.zeros(1, np.int64))
    starts = np.cumsum([0, *(len(part.values) for part in parts[:-1])])
    offsets = [np.zeros(1, np.int64), *(part.offsets[1:] + start for part, start in zip(parts, starts, strict=True))]
    return TokenMatrix(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate(offsets),
    )
