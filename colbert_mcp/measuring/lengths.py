"""What passages of different lengths cost, measured by indexing a sample of the user's files with each.

The sample is copied, and each index is made in a temporary folder by the code that makes any index. What counts are
files that would be indexed: those of the sample have been read, the others are judged by their names and first bytes.
Knows the engine; nothing of terminals.
"""

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from colbert_mcp.config import Config, DocumentsConfig, IndexConfig
from colbert_mcp.documents import (
    Discovery,
    Extractor,
    Found,
    discover,
    display_path,
    is_within,
    read_document,
    real_path,
    seems_readable,
)
from colbert_mcp.encoder import Encoder, LazyReranker, Reranker, load_encoder
from colbert_mcp.encoder.loading import settings_of
from colbert_mcp.engine import Engine
from colbert_mcp.errors import DocumentError, EncoderError, QueryError, UnreadableDocumentError
from colbert_mcp.indexing.indexer import check_indexable
from colbert_mcp.measuring.asking import Asker, held
from colbert_mcp.measuring.corpus import write_documents
from colbert_mcp.measuring.labelled import Labelled, read_labelled
from colbert_mcp.measuring.metrics import library
from colbert_mcp.measuring.tallying import Asked, Probe, ask_all, values_of
from colbert_mcp.results import LengthRow, LengthsOutput

LENGTHS = (300, 512, 1024, 2048, 4096, 8192)
SAMPLE_BYTES, QUERIES, DOCUMENTS = 200_000, 50, 300


@dataclass(frozen=True, slots=True)
class Sample:
    """How much is measured: bytes of the user's files; queries and documents of a labelled set."""

    bytes: int = SAMPLE_BYTES
    queries: int = QUERIES
    documents: int = DOCUMENTS


def measure(
    config: Config,
    path: str | os.PathLike[str],
    labelled: Path | None,
    sample: Sample,
    step: Callable[[str], None] = lambda _: None,
) -> LengthsOutput:
    """Index a sample of what lies under ``path`` with the present length and each of LENGTHS that the window holds.

    Raises DocumentError for a path without files or a labelled set that is none, QueryError for a
    number below 1, EncoderError, or StoreError.
    """
    settings = settings_of(config.model)
    window, current = settings.window.value or sys.maxsize, settings.document_length.value
    usable = [length for length in LENGTHS if length <= window]
    if not usable:
        raise EncoderError(f"The model reads {window} tokens, less than the shortest length that is measured.")
    trained = settings.trained_document_length.value or sys.maxsize
    if sample.bytes < 1:
        raise QueryError(f"sample_bytes is {sample.bytes}; it must be at least 1.")
    if labelled is not None:
        library()
    judged = None if labelled is None else read_labelled(labelled, queries=sample.queries, documents=sample.documents)
    root = real_path(path)
    check_indexable(root, ())
    how = Discovery(max_file_bytes=config.documents.max_file_bytes, hidden=config.documents.hidden)
    own_index = real_path(config.index_path)
    found = [item for item in discover(root, how) if isinstance(item, Found) and not is_within(item.path, own_index)]
    chosen, files = _drawn([file for file in found if seems_readable(file.path)], sample.bytes, config.documents)
    if not chosen:
        raise UnreadableDocumentError(f"There is no file to be indexed under {display_path(root)}.")
    rows: list[LengthRow] = []
    encoder: Encoder | None = None
    reranker = None if judged is None else LazyReranker(config.search, config.model).get()
    with tempfile.TemporaryDirectory(prefix="colbert-mcp-") as scratch:
        texts, corpus = Path(scratch) / "sample", Path(scratch) / "corpus"
        _copy(chosen, texts)
        names = {} if judged is None else write_documents(judged.documents, corpus)
        for length in sorted({current, *usable}):
            step(f"measuring document_length {length}")
            model = config.model.model_copy(update={"document_length": length})
            encoder = load_encoder(model)
            own = config.model_copy(update={"model": model})
            row = _row(own, encoder, texts, Path(scratch) / f"index-{length}")
            row = row.model_copy(update={"current": length == current, "trained": length <= trained})
            if judged is not None:
                models, index = (encoder, reranker), Path(scratch) / f"corpus-{length}"
                quality = _quality(own, models, judged, names, corpus, index)
                row = row.model_copy(update={"ndcg_at_10": round(quality, 4)})
            rows.append(row)
    sizes = sum(found.stamp.size for found in chosen)
    return LengthsOutput(
        model=config.model.name,
        device=encoder.device if encoder else "",
        dtype=encoder.dtype if encoder else "",
        window=settings.window.value,
        sample_files=len(chosen),
        sample_bytes=sizes,
        total_files=len(files),
        total_bytes=sum(found.stamp.size for found in files),
        labelled=None if judged is None else f"{len(judged.queries)} queries, {len(judged.documents)} documents",
        rows=rows,
        left_out=[length for length in LENGTHS if length not in usable],
        notices=_notices(rows, settings.trained_document_length.value),
    )


def _drawn(files: Sequence[Found], limit: int, documents: DocumentsConfig) -> tuple[list[Found], list[Found]]:
    """Files in an order drawn with a fixed seed, as far as the limit allows, or the smallest one if none fits; and all
    files but those that were read meanwhile and have no text.
    """
    shuffled = list(files)
    random.Random(0).shuffle(shuffled)  # noqa: S311  # a sample that is the same each time
    chosen, size, without = [], 0, set()
    with Extractor(documents) as extractor:
        for found in shuffled:
            if size + found.stamp.size > limit:
                continue
            if _has_text(found, documents, extractor):
                chosen.append(found)
                size += found.stamp.size
            else:
                without.add(found.path)
    left = [found for found in files if found.path not in without]
    return chosen or sorted(left, key=lambda found: found.stamp.size)[:1], left


def _has_text(file: Found, documents: DocumentsConfig, extractor: Extractor) -> bool:
    """Whether there is anything in a file to be indexed."""
    try:
        return bool(read_document(file.path, documents.max_file_bytes, extractor).text.strip())
    except DocumentError:
        return False


def _copy(files: Sequence[Found], folder: Path) -> None:
    """Copy each file under its own name, which tells its format, into a folder of its own."""
    for number, found in enumerate(files):
        (folder / f"{number:06}").mkdir(parents=True)
        target = os.path.join(os.fsencode(folder / f"{number:06}"), os.path.basename(found.path))
        shutil.copyfile(found.path, target)


@contextmanager
def _indexed(config: Config, encoder: Encoder, folder: Path, index: Path) -> Iterator[tuple[Config, LengthRow]]:
    """The settings of a new index of a folder, which is deleted at the end, and what it took."""
    own = config.model_copy(update={"index": IndexConfig(path=str(index))})
    try:
        with closing(Engine.open(own, create_missing=True, encoder=encoder)) as engine:
            output = engine.index_path(folder)
            status = engine.index_status()
        yield (
            own,
            LengthRow(
                document_length=encoder.fingerprint.document_length,
                current=False,
                trained=True,
                chunks=status.passages,
                tokens=status.tokens,
                bytes=sum(status.bytes.values()),
                seconds=output.seconds,
                ndcg_at_10=None,
            ),
        )
    finally:
        shutil.rmtree(index, ignore_errors=True)


def _row(config: Config, encoder: Encoder, folder: Path, index: Path) -> LengthRow:
    with _indexed(config, encoder, folder, index) as (_, row):
        return row


def _quality(
    config: Config,
    models: tuple[Encoder, Reranker | None],
    labelled: Labelled,
    names: dict[str, str],
    folder: Path,
    index: Path,
) -> float:
    """Mean nDCG@10 of documents, each ranked by its best passage."""
    probes = [Probe(query, text, labelled.relevance[query]) for query, text in labelled.queries.items()]
    ids = {os.fsencode(folder.resolve() / path): name for path, name in names.items()}
    encoder, reranker = models
    with (
        _indexed(config, encoder, folder, index) as (own, _),
        held([own]) as (store,),
    ):
        with store.snapshot() as snapshot:
            documents = {stored.id: ids[stored.record.path] for stored in snapshot.reader.documents()}
        asker = Asker(store, encoder, own, "hybrid", reranker)
        ((rows, _),) = ask_all([Asked(asker, probes, documents)], 0)
    return float(values_of(rows, "ndcg_at_10").mean())


def _notices(rows: Sequence[LengthRow], trained: int | None) -> list[str]:
    beyond = [str(row.document_length) for row in rows if not row.trained]
    if not beyond:
        return []
    measured = any(row.ndcg_at_10 is not None for row in rows)
    told = "" if measured else ": how well it ranks there is not known; a labelled set (--labelled) would tell"
    return [f"Longer than the {trained} tokens that the model was trained for: {', '.join(beyond)}{told}."]
