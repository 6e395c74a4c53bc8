"""Blanks what Chroma's vector index writes to disk of the process's memory.

hnswlib allocates more than it fills and writes that to its files, so these hold whatever the memory held before: text
that was removed, for one. That is the room of a new index for its first elements, and the lengths, which it keeps
beside every element and uses for cosine distance alone. Both are overwritten by zeros here. Files of another layout
than the one known here are left alone.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

# Version; offset of the first element, capacity, elements, bytes of an element.
_HEADER = struct.Struct("<iQQQQ")
_VERSION = 1
_BLOCK = 1_048_576


def written(directory: Path) -> dict[Path, tuple[int, int]]:
    """Room and number of the elements of each index below a Chroma directory: when it changes, memory was written."""
    return {folder: (capacity, elements) for folder, capacity, elements, _ in _layouts(directory)}


def blank_unused(directory: Path) -> None:
    """Overwrite what the indexes below a Chroma directory do not use, if their distance is the inner product.

    Nothing may write to them meanwhile.
    """
    for folder, capacity, elements, size in _layouts(directory):
        _blank(folder / "data_level0.bin", elements * size, {elements * size, capacity * size})
        _blank(folder / "length.bin", 0, {elements * 4, capacity * 4})


def _layouts(directory: Path) -> Iterator[tuple[Path, int, int, int]]:
    for header in directory.glob("*/header.bin"):
        start = header.read_bytes()[: _HEADER.size]
        if len(start) < _HEADER.size:
            continue
        version, offset, capacity, elements, size = _HEADER.unpack(start)
        if version == _VERSION and offset == 0 and elements <= capacity:
            yield header.parent, capacity, elements, size


def _blank(file: Path, start: int, sizes: set[int]) -> None:
    if not file.is_file() or file.stat().st_size not in sizes:
        return
    with file.open("r+b") as stream:
        stream.seek(start)
        while block := stream.read(_BLOCK):
            if block.count(0) != len(block):
                stream.seek(-len(block), 1)
                stream.write(bytes(len(block)))
