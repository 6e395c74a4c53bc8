"""The quotations in an answer as an assistant writes it, each with the citation it belongs to.

A quotation is what stands between quotation marks, the outermost ones, or in a block quote; code holds none. A block
quote's citation stands in it, or right behind it, or in the sentence that introduces it; a list item is on its own.
What looks quoted but cannot be told apart is given with the problem, so that nothing goes unseen. Knows Markdown
strings only.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from colbert_mcp.quoting.answer_units import Unit, masked, units
from colbert_mcp.quoting.attribution import Citation, Citations, IsIndexed, citations, only_opens
from colbert_mcp.quoting.block_quotes import own_citations, quoted_words
from colbert_mcp.quoting.folding import Folded, count_words, fold
from colbert_mcp.quoting.quotation_marks import quotation_marks
from colbert_mcp.quoting.titles import CitedIn, Titles, introduces, introducing, is_title, only_cites

_SCARE_WORDS = 2
_SHOWN = 80
_ALONE = (
    "This quotation mark has no partner in its paragraph; write both, or a block quote, so that it can be verified."
)
_PASSAGE = re.compile(r"passage://.*|[0-9a-f]{16}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quotation:
    """A quotation at a line (from 1) of the answer. ``plain`` is it without Markdown's emphasis, code marks and links;
    ``citation`` is as the answer writes it, and one of ``passage_id`` and ``path`` (or ``file:`` URL) is what it names.
    With a ``problem`` it cannot be verified, and the text is only where it begins.
    """

    line: int
    text: str
    plain: str
    citation: str | None
    passage_id: str | None
    path: str | None
    problem: str | None = None


def quotations(answer: str, is_indexed: IsIndexed = lambda name: False) -> tuple[list[Quotation], int]:
    """The quotations of an answer in order, and how many were skipped: one or two words of a sentence
    without a citation.

    ``is_indexed`` says whether an indexed file is called so. Takes time linear in the length of the answer.
    """
    parts, labels = units(answer)
    found: list[Quotation] = []
    cited_in = partial(citations, labels=labels, is_indexed=is_indexed)
    titles, quotes = Titles(cited_in), False
    for index, unit in enumerate(parts):
        title = titles.of(unit.items)
        if unit.is_block_quote:
            found.extend(_block_quote(parts, index, cited_in, title))
            quotes = True
            continue
        quoted = list(_quoted(unit, cited_in, _behind(parts, index, cited_in) or title))
        titles.take(unit, quotes=quotes or bool(quoted))
        quotes = bool(quoted)
        found.extend(quoted)
    kept = [q for q in found if q.problem or (_says(q.text) and (q.citation or _words(q.text) > _SCARE_WORDS))]
    return kept, len(found) - len(kept)


def _says(text: str) -> bool:
    return bool(fold(text).strip(" '\".,;:!?"))


def _words(text: str) -> int:
    return count_words(Folded(text))


def _quoted(unit: Unit, cited_in: CitedIn, around: Citation | None) -> Iterator[Quotation]:
    """The quotations of a unit; ``around`` is the citation of those that have none in it."""
    text = masked(unit.text)
    marks = quotation_marks(text)
    if not marks.pairs and not marks.alone:
        return
    named = cited_in(unit.text)
    cited = Citations(unit.text, text, named, marks.pairs)
    names = {(citation.start, citation.end) for citation in named if citation.kind == "name"}
    found: list[tuple[int, Quotation]] = []
    for start, end in marks.pairs:
        if (start, end) in names:
            continue
        quoted = unit.text[start : end - 1] if unit.text[end - 1] == "\\" else unit.text[start:end]
        # One or two words that their own sentence gives no citation are rather a manner of speaking than a quotation.
        long = _words(quoted) > _SCARE_WORDS
        citation = cited.of(start, end, far=long) or (around if long else None)
        found.append((start, _quotation(unit.line_at(start), quoted.strip(), citation)))
    for at in marks.alone:
        shown = unit.text[at : at + _SHOWN].split("\n\n")[0]
        found.append((at, Quotation(unit.line_at(at), shown, shown, None, None, None, _ALONE)))
    yield from (quotation for _, quotation in sorted(found, key=lambda item: item[0]))


def _block_quote(parts: Sequence[Unit], index: int, cited_in: CitedIn, title: Citation | None) -> Iterator[Quotation]:
    unit = parts[index]
    own = own_citations(unit.text, cited_in(unit.text))
    text = quoted_words(unit.text, own).strip()
    if text:
        yield _quotation(unit.line_at(0), text, own[-1] if own else _beside(parts, index, cited_in) or title)


def _beside(parts: Sequence[Unit], index: int, cited_in: CitedIn) -> Citation | None:
    """The citation that the text after a block quote opens with, else that of the text which introduces it, else the
    first link after it, but for what introduces the next quote.

    All is in the same list item, or in none; only an item that ends in a colon introduces a quote below the list.
    """
    if behind := _behind(parts, index, cited_in):
        return behind
    items = parts[index].items
    following = _neighbour(parts, index + 1)
    after = cited_in(following.text) if following and following.items == items else []
    if following and after and only_opens(following.text, 0, after[0].start):
        return after[0]
    preceding = _neighbour(parts, index - 1)
    if preceding and (preceding.items == items or introduces(preceding.text)):
        found = introducing(preceding.text, cited_in)
        if found:
            return found
    if following and is_title(following.text):
        return None
    return next((citation for citation in after if citation.kind == "link"), None)


def _behind(parts: Sequence[Unit], index: int, cited_in: CitedIn) -> Citation | None:
    """The citation of which the next paragraph is made."""
    following = _neighbour(parts, index + 1)
    if following is None or following.is_heading or following.items != parts[index].items:
        return None
    return None if is_title(following.text) else only_cites(following.text, cited_in)


def _neighbour(parts: Sequence[Unit], index: int) -> Unit | None:
    return parts[index] if 0 <= index < len(parts) and not parts[index].is_block_quote else None


def _quotation(line: int, text: str, citation: Citation | None) -> Quotation:
    target = citation.target if citation else None
    is_path = target is not None and _PASSAGE.fullmatch(target) is None
    return Quotation(
        line=line,
        text=text,
        plain=_plain(text),
        citation=target,
        passage_id=None if is_path else target,
        path=target if is_path else None,
    )


def _plain(text: str) -> str:
    text = re.sub(r"<br\s*/?>|\\$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^(?:>[ \t]?)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\[\]]*)\]\((?:<[^<>]*>|[^()\s]*)\)", r"\1", text)
    text = re.sub(r"(?<!`)`++([^`]+)`++", r"\1", text)
    text = re.sub(r"(\*{1,3}|(?<!\w)_{1,3})(?=\S)([^*_]+?)(?<=\S)\1(?!\w)", r"\2", text)
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
