"""Paths as bytes on disk, as text to show, as links to open and as globs to match."""

import os
from pathlib import Path

from colbert_mcp.documents.patterns import compile_patterns, selected
from colbert_mcp.errors import UnreadableDocumentError

_NO_NAME = "\0"


def real_path(path: str | os.PathLike[str]) -> bytes:
    """The absolute path with links resolved, in the file system's own bytes: the identity of a document.

    Raises UnreadableDocumentError for what can be no path: nothing, a NUL, a user that is not there.
    """
    try:
        if not str(path):
            raise ValueError("it is empty")
        return os.fsencode(os.path.realpath(Path(path).expanduser()))
    except (ValueError, RuntimeError) as error:
        raise UnreadableDocumentError(f"{ascii(str(path))[:200]} is not a path: {error}.") from None


def display_path(path: bytes) -> str:
    r"""The path as text that any encoding can carry: bytes that are not UTF-8 are written as ``\xNN``."""
    return path.decode("utf-8", "backslashreplace")


def file_url(path: bytes, fragment: str = "") -> str:
    """An openable ``file:`` URL (RFC 8089) with every special character of the name escaped."""
    url = Path(os.fsdecode(path)).as_uri()
    return f"{url}#{fragment}" if fragment else url


def path_matches(patterns: list[str], path: bytes, roots: list[bytes]) -> bool:
    """Whether any gitignore-style pattern selects the path or a folder above it.

    A pattern that starts with ``/`` is matched against the absolute path, any other against the path relative to each
    indexed root that holds it, with the root's own name before it or not; a root that is a single file is its name.
    """
    absolute = display_path(path)
    for pattern in patterns:
        if pattern.startswith("/"):
            if pattern.rstrip("/") in ("", absolute) or selected(compile_patterns([pattern]), absolute.lstrip("/")):
                return True
        elif any(_selects(pattern, path, root) for root in roots):
            return True
    return False


def _selects(pattern: str, path: bytes, root: bytes) -> bool:
    prefix = root.rstrip(b"/") + b"/"
    if path != root and not path.startswith(prefix):
        return False
    compiled, name = compile_patterns([pattern]), os.path.basename(display_path(root))
    if path == root:
        return selected(compiled, name)
    below = display_path(path[len(prefix) :])
    # ``*/*.md`` matches any name before: only a pattern that names the root selects by its name.
    return selected(compiled, below) or (
        selected(compiled, f"{name}/{below}") and not selected(compiled, f"{_NO_NAME}/{below}")
    )
