"""Takes a root, or a folder or file below one, out of the index.

Knows the store; the files themselves are not touched.
"""

from collections.abc import Sequence

from colbert_mcp.documents import display_path, in_scope, is_within
from colbert_mcp.errors import UnreadableDocumentError
from colbert_mcp.results import RemoveOutput
from colbert_mcp.store import Store, Writer


def remove(store: Store, target: bytes, scope: Sequence[bytes]) -> RemoveOutput:
    """Take what is indexed at a real path out of the index, former passages included; names nothing outside ``scope``.

    Raises UnreadableDocumentError where nothing indexed lies there.
    """
    writer = store.writer
    roots = writer.roots()
    # A root is let go alone, and keeps what roots below it hold; a folder that is none takes them with it.
    own = [root for root in roots if root.path == target] or [r for r in roots if is_within(r.path, target)]
    above = [root for root in roots if root.path != target and is_within(target, root.path)]
    below = {document.id for document in writer.documents() if is_within(document.record.path, target)}
    if not own and not below:
        raise UnreadableDocumentError(
            f"Nothing indexed lies at {display_path(target)}; list the sources to see what is."
        )

    def let_go(writer: Writer) -> list[int]:
        for root in own:
            writer.drop_root(root.id)
        writer.clear_tombstones(target, below=True)
        if not own and above:
            # The roots above would bring it back at their next run.
            writer.put_tombstone(target)
        writer.forget_former(target)
        return sorted(below - writer.held_documents() if own else below)

    documents, passages = store.forget(let_go)
    notices = []
    if not own:
        around = display_path(above[0].path) if in_scope(above[0].path, scope) else "the folder around it"
        notices.append(f"It stays out of {around} until it is indexed by its own path.")
    if not store.scrub():
        notices.append("Its text may stay in Chroma's files until they are written anew: colbert-mcp gc does that.")
    return RemoveOutput(
        path=display_path(target),
        removed_documents=documents,
        removed_passages=passages,
        kept_documents=len(below) - documents,
        generation=writer.generation,
        notice=" ".join(notices) or None,
    )
