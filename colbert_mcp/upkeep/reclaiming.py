"""Gives back what an index takes without need: old former passages, dead rows, small segments, and what SQLite and
Chroma keep in their files of what was deleted.

Each step is whole by itself, so that a kill between two, or inside one, costs nothing but the rest. Knows the store;
searches go on meanwhile, without Chroma while that is written anew.
"""

import time

from colbert_mcp.results import GcOutput, Reclaimed
from colbert_mcp.store import Store, compaction


def reclaim(store: Store, former_days: int) -> GcOutput:
    """Reclaim what can be; former passages are kept for ``former_days`` days.

    Raises StoreError where the index cannot be written or the disk is too small for a part to be written anew; the
    parts before it are reclaimed then, and nothing is lost.
    """
    started = time.monotonic()
    before = store.bytes_on_disk()
    store.vectors.open()  # one that is opened after the segments have moved would be rebuilt in any case
    former = compaction.purge(store, former_days)
    merged, converted = compaction.compact(store)
    rebuilt = compaction.rebuild_vectors(store)
    compaction.vacuum(store)
    after = store.bytes_on_disk()
    return GcOutput(
        former=former,
        merged=merged,
        embedding_format=store.segments.embedding_format,
        converted=converted,
        chroma_rebuilt=rebuilt,
        parts={name: Reclaimed(before=before[name], after=after[name]) for name in before},
        seconds=round(time.monotonic() - started, 2),
        generation=store.writer.generation,
        notice=_notice(store),
    )


def _notice(store: Store) -> str | None:
    if store.vectors.state == "failed":
        return "Chroma could not be written anew; the next opening of the index does it."
    if store.is_read:
        return "What is being read at this moment goes when it has been read."
    return None
