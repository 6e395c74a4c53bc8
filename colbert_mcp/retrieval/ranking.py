"""Which passages, in which order: filters, candidates, exact scores and their fusion.

Candidates are the best of a scan, of BM25 and of Chroma; filters apply before anything is scored. The scan goes from
cheap to exact: the means of the chunks' tokens, then the pooled vectors of the best by these. Exact MaxSim over the
candidates' tokens is fused with BM25 and the dense score by a weighted sum of values normalised over the candidates.
Knows snapshots and query embeddings; nothing of texts, files or answers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from colbert_mcp.config import SearchConfig
from colbert_mcp.documents import is_within, path_matches
from colbert_mcp.encoder import Query
from colbert_mcp.errors import REPAIR, IndexCorruptError
from colbert_mcp.evidence import strength, telling_words
from colbert_mcp.lexical import ExactText, LexicalQuery, lexical_query
from colbert_mcp.retrieval.request import MAX_LIMIT, Request
from colbert_mcp.scoring import Scorer
from colbert_mcp.store import POOLED, Snapshot, Store
from colbert_mcp.verbatim import held

_LEXICAL_DEPTH = 1000
_SCANNED = 10  # chunks whose pooled vectors are scanned, for each candidate
_LOST = 0.8  # of the spread of pooled scores, for every e-fold of tokens beyond the pooled vectors
_NEAREST = 200
_WORDS = 3
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Question:
    """An encoded query, and what scores it."""

    query: Query
    scorer: Scorer


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of the candidates at ``positions``, best first; a part is None where the mode does not use it.

    ``matches``: float32 [q, n], the best similarity of each token of the query with each candidate; q is 0 without a
    model. ``verbatim``: float32 [n], what was added to each for holding exact texts of the query, 0 for none. ``exact``
    are these texts, ``missing`` those that no passage holds; none in the mode ``semantic``.
    ``evidence``: see ``evidence.strength``; None without a model. ``reranker``: float64 [n], what a cross-encoder gives
    those it has read, NaN for the others; None without one.
    """

    positions: Ints
    fused: Floats
    maxsim: Floats | None
    bm25: Floats | None
    dense: Floats | None
    matches: Floats
    verbatim: Floats
    evidence: float | None = None
    exact: tuple[ExactText, ...] = ()
    missing: tuple[ExactText, ...] = ()
    reranker: npt.NDArray[np.float64] | None = None


def allowed_by(snapshot: Snapshot, request: Request) -> Mask:
    """By position: whether the filters let a chunk take part."""
    if not (request.paths or request.types or request.scope):
        return np.ones(len(snapshot), np.bool_)
    roots = [root.path for root in snapshot.reader.roots()]
    types = {kind.lower().removeprefix(".") for kind in request.types}
    documents = []
    for document in snapshot.reader.documents():
        record = document.record
        suffix = record.path.rpartition(b".")[2].decode("utf-8", "replace").lower()
        if (
            (not types or record.format in types or suffix in types)
            and (not request.scope or any(is_within(record.path, root) for root in request.scope))
            and (not request.paths or path_matches(list(request.paths), record.path, roots))
        ):
            documents.append(document.id)
    return np.isin(snapshot.documents, np.array(documents, np.int64))


def rank(
    store: Store,
    snapshot: Snapshot,
    question: Question | None,
    request: Request,
    config: SearchConfig,
    allowed: Mask,
) -> Scores:
    """The candidates among the chunks that are ``allowed``, scored and in order; no ``question`` without a model."""
    asked = lexical_query(request.query) if request.mode != "semantic" else LexicalQuery((), ())
    lexical = _lexical(snapshot, asked, allowed)
    verbatim, missing = _verbatim(snapshot, asked, lexical, allowed)
    if question is None or not allowed.any():
        return replace(_by_words(lexical, verbatim), exact=asked.exact, missing=missing)
    query = question.query
    best = scanned(snapshot, question, np.flatnonzero(allowed), config)
    # What ranks highest by MaxSim alone the scan finds alone; Chroma would add a fifth to its time.
    nearest = np.zeros(0, np.int64) if request.mode == "semantic" else _nearest(store, snapshot, query, allowed)
    positions = np.unique(np.concatenate([best, np.array([*lexical, *verbatim], np.int64), nearest]))
    matches = numbers(snapshot.best_matches(question.scorer, query.token_embeddings, positions))
    exact = matches.mean(axis=0)
    dense = numbers(snapshot.dense(positions) @ query.dense)
    evidence = strength(telling_words(request.query, query), matches, dense)
    if request.mode == "semantic":
        order = np.argsort(-exact, kind="stable")
        clipped, none = np.clip(exact[order], 0.0, 1.0), np.zeros(len(order), np.float32)
        return Scores(positions[order], clipped, exact[order], None, None, matches[:, order], none, evidence)
    bm25 = np.array([lexical.get(int(p), 0.0) for p in positions], np.float32)
    added = _added(positions, verbatim)
    fused = with_verbatim(_fused(exact, bm25, dense, config, len(snapshot)), added)
    order = np.lexsort((positions, -exact, -fused))
    parts = {"fused": fused, "maxsim": exact, "bm25": bm25, "dense": dense, "verbatim": added}
    best_first = {name: values[order] for name, values in parts.items()}
    return Scores(
        positions[order], **best_first, matches=matches[:, order], evidence=evidence, exact=asked.exact, missing=missing
    )


def scanned(snapshot: Snapshot, question: Question, positions: Ints, config: SearchConfig) -> Ints:
    """The candidates among chunks, by means and pooled vectors: ``min_candidates`` or, if more, ``candidate_growth``
    times their root. ``positions``: int64 [n], ascending; returned are some of them, in no order.

    Equal passages are one candidate, with up to as many copies again beside all of them, so that they hide no others.
    """
    query, scorer = question.query.token_embeddings, question.scorer
    texts = snapshot.texts(positions)
    is_first = np.concatenate([[True], texts[1:] != texts[:-1]])
    firsts, copies = positions[is_first], positions[~is_first]
    positions = firsts
    wanted = max(config.min_candidates, int(config.candidate_growth * np.sqrt(len(positions))))
    if len(positions) > _SCANNED * wanted:
        positions = _best(positions, snapshot.mean_scores(scorer, query, positions), _SCANNED * wanted)
    if len(positions) > wanted:
        scores = numbers(snapshot.pooled_matches(scorer, query, positions).mean(axis=0))
        # Of more tokens more is lost in as many pooled vectors.
        lost = np.log(np.maximum(1, snapshot.token_counts(positions) / POOLED)).astype(np.float32)
        positions = _best(positions, scores + _LOST * scores.std() * lost, wanted)
    copies = copies[np.isin(firsts[np.searchsorted(firsts, copies) - 1], positions)]
    return np.concatenate([positions, copies[:wanted]])


def _best(positions: Ints, scores: Floats, count: int) -> Ints:
    return positions[np.argpartition(-numbers(scores), count - 1)[:count]]


def _by_words(lexical: dict[int, float], verbatim: dict[int, float]) -> Scores:
    """Scores of a search without the model."""
    positions = np.array(sorted({*lexical, *verbatim}), np.int64)
    bm25 = np.array([lexical.get(int(p), 0.0) for p in positions], np.float32)
    added = _added(positions, verbatim)
    fused = with_verbatim(_share_of_best(bm25), added)
    order = np.lexsort((positions, -bm25, -fused))
    matches = np.zeros((0, len(positions)), np.float32)
    return Scores(positions[order], fused[order], None, bm25[order], None, matches, added[order])


def _lexical(snapshot: Snapshot, asked: LexicalQuery, allowed: Mask) -> dict[int, float]:
    """{position: BM25} of the best allowed chunks that share a word with the query; copies only beside all others."""
    if not asked.terms:
        return {}
    for most in (_LEXICAL_DEPTH, None) if allowed.all() else (None,):
        found = np.array(snapshot.reader.bm25(asked.terms, most), np.float64).reshape(-1, 2)
        positions = _positions(snapshot, found[:, 0].astype(np.int64))
        keep = allowed[positions]
        positions, scores = positions[keep], found[keep, 1]
        _, firsts = np.unique(snapshot.texts(positions), return_index=True)
        if len(found) != most or len(firsts) >= MAX_LIMIT:
            break
    is_copy = np.ones(len(positions), np.bool_)
    is_copy[firsts] = False
    order = np.argsort(is_copy, kind="stable")[:_LEXICAL_DEPTH]
    return dict(zip(positions[order].tolist(), scores[order].tolist(), strict=True))


def _verbatim(
    snapshot: Snapshot, asked: LexicalQuery, lexical: dict[int, float], allowed: Mask
) -> tuple[dict[int, float], tuple[ExactText, ...]]:
    """{position: weight} of the allowed chunks that hold a quoted phrase, name or code of the query as it is; and those
    that none holds.
    """
    if not asked.exact:
        return {}, ()
    scores = {int(snapshot.chunks[position]): score for position, score in lexical.items()}
    found = held(snapshot.reader, asked.exact, scores, partial(_allowed_chunks, snapshot, allowed), len(snapshot))
    positions = _positions(snapshot, np.array(list(found.weights), np.int64))
    return dict(zip(positions.tolist(), found.weights.values(), strict=True)), found.missing


def _allowed_chunks(snapshot: Snapshot, allowed: Mask, chunks: Sequence[int]) -> list[int]:
    numbers = np.array(chunks, np.int64)
    kept: list[int] = numbers[allowed[_positions(snapshot, numbers)]].tolist()
    return kept


def _positions(snapshot: Snapshot, chunks: Ints) -> Ints:
    """The positions of chunks that FTS5 has named."""
    positions = snapshot.positions(chunks)
    if len(positions) != len(chunks):
        raise IndexCorruptError(f"The catalogue is damaged: its index of words names passages that it lacks; {REPAIR}")
    return positions


def _fused(maxsim: Floats, bm25: Floats, dense: Floats, config: SearchConfig, passages: int) -> Floats:
    """The weighted mean of three scores of candidates (float32 [n] each), normalised over these; float32 [n], 0…1.

    BM25 counts as far as the query's words tell anything: in full where the best passage gets what ``_WORDS`` words
    give that one passage each has, of all the ``passages`` of the index. What it counts less, the dense score counts
    more: where words are few, common or in no passage, the meaning of the whole decides.
    """
    tells = min(1.0, float(bm25.max(initial=0.0)) / (_WORDS * math.log1p(passages)))
    weights = np.array(
        [config.maxsim_weight, tells * config.bm25_weight, (2 - tells) * config.dense_weight], np.float32
    )
    parts = np.stack([min_max(maxsim), _share_of_best(bm25), min_max(dense)])
    fused: Floats = weights @ parts / max(float(weights.sum()), 1e-9)
    return fused


def _added(positions: Ints, verbatim: dict[int, float]) -> Floats:
    """What each position gets for holding the query's exact texts; float32 [n]."""
    return np.array([verbatim.get(int(p), 0.0) for p in positions], np.float32)


def with_verbatim(fused: Floats, added: Floats) -> Floats:
    """Scores (0…1), with what passages get for holding the query's exact texts added; still 0…1."""
    raised: Floats = (fused + added) / (1 + added.max(initial=0.0))
    return raised


def _nearest(store: Store, snapshot: Snapshot, query: Query, allowed: Mask) -> Ints:
    """Positions of Chroma's nearest records. Its own filters are slow, so a filtered search does without it."""
    if not allowed.all():
        return np.zeros(0, np.int64)
    ids = store.vectors.nearest(query.dense, _NEAREST)
    return snapshot.positions(np.array(snapshot.reader.chunks_of(ids), np.int64))


def numbers(scores: Floats) -> Floats:
    """Scores as they are (-inf: not scored); raises IndexCorruptError where embeddings give no number at all."""
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise IndexCorruptError(f"The stored token embeddings are damaged: they give no scores; {REPAIR}")
    return scores


def min_max(values: Floats) -> Floats:
    """Scores as shares of the way from the least to the best, 0…1; all 1 where they are equal."""
    spread = float(np.ptp(values)) if len(values) else 0.0
    return (values - values.min()) / spread if spread > 0 else np.ones_like(values)


def _share_of_best(values: Floats) -> Floats:
    best = float(values.max(initial=0.0))
    return values / best if best > 0 else np.zeros_like(values)
