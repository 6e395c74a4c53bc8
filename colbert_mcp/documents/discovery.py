"""The files under a root that are to be indexed, and every one that is not, with the reason.

Nested ``.gitignore`` and ``.ignore`` files are honoured as git does: a later file and a deeper folder win. Links are
not followed, special files never opened. Knows nothing of the index.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from pathspec.pattern import RegexPattern

from colbert_mcp.documents.paths import display_path
from colbert_mcp.documents.patterns import any_of, compile_ignore_file, compile_patterns, selected, verdict
from colbert_mcp.documents.policy import credential_file, credential_folder, is_within
from colbert_mcp.results import Skipped
from colbert_mcp.types import FileStamp

_IGNORE_FILES = (b".gitignore", b".ignore")
_MAX_IGNORE_BYTES = 1_000_000
_BY_NAME = attrgetter("name")


class Found(NamedTuple):
    """A regular file to be indexed (a tuple for the same reason as its stamp)."""

    path: bytes
    stamp: FileStamp


class Unlisted(NamedTuple):
    """A path of which it cannot be told now what is there, or below it."""

    path: bytes
    skipped: Skipped


@dataclass(frozen=True, slots=True)
class Discovery:
    """What to take under a root. ``include`` and ``exclude`` are gitignore-style patterns relative to the root."""

    max_file_bytes: int
    hidden: bool
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    removed: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class _Layer:
    """The patterns of one ignore file, the folder it is in, and one expression for all of them."""

    folder: bytes
    patterns: list[RegexPattern]
    anything: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class _Folder:
    """What the entries of one folder are judged by.

    ``relative`` is its path below the root with a slash at its end ("" for the root), ``layers`` the ignore files in
    force, innermost first, each with what its patterns are to see before an entry's name.
    """

    path: bytes
    relative: str
    layers: list[tuple[_Layer, str]]
    in_credentials: bool

    @classmethod
    def of(cls, path: bytes, root: bytes, layers: Sequence[_Layer]) -> "_Folder":
        return cls(
            path,
            _prefix(path, root),
            [(layer, _prefix(path, layer.folder)) for layer in reversed(layers)],
            credential_folder(path),
        )

    def ignores(self, name: str) -> bool:
        """Whether the ignore files leave an entry out; the name of a folder ends in a slash."""
        for layer, prefix in self.layers:
            entry = prefix + name
            if layer.anything.search(entry):
                ignored = verdict(layer.patterns, entry)
                if ignored is not None:
                    return ignored
        return False


def _prefix(folder: bytes, above: bytes) -> str:
    below = folder[len(above.rstrip(b"/")) + 1 :]
    return display_path(below) + "/" if below else ""


def discover(root: bytes, how: Discovery) -> Iterator[Found | Skipped | Unlisted]:
    """Walk a real path, folders in name order; a root that is a file is taken even if it is ignored or hidden."""
    try:
        status = os.stat(root)
    except OSError as error:
        yield Unlisted(root, _unreadable(root, error))
        return
    if not stat.S_ISDIR(status.st_mode):
        name = os.path.basename(display_path(root))
        yield _file(root, name, status, how, in_credentials=credential_folder(os.path.dirname(root)))
        return
    choose = _Choice(how)
    pending = [(root, _layers_above(root))]
    while pending:
        path, layers = pending.pop()
        folders = []
        try:
            with os.scandir(path) as listing:
                entries = sorted(listing, key=_BY_NAME)
        except OSError as error:
            yield Unlisted(path, _unreadable(path, error))
            continue
        layers = _entering(path, layers, [entry.name for entry in entries if entry.name in _IGNORE_FILES])
        folder = _Folder.of(path, root, layers)
        for entry in entries:
            outcome = choose.entry(entry, folder)
            if isinstance(outcome, bytes):
                folders.append((outcome, layers))
            else:
                yield outcome
        pending.extend(reversed(folders))


class _Choice:
    """Judges one entry after the other; all of its patterns are compiled once."""

    def __init__(self, how: Discovery) -> None:
        self._how = how
        self._include = compile_patterns(how.include)
        self._exclude = compile_patterns(how.exclude)

    def entry(self, entry: os.DirEntry[bytes], folder: _Folder) -> Found | Skipped | Unlisted | bytes:
        """One directory entry: a file to index, a folder to enter (its path), or what is skipped."""
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            return Unlisted(entry.path, _unreadable(entry.path, error))
        is_folder = stat.S_ISDIR(status.st_mode)
        name = display_path(entry.name)
        reason = self.reason(
            entry.path, name + "/" if is_folder else name, folder, is_link=stat.S_ISLNK(status.st_mode)
        )
        if reason is not None:
            return Skipped(path=display_path(entry.path) + "/" * is_folder, reason=reason)
        if is_folder:
            return entry.path
        return _file(entry.path, name, status, self._how, in_credentials=folder.in_credentials)

    def reason(self, path: bytes, name: str, folder: _Folder, *, is_link: bool) -> str | None:
        """Why an entry of a folder is left out by what it is called, None if it is not; a folder's name has a slash."""
        how = self._how
        if is_link:
            return "a symbolic link"
        if path in how.removed:
            return "removed with remove_path"
        if name == ".git/" or name == ".git" or (name[0] == "." and not how.hidden):
            return "hidden"
        if folder.ignores(name):
            return "ignored by .gitignore or .ignore"
        if self._exclude and selected(self._exclude, folder.relative + name):
            return "excluded"
        if self._include and name[-1] != "/" and not selected(self._include, folder.relative + name):
            return "not included"
        return None


class Relevance:
    """Whether changes at paths can change what ``discover`` gives, judged by the same rules; for one look at them.

    A path that leads through a link counts as the one that it leads to, which the system may tell of by this name only.
    Nothing ``beside`` the documents matters: the index's own directory. Ignore files are read once, as they are now.
    """

    def __init__(self, root: bytes, how: Discovery, beside: bytes | None = None) -> None:
        self._root = root
        self._beside = beside
        self._choose = _Choice(how)
        self._entered: dict[bytes, tuple[_Folder, tuple[_Layer, ...]] | None] = {}
        self._real: dict[bytes, bytes] = {}

    def matters(self, path: bytes) -> bool:
        """Whether a change at a path below the root may matter; True where that cannot be told."""
        above = self._root.rstrip(b"/") + b"/"
        told, path = path, self._led_to(path)
        if self._beside is not None and is_within(path, self._beside):
            return False
        if not path.startswith(above):
            return not told.startswith(above)  # else a link leads out of the root
        names = path[len(above) :].split(b"/")
        folder = self._root
        inside = self._enter(folder, None)
        for name in names[:-1]:
            if inside is None:
                return False
            folder = folder.rstrip(b"/") + b"/" + name
            inside = self._enter(folder, inside)
        return inside is not None and (names[-1] in _IGNORE_FILES or not self._left_out(path, inside[0]))

    def _led_to(self, path: bytes) -> bytes:
        """The path with the links in its folder resolved, and not the one that it may be itself."""
        folder, name = os.path.split(path)
        if folder not in self._real:
            with suppress(OSError, ValueError):
                self._real[folder] = os.path.realpath(folder)
        return os.path.join(self._real.get(folder, folder), name)

    def _enter(
        self, path: bytes, outer: tuple[_Folder, tuple[_Layer, ...]] | None
    ) -> tuple[_Folder, tuple[_Layer, ...]] | None:
        """A folder with the ignore files in force in it; None where it is not entered."""
        if path not in self._entered:
            if outer is not None and self._left_out(path, outer[0]):
                self._entered[path] = None
            else:
                layers = _entering(path, _layers_above(path) if outer is None else outer[1], _IGNORE_FILES)
                self._entered[path] = _Folder.of(path, self._root, layers), layers
        return self._entered[path]

    def _left_out(self, path: bytes, folder: _Folder) -> bool:
        mode = 0
        with suppress(OSError, ValueError):  # it may be gone by now
            mode = os.lstat(path).st_mode
        name = display_path(os.path.basename(path)) + "/" * stat.S_ISDIR(mode)
        return self._choose.reason(path, name, folder, is_link=stat.S_ISLNK(mode)) is not None


def _file(path: bytes, name: str, status: os.stat_result, how: Discovery, *, in_credentials: bool) -> Found | Skipped:
    reason = None
    if not stat.S_ISREG(status.st_mode):
        reason = "not a regular file"
    elif credential_file(name.lower(), in_credentials=in_credentials):
        reason = "a credential by its name"
    elif status.st_size > how.max_file_bytes:
        reason = f"larger than {how.max_file_bytes} bytes ([documents] max_file_bytes)"
    elif status.st_size == 0:
        reason = "empty"
    if reason is not None:
        return Skipped(path=display_path(path), reason=reason)
    return Found(path, FileStamp(status.st_size, status.st_mtime_ns))


def _unreadable(path: bytes, error: OSError) -> Skipped:
    return Skipped(path=display_path(path), reason=(error.strerror or "cannot be read").lower())


def _layers_above(root: bytes) -> tuple[_Layer, ...]:
    """The ignore files of the folders above a root, from the work tree it is in downwards (none outside of one)."""
    above = []
    folder = root
    while not os.path.exists(folder + b"/.git"):
        parent = os.path.dirname(folder)
        if parent == folder:
            return ()
        above.append(parent)
        folder = parent
    layers: tuple[_Layer, ...] = ()
    for parent in reversed(above):
        layers = _entering(parent, layers, _IGNORE_FILES)
    return layers


def _entering(folder: bytes, outer: tuple[_Layer, ...], names: Sequence[bytes]) -> tuple[_Layer, ...]:
    """The ignore files in force in a folder, outermost first: those of the folders above and its own of these names."""
    specs = [spec for name in _IGNORE_FILES if name in names and (spec := _read_spec(folder + b"/" + name))]
    return (*outer, *(_Layer(folder, spec, any_of(spec)) for spec in specs)) if specs else outer


def _read_spec(file: bytes) -> list[RegexPattern]:
    try:
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_IGNORE_BYTES:
            return []
        with open(file, "rb") as lines:
            return compile_ignore_file(lines.read().decode("utf-8", "replace"))
    except OSError:
        return []
