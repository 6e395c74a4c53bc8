"""Chroma: one record a chunk, with its dense vector, its text, its provenance and the pointer to its token embeddings.

It is derived: whatever is wrong with it, it is rebuilt from the catalogue and the segments. Chroma is not safe under a
kill nor for two processes, so a marker stands beside it while it is open; a marker found at opening, another count or
another generation means a rebuild into a new directory. Telemetry is off and embeddings are always passed, so nothing
is downloaded. The only importer of chromadb.
"""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import numpy.typing as npt
from chromadb.config import Settings
from chromadb.errors import ChromaError

from colbert_mcp.store import hnsw
from colbert_mcp.store.derived import MARKER
from colbert_mcp.store.durability import fsync_directory, fsync_tree
from colbert_mcp.store.records import Provenance, VectorRecord

COLLECTION = "passages"
_BATCH = 250  # smaller than the log is kept, so that this leaves little room in the database
_SEARCH_WIDTH = 400
# Every change replays what its log holds since the last sync, so the log is kept short. A kill means a rebuild anyway.
_SYNC_THRESHOLD = 500
logger = logging.getLogger(__name__)


class Vectors:
    """The Chroma collection of an index, in ``directory/NNN``."""

    def __init__(
        self,
        directory: Path,
        records: Iterable[VectorRecord],
        generation: int,
        count: int,
        on_rebuild: Callable[[], None],
    ) -> None:
        """Open it, or rebuild it from ``records`` (read only then) where it cannot be trusted."""
        self._directory = directory
        self._written: dict[Path, tuple[int, int]] = {}
        self.replaced = 0  # records deleted or replaced since it was built, whose text its files may still hold
        directory.mkdir(exist_ok=True)
        marker = directory / MARKER
        clean = not marker.exists()
        marker.touch()
        fsync_directory(directory)  # before Chroma writes anything
        existing = sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())
        number = existing[-1] if existing else 0
        sound = clean and existing and self._open(number) and self._agrees(generation, count)
        if not sound:
            self._close_client()
            number += 1
        # Before a new one is made: on a full disk there is room for one only, and no other is of any use.
        for old in existing:
            if old != number:
                shutil.rmtree(directory / f"{old:03}", ignore_errors=True)
        if not sound:
            on_rebuild()
            self._create(number)
            self.replaced = 0
            self.upsert(records, generation)

    def upsert(self, records: Iterable[VectorRecord], generation: int) -> None:
        """Insert or replace records and note the generation they belong to."""
        for batch in _batched(records, _BATCH):
            before = self._collection.count()
            # Chroma merges the metadata of an upsert into what is there: every record has the same keys.
            self._collection.upsert(
                ids=[record.passage_id for record in batch],
                embeddings=np.stack([record.dense for record in batch]).astype(np.float32),
                documents=[record.text for record in batch],
                metadatas=[record.provenance for record in batch],
            )
            self.replaced += len(batch) - (self._collection.count() - before)
        self._set_generation(generation)

    def delete(self, passage_ids: Sequence[str], generation: int) -> None:
        """Remove records and note the generation."""
        for batch in _batched(passage_ids, _BATCH):
            self._collection.delete(ids=batch)
            self.replaced += len(batch)
        self._set_generation(generation)

    def update_provenance(self, records: Iterable[tuple[str, Provenance]], generation: int) -> None:
        """Replace the metadata of records whose token embeddings have moved."""
        for batch in _batched(records, _BATCH):
            self._collection.update(ids=[item[0] for item in batch], metadatas=[item[1] for item in batch])
            self.replaced += len(batch)
        self._set_generation(generation)

    def nearest(self, dense: npt.NDArray[np.float32], k: int) -> list[str]:
        """Passage ids of the k records with the highest inner product, best first."""
        found = self._collection.query(query_embeddings=dense[None], n_results=min(k, _SEARCH_WIDTH), include=[])
        return list(found["ids"][0])

    def ids(self, limit: int, offset: int) -> list[str]:
        """The ids of some records, in an order of its own."""
        return list(self._collection.get(limit=limit, offset=offset, include=[])["ids"])

    def differing(self, records: Sequence[VectorRecord], *, data: bool) -> int:
        """How many of the records it holds otherwise, or not at all; with ``data``, texts and vectors count too."""
        wanted: Any = ["metadatas", *(["documents", "embeddings"] if data else [])]
        found: Any = self._collection.get(ids=[record.passage_id for record in records], include=wanted)
        rows = {passage_id: row for row, passage_id in enumerate(found["ids"])}
        return sum(not _same(found, rows.get(record.passage_id), record, data=data) for record in records)

    def abandon(self) -> None:
        """Close it as if it had been killed: it is rebuilt at the next opening."""
        self._close_client()

    def close(self) -> None:
        """Close cleanly: only then is it trusted at the next opening."""
        self._close_client()
        fsync_tree(self._directory)  # Chroma does not sync its index files
        (self._directory / MARKER).unlink(missing_ok=True)

    @property
    def generation(self) -> int:
        """The generation that it agrees with."""
        return int((self._collection.metadata or {}).get("generation", -1))

    def _set_generation(self, generation: int) -> None:
        self._collection.modify(metadata={"generation": generation, "replaced": self.replaced})
        written = hnsw.written(self._files)
        if written != self._written:
            self._written = written
            hnsw.blank_unused(self._files)

    def _agrees(self, generation: int, count: int) -> bool:
        metadata = self._collection.metadata or {}
        replaced = metadata.get("replaced")
        self.replaced = replaced if isinstance(replaced, int) else 1
        return metadata.get("generation") == generation and self._collection.count() == count

    def _open(self, number: int) -> bool:
        # A half-written Chroma database fails in many ways, some of them panics of its Rust part: each means a rebuild.
        try:
            self._connect(number)
            self._collection = self._client.get_collection(COLLECTION, embedding_function=None)
        except (ChromaError, ValueError, OSError, RuntimeError, KeyError) as error:
            logger.warning("Chroma cannot be opened (%s): it is rebuilt", error)
            return False
        return True

    def _create(self, number: int) -> None:
        shutil.rmtree(self._directory / f"{number:03}", ignore_errors=True)
        self._connect(number)
        self._collection = self._client.create_collection(
            COLLECTION,
            metadata={"generation": -1, "replaced": 0},
            embedding_function=None,
            configuration={
                "hnsw": {
                    "space": "ip",
                    "ef_construction": 100,
                    "max_neighbors": 16,
                    "ef_search": _SEARCH_WIDTH,
                    "sync_threshold": _SYNC_THRESHOLD,
                }
            },
        )

    def _connect(self, number: int) -> None:
        self._files = self._directory / f"{number:03}"
        self._written = {}
        self._client = chromadb.PersistentClient(path=str(self._files), settings=Settings(anonymized_telemetry=False))

    def _close_client(self) -> None:
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()
            hnsw.blank_unused(self._files)


def _same(found: Any, row: int | None, record: VectorRecord, *, data: bool) -> bool:
    if row is None or found["metadatas"][row] != record.provenance:
        return False
    return not data or (
        found["documents"][row] == record.text
        and np.array_equal(np.asarray(found["embeddings"][row], np.float32), record.dense.astype(np.float32))
    )


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
