"""The one owner of an index: its lock, its model and its runs. Both faces call these functions.

The model loads when it is first needed, never for ``show`` or ``status``. One run writes at a time; searches go on
beside it. Knows nothing of MCP or of terminals.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence

from colbert_mcp.citations import Sources, cite, find_passage
from colbert_mcp.config import Config
from colbert_mcp.documents import check_root, display_path, in_scope, real_path
from colbert_mcp.encoder import Encoder, LazyReranker, check_outside, load_encoder
from colbert_mcp.errors import PathNotAllowedError, QueryError
from colbert_mcp.indexing.indexer import check_indexable, fingerprint
from colbert_mcp.indexing.planning import planned
from colbert_mcp.indexing.removal import remove
from colbert_mcp.indexing.running import Runs
from colbert_mcp.quoting.checking import check_answer
from colbert_mcp.quoting.verification import Claim, verify
from colbert_mcp.results import (
    AnswerOutput,
    CheckOutput,
    ExplainOutput,
    GcOutput,
    IndexOutput,
    Passage,
    PassageOutput,
    RemoveOutput,
    SearchOutput,
    SourcesOutput,
    StatusOutput,
    VerifyOutput,
)
from colbert_mcp.retrieval import Request, explained, search
from colbert_mcp.store import Snapshot, Store, StoredPassage
from colbert_mcp.types import Mode, ProgressCallback
from colbert_mcp.upkeep.integrity import check, output
from colbert_mcp.upkeep.inventory import sources, status
from colbert_mcp.upkeep.mending import repair as mend
from colbert_mcp.upkeep.reclaiming import reclaim
from colbert_mcp.watching.debounce import Timing
from colbert_mcp.watching.watcher import Watcher

MAX_NEIGHBOURS = 20
MAX_FORMER_DAYS = 36_500
_log = logging.getLogger(__name__)


class Engine:
    """An open index with its model. Safe to call from several threads; close it when done."""

    def __init__(self, config: Config, store: Store, encoder: Encoder | None = None) -> None:
        self._config = config
        self._store = store
        self._encoder = encoder
        self._encoder_lock = threading.Lock()
        self._reranker = LazyReranker(config.search, config.model)
        self._checked = False
        self._watcher_lock = threading.Lock()
        self._closed = False
        self._watcher: Watcher | None = None
        self._runs = Runs(config, store, self._ready_encoder, lambda: self.model_loaded)

    @classmethod
    def open(cls, config: Config, *, create_missing: bool, encoder: Encoder | None = None) -> "Engine":
        """Own the configured index; ``encoder`` replaces the configured model. Raises StoreError."""
        return cls(
            config, Store.open(config.index_path.resolve(), config.store, create_missing=create_missing), encoder
        )

    def close(self) -> None:
        """Watch no more, cancel what runs, and close the index cleanly."""
        with self._watcher_lock:
            watcher, self._watcher, self._closed = self._watcher, None, True
        if watcher is not None:
            watcher.close()
        self._runs.close()
        with self._runs.writing:
            self._store.close()

    def warm_up(self) -> None:
        """Load the models and open Chroma ahead of the first search."""
        self._store.vectors.start()
        self._ready_encoder()
        self._reranker.get()

    def watch(self, timing: Timing | None = None, finished: Callable[[IndexOutput], None] = lambda _: None) -> None:
        """Keep the roots fresh from now on; ``finished`` is told of each run that a change leads to.

        Raises StoreError where the index can only be read.
        """
        with self._watcher_lock:
            if self._watcher is None and not self._closed:
                self._watcher = Watcher(
                    self._store, self._runs, self._config.documents, timing=timing, finished=finished
                )

    @property
    def busy(self) -> bool:
        """Whether an indexing run is going on that somebody asked for."""
        return self._runs.busy

    @property
    def read_only(self) -> bool:
        """Whether the index can only be read."""
        return self._store.read_only

    @property
    def model_loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._encoder is not None

    def index_path(
        self,
        path: str | os.PathLike[str],
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        *,
        wait_seconds: float | None = None,
        progress: ProgressCallback | None = None,
        list_skipped: int = 50,
        verify: bool = False,
        dry_run: bool = False,
        scope: Sequence[bytes] = (),
    ) -> IndexOutput:
        """Index a folder or file; answers when done, or after ``wait_seconds`` with ``state="running"``.

        A call for a root that is being indexed joins that run. Patterns are gitignore-style and relative to the root;
        None keeps those of the root's last run. At most ``list_skipped`` skipped files are listed. With ``verify``,
        files of unchanged size and time are read and hashed too; with ``dry_run``, nothing is written, and the answer
        ("planned") says what a run would do and cost. Raises DocumentError for a path that may not or cannot be
        indexed, StoreError or EncoderError for what ends a run.
        """
        target = self._checked_root(path, include, exclude, scope)
        if dry_run:
            encoder = None if self._encoder is None else self._ready_encoder()
            run = planned(self._store, encoder, self._config, (target, include, exclude), verify=verify)
            return run.output(list_skipped)
        return self._runs.start(target, include, exclude, progress, verify=verify).outcome(wait_seconds, list_skipped)

    def wait_for_run(
        self,
        path: str | os.PathLike[str],
        wait_seconds: float | None,
        list_skipped: int = 50,
        *,
        scope: Sequence[bytes] = (),
    ) -> IndexOutput:
        """How the latest run over a root stands after at most ``wait_seconds``; raises what ended it.

        Raises StoreError where this engine knows of no run over it, and PathNotAllowedError outside of the scope.
        """
        self._check_scope(real_path(path), scope)
        return self._runs.latest(path).outcome(wait_seconds, list_skipped)

    def run_bytes(self, path: str | os.PathLike[str]) -> tuple[int, int]:
        """How many bytes of files the latest run over a root has done, and of how many."""
        run = self._runs.latest(path).run
        return run.bytes_done, run.bytes_total

    def cancel(self, path: str | os.PathLike[str], *, scope: Sequence[bytes] = ()) -> None:
        """Stop the run over a root after the batch at hand; what was committed stays.

        Raises PathNotAllowedError outside of the scope.
        """
        self._check_scope(real_path(path), scope)
        self._runs.cancel(path)

    def search(
        self,
        query: str,
        *,
        limit: int = 5,
        path: str | Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        mode: Mode = "hybrid",
        max_tokens: int = 6000,
        explain: bool = False,
        scope: Sequence[bytes] = (),
    ) -> SearchOutput:
        """Passages that answer the query, best first. Raises QueryError, StoreError or EncoderError.

        ``path``: gitignore-style patterns, absolute or relative to an indexed root, whose name may stand before;
        ``types``: file suffixes or format names; ``max_tokens``: size of the answer's compact JSON in cl100k_base
        tokens; ``explain``: say which token of each passage matched which of the query, and which words of the query no
        passage is about.
        """
        paths = (path,) if isinstance(path, str) else tuple(path or ())
        request = Request(
            query, limit, paths, tuple(types or ()), mode, max_tokens, tuple(scope), self._notice(), explain
        )
        request.check()
        encoder, reranker = (None, None) if mode == "lexical" else (self._ready_encoder(), self._reranker.get())
        max_bytes = self._config.documents.max_file_bytes
        return search(self._store, encoder, reranker, request, self._config.search, max_bytes)

    def get_passage(
        self, passage_id: str, before: int = 1, after: int = 1, *, scope: Sequence[bytes] = ()
    ) -> PassageOutput:
        """A passage with ``before`` and ``after`` chunks around it, also one of an earlier generation.

        Raises PassageNotFoundError for an unknown id and QueryError for a negative or large count.
        """
        for name, value in (("before", before), ("after", after)):
            if not 0 <= value <= MAX_NEIGHBOURS:
                raise QueryError(f"{name} is {value}; it must be between 0 and {MAX_NEIGHBOURS}.")
        with self._store.snapshot() as snapshot:
            stored, passage, notice = self._cited(snapshot, passage_id, scope)
            earlier, later = ([], []) if stored.chunk_id is None else snapshot.reader.neighbours(stored, before, after)
            return PassageOutput(
                passage=passage,
                before_text="\n\n".join(chunk.text for chunk in earlier),
                after_text="\n\n".join(chunk.text for chunk in later),
                generation=snapshot.generation,
                notice=notice,
            )

    def explain(self, query: str, passage_id: str, *, scope: Sequence[bytes] = ()) -> ExplainOutput:
        """Why a passage matches a query, token by token; also one of an earlier generation, which is encoded again.

        Raises QueryError, PassageNotFoundError, StoreError or EncoderError.
        """
        Request(query, 1, (), (), "semantic", sys.maxsize).check()
        encoder = self._ready_encoder()
        with self._store.snapshot() as snapshot:
            stored, passage, notice = self._cited(snapshot, passage_id, scope)
            passage = explained(snapshot, encoder, query, stored, passage)
            return ExplainOutput(query=query, passage=passage, generation=snapshot.generation, notice=notice)

    def verify_quote(
        self,
        quote: str,
        passage_id: str | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        scope: Sequence[bytes] = (),
    ) -> VerifyOutput:
        """Whether the quote stands in the indexed text of a passage, or of a file (``path``: absolute, relative to the
        working directory or an indexed root, or a ``file:`` URL), or anywhere. Raises QueryError.
        """
        claim = Claim(quote, passage_id, path, tuple(scope), self._notice())
        with self._store.snapshot() as snapshot:
            return verify(snapshot, claim, self._config.documents.max_file_bytes)

    def verify_answer(self, answer: str, *, scope: Sequence[bytes] = ()) -> AnswerOutput:
        """Verify every quotation of an answer in Markdown against the source that the answer cites for it."""
        return check_answer(answer, lambda quote, **target: self.verify_quote(quote, **target, scope=scope))

    def list_sources(self, path: str | None = None, *, limit: int = 100, scope: Sequence[bytes] = ()) -> SourcesOutput:
        """The indexed roots, and the files in them; at most ``limit`` files are listed.

        With ``path``, the files there, and the roots that lie there or hold it. Raises UnreadableDocumentError if
        nothing indexed lies there.
        """
        if not 0 <= limit <= 10_000:
            raise QueryError(f"limit is {limit}; it must be between 0 and 10000.")
        target = None if path is None else real_path(path)
        with self._store.snapshot() as snapshot:
            return sources(snapshot, target, scope, limit)

    def remove_path(self, path: str | os.PathLike[str], *, scope: Sequence[bytes] = ()) -> RemoveOutput:
        """Take a root, or a folder or file below one, out of the index at once, former passages included.

        Files that another root holds are kept. Raises UnreadableDocumentError if nothing indexed lies there.
        """
        target = real_path(path)
        self._check_scope(target, scope)
        with self._runs.writing, self._store.guard():
            self._runs.check_open()
            output = remove(self._store, target, scope)
        if (watcher := self._watcher) is not None:
            watcher.refresh()
        return output

    def gc(self, former_days: int | None = None, *, scope: Sequence[bytes] = ()) -> GcOutput:
        """Give back disk space; former passages older than ``former_days`` (default: ``keep_former_days``) go too.

        Raises QueryError for a number of days out of range, and StoreError where an indexing run or another change is
        going on, or the disk is too small for a part to be written anew; nothing is lost then. Raises
        PathNotAllowedError under a scope: it concerns all of the index.
        """
        if scope:
            raise PathNotAllowedError("What gc deletes concerns the whole index; run it without limits (--root).")
        days = self._config.store.keep_former_days if former_days is None else former_days
        if not 0 <= days <= MAX_FORMER_DAYS:
            raise QueryError(f"former_days is {days}; it must be between 0 and {MAX_FORMER_DAYS}.")
        with self._runs.alone("gc"):
            return reclaim(self._store, days)

    def check(
        self,
        *,
        read_data: bool = False,
        repair: bool = False,
        step: Callable[[str], None] | None = None,
        scope: Sequence[bytes] = (),
    ) -> CheckOutput:
        """Compare every part of the index with the others, and every passage with its source; waits for a run.

        ``read_data`` also hashes the segments' files and compares Chroma's texts and vectors. With ``repair``, what can
        be repaired is, and all is checked again; ``step`` is told what is being done. Raises StoreError, and
        PathNotAllowedError under a scope: it concerns all of the index.
        """
        if scope:
            raise PathNotAllowedError("A check looks at the whole index; run it without limits (--root).")
        if repair:
            _ = self._store.writer

        def going(what: str) -> None:
            self._runs.check_open()
            if step is not None:
                step(what)

        documents = self._config.documents
        index = display_path(bytes(self._store.directory))
        with self._runs.writing:
            self._runs.check_open()
            found = check(self._store, documents.max_file_bytes, read_data=read_data, step=going)
            if not repair or not found.faults:
                return output(index, found, named=self._config.for_index)
            done = mend(self._store, found, self._ready_encoder, (documents, self._config.store), going)
            after = check(self._store, documents.max_file_bytes, read_data=read_data, step=going)
            return output(index, found, after, done, named=self._config.for_index)

    def index_status(self, *, scope: Sequence[bytes] = ()) -> StatusOutput:
        """The index, the model as far as it is loaded, the configured reranker, and the runs of this process."""
        watching = None if (watcher := self._watcher) is None else watcher.outputs(scope)
        runs = self._runs.outputs(scope)
        return status(self._store, self._encoder, self._config, runs, watching, scope)

    def _checked_root(
        self,
        path: str | os.PathLike[str],
        include: Sequence[str] | None,
        exclude: Sequence[str] | None,
        scope: Sequence[bytes],
    ) -> bytes:
        """The real path of a root that may and can be indexed with these patterns; raises DocumentError."""
        target = real_path(path)
        self._check_scope(target, scope)
        check_root(target, [real_path(root) for root in self._config.index.roots])
        check_indexable(target, [*(include or ()), *(exclude or ())])
        check_outside(self._config.model, [target])
        return target

    def _cited(
        self, snapshot: Snapshot, passage_id: str, scope: Sequence[bytes]
    ) -> tuple[StoredPassage, Passage, str | None]:
        stored, notice = find_passage(snapshot.reader, passage_id, scope)
        sources = Sources(snapshot.reader, self._config.documents.max_file_bytes)
        standing, twin = sources.follow(stored, scope)
        return stored, cite(stored, standing, twin=twin), notice

    def _ready_encoder(self) -> Encoder:
        """The model, loaded once; raises IndexMismatchError where the index was made with another."""
        with self._encoder_lock:
            if self._encoder is None:
                if self._config.model.trust_remote_code:
                    check_outside(self._config.model, self._store.roots())
                self._encoder = load_encoder(self._config.model)
                for notice in self._encoder.notices:
                    _log.warning(notice)
            if not self._checked:
                self._store.check_fingerprint(fingerprint(self._encoder))
                self._checked = True
            return self._encoder

    def _notice(self) -> str | None:
        """What a caller should know of what is going on meanwhile."""
        watcher = self._watcher
        return self._runs.notice() or (None if watcher is None else watcher.notice())

    def _check_scope(self, path: bytes, scope: Sequence[bytes]) -> None:
        if not in_scope(path, scope):
            raise PathNotAllowedError(f"{display_path(path)} is outside of what this server was started for (--root).")
