"""Reads the visible text of HTML: blocks end lines, white space collapses, headings open sections.

Nothing is fetched and no style sheet is read: what is hidden is what HTML itself, a ``hidden`` attribute or an inline
style hides. Knows lexbor's tree.
"""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from colbert_mcp.documents.extraction.worker.text import Refusal, Text, clean

_INVISIBLE = frozenset(
    "annotation annotation-xml applet audio canvas datalist embed head iframe math-annotation meta noembed noframes"
    " noscript object param rp script select style svg template textarea title track video".split()
)
# Stand apart by a blank line, or begin a line of their own.
_PARAGRAPHS = frozenset(
    "article aside blockquote dl details fieldset figure footer form header hr main nav ol p pre section table ul"
    " h1 h2 h3 h4 h5 h6".split()
)
_LINES = frozenset(
    "address caption center dd dialog dir div dt figcaption hgroup legend li menu optgroup option summary tbody tfoot"
    " thead tr body html search".split()
)
_DEEPEST_INDENT = 20
# Links to a heading itself, which stand beside it: part of the text, not of the title.
_PERMALINKS = frozenset("#¶§🔗")
_HEADING = re.compile(r"h([1-6])")
_LISTS = frozenset({"ol", "ul", "menu", "dir"})
_CELLS = frozenset({"td", "th"})
_HIDDEN_STYLE = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
# Not the no-break spaces, which HTML does not collapse.
_BLANKS = re.compile(r"[ \t\n\r\f]+")
_SELF_CLOSED = re.compile(r"<(script|style|title|div|span|p|a|i|b|em|td|th|li|iframe|textarea)(\s[^<>]*)?/>", re.I)


def read(raw: bytes, text: Text, name: str) -> None:
    """Add the visible text of a document in UTF-8. Raises Refusal where it has no tree."""
    source = raw.decode("utf-8", "replace")
    if name == "xhtml":  # an HTML parser takes <script/> for the beginning of a script
        source = _SELF_CLOSED.sub(r"<\1\2></\1>", source)
    root = LexborHTMLParser(source).root
    if root is None:
        raise Refusal("broken")
    _walk(root, _Writer(text))


def _walk(root: LexborNode, writer: "_Writer") -> None:
    """Depth first without recursion, for pages nest as deep as they like."""
    pending: list[tuple[LexborNode, str]] = [(root, "")]
    while pending:
        node, leaving = pending.pop()
        if leaving:
            writer.leave(leaving)
            continue
        if node.is_text_node:
            writer.write(node.text_content or "")
            continue
        tag = node.tag or ""
        if not node.is_element_node or tag in _INVISIBLE or _hidden(node, tag):
            continue
        writer.enter(tag, node)
        pending.append((node, tag))
        child = node.last_child
        while child is not None:
            pending.append((child, ""))
            child = child.prev


def _hidden(node: LexborNode, tag: str) -> bool:
    attributes = node.attributes
    if not attributes:
        return tag == "dialog"
    style = attributes.get("style")
    return (
        "hidden" in attributes
        or (tag == "dialog" and "open" not in attributes)
        or (style is not None and _HIDDEN_STYLE.search(style) is not None)
    )


class _Writer:
    """Collapses white space as a browser does, and remembers what lies open."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._breaks = 0  # line ends to write before the next word
        self._space = False
        self._marker = ""  # of a list item
        self._preformatted = 0
        self._lists: list[int | None] = []  # the next number of each list that lies open, None where it has none
        self._heading: tuple[int, int] | None = None  # level, and where it starts (-1: nothing written yet)
        self._title: list[str] = []
        self._rows: list[int] = []  # where each row that lies open starts
        self._tabs = 0  # to write before the next word, one for each cell of the row that has ended
        self._at_cell_start = False

    def enter(self, tag: str, node: LexborNode) -> None:
        """An element begins."""
        self._begin_block(tag)
        if tag == "br":
            self._break_line()
        elif tag == "pre":
            self._preformatted += 1
        elif tag in _LISTS:
            self._lists.append(_first_number(node) if tag == "ol" else None)
        elif tag == "li":
            self._begin_item()
        elif tag == "tr":
            self._rows.append(self._text.length)
            self._tabs = 0
        elif tag in _CELLS:
            self._space = False
            self._at_cell_start = True
        elif _HEADING.fullmatch(tag) and self._heading is None:
            self._heading = (int(tag[1]), -1)
            self._title = []

    def leave(self, tag: str) -> None:
        """An element ends."""
        if tag == "pre":
            self._preformatted -= 1
        elif tag in _LISTS:
            self._lists.pop()
        elif tag == "tr":
            self._rows.pop()
            self._tabs = 0
        elif tag in _CELLS:
            self._end_cell()
        elif tag == "li":
            self._marker = ""
        elif self._heading is not None and tag == f"h{self._heading[0]}":
            self._end_heading()
        self._begin_block(tag)

    def write(self, text: str) -> None:
        """Characters of the page."""
        if self._preformatted:
            lines = clean(text).split("\n")
            for number, line in enumerate(lines):
                if number:
                    self._break_line()
                if line:
                    self._put(line)
            return
        collapsed = _BLANKS.sub(" ", text)
        self._space = self._space or collapsed.startswith(" ")
        words = collapsed.strip(" ")
        if words:
            self._put(clean(words))
            self._space = collapsed.endswith(" ")

    def _put(self, words: str) -> None:
        before = ""
        if self._text.length:
            blank = " " if self._space and not self._preformatted else ""
            before = "\n" * self._breaks or "\t" * self._tabs or blank
        self._breaks, self._tabs, self._space, self._at_cell_start = 0, 0, False, False
        start = self._text.add(before + self._marker + words) + len(before) + len(self._marker)
        self._marker = ""
        if self._heading is not None:
            if self._heading[1] < 0:
                self._heading = (self._heading[0], start)
            if words not in _PERMALINKS:
                self._title.append((" " if before else "") + words)

    def _break_line(self) -> None:
        """A line end that the author wrote: several make blank lines."""
        self._breaks = min(self._breaks + 1, 3)
        self._space = False

    def _begin_block(self, tag: str) -> None:
        """A block begins or ends; not at the start of a cell or list item, whose first words stay on its line."""
        if self._at_cell_start or self._marker:
            return
        inner = self._rows or (self._lists and tag in _LISTS)
        wanted = 2 if tag in _PARAGRAPHS and not inner else 1 if tag in _LINES or tag in _PARAGRAPHS else 0
        if wanted:
            self._breaks = max(self._breaks, wanted)
            self._space = False

    def _begin_item(self) -> None:
        number = self._lists[-1] if self._lists else None
        indent = "  " * min(len(self._lists) - 1, _DEEPEST_INDENT)
        self._marker = f"{indent}- " if number is None else f"{indent}{number}. "
        if self._lists and number is not None:
            self._lists[-1] = number + 1

    def _end_cell(self) -> None:
        self._at_cell_start = False
        self._space = False
        if self._rows and self._text.length > self._rows[-1]:
            self._breaks = 0
            self._tabs += 1

    def _end_heading(self) -> None:
        assert self._heading is not None  # noqa: S101
        level, start = self._heading
        self._heading = None
        if start >= 0:
            self._text.add_heading(start, self._text.length, level, "".join(self._title))


def _first_number(node: LexborNode) -> int:
    start = (node.attributes.get("start") or "1").strip()
    return int(start) if re.fullmatch(r"-?\d{1,6}", start) else 1
