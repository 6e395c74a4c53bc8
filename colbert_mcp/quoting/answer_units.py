"""An answer in Markdown, cut into the units within which a quotation and its citation belong together.

Units are paragraphs, list items, table rows, and outermost block quotes; a callout is a paragraph. Quotation marks
written as HTML (``&ldquo;``, ``<q>``, ``<blockquote>``) are put plainly first. Also says which characters of a unit are
code or addresses, in which no quotation begins. Knows Markdown strings only.
"""

import html
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import regex
from markdown_it import MarkdownIt
from markdown_it.common.utils import normalizeReference
from markdown_it.token import Token

_ENTITY = regex.compile(
    r"&(?:[lr]dquo|[lr]dquor|bdquo|[lr]squo|sbquo|[lr]aquo|quot|apos|nbsp|#0*(?:34|39|160|171|187|82(?:1[6-9]|2[0-3]))"
    r"|#[xX]0*(?:22|27|[aA]0|[aA][bB]|[bB]{2}|201[89a-fA-F]));"
)
_TAGS = regex.compile(r"<(?P<end>/?)(?:(?P<q>q)|(?P<block>blockquote))\b[^<>]*>", regex.IGNORECASE)
_FOOTNOTE = regex.compile(r"^[ >]*\[\^([^\[\]\s]+)\]:[ \t]*(.+)$", regex.MULTILINE)
_CALLOUT = regex.compile(r"\A\[!\w+\]")
_ADDRESS = regex.compile(
    r"\]\(\s*(?:<[^<>\n]*>|[^()\s<>]*(?:\([^()\s]*\)[^()\s]*)*)"
    r"(?:\s+(?:\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|\([^()]*\)))?\s*\)"
    r"|<?\b(?:file|https?|passage):[^\s<>“”\"]+>?|</?[A-Za-z][^<>]*>"
)
_CONTAINERS = frozenset({"list_item_open", "tr_open"})


@dataclass(frozen=True, slots=True)
class Unit:
    """Text within which citations are looked for. ``lines`` says at which character which line of the answer starts;
    ``item`` is the innermost list item that holds it.
    """

    is_block_quote: bool
    item: int | None
    text: str
    lines: tuple[tuple[int, int], ...]

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
    labels = {label: reference["href"] for label, reference in environment.get("references", {}).items()}
    labels |= {normalizeReference(f"^{label}"): text for label, text in _FOOTNOTE.findall(plain)}
    return list(_gathered(tokens)), labels


def masked(text: str) -> str:
    """The text with code spans, tags and the addresses of links blanked out, character for character."""
    pieces, done = [], 0
    for start, end in _code_spans(text):
        pieces += [text[done:start], "\0" * (end - start)]
        done = end
    return str(_ADDRESS.sub(lambda match: "\0" * len(match.group()), "".join([*pieces, text[done:]])))


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
    containers: list[tuple[str, int]] | None = None
    quotes: int = 0
    quote: int = 0

    def take(self, token: Token) -> None:
        self.serial += 1
        self.containers = self.containers or []
        if token.type == "blockquote_open":
            self.quote = self.quote if self.quotes else self.serial
            self.quotes += 1
        elif token.type == "blockquote_close":
            self.quotes -= 1
        elif self.quotes == 0 and token.type in _CONTAINERS:
            self.containers.append((token.type, self.serial))
        elif self.quotes == 0 and token.type.replace("_close", "_open") in _CONTAINERS:
            self.containers.pop()

    @property
    def key(self) -> tuple[bool, int]:
        """The same for what is one unit."""
        if self.quotes:
            return True, self.quote
        return False, self.containers[-1][1] if self.containers else self.serial

    @property
    def item(self) -> int | None:
        return next((n for kind, n in reversed(self.containers or []) if kind == "list_item_open"), None)


def _gathered(tokens: list[Token]) -> Iterator[Unit]:
    place, key, item = _Place(), (False, -1), None
    texts: list[str] = []
    lines: list[tuple[int, int]] = []
    for token in tokens:
        place.take(token)
        if token.type not in ("inline", "html_block"):
            continue
        if place.key != key and texts:
            yield _unit(key[0], item, texts, lines)
            texts, lines = [], []
        key, item = place.key, place.item
        lines.append((sum(map(len, texts[-1:])) + 2 + lines[-1][0] if lines else 0, (token.map or [0])[0] + 1))
        texts.append(token.content)
    if texts:
        yield _unit(key[0], item, texts, lines)


def _unit(is_block_quote: bool, item: int | None, texts: list[str], lines: list[tuple[int, int]]) -> Unit:
    text = "\n\n".join(texts)
    return Unit(is_block_quote and not _CALLOUT.match(text), item, text, tuple(lines))


def _code_spans(text: str) -> Iterator[tuple[int, int]]:
    """A run of backticks opens a code span, and the next run of the same length closes it."""
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
