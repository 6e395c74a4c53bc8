"""Keeps the indexed roots fresh: what the operating system tells of changes leads to ordinary runs over the roots.

What is told is only a hint that a root must be looked at; what is indexed is decided by the run, by the same rules as
any other. A run follows whenever a watch over a root begins, since what changed before is unknown, and once in a while,
since changes get lost. Nothing is run over a root that is gone or holds nothing (a file system that is not mounted
looks like that): its documents stay, and its return is waited for. Knows runs and the store; nothing of who asked.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from colbert_mcp.config import DocumentsConfig
from colbert_mcp.documents import Discovery, Relevance, display_path, in_scope, is_within, real_path
from colbert_mcp.errors import ColbertMCPError
from colbert_mcp.indexing.running import Runs, Task
from colbert_mcp.results import IndexOutput, WatchedRoot, WatchState
from colbert_mcp.store import Root, Store
from colbert_mcp.watching.debounce import Debounce, Timing
from colbert_mcp.watching.listening import Listener

# So many changes at once count whatever they are: the system forgets some when it has to keep too many.
_MANY = 10_000
_CATCHING_UP = (
    "Changes from before the folders were watched are being looked for: what is new is not found yet. Ask again."
)
_AROUND = "as part of a folder around it"
_log = logging.getLogger("colbert_mcp.watching.watcher")
_Identity = tuple[int, int]


@dataclass(slots=True)
class _Watch:
    """A root, and how it is watched.

    ``identity`` is the device and inode that the listener was started on, ``looked`` when it was last looked through.
    """

    root: Root
    state: WatchState = "starting"
    reason: str | None = None
    identity: _Identity | None = None
    listener: Listener | None = None
    polled: float = 0.0
    looked: float = 0.0
    last: IndexOutput | None = None
    last_at: str | None = None


class Watcher:
    """Watches all roots of an index until it is closed; ``clock`` gives seconds that only grow.

    ``finished`` is called with what each run did that was begun here. Raises StoreError where nothing can be written.
    """

    def __init__(
        self,
        store: Store,
        runs: Runs,
        documents: DocumentsConfig,
        *,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
        finished: Callable[[IndexOutput], None] = lambda _: None,
    ) -> None:
        _ = store.writer  # raises where the index can only be read
        self._store = store
        self._runs = runs
        self._documents = documents
        self._timing = timing or Timing()
        self._clock = clock
        self._finished = finished
        self._own = real_path(store.directory)
        self._watches: dict[bytes, _Watch] = {}
        self._started: dict[bytes, Task] = {}
        self._debounce = Debounce(self._timing, clock)
        self._wake = threading.Condition(threading.RLock())
        self._stale = True
        self._known = False
        self._closing = False
        runs.finished = self._ended
        self._thread = threading.Thread(target=self._work, name="watching", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no more and begin no run; those that are going on are not touched."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
            listeners = [watch.listener for watch in self._watches.values() if watch.listener is not None]
        for listener in listeners:
            listener.close(0.0)
        self._thread.join(1.0)
        for listener in listeners:
            listener.close()

    def refresh(self) -> None:
        """The roots of the index may have changed."""
        with self._wake:
            self._stale = True
            self._wake.notify_all()

    def outputs(self, scope: Sequence[bytes]) -> list[WatchedRoot]:
        """How the roots in ``scope`` are watched, and what is in it of others."""
        with self._wake:
            watches = sorted(self._watches.items())
            inside = [_output(watch) for path, watch in watches if in_scope(path, scope)]
        around = (self._around(path, [watch for root, watch in watches if is_within(path, root)]) for path in scope)
        return [*inside, *filter(None, around)]

    def _around(self, path: bytes, watches: Sequence[_Watch]) -> WatchedRoot | None:
        """How a path below roots is watched, the innermost being the last; None where it is a root, or left out.

        Nothing is told of what else they hold, not even when something changed.
        """
        if any(watch.root.path == path for watch in watches):
            return None
        watch = next((watch for watch in reversed(watches) if self._matter(watch.root, [path])), None)
        return None if watch is None else _output(_Watch(replace(watch.root, path=path), watch.state, _AROUND))

    def notice(self) -> str | None:
        """What a searcher should know: roots whose changes of before the watching are not looked for yet."""
        with self._wake:
            behind = not self._known or any(
                watch.last is None and watch.state not in ("missing", "empty") for watch in self._watches.values()
            )
        return _CATCHING_UP if behind else None

    # What the watcher's own thread does

    def _work(self) -> None:
        while True:
            with self._wake:
                if self._closing:
                    return
            try:
                self._look()
            except Exception:  # noqa: BLE001  # one root that makes trouble must not end it for all
                if not self._closing:
                    _log.exception("Watching has met an error and goes on")
            with self._wake:
                if not self._closing and not self._stale:
                    self._wake.wait(self._pause())

    def _pause(self) -> float:
        """Seconds until there may be something to do; what is due but must wait is woken by what it waits for."""
        seconds = self._debounce.seconds()
        return min(self._timing.tick, seconds or self._timing.tick)

    def _look(self) -> None:
        with self._wake:
            stale, self._stale = self._stale, False
        if stale:
            self._read_roots()
        for watch in list(self._watches.values()):
            self._check(watch)
        with self._wake:
            due = self._debounce.due()
        for root in due:
            self._run(root)

    def _read_roots(self) -> None:
        """Watch the roots that the index has now, and no others."""
        with self._store.snapshot() as snapshot:
            roots = {root.path: root for root in snapshot.reader.roots()}
        with self._wake:
            for path in self._watches.keys() - roots.keys():
                self._stop(self._watches.pop(path))
                self._debounce.forget(path)
            for path, root in roots.items():
                self._watches.setdefault(path, _Watch(root)).root = root
            self._known = True

    def _check(self, watch: _Watch) -> None:
        """Begin to watch a root, or again if it is another folder now, or stop where there is nothing."""
        identity = _identity(watch.root.path)
        with self._wake:
            if self._closing:
                return
            if identity is None:
                self._stop(watch)
                self._tell(watch, "missing", "it is gone; what is indexed of it stays until it is back")
            elif watch.listener is None and watch.state == "polled":
                if self._clock() - watch.polled >= self._timing.poll:
                    self._listen(watch, identity)
            elif watch.identity != identity:
                self._listen(watch, identity)
            elif self._is_due_anew(watch):
                self._note(watch)

    def _is_due_anew(self, watch: _Watch) -> bool:
        """Whether what may have got lost is to be looked for: where too much changed at once, or was unreadable."""
        if watch.state not in ("watched", "empty") or self._runs.runs_over(watch.root.path):
            return False
        return self._clock() - watch.looked >= self._timing.anew

    def _listen(self, watch: _Watch, identity: _Identity) -> None:
        self._stop(watch)
        watch.identity = identity
        if watch.state != "polled":
            watch.state, watch.reason = "starting", None
        path = watch.root.path
        watch.listener = Listener(
            path, partial(self._changed, watch), partial(self._ready, watch, identity), partial(self._failed, watch)
        )

    def _stop(self, watch: _Watch) -> None:
        if watch.listener is not None:
            watch.listener.close(0.0)
        watch.listener = watch.identity = None

    def _run(self, root: bytes) -> None:
        """Begin a run over a root, unless one is going on, after which it is this one's turn."""
        watch = self._watches.get(root)
        if watch is None or self._runs.runs_over(root):
            return
        holds = _holds_something(root)
        with self._wake:
            if self._closing:
                return
            self._debounce.take(root)
            if not holds:
                if watch.state != "missing":
                    self._tell(
                        watch, "empty", "it holds nothing; what is indexed of it stays until index_path is called"
                    )
                return
            if watch.state == "empty":
                self._tell(watch, "watched", None)
        try:
            self._runs.start(root, None, None, watched=True, begun=partial(self._begun, root))
        except ColbertMCPError as error:
            with self._wake:
                self._debounce.failed(root)
            _log.warning("%s is not brought up to date: %s", display_path(root), error)

    def _begun(self, root: bytes, task: Task) -> None:
        with self._wake:
            self._started[root] = task

    # What other threads tell

    def _ready(self, watch: _Watch, identity: _Identity) -> None:
        with self._wake:
            if watch.identity == identity:
                self._tell(watch, "watched", None)
                self._note(watch)

    def _changed(self, watch: _Watch, paths: Sequence[bytes], deleted: bool) -> None:
        if deleted or _identity(watch.root.path) != watch.identity:
            with self._wake:
                watch.identity = None  # it was deleted, be it back already: it must be watched anew
                self._wake.notify_all()
        if self._matter(watch.root, paths):
            with self._wake:
                self._note(watch)

    def _failed(self, watch: _Watch, reason: str) -> None:
        with self._wake:
            self._stop(watch)
            watch.polled = self._clock()
            reason = f"{reason}. It is looked through every {self._timing.poll:g} seconds instead"
            self._tell(watch, "polled", reason)
            self._note(watch)

    def _note(self, watch: _Watch) -> None:
        watch.looked = self._clock()  # it is about to be
        if watch.root.path in self._watches:
            self._debounce.note(watch.root.path)
            self._wake.notify_all()

    def _matter(self, root: Root, paths: Sequence[bytes]) -> bool:
        """Whether a group of changes can matter; what is in the index's own directory never does."""
        if len(paths) >= _MANY:
            return True
        if not os.path.isdir(root.path):
            return root.path in paths
        how = Discovery(self._documents.max_file_bytes, self._documents.hidden, root.include, root.exclude)
        relevance = Relevance(root.path, how, self._own)
        return any(relevance.matters(path) for path in paths)

    def _tell(self, watch: _Watch, state: WatchState, reason: str | None) -> None:
        if (watch.state, watch.reason) != (state, reason):
            watch.state, watch.reason = state, reason
            self._wake.notify_all()
            if reason is not None:
                _log.warning("%s: %s.", display_path(watch.root.path), reason)

    def _ended(self, task: Task) -> None:
        """A run has ended, whoever began it: the roots may be others now, and one may be waiting for this."""
        root = task.run.path
        with self._wake:
            ours = self._started.get(root) is task
            if ours:
                del self._started[root]
            if task.error is not None:
                self._debounce.failed(root)
            else:
                self._debounce.succeeded(root)
            output = task.run.output(0)
            if (watch := self._watches.get(root)) is not None:
                watch.looked = self._clock()
                if ours:
                    watch.last, watch.last_at = output, datetime.now(UTC).isoformat(timespec="seconds")
            self.refresh()
        if ours:
            if task.error is not None:
                _log.warning("%s is not brought up to date: %s", display_path(root), task.error)
            self._finished(output)


def _output(watch: _Watch) -> WatchedRoot:
    return WatchedRoot(
        path=display_path(watch.root.path),
        state=watch.state,
        reason=watch.reason,
        last_run=watch.last_at,
        last_state=None if watch.last is None else watch.last.state,
        indexed=0 if watch.last is None else watch.last.indexed,
        removed=0 if watch.last is None else watch.last.removed,
    )


def _identity(root: bytes) -> _Identity | None:
    """Device and inode of a root's folder, or of the folder around a root that is a file; None where it is gone."""
    try:
        status = os.stat(root)
        if not os.path.isdir(root):
            status = os.stat(os.path.dirname(root))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _holds_something(root: bytes) -> bool:
    try:
        if not os.path.isdir(root):
            return os.path.isfile(root)
        with os.scandir(root) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
