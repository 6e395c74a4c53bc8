"""Reads the JSON files of a checkpoint, which is a stranger's: of a bounded size, and never with a bare error."""

import json
import stat
from pathlib import Path

from colbert_mcp.errors import EncoderError

# Vocabularies are in tokenizer.json, which is not read here.
_LARGEST = 20_000_000
# What reads a value goes into it by recursion.
_DEEPEST = 100


def read_json(file: Path) -> object:
    """What a JSON file holds; None where there is no such file. Raises EncoderError."""
    try:
        if not stat.S_ISREG(mode := file.stat().st_mode) and not stat.S_ISDIR(mode):
            # Opening a pipe, or reading a device, may never end.
            raise EncoderError(f"{file} is neither a file nor a folder; delete it.")
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise EncoderError(f"{file} is larger than {_LARGEST} bytes; it is no configuration of a model.")
        values = json.loads(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"Cannot read {file}: {error}.") from error
    if _is_deeper(values, _DEEPEST):
        raise EncoderError(f"{file} is nested more than {_DEEPEST} levels deep; it is no configuration of a model.")
    return values


def wrong_value(file: Path, key: str, value: object) -> EncoderError:
    """The error for a value of a JSON file that its key cannot have."""
    return EncoderError(f"{file} sets {key} to {json.dumps(value, ensure_ascii=False)[:80]}, which it cannot be.")


def _is_deeper(value: object, levels: int) -> bool:
    """Whether lists and objects are nested in each other on more than so many levels."""
    inner = [value]
    for _ in range(levels + 1):
        inner = [
            item
            for outer in inner
            if isinstance(outer, (dict, list))
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not inner:
            return False
    return True
