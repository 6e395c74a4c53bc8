"""Questions to the catalogue, the SQLite database that is the commit point of the index.

Writers go through one connection; every snapshot reads through a connection of its own, so it sees one generation.
Knows rows; nothing of arrays, files or Chroma.
"""

import hashlib
import heapq
import json
import sqlite3
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from colbert_mcp.documents import display_path
from colbert_mcp.errors import REPAIR, IndexCorruptError
from colbert_mcp.store.rows import (
    FORMER_PASSAGES,
    LIVE_PASSAGES,
    Root,
    StoredDocument,
    StoredPassage,
    below,
    consecutive,
    not_whole,
    parsed,
    paths_below,
    seal_of,
    segment_files,
    stored_document,
    stored_passage,
    stored_root,
)
from colbert_mcp.types import Chunk

_BATCH = 500
_COUNTED = ("tokens", "char_end - char_start", "unknown", "skipped", "untokenized")
_FEW = 50
# Of the words of the text, the heading path, names' parts, and runs of both in scripts without spaces.
_WEIGHTS = "1.0, 0.5, 0.5, 1.0, 0.5"
_RANKED = f"SELECT rowid, -bm25(fts, {_WEIGHTS}) FROM fts WHERE fts MATCH ?"
# BM25 scores all that match up to so many times what is wanted, else so many times of the rarest terms.
_FEW_SCORED = 20
_ENOUGH = 5
_MOST_COUNTED = 1_000_000


class Reader:
    """Questions to the catalogue, over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def close(self) -> None:
        """Close the connection, and with it the snapshot it reads."""
        self._db.close()

    def meta(self, key: str) -> str | None:
        """A value of the meta table."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    @property
    def generation(self) -> int:
        """Counts commits of what is searched; grows by one with each."""
        stored = self.meta("generation") or ""
        if not stored.isdecimal():
            raise IndexCorruptError(f"The catalogue is damaged: it has lost count of its commits; {REPAIR}")
        return int(stored)

    @property
    def fingerprint(self) -> dict[str, object] | None:
        """The encoder that the index was made with; None while it is empty."""
        stored = self.meta("fingerprint")
        read = None if stored is None else parsed(stored)
        if not isinstance(read, dict | None):
            raise IndexCorruptError(f"The catalogue is damaged: it does not say which model made it; {REPAIR}")
        return read

    def counts(self, documents: Sequence[int] | None = None) -> dict[str, int]:
        """Of some documents or all: passages, tokens, characters, and the characters that no embedding stands for."""
        ids = "(SELECT value FROM json_each(?))"
        within, among = ("", "") if documents is None else (f"WHERE document IN {ids}", f"WHERE id IN {ids}")
        values = () if documents is None else (json.dumps(list(documents)),)
        chunks = self._db.execute(
            "SELECT count(*), "
            + ", ".join(f"CAST(coalesce(sum({counted}), 0) AS INTEGER)" for counted in _COUNTED)
            + f" FROM chunks {within}",
            values,
        ).fetchone()
        number, unchunked = self._db.execute(
            f"SELECT count(*), CAST(coalesce(sum(unchunked), 0) AS INTEGER) FROM documents {among}", values
        ).fetchone()
        return {
            "documents": number,
            "passages": chunks[0],
            "tokens": chunks[1],
            "characters": chunks[2],
            "unchunked": unchunked,
            "unknown": chunks[3],
            "skipped": chunks[4],
            "untokenized": chunks[5],
        }

    def passage_count(self) -> int:
        """How many passages are live."""
        return int(self._db.execute("SELECT count(*) FROM chunks").fetchone()[0])

    def passages_in(self, segments: Iterable[int], documents: Sequence[int] | None = None) -> int:
        """How many live passages, of some documents or all, have their token embeddings in any of some segments."""
        ids = "(SELECT value FROM json_each(?))"
        within = "" if documents is None else f" AND document IN {ids}"
        values = [json.dumps(list(part)) for part in (segments, documents) if part is not None]
        query = f"SELECT count(*) FROM chunks WHERE segment IN {ids}{within}"
        return int(self._db.execute(query, values).fetchone()[0])

    def rows(self) -> Generator[tuple[int, int, int, int]]:
        """(segment, row, chunk, document) of every live chunk, ordered by segment and row."""
        yield from self._db.execute("SELECT segment, row, id, document FROM chunks ORDER BY segment, row")

    def rows_of(self, segment: int) -> list[int]:
        """The rows of a segment that any live chunk has, in ascending order."""
        query = "SELECT DISTINCT row FROM chunks WHERE segment = ? ORDER BY row"
        return [row[0] for row in self._db.execute(query, (segment,))]

    def rows_of_texts(self, text_hashes: Sequence[str]) -> dict[str, tuple[int, int]]:
        """{SHA-256 of a text: (segment, row)} for those of the texts that live chunks have."""
        found: dict[str, tuple[int, int]] = {}
        for start in range(0, len(text_hashes), _BATCH):
            batch = text_hashes[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            rows = self._db.execute(
                f"SELECT sha256, segment, row FROM chunks WHERE sha256 IN ({marks}) AND text_sha256 IS NULL UNION ALL"
                f" SELECT text_sha256, segment, row FROM chunks WHERE text_sha256 IN ({marks})",
                (*batch, *batch),
            )
            found.update((digest, (segment, row)) for digest, segment, row in rows)
        return found

    def segments(self) -> dict[int, Mapping[str, tuple[int, str]]]:
        """The files of every segment: {segment: {name: (length, sha256)}}."""
        rows = self._db.execute("SELECT id, files FROM segments ORDER BY id")
        return {segment: segment_files(files) for segment, files in rows}

    def segment_rows(self) -> dict[int, tuple[int, int]]:
        """{segment: (rows, live rows)}."""
        rows = self._db.execute(
            "SELECT s.id, CAST(s.rows AS INTEGER), count(DISTINCT c.row) FROM segments s"
            " LEFT JOIN chunks c ON c.segment = s.id GROUP BY s.id"
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def roots(self) -> list[Root]:
        """All roots, by path."""
        rows = self._db.execute("SELECT id, path, include, exclude, indexed_at FROM roots ORDER BY path")
        return [stored_root(row) for row in rows]

    def root_counts(self) -> dict[int, tuple[int, int]]:
        """{root: (documents, passages)}."""
        rows = self._db.execute(
            "SELECT r.root, count(DISTINCT r.document), count(c.id) FROM document_roots r"
            " LEFT JOIN chunks c ON c.document = r.document GROUP BY r.root"
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def tombstones(self) -> frozenset[bytes]:
        """Paths that remove_path took out of a root that is still indexed."""
        return frozenset(row[0] for row in self._db.execute("SELECT path FROM tombstones"))

    def documents(self) -> Iterator[StoredDocument]:
        """Every document, by path."""
        rows = self._db.execute(
            "SELECT id, path, size, mtime_ns, sha256, format, encoding, newline, reader, indexed_at"
            " FROM documents ORDER BY path"
        )
        yield from map(stored_document, rows)

    def passages_per_document(self) -> dict[int, int]:
        """{document: number of passages}."""
        return dict(self._db.execute("SELECT document, count(*) FROM chunks GROUP BY document").fetchall())

    def stamps_below(self, path: bytes) -> dict[bytes, tuple[int, int, int, int]]:
        """{path: (document, size, mtime_ns, reader)} of a file and of everything below a folder."""
        query = "SELECT path, id, size, mtime_ns, reader FROM documents WHERE path = ? OR (path >= ? AND path < ?)"
        return {row[0]: row[1:] for row in self._db.execute(query, (path, *paths_below(path)))}

    def file_hash(self, document: int) -> str:
        """SHA-256 of a document's file when it was indexed."""
        return str(self._db.execute("SELECT sha256 FROM documents WHERE id = ?", (document,)).fetchone()[0])

    def documents_of_root(self, root: int) -> set[int]:
        """The documents that a root holds."""
        found = {row[0] for row in self._db.execute("SELECT document FROM document_roots WHERE root = ?", (root,))}
        if not all(isinstance(document, int) for document in found):
            raise IndexCorruptError(f"The catalogue is damaged: a root holds what is no file; {REPAIR}")
        return found

    def held_by_no_other(self, documents: Iterable[int], root: int) -> list[int]:
        """Those of the documents that no other root than this holds."""
        query = "SELECT 1 FROM document_roots WHERE document = ? AND root <> ?"
        return [document for document in documents if not self._db.execute(query, (document, root)).fetchone()]

    def held_documents(self) -> set[int]:
        """Documents that any root holds."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT document FROM document_roots")}

    def bm25(self, terms: Sequence[str], most: int | None = None) -> list[tuple[int, float]]:
        """(chunk, score) of the best ``most`` chunks (None: all) that match any of some FTS5 expressions, best first.

        Scores are above 0. Where the terms stand in very many chunks, only those with one of the rarest terms are
        scored, so that none is left out but by what many others have as well.
        """
        telling = self._telling(terms, most)
        if len(telling) == len(terms):
            # FTS5's bm25() is negative, lower is better.
            query = f"{_RANKED} ORDER BY 2 DESC, 1 LIMIT ?"
            return self._db.execute(query, (" OR ".join(terms), -1 if most is None else most)).fetchall()
        some = " OR ".join(telling)
        # BM25 is a sum over the terms of an expression, and has those that stand in it twice twice.
        twice = self._db.execute(_RANKED, (f"({some}) AND ({' OR '.join(terms)})",))
        once = dict(self._db.execute(_RANKED, (some,)).fetchall())
        scores = ((chunk, score - once[chunk]) for chunk, score in twice)
        return heapq.nsmallest(most or len(once), scores, key=lambda found: (-found[1], found[0]))

    def _telling(self, terms: Sequence[str], most: int | None) -> Sequence[str]:
        """The rarest of some terms, which together stand in several times the chunks wanted; all if they are few."""
        if most is None:
            return terms
        bounded = "SELECT count(*) FROM (SELECT 1 FROM fts WHERE fts MATCH ? LIMIT ?)"
        counts = [self._db.execute(bounded, (term, _MOST_COUNTED)).fetchone()[0] for term in terms]
        if sum(counts) <= _FEW_SCORED * most:
            return terms
        rarest = sorted(range(len(terms)), key=lambda at: (counts[at], at))
        reached = accumulate(counts[at] for at in rarest)
        needed = next((number for number, sum_ in enumerate(reached, 1) if sum_ >= _ENOUGH * most), len(terms))
        return [terms[at] for at in rarest[:needed]]

    def matching_chunks(self, expression: str, most: int) -> list[int]:
        """Chunks that match an FTS5 expression, in the order of their ids; at most so many."""
        rows = self._db.execute("SELECT rowid FROM fts WHERE fts MATCH ? LIMIT ?", (expression, most))
        return [row[0] for row in rows]

    def texts(self, chunks: Sequence[int]) -> Iterator[tuple[int, str]]:
        """(chunk, text) of live chunks, to be searched and not to be cited: seals are not compared."""
        for start in range(0, len(chunks), _BATCH):
            batch = chunks[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            # As bytes, since a damaged text may be none in UTF-8.
            rows = self._db.execute(f"SELECT id, CAST(text AS BLOB) FROM chunks WHERE id IN ({marks})", batch)
            yield from ((chunk, text.decode("utf-8", "replace")) for chunk, text in rows)

    def passages(self, chunks: Sequence[int]) -> dict[int, StoredPassage]:
        """Stored passages by chunk id; raises IndexCorruptError where one of them is not there."""
        found = {passage.chunk_id: passage for passage in self._live("c.id", chunks) if passage.chunk_id is not None}
        if not found.keys() >= set(chunks):
            raise IndexCorruptError(f"The catalogue names passages that it does not hold; {REPAIR}")
        return found

    def chunks_of(self, passage_ids: Sequence[str]) -> list[int]:
        """Ids of the live chunks with these passage ids, in the order given; unknown ones are left out."""
        found: dict[str, int] = {}
        for start in range(0, len(passage_ids), _BATCH):
            batch = passage_ids[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            found.update(self._db.execute(f"SELECT passage_id, id FROM chunks WHERE passage_id IN ({marks})", batch))
        return [chunk for passage_id in passage_ids if (chunk := found.get(passage_id)) is not None]

    def passage(self, passage_id: str) -> StoredPassage | None:
        """A live passage by its id."""
        found = next(iter(self._live("c.passage_id", [passage_id])), None)
        # SQLite takes the id from its index, so a seal is broken where that leads to another row; if it ever does not:
        if found is not None and found.passage_id != passage_id:
            raise IndexCorruptError(f"The catalogue leads to another passage than {passage_id}; {REPAIR}")
        return found

    def equal_passages(self, hashes: Sequence[str]) -> dict[str, list[StoredPassage]]:
        """All live passages whose text has one of the hashes, by hash."""
        result: dict[str, list[StoredPassage]] = {}
        for passage in self._live("c.sha256", hashes):
            result.setdefault(passage.chunk.sha256, []).append(passage)
        return result

    def passages_between(self, path: bytes, start: int, end: int) -> list[StoredPassage]:
        """The live passages of a document that overlap its characters ``[start, end)``, in order."""
        rows = self._db.execute(
            f"{LIVE_PASSAGES} WHERE c.document = (SELECT id FROM documents WHERE path = ?)"
            " AND c.char_end > ? AND c.char_start < ? ORDER BY c.ordinal",
            (path, start, end),
        )
        return consecutive([stored_passage(row) for row in rows], path)

    def paths_ending(self, name: bytes) -> list[bytes]:
        """The paths of the documents of a name, or of the last folders and the name."""
        query = "SELECT path FROM documents WHERE substr(path, -?) = ?"
        ending = b"/" + name
        return [row[0] for row in self._db.execute(query, (len(ending), ending))]

    def matching(self, expression: str, scope: Sequence[bytes]) -> Iterator[StoredPassage]:
        """The live passages below the paths of a scope (empty: all) that match an FTS5 expression, best first."""
        where, values = below(scope)
        rows = self._db.execute(
            "SELECT fts.rowid FROM fts CROSS JOIN chunks c ON c.id = fts.rowid JOIN documents d ON d.id = c.document"
            f" WHERE fts MATCH ? AND {where} ORDER BY bm25(fts, {_WEIGHTS}), fts.rowid",
            (expression, *values),
        ).fetchall()
        yield from self._in_order([row[0] for row in rows])

    def holding(self, text: str, scope: Sequence[bytes]) -> Iterator[StoredPassage]:
        """The live passages below the paths of a scope in which the very characters stand; reads every chunk."""
        where, values = below(scope)
        rows = self._db.execute(
            f"{LIVE_PASSAGES} WHERE instr(c.text, ?) > 0 AND {where} ORDER BY c.id", (text, *values)
        )
        for row in rows:
            yield stored_passage(row)

    def neighbours(self, passage: StoredPassage, before: int, after: int) -> tuple[list[Chunk], list[Chunk]]:
        """The chunks before and after a live passage in its document, in order."""
        rows = self._db.execute(
            f"{LIVE_PASSAGES} WHERE c.document = (SELECT document FROM chunks WHERE id = ?)"
            " AND c.ordinal BETWEEN ? AND ? ORDER BY c.ordinal",
            (passage.chunk_id, passage.ordinal - before, passage.ordinal + after),
        )
        around = consecutive([stored_passage(row) for row in rows], passage.path)
        if not around or not around[0].ordinal <= passage.ordinal <= around[-1].ordinal:
            raise not_whole(passage.path)
        return (
            [other.chunk for other in around if other.ordinal < passage.ordinal],
            [other.chunk for other in around if other.ordinal > passage.ordinal],
        )

    def former(self, passage_id: str) -> StoredPassage | None:
        """A passage of an earlier generation, by its id."""
        row = self._db.execute(f"{FORMER_PASSAGES} WHERE passage_id = ?", (passage_id,)).fetchone()
        return None if row is None else stored_passage(row)

    def extracted_text(self, path: bytes) -> tuple[str, str] | None:
        """The text extracted from a document and the SHA-256 of the file that it was extracted from."""
        row = self._db.execute(
            "SELECT text, sha256, seal FROM extracts JOIN documents ON documents.id = document WHERE path = ?", (path,)
        ).fetchone()
        if row is None:
            return None
        packed, file_sha256, seal = row
        if not isinstance(packed, bytes) or seal != seal_of((path, file_sha256, hashlib.sha256(packed).digest())):
            raise IndexCorruptError(f"The text of {display_path(path)} is damaged in the index; {REPAIR}")
        return zlib.decompress(packed).decode("utf-8"), file_sha256

    def passage_at(self, path: bytes, char: int) -> StoredPassage | None:
        """The live passage of a document that holds a character."""
        where = "WHERE d.path = ? AND c.char_start <= ? AND c.char_end > ?"
        row = self._db.execute(f"{LIVE_PASSAGES} {where}", (path, char, char)).fetchone()
        return None if row is None else consecutive([stored_passage(row)], path)[0]

    def passages_with_rows(self, segment: int | None = None) -> Iterator[tuple[StoredPassage, int, int]]:
        """(passage, segment, row) of every live chunk (of one segment), ordered by segment and row."""
        where, values = ("", ()) if segment is None else ("WHERE c.segment = ?", (segment,))
        for row in self._db.execute(f"{LIVE_PASSAGES} {where} ORDER BY c.segment, c.row", values):
            yield stored_passage(row), row[-2], row[-1]

    def _in_order(self, chunks: Sequence[int]) -> Iterator[StoredPassage]:
        for start in range(0, len(chunks), _FEW):
            some = chunks[start : start + _FEW]
            passages = self.passages(some)
            yield from (passages[chunk] for chunk in some)

    def _live(self, column: str, values: Sequence[object]) -> Iterator[StoredPassage]:
        for start in range(0, len(values), _BATCH):
            batch = values[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            for row in self._db.execute(f"{LIVE_PASSAGES} WHERE {column} IN ({marks})", batch):
                yield stored_passage(row)
