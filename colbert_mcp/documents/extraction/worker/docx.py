"""Reads Word documents (Office Open XML): paragraphs, headings, lists, tables and footnotes in document order.

What was deleted or hidden is left out, what was inserted is read. Each part of the package is unpacked up to a bound,
whatever the archive says of its size, and XML may declare no document type. Knows zip and WordprocessingML.
"""

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from colbert_mcp.documents.extraction.worker.text import Refusal, Text, clean

MOST_UNPACKED = 100_000_000
_MOST_ENTRIES = 20_000
_MOST_NESTED = 200
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
_TRANSITIONAL = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_HEADING_STYLE = re.compile(r"heading ?([1-9])")
_WITHOUT_TEXT = frozenset({"del", "moveFrom", "pPr", "rPr", "Fallback", "tblPr", "sectPr"})
_CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011", "ptab": "\t"}
_TITLE_LEVEL = 0


def read(raw: bytes, text: Text, _: str) -> None:
    """Add the text of a document. Raises Refusal for what is broken, encrypted or a bomb."""
    if raw.startswith(_OLE):
        raise Refusal("encrypted")
    try:
        package = _Package(raw)
        _Document(package, text).read()
    except (zipfile.BadZipFile, zlib.error, expat.ExpatError, NotImplementedError, EOFError):
        raise Refusal("broken") from None


class _Package:
    """The parts of the archive, each unpacked at most once and all within one bound."""

    def __init__(self, raw: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(raw))
        self._left = MOST_UNPACKED
        if len(self._archive.infolist()) > _MOST_ENTRIES:
            raise Refusal("bomb")
        self.main = self._main()

    def xml(self, name: str) -> Element | None:
        """The root of a part, or None where the package has no such part."""
        try:
            info = self._archive.getinfo(name)
        except KeyError:
            return None
        if info.flag_bits & 1:
            raise Refusal("encrypted")
        if info.file_size > self._left:
            raise Refusal("bomb")
        with self._archive.open(info) as part:
            content = part.read(self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise Refusal("bomb")
        return _parsed(content)

    def _main(self) -> str:
        relations = self.xml("_rels/.rels")
        for relation in relations if relations is not None else ():
            if relation.get("Type", "").endswith("/officeDocument"):
                return posixpath.normpath(relation.get("Target", "").lstrip("/"))
        return "word/document.xml"


class _Document:
    """Walks the body, block by block."""

    def __init__(self, package: _Package, text: Text) -> None:
        folder = posixpath.dirname(package.main)
        root = package.xml(package.main)
        if root is None or _name(root) != "document":
            raise Refusal("broken")
        self._body = next((child for child in root if _name(child) == "body"), None)
        self._styles = _Styles(package.xml(f"{folder}/styles.xml"))
        self._notes = _notes(package.xml(f"{folder}/footnotes.xml"), "footnote")
        self._notes |= _notes(package.xml(f"{folder}/endnotes.xml"), "endnote")
        self._cited: list[tuple[str, str]] = []
        self._text = text
        self._was_tight = False  # whether the block before was a list item

    def read(self) -> None:
        """Add every block, headings among them, and the notes under the block that cites them."""
        for block in _blocks(self._body if self._body is not None else Element("none"), 0):
            self._cited = []
            if _name(block) == "tbl":
                self._block("\n".join(self._rows(block, 0)), None)
            else:
                self._paragraph(block)
            for kind, number in self._cited:
                note = self._notes.pop((kind, number), None)
                if note is not None:
                    said = " ".join(" ".join(self._line(paragraph, 0) for paragraph in _blocks(note, 0)).split())
                    self._block(f"[{number}] {said}", None)

    def _paragraph(self, paragraph: Element) -> None:
        said = self._line(paragraph, 0)
        if not said.strip():
            return
        level = self._styles.level(paragraph)
        depth = self._styles.list_depth(paragraph) if level is None else None
        self._block(said if depth is None else "  " * depth + "- " + said.lstrip(), level, tight=depth is not None)

    def _block(self, said: str, level: int | None, *, tight: bool = False) -> None:
        said = clean(said).strip("\n ") if level is not None else clean(said).rstrip()
        if not said.strip():
            return
        if self._text.length:
            self._text.add("\n" if tight and self._was_tight else "\n\n")
        self._was_tight = tight
        start = self._text.add(said)
        if level is not None:
            self._text.add_heading(start, self._text.length, level, said)

    def _rows(self, table: Element, nested: int) -> Iterator[str]:
        if nested > _MOST_NESTED:
            raise Refusal("nesting")
        for row in _children(table, "tr"):
            cells = []
            for cell in _children(row, "tc"):
                blocks = _blocks(cell, 0)
                said = (
                    " ".join(self._rows(block, nested + 1)) if _name(block) == "tbl" else self._line(block, 0)
                    for block in blocks
                )
                cells.append(" ".join(" ".join(said).split()))
            if any(cells):
                yield "\t".join(cells)

    def _line(self, element: Element, nested: int) -> str:
        """The text of a paragraph or of anything inside one."""
        if nested > _MOST_NESTED:
            raise Refusal("nesting")
        found: list[str] = []
        for child in element:
            name = _name(child)
            if name == "t":
                found.append(child.text or "")
            elif name in _CHARACTERS:
                found.append(_CHARACTERS[name])
            elif name in ("footnoteReference", "endnoteReference"):
                number = _value(child, "id")
                self._cited.append((name.removesuffix("Reference"), number))
                found.append(f"[{number}]")
            elif name in _WITHOUT_TEXT or (name == "r" and _is_hidden(child)):
                continue
            else:
                inner = self._line(child, nested + 1)
                # A text box hangs in a run of the paragraph beside it; its own paragraphs are apart.
                found.append(f"{inner}\n" if name == "p" else inner)
        return "".join(found)


class _Styles:
    """What the styles of paragraphs mean, by their ids and what those are based on."""

    def __init__(self, root: Element | None) -> None:
        self._styles: dict[str, Element] = {}
        for style in root if root is not None else ():
            if _name(style) == "style":
                self._styles[_value(style, "styleId")] = style

    def level(self, paragraph: Element) -> int | None:
        """The level of a heading (the title of the document: 0), or None for any other paragraph."""
        for properties, names in self._chain(paragraph):
            outline = _child(properties, "outlineLvl")
            if outline is not None:
                level = _value(outline, "val")
                return int(level) + 1 if re.fullmatch("[0-8]", level) else None
            for name in names:
                found = _HEADING_STYLE.fullmatch(name.lower())
                if found:
                    return int(found[1])
                if name.lower() == "title":
                    return _TITLE_LEVEL
        return None

    def list_depth(self, paragraph: Element) -> int | None:
        """How deep a list item is, from 0, or None for what is no list item."""
        for properties, _ in self._chain(paragraph):
            numbering = _child(properties, "numPr")
            if numbering is not None:
                depth, number = _child(numbering, "ilvl"), _child(numbering, "numId")
                if number is not None and _value(number, "val") == "0":
                    return None
                level = _value(depth, "val") if depth is not None else "0"
                return int(level) if re.fullmatch("[0-8]", level) else 0
        return None

    def _chain(self, paragraph: Element) -> Iterator[tuple[Element | None, tuple[str, ...]]]:
        """The properties of a paragraph, of its style, and of the styles that is based on, with their names."""
        own = _child(paragraph, "pPr")
        yield own, ()
        reference = _child(own, "pStyle")
        seen: set[str] = set()
        while reference is not None:
            identifier = _value(reference, "val")
            style = self._styles.get(identifier)
            if identifier in seen:
                return
            seen.add(identifier)
            if style is None:
                yield None, (identifier,)
                return
            name = _child(style, "name")
            yield _child(style, "pPr"), (_value(name, "val") if name is not None else "", identifier)
            reference = _child(style, "basedOn")


def _parsed(content: bytes) -> Element:
    """The tree of a part, whose elements and attributes are named ``namespace}name``. Without a declaration of a
    document type there are no entities: neither those that grow to gigabytes nor those that name other files.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate(None, "}")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.Parse(content, True)
    return builder.close()


def _refuse_doctype(*_: object) -> None:
    raise Refusal("entities")


def _blocks(parent: Element, nested: int) -> Iterator[Element]:
    """Paragraphs and tables in order, those inside of content controls and insertions too."""
    if nested > _MOST_NESTED:
        raise Refusal("nesting")
    for child in parent:
        name = _name(child)
        if name in ("p", "tbl"):
            yield child
        elif name in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"):
            yield from _blocks(child, nested + 1)


def _children(parent: Element, wanted: str) -> Iterator[Element]:
    """Rows of a table or cells of a row, also where a content control stands between."""
    pending = list(reversed(parent))
    while pending:
        child = pending.pop()
        name = _name(child)
        if name == wanted:
            yield child
        elif name in ("sdt", "sdtContent", "ins", "customXml"):
            pending.extend(reversed(child))


def _notes(root: Element | None, kind: str) -> dict[tuple[str, str], Element]:
    notes = root if root is not None else ()
    return {(kind, _value(note, "id")): note for note in notes if _name(note) == kind}


def _is_hidden(run: Element) -> bool:
    vanish = _child(_child(run, "rPr"), "vanish")
    return vanish is not None and _value(vanish, "val") not in ("0", "false", "off")


def _child(parent: Element | None, name: str) -> Element | None:
    return next((child for child in parent if _name(child) == name), None) if parent is not None else None


def _name(element: Element) -> str:
    """The name without its namespace: the strict and the transitional form of the format differ in nothing else."""
    return element.tag.rpartition("}")[2]


def _value(element: Element, attribute: str) -> str:
    for space in (_TRANSITIONAL, _STRICT):
        found = element.get(f"{space}}}{attribute}")
        if found is not None:
            return found
    return ""
