"""The store's guarantees: commits, segments, Chroma, locks, and what it refuses to open."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings
from fake_encoder import FakeEncoder
from support import EngineFactory

import colbert_mcp.indexing.indexer
from colbert_mcp.config import StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import (
    IndexCorruptError,
    IndexLockedError,
    IndexMismatchError,
    IndexNotFoundError,
    StoreError,
)
from colbert_mcp.store import Store
from colbert_mcp.store.records import VectorRecord
from colbert_mcp.store.tokens import SegmentWriter, open_segment, stored_rows
from colbert_mcp.store.vectors import Vectors

NO_CHROMA = StoreConfig(chroma=False)
SMALL_COMMITS = StoreConfig(chroma=True, commit_tokens=1, max_segments=3)


def write_files(folder: Path, count: int, word: str = "river") -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        text = f"File {number} tells of the {word} number {number} and its bank.\n"
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8-sig")  # the mark is of the file, not of the text


def chroma_records(index: Path) -> dict[str, dict[str, object]]:
    """Every record of the newest Chroma directory, by id, read by a client of its own."""
    newest = max((index / "chroma").iterdir())
    with chromadb.PersistentClient(str(newest), settings=Settings(anonymized_telemetry=False)) as client:
        records = client.get_collection("passages", embedding_function=None).get(include=["metadatas", "documents"])
    rows = zip(records["ids"], records["metadatas"], records["documents"], strict=True)
    return {passage: {**metadata, "document": text} for passage, metadata, text in rows}


def test_every_chroma_record_leads_to_its_bytes_and_its_tokens_also_after_merges(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 1)  # a commit for each file
    write_files(tmp_path / "files", 9)
    encoder = FakeEncoder()
    engine = open_engine(encoder, SMALL_COMMITS)
    engine.index_path(tmp_path / "files")
    write_files(tmp_path / "files", 4, "brook")
    engine.index_path(tmp_path / "files")
    engine.close()
    records = chroma_records(tmp_path / "index")
    assert len(records) == 9
    for record in records.values():
        raw = Path(str(record["path"])).read_bytes()[record["byte_start"] : record["byte_end"]]
        assert raw.decode() == record["document"]
        segment = tmp_path / "index" / "tokens" / str(record["segment"])
        tokens = np.load(segment / "tokens.npy", allow_pickle=False)
        scales = np.load(segment / "scales.npy", allow_pickle=False)
        rows = slice(record["token_start"], record["token_start"] + record["token_count"])
        expected = encoder.encode_documents(encoder.tokenize([raw.decode()]))[0].token_embeddings
        np.testing.assert_allclose(tokens[rows] * scales[rows, None].astype(np.float32), expected, atol=0.01)


def test_chroma_keeps_a_short_log_because_every_change_replays_it(tmp_path: Path) -> None:
    vectors = Vectors(tmp_path / "chroma", [], 0, 0, lambda: None)
    for start in range(0, 3000, 200):
        records = [
            VectorRecord(f"{number:016}", np.ones(8, np.float16), f"Text {number}.", {"path": f"/{number}"})
            for number in range(start, start + 200)
        ]
        vectors.upsert(records, start)
    with sqlite3.connect(tmp_path / "chroma" / "001" / "chroma.sqlite3") as database:
        logged = database.execute("SELECT count(*) FROM embeddings_queue").fetchone()[0]
    database.close()
    vectors.close()
    assert logged <= 1000


def test_a_segment_that_no_commit_named_is_deleted_at_the_next_opening(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    open_engine().index_path(notes)
    left = tmp_path / "index" / "tokens" / "000099"
    left.mkdir()
    (left / "tokens.npy").write_bytes(b"half")
    (tmp_path / "index" / "lock").touch()
    copy = shutil.copytree(tmp_path / "index", tmp_path / "copy")
    engine = open_engine(index=copy)
    assert not (copy / "tokens" / "000099").exists()
    assert engine.search("varnish").results


def test_a_search_sees_one_generation_while_commits_go_on(open_engine: EngineFactory, tmp_path: Path) -> None:
    write_files(tmp_path / "files", 3)
    open_engine().index_path(tmp_path / "files")
    store = Store.open(shutil.copytree(tmp_path / "index", tmp_path / "copy"), NO_CHROMA, create_missing=False)
    with store.snapshot() as before:
        documents = [document.id for document in before.reader.documents()]
        store.forget(lambda _: documents)
        assert len(before) == 3
        assert len(before.reader.passages(before.chunks.tolist())) == 3
        assert len(before.gather(np.arange(3)).offsets) == 4
        with store.snapshot() as after:
            assert len(after) == 0
            assert after.generation > before.generation
    store.close()


def test_a_second_opener_is_told_who_holds_the_index(open_engine: EngineFactory, tmp_path: Path) -> None:
    open_engine()
    with pytest.raises(IndexLockedError, match=rf"process {os.getpid()} .*--index"):
        Store.open(tmp_path / "index", NO_CHROMA, create_missing=False)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from colbert_mcp.config import StoreConfig; from colbert_mcp.store import Store\n"
        "store = Store.open(Path(sys.argv[1]), StoreConfig(chroma=False), create_missing=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "index")], check=False)
    assert killed.returncode == -9
    Store.open(tmp_path / "index", NO_CHROMA, create_missing=False).close()


def test_an_index_of_another_format_version_is_refused(open_engine: EngineFactory, tmp_path: Path) -> None:
    open_engine().close()
    with sqlite3.connect(tmp_path / "index" / "catalog.sqlite") as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(IndexMismatchError, match="format version 99"):
        Store.open(tmp_path / "index", NO_CHROMA, create_missing=True)


def test_an_index_of_another_model_is_refused_and_left_as_it_is(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine(FakeEncoder(name="one"))
    engine.index_path(notes)
    before = engine.index_status()
    engine.close()
    other = open_engine(FakeEncoder(name="two"))
    with pytest.raises(IndexMismatchError, match=r"made with the model one.*two differs in digest"):
        other.search("varnish")
    with pytest.raises(IndexMismatchError):
        other.index_path(notes)
    assert other.index_status().generation == before.generation
    assert other.search("varnish", mode="lexical").results


def test_a_folder_of_other_files_is_not_taken_for_an_index(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(IndexNotFoundError, match="not an index"):
        Store.open(tmp_path, NO_CHROMA, create_missing=True)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_a_missing_index_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError, match="colbert-mcp index"):
        Store.open(tmp_path / "none", NO_CHROMA, create_missing=False)
    assert not (tmp_path / "none").exists()


def test_a_lost_catalogue_is_damage_not_an_empty_index(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    (tmp_path / "index" / "catalog.sqlite").unlink()
    with pytest.raises(IndexCorruptError, match="lost its catalog"):
        Store.open(tmp_path / "index", NO_CHROMA, create_missing=True)


@pytest.mark.parametrize("damage", [b"", b"not a database at all, but long enough to be read as one" * 40])
def test_a_damaged_catalogue_is_a_typed_error(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, damage: bytes
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    (tmp_path / "index" / "catalog.sqlite").write_bytes(damage)
    with pytest.raises(IndexCorruptError):
        Store.open(tmp_path / "index", NO_CHROMA, create_missing=False)


@pytest.mark.parametrize(
    "name",
    [
        "tokens.npy",
        "scales.npy",
        "offsets.npy",
        "pooled.npy",
        "pooled_scales.npy",
        "means.npy",
        "mean_scales.npy",
        "dense.npy",
    ],
)
def test_a_truncated_or_lost_segment_file_is_a_typed_error(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, name: str
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    file = next((tmp_path / "index" / "tokens").iterdir()) / name
    file.write_bytes(file.read_bytes()[:-1])
    engine = open_engine()
    with pytest.raises(IndexCorruptError, match=name):
        engine.search("varnish")
    file.unlink()
    with pytest.raises(IndexCorruptError, match=name):
        engine.search("varnish")


def test_a_planted_pickle_is_not_loaded(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    segment = next((tmp_path / "index" / "tokens").iterdir())
    canary = tmp_path / "canary"

    class Planted:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (canary,)  # type: ignore[return-value]

    np.save(segment / "dense.npy", np.array([Planted()], object), allow_pickle=True)
    with sqlite3.connect(tmp_path / "index" / "catalog.sqlite") as database:
        files = json.loads(database.execute("SELECT files FROM segments").fetchone()[0])
        files["dense.npy"][0] = (segment / "dense.npy").stat().st_size
        database.execute("UPDATE segments SET files = ?", (json.dumps(files),))
    database.close()
    with pytest.raises(IndexCorruptError, match=r"dense\.npy"):
        open_engine().search("varnish")
    assert not canary.exists()


def test_a_chroma_that_was_not_closed_is_rebuilt(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine = open_engine(store=StoreConfig())
    engine.index_path(notes)
    engine.close()
    expected = chroma_records(tmp_path / "index")
    (tmp_path / "index" / "chroma" / "001" / "chroma.sqlite3").write_bytes(b"torn")
    (tmp_path / "index" / "chroma" / "open").touch()
    engine = open_engine(store=StoreConfig())
    assert engine.search("varnish").results
    engine.close()
    assert chroma_records(tmp_path / "index") == expected
    assert [path.name for path in (tmp_path / "index" / "chroma").iterdir()] == ["002"]


def test_a_chroma_of_another_generation_is_rebuilt(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine = open_engine(store=StoreConfig())
    engine.index_path(notes)
    engine.close()
    (notes / "bread.md").write_text("Nothing but rye.\n")
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    engine = open_engine(store=StoreConfig())
    engine.warm_up()
    engine.close()
    texts = {record["document"] for record in chroma_records(tmp_path / "index").values()}
    assert "Nothing but rye." in texts
    assert len(texts) == 3


def test_a_read_only_index_is_searched_but_not_changed(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")}
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere; the end-to-end test uses real modes
    engine = open_engine(store=StoreConfig())
    engine.warm_up()
    assert engine.search("varnish").results[0].status == "current"
    assert engine.index_status().read_only
    with pytest.raises(StoreError, match="cannot be written"):
        engine.index_path(notes)
    with pytest.raises(StoreError, match="cannot be written"):
        engine.remove_path(notes)
    engine.close()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")} == before


def test_a_full_disk_is_a_typed_error_and_the_old_generation_stands(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    (notes / "new.txt").write_text("Something new about otters.\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            engine.index_path(notes)
    assert engine.search("varnish").results
    assert engine.search("otters", mode="lexical").results == []
    assert engine.index_path(notes).indexed == 1
    assert engine.search("otters", mode="lexical").results


def test_an_engine_is_closed_cleanly(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine: Engine = open_engine(store=StoreConfig())
    engine.index_path(notes)
    engine.close()
    names = {path.name for path in (tmp_path / "index").iterdir()}
    assert names == {"catalog.sqlite", "tokens", "chroma", "lock"}
    assert not (tmp_path / "index" / "chroma" / "open").exists()


def test_what_is_released_is_read_again_the_same(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "000001", 8, 8)
    rows = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    writer.append(stored_rows(rows, rows[0]))
    segment = open_segment(tmp_path / "000001", writer.finish().files)
    before = [array.copy() for array in (segment.tokens.values, segment.pooled.values, segment.dense)]
    segment.release()
    for array, copy in zip((segment.tokens.values, segment.pooled.values, segment.dense), before, strict=True):
        np.testing.assert_array_equal(array, copy)
