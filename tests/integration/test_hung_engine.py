"""An engine that hangs: whoever calls it is told, and it can be ended; one that is only busy is waited for."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ENGINE, PROGRAMS, Served

import colbert_mcp
import colbert_mcp.sharing.launch
import colbert_mcp.sharing.wire
from colbert_mcp import Index
from colbert_mcp.cli import main
from colbert_mcp.config import Config, IndexConfig, StoreConfig
from colbert_mcp.errors import StoreError
from colbert_mcp.sharing.launch import Launcher, engine_output, stop_engine
from colbert_mcp.sharing.rendezvous import Endpoint, Rendezvous
from colbert_mcp.sharing.wire import Caller

IMPATIENT_SERVE = """\
import runpy, sys
import colbert_mcp.sharing.wire
colbert_mcp.sharing.wire.PATIENCE_SECONDS, colbert_mcp.sharing.wire.PROBE_SECONDS = 0.1, 0.5
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(index=IndexConfig(path=str(tmp_path / "index")), store=StoreConfig(chroma=False))


@pytest.fixture
def rendezvous(config: Config) -> Iterator[Rendezvous]:
    rendezvous = Rendezvous(config.index_path)
    yield rendezvous
    stop_engine(rendezvous)


@pytest.fixture
def stopped(config: Config, rendezvous: Rendezvous, notes: Path, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """An engine with an index of the notes, which SIGSTOP has halted: it accepts connections and says nothing.

    It is waited for as long as a test can afford.
    """
    endpoint = Launcher(config, colbert_mcp.__version__, ENGINE).ensure()
    with Index.open(config=config) as index:
        index.index_path(notes)
    os.kill(endpoint.pid, signal.SIGSTOP)
    monkeypatch.setattr(colbert_mcp.sharing.wire, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(colbert_mcp.sharing.wire, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(colbert_mcp.sharing.launch, "_ASK_SECONDS", 0.5)
    monkeypatch.setattr(colbert_mcp.sharing.launch, "_GRACE_SECONDS", 1.0)
    return endpoint


def test_a_hung_engine_is_told_by_its_process_and_can_be_ended(
    config: Config,
    stopped: Endpoint,
    rendezvous: Rendezvous,
    notes: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = f"(process {stopped.pid}) does not answer. End it with: colbert-mcp engine stop"
    command = ["--index", str(config.index_path)]
    with Index.open(config=config) as index:
        for call in (lambda: index.search("varnish"), lambda: index.index_path(notes), lambda: index.remove_path("/x")):
            with pytest.raises(StoreError) as raised:
                call()
            assert told in str(raised.value)
    assert main([*command, "search", "varnish"]) == StoreError.exit_code
    assert config.for_index(told) in capsys.readouterr().err
    assert main([*command, "engine", "status"]) == 0
    assert config.for_index(told) in capsys.readouterr().out
    assert engine_output(rendezvous).silent_pid == stopped.pid
    assert main([*command, "engine", "stop"]) == 0
    assert not rendezvous.running()
    monkeypatch.undo()
    again = Launcher(config, colbert_mcp.__version__, ENGINE).ensure()
    assert again.pid != stopped.pid
    with Index.open(config=config) as index:
        assert index.search("varnish").results


def test_serve_tells_of_a_hung_engine(config: Config, stopped: Endpoint, notes: Path) -> None:
    command = [sys.executable, "-c", IMPATIENT_SERVE, str(PROGRAMS / "serve.py"), str(config.index_path), ""]
    with Served(config.index_path, command=command) as client:
        for tool, arguments in (("search", {"query": "varnish"}), ("index_path", {"path": str(notes)})):
            answer = client.call(tool, **arguments)
            assert answer["isError"]
            assert f"(process {stopped.pid}) does not answer" in answer["content"][0]["text"]


def test_a_long_call_is_waited_for_while_the_engine_says_how_it_is(
    config: Config, rendezvous: Rendezvous, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.sharing.wire, "PATIENCE_SECONDS", 0.1)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    endpoint = Launcher(config, colbert_mcp.__version__, (*ENGINE, str(gate))).ensure()
    probed = threading.Semaphore(0)
    probe = Caller._probe

    def counted(caller: Caller, asked: Endpoint) -> None:
        probe(caller, asked)
        probed.release()

    monkeypatch.setattr(Caller, "_probe", counted)
    with Index.open(config=config) as index:
        assert index.index_path(notes, wait_seconds=0).state == "running"
        caller = Caller()
        with gate.open("wb"):  # the run waits at its first batch
            waiting = threading.Thread(
                target=lambda: answers.append(
                    caller.call(
                        endpoint, "wait_for_run", {"path": str(notes), "wait_seconds": 1000.0, "list_skipped": 0}
                    )
                )
            )
            answers: list[object] = []
            waiting.start()
            for _ in range(5):
                assert probed.acquire(timeout=60)
            assert not answers
        waiting.join()
        caller.close()
        assert answers


def test_a_process_that_is_not_the_engine_is_never_ended(
    rendezvous: Rendezvous, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.sharing.launch, "_ASK_SECONDS", 0.5)
    rendezvous.make()
    with socket.socket() as silent, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with rendezvous.engine_lock():  # an engine that is just starting, beside what an older one has left
            rendezvous.publish(
                Endpoint(
                    pid=other.pid,
                    port=silent.getsockname()[1],
                    secret="x" * 43,
                    version=colbert_mcp.__version__,
                    started="",
                    config={},
                )
            )
            with pytest.raises(StoreError, match="by hand"):
                stop_engine(rendezvous)
        assert other.poll() is None
        other.communicate()
        assert other.returncode == 0
