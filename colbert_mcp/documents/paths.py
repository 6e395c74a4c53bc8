"""Paths as bytes on disk, as text to show, as links to open and as globs to match."""

import os
from pathlib import Path

from colbert_mcp.documents.patterns import compile_patterns, selected
from colbert_mcp.errors import UnreadableDocumentError


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
    indexed root that holds it, or to the folder of a root that is a single file.
    """
    absolute = display_path(path)
    relative = [_below(path, root) for root in roots]
    for pattern in patterns:
        if pattern.startswith("/"):
            if pattern.rstrip("/") in ("", absolute) or selected(compile_patterns([pattern]), absolute.lstrip("/")):
                return True
        elif any(selected(compile_patterns([pattern]), name) for name in relative if name):
            return True
    return False


def _below(path: bytes, root: bytes) -> str | None:
    if path == root:
        return os.path.basename(display_path(path))
    prefix = root.rstrip(b"/") + b"/"
    return display_path(path[len(prefix) :]) if path.startswith(prefix) else None
