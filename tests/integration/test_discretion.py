"""Nothing that a document says shows in a reason, an error or a description."""

from pathlib import Path

import pytest
import samples
from support import EngineFactory

from colbert_mcp.errors import ColbertMCPError
from colbert_mcp.results import IndexOutput

CANARY = "Kanarienvogel-7f3a"
SPOILT = {
    "broken.pdf": f"%PDF-1.7\n1 0 obj ({CANARY}) endobj".encode(),
    "broken.docx": samples.package({"word/document.xml": f"<w:document><{CANARY}".encode()}),
    "doctype.docx": samples.package({"word/document.xml": f'<!DOCTYPE a [<!ENTITY {CANARY} "x">]><a/>'.encode()}),
    "not json.ipynb": f'{{"cells": ["{CANARY}'.encode(),
    "wrong types.ipynb": f'{{"cells": "{CANARY}", "nbformat": "{CANARY}"}}'.encode(),
    "binary.txt": f"{CANARY}\0\1\2".encode(),
    "no encoding.txt": CANARY.encode() + bytes(range(128, 256)) * 3,
    "false mark.txt": b"\xff\xfe" + CANARY.encode() + b"\0",
    "key.txt": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n{'A' * 64}\n-----END PRIVATE KEY-----\n".encode(),
    "empty.html": f"<script>{CANARY}</script>".encode(),
}


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for name, content in SPOILT.items():
        (folder / name).write_bytes(content)
    (folder / "good.md").write_text(f"# {CANARY}\n\nA {CANARY} sings in the morning.\n")
    return folder


def test_reasons_for_skipping_hold_nothing_that_a_document_says(open_engine: EngineFactory, spoilt: Path) -> None:
    output: IndexOutput = open_engine().index_path(spoilt)
    assert output.indexed == 1
    assert {Path(problem.path).name for problem in output.problems} == set(SPOILT)
    assert CANARY not in output.model_dump_json()


def test_errors_hold_nothing_that_a_document_says(open_engine: EngineFactory, spoilt: Path) -> None:
    engine = open_engine()
    engine.index_path(spoilt)
    found = engine.search("sings in the morning").results[0]
    assert CANARY in found.text
    with engine._store.writer.transaction():
        engine._store.writer._db.execute("UPDATE chunks SET text = replace(text, 'sings', 'hides')")
    mistakes = (
        lambda: engine.search("morning"),
        lambda: engine.get_passage(found.id),
        lambda: engine.explain("morning", found.id),
        lambda: engine.verify_quote("in the morning", found.id),
    )
    for mistake in mistakes:
        with pytest.raises(ColbertMCPError, match="damaged") as caught:
            mistake()
        assert CANARY not in str(caught.value)
        assert "morning" not in str(caught.value)
