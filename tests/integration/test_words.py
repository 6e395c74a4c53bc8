"""Words, names, codes, phrases and scripts without spaces: what a search finds by them, and what is left when they go."""

import random
import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest
from support import EngineFactory, catalogue

import colbert_mcp.store.catalog
from colbert_mcp.engine import Engine
from colbert_mcp.types import Mode

FILLING = ["river", "stone", "lamp", "bread", "hive", "tide", "plum", "error", "code", "type", "table", "line", "use"]
TEXTS = {
    "rust.md": "When the compiler says error[E0308] the types of a line do not agree.",
    "oracle.txt": "ORA-00942 is told where a table is not there.",
    "spaced.txt": "ORA 00942 is no code: ORA 00942, ORA 00942.",
    "windows.txt": "Updates that fail with 0x80070005 lack a permission.",
    "cpp.txt": "We moved the hot loop to C++ and kept a std::vector<int> there.",
    "c.txt": "The same loop in plain C, with a vector of its own from the std folder.",
    "docker.md": "Build with --no-cache when the layers are stale.",
    "layers.md": "No cache helps when layers are stale, and the cache of no layer is kept.",
    "handlers.py": "def onRequestFailed(reason):\n    return retry_after(reason)\n",
    "phrase.txt": "She said that the ferry leaves before the tide turns, every day.",
    "loose.txt": "Before the ferry turns the tide leaves. The tide turns before the ferry leaves; ferry, tide, turns.",
    "zh.md": "数据库连接池的默认大小是十，可以用Python脚本修改。",
    "ja.md": "接続プールの大きさは設定ファイルで変えられます。",
    "th.md": "ขนาดของกลุ่มการเชื่อมต่อฐานข้อมูลกำหนดไว้ในแฟ้มตั้งค่า",
    "ko.md": "데이터베이스의 연결은 설정에서 바꿉니다.",
}
MODES: tuple[Mode, ...] = ("lexical", "hybrid")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The texts among sixty others of ordinary words."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
    chance = random.Random(5)
    for number in range(60):
        (folder / f"other{number}.txt").write_text(" ".join(chance.choices(FILLING, k=40)) + ".\n")
    return folder


@pytest.fixture
def engine(open_engine: EngineFactory, folder: Path) -> Engine:
    engine = open_engine()
    engine.index_path(folder)
    return engine


def found(engine: Engine, query: str, mode: Mode, **filters: list[str]) -> list[str]:
    return [Path(result.path).name for result in engine.search(query, mode=mode, limit=10, **filters).results]  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("E0308", "rust.md"),
        ("what does error E0308 say about the type of a line", "rust.md"),
        ("ORA-00942", "oracle.txt"),
        ("which error code is ORA-00942 of a table", "oracle.txt"),
        ("0x80070005", "windows.txt"),
        ("a loop in C++", "cpp.txt"),
        ("std::vector", "cpp.txt"),
        ("use --no-cache", "docker.md"),
        ("onRequestFailed", "handlers.py"),
        ("where is retry_after of a line of code", "handlers.py"),
        ('"the tide turns, every day"', "phrase.txt"),
        ("what of “before the tide turns” and the ferry", "phrase.txt"),
        ("ferry `leaves before the tide`", "phrase.txt"),
    ],
)
def test_names_codes_and_phrases_come_first(engine: Engine, query: str, name: str, mode: Mode) -> None:
    assert found(engine, query, mode)[0] == name


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("request", "handlers.py"),
        ("on_request_failed", "handlers.py"),
        ("retryAfter", "handlers.py"),
        ("连接池有多大", "zh.md"),
        ("脚本", "zh.md"),
        ("Python", "zh.md"),
        ("プールの大きさ", "ja.md"),
        ("ฐานข้อมูล", "th.md"),
        ("연결 설정", "ko.md"),
    ],
)
def test_parts_of_names_and_of_runs_are_found(engine: Engine, query: str, name: str) -> None:
    assert found(engine, query, "lexical")[0] == name


@pytest.mark.parametrize("mode", MODES)
def test_a_phrase_that_stands_nowhere_leaves_the_order_to_its_words(engine: Engine, mode: Mode) -> None:
    quoted = engine.search('"ferry tide zeppelin"', mode=mode, limit=10).results
    plain = engine.search("ferry tide zeppelin", mode=mode, limit=10).results
    assert quoted
    assert [result.bm25 for result in quoted] == [result.bm25 for result in plain]


def test_scores_are_shares_and_in_order_with_exact_texts_too(engine: Engine) -> None:
    for mode in MODES:
        scores = [result.score for result in engine.search('"the tide" E0308 river', mode=mode, limit=50).results]
        assert scores == sorted(scores, reverse=True)
        assert all(score is not None and 0 <= score <= 1 for score in scores)


def test_meaning_alone_goes_by_no_exact_text(engine: Engine) -> None:
    plain = engine.search("E0308", mode="semantic", limit=5).results
    assert [result.score for result in plain] == [min(1, max(0, result.maxsim or 0)) for result in plain]


def test_filters_hold_for_exact_texts(engine: Engine) -> None:
    for mode in MODES:
        assert "rust.md" not in found(engine, "E0308 type", mode, types=["txt"])
        assert found(engine, "E0308 type", mode, types=["md"])[0] == "rust.md"


def test_a_name_that_stands_everywhere_decides_nothing(open_engine: EngineFactory, tmp_path: Path) -> None:
    folder = tmp_path / "everywhere"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"TypeScript is used here for page {number}, a stone of the river.\n")
    (folder / "hive.txt").write_text("The hive hums and the queen of the hive rests.\n")
    engine = open_engine()
    engine.index_path(folder)
    assert found(engine, "queen of the hive in TypeScript", "lexical")[0] == "hive.txt"


def terms_left(index: Path) -> set[str]:
    with catalogue(index) as database:
        database.execute("CREATE VIRTUAL TABLE temp.left_over USING fts5vocab(main, fts, row)")
        return {row[0] for row in database.execute("SELECT term FROM temp.left_over")}


def test_what_is_removed_leaves_no_term_and_no_text(
    open_engine: EngineFactory, engine: Engine, folder: Path, tmp_path: Path
) -> None:
    everything = terms_left(tmp_path / "index")
    assert {"连接", "ฐาน", "request", "c\ue02b\ue02b"} <= everything
    for name in TEXTS:
        engine.remove_path(folder / name)
        (folder / name).unlink()
    engine.close()
    anew = open_engine(index=tmp_path / "anew")
    anew.index_path(folder)
    anew.close()
    assert terms_left(tmp_path / "index") == terms_left(tmp_path / "anew")
    raw = b"".join(path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file())
    for piece in ("连接", "ฐาน", "request", "ORA", "c\ue02b\ue02b"):
        assert piece.encode() not in raw


def test_a_changed_file_is_found_by_what_it_says_now_alone(engine: Engine, folder: Path) -> None:
    (folder / "zh.md").write_text("缓存的默认大小是二十。\n", encoding="utf-8")
    (folder / "handlers.py").write_text("def onPageLoaded():\n    pass\n")
    engine.index_path(folder)
    assert found(engine, "缓存", "lexical") == ["zh.md"]
    assert found(engine, "连接池", "lexical") == []
    assert found(engine, "loaded", "lexical") == ["handlers.py"]
    assert "handlers.py" not in found(engine, "request", "lexical")


@pytest.mark.parametrize("column", ["names", "runs"])
def test_lost_terms_are_found_by_a_check_and_mended(
    open_engine: EngineFactory, engine: Engine, tmp_path: Path, column: str
) -> None:
    queries = ("request", "连接池", "a loop in C++", "ฐานข้อมูล")
    before = [found(engine, query, "lexical") for query in queries]
    assert engine.check().sound
    engine.close()
    with catalogue(tmp_path / "index") as database:
        columns = ("text", "heading", "names", "runs", "heading_runs")
        kept = ", ".join("''" if name == column else name for name in columns)
        database.execute("INSERT INTO fts (fts) VALUES ('delete-all')")
        database.execute(f"INSERT INTO fts (rowid, {', '.join(columns)}) SELECT id, {kept} FROM counted")
    engine = open_engine()
    assert [found(engine, query, "lexical") for query in queries] != before
    broken = engine.check()
    assert not broken.sound
    assert engine.check(repair=True).sound
    assert [found(engine, query, "lexical") for query in queries] == before


def test_very_common_words_are_not_all_scored_and_the_best_are_the_same(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = engine._store.writer
    terms = ['"tide"', '"river"', '"stone"', '"ferry"', '"e0308"']
    whole = reader.bm25(terms)
    assert whole == reader.bm25(terms, 1000)
    monkeypatch.setattr(colbert_mcp.store.catalog, "_FEW_SCORED", 1)
    monkeypatch.setattr(colbert_mcp.store.catalog, "_ENOUGH", 1)
    best = reader.bm25(terms, 3)
    assert [chunk for chunk, _ in best] == [chunk for chunk, _ in whole[:3]]
    assert [score for _, score in best] == pytest.approx([score for _, score in whole[:3]])
    assert all(before >= after for (_, before), (_, after) in pairwise(best))
    scored: list[str] = []
    reader._db.set_trace_callback(scored.append)
    reader.bm25(terms, 3)
    reader._db.set_trace_callback(None)
    ranked = [statement for statement in scored if "bm25(" in statement]
    assert len(ranked) == 2
    assert not any("river" in statement.split(" AND ")[0] for statement in ranked), "the commonest word finds none"


def test_a_catalogue_is_refused_by_programs_of_another_format(engine: Engine, tmp_path: Path) -> None:
    engine.close()
    with sqlite3.connect(tmp_path / "index" / "catalog.sqlite") as database:
        assert database.execute("PRAGMA user_version").fetchone()[0] == 5


@pytest.mark.parametrize("query", ["E0117", 'what does "worn brush" mean', "remedy of error E0117"])
def test_the_quote_is_the_line_that_holds_what_was_asked_for_as_it_is(
    open_engine: EngineFactory, tmp_path: Path, query: str
) -> None:
    rows = [f"| E01{number:02} | what remedy of error does mean | loose cable |" for number in range(30)]
    rows[17] = "| E0117 | memory | worn brush |"
    (tmp_path / "codes.md").write_text("\n".join(rows) + "\n")
    engine = open_engine()
    engine.index_path(tmp_path)
    best = engine.search(query, limit=1).results[0]
    assert best.quote is not None
    assert rows[17] in best.quote


@pytest.mark.parametrize("mode", MODES)
def test_a_search_tells_which_exact_texts_no_passage_holds(engine: Engine, mode: Mode) -> None:
    def told(query: str, **filters: list[str]) -> str | None:
        return engine.search(query, mode=mode, **filters).notice  # type: ignore[arg-type]

    assert "No passage holds “tide leaves early”, “E0999”" in str(
        told('E0999 ferry "tide leaves early" "ferry leaves"')
    )
    assert "filters let through holds “E0308”" in str(told("line E0308", types=["txt"]))
    assert "holds “" not in str(told("line E0308"))
    assert "holds “" not in str(told("ferries"))  # a word like any other, which stands there in another form
