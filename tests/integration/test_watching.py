"""Watched roots: what the operating system tells leads to runs. With watchfiles and the fake encoder."""

import logging
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from processes import ENGINE, Served
from support import EngineFactory

import colbert_mcp.indexing.indexer
import colbert_mcp.sharing.stdio
import colbert_mcp.watching.listening
import colbert_mcp.watching.watcher
from colbert_mcp import Index
from colbert_mcp.attach import Attachment
from colbert_mcp.cli import main
from colbert_mcp.config import Config, IndexConfig, ServerConfig, StoreConfig
from colbert_mcp.documents import Discovery, Relevance
from colbert_mcp.engine import Engine
from colbert_mcp.errors import UnreadableDocumentError
from colbert_mcp.results import IndexOutput, WatchedRoot
from colbert_mcp.sharing.launch import Launcher, stop_engine
from colbert_mcp.sharing.rendezvous import Rendezvous
from colbert_mcp.store import Store
from colbert_mcp.watching.debounce import Timing
from colbert_mcp.watching.watcher import Watcher

FAST = Timing(quiet=0.1, longest=5.0, retry=0.1, tick=0.1, poll=0.2)
SECONDS = 60


class Watched:
    """An engine that watches, and the runs that came of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.runs: queue.Queue[IndexOutput] = queue.Queue()

    def watch(self, timing: Timing = FAST) -> None:
        self.engine.watch(timing, self.runs.put)

    def next_run(self) -> IndexOutput:
        return self.runs.get(timeout=SECONDS)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for runs until something holds."""
        while not holds():
            self.next_run()

    def names(self) -> set[str]:
        return {Path(document.path).name for document in self.engine.list_sources().documents}

    def states(self) -> list[WatchedRoot]:
        return self.engine.index_status().watching or []


@pytest.fixture
def watched(open_engine: EngineFactory, notes: Path) -> Watched:
    """The notes, indexed and watched, after the run that follows the beginning."""
    watched = Watched(open_engine())
    watched.engine.index_path(notes)
    watched.watch()
    assert watched.next_run().unchanged == 3
    return watched


def test_nobody_watches_unless_asked(open_engine: EngineFactory) -> None:
    assert open_engine().index_status().watching is None


def test_a_folder_below_a_watched_root_is_told_as_watched_without_a_word_of_the_root(
    watched: Watched, notes: Path
) -> None:
    def told(*scope: Path) -> list[tuple[str, str, str | None, str | None]]:
        status = watched.engine.index_status(scope=[bytes(path) for path in scope])
        return [(root.path, root.state, root.reason, root.last_run) for root in status.watching or []]

    ((path, state, reason, last_run),) = told()
    assert (path, state, reason) == (str(notes), "watched", None)
    assert last_run is not None
    deep, file = notes / "deep", notes / "bees.txt"
    around = "as part of a folder around it"
    assert told(deep, file) == [(str(deep), "watched", around, None), (str(file), "watched", around, None)]
    assert told(notes.parent / "else") == []
    (notes / ".gitignore").write_text("bees.txt\n")
    (notes / ".git").mkdir()
    assert told(file) == []
    watched.engine.index_path(deep)
    watched.until(lambda: len(told()) == 2)
    assert [(root[0], root[2]) for root in told(deep)] == [(str(deep), None)]


def test_what_a_run_skipped_that_nobody_asked_for_is_told_by_the_next_that_somebody_does(
    watched: Watched, notes: Path
) -> None:
    assert watched.engine.index_path(notes).skipped_as_before
    (notes / "picture.bin").write_bytes(b"\0\1\2")
    assert watched.next_run().skipped == 1
    asked = [watched.engine.index_path(notes) for _ in range(2)]
    assert [(run.skipped, run.skipped_as_before) for run in asked] == [(1, False), (1, True)]


def test_what_changed_while_nobody_watched_is_caught_up(open_engine: EngineFactory, notes: Path) -> None:
    watched = Watched(open_engine())
    watched.engine.index_path(notes)
    (notes / "new.md").write_text("An otter sleeps.\n")
    watched.watch()
    run = watched.next_run()
    assert (run.state, run.indexed, run.unchanged) == ("done", 1, 3)
    (state,) = watched.states()
    assert (state.path, state.state, state.reason) == (str(notes), "watched", None)
    assert (state.last_state, state.indexed, state.removed) == ("done", 1, 0)
    assert state.last_run is not None


def test_files_are_followed_as_they_are_made_edited_renamed_and_deleted(watched: Watched, notes: Path) -> None:
    (notes / "otter.md").write_text("An otter sleeps.\n")
    watched.until(lambda: "otter.md" in watched.names())
    (notes / "otter.md").write_text("An otter is awake now.\n")
    watched.until(lambda: bool(watched.engine.search("awake", mode="lexical").results))
    (notes / "otter.md").rename(notes / "badger.md")
    watched.until(lambda: watched.names() >= {"badger.md"} and "otter.md" not in watched.names())
    (notes / "badger.md").unlink()
    watched.until(lambda: "badger.md" not in watched.names())
    (notes / "new" / "deeper").mkdir(parents=True)
    (notes / "new" / "deeper" / "owl.md").write_text("The owl calls.\n")
    watched.until(lambda: "owl.md" in watched.names())
    shutil.rmtree(notes / "new")
    watched.until(lambda: "owl.md" not in watched.names())
    assert watched.names() == {"bread.md", "bees.txt", "tide.py"}


def test_an_edited_ignore_file_makes_files_leave_and_enter(watched: Watched, notes: Path) -> None:
    (notes / ".gitignore").write_text("bees.txt\ndeep/\n")
    watched.until(lambda: watched.names() == {"bread.md"})
    (notes / ".gitignore").write_text("deep/\n")
    watched.until(lambda: watched.names() == {"bread.md", "bees.txt"})
    (notes / ".gitignore").unlink()
    watched.until(lambda: watched.names() == {"bread.md", "bees.txt", "tide.py"})


def counted(name: str, method: Callable[..., object], calls: list[str]) -> Callable[..., object]:
    def call(*arguments: object, **named: object) -> object:
        calls.append(name)
        return method(*arguments, **named)

    return call


@pytest.mark.parametrize("files", [300, pytest.param(5_000, marks=pytest.mark.soak)])
def test_a_burst_of_changes_is_one_run_and_few_commits(
    files: int, open_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[str] = []
    for name in ("commit", "settle"):
        monkeypatch.setattr(Store, name, counted(name, getattr(Store, name), commits))
    folder = tmp_path / "tree"
    for number in range(files):
        (folder / f"d{number % 20}").mkdir(parents=True, exist_ok=True)
        (folder / f"d{number % 20}" / f"{number}.txt").write_text(f"Number {number} is old.\n")
    watched = Watched(open_engine(store=StoreConfig(chroma=False, commit_tokens=10_000)))
    watched.engine.index_path(folder)
    watched.watch(Timing(quiet=2.0, longest=60.0, tick=0.1))
    watched.next_run()
    commits.clear()
    for file in sorted(folder.rglob("*.txt")):
        if int(file.stem) % 3:
            file.write_text(f"Number {file.stem} is new and longer.\n")
        else:
            file.unlink()
    run = watched.next_run()
    assert (run.indexed, run.removed, run.unchanged) == (
        files - files // 3 - (files % 3 > 0),
        files // 3 + (files % 3 > 0),
        0,
    )
    # Seven tokens a file; encoding goes in groups of 32,768, after each of which what has gathered is committed.
    assert commits == ["commit"] * (1 + run.tokens // 32_768) + ["settle"]
    assert watched.runs.empty()


def test_a_root_that_is_gone_keeps_its_documents_until_it_is_back(watched: Watched, notes: Path) -> None:
    shutil.move(notes, notes.with_name("elsewhere"))
    wait_for_state(watched, "missing")
    assert watched.names() == {"bread.md", "bees.txt", "tide.py"}
    assert "stays until it is back" in (watched.states()[0].reason or "")
    notes.mkdir()  # as a mount point is, before the file system is mounted
    wait_for_state(watched, "empty")
    assert watched.names() == {"bread.md", "bees.txt", "tide.py"}
    (notes / "fox.md").write_text("A fox.\n")
    watched.until(lambda: watched.names() == {"fox.md"})
    assert watched.states()[0].state == "watched"


def wait_for_state(watched: Watched, state: str) -> None:
    """The watcher tells every turn of its thread by waking those that wait on it."""
    watcher = watched.engine._watcher
    assert watcher is not None
    with watcher._wake:
        assert watcher._wake.wait_for(lambda: watched.states()[0].state == state, SECONDS)


def test_a_root_that_is_deleted_and_made_again_at_once_is_watched_on(watched: Watched, notes: Path) -> None:
    for number in range(5):
        shutil.rmtree(notes)
        notes.mkdir()
        (notes / f"{number}.md").write_text(f"Otter {number}.\n")
        watched.until(lambda number=number: watched.names() == {f"{number}.md"})  # type: ignore[misc]


def test_a_root_that_was_deleted_is_watched_anew_though_its_inode_may_be_the_same(
    watched: Watched, notes: Path
) -> None:
    watcher = watched.engine._watcher
    assert watcher is not None
    (watch,) = watcher._watches.values()
    before = watch.listener
    watcher._changed(watch, [os.fsencode(notes)], True)
    watched.next_run()
    assert watch.listener is not before


def test_a_root_that_vanishes_in_the_middle_of_a_run_loses_nothing(
    open_engine: EngineFactory, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    compare = colbert_mcp.indexing.indexer.compare

    def vanishing(*arguments: object) -> object:
        notes.rename(notes.with_name("elsewhere"))
        return compare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(colbert_mcp.indexing.indexer, "compare", vanishing)
    with pytest.raises(UnreadableDocumentError, match="no file or folder"):
        engine.index_path(notes)
    assert engine.index_status().documents == 3


def test_new_roots_are_watched_and_removed_ones_stay_removed(watched: Watched, notes: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("Otter.\n")
    watched.engine.index_path(other)
    (other / "b.txt").write_text("Badger.\n")
    watched.until(lambda: "b.txt" in watched.names())
    watched.engine.remove_path(other)
    watched.engine.remove_path(notes / "deep")
    (other / "a.txt").write_text("Otter again.\n")
    (notes / "deep" / "tide.py").write_text("def ebb() -> None: ...\n")
    (notes / "last.md").write_text("The last one.\n")
    watched.until(lambda: "last.md" in watched.names())
    assert watched.names() == {"bread.md", "bees.txt", "last.md"}
    assert [root.path for root in watched.states()] == [str(notes)]


def test_a_removed_root_does_not_come_back_by_a_run_that_was_on_its_way(
    open_engine: EngineFactory, notes: Path
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.remove_path(notes)
    task = engine._runs.start(os.fsencode(notes), None, None, watched=True)
    assert task.outcome(SECONDS).state == "cancelled"
    assert engine.list_sources().roots == []


def test_nested_roots_and_single_files_are_each_brought_up_to_date(open_engine: EngineFactory, notes: Path) -> None:
    watched = Watched(open_engine())
    watched.engine.index_path(notes, include=["*.md"])
    watched.engine.index_path(notes / "deep")
    watched.engine.index_path(notes / "bees.txt")
    watched.watch()
    assert sorted(watched.next_run().files_total for _ in range(3)) == [1, 1, 1]
    (notes / "deep" / "tide.py").write_text("def ebb() -> None: ...\n")
    watched.until(lambda: bool(watched.engine.search("ebb", mode="lexical").results))
    (notes / "written").write_text("Wasps.\n")
    (notes / "written").replace(notes / "bees.txt")  # as editors do
    watched.until(lambda: bool(watched.engine.search("Wasps", mode="lexical").results))
    assert watched.names() == {"bread.md", "bees.txt", "tide.py"}


def test_an_index_inside_of_a_root_causes_no_run(open_engine: EngineFactory, notes: Path) -> None:
    watched = Watched(open_engine(index=notes / "index"))
    watched.engine.index_path(notes)
    watched.watch()
    watched.next_run()
    watcher = watched.engine._watcher
    assert watcher is not None
    (watch,) = watcher._watches.values()
    own = os.fsencode(notes / "index" / "catalog.sqlite-wal")
    assert not watcher._matter(watch.root, [own, os.fsencode(notes / "index")])
    assert watcher._matter(watch.root, [own, os.fsencode(notes / "bees.txt")])
    assert watcher._matter(watch.root, [own] * 10_000), "the system may have dropped others"
    (notes / "otter.md").write_text("Otter.\n")
    watched.until(lambda: "otter.md" in watched.names())
    assert watched.names() == {"bread.md", "bees.txt", "tide.py", "otter.md"}


def test_only_changes_that_discovery_would_see_matter(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("build/\n*.log\n!keep.log\n")
    (tmp_path / "build" / "deep").mkdir(parents=True)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / ".ignore").write_text("made.*\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    for name in ("src/a.py", "src/made.py", "x.log", "keep.log", "build/deep/x.py"):
        (tmp_path / name).write_text("x\n")
    relevance = Relevance(os.fsencode(tmp_path), Discovery(1000, hidden=False, exclude=["*.tmp"]))

    def matters(name: str) -> bool:
        return relevance.matters(os.fsencode(tmp_path / name))

    for name in (
        "src/a.py",
        "src/gone.py",
        "keep.log",
        ".gitignore",
        "src/.ignore",
        "src",
        "new/deeper/x.md",
        "src/\udcff",
    ):
        assert matters(name), name
    ignored = ("build/deep/x.py", "build/.gitignore", "build", "x.log", "src/made.py", ".git/index", ".hidden", "y.tmp")
    for name in (*ignored, "loop", ".venv/.gitignore"):
        assert not matters(name), name
    assert relevance.matters(os.fsencode(tmp_path.parent / "other"))
    assert relevance.matters(os.fsencode(tmp_path))


def test_a_change_that_is_told_of_by_a_link_counts_as_what_the_link_leads_to(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("root/release/src", "root/build", "root/index", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (root / ".gitignore").write_text("build/\nlater/*.log\n")
    for name, target in (("current", "release"), ("later", "current"), ("made", "build"), ("mine", "index")):
        (root / name).symlink_to(target)
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "round").symlink_to(root)
    (root / "a-link.md").symlink_to("release/a.md")
    relevance = Relevance(os.fsencode(root), Discovery(1000, hidden=False), os.fsencode(root / "index"))

    def matters(name: str) -> bool:
        return relevance.matters(os.fsencode(root / name))

    for name in (
        "current/a.md",
        "later/src/gone.md",
        "later/a.log",
        "current/.gitignore",
        "round/release/src",
        "new/a",
    ):
        assert matters(name), name
    for name in ("current", "made/a.md", "mine/catalog.sqlite", "index/x", "out/a.md", "round/build/a.md", "a-link.md"):
        assert not matters(name), name


def test_files_are_followed_that_a_link_in_the_same_root_leads_to(open_engine: EngineFactory, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(8):
        (root / f"release-{number}" / "deep").mkdir(parents=True)
        (root / f"release-{number}" / "deep" / f"{number}.md").write_text("An otter sleeps.\n")
        (root / f"{'az'[number % 2]}-current-{number}").symlink_to(f"release-{number}")
    watched = Watched(open_engine())
    watched.engine.index_path(root)
    watched.watch()
    assert watched.next_run().unchanged == 8
    for number in range(8):
        (root / f"release-{number}" / "deep" / f"{number}.md").write_text(f"It is awake{number} now.\n")
        watched.until(lambda word=f"awake{number}": bool(watched.engine.search(word, mode="lexical").results))  # type: ignore[misc]
        (root / f"release-{number}" / f"new{number}.md").write_text(f"A badger {number}.\n")
        watched.until(lambda name=f"new{number}.md": name in watched.names())  # type: ignore[misc]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Encoding waits until this is set."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_changes_during_a_run_lead_to_one_more(open_engine: EngineFactory, notes: Path, gate: threading.Event) -> None:
    begun = threading.Semaphore(0)

    def wait() -> None:
        begun.release()
        gate.wait(SECONDS)

    watched = Watched(open_engine(FakeEncoder(before_batch=wait)))
    gate.set()
    watched.engine.index_path(notes)
    watched.watch()
    watched.next_run()
    gate.clear()
    while begun.acquire(blocking=False):
        pass
    (notes / "first.md").write_text("Otter.\n")
    assert begun.acquire(timeout=SECONDS)
    assert not watched.engine.busy, "nobody asked for it, so it keeps no engine alive"
    for number in range(20):
        (notes / f"later{number}.md").write_text(f"Badger {number}.\n")
    watcher = watched.engine._watcher
    assert watcher is not None
    with watcher._wake:
        watcher._note(watcher._watches[os.fsencode(notes)])
        watcher._run(os.fsencode(notes))
        assert watcher._debounce.seconds() is not None, "the run that is going on may have passed what has changed"
    joined = watched.engine.index_path(notes, wait_seconds=0)
    assert joined.state == "running"
    assert watched.engine.busy, "now somebody does"
    gate.set()
    assert watched.next_run().indexed == 1
    assert watched.next_run().indexed == 20
    assert watched.runs.empty()


def test_who_asks_for_other_patterns_does_not_join_a_run_that_nobody_asked_for(
    open_engine: EngineFactory, notes: Path, gate: threading.Event
) -> None:
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        gate.wait(SECONDS)

    watched = Watched(open_engine(FakeEncoder(before_batch=wait)))
    gate.set()
    watched.engine.index_path(notes)
    watched.watch()
    watched.next_run()
    gate.clear()
    begun.clear()
    (notes / "first.md").write_text("Otter.\n")
    assert begun.wait(SECONDS)
    assert watched.engine.index_path(notes, exclude=["bees.txt"], wait_seconds=0).state == "running"
    gate.set()
    output = watched.engine.wait_for_run(notes, SECONDS)
    assert output.state == "done"
    assert watched.names() == {"bread.md", "tide.py", "first.md"}
    assert watched.next_run().state == "cancelled"


def test_a_run_that_fails_is_told_and_the_next_change_is_followed(
    watched: Watched, notes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compare = colbert_mcp.indexing.indexer.compare

    def failing(*arguments: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(colbert_mcp.indexing.indexer, "compare", failing)
    with caplog.at_level(logging.WARNING):
        (notes / "otter.md").write_text("Otter.\n")
        assert watched.next_run().state == "failed"
    assert "is not brought up to date: the disk is gone" in caplog.text
    assert watched.states()[0].last_state == "failed"
    monkeypatch.setattr(colbert_mcp.indexing.indexer, "compare", compare)
    (notes / "badger.md").write_text("Badger.\n")
    watched.until(lambda: watched.names() >= {"otter.md", "badger.md"})


def test_where_watches_have_run_out_it_is_told_and_roots_are_looked_through(
    open_engine: EngineFactory, notes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached.")

    monkeypatch.setattr(colbert_mcp.watching.listening, "watch", none)
    watched = Watched(open_engine())
    watched.engine.index_path(notes)
    with caplog.at_level(logging.WARNING):
        watched.watch()
        watched.next_run()
        (notes / "otter.md").write_text("Otter.\n")
        watched.until(lambda: "otter.md" in watched.names())
    (state,) = watched.states()
    assert state.state == "polled"
    assert "sudo sysctl fs.inotify.max_user_watches" in (state.reason or "")
    assert caplog.text.count("sudo sysctl") == 1, "told once"


def test_what_the_system_does_not_tell_is_found_by_looking_anew_once_in_a_while(
    open_engine: EngineFactory, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.watching.listening.Listener, "_tell", lambda *_: None)
    now = [0.0]
    watched = Watched(open_engine())
    engine, root = watched.engine, os.fsencode(notes)
    engine.index_path(notes)
    watcher = Watcher(
        engine._store,
        engine._runs,
        Config().documents,
        timing=Timing(quiet=0.0, tick=0.01, anew=600.0),
        clock=lambda: now[0],
        finished=watched.runs.put,
    )
    try:
        assert watched.next_run().unchanged == 3
        for number in range(2):
            (notes / f"{number}.md").write_text(f"Otter {number}.\n")
            now[0] += 599
            watcher._look()
            assert not engine._runs.runs_over(root)
            assert watcher._debounce.seconds() is None
            now[0] += 1
            assert watched.next_run().indexed == 1
        assert watched.runs.empty()
    finally:
        watcher.close()


def test_closing_ends_the_watching_threads(watched: Watched) -> None:
    watched.engine.close()
    assert not {"watching", "listening"} & {thread.name for thread in threading.enumerate()}
    watched.engine.watch()
    assert not {"watching", "listening"} & {thread.name for thread in threading.enumerate()}


def test_serve_watches_and_its_clients_find_what_has_changed(tmp_path: Path, notes: Path) -> None:
    index = tmp_path / "index"
    try:
        # The first starts an engine that does not watch; the second asks it to.
        with Served(index) as client:
            client.call("index_path", path=str(notes))
            assert client.call("index_status")["structuredContent"]["watching"] is None
        settings = Path(os.environ["XDG_CONFIG_HOME"]) / "colbert-mcp" / "config.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text("[server]\nwatch = true\n")
        with Served(index) as client:
            assert client.call("index_status")["structuredContent"]["watching"] is not None
            (notes / "otter.md").write_text("An otter sleeps.\n")
            found = []
            for _ in range(200):
                # Each dry run walks the folder, and waits its turn behind what is being written.
                client.call("index_path", path=str(notes), dry_run=True)
                found = client.call("search", query="otter", mode="lexical")["structuredContent"]["results"]
                if found:
                    break
            assert [Path(result["path"]).name for result in found] == ["otter.md"]
            # It is found once it is committed; the run that did it ends a little later.
            client.call("index_path", path=str(notes))
            (root,) = client.call("index_status")["structuredContent"]["watching"]
            assert (root["path"], root["indexed"], root["last_state"]) == (str(notes), 1, "done")
    finally:
        stop_engine(Rendezvous(index))


def test_the_option_of_serve_is_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Config] = []
    monkeypatch.setattr(colbert_mcp.sharing.stdio, "serve", lambda config, *_, **__: served.append(config))
    assert main(["--index", str(tmp_path / "index"), "serve", "--watch"]) == 0
    assert main(["--index", str(tmp_path / "index"), "serve"]) == 0
    assert [config.server.watch for config in served] == [True, False]


def test_a_standalone_server_and_a_new_engine_watch_where_the_settings_say_so(tmp_path: Path, notes: Path) -> None:
    config = Config(
        index=IndexConfig(path=str(tmp_path / "index")),
        store=StoreConfig(chroma=False),
        server=ServerConfig(watch=True),
    )
    attachment = Attachment(config)
    try:
        assert attachment.index().index_status().watching == []
    finally:
        attachment.close()
    try:
        Launcher(config, colbert_mcp.__version__, ENGINE).ensure()
        with Index.open(config=config) as index:
            index.index_path(notes)
            assert index.index_status().watching is not None
    finally:
        stop_engine(Rendezvous(config.index_path))
