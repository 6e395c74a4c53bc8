"""Changes to the catalogue, each inside a transaction. Knows rows; nothing of arrays, files or Chroma."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from colbert_mcp.store.catalog import Reader
from colbert_mcp.store.failures import CATALOGUE_ERRORS
from colbert_mcp.store.rows import CHUNK, paths_below, seal_of, skipped_key
from colbert_mcp.store.tokens import SegmentFiles
from colbert_mcp.types import Chunk, Coverage, DocumentRecord, FileStamp


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to be inserted, with its id and where its token embeddings are."""

    passage_id: str
    chunk: Chunk
    tokens: int
    coverage: Coverage
    segment: int
    row: int


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to be inserted or replaced. ``unchunked`` counts its non-blank characters outside of every chunk;
    ``extract`` is the text that its spans count in, where that is not its decoded file.
    """

    record: DocumentRecord
    unchunked: int
    extract: str | None
    chunks: list[NewChunk]


_ROW_MARKS = ", ".join("?" * 26)
_OLD_CHUNK = CHUNK.replace(" sha256", " c.sha256")


class Writer(Reader):
    """Changes to the catalogue, inside ``transaction``."""

    @contextmanager
    def transaction(self, *, searched: bool = True) -> Iterator[None]:
        """All or nothing; a new generation if anything was written that is ``searched``: passages or segments."""
        self._db.execute("BEGIN IMMEDIATE")
        before = self._db.total_changes
        try:
            yield
            if searched and self._db.total_changes != before:
                self.advance()
            self._db.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some failures of the disk, and may be unable to after others.
            with suppress(*CATALOGUE_ERRORS):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise

    def advance(self) -> None:
        """Begin a new generation: what is searched has changed."""
        self._db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")

    def set_fingerprint(self, fingerprint: dict[str, object]) -> None:
        """Tie the index to an encoder."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('fingerprint', ?)", (json.dumps(fingerprint),))

    def set_meta(self, key: str, value: str) -> None:
        """Keep a value of the meta table (no new generation: nothing that is searched has changed)."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def put_root(self, path: bytes, include: Sequence[str], exclude: Sequence[str]) -> int:
        """Add a root or change its patterns; returns its id."""
        row = self._db.execute(
            "INSERT INTO roots (path, include, exclude) VALUES (?, ?, ?)"
            " ON CONFLICT (path) DO UPDATE SET include = excluded.include, exclude = excluded.exclude RETURNING id",
            (path, json.dumps(list(include)), json.dumps(list(exclude))),
        ).fetchone()
        return int(row[0])

    def finish_root(self, root: int, now: str) -> None:
        """Note that a run over the root went through."""
        self._db.execute("UPDATE roots SET indexed_at = ? WHERE id = ?", (now, root))

    def drop_root(self, root: int) -> None:
        """Forget a root; its documents stay until they are dropped."""
        self._db.execute("DELETE FROM roots WHERE id = ?", (root,))
        self._db.execute("DELETE FROM meta WHERE key = ?", (skipped_key(root),))

    def link(self, documents: Iterable[int], root: int) -> None:
        """Say that a root holds documents."""
        self._db.executemany("INSERT OR IGNORE INTO document_roots VALUES (?, ?)", ((d, root) for d in documents))

    def unlink(self, documents: Iterable[int], root: int) -> None:
        """Say that a root no longer holds documents."""
        query = "DELETE FROM document_roots WHERE document = ? AND root = ?"
        self._db.executemany(query, ((d, root) for d in documents))

    def touch(self, stamps: Iterable[tuple[int, FileStamp]]) -> None:
        """Note other times of documents whose bytes are the same."""
        query = "UPDATE documents SET size = ?, mtime_ns = ? WHERE id = ?"
        self._db.executemany(query, ((stamp.size, stamp.mtime_ns, document) for document, stamp in stamps))

    def put_segment(self, segment: int, files: SegmentFiles) -> None:
        """Name a finished segment."""
        values = (segment, files.rows, files.tokens, json.dumps(files.files))
        self._db.execute("INSERT INTO segments VALUES (?, ?, ?, ?)", values)

    def put_document(self, new: NewDocument, root: int, now: str) -> list[str]:
        """Insert or replace a document with its chunks; returns the passage ids that are gone."""
        record, chunks = new.record, new.chunks
        existing = self._db.execute("SELECT id FROM documents WHERE path = ?", (record.path,)).fetchone()
        stamp = record.stamp
        values = (
            stamp.size,
            stamp.mtime_ns,
            record.sha256,
            record.format,
            record.encoding,
            record.newline,
            record.reader,
            new.unchunked,
            now,
        )
        gone: list[str] = []
        if existing is None:
            document = self._db.execute(
                "INSERT INTO documents (size, mtime_ns, sha256, format, encoding, newline, reader, unchunked,"
                " indexed_at, path) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (*values, record.path),
            ).fetchone()[0]
        else:
            document = existing[0]
            gone = self._retire([document], now, keep={chunk.passage_id for chunk in chunks})
            self._db.execute(
                "UPDATE documents SET size = ?, mtime_ns = ?, sha256 = ?, format = ?, encoding = ?, newline = ?,"
                " reader = ?, unchunked = ?, indexed_at = ? WHERE id = ?",
                (*values, document),
            )
        self._db.execute("INSERT OR IGNORE INTO document_roots VALUES (?, ?)", (document, root))
        self._db.execute("DELETE FROM extracts WHERE document = ?", (document,))
        if new.extract is not None:
            packed = zlib.compress(new.extract.encode("utf-8"))
            seal = seal_of((record.path, record.sha256, hashlib.sha256(packed).digest()))
            self._db.execute("INSERT INTO extracts VALUES (?, ?, ?)", (document, packed, seal))
        self._db.executemany(
            f"INSERT INTO chunks ({CHUNK}, passage_id, ordinal, seal, document, tokens, unknown, skipped, untokenized,"
            f" segment, row) VALUES ({_ROW_MARKS})",
            (_new_row(document, record, ordinal, chunk, now) for ordinal, chunk in enumerate(chunks)),
        )
        self._db.executemany("DELETE FROM former WHERE passage_id = ?", ((chunk.passage_id,) for chunk in chunks))
        return gone

    def drop_documents(self, documents: Sequence[int], now: str, *, forget: bool) -> list[str]:
        """Remove documents; returns their passage ids. Their passages become former ones unless ``forget``."""
        rows = (self._db.execute("SELECT path FROM documents WHERE id = ?", (d,)).fetchone() for d in documents)
        paths = [row[0] for row in rows if row is not None]  # a damaged list of a root's files names what is none
        gone = self._retire(documents, now, keep=set())
        self._db.executemany("DELETE FROM documents WHERE id = ?", ((d,) for d in documents))
        if forget:
            self._db.executemany("DELETE FROM former WHERE path = ?", ((path,) for path in paths))
            self.optimise_words()
        return gone

    def forget_former(self, path: bytes) -> None:
        """Delete the former passages of a file and of everything below a folder."""
        self._db.execute("DELETE FROM former WHERE path = ? OR (path >= ? AND path < ?)", (path, *paths_below(path)))

    def purge_former(self, until: str) -> int:
        """Delete former passages retired up to a time (no new generation: nothing that is searched has changed).

        Returns how many.
        """
        return self._db.execute("DELETE FROM former WHERE retired_at <= ?", (until,)).rowcount

    def optimise_words(self) -> None:
        """Merge FTS5's index, which only marks the words of deleted rows."""
        self._db.execute("INSERT INTO fts (fts) VALUES ('optimize')")

    def put_tombstone(self, path: bytes) -> None:
        """Keep a path out of the roots that contain it."""
        self._db.execute("INSERT OR IGNORE INTO tombstones VALUES (?)", (path,))

    def clear_tombstones(self, path: bytes, *, below: bool = False) -> None:
        """Let a path in again, and with ``below`` everything under it."""
        self._db.execute("DELETE FROM tombstones WHERE path = ?", (path,))
        if below:
            self._db.execute("DELETE FROM tombstones WHERE path >= ? AND path < ?", paths_below(path))

    def move_rows(self, moved: Iterable[tuple[int, int, int, int]]) -> None:
        """Point all chunks of a row at another: (new segment, new row, old segment, old row)."""
        self._db.executemany("UPDATE chunks SET segment = ?, row = ? WHERE segment = ? AND row = ?", moved)

    def drop_segments(self, segments: Iterable[int]) -> None:
        """Forget segments and queue their directories for deletion."""
        for segment in segments:
            self._db.execute("DELETE FROM segments WHERE id = ?", (segment,))
            self._db.execute("INSERT OR IGNORE INTO garbage VALUES (?)", (segment,))

    def garbage(self) -> list[int]:
        """Segments whose directories are to be deleted."""
        return [row[0] for row in self._db.execute("SELECT segment FROM garbage")]

    def garbage_collected(self, segment: int) -> None:
        """Note that a directory is gone (no new generation: nothing that is searched has changed)."""
        self._db.execute("DELETE FROM garbage WHERE segment = ?", (segment,))

    def next_segment(self) -> int:
        """A segment number that no committed segment ever had, so none whose directory may still be there."""
        row = self._db.execute(
            "SELECT max(coalesce((SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'segments'), 0),"
            " coalesce((SELECT max(id) FROM segments), 0))"
        ).fetchone()
        return int(row[0]) + 1

    def names_all_segments(self) -> bool:
        """Whether every segment that a passage has its row in is one that the catalogue names."""
        query = "SELECT NOT EXISTS (SELECT 1 FROM chunks WHERE segment NOT IN (SELECT id FROM segments))"
        return bool(self._db.execute(query).fetchone()[0])

    def rebuild_lookups(self) -> None:
        """Make SQLite's own look-up tables anew from the rows."""
        self._db.execute("REINDEX")

    def rebuild_words(self) -> None:
        """Make the words that BM25 counts anew from the passages."""
        self._db.execute("INSERT INTO fts (fts) VALUES ('rebuild')")

    def delete_orphans(self) -> None:
        """Delete rows of documents and roots that are not there."""
        for table in ("chunks", "extracts", "document_roots"):
            self._db.execute(f"DELETE FROM {table} WHERE document NOT IN (SELECT id FROM documents)")
        self._db.execute("DELETE FROM document_roots WHERE root NOT IN (SELECT id FROM roots)")

    def delete_documents(self, documents: Iterable[int]) -> None:
        """Delete documents whose passages are damaged, so that none becomes a former one.

        The words that BM25 counts must be those of the passages as they are now.
        """
        for document in documents:
            self._db.execute("DELETE FROM chunks WHERE document = ?", (document,))
            self._db.execute("DELETE FROM documents WHERE id = ?", (document,))

    def delete_former(self, passage_ids: Iterable[str]) -> None:
        """Delete former passages."""
        self._db.executemany("DELETE FROM former WHERE passage_id = ?", ((number,) for number in passage_ids))

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the database and truncate it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _retire(self, documents: Sequence[int], now: str, keep: set[str]) -> list[str]:
        gone: list[str] = []
        for document in documents:
            ids = self._db.execute("SELECT passage_id FROM chunks WHERE document = ?", (document,)).fetchall()
            leaving = [row[0] for row in ids if row[0] not in keep]
            self._db.executemany(
                "INSERT OR REPLACE INTO former SELECT passage_id, path, d.sha256, format, encoding, newline, ordinal,"
                f" {_OLD_CHUNK}, indexed_at, seal, ? FROM chunks c JOIN documents d ON d.id = document"
                " WHERE passage_id = ?",
                ((now, passage_id) for passage_id in leaving),
            )
            self._db.execute("DELETE FROM chunks WHERE document = ?", (document,))
            gone.extend(leaving)
        return gone


def _new_row(document: int, record: DocumentRecord, ordinal: int, new: NewChunk, now: str) -> tuple[object, ...]:
    span, chunk, part, coverage = new.chunk.span, new.chunk, new.chunk.part, new.coverage
    cited = (
        span.char_start,
        span.char_end,
        span.byte_start,
        span.byte_end,
        span.line_start,
        span.column_start,
        span.line_end,
        span.column_end,
        part.number if part and part.kind == "page" else None,
        part.number if part and part.kind == "cell" else None,
        part.start if part else None,
        part.end if part else None,
        "\n".join(chunk.headings),
        chunk.sha256,
        None if chunk.text_sha256 == chunk.sha256 else chunk.text_sha256,
        chunk.text,
        new.passage_id,
        ordinal,
    )
    facts = (record.path, record.sha256, record.format, record.encoding, record.newline, now)
    counts = (new.tokens, coverage.unknown, coverage.skipped, coverage.untokenized)
    return (*cited, seal_of((*cited, *facts)), document, *counts, new.segment, new.row)
