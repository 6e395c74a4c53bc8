from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wordpiece import WordPiece

from colbert_mcp.chunking import cut
from colbert_mcp.documents import code, markdown, restructuredtext
from colbert_mcp.documents.code import _nested, language_of
from colbert_mcp.types import Section

Finder = Callable[[str], list[Section]]


def titles(sections: list[Section]) -> list[str]:
    return [section.title for section in sections]


def outline(sections: list[Section]) -> list[tuple[int, str]]:
    """Depth and title of each section."""
    return [
        (sum(other.start <= s.start and s.end <= other.end for other in sections[:index]), s.title)
        for index, s in enumerate(sections)
    ]


def assert_well_formed(sections: list[Section], text: str) -> None:
    """Sorted outermost first, inside the text, and either disjoint or one in the other."""
    assert sections == sorted(sections, key=lambda s: (s.start, -s.end))
    for index, section in enumerate(sections):
        assert 0 <= section.start < section.body <= section.end <= len(text)
        for later in sections[index + 1 :]:
            assert later.start >= section.end or later.end <= section.end


def held(text: str, section: Section) -> str:
    return text[section.start : section.end]


# Markdown


def test_a_markdown_section_ends_where_the_next_of_its_level_or_above_starts() -> None:
    text = "# A\n\none\n\n## B\n\ntwo\n\n### C\n\n## D\n\n# E\n\nlast"
    sections = markdown.sections(text)
    assert outline(sections) == [(0, "A"), (1, "B"), (2, "C"), (1, "D"), (0, "E")]
    assert [held(text, section) for section in sections[1:4]] == ["## B\n\ntwo\n\n### C\n\n", "### C\n\n", "## D\n\n"]
    assert [text[s.start : s.body] for s in sections] == ["# A\n", "## B\n", "### C\n", "## D\n", "# E\n"]


def test_a_skipped_markdown_level_still_nests() -> None:
    assert outline(markdown.sections("# A\n### B\n## C\n###### D\n")) == [(0, "A"), (1, "B"), (1, "C"), (2, "D")]


def test_a_setext_heading_has_its_underline_in_its_head() -> None:
    text = "Top\n===\n\nx\n\nBelow\nit\n---\ny\n"
    sections = markdown.sections(text)
    assert outline(sections) == [(0, "Top"), (1, "Below it")]
    assert text[sections[1].start : sections[1].body] == "Below\nit\n---\n"


def test_what_only_looks_like_a_markdown_heading_is_none() -> None:
    text = (
        "```sh\n# comment\n```\n\n    # indented code\n\n~~~\n## more\n~~~\n\n#hash\n\n\\# escaped\n\n"
        "> # quoted\n\n- # in a list\n\n<!--\n# in a comment\n-->\n\n####### seven\n\n# Real #\n"
    )
    assert titles(markdown.sections(text)) == ["Real"]


def test_an_unclosed_fence_holds_everything_after_it() -> None:
    assert titles(markdown.sections("# A\n\n```\n# B\n")) == ["A"]


@pytest.mark.parametrize("fence", ["---", "+++"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_front_matter_is_no_heading_and_moves_nothing(fence: str, newline: str) -> None:
    text = newline.join([fence, "title: x", "# comment", fence, "", "# A", "", "text", "", "---", "", "# B", ""])
    sections = markdown.sections(text)
    assert titles(sections) == ["A", "B"]
    assert [held(text, section).split(newline)[0] for section in sections] == ["# A", "# B"]


def test_front_matter_may_be_empty() -> None:
    text = "---\n---\n# A\n\ntext\n\n---\n\n# B\n"
    assert titles(markdown.sections(text)) == ["A", "B"]


def test_front_matter_stands_only_at_the_beginning_and_closes_with_its_own_mark() -> None:
    assert titles(markdown.sections("\nx\n\n---\n\n# A\n\n---\n")) == ["A"]
    assert titles(markdown.sections("---\ntitle: x\n+++\n\n# A\n")) == ["A"]
    assert titles(markdown.sections("----\n\n# A\n\n----\n")) == ["A"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_markdown_offsets_are_those_of_the_text_with_any_line_ending(newline: str) -> None:
    text = newline.join(["é😀", "", "# Ä 😀", "", "x", "Z", "===", "y"])
    first, second = markdown.sections(text)
    assert held(text, first).startswith("# Ä 😀" + newline)
    assert text[second.start :] == newline.join(["x", "Z", "===", "y"])
    assert (first.title, second.title) == ("Ä 😀", "x Z")


# reStructuredText


def test_levels_of_restructuredtext_follow_the_order_in_which_styles_appear() -> None:
    text = "~~~~\nDoc\n~~~~\n\nOne\n===\n\nx\n\nSub\n---\n\ny\n\nTwo\n===\n\nDeep\n~~~~\n\nz\n"
    sections = restructuredtext.sections(text)
    assert outline(sections) == [(0, "Doc"), (1, "One"), (2, "Sub"), (1, "Two"), (2, "Deep")]
    assert held(text, sections[1]) == "One\n===\n\nx\n\nSub\n---\n\ny\n\n"
    assert text[sections[0].start : sections[0].body] == "~~~~\nDoc\n~~~~\n"


def test_an_overline_makes_another_style() -> None:
    text = "===\nTop\n===\n\nSub\n===\n\n===\nEnd\n===\n"
    assert outline(restructuredtext.sections(text)) == [(0, "Top"), (1, "Sub"), (0, "End")]


def test_an_overlined_title_may_be_indented() -> None:
    assert titles(restructuredtext.sections("=======\n Title\n=======\n\nx\n")) == ["Title"]


def test_titles_may_follow_each_other_without_a_blank_line() -> None:
    text = "Title\n=====\nSub\n---\n\ntext\n"
    sections = restructuredtext.sections(text)
    assert outline(sections) == [(0, "Title"), (1, "Sub")]
    assert text[sections[0].start : sections[0].body] == "Title\n=====\n"


def test_the_underline_of_a_title_is_not_the_overline_of_the_next() -> None:
    text = "=====\nTitle\n=====\nSub\n=====\n\ntext\n"
    sections = restructuredtext.sections(text)
    assert_well_formed(sections, text)
    assert outline(sections) == [(0, "Title"), (1, "Sub")]
    assert text[sections[1].start : sections[1].body] == "Sub\n=====\n"


@pytest.mark.parametrize(
    "text",
    [
        "==== ====\nA    B\n==== ====\n1    2\n==== ====\n",
        "+---+---+\n| A | B |\n+===+===+\n| 1 | 2 |\n+---+---+\n",
        "A paragraph of\ntwo lines\n---------\n",
        "::\n\n    Title\n    =====\n",
        "    Title\n=========\n",
        "Long title\n====\n",
        "x\n\n----\n\ny\n",
        "----\n====\n",
        "Title\n=-=-=\n",
        "Title\n\n=====\n",
        ".. note::\n\n   Title\n   -----\n",
    ],
)
def test_what_only_looks_like_a_restructuredtext_title_is_none(text: str) -> None:
    assert restructuredtext.sections(text) == []


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_restructuredtext_offsets_are_those_of_the_text_with_any_line_ending(newline: str) -> None:
    text = newline.join(["é😀", "", "Ä 😀", "====", "x", "", "Z", "====", ""])
    first, second = restructuredtext.sections(text)
    assert held(text, first) == newline.join(["Ä 😀", "====", "x", "", ""])
    assert (second.title, second.body) == ("Z", len(text))


# Source code

SOURCES: dict[str, tuple[str, list[tuple[int, str, str]]]] = {
    "python": (
        """import os

# About f.
@decorated
@again(1)
def f(x):
    def inner():
        return x
    return inner


class A(B):
    x = 1  # trailing
    def m(self):
        pass

    @property
    async def p(self): ...
""",
        [
            (
                0,
                "f",
                "# About f.\n@decorated\n@again(1)\ndef f(x):\n    def inner():\n        return x\n    return inner",
            ),
            (1, "inner", "def inner():\n        return x"),
            (
                0,
                "A",
                "class A(B):\n    x = 1  # trailing\n    def m(self):\n        pass\n\n    @property\n"
                "    async def p(self): ...",
            ),
            (1, "m", "def m(self):\n        pass"),
            (1, "p", "@property\n    async def p(self): ..."),
        ],
    ),
    "javascript": (
        """/** About f. */
export function f() {}
const g = () => 1;
class A extends B { m() { return 1; } }
""",
        [
            (0, "f", "/** About f. */\nexport function f() {}"),
            (0, "g", "const g = () => 1;"),
            (0, "A", "class A extends B { m() { return 1; } }"),
            (1, "m", "m() { return 1; }"),
        ],
    ),
    "typescript": (
        """@Component() export class A<T> { m(): void {} }
export interface I { n(): void }
export const f = (x: number) => x;
enum E { One }
type T = string;
namespace N { function g() {} }
""",
        [
            (0, "A", "@Component() export class A<T> { m(): void {} }"),
            (1, "m", "m(): void {}"),
            (0, "I", "export interface I { n(): void }"),
            (1, "n", "n(): void"),
            (0, "f", "export const f = (x: number) => x;"),
            (0, "E", "enum E { One }"),
            (0, "T", "type T = string;"),
            (0, "N", "namespace N { function g() {} }"),
            (1, "g", "function g() {}"),
        ],
    ),
    "tsx": ("export const F = () => <a>b</a>;\n", [(0, "F", "export const F = () => <a>b</a>;")]),
    "go": (
        """package x

// F does.
func F(a int) int { return a }
func (r *A) M() {}
type A struct{ x int }
""",
        [
            (0, "F", "// F does.\nfunc F(a int) int { return a }"),
            (0, "M", "func (r *A) M() {}"),
            (0, "A", "type A struct{ x int }"),
        ],
    ),
    "rust": (
        """pub struct P { x: i32 }
impl P {
    /// New.
    pub fn new() -> Self { P { x: 1 } }
}
trait T { fn q(&self); }
mod m { fn inner() {} }
""",
        [
            (0, "P", "pub struct P { x: i32 }"),
            (0, "P", "impl P {\n    /// New.\n    pub fn new() -> Self { P { x: 1 } }\n}"),
            (1, "new", "/// New.\n    pub fn new() -> Self { P { x: 1 } }"),
            (0, "T", "trait T { fn q(&self); }"),
            (0, "m", "mod m { fn inner() {} }"),
            (1, "inner", "fn inner() {}"),
        ],
    ),
    "java": (
        """package p;
/** About A. */
@Anno
public class A extends B {
  // About m.
  @Override public int m(int x) { return x; }
  interface I { void q(); }
}
enum E { ONE; E() {} }
record R(int x) { R { } }
@interface Marked {}
""",
        [
            (
                0,
                "A",
                "/** About A. */\n@Anno\npublic class A extends B {\n  // About m.\n"
                "  @Override public int m(int x) { return x; }\n  interface I { void q(); }\n}",
            ),
            (1, "m", "// About m.\n  @Override public int m(int x) { return x; }"),
            (1, "I", "interface I { void q(); }"),
            (2, "q", "void q();"),
            (0, "E", "enum E { ONE; E() {} }"),
            (1, "E", "E() {}"),
            (0, "R", "record R(int x) { R { } }"),
            (0, "Marked", "@interface Marked {}"),
        ],
    ),
    "c": (
        """/* About f. */
static int *f(int a) { return 0; }
struct S { int x; };
enum E { ONE };
union U { int x; };
int proto(int);
""",
        [
            (0, "f", "/* About f. */\nstatic int *f(int a) { return 0; }"),
            (0, "S", "struct S { int x; }"),
            (0, "E", "enum E { ONE }"),
            (0, "U", "union U { int x; }"),
            (0, "proto", "int proto(int);"),
        ],
    ),
    "cpp": (
        """template <typename T>
class A : public B { public: int m() { return 1; } };
int A::k(int x) { return x; }
namespace n { class B { ~B(); }; }
n::B::~B() {}
void n::B::f() {}
A operator+(A a) { return a; }
namespace { union V { int x; }; }
""",
        [
            (0, "A", "template <typename T>\nclass A : public B { public: int m() { return 1; } };"),
            (1, "m", "int m() { return 1; }"),
            (0, "k", "int A::k(int x) { return x; }"),
            (0, "n", "namespace n { class B { ~B(); }; }"),
            (1, "B", "class B { ~B(); };"),
            (2, "~B", "~B();"),
            (0, "~B", "n::B::~B() {}"),
            (0, "f", "void n::B::f() {}"),
            (0, "operator+", "A operator+(A a) { return a; }"),
            (0, "V", "union V { int x; };"),
        ],
    ),
    "ruby": (
        """# About M.
module M
  class A < B
    # About m.
    def m(x)
      x
    end
  end
end
""",
        [
            (0, "M", "# About M.\nmodule M\n  class A < B\n    # About m.\n    def m(x)\n      x\n    end\n  end\nend"),
            (1, "A", "class A < B\n    # About m.\n    def m(x)\n      x\n    end\n  end"),
            (2, "m", "# About m.\n    def m(x)\n      x\n    end"),
        ],
    ),
}


def same_extent(found: str, expected: str) -> bool:
    return found.rstrip(";") == expected.rstrip(";")


@pytest.mark.parametrize("language", SOURCES)
def test_definitions_have_their_titles_nesting_and_extents(language: str) -> None:
    text, expected = SOURCES[language]
    sections = code.sections(language, text)
    assert outline(sections) == [(depth, title) for depth, title, _ in expected]
    for section, (_, _, extent) in zip(sections, expected, strict=True):
        assert same_extent(held(text, section), extent)


@pytest.mark.parametrize("language", SOURCES)
def test_the_head_of_a_definition_ends_with_its_name(language: str) -> None:
    text, _ = SOURCES[language]
    for section in code.sections(language, text):
        assert text[section.start : section.body].endswith(section.title)


@pytest.mark.parametrize("language", SOURCES)
def test_offsets_in_source_code_count_characters(language: str) -> None:
    text, expected = SOURCES[language]
    opening, closing = ("# ", "") if language in {"python", "ruby"} else ("/* ", " */")
    before = f"{opening}é\u0301 漢字 😀 𝄞{closing}\n\n\n"
    moved = code.sections(language, before + text)
    assert titles(moved) == [title for _, title, _ in expected]
    for section, (_, _, extent) in zip(moved, expected, strict=True):
        assert same_extent(held(before + text, section), extent)


def test_offsets_behind_other_letters_on_the_same_line_count_characters() -> None:
    text = 'x = "😀é"; y = 1\nclass Größe:\n    def höhe(self): return "漢" # 😀\n\ndef z(): pass'
    sections = code.sections("python", text)
    assert titles(sections) == ["Größe", "höhe", "z"]
    assert held(text, sections[2]) == "def z(): pass"
    assert text[sections[1].start : sections[1].body] == "def höhe"


def test_each_of_several_definitions_in_one_declaration_is_found() -> None:
    go = "package x\n\ntype (\n\tA struct{ x int }\n\t// About B.\n\tB struct{ y int }\n)\n"
    sections = code.sections("go", go)
    assert outline(sections) == [(0, "A"), (0, "B")]
    assert held(go, sections[1]) == "// About B.\n\tB struct{ y int }"
    assert outline(code.sections("javascript", "const g = () => 1, h = () => 2;\n")) == [(0, "g"), (0, "h")]


def test_a_comment_belongs_to_a_definition_only_right_above_it() -> None:
    text = "# far\n\n\n# near 1\n# near 2\ndef f(): pass\nx = 1  # beside\ndef g(): pass\n"
    assert [held(text, section) for section in code.sections("python", text)] == [
        "# near 1\n# near 2\ndef f(): pass",
        "def g(): pass",
    ]


def test_a_comment_above_the_first_member_belongs_to_it() -> None:
    text = "class A:\n    # near 1\n    # near 2\n    def m(self): pass\n\nclass B:  # beside\n    def n(self): pass\n"
    sections = code.sections("python", text)
    assert held(text, sections[1]) == "# near 1\n    # near 2\n    def m(self): pass"
    assert held(text, sections[3]) == "def n(self): pass"


def test_a_definition_that_crosses_the_end_of_the_one_around_it_is_dropped() -> None:
    around, inside, across, after = (
        Section(0, 1, 9, "a"),
        Section(2, 3, 9, "i"),
        Section(5, 6, 12, "x"),
        Section(9, 10, 12, "b"),
    )
    assert _nested([around, inside, across, after]) == [around, inside, after]


def test_code_without_a_grammar_has_no_sections_but_a_language() -> None:
    assert language_of(".sql") == "sql"
    assert code.sections("sql", "create table a (b)") == []
    assert language_of(".txt") is None


def test_an_empty_source_has_no_sections() -> None:
    assert [code.sections(language, "") for language in SOURCES] == [[]] * len(SOURCES)


scraps = st.sampled_from(
    ["{", "}", "(", ")", '"', "'", "`", "\\", "\n", "\r", " ", "😀", "é", "\0", "def ", "class ", "/*"]
)


@pytest.mark.parametrize("language", SOURCES)
@settings(max_examples=40)
@given(data=st.data())
def test_broken_source_gives_sections_that_are_nested_properly(language: str, data: st.DataObject) -> None:
    text = SOURCES[language][0] * 2
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + "".join(data.draw(st.lists(scraps, max_size=3))) + text[end:]
    assert_well_formed(code.sections(language, text), text)


LINES = [
    *("", "a", "Title", "# A", "## B", "   ### C", "===", "---", "=====", "-----", "~~~~~", "```", "> q", "- i", "+++"),
    *(" Title", "\tTitle", "😀 é", "....", "::", "..", "| x |", "    code", "#", "****", "<!--", "-->", "\x0c", "\0"),
    "\x85",
]
lines = st.sampled_from(LINES)


@pytest.mark.parametrize("find", [markdown.sections, restructuredtext.sections])
@settings(max_examples=250)
@given(content=st.lists(lines, max_size=14), newline=st.sampled_from(["\n", "\r\n", "\r"]), closed=st.booleans())
@example(content=["=====", "Title", "=====", "a", "====="], newline="\n", closed=True)
def test_any_markup_gives_sections_that_are_nested_properly(
    find: Finder, content: list[str], newline: str, closed: bool
) -> None:
    text = newline.join(content) + newline * closed
    sections = find(text)
    assert_well_formed(sections, text)
    starts_of_lines = {0}
    for line in text.split(newline):
        starts_of_lines.add(max(starts_of_lines) + len(line) + len(newline))
    for section in sections:
        assert {section.start, section.body} <= starts_of_lines | {len(text)}
    # The line ending makes no difference to what is a heading.
    assert titles(sections) == titles(find("\n".join(content) + "\n" * closed))


def test_deep_nesting_and_long_comments_do_not_take_quadratic_time() -> None:
    # Each took minutes when time grew with the square; the suite would notice.
    for language, source in [
        ("javascript", "{" * 300_000),
        ("c", "//a\n" * 60_000 + "int f() { return 1; }\n"),
        ("ruby", "#a\n" * 60_000 + "def f; end\n"),
        ("typescript", "const a=()=>1" + ",a=()=>1" * 3_000 + ";"),
    ]:
        assert_well_formed(code.sections(language, source), source)


def test_a_long_run_of_headings_is_cut_in_linear_time() -> None:
    text = "# a\n" * 60_000
    pieces = cut(text, markdown.sections(text), WordPiece(), 64, is_code=False)
    assert sum(len("".join(text[p.start : p.end].split())) for p in pieces) == 2 * 60_000


@pytest.mark.parametrize(
    ("language", "operator"), [("c", "*"), ("cpp", "&"), ("rust", "&"), ("python", "-"), ("javascript", "!")]
)
def test_source_whose_errors_are_very_wide_has_no_sections(language: str, operator: str) -> None:
    """On these, queries take quadratic time: minutes for a file that is a run of operators."""
    definition = {"python": "class A: pass\n", "rust": "struct A {}\n"}.get(language, "class A {}; struct A {};\n")
    assert [section.title for section in code.sections(language, definition + operator)]
    assert code.sections(language, definition + operator * 20_000) == []
