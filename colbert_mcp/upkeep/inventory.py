"""What is indexed, as far as a caller may see it: the roots, the files in them, and how much. Searches nothing."""

from collections.abc import Sequence
from importlib.metadata import version

from colbert_mcp.config import Config
from colbert_mcp.documents import display_path, in_scope, is_within
from colbert_mcp.encoder import Encoder
from colbert_mcp.errors import UnreadableDocumentError
from colbert_mcp.results import (
    IndexOutput,
    Ledger,
    SourceDocument,
    SourceRoot,
    SourcesOutput,
    StatusOutput,
    WatchedRoot,
)
from colbert_mcp.store import Snapshot, Store


def sources(snapshot: Snapshot, target: bytes | None, scope: Sequence[bytes], limit: int) -> SourcesOutput:
    """The roots inside ``scope``, and at most ``limit`` of the files there; () is anywhere.

    With a ``target``, the files at it, and the roots that it holds or lies in. Raises UnreadableDocumentError where
    nothing indexed lies there.
    """
    reader = snapshot.reader
    counts, passages = reader.root_counts(), reader.passages_per_document()
    within = () if target is None else (target,)
    roots = [
        root
        for root in reader.roots()
        if in_scope(root.path, scope)
        and (in_scope(root.path, within) or any(is_within(at, root.path) for at in within))
    ]
    documents = [
        document
        for document in reader.documents()
        if in_scope(document.record.path, scope) and in_scope(document.record.path, within)
    ]
    if target is not None and not documents and not any(in_scope(root.path, within) for root in roots):
        raise UnreadableDocumentError(
            f"Nothing indexed lies at {display_path(target)}; without a path, all sources are listed."
        )
    listed = [
        SourceDocument(
            path=display_path(document.record.path),
            format=document.record.format,
            encoding=document.record.encoding,
            newline=document.record.newline,
            size=document.record.stamp.size,
            passages=passages.get(document.id, 0),
            sha256=document.record.sha256,
            indexed_at=document.indexed_at,
        )
        for document in documents[:limit]
    ]
    return SourcesOutput(
        roots=[
            SourceRoot(
                path=display_path(root.path),
                include=list(root.include),
                exclude=list(root.exclude),
                documents=counts.get(root.id, (0, 0))[0],
                passages=counts.get(root.id, (0, 0))[1],
                indexed_at=root.indexed_at,
            )
            for root in roots
        ],
        documents=listed,
        total_documents=len(documents),
        truncated=len(documents) > limit,
        generation=snapshot.generation,
    )


def status(
    store: Store,
    encoder: Encoder | None,
    config: Config,
    runs: list[IndexOutput],
    watching: list[WatchedRoot] | None,
    scope: Sequence[bytes],
) -> StatusOutput:
    """The index, the model as far as it is loaded, and the configured reranker."""
    with store.snapshot() as snapshot:
        inside = _inside(snapshot, scope)
        counts = _totals(snapshot, inside, scope)
        other = store.segments.in_other_format(snapshot.reader.segments())
        kept_otherwise = snapshot.reader.passages_in(other, inside)
        fingerprint = snapshot.reader.fingerprint or {}
        generation = snapshot.generation
    length = encoder.fingerprint.document_length if encoder else fingerprint.get("document_length")
    return StatusOutput(
        index=display_path(bytes(store.directory)),
        generation=generation,
        documents=counts["documents"],
        passages=counts["passages"],
        tokens=counts["tokens"],
        characters=counts["characters"],
        ledger=Ledger(**{name: counts[name] for name in Ledger.model_fields}),
        embedding_format=store.segments.embedding_format,
        kept_otherwise=kept_otherwise,
        bytes=store.bytes_on_disk(),
        roots=counts["roots"],
        model=str(fingerprint.get("model", config.model.name)),
        device=encoder.device if encoder else None,
        dtype=encoder.dtype if encoder else None,
        document_length=length if isinstance(length, int) else None,
        reranker=config.search.reranker or None,
        chroma=store.vectors.state,
        read_only=store.read_only,
        runs=runs,
        watching=watching,
        version=version("colbert-mcp"),
        notice=(" ".join(encoder.notices) or None) if encoder else None,
    )


def _inside(snapshot: Snapshot, scope: Sequence[bytes]) -> list[int] | None:
    """The documents in ``scope``; None for all."""
    return [d.id for d in snapshot.reader.documents() if in_scope(d.record.path, scope)] if scope else None


def _totals(snapshot: Snapshot, inside: list[int] | None, scope: Sequence[bytes]) -> dict[str, int]:
    """How many roots, documents, passages, tokens and characters lie in ``scope``, and what no embedding stands for."""
    reader = snapshot.reader
    return {**reader.counts(inside), "roots": sum(in_scope(root.path, scope) for root in reader.roots())}
