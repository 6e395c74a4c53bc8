"""Whether the default ranking is better than its parts: hybrid against BM25, dense vectors and MaxSim, each alone.

    python bench/quality.py DATA_DIR [--sets NAME ...] [--queries N] [--config FILE] [--keep DIR]

DATA_DIR: a folder of labelled sets in BEIR's layout; ``--sets`` names those below it. The documents become files, which
go through the whole pipeline with default settings (or those of ``--config``); each query is then ranked by ``hybrid``,
``lexical`` (BM25 alone), ``semantic`` (MaxSim alone), and by the dense vectors of all passages alone: for the built-in
model, those are what mean pooling makes of it. A document counts where its best passage does.

Prints nDCG@10 of each set and their mean. Ends with 1 unless the hybrid's mean is above that of BM25 and that of dense
vectors by 0.03 at least, and it is below neither on any set by more than 0.02.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from colbert_mcp.config import Config, IndexConfig, load_config
from colbert_mcp.encoder import Encoder, load_encoder
from colbert_mcp.engine import Engine
from colbert_mcp.measuring.corpus import workplace, write_documents
from colbert_mcp.measuring.labelled import Labelled, read_labelled
from colbert_mcp.measuring.metrics import METRICS, per_query
from colbert_mcp.retrieval.ranking import Question, allowed_by, rank
from colbert_mcp.retrieval.request import Request
from colbert_mcp.store import Snapshot, Store
from colbert_mcp.types import Mode

SETS = (
    "squad11-dev",
    "xquad/en",
    "cosqa-retrieval",
    "chroma-spans-chunks",
    "cookbook-docs",
    "tldr-test",
    "medquad-test",
)
RANKINGS = ("hybrid", "BM25", "dense", "MaxSim")
MARGIN, LOSS = 0.03, 0.02
MODES: Mapping[str, Mode] = {"hybrid": "hybrid", "BM25": "lexical", "MaxSim": "semantic"}


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="NAME")
    parser.add_argument("--queries", type=int, help="queries drawn from each set, always the same (default: all)")
    parser.add_argument("--config", type=Path, help="settings to measure (default: the defaults)")
    parser.add_argument("--keep", type=Path, help="a folder for documents and indexes, used again by the next call")
    options = parser.parse_args()
    config = load_config(options.config) if options.config else Config()
    encoder = load_encoder(config.model)
    means = {}
    print(f"{'nDCG@10':22}{'queries':>8}" + "".join(f"{name:>9}" for name in RANKINGS) + "   hybrid less", flush=True)
    with workplace(options.keep) as folder:
        for name in options.sets:
            labelled = read_labelled(options.data / name, queries=options.queries)
            means[name] = measured(config, encoder, labelled, folder / name.replace("/", "-"))
            print(row(name, f"{len(labelled.queries):,}", means[name]), flush=True)
    table = np.array(list(means.values()))
    print(row("mean of the sets", "", table.mean(axis=0)))
    over = table[:, :1] - table[:, 1:3]
    holds = bool(over.mean(axis=0).min() >= MARGIN and over.min() >= -LOSS)
    print(f"Above both by {MARGIN} in the mean and below neither by more than {LOSS}: {'yes' if holds else 'no'}")
    return 0 if holds else 1


def row(name: str, queries: str, means: np.ndarray) -> str:
    """A line of the table; ``means`` in the order of RANKINGS."""
    less = f"   BM25 {means[0] - means[1]:+.3f}, dense {means[0] - means[2]:+.3f}"
    return f"{name:22}{queries:>8}" + "".join(f"{value:9.4f}" for value in means) + less


def measured(config: Config, encoder: Encoder, labelled: Labelled, folder: Path) -> np.ndarray:
    """Mean nDCG@10 of a set in the order of RANKINGS."""
    with indexed(config, encoder, labelled.documents, folder) as (store, snapshot, names):
        store.vectors.start()
        rankings: dict[str, list[list[str]]] = {name: [] for name in RANKINGS}
        for text in labelled.queries.values():
            for name, positions in ranked(store, snapshot, encoder, config, text):
                rankings[name].append(list(dict.fromkeys(map(names.__getitem__, positions.tolist()))))
    relevance = [labelled.relevance[query] for query in labelled.queries]
    at = METRICS.index("ndcg_at_10")
    return np.array([per_query(rankings[name], relevance)[:, at].mean() for name in RANKINGS])


@contextmanager
def indexed(
    config: Config, encoder: Encoder, documents: Mapping[str, str], folder: Path
) -> Iterator[tuple[Store, Snapshot, list[str]]]:
    """An index, below ``folder``, of documents as files; and the ids of these by the position of a passage."""
    folder.mkdir(exist_ok=True)
    files = folder / "documents"
    ids = {os.fsencode(files / path): name for path, name in write_documents(documents, files).items()}
    own = config.model_copy(update={"index": IndexConfig(path=str(folder / "index"))})
    with closing(Engine.open(own, create_missing=True, encoder=encoder)) as engine:
        engine.index_path(files)
    with closing(Store.open(own.index_path, own.store, create_missing=False)) as store, store.snapshot() as snapshot:
        owners = {stored.id: ids[stored.record.path] for stored in snapshot.reader.documents()}
        yield store, snapshot, [owners[document] for document in snapshot.documents.tolist()]


def ranked(
    store: Store, snapshot: Snapshot, encoder: Encoder, config: Config, text: str
) -> Iterator[tuple[str, np.ndarray]]:
    """The positions of passages, best first, by each of RANKINGS."""
    question = Question(encoder.encode_query(text), encoder.scorer)
    for name, mode in MODES.items():
        request = Request(text, 10, (), (), mode, sys.maxsize)
        asked = None if mode == "lexical" else question
        yield name, rank(store, snapshot, asked, request, config.search, allowed_by(snapshot, request)).positions
    cosines = snapshot.dense(np.arange(len(snapshot))) @ question.query.dense
    yield "dense", np.argsort(-cosines, kind="stable")


if __name__ == "__main__":
    sys.exit(main())
