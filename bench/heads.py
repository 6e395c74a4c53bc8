"""Heads of the built-in encoder and compressions of its tokens: how well they find, and the bytes a token takes.

    python bench/heads.py DATASET... --fit DATASET... [--queries 200] [--documents 1000] [--keep DIR]

Each DATASET is a labelled set in BEIR's layout: questions, what is relevant to them, and other documents up to
``--documents``. The product cuts these, encodes them once and indexes them, with the states before the head (384
dimensions, length 1, float16) for token embeddings; every head and compression is then applied to these. Compressed
tokens are computed as they would be read back; queries stay as they are. What is fitted sees 300 documents of each
``--fit`` set, and no question.

Heads: *orthogonal* by seed; *PCA*, second moments that are not centred; *whitened*, the same with each direction
divided by its deviation; *root*, by the root of that; *none*, all states. All but the built-in one are turned at
random, which changes no product and makes coordinates alike, as the compressions want them. Compressions, all with a
float16 scale a token: *int8*, the product's; *int4*, the same in steps of a seventh of the peak; *N-bit*, the 2^N
levels that fit a Gaussian best (Lloyd 1982, Max 1960).

Prints the means over the sets of nDCG@10, by exhaustive MaxSim and by the product's hybrid, with their differences to
the built-in head in int8 (95 % intervals of the bootstrap over questions); on which set each loses most; and what is
among the ten best passages by MaxSim of those in float32, by the same head (*kept*) and by all states (*of 384*).
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from context import difference, folded, ordered
from quality import indexed
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from colbert_mcp.config import Config, SearchConfig, StoreConfig
from colbert_mcp.encoder import load_encoder
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.encoder.heads import orthogonal_head
from colbert_mcp.lexical import lexical_query
from colbert_mcp.maxsim import TokenMatrix, quantise
from colbert_mcp.measuring.asking import TOP, candidate_recall
from colbert_mcp.measuring.corpus import workplace
from colbert_mcp.measuring.labelled import read_labelled
from colbert_mcp.measuring.metrics import METRICS, per_query
from colbert_mcp.measuring.reading import records
from colbert_mcp.retrieval.ranking import _lexical, _verbatim

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
HIDDEN, FITTED, BLOCK, SEEN = 384, 300, 2_048, 500
BUILTIN, STATES = ("built in, 128", "int8"), "none, 384"
CONFIG = Config(store=StoreConfig(chroma=False, embedding_format="float16"))
PLAN = {
    STATES: ("int8", "4-bit", "3-bit", "2-bit", "1-bit"),
    "built in, 128": ("int8", "int4", "4-bit", "3-bit", "2-bit", "1-bit"),
    **dict.fromkeys(("PCA, 128", "whitened, 128"), ("int8", "4-bit")),
    **dict.fromkeys(("root, 128", "orthogonal 7, 128", "orthogonal 1, 128"), ("int8",)),
    "root, 256": ("4-bit", "3-bit", "2-bit", "1-bit"),
    **dict.fromkeys(("orthogonal 20, 256", "PCA, 256", "root, 192", "orthogonal 20, 192", "PCA, 192"), ("4-bit",)),
    **dict.fromkeys(("orthogonal 20, 96", "PCA, 96", "orthogonal 20, 64", "PCA, 64"), ("int8",)),
}
POWERS = {"PCA": 0.0, "root": 0.25, "whitened": 0.5}


@dataclass(frozen=True, slots=True)
class Asked:
    """A set: states of its passages and queries (rows of length 1), and what else their ranking needs."""

    tokens: TokenMatrix
    dense: Floats
    names: list[list[str]]
    query_states: list[Floats]
    query_dense: list[Floats]
    counted: list[tuple[dict[int, float], dict[int, float]]]
    relevance: list[dict[str, int]]


def without_head(encoder: ColBERTEncoder) -> Floats:
    """Take the head off, so that token embeddings are the states before it; float32 [d, HIDDEN] is returned."""
    head = encoder._projections.pop()
    digest = f"{encoder.fingerprint.digest} without its head"
    encoder.fingerprint = replace(encoder.fingerprint, dimension=head.in_features, digest=digest)
    return head.linear.weight.detach().numpy()


def states_of(encoder: ColBERTEncoder, dataset: Path, folder: Path) -> Floats:
    """The states of FITTED documents, float16 [t, HIDDEN]."""
    found = {str(record["_id"]): str(record["text"]) for _, record in records(dataset / "corpus.jsonl")}
    drawn = random.Random(0).sample(sorted(found), min(FITTED, len(found)))
    with indexed(CONFIG, encoder, {name: found[name] for name in drawn}, folder) as (_, snapshot, names):
        return snapshot.gather(np.arange(len(names))).values


def asked_of(encoder: ColBERTEncoder, dataset: Path, queries: int, documents: int, folder: Path) -> Asked:
    """A labelled set, encoded."""
    labelled = read_labelled(dataset, queries=queries, documents=documents)
    texts = list(labelled.queries.values())
    with indexed(CONFIG, encoder, labelled.documents, folder) as (_, snapshot, names):
        every, counted = np.ones(len(names), np.bool_), []
        for text in texts:
            query = lexical_query(text)
            lexical = _lexical(snapshot, query, every)
            counted.append((lexical, _verbatim(snapshot, query, lexical, every)))
        encoded = encoder.encode_queries(texts)
        return Asked(
            snapshot.gather(np.arange(len(names))),
            snapshot.dense(np.arange(len(names))),
            [[name] for name in names],
            [query.token_embeddings for query in encoded],
            [query.dense for query in encoded],
            counted,
            list(labelled.relevance.values()),
        )


def head_of(name: str, builtin: Floats, moments: Numbers) -> Floats:
    """A head of PLAN, float32 [d, HIDDEN]; ``moments``: the second ones of states, [HIDDEN, HIDDEN]."""
    kind, _, dimension = name.rpartition(", ")
    d = int(dimension)
    if kind == "built in":
        return builtin
    if kind in POWERS:
        variances, directions = (values[..., : -d - 1 : -1] for values in np.linalg.eigh(moments))
        return (orthogonal_head(d, d) @ (directions / variances ** POWERS[kind]).T).astype(np.float32)
    return orthogonal_head(HIDDEN, d, int(kind.partition(" ")[2] or 0)).astype(np.float32)


def gaussian_levels(bits: int) -> Floats:
    """The 2^bits levels that lose least of numbers of a Gaussian, in the mean of squares; in order."""
    levels = norm.ppf((np.arange(2**bits) + 0.5) / 2**bits)
    for _ in range(1_000):
        edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        levels = -np.diff(norm.pdf(edges)) / np.diff(norm.cdf(edges))
    return levels.astype(np.float32)


def in_int8(rows: Floats) -> Floats:
    """Rows as the product stores them."""
    values, scales = quantise(rows)
    return values * scales.astype(np.float32)[:, None]


def in_int4(rows: Floats) -> Floats:
    """Rows in fifteen even steps, the peak in the last."""
    scales = (np.abs(rows).max(axis=1, keepdims=True) / 7).astype(np.float16).astype(np.float32)
    return np.clip(np.rint(rows / scales), -7, 7) * scales


def on_levels(rows: Floats, levels: Floats) -> Floats:
    """Rows of length 1 on levels of a Gaussian, with the scale that loses least."""
    values = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, rows * np.float32(np.sqrt(rows.shape[1])))]
    scales = np.einsum("td,td->t", rows, values) / np.einsum("td,td->t", values, values)
    return values * scales.astype(np.float16).astype(np.float32)[:, None]


COMPRESSIONS: dict[str, tuple[int, Callable[[Floats], Floats]]] = {
    "float32": (32, lambda rows: rows),
    "int8": (8, in_int8),
    "int4": (4, in_int4),
    **{f"{n}-bit": (n, partial(on_levels, levels=gaussian_levels(n))) for n in (4, 3, 2, 1)},
}


def projected(states: npt.NDArray[np.floating], head: Floats) -> Floats:
    """States under a head, float32 [t, d], of length 1."""
    rows: Floats = states.astype(np.float32) @ head.T
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def maxsims(asked: Asked, head: Floats, compressions: Sequence[str]) -> Floats:
    """MaxSim of every query with every passage; float32 [compressions, queries, passages]."""
    queries = projected(np.concatenate(asked.query_states), head)
    lengths = np.array([len(states) for states in asked.query_states])
    matches = np.empty((len(compressions), len(queries), len(asked.names)), np.float32)
    for first, end, chunks in asked.tokens.blocks(BLOCK):
        rows = projected(asked.tokens.values[first:end], head)
        for number, name in enumerate(compressions):
            products = queries @ COMPRESSIONS[name][1](rows).T
            matches[number][:, chunks] = np.maximum.reduceat(products, asked.tokens.offsets[chunks] - first, axis=1)
    sums = np.add.reduceat(matches, np.cumsum(lengths) - lengths, axis=1)
    return sums / lengths[:, None].astype(np.float32)


def judged(asked: Asked, scores: Floats, *references: Floats) -> Numbers:
    """nDCG@10 by MaxSim and by the hybrid, and what is kept of the best by each reference; float64 [4, queries]."""
    rankings, kept = ([], []), []
    for maxsim, query, counted, *exact in zip(scores, asked.query_dense, asked.counted, *references, strict=True):
        near, _, fused = ordered(maxsim, asked.dense @ query, *counted, SearchConfig(), None)
        for ranking, order in zip(rankings, (near, fused), strict=True):
            ranking.append(folded(order[:SEEN], asked.names))
        kept.append([candidate_recall(one, near[:TOP]) for one in exact])
    at = METRICS.index("ndcg_at_10")
    return np.array([*(per_query(ranking, asked.relevance)[:, at] for ranking in rankings), *zip(*kept, strict=True)])


def report(tables: dict[str, dict[tuple[str, str], Numbers]]) -> None:
    """A line for each head and compression; ``tables``: what was ``judged``, by set."""
    print(f"{'head':29}{'bytes':>6}  {'MaxSim':32}{'hybrid':32}{'kept':8}{'of 384':8}least by MaxSim; by the hybrid")
    for key in next(iter(tables.values())):
        head, compression = key
        size = int(head.rpartition(", ")[2]) * COMPRESSIONS[compression][0] // 8 + 2 * (compression != "float32")
        line, least = f"{head:20}{compression:9}{size:6}  ", []
        for measure in range(2):
            over = {name: table[key][measure] - table[BUILTIN][measure] for name, table in tables.items()}
            mean = np.mean([table[key][measure].mean() for table in tables.values()])
            worst = min(over, key=lambda name: over[name].mean())
            line += f"{mean:.4f} {difference(list(over.values())):25}"
            least.append(f"{worst} {difference([over[worst]])}")
        kept = np.mean([table[key][2:].mean(axis=1) for table in tables.values()], axis=0)
        print(f"{line}{kept[0]:.4f}  {kept[1]:.4f}  {'; '.join(least)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    parser.add_argument("--fit", type=Path, nargs="+", required=True, metavar="DATASET")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--keep", type=Path, help="a folder for documents and states, used again by the next call")
    options, tables = parser.parse_args(), {}
    torch.set_num_threads(1)
    encoder = load_encoder(CONFIG.model)
    builtin, moments = without_head(encoder), np.zeros((HIDDEN, HIDDEN))
    with workplace(options.keep) as folder, threadpool_limits(1):
        for dataset in options.fit:
            states = states_of(encoder, dataset, folder / dataset.name).astype(np.float32)
            moments += states.T @ states / len(states)
        heads = {name: head_of(name, builtin, moments / len(options.fit)) for name in PLAN}
        for dataset in options.datasets:
            began = time.process_time()
            asked = asked_of(encoder, dataset, options.queries, options.documents, folder / dataset.name)
            table = tables[dataset.name] = {}
            for head, compressions in PLAN.items():
                names = ("float32", *compressions)
                scores = maxsims(asked, heads[head], names)
                states = scores[0] if head == STATES else states
                for name, own in zip(names, scores, strict=True):
                    table[head, name] = judged(asked, own, scores[0], states)
            print(f"{dataset.name}: {len(asked.counted)} questions, {len(asked.names):,} passages, ", end="")
            print(f"{len(asked.tokens.values):,} tokens, {time.process_time() - began:.0f} s", flush=True)
    report(tables)


if __name__ == "__main__":
    main()
