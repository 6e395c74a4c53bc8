"""Which segments to merge, merging them, and deleting what no commit names. Knows segments and the catalogue only.

What fails in SQLite or the file system is raised as it is, for the store to tell.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from colbert_mcp.store.catalog_writer import Writer
from colbert_mcp.store.segments import Segments
from colbert_mcp.store.tokens import SegmentFiles

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


def rewrite(segments: Segments, writer: Writer, numbers: Sequence[int]) -> int:
    """Put the live rows of segments into a new one, which is returned; Chroma does not know of it yet."""
    target = writer.next_segment()
    live = {number: writer.rows_of(number) for number in numbers}
    files = None
    if any(live.values()):
        fingerprint = writer.fingerprint or {}
        dimensions = int(str(fingerprint["dimension"])), int(str(fingerprint["dense_dimension"]))
        files = _write_merged(segments, target, live, writer.segments(), dimensions)
    try:
        with writer.transaction():
            if files is not None:
                writer.put_segment(target, files)
                copied = ((number, row) for number in numbers for row in live[number])
                writer.move_rows((target, new, *old) for new, old in enumerate(copied))
            writer.drop_segments(numbers)
    except BaseException:
        segments.delete(target)
        raise
    collect_garbage(segments, writer)
    return target


def collect_garbage(segments: Segments, writer: Writer) -> None:
    """Delete the directories that no generation names and no snapshot reads; the others are tried again."""
    named = writer.segment_rows()
    queued = [number for number in writer.garbage() if number not in named]
    segments.retire(queued)
    segments.collect()
    for number in queued:
        if not segments.path(number).exists():
            writer.garbage_collected(number)


def delete_unnamed(directory: Path, writer: Writer) -> None:
    """Delete segments that the catalogue does not name, unless it looks as if it had lost some names."""
    named = {f"{number:06}" for number in writer.segment_rows()}
    found = {path.name for path in directory.iterdir()}
    if named <= found and writer.names_all_segments():
        for name in found - named:
            shutil.rmtree(directory / name, ignore_errors=True)


def _write_merged(
    segments: Segments,
    target: int,
    live: Mapping[int, list[int]],
    files: Mapping[int, Mapping[str, tuple[int, str]]],
    dimensions: tuple[int, int],
) -> SegmentFiles:
    """Copy the live rows of segments, {segment: rows}, to a new one; ``dimensions`` are those of tokens and dense.

    ``files`` are the lengths and hashes of each segment's. Raises IndexCorruptError where one does not have them, and
    OSError where the disk refuses; nothing is left of the new segment then.
    """
    writer = segments.new(target, *dimensions)
    try:
        for number, rows in live.items():
            writer.copy(segments.path(number), rows, files[number])
        return writer.finish()
    except BaseException:
        writer.abandon()
        segments.delete(target)
        raise
