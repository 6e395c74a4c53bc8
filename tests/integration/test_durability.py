"""What is on the disk and when: order of a commit, what is removed for good, and what damage is noticed."""

import ast
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory, catalogue

import colbert_mcp.indexing.indexer
from colbert_mcp.config import StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import (
    IndexCorruptError,
    IndexLockedError,
    IndexMismatchError,
    PassageNotFoundError,
    StoreError,
)
from colbert_mcp.store import Store
from colbert_mcp.store.catalog_writer import Writer
from colbert_mcp.store.tokens import SegmentWriter, open_segment, stored_rows

NO_CHROMA = StoreConfig(chroma=False)


def segments(index: Path) -> list[Path]:
    return sorted((index / "tokens").iterdir())


def write_files(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number:02}.txt").write_text(f"File {number} tells of the river number {number} and its bank.\n")


def test_a_segment_is_durable_before_the_catalogue_names_it(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    engine = open_engine()
    synced: set[tuple[int, int]] = set()
    named: list[int] = []
    fsync = os.fsync

    def watching(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced.add((status.st_dev, status.st_ino))
        with catalogue(index) as database:
            named.append(database.execute("SELECT count(*) FROM segments").fetchone()[0])

    monkeypatch.setattr(os, "fsync", watching)
    engine.index_path(notes)
    (segment,) = segments(index)
    for path in (*segment.iterdir(), segment, segment.parent):
        assert (path.stat().st_dev, path.stat().st_ino) in synced, path
    assert set(named) == {0}
    with catalogue(index) as database:
        ((files,),) = database.execute("SELECT files FROM segments").fetchall()
    for name, (length, digest) in json.loads(files).items():
        raw = (segment / name).read_bytes()
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (length, digest)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """(device, inode) of everything that was synced since the test began."""
    found: set[tuple[int, int]] = set()
    fsync = os.fsync

    def watching(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        found.add((status.st_dev, status.st_ino))

    monkeypatch.setattr(os, "fsync", watching)
    return found


def is_synced(path: Path, synced: set[tuple[int, int]]) -> bool:
    return (path.stat().st_dev, path.stat().st_ino) in synced


def test_a_new_index_is_durable_with_its_name(tmp_path: Path, synced: set[tuple[int, int]]) -> None:
    Store.open(tmp_path / "index", NO_CHROMA, create_missing=True).close()
    assert is_synced(tmp_path / "index", synced)
    assert is_synced(tmp_path, synced)
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["catalog.sqlite", "lock", "tokens"]


def test_chroma_is_durable_before_it_is_trusted(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, synced: set[tuple[int, int]]
) -> None:
    engine = open_engine(store=StoreConfig())
    engine.index_path(notes)
    chroma = tmp_path / "index" / "chroma"
    assert is_synced(chroma, synced), "its marker"
    synced.clear()
    engine.close()
    assert not (chroma / "open").exists()
    files = [path for path in chroma.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert is_synced(path, synced), path


def test_a_commit_of_the_catalogue_is_durable(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "index", NO_CHROMA, create_missing=True)
    assert store.writer._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert store.writer._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()
    assert stat.S_IMODE((tmp_path / "index").stat().st_mode) == 0o700


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "index", NO_CHROMA, create_missing=True)

    def fail_halfway() -> None:
        with store.transaction() as writer:
            writer.put_root(b"/notes", (), ())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    with store.snapshot() as snapshot:
        assert snapshot.reader.roots() == []
        assert snapshot.generation == 0
    store.close()


def test_no_word_of_what_was_removed_stays_in_the_catalogue(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    (notes / "secret.txt").write_text("The zanzibarine password is quokkaberry. " * 50)
    engine = open_engine()
    engine.index_path(notes)
    (notes / "secret.txt").write_text("The zanzibarine password is wombatfruit. " * 50)
    engine.index_path(notes)
    (notes / "more.txt").write_text("Something else.\n")
    engine.index_path(notes)
    engine.remove_path(notes / "secret.txt")
    engine.close()
    raw = (tmp_path / "index" / "catalog.sqlite").read_bytes()
    assert b"varnish" in raw
    for word in (b"zanzibar", b"quokkaber", b"wombatfruit"):
        assert word not in raw


def test_a_removed_passage_is_not_answered_by_its_old_id(open_engine: EngineFactory, notes: Path) -> None:
    (notes / "deep-sea.txt").write_text("The anglerfish carries a lantern.\n")
    engine = open_engine()
    engine.index_path(notes)
    lantern = engine.search("anglerfish", mode="lexical").results[0]
    tide = engine.search("tide", mode="lexical").results[0]
    (notes / "deep-sea.txt").unlink()
    (notes / "deep" / "tide.py").unlink()
    engine.index_path(notes)
    (notes / "deep" / "ebb.txt").write_text("The ebb follows.\n")
    engine.index_path(notes)
    ebb = engine.search("ebb", mode="lexical").results[0]
    engine.remove_path(notes / "deep")
    for gone in (tide, ebb):
        with pytest.raises(PassageNotFoundError):
            engine.get_passage(gone.id)
    assert engine.get_passage(lantern.id).passage.status == "missing"


def test_former_passages_expire(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    varnish = engine.search("varnish", mode="lexical").results[0]
    queen = engine.search("queen", mode="lexical").results[0]
    for name in ("bread.md", "bees.txt"):
        (notes / name).unlink()
    engine.index_path(notes)
    engine.close()
    with catalogue(tmp_path / "index") as database:
        database.execute("UPDATE former SET retired_at = '2000-01-01T00:00:00+00:00' WHERE passage_id = ?", (queen.id,))
    engine = open_engine()
    assert engine.get_passage(varnish.id).passage.text == varnish.text
    with pytest.raises(PassageNotFoundError):
        engine.get_passage(queen.id)


def test_a_passage_that_comes_back_is_no_former_one_any_more(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    queen = engine.search("queen", mode="lexical").results[0]
    original = (notes / "bees.txt").read_bytes()
    for content, former in ((b"Wasps.", 1), (original, 1)):
        (notes / "bees.txt").write_bytes(content)
        engine.index_path(notes)
        with catalogue(tmp_path / "index") as database:
            assert database.execute("SELECT count(*) FROM former").fetchone() == (former,)
    answer = engine.get_passage(queen.id)
    assert (answer.notice, answer.passage.status) == (None, "current")


def test_large_runs_are_committed_as_they_go(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 10)
    write_files(tmp_path / "files", range(6))
    held: list[int] = []
    engine = open_engine(
        FakeEncoder(before_batch=lambda: held.append(engine.index_status().documents)),
        StoreConfig(chroma=False, commit_tokens=30),
    )
    engine.index_path(tmp_path / "files")
    assert held == [0, 0, 0, 3, 3, 3]


def test_many_segments_are_merged_and_score_as_one_did(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "files"
    write_files(files, range(12))
    one = open_engine()
    one.index_path(files)

    def found(engine: Engine) -> list[dict[str, object]]:
        results = engine.search("bank of river 7", limit=50, max_tokens=99_999).results
        return [result.model_dump(exclude={"indexed_at"}) for result in results]

    expected = found(one)
    assert len(expected) == 12
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 1)
    counts = set()
    for most in (3, 50):
        index = tmp_path / f"many{most}"
        many = open_engine(store=StoreConfig(chroma=False, commit_tokens=1, max_segments=most), index=index)
        many.index_path(files)
        assert found(many) == expected
        many.close()
        counts.add(len(segments(index)))
        with catalogue(index) as database:
            named = {f"{number:06}" for (number,) in database.execute("SELECT id FROM segments")}
            assert named == {path.name for path in segments(index)}
            assert database.execute("SELECT count(*) FROM garbage").fetchone() == (0,)
    assert counts == {3, 12}


def test_rows_that_no_passage_uses_are_reclaimed(open_engine: EngineFactory, tmp_path: Path) -> None:
    files = tmp_path / "files"
    write_files(files, range(8))
    engine = open_engine()
    engine.index_path(files)
    before = sum(path.stat().st_size for path in segments(tmp_path / "index")[0].iterdir())
    for number in (1, 3, 5):
        (files / f"{number:02}.txt").unlink()
    engine.index_path(files)
    (segment,) = segments(tmp_path / "index")
    assert sum(path.stat().st_size for path in segment.iterdir()) < before
    found = engine.search("river number", limit=50).results
    assert {Path(result.path).name for result in found} == {f"{number:02}.txt" for number in (0, 2, 4, 6, 7)}
    for number in (0, 2, 4, 6, 7):
        (files / f"{number:02}.txt").unlink()
    engine.index_path(files)
    assert segments(tmp_path / "index") == []


def test_a_snapshot_gathers_the_embeddings_of_the_passages_asked_for(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    encoder = FakeEncoder()
    engine = open_engine(encoder)
    for first in (6, 3, 0):  # three segments, and the order of paths is not the order of commits
        write_files(files, range(first, first + 3))
        engine.index_path(files)
    with engine._store.snapshot() as snapshot:
        assert len({segment for segment, *_ in snapshot.reader.rows()}) == 3
        positions = np.array([7, 0, 4, 8, 2])
        texts = [snapshot.reader.passages([chunk])[chunk].chunk.text for chunk in snapshot.chunks[positions].tolist()]
        encoded = encoder.encode_documents(encoder.tokenize(texts))
        tokens = snapshot.gather(positions)
        for index, document in enumerate(encoded):
            rows = slice(int(tokens.offsets[index]), int(tokens.offsets[index + 1]))
            stored = tokens.values[rows] * tokens.scales[rows, None].astype(np.float32)
            np.testing.assert_allclose(stored, document.token_embeddings, atol=0.01)
        np.testing.assert_allclose(snapshot.dense(positions), [item.dense for item in encoded], atol=1e-3)
        for number, document in enumerate(encoded):
            # Of one row of a segment, of some, and of all: each has its own way.
            for asked in (positions[[number]], positions[[number, 0]], positions, np.arange(9)):
                own = int(np.flatnonzero(asked == positions[number])[0])
                for scores in (
                    snapshot.pooled_matches(encoder.scorer, document.token_embeddings, asked).mean(axis=0),
                    snapshot.best_matches(encoder.scorer, document.token_embeddings, asked).mean(axis=0),
                ):
                    assert (len(scores), int(scores.argmax())) == (len(asked), own)
                    assert float(scores[own]) == pytest.approx(1, abs=0.02)
                means = snapshot.mean_scores(encoder.scorer, document.token_embeddings, asked)
                mean = document.token_embeddings.mean(axis=0)
                assert float(means[own]) == pytest.approx(float(mean @ mean), abs=0.01)
        unknown = np.array([0, 10**6])
        assert snapshot.positions(unknown).tolist() == []
        assert snapshot.positions(np.array([10**6, snapshot.chunks[5]])).tolist() == [5]


def test_a_run_that_failed_or_was_cancelled_leaves_no_files(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 10)
    file = tmp_path / "long.txt"
    file.write_text(
        "\n\n".join(f"Paragraph {number} tells of an otter that swims in the river." for number in range(9))
    )
    encoder = FakeEncoder(content_length=12)
    engine = open_engine(encoder)

    def fail() -> None:
        if encoder.encoded:
            raise ZeroDivisionError

    encoder.before_batch = fail
    with pytest.raises(ZeroDivisionError):
        engine.index_path(file)
    assert segments(tmp_path / "index") == []

    def cancel() -> None:
        if encoder.encoded:
            engine.cancel(file)

    encoder.encoded, encoder.before_batch = 0, cancel
    cancelled = engine.index_path(file)
    assert (cancelled.state, cancelled.indexed) == ("cancelled", 0)
    assert cancelled.chunks < 9
    assert segments(tmp_path / "index") == []
    assert engine.list_sources().roots[0].indexed_at is None
    encoder.before_batch = lambda: None
    assert engine.index_path(file).chunks == 9
    assert engine.list_sources().roots[0].indexed_at is not None


def test_a_refused_commit_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(tmp_path / "index", NO_CHROMA, create_missing=True)
    fingerprint: dict[str, object] = {"model": "fake", "dimension": 2, "dense_dimension": 2}
    rows = np.eye(2, dtype=np.float32)
    with store.transaction() as writer:
        root = writer.put_root(b"/notes", (), ())
    batch = store.batch(fingerprint, 2, 2)
    batch.append("a", rows, rows[0])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            store.commit(batch, root)
    assert segments(tmp_path / "index") == []
    again = store.batch(fingerprint, 2, 2)
    again.append("a", rows, rows[0])
    assert again.segment == batch.segment
    store.abandon(again)
    store.close()


def test_a_segment_is_named_together_with_its_documents_or_not_at_all(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[str]:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    engine = open_engine()
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "put_document", full)
        with pytest.raises(StoreError, match="No space left"):
            engine.index_path(notes)
    with catalogue(tmp_path / "index") as database:
        assert database.execute("SELECT count(*) FROM segments").fetchone() == (0,)
    assert segments(tmp_path / "index") == []
    assert engine.index_path(notes).indexed == 3


def test_a_database_of_someone_else_is_refused_and_given_back(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    with catalogue(tmp_path / "index") as database:
        database.execute("CREATE TABLE mine (id)")
    for _ in range(2):
        with pytest.raises(IndexCorruptError, match="not a colbert-mcp catalogue"):
            Store.open(tmp_path / "index", NO_CHROMA, create_missing=True)
        assert not (tmp_path / "index" / "owner.json").exists()


def test_a_holder_whose_name_cannot_be_read_is_another_process(open_engine: EngineFactory, tmp_path: Path) -> None:
    open_engine()
    for written in ("", "[]", "{}", '{"pid": 1, "command": null, "since": 2}'):
        (tmp_path / "index" / "owner.json").write_text(written)
        with pytest.raises(IndexLockedError, match="in use by another process"):
            Store.open(tmp_path / "index", NO_CHROMA, create_missing=False)


def test_a_model_under_another_name_is_the_same_and_every_other_difference_is_told(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "index", NO_CHROMA, create_missing=True)
    made: dict[str, object] = {"model": "/models/one", "digest": "d", "document_length": 256, "dimension": 2}
    store.batch(made, 2, 2)
    store.check_fingerprint({**made, "model": "/models/moved"})
    with pytest.raises(IndexMismatchError, match=r"differs in document_length \(256 in the index, 128 now\)\."):
        store.check_fingerprint({**made, "document_length": 128})
    with pytest.raises(IndexMismatchError, match=r"differs in chunker\."):
        store.check_fingerprint({**made, "chunker": 2})
    store.close()


def test_texts_cut_in_another_way_do_not_join_an_index(
    open_engine: EngineFactory, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "CHUNKER", "another")
    with pytest.raises(IndexMismatchError, match="chunker"):
        open_engine().index_path(notes)


def test_an_index_that_was_not_closed_is_not_read_without_its_log(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_engine().index_path(notes)
    copy = shutil.copytree(tmp_path / "index", tmp_path / "copy")
    assert (copy / "catalog.sqlite-wal").stat().st_size
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "catalog.sqlite")
    with pytest.raises(StoreError, match="not closed cleanly"):
        Store.open(copy, NO_CHROMA, create_missing=False)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokens.npy", lambda rows: rows[:-1]),
        ("tokens.npy", lambda rows: rows.astype(np.float32)),
        ("scales.npy", lambda rows: rows[:-1]),
        ("pooled.npy", lambda rows: rows[:, 0]),
        ("pooled_scales.npy", lambda rows: rows[:-1]),
        ("pooled.npy", lambda rows: rows[:, :, :-1]),
        ("pooled.npy", lambda rows: rows[:, :-1]),
        ("means.npy", lambda rows: rows[:-1]),
        ("means.npy", lambda rows: rows[:, :, :-1]),
        ("mean_scales.npy", lambda rows: rows[:-1]),
        ("dense.npy", lambda rows: rows[:-1]),
        ("dense.npy", lambda rows: rows.astype(np.float32)),
        ("offsets.npy", lambda rows: rows[[0, 2, 1, 3, 4]]),
        ("offsets.npy", lambda rows: rows + (rows == 0)),
        ("offsets.npy", lambda rows: rows[:0]),
    ],
)
def test_arrays_that_do_not_fit_together_are_damage(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    (segment,) = segments(tmp_path / "index")
    np.save(segment / name, change(np.load(segment / name, allow_pickle=False)), allow_pickle=False)
    with catalogue(tmp_path / "index") as database:
        files = json.loads(database.execute("SELECT files FROM segments").fetchone()[0])
        files[name][0] = (segment / name).stat().st_size
        database.execute("UPDATE segments SET files = ?", (json.dumps(files),))
    with pytest.raises(IndexCorruptError, match=f"{name}|do not fit together"):
        open_engine().search("varnish")


def test_rows_are_not_copied_from_a_file_that_ends_too_soon(tmp_path: Path) -> None:
    rows = np.eye(8, dtype=np.float32)
    whole = SegmentWriter(tmp_path / "whole", 8, 8)
    whole.append(stored_rows(rows, rows[0]))
    whole.finish()
    file = tmp_path / "whole" / "tokens.npy"
    file.write_bytes(file.read_bytes()[:-1])
    copy = SegmentWriter(tmp_path / "copy", 8, 8)
    with pytest.raises(IndexCorruptError, match=r"tokens\.npy is shorter"):
        copy.copy(tmp_path / "whole", [0], {})
    copy.abandon()


def test_a_segment_file_that_has_grown_is_damage(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    with (segments(tmp_path / "index")[0] / "dense.npy").open("ab") as file:
        file.write(b"more")
    with pytest.raises(IndexCorruptError, match=r"dense\.npy has \d+ bytes instead of \d+"):
        open_engine().search("varnish")


def test_a_text_that_was_changed_in_the_catalogue_is_not_cited(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    queen = engine.search("queen", mode="lexical").results[0]
    with catalogue(tmp_path / "index") as database:
        database.execute("UPDATE chunks SET text = replace(text, 'swarming', 'honey')")
    with pytest.raises(IndexCorruptError, match=rf"{queen.id}' of .*bees\.txt is damaged.*check --repair") as raised:
        engine.get_passage(queen.id)
    assert "honey" not in str(raised.value)
    with catalogue(tmp_path / "index") as database:
        database.execute("UPDATE chunks SET text = CAST(x'ff' AS TEXT)")
    with pytest.raises(IndexCorruptError, match="catalogue is damaged"):
        engine.get_passage(queen.id)


def test_a_removal_waits_for_the_run_that_goes_on(open_engine: EngineFactory, notes: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        reached.set()
        go_on.wait(30)

    engine = open_engine(FakeEncoder(before_batch=pause))
    engine.index_path(notes, wait_seconds=0)
    reached.wait(30)
    removed: list[int] = []
    remover = threading.Thread(target=lambda: removed.append(engine.remove_path(notes).removed_documents))
    remover.start()
    go_on.set()
    remover.join()
    assert removed == [3]
    assert engine.index_status().documents == 0


def test_an_index_that_was_replaced_at_its_path_is_left_alone_by_who_had_the_former(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    replaced: list[bool] = []

    def replace() -> None:
        if not replaced:
            replaced.append(True)
            shutil.rmtree(index)
            other = open_engine(store=NO_CHROMA)
            other.index_path(notes)
            other.close()
            engine.cancel(notes)

    engine = open_engine(FakeEncoder(before_batch=replace), store=StoreConfig(chroma=False, commit_tokens=1))
    with suppress(StoreError):
        engine.index_path(notes)
    with suppress(StoreError):
        engine.close()
    again = open_engine(store=NO_CHROMA)
    assert again.check(read_data=True).sound
    assert len(again.list_sources().documents) == 3


def test_segments_are_mapped_without_what_fails_where_threads_use_it_at_once(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    with engine._store.snapshot() as snapshot:
        ((number, files),) = snapshot.reader.segments().items()

    def fails(*_: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr(ast, "literal_eval", fails)
    folder = tmp_path / "index" / "tokens" / f"{number:06}"
    assert len(open_segment(folder, files).tokens.offsets) > 1
