"""The quotations in an answer as an assistant writes it, each with the citation it belongs to.

A quotation is what stands between quotation marks, the outermost ones, or in a block quote; code holds none. A block
quote's citation stands in it, or in the text after or before it; a list item is on its own. What looks quoted but
cannot be told apart is given with the problem, so that nothing goes unseen. Knows Markdown strings only.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from colbert_mcp.quoting.answer_units import Unit, masked, units
from colbert_mcp.quoting.attribution import Citation, Citations, citations
from colbert_mcp.quoting.folding import Folded, count_words, fold
from colbert_mcp.quoting.quotation_marks import quotation_marks

_SCARE_WORDS = 2
_SHOWN = 80
_ALONE = (
    "This quotation mark has no partner in its paragraph; write both, or a block quote, so that it can be verified."
)
_ATTRIBUTION = re.compile(r"\s*(?:—|–|--|-\s|Source:)[^\n]*\Z")
_BEFORE_CITATION = re.compile(r"[\s(\[]*(?:(?:—|–|--|-|Source:)\s*)?\Z")
_AFTER_CITATION = re.compile(r"\s*[)\]]*\.?")
_NEAR = 60


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


def quotations(answer: str) -> tuple[list[Quotation], int]:
    """The quotations of an answer in order, and how many were skipped: one or two words with no citation after them.

    Takes time linear in the length of the answer.
    """
    parts, labels = units(answer)
    found: list[Quotation] = []
    for index, unit in enumerate(parts):
        found.extend(_block_quote(parts, index, labels) if unit.is_block_quote else _quoted(unit, labels))
    kept = [q for q in found if q.problem or (_says(q.text) and (q.citation or _words(q.text) > _SCARE_WORDS))]
    return kept, len(found) - len(kept)


def _says(text: str) -> bool:
    return bool(fold(text).strip(" '\".,;:!?"))


def _words(text: str) -> int:
    return count_words(Folded(text))


def _quoted(unit: Unit, labels: Mapping[str, str]) -> Iterator[Quotation]:
    text = masked(unit.text)
    marks = quotation_marks(text)
    if not marks.pairs and not marks.alone:
        return
    cited = Citations(unit.text, text, labels, marks.pairs)
    found: list[tuple[int, Quotation]] = []
    for start, end in marks.pairs:
        quoted = unit.text[start : end - 1] if unit.text[end - 1] == "\\" else unit.text[start:end]
        # One or two words after the citation are rather a manner of speaking than a quotation from it.
        citation = cited.of(start, end, before=_words(quoted) > _SCARE_WORDS)
        found.append((start, _quotation(unit.line_at(start), quoted.strip(), citation)))
    for at in marks.alone:
        shown = unit.text[at : at + _SHOWN].split("\n\n")[0]
        found.append((at, Quotation(unit.line_at(at), shown, shown, None, None, None, _ALONE)))
    yield from (quotation for _, quotation in sorted(found, key=lambda item: item[0]))


def _block_quote(parts: Sequence[Unit], index: int, labels: Mapping[str, str]) -> Iterator[Quotation]:
    unit = parts[index]
    own = citations(unit.text, labels)
    text = _without_attribution(_without_citations(unit.text, own)).strip()
    if text:
        yield _quotation(unit.line_at(0), text, own[-1] if own else _beside(parts, index, labels))


def _without_citations(text: str, own: Sequence[Citation]) -> str:
    pieces, done = [], 0
    for citation in own:
        head = _BEFORE_CITATION.search(text, max(done, citation.start - _NEAR), citation.start)
        pieces.append(text[done : max(done, head.start() if head else citation.start)])
        tail = _AFTER_CITATION.match(text, citation.end)
        done = tail.end() if tail else citation.end
    return "".join([*pieces, text[done:]])


def _without_attribution(text: str) -> str:
    """The text without a last line that says whose words these are."""
    body, line_end, last = text.rstrip().rpartition("\n")
    return body if line_end and _ATTRIBUTION.match(last) else text


def _beside(parts: Sequence[Unit], index: int, labels: Mapping[str, str]) -> Citation | None:
    """The citation that the text after a block quote opens with, else the last one before it, else the first after.

    What is beside a quote in a list item is in the same item; what follows one that is in none is in none.
    """
    item = parts[index].item
    following = _neighbour(parts, index + 1)
    after = citations(following.text, labels) if following and following.item == item else []
    if following and after and not re.search(r"\w", following.text[: after[0].start].replace("Source", "")):
        return after[0]
    preceding = _neighbour(parts, index - 1)
    before = citations(preceding.text, labels) if preceding and item in (None, preceding.item) else []
    return next(iter(before[-1:] or after), None)


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
    text = re.sub(r"\[([^\[\]]*)\]\((?:<[^<>]*>|[^()\s]*)\)", r"\1", text)
    text = re.sub(r"(?<!`)`++([^`]+)`++", r"\1", text)
    text = re.sub(r"(\*{1,3}|(?<!\w)_{1,3})(?=\S)([^*_]+?)(?<=\S)\1(?!\w)", r"\2", text)
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
