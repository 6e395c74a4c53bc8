"""Keeps the catalogue's write-ahead log short, and free of text that was deleted.

SQLite starts its log over only when nobody reads an older state, and leaves the file as long as it was. So whoever
stops reading last truncates it, where it has grown or something was deleted for good. Nobody waits for that: where it
cannot be done it is left to the next reader, and to the closing of the index.
"""

import logging
import sqlite3
import threading
from pathlib import Path

from colbert_mcp.store.database import uri
from colbert_mcp.store.failures import CATALOGUE_ERRORS

_LONG = 16_000_000
logger = logging.getLogger(__name__)


class Log:
    """The log of a catalogue that this process may write."""

    def __init__(self, catalogue: Path) -> None:
        self._catalogue = catalogue
        self._file = catalogue.with_name(catalogue.name + "-wal")
        self._lock = threading.Lock()
        self._readers = 0
        self.due = False  # to be truncated as soon as nobody reads

    def read(self) -> None:
        """A snapshot begins."""
        with self._lock:
            self._readers += 1

    def leave(self) -> None:
        """A snapshot has ended."""
        with self._lock:
            self._readers -= 1
            due = self.due and not self._readers
        # A long log is folded in also while others read: who begins after that no longer holds it up.
        if due or self._is_long():
            self._truncate()

    def scrub(self) -> None:
        """Have the log truncated as soon as nobody reads; call it outside of a transaction."""
        with self._lock:
            self.due = True
        self._truncate()

    def _is_long(self) -> bool:
        try:
            return self._file.stat().st_size > _LONG
        except OSError:
            return False

    def _truncate(self) -> None:
        try:
            connection = sqlite3.connect(uri(self._catalogue, "mode=rw"), uri=True, isolation_level=None, timeout=0)
            try:
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.close()
        except CATALOGUE_ERRORS as error:
            logger.warning("The log of %s cannot be truncated now (%s)", self._catalogue, type(error).__name__)
            return
        if not busy:
            with self._lock:
                self.due = False
