"""What must hold of an index at any moment, whatever happened before: the catalogue, the segments and Chroma agree."""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from colbert_mcp.engine import Engine

_TABLES = (
    "SELECT id, path, size, mtime_ns, sha256, format, encoding, newline, reader, unchunked FROM documents ORDER BY id",
    "SELECT id, path, include, exclude, indexed_at IS NULL FROM roots ORDER BY id",
    "SELECT document, root FROM document_roots ORDER BY document, root",
    "SELECT id, passage_id, document, ordinal, char_start, char_end, byte_start, byte_end, sha256, text, tokens,"
    " segment, row FROM chunks ORDER BY id",
    "SELECT passage_id, path, file_sha256, char_start, char_end, sha256, text FROM former ORDER BY passage_id",
    "SELECT id, rows, tokens, files FROM segments ORDER BY id",
    "SELECT path FROM tombstones ORDER BY path",
)
State = tuple[object, ...]


class PromiseError(Exception):
    """What a kill has left is not what was promised."""


def expect(holds: bool, *what: object) -> None:
    if not holds:
        raise PromiseError(" ".join(map(str, what)))


def state_of(index: Path) -> State:
    """What the catalogue has committed, times of the clock left out; as JSON text, so that it travels."""
    database = sqlite3.connect(f"file:{index / 'catalog.sqlite'}?mode=ro", uri=True)
    try:
        tables: list[object] = [
            database.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone(),
            *(database.execute(query).fetchall() for query in _TABLES),
        ]
    finally:
        database.close()
    return tuple(json.loads(json.dumps(tables, default=lambda raw: raw.decode("utf-8", "surrogateescape"))))


def content_of(engine: Engine, questions: Sequence[str]) -> dict[str, object]:
    """What a client can see: every passage with its citation, and the answers to the questions with their scores."""
    with engine._store.snapshot() as snapshot:
        ids = sorted(stored.passage_id for stored, _, _ in snapshot.reader.passages_with_rows())
    leave_out = {"indexed_at"}
    return {
        "passages": [engine.get_passage(id_, 0, 0).passage.model_dump(mode="json", exclude=leave_out) for id_ in ids],
        "answers": [
            [result.model_dump(mode="json", exclude=leave_out) for result in engine.search(question, limit=50).results]
            for question in questions
        ],
        "sources": sorted(root.path for root in engine.list_sources().roots),
    }


def check_segments(index: Path) -> None:
    """Every segment that the catalogue names is there and complete, and there are no others."""
    database = sqlite3.connect(f"file:{index / 'catalog.sqlite'}?mode=ro", uri=True)
    named = {f"{number:06}": json.loads(files) for number, files in database.execute("SELECT id, files FROM segments")}
    garbage = database.execute("SELECT count(*) FROM garbage").fetchone()[0]
    database.close()
    there = {path.name for path in (index / "tokens").iterdir()}
    expect(there == named.keys() and not garbage, "segments", sorted(there), "instead of", sorted(named), garbage)
    for segment, files in named.items():
        folder = index / "tokens" / segment
        expect({path.name for path in folder.iterdir()} == files.keys(), "files of segment", segment)
        for name, (length, digest) in files.items():
            raw = (folder / name).read_bytes()
            expect((len(raw), hashlib.sha256(raw).hexdigest()) == (length, digest), folder / name, "is damaged")


def check_roots(index: Path) -> None:
    """A removal is whole or has not begun: every document is of a root, and none of what was taken out."""
    database = sqlite3.connect(f"file:{index / 'catalog.sqlite'}?mode=ro", uri=True)
    lost = database.execute(
        "SELECT path FROM documents WHERE id NOT IN (SELECT document FROM document_roots)"
    ).fetchall()
    kept = database.execute(
        "SELECT d.path FROM documents d JOIN tombstones t ON substr(d.path, 1, length(t.path) + 1) = CAST(t.path || '/' AS BLOB)"
    ).fetchall()
    database.close()
    expect(not lost, "of no root:", lost)
    expect(not kept, "below what was taken out:", kept)


def check_passages(engine: Engine) -> None:
    """Every live passage is found by its words and proved by its file, where that has not changed."""
    engine._store.writer._db.execute("INSERT INTO fts (fts, rank) VALUES ('integrity-check', 1)")
    with engine._store.snapshot() as snapshot:
        live = [(stored, stored.chunk.text) for stored, _, _ in snapshot.reader.passages_with_rows()]
    for stored, text in live:
        passage = engine.get_passage(stored.passage_id, 0, 0).passage
        expect(passage.text == text, "another text of", passage.path)
        file = Path(passage.path)
        raw = file.read_bytes() if file.exists() else b""
        if hashlib.sha256(raw).hexdigest() == passage.file_sha256:
            span = raw[passage.byte_start : passage.byte_end]
            expect(hashlib.sha256(span).hexdigest() == passage.sha256, "another hash of", passage.path)
            expect(passage.status == "current", passage.path, "is", passage.status)
            verdict = engine.verify_quote(text, stored.passage_id).verdict
            expect(verdict == "exact", "a quote of", passage.path, "is", verdict)
        # Of equal passages a search shows one; within its own file each is found.
        found = engine.search(text, mode="lexical", path=passage.path).results
        expect(stored.passage_id in {result.id for result in found}, "not found by its words:", text)


def check_chroma(engine: Engine) -> None:
    """Chroma holds the very records that the catalogue and the segments have."""
    derived = engine._store.vectors
    if derived.state == "off":
        return
    derived.open()
    expect(derived.state == "ready" and derived._vectors is not None, "Chroma is", derived.state)
    with engine._store._vector_source() as (source, _, _):
        records = {record.passage_id: record for record in source}
    found = derived._vectors._collection.get(include=["embeddings", "metadatas", "documents"])
    expect(sorted(found["ids"]) == sorted(records), "Chroma holds", found["ids"], "instead of", sorted(records))
    for id_, vector, metadata, text in zip(
        found["ids"], found["embeddings"], found["metadatas"], found["documents"], strict=True
    ):
        record = records[id_]
        expect((vector == record.dense.astype("float32")).all(), "another vector of", id_)
        expect(metadata == record.provenance, "another provenance of", id_, metadata, record.provenance)
        expect(text == record.text, "another text of", id_)
        nearest = derived.nearest(record.dense.astype("float32"), 50)
        expect(sorted(nearest) == sorted(records), "Chroma finds", nearest)
    for folder in (engine._store.directory / "chroma").iterdir():
        expect(folder.name in ("open", derived_folder(engine)), "Chroma has left", folder)


def derived_folder(engine: Engine) -> str:
    """The folder that Chroma uses: the latest."""
    return max(path.name for path in (engine._store.directory / "chroma").iterdir() if path.name.isdigit())
