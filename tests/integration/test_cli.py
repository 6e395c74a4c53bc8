"""The command line, called in process with a fake encoder in the model's place."""

import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder

import colbert_mcp.engine
from colbert_mcp import errors
from colbert_mcp.cli import NOT_VERIFIED, main
from colbert_mcp.types import (
    AnswerOutput,
    IndexOutput,
    PassageOutput,
    RemoveOutput,
    SearchOutput,
    SourcesOutput,
    StatusOutput,
    VerifyOutput,
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


def test_every_command_prints_json_of_its_result(run: Run, notes: Path) -> None:
    runs = json.loads(run("index", notes, "--json")[1])
    assert [IndexOutput.model_validate(output).indexed for output in runs] == [3]
    found = SearchOutput.model_validate_json(run("search", "varnish", "--json")[1])
    assert PassageOutput.model_validate_json(run("show", found.results[0].id, "--json")[1]).passage.text
    assert VerifyOutput.model_validate_json(run("verify", "--quote", "three times", "--json")[1]).verdict == "exact"
    assert AnswerOutput.model_validate_json(run("verify", notes / "bread.md", "--json")[1]).checks == []
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
        (["verify", "--quote", " "], errors.QueryError, "quote is empty"),
        (["verify", "--quote", "x", "--path", "/no/such/file"], errors.QueryError, "No indexed file"),
        (["verify", "--path", "/no/such/file"], errors.QueryError, "belong to a --quote"),
        (["verify", "/no/such/file"], errors.DocumentError, "cannot be read"),
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
    for command in (
        ["search", "x"],
        ["status"],
        ["sources"],
        ["show", "f" * 16],
        ["verify", "--quote", "x"],
        ["remove", "/tmp"],
    ):
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


def test_a_quotation_is_verified_with_its_place_or_its_difference(indexed: Run, notes: Path) -> None:
    code, out, err = indexed("verify", "--quote", "smells of varnish", "--path", notes / "bread.md")
    assert (code, err) == (0, "")
    assert out.startswith(f"exact  {notes / 'bread.md'}:3  id ")
    assert "   “smells of varnish”\n" in out
    code, out, _ = indexed("verify", "--quote", "Feed it four times.", "--path", notes / "bread.md")
    assert code == NOT_VERIFIED
    assert out.startswith("altered")
    assert "   Feed it [-four-] {+three+} times. \n   closest: “Feed it three times.”\n" in out
    (notes / "bread.md").unlink()
    assert "[missing: " in indexed("verify", "--quote", "smells of varnish")[1]


def test_an_answer_is_verified_from_a_file_or_standard_input(
    indexed: Run, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (notes / "bread.md").as_uri()
    good = f"It “smells of varnish when it is hungry” ([Bread]({url}#L3-L3)), a “scary” thing.\n"
    (tmp_path / "good.md").write_text(good)
    code, out, _ = indexed("verify", tmp_path / "good.md")
    assert code == 0
    assert f"line 1, cited as {url}#L3-L3\nexact  {notes / 'bread.md'}:3" in out
    assert out.endswith("1 of 1 quotation verified; 1 short quotation without a citation skipped.\n")
    bad = good + "\n> Feed it five times.\n\nSo it is.\n\n> The starter smells of varnish\n\n— [x](file:///none.md)\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bad.encode())))
    code, out, _ = indexed("verify")
    assert code == NOT_VERIFIED
    assert f"line 3, cited as {url}#L3-L3\naltered" in out
    assert "No indexed file is at" in out
    assert "1 of 3 quotations verified" in out


def test_an_answer_that_is_no_text_is_told(indexed: Run, tmp_path: Path) -> None:
    (tmp_path / "answer.md").write_bytes(b"\xff\xfe\xff")
    code, _, err = indexed("verify", tmp_path / "answer.md")
    assert (code, "is not UTF-8" in err) == (errors.DocumentError.exit_code, True)


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
    for quote in (
        "The otter\x1b]0;owned\x07 and the \u202eeman\u202c river",
        "and the \u202eeman\x9b\u202c river",
    ):
        _, out, _ = run("verify", "--quote", quote)
        assert not set(out) & set("\x1b\x07\u202e\u202c\x9b")


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
