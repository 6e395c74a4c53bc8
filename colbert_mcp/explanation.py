"""Why a passage was found: which of its tokens each token of the query matched, in the coordinates of the citation.

Knows one passage and its alignment with a query; nothing of ranking or the store.
"""

import numpy as np

from colbert_mcp.alignment import Alignment
from colbert_mcp.encoder import Query
from colbert_mcp.results import Explanation, Passage, TokenHeat, TokenMatch

_DIGITS = 3


def explain(passage: Passage, text: str, query: Query, alignment: Alignment, *, heat: bool = False) -> Explanation:
    """The match of every token of the query (``text``), in its order; MaxSim is the mean of their similarities.

    ``heat`` adds every token of the passage with its similarity to each token that was typed: what a page needs to mark
    words. Spans are where the passage stands now, as its ``char_start``.
    """
    best = alignment.similarities.argmax(axis=1).tolist()
    matches = [
        TokenMatch(
            query=text[start:end] if end > start else name,
            query_span=(start, end) if end > start else None,
            text=_text(passage, alignment, token),
            span=_span(passage, alignment, token),
            similarity=_rounded(alignment.similarities[row, token]),
        )
        for row, ((start, end), name, token) in enumerate(zip(query.spans.tolist(), query.tokens, best, strict=True))
    ]
    return Explanation(matches=matches, heat=_heat(passage, query, alignment) if heat else None)


def _heat(passage: Passage, query: Query, alignment: Alignment) -> list[TokenHeat]:
    typed = alignment.similarities[query.spans[:, 1] > query.spans[:, 0]]
    columns = [(_span(passage, alignment, token), column) for token, column in enumerate(typed.T)]
    return [TokenHeat(span=span, similarities=list(map(_rounded, column))) for span, column in columns if span]


def _text(passage: Passage, alignment: Alignment, token: int) -> str:
    start, end = alignment.spans[token].tolist()
    return passage.text[start:end] if end > start else alignment.tokens[token]


def _span(passage: Passage, alignment: Alignment, token: int) -> tuple[int, int] | None:
    start, end = alignment.spans[token].tolist()
    return (passage.char_start + start, passage.char_start + end) if end > start else None


def _rounded(value: np.float32) -> float:
    """Quantised rows are a little longer or shorter than 1, so a product can leave the range."""
    return round(min(1.0, max(-1.0, float(value))), _DIGITS)
