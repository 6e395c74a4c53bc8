"""Which citations in a block quote are apart from its words, and what the words are without them.

Apart is what stands in brackets or behind a dash, leads or ends the quote, or is a mark such as ``[1]``; the rest is
text, to be compared, so that nothing a reader takes for quoted words goes unseen. A link at the end is a title where it
names the file, or is written like one behind a whole sentence. Knows strings only.
"""

import urllib.parse
from collections.abc import Sequence

import regex

from colbert_mcp.quoting.answer_units import masked
from colbert_mcp.quoting.attribution import Citation
from colbert_mcp.quoting.folding import Folded, count_words

_NEAR = 60
_MOST_ATTRIBUTION_WORDS = 8
_SOURCE = r"(?:sources?|see|from|via|quelle|出典|来源)"
_ATTRIBUTION = regex.compile(r"\s*[*_]*(?:—|–|--|-\s|Sources?:)[\s*_]*+(?:(?:see|from|in|via)\b|(?!\p{Ll}))")
# What goes with a citation that is taken out.
_BEFORE = regex.compile(r"(?:\s[*_]{1,3})?\s*\^?[\s(\[]*(?:[*_]*(?:—|–|--|-|Sources?:)[\s*_]*)?\Z")
_AFTER = regex.compile(r"(?:\s*[)\]]+)?(?:[*_]+(?=\.?\s*\Z))?(?:\.(?=\s*\Z))?")
_LED = regex.compile(r"[\s)\]*_`]*[:：\n]")
# In brackets or behind a dash; and at the beginning of a line.
_LEAD = rf"[\s*_]*(?:{_SOURCE}\b)?[\s:：*_]*\Z"
_SIGNED = regex.compile(rf"(?:[(\[—–]|(?:\A|\s)-{{1,2}}\s|\bsources?:){_LEAD}", regex.IGNORECASE)
_BRACKETED = regex.compile(rf"[(\[]{_LEAD}", regex.IGNORECASE)
_BEGINS = regex.compile(rf"(?:\A|\n){_LEAD}", regex.IGNORECASE)
_LEADING = regex.compile(rf"[\s*_(\[]*(?:{_SOURCE}\b)?[\s:：*_]*", regex.IGNORECASE)
_CLOSING = regex.compile(
    r"[\s)\]*_]*+(?:[,(]?\s*(?:lines?|l\.|pages?|p\.|cells?|§|section)[^\n()]{0,40})?[\s)\]*_.]*+\Z"
)
# Numbers, footnotes, ids and paths, which no reader takes for words of the quote.
# But ``500[0](…)`` is read as 5000.
_MARK = regex.compile(r"(?!(?<=\d\s?)\[\d+\]\()\[\W*\d{1,4}\W*\].*|\[\^.*|[^\[].*", regex.DOTALL)
# A link of four words or more, none of them a file's name.
_WORDY = regex.compile(r"\[(?:[^\s\[\]./]++\s*+){4,}[.!?]?\]")
_LINK_TEXT = regex.compile(r"\[([^\[\]]*)\]")
_FILE_LIKE = regex.compile(r"[/>›§]|\w\.\w")
_WORD = regex.compile(r"[^\W\d_]+")
_SOURCE_WORD = regex.compile(
    r"cell|document|docs|documentation|file|from|guide|handbook|lines?|link|manual|notes|pages?|quelle|ref|reference"
    r"|sections?|see|sources?"
)
# What names and titles have in lower case.
_SMALL_WORD = regex.compile(
    r"al|and|at|by|chapter|d|de|der|des|di|du|et|für|im|in|l|la|le|of|pp?|part|s|the|und|via|von|vol|y"
)
_SENTENCE_END = regex.compile(r"[.!?…。！？]\W*\Z|[”\"»」]\s*\Z")


def own_citations(text: str, found: Sequence[Citation]) -> list[Citation]:
    """Those of the citations in a block quote that are apart from its words."""
    return [citation for citation in found if _is_apart(text, citation)]


def quoted_words(text: str, own: Sequence[Citation]) -> str:
    """A block quote without its citations, and without a last line that says whose words these are."""
    pieces, done = list[str](), 0
    last = text.rstrip().rfind("\n") + 1
    for citation in own:
        if last and citation.start >= last and _is_attribution(text, last, own):
            return "".join([*pieces, text[done:last]])
        head = _BEFORE.search(text, max(done, citation.start - _NEAR), citation.start)
        pieces.append(text[done : max(done, head.start() if head else citation.start)])
        leads = _LED.match(text, citation.end) if _leads(text, citation) else None
        tail = leads or _CLOSING.match(text, citation.end) or _AFTER.match(text, citation.end)
        done = tail.end() if tail else citation.end
        if leads:
            pieces.clear()
    return "".join([*pieces, text[done:]])


def _is_apart(text: str, citation: Citation) -> bool:
    if _leads(text, citation):
        return True
    near = max(0, citation.start - _NEAR), citation.start
    signed = _SIGNED.search(text, *near) is not None
    closing = _CLOSING.match(text, citation.end) is not None
    if citation.kind != "link":
        return closing and (signed or _BEGINS.search(text, *near) is not None)
    if _MARK.fullmatch(text, citation.start, citation.end):
        return True
    if _WORDY.match(text, citation.start, citation.end) and (not signed or text[citation.start + 1].islower()):
        return False
    return (signed or closing) and (_is_in_brackets(text, citation) or _is_title(text, citation, signed=signed))


def _is_in_brackets(text: str, citation: Citation) -> bool:
    return _BRACKETED.search(text, max(0, citation.start - _NEAR), citation.start) is not None


def _is_title(text: str, citation: Citation, *, signed: bool) -> bool:
    """Whether a link names its file, or is written like a title: not in lower case, and behind a whole sentence, or
    signed, or on a line of its own.
    """
    found = _LINK_TEXT.match(text, citation.start, citation.end)
    words = found[1].strip("*_` ") if found else ""
    file = _file_words(citation)
    named = [word in file or _SOURCE_WORD.fullmatch(word) is not None for word in _WORD.findall(words.casefold())]
    if _FILE_LIKE.search(words) or (named and all(named)):
        return True
    before = text[max(0, citation.start - _NEAR) : citation.start]
    return not words[:1].islower() and (
        signed or _BEGINS.search(before) is not None or _SENTENCE_END.search(before) is not None
    )


def _file_words(citation: Citation) -> frozenset[str]:
    """The words of a file's name and folder."""
    return frozenset(_WORD.findall("/".join(urllib.parse.unquote(citation.target).casefold().split("/")[-2:])))


def _leads(text: str, citation: Citation) -> bool:
    """Whether the quote begins with its source: ``docs/setup.md: …``."""
    if _LED.match(text, citation.end) is None:
        return False
    return citation.start < _NEAR and _LEADING.fullmatch(text, 0, citation.start) is not None


def _is_attribution(text: str, start: int, own: Sequence[Citation]) -> bool:
    """Whether the last line says whose words the quote is: names and titles, beside a citation."""
    line = text[start:]
    if _ATTRIBUTION.match(line) is None or count_words(Folded(masked(line))) > _MOST_ATTRIBUTION_WORDS:
        return False
    cited = [citation for citation in own if citation.start >= start]
    edges = [start, *(edge for citation in cited for edge in (citation.start, citation.end)), len(text)]
    beside = " ".join(text[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2))
    files = frozenset[str]().union(*map(_file_words, cited))
    return all(
        not word.islower() or word in files or _SMALL_WORD.fullmatch(word) or _SOURCE_WORD.fullmatch(word)
        for word in _WORD.findall(beside)
    )
