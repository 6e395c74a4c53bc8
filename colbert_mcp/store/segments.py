"""The segments in use: their memory maps, who reads them, and which directories are still to be deleted.

A directory goes only when no snapshot can name its segment: those that are open pin what they name, and those that are
being opened may have begun before the commit that let go of it. The lock is held for counting only, never while files
are mapped or deleted. Knows nothing of the catalogue, which keeps the list over the end of the process.
"""

import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from colbert_mcp.store.tokens import Segment, SegmentWriter, format_of, open_segment
from colbert_mcp.types import EmbeddingFormat


class Segments:
    """The segments below a directory, each in a folder of its own."""

    def __init__(self, directory: Path, embedding_format: EmbeddingFormat = "int8") -> None:
        self._directory = directory
        self.embedding_format: EmbeddingFormat = embedding_format
        self._identity = _identity(directory.parent)
        self._lock = threading.Lock()
        self._mapped: dict[int, Segment] = {}
        self._pins: Counter[int] = Counter()
        self._tickets = 0
        self._opening: set[int] = set()
        self._retired: dict[int, int] = {}  # the segment, and the first ticket that cannot name it

    def path(self, number: int) -> Path:
        """The folder of a segment."""
        return self._directory / f"{number:06}"

    def new(self, number: int, dimension: int, dense_dimension: int) -> SegmentWriter:
        """The writer of a segment that is not there yet."""
        return SegmentWriter(self.path(number), dimension, dense_dimension, self.embedding_format)

    def in_other_format(self, numbers: Iterable[int]) -> set[int]:
        """The segments that keep their tokens otherwise than new ones do."""
        return {number for number in numbers if format_of(self.path(number)) != self.embedding_format}

    @property
    def in_place(self) -> bool:
        """Whether the index directory is still the one that was opened: another may stand at its path by now."""
        return _identity(self._directory.parent) == self._identity

    def delete(self, number: int) -> None:
        """Delete the folder of a segment as far as the system lets go of it."""
        if self.in_place:
            shutil.rmtree(self.path(number), ignore_errors=True)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Around the opening of a snapshot: what it may name is not deleted before it has pinned it."""
        with self._lock:
            ticket = self._tickets
            self._tickets += 1
            self._opening.add(ticket)
        try:
            yield
        finally:
            with self._lock:
                self._opening.discard(ticket)
            self.collect()

    def pin(self, files: Mapping[int, Mapping[str, tuple[int, str]]]) -> dict[int, Segment]:
        """Map segments by number, and keep them until ``unpin``; raises IndexCorruptError."""
        with self._lock:
            self._pins.update(list(files))
        try:
            return {number: self.mapped(number, named) for number, named in files.items()}
        except BaseException:
            self.unpin(files)
            raise

    def unpin(self, numbers: Iterable[int]) -> None:
        """Let go of segments; the last to do so deletes what is no longer wanted."""
        with self._lock:
            self._pins.subtract(list(numbers))
            self._pins += Counter()  # without those at 0
        self.collect()

    def mapped(self, number: int, files: Mapping[str, tuple[int, str]]) -> Segment:
        """A segment of which the caller knows that it stays; mapped once for all who read it."""
        with self._lock:
            segment = self._mapped.get(number)
        if segment is None:
            opened = open_segment(self.path(number), files)
            with self._lock:
                segment = self._mapped.setdefault(number, opened)
        return segment

    def retire(self, numbers: Iterable[int]) -> None:
        """Have directories deleted that no commit names any more, as soon as nobody reads them."""
        with self._lock:
            for number in numbers:
                self._retired.setdefault(number, self._tickets)

    @property
    def held(self) -> bool:
        """Whether a directory waits for its readers, or was not deleted by the system."""
        with self._lock:
            return bool(self._retired)

    def collect(self) -> None:
        """Delete the retired directories that no snapshot can name; what the system refuses is tried again."""
        with self._lock:
            earliest = min(self._opening, default=self._tickets)
            free = [n for n, ticket in self._retired.items() if ticket <= earliest and n not in self._pins]
            for number in free:
                del self._retired[number]
                self._mapped.pop(number, None)  # unmapped here: some systems delete no file that is mapped
        for number in free:
            self.delete(number)
        self.retire(number for number in free if self.path(number).exists())


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
