import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from colbert_mcp.lexical import FTS_TOKENIZER, STOP_WORDS, match_expression, words


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f'CREATE VIRTUAL TABLE passages USING fts5(text, tokenize="{FTS_TOKENIZER}")')
        yield connection


def finds(database: sqlite3.Connection, query: str, text: str) -> bool:
    database.execute("DELETE FROM passages")
    database.execute("INSERT INTO passages VALUES (?)", (text,))
    expression = match_expression(query)
    assert expression is not None
    return bool(database.execute("SELECT 1 FROM passages WHERE passages MATCH ?", (expression,)).fetchall())


def test_words_are_distinct_folded_and_in_order() -> None:
    assert words("Zebra apple ZEBRA  Apple-pie") == ["zebra", "apple", "pie"]


def test_stop_words_are_left_out_unless_there_is_nothing_else() -> None:
    assert words("What is the index of THE matrix?") == ["index", "matrix"]
    assert words("To be, or not to be") == ["to", "be", "or", "not"]
    assert all(word == word.casefold() for word in STOP_WORDS)


def test_at_most_64_words_are_taken_the_first_ones() -> None:
    query = " ".join(f"the w{number}" for number in range(100))
    assert words(query) == [f"w{number}" for number in range(64)]


@pytest.mark.parametrize("query", ["", " \n", "?!", '""', "-- * ^", "…"])
def test_a_query_without_words_has_no_expression(query: str) -> None:
    assert words(query) == []
    assert match_expression(query) is None


def test_each_word_is_quoted_and_any_of_them_matches() -> None:
    assert match_expression('near "two" words*') == '"near" OR "two" OR "words"'


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("connections", "It is CONNECTED to the mains."),
        ("resume", "Her résumé is here."),
        ("Résumé", "A resume."),
        ("re\u0301sume\u0301", "Her résumé is here."),
        ("résumé", "Her re\u0301sume\u0301 is here."),
        ("Straße", "Die Straße ist lang."),
        ("STRASSE", "Die Strasse."),
        ("ΣΟΦΟΣ", "ο σοφος"),
        ("σοφος", "Ο ΣΟΦΟΣ"),
        ("İstanbul", "İstanbul"),
        ("ﬁre", "ﬁre"),
        ("snake_case", "call snake_case(1)"),
        ("don't", "I don't."),
        ("x86", "On x86_64"),
        ("हिन्दी", "यह हिन्दी है"),
        ("NOT AND OR NEAR", "a near miss"),
        ("text:secret", "the secret"),
        ('he said "quote', "a quote"),
    ],
)
def test_a_query_finds_what_a_reader_expects(database: sqlite3.Connection, query: str, text: str) -> None:
    assert finds(database, query, text)


def test_a_query_does_not_find_other_words(database: sqlite3.Connection) -> None:
    assert not finds(database, "apple*", "applet pie")
    assert not finds(database, "the apple", "the pear")
    assert not finds(database, "snake_case", "a case of a snake")


@settings(max_examples=200)
@given(query=st.text(max_size=40))
@example('"')
@example("a\0b")
@example("___")
@example("NEAR(a b, 3) {x} : -col ^start + 'x' \\")
def test_whatever_is_typed_is_a_valid_expression(database: sqlite3.Connection, query: str) -> None:
    expression = match_expression(query)
    if expression is not None:
        database.execute("SELECT 1 FROM passages WHERE passages MATCH ?", (expression,)).fetchall()


# Scripts with two cases, where folding can go wrong (SQLite's tables of letters end with Unicode 6.1).
cased = st.characters(categories=["Lu", "Ll"], max_codepoint=0x24F) | st.sampled_from("ΑΣσςάώΊЖжёЇ")
letters = st.text(cased, min_size=1, max_size=8)


@settings(max_examples=200)
@given(letters)
@example("ß")
@example("ŉ")
def test_any_word_finds_itself(database: sqlite3.Connection, word: str) -> None:
    assert finds(database, word, f"before {word} after")
