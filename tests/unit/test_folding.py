import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from colbert_mcp.quoting.boundaries import is_boundary
from colbert_mcp.quoting.folding import Folded, count_words, fold

# Letters with and without accents, marks, typography, invisible characters, scripts with and without spaces.
ALPHABET = "aAbéßİΣςſ1½² \n\t\r\u00a0.,;:!?'\"’“”«»-–—…ﬁﬀ\u0301\u0308\u00ad\u200b\u200d中あไกिक각각K#>*[](<%"
texts = st.text(ALPHABET, max_size=40) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("a  b\n\tc\u00a0d", "a b c d"),
        ("“a” ‘b’ «c» „d“", '"a" \'b\' "c" "d"'),
        ("a—b – c ‑ d −5", "a-b - c - d -5"),
        ("a--b c -- d", "a-b c - d"),
        ("ls --all '--all' i--", "ls --all '--all' i--"),
        ("wait… ﬁﬂﬀ", "wait... fiflff"),
        ("exam\u00adple, exam\u00ad\n  ple, zero\u200bwidth", "example, example, zerowidth"),
        ("STRASSE ΟΔΟΣ οδος", "strasse οδοσ οδοσ"),
        ("e\u0301 \u212b \u1112\u1161\u11ab", "é å 한"),
        ("x² ½ Ⅳ ™ ｆ", "x² ½ ⅳ ™ ｆ"),
        ("Maße İ", "maße İ"),
    ],
)
def test_only_typography_space_case_and_composition_are_folded(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(texts)
def test_folding_what_is_folded_changes_nothing_that_is_compared(text: str) -> None:
    once = fold(text)
    assert len(once) <= 3 * len(text)
    assert "…" not in once
    assert not set(once) & set("“”‘’–—\u00ad\u200b\n\t")


@given(texts)
@example("a\u0301\u200b b")
def test_every_token_leads_back_to_the_text_it_was_made_of(text: str) -> None:
    folded = Folded(text)
    end = 0
    for token in folded.tokens():
        assert end <= token.start < token.end <= len(text)
        end = token.end
        if "-" not in token.text:  # hyphens fold by what stands around them
            assert fold(text[token.start : token.end]).strip() == token.text


@given(texts, texts)
def test_positions_map_back_in_order_and_to_the_ends(first: str, second: str) -> None:
    folded = Folded(first + second)
    starts = [at for at in map(folded.raw_start, range(len(folded.text))) if at is not None]
    ends = [at for at in map(folded.raw_end, range(1, len(folded.text) + 1)) if at is not None]
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert all(0 <= at < len(folded.raw) for at in starts)
    assert all(0 < at <= len(folded.raw) for at in ends)


def test_one_character_that_became_several_is_not_divided() -> None:
    folded = Folded("oﬃce…")
    assert folded.text == "office..."
    assert [folded.raw_start(at) for at in range(9)] == [0, 1, None, None, 2, 3, 4, None, None]
    assert [folded.raw_end(at) for at in range(1, 10)] == [1, None, None, 2, 3, 4, None, None, 5]


@pytest.mark.parametrize(
    "text",
    "pa|rty can|'t can|’t non-|toxic non|-toxic 1|.5 1.|5 1|,000 10:|30 5|% -|5 −|5 .|5 <|5 5–|10 10|^6 x|² e|\u0301 "
    "$|5 5|€ >=|5 1|´000 x!=|5 5|+ 5|′ "
    "in\u00ad|side a_|b कि|ताब क|ि 사과|를 1\u202f|000".split(" "),
)
def test_no_quotation_ends_or_begins_inside_a_word_or_a_number(text: str) -> None:
    at = text.index("|")
    raw = text[:at] + text[at + 1 :]
    assert not is_boundary(raw, at, closing=True)
    assert not is_boundary(raw, at, closing=False)


@pytest.mark.parametrize(
    "text",
    [
        "a| b",
        "|a",
        "a|",
        "a|.",
        "(|a",
        "—|5",
        "5 |kg",
        "中|文",
        "=|5",
        "|5|6",
        "5| %s",
        "<td>|5",
        "5| €",
        "5;|6",
        "→|5",
        "第|5",
        "foo.|bar",
        "end|—next",
        "'|tis",
        "5 -| 6",
    ],
)
def test_elsewhere_it_may(text: str) -> None:
    at = text.index("|")
    assert is_boundary(text[:at] + text[at + 1 :], at, closing=True)
    assert is_boundary(text[:at] + text[at + 1 :], at, closing=False)


def test_a_quotation_may_begin_after_an_elision_but_not_end_before_one() -> None:
    assert is_boundary("l'homme", 2, closing=False)
    assert not is_boundary("l'homme", 2, closing=True)


@given(texts, st.integers(0, 40), st.booleans())
def test_an_accent_is_never_cut_off(text: str, at: int, closing: bool) -> None:
    if (
        0 < at < len(text)
        and unicodedata.category(text[at]).startswith("M")
        and text[at - 1] not in "\u00ad\u200b\u200d"
    ):
        assert is_boundary(text, at, closing=closing) == (
            re.fullmatch("[\u00ad\u200b-\u200d\u2060\ufeff]*", text[:at]) is not None
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two, three-four", 3),
        ("… — !", 0),
        ("今天天气非常好吗", 4),
        ("天气", 1),
        ("ภาษาไทยง่าย", 2),
        ("1,000 x²", 2),
    ],
)
def test_words_are_counted_in_scripts_with_and_without_spaces(text: str, words: int) -> None:
    assert count_words(Folded(text)) == words
