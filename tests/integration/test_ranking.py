"""The query path piece by piece: candidates, filters, fusion, budget and quotes, where one mistake would hide behind another."""

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings
from fake_encoder import FakeEncoder
from support import EngineFactory

import colbert_mcp.store.vectors
from colbert_mcp.config import Config, IndexConfig, SearchConfig, StoreConfig
from colbert_mcp.encoder import Query, Tokenized
from colbert_mcp.engine import Engine
from colbert_mcp.errors import QueryError, StoreError
from colbert_mcp.results import SearchOutput
from colbert_mcp.retrieval.ranking import Question, scanned
from colbert_mcp.store import Snapshot
from colbert_mcp.types import Mode

FEW = SearchConfig(min_candidates=1, candidate_growth=0)


@pytest.fixture
def open_with(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Open engines over ``tmp_path/index`` with search settings of their own; closed at the end."""
    opened: list[Engine] = []

    def factory(search: SearchConfig, *, chroma: bool = False, encoder: FakeEncoder | None = None) -> Engine:
        config = Config(
            index=IndexConfig(path=str(tmp_path / "index")), store=StoreConfig(chroma=chroma), search=search
        )
        opened.append(Engine.open(config, create_missing=True, encoder=encoder or FakeEncoder()))
        return opened[-1]

    yield factory
    for engine in opened:
        engine.close()


def names(output: SearchOutput) -> list[str]:
    return [Path(result.path).name for result in output.results]


@pytest.fixture
def rivers(tmp_path: Path) -> Path:
    """Nine files of which each names its number once, the first in capitals and as Markdown."""
    folder = tmp_path / "rivers"
    folder.mkdir()
    for number in range(9):
        name = "0.MD" if number == 0 else f"{number}.txt"
        (folder / name).write_text(f"River {number} has a bank of pebbles where otter{number} sleeps.\n")
    return folder


def test_the_best_of_the_scan_is_scored_exactly(open_with: Callable[..., Engine], rivers: Path) -> None:
    engine = open_with(FEW)
    engine.index_path(rivers)
    for number in (3, 8):
        for filters in ({}, {"types": ["txt"]}, {"path": f"{number}.txt"}):
            found = engine.search(f"River {number} otter{number} sleeps", mode="semantic", **filters)
            assert (found.candidates, names(found)) == (1, [f"{number}.txt"])


def test_more_of_a_large_index_is_scored_exactly(open_with: Callable[..., Engine], rivers: Path) -> None:
    engine = open_with(SearchConfig(min_candidates=1, candidate_growth=1))
    engine.index_path(rivers)
    assert engine.search("otter4", mode="semantic").candidates == 3
    assert engine.search("otter4", mode="semantic", types=["md", "markdown"]).candidates == 1


def test_what_only_bm25_finds_is_a_candidate(open_with: Callable[..., Engine], rivers: Path) -> None:
    engine = open_with(FEW)
    engine.index_path(rivers)
    assert engine.search("bank of pebbles", mode="semantic", limit=50).candidates == 1
    assert len(names(engine.search("bank of pebbles", limit=50))) == 9
    assert names(engine.search("bank of pebbles", limit=50, types=["md"])) == ["0.MD"]


def test_chromas_nearest_join_unfiltered_searches_and_no_filtered_one(
    open_with: Callable[..., Engine], rivers: Path
) -> None:
    engine = open_with(FEW, chroma=True)
    engine.index_path(rivers)
    found = engine.search("otter", limit=50)
    assert (found.candidates, len(found.results)) == (9, 9)
    found = engine.search("otter", limit=50, types=["md"])
    assert (found.candidates, names(found)) == (1, ["0.MD"])
    scope = (os.fsencode(rivers / "1.txt"),)
    assert names(engine.search("otter", limit=50, scope=scope)) == ["1.txt"]
    assert engine.search("otter", mode="semantic", limit=50).candidates == 1


def test_the_scan_makes_up_for_what_pooling_loses_of_long_passages() -> None:
    class Scanned:
        def pooled_matches(self, _scorer: object, query: np.ndarray, positions: np.ndarray) -> np.ndarray:
            return np.tile(np.array([0.5, 0.5, 0.49, 0.3], np.float32)[positions], (len(query), 1))

        def token_counts(self, positions: np.ndarray) -> np.ndarray:
            return np.array([16, 160, 160, 3])[positions]

        def texts(self, positions: np.ndarray) -> np.ndarray:
            return positions

    encoded = FakeEncoder().encode_query("otter")
    question = Question(encoded, FakeEncoder.scorer)
    few = SearchConfig(min_candidates=2, candidate_growth=0)
    found = scanned(cast(Snapshot, Scanned()), question, np.arange(4), few)
    assert sorted(found.tolist()) == [1, 2]


def test_a_failing_chroma_costs_no_search_and_no_commit_and_is_rebuilt(
    open_with: Callable[..., Engine], rivers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chroma = tmp_path / "index" / "chroma"
    engine = open_with(FEW, chroma=True)
    engine.index_path(rivers)

    def fail(*_: object) -> list[str]:
        raise RuntimeError("poisoned")

    with monkeypatch.context() as patch:
        patch.setattr(colbert_mcp.store.vectors.Vectors, "nearest", fail)
        assert names(engine.search("otter7 sleeps"))[0] == "7.txt"
    assert engine.index_status().chroma == "failed"
    assert engine.search("otter").candidates == 1
    (rivers / "new.txt").write_text("River 10 is new.\n")
    assert engine.index_path(rivers).indexed == 1
    engine.close()
    assert (chroma / "open").exists()
    engine = open_with(FEW, chroma=True)
    engine._store.vectors.open()  # waits until it is rebuilt
    assert engine.search("otter").candidates == 10
    engine.close()
    assert [path.name for path in chroma.iterdir()] == ["002"]


def test_a_chroma_that_was_closed_cleanly_is_taken_as_it_is_and_holds_what_the_catalogue_holds(
    open_with: Callable[..., Engine], rivers: Path, tmp_path: Path
) -> None:
    chroma = tmp_path / "index" / "chroma"
    engine = open_with(FEW, chroma=True)
    engine.index_path(rivers)
    assert (chroma / "open").exists()
    (rivers / "1.txt").unlink()
    (rivers / "2.txt").write_text("River 2 has dried up.\n")
    engine.index_path(rivers)
    engine.index_path(rivers / "3.txt")
    engine.remove_path(rivers / "4.txt")
    engine.close()
    engine = open_with(FEW, chroma=True)
    engine.warm_up()
    assert engine.search("otter").candidates == 7
    engine.close()
    engine.warm_up()
    assert engine._store.vectors.state == "off"
    with pytest.raises(StoreError, match="is closed"):
        engine.search("otter", mode="lexical")
    assert [path.name for path in chroma.iterdir()] == ["002"], "written anew by the removal alone"
    with chromadb.PersistentClient(str(chroma / "002"), settings=Settings(anonymized_telemetry=False)) as client:
        texts = client.get_collection("passages", embedding_function=None).get(include=["documents"])["documents"]
    assert texts is not None
    assert len(texts) == 7
    assert not any("otter1" in text or "otter2" in text or "otter4" in text for text in texts)


def test_a_chroma_follows_runs_without_being_rebuilt_and_is_for_a_removal(
    open_with: Callable[..., Engine], rivers: Path, tmp_path: Path
) -> None:
    for change, directory in (
        (lambda engine: engine.index_path(rivers), "001"),
        (lambda engine: engine.index_path(rivers), "001"),
        (lambda engine: (rivers / "1.txt").write_text("River 1 has dried up.\n") and engine.index_path(rivers), "001"),
        (lambda engine: engine.remove_path(rivers / "2.txt"), "002"),
    ):
        engine = open_with(FEW, chroma=True)
        change(engine)
        engine._store.vectors.open()  # waits for what goes on in the background
        assert engine.search("otter").candidates == engine.index_status().passages
        engine.close()
        assert [path.name for path in (tmp_path / "index" / "chroma").iterdir()] == [directory]


@pytest.mark.parametrize("loss", ["records", "generation", "clean close", "database"])
def test_a_chroma_that_disagrees_or_was_not_closed_is_rebuilt(
    open_with: Callable[..., Engine], rivers: Path, tmp_path: Path, loss: str
) -> None:
    chroma = tmp_path / "index" / "chroma"
    engine = open_with(FEW, chroma=True)
    engine.index_path(rivers)
    engine.close()
    with chromadb.PersistentClient(str(chroma / "001"), settings=Settings(anonymized_telemetry=False)) as client:
        collection = client.get_collection("passages", embedding_function=None)
        if loss == "records":
            collection.delete(ids=collection.get()["ids"][:2])
        elif loss == "generation":
            collection.modify(metadata={"generation": 0})
    if loss == "clean close":
        (chroma / "open").touch()
    if loss == "database":
        (chroma / "001" / "chroma.sqlite3").write_bytes(b"torn")
    for _ in range(2):  # rebuilt once, and sound after that
        engine = open_with(FEW, chroma=True)
        engine.warm_up()
        engine.close()
        assert [path.name for path in chroma.iterdir()] == ["002"]
    engine = open_with(FEW, chroma=True)
    assert engine.search("otter").candidates == 9


def test_without_chroma_nothing_of_it_is_made(open_with: Callable[..., Engine], rivers: Path, tmp_path: Path) -> None:
    engine = open_with(FEW)
    engine.index_path(rivers)
    engine.warm_up()
    engine.search("otter")
    assert engine.index_status().chroma == "off"
    assert not (tmp_path / "index" / "chroma").exists()


def test_the_hybrid_score_is_the_weighted_sum_that_is_documented(open_with: Callable[..., Engine], notes: Path) -> None:
    encoder = FakeEncoder()
    engine = open_with(SearchConfig(maxsim_weight=0.6, bm25_weight=0.3, dense_weight=0.1), encoder=encoder)
    (notes / "hungry.txt").write_text("Hungry hungry bees, and the starter of a car.\n")
    engine.index_path(notes)
    found = engine.search("hungry starter varnish", limit=50).results
    query = encoder.encode_query("hungry starter varnish")
    maxsim, bm25, dense = (np.array([getattr(r, part) for r in found]) for part in ("maxsim", "bm25", "dense"))
    for result, score in zip(found, dense, strict=True):
        own = encoder.encode_documents(encoder.tokenize([result.text]))[0]
        assert score == pytest.approx(float(own.dense @ query.dense), abs=2e-3)
    assert {Path(r.path).name for r in found if r.bm25} == {"bread.md", "hungry.txt"}

    def min_max(values: Any) -> Any:
        return (values - values.min()) / np.ptp(values)

    tells = bm25.max() / (3 * math.log1p(engine.index_status().passages))
    assert 0 < tells < 1
    weights = np.array([0.6, 0.3 * tells, 0.1 * (2 - tells)])
    expected = weights @ np.stack([min_max(maxsim), bm25 / bm25.max(), min_max(dense)]) / weights.sum()
    np.testing.assert_allclose([r.score for r in found], expected, atol=1e-3)
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)


def test_words_count_as_far_as_they_tell_and_the_dense_score_for_what_they_do_not(
    open_with: Callable[..., Engine], rivers: Path
) -> None:
    engine = open_with(SearchConfig(maxsim_weight=0, bm25_weight=0.5, dense_weight=0.5))
    (rivers / "mill.txt").write_text("Granite, heron, willow, lantern, saddle, copper.\n")
    engine.index_path(rivers)
    three_words = 3 * math.log1p(engine.index_status().passages)
    words_of_a_passage = "granite heron willow lantern saddle copper"
    told = []
    for query in ("no such words", "sleepy pebbles", "granite heron", words_of_a_passage):
        found = engine.search(query, limit=50).results
        bm25, dense = (np.array([getattr(r, part) for r in found]) for part in ("bm25", "dense"))
        told.append(min(1, bm25.max() / three_words))
        by_words = told[-1] * bm25 / max(bm25.max(), 1e-9)
        by_meaning = (2 - told[-1]) * (dense - dense.min()) / np.ptp(dense)
        np.testing.assert_allclose([r.score for r in found], (by_words + by_meaning) / 2, atol=2e-3)
    assert told[0] == 0 <= told[1] < 0.01 < told[2] < told[3] == 1  # pebbles are in nearly every passage


def test_where_every_candidate_shares_a_word_the_worst_keeps_its_share_of_bm25(
    open_with: Callable[..., Engine], rivers: Path
) -> None:
    engine = open_with(SearchConfig(maxsim_weight=0, bm25_weight=1, dense_weight=0))
    for number in range(30):
        (rivers / f"{number}.md").write_text(f"Meadow {number} has grass.\n")
    engine.index_path(rivers)
    found = engine.search("pebbles 4", limit=50, types=["txt"]).results
    assert len(found) == 8
    assert found[0].score == 1
    for result in found[1:]:
        assert result.bm25
        assert found[0].bm25
        assert result.score == pytest.approx(result.bm25 / found[0].bm25, abs=1e-3)


def test_each_order_is_by_its_own_score(open_with: Callable[..., Engine], rivers: Path) -> None:
    encoder = FakeEncoder()
    # Only BM25 counts, so the order is not that of MaxSim.
    engine = open_with(SearchConfig(maxsim_weight=0, bm25_weight=1, dense_weight=0), encoder=encoder)
    (rivers / "short.txt").write_text("Otter3\n")
    (rivers / "long.txt").write_text("Otter3 otter3 otter3 otter3 bank.\n")
    engine.index_path(rivers)
    for mode, part in (("hybrid", "bm25"), ("semantic", "maxsim"), ("lexical", "bm25")):
        found = engine.search("otter3 sleeps", limit=50, mode=mode).results  # type: ignore[arg-type]
        scores = [getattr(result, part) for result in found]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) > 2
        assert all(0 <= result.score <= 1 for result in found if result.score is not None)
    opposite = encoder.encode_query("otter3")
    encoder.encode_query = lambda _: replace(opposite, token_embeddings=-opposite.token_embeddings)  # type: ignore[method-assign]
    worst = engine.search("otter3", limit=50, mode="semantic").results[-1]
    assert worst.maxsim is not None
    assert worst.maxsim < 0 == worst.score


def test_a_heading_counts_less_than_the_text(open_with: Callable[..., Engine], tmp_path: Path) -> None:
    folder = tmp_path / "headings"
    folder.mkdir()
    (folder / "heading.md").write_text("# Otters\n\n" + "One two three four five six seven eight nine ten. " * 4)
    (folder / "text.md").write_text("# Rivers\n\n" + "Otters two three four five six seven eight nine ten. " * 4)
    engine = open_with(FEW, encoder=FakeEncoder(content_length=14))
    engine.index_path(folder)
    found = engine.search("otters", mode="lexical", limit=50)
    # The first of heading.md holds the word in its text too.
    assert (names(found)[:2], names(found)[-1]) == (["heading.md", "text.md"], "heading.md")


def test_exactly_as_many_results_as_asked_for_also_behind_many_equal_ones(
    open_with: Callable[..., Engine], rivers: Path
) -> None:
    for number in range(30):
        (rivers / f"same{number}.txt").write_text("An otter is an otter.\n")
    engine = open_with(SearchConfig())
    engine.index_path(rivers)
    for mode in ("hybrid", "semantic", "lexical"):
        for limit in (1, 2, 3):
            found = engine.search("an otter is an otter of a river with pebbles", limit=limit, mode=mode)  # type: ignore[arg-type]
            assert len(found.results) == limit
            assert len({result.text for result in found.results}) == limit
    scores = [result.maxsim for result in engine.search("otter4 river", limit=5).results]
    assert len(set(scores)) == 2


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "lexical"])
@pytest.mark.parametrize("filters", [{}, {"types": ["txt", "md"], "path": "*.*"}])
def test_however_many_copies_match_best_they_hide_no_other_passage(
    open_with: Callable[..., Engine], rivers: Path, mode: Mode, filters: dict[str, Any]
) -> None:
    paragraph = "Each otter of each river sleeps on a bank of pebbles. " * 3
    (rivers / "copies.txt").write_text("\n\n".join([paragraph] * 1100))
    engine = open_with(SearchConfig(min_candidates=12, candidate_growth=0))
    engine.index_path(rivers)
    found = engine.search("otter river sleeps bank pebbles", limit=10, mode=mode, max_tokens=10**6, **filters)
    assert sorted(names(found)) == sorted([*(f"{n}.txt" for n in range(1, 9)), "0.MD", "copies.txt"])
    assert found.candidates <= 1000 + 2 * 12


@pytest.mark.parametrize("max_tokens", [100, 300, 600, 601, 1000])
def test_an_answer_is_never_over_its_budget_but_for_its_first_result(
    open_with: Callable[..., Engine], rivers: Path, max_tokens: int
) -> None:
    engine = open_with(SearchConfig())
    engine.index_path(rivers)
    found = engine.search("otter", limit=9, max_tokens=max_tokens)
    assert found.tokens <= max_tokens or len(found.results) == 1
    assert bool(found.notice) == (found.tokens > max_tokens)
    assert json.loads(found.model_dump_json())["tokens"] == found.tokens
    whole = engine.search("otter", limit=len(found.results), max_tokens=99_999)
    if found.tokens <= max_tokens:  # what fits to the token is not withheld
        assert len(engine.search("otter", limit=len(found.results), max_tokens=whole.tokens).results) == len(
            whole.results
        )


def test_a_budget_that_holds_nothing_is_refused(open_with: Callable[..., Engine], rivers: Path) -> None:
    engine = open_with(SearchConfig())
    engine.index_path(rivers)
    assert engine.search("otter", max_tokens=100).results
    with pytest.raises(QueryError, match="at least 100"):
        engine.search("otter", max_tokens=99)
    assert engine.search("x" * 10_000, max_tokens=99_999).query
    with pytest.raises(QueryError, match="10001 characters"):
        engine.search("x" * 10_001)


def test_types_are_suffixes_in_any_case(open_with: Callable[..., Engine], rivers: Path) -> None:
    engine = open_with(SearchConfig())
    engine.index_path(rivers)
    for kind in ("md", "MD", ".Md", "Markdown"):
        assert names(engine.search("otter", types=[kind])) == ["0.MD"]


def test_the_unread_tail_of_a_query_is_told(open_with: Callable[..., Engine], rivers: Path) -> None:
    class Short(FakeEncoder):
        def encode_query(self, text: str) -> Query:
            query = super().encode_query(text)
            return replace(query, unread=text[9:])

    engine = open_with(SearchConfig(), encoder=Short())
    engine.index_path(rivers)
    notice = engine.search("an otter and its river").notice
    assert notice is not None
    assert "its last 3 words were not used, “and its river”" in notice
    assert engine.search("an otter").notice is None


def test_the_quote_is_the_best_sentence_by_its_own_tokens(open_with: Callable[..., Engine], tmp_path: Path) -> None:
    file = tmp_path / "day.txt"
    file.write_text("An otter sleeps here. Nobody knows why it is so. An otter swims there.\n")
    engine = open_with(SearchConfig())
    engine.index_path(file)
    for query, quote in (
        ("otter sleeps", "An otter sleeps here."),
        ("nobody knows", "Nobody knows why it is so."),
        ("otter swims", "An otter swims there."),
        ("swims there", "An otter swims there."),
        ("otter sleeps knows", "An otter sleeps here."),
    ):
        assert engine.search(query).results[0].quote == quote


def test_where_tokens_cannot_be_traced_the_whole_passage_is_quoted(
    open_with: Callable[..., Engine], tmp_path: Path
) -> None:
    class Other(FakeEncoder):
        def kept_spans(self, document: Tokenized) -> np.ndarray:
            return super().kept_spans(document)[1:]

    file = tmp_path / "day.txt"
    file.write_text("An otter sleeps here. Nobody knows why it is so.\n")
    engine = open_with(SearchConfig(), encoder=Other())
    engine.index_path(file)
    found = engine.search("nobody knows").results[0]
    assert found.quote == found.text


def test_a_filter_holds_for_the_place_that_is_cited(open_engine: EngineFactory, notes: Path) -> None:
    (notes / "deep" / "bees.txt").write_bytes((notes / "bees.txt").read_bytes())
    engine = open_engine()
    engine.index_path(notes)
    (notes / "deep" / "bees.txt").unlink()
    found = engine.search("queen", path="deep", mode="lexical").results
    assert [(Path(result.path).parent.name, result.status) for result in found] == [("deep", "missing")]
    (unfiltered,) = engine.search("queen", mode="lexical").results
    assert (Path(unfiltered.path).parent.name, unfiltered.status) == ("notes", "current")
    (notes / "deep" / "bees.txt").write_bytes((notes / "bees.txt").read_bytes())
    (filtered,) = engine.search("queen", path="deep", mode="lexical").results
    assert (filtered.status, filtered.also_at) == ("current", [])
