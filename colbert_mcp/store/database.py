"""The catalogue's file: made whole or not at all, opened if it is of this format, and written anew. Knows no rows."""

import sqlite3
import urllib.parse
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from colbert_mcp.errors import IndexCorruptError, IndexMismatchError
from colbert_mcp.lexical import FTS_TOKENIZER, names, runs
from colbert_mcp.sharing.ownership import CATALOGUE
from colbert_mcp.store.durability import fsync_directory
from colbert_mcp.store.failures import CATALOGUE_ERRORS, is_passing, store_error, told

FORMAT_VERSION = 5
UNFINISHED = tuple(f"{CATALOGUE}.new{suffix}" for suffix in ("", "-journal", "-wal", "-shm"))
_APPLICATION_ID = 0x436F4C42


def uri(path: Path, options: str) -> str:
    """An SQLite URI for a database file."""
    return f"file:{urllib.parse.quote(bytes(path))}?{options}"


def create(path: Path) -> None:
    """Make an empty catalogue, whole or not at all: it gets its name once it is complete and durable."""
    for unfinished in UNFINISHED:  # what a kill at this place has left
        path.with_name(unfinished).unlink(missing_ok=True)
    new = path.with_name(UNFINISHED[0])
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        add_functions(connection)
        schema = files("colbert_mcp.store").joinpath("schema.sql").read_text(encoding="utf-8")
        script = schema.replace("{tokenizer}", FTS_TOKENIZER)
        connection.executescript(
            f"BEGIN;\n{script}\nINSERT INTO meta VALUES ('generation', '0');"
            f"\nPRAGMA application_id={_APPLICATION_ID};\nPRAGMA user_version={FORMAT_VERSION};\nCOMMIT;"
        )
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    new.replace(path)
    fsync_directory(path.parent)
    fsync_directory(path.parent.parent)  # the index directory may be new too


def connect(path: Path, *, immutable: bool = False, writable: bool = False) -> sqlite3.Connection:
    """Open a catalogue.

    Raises IndexCorruptError or IndexMismatchError where it is not one of this format, StoreError where it is not to be
    read now.
    """
    options = "mode=ro&immutable=1" if immutable else "mode=rw"
    with told(path.parent):
        connection = sqlite3.connect(
            uri(path, options), uri=True, isolation_level=None, check_same_thread=False, timeout=30
        )
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except CATALOGUE_ERRORS as error:
        connection.close()
        if is_passing(error):
            raise store_error(error, path.parent) from error
        raise IndexCorruptError(f"{path} is no database ({error}); delete the index and index again.") from error
    if application != _APPLICATION_ID:
        connection.close()
        raise IndexCorruptError(f"{path} is not a colbert-mcp catalogue; choose another directory with --index.")
    if version != FORMAT_VERSION:
        connection.close()
        raise IndexMismatchError(
            f"{path.parent} has format version {version}, and this program reads {FORMAT_VERSION}; "
            "delete the index and index again, or choose another with --index."
        )
    try:
        _prepare(connection, writable=writable)
    except CATALOGUE_ERRORS as error:  # a damaged schema shows only now
        connection.close()
        raise store_error(error, path.parent) from error
    return connection


def add_functions(connection: sqlite3.Connection) -> None:
    """Give a connection what the schema's views and triggers call: without it, no passage can be added or removed."""
    connection.create_function("names", 1, _of_bytes(names), deterministic=True)
    connection.create_function("runs", 1, _of_bytes(runs), deterministic=True)
    connection.execute("PRAGMA trusted_schema=ON")  # some builds of SQLite let a schema call built-in functions alone


def _of_bytes(function: Callable[[str], str]) -> Callable[[object], str]:
    """The function for any value that a damaged catalogue may hold."""
    return lambda value: function(value.decode("utf-8", "replace")) if isinstance(value, bytes) else ""


def _prepare(connection: sqlite3.Connection, *, writable: bool) -> None:
    add_functions(connection)
    connection.execute("PRAGMA foreign_keys=ON")
    if writable:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")  # what is removed is overwritten, not only unlinked
    else:
        connection.execute("PRAGMA query_only=ON")


def rewrite(path: Path) -> None:
    """Write a catalogue anew without what was deleted, by SQLite's VACUUM: all or nothing, and readers go on."""
    connection = connect(path, writable=True)  # SQLite refuses on one with a statement under way
    try:
        connection.execute("VACUUM")
    finally:
        connection.close()
