"""Writes the parts of an index anew without what was deleted from them. Each function is whole by itself.

Whoever calls them keeps others from writing meanwhile; readers go on. Each raises StoreError where the disk refuses it
or is too small; the part then stays as it is.
"""

from colbert_mcp.store import merging
from colbert_mcp.store.clock import days_ago
from colbert_mcp.store.database import rewrite
from colbert_mcp.store.failures import told
from colbert_mcp.store.store import Store
from colbert_mcp.store.usage import bytes_below, require_space


def purge(store: Store, days: float) -> int:
    """Delete former passages retired so many days ago or earlier, and deleted words; returns how many passages."""
    with store.transaction() as writer:
        purged = writer.purge_former(days_ago(days))
        writer.optimise_words()
    return purged


def compact(store: Store) -> tuple[int, int]:
    """Rewrite segments that have dead rows or another embedding format, and small ones, as one.

    Returns how many, and of how many passages the format was converted. Chroma is to be opened before and rebuilt after
    it.
    """
    with told(store.directory):
        sizes = store.writer.segment_rows()
        other = store.segments.in_other_format(sizes)
        converted = store.writer.passages_in(other)
        chosen = sorted({*merging.wasteful(sizes), *other})
        if chosen:
            require_space(store.tokens, sum(bytes_below(store.segments.path(number)) for number in chosen))
            merging.rewrite(store.segments, store.writer, chosen)
        else:
            merging.collect_garbage(store.segments, store.writer)
    return len(chosen), converted


def rebuild_vectors(store: Store) -> bool:
    """Write Chroma anew if it lags or holds what was deleted; returns whether."""
    if store.vectors.is_lean(store.writer.generation):
        return False
    require_space(store.directory, bytes_below(store.directory / "chroma"))
    store.vectors.rebuild()
    store.vectors.discard()
    return True


def vacuum(store: Store) -> None:
    """Write the catalogue anew."""
    require_space(store.directory, store.catalogue.stat().st_size)
    try:
        with store.guard():
            rewrite(store.catalogue)
    finally:
        store.scrub_log()
