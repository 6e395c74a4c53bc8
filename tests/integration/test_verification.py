"""Quotations against a real index: where they stand, and whether the source still says so."""

import importlib.util
import os
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
import samples
from fake_encoder import FakeEncoder
from hash_encoder import HashEncoder
from support import PROJECT, EngineFactory

from colbert_mcp.engine import Engine
from colbert_mcp.errors import EmptyQueryError, PassageNotFoundError, QueryError
from colbert_mcp.results import VerifyOutput

PARAGRAPHS = [
    f"Paragraph {n} says that starter number {n} smells of varnish when it is hungry, not spoiled. "
    f"It is fed {n} times every day by the baker of house {n}."
    for n in range(12)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "bread.txt").write_text("\n\n".join(PARAGRAPHS) + "\n")
    (folder / "bees.txt").write_text("Inspect the hives every seventh day in May.\r\nA queen cell means swarming.\r\n")
    (folder / "sky.txt").write_text("今天的天气非常好我们去公园散步。明天可能会下雨。\n")
    return folder


@pytest.fixture
def engine(open_engine: EngineFactory, folder: Path) -> Engine:
    engine = open_engine()
    engine.index_path(folder)
    return engine


def passage(engine: Engine, n: int) -> str:
    """The id of a paragraph's passage."""
    found = [r for r in engine.search(f"Paragraph {n}", mode="lexical", limit=50).results if PARAGRAPHS[n] in r.text]
    return found[0].id


def first_text(output: VerifyOutput) -> str:
    """The first match, read from its file."""
    match = output.matches[0]
    return Path(match.path).read_bytes().decode()[match.char_start : match.char_end]


def test_a_quote_is_found_in_its_passage_its_file_and_the_index(engine: Engine, folder: Path) -> None:
    quote = "starter number 5 smells of varnish"
    file = folder / "bread.txt"
    targets: list[dict[str, str]] = [
        {"passage_id": passage(engine, 5)},
        {"passage_id": f"passage://{passage(engine, 5).upper()}"},
        {"path": str(file)},
        {"path": file.as_uri()},
        {"path": file.as_uri() + "#L11-L12"},
        {"path": f"{file}:11"},
        {"path": f"{file}#page=3"},
        {"path": os.path.relpath(file)},
        {"path": "bread.txt"},
        {},
    ]
    for target in targets:
        output = engine.verify_quote(quote, **target)
        assert (output.verdict, output.status) == ("exact", "current"), target
        assert [match.text for match in output.matches] == [quote]
        assert first_text(output) == quote
        assert output.matches[0].passage_id == passage(engine, 5)
        assert (output.matches[0].line_start, output.matches[0].line_end) == (11, 11)
        assert output.matches[0].url == f"{file.as_uri()}#L11-L11"
        assert (output.omitted, output.diff, output.similarity) == ([], None, None)


def test_a_file_whose_name_holds_a_fragment_or_an_escape_is_found(open_engine: EngineFactory, tmp_path: Path) -> None:
    for name in ("a#L1.txt", "50%25.txt", "ünder score?.txt"):
        (tmp_path / name).write_text(f"These words are of {name} alone.")
        engine = open_engine(index=tmp_path / f"index {len(name)}")
        engine.index_path(tmp_path / name)
        for path in (str(tmp_path / name), (tmp_path / name).as_uri(), (tmp_path / name).as_uri() + "#L1-L1"):
            assert engine.verify_quote("These words are of", path=path).verdict == "exact", path


def test_another_passage_of_the_index_is_no_proof(engine: Engine, folder: Path) -> None:
    quote = "starter number 7 smells of varnish"
    for target in ({"passage_id": passage(engine, 5)}, {"path": str(folder / "bees.txt")}):
        output = engine.verify_quote(quote, **target)
        assert output.verdict == "misattributed"
        assert output.matches[0].passage_id == passage(engine, 7)
        assert first_text(output) == quote


@pytest.fixture
def notebook(open_engine: EngineFactory, tmp_path: Path) -> Engine:
    """An index of a notebook of two cells, and of files of one name in several folders."""
    folder = tmp_path / "notes"
    (folder / "deep" / "one").mkdir(parents=True)
    (folder / "deep" / "two").mkdir()
    sources = ["Mix the buffer slowly before use.", "Let the sample rest in the dark."]
    cells: list[dict[str, object]] = [{"cell_type": "markdown", "metadata": {}, "source": source} for source in sources]
    (folder / "lab.ipynb").write_bytes(samples.notebook(cells))
    (folder / "read.md").write_text("The first file says this.\n")
    for name in ("one/read.md", "one/more.md"):
        (folder / "deep" / name).write_text("The second file says that.\n")
    (folder / "deep" / "two" / "more.md").write_text("The third file says so.\n")
    engine = open_engine()
    engine.index_path(folder)
    return engine


@pytest.mark.parametrize(
    ("path", "verdict", "place"),
    [
        ("lab.ipynb#cell=2", "exact", None),
        ("lab.ipynb, cell 2", "exact", None),
        ("lab.ipynb#page=7", "exact", None),
        ("lab.ipynb#L90", "exact", None),
        ("lab.ipynb, cells 1-2", "exact", None),
        ("lab.ipynb (cell 2)", "exact", None),
        ("lab.ipynb Cells 1 to 3", "exact", None),
        ("lab.ipynb, p. 7", "exact", None),
        ("lab.ipynb (cell 1)", "misattributed", "at cell 2 and not at cell 1"),
        ("lab.ipynb#cell=1", "misattributed", "at cell 2 and not at cell 1"),
        ("lab.ipynb, cell 9", "misattributed", "at cell 2 and not at cell 9"),
        pytest.param(f"lab.ipynb#cell={'9' * 5000}", "misattributed", "at cell 2 and not at cell 99", id="huge"),
    ],
)
def test_a_quote_of_another_cell_than_the_cited_one_is_told(
    notebook: Engine, path: str, verdict: str, place: str | None
) -> None:
    output = notebook.verify_quote("Let the sample rest in the dark.", path=path)
    assert output.verdict == verdict
    assert output.matches[0].cell == 2
    assert (output.notice is None) if place is None else (place in (output.notice or ""))


@pytest.mark.parametrize(
    ("lines", "verdict", "told"),
    [
        (":11", "exact", False),
        ("#L9-L12", "exact", False),
        (", line 11", "exact", False),
        ("#L12-L14", "misattributed", True),
        (":1-5", "misattributed", True),
        ("#L900", "misattributed", True),
    ],
)
def test_a_quote_of_other_lines_than_the_cited_ones_is_told(
    engine: Engine, lines: str, verdict: str, told: bool
) -> None:
    output = engine.verify_quote("starter number 5 smells of varnish", path=f"bread.txt{lines}")
    assert (output.verdict, output.matches[0].line_start) == (verdict, 11)
    assert ("at line 11 and not at line" in (output.notice or "")) is told


def test_other_lines_of_the_same_passage_are_no_more_than_a_notice(engine: Engine) -> None:
    for path, notice in {
        "bees.txt:1": None,
        "bees.txt:1-2": None,
        "bees.txt#L1-L1": None,
        "bees.txt:2": "It stands in the file that is cited, but at line 1 and not at line 2.",
        "bees.txt#L2-L3": "It stands in the file that is cited, but at line 1 and not at lines 2 to 3.",
    }.items():
        output = engine.verify_quote("Inspect the hives every seventh day", path=path)
        assert (output.verdict, output.notice) == ("exact", notice), path


def test_a_name_is_that_of_any_file_whose_path_ends_so(notebook: Engine, tmp_path: Path) -> None:
    first, second = "The first file says this.", "The second file says that."
    assert notebook.verify_quote(first, path="read.md").verdict == "exact"
    assert notebook.verify_quote(second, path="read.md").verdict == "misattributed"  # one is right below the root
    for name in ("deep/one/read.md", "one/read.md", "one//read.md#two"):
        assert notebook.verify_quote(second, path=name).verdict == "exact"
    assert notebook.verify_quote(first, path="one/read.md").verdict == "misattributed"
    for name in ("ne/read.md", "ead.md", "../read.md", "/one/read.md", "file:one/read.md"):
        with pytest.raises(PassageNotFoundError):
            notebook.verify_quote(second, path=name)


def test_of_several_files_of_a_name_it_is_the_one_that_holds_the_quote(notebook: Engine) -> None:
    for quote in ("The second file says that.", "The third file says so."):
        assert notebook.verify_quote(quote, path="more.md").verdict == "exact"
    output = notebook.verify_quote("The first file says this.", path="more.md")
    assert (output.verdict, output.notice) == ("misattributed", "2 indexed files are called so.")


def test_at_most_ten_places_are_given(engine: Engine) -> None:
    output = engine.verify_quote("smells of varnish when it is hungry")
    assert output.verdict == "exact"
    assert len({match.char_start for match in output.matches}) == 10


def test_an_altered_quote_shows_the_closest_text_of_what_was_named(engine: Engine) -> None:
    output = engine.verify_quote("starter number 5 smells of vinegar when", passage_id=passage(engine, 5))
    assert output.verdict == "altered"
    assert first_text(output) == "starter number 5 smells of varnish when"
    assert output.diff is not None
    assert [(e.op, e.quote, e.source) for e in output.diff if e.op != "same"] == [("changed", "vinegar", "varnish")]
    assert output.similarity == pytest.approx(6 / 7, abs=1e-3)
    assert output.notice is None


def test_the_closest_text_is_in_the_named_passage_where_others_are_as_close(engine: Engine) -> None:
    for n in (2, 5, 9):
        output = engine.verify_quote("starter number 77 smells of varnish", passage_id=passage(engine, n))
        assert (output.verdict, first_text(output)) == ("altered", f"starter number {n} smells of varnish")


def test_a_short_altered_quote_is_found_by_its_halves(open_engine: EngineFactory, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("\n\n".join(f"She let {n} of us run, did the same." for n in range(90, 190)))
    (tmp_path / "one.txt").write_text("They let us do the same as he did.")
    engine = open_engine(FakeEncoder(content_length=12))
    engine.index_path(tmp_path / "many.txt")
    engine.index_path(tmp_path / "one.txt")
    output = engine.verify_quote("They let us do the same as she did")
    assert (output.verdict, Path(output.matches[0].path).name) == ("altered", "one.txt")


def test_the_closest_text_may_stand_elsewhere(engine: Engine, folder: Path) -> None:
    output = engine.verify_quote("Inspect the hives every tenth day in May", path=str(folder / "bread.txt"))
    assert output.verdict == "altered"
    assert output.matches[0].path == str(folder / "bees.txt")
    assert output.notice == "The closest text stands elsewhere than in what was named."


@pytest.mark.parametrize(
    ("quote", "verdict"),
    [("negotiable", "not_found"), ("is negotiable", "altered"), ("5", "not_found"), ("costs 5", "altered"),
     ("You can", "altered"), ("non-negotiable", "exact")],
)  # fmt: skip
def test_a_part_of_a_word_is_altered_or_without_half_of_the_words_not_found(
    open_engine: EngineFactory, tmp_path: Path, quote: str, verdict: str
) -> None:
    (tmp_path / "price.txt").write_text("It costs 1.5 million. You can't haggle: it is non-negotiable.")
    engine = open_engine()
    engine.index_path(tmp_path / "price.txt")
    assert engine.verify_quote(quote, path="price.txt").verdict == verdict


def test_what_is_nowhere_is_not_found(engine: Engine) -> None:
    output = engine.verify_quote("Quantum computers will bake all bread", passage_id=passage(engine, 5))
    assert (output.verdict, output.matches, output.status) == ("not_found", [], "current")
    assert engine.verify_quote("Quantum computers will bake all bread").status is None
    assert engine.verify_quote("===").verdict == "not_found"


def test_a_quote_may_run_over_passages_of_a_file(engine: Engine) -> None:
    quote = "the baker of house 5.\n\nParagraph 6 says that"
    for target in ({"passage_id": passage(engine, 5)}, {"passage_id": passage(engine, 6)}, {"path": "bread.txt"}, {}):
        output = engine.verify_quote(quote, **target)
        assert output.verdict == "exact", target
        assert output.matches[0].passage_ids == [passage(engine, 5), passage(engine, 6)]
        assert (output.matches[0].line_start, output.matches[0].line_end) == (11, 13)
        assert first_text(output) == quote
    joined = engine.verify_quote(" ".join(quote.split()), passage_id=passage(engine, 5))
    assert joined.verdict == "normalised"
    assert engine.verify_quote(quote, passage_id=passage(engine, 9)).verdict == "misattributed"


def test_an_elided_quote_is_of_one_passage_and_says_what_it_leaves_out(engine: Engine) -> None:
    quote = "starter number 5 smells … It is fed 5 times every day"
    output = engine.verify_quote(quote, passage_id=passage(engine, 5))
    assert (output.verdict, output.omitted) == ("elided", [" of varnish when it is hungry, not spoiled. "])
    assert [first_text(output)[a - output.matches[0].char_start :][: b - a] for a, b in output.matches[0].spans] == [
        "starter number 5 smells",
        "It is fed 5 times every day",
    ]
    assert engine.verify_quote(quote).verdict == "elided"
    assert engine.verify_quote(quote, passage_id=passage(engine, 6)).verdict == "misattributed"
    over = "starter number 5 smells of varnish … starter number 6 smells of varnish"
    for target in ({"passage_id": passage(engine, 5)}, {"path": "bread.txt"}, {}):
        assert engine.verify_quote(over, **target).verdict == "altered"


def test_text_without_spaces_is_found_and_compared(engine: Engine, folder: Path) -> None:
    assert engine.verify_quote("天气非常好我们去公园").verdict == "exact"
    assert engine.verify_quote("天气非常好我们去公园", path="bread.txt").verdict == "misattributed"
    altered = engine.verify_quote("天气非常不好我们去公园散步")
    assert altered.verdict == "altered"
    assert [(e.op, e.quote) for e in altered.diff or [] if e.op != "same"] == [("added", "不")]


def test_the_verdict_is_on_the_indexed_text_and_the_status_on_the_file(engine: Engine, folder: Path) -> None:
    file, quote = folder / "bread.txt", "starter number 5 smells of varnish"
    spanning = "the baker of house 5.\n\nParagraph 6 says that"
    text = file.read_text()
    file.write_text("A new first line.\n\n" + text)
    moved = engine.verify_quote(quote, path="bread.txt")
    assert (moved.verdict, moved.status) == ("exact", "relocated")
    assert first_text(moved) == quote
    assert moved.matches[0].line_start == 13
    both = engine.verify_quote(spanning)
    assert (both.verdict, both.status, first_text(both)) == ("exact", "relocated", spanning)
    file.write_text(text.replace("Paragraph 6 says", "A line between.\n\nParagraph 6 says"))
    apart = engine.verify_quote(spanning)
    assert (apart.verdict, apart.status) == ("exact", "modified")
    assert apart.status_reason == "what the quote spans no longer stands together in the file"
    file.write_text(text.replace("number 5 smells", "number 5 reeks"))
    assert engine.verify_quote(quote).status == "modified"
    assert engine.verify_quote("starter number 5 reeks of varnish").verdict == "altered"
    file.rename(folder / "other.txt")
    gone = engine.verify_quote(quote)
    assert (gone.verdict, gone.status) == ("exact", "missing")
    assert gone.status_reason


def test_a_former_passage_is_verified_against_its_kept_text(engine: Engine, folder: Path) -> None:
    old = passage(engine, 5)
    (folder / "bread.txt").write_text("\n\n".join(PARAGRAPHS).replace("number 5 smells", "number 5 reeks"))
    engine.index_path(folder)
    output = engine.verify_quote("starter number 5 smells of varnish", passage_id=old)
    assert (output.verdict, output.status) == ("exact", "modified")
    assert output.notice is not None
    assert "earlier state" in output.notice
    assert engine.verify_quote("starter number 5 smells of varnish").verdict == "altered"


def test_a_client_sees_nothing_outside_its_roots(engine: Engine, folder: Path) -> None:
    scope = (os.fsencode(folder / "bees.txt"),)
    hidden = engine.verify_quote("starter number 5 smells of varnish", scope=scope)
    assert (hidden.verdict, hidden.matches) == ("not_found", [])
    for target in ({"passage_id": passage(engine, 5)}, {"path": str(folder / "bread.txt")}):
        with pytest.raises(PassageNotFoundError):
            engine.verify_quote("starter number 5", **target, scope=scope)
    assert engine.verify_quote("A queen cell means", scope=scope).verdict == "exact"


@pytest.mark.parametrize("words", ["The secret code of the vault is blue.", "今天的天气非常好我们去公园散步。"])
def test_files_outside_of_the_scope_hide_nothing_inside(open_engine: EngineFactory, tmp_path: Path, words: str) -> None:
    for name in [f"out/{n}.txt" for n in range(60)] + ["in-other/a.txt", "in/a.txt"]:
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).write_text(words + (" And more that makes it long." * (name == "in/a.txt")))
    engine = open_engine()
    engine.index_path(tmp_path / "all")
    inside = tmp_path / "all" / "in" / "a.txt"
    for scope in (inside, inside.parent):
        output = engine.verify_quote(words, scope=(os.fsencode(scope),))
        assert (output.verdict, [match.path for match in output.matches]) == ("exact", [str(inside)])


@pytest.mark.parametrize(
    ("decoy", "true"),
    [
        ("It costs 1,5 million euros in all.", "It costs 1.5 million euros in all."),
        ("There are -5 apples in the box.", "5 apples in the box."),
        ("IT COSTS A MILLION EUROS IN ALL.", "It costs a million euros in all."),
        ("git checkout - the file", "git checkout -- the file"),
    ],
)
def test_however_many_others_match_its_words_a_true_quote_is_exact(
    open_engine: EngineFactory, tmp_path: Path, decoy: str, true: str
) -> None:
    (tmp_path / "all").mkdir()
    for n in range(60):
        (tmp_path / "all" / f"{n}.txt").write_text(decoy)
    (tmp_path / "all" / "z.txt").write_text("This file is longer than the others are. " + true)
    engine = open_engine()
    engine.index_path(tmp_path / "all")
    output = engine.verify_quote(true)
    assert (output.verdict, Path(output.matches[0].path).name) == ("exact", "z.txt")


@pytest.mark.parametrize(
    ("quote", "target", "error", "sentence"),
    [
        (" “” ", {}, EmptyQueryError, "quote is empty"),
        ("x" * 100_000, {}, QueryError, "100000 characters"),
        ("x y", {"passage_id": "nonsense"}, PassageNotFoundError, "not a passage id"),
        ("x y", {"passage_id": "f" * 16}, PassageNotFoundError, "no passage"),
        ("x y", {"path": "/no/such/file"}, PassageNotFoundError, "No indexed file is at"),
        ("x y", {"path": "file:///%00"}, PassageNotFoundError, "No indexed file is at"),
        ("x y", {"path": ""}, PassageNotFoundError, "No indexed file is at"),
        ("x y", {"path": "bread.txt", "passage_id": "f" * 16}, QueryError, "give one of them"),
    ],
)
def test_what_cannot_be_verified_is_an_error(
    engine: Engine, quote: str, target: dict[str, str], error: type[QueryError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        engine.verify_quote(quote, **target)


def test_an_empty_index_says_so(open_engine: EngineFactory) -> None:
    output = open_engine().verify_quote("anything at all")
    assert (output.verdict, output.notice) == ("not_found", "Nothing is indexed yet.")


@pytest.mark.parametrize(
    "quote", ['"', '" OR "x', "NEAR(a b)", "a\0b", "* ^ - :", "²²² ́ ́ ́ ́ … ́ ́ ́ ́ a", "text: x AND y", "𝔘𝔫𝔦 ﷺ ٣", "'; DROP"]
)
def test_no_quote_breaks_the_full_text_query(engine: Engine, quote: str) -> None:
    assert engine.verify_quote(f"{quote} z").verdict == "not_found"


def test_an_answer_is_verified_quotation_by_quotation(engine: Engine, folder: Path) -> None:
    url = (folder / "bread.txt").as_uri()
    answer = (
        f"It says “starter number 5 smells of varnish” ([Bread]({url}#L11-L11)). A “scare” word.\n\n"
        f"- “starter number 5 smells of vinegar” [Bread]({url})\n"
        f"- “starter number 7 smells of varnish” {passage(engine, 5)}\n"
        f"- “A queen cell means swarming” [Bees](file:///gone.txt)\n"
        f"- “A **queen cell** means `swarming`” [Bees]({(folder / 'bees.txt').as_uri()})\n"
        f"- “…” and “no such words anywhere”\n"
    )
    output = engine.verify_answer(answer)
    assert [check.output.verdict for check in output.checks if check.output] == [
        "exact",
        "altered",
        "misattributed",
        "misattributed",
        "exact",
        "not_found",
    ]
    assert [check.line for check in output.checks] == [1, 3, 4, 5, 6, 7]
    assert (output.verified, output.skipped) == (2, 2)
    assert output.checks[3].problem is not None
    assert "No indexed file" in output.checks[3].problem


def test_a_file_may_be_cited_by_its_name(engine: Engine, folder: Path) -> None:
    answer = (
        "It says “A queen cell means swarming” (bees.txt:2), and in `bread.txt` “A queen cell means swarming”.\n\n"
        "As the unknown.txt has it, “starter number 5 smells of varnish”.\n\n"
        f"“starter number 7 smells of varnish” ({folder.name}/bread.txt) and “A queen cell means swarming” (gone.txt)"
    )
    output = engine.verify_answer(answer)
    assert [(check.citation, check.output.verdict) for check in output.checks if check.output] == [
        ("bees.txt:2", "exact"),
        ("bread.txt", "misattributed"),
        (None, "exact"),
        ("sources/bread.txt", "exact"),
        ("gone.txt", "misattributed"),
    ]


@pytest.mark.parametrize(
    ("cited", "verdict"),
    [("bees.txt", "misattributed"), ("`bees.txt`", "misattributed"), ("bread.txt:19", "misattributed"),
     ("bread.txt, line 11", "exact")],
)  # fmt: skip
@pytest.mark.parametrize("behind", [" She left.", " and left", " Then she left, and"])
def test_a_wrong_name_in_brackets_is_told_also_behind_a_full_stop_within_the_marks(
    engine: Engine, cited: str, verdict: str, behind: str
) -> None:
    (check,) = engine.verify_answer(
        f"She said “It is fed 5 times every day by the baker of house 5.” ({cited}){behind}"
    ).checks
    assert check.output is not None
    assert (check.citation, check.output.verdict) == (cited.strip("`"), verdict)


def test_one_or_two_words_are_verified_where_their_sentence_cites(engine: Engine) -> None:
    answer = (
        "A queen cell means “swarming”, says bees.txt. By bread.txt it is fed “50 times” every day. A “scare” word."
    )
    output = engine.verify_answer(answer)
    assert [check.output.verdict for check in output.checks if check.output] == ["exact", "altered"]
    assert (output.verified, output.skipped) == (1, 1)


@pytest.mark.parametrize(
    "place",
    [", line {}", " line {}", " (lines {} to {})", ":{}", ", l. {}", " L{}", ", ll. {}–{}", ", lines {} and {}"],
)
def test_the_lines_that_a_citation_gives_are_compared_however_they_are_written(
    engine: Engine, folder: Path, place: str
) -> None:
    quote = "“starter number 5 smells of varnish”"
    url = (folder / "bread.txt").as_uri()
    for line, verdict in ((11, "exact"), (19, "misattributed")):
        for cited in (f"bread.txt{place}", f"[bread.txt{place}]({url})"):
            (check,) = engine.verify_answer(f"{quote} ({cited.format(line, line)})").checks
            assert check.output is not None
            assert check.output.verdict == verdict, cited


def test_a_quotation_that_cannot_be_read_is_not_verified(engine: Engine) -> None:
    output = engine.verify_answer("It says “starter number 5 smells of varnish, they say.\n\n“smells of varnish when”")
    assert [(check.output is None, check.problem is None) for check in output.checks] == [(True, False), (False, True)]
    assert output.verified == 1


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """``bench/verify.py``, which makes quotes whose truth it knows."""
    spec = importlib.util.spec_from_file_location("bench_verify", PROJECT / "bench" / "verify.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made_up_files(folder: Path, chance: random.Random, vocabulary: list[str]) -> None:
    for number in range(12):
        paragraphs = []
        for _ in range(14):
            sentences = []
            for _ in range(chance.randint(2, 4)):
                words = chance.choices(vocabulary, k=chance.randint(7, 16))
                words.insert(
                    3, chance.choice(["is", "can", "is not", "don’t", f"{chance.randint(1000, 9999):,}", "“now”"])
                )
                sentences.append(" ".join(words).capitalize() + chance.choice([".", ".", "!", "?"]))
            paragraphs.append(" ".join(sentences).replace(" a", chance.choice([" a", "\na"])))
        path = folder / f"part {number % 3}" / f"file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(paragraphs) + "\n")


def test_verdicts_and_statuses_are_true_for_generated_quotes(
    generator: ModuleType, open_engine: EngineFactory, tmp_path: Path
) -> None:
    chance = random.Random(7)
    letters = "abcdefghiklmnoprstuvéfi"
    vocabulary = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(600)]
    made_up_files(tmp_path / "files", chance, vocabulary)
    engine = open_engine(HashEncoder())
    engine.index_path(tmp_path / "files")
    corpus = generator.Corpus(tmp_path / "index" / "catalog.sqlite")
    other = [" ".join(chance.choices(vocabulary, k=12)) + "." for _ in range(50)]
    cases = generator.Maker(corpus, other, 7).cases(200)
    assert len(cases) == 200
    assert len({case.kind for case in cases}) == 12
    generator.edit(sorted(corpus.of_file), chance)
    tally = generator.judge(engine, corpus, cases)
    assert [(case.kind, case.quote, output.verdict) for case, output in tally.wrong] == []
    assert (tally.false_verified, tally.wrong_places) == (0, 0)
    assert {said for _, said in tally.statuses} == {"current", "relocated", "modified", "missing"}
    assert all(true == said for true, said in tally.statuses)
