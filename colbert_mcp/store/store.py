"""The index on disk: catalogue, segments and Chroma, kept in step by the commit protocol.

Segment files are written and made durable, then one catalogue transaction names them (the commit point), then Chroma
follows. A kill at any point leaves the previous generation whole: a segment that no catalogue names is deleted at the
next opening, and a Chroma that lags is rebuilt. Knows nothing of models, nor of how files are read.
"""

import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from colbert_mcp.config import StoreConfig
from colbert_mcp.errors import REPAIR, IndexCorruptError, IndexMismatchError, IndexNotFoundError, StoreError
from colbert_mcp.store.batch import Batch, PutDocument, RowReference
from colbert_mcp.store.catalog import CATALOGUE, Reader, connect, create
from colbert_mcp.store.catalog_writer import Writer
from colbert_mcp.store.derived import DerivedVectors
from colbert_mcp.store.failures import CATALOGUE_ERRORS, store_error, told, told_of_catalogue
from colbert_mcp.store.lock import IndexLock
from colbert_mcp.store.records import VectorRecord, provenance
from colbert_mcp.store.snapshot import LiveRows, Snapshot
from colbert_mcp.store.tokens import Segment, SegmentFiles, SegmentWriter, open_segment
from colbert_mcp.types import FileStamp

if TYPE_CHECKING:
    from colbert_mcp.store.vectors import Vectors

_DEAD_SHARE = 0.25
logger = logging.getLogger(__name__)


class Store:
    """An open index. One thread writes at a time; any number read through snapshots."""

    def __init__(self, directory: Path, config: StoreConfig, owned: tuple[Writer, IndexLock] | None) -> None:
        self.directory = directory
        self._config = config
        self._owned = owned
        self._catalogue = directory / CATALOGUE
        self._tokens = directory / "tokens"
        self._segments: dict[int, Segment] = {}
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
        _check_directory(directory, create_missing)
        catalogue = directory / CATALOGUE
        if _is_read_only(directory):
            _check_read_only(directory)
            connect(catalogue, immutable=True).close()
            return cls(directory, config, None)
        lock = IndexLock(directory)
        with told(directory):
            lock.acquire()
        try:
            with told(directory):
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
            try:
                writer.checkpoint()
            except CATALOGUE_ERRORS as error:  # what was committed is in the log, and is folded in another time
                logger.warning("%s", store_error(error, self.directory))
            finally:
                writer.close()
                lock.release()

    @property
    def read_only(self) -> bool:
        """Whether the index can be searched but not changed."""
        return self._owned is None

    @property
    def writer(self) -> Writer:
        """The catalogue's writing side; raises StoreError on an index that cannot be written."""
        if self._owned is None:
            raise StoreError(f"The index {self.directory} cannot be written; choose another with --index.")
        return self._owned[0]

    def snapshot(self) -> Snapshot:
        """The present generation, seen whole; use it as a context manager."""
        connection = connect(self._catalogue, immutable=self.read_only)
        try:
            connection.execute("BEGIN")
            reader = Reader(connection)
            # A stale list of rows with fresh texts would be a wrong citation: all are of one generation.
            generation = reader.generation
            with self._cache:
                known = self._live is not None and self._live[0] == generation
                live = self._live[1] if self._live is not None and known else LiveRows.of(reader.rows())
                segments = {number: self._segment(number, files) for number, files in reader.segments().items()}
                if not known:
                    live.check(segments)
                self._live, self._segments = (generation, live), segments
            return Snapshot(self.directory, connection, live, segments)
        except CATALOGUE_ERRORS as error:
            connection.close()
            raise store_error(error, self.directory) from error
        except BaseException:
            connection.close()
            raise

    def guard(self) -> AbstractContextManager[None]:
        """For questions to the ``writer`` outside of a transaction: what fails in SQLite becomes a StoreError."""
        return told_of_catalogue(self.directory)

    def check_fingerprint(self, fingerprint: dict[str, object]) -> None:
        """Raise IndexMismatchError where the index was made with another encoder; an empty index takes any.

        The ``model`` in it is a name for people and is not compared.
        """
        with self.snapshot() as snapshot:
            stored = snapshot.reader.fingerprint
        if stored is None:
            return
        keys = stored.keys() | fingerprint.keys()
        different = sorted(key for key in keys - {"model"} if stored.get(key) != fingerprint.get(key))
        if different:
            raise IndexMismatchError(
                f"The index {self.directory} was made with the model {stored.get('model')}, and the configured model "
                f"{fingerprint['model']} differs in {', '.join(different)}. Set [model] back, or use another index "
                "with --index."
            )

    def batch(self, fingerprint: dict[str, object], dimension: int, dense_dimension: int) -> Batch:
        """An empty batch for the next commit; the first one ties the index to the encoder."""
        with told(self.directory):
            if self.writer.fingerprint is None:
                with self.writer.transaction(searched=False):
                    self.writer.set_fingerprint(fingerprint)
            number = self.writer.next_segment()
        return Batch(self.directory, number, lambda: SegmentWriter(self._path(number), dimension, dense_dimension))

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
        with self._cache:
            segments = {number: self._segment(number, files[number]) for number in numbers}
            self._segments |= segments
        return {digest: _reference(number, row, segments[number]) for digest, (number, row) in found.items()}

    def abandon(self, batch: Batch) -> None:
        """Delete what a batch has written."""
        if batch.writer is not None:
            batch.writer.abandon()
            shutil.rmtree(self._path(batch.segment), ignore_errors=True)

    def commit(self, batch: Batch, root: int) -> int:
        """Make a batch part of the index; returns the new generation.

        Raises StoreError where the disk refuses it; the previous generation then stands.
        """
        self.vectors.open()
        gone: list[str] = []
        try:
            with told(self.directory):
                files = batch.writer.finish() if batch.writer is not None else None
                with self.writer.transaction():
                    if files is not None:
                        self.writer.put_segment(batch.segment, files)
                    for document in batch.documents:
                        gone += self.writer.put_document(document.new, root, now())
        except StoreError:
            self.abandon(batch)
            raise
        generation = self.writer.generation

        def follow(vectors: "Vectors") -> None:
            if gone:
                vectors.delete(gone, generation)
            vectors.upsert((record for document in batch.documents for record in _records(document)), generation)

        self.vectors.follow(follow)
        self._merge_if_due()
        return self.writer.generation

    def drop_documents(self, documents: Sequence[int], *, forget: bool = False) -> int:
        """Take documents out of the index; returns how many passages left. ``forget`` also deletes former passages.

        Raises StoreError where the disk refuses it.
        """
        self.vectors.open()
        with told(self.directory), self.writer.transaction():
            gone = self.writer.drop_documents(documents, now(), forget=forget)
        generation = self.writer.generation
        self.vectors.follow(lambda vectors: vectors.delete(gone, generation))
        self._merge_if_due()
        return len(gone)

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
        with told(self.directory), self.writer.transaction(searched=bool(orphans)):
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
        with told_of_catalogue(self.directory), self.writer.transaction(searched=False):
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

    def bytes_on_disk(self) -> dict[str, int]:
        """Disk use of the catalogue, the token segments and Chroma."""
        catalogue = sum(file.stat().st_size for file in self.directory.glob(f"{CATALOGUE}*"))
        return {
            "catalogue": catalogue,
            "tokens": _folder_size(self._tokens),
            "chroma": _folder_size(self.directory / "chroma"),
        }

    def _merge_if_due(self) -> None:
        """``_merge_due``; a commit has succeeded whether or not this does."""
        try:
            with told(self.directory):
                self._merge_due()
        except StoreError as error:
            logger.warning("Segments could not be merged: %s", error)

    def _merge_due(self) -> None:
        """Merge the smallest segments above the limit, and rewrite those of which a quarter is dead."""
        sizes = self.writer.segment_rows()
        chosen = {number for number, (rows, alive) in sizes.items() if alive < (1 - _DEAD_SHARE) * rows}
        if len(sizes) > self._config.max_segments:
            merged = max(2, self._config.max_segments // 2)  # one alone would be copied and leave as many
            chosen.update(sorted(sizes, key=lambda number: sizes[number][1])[:merged])
        if chosen:
            self._merge(sorted(chosen))

    def _merge(self, numbers: list[int]) -> None:
        target = self.writer.next_segment()
        live = {number: self.writer.rows_of(number) for number in numbers}
        try:
            files = self._write_merged(target, live) if any(live.values()) else None
            with self.writer.transaction():
                if files is not None:
                    self.writer.put_segment(target, files)
                    copied = ((number, row) for number in numbers for row in live[number])
                    self.writer.move_rows((target, new, *old) for new, old in enumerate(copied))
                self.writer.drop_segments(numbers)
        except BaseException:
            shutil.rmtree(self._path(target), ignore_errors=True)
            raise
        with self.snapshot() as snapshot:
            moved = ((record.passage_id, record.provenance) for record in _stored_records(snapshot, target))
            self.vectors.follow(lambda vectors: vectors.update_provenance(moved, snapshot.generation))
        self._collect_garbage()

    def _write_merged(self, target: int, live: dict[int, list[int]]) -> SegmentFiles:
        fingerprint = self.writer.fingerprint or {}
        dimensions = [int(str(fingerprint[name])) for name in ("dimension", "dense_dimension")]
        files = self.writer.segments()
        writer = SegmentWriter(self._path(target), *dimensions)
        try:
            for number, rows in live.items():
                writer.copy(self._path(number), rows, files[number])
            return writer.finish()
        finally:
            writer.abandon()

    def _collect_garbage(self) -> None:
        for number in set(self.writer.garbage()) - self.writer.segments().keys():
            shutil.rmtree(self._path(number), ignore_errors=True)
            if not self._path(number).exists():
                self.writer.garbage_collected(number)

    def _clean(self) -> None:
        """Delete what an interrupted run left, and what has expired; what fails is told by the call that meets it."""
        try:
            with told(self.directory):
                self._tokens.mkdir(exist_ok=True)
                self._delete_unnamed()
                self._collect_garbage()
                expired = datetime.now(UTC) - timedelta(days=self._config.keep_former_days)
                self.writer.purge_former(expired.isoformat(timespec="seconds"))
        except StoreError as error:
            logger.warning("The index was not tidied up: %s", error)

    def _delete_unnamed(self) -> None:
        """Delete segments that the catalogue does not name, unless it looks as if it had lost some names."""
        named = {f"{number:06}" for number in self.writer.segments()}
        found = {path.name for path in self._tokens.iterdir()}
        if named <= found and self.writer.names_all_segments():
            for name in found - named:
                shutil.rmtree(self._tokens / name, ignore_errors=True)

    @contextmanager
    def _vector_source(self) -> Iterator[tuple[Iterator[VectorRecord], int, int]]:
        with self.snapshot() as snapshot:
            yield _stored_records(snapshot, None), snapshot.generation, len(snapshot)

    def _path(self, segment: int) -> Path:
        return self._tokens / f"{segment:06}"

    def _segment(self, number: int, files: dict[str, tuple[int, str]]) -> Segment:
        return self._segments.get(number) or open_segment(self._path(number), files)


def now() -> str:
    """The present in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _records(document: PutDocument) -> Iterator[VectorRecord]:
    record = document.new.record
    for new, reference in zip(document.new.chunks, document.references, strict=True):
        pointer = (new.segment, new.row, reference.token_start, reference.token_count)
        metadata = provenance(record.path, record.sha256, new.chunk, *pointer)
        yield VectorRecord(new.passage_id, reference.dense, new.chunk.text, metadata)


def _reference(number: int, row: int, segment: Segment) -> RowReference:
    start, end = int(segment.tokens.offsets[row]), int(segment.tokens.offsets[row + 1])
    return RowReference(number, row, start, end - start, segment.dense[row])


def _stored_records(snapshot: Snapshot, only: int | None) -> Iterator[VectorRecord]:
    for passage, number, row in snapshot.reader.passages_with_rows(only):
        segment = snapshot.segment(number)
        start, end = int(segment.tokens.offsets[row]), int(segment.tokens.offsets[row + 1])
        metadata = provenance(passage.path, passage.file_sha256, passage.chunk, number, row, start, end - start)
        yield VectorRecord(passage.passage_id, segment.dense[row], passage.chunk.text, metadata)


def _check_directory(directory: Path, create_missing: bool) -> None:
    """Raise unless the directory is an index or, with ``create_missing``, may become one."""
    if (directory / CATALOGUE).is_file():
        return
    if directory.exists() and not directory.is_dir():
        raise IndexNotFoundError(f"{directory} is a file, not an index directory; choose another with --index.")
    left = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if {"tokens", "chroma"} & left:
        raise IndexCorruptError(f"{directory} has lost its {CATALOGUE}; delete the directory and index again.")
    if left - {"lock", "owner.json", "engine"}:
        raise IndexNotFoundError(f"{directory} is not an index and holds other files; choose an empty directory.")
    if not create_missing:
        raise IndexNotFoundError(
            f"There is no index at {directory}; make one with: colbert-mcp index PATH --index {directory}"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"Cannot make the index directory {directory}: {error.strerror}.") from error


def _check_read_only(directory: Path) -> None:
    log = directory / f"{CATALOGUE}-wal"
    if log.exists() and log.stat().st_size:
        raise StoreError(
            f"{directory} cannot be written and was not closed cleanly; open it once where it can be written."
        )


def _is_read_only(directory: Path) -> bool:
    return not all(os.access(path, os.W_OK) for path in (directory, directory / CATALOGUE) if path.exists())


def _folder_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
