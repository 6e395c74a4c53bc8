"""How well BM25 alone finds what labelled questions ask for, and what a search of words costs.

python bench/words.py DATASET [DATASET ...]
Each data set is in BEIR layout: corpus.jsonl (_id, text), queries.jsonl (_id, text), qrels/test.tsv. Its documents are
files of an index whose encoder is a hash, since the model plays no part.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from hash_encoder import HashEncoder

from colbert_mcp.config import Config, IndexConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.measuring.labelled import read_labelled
from colbert_mcp.measuring.metrics import per_query

QUERIES, DOCUMENTS = 300, 10_000


def main() -> None:
    """Print a line for each data set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("datasets", nargs="+", type=Path)
    for dataset in parser.parse_args().datasets:
        with tempfile.TemporaryDirectory(prefix="words-") as work:
            print(dataset.name, measured(dataset, Path(work)), flush=True)


def measured(dataset: Path, work: Path) -> str:
    """nDCG@10, milliseconds of processor time a search, and bytes of the catalogue a passage."""
    labelled = read_labelled(dataset, queries=QUERIES, documents=DOCUMENTS)
    files = {}
    (work / "files").mkdir()
    for number, (name, text) in enumerate(labelled.documents.items()):
        path = work / "files" / f"{number}.txt"
        path.write_text(text, encoding="utf-8")
        files[path.name] = name
    config = Config(index=IndexConfig(path=str(work / "index")), store=StoreConfig(chroma=False))
    engine = Engine.open(config, create_missing=True, encoder=HashEncoder())
    engine.index_path(work / "files")
    rankings, spent = [], []
    for query in labelled.queries.values():
        began = time.thread_time()
        output = engine.search(query, mode="lexical", limit=20, max_tokens=10**6)
        spent.append(time.thread_time() - began)
        rankings.append(list(dict.fromkeys(files[Path(result.path).name] for result in output.results)))
    gains = per_query(rankings, list(labelled.relevance.values()))[:, 0]
    passages = engine.list_sources().roots[0].passages
    engine.close()
    size = (work / "index" / "catalog.sqlite").stat().st_size
    return (
        f"nDCG@10 {gains.mean():.3f} over {len(gains)} queries and {passages} passages, "
        f"{statistics.median(spent) * 1000:.1f} ms, {size / passages:.0f} bytes a passage"
    )


if __name__ == "__main__":
    main()
