"""Whether two layouts of a model give the same token embeddings, and whether its texts find themselves.

Knows encoders and the reference texts; nothing of where a model comes from.
"""

import numpy as np
import numpy.typing as npt

from colbert_mcp.encoder.base import Encoded, Encoder, Query, Tokenized
from colbert_mcp.encoder.reference_texts import REFERENCE_TEXTS
from colbert_mcp.results import ModelCheckOutput

SAME = 1e-4
_SHOWN = 40


def check_model(encoder: Encoder, other: Encoder | None = None) -> ModelCheckOutput:
    """Encode the reference texts as documents and queries, with both encoders if there are two."""
    fitting = [_fitting(encoder, tokens) for tokens in encoder.tokenize(REFERENCE_TEXTS)]
    documents = encoder.encode_documents(fitting)
    queries = [encoder.encode_query(text) for text in REFERENCE_TEXTS]
    confused = _confused(queries, documents)
    difference, where = (None, None) if other is None else _difference(encoder, other, fitting, documents, queries)
    return ModelCheckOutput(
        model=encoder.fingerprint.model,
        other=None if other is None else other.fingerprint.model,
        texts=len(REFERENCE_TEXTS),
        cut=sum(len(tokens.ids) > encoder.content_length for tokens in encoder.tokenize(REFERENCE_TEXTS)),
        found_first=len(REFERENCE_TEXTS) - len(confused),
        confused=confused,
        difference=difference,
        where=where,
        same=other is None or (difference is not None and difference <= SAME),
    )


def _fitting(encoder: Encoder, tokens: Tokenized) -> Tokenized:
    """As many of a text's tokens as a document may have."""
    limit = encoder.content_length
    return Tokenized(tokens.ids[:limit], tokens.starts[:limit], tokens.ends[:limit])


def _confused(queries: list[Query], documents: list[Encoded]) -> list[str]:
    """The texts that score better with another than with themselves, by MaxSim."""
    confused = []
    for index, query in enumerate(queries):
        scores = [float((query.token_embeddings @ d.token_embeddings.T).max(axis=1).mean()) for d in documents]
        best = int(np.argmax(scores))
        if best != index:
            confused.append(f"{_short(index)} > {_short(best)}")
    return confused


def _difference(
    encoder: Encoder, other: Encoder, fitting: list[Tokenized], documents: list[Encoded], queries: list[Query]
) -> tuple[float | None, str | None]:
    """The largest difference of any number, and where; None and the reason where rows do not stand for the same."""
    theirs = [_fitting(other, tokens) for tokens in other.tokenize(REFERENCE_TEXTS)]
    worst, where = 0.0, None
    encoded = other.encode_documents(theirs)
    for index, text in enumerate(REFERENCE_TEXTS):
        asked = other.encode_query(text)
        pairs = [
            ("document", documents[index].token_embeddings, encoded[index].token_embeddings),
            ("query", queries[index].token_embeddings, asked.token_embeddings),
        ]
        names = {"document": encoder.kept_tokens(fitting[index]), "query": queries[index].tokens}
        for kind, mine, other_rows in pairs:
            if mine.shape != other_rows.shape:
                return None, f"{kind} {_short(index)}: {_shape(mine)} against {_shape(other_rows)}"
            apart = np.abs(mine - other_rows)
            if float(apart.max()) > worst:
                row = int(apart.max(axis=1).argmax())
                worst, where = float(apart.max()), f"{kind} {_short(index)}, token {row} ({names[kind][row]})"
    return worst, where


def _shape(rows: npt.NDArray[np.float32]) -> str:
    return f"{rows.shape[0]} tokens of {rows.shape[1]} dimensions"


def _short(index: int) -> str:
    text = REFERENCE_TEXTS[index]
    return f"“{text[:_SHOWN]}…”" if len(text) > _SHOWN else f"“{text}”"
