"""How well an index ranks for judged queries: a labelled set that is indexed for it, or the user's own questions.

The documents of a labelled set are written to files and go through all that the user's files go through. Knows the
engine as the faces do, and the parts of ``measuring``; nothing of terminals.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from colbert_mcp import __version__
from colbert_mcp.config import Config, IndexConfig, ModelConfig
from colbert_mcp.documents import display_path, real_path
from colbert_mcp.encoder import Encoder, Reranker, check_outside, load_encoder, load_reranker
from colbert_mcp.engine import Engine
from colbert_mcp.errors import ConfigError, QueryError, StoreError, UnreadableDocumentError
from colbert_mcp.indexing.indexer import fingerprint
from colbert_mcp.measuring.asking import Asker, check_query, held
from colbert_mcp.measuring.corpus import DOCUMENTS, INDEX_PREFIX, parts_of, workplace, write_documents
from colbert_mcp.measuring.labelled import Labelled, files_of, read_labelled
from colbert_mcp.measuring.metrics import library
from colbert_mcp.measuring.questions import AskedQuestion, Expected, read_questions
from colbert_mcp.measuring.reading import is_folder, is_there, packed
from colbert_mcp.measuring.tallying import Asked, Probe, Step, ask_all, candidate_recall, estimates, latencies
from colbert_mcp.results import IndexOutput
from colbert_mcp.results.measuring import EvalOutput, EvalRow, EvalRows
from colbert_mcp.store import Reader, Store, StoredPassage, roots_of
from colbert_mcp.types import IndexingProgress, Mode

EXHAUSTIVE_QUERIES = 50
SETTINGS = {"model", "documents", "search", "store"}
Loader = Callable[[ModelConfig], Encoder]
_OWN_SKIP = "hidden"  # the ignore file that stands beside the documents
_WHOLE = 2**62


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is asked of an evaluation.

    ``queries``: how many are drawn (None: all); ``exhaustive``: on how many of these candidates are compared with
    MaxSim over all stored tokens; ``keep``: a folder for the documents and their index (None: a temporary one).
    """

    split: str = "test"
    queries: int | None = None
    mode: Mode = "hybrid"
    exhaustive: int = EXHAUSTIVE_QUERIES
    keep: Path | None = None


@dataclass(frozen=True, slots=True)
class _Index:
    """An index to be asked, which probes it is asked, and what is said of it."""

    config: Config
    encoder: Encoder | None
    probes: Callable[[Reader], Sequence[Probe]]
    name: Callable[[bytes], str]
    reranker: Reranker | None = None
    run: IndexOutput | None = None
    notices: tuple[str, ...] = ()


def evaluate(config: Config, dataset: Path, how: Evaluation, step: Step = lambda _: None) -> EvalRows:
    """Evaluate on a labelled set (a folder), or ask the configured index the questions of a file.

    Raises DocumentError for a set or file that is none, QueryError for a query or number that cannot be asked,
    ConfigError, EncoderError or StoreError.
    """
    return evaluate_all([(config, step)], dataset, how, step)[0]


def evaluate_all(
    configs: Sequence[tuple[Config, Step]], dataset: Path, how: Evaluation, step: Step = lambda _: None
) -> list[EvalRows]:
    """Evaluate configurations on the same queries; each has a step of its own, which is told what is prepared for it.

    On a labelled set, those that make the same embeddings share an index. A model that two in a row name is loaded
    once. Raises what ``evaluate`` does.
    """
    if how.exhaustive < 0:
        raise QueryError(f"exhaustive is {how.exhaustive}; it must be 0 or more.")
    if not (is_there(dataset) or is_there(packed(dataset))):
        raise UnreadableDocumentError(f"There is no {dataset}; give a folder in BEIR's layout, or a file of questions.")
    library()
    load = lru_cache(maxsize=1)(load_encoder)
    if is_folder(dataset):
        step("reading the labelled set")
        labelled = _read(dataset, how)
        with workplace(how.keep) as folder:
            return _asked(
                [_labelled(config, labelled, folder, how, own, load) for config, own in configs], dataset, how, step
            )
    if how.keep is not None:
        raise ConfigError("--keep is for a labelled set, which is a folder; questions are asked of your own index.")
    indexes = [_questions(config, dataset, how, own, load) for config, own in configs]
    return [rows for together in _at_once(indexes) for rows in _asked(together, dataset, how, step)]


def in_use(config: Config, dataset: Path, how: Evaluation) -> list[Path]:
    """Files and folders that ``evaluate`` reads or keeps, there or not."""
    read = files_of(dataset) if is_folder(dataset) else [dataset, packed(dataset)]
    kept = parts_of(how.keep) if how.keep is not None and is_folder(how.keep) else []
    return [*read, config.index_path, *kept]


def _at_once(indexes: Sequence[_Index]) -> list[Sequence[_Index]]:
    """Indexes in groups that can be asked in turns: one index cannot be open with two settings of ``[store]``."""
    first = indexes[0].config
    if any(own.config.index_path == first.index_path and own.config.store != first.store for own in indexes):
        return [[index] for index in indexes]
    return [indexes]


def _read(dataset: Path, how: Evaluation) -> Labelled:
    """The labelled set; raises QueryError for a query that cannot be asked."""
    labelled = read_labelled(dataset, split=how.split, queries=how.queries)
    for name, text in labelled.queries.items():
        check_query(text, how.mode, f"query {name} of {dataset}")
    return labelled


def _labelled(config: Config, labelled: Labelled, folder: Path, how: Evaluation, step: Step, load: Loader) -> _Index:
    """The index of a labelled set below a folder, brought up to date."""
    probes = [Probe(name, text, labelled.relevance[name]) for name, text in labelled.queries.items()]
    step("loading the model")
    encoder = load(config.model)
    reranker = _reranker(config, how.mode, step)
    step("writing the documents")
    documents = folder / DOCUMENTS
    files = write_documents(labelled.documents, documents)
    ids = {os.fsencode(documents / path): name for path, name in files.items()}
    name = f"{INDEX_PREFIX}{_digest(encoder, config)}"
    own = config.model_copy(update={"index": IndexConfig(path=str(folder / name))})
    run = _indexed(own, encoder, documents, step)
    told = _notices(labelled, run)
    return _Index(own, encoder, lambda _: probes, ids.__getitem__, reranker, run, told)


def _questions(config: Config, file: Path, how: Evaluation, step: Step, load: Loader) -> _Index:
    """The configured index, to be asked the questions of a file."""
    questions = read_questions(file, how.queries)
    for question in questions:
        check_query(question.text, how.mode, f"{question.place.file}, line {question.place.line}")
    with held([config]):
        pass  # one that somebody has, or that cannot be opened, is told before the model is loaded
    encoder = None
    if how.mode != "lexical":
        if config.model.trust_remote_code:
            check_outside(config.model, roots_of(config.index_path.resolve()))
        step("loading the model")
        encoder = load(config.model)

    def probes(reader: Reader) -> list[Probe]:
        return [_resolved(reader, question) for question in questions]

    return _Index(config, encoder, probes, display_path, _reranker(config, how.mode, step))


def _reranker(config: Config, mode: Mode, step: Step) -> Reranker | None:
    """The configured reranker, loaded before anything that takes long; None without one, and in the mode lexical."""
    if not config.search.reranker or mode == "lexical":
        return None
    step("loading the reranker")
    return load_reranker(config.search, config.model)


def _digest(encoder: Encoder, config: Config) -> str:
    """What tells indexes of the same documents apart."""
    told: dict[str, object] = {key: value for key, value in fingerprint(encoder).items() if key != "model"}
    told |= {"documents": config.documents.model_dump(), "store": config.store.model_dump()}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _indexed(config: Config, encoder: Encoder, folder: Path, step: Step) -> IndexOutput:
    def told(done: IndexingProgress) -> None:
        step(f"indexing: {done.files_done:,} of {done.files_total:,} documents, {done.tokens:,} tokens")

    with closing(Engine.open(config, create_missing=True, encoder=encoder)) as engine:
        run = engine.index_path(folder, progress=told)
    if run.state != "done":
        raise StoreError(f"Indexing the documents ended as {run.state}; try again.")
    return run


def _asked(indexes: Sequence[_Index], dataset: Path, how: Evaluation, step: Step) -> list[EvalRows]:
    with held([index.config for index in indexes]) as stores:
        asked = []
        for index, store in zip(indexes, stores, strict=True):
            encoder = None if how.mode == "lexical" else index.encoder
            asker = Asker(store, encoder, index.config, how.mode, index.reranker)
            with store.snapshot() as snapshot:
                names = {stored.id: index.name(stored.record.path) for stored in snapshot.reader.documents()}
                asked.append(Asked(asker, index.probes(snapshot.reader), names))
        rows = ask_all(asked, how.exhaustive, step)
        return [
            EvalRows(output=_output(index, store, dataset, how, *found), rows=found[0])
            for index, store, found in zip(indexes, stores, rows, strict=True)
        ]


def _output(
    index: _Index, store: Store, dataset: Path, how: Evaluation, rows: list[EvalRow], candidates: float
) -> EvalOutput:
    encoder = None if how.mode == "lexical" else index.encoder
    with store.snapshot() as snapshot:
        counts = snapshot.reader.counts()
    recall, compared = candidate_recall(rows)
    return EvalOutput(
        dataset=str(dataset),
        kind="questions" if index.run is None else "labelled set",
        split=None if index.run is None else how.split,
        mode=how.mode,
        model=index.config.model.name,
        device=encoder.device if encoder else None,
        dtype=encoder.dtype if encoder else None,
        reranker=index.reranker.name if index.reranker else None,
        queries=len(rows),
        documents=counts["documents"],
        passages=counts["passages"],
        tokens=counts["tokens"],
        metrics=estimates(rows),
        latency=latencies(rows),
        candidates=round(candidates, 1),
        candidate_recall_at_10=recall,
        exhaustive_queries=compared,
        indexing_seconds=None if index.run is None or not index.run.indexed else index.run.seconds,
        bytes=sum(store.bytes_on_disk().values()),
        settings=index.config.model_dump(mode="json", include=SETTINGS),
        version=__version__,
        notices=list(index.notices),
    )


def _notices(labelled: Labelled, run: IndexOutput) -> tuple[str, ...]:
    counts = {
        "Judged queries left out, without a text or a relevant document": labelled.unasked,
        "Relevant documents that are not in the corpus, and count as not found": labelled.missing,
    }
    notices = [f"{what}: {count:,}." for what, count in counts.items() if count]
    reasons = {reason: count for reason, count in run.skipped_by_reason.items() if reason != _OWN_SKIP}
    if reasons:
        told = "; ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
        notices.append(f"Documents that were not indexed, and count as not found: {told}.")
    return tuple(notices)


def _resolved(reader: Reader, question: AskedQuestion) -> Probe:
    """The question with what is expected as the index has it; raises UnreadableDocumentError for what it has not."""
    relevance: dict[str, int] = {}
    places: dict[int, list[str]] = {}
    for expected in question.expected:
        path, passages = _passages(reader, question, expected)
        name = display_path(path)
        if expected.lines is not None:
            first, last = expected.lines
            name += f":{first}-{last}"
            passages = [p for p in passages if p.chunk.span.line_start <= last and p.chunk.span.line_end >= first]
            if not passages:
                raise question.place.error(f"no passage of {expected.path} has one of the lines {first} to {last}")
        relevance[name] = 1
        for passage in passages:
            places.setdefault(passage.chunk_id or 0, []).append(name)
    by_lines = any(expected.lines is not None for expected in question.expected)
    return Probe(question.id, question.text, relevance, places if by_lines else None)


def _passages(reader: Reader, question: AskedQuestion, expected: Expected) -> tuple[bytes, list[StoredPassage]]:
    """An expected file as the index names it, and its passages: its path is absolute, or relative to the questions'
    folder or an indexed root.
    """
    folders = [question.place.file.parent, *(Path(os.fsdecode(root.path)) for root in reader.roots())]
    for folder in folders:
        path = real_path(folder / expected.path)
        if passages := reader.passages_between(path, -1, _WHOLE):
            return path, passages
    raise question.place.error(
        f"{expected.path} is not in the index, or has no text; correct the path, or run: colbert-mcp index PATH"
    )
