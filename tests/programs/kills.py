"""Kills an indexing process before its n-th change of a file, for many n, and checks what each kill has left.

    python kills.py SCENARIO FOLDER [--shard I/N] [--every K] [--only TEXT] [--chroma]

SCENARIO is ``first`` (no index yet), ``second`` (files were edited, added, renamed and deleted, and a folder and another
root are taken out) or ``interrupted`` (a second run that was killed halfway goes on). Each kill happens in a forked child, and each check in another. Prints one JSON object: how many calls there are
to be killed at, by name; how many kills were made; what was wrong.
"""

import argparse
import json
import mmap
import os
import shutil
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # a fork keeps one thread only
sys.path.insert(0, str(Path(__file__).parent.parent))

from fake_encoder import FakeEncoder
from faults import Call, run_traced, unavailable
from wholeness import (
    PromiseError,
    State,
    check_chroma,
    check_passages,
    check_roots,
    check_segments,
    content_of,
    expect,
    state_of,
)

import colbert_mcp.indexing.indexer
from colbert_mcp.config import Config, IndexConfig, SearchConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import IndexNotFoundError, UnreadableDocumentError
from colbert_mcp.retrieval import count_tokens
from colbert_mcp.store.catalog_writer import Writer

QUESTIONS = ("the river bank of keep", "lantern", "a boat with a red sail", "edited paragraph number two")
_OWN = {"catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", "lock", "owner.json", "tokens", "chroma"}


class Scenario:
    """The files, and what is done to the index of them."""

    def __init__(self, name: str, folder: Path, *, chroma: bool) -> None:
        self.second = name != "first"
        self.chroma = chroma
        self.tree = folder / "tree"
        self.other = folder / "other"
        self.index = folder / "index"
        self.base = folder / "base"
        self._write(
            "keep.md", "# Keep\n\nThe river bank of keep is high.\n\n# More\n\nHerons stand on the bank of it.\n"
        )
        self._write("twin.txt", "Herons stand on the bank of it.\n")
        self._write("edit.md", "# Edit\n\nFirst paragraph with a lantern.\n\nSecond paragraph with an oar.\n")
        self._write("old-name.txt", "A boat with a red sail is moored here.\n")
        self._write("gone.txt", "This file is going to be deleted: quicksand.\n")
        self._write("out/a.txt", "Out of the index goes the anchor.\n")
        self._write("out/b.txt", "Out of the index goes the barrel.\n")
        self._write("../other/c.txt", "The other root has a compass.\n")
        self._write("../other/d.txt", "The other root has a dinghy.\n")
        if self.second:
            run_child(lambda: self._first_run(self.base))
            self._write("edit.md", "# Edit\n\nFirst paragraph with a lantern.\n\nAn edited paragraph number two.\n")
            (self.tree / "old-name.txt").rename(self.tree / "new-name.txt")
            (self.tree / "gone.txt").unlink()
            self._write("added.txt", "An added file about a ferry.\n")
            self._write("deep/added.md", "# Added\n\nThe ferryman asks for a coin.\n")
        if name == "interrupted":
            calls = run_traced(lambda: self._second_run(shutil.copytree(self.base, self.index))).calls
            shutil.rmtree(self.index)
            outcome = run_traced(lambda: self._second_run(self.base), len(calls) // 2)
            expect(outcome.killed, "the second run was not killed")

    def _write(self, name: str, text: str) -> None:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _first_run(self, index: Path) -> None:
        with self.engine(index) as engine:
            engine.index_path(self.tree)
            engine.index_path(self.other)

    def _second_run(self, index: Path) -> None:
        with self.engine(index) as engine:
            self.work(engine)

    def restore(self) -> None:
        """The index as it was before."""
        shutil.rmtree(self.index, ignore_errors=True)
        if self.second:
            shutil.copytree(self.base, self.index)

    def engine(self, index: Path, *, create: bool = True) -> closing[Engine]:
        """An engine that commits after each document and merges segments early."""
        config = Config(
            index=IndexConfig(path=str(index)),
            store=StoreConfig(chroma=self.chroma, commit_tokens=12, max_segments=3),
            search=SearchConfig(min_candidates=50),
        )
        return closing(Engine.open(config, create_missing=create, encoder=FakeEncoder(content_length=12)))

    def work(self, engine: Engine) -> None:
        """What is to be killed."""
        engine.index_path(self.tree)
        self.take_out(engine)

    def take_out(self, engine: Engine) -> None:
        """Take a folder and another root out of the index, as far as they are in."""
        for path in (self.tree / "out", self.other) if self.second else ():
            with suppress(UnreadableDocumentError):
                engine.remove_path(path)


@contextmanager
def watching_commits(after: Callable[[], None]) -> Iterator[None]:
    """Call ``after`` when a transaction of the catalogue has returned."""
    original = Writer.transaction

    @contextmanager
    def transaction(self: Writer, *, searched: bool = True) -> Iterator[None]:
        with original(self, searched=searched):
            yield
        after()

    Writer.transaction = transaction  # type: ignore[method-assign]
    try:
        yield
    finally:
        Writer.transaction = original  # type: ignore[method-assign]


def run_child(body: Callable[[], object]) -> Any:
    """Run a function in a forked child and return its JSON value; raises PromiseError with its traceback."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = json.dumps({"value": body()})
        except BaseException:  # noqa: BLE001
            answer = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(writing, "w") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    expect(bool(answer), f"a child ended with {status}")
    found = json.loads(answer)
    expect("error" not in found, found.get("error"))
    return found["value"]


# A run may have a few calls more or fewer than the undisturbed one: kills go on beyond that one's last.
SPARE = 8


class Kills:
    """One scenario: its undisturbed run, then its kills."""

    def __init__(self, scenario: Scenario, counts: Callable[[Call], bool] | None) -> None:
        self._scenario = scenario
        self._counts = counts
        self._acknowledged = mmap.mmap(-1, 4096)  # shared with the children; writing to it is no system call
        scenario.restore()
        self._states: list[Any] = run_child(self._recorded)
        self._expected = run_child(self._fresh)

    def calls(self) -> list[Call]:
        """The calls of an undisturbed run."""
        self._scenario.restore()
        outcome = run_traced(self._body, counts=self._counts)
        expect(outcome.status == 0, "the undisturbed run ended with", outcome.status)
        return outcome.calls

    def kill(self, number: int) -> Call | None:
        """Kill a run before its n-th call and check what is left; the call, or None where there were fewer."""
        self._scenario.restore()
        outcome = run_traced(self._body, number, counts=self._counts)
        if not outcome.killed:
            return None
        try:
            run_child(self._check)
        except PromiseError as failure:
            raise PromiseError(f"killed before call {number}, {outcome.calls[-1]}: {failure}") from None
        return outcome.calls[-1]

    def _body(self) -> None:
        self._note(0)
        with (
            watching_commits(lambda: self._note(self._noted() + 1)),
            self._scenario.engine(self._scenario.index) as engine,
        ):
            self._scenario.work(engine)

    def _note(self, commits: int) -> None:
        self._acknowledged[:8] = commits.to_bytes(8, "little")

    def _noted(self) -> int:
        return int.from_bytes(self._acknowledged[:8], "little")

    def _recorded(self) -> list[State]:
        """The state of the catalogue before the first and after every commit."""
        with self._scenario.engine(self._scenario.index) as engine:
            states = [state_of(self._scenario.index)]
            with watching_commits(lambda: states.append(state_of(self._scenario.index))):
                self._scenario.work(engine)
        return states

    def _fresh(self) -> object:
        """What an index shows that is made anew of the same files."""
        fresh = self._scenario.index.with_name("fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        with self._scenario.engine(fresh) as engine:
            self._scenario.work(engine)
            return content_of(engine, QUESTIONS)

    def _check(self) -> None:
        index, commits = self._scenario.index, self._noted()
        try:
            with self._scenario.engine(index, create=False):
                pass
        except IndexNotFoundError:
            expect(commits == 0 and not self._scenario.second, "the index is not found after", commits, "commits")
        with self._scenario.engine(index) as engine:
            self._check_reopened(engine, commits)
            self._scenario.work(engine)
            content = json.loads(json.dumps(content_of(engine, QUESTIONS)))
            expect(content == self._expected, "after the next run it holds", content, "instead of", self._expected)
            check_segments(index)
            check_chroma(engine)
        left = {path.name for path in index.iterdir()} - {"catalog.sqlite", "lock", "tokens", "chroma"}
        expect(not left, "a clean close has left", left)
        expect(not (index / "chroma" / "open").exists(), "a clean close has left Chroma's marker")

    def _check_reopened(self, engine: Engine, commits: int) -> None:
        index = self._scenario.index
        state = list(json.loads(json.dumps(state_of(index))))
        found = [number for number, known in enumerate(self._states) if known == state]
        expect(bool(found), "the catalogue holds what no commit had:", state)
        expect(found[-1] >= commits, f"the catalogue holds commit {found[-1]} after {commits} were acknowledged")
        left = {path.name for path in index.iterdir()} - _OWN
        expect(not left, "the index directory holds", left)
        check_segments(index)
        check_roots(index)
        check_passages(engine)
        check_chroma(engine)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=["first", "second", "interrupted"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="", help="kill at calls about paths with this text")
    parser.add_argument("--chroma", action="store_true")
    options = parser.parse_args()
    if (reason := unavailable()) is not None:
        print(json.dumps({"unavailable": reason}))
        return
    colbert_mcp.indexing.indexer._GROUP_TOKENS = 1
    count_tokens("")  # loads the vocabulary once, not in every child
    if options.chroma:
        from colbert_mcp.store import vectors

        vectors._SYNC_THRESHOLD = 3  # or Chroma's index would be written at closing only
    expect(
        threading.active_count() == 1 and len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lose threads"
    )
    scenario = Scenario(options.scenario, options.folder.resolve(), chroma=options.chroma)
    index = str(scenario.index)
    only = options.only
    kills = Kills(scenario, (lambda call: only in call.path) if only else None)
    calls = kills.calls()
    strange = {call for call in calls if not call.path.startswith(index)} - {Call("fsync", str(scenario.index.parent))}
    expect(not strange, "the run changes files outside of its index:", strange)
    shard, shards = map(int, options.shard.split("/"))
    made: Counter[str] = Counter()
    failures = []
    for number in range(1 + shard * options.every, len(calls) + 1 + SPARE, shards * options.every):
        try:
            call = kills.kill(number)
        except PromiseError as failure:
            failures.append(str(failure))
        else:
            made[call.name if call else "none"] += 1
    points = Counter(call.name for call in calls)
    print(json.dumps({"points": points, "killed": made, "failures": failures}))


if __name__ == "__main__":
    main()
