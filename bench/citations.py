"""How well quotes and passages hit gold character spans, at one, three and five results.

    python bench/citations.py DATASET [--index DIR] [--part odd|even|all]

DATASET: a folder with ``corpus.jsonl``, ``queries.jsonl`` and ``answers.jsonl`` (``query-id``, ``corpus-id``, and
``spans`` of characters, half-open), gzip'd or not. Its documents are written to files and go through the whole
pipeline with default settings. Recall is the share of gold characters returned, precision the share of returned
characters that are gold, IoU the share of either that is both; each is a mean over queries, with the pooled counts
(micro) beside it. On first results that hold gold, the quote is also compared with the best run of sentences of its
passage that an oracle who sees the gold would choose: the run of highest IoU, and the highest precision of any run.
``--part`` takes every second query, so that what is tuned on one half can be judged on the other.
"""

import argparse
import gzip
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from colbert_mcp import Index
from colbert_mcp.config import Config, IndexConfig
from colbert_mcp.results import Passage
from colbert_mcp.sentences import sentence_spans

Places = set[tuple[str, int]]
DEPTHS = (1, 3, 5)


def records(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file, gzip'd or not."""
    packed = path.with_name(path.name + ".gz")
    text = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    return [json.loads(line) for line in text.decode("utf-8").splitlines() if line.strip()]


@dataclass(frozen=True)
class Overlap:
    """Characters returned, gold, and both."""

    returned: int
    gold: int
    both: int

    @classmethod
    def of(cls, returned: Places, gold: Places) -> "Overlap":
        """The overlap of two sets of characters."""
        return cls(len(returned), len(gold), len(returned & gold))

    @property
    def recall(self) -> float:
        """The share of gold that was returned."""
        return self.both / self.gold if self.gold else 0.0

    @property
    def precision(self) -> float:
        """The share of what was returned that is gold."""
        return self.both / self.returned if self.returned else 0.0

    @property
    def iou(self) -> float:
        """Both over either."""
        return self.both / max(1, self.returned + self.gold - self.both)


def total(overlaps: Iterable[Overlap]) -> Overlap:
    """Counts pooled over queries."""
    overlaps = list(overlaps)
    return Overlap(*(sum(getattr(o, name) for o in overlaps) for name in ("returned", "gold", "both")))


def places(path: str, start: int, end: int) -> Places:
    """The characters of a span of a file."""
    return {(path, at) for at in range(start, end)}


def quote_places(passage: Passage) -> Places:
    """The characters of a passage's quote."""
    return places(passage.path, *passage.quote_span) if passage.quote_span else set()


def best_runs(passage: Passage, gold: Places) -> tuple[Overlap, Overlap]:
    """The runs of sentences with the highest IoU, and with the highest precision."""
    own = {place for place in gold if place[0] == passage.path and passage.char_start <= place[1] < passage.char_end}
    sentences = sentence_spans(passage.text)
    runs = [
        Overlap.of(places(passage.path, passage.char_start + first[0], passage.char_start + last[1]), own)
        for index, first in enumerate(sentences)
        for last in sentences[index:]
    ]
    return max(runs, key=lambda run: run.iou), max(runs, key=lambda run: (run.precision, run.recall))


def line(name: str, overlaps: list[Overlap]) -> str:
    """One row of the report."""
    pooled = total(overlaps)
    shares = [(mean(getattr(o, x) for o in overlaps), getattr(pooled, x)) for x in ("recall", "precision", "iou")]
    return f"{name:22}" + "".join(f"{macro:8.3f} ({micro:.3f})" for macro, micro in shares)


def report(answers: list[tuple[list[Passage], Places]]) -> None:
    """Print every figure."""
    print(f"{len(answers)} queries; mean over queries (micro)")
    print(f"{'':22}  recall          precision       IoU")
    for depth in DEPTHS:
        quotes, passages = [], []
        for results, gold in answers:
            quotes.append(Overlap.of(set().union(*map(quote_places, results[:depth])), gold))
            whole = [places(p.path, p.char_start, p.char_end) for p in results[:depth]]
            passages.append(Overlap.of(set().union(*whole), gold))
        print(line(f"quotes, {depth} results", quotes))
        print(line(f"passages, {depth} results", passages))
    quotes, passages, runs, precise = [], [], [], []
    for results, gold in answers:
        first = results[0]
        passage = places(first.path, first.char_start, first.char_end)
        if passage & gold:
            quotes.append(Overlap.of(quote_places(first), gold))
            passages.append(Overlap.of(passage, gold))
            run, narrow = best_runs(first, gold)
            runs.append(run)
            precise.append(narrow)
    print(f"\n{len(quotes)} first results that hold gold")
    print(line("quote", quotes))
    print(line("passage", passages))
    print(line("oracle run, best IoU", runs))
    print(line("oracle, most precise", precise))
    for name, own, other, share in (
        ("quote precision / oracle run's", quotes, runs, "precision"),
        ("quote precision / most precise", quotes, precise, "precision"),
        ("quote recall / passage's", quotes, passages, "recall"),
    ):
        macro = mean(getattr(o, share) for o in own) / mean(getattr(o, share) for o in other)
        micro = getattr(total(own), share) / getattr(total(other), share)
        print(f"{name:32}{macro:.3f} (micro {micro:.3f})")
    print(f"quotes that hold no gold: {sum(not quote.both for quote in quotes)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--index", type=Path, help="an index to make or to go on with (default: a temporary one)")
    parser.add_argument("--part", choices=["odd", "even", "all"], default="all")
    options = parser.parse_args()
    texts = {record["_id"]: record["text"] for record in records(options.dataset / "queries.jsonl")}
    with tempfile.TemporaryDirectory() as scratch:
        base = options.index or Path(scratch) / "index"
        folder = base.parent / f"{base.name}-documents"
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for number, record in enumerate(records(options.dataset / "corpus.jsonl")):
            file = folder / f"{number:05}.txt"
            if not file.exists():
                file.write_bytes(record["text"].encode("utf-8", "surrogatepass"))
            files[record["_id"]] = str(file.resolve())
        gold: dict[str, Places] = {}
        for record in records(options.dataset / "answers.jsonl"):
            own = gold.setdefault(record["query-id"], set())
            for start, end in record["spans"]:
                own |= places(files[record["corpus-id"]], start, end)
        queries = sorted(gold)
        chosen = {"odd": queries[1::2], "even": queries[::2], "all": queries}[options.part]
        with Index.open(config=Config(index=IndexConfig(path=str(base)))) as index:
            index.index_path(folder)
            report([(index.search(texts[q], limit=max(DEPTHS), max_tokens=10**6).results, gold[q]) for q in chosen])


if __name__ == "__main__":
    main()
