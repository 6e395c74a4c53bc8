"""The command line, called in process with a fake encoder in the model's place."""

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder

import colbert_mcp.engine
from colbert_mcp import errors
from colbert_mcp.cli import main
from colbert_mcp.types import (
    ExplainOutput,
    IndexOutput,
    PassageOutput,
    RemoveOutput,
    SearchOutput,
    SourcesOutput,
    StatusOutput,
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command over ``tmp_path/index``; returns exit code, standard output and standard error."""
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: FakeEncoder())

    def command(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments), "--index", str(tmp_path / "index")])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def indexed(run: Run, notes: Path) -> Run:
    assert run("index", notes)[0] == 0
    return run


def test_index_says_what_it_did_and_what_it_skipped(run: Run, notes: Path) -> None:
    (notes / "picture.bin").write_bytes(b"\0\1\2")
    code, out, err = run("index", notes)
    assert (code, err) == (0, "")
    assert "3 files indexed" in out
    assert "skipped 1: binary" in out
    assert str(notes / "picture.bin") in out


def test_search_prints_place_heading_scores_and_text(indexed: Run, notes: Path) -> None:
    code, out, err = indexed("search", "what", "smells", "of", "varnish")
    assert (code, err) == (0, "")
    assert out.startswith(f"1. {notes / 'bread.md'}:1\n   Bread\n   score ")
    assert "   The starter smells of varnish when it is hungry." in out


def test_show_prints_every_coordinate(indexed: Run, notes: Path) -> None:
    found = SearchOutput.model_validate_json(indexed("search", "varnish", "--json")[1]).results[0]
    code, out, _ = indexed("show", found.id)
    assert code == 0
    for part in (f"{notes / 'bread.md'}:1", "characters 0-", "bytes 0-", found.sha256, found.url, "damper"):
        assert part in out


def test_explain_prints_each_match_with_its_place(indexed: Run, notes: Path) -> None:
    found = SearchOutput.model_validate_json(indexed("search", "varnish", "--json")[1]).results[0]
    code, out, err = indexed("explain", "hungry varnish", found.id)
    assert (code, err) == (0, "")
    text = (notes / "bread.md").read_text()
    assert out.startswith(f"{notes / 'bread.md'}:1\n")
    assert "   The starter smells of varnish when it is hungry." in out
    assert re.search(rf"   hungry    *1\.000  hungry  characters {text.index('hungry')}-", out)
    assert re.search(rf"   varnish   *1\.000  varnish  characters {text.index('varnish')}-", out)


def test_search_explains_when_asked_and_names_what_no_result_is_about(indexed: Run) -> None:
    plain = indexed("search", "varnish and zeppelins")[1]
    explained = indexed("search", "--explain", "varnish and zeppelins")[1]
    assert "characters" not in plain
    assert re.search(r"   varnish +1\.000  varnish  characters", explained)
    assert "No result is about: zeppelins" in explained


def test_a_heat_map_holds_the_text_and_escapes_what_a_terminal_obeys(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "sly.txt"
    file.write_bytes(b"An otter \x1b[31m swims.\r\nA burrow\ris dug.\n")
    run("index", file)
    found = SearchOutput.model_validate_json(run("search", "otter", "--json")[1]).results[0]
    out = run("explain", "otter", found.id)[1]
    assert "   An otter \\x1b[31m swims.\n   A burrow\n   is dug." in out
    assert "\x1b" not in out


def test_every_command_prints_json_of_its_result(run: Run, notes: Path) -> None:
    runs = json.loads(run("index", notes, "--json")[1])
    assert [IndexOutput.model_validate(output).indexed for output in runs] == [3]
    found = SearchOutput.model_validate_json(run("search", "varnish", "--json")[1])
    assert PassageOutput.model_validate_json(run("show", found.results[0].id, "--json")[1]).passage.text
    explained = ExplainOutput.model_validate_json(run("explain", "varnish", found.results[0].id, "--json")[1])
    assert explained.passage.explanation is not None
    assert StatusOutput.model_validate_json(run("status", "--json")[1]).documents == 3
    assert SourcesOutput.model_validate_json(run("sources", "--json")[1]).total_documents == 3
    assert RemoveOutput.model_validate_json(run("remove", notes, "--json")[1]).removed_documents == 3


def test_status_sources_and_remove_read_well(indexed: Run, notes: Path) -> None:
    assert "3 files" in indexed("status")[1]
    assert str(notes / "deep" / "tide.py") in indexed("sources")[1]
    assert "3 files and" in indexed("remove", notes)[1]


def test_search_options_reach_the_engine(indexed: Run) -> None:
    output = SearchOutput.model_validate_json(
        indexed("search", "tide", "-n", "2", "--type", "py", "--path", "deep", "--mode", "lexical", "--json")[1]
    )
    assert [Path(result.path).name for result in output.results] == ["tide.py"]
    assert output.results[0].maxsim is None


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (["--config", "/none.toml", "status"], errors.ConfigError, "no configuration file"),
        (["index", "/no/such/folder"], errors.DocumentError, "no file or folder"),
        (["search", " "], errors.QueryError, "query is empty"),
        (["search", "x", "--limit", "-1"], errors.QueryError, "limit is -1"),
        (["show", "f" * 16], errors.QueryError, "no passage"),
        (["remove", "/no/such/folder"], errors.DocumentError, "Nothing indexed"),
    ],
)
def test_a_mistake_is_one_line_on_standard_error_with_its_branch_as_exit_code(
    indexed: Run, arguments: list[str], error: type[errors.ColbertMCPError], sentence: str
) -> None:
    code, out, err = indexed(*arguments)
    assert code == error.exit_code
    assert out == ""
    assert err.startswith("colbert-mcp: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_missing_index_names_the_command_that_makes_one(run: Run) -> None:
    for command in (["search", "x"], ["status"], ["sources"], ["show", "f" * 16], ["remove", "/tmp"]):
        code, _, err = run(*command)
        assert code == errors.StoreError.exit_code
        assert "colbert-mcp index PATH" in err


def test_a_missing_model_is_an_encoder_error(
    run: Run, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    (tmp_path / "model.toml").write_text(f'[model]\nname = "{tmp_path}"\n')
    code, _, err = run("--config", tmp_path / "model.toml", "index", notes)
    assert code == errors.EncoderError.exit_code
    assert "holds no model" in err


def test_a_wrong_use_is_exit_code_two(run: Run) -> None:
    with pytest.raises(SystemExit) as ended:
        run("search")
    assert ended.value.code == 2


def test_control_and_bidi_characters_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "evil\x1b[31m"
    folder.mkdir()
    (folder / "evil.md").write_text(
        "# Red \x1b[31m heading\n\nThe otter\x1b]0;owned\x07 and the \u202eeman\u202c river\x9b.\n"
    )
    run("index", folder)
    for command in (["search", "otter river"], ["sources"], ["status"]):
        _, out, _ = run(*command)
        assert not set(out) & set("\x1b\x07\u202e\u202c\x9b")
    assert "\\x1b[31m" in run("search", "otter river")[1]


def test_interrupted_indexing_keeps_what_was_committed(
    run: Run, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = colbert_mcp.engine.Engine._outcome
    calls = []

    def interrupted(self: colbert_mcp.engine.Engine, *arguments: object, **named: object) -> IndexOutput:
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(colbert_mcp.engine.Engine, "_outcome", interrupted)
    code, out, _ = run("index", notes)
    assert code == 130
    assert "cancelled" in out or "done" in out
    with sqlite3.connect(tmp_path / "index" / "catalog.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
