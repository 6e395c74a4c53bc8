import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from miniature_tokenizers import FAMILIES
from prose import PROSE
from wordpiece import Rule, WordPiece, characters, edges_in_pieces, words

from colbert_mcp.chunking import CHARACTERS_PER_TOKEN, Piece, Tokenizer, Tokens, cut
from colbert_mcp.documents import code, markdown
from colbert_mcp.encoder.tokenizing import TextTokenizer
from colbert_mcp.types import Section

LONG_WORD = 40_000
RULES = {"characters": characters, "words": words, "edges in pieces": edges_in_pieces}

SCRAPS = [
    *("a", "word", "Two words.", "e\u0301\u0323", "\u0301", "ß", "漢字。", "かな、", "😀", "👩\u200d🚀", "𝄞", "\ufeff"),
    *(" ", "  ", "\t", "\n", "\r", "\r\n", "\n\n", "\r\n \r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u3000"),
    *("\xa0", "\u200b", "\x00", "\x07", "\x1b", "End! ", "Why?! ", "…", "- item\n", "# H\n", "।", "x" * 30, "1. "),
    "def f():\n",
]
scraps = st.sampled_from(SCRAPS)
texts = st.lists(scraps, max_size=60).map("".join)
long_words = st.builds(
    lambda before, letter, after: before + letter * (LONG_WORD // len(letter)) + after,
    texts,
    st.sampled_from(["x", "é", "e\u0301", "漢", "😀", "ab-", "\x00"]),
    texts,
)


@st.composite
def nested_sections(draw: st.DrawFn, text: str) -> list[Section]:
    """Sections as any reader may give them: sorted, disjoint or one in the other, each with a head."""
    drawn = draw(st.lists(st.tuples(st.integers(0, len(text)), st.integers(0, len(text))), max_size=12))
    intervals = sorted({(min(pair), max(pair)) for pair in drawn}, key=lambda pair: (pair[0], -pair[1]))
    kept: list[tuple[int, int]] = []
    for start, end in intervals:
        if start < end and all(start >= b or end <= b for _, b in kept):
            kept.append((start, end))
    return [
        Section(start, draw(st.integers(start + 1, end)), end, f"S{number}") for number, (start, end) in enumerate(kept)
    ]


def naive_headings(text: str, sections: Sequence[Section], start: int, end: int) -> tuple[str, ...]:
    """Titles of all sections that hold the piece's content, which begins after the headings it begins with."""
    content = start
    while True:
        heads = [section.body for section in sections if section.start == content]
        if not heads:
            break
        content = heads[0]
        while content < len(text) and text[content].isspace():
            content += 1
    content = content if content < end else start
    return tuple(section.title for section in sections if section.start <= content and end <= section.end)


def assert_pieces_hold(
    text: str, sections: Sequence[Section], tokenizer: Tokenizer[Tokens], limit: int, pieces: Sequence[Piece[Tokens]]
) -> None:
    """What every cut promises: all that is not blank once, in order, trimmed, and within both limits."""
    held = 0
    for piece in pieces:
        assert held <= piece.start < piece.end <= len(text)
        assert not text[held : piece.start].strip()
        assert not text[piece.start].isspace()
        assert not text[piece.end - 1].isspace()
        held = piece.end
        assert piece.end - piece.start <= CHARACTERS_PER_TOKEN * limit
        assert piece.headings == naive_headings(text, sections, piece.start, piece.end)
    assert not text[held:].strip()
    alone = tokenizer.tokenize([text[piece.start : piece.end] for piece in pieces])
    for piece, tokens in zip(pieces, alone, strict=True):
        assert len(tokens.starts) <= limit or piece.end - piece.start == 1
        assert piece.tokens.starts.tolist() == tokens.starts.tolist()
        assert piece.tokens.ends.tolist() == tokens.ends.tolist()


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=120)
@given(data=st.data(), text=texts, limit=st.integers(1, 40), is_code=st.booleans())
def test_pieces_hold_every_character_that_is_not_blank_once(
    rule: str, data: st.DataObject, text: str, limit: int, is_code: bool
) -> None:
    tokenizer = Rule(RULES[rule])
    sections = data.draw(nested_sections(text))
    pieces = cut(text, sections, tokenizer, limit, is_code=is_code)
    assert_pieces_hold(text, sections, tokenizer, limit, pieces)


@st.composite
def walled(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A text of pages or cells, some of them empty, and where each starts."""
    text, walls = "", []
    for page in draw(st.lists(texts, min_size=1, max_size=6)):
        text += "\n\n" * bool(walls)
        walls.append(len(text))
        text += page
    return text, walls


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=120)
@given(data=st.data(), text_and_walls=walled(), limit=st.integers(1, 40))
def test_no_piece_crosses_a_wall(
    rule: str, data: st.DataObject, text_and_walls: tuple[str, list[int]], limit: int
) -> None:
    text, walls = text_and_walls
    tokenizer = Rule(RULES[rule])
    sections = data.draw(nested_sections(text))
    pieces = cut(text, sections, tokenizer, limit, is_code=False, walls=walls)
    assert_pieces_hold(text, sections, tokenizer, limit, pieces)
    for piece in pieces:
        assert not [wall for wall in walls if piece.start < wall < piece.end]


def test_a_page_that_fits_is_one_piece_whatever_stands_on_it() -> None:
    pages = ["# A\n\nw\n\n# B\n\nw", "# C", "w w"]
    text = "\n\n".join(pages)
    walls = [0, len(pages[0]) + 2, len(text) - len(pages[2])]
    pieces = cut(text, markdown.sections(text), Rule(words), 40, is_code=False, walls=walls)
    assert [text[piece.start : piece.end] for piece in pieces] == pages
    assert [piece.headings for piece in pieces] == [(), ("C",), ("C",)]


def test_walls_that_no_text_crosses_change_nothing() -> None:
    text = f"# A\n\n{run(30)}\n\n# B\n\n{run(50)}\n"
    sections = markdown.sections(text)
    without = cut(text, sections, Rule(words), 16, is_code=False)
    walled = cut(text, sections, Rule(words), 16, is_code=False, walls=[0, text.index("# B")])
    assert [(piece.start, piece.end) for piece in walled] == [(piece.start, piece.end) for piece in without]


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=6)
@given(text=long_words, limit=st.sampled_from([16, 254]))
@example(text="x" * LONG_WORD, limit=254)
def test_a_word_of_any_length_is_cut_within_the_limits(rule: str, text: str, limit: int) -> None:
    tokenizer = Rule(RULES[rule])
    assert_pieces_hold(text, [], tokenizer, limit, cut(text, [], tokenizer, limit, is_code=False))


@settings(max_examples=60)
@given(data=st.data(), text=texts, limit=st.integers(4, 60))
def test_pieces_keep_their_promises_with_the_tokenizer_of_the_encoder(
    data: st.DataObject, text: str, limit: int
) -> None:
    sections = data.draw(nested_sections(text))
    pieces = cut(text, sections, WORD_PIECE, limit, is_code=False)
    assert_pieces_hold(text, sections, WORD_PIECE, limit, pieces)


WORD_PIECE = WordPiece()


def test_long_prose_is_cut_within_the_limits_of_the_encoder() -> None:
    words_of_it = [
        "Retrieval",
        "naïve",
        "größer",
        "interoperability",
        "漢字",
        "x86_64",
        "don't",
        "e\u0301tude",
        "😀",
        "7.5",
    ]
    sentences = [" ".join(words_of_it[i % 10 :] + words_of_it[: i % 7]) + "." for i in range(900)]
    text = "\n\n".join(" ".join(sentences[i : i + 6]) for i in range(0, 900, 6)) + "\n\n" + "q" * LONG_WORD
    pieces = cut(text, [], WORD_PIECE, 254, is_code=False)
    assert_pieces_hold(text, [], WORD_PIECE, 254, pieces)
    # It makes good use of the limit: not many small pieces.
    prose = [piece for piece in pieces if piece.end < len(text) - LONG_WORD]
    assert sum(len(piece.tokens.starts) for piece in prose) / len(prose) > 254 / 2


def test_a_stretch_without_any_token_still_is_a_piece() -> None:
    text = "\u200b" * 100
    pieces = cut(text, [], WORD_PIECE, 4, is_code=False)
    assert_pieces_hold(text, [], WORD_PIECE, 4, pieces)
    assert [piece.end - piece.start for piece in pieces] == [32, 32, 32, 4]


def test_nothing_is_cut_from_blanks() -> None:
    for text in ("", " ", "\n\r\n\t\u3000\x1c"):
        assert cut(text, [], Rule(words), 4, is_code=False) == []


@pytest.mark.parametrize("paragraphs", [10, 1000])
def test_a_document_and_its_pieces_are_each_tokenized_in_one_call(paragraphs: int) -> None:
    tokenizer = Rule(words)
    text = "\n\n".join("A sentence of seven words stands here." for _ in range(paragraphs))
    pieces = cut(text, [], tokenizer, 16, is_code=False)
    assert len(pieces) >= paragraphs // 2
    assert tokenizer.calls == 2


def test_even_pieces_that_must_be_cut_again_take_few_calls() -> None:
    tokenizer = Rule(edges_in_pieces)
    text = " ".join(["word", "supercalifragilistic"] * 2000)
    pieces = cut(text, [], tokenizer, 30, is_code=False)
    assert len(pieces) > 200
    assert tokenizer.calls <= 8


def test_a_long_document_is_tokenized_in_windows_that_join_without_a_gap() -> None:
    line = "forty characters of words in every line\n"
    text = line * 6000
    tokenizer = Rule(words)
    pieces = cut(text, [], tokenizer, 70, is_code=True)
    assert_pieces_hold(text, [], tokenizer, 70, pieces)
    # Every piece but the last is a whole number of lines and full: no window's edge shows.
    assert {piece.end - piece.start for piece in pieces[:-1]} == {10 * len(line) - 1}


# Where it cuts


def cuts(text: str, limit: int, sections: Sequence[Section] = (), *, is_code: bool = False) -> list[str]:
    pieces = cut(text, sections, Rule(words), limit, is_code=is_code)
    return [text[piece.start : piece.end] for piece in pieces]


def run(count: int, separator: str = " ", word: str = "w") -> str:
    return separator.join([word] * count)


BREAKS = [("a blank line", "\n\n"), ("a sentence", ". S"), ("a line", "\n"), ("a word", " ")]


@pytest.mark.parametrize(("stronger", "weaker"), list(pairwise(BREAKS)), ids=lambda names: names[0])
@pytest.mark.parametrize("position", [6, 10, 14])
def test_a_cut_is_made_at_the_stronger_break(stronger: tuple[str, str], weaker: tuple[str, str], position: int) -> None:
    # Twenty words, sixteen to a piece: one strong break somewhere among weaker ones.
    separators = [weaker[1]] * 19
    separators[position - 1] = stronger[1]
    text = "w" + "".join(separator + "w" for separator in separators)
    at = re.compile(re.escape(stronger[1])).search(text)
    assert at is not None
    first = cuts(text, 16)[0]
    assert len(first.split()) == position
    assert text[len(first) :].startswith(stronger[1].lstrip("."))


def test_a_heading_is_stronger_than_a_blank_line() -> None:
    text = f"# A\n\n{run(4)}\n\n{run(4)}\n\n# B\n\n{run(4)}\n\n{run(4)}"
    assert cuts(text, 16, markdown.sections(text)) == [f"# A\n\n{run(4)}\n\n{run(4)}", f"# B\n\n{run(4)}\n\n{run(4)}"]


def test_small_sections_are_joined_and_keep_only_the_headings_that_hold_them_all() -> None:
    text = "# A\n\n## B\n\nw\n\n## C\n\nw\n\n## D\n\n" + run(20)
    sections = markdown.sections(text)
    pieces = cut(text, sections, Rule(words), 32, is_code=False)
    assert [(text[p.start : p.end], p.headings) for p in pieces] == [
        ("# A\n\n## B\n\nw\n\n## C\n\nw", ("A",)),
        ("## D\n\n" + run(20), ("A", "D")),
    ]


def test_a_bare_heading_goes_with_what_follows_it() -> None:
    text = f"# A\n\n## B\n\n{run(30)}"
    pieces = cut(text, markdown.sections(text), Rule(words), 16, is_code=False)
    assert text[pieces[0].start : pieces[0].end].startswith("# A\n\n## B\n\nw")
    assert [piece.headings for piece in pieces] == [("A", "B")] * len(pieces)


def test_the_headings_of_a_piece_hold_all_of_it() -> None:
    text = f"{run(8)}\n\n# A\n\n{run(12)}\n\n## B\n\n{run(12)}\n\n# C\n\n{run(12)}"
    pieces = cut(text, markdown.sections(text), Rule(words), 16, is_code=False)
    assert [piece.headings for piece in pieces] == [(), ("A",), ("A", "B"), ("C",)]


def test_methods_are_cut_apart_and_name_their_class() -> None:
    body = "\n".join(f"        x{i} = {i}" for i in range(6))
    text = f"class K:\n    def a(self):\n{body}\n\n    def b(self):\n{body}\n"
    pieces = cut(text, code.sections("python", text), Rule(words), 26, is_code=True)
    # The first begins with the head of the class, which its first method does not hold.
    assert [piece.headings for piece in pieces] == [("K",), ("K", "b")]


def test_source_code_is_cut_at_lines_rather_than_at_sentences() -> None:
    text = f"{run(9)}. S {run(5)}\n{run(10)}"
    assert cuts(text, 20, is_code=False)[0] == f"{run(9)}."
    assert cuts(text, 20, is_code=True)[0] == f"{run(9)}. S {run(5)}"


def test_a_section_is_cut_into_even_shares() -> None:
    lengths = [len(piece.split()) for piece in cuts(run(34), 16)]
    assert len(lengths) == 3
    assert max(lengths) - min(lengths) <= 1


def test_what_fits_is_not_cut() -> None:
    text = f"{run(5)}\n\n{run(5)}. S {run(4)}"
    assert cuts(text, 16) == [text]


@pytest.mark.parametrize("language", [name for name in PROSE if name != "Thai"])
@pytest.mark.parametrize("limit", [90, 120, 150, 200])
def test_prose_of_any_script_is_cut_at_its_own_sentence_ends(language: str, limit: int) -> None:
    text = "".join(PROSE[language]) * 30
    ends = {len(before.rstrip()) for before in accumulate(PROSE[language] * 30)}
    pieces = cut(text, [], Rule(characters), limit, is_code=False)
    assert len(pieces) > 5
    assert {piece.end for piece in pieces} <= ends


@pytest.mark.parametrize("limit", range(40, 80))
def test_a_piece_begins_with_no_mark_that_closes_the_one_before(limit: int) -> None:
    text = "磨坊主问：“今年的麦子够吗？我担心。”她没有回答。「はい。」そう言った。" * 20
    for piece in cut(text, [], Rule(characters), limit, is_code=False):
        assert text[piece.start] not in "。？”」"


CHARACTERS = ["a", "é", "漢", "e\u0301\u0323", "x\u20d0", "क्षि", "ก็", "น้ำ", "👩\u200d🚀", "🇩🇪", "👍🏽", "한", "ｶﾞ", "كّ"]


@settings(max_examples=150)
@given(st.lists(st.sampled_from(CHARACTERS)), st.integers(4, 12))
def test_a_character_as_readers_see_it_is_not_cut(written: list[str], limit: int) -> None:
    text = "".join(written)
    seen = {match.start() for match in regex.finditer(r"\X", text)}
    for piece in cut(text, [], Rule(characters), limit, is_code=False):
        assert piece.start in seen


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15)
@given(
    st.lists(st.sampled_from([*CHARACTERS, *SCRAPS, "ﷺ", "½", "\x07", "東京", "สวัสดี", "the "]), max_size=60),
    st.integers(48, 60),
)
def test_pieces_keep_their_promises_with_every_family_of_tokenizers(
    family: str, written: list[str], limit: int
) -> None:
    tokenizer = TextTokenizer(FAMILIES[family](), 64)
    text = "".join(written)
    pieces = cut(text, [], tokenizer, limit, is_code=False)
    assert_pieces_hold(text, [], tokenizer, limit, pieces)
    for piece in pieces:
        assert len(piece.tokens.starts) <= limit


def test_more_combining_marks_than_a_piece_holds_are_cut_all_the_same() -> None:
    text = "e" + "\u0301" * 100
    tokenizer = Rule(characters)
    assert_pieces_hold(text, [], tokenizer, 8, cut(text, [], tokenizer, 8, is_code=False))
