"""Whether a source still says so, in the cases that are easily told wrong."""

import hashlib
import os
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory

import colbert_mcp.citations

LINE = "A single line about otters."


def test_a_file_in_another_encoding_is_cited_by_its_bytes(open_engine: EngineFactory, tmp_path: Path) -> None:
    file = tmp_path / "wide.txt"
    raw = "The río is wide.\n\nAn otter swims in the río.\n".encode("utf-16")
    file.write_bytes(raw)
    engine = open_engine(FakeEncoder(content_length=8))
    engine.index_path(file)
    found = engine.search("otter", mode="lexical").results[0]
    cited = raw[found.byte_start : found.byte_end]
    assert cited.decode("utf-16-le") == found.text == "An otter swims in the río."
    assert found.sha256 == hashlib.sha256(cited).hexdigest()
    assert found.status == "current"
    file.write_bytes(b"The otter is not here.\n")
    engine.index_path(file)
    former = engine.get_passage(found.id).passage
    assert (former.text, former.sha256, former.status) == (found.text, found.sha256, "modified")


def test_the_same_text_in_other_bytes_is_not_the_passage(open_engine: EngineFactory, tmp_path: Path) -> None:
    file = tmp_path / "narrow.txt"
    file.write_text(LINE + "\n")
    engine = open_engine()
    engine.index_path(file)
    file.write_text(LINE + "\n", encoding="utf-16")
    found = engine.search("otters").results[0]
    assert (found.status, found.status_reason) == (
        "modified",
        "its words still stand in the file, in other bytes (encoding, line ends or blanks)",
    )
    file.write_text("Something else.")
    assert engine.get_passage(found.id).passage.status_reason == "the passage no longer stands in the file"


def test_a_relocated_passage_is_cited_where_it_stands_now(open_engine: EngineFactory, tmp_path: Path) -> None:
    file = tmp_path / "poem.txt"
    file.write_text("one\n\n" + LINE + "\n")
    engine = open_engine(FakeEncoder(content_length=6))
    engine.index_path(file)
    raw = f"one\n\ntwo é\n\n{LINE}\n".encode()
    file.write_bytes(raw)
    found = engine.search("otters").results[0]
    assert (found.status, found.line_start, found.line_end) == ("relocated", 5, 5)
    assert engine.get_passage(found.id).passage.line_start == 5
    assert raw[found.byte_start : found.byte_end].decode() == LINE
    assert raw.decode()[found.char_start : found.char_end] == LINE
    assert found.quote_span == (found.char_start, found.char_end)
    assert found.url == file.as_uri() + "#L5-L5"
    # The same bytes at the same place, and more lines before them than there were.
    file.write_bytes(raw.replace(b"two \xc3\xa9", b"\n\n\n\n\n\n"))
    engine.index_path(file)
    file.write_bytes(raw.replace(b"two \xc3\xa9", b"\n\n\nxyz"))
    again = engine.search("otters", mode="lexical").results[0]
    assert (again.status, again.line_start) == ("current", 8)
    assert again.url == file.as_uri() + "#L8-L8"


@pytest.mark.parametrize(("before", "after", "nearer"), [(10, 40, 50), (40, 10, 70), (20, 20, 40)])
def test_of_two_places_the_nearer_is_taken(
    open_engine: EngineFactory, tmp_path: Path, before: int, after: int, nearer: int
) -> None:
    file = tmp_path / "poem.txt"
    file.write_text("\n" * 60 + LINE + "\n")
    engine = open_engine(FakeEncoder(content_length=8))
    engine.index_path(file)
    first = "\n" * (60 - before) + LINE
    file.write_text(first + "\n" * (60 + after - len(first)) + LINE + "\n")
    found = engine.search("otters").results[0]
    assert (found.status, found.char_start) == ("relocated", nearer)


def test_places_whose_bytes_differ_are_passed_over(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "poem.txt"
    file.write_text("\n" * 300 + LINE + "\n")
    engine = open_engine(FakeEncoder(content_length=8))
    engine.index_path(file)
    text = f"{LINE}\n" * 5 + "\n" * 200 + f"{LINE}\n" * 5
    file.write_text(text)
    places = [index for index in range(len(text)) if text.startswith(LINE, index)]
    tried: list[int] = []
    original = colbert_mcp.citations._span_at

    for only in (places[0], places[-1]):

        def standing(document: object, stored: object, start: int, only: int = only) -> object:
            tried.append(start)
            return original(document, stored, start) if start == only else None  # type: ignore[arg-type]

        monkeypatch.setattr(colbert_mcp.citations, "_span_at", standing)
        found = engine.search("otters").results[0]
        assert (found.status, found.char_start) == ("relocated", only)
    assert set(tried) == set(places)


def test_a_pipe_in_the_place_of_a_file_is_missing_and_not_waited_for(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    file = tmp_path / "poem.txt"
    file.write_text(LINE + "\n")
    engine = open_engine()
    engine.index_path(file)
    file.unlink()
    os.mkfifo(file)
    found = engine.search("otters").results[0]
    assert (found.status, found.status_reason) == ("missing", "not a regular file")


def test_a_link_in_the_place_of_a_file_is_not_followed(open_engine: EngineFactory, tmp_path: Path) -> None:
    file = tmp_path / "poem.txt"
    file.write_text(LINE + "\n")
    engine = open_engine()
    engine.index_path(file)
    file.rename(tmp_path / "elsewhere.txt")
    file.symlink_to(tmp_path / "elsewhere.txt")
    assert engine.search("otters").results[0].status == "missing"


def test_a_changed_file_is_read_once_an_answer(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "poem.txt"
    lines = [f"Line {number} tells of otters." for number in range(4)]
    file.write_text("\n\n".join(lines))
    engine = open_engine(FakeEncoder(content_length=8))
    engine.index_path(file)
    file.write_text("New.\n\n" + "\n\n".join(lines))
    read: list[bytes] = []
    original = colbert_mcp.citations.read_document

    def counting(path: bytes, max_bytes: int) -> object:
        read.append(path)
        return original(path, max_bytes)

    monkeypatch.setattr(colbert_mcp.citations, "read_document", counting)
    found = engine.search("otters", limit=50).results
    assert {result.status for result in found} == {"relocated"}
    assert len(found) == 4
    assert len(read) == 1


def test_other_places_are_named_by_their_lines(open_engine: EngineFactory, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.txt").write_text(LINE + "\n")
    (tmp_path / "all" / "b.txt").write_text("one\n\ntwo\n\n" + LINE + "\n")
    engine = open_engine(FakeEncoder(content_length=6))
    engine.index_path(tmp_path / "all")
    (twin,) = engine.search("otters").results[0].also_at
    assert (Path(twin.path).name, twin.line_start, twin.line_end) == ("b.txt", 5, 5)
    assert engine.get_passage(twin.id).passage.path == twin.path


@pytest.mark.parametrize("added", [b"~{<:Ky2;VpF&~}\n", "日本語のテキストです。漢字".encode("iso2022_jp")])
def test_a_file_that_now_reads_as_a_stateful_encoding_harms_no_answer(
    open_engine: EngineFactory, tmp_path: Path, added: bytes
) -> None:
    file = tmp_path / "poem.txt"
    file.write_text(LINE + "\n")
    engine = open_engine()
    engine.index_path(file)
    with file.open("ab") as appended:
        appended.write(added)
    found = engine.search("otters").results[0]
    assert (found.status, found.text) == ("current", LINE)
    file.write_bytes(b"more " + file.read_bytes())
    assert engine.get_passage(found.id).passage.status == "modified"
