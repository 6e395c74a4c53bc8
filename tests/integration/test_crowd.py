"""Many processes at once on one index: each checks every answer against what its own folder must have become."""

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from folder_oracle import paragraph, shared_paragraphs
from processes import ENGINE, PROGRAMS
from support import EngineFactory

import colbert_mcp
from colbert_mcp.config import Config, IndexConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.sharing.launch import Launcher, stop_engine
from colbert_mcp.sharing.rendezvous import Rendezvous
from colbert_mcp.store import Store

SECONDS = 20
SOAK_SECONDS = 300


class Crowd:
    """Clients of one index, half of them ``serve`` and half the Python API, that wait for a sign."""

    def __init__(self, folder: Path, clients: int, seed: int) -> None:
        self.index = folder / "index"
        self._config = Config(index=IndexConfig(path=str(self.index)), store=StoreConfig(max_segments=3))
        self._trees = [folder / "common", *(folder / f"own{number}" for number in range(clients))]
        self._seed = seed
        self._processes: list[subprocess.Popen[str]] = []
        for tree in self._trees:
            tree.mkdir(parents=True)
        source = random.Random(seed)
        for name in ("a.txt", "b.txt", "c.txt"):
            parts = [*source.sample(shared_paragraphs(), 4), paragraph(source)]
            (self._trees[0] / name).write_text("\n\n".join(parts), newline="")

    def start(self, seconds: float) -> None:
        """Start an engine and the clients, and wait until each has had an answer."""
        Launcher(self._config, colbert_mcp.__version__, ENGINE).ensure()
        with colbert_mcp.Index.open(config=self._config) as index:
            index.index_path(self._trees[0])
        for number, own in enumerate(self._trees[1:]):
            face = ("serve", "index")[number % 2]
            arguments = [face, self.index, own, self._trees[0], str(self._seed + number), str(seconds)]
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, PROGRAMS / "crowd.py", *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                pytest.fail(process.communicate()[1])

    def let_go(self) -> Counter[str]:
        """Give the sign, and wait for all; how often they did what."""
        done: Counter[str] = Counter()
        with ThreadPoolExecutor(len(self._processes)) as threads:
            ended = list(threads.map(lambda process: process.communicate("\n"), self._processes))
        for process, (output, errors) in zip(self._processes, ended, strict=True):
            assert process.returncode == 0, errors
            done += Counter(json.loads(output))
        return done

    def check_whole(self, fresh: Path) -> None:
        """The index that all have left is the one that a single process makes of the same trees."""
        stop_engine(Rendezvous(self.index))
        config = self._config.model_copy(update={"index": IndexConfig(path=str(fresh))})
        engine = Engine.open(config, create_missing=True, encoder=FakeEncoder())
        for tree in self._trees:
            assert engine.index_path(tree).state == "done"
        engine.close()
        left, new = contents(self.index, self._config), contents(fresh, config)
        assert left.keys() == new.keys()
        assert left == new

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        stop_engine(Rendezvous(self.index))


def contents(index: Path, config: Config) -> dict[str, tuple[object, ...]]:
    """All that an index holds of each passage, its embeddings included, by id; Chroma's ids are the same."""
    store = Store.open(index, config.store, create_missing=False)
    found = {}
    with store.snapshot() as snapshot:
        for passage, number, row in snapshot.reader.passages_with_rows():
            segment = snapshot.segment(number)
            tokens = slice(*segment.tokens.offsets[row : row + 2].tolist())
            arrays = (
                segment.tokens.values[tokens],
                segment.tokens.scales[tokens],
                segment.pooled.values[row],
                segment.pooled.scales[row],
                segment.means.values[row],
                segment.means.scales[row],
                segment.dense[row],
            )
            found[passage.passage_id] = (
                passage.path,
                passage.ordinal,
                passage.chunk,
                passage.file_sha256,
                *(array.tobytes() for array in arrays),
            )
        dense = snapshot.dense(snapshot.positions(snapshot.chunks[:1]))[0]
    store.vectors.open()
    assert store.vectors.state == "ready"
    assert set(store.vectors.nearest(dense, len(found))) == found.keys()
    store.close()
    return found


@pytest.fixture
def crowds(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[Crowd]]:
    """A crowd of two and one of eight; the seed differs with each run and is told where something fails."""
    seed = random.SystemRandom().randrange(10**6)
    crowds = [Crowd(tmp_path / str(clients), clients, seed) for clients in (2, 8)]
    yield crowds
    for crowd in crowds:
        crowd.end()


@pytest.mark.parametrize("seconds", [SECONDS, pytest.param(SOAK_SECONDS, marks=pytest.mark.soak)])
def test_two_and_eight_processes_at_once_get_what_each_has_put_there(
    crowds: list[Crowd], seconds: float, tmp_path: Path
) -> None:
    for crowd in crowds:
        crowd.start(seconds)
    with ThreadPoolExecutor(len(crowds)) as threads:
        counts = list(threads.map(Crowd.let_go, crowds))
    for crowd, done in zip(crowds, counts, strict=True):
        print(crowd.index, sum(done.values()), "operations:", dict(done))
        assert min(done.values()) > 0
        crowd.check_whole(tmp_path / f"{crowd.index.parent.name}-fresh")


def test_searches_go_on_while_segments_are_merged(open_engine: EngineFactory, tmp_path: Path) -> None:
    engine = open_engine(store=StoreConfig(chroma=False, commit_tokens=1, max_segments=2))
    folder = tmp_path / "notes"
    folder.mkdir()
    source = random.Random(1)
    (folder / "kept.txt").write_text(kept := paragraph(source))
    engine.index_path(folder)
    over = threading.Event()

    def search_on() -> int:
        found = 0
        while not over.is_set():
            results = engine.search(kept, limit=1, mode="semantic").results
            assert [result.text for result in results] == [kept]
            found += 1
        return found

    def look_on() -> int:
        looked = 0
        while not over.is_set():
            assert engine.index_status().bytes["tokens"] > 0
            assert engine.index_path(folder, dry_run=True).state == "planned"
            looked += 1
        return looked

    with ThreadPoolExecutor(4) as threads:
        searching = [threads.submit(work) for work in (search_on, search_on, search_on, look_on)]
        try:
            for number in range(40):
                (folder / f"{number % 5}.txt").write_text(paragraph(source))
                engine.index_path(folder)
        finally:
            over.set()
    assert min(search.result() for search in searching) > 0
