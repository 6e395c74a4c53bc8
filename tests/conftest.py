"""Fixtures that several folders share. No test touches the user's own directories."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from support import PROJECT, EngineFactory

from colbert_mcp import Index
from colbert_mcp.config import Config, IndexConfig, SearchConfig, StoreConfig
from colbert_mcp.encoder import Encoder
from colbert_mcp.engine import Engine
from colbert_mcp.sharing.launch import stop_engine
from colbert_mcp.sharing.rendezvous import Rendezvous


@pytest.fixture(autouse=True)
def _own_directories(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(home / variable.lower()))
    monkeypatch.delenv("COLBERT_MCP_INDEX", raising=False)


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[EngineFactory]:
    """Open engines over ``tmp_path/index`` with a fake encoder; closed at the end, in reverse order."""
    opened: list[Engine] = []

    def factory(
        encoder: Encoder | None = None,
        store: StoreConfig | None = None,
        roots: tuple[str, ...] = (),
        create: bool = True,
        index: Path | None = None,
        search: SearchConfig | None = None,
    ) -> Engine:
        config = Config(
            index=IndexConfig(path=str(index or tmp_path / "index"), roots=roots),
            store=store or StoreConfig(chroma=False),
            search=search or SearchConfig(min_candidates=50),
        )
        engine = Engine.open(config, create_missing=create, encoder=encoder or FakeEncoder())
        opened.append(engine)
        return engine

    yield factory
    for engine in reversed(opened):
        engine.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A small folder: one file in a subfolder, two formats, three topics."""
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "bread.md").write_text(
        "# Bread\n\nThe starter smells of varnish when it is hungry. Feed it three times.\n\n"
        "## Baking\n\nSteam for twelve minutes and then open the damper.\n"
    )
    (folder / "bees.txt").write_text("Inspect the hives every seventh day in May.\r\nA queen cell means swarming.\r\n")
    (folder / "deep" / "tide.py").write_text(
        "def tide(hour: int) -> float:\n    '''Height of the tide.'''\n    return 1.5 * hour\n"
    )
    return folder


@pytest.fixture(scope="session")
def examples_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of ``examples/``, made once with the built-in encoder; the model stays loaded for all tests."""
    directory = tmp_path_factory.mktemp("examples") / "index"
    with Index.open(directory) as index:
        output = index.index_path(PROJECT / "examples")
    assert output.state == "done"
    return directory


@pytest.fixture
def copied_index(examples_index: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that index, to be changed or opened by another process; an engine that was started for it is ended."""
    copy = shutil.copytree(examples_index, tmp_path / "copied-index")
    yield copy
    stop_engine(Rendezvous(copy))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment for child processes: the user's directories are temporary ones there too."""
    return {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "data")}
