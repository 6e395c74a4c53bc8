"""What lies under a root now, against what the index has of it: by one stat a file, without reading any.

Knows discovery and the catalogue; nothing of what becomes of the differences.
"""

import hashlib
from dataclasses import dataclass, field

from colbert_mcp.config import DocumentsConfig
from colbert_mcp.documents import Discovery, Found, discover, is_within, read_regular_file
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

    ``held`` are the documents that the root held before.
    """

    held: set[int]
    files: int = 0
    bytes: int = 0
    unchanged: list[int] = field(default_factory=list)
    unchanged_bytes: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def gone(self, unread: set[int]) -> list[int]:
        """The documents that the root holds no longer: there is no such file now, or it is one of ``unread``."""
        present = set(self.unchanged)
        present.update(item.document for item in self.candidates if item.document is not None)
        return sorted(self.held - (present - unread))


def compare(
    reader: Reader,
    root: tuple[int | None, bytes],
    how: Discovery,
    own: bytes,
    reader_version: int,
    *,
    verify: bool = False,
) -> Changes:
    """Walk a root (its id, if the index has it, and its real path) and compare each file with its document.

    ``own`` is the index's own directory, which is never indexed; with ``verify``, no document counts as unchanged
    before its file was hashed.
    """
    number, path = root
    known = reader.stamps_below(path)
    changes = Changes(set() if number is None else reader.documents_of_root(number))
    inside = own.rstrip(b"/") + b"/" if is_within(own, path) else None
    unchanged = changes.unchanged
    for item in discover(path, how):
        if isinstance(item, Skipped):
            changes.skipped.append(item)
            continue
        if inside is not None and item.path.startswith(inside):
            continue
        size, time = item.stamp
        changes.files += 1
        changes.bytes += size
        stored = known.get(item.path)
        if stored is None:
            changes.candidates.append(Candidate(item))
        elif not verify and stored[1:] == (size, time, reader_version):
            unchanged.append(stored[0])
            changes.unchanged_bytes += size
        else:
            same = stored[1] == size and stored[3] == reader_version
            changes.candidates.append(Candidate(item, stored[0], FileStamp(*stored[1:3]) if same else None))
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
