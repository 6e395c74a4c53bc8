"""The documents of a labelled set as files of a folder, and back to their ids. Knows files; nothing of an index.

A folder that is kept is brought up to date: files whose text is the same are left as they are, so that an index of it
finds them unchanged. Nothing is written or deleted where anything is found that is not of its making, and no link is
followed: the folder may lie where others can write, or may hold what the user has put there.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from colbert_mcp.errors import ConfigError, StoreError

_PER_FOLDER = 1000
_MARKER = "evaluation.json"
DOCUMENTS = "documents"
INDEX_PREFIX = "index-"
_MADE_BY = {"colbert-mcp evaluation": 1}
_MARKER_BYTES = 1024  # more than the marker ever has
_IGNORE = ".ignore"
_PARENT = re.compile(r"[0-9]{4,}")
_FILE = re.compile(r"[0-9]{7,}\.txt")


@contextmanager
def workplace(keep: Path | None) -> Iterator[Path]:
    """A folder to work in: ``keep``, which is made if it is not there, or a temporary one.

    Raises ConfigError for a folder that holds other files, and StoreError where it cannot be made.
    """
    if keep is None:
        with TemporaryDirectory(prefix="colbert-mcp-") as scratch:
            yield Path(scratch).resolve()
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        _check_made_here(keep)
    except OSError as error:
        raise StoreError(f"Cannot use the folder {keep} ({error.strerror}); choose another with --keep.") from None
    yield keep.resolve()


def parts_of(keep: Path) -> list[Path]:
    """What a folder that is kept has of its own: its mark, its documents and its indexes."""
    return [keep / _MARKER, keep / DOCUMENTS, *keep.glob(f"{INDEX_PREFIX}*")]


def _check_made_here(keep: Path) -> None:
    """Mark an empty folder; raises ConfigError for one with files and no marker of ours, or with links."""
    marker = keep / _MARKER
    found = list(keep.iterdir())
    if not found:
        marker.write_text(json.dumps(_MADE_BY), encoding="utf-8")
        return
    for path in found:
        if path.is_symlink():
            raise ConfigError(f"{path} is a link; remove it, or give --keep an empty folder.")
    if not marker.is_file() or not _is_ours(marker):
        raise ConfigError(f"{keep} holds other files; give --keep an empty folder, or one it has made.")


def _is_ours(marker: Path) -> bool:
    with marker.open("rb") as file:
        content = file.read(_MARKER_BYTES)
    try:
        return bool(json.loads(content) == _MADE_BY)
    except (ValueError, RecursionError):
        return False


def write_documents(documents: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write each document to a file of its own below ``folder``; returns their ids by path relative to it.

    Files of documents that are not among them are deleted. Raises StoreError where the folder cannot be written, or
    holds anything else.
    """
    names = {f"{number // _PER_FOLDER:04}/{number:07}.txt": name for number, name in enumerate(documents)}
    try:
        _check_documents(folder)
        # Ignore files of the folders above do not hold for it.
        _write(folder / _IGNORE, b"!*\n")
        for path, name in names.items():
            _write(folder / path, documents[name].encode())
        _clear(folder, names)
    except OSError as error:
        raise StoreError(f"Cannot write documents below {folder}: {error.strerror}.") from None
    return names


def _check_documents(folder: Path) -> None:
    """Raise StoreError, with its path, for anything below ``folder`` that ``write_documents`` does not write."""
    if not os.path.lexists(folder):
        return
    _check_kind(folder, folder, stat.S_ISDIR)
    for path in folder.iterdir():
        if path.name == _IGNORE:
            _check_kind(folder, path, stat.S_ISREG)
            continue
        _check_kind(folder, path, stat.S_ISDIR, _PARENT)
        for file in path.iterdir():
            _check_kind(folder, file, stat.S_ISREG, _FILE)


def _check_kind(folder: Path, path: Path, is_kind: Callable[[int], bool], name: re.Pattern[str] | None = None) -> None:
    if not is_kind(path.lstat().st_mode) or (name is not None and not name.fullmatch(path.name)):
        raise StoreError(
            f"Cannot write documents below {folder}: {path} was not written there by an evaluation; move it away, or "
            "use another folder."
        )


def _write(file: Path, content: bytes) -> None:
    if file.is_file() and file.read_bytes() == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    # A new file, since the old one may be known elsewhere by another name.
    file.unlink(missing_ok=True)
    with file.open("xb") as opened:
        opened.write(content)


def _clear(folder: Path, names: Mapping[str, str]) -> None:
    kept: dict[str, set[str]] = {}
    for name in names:
        parent, _, file = name.partition("/")
        kept.setdefault(parent, set()).add(file)
    for below in folder.iterdir():
        if below.name == _IGNORE:
            continue
        if below.name not in kept:
            shutil.rmtree(below)
            continue
        for path in below.iterdir():
            if path.name not in kept[below.name]:
                path.unlink()
