"""Indexing runs in threads of their own: one at a time writes, and whoever asks for a root joins the run over it.

Knows the store and how to get the model; nothing of searches, nor of who waits for a run.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from colbert_mcp.config import Config
from colbert_mcp.documents import display_path, in_scope, real_path
from colbert_mcp.encoder import Encoder
from colbert_mcp.errors import ColbertMCPError, StoreError
from colbert_mcp.indexing.changes import patterns_of
from colbert_mcp.indexing.indexer import index, seems_made_with
from colbert_mcp.indexing.runs import Run
from colbert_mcp.results import IndexOutput
from colbert_mcp.store import Store
from colbert_mcp.types import ProgressCallback

_KEPT_RUNS = 20
_LOADING = "Loading the model."
_STOPPING = "It stops after the batch at hand."


class Task:
    """A run in its thread, and what ended it if it failed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.finished = threading.Event()  # not Thread.join, which an interrupt makes believe that the thread has ended
        self.error: Exception | None = None

    def outcome(self, wait_seconds: float | None, list_skipped: int = 50) -> IndexOutput:
        """How the run stands after at most ``wait_seconds``; raises what ended it."""
        # NaN and negative waits are none, and the longest is what the platform's clock takes.
        if wait_seconds is not None:
            wait_seconds = min(wait_seconds, threading.TIMEOUT_MAX) if wait_seconds > 0 else 0
        self.finished.wait(wait_seconds)
        if self.error is not None:
            raise self.error
        return self.run.output(list_skipped)


class Runs:
    """The runs of an engine, the latest of each root.

    ``load`` gives the model, loading it if need be; ``loaded`` says whether it is in memory. Whatever else writes to
    the store does it under ``writing``.
    """

    def __init__(self, config: Config, store: Store, load: Callable[[], Encoder], loaded: Callable[[], bool]) -> None:
        self._config = config
        self._store = store
        self._load = load
        self._loaded = loaded
        self._closed = False
        self._lock = threading.Lock()
        self.finished: Callable[[Task], None] = lambda _: None  # called when a run has ended
        self.tasks: dict[bytes, Task] = {}
        self._replaced: list[Task] = []
        self.writing = threading.Lock()

    def start(
        self,
        target: bytes,
        include: Sequence[str] | None,
        exclude: Sequence[str] | None,
        progress: ProgressCallback | None = None,
        *,
        verify: bool = False,
        watched: bool = False,
        begun: Callable[[Task], None] = lambda _: None,
    ) -> Task:
        """Begin a run over a root (a real path that may be indexed), or join the one that is going on.

        A ``watched`` run, which nobody asked for, gives way to one that asks for more than it does. ``begun`` is told
        of a new run before it goes. Raises StoreError where the index is closed or cannot be written.
        """
        writer = self._store.writer
        with self._lock, self._store.guard():
            self.check_open()
            running = self.tasks.get(target)
            if running is not None and not running.finished.is_set():
                if not self._gives_way(running.run, include, exclude, verify=verify):
                    running.run.watched &= watched
                    return running
                running.run.cancelled.set()
                self._replaced = [task for task in (*self._replaced, running) if not task.finished.is_set()]
            run = Run(
                target,
                *patterns_of(writer, target, include, exclude),
                progress=progress,
                verify=verify,
                watched=watched,
                notice=None if self._may_wait_for_model() else _LOADING,
            )
            task = Task(run)
            # The latest last, and put there at once: whoever waits for a run must not miss it for a moment.
            self.tasks = {**{root: other for root, other in self.tasks.items() if root != target}, target: task}
            begun(task)
            threading.Thread(target=self._carry_out, args=(task,), name="indexing").start()
            self._forget_old()
            return task

    def latest(self, path: str | os.PathLike[str]) -> Task:
        """The latest run over a root; raises StoreError where none is known."""
        target = real_path(path)
        task = self.tasks.get(target)
        if task is None:
            raise StoreError(
                f"No run over {display_path(target)} is known: the engine was started anew. Index it again; what was "
                "committed is kept."
            )
        return task

    def cancel(self, path: str | os.PathLike[str]) -> None:
        """Stop the run over a root after the batch at hand; what was committed stays."""
        task = self.tasks.get(real_path(path))
        if task is not None:
            task.run.cancelled.set()
            task.run.notice = _STOPPING

    @property
    def busy(self) -> bool:
        """Whether a run is going on that somebody asked for."""
        return any(not task.finished.is_set() and not task.run.watched for task in list(self.tasks.values()))

    def runs_over(self, root: bytes) -> bool:
        """Whether a run over a root (a real path) is going on."""
        task = self.tasks.get(root)
        return task is not None and not task.finished.is_set()

    def notice(self) -> str | None:
        """What a searcher should know of the runs that are going on."""
        runs = [task.run for task in list(self.tasks.values()) if not task.finished.is_set()]
        if not runs:
            return None
        done, total = sum(run.files_done for run in runs), sum(run.files_total for run in runs)
        return f"Indexing is going on ({done} of {total} files): what is not committed yet is not found."

    def outputs(self, scope: Sequence[bytes]) -> list[IndexOutput]:
        """How the runs over roots in ``scope`` stand."""
        return [task.run.output() for path, task in list(self.tasks.items()) if in_scope(path, scope)]

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Write to the store, without waiting for whoever does; raises StoreError where somebody does."""
        if not self.writing.acquire(blocking=False):
            raise StoreError(f"The index is being changed, by an indexing run perhaps; call {what} when that is over.")
        try:
            self.check_open()
            yield
        finally:
            self.writing.release()

    def check_open(self) -> None:
        """Raise StoreError once the runs are closed."""
        if self._closed:
            raise StoreError("The index is closed; open it again.")

    def close(self) -> None:
        """Cancel what is going on, wait for it, and begin nothing any more."""
        with self._lock:
            self._closed = True
            tasks = [*self.tasks.values(), *self._replaced]
        for task in tasks:
            task.run.cancelled.set()
        for task in tasks:
            task.finished.wait()

    def _carry_out(self, task: Task) -> None:
        run = task.run
        try:
            if run.notice == _LOADING:
                self._load_for(run)
            with self.writing, self._store.guard():
                run.started = time.monotonic()
                # Where nothing has changed, no model is loaded.
                index(run, self._store, lambda: self._load_for(run), self._config.documents, self._config.store)
            run.state = "cancelled" if run.cancelled.is_set() else "done"
            run.notice = None if run.notice == _STOPPING else run.notice
        except BaseException as error:  # noqa: BLE001  # raised again in the threads that wait for the run
            # Extensions panic with what is no Exception.
            task.error = error if isinstance(error, Exception) else StoreError(f"The run broke off: {error}")
            run.notice = str(error) if isinstance(error, ColbertMCPError) else "The program failed; see the log."
            run.state = "failed"
        finally:
            run.seconds = time.monotonic() - run.started
            task.finished.set()
            self.finished(task)

    def _gives_way(
        self, run: Run, include: Sequence[str] | None, exclude: Sequence[str] | None, *, verify: bool
    ) -> bool:
        """Whether a run that nobody asked for does less than what is asked for now."""
        if not run.watched:
            return False
        patterns = patterns_of(self._store.writer, run.path, include, exclude)
        return verify or patterns != (run.include, run.exclude)

    def _may_wait_for_model(self) -> bool:
        """Whether a run may begin without the model, which it needs only if it finds something new."""
        return not self._loaded() and seems_made_with(self._store.writer.fingerprint, self._config.model)

    def _load_for(self, run: Run) -> Encoder:
        """The model; loading it is told, and does not count as time of the run."""
        run.notice, before = _LOADING, time.monotonic()
        encoder = self._load()
        run.notice = " ".join(encoder.notices) or None
        run.started += time.monotonic() - before
        return encoder

    def _forget_old(self) -> None:
        finished = [path for path, task in self.tasks.items() if task.finished.is_set()]
        for path in finished[: max(0, len(self.tasks) - _KEPT_RUNS)]:
            del self.tasks[path]
