"""One process owns an index at a time; others are told who. The operating system drops a dead owner's lock."""

import json
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from colbert_mcp.errors import IndexLockedError


class IndexLock:
    """The exclusive lock of an index directory: ``lock``, with the owner's name beside it in ``owner.json``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._owner = directory / "owner.json"
        self._lock = FileLock(directory / "lock")

    def acquire(self) -> None:
        """Take the lock or raise IndexLockedError naming the holder; PermissionError on a read-only directory."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise IndexLockedError(
                f"{self._directory} is in use by {self._holder()}. End that process, or use another index with --index."
            ) from None
        owner = {
            "pid": os.getpid(),
            "command": Path(sys.argv[0]).name + " " + " ".join(sys.argv[1:2]),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with suppress(OSError):  # it only serves a message, and a full disk must not keep anyone from searching
            self._owner.write_text(json.dumps(owner), encoding="utf-8")

    def release(self) -> None:
        """Give the lock back."""
        with suppress(OSError):
            self._owner.unlink(missing_ok=True)
        self._lock.release()

    def _holder(self) -> str:
        try:
            owner = json.loads(self._owner.read_text(encoding="utf-8"))
            return f"process {owner['pid']} ({owner['command'].strip()}, since {owner['since']})"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "another process"
