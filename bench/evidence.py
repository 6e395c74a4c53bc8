"""Whether weak evidence and uncovered words are told, and false alarms rare: on one corpus, with questions of others.

    python bench/evidence.py CORPUS OTHER... [--index DIR] [--queries 60] [--documents 1500]

CORPUS and each OTHER: a folder with ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv``, gzip'd or not. False
alarms: the share of CORPUS's own answerable questions that are called weak. Caught: the share of OTHER's that are.
Uncovered: how many of a question's words are named, and how often a foreign word planted into it is.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from statistics import mean

from citations import records

from colbert_mcp import Index
from colbert_mcp.config import Config, IndexConfig
from colbert_mcp.evidence import calibrate
from colbert_mcp.lexical import words

PLANTED = (
    "zeppelin xylophone samurai glacier trombone saffron submarine kangaroo cathedral volcano pharaoh accordion walrus "
    "chandelier gondola bagpipes origami tarantula"
)


def answered(dataset: Path, documents: set[str]) -> list[str]:
    """The questions of a set that have an answer among the documents."""
    lines = (dataset / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    known = {line.split("\t")[0] for line in lines if line.split("\t")[1] in documents or not documents}
    return sorted(record["text"] for record in records(dataset / "queries.jsonl") if record["_id"] in known)


def write_corpus(dataset: Path, folder: Path, most: int) -> set[str]:
    """Write documents to files; returns the ids of those written."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = records(dataset / "corpus.jsonl")[:most]
    for number, record in enumerate(chosen):
        file = folder / f"{number:05}.txt"
        if not file.exists():
            title = record.get("title")
            text = f"{title}\n\n{record['text']}" if title else record["text"]
            file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return {record["_id"] for record in chosen}


def report_words(index: Index, own: list[str], draw: random.Random) -> None:
    """Print how many words of answerable questions are named, and how many planted ones."""
    named, asked, found, others = 0, 0, 0, []
    for question in own:
        output = index.search(question, explain=True, max_tokens=10**6)
        named += len(output.uncovered or [])
        asked += len(words(question))
        foreign = draw.choice(PLANTED.split())
        planted = index.search(f"{question.rstrip('?. ')} by {foreign}?", explain=True, max_tokens=10**6)
        uncovered = planted.uncovered or []
        found += foreign in uncovered
        others.append(len(set(uncovered) - {foreign}))
    print(f"uncovered       {named} of {asked} words of {len(own)} own questions ({named / asked:.3f}); ", end="")
    print(f"planted word named in {found / len(own):.3f}, beside {mean(others):.2f} others")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("others", type=Path, nargs="+", metavar="OTHER")
    parser.add_argument("--index", type=Path, help="an index to make or to go on with (default: a temporary one)")
    parser.add_argument("--queries", type=int, default=60, help="questions of each set")
    parser.add_argument("--documents", type=int, default=1500)
    options = parser.parse_args()
    draw = random.Random(0)  # a repeatable sample

    def sample(questions: list[str]) -> list[str]:
        return draw.sample(questions, min(len(questions), options.queries))

    with tempfile.TemporaryDirectory() as scratch:
        base = options.index or Path(scratch) / "index"
        folder = base.parent / f"{base.name}-documents"
        own = sample(answered(options.corpus, write_corpus(options.corpus, folder, options.documents)))
        with Index.open(config=Config(index=IndexConfig(path=str(base)))) as index:
            index.index_path(folder)
            engine = index._engine
            with engine._store.snapshot() as snapshot:
                started = time.process_time()
                calibration = calibrate(snapshot, engine._ready_encoder())
                print(f"{options.corpus.name}: {len(snapshot)} passages, {calibration}, ", end="")
                print(f"{time.process_time() - started:.2f} s of processor time", flush=True)
            print(f"false alarms    {mean(bool(index.search(q).weak) for q in own):.3f} of {len(own)}", flush=True)
            caught = []
            for other in options.others:
                flags = [bool(index.search(q).weak) for q in sample(answered(other, set()))]
                caught += flags
                print(f"caught          {mean(flags):.3f} of {len(flags)} of {other.name}", flush=True)
            print(f"caught in all   {mean(caught):.3f} of {len(caught)}", flush=True)
            report_words(index, own, draw)


if __name__ == "__main__":
    main()
