"""Documents whose text is extracted, through the engine: indexed, found, and listed with the reason where they are not."""

from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from samples import SAMPLES, package, pdf, word_xml
from support import EngineFactory

import colbert_mcp.indexing.indexer
from colbert_mcp.documents import Extractor


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    for name, raw in SAMPLES.items():
        (folder / name).write_bytes(raw)
    return folder


def test_every_format_is_indexed_and_found(open_engine: EngineFactory, library: Path) -> None:
    engine = open_engine()
    output = engine.index_path(library)
    assert (output.state, output.indexed, output.skipped) == ("done", len(SAMPLES), 0)
    for question, name, text in [
        ("a loop that holds bowline", "a.pdf", "1. Bowline\nA loop that holds."),
        ("rye grinding stones", "a.docx", "Stones turn slowly."),
        ("dinghy fee", "a.html", "Dinghy\t4 €"),
        ("results falls", "a.ipynb", "## Results\n\nIt falls."),
    ]:
        best = engine.search(question, limit=1, path=name).results[0]
        assert text in best.text
        assert (best.byte_start, best.byte_end) == (None, None)
    assert engine.search("joins two ropes", limit=1, path="a.pdf").results[0].heading == "Sheet bend"
    assert {d.format for d in engine.list_sources().documents} == {"pdf", "docx", "html", "notebook"}


def test_unchanged_documents_are_not_extracted_again(
    open_engine: EngineFactory, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    engine.index_path(library)

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Extractor, "extract", fail)
    assert engine.index_path(library).unchanged == len(SAMPLES)


def test_hostile_files_are_listed_and_the_run_goes_on(open_engine: EngineFactory, library: Path) -> None:
    hostile = {
        "0.docx": (package({"word/document.xml": word_xml(" " * 150_000_000)}), "zip bomb"),
        "0.html": (b"<p>" + b"\x81\x00" * 30, "binary"),
        "0.ipynb": (b"[" * 100_000, "nested|broken"),
        "0.pdf": (pdf(["x"], password="locked"), "encrypted"),
        "b.pdf": (pdf([""]), "no text layer"),
        "c.docx": (b"no archive", "broken"),
        "d.html": (b"<style>p {}</style>", "empty"),
    }
    for name, (raw, _) in hostile.items():
        (library / name).write_bytes(raw)
    output = open_engine().index_path(library)
    assert (output.state, output.indexed) == ("done", len(SAMPLES))
    reasons = {Path(problem.path).name: problem.reason for problem in output.problems}
    assert set(reasons) == set(hostile)
    for name, (_, expected) in hostile.items():
        assert any(word in reasons[name] for word in expected.split("|")), reasons[name]


def test_one_child_serves_a_run_and_ends_with_it(
    open_engine: EngineFactory, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Extractor] = []
    children: set[int] = set()

    class Watched(Extractor):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            made.append(self)

        def close(self) -> None:
            if self._child is not None:
                children.add(self._child.pid)
            super().close()

    monkeypatch.setattr(colbert_mcp.indexing.indexer, "Extractor", Watched)
    open_engine(FakeEncoder()).index_path(library)
    assert len(made) == len(children) == 1
    assert made[0]._child is None
