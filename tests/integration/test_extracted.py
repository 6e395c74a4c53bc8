"""Passages of extracted text through the engine: their coordinates, their links, and whether the file still says so."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import samples
from fake_encoder import FakeEncoder
from support import EngineFactory

from colbert_mcp.engine import Engine
from colbert_mcp.results import Passage

PAGES = ["The kiln fires at cone six.", "", "Glaze the bowl twice. Let it dry.", "Stack the shelves with care."]
CELLS = [
    samples.cell("markdown", "# Tides\n\nHigh water comes twice a day."),
    samples.cell("code", "height = 1.5 * hour"),
    samples.cell("markdown", "## Ebb\n\nThen the ferry waits."),
]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """One file of each extracted format, with names that a link must escape."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "kiln #1.pdf").write_bytes(samples.pdf(PAGES))
    (folder / "tides ü.ipynb").write_bytes(samples.notebook(CELLS))
    (folder / "hut.html").write_text("<h1>Hut</h1><p>Bring a <b>sleeping</b> bag.</p><script>no()</script>")
    (folder / "letter.docx").write_bytes(samples.docx())
    return folder


def all_passages(engine: Engine) -> list[Passage]:
    answer = engine.search("kiln glaze shelves water height ferry sleeping bag", limit=50, max_tokens=10**6)
    assert answer.withheld == []
    return answer.results


def in_page(engine: Engine, number: int) -> Passage:
    return next(p for p in all_passages(engine) if p.page == number)


def test_every_extracted_span_is_its_passage_in_the_kept_text(open_engine: EngineFactory, library: Path) -> None:
    engine = open_engine()
    assert engine.index_path(library).indexed == 4
    found = all_passages(engine)
    assert {Path(p.path).name for p in found} == {file.name for file in library.iterdir()}
    for passage in found:
        with engine._store.snapshot() as snapshot:
            kept = snapshot.reader.extracted_text(passage.path.encode())
        assert kept is not None
        text, digest = kept
        assert text[passage.char_start : passage.char_end] == passage.text
        assert digest == passage.file_sha256 == hashlib.sha256(Path(passage.path).read_bytes()).hexdigest()
        assert passage.sha256 == hashlib.sha256(passage.text.encode()).hexdigest()
        assert (passage.byte_start, passage.byte_end, passage.encoding) == (None, None, "extracted")
        assert passage.status == "current"
        assert text.count("\n", 0, passage.char_start) == passage.line_start - 1


def test_a_passage_of_a_pdf_names_its_page_and_its_place_on_it(open_engine: EngineFactory, library: Path) -> None:
    engine = open_engine()
    engine.index_path(library)
    glaze = in_page(engine, 3)
    assert "Glaze the bowl twice." in glaze.text
    assert glaze.part_span is not None
    assert glaze.part_span[0] == 0
    assert glaze.part_span[1] == len(glaze.text)
    assert glaze.url == (library / "kiln #1.pdf").as_uri() + "#page=3"
    assert "%20%231.pdf#page=3" in glaze.url


def test_a_passage_of_a_notebook_names_its_cell_and_its_headings(open_engine: EngineFactory, library: Path) -> None:
    engine = open_engine()
    engine.index_path(library)
    ferry = next(p for p in all_passages(engine) if "ferry" in p.text)
    assert (ferry.cell, ferry.page, ferry.heading) == (3, None, "Tides > Ebb")
    assert ferry.url == (library / "tides ü.ipynb").as_uri() + "#cell=3"


def test_links_to_a_page_of_text_have_no_line(open_engine: EngineFactory, library: Path) -> None:
    engine = open_engine()
    engine.index_path(library)
    hut = next(p for p in all_passages(engine) if "sleeping" in p.text)
    assert hut.url == (library / "hut.html").as_uri()


def test_an_extracted_passage_is_current_while_its_file_has_the_same_bytes(
    open_engine: EngineFactory, library: Path
) -> None:
    engine = open_engine()
    engine.index_path(library)
    old = in_page(engine, 3)
    file = Path(old.path)
    raw = file.read_bytes()
    file.write_bytes(raw)  # a new time, the same bytes
    assert engine.get_passage(old.id).passage.status == "current"
    file.write_bytes(raw + b"%")
    changed = engine.get_passage(old.id).passage
    assert (changed.status, changed.text) == ("modified", old.text)
    file.unlink()
    assert engine.get_passage(old.id).passage.status == "missing"


def test_a_passage_on_another_page_after_indexing_again_is_relocated(open_engine: EngineFactory, library: Path) -> None:
    engine = open_engine()
    engine.index_path(library)
    old = in_page(engine, 3)
    file = Path(old.path)
    file.write_bytes(samples.pdf(["A new first page.", *PAGES[:2], PAGES[2] + " More is said here now.", PAGES[3]]))
    engine.index_path(library)
    now = engine.get_passage(old.id).passage
    assert (now.status, now.page, now.text, now.sha256) == ("relocated", 4, old.text, old.sha256)
    assert now.url.endswith("#page=4")
    with engine._store.snapshot() as snapshot:
        kept = snapshot.reader.extracted_text(now.path.encode())
    assert kept is not None
    assert kept[0][now.char_start : now.char_end] == old.text
    file.write_bytes(samples.pdf(["Nothing of it is left."]))
    engine.index_path(library)
    assert engine.get_passage(old.id).passage.status == "modified"


def test_a_moved_pdf_is_followed_with_its_page(open_engine: EngineFactory, library: Path) -> None:
    engine = open_engine()
    engine.index_path(library)
    old = in_page(engine, 3)
    shutil.move(old.path, library / "moved.pdf")
    engine.index_path(library)
    now = engine.get_passage(old.id).passage
    assert (now.status, now.page, now.path) == ("relocated", 3, str(library / "moved.pdf"))


def test_a_file_without_a_text_layer_is_listed_and_not_indexed(open_engine: EngineFactory, library: Path) -> None:
    (library / "scan.pdf").write_bytes(samples.pdf(["", ""]))
    (library / "broken.docx").write_bytes(b"PK\x03\x04 and no more")
    engine = open_engine()
    output = engine.index_path(library)
    assert output.indexed == 4
    reasons = {Path(problem.path).name: problem.reason for problem in output.problems}
    assert "text layer" in reasons["scan.pdf"]
    assert "broken.docx" in reasons


def test_extracted_text_leaves_with_its_document(open_engine: EngineFactory, library: Path) -> None:
    engine = open_engine()
    engine.index_path(library)
    path = str(library / "hut.html").encode()
    engine.remove_path(library / "hut.html")
    with engine._store.snapshot() as snapshot:
        assert snapshot.reader.extracted_text(path) is None


def test_the_ledger_counts_what_no_embedding_stands_for(open_engine: EngineFactory, library: Path) -> None:
    engine = open_engine(FakeEncoder())
    (library / "odd.txt").write_text("A word \ufffd here.")
    engine.index_path(library)
    ledger = engine.index_status().ledger
    assert (ledger.unchunked, ledger.unknown) == (0, 1)
    assert json.loads(engine.index_status().model_dump_json())["ledger"]["unknown"] == 1


def test_a_passage_that_now_runs_over_two_cells_is_modified(open_engine: EngineFactory, tmp_path: Path) -> None:
    file = tmp_path / "greek.ipynb"
    alpha, beta = "Alpha is the first letter.", "Beta is the second letter."
    file.write_bytes(samples.notebook([samples.cell("markdown", f"{alpha}\n\n{beta}")]))
    engine = open_engine()
    engine.index_path(file)
    old = engine.search("alpha beta letter").results[0]
    assert old.text == f"{alpha}\n\n{beta}"
    file.write_bytes(samples.notebook([samples.cell("markdown", text) for text in ("Intro", alpha, beta)]))
    engine.index_path(file)
    assert engine.get_passage(old.id).passage.status == "modified"
