"""gc gives disk space back, removed text leaves the disk, and neither loses anything or keeps anybody waiting."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import namedtuple
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from support import PROJECT, EngineFactory

import colbert_mcp.indexing.indexer
import colbert_mcp.store.compaction
import colbert_mcp.store.derived
import colbert_mcp.store.usage
from colbert_mcp.config import StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import PassageNotFoundError, QueryError, StoreError
from colbert_mcp.store import Store, hnsw
from colbert_mcp.store.records import VectorRecord
from colbert_mcp.store.vectors import Vectors

CHROMA = StoreConfig(commit_tokens=400)
PLAIN = StoreConfig(chroma=False, commit_tokens=400)
SECRET = "Quittenmus"
WORDS = [
    f"{first}{second}" for first in ("ot", "ri", "mi", "la", "or") for second in ("ter", "ver", "ll", "mp", "chard")
]


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 400)


def write(folder: Path, count: int, seed: int, words: int = 60, mark: str = "") -> Path:
    folder.mkdir(parents=True)
    chance = random.Random(seed)
    for number in range(count):
        text = " ".join(chance.choices(WORDS, k=words))
        (folder / f"{number:03}.txt").write_text(f"{mark} {seed} {number} {text}.\n")
    return folder


def files_that_hold(index: Path, text: str) -> set[str]:
    """Every file of the index in which the very bytes stand."""
    found = (path for path in index.rglob("*") if path.is_file())
    return {str(path.relative_to(index)) for path in found if text.lower().encode() in path.read_bytes().lower()}


def rows_only(index: Path) -> int:
    """Bytes of the segments without eight headers each, and the 0 with which offsets begin."""
    folders = list((index / "tokens").iterdir())
    files = [file for folder in folders for file in folder.iterdir()]
    return sum(file.stat().st_size for file in files) - len(folders) * (8 * 128 + 8)


def unlinked(index: Path) -> list[str]:
    """Deleted files of the index whose space this process still holds."""
    open_files = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            open_files.append(str(descriptor.readlink()))
    mapped = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in open_files + mapped if str(index) in line and line.endswith("(deleted)")]


def test_nothing_that_was_removed_is_left_in_any_file(open_engine: EngineFactory, tmp_path: Path) -> None:
    index = tmp_path / "index"
    kept, gone = write(tmp_path / "kept", 20, 1), write(tmp_path / "gone", 20, 2, mark=SECRET)
    engine = open_engine(store=CHROMA)
    engine.index_path(kept)
    engine.index_path(gone)
    (gone / "000.txt").write_text(f"{SECRET} in other words.\n")
    engine.index_path(gone)  # now there is a former passage too
    assert {Path(name).parts[0].split(".")[0] for name in files_that_hold(index, SECRET)} == {"catalog", "chroma"}
    assert engine.remove_path(gone).notice is None
    engine._store.vectors.open()  # waits for what goes on in the background
    assert files_that_hold(index, SECRET) == set(), "few passages are scrubbed without being asked"
    engine.gc()
    assert files_that_hold(index, SECRET) == set()
    engine.close()
    assert files_that_hold(index, SECRET) == set()
    assert len(open_engine(store=CHROMA).search("otter", limit=50).results) > 10


@pytest.mark.parametrize("count", [20, 520])
def test_what_chroma_writes_of_the_memory_without_using_it_is_blanked(tmp_path: Path, count: int) -> None:
    chance = np.random.default_rng(1)
    dense = [chance.random(32, np.float32) for _ in range(count)]
    records = [VectorRecord(f"{n:016}", dense[n], "Text.", {"path": "/x"}) for n in range(count)]
    vectors = Vectors(tmp_path / "chroma", records, 1, count, lambda: None)
    nearest = vectors.nearest(dense[0], 50)  # few enough for the approximate index to be exact
    vectors.close()
    (lengths,) = (tmp_path / "chroma").rglob("length.bin")
    unused = [lengths] if count > 500 else [lengths, lengths.with_name("data_level0.bin")]
    for file in unused:
        file.write_bytes((SECRET.encode() * file.stat().st_size)[: file.stat().st_size])
    if count < 500:  # opened, it would be written anew, of other memory
        hnsw.blank_unused(lengths.parent.parent)
    else:
        Vectors(tmp_path / "chroma", [], 1, count, lambda: pytest.fail("it was rebuilt")).close()
    assert files_that_hold(tmp_path / "chroma", SECRET) == set()
    last = Vectors(tmp_path / "chroma", [], 1, count, lambda: pytest.fail("it was rebuilt"))
    assert last.nearest(dense[0], 50) == nearest
    assert last.differing(records[:400], data=True) == 0
    last.close()


def test_of_many_passages_the_removed_text_leaves_chroma_when_gc_is_called(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.store.derived, "_CHEAP_RECORDS", 5)
    kept, gone = write(tmp_path / "kept", 20, 1), write(tmp_path / "gone", 20, 2, mark=SECRET)
    engine = open_engine(store=CHROMA)
    engine.index_path(kept)
    engine.index_path(gone)
    removed = engine.remove_path(gone)
    assert removed.notice is not None
    assert "colbert-mcp gc" in removed.notice
    assert all(name.startswith("chroma/") for name in files_that_hold(tmp_path / "index", SECRET))
    output = engine.gc()
    assert output.chroma_rebuilt
    assert output.notice is None
    assert files_that_hold(tmp_path / "index", SECRET) == set()


def test_after_gc_an_index_is_as_small_as_a_new_one_of_what_is_left(open_engine: EngineFactory, tmp_path: Path) -> None:
    kept, gone = write(tmp_path / "kept", 60, 1, 300), write(tmp_path / "gone", 60, 2, 300)
    new = open_engine(store=CHROMA, index=tmp_path / "new")
    new.index_path(kept)
    new.gc()
    expected = new.index_status().bytes
    few = [Path(shutil.copy(path, kept / f"few-{path.name}")) for path in sorted(gone.iterdir())[:6]]
    for path in few:
        path.write_text(path.read_text()[::-1])
    engine = open_engine(store=StoreConfig(commit_tokens=30_000))
    engine.index_path(gone)
    engine.index_path(kept)
    for path in (*few, *gone.iterdir()):
        path.unlink()
    engine.index_path(gone)
    engine.index_path(kept)
    before = engine.index_status().bytes
    output = engine.gc(0)
    after = engine.index_status().bytes
    assert {name: (part.before, part.after) for name, part in output.parts.items()} == {
        name: (before[name], after[name]) for name in before
    }
    assert output.former > 60
    assert rows_only(tmp_path / "index") == rows_only(tmp_path / "new")
    assert after["tokens"] < 1.01 * expected["tokens"] < 0.95 * before["tokens"], "fewer rows are dead than merge alone"
    assert after["catalogue"] <= 1.15 * expected["catalogue"] < before["catalogue"]
    assert after["chroma"] <= 1.15 * expected["chroma"] < before["chroma"]
    if sys.platform == "linux":
        assert unlinked(tmp_path / "index") == []


def test_a_second_gc_finds_nothing_to_do(open_engine: EngineFactory, tmp_path: Path) -> None:
    engine = open_engine(store=CHROMA)
    engine.index_path(write(tmp_path / "one", 20, 1))
    engine.remove_path(tmp_path / "one" / "003.txt")
    first = engine.gc()
    assert first.merged
    assert first.chroma_rebuilt
    second = engine.gc()
    assert (second.merged, second.chroma_rebuilt, second.generation) == (0, False, first.generation)
    assert len(engine.search("otter", limit=50).results) > 10


def test_a_chroma_that_disagreed_and_was_rebuilt_is_known_to_hold_nothing_that_was_deleted(tmp_path: Path) -> None:
    def opened(generation: int) -> Vectors:
        records = [VectorRecord(f"{n:016}", np.ones(8, np.float16), "Text.", {"path": "/x"}) for n in range(3)]
        return Vectors(tmp_path / "chroma", records, generation, 3, lambda: None)

    vectors = opened(1)
    vectors.delete(["0" * 16], 2)
    assert vectors.replaced == 1
    vectors.close()
    rebuilt = opened(2)
    assert rebuilt.replaced == 0
    rebuilt.close()
    again = opened(2)
    assert again.replaced == 0
    again.update_provenance([("0" * 16, {"path": "/y"})], 3)
    again.close()
    last = opened(3)
    assert last.replaced == 1, "the count outlives the process"
    last.close()


def test_what_gc_leaves_answers_as_before(open_engine: EngineFactory, tmp_path: Path) -> None:
    engine = open_engine(store=CHROMA)
    engine.index_path(write(tmp_path / "one", 30, 1))
    (tmp_path / "one" / "004.txt").unlink()
    engine.index_path(tmp_path / "one")
    before = engine.search("otter river", limit=20)
    engine.gc()
    after = engine.search("otter river", limit=20)
    assert [(r.id, r.text, r.maxsim, r.bm25, r.dense) for r in after.results] == [
        (r.id, r.text, r.maxsim, r.bm25, r.dense) for r in before.results
    ]
    engine.close()
    again = open_engine(store=CHROMA)
    again._store.vectors.open()
    assert again._store.vectors.is_lean(after.generation), "Chroma agrees with the catalogue at the next opening"


def test_former_passages_stay_for_the_days_that_are_asked_for(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine(store=PLAIN)
    engine.index_path(notes)
    old = engine.search("varnish").results[0].id
    (notes / "bread.md").write_text("Other text altogether.\n")
    engine.index_path(notes)
    assert engine.gc().former == 0
    assert engine.get_passage(old).passage.id == old
    assert engine.gc(0).former > 0
    with pytest.raises(PassageNotFoundError):
        engine.get_passage(old)
    with pytest.raises(QueryError, match="former_days is -1"):
        engine.gc(-1)


def test_gc_is_refused_while_a_run_goes_on(open_engine: EngineFactory, notes: Path) -> None:
    refused: list[str] = []

    def meanwhile() -> None:
        with pytest.raises(StoreError, match="indexing run") as caught:
            engine.gc()
        refused.append(str(caught.value))

    engine = open_engine(FakeEncoder(before_batch=meanwhile), PLAIN)
    engine.index_path(notes)
    assert refused
    assert engine.gc().merged >= 0


def test_searches_go_on_while_chroma_and_the_catalogue_are_written_anew(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(store=CHROMA)
    engine.index_path(write(tmp_path / "one", 30, 1))
    engine.remove_path(tmp_path / "one" / "003.txt")
    engine._store.vectors.open()
    answers: list[int] = []

    def search_meanwhile() -> None:
        thread = threading.Thread(target=lambda: answers.append(len(engine.search("otter").results)))
        thread.start()
        thread.join(30)
        assert not thread.is_alive()

    created, rewritten = Vectors._create, colbert_mcp.store.compaction.rewrite
    monkeypatch.setattr(Vectors, "_create", lambda self, number: (created(self, number), search_meanwhile())[0])
    monkeypatch.setattr(colbert_mcp.store.compaction, "rewrite", lambda path: (rewritten(path), search_meanwhile())[0])
    engine.gc()
    assert answers == [5, 5]


def test_a_search_does_without_chroma_rather_than_wait_for_a_change_of_it(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    engine = open_engine(store=CHROMA)
    engine.index_path(write(tmp_path / "one", 10, 1))
    assert engine._store.vectors.nearest(FakeEncoder().encode_query("otter").dense, 3)
    answers: list[int] = []

    def change(_: Vectors) -> None:
        thread = threading.Thread(target=lambda: answers.append(len(engine.search("otter").results)))
        thread.start()
        thread.join(30)
        assert not thread.is_alive()

    engine._store.vectors.follow(change)
    assert answers == [5]
    assert engine._store.vectors.state == "ready"


def test_what_a_reader_holds_goes_when_it_has_read(open_engine: EngineFactory, tmp_path: Path) -> None:
    index = tmp_path / "index"
    engine = open_engine(store=PLAIN)
    engine.index_path(write(tmp_path / "one", 30, 1, mark=SECRET))
    with engine._store.snapshot() as old:
        read = {f"{number:06}" for number in old.reader.segments()}
        engine.remove_path(tmp_path / "one")
        output = engine.gc()
        assert output.notice is not None
        assert "being read" in output.notice
        assert len(old.reader.passages(old.chunks.tolist())) == len(old) > 0
        assert read <= {path.name for path in (index / "tokens").iterdir()}
    assert list((index / "tokens").iterdir()) == []
    assert files_that_hold(index, SECRET) == set()
    assert engine.gc().notice is None


def test_a_disk_too_small_to_rewrite_a_part_is_told_and_nothing_is_lost(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(store=CHROMA)
    engine.index_path(write(tmp_path / "one", 30, 1))
    (tmp_path / "one" / "004.txt").unlink()
    engine.index_path(tmp_path / "one")
    before = engine.search("otter river", limit=20)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as small:
        small.setattr(colbert_mcp.store.usage.shutil, "disk_usage", lambda _: usage(1_000_000, 999_000, 1_000))
        with pytest.raises(StoreError, match=r"free disk space.*run gc again"):
            engine.gc()
    assert engine.search("otter river", limit=20).results == before.results

    def full(_: Path) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as small:
        small.setattr(colbert_mcp.store.compaction, "rewrite", full)
        with pytest.raises(StoreError, match="No space left"):
            engine.gc()
    assert [r.id for r in engine.search("otter river", limit=20).results] == [r.id for r in before.results]
    assert engine.gc().notice is None


def test_a_merge_that_the_disk_refuses_leaves_the_segments_as_they_are(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(store=PLAIN)
    engine.index_path(write(tmp_path / "one", 30, 1))
    engine.remove_path(tmp_path / "one" / "003.txt")
    before = {path.name for path in (tmp_path / "index" / "tokens").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as small:
        small.setattr(colbert_mcp.store.tokens.SegmentWriter, "finish", full)
        with pytest.raises(StoreError, match="No space left"):
            engine.gc()
    assert {path.name for path in (tmp_path / "index" / "tokens").iterdir()} == before
    assert engine.gc().merged


def test_gc_deletes_a_chroma_that_is_not_used_any_more(open_engine: EngineFactory, tmp_path: Path) -> None:
    engine = open_engine(store=CHROMA)
    engine.index_path(write(tmp_path / "one", 5, 1, mark=SECRET))
    engine.close()
    without = open_engine(store=PLAIN)
    assert "colbert-mcp gc" in str(without.remove_path(tmp_path / "one").notice)
    assert without.gc().chroma_rebuilt
    assert not (tmp_path / "index" / "chroma").exists()
    assert files_that_hold(tmp_path / "index", SECRET) == set()
    assert not without.gc().chroma_rebuilt
    without.close()
    again = open_engine(store=CHROMA)
    again._store.vectors.open()
    assert again._store.vectors.state == "ready"


KILLED = """
import os, sys
from pathlib import Path
from fake_encoder import FakeEncoder
import colbert_mcp.store.compaction
from colbert_mcp.config import Config, IndexConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.store.vectors import Vectors
point = sys.argv[2]
config = Config(index=IndexConfig(path=sys.argv[1]), store=StoreConfig(commit_tokens=400))
engine = Engine.open(config, create_missing=False, encoder=FakeEncoder())
def end(*_, **__):
    os.kill(os.getpid(), 9)
if point == "merged":
    colbert_mcp.store.merging.collect_garbage = end
elif point == "rebuilding":
    Vectors.upsert = end
elif point == "rebuilt":
    colbert_mcp.store.compaction.vacuum = end
else:
    rewritten = colbert_mcp.store.compaction.rewrite
    colbert_mcp.store.compaction.rewrite = lambda path: (rewritten(path), end())
engine.gc()
"""


@pytest.mark.parametrize("point", ["merged", "rebuilding", "rebuilt", "vacuumed"])
def test_a_kill_during_gc_is_harmless(open_engine: EngineFactory, tmp_path: Path, point: str) -> None:
    engine = open_engine(store=CHROMA)
    engine.index_path(write(tmp_path / "one", 20, 1))
    (tmp_path / "one" / "004.txt").unlink()
    engine.index_path(tmp_path / "one")
    before = engine.search("otter river", limit=20)
    engine.close()
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}"}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "index"), point], check=False, env=environment
    )
    assert killed.returncode == -9
    again = open_engine(store=CHROMA)
    again._store.vectors.open()
    assert again._store.vectors.state == "ready"
    after = again.search("otter river", limit=20)
    assert [(r.id, r.text, r.maxsim) for r in after.results] == [(r.id, r.text, r.maxsim) for r in before.results]
    with again._store.snapshot() as snapshot:
        named = {f"{number:06}" for number in snapshot.reader.segments()}
    assert {path.name for path in (tmp_path / "index" / "tokens").iterdir()} == named
    assert again.gc().notice is None


def test_an_index_that_cannot_be_written_has_no_gc(open_engine: EngineFactory, tmp_path: Path) -> None:
    open_engine(store=PLAIN).close()
    store = Store(tmp_path / "index", PLAIN, None, None)
    with pytest.raises(StoreError, match="cannot be written"):
        Engine(open_engine()._config, store, FakeEncoder()).gc()
