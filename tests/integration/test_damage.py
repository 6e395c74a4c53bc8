"""Damaged files of an index: detected or harmless, never a wrong passage."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from damaged import Ordeals, add_killed, build, damages, files_of
from support import EngineFactory, catalogue
from test_shared_engine import Served

from colbert_mcp.config import SearchConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import IndexCorruptError
from colbert_mcp.sharing.launch import stop_engine
from colbert_mcp.sharing.rendezvous import Rendezvous

NOT_SEALED = {"id", "document", "tokens", "unknown", "skipped", "untokenized", "segment", "row", "retired_at"}


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


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE chunks SET row = 999",
        "UPDATE chunks SET row = -1",
        "UPDATE chunks SET segment = 77",
        "DELETE FROM meta WHERE key = 'generation'",
        "UPDATE meta SET value = '1x' WHERE key = 'generation'",
        "UPDATE meta SET value = '[' WHERE key = 'fingerprint'",
        "UPDATE meta SET value = '7' WHERE key = 'fingerprint'",
        "UPDATE segments SET files = '{'",
        """UPDATE segments SET files = '{"tokens.npy": 1}'""",
        "UPDATE roots SET include = '{}'",
        "UPDATE roots SET exclude = 'x'",
        "DROP TRIGGER chunks_deleted; DELETE FROM chunks",
        "PRAGMA foreign_keys = OFF; DELETE FROM documents",
    ],
)
def test_what_the_catalogue_cannot_say_is_damage_and_no_crash(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, change: str
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    with catalogue(tmp_path / "index") as database:
        database.executescript(change)
    (notes / "bread.md").write_text("Another bread.\n")
    engine = open_engine()
    found = []
    for ask in (
        lambda: engine.search("queen"),
        lambda: engine.search("queen", mode="lexical"),
        lambda: engine.search("queen", path="*.txt"),
        lambda: engine.list_sources(),
        lambda: engine.index_path(notes),
        lambda: engine.search("queen"),
    ):
        try:
            ask()
        except IndexCorruptError as error:
            assert "check --repair" in str(error)  # noqa: PT017
            found.append(error)
    assert found


def test_embeddings_that_give_no_numbers_are_damage(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    for number in range(20):
        (notes / f"{number}.md").write_text(f"Note {number} tells of bees and of bread.\n")
    few = SearchConfig(min_candidates=1, candidate_growth=0)  # so that every step of the scan is taken
    engine = open_engine(search=few)
    engine.index_path(notes)
    engine.close()
    (segment,) = (tmp_path / "index" / "tokens").iterdir()
    for name in ("scales.npy", "pooled_scales.npy", "mean_scales.npy", "dense.npy"):
        file = segment / name
        raw = file.read_bytes()
        file.write_bytes(raw[:128] + b"\x00\x7e" * ((len(raw) - 128) // 2))  # not a number
        engine = open_engine(search=few)
        for mode in ("hybrid", "semantic"):
            with pytest.raises(IndexCorruptError, match="check --repair"):
                engine.search("queen", mode=mode)
        engine.close()
        file.write_bytes(raw)


def test_a_header_of_a_smaller_array_is_damage(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    (segment,) = (tmp_path / "index" / "tokens").iterdir()
    raw = (segment / "dense.npy").read_bytes()
    assert raw.count(b", 32)") == 1
    (segment / "dense.npy").write_bytes(raw.replace(b", 32)", b", 12)"))
    with pytest.raises(IndexCorruptError, match=r"dense\.npy"):
        open_engine().search("queen")


def test_sound_segments_outlive_a_catalogue_that_has_lost_their_names(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    engine, index = open_engine(), tmp_path / "index"
    engine.index_path(notes)
    engine.close()
    before = {path: path.read_bytes() for path in (index / "tokens").rglob("*.npy")}
    for change_, back in (
        ("UPDATE segments SET id = id + 100", "UPDATE segments SET id = id - 100"),
        ("DELETE FROM segments", None),
    ):
        with catalogue(index) as database:
            kept = database.execute("SELECT * FROM segments").fetchall()
            database.execute(change_)
        engine = open_engine()
        with pytest.raises(IndexCorruptError):
            engine.search("queen")
        engine.close()
        assert {path: path.read_bytes() for path in (index / "tokens").rglob("*.npy")} == before
        with catalogue(index) as database:
            if back:
                database.execute(back)
            else:
                database.executemany("INSERT INTO segments VALUES (?, ?, ?, ?)", kept)
    with catalogue(index) as database:
        database.execute("INSERT INTO garbage SELECT id FROM segments")
    engine = open_engine()
    assert engine.search("queen").results
    assert {path: path.read_bytes() for path in (index / "tokens").rglob("*.npy")} == before


def test_a_merge_does_not_give_damage_a_new_hash_and_fails_no_commit(
    open_engine: EngineFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree, index = tmp_path / "tree", tmp_path / "index"
    tree.mkdir()
    engine = open_engine(store=StoreConfig(chroma=False, max_segments=2))
    for number in range(2):
        (tree / f"{number}.txt").write_text(f"File {number} tells of the river number {number}.\n")
        engine.index_path(tree)
    engine.close()
    damaged = index / "tokens" / "000001" / "tokens.npy"
    raw = damaged.read_bytes()
    damaged.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    engine = open_engine(store=StoreConfig(chroma=False, max_segments=2))
    (tree / "2.txt").write_text("File 2 tells of the river number 2.\n")
    assert engine.index_path(tree).state == "done"
    assert "tokens.npy is damaged" in caplog.text
    assert [path.name for path in sorted((index / "tokens").iterdir())] == ["000001", "000002", "000003"]
    assert len(engine.search("river", mode="lexical").results) == 3
    damaged.write_bytes(raw)
    (tree / "3.txt").write_text("File 3 tells of the river number 3.\n")
    engine.index_path(tree)
    assert not damaged.exists()  # merged
    assert len(engine.search("river").results) == 4


def test_a_lost_part_of_an_index_is_told_not_taken_for_an_empty_one(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    engine = open_engine(store=StoreConfig())
    engine.index_path(notes)
    engine.close()
    whole = shutil.copytree(index, tmp_path / "whole")

    def reopened(lost: str) -> Engine:
        shutil.rmtree(index)
        shutil.copytree(whole, index)
        path = next(index.glob(lost))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return open_engine(store=StoreConfig())

    for lost in ("tokens", "tokens/000001", "tokens/000001/offsets.npy"):
        engine = reopened(lost)
        for mode in ("hybrid", "lexical"):
            with pytest.raises(IndexCorruptError, match=r"tokens.*is missing.*check --repair"):
                engine.search("queen", mode=mode)
        with pytest.raises(IndexCorruptError):
            engine.list_sources()
        engine.close()
    for lost in ("chroma", "chroma/001", "chroma/001/chroma.sqlite3"):
        engine = reopened(lost)
        assert engine.search("queen").results
        engine._store.vectors.open()
        assert engine.index_status().chroma == "ready"
        assert engine.search("queen").results
        engine.close()
    with pytest.raises(IndexCorruptError, match=r"lost its catalog\.sqlite; delete the directory and index again"):
        reopened("catalog.sqlite")


@pytest.fixture(scope="module")
def ordeals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordeals]:
    folder = tmp_path_factory.mktemp("ordeals")
    build(folder)
    with Ordeals(folder) as running:
        yield running


def judged(ordeals: Ordeals, seed: int, share: float, flips: int = 6) -> Counter[str]:
    """Damage a share of all files in every way, one at a time; how often that was told, and how often it was harmless."""
    draw, index = random.Random(seed), ordeals.folder / "index"
    outcomes: Counter[str] = Counter()
    for name in files_of(index):
        for how, content in damages((index / name).read_bytes(), draw, flips):
            if draw.random() > share:
                continue
            answer, wrong = ordeals.damaged(name, content, chroma=name.startswith("chroma/"))
            assert not wrong, f"{name}, {how}: {wrong[0]}"
            outcomes["told" if answer["errors"] else "harmless"] += 1
    return outcomes


def test_a_damaged_file_is_noticed_or_harmless(ordeals: Ordeals) -> None:
    outcomes = judged(ordeals, seed=1, share=0.1)
    assert outcomes["told"] > 3
    assert outcomes["harmless"] > 3


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_every_file_damaged_in_every_way_is_noticed_or_harmless(ordeals: Ordeals, seed: int) -> None:
    outcomes = judged(ordeals, seed, share=1, flips=6 if seed else 40)
    assert outcomes["told"] > 100
    assert outcomes["harmless"] > 100


def test_a_damaged_log_of_a_killed_process_is_noticed_or_harmless(tmp_path: Path) -> None:
    build(tmp_path)
    add_killed(tmp_path)
    log = "catalog.sqlite-wal"
    raw = (tmp_path / "index" / log).read_bytes()
    with Ordeals(tmp_path) as ordeals:
        for how, content in damages(raw, random.Random(3), flips=2):
            _, wrong = ordeals.damaged(log, content, chroma=False)
            assert not wrong, f"{how}: {wrong[0]}"


def test_what_is_left_beside_an_index_may_hold_anything(ordeals: Ordeals) -> None:
    for name in ("lock", "owner.json", "engine/endpoint.json", "engine/lock", "engine/log", "chroma/open", "tokens/x"):
        copy = ordeals.copy()
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"\xff\x00{[" * 100)
        answer = ordeals.run(copy, chroma=name == "chroma/open")
        assert not ordeals.wrong(answer), name
        assert answer["errors"] == [], name


def test_a_file_cut_off_under_a_running_engine_costs_one_engine(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    (segment,) = (index / "tokens").iterdir()
    raw = (segment / "tokens.npy").read_bytes()
    with Served(index) as client:
        assert not client.call("search", query="queen").get("isError")
        first = Rendezvous(index).endpoint()
        (segment / "tokens.npy").write_bytes(b"")  # reading its pages ends the engine with SIGBUS
        ended = client.call("search", query="queen")
        assert ended["isError"]
        assert "ended in the middle" in str(ended["content"]) or "tokens.npy has 0 bytes" in str(ended["content"])
        told = client.call("search", query="queen")
        assert told["isError"]
        assert "tokens.npy has 0 bytes instead of" in str(told["content"])
        (segment / "tokens.npy").write_bytes(raw)
        assert client.call("search", query="queen")["structuredContent"]["results"]
        last = Rendezvous(index).endpoint()
        assert first is not None
        assert last is not None
        assert first.pid != last.pid
    stop_engine(Rendezvous(index))


def test_an_engine_that_chroma_ends_is_followed_by_one_that_rebuilds_it(tmp_path: Path) -> None:
    build(tmp_path)
    index = tmp_path / "index"
    header = next(index.glob("chroma/001/*/header.bin"))
    raw = header.read_bytes()
    header.write_bytes(raw[:41] + bytes([raw[41] ^ 4]) + raw[42:])
    with Served(index) as client:
        # The first call may meet the end of the engine, which is then told.
        first = client.call("search", query="the river and its bank")
        assert not first.get("isError") or "engine" in str(first["content"])
        second = client.call("search", query="the river and its bank")
        assert second["structuredContent"]["results"]
    stop_engine(Rendezvous(index))
    assert not (index / "chroma" / "001").exists()
    assert not (index / "chroma" / "open").exists()
