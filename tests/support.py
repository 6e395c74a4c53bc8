"""Names that tests in several folders use."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from colbert_mcp.engine import Engine
from colbert_mcp.store.database import add_functions

PROJECT = Path(__file__).parent.parent
EngineFactory = Callable[..., Engine]


@contextmanager
def catalogue(index: Path) -> Iterator[sqlite3.Connection]:
    """The catalogue, read and changed by a connection of its own."""
    database = sqlite3.connect(index / "catalog.sqlite", isolation_level=None)
    add_functions(database)
    try:
        yield database
    finally:
        database.close()
