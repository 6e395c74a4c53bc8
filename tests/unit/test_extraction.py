"""Formats whose text is extracted: what text, which parts and sections, and spans that hold."""

import codecs
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docx import Document as Word
from samples import CREDENTIALS, DOCX, HTML, NOTEBOOK, PDF, SAMPLES, cell, notebook, package, pdf, saved, word_xml
from wordpiece import Rule, words

from colbert_mcp.chunking import cut
from colbert_mcp.config import DocumentsConfig
from colbert_mcp.documents import Document, Extractor, read_document
from colbert_mcp.documents.decoding import line_and_column, line_starts
from colbert_mcp.errors import PathNotAllowedError, UnreadableDocumentError, UnsupportedFormatError
from colbert_mcp.types import EXTRACTED

Read = Callable[[str, bytes], Document]
MB = 1_000_000


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    with Extractor(DocumentsConfig()) as one:
        yield one


@pytest.fixture
def read(tmp_path: Path, extractor: Extractor) -> Read:
    def reading(name: str, raw: bytes) -> Document:
        path = tmp_path / name
        path.write_bytes(raw)
        return read_document(bytes(path), 10 * MB, extractor)

    return reading


def outline(document: Document) -> list[tuple[str, ...]]:
    """The path of titles of each section."""
    sections = document.sections
    return [
        tuple(other.title for other in sections[: index + 1] if other.start <= s.start and s.end <= other.end)
        for index, s in enumerate(sections)
    ]


def part_texts(document: Document) -> list[str]:
    return [document.text[part.start : part.end] for part in document.parts]


# What holds for every format


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("limit", [3, 8, 200])
def test_every_chunk_is_a_span_of_the_extracted_text_in_one_part(read: Read, name: str, limit: int) -> None:
    document = read(name, SAMPLES[name])
    walls = [part.start for part in document.parts]
    pieces = cut(document.text, document.sections, Rule(words), limit, is_code=False, walls=walls)
    starts = line_starts(document.text)
    held = 0
    for piece in pieces:
        chunk = document.chunk(piece.start, piece.end, piece.headings)
        span = chunk.span
        assert document.text[span.char_start : span.char_end] == chunk.text == chunk.text.strip()
        assert (span.byte_start, span.byte_end) == (None, None)
        assert chunk.sha256 == chunk.text_sha256 == hashlib.sha256(chunk.text.encode()).hexdigest()
        assert (span.line_start, span.column_start) == line_and_column(starts, piece.start)
        assert (span.line_end, span.column_end) == line_and_column(starts, piece.end)
        assert not document.text[held : span.char_start].strip()
        held = span.char_end
        if document.parts:
            assert chunk.part in document.parts
            assert chunk.part is not None
            assert chunk.part.start <= span.char_start < span.char_end <= chunk.part.end
        else:
            assert chunk.part is None
    assert not document.text[held:].strip()


@pytest.mark.parametrize(
    ("name", "record_format", "kind"),
    [
        ("a.pdf", "pdf", "page"),
        ("a.docx", "docx", None),
        ("a.html", "html", None),
        ("a.xhtml", "html", None),
        ("a.ipynb", "notebook", "cell"),
    ],
)
def test_the_record_is_of_the_file_and_says_that_its_text_was_extracted(
    read: Read, name: str, record_format: str, kind: str | None
) -> None:
    document = read(name, SAMPLES[name])
    assert document.extracted
    assert document.record.encoding == EXTRACTED == "extracted"
    assert (document.record.format, document.record.newline) == (record_format, "lf")
    assert document.record.sha256 == hashlib.sha256(SAMPLES[name]).hexdigest()
    assert {part.kind for part in document.parts} == ({kind} if kind else set())
    assert [part.number for part in document.parts] == list(range(1, len(document.parts) + 1))
    with pytest.raises(UnreadableDocumentError, match="extracted"):
        document.char_at(0)


def test_a_text_file_is_not_extracted_and_has_no_parts(read: Read) -> None:
    document = read("a.md", b"# A\n")
    assert (document.extracted, document.parts) == (False, [])


def test_without_an_extractor_one_is_made_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(b"<p>alone")
    assert read_document(bytes(path), MB).text == "alone"


def test_what_crosses_two_parts_is_refused(read: Read) -> None:
    document = read("a.pdf", PDF)
    second = document.parts[1]
    assert document.chunk(second.start, second.end, ()).part == second
    with pytest.raises(UnreadableDocumentError, match="one page or cell"):
        document.chunk(second.start, second.end + 3, ())
    with pytest.raises(UnreadableDocumentError, match="one page or cell"):
        document.chunk(second.end + 1, second.end + 1, ())


def test_a_name_in_capitals_is_read_the_same(read: Read) -> None:
    assert read("A.PDF", PDF).text == read("a.pdf", PDF).text


@pytest.mark.parametrize("name", ["a.doc", "a.pptx", "a.xlsx", "a.odt", "a.epub"])
def test_other_containers_are_named_as_not_supported(read: Read, name: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=f"format not supported: {name[1:]}"):
        read(name, DOCX)


def word_of(text: str) -> bytes:
    made = Word()
    made.add_paragraph(text)
    return saved(made)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.pdf", lambda secret: pdf([f"key: {secret}"])),
        ("a.docx", word_of),
        ("a.html", lambda secret: f"<p>{secret[:6]}<b>{secret[6:]}</b>".encode()),
        ("a.ipynb", lambda secret: notebook([cell("code", [secret[:6], secret[6:]])])),
    ],
)
def test_a_credential_in_extracted_text_is_refused(read: Read, name: str, make: Callable[[str], bytes]) -> None:
    for secret in [secret for secret in CREDENTIALS if not secret.startswith("-----")]:
        raw = make(secret)
        with pytest.raises(PathNotAllowedError, match="access token") as caught:
            read(name, raw)
        assert secret not in str(caught.value)


# PDF


def test_a_page_of_a_pdf_is_a_part_in_reading_order(read: Read) -> None:
    document = read("a.pdf", PDF)
    assert part_texts(document) == [
        "Preface\nThis book is about knots.",
        "1. Bowline\nA loop that holds.",
        "2. Sheet bend\nIt joins two ropes.",
    ]


def test_an_outline_gives_sections_that_start_at_their_titles(read: Read) -> None:
    document = read("a.pdf", PDF)
    assert outline(document) == [("Preface",), ("Bowline",), ("Sheet bend",)]
    assert [document.text[s.start : s.body] for s in document.sections] == ["Preface", "1. Bowline", "2. Sheet bend"]
    assert [document.text[s.start : s.end].split()[-1] for s in document.sections] == ["knots.", "holds.", "ropes."]


def test_an_entry_whose_title_is_not_on_its_page_names_only_what_must_be_under_it(read: Read) -> None:
    pages = ["Intro\nwords", "the end of Intro, then a picture as title", "surely knots", "Next\nwords"]
    document = read("a.pdf", pdf(pages, outline=[(0, "Intro"), (1, "Knots"), (3, "Next")]))
    found = {document.text[s.start : s.end].strip(): s.title for s in document.sections}
    assert found == {"Intro\nwords": "Intro", "surely knots": "Knots", "Next\nwords": "Next"}


def test_an_entry_without_a_place_ends_the_section_before_it_on_the_same_page(read: Read) -> None:
    outline = [(0, "Knots"), (0, "?!"), (0, "Hitch"), (1, "Bends")]
    document = read("a.pdf", pdf(["Knots\nwords", "still the hitch\nBends\nmore"], outline=outline))
    assert [(s.title, document.text[s.start : s.end].strip()) for s in document.sections] == [
        ("Knots", "Knots"),
        ("Hitch", "still the hitch"),
        ("Bends", "Bends\nmore"),
    ]


def test_an_entry_without_a_place_does_not_hide_the_next_on_its_page(read: Read) -> None:
    document = read("a.pdf", pdf(["intro\nKnots\nwords", "more"], outline=[(0, "?!"), (0, "Knots")]))
    assert [(s.title, document.text[s.start : s.end]) for s in document.sections] == [("Knots", "Knots\nwords\n\nmore")]


def test_a_title_over_two_lines_is_found(read: Read) -> None:
    document = read("a.pdf", pdf(["7\nA very long\ntitle\ntext"], outline=[(0, "A very long title")]))
    section = document.sections[0]
    assert document.text[section.start : section.body] == "A very long\ntitle"


def test_a_page_without_text_is_an_empty_part(read: Read) -> None:
    document = read("a.pdf", pdf(["one", "", "three"]))
    assert part_texts(document) == ["one", "", "three"]


def test_a_pdf_without_any_text_is_refused(read: Read) -> None:
    with pytest.raises(UnreadableDocumentError, match="no text layer"):
        read("a.pdf", pdf(["", ""]))


def test_a_pdf_that_opens_without_a_password_is_read_though_encrypted(read: Read) -> None:
    raw = pdf(["a restricted page"], password="")
    assert b"/Encrypt" in raw
    assert read("a.pdf", raw).text == "a restricted page"


def test_a_pdf_with_a_password_is_refused(read: Read) -> None:
    with pytest.raises(UnreadableDocumentError, match="encrypted"):
        read("a.pdf", pdf(["secret"], password="open sesame"))


# DOCX


def test_a_docx_is_read_in_document_order(read: Read) -> None:
    assert read("a.docx", DOCX).text == (
        "The mill\n\nGrinding\n\nStones turn slowly.\tRye takes longer.\n\nSafety\n\n"
        "- Keep hands away\n- Wear no scarf\n\nGrain\tHours\nRye\tThree\n\nStoring\n\nFlour keeps for a year."
    )


def test_headings_of_a_docx_are_nested_sections(read: Read) -> None:
    document = read("a.docx", DOCX)
    assert outline(document) == [
        ("The mill",),
        ("The mill", "Grinding"),
        ("The mill", "Grinding", "Safety"),
        ("The mill", "Storing"),
    ]
    assert document.text[document.sections[2].start : document.sections[2].end].endswith("Rye\tThree\n\n")


def heading_style(identifier: str, name: str, more: str = "") -> str:
    return f'<w:style w:styleId="{identifier}"><w:name w:val="{name}"/>{more}</w:style>'


STYLES = (
    '<w:styles xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    + heading_style("berschrift1", "heading 1")
    + heading_style("Mine", "My style", '<w:basedOn w:val="berschrift1"/>')
    + heading_style("Outlined", "Outlined", '<w:pPr><w:outlineLvl w:val="1"/></w:pPr>')
    + heading_style("Loop", "Loop", '<w:basedOn w:val="Loop"/>')
    + heading_style("NoHeading", "Body", '<w:basedOn w:val="Mine"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr>')
    + "</w:styles>"
)


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def test_a_heading_is_known_by_its_style_in_any_language(read: Read) -> None:
    styles = ["berschrift1", "Outlined", "Mine", "Loop", "NoHeading", "Heading2", ""]
    body = "".join(paragraph(f"t{number}", style) for number, style in enumerate(styles))
    document = read("a.docx", package({"word/document.xml": word_xml(body), "word/styles.xml": STYLES.encode()}))
    assert outline(document) == [("t0",), ("t0", "t1"), ("t2",), ("t2", "t5")]


def test_insertions_fields_and_content_controls_are_read_but_not_what_was_deleted_or_hidden(read: Read) -> None:
    run = "<w:r><w:t>{}</w:t></w:r>".format
    body = (
        f"<w:p><w:ins>{run('in')}</w:ins><w:del><w:r><w:delText>out</w:delText><w:tab/></w:r></w:del>"
        f"<w:hyperlink>{run(' link')}</w:hyperlink><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:br/><w:t>next</w:t><w:noBreakHyphen/><w:t>x</w:t></w:r></w:p>"
        f"<w:sdt><w:sdtContent><w:p>{run('control')}</w:p></w:sdtContent></w:sdt>"
        f"<w:tbl><w:tr><w:tc><w:p>{run('a')}</w:p><w:p>{run('b')}</w:p></w:tc><w:tc><w:tbl><w:tr><w:tc><w:p>{run('c')}"
        "</w:p></w:tc></w:tr></w:tbl></w:tc></w:tr></w:tbl>"
    )
    document = read("a.docx", package({"word/document.xml": word_xml(body)}))
    assert document.text == "in link\nnext\u2011x\n\ncontrol\n\na b\tc"


def test_a_footnote_stands_under_the_paragraph_that_cites_it(read: Read) -> None:
    body = f'<w:p><w:r><w:t>Said</w:t><w:footnoteReference w:id="2"/></w:r></w:p>{paragraph("After")}'
    notes = word_xml(f'<w:x/></w:body><w:footnote w:id="2">{paragraph("a note")}</w:footnote><w:body>')
    document = read("a.docx", package({"word/document.xml": word_xml(body), "word/footnotes.xml": notes}))
    assert document.text == "Said[2]\n\n[2] a note\n\nAfter"


# HTML


def test_the_visible_text_of_a_page_is_read(read: Read) -> None:
    assert read("a.html", HTML.encode()).text == (
        "Harbour rules\n\nBoats over ten\xa0metres keep to the right & wait.\nOthers may pass.\n\nFees\n\n"
        "Boat\tFee\nDinghy\t4 €\n\n- Pay at the office\n- or online\n  - by card\n\n3. Moor\n4. Rest\n\n"
        "tide\n  at 6:10\n\nWinter\n\nThe slipway\nis closed."
    )


def test_headings_of_a_page_are_nested_sections(read: Read) -> None:
    document = read("a.html", HTML.encode())
    assert outline(document) == [("Harbour rules",), ("Harbour rules", "Fees"), ("Harbour rules", "Winter")]
    assert [document.text[s.start : s.body] for s in document.sections] == ["Harbour rules", "Fees", "Winter"]


def test_a_link_to_a_heading_is_not_part_of_its_title(read: Read) -> None:
    document = read("a.html", "<h1>Setup<a href='#setup'>¶</a></h1>x<h2>Why C# <a>#</a></h2>y".encode())
    assert outline(document) == [("Setup",), ("Setup", "Why C#")]
    assert document.text == "Setup¶\n\nx\n\nWhy C# #\n\ny"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<p>a <b> b </b> c", "a b c"),
        ("a<span>b</span>c<i> d</i>", "abc d"),
        ("a<br><br>b<br>", "a\n\nb"),
        ("<table><tr><td>1<td><td><p>3</p><tr><td><td>2</table>", "1\t\t3\n2"),
        ("<table><tr><td><p>1</p></td><td>2</table>", "1\t2"),
        ("<dl><dt>term<dd>what it is</dl>", "term\nwhat it is"),
        ("<pre>a\n\n  b</pre>c", "a\n\n  b\n\nc"),
        ("<p>a</p> <!-- no --> <p>b</p>", "a\n\nb"),
        ("&lt;b&gt; &#x41; &hearts; &nosuch;", "<b> A ♥ &nosuch;"),
        ("a&#0;b&#xD800;c\x07d", "a\ufffdb\ufffdc\ufffdd"),
        ("<dialog>closed</dialog><dialog open>opened</dialog>", "opened"),
        ("<ul><li><p>a</p><p>b</p></li><li>c</ul>", "- a\n\nb\n\n- c"),
        ("<svg><text>x</text></svg><select><option>x</select><textarea>x</textarea><iframe>x</iframe>ok", "ok"),
        ("<p>unclosed <b>bold <p>next", "unclosed bold\n\nnext"),
    ],
)
def test_text_is_laid_out_as_a_reader_sees_it(read: Read, source: str, expected: str) -> None:
    assert read("a.html", source.encode()).text == expected


def test_an_xhtml_page_may_close_its_elements_at_once(read: Read) -> None:
    raw = b'<?xml version="1.0"?><html><head><script src="x"/></head><body><div/>seen</body></html>'
    assert read("a.xhtml", raw).text == "seen"


WORD = "Grüße – 漢字"


@pytest.mark.parametrize(
    "raw",
    [
        codecs.BOM_UTF8 + WORD.encode(),
        codecs.BOM_UTF16_LE + WORD.encode("utf-16-le"),
        WORD.encode(),
        b'<meta charset="utf-8">' + WORD.encode(),
        b'<meta charset="utf-16">' + WORD.encode(),
        b'<META http-equiv=Content-Type content="text/html; charset=gb18030">' + WORD.encode("gb18030"),
        b"<?xml version='1.0' encoding='gb18030'?>" + WORD.encode("gb18030"),
        codecs.BOM_UTF8 + b"<meta charset=iso-8859-15>" + WORD.encode(),
        b"<meta charset=no-such>" + WORD.encode(),
        b"<meta charset=rot13>" + WORD.encode(),
    ],
)
def test_a_page_is_decoded_by_its_mark_else_by_what_it_declares(read: Read, raw: bytes) -> None:
    assert read("a.html", raw).text == WORD


def test_latin_1_is_read_as_browsers_do_and_a_wrong_byte_does_not_hide_the_page(read: Read) -> None:
    assert read("a.html", b"<meta charset=iso-8859-1>\x93caf\xe9\x94").text == "“café”"
    assert read("a.html", b"<meta charset=utf-8>caf\xe9 " + "ü".encode()).text.startswith("caf")
    assert read("a.html", b"<meta charset=shift_jis>ok \x82\xff").text.startswith("ok")


# Notebooks


def test_a_cell_of_a_notebook_is_a_part_with_what_it_printed(read: Read) -> None:
    assert part_texts(read("a.ipynb", NOTEBOOK)) == [
        "# Tides\n\nWe measure the tide.",
        "import math\n\n\ndef height(hour):\n    return math.sin(hour)\n\n\nprint(height(6))",
        "",
        "## Results\n\nIt falls.",
        "height(1)\n\nline one\nline two\n0.84",
    ]


def test_sections_of_a_notebook_are_headings_and_definitions(read: Read) -> None:
    document = read("a.ipynb", NOTEBOOK)
    assert outline(document) == [("Tides",), ("Tides", "height"), ("Tides", "Results")]
    assert document.text[document.sections[1].start : document.sections[1].end].startswith("def height")


def test_comments_and_outputs_of_code_are_no_headings(read: Read) -> None:
    said = {"output_type": "stream", "text": "# not a heading\ndef no_definition():\n    pass\n"}
    document = read(
        "a.ipynb", notebook([cell("code", "# a comment\nx = 1", said), cell("raw", "# raw\ndef raw():\n    pass")])
    )
    assert document.sections == []


def test_a_notebook_of_format_3_is_read(read: Read) -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Old"},
        {"cell_type": "code", "input": "1 + 1", "outputs": [{"output_type": "pyout", "text": ["2"]}]},
    ]
    document = read("a.ipynb", json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}).encode())
    assert part_texts(document) == ["## Old", "1 + 1\n\n2"]
    assert outline(document) == [("Old",)]


def test_a_long_output_is_cut_and_terminal_colours_are_left_out(read: Read) -> None:
    outputs = [{"output_type": "stream", "text": "\x1b[31mred\x1b[0m\n"}, {"output_type": "stream", "text": "x" * MB}]
    document = read("a.ipynb", notebook([cell("code", "run()", *outputs)]))
    assert document.text.startswith("run()\n\nred\nxxx")
    assert len(document.text) < 11_000


def test_lone_surrogates_and_control_characters_are_replaced(read: Read) -> None:
    document = read("a.ipynb", notebook([cell("markdown", "a\ud800b\x00c\x1bd\r\ne\x0cf\U0001f600")]))
    assert document.text == "a\ufffdb\ufffdc\ufffdd\ne\nf\U0001f600"


# Stateful encodings


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("iso2022_jp", "日本語の文章です。これは試験です。\n"),
        ("iso2022_kr", "안녕하세요 오늘 날씨가 좋네요.\n"),
        ("hz", "今天天气很好,我们去公园散步吧。\n"),
        ("utf-7", "\ufeffLe café était fermé\n"),
    ],
)
def test_text_in_a_stateful_encoding_is_extracted(read: Read, encoding: str, text: str) -> None:
    raw = text.encode(encoding)
    document = read("a.md", raw)
    assert document.text == text.removeprefix("\ufeff")
    assert (document.extracted, document.record.encoding, document.record.format) == (True, EXTRACTED, "markdown")
    assert document.record.sha256 == hashlib.sha256(raw).hexdigest()
    assert document.chunk(0, 3, ()).span.byte_start is None


@pytest.mark.parametrize(
    "raw", [b"\x1b[31mred\x1b[0m", b"echo ~{x}", b"+/v8x is base64?", b"+AOk- +BB8EQAQ4-", b"\x1b$B"]
)
def test_what_only_looks_stateful_keeps_its_bytes(read: Read, raw: bytes) -> None:
    document = read("a.txt", raw)
    assert (document.extracted, document.record.encoding) == (False, "utf-8")
    assert document.chunk(0, 2, ()).span.byte_end == 2
