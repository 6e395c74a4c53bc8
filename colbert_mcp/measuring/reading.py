"""Files of JSON lines and of tab-separated columns, gzip'd or not, read with errors that name the line.

A line ends at LF alone: texts may hold U+2028 or U+0085 as they are. Only regular files are read, since a FIFO or a
device may never end, and only lines of a bounded length, since an archive may hold far more than its own size. Knows
nothing of what is in them.
"""

import gzip
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from colbert_mcp.errors import UnreadableDocumentError

MAX_LINE_BYTES = 64 * 2**20
Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, counted from 1."""

    file: Path
    line: int

    def error(self, what: str) -> UnreadableDocumentError:
        """An error that names the line; ``what`` is a sentence without its full stop."""
        return UnreadableDocumentError(f"{self.file}, line {self.line}: {what}.")


def is_folder(path: Path) -> bool:
    """Whether this is a folder; what cannot be looked at is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Whether there is anything; what cannot be looked at is not there."""
    try:
        return path.exists()
    except OSError:
        return False


def open_regular(file: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; raises UnreadableDocumentError for others, and OSError."""
    _check_regular(file, file.stat())
    opened = open(file, "rb", opener=_without_waiting)  # noqa: SIM115
    try:
        _check_regular(file, os.fstat(opened.fileno()))
    except UnreadableDocumentError:
        opened.close()
        raise
    return opened


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_regular(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableDocumentError(f"{file} is not a regular file; give one that is.")


def packed(file: Path) -> Path:
    """What is read in the place of a file that is not there."""
    return file.with_name(f"{file.name}.gz")


def lines(file: Path) -> Iterator[tuple[Place, str]]:
    """The lines of ``file`` or else of ``file.gz``, in UTF-8, without those that are blank.

    Raises UnreadableDocumentError for a file that cannot be read, is damaged, is not UTF-8, or has a line of more than
    MAX_LINE_BYTES.
    """
    source = packed(file) if is_there(packed(file)) and not is_there(file) else file
    try:
        with (
            open_regular(source) as stored,
            gzip.GzipFile(fileobj=stored) if source.suffix == ".gz" else nullcontext(stored) as opened,
        ):
            number = 0
            while line := opened.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise Place(source, number).error(f"it is longer than {MAX_LINE_BYTES:,} bytes")
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    yield Place(source, number), text.rstrip("\r\n")
    except UnicodeDecodeError:
        raise UnreadableDocumentError(f"{source} is not UTF-8; save it as UTF-8.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableDocumentError(f"{source} is damaged ({error}); get it again.") from None
    except OSError as error:
        raise UnreadableDocumentError(f"Cannot read {source} ({error.strerror}).") from None


def records(file: Path) -> Iterator[tuple[Place, Record]]:
    """The JSON objects of a file that has one on each line; raises UnreadableDocumentError."""
    for place, line in lines(file):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise place.error("it is not JSON; there must be one JSON object on each line") from None
        if not isinstance(record, dict):
            raise place.error("it is not a JSON object")
        yield place, record


def text_of(record: Record, key: str, place: Place) -> str:
    """A text of a record; raises UnreadableDocumentError where there is none, or one that no file can hold."""
    value = record.get(key)
    if not isinstance(value, str):
        raise place.error(f"it has no text under {key}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise place.error(f"its {key} holds half of a surrogate pair, which is no character") from None
    return value


def name_of(record: Record, key: str, place: Place) -> str:
    """A name, which may be written as a whole number; raises UnreadableDocumentError for anything else."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(record, key, place)
