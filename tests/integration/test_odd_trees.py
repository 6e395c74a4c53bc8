"""A tree with everything that a file system may hold, indexed and searched from end to end."""

import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import ENGINE
from support import EngineFactory

import colbert_mcp
from colbert_mcp import Index
from colbert_mcp.cli import main
from colbert_mcp.config import Config, IndexConfig, StoreConfig
from colbert_mcp.results import Passage
from colbert_mcp.sharing.launch import Launcher, stop_engine
from colbert_mcp.sharing.rendezvous import Rendezvous

TOO_LARGE = "larger than 10000000 bytes ([documents] max_file_bytes)"
NOBODY = 65534
LONG = "ï" * 126 + ".md"  # 255 bytes


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """The configuration of an index with an engine that is shared, ended with the test."""
    config = Config(index=IndexConfig(path=str(tmp_path / "index")), store=StoreConfig(chroma=False))
    yield config
    stop_engine(Rendezvous(config.index_path))


def write(folder: bytes, name: bytes, text: str) -> None:
    with open(os.path.join(folder, name), "wb") as file:  # noqa: PTH118, PTH123  # names that are no text
        file.write(text.encode())


def odd_tree(root: Path, small: int) -> dict[str, str]:
    """Make the tree; the reason for each entry that must be skipped, by its name below the root."""
    for number in range(small):
        folder = root / "small" / f"{number % 100:02}"
        if number < 100:
            folder.mkdir(parents=True)
        (folder / f"{number}.txt").write_text(f"Small file number {number} of group {number % 7}.\n")
    raw = os.fsencode(root)
    write(raw, b"caf\xe9 \xff.txt", "The aardvark has a name that is no text.\n")
    write(raw, b"two\nlines.md", "# Bison\n\nThe bison has a line break in its name.\n")
    write(raw, b"tab\tquote\"'\\.md", "The coyote has quotation marks in its name.\n")
    write(raw, LONG.encode(), "The dingo has the longest name of all.\n")
    for name, seconds in (("old.txt", 0), ("future.txt", 4_102_444_800)):  # 1970 and 2100
        (root / name).write_text(f"The echidna of {name} has a strange time.\n")
        os.utime(root / name, (seconds, seconds))
    (root / "loop").mkdir()
    (root / "loop" / "again").symlink_to(root)
    (root / "loop" / "itself").symlink_to("itself")
    (root / "device").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket must be short
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
    with (root / "sparse.txt").open("wb") as file:
        file.truncate(1_000_000_000)
    (root / "nothing.md").write_bytes(b"")
    skipped = {"loop/again": "a symbolic link", "loop/itself": "a symbolic link", "device": "a symbolic link"}
    skipped |= {"pipe": "not a regular file", "socket": "not a regular file", "sparse.txt": TOO_LARGE}
    skipped["nothing.md"] = "empty"
    try:
        os.mknod(root / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except OSError:  # only some may make devices
        return skipped
    return {**skipped, "null": "not a regular file"}


def proved(passage: Passage, path: bytes) -> None:
    """The passage names this file, and its bytes are the file's at that span."""
    with open(path, "rb") as file:  # noqa: PTH123
        raw = file.read()
    assert passage.path == path.decode("utf-8", "backslashreplace")
    assert passage.status == "current"
    assert passage.byte_start is not None
    assert passage.byte_end is not None
    span = raw[passage.byte_start : passage.byte_end]
    assert (span.decode(), hashlib.sha256(span).hexdigest()) == (passage.text, passage.sha256)
    assert passage.line_start == raw[: passage.byte_start].count(b"\n") + 1


@pytest.mark.parametrize("small", [1_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_everything_is_indexed_and_proved_or_skipped_with_its_reason(
    small: int, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    skipped = odd_tree(root, small)
    Launcher(config, colbert_mcp.__version__, ENGINE).ensure()
    found = {
        "aardvark": b"caf\xe9 \xff.txt",
        "bison": b"two\nlines.md",
        "coyote": b"tab\tquote\"'\\.md",
        "dingo": LONG.encode(),
    }
    with Index.open(config=config) as index:
        first = index.index_path(root, list_skipped=1_000)
        assert (first.state, first.indexed, first.files_total) == ("done", small + 6, small + 6)
        assert {item.path.removeprefix(f"{root}/"): item.reason for item in first.problems} == skipped
        for word, name in found.items():
            result = index.search(word, mode="lexical").results[0]
            proved(result, os.path.join(os.fsencode(root), name))  # noqa: PTH118
            assert index.verify_quote(result.text, result.id).verdict == "exact"
            assert index.verify_quote(result.text, path=result.url).verdict == "exact"
        last = index.search(f"number {small - 1}", mode="lexical", limit=1).results[0]
        proved(last, os.fsencode(root / "small" / f"{(small - 1) % 100:02}" / f"{small - 1}.txt"))
        assert {Path(r.path).name for r in index.search("echidna").results[:2]} == {"old.txt", "future.txt"}
        again = index.index_path(root)
        assert (again.indexed, again.unchanged, again.removed) == (0, small + 6, 0)
        assert again.generation == first.generation
        same_size_and_time(root / "old.txt", "The echidna", "The wallaby")
        assert index.index_path(root).indexed == 0
        assert index.search("wallaby", mode="lexical").results == []
        assert index.index_path(root, verify=True).indexed == 1
        proved(index.search("wallaby", mode="lexical").results[0], os.fsencode(root / "old.txt"))
    shown = told(capsys, config, "search", "aardvark", "--mode", "lexical")
    passage = Passage.model_validate(shown["results"][0])
    proved(passage, os.fsencode(root) + b"/caf\xe9 \xff.txt")
    assert passage.url.endswith("/caf%E9%20%FF.txt#L1-L1")
    odd = os.fsdecode(os.fsencode(root) + b"/caf\xe9 \xff.txt")
    assert told(capsys, config, "index", odd)[0]["unchanged"] == 1
    assert told(capsys, config, "remove", odd)[0]["kept_documents"] == 1
    (removed,) = told(capsys, config, "remove", os.fsdecode(os.fsencode(root) + b"/two\nlines.md"))
    assert removed["removed_documents"] == 1


def same_size_and_time(file: Path, old: str, new: str) -> None:
    before = file.stat()
    file.write_text(file.read_text().replace(old, new))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def told(capsys: pytest.CaptureFixture[str], config: Config, command: str, *arguments: str) -> Any:
    """What the command line prints as JSON; it may hold no byte that is not UTF-8."""
    capsys.readouterr()
    assert main(["--index", str(config.index_path), command, "--json", *arguments]) == 0
    printed = capsys.readouterr().out
    printed.encode("utf-8")
    return json.loads(printed)


class _Changing:
    """A file that another process writes to just before it is read."""

    def __init__(self, file: Any, path: Path, text: str) -> None:
        self._file, self._path, self._text = file, path, text

    def __enter__(self) -> "_Changing":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        self._path.write_text(self._text)
        raw: bytes = self._file.read(size)
        return raw


def test_a_file_that_changes_while_it_is_read_is_read_again_or_skipped(
    open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    once, always = root / "once.txt", root / "always.txt"
    once.write_text("The fox is old.\n")
    always.write_text("The goat is old.\n")
    inodes = {once.stat().st_ino: once, always.stat().st_ino: always}
    reads = {once: 0, always: 0}
    fdopen = os.fdopen

    def opened(descriptor: int, *arguments: Any, **named: Any) -> Any:
        file = fdopen(descriptor, *arguments, **named)
        path = inodes.get(os.fstat(descriptor).st_ino)
        if path is None:
            return file
        reads[path] += 1
        if path == once and reads[path] > 1:
            return file
        return _Changing(file, path, f"{path.stem} is new{'!' * reads[path]}.\n")

    engine = open_engine()
    monkeypatch.setattr(os, "fdopen", opened)
    output = engine.index_path(root)
    monkeypatch.undo()
    assert (output.indexed, output.skipped) == (1, 1)
    assert [(Path(item.path), item.reason) for item in output.problems] == [
        (always, "it kept changing while it was read")
    ]
    assert reads[once] == 2
    proved(engine.search("new", mode="lexical").results[0], os.fsencode(once))
    assert len(engine.search("new", mode="lexical").results) == 1
    assert engine.index_path(root).indexed == 1, "it has come to rest"
    for result in engine.search("new", mode="lexical").results:
        proved(result, os.fsencode(result.path))


def test_what_may_not_be_read_is_skipped_and_the_rest_is_indexed(open_engine: EngineFactory) -> None:
    """As an unprivileged user: root may read everything. The folder of a test is its own user's alone."""
    folder = Path(tempfile.mkdtemp(prefix="odd-tree-"))
    privileged = os.geteuid() == 0
    try:
        tree, index = folder / "tree", folder / "index"
        for made in (tree, index, tree / "closed"):
            made.mkdir()
        for name in ("open.txt", "secret.txt", "closed/inside.txt"):
            (tree / name).write_text("A heron.\n")
        engine = open_engine(index=index)
        assert engine.index_path(tree).indexed == 3
        (tree / "secret.txt").chmod(0)
        (tree / "closed").chmod(0)
        (tree / "new.txt").write_text("A second heron.\n")
        folder.chmod(0o755)
        if privileged:
            for path in (index, *index.rglob("*")):
                os.chown(path, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            output = engine.index_path(tree, verify=True)
        finally:
            if privileged:
                os.seteuid(0)
        engine.close()
    finally:
        (folder / "tree" / "closed").chmod(0o700)
        shutil.rmtree(folder)
    # What a folder that cannot be listed held is kept: it may be there all the same.
    assert (output.indexed, output.unchanged, output.removed) == (1, 1, 1)
    assert {Path(item.path).name: item.reason for item in output.problems} == {
        "secret.txt": "permission denied",
        "closed": "permission denied",
    }
