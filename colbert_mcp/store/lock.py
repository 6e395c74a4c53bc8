"""One process owns an index at a time; others are told who. The operating system drops a dead owner's lock."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from colbert_mcp.sharing.ownership import LOCK, OWNER, in_use

_PROBED_SECONDS = 0.2  # others hold the lock for moments, to see whether there is an owner


class IndexLock:
    """The exclusive lock of an index directory: ``lock``, with the owner's name beside it in ``owner.json``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._owner = directory / OWNER
        self._lock = FileLock(directory / LOCK)

    def acquire(self) -> None:
        """Take the lock or raise IndexLockedError naming the holder; PermissionError on a read-only directory."""
        try:
            self._lock.acquire(timeout=_PROBED_SECONDS, poll_interval=_PROBED_SECONDS / 10)
        except Timeout:
            raise in_use(self._directory) from None
        owner = {
            "pid": os.getpid(),
            "command": f"{Path(sys.argv[0]).name} {_command(sys.argv[1:])}",
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with suppress(OSError):  # it only serves a message, and a full disk must not keep anyone from searching
            self._owner.write_text(json.dumps(owner), encoding="utf-8")

    def release(self) -> None:
        """Give the lock back."""
        with suppress(OSError, ValueError, KeyError, TypeError):  # another may own what is at this path by now
            if json.loads(self._owner.read_text(encoding="utf-8"))["pid"] == os.getpid():
                self._owner.unlink()
        self._lock.release()


def _command(arguments: Sequence[str]) -> str:
    """The command among the arguments of a program: the first that is a plain word."""
    return next((argument for argument in arguments if argument.isalpha()), "")
