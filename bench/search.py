"""Recall and processor time of a search against exhaustive float32 MaxSim, at several sizes of index.

    python bench/search.py DIR SOURCE... [--sizes 10000 24000 40000 80000] [--queries 128] [--plaid SIZE]

A SOURCE is a folder of documents, or a labelled set in BEIR's layout, whose documents become files. All of them are
shuffled with a fixed seed and indexed below DIR, with the built-in model and the settings that a user would have, until
the index holds as many passages as each size asks for; there the queries are asked: those of the labelled sets, and
twelve words in a row of a document of the folders. A second run with the same DIR goes on where the first has ended.

Every float32 token embedding is written to DIR as it is indexed. Exhaustive MaxSim is a product with blocks of these
and ``np.maximum.reduceat``; recall is the share of its ten best passages that are among the first ten of the search,
mode semantic. Everything is timed on one thread, by processor time, in one run, and without encoding the query:
*ranking* is filters, scan and exact scores, *search* the whole answer with citations and quotes. At the size of
``--plaid`` the index is built again from the files with these embeddings, which is what it costs but for encoding;
fast-plaid's index is built over them through PyLate, unless a former run has done so, and asked the same at several
settings, as is ours with fewer candidates.
"""

import argparse
import gc
import hashlib
import json
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from colbert_mcp.config import Config, IndexConfig, SearchConfig
from colbert_mcp.encoder import Encoded, Query, Tokenized, load_encoder
from colbert_mcp.engine import Engine
from colbert_mcp.measuring.labelled import read_labelled
from colbert_mcp.retrieval.ranking import Question, allowed_by, rank
from colbert_mcp.retrieval.request import Request
from colbert_mcp.store import Snapshot

TOP, BLOCK, EQUAL, WORDS, FOLDER = 10, 65_536, 1e-6, 12, 250
PROBES, DEPTHS, CANDIDATES = (1, 2, 4, 8), (256, 512, 1024, 4096), (50, 100, 200)
Floats = np.ndarray[Any, np.dtype[np.float32]]


class Recording:
    """The built-in encoder, which writes every token embedding of documents down, and encodes a query once."""

    def __init__(self, folder: Path) -> None:
        self._encoder = load_encoder(Config().model)
        _mend(folder, 4 * self._encoder.fingerprint.dimension)
        self._vectors = (folder / "embeddings.f32").open("ab")
        self._keys = (folder / "embeddings.keys").open("a", encoding="ascii")
        self._queries: dict[str, Query] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(self, documents: Sequence[Tokenized]) -> list[Encoded]:
        """As the encoder does."""
        found = self._encoder.encode_documents(documents)
        for document, encoded in zip(documents, found, strict=True):
            self._vectors.write(encoded.token_embeddings.astype(np.float32).tobytes())
            self._keys.write(f"{key_of(document)} {len(encoded.token_embeddings)}\n")
        self._vectors.flush()
        self._keys.flush()
        return found

    def encode_query(self, text: str) -> Query:
        """As the encoder does, the first time."""
        if text not in self._queries:
            self._queries[text] = self._encoder.encode_query(text)
        return self._queries[text]


def _mend(folder: Path, row_bytes: int) -> None:
    """Cut off what an interrupted run had written of one file and not of the other."""
    vectors, keys = folder / "embeddings.f32", folder / "embeddings.keys"
    if not keys.exists():
        return
    left, kept = vectors.stat().st_size // row_bytes, []
    for line in keys.read_text("ascii").splitlines():
        left -= int(line.split()[1])
        if left < 0:
            break
        kept.append(line)
    keys.write_text("".join(f"{line}\n" for line in kept), "ascii")
    with vectors.open("rb+") as file:
        file.truncate(row_bytes * sum(int(line.split()[1]) for line in kept))


def key_of(document: Tokenized) -> str:
    """What tells a passage from others: its tokens."""
    return hashlib.sha256(document.ids.astype(np.int64).tobytes()).hexdigest()[:32]


def write_sources(sources: Sequence[Path], folder: Path, queries: int) -> list[str]:
    """All documents as files of numbered folders, shuffled; returns the queries."""
    chance = random.Random(0)
    documents: list[tuple[str, str]] = []
    asked: list[list[str]] = []
    for source in sources:
        if (source / "qrels").is_dir():
            split = sorted((source / "qrels").glob("*.tsv"))[-1].stem
            labelled = read_labelled(source, split=split)
            documents += [(".txt", text) for text in labelled.documents.values()]
            asked.append(sorted(labelled.queries.values()))
        else:
            texts = [(p.suffix, p.read_text("utf-8", "replace")) for p in sorted(source.rglob("*")) if p.is_file()]
            documents += texts
            asked.append([words for _, text in texts if (words := some_words(text, chance))])
    chance.shuffle(documents)
    chosen = [chance.sample(own, min(len(own), -(-queries // len(asked)))) for own in asked]
    if not folder.exists():
        for number, (suffix, text) in enumerate(documents):
            file = folder / f"{number // FOLDER:04}" / f"{number:06}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
    every = [query for own in chosen for query in own]
    chance.shuffle(every)
    return every[:queries]


def some_words(text: str, chance: random.Random) -> str:
    """Twelve words in a row, from somewhere; "" of a short text."""
    words = text.split()
    if len(words) < 4 * WORDS:
        return ""
    start = chance.randrange(len(words) - WORDS)
    return " ".join(words[start : start + WORDS])


class Exhaustive:
    """The float32 embeddings of an index's passages, by position."""

    def __init__(self, folder: Path, snapshot: Snapshot, recording: Recording) -> None:
        dimension = recording.fingerprint.dimension
        every = np.memmap(folder / "embeddings.f32", np.float32, "r").reshape(-1, dimension)
        spans, start = {}, 0
        for line in (folder / "embeddings.keys").read_text("ascii").splitlines():
            key, count = line.split()
            spans[key] = (start, start + int(count))
            start += int(count)
        passages = snapshot.reader.passages(snapshot.chunks.tolist())
        texts = [passages[chunk].chunk.text for chunk in snapshot.chunks.tolist()]
        keys = [key_of(tokenized) for tokenized in recording.tokenize(texts)]
        places = [spans[key] for key in keys]
        self.keys = keys
        self.offsets = np.concatenate([[0], np.cumsum([end - first for first, end in places])]).astype(np.int64)
        self.vectors = np.empty((int(self.offsets[-1]), dimension), np.float32)
        for position, (first, end) in enumerate(places):
            self.vectors[self.offsets[position] : self.offsets[position + 1]] = every[first:end]

    def tokens(self, position: int) -> Floats:
        """The token embeddings of a passage; float32 [t, d]."""
        return self.vectors[self.offsets[position] : self.offsets[position + 1]]

    def scores(self, query: Floats) -> Floats:
        """MaxSim of a query with every passage; float32 [n]."""
        found = []
        start = 0
        while start < len(self.offsets) - 1:
            row = int(self.offsets[start])
            stop = max(start + 1, int(np.searchsorted(self.offsets, row + BLOCK, "right")) - 1)
            products = query @ self.vectors[row : self.offsets[stop]].T
            found.append(np.maximum.reduceat(products, self.offsets[start:stop] - row, axis=1).mean(axis=0))
            start = stop
        return np.concatenate(found)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its processor time in milliseconds."""
    started = time.process_time()
    found = run()
    return found, 1000 * (time.process_time() - started)


def recall(exact: Floats, best: Sequence[int]) -> float:
    """The share of the ten best by ``exact`` that are in ``best``; any of equal scores will do."""
    least = np.partition(exact, -TOP)[-TOP] - EQUAL
    return min(TOP, sum(float(exact[position]) >= least for position in best[:TOP])) / TOP


def ranked(
    engine: Engine, snapshot: Snapshot, recording: Recording, query: str, config: SearchConfig | None = None
) -> list[int]:
    """The positions of what a search in the mode semantic ranks, best first."""
    request = Request(query, 5, (), (), "semantic", 10**6)
    question = Question(recording.encode_query(query), recording.scorer)
    allowed = allowed_by(snapshot, request)
    found = rank(engine._store, snapshot, question, request, config or SearchConfig(), allowed)
    return found.positions.tolist()


def measured(engine: Engine, recording: Recording, folder: Path, queries: Sequence[str]) -> dict[str, float]:
    """Recall and processor times at the present size of an index."""
    rows: dict[str, list[float]] = {name: [] for name in ("exhaustive", "ranking", "search", "recall", "hybrid")}
    with engine._store.snapshot() as snapshot:
        exhaustive = Exhaustive(folder, snapshot, recording)
        for query in queries[:3]:  # files are opened and code is loaded by what is asked first
            engine.search(query, mode="semantic")
            exhaustive.scores(recording.encode_query(query).token_embeddings)
        for query in queries:
            encoded = recording.encode_query(query)
            exact, brute = timed(partial(exhaustive.scores, encoded.token_embeddings))
            positions, ranking = timed(partial(ranked, engine, snapshot, recording, query))
            _, whole = timed(partial(engine.search, query, mode="semantic"))
            _, hybrid = timed(partial(engine.search, query))
            for name, value in zip(rows, (brute, ranking, whole, recall(exact, positions), hybrid), strict=True):
                rows[name].append(value)
        size = len(snapshot)
        tokens = int(exhaustive.offsets[-1])
    found = {name: statistics.fmean(values) for name, values in rows.items()}
    return {"passages": size, "tokens": tokens, **found}


class Replaying:
    """The encoder of an index, which gives again what it gave for its passages, so that encoding costs nothing."""

    def __init__(self, recording: Recording, snapshot: Snapshot, exhaustive: Exhaustive) -> None:
        self._recording = recording
        self._exhaustive = exhaustive
        self._dense = snapshot.dense(np.arange(len(snapshot))).astype(np.float32)
        self._places = {key: position for position, key in enumerate(exhaustive.keys)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recording, name)

    def encode_documents(self, documents: Sequence[Tokenized]) -> list[Encoded]:
        """As the encoder did."""
        places = [self._places[key_of(document)] for document in documents]
        return [Encoded(self._exhaustive.tokens(place), self._dense[place]) for place in places]


def building(folder: Path, engine: Engine, recording: Recording) -> None:
    """Processor time of an index of the same files, from reading them to the last commit, but for encoding."""
    path = folder / "replayed"
    shutil.rmtree(path, ignore_errors=True)
    folders = [f"/{Path(root.path).name}/" for root in engine.list_sources(limit=0).roots]
    with engine._store.snapshot() as snapshot:
        replaying = Replaying(recording, snapshot, Exhaustive(folder, snapshot, recording))
    again = Engine.open(Config(index=IndexConfig(path=str(path))), create_missing=True, encoder=replaying)
    _, milliseconds = timed(lambda: again.index_path(folder / "files", folders))
    count = again.index_status().passages
    again.close()
    print(
        f"ours over {count:,} passages: built in {milliseconds / 1000:,.0f} s of processor time, "
        f"{size_of(path):,.0f} MB", flush=True,
    )  # fmt: skip


def plaid(folder: Path, engine: Engine, recording: Recording, queries: Sequence[str]) -> None:
    """fast-plaid over the same embeddings: time to build, and recall and processor time at several depths."""
    from pylate import indexes

    with engine._store.snapshot() as snapshot:
        exhaustive = Exhaustive(folder, snapshot, recording)
    count = len(exhaustive.keys)
    options: dict[str, Any] = {
        "index_folder": str(folder / "plaid"), "index_name": "plaid", "device": "cpu", "num_threads": 1,
        "show_progress": False,
    }  # fmt: skip
    built = folder / f"plaid.{count}"
    if not built.exists():
        index = indexes.PLAID(**options, override=True)
        documents = [exhaustive.tokens(position) for position in range(count)]
        _, milliseconds = timed(
            lambda: index.add_documents(documents_ids=[str(i) for i in range(count)], documents_embeddings=documents)
        )
        built.write_text(
            f"built in {milliseconds / 1000:,.0f} s of processor time, {size_of(folder / 'plaid'):,.0f} MB"
        )
    print(f"fast-plaid over {count:,} passages: {built.read_text()}", flush=True)
    asked = [torch.from_numpy(recording.encode_query(query).token_embeddings)[None] for query in queries]
    exact = [exhaustive.scores(embeddings[0].numpy()) for embeddings in asked]

    def compare(name: str, ask: Callable[[int], Sequence[int]]) -> None:
        ask(0)
        answers = [timed(partial(ask, number)) for number in range(len(queries))]
        found = statistics.fmean(recall(scores, answer) for scores, (answer, _) in zip(exact, answers, strict=True))
        spent = statistics.fmean(milliseconds for _, milliseconds in answers)
        print(f"  {name}: recall@10 {found:.3f}, {spent:.1f} ms", flush=True)

    with engine._store.snapshot() as snapshot:
        for candidates in CANDIDATES:
            config = SearchConfig(min_candidates=candidates, candidate_growth=0)
            compare(
                f"ours, {candidates} candidates",
                lambda number, config=config: ranked(engine, snapshot, recording, queries[number], config),
            )
    for probes in PROBES:
        for depth in DEPTHS:
            index = indexes.PLAID(**options, n_ivf_probe=probes, n_full_scores=depth)
            compare(
                f"fast-plaid, {probes} probes, {depth} full scores",
                lambda number, index=index: [int(hit["id"]) for hit in index(asked[number], k=TOP)[0]],
            )


def size_of(folder: Path) -> float:
    """MB of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def grown(engine: Engine, folder: Path, sizes: Sequence[int]) -> Iterator[int]:
    """Index folder after folder; gives each size when the index holds so many passages, and the end."""
    waiting = sorted(folder.iterdir())
    for size in sizes:
        while engine.index_status().passages < size and waiting:
            below = waiting.pop(0)
            engine.index_path(below)
        yield size
        if not waiting:
            return


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("sources", type=Path, nargs="+", metavar="SOURCE")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 24_000, 40_000, 80_000])
    parser.add_argument("--queries", type=int, default=128)
    parser.add_argument("--plaid", type=int, default=0, help="a size at which fast-plaid is measured too")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    queries = write_sources(options.sources, options.folder / "files", options.queries)
    recording, threads = Recording(options.folder), torch.get_num_threads()
    for query in queries:  # while torch has all threads: encoding sets their number
        recording.encode_query(query)
    engine = Engine.open(
        Config(index=IndexConfig(path=str(options.folder / "index"))), create_missing=True, encoder=recording
    )
    smallest: dict[str, float] = {}
    print("passages      tokens   exhaustive   ranking    search  hybrid    exhaustive/search  recall@10  growth")
    for size in grown(engine, options.folder / "files", options.sizes):
        torch.set_num_threads(1)
        with threadpool_limits(1):
            row = measured(engine, recording, options.folder, queries)
        smallest = smallest or row
        with (options.folder / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{row['passages']:8,} {row['tokens']:11,} {row['exhaustive']:9.1f} ms {row['ranking']:6.1f} ms "
            f"{row['search']:6.1f} ms {row['hybrid']:6.1f} ms {row['exhaustive'] / row['search']:12.1f} x "
            f"{row['recall']:14.3f} {row['search'] / smallest['search']:8.2f} x",
            flush=True,
        )
        gc.collect()
        if size == options.plaid:
            building(options.folder, engine, recording)
            plaid(options.folder, engine, recording, queries)
        torch.set_num_threads(threads)
    engine.close()


if __name__ == "__main__":
    main()
