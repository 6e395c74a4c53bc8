"""Names that tests in several folders use."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from colbert_mcp.engine import Engine

PROJECT = Path(__file__).parent.parent
EngineFactory = Callable[..., Engine]


@contextmanager
def catalogue(index: Path) -> Iterator[sqlite3.Connection]:
    """The catalogue, read and changed by a connection of its own."""
    database = sqlite3.connect(index / "catalog.sqlite", isolation_level=None)
    try:
        yield database
    finally:
        database.close()
