"""Turns headings with levels into nested sections."""

from dataclasses import dataclass

from colbert_mcp.types import Section


@dataclass(frozen=True, slots=True)
class Heading:
    """A title that stands at ``[start, body)``; a smaller ``level`` holds a larger one."""

    start: int
    body: int
    level: int
    title: str


def nest(headings: list[Heading], length: int) -> list[Section]:
    """Each heading's section ends where the next heading of its level or above starts, or with the text."""
    ends = [length] * len(headings)
    unfinished: list[int] = []
    for index, heading in enumerate(headings):
        while unfinished and headings[unfinished[-1]].level >= heading.level:
            ends[unfinished.pop()] = heading.start
        unfinished.append(index)
    return [Section(h.start, h.body, end, " ".join(h.title.split())) for h, end in zip(headings, ends, strict=True)]
