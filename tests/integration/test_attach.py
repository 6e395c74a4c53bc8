"""How a face comes by an index: the Python API, its limits to folders, and the attachment of a server."""

import shutil
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder

import colbert_mcp.engine
from colbert_mcp import Index
from colbert_mcp.attach import Attachment
from colbert_mcp.config import Config, IndexConfig, StoreConfig
from colbert_mcp.errors import IndexLockedError, IndexNotFoundError, PassageNotFoundError, PathNotAllowedError


@pytest.fixture
def config(tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The configuration of an index of ``notes``, which is closed."""
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: FakeEncoder())
    config = Config(index=IndexConfig(path=str(tmp_path / "index")), store=StoreConfig(chroma=False))
    with Index.open(config=config) as index:
        index.index_path(notes)
    return config


def test_an_index_with_roots_knows_nothing_outside_of_them(config: Config, notes: Path) -> None:
    with Index.open(config=config) as index:
        outside = index.search("varnish").results[0]
    with Index.open(config=config, roots=[notes / "deep"]) as index:
        assert {Path(result.path).name for result in index.search("varnish", limit=50).results} == {"tide.py"}
        with pytest.raises(PassageNotFoundError):
            index.get_passage(outside.id)
        assert index.list_sources().total_documents == 1
        assert index.list_sources(str(notes)).total_documents == 1
        for forbidden in (index.index_path, index.remove_path, index.cancel, lambda path: index.wait_for_run(path, 0)):
            with pytest.raises(PathNotAllowedError, match="--root"):
                forbidden(notes)  # type: ignore[no-untyped-call]
        with pytest.raises(PathNotAllowedError, match="--root"):
            index.gc()
        assert index.index_path(notes / "deep").unchanged == 1
        assert index.wait_for_run(notes / "deep", 0).state == "done"
        index.cancel(notes / "deep")


def test_a_server_with_roots_attaches_to_nothing_else(config: Config, notes: Path) -> None:
    attachment = Attachment(config, [str(notes / "deep")])
    assert {Path(result.path).name for result in attachment.index().search("varnish").results} == {"tide.py"}
    attachment.close()


def test_before_and_after_reach_the_engine_in_this_order(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "days.txt"
    file.write_text("\n\n".join(f"{day} is a day. " * 6 for day in ("Monday", "Tuesday", "Wednesday")))
    with Index.open(config=config) as index:
        index.index_path(file)
        tuesday = index.search("Tuesday", mode="lexical").results[0]
        answer = index.get_passage(tuesday.id, 1, 0)
    assert answer.before_text.startswith("Monday")
    assert answer.after_text == ""


def test_leaving_the_context_gives_the_index_back(config: Config) -> None:
    with Index.open(config=config):
        pass
    Index.open(config=config).close()


def test_a_path_is_taken_instead_of_the_configured_one(config: Config, tmp_path: Path) -> None:
    copy = shutil.copytree(tmp_path / "index", tmp_path / "copy")
    with Index.open(config=config), Index.open(copy, config=config) as other:
        assert other.index_status().index == str(copy)


def test_only_who_may_create_makes_an_index(config: Config, tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        Index.open(tmp_path / "none", config=config, create=False)
    assert not (tmp_path / "none").exists()
    Index.open(tmp_path / "none", config=config).close()
    assert (tmp_path / "none").is_dir()


def test_an_attachment_opens_once_and_can_be_closed_and_opened_again(config: Config) -> None:
    attachment = Attachment(config)
    assert attachment.index() is attachment.index()
    with pytest.raises(IndexLockedError):
        Index.open(config=config)
    attachment.close()
    Index.open(config=config).close()
    assert attachment.index().search("varnish").results
    attachment.close()


def test_a_warm_up_that_fails_is_told_at_the_first_call_and_tried_again(config: Config) -> None:
    attachment = Attachment(config)
    with Index.open(config=config):
        attachment.start()
        warming = attachment._warming
        assert warming is not None
        warming.join()
        with pytest.raises(IndexLockedError):
            attachment.index()
    attachment.start()
    assert attachment._warming is warming
    assert attachment.index().search("varnish").results
    attachment.close()


def test_a_warm_up_loads_the_model_before_the_first_call(config: Config) -> None:
    attachment = Attachment(config)
    attachment.start()
    assert attachment._warming is not None
    attachment._warming.join()
    assert attachment.index().index_status().device == "cpu"
    attachment.close()
