import codecs
import hashlib
import os
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import CREDENTIALS

from colbert_mcp.documents import (
    Document,
    display_path,
    file_stamp,
    file_url,
    read_document,
    real_path,
)
from colbert_mcp.documents.decoding import Decoded, line_starts
from colbert_mcp.documents.document import read_regular_file
from colbert_mcp.errors import PathNotAllowedError, UnreadableDocumentError, UnsupportedFormatError
from colbert_mcp.types import DocumentRecord, FileStamp

MARKS = {
    "utf-8": b"",
    "utf-8-sig": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
NAMES = {"\n": "lf", "\r\n": "crlf", "\r": "cr"}
MB = 1_000_000
# macOS refuses names that are not UTF-8.
any_bytes = pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 here")


def written(folder: Path, name: str, raw: bytes) -> bytes:
    path = folder / name
    path.write_bytes(raw)
    return os.fsencode(path)


def places(text: str) -> list[tuple[int, int]]:
    """Line and column of every character and of the end, by walking the text."""
    found = [(1, 1)]
    for at, character in enumerate(text):
        line, column = found[-1]
        ends = character == "\n" or (character == "\r" and text[at + 1 : at + 2] != "\n")
        found.append((line + 1, 1) if ends else (line, column + 1))
    return found


@pytest.mark.parametrize("newline", NAMES)
@pytest.mark.parametrize("encoding", MARKS)
def test_every_chunk_is_proved_by_the_bytes_on_disk(tmp_path: Path, encoding: str, newline: str) -> None:
    text = newline.join(["Première ligne 😀", "", "e\u0301 \t zweite", "漢字 end", ""])
    codec = "utf-8" if encoding == "utf-8-sig" else encoding
    raw = MARKS[encoding] + text.encode(codec)
    document = read_document(written(tmp_path, "a.txt", raw), MB)
    assert document.text == text
    assert (document.record.encoding, document.record.newline) == (codec, NAMES[newline])
    assert document.record.sha256 == hashlib.sha256(raw).hexdigest()
    expected = places(text)
    for start in range(len(text) + 1):
        for end in range(start, len(text) + 1):
            chunk = document.chunk(start, end, ("h",))
            span = chunk.span
            source = raw[span.byte_start : span.byte_end]
            assert hashlib.sha256(source).hexdigest() == chunk.sha256
            assert source.decode(codec) == chunk.text == text[start:end]
            assert chunk.text_sha256 == hashlib.sha256(text[start:end].encode()).hexdigest()
            assert (span.char_start, span.char_end, chunk.headings) == (start, end, ("h",))
            assert (span.line_start, span.column_start) == expected[start]
            assert (span.line_end, span.column_end) == expected[end]
            assert span.byte_start is not None
            assert document.char_at(span.byte_start) == start


def test_lines_and_columns_are_those_an_editor_shows(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, "a.txt", "one\r\nzwö 😀 x\rthree\n".encode()), MB)
    x = document.text.index("x")
    span = document.chunk(x, document.text.index("three") + 5, ()).span
    assert (span.line_start, span.column_start, span.line_end, span.column_end) == (2, 7, 3, 6)
    assert document.record.newline == "mixed"


def test_a_chunk_whose_bytes_do_not_say_its_text_is_refused() -> None:
    raw = "zwölf".encode()
    record = DocumentRecord(b"/x", FileStamp(0, 0), "", "text", "utf-8", "none", 1)
    # A byte map that is wrong after the ö, as a reader with a bug would make it.
    document = Document(record, "zwölf", [], False, [], raw, Decoded("zwölf", "utf-8", 0, None), line_starts("zwölf"))
    assert document.chunk(0, 2, ()).text == "zw"
    with pytest.raises(UnreadableDocumentError, match="do not decode"):
        document.chunk(0, 4, ())


def test_the_stamp_is_that_of_the_file_that_was_read(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", b"abc")
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    raw, stamp = read_regular_file(path, MB)
    assert (raw, stamp) == (b"abc", FileStamp(3, 1_700_000_000_123_456_789))
    assert file_stamp(path) == stamp
    assert read_document(path, MB).record.stamp == stamp


@pytest.mark.parametrize(
    ("name", "expected", "is_code"),
    [
        ("a.md", "markdown", False),
        ("A.MARKDOWN", "markdown", False),
        ("a.mdx", "markdown", False),
        ("a.rst", "restructuredtext", False),
        ("a.py", "python", True),
        ("a.H", "c", True),
        ("a.tsx", "tsx", True),
        ("a.json", "json", True),
        ("a.sh", "shell", True),
        ("a.txt", "text", False),
        ("README", "text", False),
        ("a.unknown", "text", False),
        (".py", "text", False),
    ],
)
def test_the_suffix_tells_the_format(tmp_path: Path, name: str, expected: str, is_code: bool) -> None:
    document = read_document(written(tmp_path, name, b"Title\n=====\n\ntext\n"), MB)
    assert (document.record.format, document.is_code) == (expected, is_code)
    assert [section.title for section in document.sections] == ["Title"] * (
        expected in {"markdown", "restructuredtext"}
    )


def test_a_file_may_be_as_large_as_the_limit_but_not_larger(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", b"x" * 100)
    assert len(read_document(path, 100).text) == 100
    with pytest.raises(UnreadableDocumentError, match="larger than 99 bytes"):
        read_document(path, 99)


def test_an_empty_file_is_an_empty_text(tmp_path: Path) -> None:
    for number, mark in enumerate(MARKS.values()):
        document = read_document(written(tmp_path, f"{number}.md", mark), MB)
        assert (document.text, document.sections) == ("", [])
        assert document.chunk(0, 0, ()).span.byte_end == len(mark)


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "pipe.txt")
    os.mkfifo(path)
    with pytest.raises(UnreadableDocumentError, match="not a regular file"):
        read_document(path, MB)


def test_a_device_is_refused() -> None:
    with pytest.raises(UnreadableDocumentError, match="not a regular file"):
        read_document(b"/dev/zero", MB)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    with pytest.raises(UnreadableDocumentError, match="directory|not a regular file"):
        read_document(os.fsencode(tmp_path), MB)
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    written(tmp_path, "a.txt", b"abc")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "c.txt").symlink_to(tmp_path / "c.txt")
    for name in ("b.txt", "c.txt"):
        with pytest.raises(UnreadableDocumentError, match="a symbolic link"):
            read_document(os.fsencode(tmp_path / name), MB)


def test_a_missing_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocumentError, match="no such file"):
        read_document(os.fsencode(tmp_path / "none.txt"), MB)


def test_a_file_without_permission_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", b"abc")
    (tmp_path / "a.txt").chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(UnreadableDocumentError, match="permission denied"):
            read_document(path, MB)
    finally:
        os.seteuid(user)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match="binary"):
        read_document(written(tmp_path, "a.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0"), MB)


@pytest.mark.parametrize("name", ["a.rtf", "a.RTF", "a.svg", "a.ps"])
def test_a_container_of_text_is_refused_by_its_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedFormatError, match="format not supported: " + name[1:].lower()):
        read_document(written(tmp_path, name, b'{"cells": []}'), MB)


@pytest.mark.parametrize("secret", CREDENTIALS, ids=lambda secret: secret[:15].strip())
def test_a_file_that_holds_a_credential_is_refused(tmp_path: Path, secret: str) -> None:
    path = written(tmp_path, "notes.md", f"# Notes\n\nkey: {secret}\n".encode())
    with pytest.raises(PathNotAllowedError, match="private key, an access token or password hashes") as caught:
        read_document(path, MB)
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "A key begins with -----BEGIN " + "PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.",
        "-----BEGIN PUBLIC KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ",
        "Tokens begin with ghp_ or with AKIA.",
        "x" + "AKIA" + "ABCDEFGHIJ234567",
        "sk-ant-short",
    ],
)
def test_a_file_that_only_speaks_of_credentials_is_read(tmp_path: Path, text: str) -> None:
    assert read_document(written(tmp_path, "notes.md", text.encode()), MB).text == text


_SHADOW = "root:$y$j9T$" + "a1B2" * 6 + "$" + "c3D4" * 11 + ":19000:0:99999:7:::"
_HTPASSWD = "bob:$apr1$" + "a1B2c3D4$" + "e5F6" * 5 + "./"


@pytest.mark.parametrize(
    "text",
    [
        _SHADOW,
        f"{_SHADOW}\ndaemon:*:19000:0:99999:7:::\nbin:*:19000:0:99999:7:::\n",
        f"daemon:*:19000:0:99999:7:::\r\n\r\n{_SHADOW.replace(':$', ':!$')}\r\n",
        f"staff:{_SHADOW.split(':')[1]}:root:bob\n",
        f"# who may enter\n{_HTPASSWD}\n",
        f"{_HTPASSWD}\neve:{{SHA}}{'a1B2' * 7}\n",
        f"bob:$2y$05${'a1B2' * 13}\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_of_password_hashes_is_refused(tmp_path: Path, text: str, encoding: str) -> None:
    with pytest.raises(PathNotAllowedError, match="password hashes"):
        read_document(written(tmp_path, "backup.txt", text.encode(encoding)), MB)


@pytest.mark.parametrize(
    "text",
    [
        f"The line of a user is\n\n    {_SHADOW}\n\nwhere the second field is the hash.",
        f"Add this line:\n\n{_HTPASSWD}\n",
        f"# Passwords\n\nA file of users:\n\n```\n{_HTPASSWD}\n```\n",
        f'USERS = """\n{_HTPASSWD}\n{_SHADOW}\n"""\n\ndef read():\n    return USERS\n',
        "root:*:19000:0:99999:7:::\nbin:!:19000:0:99999:7:::\n",
        "root:x:0:0:root:/root:/bin/bash\n",
        "price:$5$ or more, as the customer likes it\n",
    ],
)
def test_a_file_that_shows_a_record_of_a_password_is_read(tmp_path: Path, text: str) -> None:
    assert read_document(written(tmp_path, "notes.md", text.encode()), MB).text == text


@pytest.mark.parametrize("name", ["with space.md", "a#b?c%20.md", "日本 é.md", "e\u0301.md", "a;b&c='\".md", "-x.md"])
def test_a_file_with_any_name_is_read_and_linked(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, b"text")
    assert read_document(path, MB).record.path == path
    url = file_url(path, "L3-L4")
    assert urlsplit(url).fragment == "L3-L4"
    assert unquote_to_bytes(urlsplit(url).path) == path
    assert display_path(path).endswith("/" + name)


@any_bytes
def test_a_name_that_is_not_utf8_is_read_linked_and_shown(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9 #1.txt"
    Path(os.fsdecode(path)).write_bytes(b"text")
    assert read_document(path, MB).text == "text"
    assert file_url(path).endswith("/caf%E9%20%231.txt")
    assert display_path(path).endswith("/caf\\xe9 #1.txt")
    display_path(path).encode("utf-8")


segments = (
    st.binary(min_size=1, max_size=12).map(lambda raw: raw.translate(None, b"/\0")).filter(lambda raw: raw != b".")
)


@given(st.lists(segments.filter(bool), min_size=1, max_size=4))
def test_a_link_names_exactly_the_bytes_of_the_path(names: list[bytes]) -> None:
    path = b"/" + b"/".join(names)
    url = file_url(path)
    assert url.isascii()
    assert url.startswith("file:///")
    parts = urlsplit(url)
    assert (parts.query, parts.fragment) == ("", "")
    assert unquote_to_bytes(parts.path) == path
    assert file_url(path, "L1") == url + "#L1"


def test_the_real_path_has_no_links_and_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real = os.fsencode(os.path.realpath(tmp_path)) + b"/real"
    assert real_path(tmp_path / "link") == real
    monkeypatch.chdir(tmp_path)
    assert real_path("link/../real/.") == real
    monkeypatch.setenv("HOME", str(tmp_path))
    assert real_path("~/link") == real
