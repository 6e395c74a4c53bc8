"""One engine, many clients: real processes, with the fake encoder in the model's place."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from fake_encoder import FakeEncoder
from processes import CLIENT, ENGINE, PROGRAMS, Served, kill

import colbert_mcp.attach
import colbert_mcp.engine
import colbert_mcp.sharing.launch
from colbert_mcp import Index
from colbert_mcp.attach import Attachment
from colbert_mcp.cli import main
from colbert_mcp.config import Config, DocumentsConfig, IndexConfig, ModelConfig, ServerConfig, StoreConfig
from colbert_mcp.errors import (
    ConfigError,
    EmptyQueryError,
    IndexLockedError,
    IndexMismatchError,
    IndexNotFoundError,
    PassageNotFoundError,
    PathNotAllowedError,
    QueryError,
    StoreError,
    UnreadableDocumentError,
)
from colbert_mcp.results import EngineOutput, SearchOutput
from colbert_mcp.sharing.daemon import run
from colbert_mcp.sharing.hosting import Attendance
from colbert_mcp.sharing.launch import Launcher, stop_engine
from colbert_mcp.sharing.rendezvous import Endpoint, Rendezvous
from colbert_mcp.types import IndexingProgress

TOOLS = {"index_path", "search", "get_passage", "verify_quote", "index_status", "list_sources", "remove_path"}


@pytest.fixture(scope="module")
def common_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The index of the tests that ask for a running engine: starting one takes longer than most of them."""
    index = tmp_path_factory.mktemp("common") / "index"
    yield index
    stop_engine(Rendezvous(index))


@pytest.fixture
def config(tmp_path: Path, request: pytest.FixtureRequest) -> Config:
    """The configuration of the common index for tests that ask for ``engine``, of one of their own for others."""
    common = "engine" in request.fixturenames
    index = request.getfixturevalue("common_index") if common else tmp_path / "index"
    return Config(index=IndexConfig(path=str(index)), store=StoreConfig(chroma=False))


@pytest.fixture
def rendezvous(config: Config, request: pytest.FixtureRequest) -> Iterator[Rendezvous]:
    """Where the test's engine is found; one of its own is ended with the test."""
    rendezvous = Rendezvous(config.index_path)
    yield rendezvous
    if "engine" not in request.fixturenames:
        stop_engine(rendezvous)


def launcher(config: Config, version: str = colbert_mcp.__version__) -> Launcher:
    return Launcher(config, version, ENGINE)


@pytest.fixture
def engine(config: Config, rendezvous: Rendezvous) -> Endpoint:
    """A running engine with an empty index."""
    endpoint = launcher(config).ensure()
    with Index.open(config=config) as index:
        for root in index.list_sources(limit=0).roots:
            index.remove_path(root.path)
    return endpoint


@pytest.mark.parametrize("clients", [8, pytest.param(20, marks=pytest.mark.soak)])
def test_clients_that_start_at_once_share_one_engine(
    config: Config, rendezvous: Rendezvous, notes: Path, clients: int
) -> None:
    def answers(_: int) -> tuple[int, list[str]]:
        with Served(config.index_path) as client:
            assert client.call("index_path", path=str(notes))["structuredContent"]["state"] == "done"
            found = client.call("search", query="varnish", limit=1)["structuredContent"]
            endpoint = rendezvous.endpoint()
            assert endpoint is not None
            return endpoint.pid, [Path(result["path"]).name for result in found["results"]]

    with ThreadPoolExecutor(clients) as threads:
        results = list(threads.map(answers, range(clients)))
    assert len({pid for pid, _ in results}) == 1
    assert [found for _, found in results] == [["bread.md"]] * clients
    assert rendezvous.log.read_text().count(" serves ") == 1


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc, to see what another process has loaded")
def test_serve_loads_nothing_heavy_however_it_is_used(config: Config, rendezvous: Rendezvous, notes: Path) -> None:
    with Served(config.index_path) as client:
        client.call("index_path", path=str(notes))
        assert client.call("search", query="varnish", limit=1)["structuredContent"]["results"]
        endpoint = rendezvous.endpoint()
        assert endpoint is not None
        client.request("tools/list", {})
        assert {tool["name"] for tool in client.answer()["tools"]} == TOOLS
        light, heavy = (Path(f"/proc/{pid}/maps").read_text() for pid in (client.process.pid, endpoint.pid))
    assert "numpy" in heavy
    for name in ("numpy", "torch", "chromadb", "tokenizers", "sqlite"):
        assert name not in light


def test_a_killed_engine_is_replaced_by_the_next_call(config: Config, rendezvous: Rendezvous, notes: Path) -> None:
    engine = launcher(config).ensure()
    with Served(config.index_path) as client:
        client.call("index_path", path=str(notes))
        kill(engine, rendezvous)
        assert rendezvous.endpoint() is None
        assert client.call("search", query="varnish")["structuredContent"]["results"]
    replaced = rendezvous.endpoint()
    assert replaced is not None
    assert replaced.pid != engine.pid
    assert replaced.secret != engine.secret


def test_the_api_and_the_command_line_join_the_engine_that_runs(
    config: Config,
    engine: Endpoint,
    notes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def none(*_: object, **__: object) -> None:
        raise AssertionError("loaded in this process")

    monkeypatch.setattr(colbert_mcp.engine.Engine, "open", none)
    reports: list[IndexingProgress] = []
    (notes / ".hidden").write_text("x")
    with Index.open(config=config) as index:
        indexed = index.index_path(notes, progress=reports.append, list_skipped=0)
        assert (indexed.state, indexed.indexed, indexed.skipped, indexed.problems) == ("done", 3, 1, [])
        assert reports[-1].files_done == reports[-1].files_total == 3
        assert reports[-1].bytes_done == reports[-1].bytes_total > 0
        found = index.search("varnish").results[0]
        assert [Path(r.path).name for r in index.search("tide", path=["deep", "no"]).results] == ["tide.py"]
        assert index.search("tide", path=["no"]).results == []
        assert index.get_passage(found.id, 0, 1).after_text.startswith("## Baking")
        assert index.explain("varnish", found.id).passage.explanation is not None
        monkeypatch.chdir(notes)
        assert index.verify_quote("smells of varnish", path="bread.md").verdict == "exact"
        assert index.verify_quote("smells of varnish", path=found.url).verdict == "exact"
        assert index.verify_answer('It "smells of varnish when" ([x](bread.md)).').verified == 1
        checks = index.verify_answer(
            'In bread.md it "smells of varnish when", in none.md "it smells of nothing".'
        ).checks
        assert [(check.citation, check.output and check.output.verdict) for check in checks] == [
            ("bread.md", "exact"),
            ("bread.md", "altered"),
        ]
        assert index.list_sources("deep").total_documents == 1
        assert index.index_path("deep").state == "done"
        assert index.remove_path("bees.txt").removed_documents == 1
        assert index.gc(0).parts["tokens"].after > 0
        status = index.index_status()
        assert (status.documents, status.model) == (2, "fake")
    assert main(["--index", str(config.index_path), "search", "varnish", "--json"]) == 0
    printed = SearchOutput.model_validate_json(capsys.readouterr().out)
    assert printed.results[0].id == found.id


def test_an_engine_checks_and_repairs_its_index(config: Config, engine: Endpoint, notes: Path) -> None:
    stray = config.index_path / "tokens" / "stray"
    with Index.open(config=config) as index:
        index.index_path(notes)
        stray.write_text("x")
        found = index.check(read_data=True)
        assert (found.sound, [problem.where for problem in found.problems]) == (False, [str(stray)])
        assert (index.check(repair=True).sound, stray.exists()) == (True, False)
    with Index.open(config=config, roots=[notes]) as limited, pytest.raises(PathNotAllowedError):
        limited.check()
    assert Rendezvous(config.index_path).endpoint() == engine


def test_errors_keep_their_class_and_sentence_on_the_way(config: Config, engine: Endpoint, tmp_path: Path) -> None:
    with Index.open(config=config) as index:
        for error, sentence, call in (
            (EmptyQueryError, "The query is empty", lambda: index.search(" ")),
            (QueryError, "limit is -1", lambda: index.search("x", limit=-1)),
            (PassageNotFoundError, "There is no passage", lambda: index.get_passage("f" * 16)),
            (UnreadableDocumentError, "There is no file or folder", lambda: index.index_path(tmp_path / "none")),
            (UnreadableDocumentError, "it is empty", lambda: index.index_path("")),
            (PathNotAllowedError, "too wide", lambda: index.index_path("/")),
            (StoreError, "No run over", lambda: index.wait_for_run(tmp_path, 0)),
            (QueryError, "half a character", lambda: index.search("\ud800")),
            (StoreError, "could not answer verify_quote", lambda: index.verify_quote("x" * 20_000_000)),
            (PassageNotFoundError, "No indexed file", lambda: index.verify_quote("x", path="none.md")),
        ):
            with pytest.raises(error, match=sentence) as raised:
                call()  # type: ignore[no-untyped-call]
            assert type(raised.value) is error


def test_a_client_reaches_nothing_outside_of_its_roots(config: Config, engine: Endpoint, notes: Path) -> None:
    with Index.open(config=config) as index:
        index.index_path(notes)
        outside = index.search("varnish").results[0]
    with Served(config.index_path, notes / "deep") as client:
        found = client.call("search", query="varnish", limit=50)["structuredContent"]["results"]
        assert {Path(result["path"]).name for result in found} == {"tide.py"}
        assert "There is no passage" in client.call("get_passage", id=outside.id)["content"][0]["text"]
        assert "--root" in client.call("remove_path", path=str(notes))["content"][0]["text"]
        assert client.call("list_sources")["structuredContent"]["total_documents"] == 1
    with Index.open(config=config, roots=[notes / "deep"]) as index:
        assert {Path(result.path).name for result in index.search("varnish", path=["*"]).results} == {"tide.py"}
        with pytest.raises(PassageNotFoundError):
            index.explain("varnish", outside.id)
        for forbidden in (index.index_path, index.remove_path, index.cancel, lambda path: index.wait_for_run(path, 0)):
            with pytest.raises(PathNotAllowedError, match="--root"):
                forbidden(notes)  # type: ignore[no-untyped-call]
        with pytest.raises(PathNotAllowedError, match="--root"):
            index.gc()
        index.index_path(notes / "deep")
        assert index.wait_for_run(notes / "deep", 0).state == "done"
        index.cancel(notes / "deep")


def test_a_path_that_is_no_text_reaches_the_engine(config: Config, engine: Endpoint, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    (folder / "otter.txt").write_text("The otter sleeps.\n")
    with Index.open(config=config) as index:
        assert index.index_path(folder).indexed == 1
    with Index.open(config=config, roots=[folder]) as index:
        assert index.search("otter").results[0].path.endswith("caf\\xe9/otter.txt")
        assert index.remove_path(folder).removed_documents == 1


def request(endpoint: Endpoint, **headers: str) -> int:
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": CLIENT}
    accepted = {"accept": "application/json, text/event-stream", **headers}
    with httpx2.Client(trust_env=False) as client:
        return client.post(endpoint.url, json=body, headers=accepted).status_code


def test_without_the_secret_nothing_is_answered(engine: Endpoint, rendezvous: Rendezvous) -> None:
    right = f"Bearer {engine.secret}"
    assert request(engine, authorization=right) == 200
    for wrong in ("", "Bearer", engine.secret, right[:-1], right + "x", "Basic " + engine.secret):
        assert request(engine, authorization=wrong) == 401
    assert request(engine) == 401
    assert request(engine, authorization=right, host="evil.example") == 421
    assert request(engine, authorization=right, origin="http://evil.example") == 403
    assert (rendezvous.folder / "endpoint.json").stat().st_mode & 0o777 == 0o600
    assert rendezvous.folder.stat().st_mode & 0o777 == 0o700
    assert engine.secret not in repr(engine)
    assert engine.secret not in rendezvous.log.read_text()


@pytest.mark.parametrize("stale", ["dead pid", "recycled pid", "no JSON", "readable by others"])
def test_a_stale_endpoint_is_not_believed(config: Config, rendezvous: Rendezvous, stale: str) -> None:
    with socket.socket() as other:  # a program that now listens where an engine did
        other.bind(("127.0.0.1", 0))
        other.listen()
        rendezvous.make()
        pid = 2**22 + 1 if stale == "dead pid" else os.getpid()
        old = Endpoint(pid=pid, port=other.getsockname()[1], secret="x" * 43, version="0.1.0", started="", config={})
        rendezvous.publish(old)
        if stale == "no JSON":
            (rendezvous.folder / "endpoint.json").write_text("{")
        if stale == "readable by others":
            (rendezvous.folder / "endpoint.json").chmod(0o644)
            with rendezvous.engine_lock():
                assert rendezvous.endpoint() is None
        assert rendezvous.endpoint() is None
        fresh = launcher(config).ensure()
        assert fresh.secret != old.secret
        with Index.open(config=config) as index:
            assert index.index_status().documents == 0
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_another_model_is_refused_and_other_settings_are_told(
    config: Config, engine: Endpoint, notes: Path, tmp_path: Path
) -> None:
    with pytest.raises(IndexMismatchError, match="engine stop"):
        Index.open(config=config.model_copy(update={"model": ModelConfig(name=str(tmp_path))}))
    rooted = IndexConfig(path=config.index.path, roots=(str(notes),))
    with pytest.raises(ConfigError, match="roots"):
        Index.open(config=config.model_copy(update={"index": rooted}))
    hidden = config.model_copy(
        update={"documents": DocumentsConfig(hidden=True), "server": ServerConfig(idle_minutes=1)}
    )
    with Index.open(config=hidden) as index:
        notice = index.index_path(notes).notice
        assert notice is not None
        assert "(documents.hidden)" in notice
        assert index.search("varnish").notice == notice
    with Index.open(config=config) as index:
        assert index.search("varnish").notice is None


def test_an_index_that_is_open_elsewhere_is_told_and_gets_its_engine_once_it_is_free(
    config: Config, rendezvous: Rendezvous, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: FakeEncoder())
    holder = Index.open(config=config)
    with Served(config.index_path) as client:
        told = client.call("index_status")
        assert told["isError"]
        assert f"is in use by process {os.getpid()} " in told["content"][0]["text"]
        assert not rendezvous.log.exists(), "no engine was started that would only find the same"
        holder.close()
        assert client.call("index_status")["structuredContent"]["documents"] == 0
    with pytest.raises(IndexLockedError, match="colbert-mcp engine"):
        Attachment(config).index()


def test_a_foreign_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("x")
    with pytest.raises(IndexNotFoundError, match="holds other files"):
        launcher(Config(index=IndexConfig(path=str(tmp_path)))).ensure()
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_newer_program_replaces_the_engine_and_an_older_one_does_not(
    config: Config, engine: Endpoint, rendezvous: Rendezvous
) -> None:
    with pytest.raises(StoreError, match="belongs to version"):
        launcher(config, "0.0.9").ensure()
    assert rendezvous.endpoint() == engine
    with pytest.raises(StoreError, match="belongs to version"):
        launcher(config, "99.0").find()
    assert launcher(config, "99.0").ensure().pid != engine.pid
    assert rendezvous.log.read_text().count(f"Process {engine.pid} has closed") == 1


def test_a_copy_that_shares_its_files_with_an_index_does_not_join_that_ones_engine(
    config: Config, rendezvous: Rendezvous, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.sharing.launch, "COMMAND", ENGINE)
    launcher(config).ensure()
    with Index.open(config=config) as index:
        index.index_path(notes)
        shutil.copytree(config.index_path, tmp_path / "copy", copy_function=os.link)  # cp -al
        copied = Config(index=IndexConfig(path=str(tmp_path / "copy")), store=config.store)
        meant = f"copy serves {config.index_path}: .* shares files .*--index {config.index_path} engine stop"
        for opening in (lambda: Index.open(config=copied), launcher(copied).ensure, launcher(copied, "99.0").ensure):
            with pytest.raises(StoreError, match=meant):
                opening()  # type: ignore[no-untyped-call]
        assert index.index_status().documents == 3
    shutil.copytree(config.index_path, tmp_path / "real")
    real = Rendezvous(tmp_path / "real")
    with real.engine_lock():  # as its own engine does first of all
        assert real.endpoint() == rendezvous.endpoint()
        assert launcher(Config(index=IndexConfig(path=str(tmp_path / "real"))))._endpoint() is None
    (tmp_path / "link").symlink_to(config.index_path)
    linked = Config(index=IndexConfig(path=str(tmp_path / "link")), store=config.store)
    assert launcher(linked).ensure() == rendezvous.endpoint()


def test_an_index_that_is_open_goes_on_with_another_engine_when_its_own_has_left(
    config: Config, rendezvous: Rendezvous, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.sharing.launch, "COMMAND", ENGINE)
    left = launcher(config).ensure()
    with Index.open(config=config) as index:
        index.index_path(notes)
        stop_engine(rendezvous)
        assert index.search("varnish").results
        kill(rendezvous.endpoint() or left, rendezvous)
        assert index.remove_path(notes).removed_documents == 3
        stop_engine(rendezvous)
        shutil.rmtree(config.index_path)
        with pytest.raises(IndexNotFoundError, match="is gone"):
            index.search("varnish")
        assert not config.index_path.exists()


def test_a_newer_index_replaces_the_engine_of_an_older_version(
    config: Config,
    rendezvous: Rendezvous,
    notes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(colbert_mcp.sharing.launch, "COMMAND", ENGINE)
    older = launcher(config).ensure()
    with Index.open(config=config) as index:
        index.index_path(notes)
    monkeypatch.setattr(colbert_mcp.attach, "version", lambda _: "99.0")
    program = "import runpy, colbert_mcp; colbert_mcp.__version__ = '99.0'; runpy.run_path({!r}, run_name='__main__')"
    newer_engine = (sys.executable, "-c", program.format(ENGINE[1]))
    monkeypatch.setattr(colbert_mcp.sharing.launch, "COMMAND", newer_engine)
    assert main(["--index", str(config.index_path), "search", "varnish"]) == 0
    assert "bread.md" in capsys.readouterr().out
    newer = rendezvous.endpoint()
    assert newer is not None
    assert (newer.pid != older.pid, newer.version) == (True, "99.0")
    monkeypatch.setattr(colbert_mcp.attach, "version", lambda _: "0.0.1")
    with pytest.raises(StoreError, match="belongs to version"):
        Index.open(config=config)
    assert rendezvous.endpoint() == newer


def test_an_engine_that_does_not_start_is_given_up(
    config: Config, rendezvous: Rendezvous, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.sharing.launch, "_START_SECONDS", 0.5)
    stuck = (sys.executable, "-c", "import sys, threading; sys.stdin.read(); threading.Event().wait()")
    with pytest.raises(StoreError, match="did not start within"):
        Launcher(config, colbert_mcp.__version__, stuck).ensure()


def test_engine_status_and_stop(
    config: Config, engine: Endpoint, rendezvous: Rendezvous, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(action: str) -> EngineOutput:
        assert main(["--index", str(config.index_path), "engine", action, "--json"]) == 0
        return EngineOutput.model_validate_json(capsys.readouterr().out)

    with Index.open(config=config) as index:
        index.index_status()
        status = command("status")
        assert status.running
        assert status.engine is not None
        assert (status.engine.pid, status.engine.port, status.engine.clients) == (engine.pid, engine.port, 1)
        assert status.engine.memory_bytes is None or status.engine.memory_bytes > 10_000_000
        assert status.engine.log == str(rendezvous.log)
    assert main(["--index", str(config.index_path), "engine", "status"]) == 0
    printed = capsys.readouterr().out
    assert f"{engine.pid} on port {engine.port}" in printed
    assert engine.secret not in printed
    assert command("stop").stopped
    assert not (config.index_path / "owner.json").exists()
    assert not (rendezvous.folder / "endpoint.json").exists()
    assert not command("status").running
    assert not command("stop").stopped


def test_a_terminated_engine_closes_its_index(config: Config, engine: Endpoint, rendezvous: Rendezvous) -> None:
    os.kill(engine.pid, signal.SIGTERM)
    with rendezvous.engine_lock().acquire(timeout=30):
        assert not (config.index_path / "owner.json").exists()
        assert not (rendezvous.folder / "endpoint.json").exists()


def test_an_engine_nobody_calls_leaves_and_the_next_call_starts_another(config: Config, rendezvous: Rendezvous) -> None:
    soon = config.model_copy(update={"server": ServerConfig(idle_minutes=0.0001)})
    launcher(soon).ensure()
    with rendezvous.engine_lock().acquire(timeout=60):
        assert "; leaving" in rendezvous.log.read_text()
    with Served(config.index_path) as client:
        assert client.call("index_status")["structuredContent"]["documents"] == 0


def test_an_engine_is_idle_when_there_is_no_call_and_no_run() -> None:
    now = [100.0]
    attendance = Attendance(lambda: now[0])
    now[0] += 5
    assert attendance.idle_seconds(busy=False) == 5
    attendance.begin(str(os.getpid()))
    now[0] += 10
    assert attendance.idle_seconds(busy=False) == 0
    attendance.end()
    now[0] += 7
    assert attendance.idle_seconds(busy=False) == 7
    assert attendance.idle_seconds(busy=True) == 0
    now[0] += 3
    assert attendance.idle_seconds(busy=False) == 3
    assert attendance.uptime_seconds == 25
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        attendance.begin(str(gone.pid))
    attendance.begin("no pid")
    attendance.begin(None)
    assert attendance.clients() == 1


def test_an_engine_whose_directory_is_deleted_leaves(config: Config, tmp_path: Path, notes: Path) -> None:
    rendezvous = Rendezvous(config.index_path)

    def delete(_: Endpoint) -> None:
        shutil.rmtree(rendezvous.folder)

    run(config, FakeEncoder(), ready=delete, check_seconds=0.01)
    assert not rendezvous.running()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A FIFO that the engine's first batch waits for; opening it for writing waits for that batch."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def test_an_engine_killed_while_indexing_is_told_and_the_next_call_completes(
    config: Config, rendezvous: Rendezvous, notes: Path, gate: Path
) -> None:
    with Served(config.index_path, gate=gate) as client:
        client.request("tools/call", {"name": "index_path", "arguments": {"path": str(notes)}})
        with gate.open("wb"):
            endpoint = rendezvous.endpoint()
            assert endpoint is not None
            kill(endpoint, rendezvous)
        told = client.answer()
        assert told["isError"]
        assert "What was committed is kept" in told["content"][0]["text"]
        client.request("tools/call", {"name": "index_path", "arguments": {"path": str(notes)}})
        with gate.open("wb"):
            pass
        assert client.answer()["structuredContent"]["state"] == "done"


def test_a_client_that_vanishes_does_not_stop_its_run(
    config: Config, rendezvous: Rendezvous, notes: Path, gate: Path
) -> None:
    with Served(config.index_path, gate=gate) as client:
        progress = {"_meta": {"progressToken": 7}}
        client.request("tools/call", {"name": "index_path", "arguments": {"path": str(notes)}, **progress})
        with gate.open("wb"):
            assert client.process.stdout is not None
            report = json.loads(client.process.stdout.readline())
            assert (report["method"], report["params"]["progressToken"]) == ("notifications/progress", 7)
            assert client.process.stdin is not None
            client.process.stdin.close()
            client.process.stdin = None
            assert client.process.wait(30) == 0
    with Index.open(config=config) as index:
        assert index.wait_for_run(notes, None).state == "done"


def test_an_explicit_cancellation_stops_the_run(
    config: Config, rendezvous: Rendezvous, notes: Path, gate: Path
) -> None:
    with Served(config.index_path, gate=gate) as client:
        number = client.request("tools/call", {"name": "index_path", "arguments": {"path": str(notes)}})
        with gate.open("wb"), Index.open(config=config) as index:
            client.send({"method": "notifications/cancelled", "params": {"requestId": number}})
            while index.index_status().runs[0].notice != "It stops after the batch at hand.":
                pass
        with Index.open(config=config) as index:
            assert index.wait_for_run(notes, None).state == "cancelled"
            assert index.index_path(notes).state == "done"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd, to see another's child end")
@pytest.mark.parametrize("end", ["closed input", "SIGTERM", "SIGINT", "dead parent"])
def test_serve_ends_with_its_client_and_the_engine_goes_on(
    config: Config, engine: Endpoint, rendezvous: Rendezvous, end: str
) -> None:
    if end == "dead parent":
        program = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, *sys.argv[1:]])\n"
            "print(child.pid, flush=True)\n"
            "child.wait()\n"
        )
        command = [sys.executable, "-c", program, PROGRAMS / "serve.py", config.index_path, ""]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            assert parent.stdin is not None
            served = os.pidfd_open(int(parent.stdout.readline()))
            first = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": CLIENT}
            parent.stdin.write(json.dumps(first) + "\n")
            parent.stdin.flush()
            assert "serverInfo" in parent.stdout.readline()
            parent.kill()
            assert select.select([served], [], [], 30)[0], "its input is still open"
        os.close(served)
    else:
        with Served(config.index_path) as client:
            client.call("index_status")
            if end == "closed input":
                assert client.process.stdin is not None
                client.process.stdin.close()
                client.process.stdin = None
                assert client.process.wait(30) == 0
            else:
                client.process.send_signal(getattr(signal, end))
                assert client.process.wait(30) == 128 + getattr(signal, end)
    assert rendezvous.endpoint() == engine


def test_a_folder_in_which_others_could_pass_for_the_engine_is_refused(tmp_path: Path) -> None:
    index = tmp_path / "index"
    (index / "engine").mkdir(parents=True)
    (index / "engine").chmod(0o777)
    rendezvous = Rendezvous(index)
    with pytest.raises(StoreError, match="another user could pass for the engine"):
        rendezvous.endpoint()
    shutil.rmtree(index / "engine")
    (index / "engine").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="another user"):
        rendezvous.make()


@pytest.mark.parametrize("planted", ["link", "pipe"])
def test_a_planted_log_is_not_written(tmp_path: Path, planted: str) -> None:
    index, victim = tmp_path / "index", tmp_path / "victim.txt"
    victim.write_text("mine" * 500_000)
    rendezvous = Rendezvous(index)
    rendezvous.make()
    if planted == "link":
        rendezvous.log.symlink_to(victim)
    else:
        os.mkfifo(rendezvous.log)
    launcher = Launcher(Config(index=IndexConfig(path=str(index))), "0", [sys.executable, "-c", "pass"])
    with pytest.raises(StoreError):
        launcher.ensure()
    assert victim.read_text() == "mine" * 500_000
