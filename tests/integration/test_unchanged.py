"""What a run over an unchanged or hardly changed tree does not do: read, cut, encode, load, or make a generation."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory

import colbert_mcp.engine
import colbert_mcp.indexing.changes
import colbert_mcp.indexing.indexer
from colbert_mcp.config import Config, IndexConfig, ModelConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import IndexMismatchError, StoreError
from colbert_mcp.store.catalog_writer import Writer
from colbert_mcp.store.vectors import Vectors

FAKE = Config(model=ModelConfig(name="fake"), store=StoreConfig(chroma=False))


def files(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number:02}.txt").write_text(f"File {number} tells of river {number} and its bank.\n")
    return folder


def generation(engine: Engine) -> int:
    return engine.index_status().generation


def touch(path: Path) -> None:
    """Another time, the same bytes."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that were read and cut."""
    seen: list[bytes] = []
    original = colbert_mcp.indexing.indexer.read_document

    def reading(path: bytes, *rest: Any) -> Any:
        seen.append(path.rpartition(b"/")[2])
        return original(path, *rest)

    monkeypatch.setattr(colbert_mcp.indexing.indexer, "read_document", reading)
    return seen


def test_an_unchanged_tree_makes_no_generation_and_touches_neither_chroma_nor_the_links(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = files(tmp_path / "tree", 25)
    engine = open_engine()
    engine.index_path(tree)
    before = generation(engine)
    statements: list[str] = []
    engine._store.writer._db.set_trace_callback(statements.append)
    monkeypatch.setattr(engine._store.vectors, "open", lambda: pytest.fail("Chroma was opened"))
    output = engine.index_path(tree)
    engine._store.writer._db.set_trace_callback(None)
    assert (output.unchanged, output.indexed, output.generation) == (25, 0, before)
    assert generation(engine) == before
    assert len(statements) < 25, "no statement for each file"
    assert not [statement for statement in statements if "document_roots" in statement and "SELECT" not in statement]


def test_a_file_with_another_time_and_the_same_bytes_is_not_cut_again(
    open_engine: EngineFactory, tmp_path: Path, reads: list[bytes]
) -> None:
    tree = files(tmp_path / "tree", 3)
    encoder = FakeEncoder()
    engine = open_engine(encoder)
    engine.index_path(tree)
    before, indexed_at = generation(engine), engine.list_sources().documents[1].indexed_at
    reads.clear()
    touch(tree / "01.txt")
    output = engine.index_path(tree)
    assert (output.unchanged, output.indexed, output.files_done, output.files_total) == (3, 0, 3, 3)
    assert (reads, encoder.encoded, generation(engine)) == ([], 3, before)
    assert engine.list_sources().documents[1].indexed_at == indexed_at
    assert (
        engine._store.writer.stamps_below(os.fsencode(tree / "01.txt"))[os.fsencode(tree / "01.txt")][2]
        == (tree / "01.txt").stat().st_mtime_ns
    )
    assert engine.search("river 1").results[0].status == "current"


def test_the_hash_is_asked_once_for_a_touched_file(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = files(tmp_path / "tree", 3)
    engine = open_engine()
    engine.index_path(tree)
    touch(tree / "01.txt")
    engine.index_path(tree)
    monkeypatch.setattr(colbert_mcp.indexing.changes, "read_regular_file", lambda *_: pytest.fail("it was read again"))
    assert engine.index_path(tree).unchanged == 3


def test_a_touched_file_that_cannot_be_read_any_more_leaves_the_index(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    tree = files(tmp_path / "tree", 3)
    engine = open_engine()
    engine.index_path(tree)
    size = (tree / "01.txt").stat().st_size
    (tree / "01.txt").write_bytes(b"\0" * size)
    output = engine.index_path(tree)
    assert (output.removed, output.skipped_by_reason) == (1, {"binary": 1})


def test_a_touched_file_joins_the_root_that_meets_it(open_engine: EngineFactory, tmp_path: Path) -> None:
    tree = files(tmp_path / "tree", 2)
    engine = open_engine()
    engine.index_path(tree / "01.txt")
    touch(tree / "01.txt")
    assert engine.index_path(tree).unchanged == 1
    engine.remove_path(tree / "01.txt")
    assert len(engine.list_sources().documents) == 2


def test_files_that_are_gone_leave_in_one_commit(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = files(tmp_path / "tree", 30)
    engine = open_engine(store=StoreConfig())
    engine.index_path(tree)
    before = generation(engine)
    for number in range(10):
        (tree / f"{number:02}.txt").unlink()
    deleted: list[list[str]] = []
    original = Vectors.delete
    monkeypatch.setattr(
        Vectors, "delete", lambda self, ids, number: (deleted.append(ids), original(self, ids, number))[1]
    )
    merged: list[object] = []
    monkeypatch.setattr(engine._store, "_merge", merged.append)
    assert engine.index_path(tree).removed == 10
    assert (generation(engine), [len(ids) for ids in deleted]) == (before + 1, [10])


def test_a_disk_that_refuses_the_end_of_a_run_leaves_what_was_there(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = files(tmp_path / "tree", 3)
    engine = open_engine()
    engine.index_path(tree)
    (tree / "01.txt").unlink()

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "finish_root", full)
        with pytest.raises(StoreError, match="No space left"):
            engine.index_path(tree)
    assert len(engine.list_sources().documents) == 3
    assert engine.index_path(tree).removed == 1


def test_many_small_changes_are_few_commits(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = files(tmp_path / "tree", 30)
    engine = open_engine()
    engine.index_path(tree)
    for path in tree.iterdir():
        path.write_text(path.read_text().replace("river", "brook"))
    before = generation(engine)
    monkeypatch.setattr(engine._store, "_merge", lambda _: None)
    assert engine.index_path(tree).indexed == 30
    assert generation(engine) == before + 1
    for path in tree.iterdir():
        path.rename(path.with_suffix(".md"))
    commits: list[int] = []
    original = Writer.put_document
    monkeypatch.setattr(
        Writer, "put_document", lambda self, *rest: (commits.append(self.generation), original(self, *rest))[1]
    )
    monkeypatch.setattr(engine._store, "_config", StoreConfig(chroma=False, commit_tokens=100))
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 1)
    engine._runs._config = engine._config.model_copy(update={"store": engine._store._config})
    assert engine.index_path(tree).reused == 30
    assert 3 <= len(set(commits)) <= 6, "what waits is bounded by tokens also where nothing is encoded"


def test_the_model_is_not_loaded_where_nothing_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = files(tmp_path / "tree", 25)
    config = FAKE.model_copy(update={"index": IndexConfig(path=str(tmp_path / "index"))})
    loaded: list[object] = []
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: (loaded.append(_), FakeEncoder())[1])

    def run(settings: Config = config) -> Any:
        engine = Engine.open(settings, create_missing=True)
        try:
            return engine.index_path(tree)
        finally:
            engine.close()

    run()
    assert len(loaded) == 1
    touch(tree / "03.txt")
    (tree / "04.txt").unlink()
    output = run()
    assert (len(loaded), output.unchanged, output.removed) == (1, 24, 1)
    (tree / "04.txt").write_text("New.\n")
    output = run()
    assert (len(loaded), output.indexed, output.notice) == (2, 1, None)
    other = config.model_copy(update={"model": ModelConfig(name="other")})
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: FakeEncoder(name="other"))
    with pytest.raises(IndexMismatchError):
        run(other)
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: FakeEncoder(content_length=9))
    with pytest.raises(IndexMismatchError):
        run(config.model_copy(update={"model": ModelConfig(name="fake", document_length=11)}))


def test_verify_finds_a_change_that_size_and_time_do_not_tell(
    open_engine: EngineFactory, tmp_path: Path, reads: list[bytes]
) -> None:
    tree = files(tmp_path / "tree", 3)
    encoder = FakeEncoder()
    engine = open_engine(encoder)
    engine.index_path(tree)
    status = (tree / "01.txt").stat()
    (tree / "01.txt").write_bytes((tree / "01.txt").read_bytes().replace(b"river", b"brook"))
    os.utime(tree / "01.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert engine.index_path(tree).unchanged == 3
    assert not engine.search("brook", mode="lexical").results
    reads.clear()
    output = engine.index_path(tree, verify=True)
    assert (output.indexed, output.unchanged, reads, encoder.encoded) == (1, 2, [b"01.txt"], 4)
    assert engine.search("brook", mode="lexical").results
    before = generation(engine)
    assert engine.index_path(tree, verify=True).unchanged == 3
    assert generation(engine) == before


def test_nothing_searched_is_lost_when_a_catalogue_is_closed_and_opened(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    tree = files(tmp_path / "tree", 3)
    engine = open_engine(store=StoreConfig())
    engine.index_path(tree)
    engine.index_path(tree)
    engine.close()
    number = max(path.name for path in (tmp_path / "index" / "chroma").iterdir())
    engine = open_engine(store=StoreConfig())
    engine.warm_up()
    engine.close()
    assert max(path.name for path in (tmp_path / "index" / "chroma").iterdir()) == number, "Chroma was still in step"
    database = sqlite3.connect(tmp_path / "index" / "catalog.sqlite")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.mark.parametrize("shut", ["", "deep"])
def test_a_folder_that_cannot_be_listed_now_loses_none_of_its_files(
    open_engine: EngineFactory, notes: Path, monkeypatch: pytest.MonkeyPatch, shut: str
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    before = [document.path for document in engine.list_sources().documents]
    (notes / "bees.txt").unlink()
    scandir = os.scandir

    def refusing(path: bytes) -> Any:
        if path == os.fsencode(notes / shut):
            raise OSError(24, "Too many open files")
        return scandir(path)

    with monkeypatch.context() as refused:
        refused.setattr(os, "scandir", refusing)
        output = engine.index_path(notes)
    assert output.skipped_by_reason == {"too many open files": 1}
    kept = [document.path for document in engine.list_sources().documents]
    assert kept == [path for path in before if shut == "" or not path.endswith("bees.txt")]
    engine.index_path(notes)
    assert len(engine.list_sources().documents) == len(before) - 1
