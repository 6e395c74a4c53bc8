"""The command line, called in process with a fake encoder in the model's place."""

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import FakeEncoder

import colbert_mcp.engine
import colbert_mcp.indexing.running
import colbert_mcp.sharing.stdio
from colbert_mcp import errors
from colbert_mcp.cli import main
from colbert_mcp.cli.asking import NOT_VERIFIED
from colbert_mcp.results import (
    AnswerOutput,
    ExplainOutput,
    GcOutput,
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


def test_files_skipped_as_in_the_last_run_are_listed_only_on_demand(run: Run, notes: Path) -> None:
    (notes / "picture.bin").write_bytes(b"\0\1\2")
    assert "picture.bin" in run("index", notes)[1]
    (notes / ".hidden").touch()
    for _ in range(2):
        again = run("index", notes)[1]
        assert "skipped 1 as in the last run; index --list-skipped lists them." in again
        assert "picture.bin" not in again
    assert "picture.bin" in run("index", notes, "--list-skipped")[1]
    assert "picture.bin" in run("index", notes, "--json")[1]
    (notes / "other.bin").write_bytes(b"\0\1\2")
    changed = run("index", notes)[1]
    assert "picture.bin" in changed
    assert "other.bin" in changed
    assert "picture.bin" in run("index", notes, "--dry-run")[1]
    assert run("remove", notes)[0] == 0
    assert "picture.bin" in run("index", notes)[1]


def test_index_verifies_what_size_and_time_do_not_tell(run: Run, notes: Path) -> None:
    run("index", notes)
    status = (notes / "bees.txt").stat()
    (notes / "bees.txt").write_bytes((notes / "bees.txt").read_bytes().replace(b"queen", b"drone"))
    os.utime(notes / "bees.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "0 files indexed" in run("index", notes)[1]
    assert "1 file indexed" in run("index", notes, "--verify")[1]
    (notes / "bees.txt").rename(notes / "hives.txt")
    assert "(0 passages, 0 tokens; 1 more equal to one encoded before)" in run("index", notes)[1]


def test_index_plans_without_indexing(run: Run, notes: Path, tmp_path: Path) -> None:
    code, out, _ = run("index", notes, "--dry-run")
    assert code == 0
    assert not (tmp_path / "index").exists()
    assert f"{notes}: planned, nothing was indexed. 3 new and 0 changed files (4 passages to encode" in out
    assert "time not known before a first run and 0." in out
    planned = IndexOutput.model_validate(json.loads(run("index", notes, "--dry-run", "--json")[1])[0])
    assert planned.plan is not None
    assert (planned.state, planned.plan.new) == ("planned", 3)
    run("index", notes)
    assert "0 new and 0 changed files (0 passages to encode, 0 tokens)" in run("index", notes, "--dry-run")[1]


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
    assert VerifyOutput.model_validate_json(run("verify", "--quote", "three times", "--json")[1]).verdict == "exact"
    assert AnswerOutput.model_validate_json(run("verify", notes / "bread.md", "--json")[1]).checks == []
    explained = ExplainOutput.model_validate_json(run("explain", "varnish", found.results[0].id, "--json")[1])
    assert explained.passage.explanation is not None
    assert StatusOutput.model_validate_json(run("status", "--json")[1]).documents == 3
    assert SourcesOutput.model_validate_json(run("sources", "--json")[1]).total_documents == 3
    assert GcOutput.model_validate_json(run("gc", "--former-days", "0", "--json")[1]).parts["catalogue"].after > 0
    removed = json.loads(run("remove", notes / "bread.md", notes, "--json")[1])
    assert [RemoveOutput.model_validate(output).removed_documents for output in removed] == [1, 2]


def test_status_sources_gc_and_remove_read_well(indexed: Run, notes: Path) -> None:
    assert "0 former passages deleted" in indexed("gc")[1]
    assert "catalogue" in indexed("gc")[1]
    assert "3 files" in indexed("status")[1]
    assert str(notes / "deep" / "tide.py") in indexed("sources")[1]
    assert "3 files and" in indexed("remove", notes)[1]


def test_status_names_the_configured_reranker(indexed: Run, tmp_path: Path) -> None:
    assert "reranker" not in indexed("status")[1]
    assert json.loads(indexed("status", "--json")[1])["reranker"] is None
    (tmp_path / "settings.toml").write_text('[search]\nreranker = "someone/reads-pairs"\n')
    with_reranker = ("--config", tmp_path / "settings.toml", "status")
    assert "\nreranker someone/reads-pairs\n" in indexed(*with_reranker)[1]
    assert json.loads(indexed(*with_reranker, "--json")[1])["reranker"] == "someone/reads-pairs"


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
        (["sources", "/no/such/folder"], errors.DocumentError, "Nothing indexed"),
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
    assert "source:" not in out
    code, out, _ = indexed("verify", "--quote", "Smells of Varnish,")
    assert (code, out.startswith("normalised")) == (0, True)
    assert "   “Smells of Varnish,”\n   source: “smells of varnish”\n" in out
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
    good = f"It “smells of varnish when it is hungry” ([Bread]({url}#L3-L3)). A “scary” thing.\n"
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
    original = colbert_mcp.indexing.running.Task.outcome
    calls = []

    def interrupted(self: colbert_mcp.indexing.running.Task, *arguments: object, **named: object) -> IndexOutput:
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(colbert_mcp.indexing.running.Task, "outcome", interrupted)
    code, out, _ = run("index", notes)
    assert code == 130
    assert "cancelled" in out or "done" in out
    with sqlite3.connect(tmp_path / "index" / "catalog.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_token_embeddings_that_are_kept_otherwise_than_configured_are_told_and_their_conversion(
    indexed: Run, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[store]\nembedding_format = "float16"\n')
    assert "tokens   kept in int8\n" in indexed("status")[1]
    otherwise = "kept in float16; those of 4 passages in another format, which gc converts\n"
    assert otherwise in indexed("--config", config, "status")[1]
    assert (
        f"kept in float16, those of 4 passages in another format, which colbert-mcp --index {tmp_path / 'index'} gc"
        in indexed("--config", config, "doctor", "--quick")[1]
    )
    converted = "the token embeddings of 4 passages converted to float16"
    assert converted in indexed("--config", config, "gc")[1]
    assert "converted" not in indexed("--config", config, "gc")[1]
    assert "kept in float16\n" in indexed("--config", config, "status")[1]


def test_every_option_reaches_the_index(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "week"
    (folder / "late").mkdir(parents=True)
    days = [f"{day} is a day of the week on which we work. " * 5 for day in ("Monday", "Tuesday", "Wednesday")]
    (folder / "days.txt").write_text("\n\n".join(days))
    (folder / "late" / "night.md").write_text("Night falls on every day of the week.\n")
    (folder / "draft.md").write_text("A draft of a day.\n")
    for number in range(60):
        (folder / f"{number}.png").write_bytes(b"\x89PNG\0")
    patterns = ("--include", "*.md", "--include", "*.txt", "--include", "*.png", "--exclude", "draft*")
    first = IndexOutput.model_validate(json.loads(run("index", folder, *patterns, "--json")[1])[0])
    assert (first.indexed, first.skipped_by_reason["excluded"], len(first.problems)) == (2, 1, 50)
    assert run("index", folder, "--list-skipped")[1].count(".png") == 60

    def found(*options: object) -> SearchOutput:
        return SearchOutput.model_validate_json(run("search", "a day of the week", "--json", *options)[1])

    assert len(found("--limit", 2).results) == 2
    assert [Path(result.path).name for result in found("--path", "late").results] == ["night.md"]
    assert [Path(result.path).name for result in found("--type", "md").results] == ["night.md"]
    assert found("--max-tokens", 100).truncated
    tuesday = SearchOutput.model_validate_json(run("search", "Tuesday", "--mode", "lexical", "--json")[1]).results[0]
    assert tuesday.maxsim is None
    shown = PassageOutput.model_validate_json(run("show", tuesday.id, "--before", 1, "--after", 0, "--json")[1])
    assert shown.before_text.startswith("Monday")
    assert shown.after_text == ""
    sources = SourcesOutput.model_validate_json(run("sources", folder / "late", "--json")[1])
    assert [Path(document.path).name for document in sources.documents] == ["night.md"]
    assert SourcesOutput.model_validate_json(run("sources", "--limit", 1, "--json")[1]).truncated


def test_several_folders_are_indexed_one_after_the_other(run: Run, notes: Path) -> None:
    runs = json.loads(run("index", notes / "deep", notes / "bees.txt", "--json")[1])
    assert [Path(output["path"]).name for output in runs] == ["deep", "bees.txt"]


def test_several_folders_are_taken_out_one_after_the_other_up_to_one_that_is_not_in(indexed: Run, notes: Path) -> None:
    code, out, err = indexed("remove", notes / "deep", notes / "none", notes)
    assert (code, out.count("removed from the index")) == (errors.DocumentError.exit_code, 1)
    assert f"Nothing indexed lies at {notes / 'none'}" in err
    code, out, _ = indexed("remove", notes / "bread.md", notes)
    assert (code, out.count("removed from the index")) == (0, 2)


def test_serve_is_given_its_roots_and_whether_it_stands_alone(
    run: Run, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []
    monkeypatch.setattr(
        colbert_mcp.sharing.stdio, "serve", lambda _, roots, *, standalone: served.append((roots, standalone))
    )
    assert run("serve", "--root", notes, "--root", notes / "deep")[0] == 0
    assert run("serve", "--standalone")[0] == 0
    code, _, err = run("serve", "--root", notes / "shallow")
    assert (code, "There is no folder" in err) == (4, True)
    assert served == [([str(notes), str(notes / "deep")], False), ([], True)]


def test_a_settings_file_is_read(run: Run, notes: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text("[documents]\nmax_file_bytes = 100\n")
    runs = json.loads(run("index", notes, "--json", "--config", tmp_path / "small.toml")[1])
    assert runs[0]["skipped"] == 1


def test_a_mistake_with_control_characters_is_shown_escaped(indexed: Run) -> None:
    code, out, err = indexed("index", "/no/such\x1b[31m\u202efolder")
    assert (code, out) == (errors.DocumentError.exit_code, "")
    assert "\\x1b[31m\\u202efolder" in err


def test_a_long_line_is_not_broken_where_nobody_reads(indexed: Run, notes: Path) -> None:
    (notes / ("otter " * 40 + ".txt")).write_text("Otters swim " * 15)
    indexed("index", notes)
    assert "   " + ("Otters swim " * 15).strip() in indexed("search", "otters")[1]


def test_an_interrupted_search_ends_with_130(indexed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> SearchOutput:
        raise KeyboardInterrupt

    monkeypatch.setattr(colbert_mcp.engine.Engine, "search", interrupt)
    assert indexed("search", "x") == (130, "", "")


def test_an_interrupted_run_is_stopped_and_no_other_begun(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, called = threading.Event(), threading.Event()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "otter.txt").write_text("The otter sleeps.\n")
    original = colbert_mcp.indexing.running.Task.outcome
    calls = []

    def until_interrupted() -> None:
        reached.set()
        called.wait(10)
        calls[0].run.cancelled.wait(10)

    def interrupted(self: colbert_mcp.indexing.running.Task, *arguments: Any) -> IndexOutput:
        calls.append(self)
        called.set()
        if len(calls) == 1:
            reached.wait(10)
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: FakeEncoder(before_batch=until_interrupted))
    monkeypatch.setattr(colbert_mcp.indexing.running.Task, "outcome", interrupted)
    code, out, _ = run("index", tmp_path / "one", tmp_path / "two", "--json")
    assert code == 130
    assert [output["state"] for output in json.loads(out)] == ["cancelled"]


@pytest.mark.parametrize("arguments", [["sources"], ["sources", "--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(
    indexed: Run, tmp_path: Path, environment: dict[str, str], arguments: list[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "colbert_mcp", "--index", tmp_path / "index", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, env=environment)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_report_writes_a_page_of_what_is_found(indexed: Run, notes: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert indexed("report", "the starter smells of varnish", "-o", page) == (0, f"{page}\n", "")
    text = page.read_text(encoding="utf-8")
    assert (notes / "bread.md").as_uri() in text
    assert "quote: exact" in text
    assert 'data-s="' in text
    assert indexed("report", "varnish", "--mode", "lexical", "-o", page)[0] == 0
    assert 'data-s="' not in page.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_is_one_line(indexed: Run, tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "none" / "page.html"):
        code, out, err = indexed("report", "varnish", "-o", file)
        assert (code, out) == (errors.DocumentError.exit_code, "")
        assert err.startswith(f"colbert-mcp: Cannot write {file} (")


def test_show_marks_the_words_of_a_question(indexed: Run) -> None:
    found = SearchOutput.model_validate_json(indexed("search", "varnish", "--json")[1]).results[0]
    assert indexed("show", found.id, "--query", "varnish")[1] == indexed("show", found.id)[1]


def test_json_and_usage_errors_hold_nothing_that_a_terminal_obeys(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "odd.txt").write_text("An otter\u202e swims\x9b31m by \x7f night, naïve 🦦.\n")
    run("index", folder)
    out = run("search", "otter", "--json")[1]
    assert not set("\u202e\x9b\x7f") & set(out)
    assert "naïve 🦦" in out
    assert SearchOutput.model_validate_json(out).results[0].text == (folder / "odd.txt").read_text().strip()
    with pytest.raises(SystemExit):
        run("status", "\x1b[31m")
    assert "\x1b" not in capsys.readouterr().err


def test_an_index_directory_may_have_any_name(
    run: Run, notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/index \xff #1")
    assert main(["index", str(notes), "--index", name]) == 0
    assert main(["status", "--json", "--index", name]) == 0
    assert "index \\\\xff #1" in capsys.readouterr().out


def test_a_pattern_that_is_no_text_is_refused(run: Run, notes: Path) -> None:
    code, _, err = run("index", notes, "--include", "*.\udcff")
    assert code == 4
    assert "holds bytes that are no text" in err
