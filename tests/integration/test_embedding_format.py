"""Token embeddings kept in int8 or in float16: both are searched alike, also in one index, and gc converts."""

from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory

from colbert_mcp.config import StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.store.tokens import SegmentWriter, format_of, open_segment, stored_rows

INT8, FLOAT16 = (StoreConfig(chroma=False, embedding_format=name) for name in ("int8", "float16"))


def formats(index: Path) -> set[str]:
    return {format_of(folder) for folder in (index / "tokens").iterdir()}


def the_format(engine: Engine, *scope: Path) -> tuple[str, int]:
    """The format of new token embeddings, and how many passages have theirs in another, as ``index_status`` says."""
    status = engine.index_status(scope=[bytes(path) for path in scope])
    return status.embedding_format, status.kept_otherwise


def scores(engine: Engine) -> dict[str, float]:
    found = engine.search("varnish of a hungry queen", mode="semantic", limit=50).results
    return {passage.id: passage.maxsim for passage in found if passage.maxsim is not None}


def test_tokens_in_float16_are_exact_and_ranked_as_in_int8(
    open_engine: EngineFactory, notes: Path, tmp_path: Path
) -> None:
    exact, rounded = (open_engine(store=store, index=tmp_path / store.embedding_format) for store in (FLOAT16, INT8))
    for engine in (exact, rounded):
        engine.index_path(notes)
    assert (formats(tmp_path / "float16"), formats(tmp_path / "int8")) == ({"float16"}, {"int8"})
    assert scores(exact) == pytest.approx(scores(rounded), abs=0.01)
    assert len(scores(exact)) > 1
    encoder = FakeEncoder()
    with exact._store.snapshot() as snapshot:
        passages = snapshot.reader.passages(snapshot.chunks.tolist())
        for position, chunk in enumerate(snapshot.chunks.tolist()):
            (encoded,) = encoder.encode_documents(encoder.tokenize([passages[chunk].chunk.text]))
            tokens = snapshot.gather(np.array([position]))
            np.testing.assert_array_equal(tokens.values, encoded.token_embeddings.astype(np.float16))


@pytest.mark.parametrize(("before", "after"), [(INT8, FLOAT16), (FLOAT16, INT8)], ids=["to float16", "to int8"])
def test_an_index_whose_format_was_changed_is_searched_in_both_and_converted_by_gc(
    open_engine: EngineFactory, notes: Path, tmp_path: Path, before: StoreConfig, after: StoreConfig
) -> None:
    engine = open_engine(store=before)
    engine.index_path(notes)
    expected = scores(engine)
    engine.close()
    engine = open_engine(store=after)
    (notes / "more.md").write_text("# More\n\nA queen of varnish is hungry for more.\n")
    engine.index_path(notes)
    assert formats(tmp_path / "index") == {"int8", "float16"}
    mixed = scores(engine)
    assert {name: mixed[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert the_format(engine) == (after.embedding_format, len(expected))
    assert the_format(engine, notes / "more.md") == (after.embedding_format, 0)
    reclaimed = engine.gc()
    assert (reclaimed.embedding_format, reclaimed.converted) == (after.embedding_format, len(expected))
    assert (the_format(engine), engine.gc().converted) == ((after.embedding_format, 0), 0)
    assert formats(tmp_path / "index") == {after.embedding_format}
    assert scores(engine) == pytest.approx(mixed, abs=0.01)
    assert engine.check(read_data=True).sound


def test_tokens_are_the_same_however_often_they_were_converted(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    writer = SegmentWriter(tmp_path / "0", 8, 8, "int8")
    writer.append(stored_rows(rows, rows[0]))
    files = writer.finish().files
    first = open_segment(tmp_path / "0", files).tokens
    for number in range(1, 7):
        target = SegmentWriter(tmp_path / str(number), 8, 8, "float16" if number % 2 else "int8")
        target.copy(tmp_path / str(number - 1), [0], files)
        files = target.finish().files
    last = open_segment(tmp_path / "6", files).tokens
    np.testing.assert_array_equal(last.values, first.values)
    np.testing.assert_array_equal(last.scales, first.scales)


def test_many_rows_are_converted_as_they_are(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    rows = [chance.standard_normal((count, 8)).astype(np.float32) for count in (5_000, 1, 9_000, 3)]
    source = SegmentWriter(tmp_path / "1", 8, 8, "float16")
    for embeddings in rows:
        source.append(stored_rows(embeddings, embeddings[0], "float16"))
    files = source.finish().files
    target = SegmentWriter(tmp_path / "2", 8, 8, "int8")
    target.copy(tmp_path / "1", [0, 2, 3], files)
    segment = open_segment(tmp_path / "2", target.finish().files)
    assert np.diff(segment.tokens.offsets).tolist() == [5_000, 9_000, 3]
    found = segment.tokens.values * segment.tokens.scales[:, None].astype(np.float32)
    np.testing.assert_allclose(found, np.concatenate([rows[0], rows[2], rows[3]]), atol=0.02)
