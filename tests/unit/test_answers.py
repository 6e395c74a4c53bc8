import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_mcp.answers import quotations

BREAD = "file:///n/bread.md#L1-L3"


def cited(answer: str) -> list[tuple[str, str | None]]:
    """The quotations of an answer and what each belongs to."""
    return [(quotation.text, quotation.citation) for quotation in quotations(answer)[0]]


@pytest.mark.parametrize(
    "answer",
    [
        f"It says “it smells of varnish” ([Bread]({BREAD})).",
        f'It says "it smells of varnish" [Bread]({BREAD}).',
        f"Es sagt „it smells of varnish“ [Bread](<{BREAD}>).",
        f'Il dit «it smells of varnish» [Bread]({BREAD} "a title").',
        f"It says [“it smells of varnish”]({BREAD}).",
        f"In [Bread]({BREAD}) it says “it smells of varnish”.",
        f"- one\n- It says “it smells of varnish”\n\n  and more, {BREAD}.\n- “three”",
        f"> it smells of varnish\n> — [Bread]({BREAD})",
        f"> it smells of varnish ([Bread]({BREAD}))",
        f"> it smells of varnish\n\n— [Bread]({BREAD})",
        f"As [Bread]({BREAD}) has it:\n\n> it smells of varnish\n\nAnd so on.",
        f"> it smells of varnish\n\nSo it stands in [Bread]({BREAD}).",
        f"| what | where |\n|---|---|\n| “it smells of varnish” | [Bread]({BREAD}) |",
        f"## “it smells of varnish” [Bread]({BREAD})",
    ],
)
def test_a_quotation_belongs_to_the_nearest_citation(answer: str) -> None:
    assert cited(answer) == [("it smells of varnish", BREAD)]


@pytest.mark.parametrize(
    ("written", "passage_id", "path"),
    [
        ("76cb8bd5041573d8", "76cb8bd5041573d8", None),
        ("`76cb8bd5041573d8`", "76cb8bd5041573d8", None),
        ("passage://76cb8bd5041573d8", "passage://76cb8bd5041573d8", None),
        ("[t](passage://76cb8bd5041573d8)", "passage://76cb8bd5041573d8", None),
        ("<file:///a%20b.md>", None, "file:///a%20b.md"),
        ("[t](file:///a(1).md#L2)", None, "file:///a(1).md#L2"),
        ("[t](https://example.org/76cb8bd5041573d8)", None, None),
        ("abc76cb8bd5041573d8", None, None),
    ],
)
def test_citations_are_files_and_passages(written: str, passage_id: str | None, path: str | None) -> None:
    ((quotation,), _) = quotations(f"“one two three” {written}")
    assert (quotation.passage_id, quotation.path) == (passage_id, path)


def test_the_citation_after_comes_before_the_one_before() -> None:
    answer = "From file:///a.md “first one here” and “second one here” file:///b.md, then “third one here”.\n\n“fourth one here”"
    assert cited(answer) == [
        ("first one here", "file:///b.md"),
        ("second one here", "file:///b.md"),
        ("third one here", "file:///b.md"),
        ("fourth one here", None),
    ]


def test_each_quotation_has_the_citation_that_follows_it() -> None:
    answer = "“one two three” file:///a.md and “four five six” file:///b.md, “seven eight nine” file:///c.md"
    assert [citation for _, citation in cited(answer)] == ["file:///a.md", "file:///b.md", "file:///c.md"]


def test_code_and_addresses_hold_no_quotations() -> None:
    answer = (
        'Call `print("one two three")` or ``say("`one two three`")``.\n\n```\n"one two three"\n> one two three\n```\n\n'
        '    "one two three"\n\n[x](file:///%22one%20two%20three%22 "one two three")\n'
    )
    assert quotations(answer) == ([], 0)


def test_a_quotation_may_hold_code_emphasis_and_links() -> None:
    ((quotation,), _) = quotations("“use **the** `retry_after` header\\_name, see [this](file:///x.md)” file:///y.md")
    assert quotation.text == "use **the** `retry_after` header\\_name, see [this](file:///x.md)"
    assert quotation.plain == "use the retry_after header_name, see this"
    assert quotation.citation == "file:///y.md"


def test_scare_quotes_are_skipped_and_counted() -> None:
    kept, skipped = quotations("A “scare” word, “two words”, “…” and “three of them”.\n\n“One” file:///a.md")
    assert ([q.text for q in kept], skipped) == (["three of them", "One"], 3)


def test_inches_and_apostrophes_are_no_quotation_marks() -> None:
    assert quotations("A 5\" pipe and a 6\" pipe, it's what the dogs' owner said.") == ([], 0)


def test_a_block_quote_is_one_quotation_without_its_attribution() -> None:
    answer = f"Text.\n\n> First line\n> goes on.\n>\n> - item\n>\n> — Someone, [Bread]({BREAD})\n\n> [!NOTE]\n> no quotation\n"
    ((quotation,), _) = quotations(answer)
    assert quotation.text == "First line\ngoes on.\n\nitem"
    assert (quotation.line, quotation.citation) == (3, BREAD)


def test_lines_are_those_of_the_answer() -> None:
    answer = "# T\n\nOne\ntwo “three four five”\n\n- six\n\n  seven “eight nine ten”\n"
    assert [q.line for q in quotations(answer)[0]] == [4, 8]


@given(st.text('“”"„«»`>-[]()\n \\*_file:/a1|#', max_size=200))
def test_any_text_is_read(answer: str) -> None:
    kept, skipped = quotations(answer)
    assert skipped >= 0
    assert all(1 <= quotation.line <= answer.count("\n") + 1 and quotation.text.strip() for quotation in kept)
