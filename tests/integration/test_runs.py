"""Indexing runs and what several of them leave: roots, patterns, removed files, waits, and closing in the middle."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory

import colbert_mcp.engine
import colbert_mcp.indexing.indexer
from colbert_mcp.config import Config, DocumentsConfig, IndexConfig, StoreConfig
from colbert_mcp.documents import Document
from colbert_mcp.engine import Engine
from colbert_mcp.errors import PassageNotFoundError, QueryError, UnreadableDocumentError
from colbert_mcp.types import Chunk, IndexingProgress


def names(engine: Engine) -> list[str]:
    return [Path(document.path).name for document in engine.list_sources().documents]


@contextmanager
def opened(tmp_path: Path, documents: DocumentsConfig | None = None) -> Iterator[Engine]:
    """An engine that loads its model itself, with settings for documents."""
    config = Config(
        index=IndexConfig(path=str(tmp_path / "index")),
        store=StoreConfig(chroma=False),
        documents=documents or DocumentsConfig(),
    )
    engine = Engine.open(config, create_missing=True)
    try:
        yield engine
    finally:
        engine.close()


def test_the_latest_patterns_of_a_root_are_the_ones_that_are_kept(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes, include=["*.md", "*.txt"], exclude=["bees*"])
    assert names(engine) == ["bread.md"]
    (root,) = engine.list_sources().roots
    assert (root.documents, root.passages) == (1, 2)
    engine.index_path(notes, include=["*.py", "*.txt"])
    assert names(engine) == ["tide.py"]
    engine.index_path(notes, exclude=[])
    assert names(engine) == ["bees.txt", "tide.py"]
    engine.index_path(notes)
    (root,) = engine.list_sources().roots
    assert (root.include, root.exclude, root.documents, root.passages) == (["*.py", "*.txt"], [], 2, 2)
    assert root.indexed_at is not None


def test_a_file_stays_as_long_as_any_root_holds_it(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.index_path(notes / "deep")
    (notes / "deep" / "tide.py").write_text("def ebb() -> None: ...\n")
    engine.index_path(notes / "deep")
    assert engine.index_path(notes, exclude=["deep/", "bees*"]).removed == 2
    assert names(engine) == ["bread.md", "tide.py"]
    assert engine.search("ebb", mode="lexical").results
    assert engine.remove_path(notes / "deep").removed_documents == 1
    assert engine.index_path(notes, exclude=[]).indexed == 2
    assert engine.index_path(notes / "deep").unchanged == 1
    (notes / "deep" / "tide.py").write_text("def flow() -> None: ...\n")
    engine.index_path(notes / "deep")
    engine.remove_path(notes / "deep")
    assert engine.search("flow", mode="lexical").results, "the outer root holds it too"


def test_removing_a_folder_that_holds_roots_takes_them_with_it(open_engine: EngineFactory, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / "x.txt").write_text(f"Otter {name} sleeps.\n")
    engine = open_engine()
    engine.index_path(tmp_path / "all" / "a")
    engine.index_path(tmp_path / "all" / "b")
    removed = engine.remove_path(tmp_path / "all")
    assert (removed.removed_documents, removed.removed_passages, removed.kept_documents) == (2, 2, 0)
    assert removed.notice is None
    assert engine.list_sources().roots == []


def test_removing_a_root_forgets_what_was_taken_out_below_it(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    assert engine.remove_path(notes / "deep").notice is not None
    engine.remove_path(notes)
    assert engine.index_path(notes).indexed == 3


def test_what_can_no_longer_be_read_leaves_the_index(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    (notes / "bees.txt").write_bytes(b"queen\0\0bee")
    (notes / "bread.md").write_text(" \n\n")
    output = engine.index_path(notes)
    assert (output.removed, output.skipped_by_reason) == (2, {"binary": 1, "empty": 1})
    assert names(engine) == ["tide.py"]


def test_a_file_with_the_same_size_and_another_time_is_read_again(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    status = (notes / "bees.txt").stat()
    (notes / "bees.txt").write_bytes((notes / "bees.txt").read_bytes().replace(b"queen", b"drone"))
    os.utime(notes / "bees.txt", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert engine.index_path(notes).indexed == 1
    assert engine.search("drone", mode="lexical").results


def test_a_newer_reader_reads_everything_again(
    open_engine: EngineFactory, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "READER", colbert_mcp.indexing.indexer.READER + 1)
    assert engine.index_path(notes).indexed == 3


def test_a_file_whose_passages_cannot_be_proved_is_skipped(
    open_engine: EngineFactory, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Document.chunk

    def unprovable(self: Document, start: int, end: int, headings: tuple[str, ...]) -> Chunk:
        if self.record.path.endswith(b"bees.txt"):
            raise UnreadableDocumentError("bytes 0-7 do not decode to the characters cited for them")
        return original(self, start, end, headings)

    monkeypatch.setattr(Document, "chunk", unprovable)
    engine = open_engine()
    output = engine.index_path(notes)
    assert (output.state, output.indexed) == ("done", 2)
    assert [problem.reason for problem in output.problems] == [
        "bytes 0-7 do not decode to the characters cited for them"
    ]


def test_a_cancelled_run_reads_no_further(
    open_engine: EngineFactory, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 1)
    read: list[bytes] = []
    original = colbert_mcp.indexing.indexer.read_document

    def counting(path: bytes, *rest: Any) -> Document:
        read.append(path)
        return original(path, *rest)

    monkeypatch.setattr(colbert_mcp.indexing.indexer, "read_document", counting)
    engine = open_engine(FakeEncoder(before_batch=lambda: engine.cancel(notes)))
    assert engine.index_path(notes).state == "cancelled"
    assert len(read) == 1


def test_the_settings_for_documents_are_followed(notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: FakeEncoder())
    (notes / ".hidden.txt").write_text("A hidden otter.\n")
    size = (notes / "bread.md").stat().st_size
    with opened(tmp_path, DocumentsConfig(max_file_bytes=size - 1, hidden=True)) as engine:
        assert engine.index_path(notes).skipped == 1
        assert names(engine) == [".hidden.txt", "bees.txt", "tide.py"]
    with opened(tmp_path, DocumentsConfig(max_file_bytes=size)) as engine:
        engine.index_path(notes)
        assert names(engine) == ["bees.txt", "bread.md", "tide.py"]
        assert engine.get_passage(engine.search("varnish").results[0].id).passage.status == "current"
        (notes / "bread.md").write_text("Larger. " + (notes / "bread.md").read_text())
        for passage in (
            engine.search("varnish").results[0],
            engine.get_passage(engine.search("varnish").results[0].id).passage,
        ):
            assert passage.status == "missing"


def test_problems_are_listed_before_what_was_expected_and_only_as_many_as_asked_for(
    open_engine: EngineFactory, notes: Path
) -> None:
    for number in range(4):
        (notes / f".hidden{number}").write_text("x")
    (notes / "zebra.bin").write_bytes(b"\0")
    output = open_engine().index_path(notes, list_skipped=3)
    assert (output.skipped, len(output.problems)) == (5, 3)
    assert output.problems[0].path.endswith("zebra.bin")


def test_progress_counts_files_and_bytes_to_the_end(open_engine: EngineFactory, notes: Path) -> None:
    (notes / "zebra.txt").write_bytes(b"\0" * 10)
    reports: list[IndexingProgress] = []
    engine = open_engine()
    for _ in range(2):
        engine.index_path(notes, progress=reports.append)
        last = reports[-1]
        assert (last.files_done, last.files_total) == (4, 4)
        assert last.bytes_done == last.bytes_total == sum(p.stat().st_size for p in notes.rglob("*.*"))
    assert [report.files_done for report in reports if report.chunks] == sorted(
        report.files_done for report in reports if report.chunks
    )


@pytest.mark.parametrize("wait_seconds", [math.nan, -1.0, 0.0, -math.inf])
def test_a_wait_that_is_none_answers_at_once(open_engine: EngineFactory, notes: Path, wait_seconds: float) -> None:
    go_on = threading.Event()
    engine = open_engine(FakeEncoder(before_batch=lambda: go_on.wait(30)))
    assert engine.index_path(notes, wait_seconds=wait_seconds).state == "running"
    go_on.set()
    assert engine.wait_for_run(notes, math.inf).state == "done"


def test_only_the_latest_runs_are_remembered(open_engine: EngineFactory, tmp_path: Path) -> None:
    engine = open_engine()
    for number in range(23):
        (tmp_path / f"{number}.txt").write_text(f"Otter {number} sleeps.\n")
        engine.index_path(tmp_path / f"{number}.txt")
    runs = engine.index_status().runs
    assert 20 <= len(runs) <= 21
    assert runs[-1].path.endswith("/22.txt")
    assert runs[0].path.endswith(("/2.txt", "/3.txt"))


def test_closing_stops_what_runs_and_waits_for_it(notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []

    def load(_: object) -> FakeEncoder:
        (task,) = engine._runs.tasks.values()
        stopped.append(task.run.cancelled.wait(10))
        return FakeEncoder()

    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", load)
    with opened(tmp_path) as engine:
        assert engine.index_path(notes, wait_seconds=0).notice == "Loading the model."
    assert stopped == [True]
    (task,) = engine._runs.tasks.values()
    assert task.run.state == "cancelled"


def test_nothing_but_indexing_and_ranking_loads_the_model(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: FakeEncoder())
    with opened(tmp_path) as engine:
        engine.index_path(notes)

    def load(_: object) -> FakeEncoder:
        raise AssertionError

    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", load)
    with opened(tmp_path) as engine:
        found = engine.search("varnish", mode="lexical").results[0]
        assert engine.get_passage(found.id).passage.text == found.text
        status = engine.index_status()
        assert (status.model, status.device, status.document_length) == ("fake", None, 42)
        assert (status.documents, status.passages, status.roots) == (3, 4, 1)
        engine.remove_path(notes)


def test_warming_up_opens_chroma(open_engine: EngineFactory) -> None:
    engine = open_engine(store=StoreConfig())
    assert engine.index_status().chroma == "closed"
    engine.warm_up()
    assert engine.index_status().chroma != "closed"


def test_an_id_is_found_as_a_person_pastes_it(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    found = engine.search("varnish").results[0]
    assert engine.get_passage(f" {found.id.upper()}\n").passage.id == found.id
    assert engine.get_passage(found.id, 20, 20).passage.id == found.id
    for before, after in ((21, 0), (0, 21)):
        with pytest.raises(QueryError, match="between 0 and 20"):
            engine.get_passage(found.id, before, after)


def test_a_scope_holds_for_former_passages_and_lists_too(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    old = engine.search("varnish").results[0]
    (notes / "bread.md").unlink()
    engine.index_path(notes)
    scope = (os.fsencode(notes / "deep"),)
    assert engine.get_passage(old.id).notice is not None
    with pytest.raises(PassageNotFoundError):
        engine.get_passage(old.id, scope=scope)
    assert [Path(d.path).name for d in engine.list_sources(str(notes), scope=scope).documents] == ["tide.py"]
    assert [Path(d.path).name for d in engine.list_sources(str(notes / "bees.txt")).documents] == ["bees.txt"]


def test_a_list_of_sources_is_of_what_lies_at_its_path(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine = open_engine()
    (tmp_path / "other").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "moss.txt").write_text("Moss has no roots.\n")
    for root in (notes, notes / "deep", tmp_path / "other", tmp_path / "empty"):
        engine.index_path(root)

    def listed(path: Path | None, **given: Any) -> tuple[set[str], set[str]]:
        sources = engine.list_sources(None if path is None else str(path), **given)
        return {Path(root.path).name for root in sources.roots}, {Path(file.path).name for file in sources.documents}

    everything = {"bread.md", "bees.txt", "tide.py"}
    assert listed(notes) == ({notes.name, "deep"}, everything)
    assert listed(notes / "deep") == ({notes.name, "deep"}, {"tide.py"})
    assert listed(notes / "bees.txt") == ({notes.name}, {"bees.txt"})
    assert listed(tmp_path / "empty") == ({"empty"}, set())
    assert listed(tmp_path) == listed(None) == ({notes.name, "deep", "other", "empty"}, {*everything, "moss.txt"})
    for path in (notes / "none.txt", tmp_path / "othe"):
        with pytest.raises(UnreadableDocumentError, match="Nothing indexed lies at"):
            engine.list_sources(str(path))
    with pytest.raises(UnreadableDocumentError, match="Nothing indexed lies at"):
        engine.list_sources(str(tmp_path / "other"), scope=(os.fsencode(notes),))


def test_a_list_of_files_is_cut_and_says_so(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    cut = engine.list_sources(limit=2)
    assert (len(cut.documents), cut.total_documents, cut.truncated) == (2, 3, True)
    whole = engine.list_sources(limit=3)
    assert (len(whole.documents), whole.total_documents, whole.truncated) == (3, 3, False)
    for limit in (-1, 10_001):
        with pytest.raises(QueryError, match="between 0 and 10000"):
            engine.list_sources(limit=limit)


def test_the_status_and_the_notices_of_a_scope_tell_nothing_of_the_rest(
    open_engine: EngineFactory, notes: Path
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.index_path(notes / "deep")
    scope = [os.fsencode(notes / "deep")]
    inside, whole = engine.index_status(scope=scope), engine.index_status()
    assert (inside.documents, inside.roots, len(inside.runs)) == (1, 1, 1)
    assert (whole.documents, whole.roots, len(whole.runs)) == (3, 2, 2)
    assert 0 < inside.passages < whole.passages
    assert 0 < inside.characters < whole.characters
    engine.remove_path(notes / "deep")
    engine.index_path(notes)
    notice = engine.remove_path(notes / "deep" / "tide.py", scope=scope).notice
    assert notice is not None
    assert str(notes) not in notice


def test_an_empty_pattern_lets_go_of_those_before(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    assert engine.index_path(notes, include=["*.md"]).indexed == 1
    assert engine.index_path(notes).files_total == 1
    assert engine.index_path(notes, include=[""]).files_total == 3
    assert engine.list_sources().roots[0].include == []


def test_a_run_is_known_to_those_who_wait_for_it_while_others_join_it(open_engine: EngineFactory, notes: Path) -> None:
    go_on = threading.Event()
    engine = open_engine(FakeEncoder(before_batch=lambda: go_on.wait(30)))
    engine.index_path(notes, wait_seconds=0)
    missing: list[bytes] = []

    class Watched(dict[bytes, Any]):
        def pop(self, key: bytes, default: Any = None) -> Any:
            missing.append(key)
            return super().pop(key, default)

        def __delitem__(self, key: bytes) -> None:
            missing.append(key)
            super().__delitem__(key)

    engine._runs.tasks = Watched(engine._runs.tasks)
    assert engine.index_path(notes, wait_seconds=0).state == "running"
    go_on.set()
    assert engine.wait_for_run(notes, 30).state == "done"
    assert engine.index_path(notes).state == "done"
    assert missing == []
