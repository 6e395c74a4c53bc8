"""How much disk space files take, and whether there is enough for more."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from colbert_mcp.errors import StoreError


def size_of(files: Iterable[Path]) -> int:
    """Bytes of those of the files that are still there: some may be deleted meanwhile."""
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def require_space(directory: Path, count: int) -> None:
    """Raise StoreError where the disk has fewer free bytes than ``count``, which rewriting something takes at most."""
    free = shutil.disk_usage(directory).free
    if free < count:
        raise StoreError(
            f"Rewriting a part of {directory} takes up to {count / 1e6:,.1f} MB of free disk space, and there are "
            f"{free / 1e6:,.1f}. Nothing is lost: free some space and run gc again."
        )
