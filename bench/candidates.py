"""Ways to find the candidates of exact MaxSim: the share of the ten best that they hold, and their processor time.

    python bench/candidates.py DIR SOURCE... [--queries 128]

DIR and the SOURCEs are those of ``bench/search.py``, which has made the index. Recall is of the exact ten best (see
there) among the candidates; times are on one thread, in one run, of finding them alone. Pooled vectors of other numbers
than the index holds are made here. *int8* are the product's kernels, *float32* numpy's.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from search import TOP, Exhaustive, Floats, Recording, recall, timed, write_sources
from threadpoolctl import threadpool_limits

from colbert_mcp.config import Config, IndexConfig
from colbert_mcp.encoder import Query
from colbert_mcp.engine import Engine
from colbert_mcp.maxsim import pool, quantise
from colbert_mcp.retrieval.ranking import Question, scanned
from colbert_mcp.scoring import NumpyScorer, PooledMatrix, Scorer

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Find = Callable[[Query], Ints]


def best(scores: Floats, count: int) -> Ints:
    """The places of the best, in no order."""
    found: Ints = np.argpartition(-scores, min(count, len(scores)) - 1)[:count]
    return found


def pooled_to(exhaustive: Exhaustive, k: int) -> PooledMatrix:
    """Every passage's tokens as k vectors, quantised."""
    edges = zip(exhaustive.offsets, exhaustive.offsets[1:], strict=False)
    values, scales = quantise(np.concatenate([pool(exhaustive.vectors[start:end], k) for start, end in edges]))
    return PooledMatrix(values.reshape(-1, k, values.shape[1]), scales.reshape(-1, k))


def means_of(exhaustive: Exhaustive) -> PooledMatrix:
    """The mean of every passage's tokens, quantised."""
    sums = np.add.reduceat(exhaustive.vectors, exhaustive.offsets[:-1], axis=0)
    values, scales = quantise(sums / np.diff(exhaustive.offsets)[:, None].astype(np.float32))
    return PooledMatrix(values[:, None], scales[:, None])


def scan(query: Query, scorer: Scorer, pooled: PooledMatrix, count: int) -> Ints:
    """The best by all pooled vectors."""
    return best(scorer.best_pooled_matches(query.token_embeddings, pooled).mean(axis=0), count)


def after(first: Callable[[Query], Floats], scorer: Scorer, pooled: PooledMatrix, kept: int, count: int) -> Find:
    """The best by pooled vectors among the ``kept`` best by something cheaper."""

    def find(query: Query) -> Ints:
        near = best(first(query), kept)
        return near[best(scorer.best_pooled_matches(query.token_embeddings, pooled, near).mean(axis=0), count)]

    return find


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("sources", type=Path, nargs="+", metavar="SOURCE")
    parser.add_argument("--queries", type=int, default=128)
    options = parser.parse_args()
    recording = Recording(options.folder)
    asked = write_sources(options.sources, options.folder / "files", options.queries)
    queries = [recording.encode_query(query) for query in asked]
    config = Config(index=IndexConfig(path=str(options.folder / "index")))
    engine = Engine.open(config, create_missing=False, encoder=recording)
    torch.set_num_threads(1)
    int8, plain = recording.scorer, NumpyScorer()
    with engine._store.snapshot() as snapshot, threadpool_limits(1):
        exhaustive = Exhaustive(options.folder, snapshot, recording)
        every = np.arange(len(snapshot))
        dense = snapshot.dense(every)
        exact = [exhaustive.scores(query.token_embeddings) for query in queries]
        of = {k: pooled_to(exhaustive, k) for k in (8, 16, 32)}
        means = means_of(exhaustive)

        def by_mean(query: Query) -> Floats:
            mean = query.token_embeddings.mean(axis=0, keepdims=True)
            found: Floats = int8.best_pooled_matches(mean, means)[0]
            return found

        def by_dense(query: Query) -> Floats:
            found: Floats = dense @ query.dense
            return found

        def chroma(query: Query, count: int) -> Ints:
            ids = engine._store.vectors.nearest(query.dense, count)
            return snapshot.positions(np.array(snapshot.reader.chunks_of(ids), np.int64))

        count = max(config.search.min_candidates, int(config.search.candidate_growth * np.sqrt(len(every))))
        print(f"{len(every):,} passages, {len(queries)} queries, {count} candidates unless said otherwise")
        ways: dict[str, Find] = {}
        for k, pooled in of.items():
            ways[f"pooled-{k}, float32"] = partial(scan, scorer=plain, pooled=pooled, count=count)
            ways[f"pooled-{k}, int8"] = partial(scan, scorer=int8, pooled=pooled, count=count)
        ways["pooled-16, int8, twice as many"] = partial(scan, scorer=int8, pooled=of[16], count=2 * count)
        ways["means alone"] = lambda query: best(by_mean(query), count)
        ways["dense vectors alone"] = lambda query: best(by_dense(query), count)
        ways["Chroma alone"] = partial(chroma, count=count)
        for times in (5, 10, 20):
            ways[f"means, {times} times as many pooled-16"] = after(by_mean, int8, of[16], times * count, count)
        ways["dense, 10 times as many pooled-16"] = after(by_dense, int8, of[16], 10 * count, count)
        ways["means, 10 times as many pooled-8"] = after(by_mean, int8, of[8], 10 * count, count)
        ways["means, 10 times as many pooled-32"] = after(by_mean, int8, of[32], 10 * count, count)
        ways["what a search does"] = lambda query: scanned(snapshot, Question(query, int8), every, config.search)
        for name, find in ways.items():
            found = [timed(partial(find, query)) for query in queries]
            held = [_held(scores, places) for scores, (places, _) in zip(exact, found, strict=True)]
            spent = statistics.median(milliseconds for _, milliseconds in found)
            print(f"{name:40} recall@{TOP} {statistics.fmean(held):.4f}  {spent:7.2f} ms", flush=True)
    engine.close()


def _held(scores: Floats, places: Ints) -> float:
    return recall(scores, places[np.argsort(-scores[places])].tolist())


if __name__ == "__main__":
    main()
