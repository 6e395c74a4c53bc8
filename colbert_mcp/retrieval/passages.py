"""From ranked candidates to cited passages: equal ones collapsed, each with its status, quote and explanation."""

import math
from collections.abc import Sequence
from itertools import compress

import numpy as np

from colbert_mcp.alignment import Alignment, quote_span
from colbert_mcp.citations import Sources, cite, place, with_quote
from colbert_mcp.duplicates import near_duplicates
from colbert_mcp.encoder import Encoder, Query
from colbert_mcp.errors import REPAIR, IndexCorruptError
from colbert_mcp.explanation import explain
from colbert_mcp.lexical import ExactText
from colbert_mcp.maxsim import TokenMatrix, quantise, similarities
from colbert_mcp.results import Passage
from colbert_mcp.retrieval.ranking import Mask, Scores, numbers
from colbert_mcp.retrieval.request import Request
from colbert_mcp.sentences import sentence_spans
from colbert_mcp.store import Snapshot, StoredPassage

_MOST_TWINS = 10


def cited_passages(
    snapshot: Snapshot,
    encoder: Encoder | None,
    query: Query | None,
    scores: Scores,
    allowed: Mask,
    request: Request,
    sources: Sources,
) -> tuple[list[int], list[Passage]]:
    """The best distinct passages with their ranks: equal ones collapse into the best, which says where the others are.

    Those that nearly repeat an earlier one say so.
    """
    chosen: list[tuple[int, StoredPassage]] = []
    seen: set[str] = set()
    for start in range(0, len(scores.positions), request.limit):
        chunks = snapshot.chunks[scores.positions[start : start + request.limit]].tolist()
        passages = snapshot.reader.passages(chunks)
        for rank, chunk in enumerate(chunks, start):
            if passages[chunk].chunk.text_sha256 not in seen and len(chosen) < request.limit:
                seen.add(passages[chunk].chunk.text_sha256)
                chosen.append((rank, passages[chunk]))
        if len(chosen) == request.limit:
            break
    equal = snapshot.reader.equal_passages([stored.chunk.sha256 for _, stored in chosen])
    results = []
    for rank, stored in chosen:
        others = [p for p in equal.get(stored.chunk.sha256, []) if p.passage_id != stored.passage_id]
        # The filters hold for every place that is shown, not only for the passage that was found.
        twins = list(compress(others, allowed[snapshot.positions(np.array([p.chunk_id for p in others], np.int64))]))
        best, also = _standing_first([stored, *twins[:_MOST_TWINS]], sources)
        passage = cite(best, sources.locate(best), also_at=[place(twin) for twin in also])
        passage = passage.model_copy(update=_score_fields(scores, rank))
        if encoder is not None and query is not None:
            alignment = align(snapshot, encoder, query, best, named=request.explain)
            passage = _pointed_out(passage, alignment, query, request, scores.exact)
        results.append(passage)
    repeated = near_duplicates([passage.text for passage in results])
    return [rank for rank, _ in chosen], [
        passage if original is None else passage.model_copy(update={"near_duplicate_of": results[original].id})
        for passage, original in zip(results, repeated, strict=True)
    ]


def _pointed_out(
    passage: Passage, alignment: Alignment | None, query: Query, request: Request, exact: Sequence[ExactText]
) -> Passage:
    """A passage with its quote and, where asked for, its explanation."""
    if alignment is None:
        return with_quote(passage, (0, len(passage.text)))
    sentences = sentence_spans(passage.text)
    passage = with_quote(passage, quote_span(alignment, sentences, _held(passage.text, sentences, exact)))
    if request.explain:
        passage = passage.model_copy(update={"explanation": explain(passage, request.query, query, alignment)})
    return passage


def _held(text: str, sentences: Sequence[tuple[int, int]], exact: Sequence[ExactText]) -> list[int]:
    """How many of some exact texts stand in each sentence, or partly so."""
    places = [[match.span() for match in piece.pattern.finditer(text)] for piece in exact]
    return [sum(any(s < end and start < e for s, e in spans) for spans in places) for start, end in sentences]


def _standing_first(equal: list[StoredPassage], sources: Sources) -> tuple[StoredPassage, list[StoredPassage]]:
    """Of equal passages, the first whose file still says so (else the first), and the others whose files do."""
    standing = [passage for passage in equal if sources.locate(passage).status in ("current", "relocated")]
    best = standing[0] if standing else equal[0]
    return best, [passage for passage in standing if passage is not best]


def _score_fields(scores: Scores, rank: int) -> dict[str, float | None]:
    parts = {
        "score": scores.fused,
        "reranker": scores.reranker,
        "maxsim": scores.maxsim,
        "bm25": scores.bm25,
        "dense": scores.dense,
    }
    told = {name: None if values is None else round(float(values[rank]), 4) for name, values in parts.items()}
    return {name: None if value is None or math.isnan(value) else value for name, value in told.items()}


def align(
    snapshot: Snapshot, encoder: Encoder, query: Query, stored: StoredPassage, *, named: bool
) -> Alignment | None:
    """The alignment of a query with a passage: its stored token embeddings or, of a former passage, new ones.

    Tokens have names only where they are asked for (``named``).

    None where the stored rows are not those of the passage's tokens. Raises EncoderError for a former passage that is
    longer than the model now reads.
    """
    document = encoder.tokenize([stored.chunk.text])[0]
    if stored.chunk_id is None:
        values, scales = quantise(encoder.encode_documents([document])[0].token_embeddings)
        tokens = TokenMatrix(values, scales, np.array([0, len(values)], np.int64))
    else:
        tokens = snapshot.gather(snapshot.positions(np.array([stored.chunk_id], np.int64)))
    spans = encoder.kept_spans(document)
    if not len(spans) == len(tokens.values) > 0:
        return None
    names = encoder.kept_tokens(document) if named else ()
    return Alignment(numbers(similarities(query.token_embeddings, tokens)), spans, names)


def explained(snapshot: Snapshot, encoder: Encoder, query: str, stored: StoredPassage, passage: Passage) -> Passage:
    """The passage with the explanation of its match with a query, and how warm each of its tokens is."""
    encoded = encoder.encode_query(query)
    alignment = align(snapshot, encoder, encoded, stored, named=True)
    if alignment is None:
        raise IndexCorruptError(
            f"The token embeddings of passage {stored.passage_id} are not those of its text; {REPAIR}"
        )
    score = round(float(alignment.similarities.max(axis=1).mean()), 4)
    explanation = explain(passage, query, encoded, alignment, heat=True)
    return passage.model_copy(update={"maxsim": score, "explanation": explanation})
