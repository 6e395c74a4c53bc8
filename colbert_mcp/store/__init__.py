"""The index on disk.

``store`` keeps the three parts in step: ``catalog`` and ``catalog_writer`` over ``rows`` (SQLite, the commit point),
``tokens`` (segments of ``.npy`` files) and ``vectors`` (Chroma, derived; ``derived`` is its life cycle and ``records``
what it holds). ``batch`` gathers a commit, ``snapshot`` is what readers see, ``lock`` says who owns the index, and
``durability`` syncs, ``audit`` compares the parts with each other. Knows neither models nor how files are read.
"""

from colbert_mcp.sharing.ownership import CATALOGUE
from colbert_mcp.store.audit import AuditedDocument, CatalogueAudit, Fault, audit, roots_of
from colbert_mcp.store.batch import Batch, EncodedChunk, RowReference
from colbert_mcp.store.catalog import Reader
from colbert_mcp.store.catalog_writer import Writer
from colbert_mcp.store.clock import now
from colbert_mcp.store.database import FORMAT_VERSION
from colbert_mcp.store.opening import encoder_differences
from colbert_mcp.store.rows import Root, StoredDocument, StoredPassage, not_whole, skipped_key
from colbert_mcp.store.snapshot import Snapshot
from colbert_mcp.store.store import Store
from colbert_mcp.store.tokens import POOLED

__all__ = [
    "CATALOGUE",
    "FORMAT_VERSION",
    "POOLED",
    "AuditedDocument",
    "Batch",
    "CatalogueAudit",
    "EncodedChunk",
    "Fault",
    "Reader",
    "Root",
    "RowReference",
    "Snapshot",
    "Store",
    "StoredDocument",
    "StoredPassage",
    "Writer",
    "audit",
    "encoder_differences",
    "not_whole",
    "now",
    "roots_of",
    "skipped_key",
]
