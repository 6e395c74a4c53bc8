"""Verifies an index: the catalogue, the segments and Chroma against each other, and every passage against its source.

Whoever calls this keeps others from writing meanwhile; searches go on. Changes nothing: see ``mending``. Knows the
store and how files are read.
"""

import errno
import hashlib
import shlex
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from colbert_mcp.documents import display_path, file_stamp, read_regular_file
from colbert_mcp.errors import REPAIR_COMMAND, ColbertMCPError, DocumentError
from colbert_mcp.results import CheckCounts, CheckOutput, CheckProblem, SourceCounts
from colbert_mcp.store import CATALOGUE, AuditedDocument, CatalogueAudit, Fault, Store, audit
from colbert_mcp.store.tokens import Segment

LISTED = 200
Step = Callable[[str], None]
_GONE = (errno.ENOENT, errno.ENOTDIR)


@dataclass(slots=True)
class Findings:
    """What a check found. ``counts`` are the fields of CheckCounts, ``sources`` those of SourceCounts."""

    read_data: bool
    generation: int = 0
    faults: list[Fault] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    roots: list[bytes] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    seconds: float = 0.0
    beyond_repair: bool = False

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + number

    def of_kind(self, *kinds: str) -> list[Fault]:
        """The faults of some kinds."""
        return [fault for fault in self.faults if fault.kind in kinds]


def check(store: Store, max_bytes: int, *, read_data: bool, step: Step) -> Findings:
    """Compare everything; ``step`` is told what comes next, and may raise to end it. Raises StoreError.

    Without ``read_data``, files of segments are compared by length, and records of Chroma by their metadata.
    """
    return _Check(store, max_bytes, read_data=read_data, step=step).run()


def output(
    index: str,
    found: Findings,
    after: Findings | None = None,
    done: Sequence[str] = (),
    *,
    named: Callable[[str], str] = str,
) -> CheckOutput:
    """What is answered: what was ``found``, and, if it was repaired, what a second check says of that.

    ``named`` lets commands name the index.
    """
    remaining = found if after is None else after
    left = {(fault.kind, fault.where) for fault in remaining.faults}
    before = {(fault.kind, fault.where) for fault in found.faults}
    new = [fault for fault in remaining.faults if (fault.kind, fault.where) not in before]
    # Some of what SQLite complains of goes with the look-up tables: that is tried before anything is given up.
    tried = after is not None or found.beyond_repair
    delete = f"delete {index} and run: colbert-mcp index " + (" ".join(map(_quoted, found.roots)) or "PATH")
    problems = [
        CheckProblem(
            kind=fault.kind,
            where=fault.where,
            what=fault.what,
            mends=named(delete if tried and fault.kind == "catalogue" else REPAIR_COMMAND),
            repaired=(fault.kind, fault.where) not in left,
        )
        for fault in (*found.faults, *new)
    ]
    return CheckOutput(
        index=index,
        generation=remaining.generation,
        read_data=found.read_data,
        sound=not left,
        checked=CheckCounts(**remaining.counts),
        sources=SourceCounts(**remaining.sources),
        # What is left to be done first.
        problems=sorted(problems, key=lambda problem: problem.repaired)[:LISTED],
        total_problems=len(problems),
        done=[*found.done, *done],
        seconds=round(found.seconds + (after.seconds if after else 0.0), 2),
    )


class _Check:
    """The state of one check."""

    def __init__(self, store: Store, max_bytes: int, *, read_data: bool, step: Step) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._step = step
        self._found = Findings(read_data)
        self._segments: dict[int, Segment] = {}

    def run(self) -> Findings:
        started = time.monotonic()
        with audit(self._store.directory, read_only=self._store.read_only) as reader:
            for what, part in (
                ("the catalogue", self._catalogue),
                ("token segments", self._token_segments),
                ("passages and their sources", self._documents),
                ("former passages", self._former),
                ("Chroma", self._chroma),
            ):
                self._step(what)
                # What cannot be read at all must not hide the rest.
                try:
                    part(reader)
                except (ColbertMCPError, sqlite3.Error, ValueError, TypeError) as error:
                    self._found.faults.append(Fault("catalogue", CATALOGUE, f"{what} cannot be read: {error}"))
        self._found.faults = list(dict.fromkeys(self._found.faults))
        self._found.seconds = time.monotonic() - started
        return self._found

    def _catalogue(self, reader: CatalogueAudit) -> None:
        self._found.roots = reader.root_paths()
        self._found.faults += reader.structure(thorough=self._found.read_data)
        self._found.generation = reader.generation
        if not self._store.read_only:
            self._found.faults += reader.words()
        self._found.faults += reader.shared_rows()

    def _token_segments(self, reader: CatalogueAudit) -> None:
        for segment in reader.audited_segments(self._store.tokens, read_data=self._found.read_data):
            self._step(f"token segment {segment.number:06}")
            self._found.count("segments")
            self._found.count("files", segment.files)
            self._found.count("bytes", segment.hashed)
            self._found.faults += segment.faults
            if segment.segment is not None:
                self._segments[segment.number] = segment.segment
        self._found.faults += reader.strays(self._store.tokens)

    def _documents(self, reader: CatalogueAudit) -> None:
        for number, document in enumerate(reader.audited_documents(), 1):
            self._step(f"passages and their sources ({number:,} files)")
            self._found.count("documents")
            self._found.count("passages", len(document.passages))
            self._found.faults += document.faults
            if not document.faults:
                self._source(document)

    def _source(self, document: AuditedDocument) -> None:
        """Compare a document with its file as it is now, byte for byte where the file says that it is the same."""
        record = document.record
        try:
            before = file_stamp(record.path)
            raw, stamp = read_regular_file(record.path, max(self._max_bytes, before.size))
        except OSError as error:
            self._stands("gone" if error.errno in _GONE else "unreadable")
            return
        except DocumentError:
            self._stands("unreadable")
            return
        if hashlib.sha256(raw).hexdigest() == record.sha256:
            self._stands("unchanged")
            self._spans(document, raw)
        elif stamp == record.stamp:
            what = "it holds other bytes than were indexed, at the same size and time"
            self._found.faults.append(Fault("source", display_path(record.path), what, document=document.id))
        else:
            self._stands("changed")

    def _spans(self, document: AuditedDocument, raw: bytes) -> None:
        for passage in document.passages:
            span, chunk = passage.chunk.span, passage.chunk
            self._found.count("spans")
            # Extracted text was compared with the passages when the catalogue was.
            if span.byte_start is None or span.byte_end is None:
                continue
            if hashlib.sha256(raw[span.byte_start : span.byte_end]).hexdigest() != chunk.sha256:
                where, what = display_path(document.record.path), "a passage does not stand at its bytes in the file"
                self._found.faults.append(Fault("passage", where, what, document=document.id))
                return

    def _former(self, reader: CatalogueAudit) -> None:
        for fault in reader.audited_former():
            self._found.count("former")
            if fault is not None:
                self._found.faults.append(fault)

    def _chroma(self, reader: CatalogueAudit) -> None:
        vectors = self._store.vectors
        if vectors.state == "off":
            return
        rebuilt = vectors.rebuilt
        vectors.open()
        where = str(self._store.directory / "chroma")
        if vectors.rebuilt and not rebuilt:
            self._found.done.append("rebuilt Chroma when it was opened: it was not closed cleanly, or lagged behind")
        ids = reader.passage_ids()
        problems = vectors.compare(ids, reader.records(self._segments), data=self._found.read_data)
        if vectors.state == "ready":
            self._found.count("records", len(ids))
        self._found.faults += [Fault("chroma", where, problem) for problem in problems]

    def _stands(self, how: str) -> None:
        self._found.sources[how] = self._found.sources.get(how, 0) + 1


def unreadable(
    index: str, roots: list[bytes], error: ColbertMCPError, named: Callable[[str], str] = str
) -> CheckOutput:
    """What is answered of an index whose catalogue cannot be opened, from which only ``roots`` could be read."""
    fault = Fault("catalogue", CATALOGUE, str(error))
    found = Findings(read_data=False, roots=roots, faults=[fault], beyond_repair=True)
    return output(index, found, named=named)


def _quoted(path: bytes) -> str:
    return shlex.quote(display_path(path))
