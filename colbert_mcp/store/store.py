"""The index on disk: catalogue, segments and Chroma, kept in step by the commit protocol.

Segment files are written and made durable, then one catalogue transaction names them (the commit point), then Chroma
follows. A kill at any point leaves the previous generation whole: a segment that no catalogue names is deleted at the
next opening, and a Chroma that lags is rebuilt. Knows nothing of models, nor of how files are read.
"""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from colbert_mcp.config import StoreConfig
from colbert_mcp.errors import REPAIR, IndexCorruptError, StoreError
from colbert_mcp.store import merging
from colbert_mcp.store.batch import Batch, RowReference
from colbert_mcp.store.catalog import CATALOGUE, Reader, connect, create, rewrite
from colbert_mcp.store.catalog_writer import Writer
from colbert_mcp.store.derived import DerivedVectors
from colbert_mcp.store.durability import fsync_directory
from colbert_mcp.store.lock import IndexLock
from colbert_mcp.store.log import Log
from colbert_mcp.store.opening import check_directory, check_read_only, is_read_only, require_same_encoder
from colbert_mcp.store.records import VectorRecord, batch_records, stored_records
from colbert_mcp.store.segments import Segments
from colbert_mcp.store.snapshot import LiveRows, Snapshot
from colbert_mcp.store.tokens import SegmentWriter
from colbert_mcp.store.usage import bytes_below, bytes_named, require_space
from colbert_mcp.types import FileStamp

if TYPE_CHECKING:
    from colbert_mcp.store.vectors import Vectors


class Store:
    """An open index. One thread writes at a time; any number read through snapshots."""

    def __init__(self, directory: Path, config: StoreConfig, owned: tuple[Writer, IndexLock] | None) -> None:
        self.directory = directory
        self._config = config
        self._owned = owned
        self._catalogue = directory / CATALOGUE
        self._tokens = directory / "tokens"
        self._segments = Segments(self._tokens)
        self._log = None if owned is None else Log(self._catalogue)
        self._live: tuple[int, LiveRows] | None = None
        self._cache = threading.Lock()
        self._closed = False
        enabled = config.chroma and not self.read_only
        self.vectors = DerivedVectors(directory / "chroma", self._vector_source, enabled=enabled)

    @classmethod
    def open(cls, directory: Path, config: StoreConfig, *, create_missing: bool) -> "Store":
        """Open an index, for reading only where its directory cannot be written.

        Raises IndexNotFoundError, IndexLockedError, IndexMismatchError or IndexCorruptError.
        """
        check_directory(directory, create_missing)
        catalogue = directory / CATALOGUE
        if is_read_only(directory):
            check_read_only(directory)
            connect(catalogue, immutable=True).close()
            return cls(directory, config, None)
        lock = IndexLock(directory)
        lock.acquire()
        try:
            if not catalogue.exists():
                create(catalogue)
            store = cls(directory, config, (Writer(connect(catalogue, writable=True)), lock))
            store._clean()
        except BaseException:
            lock.release()
            raise
        return store

    def close(self) -> None:
        """Fold the log into the catalogue, close Chroma and give the lock back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.vectors.close()
        if self._owned is not None:
            writer, lock = self._owned
            writer.checkpoint()
            writer.close()
            lock.release()

    @property
    def tokens(self) -> Path:
        """The folder of the segments."""
        return self._tokens

    @property
    def read_only(self) -> bool:
        """Whether the index can be searched but not changed."""
        return self._owned is None

    @property
    def is_read(self) -> bool:
        """Whether a search holds on to something that is to be deleted."""
        return self._segments.held or (self._log is not None and self._log.due)

    @property
    def writer(self) -> Writer:
        """The catalogue's writing side; raises StoreError on an index that cannot be written."""
        if self._owned is None:
            raise StoreError(f"The index {self.directory} cannot be written; choose another with --index.")
        return self._owned[0]

    def snapshot(self) -> Snapshot:
        """The present generation, seen whole; use it as a context manager. What it reads stays until it is closed."""
        with self._segments.opening(), ExitStack() as opened:
            if self._log is not None:
                self._log.read()
                opened.callback(self._log.leave)
            connection = connect(self._catalogue, immutable=self.read_only)
            opened.callback(connection.close)
            try:
                connection.execute("BEGIN")
                reader = Reader(connection)
                files = reader.segments()
                segments = self._segments.pin(files)
                opened.callback(self._segments.unpin, list(files))
                return Snapshot(reader, self._live_rows(reader), segments, opened.pop_all().close)
            except sqlite3.DatabaseError as error:
                raise IndexCorruptError(f"{self._catalogue} cannot be read ({error}); {REPAIR}") from error

    def _live_rows(self, reader: Reader) -> LiveRows:
        # A stale list of rows with fresh texts would be a wrong citation: all are of one generation.
        generation = reader.generation
        with self._cache:
            if self._live is None or self._live[0] != generation:
                self._live = (generation, LiveRows.of(reader.rows()))
            return self._live[1]

    def check_fingerprint(self, fingerprint: dict[str, object]) -> None:
        """Raise IndexMismatchError where the index was made with another encoder; an empty index takes any."""
        with closing(Reader(connect(self._catalogue, immutable=self.read_only))) as reader:
            stored = reader.fingerprint
        require_same_encoder(self.directory, stored, fingerprint)

    def batch(self, fingerprint: dict[str, object], dimension: int, dense_dimension: int) -> Batch:
        """An empty batch for the next commit; the first one ties the index to the encoder."""
        if self.writer.fingerprint is None:
            with self.writer.transaction(searched=False):
                self.writer.set_fingerprint(fingerprint)
        number = self.writer.next_segment()
        return Batch(number, lambda: SegmentWriter(self._segments.path(number), dimension, dense_dimension))

    def rows_of_texts(self, text_hashes: Sequence[str]) -> dict[str, RowReference]:
        """The rows, by SHA-256, of those texts whose embeddings the index holds.

        They are good for the next commit: only that may merge the segments they are in.
        """
        found = self.writer.rows_of_texts(text_hashes)
        if not found:
            return {}
        files = self.writer.segments()
        numbers = {segment for segment, _ in found.values()}
        segments = {number: self._segments.mapped(number, files[number]) for number in numbers}
        return {digest: RowReference.of(number, row, segments[number]) for digest, (number, row) in found.items()}

    def abandon(self, batch: Batch) -> None:
        """Delete what a batch has written."""
        if batch.writer is not None:
            batch.writer.abandon()
            shutil.rmtree(self._segments.path(batch.segment), ignore_errors=True)

    def commit(self, batch: Batch, root: int) -> int:
        """Make a batch part of the index; returns the new generation.

        Raises StoreError where the disk refuses it; the previous generation then stands.
        """
        self.vectors.open()
        gone: list[str] = []
        try:
            files = batch.writer.finish() if batch.writer is not None else None
            with self.writer.transaction():
                if files is not None:
                    self.writer.put_segment(batch.segment, files)
                for document in batch.documents:
                    gone += self.writer.put_document(document.new, root, now())
        except (OSError, sqlite3.Error) as error:
            self.abandon(batch)
            raise StoreError(f"Cannot write the index {self.directory}: {error}.") from error
        generation = self.writer.generation

        def follow(vectors: "Vectors") -> None:
            if gone:
                vectors.delete(gone, generation)
            vectors.upsert((record for document in batch.documents for record in batch_records(document)), generation)

        self.vectors.follow(follow)
        self._merge_if_due()
        return self.writer.generation

    def replace_segments(self, batch: Batch, moved: Sequence[tuple[int, int, int]], damaged: Sequence[int]) -> None:
        """Put a batch's rows in the place of damaged segments: ``moved`` is (new row, old segment, old row).

        Chroma is rebuilt afterwards by whoever calls this. Raises StoreError where the disk refuses it.
        """
        try:
            files = batch.writer.finish() if batch.writer is not None else None
            with self.writer.transaction():
                if files is not None:
                    self.writer.put_segment(batch.segment, files)
                self.writer.move_rows((batch.segment, *item) for item in moved)
                self.writer.drop_segments(damaged)
        except (OSError, sqlite3.Error) as error:
            self.abandon(batch)
            raise StoreError(f"Cannot write the index {self.directory}: {error}.") from error
        self._collect_garbage()

    def forget(self, choose: Callable[[Writer], Sequence[int]]) -> tuple[int, int]:
        """Take documents and their former passages out of the index; returns how many documents and passages left.

        ``choose`` says which, and its own changes are part of the same commit. Raises StoreError where the disk refuses
        it.
        """
        self.vectors.open()
        try:
            with self.writer.transaction(searched=False):
                documents = choose(self.writer)
                gone = self.writer.drop_documents(documents, now(), forget=True) if documents else []
                if documents:
                    self.writer.advance()
        except sqlite3.Error as error:
            raise StoreError(f"Cannot write the index {self.directory}: {error}.") from error
        if documents:
            generation = self.writer.generation
            self.vectors.follow(lambda vectors: vectors.delete(gone, generation))
            self._merge_if_due()
        return len(documents), len(gone)

    def settle(
        self, root: int, *, joined: Sequence[int], gone: Sequence[int], stamps: Sequence[tuple[int, FileStamp]]
    ) -> int:
        """End a run over a root in one commit; returns how many passages left the index.

        ``joined``: documents that the root holds from now on; ``gone``: those it no longer does, which are dropped
        unless another root holds them; ``stamps``: new times of documents whose bytes are the same. Raises StoreError
        where the disk refuses it.
        """
        orphans = self.writer.held_by_no_other(gone, root)
        if orphans:
            self.vectors.open()
        try:
            with self.writer.transaction(searched=bool(orphans)):
                self.writer.link(joined, root)
                self.writer.unlink(gone, root)
                self.writer.touch(stamps)
                left = self.writer.drop_documents(orphans, now(), forget=False) if orphans else []
                self.writer.finish_root(root, now())
        except sqlite3.Error as error:
            raise StoreError(f"Cannot write the index {self.directory}: {error}.") from error
        if orphans:
            generation = self.writer.generation
            self.vectors.follow(lambda vectors: vectors.delete(left, generation))
            self._merge_if_due()
        return len(left)

    @contextmanager
    def transaction(self) -> Iterator[Writer]:
        """Catalogue changes that concern no passage (roots, links, tombstones): no new generation."""
        with self.writer.transaction(searched=False):
            yield self.writer

    def purge(self, days: float) -> int:
        """Delete former passages retired so many days ago or earlier, and deleted words; returns how many passages."""
        try:
            with self.writer.transaction(searched=False):
                purged = self.writer.purge_former(_before(days))
                self.writer.optimise_words()
        except sqlite3.Error as error:
            raise StoreError(f"Cannot write the index {self.directory}: {error}.") from error
        return purged

    def compact(self) -> int:
        """Rewrite segments that have dead rows, and small ones, as one; returns how many, or raises StoreError.

        Chroma is to be opened before and rebuilt after it.
        """
        chosen = merging.wasteful(self.writer.segment_rows())
        if chosen:
            require_space(self._tokens, sum(bytes_below(self._segments.path(n)) for n in chosen))
            self._rewrite(chosen)
        else:
            self._collect_garbage()
        return len(chosen)

    def rebuild_vectors(self) -> bool:
        """Write Chroma anew if it lags or holds what was deleted; returns whether, or raises StoreError."""
        if self.vectors.is_lean(self.writer.generation):
            return False
        require_space(self.directory, bytes_below(self.directory / "chroma"))
        self.vectors.rebuild()
        self.vectors.discard()
        return True

    def vacuum(self) -> None:
        """Write the catalogue anew without what was deleted; readers go on. StoreError where the disk is too small."""
        require_space(self.directory, self._catalogue.stat().st_size)
        try:
            rewrite(self._catalogue)
        except sqlite3.Error as error:
            raise StoreError(f"Cannot rewrite {self._catalogue}: {error}; it stays as it is.") from error
        finally:
            self.scrub_log()

    def scrub(self) -> bool:
        """After something was deleted for good: see that its text leaves the log, and Chroma's files if that is cheap.

        Returns whether it has left Chroma's files, or is leaving them.
        """
        self.scrub_log()
        return self.vectors.scrub(self.writer.generation, self.writer.passage_count())

    def scrub_log(self) -> None:
        """Truncate the catalogue's log as soon as nobody reads."""
        if self._log is not None:
            self._log.scrub()

    def bytes_on_disk(self) -> dict[str, int]:
        """Disk use of the catalogue, the token segments and Chroma."""
        return {
            "catalogue": bytes_named(self.directory, CATALOGUE),
            "tokens": bytes_below(self._tokens),
            "chroma": bytes_below(self.directory / "chroma"),
        }

    def _merge_if_due(self) -> None:
        """Merge the smallest segments above the limit, and rewrite those of which a quarter is dead."""
        chosen = merging.due(self.writer.segment_rows(), self._config.max_segments)
        if chosen:
            self._merge(chosen)
        else:
            self._collect_garbage()

    def _merge(self, numbers: list[int]) -> None:
        target = self._rewrite(numbers)
        with self.snapshot() as snapshot:
            moved = ((record.passage_id, record.provenance) for record in stored_records(snapshot, target))
            self.vectors.follow(lambda vectors: vectors.update_provenance(moved, snapshot.generation))

    def _rewrite(self, numbers: list[int]) -> int:
        """Put the live rows of segments into a new one, which is returned; Chroma does not know of it yet."""
        target = self.writer.next_segment()
        live = {number: self.writer.rows_of(number) for number in numbers}
        files = None
        if any(live.values()):
            fingerprint = self.writer.fingerprint or {}
            dimensions = int(str(fingerprint["dimension"])), int(str(fingerprint["dense_dimension"]))
            files = merging.write_merged(self._segments, target, live, dimensions)
        with self.writer.transaction():
            if files is not None:
                self.writer.put_segment(target, files)
                copied = ((number, row) for number in numbers for row in live[number])
                self.writer.move_rows((target, new, *old) for new, old in enumerate(copied))
            self.writer.drop_segments(numbers)
        self._collect_garbage()
        return target

    def _collect_garbage(self) -> None:
        """Delete the directories that no generation names and no snapshot reads; the others are tried again."""
        queued = self.writer.garbage()
        self._segments.retire(queued)
        self._segments.collect()
        for number in queued:
            if not self._segments.path(number).exists():
                self.writer.garbage_collected(number)

    def _clean(self) -> None:
        """Delete what an interrupted run left: segments that the catalogue does not name; and what has expired."""
        if not self._tokens.exists():
            self._tokens.mkdir()
            fsync_directory(self.directory)
        named = {f"{number:06}" for number in self.writer.segment_rows()}
        for path in self._tokens.iterdir():
            if path.name not in named:
                shutil.rmtree(path, ignore_errors=True)
        self._collect_garbage()
        self.writer.purge_former(_before(self._config.keep_former_days))

    @contextmanager
    def _vector_source(self) -> Iterator[tuple[Iterator[VectorRecord], int, int]]:
        with self.snapshot() as snapshot:
            yield stored_records(snapshot, None), snapshot.generation, len(snapshot)


def now() -> str:
    """The present in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _before(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
