"""The index on disk.

``store`` keeps the three parts in step: ``catalog`` and ``catalog_writer`` over ``rows`` (SQLite, the commit point),
``tokens`` (segments of ``.npy`` files) and ``vectors`` (Chroma, derived; ``derived`` is its life cycle and ``records``
what it holds). ``batch`` gathers a commit, ``snapshot`` is what readers see, ``lock`` says who owns the index. Knows
neither models nor how files are read.
"""

from colbert_mcp.store.batch import Batch, EncodedChunk, RowReference
from colbert_mcp.store.catalog import Reader
from colbert_mcp.store.rows import StoredDocument, StoredPassage, not_whole
from colbert_mcp.store.snapshot import Snapshot
from colbert_mcp.store.store import Store, now

__all__ = [
    "Batch",
    "EncodedChunk",
    "Reader",
    "RowReference",
    "Snapshot",
    "Store",
    "StoredDocument",
    "StoredPassage",
    "not_whole",
    "now",
]
