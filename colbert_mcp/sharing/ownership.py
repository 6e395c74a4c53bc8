"""Who has an index: the lock file in its directory, and the owner's name beside it.

Loads nothing heavy, so that ``serve`` can see that an index is in use before it starts anything. Knows nothing of what
is in an index.
"""

import json
import os
from pathlib import Path

from filelock import FileLock, Timeout

from colbert_mcp.errors import IndexLockedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"
OWNER = "owner.json"
CATALOGUE = "catalog.sqlite"


def in_use(directory: Path) -> IndexLockedError:
    """The error that names who has an index."""
    owner = owner_of(directory)
    ends = "End it with: colbert-mcp engine stop" if "colbert-mcp engine" in owner else "Wait until it ends, or end it"
    return IndexLockedError(f"{directory} is in use by {owner}. {ends}; or use another index with --index.")


def is_held(lock: Path) -> bool:
    """Whether a process has a lock; False where there is none, or it is someone else's.

    Who asks shares it for a moment with others who ask, who would else be taken for its holder.
    """
    try:
        return _is_held(lock)
    except OSError:
        return False


def _is_held(lock: Path) -> bool:
    if fcntl is None:
        try:
            with FileLock(lock, timeout=0):
                return False
        except Timeout:
            return True
    descriptor = os.open(lock, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def owner_of(directory: Path) -> str:
    """The process that has an index, fit to stand in a sentence."""
    try:
        owner = json.loads((directory / OWNER).read_text(encoding="utf-8"))
        return f"process {owner['pid']} ({owner['command'].strip()}, since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "another process"
