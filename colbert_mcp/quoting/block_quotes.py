"""Which citations in a block quote are apart from its words, and what the words are without them.

Apart is what stands in brackets or behind a dash, leads or ends the quote, or is a mark such as ``[1]``; the rest is
text, to be compared, so that nothing a reader takes for quoted words goes unseen. Knows strings only.
"""

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
_BEGINS = regex.compile(rf"(?:\A|\n){_LEAD}", regex.IGNORECASE)
_LEADING = regex.compile(rf"[\s*_(\[]*(?:{_SOURCE}\b)?[\s:：*_]*", regex.IGNORECASE)
_CLOSING = regex.compile(
    r"[\s)\]*_]*+(?:[,(]?\s*(?:lines?|l\.|pages?|p\.|cells?|§|section)[^\n()]{0,40})?[\s)\]*_.]*+\Z"
)
# Numbers, footnotes, ids and paths, which no reader takes for words of the quote.
_MARK = regex.compile(r"\[\W*\d{1,4}\W*\].*|\[\^.*|[^\[].*", regex.DOTALL)
# A link of four words or more, none of them a file's name.
_WORDY = regex.compile(r"\[(?:[^\s\[\]./]++\s*+){4,}[.!?]?\]\(")


def own_citations(text: str, found: Sequence[Citation]) -> list[Citation]:
    """Those of the citations in a block quote that are apart from its words."""
    return [citation for citation in found if _is_apart(text, citation)]


def quoted_words(text: str, own: Sequence[Citation]) -> str:
    """A block quote without its citations, and without a last line that says whose words these are."""
    pieces, done = list[str](), 0
    last = text.rstrip().rfind("\n") + 1
    for citation in own:
        if last and citation.start >= last and _is_attribution(text[last:]):
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
    if _WORDY.match(text, citation.start, citation.end) and (not signed or text[citation.start + 1].islower()):
        return False
    return signed or closing or _MARK.fullmatch(text, citation.start, citation.end) is not None


def _leads(text: str, citation: Citation) -> bool:
    """Whether the quote begins with its source: ``docs/setup.md: …``."""
    if _LED.match(text, citation.end) is None:
        return False
    return citation.start < _NEAR and _LEADING.fullmatch(text, 0, citation.start) is not None


def _is_attribution(line: str) -> bool:
    return _ATTRIBUTION.match(line) is not None and count_words(Folded(masked(line))) <= _MOST_ATTRIBUTION_WORDS
