"""Readers are never blocked: what a snapshot reads stays until it is closed, and goes then."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory

import colbert_mcp.indexing.indexer
import colbert_mcp.store.log
import colbert_mcp.store.segments
from colbert_mcp.config import StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.scoring import NumpyScorer
from colbert_mcp.store import Snapshot
from colbert_mcp.store.segments import Segments

MERGING = StoreConfig(chroma=False, commit_tokens=1, max_segments=2)


@pytest.fixture(autouse=True)
def _commit_for_each_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 1)


def write(folder: Path, names: range, word: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number in names:
        (folder / f"{number:02}.txt").write_text(f"File {number} tells of the {word} and bank {number}.\n")
    return folder


def directories(index: Path) -> set[str]:
    return {path.name for path in (index / "tokens").iterdir()}


def segments_read(snapshot: Snapshot) -> set[str]:
    return {f"{number:06}" for number in snapshot.reader.segments()}


def contents(snapshot: Snapshot) -> tuple[list[bytes], list[str]]:
    """Every array and text that a snapshot reads, as bytes."""
    everything = np.arange(len(snapshot))
    tokens = snapshot.gather(everything)
    arrays = tokens.values, tokens.scales, tokens.offsets, snapshot.dense(everything), snapshot.chunks
    query = np.eye(32, dtype=np.float32)[:3]
    scores = snapshot.pooled_matches(NumpyScorer(), query, everything)
    texts = [passage.chunk.text for passage in snapshot.reader.passages(snapshot.chunks.tolist()).values()]
    return [array.tobytes() for array in (*arrays, scores)], texts


def mapped_files(index: Path) -> set[str]:
    """The segments that this process has mapped, deleted ones included."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split()[5]).parent.name for line in lines if f"{index}/tokens/" in line}


def test_a_snapshot_reads_the_same_over_several_merges_and_its_segments_go_when_it_is_closed(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    tree, index = write(tmp_path / "tree", range(3), "river"), tmp_path / "index"
    engine = open_engine(store=MERGING)
    engine.index_path(tree)
    with engine._store.snapshot() as old:
        read, before = segments_read(old), contents(old)
        for word in ("brook", "stream", "creek"):
            engine.index_path(write(tree, range(4), word))
            assert contents(old) == before
            assert read <= directories(index)
        with engine._store.snapshot() as new:
            assert not read & segments_read(new), "the test is about segments that were merged away"
            present = segments_read(new)
    assert directories(index) == present
    if sys.platform == "linux":
        assert mapped_files(index) <= present
    engine.index_path(write(tree, range(5), "pond"))
    assert engine._store.writer.garbage() == []


def test_of_two_snapshots_the_last_to_close_lets_the_segments_go(open_engine: EngineFactory, tmp_path: Path) -> None:
    tree = write(tmp_path / "tree", range(2), "river")
    engine = open_engine(store=MERGING)
    engine.index_path(tree)
    with engine._store.snapshot() as one:
        read = segments_read(one)
        with engine._store.snapshot() as two:
            engine.index_path(write(tree, range(4), "brook"))
            before = contents(two)
        assert read <= directories(tmp_path / "index")
        assert contents(one) == before
    assert not read & directories(tmp_path / "index")


def test_a_merge_while_a_snapshot_is_being_opened_leaves_what_it_is_about_to_read(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write(tmp_path / "tree", range(3), "river")
    engine = open_engine(store=MERGING)
    engine.index_path(tree)
    original = Segments.pin

    def merge_first(self: Segments, files: dict[int, dict[str, tuple[int, str]]]) -> object:
        monkeypatch.setattr(Segments, "pin", original)
        engine.index_path(write(tree, range(5), "brook"))
        with engine._store.snapshot() as new:
            assert not files.keys() & new.reader.segments().keys()
        self._mapped.clear()  # as if nobody had read them before
        return original(self, files)

    monkeypatch.setattr(Segments, "pin", merge_first)
    with engine._store.snapshot() as old:
        assert all("river" in text for text in contents(old)[1])
        read = segments_read(old)
        assert read <= directories(tmp_path / "index")
    assert not read & directories(tmp_path / "index")


def test_searches_go_on_whole_while_commits_merge_segments(open_engine: EngineFactory, tmp_path: Path) -> None:
    tree = write(tmp_path / "tree", range(4), "river")
    engine = open_engine(store=MERGING)
    engine.index_path(tree)
    done = threading.Event()
    problems: list[object] = []

    def look(question: Callable[[Engine], object]) -> None:
        try:
            while not done.is_set():
                question(engine)
        except BaseException as error:  # noqa: BLE001  # told in the thread of the test
            problems.append(error)

    def whole(engine: Engine) -> None:
        with engine._store.snapshot() as snapshot:
            assert len(contents(snapshot)[1]) == len(snapshot)

    def search(engine: Engine) -> None:
        output = engine.search("the bank", limit=50)
        assert {result.status for result in output.results} <= {"current", "relocated", "modified", "missing"}

    threads = [threading.Thread(target=look, args=(question,)) for question in (whole, whole, search)]
    for thread in threads:
        thread.start()
    try:
        for round_number in range(6):
            engine.index_path(write(tree, range(4 + round_number % 3), f"word{round_number}"))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert problems == []
    with engine._store.snapshot() as last:
        assert directories(tmp_path / "index") == segments_read(last)


def test_a_directory_that_the_system_refuses_to_delete_is_tried_again_at_the_next_commit_and_opening(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, index = write(tmp_path / "tree", range(3), "river"), tmp_path / "index"
    engine = open_engine(store=MERGING)
    with monkeypatch.context() as refusing:
        refusing.setattr(colbert_mcp.store.segments.shutil, "rmtree", lambda *_, **__: None)
        engine.index_path(tree)
        left = set(engine._store.writer.garbage())
        assert left
    (tree / "00.txt").write_text("One more.\n")
    engine.index_path(tree)
    assert engine._store.writer.garbage() == []
    with engine._store.snapshot() as snapshot:
        assert directories(index) == segments_read(snapshot)
    with monkeypatch.context() as refusing:
        refusing.setattr(colbert_mcp.store.segments.shutil, "rmtree", lambda *_, **__: None)
        engine.index_path(write(tree, range(3), "brook"))
        assert engine._store.writer.garbage()
        engine.close()
    again = open_engine(store=MERGING)
    assert again._store.writer.garbage() == []
    with again._store.snapshot() as snapshot:
        assert directories(index) == segments_read(snapshot)


def test_a_search_does_not_wait_for_files_that_are_being_written_or_deleted(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write(tmp_path / "tree", range(3), "river")
    engine = open_engine(store=MERGING)
    engine.index_path(tree)
    answers: list[int] = []

    def search_meanwhile() -> None:
        # In a thread of its own: one that held a lock here would otherwise pass by holding it twice.
        thread = threading.Thread(target=lambda: answers.append(len(engine.search("bank").results)))
        thread.start()
        thread.join(30)
        assert not thread.is_alive()

    deleted = colbert_mcp.store.segments.shutil.rmtree
    hashed = colbert_mcp.store.tokens._length_and_hash
    monkeypatch.setattr(
        colbert_mcp.store.segments.shutil, "rmtree", lambda *args, **how: (search_meanwhile(), deleted(*args, **how))
    )
    monkeypatch.setattr(
        colbert_mcp.store.tokens, "_length_and_hash", lambda file: (search_meanwhile(), hashed(file))[1]
    )
    engine.index_path(write(tree, range(4), "brook"))
    assert len(answers) > 10
    assert all(answers)


def test_the_log_of_the_catalogue_is_truncated_after_the_last_reader(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.store.log, "_LONG", 10_000)
    log = tmp_path / "index" / "catalog.sqlite-wal"
    tree = write(tmp_path / "tree", range(3), "river")
    engine = open_engine(FakeEncoder(), MERGING)
    engine.index_path(tree)
    with engine._store.snapshot() as old:
        before = contents(old)
        for word in ("brook", "stream", "creek"):
            engine.index_path(write(tree, range(3), word))
        assert log.stat().st_size > 10_000
        assert contents(old) == before
    assert log.stat().st_size == 0
    assert len(engine.search("creek").results) == 3
