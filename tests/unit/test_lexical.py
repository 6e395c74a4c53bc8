import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from colbert_mcp.lexical import FTS_TOKENIZER, STOP_WORDS, lexical_query, match_expression, names, runs, words

COLUMNS = "text, heading, names, runs, heading_runs"


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f'CREATE VIRTUAL TABLE passages USING fts5({COLUMNS}, tokenize="{FTS_TOKENIZER}")')
        yield connection


def matches(database: sqlite3.Connection, expression: str) -> bool:
    return bool(database.execute("SELECT 1 FROM passages WHERE passages MATCH ?", (expression,)).fetchall())


def hold(database: sqlite3.Connection, text: str) -> None:
    database.execute("DELETE FROM passages")
    database.execute("INSERT INTO passages VALUES (?, '', ?, ?, '')", (text, names(text), runs(text)))


def finds(database: sqlite3.Connection, query: str, text: str) -> bool:
    hold(database, text)
    return any(matches(database, term) for term in lexical_query(query).terms)


def holds(database: sqlite3.Connection, query: str, text: str) -> list[bool]:
    """Of each exact text of a query, whether a text is told to hold it."""
    hold(database, text)
    exact = lexical_query(query).exact
    return [matches(database, e.expression) and e.pattern.search(text) is not None for e in exact]


def test_words_are_distinct_folded_and_in_order() -> None:
    assert words("Zebra apple ZEBRA  Apple-pie") == ["zebra", "apple", "pie"]
    assert words("हिन्दी भाषा हिन्दी") == ["हिन्दी", "भाषा"]


def test_stop_words_are_left_out_unless_there_is_nothing_else() -> None:
    assert words("What is the index of THE matrix?") == ["index", "matrix"]
    assert words("To be, or not to be") == ["to", "be", "or", "not"]
    assert all(word == word.casefold() for word in STOP_WORDS)


def test_at_most_64_words_are_taken_the_first_ones() -> None:
    query = " ".join(f"the w{number}" for number in range(100))
    assert words(query) == [f"w{number}" for number in range(64)]


def test_a_long_query_asks_for_a_bounded_number_of_terms() -> None:
    assert len(lexical_query("字" + "漢字仮名交じり文" * 500).terms) <= 192
    assert len(lexical_query(" ".join(f"aLong{n}_name.of_{n}" for n in range(500))).terms) == 192
    assert len(lexical_query(" ".join(f'"w{n} x"' for n in range(500))).exact) == 16


@pytest.mark.parametrize("query", ["", " \n", "?!", '""', "-- * ^", "…", "“ ”", "`--`"])
def test_a_query_without_words_asks_for_nothing(query: str) -> None:
    assert words(query) == []
    assert match_expression(query) is None
    assert lexical_query(query).terms == lexical_query(query).exact == ()


def test_each_word_is_quoted_and_any_of_them_matches() -> None:
    assert match_expression('near "two" words*') == '"near" OR "two" OR "words"'
    assert set(lexical_query('near "two" words*').terms) == {'"near"', '"two"', '"words"'}


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
        ("don't", "I don't."),
        ("x86", "On x86_64"),
        ("हिन्दी", "यह हिन्दी है"),
        ("محمد", "قال مُحَمَّد"),
        ("مُحَمَّد", "قال محمد"),
        ("NOT AND OR NEAR", "a near miss"),
        ("text:secret", "the secret"),
        ('he said "quote', "a quote"),
        # names, by their parts and in other conventions
        ("snake_case", "call snake_case(1)"),
        ("snake_case", "a case of a snake"),
        ("snake_case", "snakeCase = 1"),
        ("camelCase", "camel_case = 1"),
        ("camelCase", "the hump of a camel"),
        ("camel", "call camelCase()"),
        ("response", "parseHTTPResponse()"),
        ("HTTP", "parseHTTPResponse()"),
        ("HTTPServer", "http_server.start()"),
        ("baz", "foo.bar_baz"),
        ("foo.bar_baz", "foo"),
        ("größeÄndern", "ändern"),
        # scripts without spaces, and what stands among them
        ("民共", "中华人民共和国"),
        ("水", "海水很冷"),
        ("水", "喝水"),
        ("编程", "使用Python编程"),
        ("python", "使用Python编程"),
        ("Pythonで", "Python で書く"),
        ("한국", "한국어는"),
        ("ไทย", "ประเทศไทย"),
        ("ประเทศไทย", "ชาวไทยทุกคน"),
        ("ລາວ", "ພາສາລາວ"),
        ("ខ្មែរ", "ភាសាខ្មែរ"),
    ],
)
def test_a_query_finds_what_a_reader_expects(database: sqlite3.Connection, query: str, text: str) -> None:
    assert finds(database, query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("apple*", "applet pie"),
        ("the apple", "the pear"),
        ("हिन्दी", "हानि"),
        ("水火", "海水很冷"),
        ("ด้วยกัน", "ประเทศไทย"),
        ("JavaScript library", "a script in java"),
    ],
)
def test_a_query_does_not_find_other_words(database: sqlite3.Connection, query: str, text: str) -> None:
    assert not finds(database, query, text)


def test_names_have_the_words_inside_of_them_and_keep_their_signs() -> None:
    assert names("getUserName, getUserName and parseHTTPResponse") == "get User Name parse HTTP Response"
    assert names("URLs, PDFs, 3D, UTF8, A1B2C3 and plain words; well-known e.g. don't + a+b -1 $5") == ""
    assert names("aBaBaBaBaBaBaBaBaBaB") == "", "so many humps are no name"
    signed = names("C++ (C#) `-Wall` --no-cache .NET @property #include $HOME __init__").split()
    assert len(set(signed)) == 9
    assert not set(signed) & {"C", "Wall", "no", "cache", "NET", "property", "include", "HOME", "init"}
    assert not names("A sentence. Another--with a dash - and more.. ..code")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("C++", "Written in C++."),
        ("c++", "a C++11 compiler"),
        ("the C# language", "C# and F#"),
        (".NET", "runs on .NET 8"),
        ("what does -Wall do", "gcc -Wall x.c"),
        ("--no-cache", "`--no-cache`: build anew"),
        ("E0308", "error[E0308]: mismatched types"),
        ("ORA-00942", "ORA-00942: table or view does not exist"),
        ("why 0x80070005?", "failed with 0x80070005."),
        ("std::vector", "a std::vector<int> v"),
        ("os.path", "os.path.join(a)"),
        ("ECONNREFUSED", "Error: connect ECONNREFUSED 127.0.0.1"),
        ("__init__", "def __init__(self)"),
        ("why a TypeError here", "raises TypeError."),
        ("why a NullPointerException here", "throws NullPointerException"),
        ("error 10061 of a socket", "failed: 10061"),
        ("what listens on 127.0.0.1 here", "bound to 127.0.0.1:80"),
        ("what does getName do", "call getName()"),
        ("src/main.py", "see src/main.py:3"),
        ("varnish", "It smells of varnish."),
        ('he wrote "exactly these words" once', "Exactly\n  these   words."),
        ("“don't stop”", "They don’t stop: “don’t stop”"),
        ("„lange Straße“", "Die lange Straße."),
        ("`git rebase --onto`", "run git rebase --onto main"),
        ("「日本語」", "私は日本語を話す"),
        ('"使用Python编程"', "我们使用Python编程吧"),
        ('"ประเทศไทย"', "ในประเทศไทยมี"),
        ('"a – b c"', "so a - b c it is"),
    ],
)
def test_exact_texts_are_held_as_they_are(database: sqlite3.Connection, query: str, text: str) -> None:
    found = holds(database, query, text)
    assert found
    assert all(found)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("C++", "Written in C, and C+."),
        (".NET", "a net, ASP.NET"),
        ("-Wall", "the wall, --Wall"),
        ("--no-cache", "no cache, -no-cache, --no-cache-dir"),
        ("E0308", "E03081 and xE0308"),
        ("ORA-00942", "ORA 00942"),
        ("std::vector", "std.vector, mystd::vector, std::vectors"),
        ("snake_case", "snake case, my_snake_case, snake_case2"),
        ("__init__", "init, initial"),
        ('"exactly these words"', "exactly this word, inexactly these words, these exactly words"),
        ('"varnish"', "varnished, varnish-free"),
        ("「日本語」", "日本と語"),
    ],
)
def test_what_is_near_to_an_exact_text_does_not_hold_it(database: sqlite3.Connection, query: str, text: str) -> None:
    found = holds(database, query, text)
    assert found
    assert not any(found)


@pytest.mark.parametrize(
    "query",
    [
        "What was well-known in the 1990s, e.g. the U.S. of the 20th century or 3.5 million?",
        'It is 5" by 6" or so',
        "How do and/or clauses work?",
        "Has GPT-4 of python3 a 2GiB image in utf-8 over IPv4, or a 1d array on s3?",
        "Does GitHub on my iPhone show JSON or HTML of the JavaScript files that McDonald wrote?",
    ],
)
def test_ordinary_questions_ask_for_nothing_exact(query: str) -> None:
    assert lexical_query(query).exact == ()


def test_a_quoted_phrase_is_told_from_a_name_and_taken_first() -> None:
    exact = lexical_query('getName and "two words" of getName').exact
    assert [text.quoted for text in exact] == [True, False]


@settings(max_examples=300)
@given(query=st.text(max_size=40) | st.text("ab_AB0.:-+#\"“”「」`水ไท\u0e35가 '*()^{}|", max_size=30))
@example('"')
@example("a\0b")
@example("___")
@example("NEAR(a b, 3) {x} : -col ^start + 'x' \\")
@example('"a" OR text : "b" *')
@example('“a" OR heading : "b”')
@example('`a" AND (b`')
@example('"\U0002b820" \U0002b820\U0002b821水')
def test_whatever_is_typed_is_a_valid_expression(database: sqlite3.Connection, query: str) -> None:
    asked = lexical_query(query)
    expression = match_expression(query)
    every = " OR ".join(asked.terms)
    for part in (expression, every, every and f"({asked.terms[0]}) AND ({every})", *asked.terms):
        if part:
            matches(database, part)
    for exact in asked.exact:
        matches(database, exact.expression)
        exact.pattern.search("some text")


# Scripts with two cases, where folding can go wrong (SQLite's tables of letters end with Unicode 6.1).
cased = st.characters(categories=["Lu", "Ll"], max_codepoint=0x24F) | st.sampled_from("ΑΣσςάώΊЖжёЇ")
letters = st.text(cased, min_size=1, max_size=8)


@settings(max_examples=200)
@given(letters)
@example("ß")
@example("ŉ")
def test_any_word_finds_itself(database: sqlite3.Connection, word: str) -> None:
    assert finds(database, word, f"before {word} after")


@settings(max_examples=200)
@given(st.text("字漢水仮名あカ한국", max_size=12), st.text("字漢水仮名あカ한국", min_size=1, max_size=5))
def test_whatever_stands_in_a_run_is_found_as_a_whole(database: sqlite3.Connection, around: str, piece: str) -> None:
    text = f"{around}{piece}{around}"
    assert holds(database, f"「{piece}」", text) == [True]
    assert finds(database, piece, text)


@settings(max_examples=200)
@given(st.text("abcXYZ09 _-.:+#@水漢ไท\u0e35\u064bم", max_size=60))
def test_terms_are_those_of_each_kind_and_ordinary_words_have_none(text: str) -> None:
    plain = re.sub(r"[^a-z ]", "", text)
    assert names(plain) == runs(plain) == ""
    runs_in = re.findall("[水漢]+|[ไท\u0e35]+", text)
    grams = [run[at : at + (2 if run[0] in "水漢" else 3)] for run in runs_in for at in range(len(run))]
    assert [gram for gram in runs(text).split() if not gram.isascii()] == grams
