"""The best candidates in the order of a cross-encoder, which reads each together with the query.

Knows scores, texts and the reranker; nothing of files or answers.
"""

from dataclasses import replace

import numpy as np

from colbert_mcp.encoder import Reranker
from colbert_mcp.retrieval.ranking import Scores, min_max, with_verbatim
from colbert_mcp.store import Snapshot


def reranked(snapshot: Snapshot, scores: Scores, query: str, reranker: Reranker | None, depth: int) -> Scores:
    """Scores with the first ``depth`` candidates in the order of the reranker, and the others behind them in theirs.

    Passages that hold exact texts of the query are raised as they are without a reranker: it is asked what a passage
    is about, and they were asked for by name. ``fused`` is the order still: .5 to 1 for what was read, half of what it
    was for the others. Raises EncoderError.
    """
    read = min(depth, len(scores.positions))
    if reranker is None or not read:
        return scores
    chunks = snapshot.chunks[scores.positions[:read]].tolist()
    passages = snapshot.reader.passages(chunks)
    texts = [passages[chunk].chunk.text for chunk in chunks]
    distinct = list(dict.fromkeys(texts))
    given = dict(zip(distinct, reranker.scores(query, distinct).tolist(), strict=True))
    told = np.full(len(scores.positions), np.nan)
    told[:read] = [given[text] for text in texts]
    best = with_verbatim(min_max(told[:read]), scores.verbatim[:read])
    fused = np.concatenate([(1 + best) / 2, scores.fused[read:] / 2])
    order = np.concatenate([np.argsort(-best, kind="stable"), np.arange(read, len(fused))])
    columns = {
        name: values[order]
        for name in ("positions", "maxsim", "bm25", "dense", "verbatim")
        if (values := getattr(scores, name)) is not None
    }
    return replace(
        scores,
        **columns,
        fused=fused[order].astype(np.float32),
        matches=scores.matches[:, order],
        reranker=told[order],
    )
