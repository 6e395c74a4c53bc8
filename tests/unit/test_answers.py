import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_mcp.quoting.answers import quotations

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
        ("[t](#section)", None, None),
        ("[t](/notes/a.md#L5)", None, "/notes/a.md#L5"),
        ("[t](notes/my%20file.md)", None, "notes/my%20file.md"),
        ("(/notes/a.md:5)", None, "/notes/a.md:5"),
        ("`/notes/a.md:5-7`", None, "/notes/a.md:5-7"),
        ("/notes/a.md.", None, "/notes/a.md"),
        ("[t][1]\n\n[1]: /notes/a.md", None, "/notes/a.md"),
        ("and/or 1/2.5 or either/or", None, None),
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
    assert quotations('| 5 cm | x |\n|---|---|\n| " | y |') == ([], 0)
    assert quotations('5 " by 6½", 7\\" or 8\u00a0" wide, and in Hebrew צה"ל.') == ([], 0)


def test_a_block_quote_is_one_quotation_without_its_attribution() -> None:
    answer = f"Text.\n\n> First line\n> goes on.\n>\n> - item\n>\n> — Someone, [Bread]({BREAD})\n\n> [!NOTE]\n> no quotation\n"
    ((quotation,), _) = quotations(answer)
    assert quotation.text == "First line\ngoes on.\n\n- item"
    assert (quotation.line, quotation.citation) == (3, BREAD)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("> one\n> - two\n> - three", "one\n- two\n- three"),
        ("> 3. one two\r\n> 4. three", "3. one two\n4. three"),
        ("- > one\n  > - two\n  three", "one\n- two\n  three"),
        ("1. > one two\n   >> three", "one two\n> three"),
        ("> one\n> ```\n> rm -rf /\n> ```", "one\n```\nrm -rf /\n```"),
        ("> # one\n>\n> two — three\n> — and four", "# one\n\ntwo — three\n— and four"),
    ],
)
def test_marks_code_and_last_lines_of_a_block_quote_are_text(answer: str, text: str) -> None:
    ((quotation,), _) = quotations(answer)
    assert quotation.text == text


def test_marks_in_a_block_quote_are_taken_out_with_one_space() -> None:
    ((quotation,), _) = quotations(
        f"> one two. [1] three [^2], four ({A}) five\n> — never six ({A})\n\n[1]: {A}\n[^2]: {B}"
    )
    assert quotation.text == "one two. three, four five\n— never six"
    assert quotation.citation == A


def test_lines_are_those_of_the_answer() -> None:
    answer = "# T\n\nOne\ntwo “three four five”\n\n- six\n\n  seven “eight nine ten”\n"
    assert [q.line for q in quotations(answer)[0]] == [4, 8]


A, B = "file:///n/a.md", "file:///n/b.md"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f"- [a]({A})\n  > one two three\n- [b]({B})\n  > four five six", [A, B]),
        (f"- > one two three\n\n  [a]({A})\n- [b]({B}) “four five six”", [A, B]),
        (f"- > one two three\n- [b]({B})", [None]),
        (f"As [a]({A}) says:\n\n> one two three\n\n- [b]({B}) is another", [A]),
        (f"1. “one two three”\n   - [b]({B})\n2. “four five six” [a]({A})", [None, A]),
    ],
)
def test_a_list_item_is_on_its_own(answer: str, expected: list[str | None]) -> None:
    assert [citation for _, citation in cited(answer)] == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f"Per [b]({B}), “one two three”. [a]({A}) covers other things.", [B]),
        (f"In [a]({A}): “one two three”. In [b]({B}): “four five six”.", [A, B]),
        (f"It says “one two three.” [a]({A})", [A]),
        (f"It says “one two three”. [a]({A})", [A]),
        (f"It says “one two three”. (source: [a]({A})) And [b]({B}).", [A]),
        (f"It says “one two three”. Source: {A}.", [A]),
        (f"[b]({B}) says so. It says “one two three”. Then [a]({A}) says no.", [B]),
        (f"It says “one two three”. Then [a]({A}) says no.", [None]),
        (f"In [a]({A}) he says “One. Two. Three.” In [b]({B}) he says “four five six.”", [A, B]),
        (f"It says “One two. Three four! Five” ([a]({A})).", [A]),
        (f"“One two three.” [a]({A}). “Four five six.” [b]({B}).", [A, B]),
        (f"In [b]({B}) is more. “One two three.” [a]({A})", [A]),
        (f"As e.g. “one two three”, p. 5 of [a]({A}). Not [b]({B}).", [A]),
        (f"他说「一二三四五六」[a]({A})。另见「一二三四五七」[b]({B})。", [A, B]),
        (f"Per [b]({B}), “one two three.” ([a]({A})) Then more.", [A]),
        (f"Per [b]({B}), “one two three.” [a]({A}) covers other things.", [B]),
        (f"“One two three.” ([a]({A})) He says “four five six” in [b]({B}).", [A, B]),
    ],
)
def test_a_citation_belongs_to_the_quotation_of_its_own_sentence(answer: str, expected: list[str | None]) -> None:
    assert [citation for _, citation in cited(answer)] == expected


@pytest.mark.parametrize(
    "answer",
    [
        f"“one two three”[^1]\n\n[^1]: {A}",
        f"“one two three”[^1].\n\n[^1]: See [a]({A}), page 2.\n[^2]: {B}",
        f"“one two three” [the A][1]\n\n[1]: {A}",
        f"“one two three” [1]\n\n[1]: <{A}> 'some title'",
        f"“one two three” [The a][]\n\n[the A]: {A}",
        f"> one two three\n> — [a][x]\n\n[x]: {A}",
        f"“one two three” [a](<{A}>)",
        f'“one two three” <a href="{A}">a</a>',
        f"“one two three” [a]({A} 'four five \"six seven eight\"')",
        f'“one two three” [a]({A} "four “five six seven” eight")',
        f'\\"one two three\\" [a]({A})',
        f'"one two three" [a]({A})',
        f"‘one two three’ [a]({A})",
        f"'one two three' [a]({A})",
        f"»one two three« [a]({A})",
        f"”one two three” [a]({A})",
        f'„one two three" [a]({A})',
        f"「one two three」[a]({A})",
        f"『one two three』[a]({A})",
        f"« one two three » [a]({A})",
        f"›one two three‹ [a]({A})",
        f"> [a]({A}): one two three",
        f"> **[a]({A})**\n> one two three",
        f"> one two three *([a]({A}))*",
        f"> one two three ^[[a]({A})]",
        f"&ldquo;one two three&rdquo; [a]({A})",
        f"&#8220;one two three&#x201D; [a]({A})",
        f"&quot;one two three&quot; [a]({A})",
        f"<q>one two three</q> [a]({A})",
        f"<blockquote>one two three</blockquote>\n\n[a]({A})",
        f"<blockquote>\n\none two three\n\n</blockquote>\n\n[a]({A})",
        f"[a]({A}) says <blockquote>one two three</blockquote> and more.",
        f"<p>“one two three” [a]({A})</p>",
        f"> [!NOTE]\n> “one two three” [a]({A})",
        f'name="one two three" [a]({A})',
        f'name,"one two three" [a]({A})',
    ],
)
def test_whatever_a_quotation_and_its_citation_are_written_with_they_are_seen(answer: str) -> None:
    assert cited(answer) == [("one two three", A)]


def test_a_target_may_hold_spaces_and_an_id_capitals() -> None:
    assert cited("“one two three” [a](<file:///a b.md>)") == [("one two three", "file:///a b.md")]
    assert cited("“one two three” [0123456789ABCDEF]") == [("one two three", "0123456789abcdef")]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            "“The mayor said “The sky is blue today” and then resigned in disgrace” [a](file:///a.md)",
            "The mayor said “The sky is blue today” and then resigned in disgrace",
        ),
        (
            '"The mayor said "The sky is blue today" and then resigned in disgrace" [a](file:///a.md)',
            'The mayor said "The sky is blue today" and then resigned in disgrace',
        ),
        ("‘It’s the dogs’ owner’s house’ [a](file:///a.md)", "It’s the dogs’ owner’s house"),
        ("“’Tis the dogs’ house and ‘90s music” [a](file:///a.md)", "’Tis the dogs’ house and ‘90s music"),
        ("„He said ‚one two three‘ to us“ [a](file:///a.md)", "He said ‚one two three‘ to us"),
        ("「他说『今天天气很好』就走了」[a](file:///a.md)", "他说『今天天气很好』就走了"),
    ],
)
def test_the_outer_quotation_is_the_one(answer: str, text: str) -> None:
    assert cited(answer) == [(text, "file:///a.md")]


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ("“one two three\n\nfour five six” [a](file:///a.md)", [1, 3]),
        ("It says “one two three and [a](file:///a.md)", [1]),
        ('It says "one two three and [a](file:///a.md)', [1]),
        ('It says " one two three " [a](file:///a.md)', [1, 1]),
        ('It says one two three" and more', [1]),
        ('It says one two `three`" and more', [1]),
        ('A 5" pipe\nand one two three " of it', [2]),
        ("It’s ‘one “two” three” four", [1]),
        ("He says ＂one two three", [1]),
        ("It says one two three” [a](file:///a.md)", [1]),
        ("「one two three", [1]),
        ("He “opens and “one two three” file:///a.md", [1]),
    ],
)
def test_what_looks_quoted_but_has_one_mark_is_told(answer: str, places: list[int]) -> None:
    assert [q.line for q in quotations(answer)[0] if q.problem] == places


def test_a_quotation_inside_of_one_without_an_end_is_seen() -> None:
    assert ("one two three", "file:///a.md") in cited("He “opens and “one two three” file:///a.md")


def test_apostrophes_alone_are_no_quotation() -> None:
    assert quotations("’Tis ‘90s rock ’n’ roll, the dogs’ and cats’ house, don't, 6'2\" and 5′.") == ([], 0)


PLACES = [", line 7", ", lines 7-9", " lines 7 to 9", " (line 7)", ", p. 7", ", pp. 7–9", " L7", ", l. 7", " (Cell 7)"]
INDEXED = {
    "docs/setup.md",
    "setup.md",
    "docs/setup.md:7",
    "setup.md, line 7",
    "my notes.txt",
    "~/n/a.md",
    "main.py",
    "README.md",
}


@pytest.mark.parametrize(
    ("answer", "citation"),
    [
        ("It says “one two three” (docs/setup.md).", "docs/setup.md"),
        ("It says “one two three” (`docs/setup.md:7`).", "docs/setup.md:7"),
        ("It says “one two three” (see setup.md, line 7).", "setup.md, line 7"),
        ("It says “one two three”, `my notes.txt`.", "my notes.txt"),
        ("“One two three.” — **~/n/a.md**", "~/n/a.md"),
        ("“One two three.” Source: `setup.md`.", "setup.md"),
        ("As setup.md says: “one two three”.", "setup.md"),
        ('In "setup.md": "one two three".', "setup.md"),
        ("- `main.py`: “one two three”", "main.py"),
        ("| setup.md | “one two three” |\n|---|---|", "setup.md"),
        ("“one two three”[^1]\n\n[^1]: The guide, setup.md.", "setup.md"),
        ("“one two three” [1].\n\n[1]: setup.md", "setup.md"),
        ("“one two three” (docs/missing.md)", "docs/missing.md"),
        ("“one two three” [lib/missing.py:7]", "lib/missing.py:7"),
    ],
)
def test_the_name_of_a_file_is_a_citation(answer: str, citation: str) -> None:
    found, skipped = quotations(answer, INDEXED.__contains__)
    assert [(q.text.lower().strip("."), q.citation, q.path) for q in found] == [("one two three", citation, citation)]
    assert skipped == 0


@pytest.mark.parametrize("behind", [" She left.", " and left", " Then she left", " “Four five six,” she said."])
@pytest.mark.parametrize("quoted", ["“One two three.”", "“One two three!”", "“one two three”."])
def test_a_name_in_brackets_behind_a_quotation_is_its_citation_whatever_follows(quoted: str, behind: str) -> None:
    for citation in ("setup.md", "setup.md, line 7", "docs/setup.md:7", "docs/missing.md"):
        for written in ("({})", "(see {})", "[{}]", "({} has it)", "(`{}`)", "<{}>"):
            found, _ = quotations(f"She said {quoted} {written.format(citation)}{behind}", INDEXED.__contains__)
            # What is between backticks is a name, and its place stands behind them.
            assert found[0].citation == citation or (written, citation) == ("(`{}`)", "setup.md, line 7")


def test_a_name_behind_a_quotation_is_its_citation_also_with_words_beside_it_or_before_a_capital() -> None:
    for written in ("(p. 2 of setup.md)", "(The guide, setup.md, has it)", "**setup.md**", "`setup.md`"):
        for quoted in ("“One two three.”", "“one two three”."):
            ((quotation,), _) = quotations(f"She said {quoted} {written} She left.", INDEXED.__contains__)
            assert quotation.citation == "setup.md", written


def test_a_sentence_behind_a_citation_in_brackets_is_another() -> None:
    found, _ = quotations(
        "“One two three.” (setup.md) She says “four five six” in main.py. But “seven eight nine.”", INDEXED.__contains__
    )
    assert [q.citation for q in found] == ["setup.md", "main.py", None]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "written", ["setup.md{}", "`setup.md`{}", "[Set-up](setup.md){}", "[Set-up{}](setup.md)", "/n/setup.md{}"]
)
def test_the_place_in_a_file_belongs_to_its_citation(written: str, place: str) -> None:
    indexed = {"setup.md", f"setup.md{place}"}
    for answer in ("“One two three.” ({})", "> one two three.\n> — {}"):
        ((quotation,), _) = quotations(answer.format(written.format(place)), indexed.__contains__)
        assert (quotation.text.lower(), quotation.citation) in [
            ("one two three.", f"{folder}setup.md{place}") for folder in ("", "/n/")
        ]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("### setup.md\n\n“one two three”\n\nText.\n\n- “four five six”", ["setup.md", "setup.md"]),
        ("### 2. `setup.md` — guide\n\n“one two three”\n\n### More\n\n“four five six”", ["setup.md", None]),
        ("### All about setup.md\n\n“one two three”", [None]),
        ("As setup.md says:\n\n- “one two three”\n- “four five six”", ["setup.md", "setup.md"]),
        ("See main.py. Facts:\n\n- “one two three”", [None]),
        ("As setup.md says:\n\n- “one two three”\n\n“four five six”", ["setup.md", None]),
        ("- `setup.md`\n  - “one two three”\n- “four five six”", ["setup.md", None]),
        ("**setup.md**\n- “one two three”\n- “four five six” (main.py)", ["setup.md", "main.py"]),
        ("“one two three”\n\n— setup.md\n\n“four five six”", ["setup.md", None]),
        ("“one two three”\n\nsetup.md:\n\n“four five six”", [None, "setup.md"]),
        ("**setup.md**\n\n“one two three”\n\n**main.py**\n\n“four five six”", ["setup.md", "main.py"]),
        ("`setup.md` says “one two three”, while main.py says “four five six”.", ["setup.md", "main.py"]),
        ("setup.md says “one two three” (p. 2 of main.py).", ["main.py"]),
        ("“one two three” [1], “four five six” [2].\n\nSources:\n[1] setup.md\n[2] main.py", ["setup.md", "main.py"]),
        ("“one two three” in `items[1]` [2].\n\nSources:\n[1] setup.md\n[2] main.py", ["main.py"]),
        ("“one two three” [2].\n\n## Sources\n\n1. setup.md\n\n2. main.py\n", ["main.py"]),
        ("“one two three” [2].\n\nSources\n\n1. `setup.md`\n2. `main.py`\n", ["main.py"]),
        ("“one two three” [2].\n\n**Sources**\n[1]: setup.md\n[2]: main.py\n", ["main.py"]),
        ("メモには「one two three。」とある（setup.md）。", ["setup.md"]),
        ("“one two three” (_setup.md_) and “four five six” (@main.py)", ["setup.md", "main.py"]),
        ("“one two three” <setup.md>", ["setup.md"]),
        ('"one two three"¹ (setup.md)', ["setup.md"]),
        ("> “one two three”\n> — `setup.md`, lines 3-4", ["setup.md, lines 3-4"]),
    ],
)
def test_titles_lists_of_sources_and_clauses_cite(answer: str, expected: list[str | None]) -> None:
    found, _ = quotations(answer, (INDEXED | {"setup.md, lines 3-4"}).__contains__)
    assert [(q.citation, q.problem) for q in found] == [(citation, None) for citation in expected]


def test_plainly_a_block_quote_has_no_line_breaks_of_html_and_no_quote_in_it() -> None:
    ((quotation,), _) = quotations("> > one<br>two\n> > three")
    assert (quotation.text, quotation.plain) == ("> one<br>two\n> three", "one\ntwo\nthree")


@pytest.mark.parametrize(
    "answer",
    [
        "The setup.md is long. It says “one two three”.",
        "“One two three.” The setup.md says more.",
        "“One two three.” README.md says more.",
        "It says “one two three” of docs/missing.md.",
        "It says “one two three” (Node.js).",
        "It says “one two three” (example.org/guide.html).",
        "It says “one two three” (e.g. v1.2, www.example.org/a.html, https://example.org/setup.md, me@setup.md).",
        "It says “one two three” (`cat setup.md`).",
        "It says “see setup.md for more” and “one two three”.",
        "It says “one two three” as xsetup.md, setup.md.bak, other/setup.md.",
        "As docs/missing.md has it, “one two three”.",
    ],
)
def test_what_is_merely_mentioned_is_no_citation(answer: str) -> None:
    found, _ = quotations(answer, INDEXED.__contains__)
    assert ("one two three", None) in [(q.text.lower().strip("."), q.citation) for q in found]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It is “5 bar”, says setup.md.", ["setup.md"]),
        ("In [setup](docs/setup.md) the pump turns off at “5 bar”.", ["docs/setup.md"]),
        ('The guide says: "E0117" is a fault (setup.md).', ["setup.md"]),
        ("A “two words” (setup.md), “some more” as in main.py.", ["setup.md", "main.py"]),
        ("At “5 bar” it stops and “one two three” (setup.md).", ["setup.md", "setup.md"]),
        ("| “5 bar” | setup.md |\n|---|---|", ["setup.md"]),
        ("It is “5 bar.” (setup.md) Then it stops.", ["setup.md"]),
        ("It is “5 bar”. (see setup.md) Then it stops.", ["setup.md"]),
        (f"It is “5 bar.” [a]({A}) says so.", [A]),
        (f"It is “5 bar”. [a]({A})", [A]),
        (f"It is “5 bar”. Source: [a]({A}).", [A]),
        ('The guide says: "E0117" is a fault (setup.md). See main.py, “one two three”.', ["setup.md", "main.py"]),
        ('The guide says: "E0117" is a fault. See main.py, “one two three”.', ["main.py"]),
        (f"A “quick win”. See [a]({A}).", []),
        (f"A “quick win”. [a]({A}) has more.", []),
        (f"[a]({A}) has more. A “quick win”.", []),
        ("A “quick win”.\n\n— setup.md", []),
        ("### setup.md\n\nA “quick win”.", []),
        ("A “quick win” of docs/missing.md.", []),
    ],
)
def test_one_or_two_words_have_the_citation_of_their_own_sentence_and_no_other(
    answer: str, expected: list[str]
) -> None:
    found, skipped = quotations(answer, INDEXED.__contains__)
    assert [q.citation for q in found] == expected
    assert skipped == (len(expected) < answer.count("“") + answer.count('"') // 2)


S = "docs/setup.md"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f"- [b]({B}) has more.\n\n> one two three\n\n([a]({A}))", [A]),
        (f"- [b]({B}) has more.\n\n> one two three\n\n**Source:** [a]({A})", [A]),
        (f"- [b]({B}) has more.\n\n> one two three\n\nThis comes from [a]({A}).", [A]),
        (f"- [b]({B}) has more.\n\n> one two three\n> — [a]({A})", [A]),
        (f"- [b]({B}) has more.\n\n> one two three", [None]),
        (f"- As [b]({B}) says:\n\n> one two three", [B]),
        (f"[b]({B}) has more. As [a]({A}) says:\n\n> one two three", [A]),
        (f"As [a]({A}) says:\n\n> one two three\n\nBut [b]({B}) has:\n\n> four five six", [A, B]),
        (f"> one two three\n\nBut [b]({B}) has:\n\n> four five six", [None, B]),
        (f"As [b]({B}) says:\n\n> one two three\n\n— {S}", [S]),
        (f"As {S} says:\n\n> one two three", [S]),
        (f"> one two three\n> — {S}", [S]),
        (f"> one two three\n>\n> *Source: `{S}`*", [S]),
        (f"> one two three ({S})", [S]),
        (f"> one two three\n> — [The guide to all of this]({S})", [S]),
        (f"> one two three\n>\n> **Source:** [The guide to all of this]({S})", [S]),
        (f"> {S}: one two three", [S]),
        (f"> **{S}**\n> one two three", [S]),
        (f"> one two three *({S}, section 2)*", [S]),
        (f"> one two three — `{S}`", [S]),
        (f"> one two three [docs > setup]({S})", [S]),
        (f"> one two three [setup docs]({S})", [S]),
        (f"> one two three [source]({S})", [S]),
        (f"> one two three — [setup]({S})", [S]),
        (f"> one two three ([its guide]({S}))", [S]),
        (f"> one two three [1]({S})", [S]),
        (f"> one two three [[1]]({S})", [S]),
        (f"> one two three\n> [A Guide]({S})", [S]),
        (f"> one two three\n> — Jane de la Tour, *Setup* ([a]({S}))", [S]),
        (f"> one two three\n> — Setup docs, [Guide]({S})", [S]),
        (f"> [!quote] {S}\n> one two three", [S]),
        (f"> [!CITE]-\n> one two three\n> — {S}", [S]),
        (f"{S} is long. So it is:\n\n> one two three", [None]),
    ],
)
def test_a_block_quote_has_the_citation_in_or_behind_it_or_that_which_introduces_it(
    answer: str, expected: list[str | None]
) -> None:
    found, _ = quotations(answer, INDEXED.__contains__)
    assert [q.citation for q in found] == expected
    assert found[0].text == "one two three"


@pytest.mark.parametrize(
    "text",
    [
        "one two three\n— and four five",
        "one two three\n— Someone",
        "one two three of docs/setup.md",
        "one two three, see docs/setup.md",
        "edit setup.md, then go on",
        "edit the file (setup.md), then go on",
        "one two three [and what is not there](docs/setup.md)",
        "one two three [and what is](docs/setup.md) not there",
        "one two three — [and what is not there](docs/setup.md)",
        "one [two](docs/setup.md) three",
        "one [two][1] three",
        "[one](docs/setup.md) two three",
        "one two\n[three](docs/setup.md)\nfour",
        "one two three\n— not there, as it says, of this",
        "one two three. [It is so because of me](docs/setup.md)",
        "one two three [never](docs/setup.md)",
        "one two three. [never](docs/setup.md)",
        "one two three [Never](docs/setup.md)",
        "one two three — [not](docs/setup.md)",
        "one two three [and what is not there][1]",
        "one two three [never][1]",
        "one 2[0](docs/setup.md) three",
        "one 2 [700](docs/setup.md) three",
        "one two three\n— The rest is not there, [as ever](docs/setup.md)",
    ],
)
def test_what_may_be_words_of_a_block_quote_is_compared(text: str) -> None:
    quoted = "> " + text.replace("\n", "\n> ")
    ((quotation,), _) = quotations(f"{quoted}\n\n[1]: other.md", INDEXED.__contains__)
    assert (quotation.text, quotation.citation) == (text, None)


def test_a_last_line_behind_a_dash_is_compared_unless_it_has_names_and_titles_alone() -> None:
    ((quotation,), _) = quotations("> one two three\n> — Never on any Monday ([Setup](docs/setup.md))")
    assert (quotation.text, quotation.citation) == ("one two three\n— Never on any Monday", "docs/setup.md")


@pytest.mark.parametrize(
    "piece",
    ["> [x](file:/x)\n", "[", "“", '"', "`", "[x](", "“a” [x](file:/x). ", "<q>", "<blockquote>", "s’ ", "‘", "&quot;", "\\", "*a ", "](x \"",
     "- > a\n", "[^1]: a\n", "a.md ", "`a.md` ", "“a b c” a.md ", "a/", "a.b", "a.md:\n\n> a\n\n", "> a.md\n\n", "file:/", "<a ", "[a] ", "\n\n> a", "「a」。", "_a", "(", "[[x]", "“a.” (a.md) B ", 'x" ', "‘x” "],
)  # fmt: skip
def test_a_long_answer_takes_linear_time(piece: str) -> None:
    # Anything quadratic in this length would not come to an end in the time of a test run.
    quotations((piece * 100_000)[:100_000] + "\n\n[1]: file:///x", lambda name: len(name) % 2 == 0)


@given(st.text('“”"„«»`>-[]()\n \\*_file:/a1|#‘’»「」.s', max_size=200))
def test_any_text_is_read(answer: str) -> None:
    kept, skipped = quotations(answer)
    assert skipped >= 0
    assert all(1 <= quotation.line <= answer.count("\n") + 1 and quotation.text.strip() for quotation in kept)
