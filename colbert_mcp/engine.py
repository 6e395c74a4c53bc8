"""The one owner of an index: its lock, its model and its runs. Both faces call these functions.

The model loads when it is first needed, never for ``show`` or ``status``. One run writes at a time; searches go on
beside it. Knows nothing of MCP or of terminals.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence

from colbert_mcp.changes import patterns_of
from colbert_mcp.checking import check_answer
from colbert_mcp.citations import Sources, cite, find_passage
from colbert_mcp.config import Config
from colbert_mcp.documents import check_root, display_path, in_scope, real_path
from colbert_mcp.encoder import Encoder, load_encoder
from colbert_mcp.errors import (
    ColbertMCPError,
    PathNotAllowedError,
    QueryError,
    StoreError,
)
from colbert_mcp.indexing import check_indexable, fingerprint, index, seems_made_with
from colbert_mcp.inventory import sources, status
from colbert_mcp.planning import planned
from colbert_mcp.removal import remove
from colbert_mcp.results import (
    AnswerOutput,
    ExplainOutput,
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
from colbert_mcp.runs import Run
from colbert_mcp.store import Snapshot, Store, StoredPassage
from colbert_mcp.types import Mode, ProgressCallback
from colbert_mcp.verification import Claim, verify

MAX_NEIGHBOURS = 20
_KEPT_RUNS = 20
_LOADING = "Loading the model."


class _Task:
    """A run in its thread, and what ended it if it failed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.finished = threading.Event()  # not Thread.join, which an interrupt makes believe that the thread has ended
        self.error: Exception | None = None


class Engine:
    """An open index with its model. Safe to call from several threads; close it when done."""

    def __init__(self, config: Config, store: Store, encoder: Encoder | None = None) -> None:
        self._config = config
        self._store = store
        self._encoder = encoder
        self._encoder_lock = threading.Lock()
        self._checked = False
        self._runs: dict[bytes, _Task] = {}
        self._runs_lock = threading.Lock()
        self._closed = False
        self._writing = threading.Lock()

    @classmethod
    def open(cls, config: Config, *, create_missing: bool, encoder: Encoder | None = None) -> "Engine":
        """Own the configured index; ``encoder`` replaces the configured model. Raises StoreError."""
        return cls(
            config, Store.open(config.index_path.resolve(), config.store, create_missing=create_missing), encoder
        )

    def close(self) -> None:
        """Cancel what runs, and close the index cleanly."""
        with self._runs_lock:
            self._closed = True
            tasks = list(self._runs.values())
        for task in tasks:
            task.run.cancelled.set()
        for task in tasks:
            task.finished.wait()
        with self._writing:
            self._store.close()

    def warm_up(self) -> None:
        """Load the model and open Chroma ahead of the first search."""
        self._store.vectors.start()
        self._ready_encoder()

    @property
    def busy(self) -> bool:
        """Whether an indexing run is going on."""
        return any(not task.finished.is_set() for task in list(self._runs.values()))

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
        task = self._start(target, include, exclude, progress, verify=verify)
        return self._outcome(task, wait_seconds, list_skipped)

    def wait_for_run(
        self, path: str | os.PathLike[str], wait_seconds: float | None, list_skipped: int = 50
    ) -> IndexOutput:
        """How the latest run over a root stands after at most ``wait_seconds``; raises what ended it.

        Raises StoreError where this engine knows of no run over it.
        """
        return self._outcome(self._run_of(path), wait_seconds, list_skipped)

    def run_bytes(self, path: str | os.PathLike[str]) -> tuple[int, int]:
        """How many bytes of files the latest run over a root has done, and of how many."""
        run = self._run_of(path).run
        return run.bytes_done, run.bytes_total

    def cancel(self, path: str | os.PathLike[str]) -> None:
        """Stop the run over a root after the batch at hand; what was committed stays."""
        task = self._runs.get(real_path(path))
        if task is not None:
            task.run.cancelled.set()
            task.run.notice = "It stops after the batch at hand."

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

        ``path``: gitignore-style patterns, absolute or relative to an indexed root; ``types``: file suffixes or format
        names; ``max_tokens``: size of the answer's compact JSON in cl100k_base tokens; ``explain``: say which token of
        each passage matched which of the query, and which words of the query no passage is about.
        """
        paths = (path,) if isinstance(path, str) else tuple(path or ())
        notice = self._runs_notice()
        request = Request(query, limit, paths, tuple(types or ()), mode, max_tokens, tuple(scope), notice, explain)
        request.check()
        encoder = None if mode == "lexical" else self._ready_encoder()
        return search(self._store, encoder, request, self._config.search, self._config.documents.max_file_bytes)

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
        claim = Claim(quote, passage_id, path, tuple(scope), self._runs_notice())
        with self._store.snapshot() as snapshot:
            return verify(snapshot, claim, self._config.documents.max_file_bytes)

    def verify_answer(self, answer: str, *, scope: Sequence[bytes] = ()) -> AnswerOutput:
        """Verify every quotation of an answer in Markdown against the source that the answer cites for it."""
        return check_answer(answer, lambda quote, **target: self.verify_quote(quote, **target, scope=scope))

    def list_sources(self, path: str | None = None, *, limit: int = 100, scope: Sequence[bytes] = ()) -> SourcesOutput:
        """The indexed roots, and the files under ``path`` (default: all); at most ``limit`` files are listed."""
        if not 0 <= limit <= 10_000:
            raise QueryError(f"limit is {limit}; it must be between 0 and 10000.")
        within = [*scope] if path is None else [real_path(path)]
        with self._store.snapshot() as snapshot:
            return sources(snapshot, within, scope, limit)

    def remove_path(self, path: str | os.PathLike[str], *, scope: Sequence[bytes] = ()) -> RemoveOutput:
        """Take a root, or a folder or file below one, out of the index at once, former passages included.

        Files that another root holds are kept. Raises UnreadableDocumentError if nothing indexed lies there.
        """
        target = real_path(path)
        self._check_scope(target, scope)
        with self._writing, self._store.guard():
            self._check_open()
            return remove(self._store, target, scope)

    def index_status(self, *, scope: Sequence[bytes] = ()) -> StatusOutput:
        """The index, the model as far as it is loaded, and the runs of this process."""
        runs = [task.run.output() for path, task in list(self._runs.items()) if in_scope(path, scope)]
        return status(self._store, self._encoder, self._config.model.name, runs, scope)

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
        return target

    def _start(
        self,
        target: bytes,
        include: Sequence[str] | None,
        exclude: Sequence[str] | None,
        progress: ProgressCallback | None,
        *,
        verify: bool,
    ) -> _Task:
        writer = self._store.writer
        with self._runs_lock, self._store.guard():
            self._check_open()
            running = self._runs.pop(target, None)
            if running is not None and not running.finished.is_set():
                self._runs[target] = running
                return running
            run = Run(
                target,
                *patterns_of(writer, target, include, exclude),
                progress=progress,
                verify=verify,
                notice=None if self._may_wait_for_model() else _LOADING,
            )
            task = self._runs[target] = _Task(run)
            threading.Thread(target=self._carry_out, args=(task,), name="indexing").start()
            self._forget_old_runs()
            return task

    def _carry_out(self, task: _Task) -> None:
        run = task.run
        try:
            if run.notice is not None:
                self._load_for(run)
            with self._writing, self._store.guard():
                run.started = time.monotonic()
                # Where nothing has changed, no model is loaded.
                index(run, self._store, lambda: self._load_for(run), self._config.documents, self._config.store)
            run.state = "cancelled" if run.cancelled.is_set() else "done"
        except Exception as error:  # noqa: BLE001  # raised again in the threads that wait for the run
            task.error = error
            run.notice = str(error) if isinstance(error, ColbertMCPError) else "The program failed; see the log."
            run.state = "failed"
        finally:
            run.seconds = time.monotonic() - run.started
            task.finished.set()

    def _run_of(self, path: str | os.PathLike[str]) -> _Task:
        target = real_path(path)
        task = self._runs.get(target)
        if task is None:
            raise StoreError(
                f"No run over {display_path(target)} is known: the engine was started anew. Index it again; what was "
                "committed is kept."
            )
        return task

    def _may_wait_for_model(self) -> bool:
        """Whether a run may begin without the model, which it needs only if it finds something new."""
        return self._encoder is None and seems_made_with(self._store.writer.fingerprint, self._config.model)

    def _load_for(self, run: Run) -> Encoder:
        """The model; loading it is told, and does not count as time of the run."""
        run.notice, before = _LOADING, time.monotonic()
        encoder = self._ready_encoder()
        run.notice, run.started = None, run.started + time.monotonic() - before
        return encoder

    def _outcome(self, task: _Task, wait_seconds: float | None, list_skipped: int = 50) -> IndexOutput:
        # NaN and negative waits are none, and the longest is what the platform's clock takes.
        if wait_seconds is not None:
            wait_seconds = min(wait_seconds, threading.TIMEOUT_MAX) if wait_seconds > 0 else 0
        task.finished.wait(wait_seconds)
        if task.error is not None:
            raise task.error
        return task.run.output(list_skipped)

    def _runs_notice(self) -> str | None:
        runs = [task.run for task in list(self._runs.values()) if not task.finished.is_set()]
        if not runs:
            return None
        done, total = sum(run.files_done for run in runs), sum(run.files_total for run in runs)
        return f"Indexing is going on ({done} of {total} files): what is not committed yet is not found."

    def _forget_old_runs(self) -> None:
        finished = [path for path, task in self._runs.items() if task.finished.is_set()]
        for path in finished[: max(0, len(self._runs) - _KEPT_RUNS)]:
            del self._runs[path]

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
                self._encoder = load_encoder(self._config.model)
            if not self._checked:
                self._store.check_fingerprint(fingerprint(self._encoder))
                self._checked = True
            return self._encoder

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("The index is closed; open it again.")

    def _check_scope(self, path: bytes, scope: Sequence[bytes]) -> None:
        if not in_scope(path, scope):
            raise PathNotAllowedError(f"{display_path(path)} is outside of what this server was started for (--root).")
