"""Repairs what a check has found, each thing from what can be trusted, and says what it did.

Look-up tables and BM25's words are made anew from the rows; lost token embeddings are encoded again from texts that
still have their hash; passages that are damaged are read again from their sources; Chroma is rebuilt. What cannot be
repaired is left as it is. Whoever calls this keeps others from writing meanwhile.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from colbert_mcp.config import DocumentsConfig, StoreConfig
from colbert_mcp.documents import display_path, is_within
from colbert_mcp.encoder import Encoder, Tokenized
from colbert_mcp.errors import ColbertMCPError
from colbert_mcp.indexing.indexer import fingerprint, index
from colbert_mcp.indexing.runs import Run
from colbert_mcp.store import Root, Store, audit
from colbert_mcp.types import text_hash
from colbert_mcp.upkeep.integrity import Findings, Step

_GROUP_TOKENS = 32_768


def repair(
    store: Store,
    found: Findings,
    load: Callable[[], Encoder],
    settings: tuple[DocumentsConfig, StoreConfig],
    step: Step,
) -> list[str]:
    """Repair what can be repaired; returns what was done, and what could not be. ``load`` gives the encoder.

    A part that fails (a model that cannot be loaded, say) does not keep the others from being repaired. Raises
    StoreError where the index cannot be written.
    """
    mending = _Mending(store, found, load, settings, step)
    mending.run()
    return mending.done


class _Mending:
    """The state of one repair."""

    def __init__(
        self,
        store: Store,
        found: Findings,
        load: Callable[[], Encoder],
        settings: tuple[DocumentsConfig, StoreConfig],
        step: Step,
    ) -> None:
        self._store = store
        self._writer = store.writer
        self._found = found
        self._load = load
        self._settings = settings
        self._step = step
        self.done: list[str] = []

    def run(self) -> None:
        """In this order: what later parts rely on comes first."""
        found = self._found
        if found.of_kind("catalogue", "lookup", "words"):
            self._try("the look-up tables", self._lookups)
        damaged = {f"{fault.segment:06}" for fault in found.of_kind("segment")}
        # What lies in a damaged segment goes with it, once it is encoded again: its name alone may be wrong.
        for stray in (
            stray for stray in found.of_kind("stray") if stray.path and stray.path.parent.name not in damaged
        ):
            self._try(stray.where, lambda stray=stray: self._delete(stray.path))  # type: ignore[misc]
        if found.of_kind("orphan", "former"):
            self._try("rows of what is not there", self._leftovers)
        documents = sorted({fault.document for fault in found.of_kind("passage", "source") if fault.document})
        again: list[tuple[bytes, list[Root]]] = []
        if documents:
            self._try("damaged passages", lambda: again.extend(self._take_out(documents)))
        segments = sorted({fault.segment for fault in found.of_kind("segment") if fault.segment is not None})
        if segments:
            self._try("token segments", lambda: self._encode_again(segments))
        if again:
            self._index_again(again)
        if found.of_kind("chroma", "segment", "passage", "source", "orphan"):
            self._try("Chroma", self._rebuild_chroma)

    def _try(self, what: str, part: Callable[[], object]) -> None:
        self._step(f"repairing {what}")
        with self._told(what):
            part()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        # KeyError: a segment that passages have their rows in is not named, where the catalogue is beyond repair.
        except (ColbertMCPError, sqlite3.Error, OSError, KeyError) as error:
            self.done.append(f"could not repair {what}: {error}")

    def _lookups(self) -> None:
        with self._store.transaction() as writer:
            writer.rebuild_lookups()
            writer.rebuild_words()
        self.done.append("made the look-up tables and BM25's words anew from the passages")

    def _delete(self, path: "os.PathLike[str]") -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
        self.done.append(f"deleted {os.fspath(path)}, which belonged to no segment")

    def _leftovers(self) -> None:
        former = [fault.passage for fault in self._found.of_kind("former") if fault.passage is not None]
        paths = self._paths()
        with self._writer.transaction():
            self._writer.delete_orphans()
            held = self._writer.held_documents()
            lost = [document for document in paths if document not in held]
            for root in self._writer.roots():
                self._writer.link((d for d in lost if is_within(paths[d], root.path)), root.id)
            held = self._writer.held_documents()
            left = [document for document in lost if document not in held]
            self._writer.delete_documents(left)
            self._writer.delete_former(former)
        if former:
            self.done.append(f"deleted {len(former)} damaged former passages, which no search finds")
        if self._found.of_kind("orphan"):
            given = f"gave {len(lost) - len(left)} files back to the folders that they lie in"
            self.done.append(f"{given}, and deleted what belonged to no file or folder ({len(left)} files)")

    def _take_out(self, documents: Sequence[int]) -> list[tuple[bytes, list[Root]]]:
        """Take damaged documents out of the catalogue; returns their paths and the roots that held them."""
        self._load()  # without the model, they could only be lost
        roots = {root.id: root for root in self._writer.roots()}
        paths = self._paths()
        held = {number: self._writer.documents_of_root(number) for number in roots}
        with self._writer.transaction():
            self._writer.delete_documents(documents)
        return [
            (paths[document], [roots[number] for number, holds in held.items() if document in holds])
            for document in documents
            if document in paths
        ]

    def _encode_again(self, segments: Sequence[int]) -> None:
        """Encode the texts of damaged segments into a new one, and move their passages there."""
        encoder = self._load()
        own = encoder.fingerprint
        batch = self._store.batch(fingerprint(encoder), own.dimension, own.dense_dimension)
        moved: list[tuple[int, int, int]] = []
        try:
            with audit(self._store.directory, read_only=False) as reader:
                texts = ((segment, row, text) for segment in segments for row, text in reader.texts_of(segment))
                for group in _groups(texts, encoder):
                    self._step(f"encoding again ({len(moved):,} passages done)")
                    encoded = encoder.encode_documents([tokens for *_, tokens in group])
                    for (segment, row, text, _), result in zip(group, encoded, strict=True):
                        digest = text_hash(text)
                        batch.append(digest, result.token_embeddings, result.dense)
                        moved.append((batch.rows[digest].row, segment, row))
        except BaseException:
            self._store.abandon(batch)
            raise
        self._store.replace_segments(batch, moved, segments)
        names = ", ".join(f"{segment:06}" for segment in segments)
        self.done.append(f"encoded {len(moved)} texts again for the damaged token segments {names}")

    def _index_again(self, again: Sequence[tuple[bytes, list[Root]]]) -> None:
        """Index the roots of what was taken out, where they still are."""
        roots = {root.id: root for _, holders in again for root in holders}
        for root in roots.values():
            self._step(f"indexing {display_path(root.path)} again")
            if os.path.exists(root.path):  # or everything below it would be taken out
                with self._told(display_path(root.path)):
                    index(Run(root.path, root.include, root.exclude), self._store, self._load, *self._settings)
        present = set(self._paths().values())
        for path, _ in again:
            shown = display_path(path)
            back = "read it again from its source" if path in present else "it can no longer be read, and is left out"
            self.done.append(f"took {shown} out, whose passages were damaged or not those of its bytes; {back}")

    def _paths(self) -> dict[int, bytes]:
        # Not the writer's own list, which takes no row that is damaged.
        with audit(self._store.directory, read_only=False) as reader:
            return reader.paths()

    def _rebuild_chroma(self) -> None:
        if self._store.vectors.state != "off":
            self._store.vectors.rebuild()
            self.done.append("rebuilt Chroma from the catalogue and the token segments")


def _groups(texts: Iterator[tuple[int, int, str]], encoder: Encoder) -> Iterator[list[tuple[int, int, str, Tokenized]]]:
    """(segment, row, text, tokens), as many at a time as are encoded together."""
    group, size = [], 0
    for segment, row, text in texts:
        tokens = encoder.tokenize([text])[0]
        group.append((segment, row, text, tokens))
        size += len(tokens.ids)
        if size >= _GROUP_TOKENS:
            yield group
            group, size = [], 0
    if group:
        yield group
