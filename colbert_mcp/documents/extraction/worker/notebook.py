"""Reads Jupyter notebooks (nbformat 3 and 4): the source of each cell, then what it printed. Knows only JSON."""

import json
import re
from typing import Any

from colbert_mcp.documents.extraction.worker.text import Cell, Refusal, Text, clean

# Characters of a cell's outputs that are kept: logs run to megabytes, and no one quotes them.
MOST_OUTPUT = 10_000
_MOST_CELLS = 100_000
_KINDS = {"markdown": "markdown", "code": "code", "heading": "heading"}
_LANGUAGE = re.compile(r"[A-Za-z0-9+#.-]{1,20}")
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def read(raw: bytes, text: Text, _: str) -> None:
    """Add one part a cell, empty ones too. Raises Refusal for what is no notebook."""
    try:
        notebook = json.loads(raw.decode("utf-8-sig"))
    except ValueError:
        raise Refusal("broken") from None
    cells = _cells(notebook)
    if len(cells) > _MOST_CELLS:
        raise Refusal("cells")
    text.language = _language(notebook)
    for cell in cells:
        _read_cell(cell if isinstance(cell, dict) else {}, text)


def _cells(notebook: Any) -> list[Any]:
    if not isinstance(notebook, dict):
        raise Refusal("broken")
    if isinstance(notebook.get("worksheets"), list):  # nbformat 3
        sheets = [sheet.get("cells") for sheet in notebook["worksheets"] if isinstance(sheet, dict)]
        return [cell for cells in sheets if isinstance(cells, list) for cell in cells]
    if not isinstance(notebook.get("cells"), list):
        raise Refusal("broken")
    return list(notebook["cells"])


def _language(notebook: dict[str, Any]) -> str:
    metadata = _mapping(notebook.get("metadata"))
    for key, name in (("language_info", "name"), ("kernelspec", "language")):
        found = _mapping(metadata.get(key)).get(name)
        if isinstance(found, str) and _LANGUAGE.fullmatch(found):
            return found.lower()
    return "python" if "worksheets" in notebook else ""


def _read_cell(cell: dict[str, Any], text: Text) -> None:
    cell_type = cell.get("cell_type")
    kind = _KINDS.get(cell_type, "raw") if isinstance(cell_type, str) else "raw"
    source = clean(_joined(cell.get("source", cell.get("input")))).strip("\n")
    if kind == "heading":  # nbformat 3
        level = cell.get("level")
        source = "#" * (level if isinstance(level, int) and 1 <= level <= 6 else 1) + " " + source
        kind = "markdown"
    output = _output(cell) if kind == "code" else ""
    start, _ = text.add_part(source + "\n\n" * bool(source and output) + output)
    text.cells.append(Cell(kind, start + len(source)))


def _output(cell: dict[str, Any]) -> str:
    outputs = cell.get("outputs")
    found: list[str] = []
    size = 0
    for output in outputs if isinstance(outputs, list) else []:
        said = _said(output) if isinstance(output, dict) else ""
        said = clean(_TERMINAL_CODES.sub("", said)).strip("\n")
        if said.strip():
            found.append(said[: MOST_OUTPUT - size])
            size += len(said)
        if size >= MOST_OUTPUT:
            break
    return "\n".join(found)


def _said(output: dict[str, Any]) -> str:
    """What an output shows as plain text: a stream, a result, or an error without its traceback."""
    kind = output.get("output_type")
    if kind == "stream":
        return _joined(output.get("text"))
    if kind in ("execute_result", "display_data", "pyout"):
        return _joined(_mapping(output.get("data")).get("text/plain", output.get("text")))
    if kind in ("error", "pyerr"):
        return ": ".join(_joined(output.get(key)) for key in ("ename", "evalue"))
    return ""


def _joined(lines: Any) -> str:
    """A multi-line string, which notebooks keep whole or as a list of lines."""
    if isinstance(lines, list):
        return "".join(line for line in lines if isinstance(line, str))
    return lines if isinstance(lines, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
