"""The documents of a labelled set as files of a folder, and back to their ids. Knows files; nothing of an index.

A folder that is kept is brought up to date: files whose text is the same are left as they are, so that an index of it
finds them unchanged.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from colbert_mcp.errors import ConfigError, StoreError

_PER_FOLDER = 1000
_MARKER = "evaluation.json"
_MADE_BY = {"colbert-mcp evaluation": 1}


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
        marker = keep / _MARKER
        if not marker.is_file():
            if any(keep.iterdir()):
                raise ConfigError(f"{keep} holds other files; give --keep an empty folder, or one it has made.")
            marker.write_text(json.dumps(_MADE_BY), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"Cannot use the folder {keep} ({error.strerror}); choose another with --keep.") from None
    yield keep.resolve()


def write_documents(documents: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write each document to a file of its own below ``folder``; returns their ids by path relative to it.

    Files of documents that are not among them are deleted. Raises StoreError where the folder cannot be written.
    """
    names = {f"{number // _PER_FOLDER:04}/{number:07}.txt": name for number, name in enumerate(documents)}
    try:
        # Ignore files of the folders above do not hold for it.
        _write(folder / ".ignore", b"!*\n")
        for path, name in names.items():
            _write(folder / path, documents[name].encode())
        _clear(folder, names)
    except OSError as error:
        raise StoreError(f"Cannot write documents below {folder}: {error.strerror}.") from None
    return names


def _write(file: Path, content: bytes) -> None:
    if file.is_file() and file.read_bytes() == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _clear(folder: Path, names: Mapping[str, str]) -> None:
    kept: dict[str, set[str]] = {}
    for name in names:
        parent, _, file = name.partition("/")
        kept.setdefault(parent, set()).add(file)
    for below in folder.iterdir():
        if below.is_dir() and below.name not in kept:
            shutil.rmtree(below)
        elif below.is_dir():
            for path in below.iterdir():
                if path.name not in kept[below.name]:
                    path.unlink()
