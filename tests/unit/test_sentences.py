import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_mcp.sentences import sentence_spans

PIECES = [
    " ",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "a",
    "A b",
    ". ",
    "。",
    "e.g. ",
    "1. ",
    "- ",
    "# ",
    "| ",
    "{",
    "?!”",
    "...",
    "word ",
]


@settings(max_examples=250)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join)))
def test_sentences_hold_every_character_that_is_not_blank_once(text: str) -> None:
    held = 0
    for start, end in sentence_spans(text):
        assert held <= start < end <= len(text)
        assert not text[held:start].strip()
        assert text[start:end] == text[start:end].strip()
        held = end
    assert not text[held:].strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?\nFour", ["One.", "Two!", "Three?", "Four"]),
        ("One line\nof two. End.", ["One line\nof two.", "End."]),
        ("He said “no.” Then left.", ["He said “no.”", "Then left."]),
        ("Wait... What?! Yes", ["Wait...", "What?!", "Yes"]),
        ("See e.g. this, or 3.14 or a.b.", ["See e.g. this, or 3.14 or a.b."]),
        ("日本語。次の文。終", ["日本語。", "次の文。", "終"]),
        ("हिन्दी। दूसरा।", ["हिन्दी।", "दूसरा।"]),
        ("no end\n\nnext\r\n \r\nlast", ["no end", "next", "last"]),
        ("a list\n- one\n- two\n  1. three", ["a list", "- one", "- two", "1. three"]),
        (
            "See Smith et al. 2019. Dr. J. R. Brown met No. 5 there.",
            ["See Smith et al. 2019.", "Dr. J. R. Brown met No. 5 there."],
        ),
        ("Is it so? No. It is not.", ["Is it so?", "No.", "It is not."]),
        (
            "revenue rose 5.3 % in the u.s. market. notes were due. all paid.",
            ["revenue rose 5.3 % in the u.s. market.", "notes were due.", "all paid."],
        ),
        ("1. Stop it. Then go.", ["1. Stop it.", "Then go."]),
        ("# Title\nText of it.\n\n| a | b |\n| c | d |", ["# Title", "Text of it.", "| a | b |", "| c | d |"]),
        ("def f(x):\n    y = g(\n        x)\n    return y", ["def f(x):", "y = g(", "x)", "return y"]),
        (
            "Prose that was wrapped at the\nwidth goes on in it. Short\n123 Main Street, Springfield",
            ["Prose that was wrapped at the\nwidth goes on in it.", "Short\n123 Main Street, Springfield"],
        ),
        ("Roses are red,\nviolets are blue, sugar is sweet", ["Roses are red,", "violets are blue, sugar is sweet"]),
        (
            "- an item that is wrapped\n  and goes on\n- another one",
            ["- an item that is wrapped\n  and goes on", "- another one"],
        ),
        (
            "a line of more than the widest that anyone wraps at, which is why its end is taken to be meant, whatever follows in the next of them\nnext",
            [
                "a line of more than the widest that anyone wraps at, which is why its end is taken to be meant, whatever follows in the next of them",
                "next",
            ],
        ),
        ("", []),
        (" \n ", []),
    ],
)
def test_a_sentence_ends_where_a_reader_ends_it(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == expected


def test_a_hostile_run_of_stops_takes_no_quadratic_time() -> None:
    assert len(sentence_spans("." * 200_000)) == 1
    assert len(sentence_spans("a. " * 50_000)) == 50_000
