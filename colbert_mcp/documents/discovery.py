"""The files under a root that are to be indexed, and every one that is not, with the reason.

Nested ``.gitignore`` and ``.ignore`` files are honoured as git does: a later file and a deeper folder win. Links are
not followed, special files never opened. Knows nothing of the index.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pathspec

from colbert_mcp.documents.paths import display_path
from colbert_mcp.documents.policy import credential_name
from colbert_mcp.types import FileStamp, Skipped

_IGNORE_FILES = (b".gitignore", b".ignore")
_MAX_IGNORE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file to be indexed."""

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

    layers: tuple[tuple[bytes, pathspec.GitIgnoreSpec], ...] = ()

    def entering(self, folder: bytes) -> "_Rules":
        specs = tuple((folder, spec) for name in _IGNORE_FILES if (spec := _read_spec(folder + b"/" + name)))
        return _Rules(self.layers + specs) if specs else self

    def ignore(self, path: bytes, is_folder: bool) -> bool:
        for folder, spec in reversed(self.layers):
            relative = display_path(path[len(folder.rstrip(b"/")) + 1 :]) + ("/" if is_folder else "")
            for pattern in reversed(spec.patterns):
                if pattern.regex is not None and _matches_itself(pattern.regex, relative):
                    return bool(pattern.include)
        return False


def _matches_itself(regex: re.Pattern[str], entry: str) -> bool:
    """Whether a pattern selects an entry, and not only a folder above it.

    Folders are walked from the top, as git does, so each entry is judged alone. pathspec's expressions also match what
    lies below a match; they mark the slash after it with the group ``ps_d``, or end in a slash for ``folder/**``.
    """
    if "ps_d" not in regex.groupindex:
        found = regex.search(entry)
        return found is not None and not (regex.pattern.endswith("/") and found.end() == len(entry))
    return any(found.start("ps_d") in (-1, len(entry) - 1) for found in regex.finditer(entry))


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
    include = pathspec.GitIgnoreSpec.from_lines(how.include) if how.include else None
    exclude = pathspec.GitIgnoreSpec.from_lines(how.exclude)
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
    include: pathspec.GitIgnoreSpec | None,
    exclude: pathspec.GitIgnoreSpec,
) -> Found | Skipped | bytes:
    """One directory entry: a file to index, a folder to enter (its path), or what is skipped."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return Skipped(path=display_path(entry.path), reason=(error.strerror or "cannot be read").lower())
    is_folder = stat.S_ISDIR(status.st_mode)
    reason = _entry_reason(entry, status, rules, how)
    if reason is None and exclude.match_file(relative + "/" * is_folder):
        reason = "excluded"
    if reason is None and not is_folder and include is not None and not include.match_file(relative):
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


def _read_spec(file: bytes) -> pathspec.GitIgnoreSpec | None:
    try:
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_IGNORE_BYTES:
            return None
        with open(file, "rb") as lines:
            return pathspec.GitIgnoreSpec.from_lines(
                lines.read().decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
            )
    except (OSError, ValueError):
        return None
