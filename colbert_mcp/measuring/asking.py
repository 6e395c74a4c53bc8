"""Asks an open index one query after another, and keeps what was ranked and how long it took.

What is timed is what a search does: encoding the query; then filters, candidates, scores, fusion, the reranker if there
is one, and citations of the first passages. Knows the store, the models and the query path; not what is relevant.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from colbert_mcp.citations import Sources
from colbert_mcp.config import Config
from colbert_mcp.encoder import Encoder, Query, Reranker
from colbert_mcp.errors import QueryError
from colbert_mcp.indexing.indexer import fingerprint
from colbert_mcp.maxsim import Floats, maxsim
from colbert_mcp.retrieval.passages import cited_passages
from colbert_mcp.retrieval.ranking import Question, allowed_by, numbers, rank
from colbert_mcp.retrieval.request import Request
from colbert_mcp.retrieval.reranking import reranked
from colbert_mcp.store import Snapshot, Store
from colbert_mcp.types import Mode

LIMIT = 5  # passages that are cited, as many as a search has by default
TOP = 10
_BLOCK = 1024
_EQUAL = 1e-6
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an index ranked for a query: ``chunks`` and the ``documents`` they are of, int64 [n] each, best first.

    ``encoding`` and ``search`` are seconds, and ``reranking`` those of the search that a reranker takes, None without
    one.
    """

    chunks: Ints
    documents: Ints
    encoding: float
    search: float
    reranking: float | None


class Asker:
    """An index that nobody changes meanwhile. ``encoder`` is None where the mode needs none.

    Raises IndexMismatchError for an index of another encoder.
    """

    def __init__(
        self, store: Store, encoder: Encoder | None, config: Config, mode: Mode, reranker: Reranker | None = None
    ) -> None:
        if encoder is not None:
            store.check_fingerprint(fingerprint(encoder))
        self._store = store
        self._encoder = encoder
        self._reranker = reranker
        self._config = config
        self._mode = mode

    def warm_up(self, query: str) -> None:
        """Ask once for nothing: files are opened and code is loaded by what is asked first."""
        self.ask(query)

    def ask(self, query: str) -> Answer:
        """Rank all candidates of a query."""
        request = _request(query, self._mode)
        began = time.perf_counter()
        encoded = None if self._encoder is None else self._encoder.encode_query(query)
        ready = time.perf_counter()
        with self._store.snapshot() as snapshot:
            allowed = allowed_by(snapshot, request)
            question = None if self._encoder is None or encoded is None else Question(encoded, self._encoder.scorer)
            scores = rank(self._store, snapshot, question, request, self._config.search, allowed)
            ranked = time.perf_counter()
            scores = reranked(snapshot, scores, query, self._reranker, self._config.search.reranker_depth)
            reordered = time.perf_counter()
            sources = Sources(snapshot.reader, self._config.documents.max_file_bytes)
            cited_passages(snapshot, self._encoder, encoded, scores, allowed, request, sources)
            ended = time.perf_counter()
            return Answer(
                snapshot.chunks[scores.positions],
                snapshot.documents[scores.positions],
                encoding=ready - began,
                search=ended - ready,
                reranking=None if self._reranker is None else reordered - ranked,
            )

    def recall(self, query: str, answer: Answer) -> float | None:
        """The share of the TOP passages by MaxSim over all stored tokens that an answer ranks; None where it is not
        defined.
        """
        if self._encoder is None:
            return None
        encoded = self._encoder.encode_query(query)
        with self._store.snapshot() as snapshot:
            if not len(snapshot):
                return None
            candidates = np.flatnonzero(np.isin(snapshot.chunks, answer.chunks))
            return candidate_recall(exhaustive_scores(snapshot, encoded), candidates)


def check_query(query: str, mode: Mode, where: str) -> None:
    """Raise QueryError, with ``where`` it stands, for what cannot be asked."""
    try:
        _request(query, mode).check()
    except QueryError as error:
        raise QueryError(f"In {where}: {error}") from None


def _request(query: str, mode: Mode) -> Request:
    return Request(query, LIMIT, (), (), mode, sys.maxsize)


def exhaustive_scores(snapshot: Snapshot, query: Query) -> Floats:
    """MaxSim of a query with every chunk, over all of its stored tokens; float32 [n] by position."""
    positions = np.arange(len(snapshot))
    blocks = [positions[start : start + _BLOCK] for start in range(0, len(positions), _BLOCK)]
    return numbers(np.concatenate([maxsim(query.token_embeddings, snapshot.gather(block)) for block in blocks]))


def candidate_recall(exact: Floats, candidates: Ints) -> float:
    """The share of the TOP positions by ``exact`` (float32 [n], n > 0) that are candidates, 0…1.

    Any of equal scores will do.
    """
    wanted = min(TOP, len(exact))
    least = np.partition(exact, -wanted)[-wanted] - _EQUAL
    return min(wanted, int(np.count_nonzero(exact[candidates] >= least))) / wanted


@contextmanager
def held(configs: Sequence[Config]) -> Iterator[list[Store]]:
    """The index of each configuration, held alone; those that have the same share it. Raises StoreError."""
    with ExitStack() as stack:
        stores: dict[Path, Store] = {}
        for config in configs:
            path = config.index_path.resolve()
            if path not in stores:
                store = Store.open(path, config.store, create_missing=False)
                stores[path] = stack.enter_context(closing(store))
        yield [stores[config.index_path.resolve()] for config in configs]
