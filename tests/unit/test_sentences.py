import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prose import PROSE

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
    *(
        "「",
        "」",
        "“",
        "。」",
        "？",
        "と",
        "漢字",
        "……",
        "॥ १ ॥",
        "।",
        "؟ ",
        "。",
        "．",
        "３",
        "!",
        "ไทย ",
        "།",
        "។",
        "・",
        "他说。",
    ),
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
        ("“我走了。”他说。然后他走了。", ["“我走了。”他说。", "然后他走了。"]),
        ("「行こう。」\n「うん。」", ["「行こう。」", "「うん。」"]),
        ("「行く。帰る。」次の日、彼は来た。", ["「行く。", "帰る。」", "次の日、彼は来た。"]),
        ("でも「行く……」と彼は言った。真的吗?当然!好。", ["でも「行く……」と彼は言った。", "真的吗?", "当然!", "好。"]),
        ("円周率は３．１４。（笑う。）ね。", ["円周率は３．１４。", "（笑う。）ね。"]),
        ("春\n夏が来る\n秋", ["春", "夏が来る", "秋"]),
        (
            "これは長い行で途中で折り返されていて、次の行に\n続いています。短い。",
            ["これは長い行で途中で折り返されていて、次の行に\n続いています。", "短い。"],
        ),
        ("・項目一\n・項目二\n１．三つ目", ["・項目一", "・項目二", "１．三つ目"]),
        ("พบ ดร. สมชาย เมื่อ พ.ศ. 2560 ที่บ้าน", ["พบ ดร. สมชาย เมื่อ พ.ศ. 2560 ที่บ้าน"]),
        ("« C'est fini. » Il part. „Gut.“ Er geht.", ["« C'est fini. »", "Il part.", "„Gut.“", "Er geht."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_a_sentence_ends_where_a_reader_ends_it(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == expected


@pytest.mark.parametrize("language", PROSE)
def test_prose_of_any_script_is_cut_at_its_own_sentence_ends(language: str) -> None:
    text = "".join(PROSE[language])
    found = [text[start:end] for start, end in sentence_spans(text)]
    expected = [sentence.strip() for sentence in PROSE[language]]
    if language == "Thai":  # long stretches are divided at spaces between phrases, some of them inside a sentence
        assert len(found) >= len(expected)
        assert max(map(len, found)) <= 2 * 80
        assert not any(part.startswith(("2460", "ๆ")) for part in found)
    elif language == "Chinese":
        assert found == [*expected[:3], "面粉要过三次筛，才能做出好面包……真的吗？", expected[4]]
    else:
        assert found == expected


def test_a_paragraph_of_thai_that_is_not_long_stays_whole() -> None:
    text = "".join(PROSE["Thai"])[:250]
    assert sentence_spans(text) == [(0, len(text.rstrip()))]


@pytest.mark.parametrize("piece", ["「", "」", "「a。", "“。", "॥ 1 ", "།  ", "……", "!", "。」", "ไ "])
def test_hostile_runs_of_marks_take_no_quadratic_time(piece: str) -> None:
    text = piece * (60_000 // len(piece))
    assert sentence_spans(text)


def test_a_hostile_run_of_stops_takes_no_quadratic_time() -> None:
    assert len(sentence_spans("." * 200_000)) == 1
    assert len(sentence_spans("a. " * 50_000)) == 50_000
