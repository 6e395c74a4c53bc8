"""Makes names and bytes durable, so that they outlive a loss of power too. Knows nothing of indexes."""

import os
from pathlib import Path


def fsync_directory(directory: Path) -> None:
    """Make the names in a directory durable (a no-op where directories cannot be opened)."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Make every file below a folder durable, and all names. Raises OSError where a file cannot be read or synced."""
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                descriptor = os.open(Path(directory) / name, os.O_RDONLY)
            except FileNotFoundError:  # it has been deleted meanwhile
                continue
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_directory(Path(directory))
