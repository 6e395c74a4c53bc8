import re
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from colbert_mcp.errors import EmptyQueryError, QueryError
from colbert_mcp.quoting.folding import Folded, fold
from colbert_mcp.quoting.quotes import MAX_QUOTE_CHARACTERS, Finding, closest, find, find_elided, read_quote

SOURCE = (
    "The starter smells of varnish when it is hungry, not spoiled. Feed it three times a day!\n"
    "You can’t go non-stop at 1.5 bar. Is this right? She said “yes…” and left the house in 1,000 pieces.\n"
)
# Words of their own, so that a replaced one is never found elsewhere by chance.
word = st.text("abcdeéfgħijkß", min_size=3, max_size=8)
sentences = st.lists(word, min_size=6, max_size=40, unique_by=str.casefold)
separators = st.sampled_from([" ", " ", " ", "\n", "  ", "\r\n", ", ", ". ", " — ", "\u00a0"])


def verdict(quote: str, source: str = SOURCE) -> tuple[str, list[str]]:
    """How the source holds the quote, and the text of each span."""
    asked, text = read_quote(quote), Folded(source)
    found = find(asked, text) or find_elided(asked, text, [(0, len(source))])
    return (found[0].kind, [source[start:end] for start, end in found[0].spans]) if found else ("no", [])


@pytest.mark.parametrize(
    ("quote", "kind", "held"),
    [
        ("smells of varnish", "exact", "smells of varnish"),
        ("  smells of varnish\n", "exact", "smells of varnish"),
        ("“smells of varnish”", "exact", "smells of varnish"),
        ("«smells of varnish.»", "normalised", "smells of varnish"),
        ("“yes…”", "exact", "“yes…”"),
        ('"yes..."', "normalised", "“yes…”"),
        ("“She said “yes…” and left”", "exact", "She said “yes…” and left"),
        ("Smells  of\nVARNISH", "normalised", "smells of varnish"),
        ("smells of varnish,", "normalised", "smells of varnish"),
        ("… “it is hungry”.", "normalised", "it is hungry"),
        ("…not spoiled", "normalised", "not spoiled"),
        ("not spoiled. [...]", "normalised", "not spoiled."),
        ("a day!\nYou can't", "normalised", "a day!\nYou can’t"),
        ("Is this right", "exact", "Is this right"),
        ("day", "exact", "day"),
    ],
)
def test_what_stands_in_the_source_is_found_with_its_span(quote: str, kind: str, held: str) -> None:
    assert verdict(quote) == (kind, [held])


@pytest.mark.parametrize(
    "quote",
    [
        "smells of vinegar",
        "it is hungry, spoiled",
        "it is not hungry, not spoiled",
        "Feed it two times a day",
        "in 1000 pieces",
        "in 10,00 pieces",
        "house in 1",
        "5 bar",
        "You can",
        "stop at",
        "arnish when",
        "Is this right.",
        "Feed it three times a day.",
        "[She] said",
        "smells of … varnish",
        "smells varnish when it is hungry",
        "when it is … not spoiled. Feed it",
        "left the house in 1,000 pieces … smells of varnish when it",
        "“yes” and left",
        "smells of varnish when it is hungry. Feed it three times",
    ],
)
def test_what_does_not_stand_in_the_source_is_not_found(quote: str) -> None:
    assert verdict(quote) == ("no", [])


@pytest.mark.parametrize(
    ("quote", "source"),
    [
        ("The staff can", "The staff can\u200b't leave"),
        ("The staff can", "The staff can'\u200ct leave"),
        ("Dose is 5", "Dose is 5\u2060.5 mg"),
        ("Dose is 5", "Dose is 5.\u00ad5 mg"),
        ("5 apples", "−\u200b5 apples"),
        ("5 apples", "−" + "\u200b" * 5_000 + "5 apples"),
        ("$5 million loss", "a -$5 million loss"),
        ("$5 million loss", "a −$5 million loss"),
        ("5 million loss", "a $5 million loss"),
        ("The rate of failure was 10", "The rate of failure was 10⁻³"),
        ("The rate was 10", "The rate was 10^-3"),
        ("The rate was 10", "The rate was 10**3"),
        ("The rate was 5", "The rate was 5×10³"),
        ("The rate was 5e", "The rate was 5e−3"),
        ("The rate was 5e", "The rate was 5e+3"),
        *[("you can", f"you can{mark}t") for mark in "`´＇′ʼ’"],
        *[("It was 5", f"It was {number}") for number in "5％ 5+ 5‰ 5\u00a0% 5€ 5° 5–6 5·5 5'000".split(" ")],
        *[("5 of them", f"{sign}5 of them") for sign in "－∼≲⩽><+~≥≠"],
        ("٥", "it is ٥٪"),
        ("١", "it is ١٫٥"),
        *[("it is 10", f"it is 10{mark}000") for mark in "٬·\u2007\u00a0\u202f'’"],
        *[("negotiable", f"it is non{mark}negotiable") for mark in ["–", "‒", "−", "‐", "-\n", "-\r\n  ", "-\u200b"]],
        *[("it is non", f"it is non{mark}negotiable") for mark in ["–", "-\n"]],
    ],
)
def test_no_part_of_a_number_or_word_passes_for_the_whole(quote: str, source: str) -> None:
    assert verdict(quote, source)[0] == "no"


@pytest.mark.parametrize(
    ("quote", "source"),
    [
        ("It was 5", "It was 5 kg"),
        ("It was 5", "It was 5."),
        ("It was 5", "**It was 5** of"),
        ("5 of them", "x = 5 of them"),
        ("5 of them", "<td>5 of them</td>"),
        ("of 5", "|of 5|6|"),
        ("5 of them", "no—5 of them"),
        ("-$5 million", "a -$5 million loss"),
        ("can't", "you can't"),
        ("homme", "l’homme"),
        ("non-\nnegotiable", "it is non-\nnegotiable"),
        ("first", "first -\nsecond"),
    ],
)
def test_a_whole_number_or_word_is_exact(quote: str, source: str) -> None:
    assert verdict(quote, source) == ("exact", [quote])


@pytest.mark.parametrize(
    "end", ["\u00a0?", "\u202f!", "\n?", "**?**", "…?", "⁉", "？", "\u037e", "\u200b?", "”?", ") ?", "՞", "⸮", "❓"]
)
def test_a_full_stop_never_replaces_a_question_or_exclamation_mark(end: str) -> None:
    assert verdict("He will go.", f"He will go{end} No.")[0] == "no"
    assert verdict("He will go,", f"He will go{end} No.")[0] == "no"


def test_a_semicolon_asks_in_greek_only() -> None:
    assert verdict("Θα πάω.", "Θα πάω; Ναι.")[0] == "no"
    assert verdict("Θα πάω;", "Θα πάω. Ναι.")[0] == "no"
    assert verdict("Θα πάω;", "Θα πάω; Ναι.")[0] == "exact"
    assert verdict("I will go.", "I will go; yes.") == ("normalised", ["I will go"])
    assert verdict("I will go.", "I will go\n\n!") == ("normalised", ["I will go"])


@pytest.mark.parametrize(
    ("quote", "source"),
    [
        ("git checkout - file", "git checkout -- file"),
        ("git checkout -- file", "git checkout - file"),
        ("rm - -rf", "rm -- -rf"),
        ("x = y-z", "x = y--z"),
        ("x = y--z", "x = y-z"),
        ("5-3", "5--3"),
        ("5--3", "5-3"),
        ("a---b", "a--b"),
        ("a-b and c -- d", "a--b and c - d"),
    ],
)
def test_two_hyphens_are_never_one(quote: str, source: str) -> None:
    assert verdict(quote, source)[0] == "no"


@pytest.mark.parametrize(
    ("quote", "source"),
    [("so -- he said", "so — he said"), ("so—he said", "so--he said"), ("so – he said", "so - he said")],
)
def test_a_dash_may_be_written_with_hyphens(quote: str, source: str) -> None:
    assert verdict(quote, source) == ("normalised", [source])


@pytest.mark.parametrize(
    ("quote", "kind", "held"),
    [
        ("「天气很好」", "exact", "天气很好"),
        ("『天气很好』", "exact", "天气很好"),
        ("《天气很好》", "exact", "天气很好"),
        ("”天气很好”", "exact", "天气很好"),
        ("天气很好。", "normalised", "天气很好"),
        ("天气很好，", "normalised", "天气很好"),
        ("「天气很好。」", "normalised", "天气很好"),
    ],
)
def test_marks_of_other_scripts_around_a_quote_are_forgiven_like_ours(quote: str, kind: str, held: str) -> None:
    assert verdict(quote, "今天天气很好；明天") == (kind, [held])
    assert verdict("الطقس جيد،", "الطقس جيد اليوم")[0] == "normalised"


def test_marks_inside_a_quote_are_text_in_every_script() -> None:
    assert verdict("天气,很好", "天气，很好")[0] == "no"
    assert verdict("天气很好。", "天气很好？")[0] == "no"


@pytest.mark.parametrize("sign", ["…", "...", "[...]", "[…]", "[ … ]", "...."])
def test_an_ellipsis_joins_parts_in_order(sign: str) -> None:
    assert verdict(f"smells of varnish when {sign} Feed it three TIMES a day") == (
        "elided",
        ["smells of varnish when", "Feed it three times a day"],
    )


def test_parts_of_an_elided_quote_stand_in_one_passage() -> None:
    quote, text = read_quote("smells of varnish when … Feed it three times"), Folded(SOURCE)
    cut = SOURCE.index("Feed")
    assert find_elided(quote, text, [(0, cut), (cut, len(SOURCE))]) == []
    assert len(find_elided(quote, text, [(0, len(SOURCE))])) == 1


def test_the_parts_of_an_elided_quote_are_the_nearest_together() -> None:
    source = "one two three four. " * 3 + "and five six seven eight."
    ((first, second),) = [
        f.spans
        for f in find_elided(
            read_quote("one two three four … five six seven eight"), Folded(source), [(0, len(source))]
        )
    ]
    assert (first, second) == ((40, 58), (64, 84))


def test_four_words_are_eight_characters_of_chinese() -> None:
    source = "今天天气非常好我们去公园散步然后回家吃饭休息"
    assert verdict("今天天气非常好我…散步然后回家吃饭", source)[0] == "elided"
    assert verdict("今天天气…散步然后回家吃饭", source)[0] == "no"
    assert verdict("天气非常好", source) == ("exact", ["天气非常好"])


def test_compatibility_characters_are_not_what_they_look_like() -> None:
    assert verdict("x2 grows", "x² grows")[0] == "no"
    assert verdict("x", "x² grows")[0] == "no"
    assert verdict("Masse", "Maße")[0] == "no"
    assert verdict("resume", "résumé")[0] == "no"


@pytest.mark.parametrize("quote", ["", "  ", "“”", "…", '"\'"', "\u200b", "[...] …"])
def test_an_empty_quote_is_an_error(quote: str) -> None:
    with pytest.raises(EmptyQueryError):
        read_quote(quote)


@pytest.mark.parametrize("quote", ["x" * (MAX_QUOTE_CHARACTERS + 1), "a\ud800b"])
def test_a_quote_that_is_too_long_or_no_text_is_an_error(quote: str) -> None:
    with pytest.raises(QueryError):
        read_quote(quote)


@given(st.text(max_size=60) | st.text("ab 1.,-'’\"“”…\u0301\u00ad\u200b中\n", max_size=60), st.data())
def test_any_stretch_between_spaces_is_exact(text: str, data: st.DataObject) -> None:
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    assume(spans)
    first = data.draw(st.integers(0, len(spans) - 1))
    last = data.draw(st.integers(first, len(spans) - 1))
    start, end = spans[first][0], spans[last][1]
    # An accent belongs to what stands before it, and a space without a break may stand inside a number.
    assume(
        not unicodedata.category(text[start:].lstrip("\u00ad\u200b\u200c\u200d\u2060\ufeff")[:1] or "a").startswith("M")
    )
    assume(end == len(text) or not set(text[end : end + 1]) & set("\u00a0\u2009\u202f"))
    assume(not set(text[max(0, start - 1) : start]) & set("\u00a0\u2009\u202f"))
    after = text[end:].lstrip("\u00ad\u200b\u200c\u200d\u2060\ufeff")[:1]
    assume(not after or not unicodedata.category(after).startswith("M"))
    # A hyphen at the end of a line may break a word or number in two.
    assume(not re.search(r"[-\u2010-\u2015\u2212\u00ad\u200b]\s*\Z", text[:start]))
    assume(end == len(text) or text[end - 1] not in "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u00ad\u200b")
    quote = text[start:end]
    try:
        quote.encode()
        asked = read_quote(quote)
    except (EmptyQueryError, UnicodeEncodeError):
        return
    found = [finding for finding in find(asked, Folded(text)) if finding.kind == "exact"]
    assert found
    literal = {form.text for form in asked.forms if form.literal}
    assert all(text[f.start : f.end] in literal for f in found)
    if text.count(quote) == 1:
        assert any(f.start <= start and end <= f.end for f in found)


@given(sentences, st.data())
def test_typography_space_and_case_are_forgiven_and_lead_back(words: list[str], data: st.DataObject) -> None:
    source = "".join(w + data.draw(separators) for w in words)
    spans = [match.span() for match in re.finditer(r"\w+", source)]
    first = data.draw(st.integers(0, len(words) - 2))
    last = data.draw(st.integers(first + 1, len(words) - 1))
    real = source[spans[first][0] : spans[last][1]]
    steps = {
        "case": lambda t: "".join(c.upper() if len(c.upper()) == 1 and c.upper().lower() == c else c for c in t),
        "space": lambda t: " \n ".join(t.split()),
        "dash": lambda t: t.replace("—", "-"),
        "soft hyphen": lambda t: re.sub(r"(\w)(\w)", "\\1\u00ad\\2", t, count=1),
        "zero width": lambda t: re.sub(r"(\w)(\w)", "\\1\u200b\\2", t),
        "decomposed": lambda t: unicodedata.normalize("NFD", t),
        "marks": lambda t: f"“{t}”",
        "point": lambda t: t + ".",
        "ellipsis": lambda t: "… " + t,
    }
    quote = real
    for name in data.draw(st.lists(st.sampled_from(sorted(steps)), min_size=1, unique=True)):
        quote = steps[name](quote)
    found = find(read_quote(quote), Folded(source))
    assert [(f.start, f.end - (source[f.end - 1] == ".")) for f in found] == [(spans[first][0], spans[last][1])]
    assert found[0].kind == ("exact" if quote.strip("“”") in source else "normalised")


@given(sentences, word, st.data())
def test_a_changed_dropped_or_added_word_is_never_found(words: list[str], other: str, data: st.DataObject) -> None:
    assume(other.casefold() not in {w.casefold() for w in words})
    source = " ".join(words)
    at = data.draw(st.integers(1, len(words) - 2))
    changed = [*words[:at], other, *words[at + 1 :]]
    dropped = words[:at] + words[at + 1 :]
    added = [*words[:at], data.draw(st.sampled_from(["not", other])), *words[at:]]
    moved = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
    for false in (changed, dropped, added, moved):
        quote, text = read_quote(" ".join(false)), Folded(source)
        assert find(quote, text) == []
        assert find_elided(quote, text, [(0, len(source))]) == []
        nearest = closest(quote, text)
        assert nearest is not None
        assert nearest.similarity < 1
        assert any(edit.op != "same" for edit in nearest.edits)


@given(
    st.integers(0, 10**7), st.integers(0, 10**7), st.sampled_from(["{}", "{:,}", "{}.5", "-{}", "{}%", "1/{}", "{}-20"])
)
def test_a_changed_number_is_never_found(true: int, false: int, shape: str) -> None:
    assume(true != false)
    source = f"There were {shape.format(true)} of them in all."
    assert verdict(f"There were {shape.format(false)} of them", source)[0] == "no"
    assert verdict(f"{false} of them in all", source)[0] == "no"
    assert verdict(f"There were {false}", source)[0] == "no"


@given(st.text(max_size=80), st.text(max_size=30))
def test_whatever_is_found_is_what_was_asked_for(text: str, quote: str) -> None:
    try:
        quote.encode()
        asked = read_quote(quote)
    except (EmptyQueryError, UnicodeEncodeError):
        return
    readings = {form.folded for form in asked.forms}
    for finding in find(asked, Folded(text)):
        assert fold(text[finding.start : finding.end]).strip(" ") in readings


def test_a_longer_reading_wins_and_places_do_not_overlap() -> None:
    assert find(read_quote("the end."), Folded("At the end. Not the end, at THE END.")) == [
        Finding("exact", ((3, 11),)),
        Finding("normalised", ((16, 23),)),
        Finding("normalised", ((28, 36),)),
    ]


@pytest.mark.parametrize(
    ("quote", "held", "edits"),
    [
        ("smells of vinegar when", "smells of varnish when", [("changed", "vinegar", "varnish")]),
        ("it is hungry, spoiled.", "it is hungry, not spoiled.", [("dropped", "", "not")]),
        ("Feed it about three times", "Feed it three times", [("added", "about", "")]),
        ("house in 1000 pieces", "house in 1,000 pieces", [("changed", "1000", "1,000")]),
        (
            "A starter smells of varnish when it is",
            "The starter smells of varnish when it is",
            [("changed", "A", "The")],
        ),
    ],
)
def test_the_closest_text_and_what_differs(quote: str, held: str, edits: list[tuple[str, str, str]]) -> None:
    nearest = closest(read_quote(quote), Folded(SOURCE))
    assert nearest is not None
    assert SOURCE[nearest.start : nearest.end] == held
    assert [(e.op, e.quote, e.source) for e in nearest.edits if e.op != "same"] == edits


def test_nothing_in_common_has_no_closest_text() -> None:
    assert closest(read_quote("quantum chromodynamics"), Folded(SOURCE)) is None
    assert closest(read_quote("anything"), Folded("")) is None


@pytest.mark.parametrize(
    "piece", ["a ", "… ", "a… ", "“", "[", "the cat ", "中", "a.", "a-", "\u0301a", "1,", "\u200b a"]
)
def test_a_hostile_quote_is_answered_in_bounded_work(piece: str) -> None:
    # Anything quadratic in these lengths would not come to an end in the time of a test run.
    text = Folded((piece * 40_000)[:40_000] + " b " + (piece * 40_000)[:40_000])
    try:
        quote = read_quote((piece * MAX_QUOTE_CHARACTERS)[: MAX_QUOTE_CHARACTERS - 1] + "b")
    except EmptyQueryError:
        return
    find(quote, text)
    find_elided(quote, text, [(0, len(text.raw))])
    closest(quote, text)
