"""The files under a root that are to be indexed, and every one that is not, with the reason.

Nested ``.gitignore`` and ``.ignore`` files are honoured as git does: a later file and a deeper folder win. Links are
not followed, special files never opened. Knows nothing of the index.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pathspec.pattern import RegexPattern

from colbert_mcp.documents.paths import display_path
from colbert_mcp.documents.patterns import compile_ignore_file, compile_patterns, selected, verdict
from colbert_mcp.documents.policy import credential_name
from colbert_mcp.results import Skipped
from colbert_mcp.types import FileStamp

_IGNORE_FILES = (b".gitignore", b".ignore")
_MAX_IGNORE_BYTES = 1_000_000


class Found(NamedTuple):
    """A regular file to be indexed (a tuple for the same reason as its stamp)."""

    path: bytes
    stamp: FileStamp


@dataclass(frozen=True, slots=True)
class Discovery:
    """What to take under a root. ``include`` and ``exclude`` are gitignore-style patterns relative to the root."""

    max_file_bytes: int
    hidden: bool
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    removed: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class _Rules:
    """The ignore files in force in one folder, outermost first: (folder, patterns)."""

    layers: tuple[tuple[bytes, list[RegexPattern]], ...] = ()

    def entering(self, folder: bytes) -> "_Rules":
        specs = tuple((folder, spec) for name in _IGNORE_FILES if (spec := _read_spec(folder + b"/" + name)))
        return _Rules(self.layers + specs) if specs else self

    def ignore(self, path: bytes, is_folder: bool) -> bool:
        for folder, spec in reversed(self.layers):
            relative = display_path(path[len(folder.rstrip(b"/")) + 1 :]) + ("/" if is_folder else "")
            ignored = verdict(spec, relative)
            if ignored is not None:
                return ignored
        return False


def discover(root: bytes, how: Discovery) -> Iterator[Found | Skipped]:
    """Walk a real path, folders in name order; a root that is a file is taken even if it is ignored or hidden."""
    try:
        status = os.stat(root)
    except OSError as error:
        yield Skipped(path=display_path(root), reason=(error.strerror or "cannot be read").lower())
        return
    if not stat.S_ISDIR(status.st_mode):
        yield _file(root, status, how)
        return
    include, exclude = compile_patterns(how.include), compile_patterns(how.exclude)
    pending = [(root, _rules_above(root))]
    while pending:
        folder, outer = pending.pop()
        rules = outer.entering(folder)
        folders = []
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield Skipped(path=display_path(folder), reason=(error.strerror or "cannot be read").lower())
            continue
        for entry in entries:
            relative = display_path(entry.path[len(root.rstrip(b"/")) + 1 :])
            outcome = _entry(entry, relative, rules, how, include, exclude)
            if isinstance(outcome, bytes):
                folders.append((outcome, rules))
            else:
                yield outcome
        pending.extend(reversed(folders))


def _entry(
    entry: os.DirEntry[bytes],
    relative: str,
    rules: _Rules,
    how: Discovery,
    include: list[RegexPattern],
    exclude: list[RegexPattern],
) -> Found | Skipped | bytes:
    """One directory entry: a file to index, a folder to enter (its path), or what is skipped."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return Skipped(path=display_path(entry.path), reason=(error.strerror or "cannot be read").lower())
    is_folder = stat.S_ISDIR(status.st_mode)
    reason = _entry_reason(entry, status, rules, how)
    if reason is None and selected(exclude, relative + "/" * is_folder):
        reason = "excluded"
    if reason is None and not is_folder and include and not selected(include, relative):
        reason = "not included"
    if reason is not None:
        return Skipped(path=display_path(entry.path) + "/" * is_folder, reason=reason)
    return entry.path if is_folder else _file(entry.path, status, how)


def _entry_reason(entry: os.DirEntry[bytes], status: os.stat_result, rules: _Rules, how: Discovery) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        return "a symbolic link"
    if entry.path in how.removed:
        return "removed with remove_path"
    if entry.name == b".git" or (entry.name.startswith(b".") and not how.hidden):
        return "hidden"
    if rules.ignore(entry.path, stat.S_ISDIR(status.st_mode)):
        return "ignored by .gitignore or .ignore"
    return None


def _file(path: bytes, status: os.stat_result, how: Discovery) -> Found | Skipped:
    if not stat.S_ISREG(status.st_mode):
        return Skipped(path=display_path(path), reason="not a regular file")
    if credential_name(path):
        return Skipped(path=display_path(path), reason="a credential by its name")
    if status.st_size > how.max_file_bytes:
        return Skipped(
            path=display_path(path), reason=f"larger than {how.max_file_bytes} bytes ([documents] max_file_bytes)"
        )
    if status.st_size == 0:
        return Skipped(path=display_path(path), reason="empty")
    return Found(path, FileStamp(status.st_size, status.st_mtime_ns))


def _rules_above(root: bytes) -> _Rules:
    """The rules of the folders above a root, from the work tree it is in downwards (none outside of one)."""
    above = []
    folder = root
    while not os.path.exists(folder + b"/.git"):
        parent = os.path.dirname(folder)
        if parent == folder:
            return _Rules()
        above.append(parent)
        folder = parent
    rules = _Rules()
    for parent in reversed(above):
        rules = rules.entering(parent)
    return rules


def _read_spec(file: bytes) -> list[RegexPattern]:
    try:
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_IGNORE_BYTES:
            return []
        with open(file, "rb") as lines:
            return compile_ignore_file(lines.read().decode("utf-8", "replace"))
    except OSError:
        return []
