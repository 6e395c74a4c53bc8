"""An indexing run: discover, read, cut, encode and commit, one batch after another.

Files whose size, time and reader are unchanged are skipped, so an interrupted run resumes after its last commit. Each
batch is bounded by its tokens, and token embeddings go to disk group by group, so memory does not grow with the corpus
or with a file. Knows documents, the encoder and the store; nothing of who asked.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from colbert_mcp.chunking import CHUNKER, Piece, cut
from colbert_mcp.config import DocumentsConfig, StoreConfig
from colbert_mcp.documents import (
    READER,
    Discovery,
    Document,
    Extractor,
    Found,
    discover,
    display_path,
    is_within,
    read_document,
    real_path,
)
from colbert_mcp.encoder import Encoder, Tokenized
from colbert_mcp.errors import DocumentError
from colbert_mcp.evidence import META_KEY, calibrate, read_calibration
from colbert_mcp.results import EXPECTED_SKIPS, IndexOutput, RunState, Skipped
from colbert_mcp.store import Batch, EncodedChunk, RowReference, Store, StoredDocument, now
from colbert_mcp.types import IndexingProgress, ProgressCallback

_GROUP_TOKENS = 32_768


@dataclass(slots=True)
class Run:
    """One run over a root, and what it has done so far. Only ``state`` and the counters change.

    ``path`` is the root's real path; ``include`` and ``exclude`` are gitignore-style patterns relative to it.
    """

    path: bytes
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    progress: ProgressCallback | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    state: RunState = "running"
    files_total: int = 0
    files_done: int = 0
    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    tokens: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    generation: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    notice: str | None = None

    def output(self, list_skipped: int = 50) -> IndexOutput:
        """The run as the faces show it; skipped files that need someone's attention are listed first."""
        reasons = Counter(skipped.reason for skipped in self.skipped)
        listed = sorted(self.skipped, key=lambda skipped: skipped.reason in EXPECTED_SKIPS)[:list_skipped]
        return IndexOutput(
            state=self.state,
            path=display_path(self.path),
            files_total=self.files_total,
            files_done=self.files_done,
            indexed=self.indexed,
            unchanged=self.unchanged,
            removed=self.removed,
            skipped=len(self.skipped),
            chunks=self.chunks,
            tokens=self.tokens,
            seconds=round(time.monotonic() - self.started if self.state == "running" else self.seconds, 2),
            generation=self.generation,
            problems=listed,
            skipped_by_reason=dict(reasons.most_common()),
            notice=self.notice,
        )

    def report(self) -> None:
        """Tell the progress callback, if there is one."""
        if self.progress is not None:
            done = IndexingProgress(
                self.files_done, self.files_total, self.chunks, self.tokens, self.bytes_done, self.bytes_total
            )
            self.progress(done)


def index(run: Run, store: Store, encoder: Encoder, documents: DocumentsConfig, config: StoreConfig) -> None:
    """Bring the index in step with the files under the run's root.

    What was committed stays if the run is cancelled or fails. Raises StoreError or EncoderError; what is wrong with a
    single file is listed in ``run.skipped``.
    """
    _Indexing(run, store, encoder, documents, config).run()


def fingerprint(encoder: Encoder) -> dict[str, object]:
    """What must be equal for new chunks to join an index: the encoder's own fingerprint, and how texts are cut."""
    return {**encoder.fingerprint.as_json(), "chunker": CHUNKER}


@dataclass(slots=True)
class _Pending:
    """A document whose chunks are being encoded."""

    document: Document
    pieces: list[Piece[Tokenized]]
    references: list[RowReference] = field(default_factory=list)


class _Indexing:
    """The state of a run."""

    def __init__(
        self, run: Run, store: Store, encoder: Encoder, documents: DocumentsConfig, config: StoreConfig
    ) -> None:
        self._run = run
        self._store = store
        self._encoder = encoder
        self._documents = documents
        self._config = config
        self._root = 0
        self._batch = self._new_batch()
        self._waiting: list[_Pending] = []
        self._waiting_tokens = 0
        self._unread: set[bytes] = set()
        self._extractor = Extractor(documents)

    def run(self) -> None:
        """Discover, then index what is new or changed, then let go of what is gone."""
        with self._store.transaction() as writer:
            self._root = writer.put_root(self._run.path, self._run.include, self._run.exclude)
            writer.clear_tombstones(self._run.path)
        known = {document.record.path: document for document in self._store.writer.documents()}
        found = list(self._discover())
        self._run.files_total = len(found)
        self._run.bytes_total = sum(file.stamp.size for file in found)
        self._run.report()
        unchanged = []
        try:
            for file in found:
                if self._run.cancelled.is_set():
                    break
                stored = known.get(file.path)
                if stored is not None and _is_unchanged(file, stored):
                    unchanged.append(stored.id)
                    self._run.unchanged += 1
                    self._done(file.stamp.size)
                else:
                    self._take(file)
            self._flush()
        except BaseException:
            self._store.abandon(self._batch)
            raise
        finally:
            self._extractor.close()
        self._finish(unchanged, {file.path for file in found})

    def _discover(self) -> Iterator[Found]:
        how = Discovery(
            max_file_bytes=self._documents.max_file_bytes,
            hidden=self._documents.hidden,
            include=self._run.include,
            exclude=self._run.exclude,
            removed=self._store.writer.tombstones(),
        )
        own = real_path(self._store.directory)
        for item in discover(self._run.path, how):
            if isinstance(item, Skipped):
                self._run.skipped.append(item)
            elif not is_within(item.path, own):
                yield item

    def _take(self, file: Found) -> None:
        """Read and cut one file; encode and commit when enough has gathered."""
        try:
            document = read_document(file.path, self._documents.max_file_bytes, self._extractor)
            pieces = cut(
                document.text,
                document.sections,
                self._encoder,
                self._encoder.content_length,
                is_code=document.is_code,
                walls=[part.start for part in document.parts],
            )
            for piece in pieces:
                document.chunk(piece.start, piece.end, piece.headings)
        except DocumentError as error:
            self._skip(file, str(error))
            return
        if not pieces:
            self._skip(file, "empty")
            return
        self._waiting.append(_Pending(document, pieces))
        self._waiting_tokens += sum(len(piece.tokens.ids) for piece in pieces)
        if self._waiting_tokens >= _GROUP_TOKENS:
            self._encode_waiting()
        if self._batch.tokens >= self._config.commit_tokens:
            self._commit()

    def _skip(self, file: Found, reason: str) -> None:
        self._unread.add(file.path)
        self._run.skipped.append(Skipped(path=display_path(file.path), reason=reason))
        self._done(file.stamp.size)

    def _encode_waiting(self) -> None:
        """Encode the waiting documents' chunks in groups, and write each group to the segment."""
        work = [(waiting, piece) for waiting in self._waiting for piece in waiting.pieces]
        for group in _groups(work):
            if self._run.cancelled.is_set():
                break
            encoded = self._encoder.encode_documents([piece.tokens for _, piece in group])
            for (waiting, piece), result in zip(group, encoded, strict=True):
                waiting.references.append(self._batch.append(result.token_embeddings, result.dense))
                self._run.chunks += 1
                self._run.tokens += len(piece.tokens.ids)
            self._run.report()
        for waiting in self._waiting:
            if len(waiting.references) == len(waiting.pieces):
                self._put(waiting)
        self._waiting = []
        self._waiting_tokens = 0

    def _put(self, waiting: _Pending) -> None:
        document = waiting.document
        chunks = []
        unchunked = _non_blank(document.text)
        for piece, reference in zip(waiting.pieces, waiting.references, strict=True):
            chunk = document.chunk(piece.start, piece.end, piece.headings)
            unchunked -= _non_blank(chunk.text)
            coverage = self._encoder.coverage(piece.tokens, chunk.text)
            chunks.append(EncodedChunk(chunk, len(piece.tokens.ids), coverage, reference))
        self._batch.put(document.record, chunks, unchunked, document.text if document.extracted else None)
        self._run.indexed += 1
        self._done(document.record.stamp.size)

    def _flush(self) -> None:
        self._encode_waiting()
        self._commit()

    def _commit(self) -> None:
        if self._batch.documents:
            self._run.generation = self._store.commit(self._batch, self._root)
        else:
            self._store.abandon(self._batch)
        self._batch = self._new_batch()
        self._run.report()

    def _new_batch(self) -> Batch:
        own = self._encoder.fingerprint
        return self._store.batch(fingerprint(self._encoder), own.dimension, own.dense_dimension)

    def _done(self, size: int) -> None:
        self._run.files_done += 1
        self._run.bytes_done += size
        self._run.report()

    def _finish(self, unchanged: Sequence[int], found: set[bytes]) -> None:
        """Link what stays, drop what the root no longer holds; only a run that went through may do so."""
        if self._run.cancelled.is_set():
            self._run.generation = self._store.writer.generation
            return
        with self._store.transaction() as writer:
            writer.link(unchanged, self._root)
            held = writer.documents_of_root(self._root)
            # A file that is there but could not be read this time leaves too: nothing is served that cannot be checked.
            gone = [doc for path, doc in held.items() if path not in found or path in self._unread]
            orphans = writer.unlink(gone, self._root)
            writer.finish_root(self._root, now())
        left = self._store.drop_documents(orphans) if orphans else 0
        self._calibrate(self._run.chunks + left)
        self._run.removed = len(gone)
        self._run.generation = self._store.writer.generation

    def _calibrate(self, changed: int) -> None:
        """Learn anew what unrelated questions get, once a tenth of the index has changed."""
        with self._store.snapshot() as snapshot:
            known = read_calibration(snapshot.reader.meta(META_KEY))
            if known is None or known.is_stale(len(snapshot), changed):
                known = calibrate(snapshot, self._encoder)
            elif changed:
                known = replace(known, changed=known.changed + changed)
            else:
                return
        # "" where the index has become too small to tell.
        self._store.writer.set_meta(META_KEY, known.as_json() if known else "")


def _non_blank(text: str) -> int:
    return sum(map(len, text.split()))


def _is_unchanged(file: Found, stored: StoredDocument) -> bool:
    return stored.record.stamp == file.stamp and stored.record.reader == READER


def _groups(work: list[tuple[_Pending, Piece[Tokenized]]]) -> Iterator[list[tuple[_Pending, Piece[Tokenized]]]]:
    group: list[tuple[_Pending, Piece[Tokenized]]] = []
    tokens = 0
    for item in work:
        group.append(item)
        tokens += len(item[1].tokens.ids)
        if tokens >= _GROUP_TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group
