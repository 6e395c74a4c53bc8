"""The index on disk: catalogue, segments and Chroma, kept in step by the commit protocol.

Segment files are written and made durable, then one catalogue transaction names them (the commit point), then Chroma
follows. A kill at any point leaves the previous generation whole: a segment that no catalogue names is deleted at the
next opening, and a Chroma that lags is rebuilt. Knows nothing of models, nor of how files are read.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from colbert_mcp.config import StoreConfig
from colbert_mcp.errors import REPAIR, IndexCorruptError, StoreError
from colbert_mcp.sharing.ownership import CATALOGUE
from colbert_mcp.store import merging
from colbert_mcp.store.batch import Batch, RowReference
from colbert_mcp.store.catalog import Reader
from colbert_mcp.store.catalog_writer import Writer
from colbert_mcp.store.clock import days_ago, now
from colbert_mcp.store.database import connect, create
from colbert_mcp.store.derived import DerivedVectors
from colbert_mcp.store.durability import fsync_directory
from colbert_mcp.store.failures import CATALOGUE_ERRORS, no_space, store_error, told, told_of_catalogue
from colbert_mcp.store.lock import IndexLock
from colbert_mcp.store.log import Log
from colbert_mcp.store.opening import (
    check_directory,
    check_read_only,
    is_read_only,
    open_writer,
    require_same_encoder,
)
from colbert_mcp.store.records import VectorRecord, batch_records, stored_records
from colbert_mcp.store.segments import Segments
from colbert_mcp.store.snapshot import LiveRows, Snapshot
from colbert_mcp.store.tokens import Segment
from colbert_mcp.store.usage import bytes_below, bytes_named
from colbert_mcp.types import FileStamp

if TYPE_CHECKING:
    from colbert_mcp.store.vectors import Vectors
logger = logging.getLogger(__name__)


class Store:
    """An open index. One thread writes at a time; any number read through snapshots."""

    def __init__(self, directory: Path, config: StoreConfig, writer: Writer | None, lock: IndexLock | None) -> None:
        self.directory = directory
        self._config = config
        self._writer = writer
        self._lock = lock
        self.catalogue = directory / CATALOGUE
        self.tokens = directory / "tokens"
        self.segments = Segments(self.tokens, config.embedding_format)
        self._log = None if writer is None else Log(self.catalogue)
        self._live: tuple[int, LiveRows] | None = None
        self._cache = threading.Lock()
        self._closed = self._released = False
        enabled = config.chroma and not self.read_only
        self.vectors = DerivedVectors(directory / "chroma", self._vector_source, enabled=enabled)

    @classmethod
    def open(cls, directory: Path, config: StoreConfig, *, create_missing: bool) -> "Store":
        """Open an index, for reading only where its directory cannot be written, or has not a byte left.

        Raises IndexNotFoundError, IndexLockedError, IndexMismatchError, IndexCorruptError or StoreError.
        """
        check_directory(directory, create_missing)
        catalogue = directory / CATALOGUE
        if is_read_only(directory):
            check_read_only(directory)
            connect(catalogue, immutable=True).close()
            return cls(directory, config, None, None)
        lock = IndexLock(directory)
        with told(directory):
            lock.acquire()
        try:
            with told(directory):
                if not catalogue.exists():
                    create(catalogue)
            store = cls(directory, config, open_writer(directory), lock)
            if not store.read_only:
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
        try:
            if self._writer is not None:
                self._writer.checkpoint()
        except CATALOGUE_ERRORS as error:  # what was committed is in the log, and is folded in another time
            logger.warning("%s", store_error(error, self.directory))
        finally:
            if self._writer is not None:
                self._writer.close()
            if self._lock is not None:
                self._lock.release()
            self._released = True

    @property
    def read_only(self) -> bool:
        """Whether the index can be searched but not changed."""
        return self._writer is None

    @property
    def is_read(self) -> bool:
        """Whether a search holds on to something that is to be deleted."""
        return self.segments.held or (self._log is not None and self._log.due)

    @property
    def writer(self) -> Writer:
        """The catalogue's writing side; raises StoreError on an index that cannot be written."""
        if self._writer is None and self._lock is not None:
            with self._cache:  # there may be space by now
                self._writer = self._writer or open_writer(self.directory)
                if self._writer is None:
                    raise no_space(self.directory)
                self._log = Log(self.catalogue)
        if self._writer is None:
            raise StoreError(f"The index {self.directory} cannot be written; choose another with --index.")
        return self._writer

    def snapshot(self) -> Snapshot:
        """The present generation, seen whole; use it as a context manager. What it reads stays until it is closed."""
        if self._released:
            raise StoreError("The index is closed; open it again.")
        with self.segments.opening(), ExitStack() as opened:
            if self._log is not None:
                self._log.read()
                opened.callback(self._log.leave)
            connection = connect(self.catalogue, immutable=self.read_only)
            opened.callback(connection.close)
            try:
                connection.execute("BEGIN")
                reader = Reader(connection)
                files = reader.segments()
                segments = self.segments.pin(files)
                opened.callback(self.segments.unpin, list(files))
                live = self._live_rows(reader, segments)
                return Snapshot(self.directory, reader, live, segments, opened.pop_all().close)
            except CATALOGUE_ERRORS as error:
                raise store_error(error, self.directory) from error

    def guard(self) -> AbstractContextManager[None]:
        """For questions to the ``writer`` outside of a transaction: what fails in SQLite becomes a StoreError."""
        return told_of_catalogue(self.directory)

    def _live_rows(self, reader: Reader, segments: dict[int, Segment]) -> LiveRows:
        # A stale list of rows with fresh texts would be a wrong citation: all are of one generation.
        generation = reader.generation
        with self._cache:
            if self._live is None or self._live[0] != generation:
                with closing(reader.rows()) as rows:  # also where they are damaged: the connection closes before it
                    live = LiveRows.of(rows)
                live.check(segments)
                self._live = (generation, live)
            return self._live[1]

    def roots(self) -> list[bytes]:
        """The paths of what is indexed, told also where segments are damaged."""
        with self.guard(), closing(Reader(connect(self.catalogue, immutable=self.read_only))) as reader:
            return [root.path for root in reader.roots()]

    def check_fingerprint(self, fingerprint: dict[str, object]) -> None:
        """Raise IndexMismatchError where the index was made with another encoder; an empty index takes any."""
        with self.guard(), closing(Reader(connect(self.catalogue, immutable=self.read_only))) as reader:
            stored = reader.fingerprint
        require_same_encoder(self.directory, stored, fingerprint)

    def batch(self, fingerprint: dict[str, object], dimension: int, dense_dimension: int) -> Batch:
        """An empty batch for the next commit; the first one ties the index to the encoder."""
        if not self.segments.in_place:
            raise StoreError(f"The index directory {self.directory} was deleted or replaced; open it again.")
        with self.guard():
            if self.writer.fingerprint is None:
                with self.writer.transaction(searched=False):
                    self.writer.set_fingerprint(fingerprint)
            number = self.writer.next_segment()
        return Batch(self.directory, number, lambda: self.segments.new(number, dimension, dense_dimension))

    def rows_of_texts(self, text_hashes: Sequence[str]) -> dict[str, RowReference]:
        """The rows, by SHA-256, of those texts whose embeddings the index holds.

        They are good for the next commit: only that may merge the segments they are in.
        """
        with self.guard():
            found = self.writer.rows_of_texts(text_hashes)
            if not found:
                return {}
            files = self.writer.segments()
        numbers = {segment for segment, _ in found.values()}
        if not numbers <= files.keys():
            raise IndexCorruptError(f"The catalogue is damaged: passages are in segments that it lacks; {REPAIR}")
        segments = {number: self.segments.mapped(number, files[number]) for number in numbers}
        return {digest: RowReference.of(number, row, segments[number]) for digest, (number, row) in found.items()}

    def abandon(self, batch: Batch) -> None:
        """Delete what a batch has written."""
        if batch.writer is not None:
            batch.writer.abandon()
            self.segments.delete(batch.segment)

    def commit(self, batch: Batch, root: int) -> int:
        """Make a batch part of the index; returns the new generation.

        Raises StoreError where the disk refuses it; the previous generation then stands.
        """
        self.vectors.open()
        gone: list[str] = []
        with self._committing(batch):
            for document in batch.documents:
                gone += self.writer.put_document(document.new, root, now())
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
        with self._committing(batch):
            self.writer.move_rows((batch.segment, *item) for item in moved)
            self.writer.drop_segments(damaged)
        with self.guard():
            merging.collect_garbage(self.segments, self.writer)

    @contextmanager
    def _committing(self, batch: Batch) -> Iterator[None]:
        """A transaction that also names a batch's segment, whose files are made durable first."""
        try:
            with told(self.directory):
                files = batch.writer.finish() if batch.writer is not None else None
                with self.writer.transaction():
                    if files is not None:
                        self.writer.put_segment(batch.segment, files)
                    yield
        except StoreError:
            self.abandon(batch)
            raise

    def forget(self, choose: Callable[[Writer], Sequence[int]]) -> tuple[int, int]:
        """Take documents and their former passages out of the index; returns how many documents and passages left.

        ``choose`` says which, and its own changes are part of the same commit. Raises StoreError where the disk refuses
        it.
        """
        self.vectors.open()
        with self.guard(), self.writer.transaction(searched=False):
            documents = choose(self.writer)
            gone = self.writer.drop_documents(documents, now(), forget=True) if documents else []
            if documents:
                self.writer.advance()
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
        with self.guard():
            orphans = self.writer.held_by_no_other(gone, root)
        if orphans:
            self.vectors.open()
        with self.guard(), self.writer.transaction(searched=bool(orphans)):
            self.writer.link(joined, root)
            self.writer.unlink(gone, root)
            self.writer.touch(stamps)
            left = self.writer.drop_documents(orphans, now(), forget=False) if orphans else []
            self.writer.finish_root(root, now())
        if orphans:
            generation = self.writer.generation
            self.vectors.follow(lambda vectors: vectors.delete(left, generation))
            self._merge_if_due()
        return len(left)

    @contextmanager
    def transaction(self) -> Iterator[Writer]:
        """Catalogue changes that concern no passage (roots, links, tombstones): no new generation.

        Raises StoreError where the disk refuses them.
        """
        with self.guard(), self.writer.transaction(searched=False):
            yield self.writer

    def note(self, key: str, value: str) -> None:
        """Keep a value for later runs; what the disk refuses of it is only logged, since nothing depends on it."""
        try:
            with self.transaction() as writer:
                writer.set_meta(key, value)
        except StoreError as error:
            if isinstance(error, IndexCorruptError):
                raise
            logger.warning("%s", error)

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
            "tokens": bytes_below(self.tokens),
            "chroma": bytes_below(self.directory / "chroma"),
        }

    def _merge_if_due(self) -> None:
        """Merge the smallest segments above the limit, and rewrite those of which a quarter is dead.

        A commit has succeeded whether or not this does: what fails is only logged.
        """
        try:
            with told(self.directory):
                chosen = merging.due(self.writer.segment_rows(), self._config.max_segments)
                if chosen:
                    self._merge(chosen)
                else:
                    merging.collect_garbage(self.segments, self.writer)
        except StoreError as error:
            logger.warning("Segments could not be merged: %s", error)

    def _merge(self, numbers: list[int]) -> None:
        target = merging.rewrite(self.segments, self.writer, numbers)
        with self.snapshot() as snapshot:
            moved = ((record.passage_id, record.provenance) for record in stored_records(snapshot, target))
            self.vectors.follow(lambda vectors: vectors.update_provenance(moved, snapshot.generation))

    def _clean(self) -> None:
        """Delete what an interrupted run left, and what has expired; what fails is told by the call that meets it."""
        try:
            with told(self.directory):
                if not self.tokens.exists():
                    self.tokens.mkdir()
                    fsync_directory(self.directory)
                merging.delete_unnamed(self.tokens, self.writer)
                merging.collect_garbage(self.segments, self.writer)
                self.writer.purge_former(days_ago(self._config.keep_former_days))
        except StoreError as error:
            logger.warning("The index was not tidied up: %s", error)

    @contextmanager
    def _vector_source(self) -> Iterator[tuple[Iterator[VectorRecord], int, int]]:
        with self.snapshot() as snapshot:
            yield stored_records(snapshot, None), snapshot.generation, len(snapshot)
