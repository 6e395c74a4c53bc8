"""What the operating system tells of changes below one folder or at one file: the only module that knows watchfiles.

What is told is only a hint. Knows nothing of indexes.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence

from watchfiles import Change, watch

_GROUP_MILLISECONDS = 200
_STEP_MILLISECONDS = 50  # also how long closing may take
_LIMIT = (
    "the system's limit of watches is reached: raise it with `sudo sysctl fs.inotify.max_user_watches=1048576 "
    "fs.inotify.max_user_instances=1024`"
)


class Listener:
    """Listens in a thread of its own until it is closed or fails.

    ``changed`` is called with the paths of a group of changes and whether the root itself was deleted, ``ready`` once
    all changes from now on will be told, and ``failed`` with the reason why they will not, or no longer. They are
    called in that thread.
    """

    def __init__(
        self,
        root: bytes,
        changed: Callable[[Sequence[bytes], bool], None],
        ready: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        self._root = root
        self._changed = changed
        self._ready = ready
        self._failed = failed
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listening", daemon=True)
        self._thread.start()

    def close(self, wait_seconds: float = 1.0) -> None:
        """Listen no more."""
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join(wait_seconds)

    def _listen(self) -> None:
        try:
            single = not os.path.isdir(self._root)
            # A file that is replaced is another file: its folder tells of both.
            folder = os.fsdecode(os.path.dirname(self._root) if single else self._root)
            told = watch(
                folder,
                watch_filter=None,
                debounce=_GROUP_MILLISECONDS,
                step=_STEP_MILLISECONDS,
                rust_timeout=_STEP_MILLISECONDS,
                yield_on_timeout=True,  # the first one says that the watch stands
                stop_event=self._closing,
                raise_interrupt=False,
                recursive=not single,
                ignore_permission_denied=True,
            )
            started = False
            for changes in told:
                if not started:
                    started = True
                    self._ready()
                self._tell(changes)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must be told that nobody listens
            if not self._closing.is_set():
                self._failed(_reason(error))
        else:
            if not self._closing.is_set():
                self._failed("the watch has ended")

    def _tell(self, changes: set[tuple[Change, str]]) -> None:
        if changes and not self._closing.is_set():
            deleted = (Change.deleted, os.fsdecode(self._root)) in changes
            self._changed([os.fsencode(path) for _, path in changes], deleted)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "its path is no text"
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EMFILE, errno.ENFILE) or "limit" in str(error).lower():
        return _LIMIT
    return str(error) or type(error).__name__
