"""Reads the JSON files of a checkpoint, which is a stranger's: of a bounded size, and never with a bare error."""

import json
from pathlib import Path

from colbert_mcp.errors import EncoderError

# Vocabularies are in tokenizer.json, which is not read here.
_LARGEST = 20_000_000


def read_json(file: Path) -> object:
    """What a JSON file holds; None where there is no such file. Raises EncoderError."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise EncoderError(f"{file} is larger than {_LARGEST} bytes; it is no configuration of a model.")
        return json.loads(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"Cannot read {file}: {error}.") from error
