"""Which segments to merge, and writing the merged one. Knows segments; the commit that names it is the store's."""

import shutil
from collections.abc import Mapping

from colbert_mcp.errors import StoreError
from colbert_mcp.store.segments import Segments
from colbert_mcp.store.tokens import SegmentFiles, SegmentWriter

_DEAD_SHARE = 0.25
_SMALL_SHARE = 0.125


def due(sizes: Mapping[int, tuple[int, int]], most: int) -> list[int]:
    """After a commit: those of which a quarter is dead and, above ``most``, the smallest; {segment: (rows, live)}."""
    chosen = {number for number, (rows, alive) in sizes.items() if alive < (1 - _DEAD_SHARE) * rows}
    if len(sizes) > most:
        merged = max(2, most // 2)  # one alone would be copied and leave as many
        chosen.update(sorted(sizes, key=lambda number: sizes[number][1])[:merged])
    return sorted(chosen)


def wasteful(sizes: Mapping[int, tuple[int, int]]) -> list[int]:
    """To reclaim what can be: those with any dead row, and the small ones if that leaves fewer."""
    total = sum(alive for _, alive in sizes.values())
    dead = {number for number, (rows, alive) in sizes.items() if alive < rows}
    small = {number for number, (_, alive) in sizes.items() if alive < _SMALL_SHARE * total}
    chosen = dead | small
    return sorted(chosen if len(chosen) > 1 else dead)


def write_merged(
    segments: Segments, target: int, live: Mapping[int, list[int]], dimensions: tuple[int, int]
) -> SegmentFiles:
    """Copy the live rows of segments, {segment: rows}, to a new one; ``dimensions`` are those of tokens and dense.

    Raises StoreError where the disk refuses it; nothing is left of the new one then.
    """
    try:
        writer = SegmentWriter(segments.path(target), *dimensions)
        try:
            for number, rows in live.items():
                writer.copy(segments.path(number), rows)
            return writer.finish()
        except BaseException:
            writer.abandon()
            raise
    except OSError as error:
        shutil.rmtree(segments.path(target), ignore_errors=True)
        raise StoreError(f"Cannot write {segments.path(target)}: {error}; the segments stay as they are.") from error
