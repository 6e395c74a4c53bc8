"""The sections of a notebook: headings of its Markdown cells, and definitions in code. Knows only text and cells."""

from dataclasses import replace

from colbert_mcp.documents import code, markdown
from colbert_mcp.documents.extraction import Extracted
from colbert_mcp.documents.outline import nest
from colbert_mcp.types import Section

# What kernels call their languages, where the suffix of such a file says another.
_SUFFIXES = {
    **dict.fromkeys(["python", "ipython"], ".py"),
    **dict.fromkeys(["c++", "c++11", "c++14", "c++17", "c++20"], ".cpp"),
    "c": ".c",
    "go": ".go",
    "java": ".java",
    "javascript": ".js",
    "ruby": ".rb",
    "rust": ".rs",
    "typescript": ".ts",
}


def sections(notebook: Extracted) -> list[Section]:
    """Headings hold what follows them in other cells too; a definition ends with its cell."""
    language = code.language_of(_SUFFIXES.get(notebook.language, ""))
    headings = []
    definitions: list[Section] = []
    for (start, _), (kind, source_end) in zip(notebook.parts, notebook.cells, strict=True):
        source = notebook.text[start:source_end]
        if kind == "markdown":
            headings += [
                replace(heading, start=heading.start + start, body=heading.body + start)
                for heading in markdown.headings(source)
            ]
        elif kind == "code" and language is not None:
            definitions += [
                replace(found, start=found.start + start, body=found.body + start, end=found.end + start)
                for found in code.sections(language, source)
            ]
    both = [*nest(headings, len(notebook.text)), *definitions]
    return sorted(both, key=lambda section: (section.start, -section.end))
