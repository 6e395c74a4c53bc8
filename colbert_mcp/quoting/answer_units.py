"""An answer in Markdown, cut into the units within which a quotation and its citation belong together.

Units are paragraphs, list items, table rows, and outermost block quotes; a callout is a paragraph, unless it says that
it is a quote. The text of a block quote is its lines as they stand, without the ``>`` before them, so that list marks,
fences and numbers in it are compared as well. Quotation marks written as HTML (``&ldquo;``, ``<q>``, ``<blockquote>``)
are put plainly first. Also says which characters of a unit are code or addresses, in which no quotation begins. Knows
Markdown strings only.
"""

import html
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import regex
from markdown_it import MarkdownIt
from markdown_it.common.utils import normalizeReference
from markdown_it.token import Token

_ENTITY = regex.compile(
    r"&(?:[lr]dquo|[lr]dquor|bdquo|[lr]squo|sbquo|[lr]aquo|quot|apos|nbsp|#0*(?:34|39|160|171|187|82(?:1[6-9]|2[0-3]))"
    r"|#[xX]0*(?:22|27|[aA]0|[aA][bB]|[bB]{2}|201[89a-fA-F]));"
)
_TAGS = regex.compile(r"<(?P<end>/?)(?:(?P<q>q)|(?P<block>blockquote))\b[^<>]*>", regex.IGNORECASE)
# Numbered sources as they are listed without Markdown's syntax for them: ``[1] docs/setup.md``, or below a title.
_NUMBERED = regex.compile(r"^[ \t>*+-]*\[(\d{1,3})\]:?[ \t]+(\S.*)$", regex.MULTILINE)
_LISTED = regex.compile(r"[ \t]*(\d{1,3})[.)][ \t]+(\S.*)(?:\n|\Z)")
_BLANK = regex.compile(r"[ \t]*\n")
_LIST_TITLE = regex.compile(
    r"^[#*_ \t]*+(?:sources?|references?|citations?|footnotes|quellen|出典|来源)[:：*_ \t]*+\n", regex.I | regex.M
)
_FOOTNOTE = regex.compile(r"^[ >]*\[\^([^\[\]\s]+)\]:[ \t]*(.+)$", regex.MULTILINE)
_CALLOUT = regex.compile(r"\A\[!(?:(?P<quote>quote|cite)|\w+)\][+-]?[ \t]*", regex.IGNORECASE)
_ADDRESS = regex.compile(
    r"\]\(\s*(?:<[^<>\n]*>|[^()\s<>]*(?:\([^()\s]*\)[^()\s]*)*)"
    r"(?:\s+(?:\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|\([^()]*\)))?\s*\)"
    r"|<?\b(?:file|https?|passage):[^\s<>“”\"]+>?|</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>"
)
# Of the first line also the marks of the list items that the quote stands in.
_QUOTE_MARK = regex.compile(r"\A(?:[ \t]|[-+*][ \t]|\d{1,9}[.)][ \t])*+>[ \t]?")
_CONTAINERS = frozenset({"list_item_open", "tr_open"})


@dataclass(frozen=True, slots=True)
class Unit:
    """Text within which citations are looked for. ``lines`` says at which character which line of the answer starts;
    ``items`` are the list items that hold it, outermost first.
    """

    is_block_quote: bool
    items: tuple[int, ...]
    text: str
    lines: tuple[tuple[int, int], ...]
    is_heading: bool = False

    def line_at(self, char: int) -> int:
        """The line of the answer, from 1, of a character."""
        start, line = self.lines[bisect_right(self.lines, (char, 2**62)) - 1]
        return line + self.text.count("\n", start, char)


def units(answer: str) -> tuple[list[Unit], dict[str, str]]:
    """The units of an answer in order, and what its labels for links and footnotes stand for."""
    plain = _without_html(answer)
    environment: dict[str, dict[str, dict[str, str]]] = {}
    parser = MarkdownIt("commonmark").enable("table")
    parser.validateLink = _any_link  # type: ignore[method-assign]  # nothing is rendered: file: may be one too
    tokens = parser.parse(plain, environment)
    labels = dict(_numbered(plain))
    labels |= {label: reference["href"] for label, reference in environment.get("references", {}).items()}
    labels |= {normalizeReference(f"^{label}"): text for label, text in _FOOTNOTE.findall(plain)}
    return list(_gathered(tokens, regex.split(r"\r\n?|\n", plain))), labels


def masked(text: str) -> str:
    """The text with code spans, tags and the addresses of links blanked out, character for character."""
    pieces, done = [], 0
    for start, end in code_spans(text):
        pieces += [text[done:start], "\0" * (end - start)]
        done = end
    return str(_ADDRESS.sub(lambda match: "\0" * len(match.group()), "".join([*pieces, text[done:]])))


def code_spans(text: str) -> Iterator[tuple[int, int]]:
    """``[start, end)`` of code spans: a run of backticks opens one, and the next run of the same length closes it."""
    runs = [match.span() for match in regex.finditer(r"`++", text)]
    places: dict[int, list[int]] = {}
    for index, (start, end) in enumerate(runs):
        places.setdefault(end - start, []).append(index)
    at = 0
    while at < len(runs):
        same = places[runs[at][1] - runs[at][0]]
        later = bisect_right(same, at)
        if later < len(same):
            yield runs[at][0], runs[same[later]][1]
            at = same[later]
        at += 1


def _numbered(answer: str) -> Iterator[tuple[str, str]]:
    for title in _LIST_TITLE.finditer(answer):
        at = title.end()
        while listed := _LISTED.match(answer, at) or _BLANK.match(answer, at):
            at = listed.end()
            if listed.re is _LISTED:
                yield listed[1], listed[2]
    yield from _NUMBERED.findall(answer)


def _any_link(url: str) -> bool:
    return bool(url)


def _without_html(answer: str) -> str:
    """Entities and tags that are quotation marks as such, line for line where they stand at the ends of lines."""
    text = _ENTITY.sub(lambda match: html.unescape(match.group()), answer)
    pieces, done, depth = list[str](), 0, 0
    for tag in _TAGS.finditer(text):
        pieces.append(_quoted_lines(text[done : tag.start()], depth))
        done = tag.end()
        if tag["q"]:
            pieces.append("”" if tag["end"] else "“")
            continue
        at_start = not text[text.rfind("\n", 0, tag.start()) + 1 : tag.start()].strip(" \t>")
        if tag["end"]:
            depth = max(0, depth - 1)
            pieces.append("" if depth or text[done : done + 1] in ("\n", "") else "\n\n")
            # An empty line ends the quote, or the text below would go on with it.
            pieces.append("\n" if not depth and text[done : done + 1] == "\n" else "")
        else:
            depth += 1
            pieces.append("> " if at_start else "\n\n> ")
    return "".join([*pieces, text[done:]])


def _quoted_lines(text: str, depth: int) -> str:
    return text.replace("\n", "\n> ") if depth else text


@dataclass(slots=True)
class _Place:
    """Where a token stands: the containers that are open, by serial numbers."""

    serial: int = 0
    quotes: int = 0
    containers: list[tuple[str, int]] = field(default_factory=list)

    def take(self, token: Token) -> None:
        self.serial += 1
        self.quotes += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if token.type in _CONTAINERS:
            self.containers.append((token.type, self.serial))
        elif token.type.replace("_close", "_open") in _CONTAINERS:
            self.containers.pop()

    @property
    def key(self) -> int:
        """The same for what is one unit."""
        return self.containers[-1][1] if self.containers else self.serial

    @property
    def items(self) -> tuple[int, ...]:
        return tuple(n for kind, n in self.containers if kind == "list_item_open")


def _gathered(tokens: list[Token], answer: list[str]) -> Iterator[Unit]:
    place, key = _Place(), -1
    texts: list[str] = []
    lines: list[tuple[int, int]] = []
    items, heading, in_heading = tuple[int, ...](), False, False
    for token in tokens:
        place.take(token)
        in_heading = token.type == "heading_open" or (in_heading and token.type == "inline")
        quoted = token.type == "blockquote_open" and place.quotes == 1
        if not quoted and (place.quotes or token.type not in ("inline", "html_block")):
            continue
        if texts and (quoted or place.key != key):
            yield Unit(False, items, "\n\n".join(texts), tuple(lines), heading)
            texts, lines = [], []
        first, end = token.map or (0, 0)
        if quoted:
            text = "\n".join(_QUOTE_MARK.sub("", line, count=1) for line in answer[first:end])
            callout = _CALLOUT.match(text)
            if callout and callout["quote"]:
                text, callout = text[callout.end() :], None
            yield Unit(not callout, place.items, text, ((0, first + 1),))
            continue
        key, items, heading = place.key, place.items, in_heading
        lines.append((sum(map(len, texts[-1:])) + 2 + lines[-1][0] if lines else 0, first + 1))
        texts.append(token.content)
    if texts:
        yield Unit(False, items, "\n\n".join(texts), tuple(lines), heading)
