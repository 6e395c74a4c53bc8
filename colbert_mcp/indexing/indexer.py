"""An indexing run: discover, read, cut, encode and commit, one batch after another.

Files whose size, time and reader are unchanged are skipped, so an interrupted run resumes after its last commit; of the
others, only texts are encoded that no passage of the index has. Each batch is bounded by its tokens, and token
embeddings go to disk group by group, so memory does not grow with the corpus or with a file. Knows documents, the
encoder and the store; nothing of who asked.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from colbert_mcp.chunking import CHUNKER, Piece, cut_document
from colbert_mcp.config import DocumentsConfig, ModelConfig, StoreConfig
from colbert_mcp.documents import (
    READER,
    Document,
    Extractor,
    compile_patterns,
    display_path,
    read_document,
    real_path,
)
from colbert_mcp.encoder import Encoder, Tokenized
from colbert_mcp.errors import DocumentError, UnreadableDocumentError
from colbert_mcp.evidence import FEWEST, META_KEY, calibrate, read_calibration
from colbert_mcp.indexing.changes import Candidate, Changes, compare, stamp_if_same
from colbert_mcp.indexing.runs import RATE_KEY, Run
from colbert_mcp.results import Skipped
from colbert_mcp.store import Batch, EncodedChunk, RowReference, Store, skipped_key
from colbert_mcp.types import Chunk, FileStamp

_GROUP_TOKENS = 32_768
_RATED_TOKENS = 1_000


def index(run: Run, store: Store, load: Callable[[], Encoder], documents: DocumentsConfig, config: StoreConfig) -> None:
    """Bring the index in step with the files under the run's root; ``load`` gives the encoder once it is needed.

    What was committed stays if the run is cancelled or fails. Raises StoreError or EncoderError; what is wrong with a
    single file is listed in ``run.skipped``.
    """
    _Indexing(run, store, load, documents, config).run()


def check_indexable(root: bytes, patterns: Sequence[str]) -> None:
    """Raise UnreadableDocumentError where there is nothing to index at a real path, or a pattern is none."""
    if not os.path.exists(root):
        raise UnreadableDocumentError(f"There is no file or folder {display_path(root)}.")
    if not (os.path.isdir(root) or os.path.isfile(root)):
        raise UnreadableDocumentError(f"{display_path(root)} is neither a folder nor a regular file.")
    for pattern in patterns:
        try:
            pattern.encode()
            compile_patterns([pattern])
        except UnicodeEncodeError:
            raise UnreadableDocumentError("An include or exclude pattern holds bytes that are no text.") from None
        except ValueError as error:
            raise UnreadableDocumentError(f"The include or exclude pattern {error}.") from None


def fingerprint(encoder: Encoder) -> dict[str, object]:
    """What must be equal for new chunks to join an index: the encoder's own fingerprint, and how texts are cut."""
    return {**encoder.fingerprint.as_json(), "chunker": CHUNKER}


def seems_made_with(stored: dict[str, object] | None, model: ModelConfig) -> bool:
    """Whether an index may be of the configured model, as far as its name and settings tell without loading it."""
    return (
        stored is not None
        and (stored.get("model"), stored.get("chunker")) == (model.name, CHUNKER)
        and model.document_length in (0, stored.get("document_length"))
    )


@dataclass(slots=True)
class _Pending:
    """A document that waits for its chunks to be encoded; ``fresh`` counts those that no other document has."""

    document: Document
    pieces: list[Piece[Tokenized]]
    chunks: list[Chunk]
    fresh: int = 0


class _Indexing:
    """The state of a run."""

    def __init__(
        self,
        run: Run,
        store: Store,
        load: Callable[[], Encoder],
        documents: DocumentsConfig,
        config: StoreConfig,
    ) -> None:
        self._run = run
        self._store = store
        self._load = load
        self._documents = documents
        self._config = config
        self._root = 0
        self._lazy_encoder: Encoder | None = None
        self._open_batch: Batch | None = None
        self._waiting: list[_Pending] = []
        self._waiting_tokens = 0
        self._counted = 0
        self._same: list[int] = []
        self._stamps: list[tuple[int, FileStamp]] = []
        self._unread: set[int] = set()
        self._extractor = Extractor(documents)

    @property
    def _encoder(self) -> Encoder:
        if self._lazy_encoder is None:
            self._lazy_encoder = self._load()
        return self._lazy_encoder

    @property
    def _batch(self) -> Batch:
        if self._open_batch is None:
            own = self._encoder.fingerprint
            self._open_batch = self._store.batch(fingerprint(self._encoder), own.dimension, own.dense_dimension)
        return self._open_batch

    def run(self) -> None:
        """Discover, then index what is new or changed, then let go of what is gone."""
        if self._run.watched and all(root.path != self._run.path for root in self._store.writer.roots()):
            self._run.cancelled.set()  # it was removed meanwhile, and nobody asked for it again
            return
        with self._store.transaction() as writer:
            self._root = writer.put_root(self._run.path, self._run.include, self._run.exclude)
            writer.clear_tombstones(self._run.path)
        own = real_path(self._store.directory)
        changes = compare(self._store.writer, self._run, self._documents, own, READER)
        check_indexable(self._run.path, ())  # a root that is gone by now has not lost its files one by one
        self._run.report()
        try:
            for candidate in changes.candidates:
                if self._run.cancelled.is_set():
                    break
                self._take(candidate)
            self._flush()
        except BaseException:
            if self._open_batch is not None:
                self._store.abandon(self._open_batch)
            raise
        finally:
            self._extractor.close()
        self._finish(changes)

    def _take(self, candidate: Candidate) -> None:
        """Read and cut one file, unless its bytes are those that were indexed."""
        try:
            stamp = stamp_if_same(self._store.writer, candidate, self._documents)
            pending = None if stamp is not None else self._cut(candidate.file.path)
        except DocumentError as error:
            self._skip(candidate, str(error))
            return
        if stamp is not None:
            self._keep(candidate, stamp)
        elif pending is None:
            self._skip(candidate, "empty")
        else:
            self._wait(pending)

    def _cut(self, path: bytes) -> _Pending | None:
        """A file's chunks, each proved; None where it holds nothing. Raises DocumentError."""
        document = read_document(path, self._documents.max_file_bytes, self._extractor)
        pieces = cut_document(document, self._encoder)
        chunks = [document.chunk(piece.start, piece.end, piece.headings) for piece in pieces]
        return _Pending(document, pieces, chunks) if pieces else None

    def _wait(self, pending: _Pending) -> None:
        """Put a document beside those that wait; encode and commit when enough has gathered."""
        self._waiting.append(pending)
        self._waiting_tokens += sum(len(piece.tokens.ids) for piece in pending.pieces)
        if self._waiting_tokens >= _GROUP_TOKENS:
            self._encode_waiting()
        if self._batch.tokens >= self._config.commit_tokens:
            self._commit()

    def _keep(self, candidate: Candidate, stamp: FileStamp) -> None:
        """Note that a file's bytes are those that were indexed, whatever its time says."""
        if candidate.document is not None:
            self._same.append(candidate.document)
            if stamp != candidate.stamp:
                self._stamps.append((candidate.document, stamp))
        self._run.unchanged += 1
        self._done(candidate.file.stamp.size)

    def _skip(self, candidate: Candidate, reason: str) -> None:
        if candidate.document is not None:
            self._unread.add(candidate.document)
        self._run.skipped.append(Skipped(path=display_path(candidate.file.path), reason=reason))
        self._done(candidate.file.stamp.size)

    def _encode_waiting(self) -> None:
        """Encode the waiting documents' texts that have no row yet, in groups, and write each group to the segment."""
        if not self._waiting:
            return
        rows = self._store.rows_of_texts(list({chunk.text_sha256 for w in self._waiting for chunk in w.chunks}))
        for group in _groups(self._unknown(rows)):
            if self._run.cancelled.is_set():
                break
            encoded = self._encoder.encode_documents([piece.tokens for _, piece in group])
            for (digest, piece), result in zip(group, encoded, strict=True):
                self._batch.append(digest, result.token_embeddings, result.dense)
                self._run.chunks += 1
                self._run.tokens += len(piece.tokens.ids)
            self._run.report()
        rows |= self._batch.rows
        for waiting in self._waiting:
            if all(chunk.text_sha256 in rows for chunk in waiting.chunks):
                self._put(waiting, rows)
        self._waiting = []
        self._waiting_tokens = 0

    def _unknown(self, rows: dict[str, RowReference]) -> Iterator[tuple[str, Piece[Tokenized]]]:
        """The waiting texts without a row in the index or the batch, each once, with the SHA-256 of the text."""
        seen = rows.keys() | self._batch.rows.keys()
        for waiting in self._waiting:
            for chunk, piece in zip(waiting.chunks, waiting.pieces, strict=True):
                if chunk.text_sha256 not in seen:
                    seen.add(chunk.text_sha256)
                    waiting.fresh += 1
                    yield chunk.text_sha256, piece

    def _put(self, waiting: _Pending, rows: dict[str, RowReference]) -> None:
        document = waiting.document
        encoded = []
        unchunked = _non_blank(document.text)
        for piece, chunk in zip(waiting.pieces, waiting.chunks, strict=True):
            unchunked -= _non_blank(chunk.text)
            coverage = self._encoder.coverage(piece.tokens, chunk.text)
            encoded.append(EncodedChunk(chunk, len(piece.tokens.ids), coverage, rows[chunk.text_sha256]))
        self._batch.put(document.record, encoded, unchunked, document.text if document.extracted else None)
        self._run.indexed += 1
        self._run.reused += len(encoded) - waiting.fresh
        self._done(document.record.stamp.size)

    def _flush(self) -> None:
        self._encode_waiting()
        self._commit()

    def _commit(self) -> None:
        if self._open_batch is None:
            return
        if self._open_batch.documents:
            self._count_changes(self._run.chunks - self._counted)
            self._counted = self._run.chunks
            self._store.commit(self._open_batch, self._root)
        else:
            self._store.abandon(self._open_batch)
        self._open_batch = None
        self._run.report()

    def _done(self, size: int) -> None:
        self._run.files_done += 1
        self._run.bytes_done += size
        self._run.report()

    def _finish(self, changes: Changes) -> None:
        """Link what stays, drop what the root no longer holds; only a run that went through may do so."""
        if self._run.cancelled.is_set():
            self._run.generation = self._store.writer.generation
            return
        joined = [document for document in (*changes.unchanged, *self._same) if document not in changes.held]
        # A file that is there but could not be read this time leaves too: nothing is served that cannot be checked.
        gone = changes.gone(self._unread)
        if gone:
            held = self._store.writer.passages_per_document()
            self._count_changes(sum(held.get(document, 0) for document in gone))
        # Only now: what came to another place in this run has found its rows.
        self._store.settle(self._root, joined=joined, gone=gone, stamps=self._stamps)
        self._calibrate()
        self._note_rate()
        if not self._run.watched:  # of which nobody is told what it skipped
            self._note_skipped()
        self._run.removed = len(gone)
        self._run.generation = self._store.writer.generation

    def _note_rate(self) -> None:
        """Keep how fast this run was, for the plan of the next one."""
        seconds = time.monotonic() - self._run.started
        if self._run.tokens >= _RATED_TOKENS and seconds > 0:
            self._store.note(RATE_KEY, str(round(self._run.tokens / seconds, 1)))

    def _note_skipped(self) -> None:
        """Say whether the last run over this root skipped the same, and keep what this one did for the next."""
        skipped = self._run.problems_digest()
        self._run.skipped_as_before = self._store.writer.meta(skipped_key(self._root)) == skipped
        if not self._run.skipped_as_before:
            self._store.note(skipped_key(self._root), skipped)

    def _count_changes(self, passages: int) -> None:
        """Note passages that are about to come or go: a run that does not end must not lose count of them."""
        known = read_calibration(self._store.writer.meta(META_KEY))
        if known is not None and passages:
            self._store.writer.set_meta(META_KEY, replace(known, changed=known.changed + passages).as_json())

    def _calibrate(self) -> None:
        """Learn anew what unrelated questions get, once a tenth of the index has changed."""
        writer = self._store.writer
        passages = writer.passage_count()
        known = read_calibration(writer.meta(META_KEY))
        if known is not None and not known.is_stale(passages):
            return
        if passages < FEWEST:
            known = None
        else:
            with self._store.snapshot() as snapshot:
                known = calibrate(snapshot, self._encoder)
        # "" where the index has become too small to tell.
        self._store.note(META_KEY, known.as_json() if known else "")


def _non_blank(text: str) -> int:
    return sum(map(len, text.split()))


def _groups(work: Iterator[tuple[str, Piece[Tokenized]]]) -> Iterator[list[tuple[str, Piece[Tokenized]]]]:
    group: list[tuple[str, Piece[Tokenized]]] = []
    tokens = 0
    for item in work:
        group.append(item)
        tokens += len(item[1].tokens.ids)
        if tokens >= _GROUP_TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group
