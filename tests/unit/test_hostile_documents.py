"""Hostile and broken files: each ends within its limits with a named reason, and the next file is read."""

import contextlib
import io
import os
import random
import re
import signal
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from samples import DOCX, PDF, SAMPLES, cell, notebook, package, pdf, raw_pdf, stream, word_xml

from colbert_mcp.config import DocumentsConfig
from colbert_mcp.documents import Document, Extractor, read_document
from colbert_mcp.documents.extraction import extractor as extractor_module
from colbert_mcp.documents.extraction.reply import checked
from colbert_mcp.errors import DocumentError, UnreadableDocumentError

MB = 1_000_000
LIMITS = DocumentsConfig(
    max_file_bytes=60 * MB, extraction_seconds=20, extraction_memory_bytes=400 * MB, extraction_characters=MB
)
Read = Callable[[str, bytes], Document]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits or its /proc")


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    with Extractor(LIMITS) as one:
        yield one


@pytest.fixture
def read(tmp_path: Path, extractor: Extractor) -> Read:
    def reading(name: str, raw: bytes) -> Document:
        path = tmp_path / name
        path.write_bytes(raw)
        return read_document(bytes(path), LIMITS.max_file_bytes, extractor)

    return reading


@pytest.fixture
def hurried(tmp_path: Path) -> Iterator[Read]:
    """Reads with two seconds a file, for those that may well use up their time."""
    with Extractor(LIMITS.model_copy(update={"extraction_seconds": 2})) as one:

        def reading(name: str, raw: bytes) -> Document:
            path = tmp_path / name
            path.write_bytes(raw)
            return read_document(bytes(path), LIMITS.max_file_bytes, one)

        yield reading


def reason(read: Read, name: str, raw: bytes) -> str:
    """Why a file is refused; whatever happened, the next file is read."""
    with pytest.raises(UnreadableDocumentError) as caught:
        read(name, raw)
    assert read("next.html", b"<p>still here").text == "still here"
    return str(caught.value)


def outcome(read: Read, name: str, raw: bytes) -> tuple[str, str]:
    """The text of a file and nothing, or nothing and why it is refused."""
    try:
        return read(name, raw).text, ""
    except UnreadableDocumentError as error:
        return "", str(error)


# Archives


def test_a_zip_bomb_is_refused(read: Read) -> None:
    bomb = package({"word/document.xml": word_xml("<w:p/>" + " " * 300 * MB)})
    assert len(bomb) < MB
    assert "zip bomb" in reason(read, "a.docx", bomb)


def test_a_bomb_beside_the_text_is_never_unpacked(read: Read) -> None:
    said = word_xml("<w:p><w:r><w:t>small</w:t></w:r></w:p>")
    bomb = package({"word/document.xml": said, "word/media/image1.png": b"\0" * 300 * MB})
    assert read("a.docx", bomb).text == "small"


def test_a_bomb_in_a_bomb_is_refused(read: Read) -> None:
    inner = package({"word/document.xml": b"\0" * 50 * MB})
    assert "broken" in reason(read, "a.docx", package({"word/document.xml": inner}))


def with_false_sizes(archive: bytes, size: int) -> bytes:
    """An archive whose directory and headers say that each entry unpacks to ``size`` bytes."""
    changed = bytearray(archive)
    for mark, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = changed.find(mark)
        while at >= 0:
            struct.pack_into("<I", changed, at + offset, size)
            at = changed.find(mark, at + 4)
    return bytes(changed)


@pytest.mark.parametrize("size", [0, 10])
def test_an_archive_that_lies_about_its_sizes_is_refused(read: Read, size: int) -> None:
    bomb = package({"word/document.xml": word_xml("<w:p/>" + " " * 150 * MB)})
    assert reason(read, "a.docx", with_false_sizes(bomb, size)).startswith(("a zip bomb", "broken"))


def test_an_archive_that_says_it_is_a_bomb_is_not_unpacked(read: Read) -> None:
    small = package({"word/document.xml": word_xml("<w:p/>")})
    assert "zip bomb" in reason(read, "a.docx", with_false_sizes(small, 2_000_000_000))


def test_an_archive_of_very_many_entries_is_refused(read: Read) -> None:
    many = package({f"{number}": b"" for number in range(25_000)}, compression=zipfile.ZIP_STORED)
    assert "zip bomb" in reason(read, "a.docx", many)


def test_entities_are_refused(read: Read) -> None:
    laughs = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    xml = word_xml("<w:p><w:r><w:t>&e9;</w:t></w:r></w:p>").decode().partition("?>")[2]
    for declared in (laughs, '<!ENTITY e9 SYSTEM "file:///etc/passwd">', '<!ENTITY % p SYSTEM "http://127.0.0.1/">'):
        raw = f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "ha">{declared}]>{xml}'.encode()
        assert "declares entities" in reason(read, "a.docx", package({"word/document.xml": raw}))


def test_xml_that_is_nested_deeply_is_refused(read: Read) -> None:
    for tag in ("w:smartTag", "w:sdt"):
        deep = f"<{tag}>" * 50_000 + f"</{tag}>" * 50_000
        for body in (deep, f"<w:p>{deep}</w:p>"):
            assert "nested too deeply" in reason(read, "a.docx", package({"word/document.xml": word_xml(body)}))
    table = "<w:tbl><w:tr><w:tc>" * 5_000 + "</w:tc></w:tr></w:tbl>" * 5_000
    assert "nested too deeply" in reason(read, "a.docx", package({"word/document.xml": word_xml(table)}))


def test_an_encrypted_docx_is_refused(read: Read) -> None:
    assert "encrypted" in reason(read, "a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000))


def test_an_archive_without_a_document_is_refused(read: Read) -> None:
    assert "broken" in reason(read, "a.docx", package({"xl/workbook.xml": b"<workbook/>"}))
    assert "broken" in reason(read, "a.docx", b"PK\x05\x06" + bytes(18))


# PDF


def one_page(content: bytes, *, more: list[bytes] | None = None) -> bytes:
    return raw_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> /XObject << /X 6 0 R >> >> >>",
            content,
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            *(more or []),
        ]
    )


HELLO = b"BT /F1 12 Tf 50 700 Td (hello) Tj ET"


def deflated(content: bytes, times: int) -> bytes:
    for _ in range(times):
        content = zlib.compress(content, 9)
    return stream(content, b"/Filter [" + b"/FlateDecode " * times + b"]")


def test_a_page_that_is_made_by_hand_is_read(read: Read) -> None:
    assert read("a.pdf", one_page(deflated(HELLO, 3))).text == "hello"


def test_nested_flate_streams_end_within_the_limits(hurried: Read) -> None:
    bomb = one_page(deflated(HELLO + b" " * 500 * MB, 3))
    assert len(bomb) < MB
    said = reason(hurried, "a.pdf", bomb)
    assert said.startswith(("its parser crashed", "it takes longer", "it needs more", "no text layer", "broken"))


def test_a_truncated_pdf_is_refused_or_read_in_part(read: Read) -> None:
    for share in (0.1, 0.5, 0.9):
        text, refused = outcome(read, "a.pdf", PDF[: int(len(PDF) * share)])
        assert "knots" in text or refused.startswith(("broken", "no text layer"))


def test_a_pdf_of_ten_thousand_pages_is_read(read: Read) -> None:
    kids = b" ".join(b"%d 0 R" % (4 + n) for n in range(10_000))
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] >>"
    first = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 10004 0 R"
        b" /Resources << /Font << /F1 10005 0 R >> >> >>"
    )
    raw = raw_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [" + kids + b"] /Count 10000 >>",
            b"null",
            *[page] * 9_999,
            first,
            stream(HELLO),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )
    document = read("a.pdf", raw)
    assert len(document.parts) == 10_000
    assert document.text.strip() == "hello"
    assert document.chunk(document.parts[-1].start, document.parts[-1].end, ()).text == "hello"


@pytest.mark.parametrize(
    "objects",
    [
        [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"],
        [b"<< /Type /Catalog /Pages 1 0 R >>"],
        [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2000000000 >>"],
        [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count -5 >>"],
        [b"2 0 R", b"1 0 R"],
    ],
    ids=["kid of itself", "catalogue of itself", "two billion pages", "negative count", "references in a ring"],
)
def test_pages_that_refer_to_themselves_are_refused(read: Read, objects: list[bytes]) -> None:
    assert reason(read, "a.pdf", raw_pdf(objects)).startswith(("broken", "no text layer", "it has too many pages"))


def test_a_deep_tree_of_pages_ends(read: Read) -> None:
    depth = 20_000
    tree = [b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % (n + 3) for n in range(depth)]
    raw = raw_pdf([b"<< /Type /Catalog /Pages 2 0 R >>", *tree, b"<< /Type /Page /MediaBox [0 0 9 9] >>"])
    assert reason(read, "a.pdf", raw).startswith(("broken", "no text layer"))


def test_a_form_that_draws_itself_ends(hurried: Read) -> None:
    form = stream(HELLO + b" /X Do /X Do", b"/Type /XObject /Subtype /Form /BBox [0 0 600 800]")
    text, refused = outcome(hurried, "a.pdf", one_page(stream(b"/X Do " + HELLO), more=[form]))
    assert "hello" in text or refused.startswith(("its parser crashed", "it takes longer"))


def test_an_outline_in_a_ring_does_not_hold_up_its_document(read: Read) -> None:
    raw = raw_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>",
            stream(HELLO),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Type /Outlines /First 7 0 R /Last 7 0 R >>",
            b"<< /Title (hello) /Parent 6 0 R /Next 7 0 R /First 7 0 R /Dest [3 0 R /Fit] >>",
        ]
    )
    document = read("a.pdf", raw)
    assert [section.title for section in document.sections] == ["hello"]


# HTML


def test_deeply_nested_html_is_read_or_refused_in_time(hurried: Read) -> None:
    for tag, count in (
        ("div", 100_000),
        ("b", 100_000),
        ("table><tr><td", 30_000),
        ("ul><li", 10_000),
        ("svg", 100_000),
    ):
        text, refused = outcome(hurried, "a.html", f"<p>before{f'<{tag}>' * count}after".encode())
        assert text.startswith("before") or "extraction_seconds" in refused


def test_html_of_one_huge_line_is_refused_by_what_it_holds(read: Read) -> None:
    assert re.search("bytes of memory|characters", reason(read, "a.html", b"<p>" + b"word " * 10 * MB))


def test_very_many_headings_are_bounded(read: Read) -> None:
    document = read("a.html", b"<h1>x</h1>" * 30_000)
    assert 10_000 <= len(document.sections) <= 20_000


# Notebooks


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 500_000,
        b'{"cells":' + b'[{"cells":' * 100_000,
        b'{"cells": [' + b"[" * 900 + b"]" * 900 + b"]} trailing",
        b"",
        b"null",
        b'"cells"',
        b"[]",
        b"{}",
        b'{"cells": {}}',
        b'{"cells": null, "worksheets": {}}',
        b'{"cells": [}',
        b"\xff\xfe",
    ],
    ids=range(12),
)
def test_what_is_no_notebook_is_refused(read: Read, raw: bytes) -> None:
    assert reason(read, "a.ipynb", raw).startswith(("broken", "nested too deeply"))


def test_wrong_types_in_a_notebook_count_as_nothing(read: Read) -> None:
    wrong: list[object] = [None, True, 7, 1e308, "text", [], {}, [["x"]], {"text": {}}, [{}, None, "line"]]
    cells = [
        {"cell_type": kind, "source": source, "outputs": outputs, "metadata": 3}
        for kind in [*wrong, "code", "markdown", "heading"]
        for source, outputs in zip(wrong, reversed(wrong), strict=True)
    ]
    cells += [{"cell_type": "code", "outputs": [{"output_type": kind, "text": w, "data": w, "ename": w}]}
              for kind in ("stream", "execute_result", "error", *wrong) for w in wrong]  # fmt: skip
    document = read("a.ipynb", notebook([*wrong, *cells], metadata=[1], nbformat="x"))  # type: ignore[list-item]
    assert len(document.parts) == len(wrong) + len(cells)
    assert set(re.split(r"[\s:#]+", document.text)) <= {"text", "line", ""}


def test_numbers_that_are_none_do_not_break_a_notebook(read: Read) -> None:
    raw = b'{"cells": [{"cell_type": "markdown", "source": "ok", "x": NaN, "y": ' + b"9" * 10_000 + b"}]}"
    assert reason(read, "a.ipynb", raw).startswith("broken")


# Limits


def test_too_much_text_is_refused(read: Read) -> None:
    assert "characters" in reason(read, "a.ipynb", notebook([cell("raw", "x" * (MB + 1))]))
    assert len(read("a.ipynb", notebook([cell("raw", "x" * MB)])).text) == MB


@linux
def test_too_much_memory_is_refused(tmp_path: Path) -> None:
    raw = b"[" + b"[]," * 5 * MB + b"[]]"
    path = tmp_path / "a.ipynb"
    path.write_bytes(raw)
    with Extractor(LIMITS.model_copy(update={"extraction_memory_bytes": 100 * MB})) as small:
        with pytest.raises(UnreadableDocumentError, match="bytes of memory"):
            read_document(bytes(path), 60 * MB, small)
        assert small.extract("html", b"<p>fine").text == "fine"


SPIN = """
def read(raw, text, name):
    if raw == b"spin":
        while True:
            pass
    if raw == b"wait":
        select.select([], [], [])
    if raw == b"die":
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    if raw == b"take the server along":
        import os, signal
        os.kill(os.getppid(), signal.SIGKILL)
        select.select([], [], [])
    if raw == b"open":
        open("/etc/hostname")
    if raw == b"fork":
        import os
        os.fork()
    if raw == b"write":
        import os
        os.write(9, b"x" * 10)
    text.add("fine")
"""


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Extractor]:
    """An extractor whose reader of HTML does what a parser that was taken over could do."""
    folder = tmp_path / "colbert_mcp" / "documents" / "extraction" / "worker"
    folder.mkdir(parents=True)
    own = Path(extractor_module.worker.__file__).parent
    for file in own.glob("*.py"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "html.py").write_text('"""Strange."""\nimport select\n' + SPIN)
    monkeypatch.setattr(extractor_module.worker, "__file__", str(folder / "__init__.py"))
    with Extractor(LIMITS.model_copy(update={"extraction_seconds": 1})) as one:
        yield one


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"spin", "longer than 1 s"),
        (b"wait", "longer than 1 s"),
        (b"die", "crashed"),
        (b"take the server along", "crashed"),
        (b"open", "broken"),
    ],
)
def test_a_reader_that_is_taken_over_costs_its_file_only(strange: Extractor, raw: bytes, expected: str) -> None:
    with pytest.raises(UnreadableDocumentError, match=expected):
        strange.extract("html", raw)
    assert strange.extract("html", b"next").text == "fine"


@linux
def test_a_file_that_takes_too_much_processor_time_does_not_cost_the_child(
    strange: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractor_module, "_CLOCK", 600)
    strange.extract("html", b"start")
    first = strange._child
    with pytest.raises(UnreadableDocumentError, match="longer than 1 s"):
        strange.extract("html", b"spin")
    strange.extract("html", b"next")
    assert strange._child is first


@linux
def test_the_child_is_replaced_after_it_was_killed(extractor: Extractor) -> None:
    assert extractor.extract("html", b"one").text == "one"
    child = extractor._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert extractor.extract("html", b"two").text == "two"


def test_a_child_that_is_killed_midway_costs_one_file(strange: Extractor) -> None:
    strange.extract("html", b"start")
    child = strange._child
    assert child is not None
    killer = threading.Timer(0.2, os.kill, (child.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(UnreadableDocumentError, match=r"crashed|longer"):
        strange.extract("html", b"wait")
    killer.join()
    assert strange.extract("html", b"next").text == "fine"


def test_one_child_serves_many_files(extractor: Extractor) -> None:
    extractor.extract("html", b"one")
    first = extractor._child
    for _ in range(5):
        extractor.extract("pdf", PDF)
        extractor.extract("docx", DOCX)
    assert extractor._child is first


def living(group: int) -> int:
    """How many processes of a group have not ended."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, own = entry.read_text().rpartition(")")[2].split()[:3]
            count += int(own) == group and state != "Z"
    return count


@linux
@pytest.mark.parametrize("busy", [False, True])
def test_the_child_ends_with_its_parent(busy: bool) -> None:
    script = (
        "import sys\nfrom colbert_mcp.config import DocumentsConfig\nfrom colbert_mcp.documents import Extractor\n"
        "e = Extractor(DocumentsConfig(extraction_seconds=3600))\ne.extract('html', b'x')\n"
        "print(e._child.pid, flush=True)\n"
    ) + ("e.extract('html', b'<p>' + b'<div>' * 300_000)" if busy else "sys.stdin.read()")
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = int(parent.stdout.readline())
    while living(child) != 1 + busy:
        os.sched_yield()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    while living(child):
        os.sched_yield()


@linux
def test_the_child_gets_no_environment(strange: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    strange.extract("html", b"start")
    assert strange._child is not None
    assert b"SECRET_TOKEN" not in Path(f"/proc/{strange._child.pid}/environ").read_bytes()


def test_a_child_that_cannot_be_started_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Extractor(LIMITS) as none, pytest.raises(UnreadableDocumentError, match="cannot be started"):
        none.extract("html", b"x")


def test_a_missing_library_is_a_reason(strange: Extractor) -> None:
    folder = Path(str(extractor_module.worker.__file__)).parent
    (folder / "html.py").write_text("import no_such_library\n")
    for _ in range(2):
        with pytest.raises(UnreadableDocumentError, match="install colbert-mcp again"):
            strange.extract("html", b"x")


# Answers


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"text": 5}',
        b'{"text": "a", "more": 1}',
        b'{"reason": "no such reason", "text": "a"}',
        b'{"text": "abc", "headings": [[0, 4, 1, "x"]]}',
        b'{"text": "abc", "headings": [[2, 3, 1, "x"], [0, 1, 1, "y"]]}',
        b'{"text": "abc", "headings": [[-1, 1, 1, "x"]]}',
        b'{"text": "abc", "headings": [[0, 1, 1, "' + b"x" * 301 + b'"]]}',
        b'{"text": "abc", "parts": [[0, 2]]}',
        b'{"text": "abc", "parts": [[0, 2], [1, 3]]}',
        b'{"text": "abc", "parts": [[0, 9]]}',
        b'{"text": "abc", "parts": [[0, 3]], "cells": [["code", 4]]}',
        b'{"text": "abc", "parts": [[0, 3]], "cells": [["code", 1], ["code", 2]]}',
        b'{"text": "\\ud800"}',
        b'{"text": "a", "parts": [[0.5, 1]]}',
    ],
    ids=range(17),
)
def test_an_answer_that_cannot_be_true_is_not_believed(answer: bytes) -> None:
    with pytest.raises(UnreadableDocumentError, match="broken"):
        checked(answer, LIMITS)


def test_a_reason_never_holds_text_of_the_document() -> None:
    with pytest.raises(UnreadableDocumentError) as caught:
        checked(b'{"reason": "the secret text {extraction_seconds}"}', LIMITS)
    assert "secret" not in str(caught.value)


# Anything


@pytest.mark.parametrize("name", SAMPLES)
def test_random_bytes_are_refused_or_read(read: Read, name: str) -> None:
    chance = random.Random(7)
    for size in (1, 10, 1_000, 100_000):
        raw = chance.randbytes(size)
        with contextlib.suppress(DocumentError):
            assert isinstance(read(name, raw).text, str)


def mutated(raw: bytes, chance: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(chance.choice([1, 3, 30])):
        at = chance.randrange(len(changed))
        action = chance.randrange(4)
        if action == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif action == 1:
            changed[at : at + chance.randrange(1, 40)] = chance.randbytes(chance.randrange(40))
        elif action == 2:
            changed[at:at] = changed[: chance.randrange(1, 200)]
        else:
            del changed[chance.randrange(max(1, at)) : at]
            changed = changed or bytearray(b"x")
    return bytes(changed[: chance.randrange(1, len(changed) + 1)] if chance.random() < 0.3 else changed)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_damaged_document_is_valid_or_a_typed_error(read: Read, name: str) -> None:
    chance = random.Random(11)
    outcomes = set()
    for _ in range(200):
        try:
            document = read(name, mutated(SAMPLES[name], chance))
        except DocumentError:
            outcomes.add("refused")
            continue
        outcomes.add("read")
        for part in document.parts or []:
            assert document.chunk(part.start, part.end, ()).part == part
        assert all(0 <= s.start < s.end <= len(document.text) for s in document.sections)
        document.text.encode()
    assert "read" in outcomes


def test_a_damaged_part_of_an_archive_is_found(read: Read) -> None:
    with zipfile.ZipFile(io.BytesIO(DOCX)) as archive:
        offset = archive.getinfo("word/document.xml").header_offset
    changed = bytearray(DOCX)
    changed[offset + 60] ^= 0xFF
    assert "broken" in reason(read, "a.docx", bytes(changed))


def test_a_password_is_not_guessed_twice(read: Read) -> None:
    assert "encrypted" in reason(read, "a.pdf", pdf(["x"], password="long"))
