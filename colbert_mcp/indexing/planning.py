"""What an indexing run would do and cost, without doing it: nothing is encoded and nothing is written.

Files that may have changed are read and cut for real, up to a bound on their bytes and on the time; what lies beyond
is estimated from those of the same suffix. Knows discovery, cutting and the store's readers; loads no model.
"""

import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from colbert_mcp.chunking import SizedTokenizer, cut_document
from colbert_mcp.config import BUILTIN, Config, DocumentsConfig
from colbert_mcp.documents import READER, Extractor, display_path, read_document, real_path
from colbert_mcp.encoder import Encoder, Tokenized
from colbert_mcp.encoder.tokenizing import builtin_tokenizer
from colbert_mcp.errors import DocumentError, UnreadableDocumentError
from colbert_mcp.indexing.changes import Candidate, Changes, compare, patterns_of, stamp_if_same
from colbert_mcp.indexing.runs import RATE_KEY, Run
from colbert_mcp.results import IndexPlan, Skipped
from colbert_mcp.store import Snapshot, Store

_READ_BYTES = 5_000_000
_READ_SECONDS = 10.0
# Measured with the built-in model (ARCHITECTURE.md, Speed and size); an index that holds enough has its own.
_BYTES_PER_TOKEN = 112.0
_CHROMA_BYTES_PER_PASSAGE = 9_000.0
_ENOUGH_PASSAGES = 1_000


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a plan is counted with. ``exact``: the tokenizer is the one that a run would use.

    ``bytes_on_disk`` is the index's present size by part; ``builtin``: the figures of the built-in model hold.
    """

    tokenizer: SizedTokenizer[Tokenized]
    exact: bool
    documents: DocumentsConfig
    bytes_on_disk: dict[str, int]
    builtin: bool
    chroma: bool


@dataclass(slots=True)
class _Tally:
    """What was found in files: how many are new, changed, or the same after all, and what they were cut into."""

    files: float = 0
    bytes: float = 0
    new: float = 0
    changed: float = 0
    same: float = 0
    chunks: float = 0
    reused: float = 0
    tokens: float = 0

    def add(self, other: "_Tally") -> None:
        """Add another."""
        self.files += other.files
        self.bytes += other.bytes
        self.new += other.new
        self.changed += other.changed
        self.same += other.same
        self.chunks += other.chunks
        self.reused += other.reused
        self.tokens += other.tokens


@dataclass(slots=True)
class _Sample:
    """What has been read, by suffix, and what is left."""

    by_suffix: dict[str, _Tally] = field(default_factory=dict)
    left: list[Candidate] = field(default_factory=list)
    unread: set[int] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)


def planned(
    store: Store,
    encoder: Encoder | None,
    config: Config,
    root: tuple[bytes, Sequence[str] | None, Sequence[str] | None],
    *,
    verify: bool,
) -> Run:
    """A run over a root (real path, include, exclude) that was only planned: its state is ``planned``.

    It reads the index as searches do, also while another run goes on. Chunks are counted with the ``encoder`` if it is
    loaded, else with the built-in model's tokenizer, which for another model gives an estimate. What is wrong with a
    single file is listed in ``run.skipped``. Raises StoreError.
    """
    builtin = config.model.name == BUILTIN
    basis = _Basis(
        tokenizer=encoder or builtin_tokenizer(config.model),
        exact=encoder is not None or builtin,
        documents=config.documents,
        bytes_on_disk=store.bytes_on_disk(),
        builtin=builtin,
        chroma=config.store.chroma,
    )
    with store.snapshot() as snapshot:
        run = Run(root[0], *patterns_of(snapshot.reader, *root), verify=verify)
        changes = compare(snapshot.reader, run, config.documents, real_path(store.directory), READER)
        _fill(run, changes, snapshot, basis)
    return run


def _fill(run: Run, changes: Changes, snapshot: Snapshot, basis: _Basis) -> None:
    sample = _read(run, changes.candidates, snapshot, basis)
    total = _extrapolated(sample)
    new, changed = round(total.new), round(total.changed)
    run.indexed, run.chunks, run.reused = new + changed, round(total.chunks), round(total.reused)
    run.tokens, run.unchanged = round(total.tokens), run.unchanged + round(total.same)
    run.removed = len(changes.gone(sample.unread))
    run.generation = snapshot.generation
    run.seconds = time.monotonic() - run.started
    rate = float(snapshot.reader.meta(RATE_KEY) or 0)
    run.plan = IndexPlan(
        new=new,
        changed=changed,
        estimated=bool(sample.left) or not basis.exact,
        seconds=round(run.tokens / rate, 1) if rate else None,
        bytes=_bytes(run, snapshot, basis),
    )
    run.state = "planned"


def _read(run: Run, candidates: list[Candidate], snapshot: Snapshot, basis: _Basis) -> _Sample:
    """Read and cut the candidates in an order drawn with a fixed seed, as far as the bounds allow."""
    sample = _Sample()
    deadline = time.monotonic() + _READ_SECONDS
    size = 0
    chosen = list(candidates)
    known = len(run.skipped)
    random.Random(0).shuffle(chosen)  # noqa: S311  # a sample that is the same each time
    with Extractor(basis.documents) as extractor:
        for candidate in chosen:
            if size >= _READ_BYTES or time.monotonic() > deadline:
                sample.left.append(candidate)
                continue
            size += candidate.file.stamp.size
            tally = sample.by_suffix.setdefault(_suffix(candidate), _Tally())
            try:
                found = _cut(candidate, snapshot, basis, extractor, sample.seen)
            except DocumentError as error:
                if candidate.document is not None:
                    sample.unread.add(candidate.document)
                run.skipped.append(Skipped(path=display_path(candidate.file.path), reason=str(error)))
                found = _Tally()
            found.files, found.bytes = 1, candidate.file.stamp.size
            tally.add(found)
    run.skipped[known:] = sorted(run.skipped[known:], key=lambda skipped: skipped.path)
    return sample


def _cut(candidate: Candidate, snapshot: Snapshot, basis: _Basis, extractor: Extractor, seen: set[str]) -> _Tally:
    """What a run would make of one file; texts that are indexed or ``seen`` before count as reused."""
    if stamp_if_same(snapshot.reader, candidate, basis.documents) is not None:
        return _Tally(same=1)
    document = read_document(candidate.file.path, basis.documents.max_file_bytes, extractor)
    pieces = cut_document(document, basis.tokenizer)
    if not pieces:
        raise UnreadableDocumentError("empty")
    hashes = [document.chunk(piece.start, piece.end, piece.headings).text_sha256 for piece in pieces]
    known = snapshot.reader.rows_of_texts(list(set(hashes) - seen))
    tally = _Tally(new=1) if candidate.document is None else _Tally(changed=1)
    for digest, piece in zip(hashes, pieces, strict=True):
        if digest in known or digest in seen:
            tally.reused += 1
        else:
            seen.add(digest)
            tally.chunks += 1
            tally.tokens += len(piece.tokens.ids)
    return tally


def _extrapolated(sample: _Sample) -> _Tally:
    """The sample, and for each file left out what those of its suffix (or all) had: as a file, and for its bytes."""
    everything = _Tally()
    for tally in sample.by_suffix.values():
        everything.add(tally)
    total = _Tally()
    total.add(everything)
    for candidate in sample.left:
        like = sample.by_suffix.get(_suffix(candidate), everything)
        total.add(_likely(candidate, like))
    return total


def _likely(candidate: Candidate, like: _Tally) -> _Tally:
    """What a file that was not read may be, as those that were ``like`` it, if any: none of them is empty."""
    if not like.files:
        return _Tally(new=1) if candidate.document is None else _Tally(changed=1)
    share = candidate.file.stamp.size / like.bytes
    found = _Tally(chunks=share * like.chunks, reused=share * like.reused, tokens=share * like.tokens)
    if candidate.document is None:
        found.new = (like.new + like.changed + like.same) / like.files
    elif like.changed + like.same:
        found.changed = like.changed / (like.changed + like.same)
        found.same = 1 - found.changed
    else:
        found.changed = 1
    return found


def _bytes(run: Run, snapshot: Snapshot, basis: _Basis) -> int | None:
    """Disk space for what is new, at what the index takes for a token and for a passage in Chroma."""
    counts = snapshot.reader.counts()
    if counts["passages"] >= _ENOUGH_PASSAGES:
        part = basis.bytes_on_disk
        per_token = (part["catalogue"] + part["tokens"]) / counts["tokens"]
        per_passage = part["chroma"] / counts["passages"]
    elif basis.builtin:
        per_token, per_passage = _BYTES_PER_TOKEN, _CHROMA_BYTES_PER_PASSAGE * basis.chroma
    else:
        return None
    return round(run.tokens * per_token + (run.chunks + run.reused) * per_passage)


def _suffix(candidate: Candidate) -> str:
    return os.path.splitext(os.fsdecode(candidate.file.path))[1].lower()
