"""Whether a directory is an index, may become one, may be written, and takes an encoder. Opens nothing."""

import os
from collections.abc import Mapping
from pathlib import Path

from colbert_mcp.errors import IndexCorruptError, IndexMismatchError, IndexNotFoundError, StoreError
from colbert_mcp.store.catalog import CATALOGUE, UNFINISHED


def check_directory(directory: Path, create_missing: bool) -> None:
    """Raise unless the directory is an index or, with ``create_missing``, may become one.

    Raises IndexNotFoundError, IndexCorruptError, or StoreError where the directory cannot be made.
    """
    if (directory / CATALOGUE).is_file():
        return
    if directory.exists() and not directory.is_dir():
        raise IndexNotFoundError(f"{directory} is a file, not an index directory; choose another with --index.")
    left = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if {"tokens", "chroma"} & left:
        raise IndexCorruptError(f"{directory} has lost its {CATALOGUE}; delete the directory and index again.")
    if left - {"lock", "owner.json", "engine", *UNFINISHED}:
        raise IndexNotFoundError(f"{directory} is not an index and holds other files; choose an empty directory.")
    if not create_missing:
        raise IndexNotFoundError(
            f"There is no index at {directory}; make one with: colbert-mcp index PATH --index {directory}"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"Cannot make the index directory {directory}: {error.strerror}.") from error


def check_read_only(directory: Path) -> None:
    """Raise StoreError where what the catalogue says is not all in its file."""
    log = directory / f"{CATALOGUE}-wal"
    if log.exists() and log.stat().st_size:
        raise StoreError(
            f"{directory} cannot be written and was not closed cleanly; open it once where it can be written."
        )


def is_read_only(directory: Path) -> bool:
    """Whether an index can be searched but not changed."""
    return not all(os.access(path, os.W_OK) for path in (directory, directory / CATALOGUE) if path.exists())


def require_same_encoder(
    directory: Path, stored: Mapping[str, object] | None, fingerprint: Mapping[str, object]
) -> None:
    """Raise IndexMismatchError where an index was made with another encoder; one without a fingerprint takes any.

    The ``model`` in it is a name for people and is not compared.
    """
    if stored is None:
        return
    keys = stored.keys() | fingerprint.keys()
    different = sorted(key for key in keys - {"model"} if stored.get(key) != fingerprint.get(key))
    if different:
        raise IndexMismatchError(
            f"The index {directory} was made with the model {stored.get('model')}, and the configured model "
            f"{fingerprint['model']} differs in {', '.join(different)}. Set [model] back, or use another index "
            "with --index."
        )
