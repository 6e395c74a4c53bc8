import codecs
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from colbert_mcp.documents.decoding import Decoded, _char_bytes, decode, line_and_column, line_starts, newline_style
from colbert_mcp.errors import DocumentError, UnreadableDocumentError, UnsupportedFormatError

WITH_MARK = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
]
# Letters of each legacy encoding, of every length in bytes that it has.
LEGACY = {
    "cp1252": "aZ~é€ñ–”ÿ",
    "latin-1": "aZ~éñ\x85ÿ",
    "shift_jis": "aZ~ｱﾝ日本語表ソ、。",
    "cp932": "aZ~ｱ日本語表ソ①髙",
    "euc_jp": "aZ~ｱ日本語、丂",
    "gb18030": "aZ~中文€é😀𠀀\u0301",
    "gbk": "aZ~中文啊。",
    "big5": "aZ~中文功許，。",
    "euc_kr": "aZ~한국어",
}

PIECES = [
    *("a", "Z", " ", "\t", "\n", "\r", "\r\n", "é", "e\u0301", "\u0301", "ß", "漢", "\u200d", "\ufeff", "\x0c", "\x85"),
    *("\u2028", "😀", "𝄞", "\U0010ffff", "\ud7ff", "\uffff", "\U00010000"),
]
pieces = st.sampled_from(PIECES)
texts = st.lists(pieces, max_size=14).map("".join)
many = settings(max_examples=120)


def assert_every_cut_decodes(decoded: Decoded, raw: bytes) -> None:
    byte_at = [decoded.byte_at(at) for at in range(len(decoded.text) + 1)]
    assert byte_at[-1] == len(raw)
    for a, b in combinations_with_replacement(range(len(decoded.text) + 1), 2):
        assert raw[byte_at[a] : byte_at[b]].decode(decoded.encoding) == decoded.text[a:b]


def assert_char_at_inverts_byte_at(decoded: Decoded, raw: bytes) -> None:
    byte_at = [decoded.byte_at(at) for at in range(len(decoded.text) + 1)]
    for byte in range(len(raw) + 2):
        first = next((at for at, start in enumerate(byte_at) if start >= byte), len(decoded.text))
        assert decoded.char_at(byte) == first
    assert [decoded.char_at(byte) for byte in byte_at] == list(range(len(byte_at)))


@many
@given(texts.filter(lambda text: not text.startswith("\ufeff")))
@example("")
@example("plain ascii\r\nonly\r")
def test_every_cut_of_utf8_without_a_mark_decodes_from_its_bytes(text: str) -> None:
    raw = text.encode()
    decoded = decode(raw)
    assert (decoded.text, decoded.encoding) == (text, "utf-8")
    assert_every_cut_decodes(decoded, raw)
    assert_char_at_inverts_byte_at(decoded, raw)


@pytest.mark.parametrize(("mark", "encoding"), WITH_MARK)
@many
@given(text=texts)
@example(text="")
@example(text="plain ascii")
def test_every_cut_of_a_file_with_a_mark_decodes_from_its_bytes(mark: bytes, encoding: str, text: str) -> None:
    raw = mark + text.encode(encoding)
    decoded = decode(raw)
    assert (decoded.text, decoded.encoding) == (text, encoding)
    assert decoded.byte_at(0) == len(mark)
    assert_every_cut_decodes(decoded, raw)
    assert_char_at_inverts_byte_at(decoded, raw)


@pytest.mark.parametrize("encoding", LEGACY)
@settings(max_examples=40)
@given(data=st.data())
def test_every_cut_of_a_legacy_encoding_decodes_from_its_bytes(encoding: str, data: st.DataObject) -> None:
    letters = [*LEGACY[encoding], " ", "\n", "\r\n", "\r"]
    raw = "".join(data.draw(st.lists(st.sampled_from(letters), max_size=14))).encode(encoding)
    text = raw.decode(encoding)
    # By hand: no detector can be relied on to name the encoding of so few letters.
    decoded = Decoded(text, encoding, 0, _char_bytes(raw, 0, text, encoding))
    assert_every_cut_decodes(decoded, raw)
    assert_char_at_inverts_byte_at(decoded, raw)


@settings(max_examples=60)
@given(st.sampled_from(sorted(LEGACY)), st.data())
def test_whatever_encoding_is_detected_every_character_has_its_bytes(encoding: str, data: st.DataObject) -> None:
    letters = [*LEGACY[encoding], " ", "\n"]
    raw = "".join(data.draw(st.lists(st.sampled_from(letters), min_size=4, max_size=40))).encode(encoding)
    try:
        decoded = decode(raw)
    except DocumentError:
        return  # refused rather than guessed
    assert decoded.text == raw.decode(decoded.encoding)
    assert_every_cut_decodes(decoded, raw)


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("shift_jis", "日本語の文章です。これは試験です。\r\n"),
        ("big5", "中文文章，測試內容。\n"),
        ("gb18030", "中文文章，测试内容。\n"),
    ],
)
def test_a_legacy_file_of_some_length_is_read_as_what_it_says(encoding: str, line: str) -> None:
    raw = (line * 20).encode(encoding)
    decoded = decode(raw)
    assert decoded.text == line * 20
    assert raw[decoded.byte_at(3) : decoded.byte_at(9)].decode(encoding) == decoded.text[3:9]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_read_as_such(encoding: str) -> None:
    text = "A plain line.\r\nAnd another, with an é.\r\n"
    raw = text.encode(encoding)
    decoded = decode(raw)
    assert (decoded.text, decoded.encoding) == (text, encoding)
    assert_every_cut_decodes(decoded, raw)


def test_a_very_long_line_keeps_its_offsets() -> None:
    text = "é" + "x" * 300_000 + "😀" + "y" * 300_000
    for mark, encoding in [(b"", "utf-8"), *WITH_MARK]:
        raw = mark + text.encode(encoding)
        decoded = decode(raw)
        for a, b in [(0, 1), (1, 300_001), (300_000, 300_002), (300_001, 300_002), (300_002, 600_002)]:
            assert raw[decoded.byte_at(a) : decoded.byte_at(b)].decode(encoding) == text[a:b]


def test_a_letter_outside_of_the_basic_plane_counts_as_one_character_of_four_bytes() -> None:
    for mark, encoding in [(b"", "utf-8"), *WITH_MARK]:
        decoded = decode(mark + "a😀b".encode(encoding))
        assert decoded.byte_at(2) - decoded.byte_at(1) == 4
        assert decoded.char_at(decoded.byte_at(1) + 1) == 2


def test_offsets_past_the_end_are_the_end() -> None:
    for text in ("abc", "äöü"):
        decoded = decode(text.encode())
        assert decoded.byte_at(99) == len(text.encode())
        assert decoded.char_at(99) == 3


def test_a_mark_is_left_out_of_the_text_but_one_inside_the_text_stays() -> None:
    assert decode(codecs.BOM_UTF8 + "\ufeffa\ufeff".encode()).text == "\ufeffa\ufeff"
    assert decode(codecs.BOM_UTF16_LE + "a\ufeff".encode("utf-16-le")).text == "a\ufeff"


def test_the_mark_of_utf32_is_not_taken_for_that_of_utf16() -> None:
    assert decode("\ufeffab".encode("utf-32-le")).encoding == "utf-32-le"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0",
        b"PK\x03\x04\x14\0\0\0\x08\0abc.xml",
        b"SQLite format 3\0\x10\0\x01\x01\0@  ",
        b"text, and then one zero\0 in it",
        b"\0",
    ],
)
def test_binary_data_is_refused(raw: bytes) -> None:
    with pytest.raises(UnsupportedFormatError, match="binary"):
        decode(raw)


@pytest.mark.parametrize(
    "raw",
    [
        codecs.BOM_UTF8 + b"abc\xff",
        codecs.BOM_UTF8 + b"abc\xc3",
        codecs.BOM_UTF16_LE + b"a\0\x00\xd8",
        codecs.BOM_UTF16_LE + b"a\0b",
        codecs.BOM_UTF16_BE + b"\xdc\x00\0a",
        codecs.BOM_UTF32_LE + b"\0\0\x11\0",
        codecs.BOM_UTF32_BE + b"\0\0\0a\0",
        bytes(range(128, 256)) * 20,
        bytes([0x81, 0x8D, 0x8F, 0x90, 0x9D, 0xFF, 0xFE, 0x80]) * 50,
    ],
)
def test_what_does_not_decode_is_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableDocumentError):
        decode(raw)


def ends_a_line(text: str, at: int) -> bool:
    return text[at] == "\n" or (text[at] == "\r" and text[at + 1 : at + 2] != "\n")


@many
@given(texts)
def test_lines_and_columns_count_what_a_reader_counts(text: str) -> None:
    starts = line_starts(text)
    line, column = 1, 1
    for at in range(len(text) + 1):
        assert line_and_column(starts, at) == (line, column)
        if at < len(text):
            line, column = (line + 1, 1) if ends_a_line(text, at) else (line, column + 1)


def test_a_lone_cr_ends_a_line() -> None:
    assert line_starts("a\rb\r\nc\n\rd") == [0, 2, 5, 7, 8]


def test_other_separators_do_not_end_a_line() -> None:
    assert line_starts("a\x0bb\x0cc\x85d\u2028e\u2029f\x1c") == [0]


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("", "none"),
        ("a", "none"),
        ("a\u2028b", "none"),
        ("a\nb\n", "lf"),
        ("a\r\nb", "crlf"),
        ("a\rb\r", "cr"),
        ("\r\r", "cr"),
        ("a\r\nb\n", "mixed"),
        ("a\rb\n", "mixed"),
        ("a\n\rb", "mixed"),
        ("a\r\r\nb", "mixed"),
    ],
)
def test_the_newline_style_names_what_ends_the_lines(text: str, style: str) -> None:
    assert newline_style(text) == style


def test_a_pair_that_one_code_stands_for_starts_at_one_byte() -> None:
    # Big5-HKSCS writes E with circumflex and macron as one code but two characters: both start where it does.
    raw = b"a" + b"\x88\x62" + b"b"
    text = raw.decode("big5hkscs")
    assert len(text) == 4
    char_bytes = _char_bytes(raw, 0, text, "big5hkscs")
    assert char_bytes is not None
    assert np.array_equal(char_bytes, [0, 1, 1, 3, 4])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Le café était fermé à midi, mais la crêperie voisine était ouverte.", "cp1252"),
        ("El niño comió piña y después jugó en el jardín con su compañero.", "latin-1"),
        ("Der Bäcker öffnet um fünf Uhr früh, außer sonntags.", "cp1252"),
        ("“Smart quotes” and an em—dash … plain English text follows here.", "cp1252"),
        ("Zażółć gęślą jaźń, a potem idź do sklepu po świeży chleb i mleko.", "cp1250"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy.", "cp1250"),
        ("Привет, как дела? Сегодня хорошая погода.", "cp1251"),
        ("Καλημέρα, τι κάνεις σήμερα;", "cp1253"),
        ("今日は天気がいいですね。散歩に行きましょう。", "shift_jis"),
        ("今天天气很好,我们去公园散步吧。", "gb18030"),
        ("今天天氣很好,我們去公園散步吧。", "big5"),
        ("안녕하세요 오늘 날씨가 좋네요.", "euc_kr"),
    ],
)
@pytest.mark.parametrize("lines", [1, 12])
def test_a_line_of_legacy_text_is_read_as_it_was_written(text: str, encoding: str, lines: int) -> None:
    written = f"{text}\n" * lines
    assert decode(written.encode(encoding)).text == written
