"""A process that is killed loses nothing that was acknowledged, and leaves nothing that is wrong.

Before every single change of a file (see ``programs/kills.py``), and at random moments; then reopened and checked (see
``wholeness.py``).
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import FakeEncoder
from processes import PROGRAMS, Served, kill
from wholeness import check_chroma, check_passages, check_roots, check_segments, content_of

import colbert_mcp
import colbert_mcp.indexing.indexer
from colbert_mcp.config import Config, IndexConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import ColbertMCPError
from colbert_mcp.sharing.launch import Launcher, stop_engine
from colbert_mcp.sharing.remote import RemoteEngine
from colbert_mcp.sharing.rendezvous import Rendezvous

CHANGES = {"mkdir", "openat", "write", "pwrite64", "ftruncate", "fsync", "fdatasync", "unlink", "unlinkat", "rmdir"}
PROCESSES = 2
LONGEST_SECONDS = 1.5


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what a kill leaves is the same, and nobody waits for a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder).resolve()


def kill_everywhere(scenario: str, folder: Path, *options: str) -> tuple[Counter[str], Counter[str], list[str]]:
    """The calls of an undisturbed run, by name; the kills whose remains were whole; what was wrong with the others."""
    programs = [
        subprocess.Popen(
            [sys.executable, PROGRAMS / "kills.py", scenario, folder / str(n), "--shard", f"{n}/{PROCESSES}", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(PROCESSES)
    ]
    points: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    failures: list[str] = []
    for program in programs:
        answer, _ = program.communicate()
        assert program.returncode == 0
        found: dict[str, Any] = json.loads(answer)
        if "unavailable" in found:
            pytest.skip(found["unavailable"])
        points |= Counter(found["points"])
        killed += Counter(found["killed"])
        failures += found["failures"]
    print(f"{scenario}: {points.total()} places {dict(points)}, {killed.total()} kills survived whole")
    return points, killed, failures


@pytest.mark.parametrize("scenario", ["first", "second"])
def test_a_kill_before_any_change_of_a_file_leaves_a_commit_and_the_next_run_completes(
    scenario: str, memory: Path
) -> None:
    points, killed, failures = kill_everywhere(scenario, memory)
    assert not failures, f"{len(failures)} of {points.total()} kills, the first: {failures[0]}"
    expected = CHANGES | {"rename"} if scenario == "first" else CHANGES
    assert expected <= killed.keys(), points
    assert killed.total() >= 300, killed
    # Runs differ by a few calls, and kills are tried some calls beyond the undisturbed run's last; most happened.
    assert killed["none"] <= 5 + 8, killed


@pytest.mark.soak
def test_a_kill_while_an_interrupted_run_is_mended_does_no_harm(memory: Path) -> None:
    points, killed, failures = kill_everywhere("interrupted", memory)
    assert not failures, f"{len(failures)} of {points.total()} kills, the first: {failures[0]}"
    assert killed.total() >= 150, killed


@pytest.mark.soak
@pytest.mark.parametrize("scenario", ["first", "second", "interrupted"])
def test_a_kill_before_a_change_of_chromas_files_leaves_chroma_right_or_rebuilt(scenario: str, memory: Path) -> None:
    points, killed, failures = kill_everywhere(scenario, memory, "--chroma", "--only", "/chroma/", "--every", "9")
    assert not failures, f"{len(failures)} of {points.total()} kills, the first: {failures[0]}"
    assert killed.total() - killed["none"] >= 60, killed


class Author:
    """Changes files and has them indexed, and knows what the index has acknowledged of them."""

    def __init__(self, tree: Path, source: random.Random) -> None:
        self._tree = tree
        self._source = source
        self._written = 0
        self.versions: dict[Path, list[str]] = {}
        self.acknowledged: dict[Path, str] = {}
        self.removed: set[Path] = set()
        self.unsure: set[Path] = set()
        self.calls = 0
        tree.mkdir()
        for _ in range(8):
            self._write(tree / f"{self._written}.txt")

    def _write(self, path: Path) -> None:
        """A new version of a file: paragraphs that no other version of any file has."""
        self._written += 1
        number = self._written
        text = "\n\n".join(f"Harbour {number} has quay {part} and pilot {number * 10 + part}." for part in range(3))
        self.unsure.add(path)
        self.versions.setdefault(path, []).append(text)
        path.write_text(text)

    def work(self, engine: RemoteEngine) -> None:
        """Go on until the engine is gone."""
        try:
            while True:
                self._take_out(engine) if self._source.random() < 0.2 else self._change(engine)
                self.calls += 1
        except ColbertMCPError:
            return

    def _change(self, engine: RemoteEngine) -> None:
        there = sorted(path for path in self._tree.iterdir() if path not in self.removed)
        for path in self._source.sample(there, 3):
            self._write(path)
        self._write(self._tree / f"{self._written}.txt")
        if len(there) > 8:
            gone = self._source.choice(there)
            self.unsure.add(gone)
            gone.unlink()
        self.index(engine)

    def index(self, engine: RemoteEngine) -> None:
        """Have the files as they are indexed; once that has returned, they are acknowledged."""
        assert engine.index_path(self._tree).state == "done"
        self.acknowledged = {p: p.read_text() for p in self._tree.iterdir() if p not in self.removed}
        self.unsure.clear()

    def _take_out(self, engine: RemoteEngine) -> None:
        if len(self.acknowledged) > 6:
            path = self._source.choice(sorted(self.acknowledged))
            self.unsure.add(path)
            engine.remove_path(path)
            self._note_removal(path)

    def _note_removal(self, path: Path) -> None:
        self.removed.add(path)
        self.acknowledged.pop(path, None)
        self.unsure.discard(path)

    def check(self, engine: RemoteEngine) -> None:
        """Every file is found as it was acknowledged, whole; one that was being changed may be its next version."""
        for path, versions in self.versions.items():
            results = engine.search("harbour", mode="lexical", path=str(path), limit=9).results
            found = {result.text for result in results}
            known = {text: set(text.split("\n\n")) for text in versions}
            if path not in self.unsure:
                expected = self.acknowledged.get(path)
                assert found == (set() if expected is None else known[expected]), path
                assert {result.status for result in results} <= {"current"}, path
            elif not found and path in self.acknowledged and path.exists():
                self._note_removal(path)  # it was being taken out when the engine was killed
            else:
                assert not found or found in known.values(), path


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_an_engine_killed_at_any_moment_has_what_it_acknowledged(
    kills: int, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StoreConfig(commit_tokens=12, max_segments=3)
    config = Config(index=IndexConfig(path=str(memory / "index")), store=store)
    rendezvous = Rendezvous(config.index_path)
    launcher = Launcher(config, colbert_mcp.__version__, (sys.executable, str(PROGRAMS / "engine_committing.py")))
    source = random.Random(kills)
    author = Author(memory / "tree", source)
    amid = 0
    try:
        for _ in range(kills):
            endpoint = launcher.ensure()
            with closing(RemoteEngine(lambda at=endpoint: at, config)) as remote:
                author.check(remote)
                worker = threading.Thread(target=author.work, args=(remote,))
                reading, writing = os.pipe()
                worker.start()
                select.select([reading], [], [], source.uniform(0, LONGEST_SECONDS))
                kill(endpoint, rendezvous)
                worker.join()
                os.close(reading)
                os.close(writing)
            amid += bool(author.unsure)
        with closing(RemoteEngine(launcher.ensure, config)) as remote:
            author.check(remote)
            author.index(remote)
            author.check(remote)
    finally:
        stop_engine(rendezvous)
    print(f"{kills} kills, {amid} amid a call; {author.calls} calls had returned")
    assert amid > kills // 2
    assert author.calls > 0
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "_GROUP_TOKENS", 1)
    assert whole_content(config) == fresh_content(config, memory / "fresh", author)


def whole_content(config: Config) -> dict[str, object]:
    """What an index shows that was closed cleanly, after all that must hold of it was checked."""
    index = config.index_path
    assert not (index / "chroma" / "open").exists()
    with closing(Engine.open(config, create_missing=False, encoder=FakeEncoder(content_length=12))) as engine:
        check_segments(index)
        check_roots(index)
        check_passages(engine)
        check_chroma(engine)
        return content_of(engine, ["harbour quay", "the pilot of harbour 7"])


def fresh_content(config: Config, index: Path, author: Author) -> dict[str, object]:
    """What an index shows that is made anew of the author's files."""
    fresh = config.model_copy(update={"index": IndexConfig(path=str(index))})
    with closing(Engine.open(fresh, create_missing=True, encoder=FakeEncoder(content_length=12))) as engine:
        engine.index_path(index.with_name("tree"))
        for path in sorted(author.removed):
            if path.exists():
                engine.remove_path(path)
        return content_of(engine, ["harbour quay", "the pilot of harbour 7"])


PUBLISH = """
import os, signal, sys
from pathlib import Path
from colbert_mcp.sharing.rendezvous import Endpoint, Rendezvous
rendezvous = Rendezvous(Path(sys.argv[1]))
rendezvous.make()
Endpoint.model_dump_json = lambda self: os.kill(os.getpid(), signal.SIGKILL)
rendezvous.publish(Endpoint(pid=1, port=1, secret="x" * 32, version="1", started="now", config={}))
"""


def test_what_an_engine_has_left_that_was_killed_while_it_made_itself_known_goes_with_the_next(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", PUBLISH, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "engine"
    assert len(list(folder.iterdir())) == 1
    Rendezvous(tmp_path).withdraw()  # what an engine does first
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("signals", [["SIGTERM"], ["SIGINT"], ["SIGTERM", "SIGTERM"]])
def test_an_engine_told_to_end_while_it_indexes_leaves_nothing_half_written(
    signals: list[str], notes: Path, tmp_path: Path
) -> None:
    index, gate = tmp_path / "index", tmp_path / "gate"
    os.mkfifo(gate)
    rendezvous = Rendezvous(index)
    config = Config(index=IndexConfig(path=str(index)))
    with Served(index, gate=gate) as client:
        client.request("tools/call", {"name": "index_path", "arguments": {"path": str(notes)}})
        with gate.open("wb"):  # the first batch waits, its segment is open
            endpoint = rendezvous.endpoint()
            assert endpoint is not None
            for name in signals:
                os.kill(endpoint.pid, getattr(signal, name))
                while len(signals) == 1 and rendezvous.published(endpoint):
                    pass
        with rendezvous.engine_lock().acquire(timeout=60):
            left = {path.name for path in index.iterdir()}
    clean = {"catalog.sqlite", "chroma", "engine", "lock", "tokens"}
    assert left <= (clean if len(signals) == 1 else clean | {"owner.json", "catalog.sqlite-wal", "catalog.sqlite-shm"})
    with closing(Engine.open(config, create_missing=False, encoder=FakeEncoder())) as engine:
        check_segments(index)
        check_passages(engine)
        assert engine.index_path(notes).state == "done"
        check_chroma(engine)
        assert engine.search("varnish").results
