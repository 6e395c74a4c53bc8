"""Whether a directory is an index, may become one, may be written, and takes an encoder."""

import logging
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from colbert_mcp.errors import IndexCorruptError, IndexMismatchError, IndexNotFoundError, StoreError
from colbert_mcp.sharing.ownership import CATALOGUE
from colbert_mcp.store.catalog_writer import Writer
from colbert_mcp.store.database import UNFINISHED, connect

logger = logging.getLogger(__name__)


def check_directory(directory: Path, create_missing: bool) -> None:
    """Raise unless the directory is an index or, with ``create_missing``, may become one.

    Raises IndexNotFoundError, IndexCorruptError, or StoreError where the directory cannot be made or looked into.
    """
    try:
        _check_directory(directory, create_missing)
    except PermissionError as error:
        raise StoreError(
            f"The index {directory} cannot be read ({error.strerror}); if it is yours, run: chmod -R u+rwX "
            f"{shlex.quote(str(directory))}"
        ) from None


def _check_directory(directory: Path, create_missing: bool) -> None:
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
    if has_log(directory):
        raise StoreError(
            f"{directory} cannot be written and was not closed cleanly; open it once where it can be written."
        )


def has_log(directory: Path) -> bool:
    """Whether a part of what the catalogue says is in its log, since it was not closed cleanly."""
    log = directory / f"{CATALOGUE}-wal"
    return log.exists() and log.stat().st_size > 0


def is_read_only(directory: Path) -> bool:
    """Whether an index can be searched but not changed."""
    return not all(os.access(path, os.W_OK) for path in (directory, directory / CATALOGUE) if path.exists())


def require_same_encoder(
    directory: Path, stored: Mapping[str, object] | None, fingerprint: Mapping[str, object]
) -> None:
    """Raise IndexMismatchError where an index was made with another encoder; one without a fingerprint takes any."""
    if stored is not None and (different := encoder_differences(stored, fingerprint)):
        raise IndexMismatchError(
            f"The index {directory} was made with the model {stored.get('model')}, and the configured model "
            f"{fingerprint['model']} differs in {', '.join(different)}. Set [model] back, or use another index "
            "with --index."
        )


def encoder_differences(stored: Mapping[str, object], fingerprint: Mapping[str, object]) -> list[str]:
    """In what the encoder of an index differs from another, with the values of both where these are short.

    The ``model`` in a fingerprint is a name for people and is not compared.
    """
    keys = sorted((stored.keys() | fingerprint.keys()) - {"model"})
    return [_difference(key, stored, fingerprint) for key in keys if stored.get(key) != fingerprint.get(key)]


def _difference(key: str, stored: Mapping[str, object], fingerprint: Mapping[str, object]) -> str:
    own, other = stored.get(key), fingerprint.get(key)
    if isinstance(own, int) and isinstance(other, int):
        return f"{key} ({own} in the index, {other} now)"
    return key


def open_writer(directory: Path) -> Writer | None:
    """The catalogue's writing side; None where the disk has no room for what SQLite keeps beside an open catalogue."""
    try:
        return Writer(connect(directory / CATALOGUE, writable=True))
    except StoreError as error:
        if type(error) is not StoreError or has_log(directory):
            raise
        connect(directory / CATALOGUE, immutable=True).close()
        logger.warning("The index can only be searched: %s", error)
        return None
