"""Nothing is encoded twice: embeddings follow their text through renames, copies and edits, and stay bit-equal."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings
from fake_encoder import FakeEncoder
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import EngineFactory

import colbert_mcp.indexing.indexer
from colbert_mcp.config import Config, IndexConfig, SearchConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.store.tokens import SegmentWriter

NO_CHROMA = StoreConfig(chroma=False)
PARAGRAPHS = [
    f"Keeper {number} walks to the river and counts {number} otters below the old mill." for number in range(9)
]


def write(path: Path, numbers: list[int], encoding: str = "utf-8") -> None:
    """A file with some of the paragraphs, each a chunk of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n\n".join(PARAGRAPHS[number] for number in numbers).encode(encoding))


@contextmanager
def opened(index: Path, encoder: FakeEncoder, store: StoreConfig = NO_CHROMA) -> Iterator[Engine]:
    config = Config(index=IndexConfig(path=str(index)), store=store, search=SearchConfig(min_candidates=1000))
    engine = Engine.open(config, create_missing=True, encoder=encoder)
    try:
        yield engine
    finally:
        engine.close()


def contents(engine: Engine) -> dict[str, tuple[object, ...]]:
    """Every passage by its id: where it stands, what it says, and the very bytes of its embeddings."""
    with engine._store.snapshot() as snapshot:
        stored = snapshot.reader.passages(snapshot.chunks.tolist())
        found = {}
        for position, chunk in enumerate(snapshot.chunks.tolist()):
            tokens = snapshot.gather(np.array([position]))
            dense = snapshot.dense(np.array([position]))
            bits = (tokens.values.tobytes(), tokens.scales.tobytes(), dense.tobytes())
            found[stored[chunk].passage_id] = (stored[chunk].path, stored[chunk].chunk, stored[chunk].stamp, *bits)
    return found


def texts(engine: Engine) -> set[str]:
    with engine._store.snapshot() as snapshot:
        return {p.chunk.text_sha256 for p in snapshot.reader.passages(snapshot.chunks.tolist()).values()}


def rows(index: Path) -> list[tuple[int, int]]:
    """(rows, token embeddings) of each segment."""
    database = sqlite3.connect(index / "catalog.sqlite")
    try:
        return database.execute("SELECT rows, tokens FROM segments ORDER BY id").fetchall()
    finally:
        database.close()


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder(content_length=20)


def test_a_renamed_file_is_not_encoded_again(open_engine: EngineFactory, encoder: FakeEncoder, tmp_path: Path) -> None:
    write(tmp_path / "tree" / "a.txt", [0, 1, 2])
    engine = open_engine(encoder)
    first = engine.index_path(tmp_path / "tree")
    assert (first.chunks, first.reused, encoder.encoded) == (3, 0, 3)
    old = engine.search(PARAGRAPHS[1]).results[0]
    (tmp_path / "tree" / "deep").mkdir()
    (tmp_path / "tree" / "a.txt").rename(tmp_path / "tree" / "deep" / "b.txt")
    second = engine.index_path(tmp_path / "tree")
    assert (second.indexed, second.removed, second.chunks, second.reused, second.tokens) == (1, 1, 0, 3, 0)
    assert encoder.encoded == 3
    new = engine.search(PARAGRAPHS[1]).results[0]
    assert (new.text, new.maxsim, Path(new.path).name, new.status) == (old.text, old.maxsim, "b.txt", "current")
    assert engine.get_passage(old.id).passage.status == "relocated"
    assert len(rows(tmp_path / "index")) == 1, "no segment was written for it"


def test_of_a_changed_file_only_what_is_new_is_encoded(
    open_engine: EngineFactory, encoder: FakeEncoder, tmp_path: Path
) -> None:
    write(tmp_path / "tree" / "a.txt", [0, 1, 2, 3])
    engine = open_engine(encoder)
    engine.index_path(tmp_path / "tree")
    write(tmp_path / "tree" / "a.txt", [3, 0, 5, 1])
    output = engine.index_path(tmp_path / "tree")
    assert (output.chunks, output.reused, encoder.encoded) == (1, 3, 5)
    assert output.tokens == len(encoder.tokenize([PARAGRAPHS[5]])[0].ids)


def test_equal_texts_are_encoded_once_and_share_a_row_whatever_their_encoding(
    open_engine: EngineFactory, encoder: FakeEncoder, tmp_path: Path
) -> None:
    write(tmp_path / "tree" / "a.txt", [0, 1, 0])
    write(tmp_path / "tree" / "b.txt", [1, 2], "utf-16")
    engine = open_engine(encoder)
    output = engine.index_path(tmp_path / "tree")
    assert (output.chunks, output.reused, encoder.encoded) == (3, 2, 3)
    assert rows(tmp_path / "index")[0][0] == 3
    write(tmp_path / "tree" / "d.txt", [2, 1])
    output = engine.index_path(tmp_path / "tree")
    assert (output.chunks, output.reused) == (0, 2)
    results = engine.search(PARAGRAPHS[0], limit=50).results
    assert {r.text for r in results} == {PARAGRAPHS[0], PARAGRAPHS[1], PARAGRAPHS[2]}


def test_a_row_lives_as_long_as_any_passage_has_it_and_moves_for_all_of_them(
    open_engine: EngineFactory, encoder: FakeEncoder, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    write(tree / "a.txt", [0, 1, 2, 3, 4])
    write(tree / "b.txt", [4, 3])
    write(tree / "c.txt", [3, 4, 3])
    engine = open_engine(encoder)
    engine.index_path(tree)
    (tree / "a.txt").unlink()
    engine.index_path(tree)
    ((count, _),) = rows(tmp_path / "index")
    assert count == 2, "three of five rows were dead, and the others were written once"
    with opened(tmp_path / "fresh", FakeEncoder(content_length=20)) as fresh:
        fresh.index_path(tree)
        assert contents(engine) == contents(fresh)
    write(tree / "d.txt", [3, 4])
    engine.index_path(tree)
    assert encoder.encoded == 5


def test_an_interrupted_commit_leaves_shared_rows_as_they_were(
    open_engine: EngineFactory, encoder: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    write(tree / "a.txt", [0, 1])
    engine = open_engine(encoder)
    engine.index_path(tree)
    before = contents(engine)
    write(tree / "a.txt", [0, 2])
    write(tree / "b.txt", [1])

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(SegmentWriter, "finish", fail)
        with pytest.raises(ZeroDivisionError):
            engine.index_path(tree)
    assert contents(engine) == before
    assert [path.name for path in (tmp_path / "index" / "tokens").iterdir()] == ["000001"]
    assert engine.index_path(tree).reused == 2


def test_a_file_that_goes_from_one_root_to_another_keeps_its_embeddings_if_the_new_root_is_indexed_first(
    open_engine: EngineFactory, encoder: FakeEncoder, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write(one / "a.txt", [0, 1])
    write(one / "b.txt", [2])
    write(two / "c.txt", [3])
    engine = open_engine(encoder)
    engine.index_path(one)
    engine.index_path(two)
    (one / "a.txt").rename(two / "a.txt")
    assert engine.index_path(two).reused == 2
    assert engine.index_path(one).removed == 1
    assert encoder.encoded == 4
    assert {Path(d.path) for d in engine.list_sources().documents} == {one / "b.txt", two / "a.txt", two / "c.txt"}


def test_a_rename_inside_nested_roots_is_followed_by_both(
    open_engine: EngineFactory, encoder: FakeEncoder, tmp_path: Path
) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    write(outer / "a.txt", [0])
    write(inner / "b.txt", [1, 2])
    engine = open_engine(encoder)
    engine.index_path(outer)
    assert engine.index_path(inner).unchanged == 1
    (inner / "b.txt").rename(outer / "c.txt")
    out = engine.index_path(inner)
    assert (out.removed, engine.index_status().documents) == (1, 2), "the outer root still holds what it knows of it"
    out = engine.index_path(outer)
    assert (out.indexed, out.removed, out.reused, encoder.encoded) == (1, 1, 2, 3)
    (outer / "c.txt").rename(inner / "d.txt")
    assert engine.index_path(outer).reused == 2
    assert engine.index_path(inner).unchanged == 1
    roots = {Path(root.path).name: root.documents for root in engine.list_sources().roots}
    assert roots == {"outer": 2, "inner": 1}
    assert engine.remove_path(outer).kept_documents == 1
    assert [Path(d.path).name for d in engine.list_sources().documents] == ["d.txt"]
    assert engine.search(PARAGRAPHS[2]).results[0].text == PARAGRAPHS[2]
    assert encoder.encoded == 3


def test_chroma_records_of_reused_passages_lead_to_their_tokens_also_after_merges(
    open_engine: EngineFactory, encoder: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 1)
    tree = tmp_path / "tree"
    for number in range(6):
        write(tree / f"{number}.txt", [number, (number + 1) % 6])
    engine = open_engine(encoder, StoreConfig(commit_tokens=1, max_segments=3))
    engine.index_path(tree)
    (tree / "1.txt").rename(tree / "moved.txt")
    shutil.copy(tree / "2.txt", tree / "copy.txt")
    engine.index_path(tree)
    assert encoder.encoded == 6
    engine.close()
    newest = max((tmp_path / "index" / "chroma").iterdir())
    with chromadb.PersistentClient(str(newest), settings=Settings(anonymized_telemetry=False)) as client:
        found = client.get_collection("passages", embedding_function=None).get(
            include=["metadatas", "documents", "embeddings"]
        )
    assert len(found["ids"]) == 14
    for text, place, dense in zip(found["documents"], found["metadatas"], found["embeddings"], strict=True):
        segment = tmp_path / "index" / "tokens" / str(place["segment"])
        tokens = np.load(segment / "tokens.npy", allow_pickle=False)
        scales = np.load(segment / "scales.npy", allow_pickle=False)
        span = slice(place["token_start"], place["token_start"] + place["token_count"])
        expected = encoder.encode_documents(encoder.tokenize([text]))[0]
        np.testing.assert_allclose(
            tokens[span] * scales[span, None].astype(np.float32), expected.token_embeddings, atol=0.01
        )
        np.testing.assert_allclose(dense, expected.dense, atol=1e-3)


EDIT = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 5), st.lists(st.integers(0, 8), min_size=1, max_size=5)),
    st.tuples(st.just("rename"), st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.just("copy"), st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.just("encode"), st.integers(0, 5), st.lists(st.integers(0, 8), min_size=1, max_size=5)),
    st.tuples(st.just("remove"), st.integers(0, 5), st.none()),
    st.tuples(st.just("touch"), st.integers(0, 5), st.integers(1, 10**9)),
)


def edit(tree: Path, kind: str, number: int, value: Any) -> None:
    """One change of the tree; what there is nothing to do for is left out."""
    path = tree / f"{number % 2}" / f"{number}.txt"
    if kind == "write":
        write(path, value)
    elif kind == "encode":
        write(path, value, "utf-16")
    elif not path.exists():
        return
    elif kind == "remove":
        path.unlink()
    elif kind == "touch":
        os.utime(path, ns=(value, value))
    else:
        target = tree / f"{value % 2}" / f"{value}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        if target != path:
            (shutil.move if kind == "rename" else shutil.copy)(path, target)


@settings(
    max_examples=25, deadline=None, phases=set(Phase) - {Phase.shrink}, suppress_health_check=[HealthCheck.too_slow]
)
@given(runs=st.lists(st.lists(EDIT, min_size=1, max_size=6), min_size=1, max_size=5), single=st.booleans())
def test_after_any_edits_the_index_is_that_of_the_tree_and_only_new_texts_were_encoded(
    runs: list[list[tuple[str, int, Any]]], single: bool
) -> None:
    """In a single commit a run, or in one a file, each of which merges segments."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        commit = 10**6 if single else 1
        patch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", commit)
        tree, encoder = Path(folder) / "tree", FakeEncoder(content_length=20)
        tree.mkdir()
        with opened(
            Path(folder) / "index", encoder, StoreConfig(chroma=False, max_segments=2, commit_tokens=commit)
        ) as engine:
            for number, edits in enumerate(runs):
                for change in edits:
                    edit(tree, *change)
                known, before = texts(engine), encoder.encoded
                output = engine.index_path(tree)
                with opened(Path(folder) / f"fresh{number}", FakeEncoder(content_length=20)) as fresh:
                    fresh.index_path(tree)
                    assert contents(engine) == contents(fresh)
                    wanted = texts(fresh)
                    for query in ("How many otters did keeper 3 count?", PARAGRAPHS[number]):
                        answers = [
                            e.search(query, limit=50, mode="semantic", max_tokens=10**6) for e in (engine, fresh)
                        ]
                        one, two = ({r.text: r.maxsim for r in answer.results} for answer in answers)
                        assert one == two
                assert encoder.encoded - before == output.chunks
                # What leaves one file in a commit and comes to another in a later one is encoded again.
                assert output.chunks == len(wanted - known) if single else output.chunks >= len(wanted - known)
