"""Damaged files of an index: detected or harmless, never a wrong passage."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import EngineFactory

from colbert_mcp.engine import Engine
from colbert_mcp.errors import IndexCorruptError

NOT_SEALED = {"id", "document", "tokens", "unknown", "skipped", "untokenized", "segment", "row", "retired_at"}


@contextmanager
def catalogue(index: Path) -> Iterator[sqlite3.Connection]:
    """The catalogue, read and changed by a connection of its own."""
    database = sqlite3.connect(index / "catalog.sqlite", isolation_level=None)
    try:
        yield database
    finally:
        database.close()


def columns(index: Path, table: str) -> dict[str, object]:
    """The columns of a table, each with a value that no row has."""
    with catalogue(index) as database:
        kinds = {row[1]: row[2] for row in database.execute(f"PRAGMA table_info({table})")}
    values: dict[str, object] = {"INTEGER": 123_456, "TEXT": "other", "BLOB": b"other"}
    return {name: values[kind] for name, kind in kinds.items()}


def change(index: Path, table: str, column: str, value: object, **key: object) -> None:
    (name, wanted), *_ = key.items()
    with catalogue(index) as database:
        assert database.execute(f"UPDATE {table} SET {column} = ? WHERE {name} = ?", (value, wanted)).rowcount == 1


def refuses(engine: Engine, passage_id: str, query: str) -> None:
    """Neither a search nor the id leads to the passage; the message names a file and what mends it, and no text."""
    for ask in (
        lambda: engine.get_passage(passage_id),
        lambda: engine.search(query, mode="lexical"),
        lambda: engine.verify_quote("A queen cell means swarming", passage_id),
    ):
        with pytest.raises(IndexCorruptError, match="check --repair") as raised:
            ask()
        assert "queen" not in str(raised.value)


def test_no_changed_column_of_a_passage_is_cited(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine, index = open_engine(), tmp_path / "index"
    engine.index_path(notes)
    queen = engine.search("queen", mode="lexical").results[0]
    with catalogue(index) as database:
        (before,) = database.execute("SELECT * FROM chunks WHERE passage_id = ?", (queen.id,)).fetchall()
    changed = columns(index, "chunks")
    for (column, value), original in zip(changed.items(), before, strict=True):
        if column in NOT_SEALED | {"passage_id"}:
            continue
        change(index, "chunks", column, value, passage_id=queen.id)
        refuses(engine, queen.id, "queen")
        change(index, "chunks", column, original, passage_id=queen.id)
    change(index, "chunks", "passage_id", "0123456789abcdef", passage_id=queen.id)
    refuses(engine, "0123456789abcdef", "queen")
    change(index, "chunks", "passage_id", queen.id, passage_id="0123456789abcdef")
    assert engine.get_passage(queen.id).passage.text == queen.text


def test_no_changed_fact_of_a_file_is_cited(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine, index = open_engine(), tmp_path / "index"
    engine.index_path(notes)
    queen = engine.search("queen", mode="lexical").results[0]
    path = bytes(notes / "bees.txt")
    with catalogue(index) as database:
        (document,) = database.execute("SELECT id FROM documents WHERE path = ?", (path,)).fetchone()
        for column in ("path", "sha256", "format", "encoding", "newline", "indexed_at"):
            (original,) = database.execute(f"SELECT {column} FROM documents WHERE id = ?", (document,)).fetchone()
            other = b"/elsewhere/bees.txt" if column == "path" else "other"
            change(index, "documents", column, other, id=document)
            refuses(engine, queen.id, "queen")
            change(index, "documents", column, original, id=document)
    assert engine.get_passage(queen.id).passage.status == "current"


def test_no_changed_column_of_a_former_passage_is_cited(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    engine, index = open_engine(), tmp_path / "index"
    engine.index_path(notes)
    queen = engine.search("queen", mode="lexical").results[0]
    (notes / "bees.txt").write_text("Nothing but wasps.\n")
    engine.index_path(notes)
    before = engine.get_passage(queen.id)
    assert before.passage.text == queen.text
    with catalogue(index) as database:
        (row,) = database.execute("SELECT * FROM former WHERE passage_id = ?", (queen.id,)).fetchall()
    for (column, value), original in zip(columns(index, "former").items(), row, strict=True):
        if column in NOT_SEALED | {"passage_id"}:
            continue
        change(index, "former", column, value, passage_id=queen.id)
        with pytest.raises(IndexCorruptError, match="check --repair"):
            engine.get_passage(queen.id)
        change(index, "former", column, original, passage_id=queen.id)
    assert engine.get_passage(queen.id) == before


def test_no_changed_neighbour_is_shown_and_none_is_left_out(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    (notes / "long.txt").write_text("\n\n".join(f"Paragraph {n}: {'word ' * 30}" for n in range(6)))
    engine, index = open_engine(), tmp_path / "index"
    engine.index_path(notes)
    found = engine.search("Paragraph 2", mode="lexical").results[0]
    with catalogue(index) as database:
        ((after, text, ordinal),) = database.execute(
            "SELECT n.passage_id, n.text, n.ordinal FROM chunks c JOIN chunks n ON n.document = c.document"
            " AND n.ordinal = c.ordinal + 1 WHERE c.passage_id = ?",
            (found.id,),
        )
    assert engine.get_passage(found.id).after_text == text
    for column, value, original in (("text", "Wrong.", text), ("ordinal", ordinal + 10, ordinal)):
        change(index, "chunks", column, value, passage_id=after)
        with pytest.raises(IndexCorruptError):
            engine.get_passage(found.id, 1, 2)
        with pytest.raises(IndexCorruptError):
            engine.verify_quote("Paragraph 2", path=notes / "long.txt")
        change(index, "chunks", column, original, passage_id=after)
    with catalogue(index) as database:
        database.execute("DELETE FROM chunks WHERE passage_id = ?", (after,))
    # Without the passage between them, the words around it would seem to stand together.
    with pytest.raises(IndexCorruptError, match=r"long\.txt are not whole"):
        engine.verify_quote("Paragraph 2", path=notes / "long.txt")
    with pytest.raises(IndexCorruptError, match=r"long\.txt are not whole"):
        engine.get_passage(found.id, 1, 2)


def test_an_index_of_ids_that_leads_to_another_passage_is_noticed(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    engine, index = open_engine(), tmp_path / "index"
    engine.index_path(notes)
    engine.close()
    with catalogue(index) as database:
        rows = database.execute("SELECT passage_id, id FROM chunks WHERE id > 1 ORDER BY id LIMIT 2").fetchall()
    (wanted, own), (_, other) = rows
    raw = (index / "catalog.sqlite").read_bytes()
    # The cell of SQLite's own index of ids: its header's length, a text of 16 bytes, an integer of one; the values.
    cell = b"\x03\x2d\x01" + wanted.encode()
    assert raw.count(cell + bytes([own])) == 1
    (index / "catalog.sqlite").write_bytes(raw.replace(cell + bytes([own]), cell + bytes([other])))
    with pytest.raises(IndexCorruptError, match=wanted):
        open_engine().get_passage(wanted)


def test_a_changed_extracted_text_is_not_searched_for_a_passage(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    page = notes / "page.html"
    page.write_text("<p>The heron waits at the weir.</p>")
    engine, index = open_engine(), tmp_path / "index"
    engine.index_path(notes)
    heron = engine.search("heron", mode="lexical").results[0]
    page.write_text("<p>Nothing before.</p><p>The heron waits at the weir.</p><p>More.</p>")
    engine.index_path(notes)
    assert engine.get_passage(heron.id).passage.status in ("current", "relocated")
    with catalogue(index) as database:
        database.execute("UPDATE extracts SET text = CAST(substr(text, 1, length(text) - 1) || x'00' AS BLOB)")
    with pytest.raises(IndexCorruptError, match=r"page\.html is damaged"):
        engine.get_passage(heron.id)
