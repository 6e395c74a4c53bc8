"""Reads the text layer of PDF page by page, and its outline. Knows pdfium.

An outline names pages, not characters: an entry's section begins where its title stands alone on a line of that page,
or else with the page after it, so that no passage gets a heading it may not stand under.
"""

import re
from dataclasses import dataclass

import pypdfium2

from colbert_mcp.documents.extraction.worker.text import LONGEST_TITLE, Refusal, Text, clean

_NEEDS_PASSWORD = (4, 5)  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY
_MOST_PAGES = 50_000
_MOST_ENTRIES = 5_000
_TITLE_LINES = 3
# Where pdfium has joined a word that was broken at the end of a line, and left its hyphen out.
_BROKEN_WORD = re.compile("[\x02\ufffe]")
_NUMBERING = re.compile(r"^(?:\d+[.)]?)+(?=\D)")


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the outline: ``level`` and ``page`` count from 0."""

    level: int
    title: str
    page: int


def read(raw: bytes, text: Text, _: str) -> None:
    """Add one part a page. Raises Refusal for what is encrypted, broken, or has no text on any page."""
    try:
        document = pypdfium2.PdfDocument(raw)
    except pypdfium2.PdfiumError as error:
        raise Refusal("encrypted" if error.err_code in _NEEDS_PASSWORD else "broken") from None
    if not len(document):
        raise Refusal("broken")
    if len(document) > _MOST_PAGES:
        raise Refusal("pages")
    pages = [_page(document, number, text) for number in range(len(document))]
    if not any(page.strip() for page in pages):
        raise Refusal("no_text")
    _add_headings(_outline(document), pages, text)


def _page(document: pypdfium2.PdfDocument, number: int, text: Text) -> str:
    """The text of a page, added to the text; a page that cannot be loaded is an empty one."""
    said = ""
    try:
        page = document[number]
        textpage = page.get_textpage()
        said = clean(_BROKEN_WORD.sub("", textpage.get_text_bounded())).strip("\n")
        textpage.close()
        page.close()
    except pypdfium2.PdfiumError:
        pass
    text.add_part(said)
    return said


def _outline(document: pypdfium2.PdfDocument) -> list[_Entry]:
    """The entries in order of their pages; none from an outline that is broken."""
    found: list[_Entry] = []
    try:
        for bookmark in document.get_toc():
            destination = bookmark.get_dest()
            page = destination.get_index() if destination is not None else None
            title = " ".join(clean(bookmark.get_title()).split())[:LONGEST_TITLE]
            if page is not None and 0 <= page < len(document) and title:
                found.append(_Entry(bookmark.level, title, page))
            if len(found) >= _MOST_ENTRIES:
                break
    except (pypdfium2.PdfiumError, ValueError):
        return []
    return sorted(found, key=lambda entry: entry.page)


def _add_headings(outline: list[_Entry], pages: list[str], text: Text) -> None:
    """One heading an entry; one without a title ends the sections before it where an entry's place is unknown."""
    position = 0
    for number, entry in enumerate(outline):
        page_start = text.parts[entry.page][0]
        place = _find(entry.title, pages[entry.page], max(0, position - page_start))
        if place is not None:
            start, body = page_start + place[0], page_start + place[1]
            text.add_heading(start, body, entry.level, entry.title)
            position = body
            continue
        start = max(position, page_start)
        text.add_heading(start, start, entry.level, "")
        position = start
        following = outline[number + 1].page if number + 1 < len(outline) else len(pages)
        if following > entry.page and entry.page + 1 < len(pages):
            position = text.parts[entry.page + 1][0]
            text.add_heading(position, position, entry.level, entry.title)


def _find(title: str, page: str, after: int) -> tuple[int, int] | None:
    """Where a title stands alone on one line, or else on two or three that follow each other."""
    wanted = _key(title)
    if not wanted:
        return None
    lines = [match.span() for match in re.finditer(r"[^\n]+", page)]
    for count in range(1, _TITLE_LINES + 1):
        for first, last in zip(lines, lines[count - 1 :], strict=False):
            if first[0] >= after and _key(page[first[0] : last[1]]) == wanted:
                return first[0], last[1]
    return None


def _key(title: str) -> str:
    """A title without its number, and only its letters and digits."""
    letters = "".join(character for character in title.casefold() if character.isalnum() or character in ".)")
    return re.sub(r"[.)]", "", _NUMBERING.sub("", letters))
