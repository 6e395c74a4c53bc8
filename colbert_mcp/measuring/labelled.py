"""A labelled set in BEIR's layout, and how well a ranking does on it. Knows its three files; nothing of an index.

``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``, ``text``), the first two gzip'd or not, and
``qrels/test.tsv`` (query, document, relevance, under a line of headings).
"""

import gzip
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from colbert_mcp.errors import UnreadableDocumentError


@dataclass(frozen=True, slots=True)
class Labelled:
    """Documents and queries by id, and of each query the relevance of the documents that were judged to be relevant."""

    documents: dict[str, str]
    queries: dict[str, str]
    relevance: dict[str, dict[str, float]]


def read_labelled(directory: Path, *, queries: int, documents: int) -> Labelled:
    """At most ``queries`` queries drawn with a fixed seed, what is relevant to them, and others up to ``documents``.

    Raises UnreadableDocumentError for what is not in this layout.
    """
    judged = _relevance(directory / "qrels" / "test.tsv")
    texts = {str(record["_id"]): str(record["text"]) for record in _records(directory / "queries.jsonl")}
    chosen = random.Random(0)  # noqa: S311  # a sample that is the same each time
    known = sorted(judged.keys() & texts.keys())
    drawn = sorted(chosen.sample(known, min(queries, len(known))))
    corpus = {
        str(record["_id"]): "\n\n".join(filter(None, [str(record.get("title") or ""), str(record["text"])]))
        for record in _records(directory / "corpus.jsonl")
    }
    kept = {document for query in drawn for document in judged[query]} & corpus.keys()
    others = sorted(corpus.keys() - kept)
    kept.update(chosen.sample(others, max(0, min(documents - len(kept), len(others)))))
    if not drawn or not kept:
        raise UnreadableDocumentError(f"{directory} holds no query with a relevant document.")
    return Labelled(
        {name: corpus[name] for name in sorted(kept)},
        {name: texts[name] for name in drawn},
        {name: judged[name] for name in drawn},
    )


def ndcg(ranking: Sequence[str], relevance: Mapping[str, float], cutoff: int = 10) -> float:
    """Normalised discounted cumulative gain, 0 to 1, with linear gains (Järvelin and Kekäläinen 2002)."""
    best = sorted(relevance.values(), reverse=True)[:cutoff]
    ideal = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(best))
    got = sum(relevance.get(name, 0.0) / math.log2(rank + 2) for rank, name in enumerate(ranking[:cutoff]))
    return got / ideal if ideal else 0.0


def _relevance(file: Path) -> dict[str, dict[str, float]]:
    judged: dict[str, dict[str, float]] = {}
    for line in _text(file).splitlines()[1:]:
        fields = line.split("\t")
        try:
            query, document, gain = fields[0], fields[1], float(fields[2])
        except (IndexError, ValueError):
            raise UnreadableDocumentError(f"{file} is not of lines with query, document and relevance.") from None
        if gain > 0:
            judged.setdefault(query, {})[document] = gain
    return judged


def _records(file: Path) -> Iterator[dict[str, object]]:
    for line in _text(file).splitlines():
        try:
            record = json.loads(line)
            yield {**record, "_id": record["_id"], "text": record["text"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UnreadableDocumentError(f"{file} is not of JSON lines with _id and text.") from None


def _text(file: Path) -> str:
    packed = file.with_name(f"{file.name}.gz")
    try:
        raw = file.read_bytes() if file.is_file() or not packed.is_file() else gzip.decompress(packed.read_bytes())
        return raw.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UnreadableDocumentError(f"Cannot read {file}: {error}.") from None
