"""Files of JSON lines and of tab-separated columns, gzip'd or not, read with errors that name the line.

A line ends at LF alone: texts may hold U+2028 or U+0085 as they are. Knows nothing of what is in them.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from colbert_mcp.errors import UnreadableDocumentError

Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, counted from 1."""

    file: Path
    line: int

    def error(self, what: str) -> UnreadableDocumentError:
        """An error that names the line; ``what`` is a sentence without its full stop."""
        return UnreadableDocumentError(f"{self.file}, line {self.line}: {what}.")


def lines(file: Path) -> Iterator[tuple[Place, str]]:
    """The lines of ``file`` or else of ``file.gz``, in UTF-8, without those that are blank.

    Raises UnreadableDocumentError for a file that cannot be read, is damaged, or is not UTF-8.
    """
    packed = file.with_name(f"{file.name}.gz")
    source = packed if packed.is_file() and not file.is_file() else file
    try:
        with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as opened:
            for number, line in enumerate(opened, 1):
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
