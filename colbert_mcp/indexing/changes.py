"""What lies under a root now, against what the index has of it: by one stat a file, without reading any.

Knows discovery and the catalogue; nothing of what becomes of the differences.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from colbert_mcp.config import DocumentsConfig
from colbert_mcp.documents import Discovery, Found, Unlisted, discover, is_within, read_regular_file
from colbert_mcp.indexing.runs import Run
from colbert_mcp.results import Skipped
from colbert_mcp.store import Reader
from colbert_mcp.types import FileStamp


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may have to be indexed, and the document that the index has at its path.

    ``stamp`` is the document's, where the file's bytes may still be the same, which its hash can tell.
    """

    file: Found
    document: int | None = None
    stamp: FileStamp | None = None


@dataclass(slots=True)
class Changes:
    """The files under a root: those ``unchanged`` by their stat (documents), and the others.

    ``held`` are the documents that the root held before; ``unseen`` those of which it cannot be told whether they are
    still there, since a folder could not be listed.
    """

    held: set[int]
    unchanged: list[int] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    unseen: set[int] = field(default_factory=set)

    def gone(self, unread: set[int]) -> list[int]:
        """The documents that the root holds no longer: there is no such file now, or it is one of ``unread``."""
        present = set(self.unchanged)
        present.update(item.document for item in self.candidates if item.document is not None)
        return sorted(self.held - (present - unread) - self.unseen)


def compare(reader: Reader, run: Run, documents: DocumentsConfig, own: bytes, reader_version: int) -> Changes:
    """Walk a run's root and compare each file with its document; the totals go into the run.

    ``own`` is the index's own directory, which is never indexed; if the run verifies, no document counts as unchanged
    before its file was hashed.
    """
    known = reader.stamps_below(run.path)
    root = next((root for root in reader.roots() if root.path == run.path), None)
    changes = Changes(reader.documents_of_root(root.id) if root else set())
    inside = own.rstrip(b"/") + b"/" if is_within(own, run.path) else None
    how = Discovery(
        max_file_bytes=documents.max_file_bytes,
        hidden=documents.hidden,
        include=run.include,
        exclude=run.exclude,
        # Indexing a path by its own name lets it in again.
        removed=reader.tombstones() - {run.path},
    )
    for item in discover(run.path, how):
        if isinstance(item, Unlisted):
            run.skipped.append(item.skipped)
            changes.unseen.update(stored[0] for path, stored in known.items() if is_within(path, item.path))
            continue
        if isinstance(item, Skipped):
            run.skipped.append(item)
            continue
        if inside is not None and item.path.startswith(inside):
            continue
        size, time = item.stamp
        run.files_total += 1
        run.bytes_total += size
        stored = known.get(item.path)
        if stored is None:
            changes.candidates.append(Candidate(item))
        elif not run.verify and stored[1:] == (size, time, reader_version):
            changes.unchanged.append(stored[0])
            run.bytes_done += size
        else:
            same = stored[1] == size and stored[3] == reader_version
            changes.candidates.append(Candidate(item, stored[0], FileStamp(*stored[1:3]) if same else None))
    run.unchanged = run.files_done = len(changes.unchanged)
    return changes


def stamp_if_same(reader: Reader, candidate: Candidate, documents: DocumentsConfig) -> FileStamp | None:
    """The stamp of a file whose bytes are those that were indexed, by its hash; None where they are others.

    Raises UnreadableDocumentError with the reason.
    """
    if candidate.document is None or candidate.stamp is None:
        return None
    raw, stamp = read_regular_file(candidate.file.path, documents.max_file_bytes)
    same = hashlib.sha256(raw).hexdigest() == reader.file_hash(candidate.document)
    return stamp if same else None


def patterns_of(
    reader: Reader, root: bytes, include: Sequence[str] | None, exclude: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The patterns given, without empty ones; for None, those of the root's last run."""
    before = next((found for found in reader.roots() if found.path == root), None)
    kept_include, kept_exclude = (before.include, before.exclude) if before else ((), ())
    return (
        kept_include if include is None else tuple(filter(None, include)),
        kept_exclude if exclude is None else tuple(filter(None, exclude)),
    )
