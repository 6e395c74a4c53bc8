"""What a passage is encoded with: whether its headings or its neighbours before the encoder help to find it.

    python bench/context.py DATA_DIR [TREE ...] --keep DIR [--ways NAME ...] [--sets NAME ...]

DATA_DIR holds labelled sets in BEIR's layout. Their documents become Markdown files with the structure that the sets
know (``context_sets``). The product indexes them; each passage is then encoded again in every way, and only the rows of
its own tokens and of the special ones are kept, or with *rows* those of its context too. The dense vector is the mean
over the same rows.

Rankings are over all passages: MaxSim and dense vectors alone, and the product's fusion of both with BM25 (which counts
headings whatever the encoder sees). A TREE has no labels, so its questions are sentences: a sentence is to find the
other passages of its section, without its own; none that shares a word with its headings is asked. Differences to
``now`` have 95 % intervals of the bootstrap over queries, for two halves of these: choose by one, report the other.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from context_sets import Passages, Question, Source, articles, cloze, long_files, pages, shortened, tree

from colbert_mcp.config import Config, IndexConfig, SearchConfig, StoreConfig
from colbert_mcp.encoder import load_encoder
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.engine import Engine
from colbert_mcp.lexical import lexical_query
from colbert_mcp.measuring.metrics import per_query
from colbert_mcp.retrieval.ranking import _added, _fused, _lexical, _verbatim, with_verbatim
from colbert_mcp.sentences import sentence_spans
from colbert_mcp.store import Snapshot, Store

SETS: dict[str, Callable[[Path], Source]] = {
    "cookbook-docs": pages,
    "chroma-spans-docs": long_files,
    "squad11-dev": articles,
    "medquad-test": articles,
}
CANDIDATES, SIDE, WINDOW, PASS_TOKENS, RESAMPLES = 400, 32, 510, 2_048, 2_000
MEASURES, METRIC_NAMES = ("MaxSim", "dense", "hybrid"), ("nDCG@10", "recall@10")
Array = np.ndarray
Ids = np.ndarray


@dataclass(frozen=True, slots=True)
class Input:
    """What the model is given (int64 [t]), and the rows of each passage that is in it."""

    ids: Ids
    rows: list[tuple[int, Ids]]


Context = tuple[Ids, Ids]  # tokens before and after a passage's own


def around(encoder: ColBERTEncoder, passages: Passages, index: int, *, titles: str, side: int) -> Context:
    """The ``missing`` or ``all`` titles of a passage, and up to ``side`` tokens of the sentence on either side."""
    chunk, text = passages.chunks[index], passages.texts[passages.files[index]]
    wanted = [t for t in chunk.headings if titles == "all" or (titles == "missing" and t not in chunk.text)]
    start, end = chunk.span.char_start, chunk.span.char_end
    before, after = text[max(0, start - 12 * side) : start], text[end : end + 12 * side]
    if side == SIDE:  # else as much as there is room for
        before, after = (
            "".join(before[a:b] for a, b in sentence_spans(before)[-1:]),
            "".join(after[a:b] for a, b in sentence_spans(after)[:1]),
        )
    heading, left, right = (t.ids for t in encoder.tokenize([". ".join(wanted) + "." if wanted else "", before, after]))
    return np.concatenate([heading[-SIDE:], left[-side:] if side else left[:0]]), right[:side]


def alone(encoder: ColBERTEncoder, passages: Passages, rows: str, context: Callable[..., Context]) -> list[Input]:
    """An input for each passage; rows of its ``own`` tokens and the special ones, or of ``all``."""
    own = [tokens.ids for tokens in encoder.tokenize([chunk.text for chunk in passages.chunks])]
    lead, tail = encoder._tokens.lead, encoder._tokens.tail
    inputs = []
    for index, ids in enumerate(own):
        before, after = context(encoder, passages, index)
        whole = np.concatenate([lead, before, ids, after, tail])
        kept = np.ones(len(whole), np.bool_)
        if rows == "own":
            kept[len(lead) : len(lead) + len(before)] = False
            kept[len(whole) - len(tail) - len(after) : len(whole) - len(tail)] = False
        inputs.append(Input(whole, [(index, np.flatnonzero(kept))]))
    return inputs


def late(encoder: ColBERTEncoder, passages: Passages) -> list[Input]:
    """Passages of a file that follow each other, as many as the window takes; special tokens are everybody's."""
    own = [tokens.ids for tokens in encoder.tokenize([chunk.text for chunk in passages.chunks])]
    lead, tail = encoder._tokens.lead, encoder._tokens.tail
    order = sorted(range(len(own)), key=lambda index: (passages.files[index], passages.chunks[index].span.char_start))
    windows: list[list[int]] = []
    for index in order:
        last = windows[-1] if windows else []
        fits = last and sum(len(own[i]) for i in last) + len(own[index]) <= WINDOW
        if fits and passages.files[last[0]] == passages.files[index]:
            last.append(index)
        else:
            windows.append([index])
    inputs = []
    for window in windows:
        whole = np.concatenate([lead, *(own[index] for index in window), tail])
        special = np.r_[np.arange(len(lead)), np.arange(len(whole) - len(tail), len(whole))]
        edges = len(lead) + np.cumsum([0, *(len(own[index]) for index in window)])
        rows = [
            (i, np.sort(np.r_[special, np.arange(a, b)])) for i, (a, b) in zip(window, pairwise(edges), strict=True)
        ]
        inputs.append(Input(whole, rows))
    return inputs


def _with(titles: str, side: int, rows: str = "own") -> Callable[[ColBERTEncoder, Passages], list[Input]]:
    def context(encoder: ColBERTEncoder, passages: Passages, index: int) -> Context:
        return around(encoder, passages, index, titles=titles, side=side)

    return lambda encoder, passages: alone(encoder, passages, rows, context)


WAYS: dict[str, Callable[[ColBERTEncoder, Passages], list[Input]]] = {
    "now": _with("none", 0),
    "headings": _with("missing", 0),
    "headings, rows": _with("missing", 0, "all"),
    "sentences": _with("none", SIDE),
    "sentences, rows": _with("none", SIDE, "all"),
    "late": late,
    "all headings": _with("all", 0),
    "neighbours of 96": _with("none", 96),
}
TITLES_ALONE = ("headings", "headings, rows", "all headings")


def encoded(encoder: ColBERTEncoder, inputs: Sequence[Input], count: int) -> tuple[list[Array], Array]:
    """Token embeddings (float32 [t, d] each) and dense vectors (float32 [n, e]) of ``count`` passages."""
    tokens: list[Array] = [np.zeros(0)] * count
    dense: list[Array] = [np.zeros(0)] * count
    queue = sorted(inputs, key=lambda one: len(one.ids))
    while queue:
        size = max(1, PASS_TOKENS // len(queue[-1].ids))
        batch, queue = queue[-size:], queue[:-size]
        ids = torch.zeros((len(batch), max(len(one.ids) for one in batch)), dtype=torch.int64)
        attention = torch.zeros_like(ids)
        for row, one in enumerate(batch):
            ids[row, : len(one.ids)], attention[row, : len(one.ids)] = torch.from_numpy(one.ids), 1
        with torch.inference_mode():
            features = encoder.backbone({"input_ids": ids, "attention_mask": attention})
            states = features["token_embeddings"] = features["token_embeddings"].float()
            for projection in encoder._projections:
                features = projection(features)
            found = torch.nn.functional.normalize(features["token_embeddings"], dim=-1)
        for row, one in enumerate(batch):
            for index, rows in one.rows:
                kept = rows[encoder._kept(one.ids[rows])]
                tokens[index], mean = found[row, kept].numpy(), states[row, rows].mean(dim=0).numpy()
                dense[index] = mean / np.linalg.norm(mean)
    return tokens, np.stack(dense)


def indexed(source: Source, folder: Path, encoder: ColBERTEncoder) -> Config:
    """The files of a source, indexed by the product below ``folder``."""
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    for name, text in source.files.items():
        (files / name).write_bytes(text.encode())
    config = Config(index=IndexConfig(path=str(folder / "index")), store=StoreConfig(chroma=False))
    with closing(Engine.open(config, create_missing=True, encoder=encoder)) as engine:
        engine.index_path(files)
    return config


def passages_of(snapshot: Snapshot, source: Source) -> Passages:
    """All passages by position."""
    found = snapshot.reader.passages(snapshot.chunks.tolist())
    stored = [found[chunk] for chunk in snapshot.chunks.tolist()]
    names = [Path(passage.path.decode()).name for passage in stored]
    return Passages([passage.chunk for passage in stored], names, source.files)


def vectors(encoder: ColBERTEncoder, inputs: Sequence[Input], count: int, folder: Path) -> tuple[Array, Array, Array]:
    """Token rows (float32 [t, d]), their offsets (int64 [n]) and dense vectors; kept in ``folder`` by their inputs."""
    digest = sha256(encoder.fingerprint.digest.encode())
    for one in inputs:
        for part in (one.ids, *(rows for _, rows in one.rows)):
            digest.update(part.tobytes() + b"|")
    file = folder / f"{digest.hexdigest()[:16]}.npz"
    if not file.is_file():
        tokens, dense = encoded(encoder, inputs, count)
        offsets = np.cumsum([0, *map(len, tokens)])[:-1]
        np.savez(file, tokens=np.concatenate(tokens).astype(np.float16), offsets=offsets, dense=dense)
    with np.load(file) as kept:
        return kept["tokens"].astype(np.float32), kept["offsets"], kept["dense"]


def ordered(
    maxsim: Array,
    cosines: Array,
    lexical: dict[int, float],
    verbatim: dict[int, float],
    config: SearchConfig,
    left_out: int | None,
) -> list[Array]:
    """Positions, best first, by each of MEASURES; those of the fusion are of candidates as in a search."""
    near, nearest = (order[order != left_out] for order in (np.argsort(-maxsim), np.argsort(-cosines)))
    chosen = np.unique(np.concatenate([near[:CANDIDATES], np.array([*lexical, *verbatim], np.int64)]))
    chosen = chosen[chosen != left_out]
    bm25 = np.array([lexical.get(int(position), 0.0) for position in chosen], np.float32)
    fused = _fused(maxsim[chosen], bm25, cosines[chosen], config, len(maxsim))
    fused = with_verbatim(fused, _added(chosen, verbatim))
    return [near, nearest, chosen[np.lexsort((chosen, -maxsim[chosen], -fused))]]


def folded(order: Array, names: Sequence[Sequence[str]]) -> list[str]:
    """What is ranked, best first, by the passages in order."""
    return list(dict.fromkeys(name for index in order.tolist() for name in names[index]))


def places_of(source: Source, passages: Passages) -> tuple[list[tuple[str, int, int]], list[list[str]]]:
    """What is ranked (the units of a source, or its passages), and the names of those that each passage overlaps."""
    spans = [(f, c.span.char_start, c.span.char_end) for f, c in zip(passages.files, passages.chunks, strict=True)]
    ranked = source.units or spans
    by_file: dict[str, list[tuple[int, int, int]]] = {}
    for number, (file, start, end) in enumerate(ranked):
        by_file.setdefault(file, []).append((number, start, end))
    return ranked, [
        [str(n) for n, a, b in by_file.get(file, ()) if a < end and start < b] for file, start, end in spans
    ]


def measured(
    encoder: ColBERTEncoder, source: Source, ways: Sequence[str], folder: Path, *, is_tree: bool
) -> tuple[list[Question], Array]:
    """float64 [ways, measures, metrics, queries]."""
    config = indexed(source, folder, encoder)
    with (
        closing(Store.open(config.index_path, config.store, create_missing=False)) as store,
        store.snapshot() as snapshot,
    ):
        passages = passages_of(snapshot, source)
        questions = cloze(passages) if is_tree else source.questions
        ranked, names = places_of(source, passages)
        relevance = [
            {str(n): 1 for n, (f, a, b) in enumerate(ranked) if any(f == g and a < y and x < b for g, x, y in q.gold)}
            for q in questions
        ]
        queries = encoder.encode_queries([question.text for question in questions])
        missing = np.mean([any(t not in c.text for t in c.headings) for c in passages.chunks])
        print(f"{folder.name}: {len(passages.chunks):,} passages, {len(questions)} questions, ", end="")
        print(f"{missing:.2f} of the passages have headings that do not stand in them", flush=True)
        table = np.zeros((len(ways), len(MEASURES), len(METRIC_NAMES), len(questions)))
        lexical, verbatim, every = [], [], np.ones(len(snapshot), np.bool_)
        for question in questions:
            asked = lexical_query(question.text)
            lexical.append(_lexical(snapshot, asked, every))
            verbatim.append(_verbatim(snapshot, asked, lexical[-1], every))
        for number, way in enumerate(ways):
            inputs = WAYS[way](encoder, passages)
            tokens, offsets, dense = vectors(encoder, inputs, len(passages.chunks), folder)
            rankings: dict[str, list[list[str]]] = {name: [] for name in MEASURES}
            for question, query, *counted in zip(questions, queries, lexical, verbatim, strict=True):
                maxsim = np.maximum.reduceat(query.token_embeddings @ tokens.T, offsets, axis=1).mean(axis=0)
                orders = ordered(maxsim, dense @ query.dense, *counted, config.search, question.left_out)
                for name, order in zip(MEASURES, orders, strict=True):
                    rankings[name].append(folded(order, names))
            for place, name in enumerate(MEASURES):
                table[number, place] = per_query(rankings[name], relevance)[:, :2].T
            means = zip(MEASURES, table[number, :, 0].mean(axis=-1), strict=True)
            print(f"  {way}: " + ", ".join(f"{name} {mean:.3f}" for name, mean in means), flush=True)
    return questions, table


def difference(values: Sequence[Array]) -> str:
    """The mean over sets of the mean of differences, with its interval; queries are resampled set by set."""
    means = np.zeros(RESAMPLES)
    for seed, one in enumerate(values):
        draws = np.random.default_rng(seed).integers(0, len(one), (RESAMPLES, len(one)))
        means += one[draws].mean(axis=1) / len(values)
    low, high = np.percentile(means, (2.5, 97.5))
    return f"{np.mean([one.mean() for one in values]):+.3f} ({low:+.3f} {high:+.3f})"


def report(title: str, tables: dict[str, Array], ways: Sequence[str], metric: int, place: int) -> None:
    """A line for each way: what it has now, and the differences to it, set by set and in the mean of the sets."""
    print(f"\n{METRIC_NAMES[metric]} of {MEASURES[place]}, {title}")
    print(f"{'':22}" + "".join(f"{name[:22]:>24}" for name in (*tables, "mean")))
    now = [table[0, place, metric] for table in tables.values()]
    figures = [*(one.mean() for one in now), np.mean([one.mean() for one in now])]
    print(f"{'now':22}" + "".join(f"{figure:24.3f}" for figure in figures))
    for number, way in enumerate(ways[1:], 1):
        over = [table[number, place, metric] - one for table, one in zip(tables.values(), now, strict=True)]
        print(f"{way:22}" + "".join(f"{difference(part):>24}" for part in (*([one] for one in over), over)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("trees", type=Path, nargs="*", metavar="TREE")
    parser.add_argument("--keep", type=Path, required=True, help="a folder for files, indexes and embeddings")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    ways = ["now", *(way for way in options.ways if way != "now")]
    encoder = load_encoder(Config().model)
    if not isinstance(encoder, ColBERTEncoder):
        sys.exit("Only the built-in encoder is measured.")
    labelled, trees = {}, {}
    for name in options.sets:
        source = shortened(SETS[name](options.data / name))
        labelled[name] = measured(encoder, source, ways, options.keep / name, is_tree=False)
    # Neighbours hold the very sentences that are asked, so only headings can be judged here.
    apart = [way for way in ways if way == "now" or way in TITLES_ALONE]
    for folder in options.trees:
        trees[folder.name] = measured(encoder, shortened(tree(folder)), apart, options.keep / folder.name, is_tree=True)
    for kind, found, used in (("", labelled, ways), ("sentences of trees, ", trees, apart)):
        for half, title in enumerate(("the half to choose by", "the other half")):
            tables = {name: table[..., halves(questions) == half] for name, (questions, table) in found.items()}
            for place in range(len(MEASURES)) if tables else ():
                for metric in range(len(METRIC_NAMES)):
                    report(kind + title, tables, used, metric, place)


def halves(questions: Sequence[Question]) -> Array:
    """0 or 1 for each question, by its name."""
    return np.array([sha256(question.name.encode()).digest()[0] % 2 for question in questions])


if __name__ == "__main__":
    main()
