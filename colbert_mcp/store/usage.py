"""Disk use of folders that others write to meanwhile, and whether there is space for more. Knows files only."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from colbert_mcp.errors import StoreError


def bytes_below(folder: Path) -> int:
    """Bytes of the files in a folder and below it; what goes away while they are counted does not count."""
    size = 0
    # Not Path.rglob, which fails where a folder goes away before it was listed.
    for directory, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += Path(directory, name).stat().st_size
    return size


def bytes_named(folder: Path, beginning: str) -> int:
    """Bytes of the files right in a folder whose names begin so; see ``bytes_below``."""
    size = 0
    for file in folder.glob(f"{beginning}*"):
        with suppress(OSError):
            size += file.stat().st_size
    return size


def require_space(directory: Path, count: int) -> None:
    """Raise StoreError where the disk has fewer free bytes than ``count``, which rewriting something takes at most."""
    free = shutil.disk_usage(directory).free
    if free < count:
        raise StoreError(
            f"Rewriting a part of {directory} takes up to {count / 1e6:,.1f} MB of free disk space, and there are "
            f"{free / 1e6:,.1f}. Nothing is lost: free some space and run gc again."
        )
