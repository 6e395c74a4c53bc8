"""Why a passage was found, what no passage covers, how weak the evidence is: over real files and a fake encoder."""

from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory

import colbert_mcp.indexing.indexer
from colbert_mcp.config import StoreConfig
from colbert_mcp.errors import EmptyQueryError, PassageNotFoundError
from colbert_mcp.evidence import META_KEY, Calibration, read_calibration
from colbert_mcp.retrieval import count_tokens

QUERY = "varnish smells, starter"


def subjects(folder: Path, first: int, last: int) -> Path:
    """A folder with a file for each number, all on one subject."""
    folder.mkdir(exist_ok=True)
    for number in range(first, last):
        (folder / f"{number}.txt").write_text(f"Otter number{number} swims in river{number} beside its burrow.\n")
    return folder


def test_each_token_of_the_query_is_shown_with_its_match_in_the_file(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    assert all(result.explanation is None for result in engine.search(QUERY).results)
    best = engine.search(QUERY, explain=True).results[0]
    assert best.explanation is not None
    matches = best.explanation.matches
    assert [match.query for match in matches] == ["varnish", "smells", ",", "starter"]
    text = (notes / "bread.md").read_text()
    for match in matches:
        assert match.query_span is not None
        assert match.span is not None
        assert QUERY[slice(*match.query_span)] == match.query
        assert text[slice(*match.span)] == match.text
        assert (match.text == match.query) == (match.similarity > 0.99)
    assert {match.text for match in matches} >= {"varnish", "smells", "starter"}
    mean = sum(match.similarity for match in matches) / len(matches)
    assert mean == pytest.approx(best.maxsim, abs=0.002)
    assert best.explanation.heat is None


def test_one_passage_is_explained_with_the_heat_of_every_token(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    found = engine.search(QUERY, explain=True).results[0]
    answer = engine.explain(QUERY, found.id)
    explanation = answer.passage.explanation
    assert explanation is not None
    assert found.explanation is not None
    assert explanation.matches == found.explanation.matches
    assert answer.passage.maxsim == pytest.approx(found.maxsim, abs=1e-4)
    assert explanation.heat is not None
    text = (notes / "bread.md").read_text()
    hot = {text[slice(*token.span)] for token in explanation.heat if max(token.similarities) > 0.99}
    assert hot == {"varnish", "smells", "starter"}
    assert len(explanation.heat) == len(FakeEncoder().tokenize([found.text])[0].ids)


def test_a_passage_that_has_moved_is_explained_where_it_stands(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    bread = notes / "bread.md"
    bread.write_text("An introduction.\n\n" + bread.read_text())
    best = engine.search(QUERY, explain=True).results[0]
    assert best.status == "relocated"
    assert best.explanation is not None
    for match in best.explanation.matches:
        assert match.span is not None
        assert bread.read_text()[slice(*match.span)] == match.text


def test_a_former_passage_is_encoded_again(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    found = engine.search(QUERY, explain=True).results[0]
    (notes / "bread.md").write_text("# Bread\n\nNothing of it is left.\n")
    engine.index_path(notes)
    answer = engine.explain(QUERY, found.id)
    assert answer.notice is not None
    assert answer.passage.explanation is not None
    assert found.explanation is not None
    assert answer.passage.explanation.matches == found.explanation.matches


def test_what_cannot_be_explained_is_an_error(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    with pytest.raises(PassageNotFoundError):
        engine.explain(QUERY, "0" * 16)
    with pytest.raises(EmptyQueryError):
        engine.explain(" ", engine.search(QUERY).results[0].id)


def test_a_lexical_search_has_nothing_to_explain_and_says_so(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    output = engine.search(QUERY, mode="lexical", explain=True)
    assert output.results[0].explanation is None
    assert (output.uncovered, output.weak) == (None, None)
    assert "explain" in (output.notice or "")


def test_words_that_no_result_is_about_are_named(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    query = "How often are the hives inspected by zeppelin, and does zeppelin pay?"
    output = engine.search(query, explain=True)
    assert output.uncovered == ["often", "zeppelin", "pay"]
    assert engine.search("Inspect the hives", explain=True).uncovered == []
    assert engine.search(query).uncovered is None


def test_an_explained_answer_keeps_to_its_budget_and_judges_what_is_left(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    engine = open_engine()
    engine.index_path(subjects(tmp_path / "many", 0, 20))
    asked = ["river3", "number7", "river11", "number15", "river18"]
    query = " ".join(asked)
    everything = engine.search(query, limit=20, max_tokens=100_000, explain=True)
    limited = engine.search(query, limit=20, max_tokens=1_000, explain=True)
    assert everything.uncovered == []
    assert limited.truncated
    assert limited.tokens == count_tokens(limited.model_dump_json()) <= 1_000
    assert [r.id for r in limited.results] + limited.withheld == [r.id for r in everything.results]
    shown = " ".join(result.text for result in limited.results)
    assert limited.uncovered == [word for word in asked if word not in shown] != []


def test_later_results_that_say_nearly_the_same_name_the_earlier_one(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "versions"
    folder.mkdir()
    text = (
        "Hives are inspected every seventh day in {}, because a queen cell is capped on the ninth day after laying.\n"
    )
    for month in ("May", "June", "July"):
        (folder / f"{month}.txt").write_text(text.format(month))
    (folder / "tide.txt").write_text("The gate is opened two hours before high water, and hives have nothing to do.\n")
    engine = open_engine()
    engine.index_path(folder)
    results = engine.search("hives in June", limit=4).results
    assert len(results) == 4
    originals = [result for result in results if result.near_duplicate_of is None]
    assert {Path(result.path).stem for result in originals} == {Path(results[0].path).stem, "tide"}
    assert {r.near_duplicate_of for r in results} == {None, results[0].id}


def test_evidence_is_weak_where_unrelated_questions_do_as_well(open_engine: EngineFactory, tmp_path: Path) -> None:
    engine = open_engine()
    engine.index_path(subjects(tmp_path / "many", 0, 30))
    related = engine.search("Which otter swims in river7?")
    assert (related.weak, related.notice) == (False, None)
    for mode in ("hybrid", "semantic"):
        unrelated = engine.search(
            "Who composed quartets for glass harmonica, viola, oboe, harp and cello around 1791?", mode=mode
        )  # type: ignore[arg-type]
        assert unrelated.weak is True
        assert "Weak evidence" in (unrelated.notice or "")
    assert engine.search("glass", mode="lexical").weak is None


def test_evidence_is_not_judged_on_an_index_of_few_passages(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    assert engine.search("Who composed the quartet?").weak is None


def test_the_index_learns_anew_what_is_unrelated_once_a_tenth_has_changed(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    engine = open_engine()

    def kept() -> Calibration:
        with engine._store.snapshot() as snapshot:
            found = read_calibration(snapshot.reader.meta(META_KEY))
        assert found is not None
        return found

    folder = subjects(tmp_path / "many", 0, 40)
    engine.index_path(folder)
    first = kept()
    assert (first.passages, first.changed) == (40, 0)
    subjects(folder, 40, 43)
    engine.index_path(folder)
    assert (kept().passages, kept().changed, kept().threshold) == (40, 3, first.threshold)
    generation = engine.index_status().generation
    engine.index_path(folder)
    assert kept().changed == 3
    subjects(folder, 43, 45)
    engine.index_path(folder)
    assert (kept().passages, kept().changed) == (45, 0)
    assert generation < engine.index_status().generation


def test_a_run_that_does_not_end_does_not_lose_count_of_what_it_has_changed(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 1)
    encoder = FakeEncoder()
    engine = open_engine(encoder, store=StoreConfig(chroma=False, commit_tokens=1))

    def changed() -> int:
        with engine._store.snapshot() as snapshot:
            found = read_calibration(snapshot.reader.meta(META_KEY))
        assert found is not None
        return found.changed

    folder = subjects(tmp_path / "many", 0, 40)
    engine.index_path(folder)

    def fail() -> None:
        if encoder.encoded == before + 2:
            raise ZeroDivisionError

    before, encoder.before_batch = encoder.encoded, fail
    subjects(folder, 40, 43)
    with pytest.raises(ZeroDivisionError):
        engine.index_path(folder)
    assert engine.index_status().passages == 42
    assert changed() == 2
    encoder.before_batch = lambda: None
    engine.index_path(folder)
    assert changed() == 3
    for path in sorted(folder.iterdir())[:1]:
        path.unlink()
    engine.index_path(folder)
    assert changed() == 4


def test_what_is_unrelated_is_learnt_alike_each_time(open_engine: EngineFactory, tmp_path: Path) -> None:
    thresholds = set()
    for name in ("one", "two"):
        engine = open_engine(index=tmp_path / name)
        engine.index_path(subjects(tmp_path / "many", 0, 25))
        with engine._store.snapshot() as snapshot:
            found = read_calibration(snapshot.reader.meta(META_KEY))
        assert found is not None
        thresholds.add(found.threshold)
    assert len(thresholds) == 1


@pytest.mark.parametrize(
    "stored", ["", "{}", "[1]", "null", '{"threshold": "high", "passages": 3}', '{"threshold": 0.5']
)
def test_a_calibration_that_cannot_be_read_is_none(stored: str) -> None:
    assert read_calibration(stored) is None


def test_a_calibration_survives_the_catalogue() -> None:
    calibration = Calibration(0.4567, 1234, 5)
    assert read_calibration(calibration.as_json()) == calibration


def test_words_that_the_model_does_not_know_are_named(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    assert "does not know" not in str(engine.search("\u16a0\u16a2 starter").notice), "nothing is indexed: that is said"
    engine.index_path(notes)
    for mode in ("hybrid", "semantic"):
        notice = str(engine.search("starter \u16a0\u16a2 smells, \u16a6; \u16a0\u16a2 \ufffd", mode=mode).notice)
        assert "The model does not know “\u16a0\u16a2”, “\u16a6”: such words count only where" in notice
    many = " ".join(chr(0x16A0 + number) for number in range(20))
    assert "\u16a9” and others:" in str(engine.search(many).notice)
    assert "\u16aa" not in str(engine.search(many).notice)
    for query in ("starter", "starter?! \ufffd"):
        assert "does not know" not in str(engine.search(query).notice)
    assert "does not know" not in str(engine.search("\u16a0\u16a2", mode="lexical").notice), "it has no part in that"
