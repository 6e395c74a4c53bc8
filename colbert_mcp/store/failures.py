"""What SQLite and the file system say when they fail, as errors of this package.

A full disk, a damaged catalogue and a catalogue that cannot be reached at the moment are three things, and each is
mended in another way. What an error of SQLite quotes may be text of a document, so only its name is passed on. Knows
nothing of what was being done.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colbert_mcp.errors import REPAIR, IndexCorruptError, StoreError

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
# Python's module decodes what SQLite says, which may quote a damaged name.
CATALOGUE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
_PASSING = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)


@contextmanager
def told(directory: Path) -> Iterator[None]:
    """Raise what fails inside, in SQLite or the file system, as a StoreError about an index directory."""
    try:
        with told_of_catalogue(directory):
            yield
    except OSError as error:
        raise store_error(error, directory) from error


@contextmanager
def told_of_catalogue(directory: Path) -> Iterator[None]:
    """``told`` for what SQLite alone says; other files are the caller's own."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):  # ours, not the disk's
        raise
    except CATALOGUE_ERRORS as error:
        raise store_error(error, directory) from error


def store_error(error: OSError | sqlite3.Error | UnicodeDecodeError, directory: Path) -> StoreError:
    """The StoreError, or IndexCorruptError, that tells of a failure in an index directory and what mends it."""
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return no_space(directory)
        return StoreError(f"Cannot write the index {directory}: {error.strerror or error}. What was committed is kept.")
    code = _primary_code(error)
    if code == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return no_space(directory)
    name = getattr(error, "sqlite_errorname", "a text that is none")
    if is_passing(error):
        return StoreError(
            f"The catalogue of {directory} cannot be read or written now ({name}); see to the disk and its limits, and "
            "try again. What was committed is kept."
        )
    return IndexCorruptError(f"The catalogue is damaged ({name}) in {directory}; {REPAIR}")


def is_passing(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    """Whether an error of SQLite says nothing about the catalogue's content: it may work the next time."""
    return _primary_code(error) in _PASSING


def _primary_code(error: sqlite3.Error | UnicodeDecodeError) -> int:
    """SQLite's primary result code; that of damage for what Python's module finds, such as bytes that are no UTF-8."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


def no_space(directory: Path) -> StoreError:
    """What to raise where the disk of an index directory is full."""
    return StoreError(
        f"No space left on the disk of the index {directory}: free some and index again; what was committed is kept."
    )
