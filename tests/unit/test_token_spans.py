"""Every token of every family of tokenizers is traced to the characters it stands for, in any mix of scripts."""

from functools import cache
from itertools import pairwise

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from miniature_tokenizers import FAMILIES, surface_of
from tokenizers import Tokenizer, normalizers

from colbert_mcp.encoder.base import Tokenized
from colbert_mcp.encoder.tokenizing import TextTokenizer

SCRAPS = [
    *(
        "The ",
        "water",
        "bread",
        "naïve",
        "nai\u0308ve",
        "e\u0301",
        "e\u0323\u0302",
        "a\u0301\u0323",
        "İ",
        "ß",
        "ﬁ",
        "½",
    ),
    *("漢字", "東京", "の", "ガ", "ｶﾞ", "「はい。」", "ｆｕｌｌ", "한국", "\u1112\u1161\u11ab", "㌀", "ﷺ", "ｇ\u0301"),
    *("สวัสดี", "ก็", "น้ำ", "اللُّغَة", "كـــتاب", "العربية", "क्षत्रिय", "हिन्दी", "কো", "\u09c7\u09be", "தமிழ்"),
    *("👩\u200d🚀", "🇩🇪", "👍🏽", "𝒜", "𠮷", "\ue000", "\U000f0000", "\u0301", "\u20dd", "\u0e31", "\u3099"),
    *(" ", "  ", "\t", "\r\n", "\n", "\xa0", "\u3000", "\u2028", "\u200b", "\u200c", "\u200d", "\ufeff", "\xad"),
    *("\x00", "\x07", "\x01\x02", "\x7f", "\x85", "\x8f", "\ufffd", "▁", "Ġ", "<0x41>", "##ad", ".", "!?", "3.14"),
    *("<mask>", "</s>", "[SEP]", "x" * 20),
]
MARKS = r"\p{M}\u0e33\u0eb3\u1160-\u11ff\u200c\u200d\U0001f3fb-\U0001f3ff\uff9e\uff9f"
LETTERS = regex.compile(rf"(?s)[\s▁\p{{Cc}}\p{{Cf}}]|.(?:[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]*[{MARKS}])*")
mixed = st.lists(st.one_of(st.sampled_from(SCRAPS), st.text(max_size=3)), max_size=14).map("".join)


@cache
def reader(family: str) -> TextTokenizer:
    return TextTokenizer(FAMILIES[family](), 64)


@cache
def normaliser(family: str) -> normalizers.Normalizer:
    """The family's own, without what it puts before a whole text or takes off its end."""
    own = FAMILIES[family]().normalizer
    if own is not None and isinstance(own, normalizers.Sequence):
        kept = [own[index] for index in range(len(own))]
        return normalizers.Sequence([n for n in kept if not isinstance(n, normalizers.Prepend | normalizers.Strip)])
    return normalizers.Sequence([] if own is None else [own])


def said(family: str, text: str) -> str:
    """What a stretch of a text says when it is normalised alone, with plain spaces."""
    found = str(normaliser(family).normalize_str(text))
    return found if family.startswith("byte-level") else found.replace("▁", " ")


def units(family: str, text: str) -> list[tuple[int, int]]:
    """The characters of a text, but with their accents and vowel signs where these are normalised together."""
    found = []
    for match in LETTERS.finditer(text):
        together = said(family, match.group())
        alone = "".join(said(family, letter) for letter in match.group())
        start, end = match.span()
        if collapsed(together) == collapsed(alone):
            found += [(at, at + 1) for at in range(start, end)]
            continue
        while together == "".join(said(family, sign) for sign in text[match.start() : start + 1]) + said(
            family, text[start + 1 : end]
        ):
            found.append((start, start + 1))
            start += 1
        letter = match.start() + len(match.group().rstrip("\u200c") if together.endswith(" ") else match.group())
        found += [(start, letter), *((at, at + 1) for at in range(letter, end))]
    return found


def collapsed(text: str) -> str:
    return regex.sub(" +", " ", text)


def assert_exact(family: str, tokenizer: Tokenizer, text: str, tokens: Tokenized) -> None:
    """Spans in order that hold what their tokens say and no letter beside it; together they hold all that is said."""
    spans = list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True))
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(one <= two for (one, _), (two, _) in pairwise(spans))
    inside = dict(units(family, text))
    before = {end: start for start, end in inside.items()}
    for token, (start, end) in zip(tokens.ids.tolist(), spans, strict=True):
        surface = surface_of(tokenizer, token)
        if surface is None or text[start:end] == tokenizer.id_to_token(token):
            assert start < end
        elif not surface.strip(b" "):
            assert not said(family, text[start:end]).strip()
        else:
            surface = surface.strip(b" ")
            assert surface in said(family, text[start:end]).encode()
            for left, rest in (
                (text[start : inside[start]], text[inside[start] : end]),
                (text[before[end] : end], text[start : before[end]]),
            ):
                assert surface not in said(family, rest).encode() or not said(family, left).strip()
    covered = {at for start, end in spans for at in range(start, end)}
    for at in set(range(len(text))) - covered:
        assert not said(family, text[at]).strip() or said(family, text[:at] + text[at + 1 :]) == said(family, text)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=100)
@given(text=mixed)
@example("e\u0301a")
@example("\x07\x01The bread")
@example("½\x07 b")
@example("½\x07\u0301 b")
@example("\x1f\u09c7\u09be")
@example("0\x1f\u09c7\u09be")
@example("<0x41>\u09c7\u09be")
@example("e\u0301\u200cwater")
@example("The \u200c\u0301")
@example("¼\u200c")
@example("A\x07\u0301")
@example("The \x07<mask>\x07The ")
@example("漢字\u200d\u200c")
@example("e\u0301\u200c\u200c")
@example("a\u0323\u0301b")
@example("漢字漢 b")
@example("\u200bﬁne ½  x\r\n\t漢x")
@example(" \xa0e\u0301 漢字 👩\u200d🚀")
def test_each_token_is_traced_to_the_characters_it_stands_for(family: str, text: str) -> None:
    (tokens,) = reader(family).tokenize([text])
    assert tokens.ids.tolist() == FAMILIES[family]().encode(text, add_special_tokens=False).ids
    assert_exact(family, FAMILIES[family](), text, tokens)
