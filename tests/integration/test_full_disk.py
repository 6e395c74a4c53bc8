"""A disk that is full, and a limit on the size of files: a typed error, and what was committed stays searchable."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from support import PROJECT

from colbert_mcp.attach import EngineAttachment
from colbert_mcp.config import Config, IndexConfig, SearchConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import StoreError
from colbert_mcp.sharing.launch import stop_engine
from colbert_mcp.sharing.rendezvous import Rendezvous

SIZE = 24_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def opened(index: Path, *, chroma: bool = False, max_segments: int = 16) -> Engine:
    store = StoreConfig(chroma=chroma, commit_tokens=2_000, max_segments=max_segments)
    config = Config(index=IndexConfig(path=str(index)), store=store, search=SearchConfig(min_candidates=10))
    return Engine.open(config, create_missing=True, encoder=FakeEncoder())


def write_files(folder: Path, numbers: range, paragraphs: int = 20) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        lines = (
            f"Line {line} of file {number} tells of the river {number * line} and its bank."
            for line in range(paragraphs)
        )
        (folder / f"{number:03}.txt").write_text("\n\n".join(lines))
    return folder


@contextmanager
def filled(disk: Path, left: int = 0) -> Iterator[None]:
    """Take what is free on a disk, but for some bytes, and give it back."""
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with filler.open("wb", buffering=0) as file:
        written = 0
        while written < free - left:
            try:
                written += file.write(b"\0" * min(65_536, free - left - written))
            except OSError:
                break
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def suppress_full() -> Iterator[None]:
    """Let pass what a full disk is told by, and nothing else."""
    try:
        yield
    except StoreError as error:
        print("TOLD", error)
        assert "No space left" in str(error) or "SQLITE_IOERR" in str(error)  # noqa: PT017


def texts(engine: Engine, question: str = "river bank") -> set[str]:
    """What a search in each mode finds, with its source as it is."""
    found = set()
    for mode in ("hybrid", "semantic", "lexical"):
        results = engine.search(question, mode=mode, limit=5).results
        assert all(result.status == "current" for result in results)
        found |= {result.path for result in results}
    return found


@pytest.mark.parametrize("chroma", [False, True])
def test_a_run_that_fills_the_disk_says_so_and_keeps_what_was_committed(
    disk: Path, tmp_path: Path, *, chroma: bool
) -> None:
    index = disk / "index"
    engine = opened(index, chroma=chroma)
    engine.index_path(write_files(tmp_path / "first", range(3)))
    many = write_files(tmp_path / "many", range(40), 60)
    before = texts(engine)
    with filled(disk, 1_500_000):
        with pytest.raises(StoreError, match=r"No space left.*index.*free some and index again"):
            engine.index_path(many)
        assert before <= {document.path for document in engine.list_sources().documents}
        assert texts(engine)
        engine.close()
        engine = opened(index, chroma=chroma)
        assert texts(engine)
        kept = len(engine.list_sources(limit=1000).documents)
        # What the failed commit had written is gone.
        with engine._store.snapshot() as snapshot:
            named = {f"{number:06}" for number in snapshot.reader.segments()}
        assert {path.name for path in (index / "tokens").iterdir()} == named
    assert engine.index_path(many).indexed == 43 - kept
    assert len(engine.list_sources(limit=1000).documents) == 43
    engine.close()
    engine = opened(index, chroma=chroma)
    engine._store.vectors.open()
    assert engine.index_status().chroma == ("ready" if chroma else "off")
    assert texts(engine)
    engine.close()


@pytest.mark.parametrize("chroma", [False, True])
@pytest.mark.parametrize("left", [0, 20_000, 60_000, 150_000])
def test_whatever_meets_a_full_disk_fails_alone(disk: Path, tmp_path: Path, left: int, *, chroma: bool) -> None:
    index, tree = disk / "index", write_files(tmp_path / "tree", range(6))
    engine = opened(index, chroma=chroma, max_segments=2)
    engine.index_path(tree)
    assert texts(engine)
    write_files(tree, range(4, 30))
    (tree / "000.txt").unlink()
    with filled(disk, left):
        for change in (lambda: engine.index_path(tree), lambda: engine.remove_path(tree / "001.txt")):
            with suppress_full():
                change()
        assert engine.search("river bank", mode="lexical").results
        assert engine.search("river bank").results
        assert engine.list_sources().total_documents >= 4
        engine.close()
        with suppress_full():
            engine = opened(index, chroma=chroma, max_segments=2)
            print("OPENED", left, chroma, engine._store.read_only)
            assert engine.search("river bank").results
            engine.close()
    engine = opened(index, chroma=chroma, max_segments=2)
    engine.index_path(tree)
    removed = str(tree / "001.txt")  # it stays out if it could be removed
    listed = {document.path for document in engine.list_sources().documents}
    assert listed | {removed} == {str(path) for path in tree.iterdir()}
    engine.close()
    engine = opened(index, chroma=chroma, max_segments=2)
    engine._store.vectors.open()
    assert engine.index_status().chroma == ("ready" if chroma else "off")
    assert texts(engine) <= listed
    assert texts(engine)
    engine.close()


def test_an_index_on_a_disk_without_a_byte_left_is_searched(disk: Path, tmp_path: Path) -> None:
    index = disk / "index"
    engine = opened(index)
    engine.index_path(write_files(tmp_path / "tree", range(3)))
    before = texts(engine)
    engine.close()
    with filled(disk):
        engine = opened(index)
        assert texts(engine) == before
        write_files(tmp_path / "tree", range(3, 5))
        with pytest.raises(StoreError, match="No space left"):
            engine.index_path(tmp_path / "tree")
        assert texts(engine) == before
    assert engine.index_path(tmp_path / "tree").indexed == 2  # as soon as there is space
    assert engine.search("file 4", path="004.txt").results
    assert len(engine.list_sources().documents) == 5
    engine.close()


def test_an_index_that_could_not_be_made_for_want_of_space_is_made_later(disk: Path, tmp_path: Path) -> None:
    tree = write_files(tmp_path / "tree", range(2))
    with filled(disk, 8_192), pytest.raises(StoreError, match="No space left|SQLITE"):
        opened(disk / "index")
    engine = opened(disk / "index")
    assert engine.index_path(tree).indexed == 2
    assert texts(engine)
    engine.close()


def test_a_limit_on_the_size_of_files_is_told_and_keeps_what_was_committed(tmp_path: Path) -> None:
    index = tmp_path / "index"
    engine = opened(index)
    engine.index_path(write_files(tmp_path / "first", range(3)))
    engine.close()
    code = (
        "import resource, sys; sys.path[:0] = sys.argv[3:]\n"
        "from test_full_disk import opened, texts; from pathlib import Path\n"
        "from colbert_mcp.errors import StoreError\n"
        "engine = opened(Path(sys.argv[1]))\n"
        "before = texts(engine)\n"
        "size = Path(sys.argv[1], 'catalog.sqlite').stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))\n"
        "try:\n    engine.index_path(sys.argv[2])\n"
        "except StoreError as error:\n    print(error)\n"
        "assert before and texts(engine)\n"
        "engine.close()\n"
        "engine = opened(Path(sys.argv[1]))\n"
        "assert texts(engine)\n"
        "engine.close()\n"
    )
    many = write_files(tmp_path / "many", range(20), 60)
    paths = [str(PROJECT), str(PROJECT / "tests"), str(PROJECT / "tests" / "integration")]
    command = [sys.executable, "-c", code, index, many, *paths]
    child = subprocess.run(command, check=False, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert str(index) in child.stdout
    engine = opened(index)
    assert engine.index_path(many).state == "done"
    assert len(engine.list_sources().documents) == 23
    engine.close()


def test_an_engine_that_finds_no_space_says_so_and_starts_later(disk: Path, tmp_path: Path) -> None:
    index = disk / "index"
    engine = opened(index)
    engine.index_path(write_files(tmp_path / "tree", range(2)))
    engine.close()
    config = Config(index=IndexConfig(path=str(index)), store=StoreConfig(chroma=False))
    command = (sys.executable, str(PROJECT / "tests" / "programs" / "engine.py"))
    attachment = EngineAttachment(config, (), command)
    with filled(disk), pytest.raises(StoreError, match="No space left"):
        attachment.index().search("river bank")
    try:
        assert attachment.index().search("river bank").results
    finally:
        attachment.close()
        stop_engine(Rendezvous(index))
