"""What the child process says, checked before anything believes it. Knows the shape of an answer, not how it came."""

from dataclasses import dataclass
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from colbert_mcp.config import DocumentsConfig
from colbert_mcp.documents.extraction.worker.text import LONGEST_TITLE, MOST_HEADINGS
from colbert_mcp.documents.outline import Heading
from colbert_mcp.errors import UnreadableDocumentError

_REASONS = {
    "bomb": "a zip bomb, or far larger than it looks",
    "broken": "broken: it is not what its name says, or damaged",
    "cells": "it has too many cells",
    "crash": "its parser crashed, was killed, or ran out of memory ([documents] extraction_memory_bytes)",
    "encrypted": "encrypted: it opens with a password only",
    "entities": "its XML declares entities, which can be a bomb",
    "library": "the library that reads it cannot be loaded; install colbert-mcp again",
    "memory": "it needs more than {extraction_memory_bytes} bytes of memory ([documents] extraction_memory_bytes)",
    "nesting": "nested too deeply",
    "no_text": "no text layer: its pages are pictures; recognise the text (OCR) first",
    "pages": "it has too many pages",
    "start": "the process that reads it cannot be started",
    "text": "it holds more than {extraction_characters} characters ([documents] extraction_characters)",
    "time": "it takes longer than {extraction_seconds} s to read ([documents] extraction_seconds)",
}


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a file, its headings in order, and the span of each page or cell (none where it has no such).

    ``cells`` has, for each cell of a notebook, its kind (``markdown``, ``code`` or ``raw``) and where its source ends.
    """

    text: str
    headings: list[Heading]
    parts: list[tuple[int, int]]
    cells: list[tuple[str, int]]
    language: str


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str | None = None
    text: str = ""
    headings: list[tuple[int, int, int, str]] = Field(default=[], max_length=MOST_HEADINGS)
    parts: list[tuple[int, int]] = []
    cells: list[tuple[str, int]] = []
    language: str = Field(default="", max_length=20)


def refusal(reason: str, limits: DocumentsConfig) -> UnreadableDocumentError:
    """The error for a reason's name; a name that no one knows counts as broken."""
    return UnreadableDocumentError(_REASONS.get(reason, _REASONS["broken"]).format(**limits.model_dump()))


def checked(answer: bytes, limits: DocumentsConfig) -> Extracted:
    """The text of an answer. Raises UnreadableDocumentError for a refusal and for an answer that cannot be true."""
    try:
        reply = _Reply.model_validate_json(answer)
    except ValidationError:
        raise refusal("broken", limits) from None
    if reply.reason is not None:
        raise refusal(reply.reason, limits)
    if len(reply.text) > limits.extraction_characters:
        raise refusal("text", limits)
    if not (_headings_hold(reply) and _parts_hold(reply) and _cells_hold(reply)):
        raise refusal("broken", limits)
    headings = [Heading(start, body, level, title) for start, body, level, title in reply.headings]
    return Extracted(reply.text, headings, reply.parts, reply.cells, reply.language)


def _headings_hold(reply: _Reply) -> bool:
    """Each is in the text, none before the one before it, and no title is longer than any honest one."""
    edges = [0, *(edge for start, body, _, _ in reply.headings for edge in (start, body)), len(reply.text)]
    titles = all(len(title) <= LONGEST_TITLE for *_, title in reply.headings)
    return titles and all(before <= after for before, after in pairwise(edges))


def _parts_hold(reply: _Reply) -> bool:
    """They are in order, do not overlap, and hold all that is not blank."""
    if not reply.parts:
        return True
    edges = [0, *(edge for part in reply.parts for edge in part), len(reply.text)]
    if not all(before <= after for before, after in pairwise(edges)):
        return False
    between = zip(edges[0::2], edges[1::2], strict=True)
    return not any(reply.text[end:start].strip() for end, start in between)


def _cells_hold(reply: _Reply) -> bool:
    if not reply.cells:
        return True
    return len(reply.cells) == len(reply.parts) and all(
        start <= source_end <= end for (start, end), (_, source_end) in zip(reply.parts, reply.cells, strict=True)
    )
