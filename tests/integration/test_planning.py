"""A dry run says what a run then does, and writes nothing."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory

import colbert_mcp.engine
import colbert_mcp.indexing.planning
from colbert_mcp.config import Config, IndexConfig, ModelConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import IndexMismatchError, PathNotAllowedError, UnreadableDocumentError
from colbert_mcp.results import IndexOutput

COUNTS = (
    "indexed",
    "unchanged",
    "removed",
    "skipped",
    "skipped_by_reason",
    "chunks",
    "reused",
    "tokens",
    "files_total",
)


def dump(index: Path) -> list[str]:
    database = sqlite3.connect(f"file:{index / 'catalog.sqlite'}?mode=ro", uri=True)
    try:
        tables = ("meta", "roots", "documents", "document_roots", "chunks", "former", "segments", "tombstones")
        return [str(row) for table in tables for row in database.execute(f"SELECT * FROM {table}")]  # noqa: S608
    finally:
        database.close()


def counts(output: IndexOutput) -> dict[str, object]:
    return {name: getattr(output, name) for name in COUNTS}


def test_a_plan_says_what_the_run_then_does(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder(content_length=12)
    engine = open_engine(encoder)
    shutil.copy(notes / "bees.txt", notes / "copy.txt")
    (notes / "picture.bin").write_bytes(b"\0\1")
    (notes / "blank.txt").write_text(" \n")

    def planned_then_done() -> IndexOutput:
        before, encoded = dump(tmp_path / "index"), encoder.encoded
        planned = engine.index_path(notes, dry_run=True)
        assert (dump(tmp_path / "index"), encoder.encoded) == (before, encoded)
        assert planned.state == "planned"
        done = engine.index_path(notes)
        assert (done.state, done.plan) == ("done", None)
        assert counts(planned) == counts(done)
        assert planned.plan is not None
        assert not planned.plan.estimated
        assert planned.plan.new + planned.plan.changed == done.indexed
        return planned

    first = planned_then_done()
    assert first.plan is not None
    assert (first.plan.new, first.plan.changed, first.reused, first.skipped) == (4, 0, 2, 2)
    (notes / "bread.md").write_text((notes / "bread.md").read_text() + "\nA new paragraph on rye.\n")
    (notes / "bees.txt").unlink()
    (notes / "deep" / "tide.py").rename(notes / "tide.py")
    os.utime(notes / "copy.txt", ns=(1, 1))
    second = planned_then_done()
    assert second.plan is not None
    assert (second.plan.new, second.plan.changed, second.unchanged, second.removed) == (1, 1, 1, 2)
    assert second.chunks < second.reused
    (notes / "bread.md").write_bytes(b"\0\1")
    assert planned_then_done().removed == 1
    assert planned_then_done().chunks == 0


def test_a_plan_keeps_the_patterns_of_the_root_and_checks_new_ones(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes, include=["*.md"])
    assert engine.index_path(notes, dry_run=True).files_total == 1
    assert engine.index_path(notes, include=[], dry_run=True).indexed == 2
    assert engine.list_sources().roots[0].include == ["*.md"]
    with pytest.raises(UnreadableDocumentError, match="not a pattern|stars"):
        engine.index_path(notes, exclude=["*a*b*c*d*e*"], dry_run=True)
    with pytest.raises(PathNotAllowedError):
        engine.index_path("/", dry_run=True)


def test_a_plan_with_verify_finds_what_size_and_time_do_not_tell(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    status = (notes / "bees.txt").stat()
    (notes / "bees.txt").write_bytes((notes / "bees.txt").read_bytes().replace(b"queen", b"drone"))
    os.utime(notes / "bees.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert engine.index_path(notes, dry_run=True).indexed == 0
    plan = engine.index_path(notes, dry_run=True, verify=True)
    assert (plan.indexed, plan.unchanged) == (1, 2)


def test_of_a_large_tree_a_sample_is_read_and_the_rest_estimated_by_suffix(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / f"{number:02}.txt").write_text(f"Otter {number:02} swims in the wide river below the mill. " * 8)
        (tree / f"{number:02}.bin").write_bytes(b"\0" * 400)
    engine = open_engine()
    exact = engine.index_path(tree, dry_run=True)
    monkeypatch.setattr(colbert_mcp.indexing.planning, "_READ_BYTES", 9_000)
    estimate = engine.index_path(tree, dry_run=True)
    assert exact.plan is not None
    assert estimate.plan is not None
    assert (exact.plan.estimated, estimate.plan.estimated) == (False, True)
    assert 1 <= len(estimate.problems) < 40 == exact.skipped
    assert estimate.plan.new == exact.plan.new == 40
    assert (estimate.chunks, estimate.tokens) == (exact.chunks, exact.tokens)
    assert engine.index_path(tree, dry_run=True).model_copy(update={"seconds": 0}) == estimate.model_copy(
        update={"seconds": 0}
    )
    engine.index_path(tree)
    for path in tree.iterdir():
        os.utime(path, ns=(1, 1))
    touched = engine.index_path(tree, dry_run=True)
    assert (touched.indexed, touched.unchanged, touched.chunks) == (0, 40, 0)
    for path in tree.glob("*.txt"):
        path.write_text(path.read_text().replace("river", "brook"))
    changed = engine.index_path(tree, dry_run=True)
    assert changed.plan is not None
    assert (changed.plan.new, changed.plan.changed, changed.unchanged, changed.chunks) == (0, 40, 0, exact.chunks)
    monkeypatch.setattr(colbert_mcp.indexing.planning, "_READ_SECONDS", -1.0)
    nothing = engine.index_path(tree, dry_run=True)
    assert nothing.plan is not None
    assert (nothing.chunks, nothing.plan.estimated) == (0, True)
    assert (nothing.plan.new, nothing.plan.changed) == (40, 40)


def test_time_and_space_come_from_what_the_index_has_seen(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    text = "Otter {} swims in the wide river below the mill. " * 120
    (tree / "a.txt").write_text(text.format(*range(120)))
    engine = open_engine()
    first = engine.index_path(tree, dry_run=True)
    assert first.plan is not None
    assert first.plan.seconds is None
    assert first.plan.bytes == 112 * first.tokens, "of the built-in model, without Chroma"
    engine.index_path(tree)
    rate = float(engine._store.writer.meta("tokens_per_second") or 0)
    assert rate > 0
    (tree / "b.txt").write_text(text.format(*range(120, 240)))
    monkeypatch.setattr(colbert_mcp.indexing.planning, "_ENOUGH_PASSAGES", 1)
    second = engine.index_path(tree, dry_run=True)
    assert second.plan is not None
    assert second.plan.seconds == round(second.tokens / rate, 1)
    status = engine.index_status()
    part = status.bytes
    assert second.plan.bytes == round((part["catalogue"] + part["tokens"]) / status.tokens * second.tokens)


def test_a_plan_needs_no_model(notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: pytest.fail("the model was loaded"))
    for name, estimated in (("builtin", False), ("another/model", True)):
        config = Config(
            index=IndexConfig(path=str(tmp_path / name.replace("/", "-"))),
            model=ModelConfig(name=name),
            store=StoreConfig(chroma=False),
        )
        engine = Engine.open(config, create_missing=True)
        output = engine.index_path(notes, dry_run=True)
        engine.close()
        assert output.plan is not None
        assert (output.plan.new, output.plan.estimated) == (3, estimated)
        assert output.chunks >= 3
        assert (output.plan.bytes is None) == estimated


def test_a_loaded_model_of_another_index_is_refused_as_it_would_be_by_the_run(
    open_engine: EngineFactory, notes: Path
) -> None:
    engine = open_engine(FakeEncoder(name="one"))
    engine.index_path(notes)
    engine.close()
    with pytest.raises(IndexMismatchError):
        open_engine(FakeEncoder(name="two")).index_path(notes, dry_run=True)
