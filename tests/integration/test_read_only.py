"""An index that its user cannot write: it is searched all the same, through ``serve`` and without."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ENGINE, Served

import colbert_mcp
from colbert_mcp.config import Config, IndexConfig
from colbert_mcp.sharing.launch import Launcher, stop_engine
from colbert_mcp.sharing.rendezvous import Rendezvous

PR_CAPBSET_DROP = 24
DAC_CAPABILITIES = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
PROGRAM = f"""\
import sys
sys.path.insert(0, {str(Path(ENGINE[1]).parent.parent)!r})
import colbert_mcp.engine
from fake_encoder import FakeEncoder
colbert_mcp.engine.load_encoder = lambda _: FakeEncoder()
"""
SERVE = """\
from colbert_mcp.config import load_config
from colbert_mcp.sharing.stdio import serve
serve(load_config(index=sys.argv[1]), [])
"""
COMMAND_LINE = """\
from colbert_mcp.cli import main
sys.exit(main(["--index", *sys.argv[1:]]))
"""


@pytest.fixture
def index(tmp_path: Path, notes: Path) -> Iterator[Path]:
    """An index that was made through an engine, and that nobody may change."""
    index = tmp_path / "index"
    config = Config(index=IndexConfig(path=str(index)))
    Launcher(config, colbert_mcp.__version__, ENGINE).ensure()
    with colbert_mcp.Index.open(config=config) as opened:
        opened.index_path(notes)
    stop_engine(Rendezvous(index))
    made = [Path(directory) for directory, _, _ in os.walk(index)]
    for directory in made:
        for file in directory.iterdir():
            if file.is_file():
                file.chmod(0o400)
        directory.chmod(0o500)
    yield index
    for directory in made:
        directory.chmod(0o700)


@pytest.fixture
def unprivileged() -> list[str]:
    """What a command begins with that heeds permissions, as root does not: capabilities(7) are dropped for it."""
    if os.geteuid() != 0:
        return [sys.executable, "-c"]
    drop = (
        "import ctypes, os, sys\n"
        f"failed = any(ctypes.CDLL(None).prctl({PR_CAPBSET_DROP}, one, 0, 0, 0) for one in {DAC_CAPABILITIES})\n"
        "sys.exit(1) if failed else os.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", drop]
    if sys.platform != "linux" or subprocess.run([*command, "pass"], check=False).returncode:
        pytest.skip("root, and its privileges cannot be dropped here")
    return command


def test_serve_searches_an_index_that_it_cannot_write(index: Path, unprivileged: list[str], notes: Path) -> None:
    with Served(index, command=[*unprivileged, PROGRAM + SERVE, str(index)]) as client:
        found = client.call("search", query="varnish", limit=1)["structuredContent"]
        assert [Path(result["path"]).name for result in found["results"]] == ["bread.md"]
        assert client.call("index_status")["structuredContent"]["read_only"]
        told = client.call("index_path", path="/usr/share")
        assert told["isError"]
        assert "cannot be written" in told["content"][0]["text"]
    assert not Rendezvous(index).running()


def test_commands_search_an_index_that_they_cannot_write(index: Path, unprivileged: list[str]) -> None:
    for command, said in ((["search", "varnish"], "bread.md"), (["engine", "status"], "No engine runs")):
        ended = subprocess.run(
            [*unprivileged, PROGRAM + COMMAND_LINE, str(index), *command],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert ended.returncode == 0, ended.stderr
        assert said in ended.stdout
