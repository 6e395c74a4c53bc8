"""A question to its answer: ranked, cited, judged for weak evidence, and kept within its budget of tokens."""

from collections.abc import Sequence

from colbert_mcp.citations import Sources
from colbert_mcp.config import SearchConfig
from colbert_mcp.encoder import Encoder, Query, Reranker
from colbert_mcp.evidence import META_KEY, background, cover, read_calibration, telling_words
from colbert_mcp.results import SearchOutput
from colbert_mcp.retrieval.budget import within_budget
from colbert_mcp.retrieval.passages import cited_passages
from colbert_mcp.retrieval.ranking import Mask, Question, Scores, allowed_by, rank
from colbert_mcp.retrieval.request import Request
from colbert_mcp.retrieval.reranking import reranked
from colbert_mcp.store import Snapshot, Store

_LEFT_OUT_CHARACTERS = 400
_SHOWN_PARTS, _SHOWN_CHARACTERS = 10, 40
_WEAK = (
    "Weak evidence: the best passage matches no better than passages of this index do for unrelated questions; it may "
    "not hold the answer."
)


def search(
    store: Store,
    encoder: Encoder | None,
    reranker: Reranker | None,
    request: Request,
    config: SearchConfig,
    max_bytes: int,
) -> SearchOutput:
    """Answer a request from the present generation; ``encoder`` may be None for ``mode="lexical"``."""
    query = encoder.encode_query(request.query) if encoder is not None else None
    with store.snapshot() as snapshot:
        allowed = allowed_by(snapshot, request)
        question = Question(query, encoder.scorer) if encoder is not None and query is not None else None
        scores = rank(store, snapshot, question, request, config, allowed)
        scores = reranked(snapshot, scores, request.query, reranker, config.reranker_depth)
        sources = Sources(snapshot.reader, max_bytes)
        ranks, results = cited_passages(snapshot, encoder, query, scores, allowed, request, sources)
        weak = _is_weak(snapshot, scores)
        covered = None
        if request.explain and question is not None and results:
            words = telling_words(request.query, question.query)
            usual = background(question.query, question.scorer, snapshot, allowed)
            covered = cover(words, scores.matches[:, ranks], usual, [passage.text for passage in results])
        notices = _notices(snapshot, query, allowed, request, scores, bool(results))
        if reranker is not None and (unread := reranker.unread(request.query)):
            notices.append(_left_out(unread, "reranker"))
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


def _is_weak(snapshot: Snapshot, scores: Scores) -> bool | None:
    """Whether the best candidates match no better than for unrelated questions; None where that is not known."""
    calibration = read_calibration(snapshot.reader.meta(META_KEY))
    if calibration is None or scores.evidence is None:
        return None
    return scores.evidence <= calibration.threshold


def _notices(
    snapshot: Snapshot, query: Query | None, allowed: Mask, request: Request, scores: Scores, found: bool
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
    if found and (missing := [text.text for text in scores.missing if not text.is_plain]):
        which = "No passage" if allowed.all() else "No passage that the filters let through"
        notices.append(f"{which} holds {_listed(missing)} as it stands in the query.")
    if query is not None and query.unknown and len(snapshot):
        notices.append(_not_known(query.unknown))
    if query is not None and query.unread:
        notices.append(_left_out(query.unread, "model"))
    if request.explain and query is None:
        notices.append("The mode lexical matches words without the model, so there is nothing to explain.")
    return notices


def _not_known(parts: Sequence[str]) -> str:
    """What is told of words that the model has no tokens for."""
    return (
        f"The model does not know {_listed(parts)}: such words count only where a passage holds them as they are "
        "(modes hybrid and lexical)."
    )


def _listed(parts: Sequence[str]) -> str:
    shown = ", ".join(f"“{part[:_SHOWN_CHARACTERS]}”" for part in parts[:_SHOWN_PARTS])
    return f"{shown} and others" if len(parts) > _SHOWN_PARTS else shown


def _left_out(unread: str, reader: str) -> str:
    """What of a query was not used: how many words, and with which they begin and end."""
    words = unread.split()
    shown = " ".join(words)
    if len(shown) > _LEFT_OUT_CHARACTERS:
        half = _LEFT_OUT_CHARACTERS // 2
        # Whole words, if there are any in so few characters.
        beginning, end = shown[:half].rpartition(" "), shown[-half:].partition(" ")
        shown = f"{beginning[0] or beginning[2]} … {end[2] or end[0]}"
    count = "word was" if len(words) == 1 else f"{len(words)} words were"
    return f"The query is longer than the {reader} reads: its last {count} not used, “{shown}”."
