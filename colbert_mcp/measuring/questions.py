"""Questions of the user's own, with the files and lines that answer them. Knows their file; nothing of an index.

One JSON object a line: ``question``, ``expected`` (a list of ``path`` and, where only some lines count, ``lines``: the
first and the last, from 1), and ``id`` (default: the number of the line).
"""

from dataclasses import dataclass
from pathlib import Path

from colbert_mcp.errors import QueryError, UnreadableDocumentError
from colbert_mcp.measuring.reading import Place, Record, name_of, records, text_of


@dataclass(frozen=True, slots=True)
class Expected:
    """A file that answers a question or, with ``lines`` (first and last, from 1), these lines of it."""

    path: str
    lines: tuple[int, int] | None

    @property
    def name(self) -> str:
        """How it is shown."""
        return self.path if self.lines is None else f"{self.path}:{self.lines[0]}-{self.lines[1]}"


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question, where it stands, and what answers it."""

    id: str
    text: str
    expected: tuple[Expected, ...]
    place: Place


def read_questions(file: Path, queries: int | None = None) -> list[AskedQuestion]:
    """The first ``queries`` questions of a file (None: all).

    Raises UnreadableDocumentError for what is not in this form, and QueryError for a number below 1.
    """
    if queries is not None and queries < 1:
        raise QueryError(f"queries is {queries}; it must be at least 1.")
    asked: dict[str, AskedQuestion] = {}
    for place, record in records(file):
        name = name_of(record, "id", place) if "id" in record else str(place.line)
        text = text_of(record, "question", place)
        if not text.strip():
            raise place.error("the question is empty")
        if name in asked:
            raise place.error("another question has the same id")
        asked[name] = AskedQuestion(name, text, _expected(record, place), place)
    if not asked:
        raise UnreadableDocumentError(f"{file} holds no questions; write one a line, each a JSON object.")
    return list(asked.values())[:queries]


def _expected(record: Record, place: Place) -> tuple[Expected, ...]:
    listed = record.get("expected")
    if not isinstance(listed, list) or not listed or not all(isinstance(entry, dict) for entry in listed):
        raise place.error('it does not say what is expected, as in "expected": [{"path": "notes.md", "lines": [3, 9]}]')
    found = []
    for entry in listed:
        path = text_of(entry, "path", place)
        if not path or "\0" in path:
            raise place.error("an expected path is empty or has a NUL")
        found.append(Expected(path, _lines(entry.get("lines"), place)))
    return tuple(dict.fromkeys(found))


def _lines(value: object, place: Place) -> tuple[int, int] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 2
        or any(type(line) is not int for line in value)
        or not 1 <= value[0] <= value[1]
    ):
        raise place.error("lines are not the first and the last line, from 1, as in [3, 9]")
    return value[0], value[1]
