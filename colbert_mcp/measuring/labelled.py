"""A labelled set in BEIR's layout. Knows its three files; nothing of an index.

``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``, ``text``), both gzip'd or not, and
``qrels/SPLIT.tsv`` (query, document, relevance, under a line of headings).
"""

import random
from dataclasses import dataclass
from pathlib import Path

from colbert_mcp.errors import QueryError, UnreadableDocumentError
from colbert_mcp.measuring.reading import Place, is_folder, is_there, lines, name_of, packed, records, text_of

MAX_RELEVANCE = 1000
Relevance = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Documents and queries by id, and of each query the relevance of the documents that were judged to be relevant.

    ``missing`` counts relevant documents of these queries that the corpus lacks; ``unasked`` the queries of the split
    that have no relevant document or no text.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    relevance: Relevance
    missing: int
    unasked: int


def read_labelled(
    directory: Path, *, split: str = "test", queries: int | None = None, documents: int | None = None
) -> Labelled:
    """At most ``queries`` queries drawn with a fixed seed, what is relevant to them, and others up to ``documents``.

    None means all. Raises UnreadableDocumentError for what is not in this layout, and QueryError for a number below 1.
    """
    for name, value in (("queries", queries), ("documents", documents)):
        if value is not None and value < 1:
            raise QueryError(f"{name} is {value}; it must be at least 1.")
    judged, unjudged = _relevance(directory, split)
    texts = {}
    for place, record in records(directory / "queries.jsonl"):
        name = name_of(record, "_id", place)
        text = text_of(record, "text", place)
        if name in judged:
            if not text.strip():
                raise place.error("the text of the query is empty")
            texts[name] = text
    chosen = random.Random(0)  # noqa: S311  # a sample that is the same each time
    known = sorted(texts)
    drawn = known if queries is None else sorted(chosen.sample(known, min(queries, len(known))))
    corpus = _corpus(directory / "corpus.jsonl")
    relevant = {document for query in drawn for document in judged[query]}
    kept = relevant & corpus.keys()
    if not kept:
        raise UnreadableDocumentError(
            f"{directory} holds no query of the split {split} with a relevant document in its corpus."
        )
    if documents is None:
        kept = set(corpus)
    others = sorted(corpus.keys() - kept)
    kept.update(chosen.sample(others, max(0, min((documents or 0) - len(kept), len(others)))))
    return Labelled(
        {name: corpus[name] for name in sorted(kept)},
        {name: texts[name] for name in drawn},
        {name: judged[name] for name in drawn},
        missing=len(relevant - corpus.keys()),
        unasked=unjudged + len(judged) - len(known),
    )


def files_of(directory: Path) -> list[Path]:
    """Where a labelled set is read from, or would be if it were there, and the folder of its judgements."""
    judgements = directory / "qrels"
    found = [directory / name for name in ("corpus.jsonl", "queries.jsonl")]
    return [*found, *map(packed, found), judgements, *judgements.glob("*")]


def _corpus(file: Path) -> dict[str, str]:
    corpus: dict[str, str] = {}
    for place, record in records(file):
        name, text = name_of(record, "_id", place), text_of(record, "text", place)
        title = text_of(record, "title", place) if record.get("title") else ""
        text = "\n\n".join(filter(None, [title, text]))
        if corpus.setdefault(name, text) != text:
            raise place.error("another document has the same _id")
    return corpus


def _relevance(directory: Path, split: str) -> tuple[Relevance, int]:
    """What is relevant to each query, and how many queries were judged to have nothing."""
    file = directory / "qrels" / f"{split}.tsv"
    if not is_there(file) and not is_there(packed(file)):
        raise UnreadableDocumentError(_no_split(directory, split))
    judged: Relevance = {}
    for place, line in lines(file):
        fields = line.split("\t")
        if len(fields) < 3:
            raise place.error("it does not have a query, a document and a relevance, with tabs between them")
        if place.line == 1 and not _is_number(fields[2]):
            continue  # the headings
        gain = _gain(fields[2], place)
        documents = judged.setdefault(fields[0], {})
        if gain > 0:
            documents[fields[1]] = gain
    found = {query: documents for query, documents in judged.items() if documents}
    return found, len(judged) - len(found)


def _no_split(directory: Path, split: str) -> str:
    if not is_folder(directory):
        return f"{directory} is not a folder; give a labelled set in BEIR's layout."
    splits = sorted(path.name.partition(".tsv")[0] for path in (directory / "qrels").glob("*.tsv*"))
    if not splits:
        return f"{directory} is not in BEIR's layout: it has no qrels/{split}.tsv."
    return f"{directory} has no split {split}; choose one with --split: {', '.join(splits)}."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _gain(text: str, place: Place) -> int:
    """A whole number, which may be written as 1.0; 0 or less is not relevant."""
    value = float(text) if _is_number(text) else float("nan")
    if not (abs(value) <= MAX_RELEVANCE and value == int(value)):
        raise place.error(f"the relevance is not a whole number of at most {MAX_RELEVANCE}")
    return int(value)
