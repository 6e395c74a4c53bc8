"""Compares the catalogue with itself and with the segments' files. Changes nothing.

Every fault names where it is, never what a document says. What is found is for ``integrity`` to judge, which also
knows the sources; ``mending`` puts right what lies inside the index.
"""

import hashlib
import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from colbert_mcp.documents import display_path
from colbert_mcp.errors import ColbertMCPError
from colbert_mcp.sharing.ownership import CATALOGUE
from colbert_mcp.store.batch import passage_ids
from colbert_mcp.store.catalog import Reader
from colbert_mcp.store.database import connect
from colbert_mcp.store.records import VectorRecord, provenance
from colbert_mcp.store.rows import CHUNK_WIDTH, FORMER_PASSAGES, LIVE_PASSAGES, StoredPassage, stored_passage
from colbert_mcp.store.tokens import Segment, open_segment
from colbert_mcp.types import EXTRACTED, DocumentRecord, FileStamp, text_hash

FaultKind = Literal[
    "catalogue", "lookup", "words", "orphan", "passage", "former", "segment", "stray", "chroma", "source"
]
# What an index keeps of the encoder (Fingerprint.as_json) and of how texts are cut.
_FINGERPRINT = {
    "model",
    "digest",
    "dimension",
    "dense_dimension",
    "document_prefix",
    "document_length",
    "skiplist",
    "chunker",
}
_INDEX_FAULT = re.compile(r"missing from index|entries in index|entry in index|non-unique|out of order in index")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was written. ``document``, ``segment`` or ``passage`` name what it is about."""

    kind: FaultKind
    where: str
    what: str
    document: int | None = None
    segment: int | None = None
    passage: str | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class AuditedDocument:
    """A document, its passages that are as they were written, and what is wrong with it."""

    id: int
    record: DocumentRecord
    passages: list[StoredPassage]
    faults: list[Fault]


@dataclass(frozen=True, slots=True)
class AuditedSegment:
    """A segment: how many files it has and how many bytes were hashed, open if it is sound."""

    number: int
    files: int
    hashed: int
    segment: Segment | None
    faults: list[Fault]


class CatalogueAudit(Reader):
    """Questions that only a check asks, over a connection of its own."""

    def structure(self, *, thorough: bool) -> Iterator[Fault]:
        """What SQLite finds: pages, references, and, where it may write, the words of BM25 against the texts.

        ``thorough`` also compares every entry of the look-up tables with the rows.
        """
        for (line,) in self._db.execute(f"PRAGMA {'integrity_check' if thorough else 'quick_check'}(50)"):
            if line == "ok":
                continue
            kind: FaultKind = "lookup" if _INDEX_FAULT.search(line) else "catalogue"
            yield Fault("words" if "fts" in line.lower() else kind, CATALOGUE, f"SQLite says: {line}")
        broken = {row[0] for row in self._db.execute("PRAGMA foreign_key_check")}
        for table in sorted(broken):
            yield Fault("orphan", CATALOGUE, f"the table {table} has rows of documents or roots that are not there")
        held = "SELECT id, path FROM documents WHERE id NOT IN (SELECT document FROM document_roots)"
        for document, path in self._db.execute(held):
            yield Fault("orphan", _shown(path), "the file belongs to no indexed folder", document=document)
        yield from self._settings()

    def words(self) -> Iterator[Fault]:
        """Whether the words that BM25 counts are those of the passages; takes a connection that may write."""
        try:
            self._db.execute("INSERT INTO fts (fts, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError as error:
            yield Fault("words", CATALOGUE, f"the words for BM25 are not those of the passages ({error})")

    def shared_rows(self) -> Iterator[Fault]:
        """Passages of different texts that lead to the same embeddings: all of them are under suspicion."""
        query = (
            "SELECT document, d.path, c.segment, c.row FROM chunks c JOIN documents d ON d.id = document"
            " JOIN (SELECT segment, row FROM chunks GROUP BY segment, row"
            " HAVING count(DISTINCT coalesce(text_sha256, sha256)) > 1) s ON s.segment = c.segment AND s.row = c.row"
        )
        for document, path, segment, row in self._db.execute(query):
            what = f"it shares row {row} of segment {segment:06} with another text"
            yield Fault("passage", _shown(path), what, document=document)

    def audited_documents(self) -> Iterator[AuditedDocument]:
        """Every document with its passages, each compared with its seal, its id, its place and its segment."""
        rows = dict(self._db.execute("SELECT id, rows FROM segments"))
        documents = self._db.execute(
            "SELECT id, path, size, mtime_ns, sha256, format, encoding, newline, reader FROM documents ORDER BY path"
        )
        for number, path, size, mtime, *facts in documents:
            record = DocumentRecord(path, FileStamp(size, mtime), *facts)
            yield self._audited(number, record, rows)

    def audited_former(self) -> Iterator[Fault | None]:
        """For every former passage, what is wrong with it."""
        for row in self._db.execute(f"{FORMER_PASSAGES} ORDER BY passage_id"):
            named = str(row[CHUNK_WIDTH])
            what = "it is not what was written"
            yield None if _sound(row) else Fault("former", f"former passage {named[:40]!a}", what, passage=named)

    def texts_of(self, segment: int) -> Iterator[tuple[int, str]]:
        """(row, text) of a segment's live rows, in order, for those whose text still has its hash."""
        seen = -1
        query = "SELECT row, text, coalesce(text_sha256, sha256) FROM chunks WHERE segment = ? ORDER BY row, id"
        for row, text, digest in self._db.execute(query, (segment,)):
            if row != seen and text_hash(text) == digest:
                seen = row
                yield row, text

    def records(self, segments: dict[int, Segment]) -> Iterator[VectorRecord]:
        """What Chroma should hold of the passages that are sound and whose segments are."""
        for number, segment in segments.items():
            for row in self._db.execute(f"{LIVE_PASSAGES} WHERE c.segment = ? ORDER BY c.row", (number,)):
                passage, place = _sound(row), row[-1]
                if passage is None or not 0 <= place < len(segment.dense):
                    continue
                start, end = int(segment.tokens.offsets[place]), int(segment.tokens.offsets[place + 1])
                pointer = (number, place, start, end - start)
                metadata = provenance(passage.path, passage.file_sha256, passage.chunk, *pointer)
                yield VectorRecord(passage.passage_id, segment.dense[place], passage.chunk.text, metadata)

    def audited_segments(self, tokens: Path, *, read_data: bool) -> Iterator[AuditedSegment]:
        """Every segment that the catalogue names, against its files; with ``read_data``, against their hashes."""
        for number, rows, count, files in self._db.execute("SELECT id, rows, tokens, files FROM segments ORDER BY id"):
            yield _audited_segment(tokens / f"{number:06}", number, rows, count, files, read_data=read_data)

    def root_paths(self) -> list[bytes]:
        """The indexed folders, as far as they can be read."""
        return [row[0] for row in self._db.execute("SELECT path FROM roots ORDER BY path") if isinstance(row[0], bytes)]

    def paths(self) -> dict[int, bytes]:
        """{document: path}, as far as they can be read."""
        rows = self._db.execute("SELECT id, path FROM documents")
        return {row[0]: row[1] for row in rows if isinstance(row[1], bytes)}

    def passage_ids(self) -> set[str]:
        """The ids of all live passages."""
        return {row[0] for row in self._db.execute("SELECT passage_id FROM chunks")}

    def strays(self, tokens: Path) -> Iterator[Fault]:
        """What lies among the segments and belongs to none."""
        known: dict[str, set[str]] = {}
        for number, files in self._db.execute("SELECT id, files FROM segments"):
            known[f"{number:06}"] = set(_files(files) or ())
        waiting = {f"{row[0]:06}" for row in self._db.execute("SELECT segment FROM garbage")}
        for path in sorted(tokens.iterdir()) if tokens.is_dir() else []:
            if path.name in waiting:
                continue
            if path.name not in known or path.is_symlink() or not path.is_dir():
                yield _stray(path)
                continue
            yield from (_stray(file) for file in sorted(path.iterdir()) if file.name not in known[path.name])

    def _settings(self) -> Iterator[Fault]:
        try:
            generation, fingerprint = self.generation, self.fingerprint
            sound = generation >= 0 and (fingerprint is None or fingerprint.keys() == _FINGERPRINT)
        except (ColbertMCPError, ValueError, AttributeError, TypeError):
            sound = False
        if not sound:
            yield Fault("catalogue", CATALOGUE, "its generation or the model's fingerprint cannot be read")

    def _audited(self, number: int, record: DocumentRecord, rows: dict[int, int]) -> AuditedDocument:
        where = _shown(record.path)
        passages, problems = [], []
        for row in self._db.execute(f"{LIVE_PASSAGES} WHERE c.document = ? ORDER BY c.ordinal", (number,)):
            passage, (segment, place) = _sound(row), row[-2:]
            if passage is None:
                problems.append("a passage is not what was written")
                continue
            passages.append(passage)
            if not 0 <= place < rows.get(segment, 0):
                problems.append(f"passage {passage.passage_id} leads to embeddings that are not there")
        if not problems:
            problems = [*_document_problems(record, passages), *self._extract_problems(record, passages)]
        faults = [Fault("passage", where, problem, document=number) for problem in dict.fromkeys(problems)]
        return AuditedDocument(number, record, passages, faults)

    def _extract_problems(self, record: DocumentRecord, passages: Sequence[StoredPassage]) -> Iterator[str]:
        """Whether extracted text is kept, whole, and says at every span what the passage says."""
        if record.encoding != EXTRACTED:
            return
        try:
            extract = self.extracted_text(record.path)
        except (ColbertMCPError, ValueError):
            extract = None
        if extract is None:
            yield "the text taken out of it is not what was written"
            return
        for passage in passages:
            span = passage.chunk.span
            if extract[0][span.char_start : span.char_end] != passage.chunk.text:
                yield f"passage {passage.passage_id} does not stand in the text taken out of it"


@contextmanager
def audit(directory: Path, *, read_only: bool) -> Iterator[CatalogueAudit]:
    """A connection to the catalogue of an index that reads texts that are none as well. Raises IndexCorruptError."""
    connection = connect(directory / CATALOGUE, immutable=read_only, writable=not read_only)
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    reader = CatalogueAudit(connection)
    try:
        yield reader
    finally:
        reader.close()


def roots_of(directory: Path) -> list[bytes]:
    """The folders that a damaged catalogue says were indexed, as far as it can be read."""
    try:
        connection = connect(directory / CATALOGUE, immutable=not os.access(directory, os.W_OK))
    except (ColbertMCPError, sqlite3.Error):
        return []
    try:
        return CatalogueAudit(connection).root_paths()
    except sqlite3.Error:
        return []
    finally:
        connection.close()


def _sound(row: tuple[object, ...]) -> StoredPassage | None:
    """The passage of a row, if its seal holds and its values are of their types."""
    try:
        return stored_passage(row)
    except (ColbertMCPError, TypeError, ValueError, AttributeError):
        return None


def _hashes_hold(passage: StoredPassage) -> bool:
    return text_hash(passage.chunk.text) == passage.chunk.text_sha256


def _document_problems(record: DocumentRecord, passages: Sequence[StoredPassage]) -> Iterator[str]:
    """What is wrong with the passages of a document, all of whose seals hold."""
    if not passages or [passage.ordinal for passage in passages] != list(range(len(passages))):
        yield "passages are missing"
        return
    ids = passage_ids(record.path, [passage.chunk.sha256 for passage in passages])
    for expected, passage in zip(ids, passages, strict=True):
        span, text = passage.chunk.span, passage.chunk.text
        if passage.passage_id != expected:
            yield f"the id {passage.passage_id} is not that of its passage"
        if not _hashes_hold(passage):
            yield f"the text of passage {passage.passage_id} does not have its hash"
        if span.char_end - span.char_start != len(text) or (span.byte_start is None) != (record.encoding == EXTRACTED):
            yield f"the span of passage {passage.passage_id} is not that of its text"
    for before, after in pairwise(passage.chunk.span for passage in passages):
        if before.char_end > after.char_start or (before.byte_end or 0) > (after.byte_start or 0):
            yield "passages are not in order"


def _audited_segment(
    directory: Path, number: int, rows: int, tokens: int, files: str, *, read_data: bool
) -> AuditedSegment:
    def fault(where: Path, what: str) -> Fault:
        return Fault("segment", str(where), what, segment=number)

    named = _files(files)
    if named is None:
        return AuditedSegment(number, 0, 0, None, [fault(directory, "the catalogue does not say what its files are")])
    faults, hashed = [], 0
    for name, (length, digest) in named.items():
        problem = _file_problem(directory / name, length, digest if read_data else None)
        hashed += length if read_data else 0
        if problem:
            faults.append(fault(directory / name, problem))
    segment = None
    if not faults:
        try:
            segment = open_segment(directory, named)
        except (ColbertMCPError, ValueError, IndexError) as error:
            faults.append(fault(directory, str(error)))
    if segment is not None and (len(segment.dense), len(segment.tokens.values)) != (rows, tokens):
        faults.append(fault(directory, "it does not hold as much as the catalogue says"))
    return AuditedSegment(number, len(named), hashed, None if faults else segment, faults)


def _files(text: str) -> dict[str, tuple[int, str]] | None:
    """The files of a segment as the catalogue names them; None where it cannot be read."""
    try:
        files = {str(name): (int(item[0]), str(item[1])) for name, item in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError, IndexError, KeyError):
        return None
    return files if all("/" not in name and "\0" not in name for name in files) else None


def _file_problem(file: Path, length: int, digest: str | None) -> str | None:
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            return "it is no regular file"
        if status.st_size != length:
            return f"it has {status.st_size} bytes instead of {length}"
        if digest is None:
            return None
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None if found == digest else "its bytes are not those that were written"


def _stray(path: Path) -> Fault:
    return Fault("stray", str(path), "it belongs to no segment", path=path)


def _shown(path: object) -> str:
    return display_path(path) if isinstance(path, bytes) else CATALOGUE
