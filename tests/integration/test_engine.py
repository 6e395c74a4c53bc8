"""What both faces call: indexing, searching, citing and removing, over real files and a fake encoder."""

import hashlib
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from support import EngineFactory

from colbert_mcp.config import StoreConfig
from colbert_mcp.errors import (
    EmptyQueryError,
    PassageNotFoundError,
    PathNotAllowedError,
    QueryError,
    StoreError,
    UnreadableDocumentError,
)
from colbert_mcp.maxsim import TokenMatrix, maxsim, quantise
from colbert_mcp.results import Passage
from colbert_mcp.retrieval import count_tokens


def holds(passage: Passage) -> bool:
    """The citation invariant, checked by hand."""
    raw = Path(passage.path).read_bytes()[passage.byte_start : passage.byte_end]
    return hashlib.sha256(raw).hexdigest() == passage.sha256 and raw.decode() == passage.text


def test_a_folder_is_indexed_searched_and_cited(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    output = engine.index_path(notes)
    assert (output.state, output.indexed, output.files_total, output.skipped) == ("done", 3, 3, 0)
    best = engine.search("the starter smells of varnish").results[0]
    assert best.path == str(notes / "bread.md")
    assert holds(best)
    assert best.heading == "Bread"
    assert best.url == f"{(notes / 'bread.md').as_uri()}#L{best.line_start}-L{best.line_end}"
    assert best.quote == "The starter smells of varnish when it is hungry."
    assert best.quote_span is not None
    text = (notes / "bread.md").read_text()
    assert text[best.quote_span[0] : best.quote_span[1]] == best.quote
    assert best.status == "current"


def test_a_single_file_is_a_root_too(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    assert engine.index_path(notes / "bees.txt").indexed == 1
    assert [root.path for root in engine.list_sources().roots] == [str(notes / "bees.txt")]
    assert engine.search("hives", path="bees.txt").results


def test_scores_are_the_exact_maxsim_of_the_stored_tokens(open_engine: EngineFactory, notes: Path) -> None:
    encoder = FakeEncoder()
    engine = open_engine(encoder)
    engine.index_path(notes)
    query = encoder.encode_query("hungry bees").token_embeddings
    for result in engine.search("hungry bees", limit=50, mode="semantic").results:
        embeddings = encoder.encode_documents(encoder.tokenize([result.text]))[0].token_embeddings
        matrix = TokenMatrix(*quantise(embeddings), np.array([0, len(embeddings)]))
        assert result.maxsim == pytest.approx(float(maxsim(query, matrix)[0]), abs=1e-4)


def test_an_unchanged_folder_is_not_read_again(open_engine: EngineFactory, notes: Path) -> None:
    encoder = FakeEncoder()
    engine = open_engine(encoder)
    engine.index_path(notes)
    encoded = encoder.encoded
    ids = [result.id for result in engine.search("varnish", limit=50).results]
    output = engine.index_path(notes)
    assert (output.indexed, output.unchanged, output.chunks) == (0, 3, 0)
    assert encoder.encoded == encoded
    assert [result.id for result in engine.search("varnish", limit=50).results] == ids


def test_changed_and_deleted_files_are_followed(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    (notes / "bees.txt").write_text("Wasps are not bees at all.\n")
    (notes / "bread.md").unlink()
    output = engine.index_path(notes)
    assert (output.indexed, output.unchanged, output.removed) == (1, 1, 1)
    assert engine.search("wasps", mode="lexical").results[0].text == "Wasps are not bees at all."
    assert engine.search("varnish", mode="lexical").results == []


def test_passage_ids_follow_path_text_and_ordinal(open_engine: EngineFactory, tmp_path: Path) -> None:
    file = tmp_path / "twice.txt"
    paragraph = "The same words stand here more than once, and they fill a chunk of their own.\n\n"
    file.write_text(paragraph * 2)
    engine = open_engine(FakeEncoder(content_length=20))
    engine.index_path(file)
    sha = hashlib.sha256(paragraph.strip().encode()).hexdigest()
    expected = [
        hashlib.sha256(b"\0".join([os.fsencode(file), sha.encode(), str(n).encode()])).hexdigest()[:16] for n in (0, 1)
    ]
    assert [engine.get_passage(passage_id).passage.line_start for passage_id in expected] == [1, 3]


def test_equal_passages_collapse_into_the_best(open_engine: EngineFactory, notes: Path) -> None:
    shutil.copy(notes / "bees.txt", notes / "copy.txt")
    engine = open_engine()
    engine.index_path(notes)
    results = engine.search("queen cell swarming").results
    assert sum("queen cell" in result.text for result in results) == 1
    assert len(results[0].also_at) == 1
    assert {results[0].path, results[0].also_at[0].path} == {str(notes / "bees.txt"), str(notes / "copy.txt")}


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"path": "deep"}, {"tide.py"}),
        ({"path": "*.md"}, {"bread.md"}),
        ({"path": "/nowhere"}, set()),
        ({"types": ["py"]}, {"tide.py"}),
        ({"types": ["python", ".txt"]}, {"tide.py", "bees.txt"}),
        ({"types": ["markdown"], "path": "deep/**"}, set()),
    ],
)
def test_filters_apply_before_scoring(
    open_engine: EngineFactory, notes: Path, filters: dict[str, str], names: set[str]
) -> None:
    engine = open_engine()
    engine.index_path(notes)
    for mode in ("hybrid", "semantic", "lexical"):
        found = engine.search("the tide inspects bread varnish", limit=50, mode=mode, **filters)  # type: ignore[arg-type]
        assert {Path(result.path).name for result in found.results} == names
        assert bool(found.notice) == (not names)


def test_an_absolute_path_filters_by_folder(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    found = engine.search("tide", path=str(notes / "deep")).results
    assert {result.path for result in found} == {str(notes / "deep" / "tide.py")}


def test_the_answer_keeps_to_its_token_budget_and_lists_what_it_withholds(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"River {number} has a bank, a bed and a mouth of its own.\n")
    engine = open_engine()
    engine.index_path(folder)
    everything = engine.search("river bank", limit=20, max_tokens=100_000)
    limited = engine.search("river bank", limit=20, max_tokens=1_500)
    assert everything.tokens == count_tokens(everything.model_dump_json())
    assert limited.tokens == count_tokens(limited.model_dump_json()) <= 1_500
    assert limited.truncated
    shown = [result.id for result in limited.results]
    assert shown + limited.withheld == [result.id for result in everything.results]
    assert len(engine.search("river bank", limit=20, max_tokens=100).results) == 1


def test_a_source_is_current_relocated_modified_or_missing(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    bread = notes / "bread.md"
    original = bread.read_bytes()

    def now() -> Passage:
        return engine.search("starter smells of varnish").results[0]

    old = now()
    bread.write_bytes(b"An introduction.\r\n\r\n" + original)
    moved = now()
    assert (moved.status, moved.line_start, moved.id) == ("relocated", old.line_start + 2, old.id)
    assert holds(moved)
    bread.write_bytes(original.replace(b"varnish", b"apples"))
    assert (now().status, now().line_start) == ("modified", old.line_start)
    assert "varnish" in now().text
    bread.unlink()
    assert now().status == "missing"
    assert now().status_reason == "no such file or directory"
    bread.write_bytes(original)
    assert now().status == "current"


def test_lines_are_counted_anew_when_bytes_stay_but_line_ends_change(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    file = tmp_path / "log.txt"
    file.write_bytes(b"one\ntwo\n\nThe last line speaks of otters and of nothing else at all.\n")
    engine = open_engine(FakeEncoder(content_length=12))
    engine.index_path(file)
    before = engine.search("otters").results[0]
    file.write_bytes(b"one two\n\nThe last line speaks of otters and of nothing else at all.\n")
    after = engine.search("otters").results[0]
    assert (before.line_start, after.line_start, after.status) == (4, 3, "current")
    assert holds(after)


def test_the_nearest_place_is_taken_for_a_relocated_passage(open_engine: EngineFactory, tmp_path: Path) -> None:
    file = tmp_path / "poem.txt"
    line = b"A single line about otters."
    file.write_bytes(b"\n" * 50 + line + b"\n")
    engine = open_engine(FakeEncoder(content_length=8))
    engine.index_path(file)
    file.write_bytes(line + b"\n" + b"y\n" * 20 + line + b"\n" + b"z\n" * 90 + line + b"\n")
    assert engine.search("otters").results[0].line_start == 22


def test_an_old_id_is_answered_after_its_file_was_indexed_again(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    old = engine.search("starter smells of varnish").results[0]
    (notes / "bread.md").write_text("# Bread\n\nNothing smells any more.\n")
    engine.index_path(notes)
    answer = engine.get_passage(old.id)
    assert answer.passage.text == old.text
    assert answer.passage.status == "modified"
    assert answer.notice is not None
    engine.remove_path(notes)
    with pytest.raises(PassageNotFoundError):
        engine.get_passage(old.id)


def test_a_passage_comes_with_its_neighbours(open_engine: EngineFactory, tmp_path: Path) -> None:
    file = tmp_path / "days.txt"
    days = ["Monday", "Tuesday", "Wednesday", "Thursday"]
    file.write_text("\n\n".join(f"{day} is a day of the week on which we work." for day in days))
    engine = open_engine(FakeEncoder(content_length=12))
    engine.index_path(file)
    wednesday = engine.search("Wednesday", mode="lexical").results[0]
    answer = engine.get_passage(wednesday.id, before=2, after=0)
    assert answer.before_text.split()[0] == "Monday"
    assert answer.after_text == ""
    assert engine.get_passage(wednesday.id).after_text.startswith("Thursday")


def test_what_another_root_holds_is_kept(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.index_path(notes / "deep")
    assert engine.index_status().documents == 3
    removed = engine.remove_path(notes)
    assert (removed.removed_documents, removed.kept_documents) == (2, 1)
    assert [Path(document.path).name for document in engine.list_sources().documents] == ["tide.py"]


def test_a_removed_file_stays_out_until_it_is_asked_for(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    removed = engine.remove_path(notes / "bees.txt")
    assert removed.removed_documents == 1
    assert removed.notice is not None
    output = engine.index_path(notes)
    assert output.skipped_by_reason == {"removed with remove_path": 1}
    assert engine.search("queen", mode="lexical").results == []
    engine.index_path(notes / "bees.txt")
    assert engine.search("queen", mode="lexical").results
    assert engine.index_path(notes).skipped == 0


def test_patterns_are_kept_for_the_next_run(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    assert engine.index_path(notes, exclude=["*.txt"]).indexed == 2
    assert engine.index_path(notes).unchanged == 2
    assert engine.index_path(notes, exclude=[]).indexed == 1


def test_a_cancelled_run_keeps_what_it_committed_and_the_next_one_resumes(
    open_engine: EngineFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(6):
        turns = " ".join(f"Otter {number} swims in river {turn}." for turn in range(2000))
        (folder / f"{number}.txt").write_text(turns)
    reached, go_on = threading.Event(), threading.Event()
    encoder = FakeEncoder()
    engine = open_engine(encoder, StoreConfig(chroma=False, commit_tokens=1))

    def pause() -> None:
        if encoder.encoded:
            reached.set()
            go_on.wait()

    encoder.before_batch = pause
    assert engine.index_path(folder, wait_seconds=0).state == "running"
    reached.wait()
    assert engine.index_path(folder, wait_seconds=0).state == "running"  # joins the run
    engine.cancel(folder)
    go_on.set()
    cancelled = engine.wait_for_run(folder, None)
    assert cancelled.state == "cancelled"
    assert 0 < cancelled.indexed < 6
    assert engine.index_status().documents == cancelled.indexed
    resumed = engine.index_path(folder)
    assert (resumed.state, resumed.unchanged, resumed.indexed) == ("done", cancelled.indexed, 6 - cancelled.indexed)


def test_one_bad_file_costs_one_line_and_not_the_run(open_engine: EngineFactory, notes: Path) -> None:
    (notes / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (notes / "broken.txt").write_bytes(b"\xff\xfe\x00")
    (notes / "key.txt").write_text("-----BEGIN RSA PRIVATE KEY-----\n" + "QUJDREVGR0hJSktM" * 4 + "\n")
    output = open_engine().index_path(notes)
    assert output.indexed == 3
    problems = {Path(problem.path).name: problem.reason for problem in output.problems}
    assert set(problems) == {"image.png", "broken.txt", "key.txt"}
    assert problems["image.png"] == "binary"
    assert "private key" in problems["key.txt"]
    assert all("QUJD" not in reason for reason in problems.values())


def test_only_allowed_roots_are_indexed(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    engine = open_engine(roots=(str(notes / "deep"),))
    with pytest.raises(PathNotAllowedError, match=r"outside the allowed roots .*\[index\] roots"):
        engine.index_path(notes)
    (tmp_path / "notes" / "deep-evil").mkdir()
    with pytest.raises(PathNotAllowedError):
        engine.index_path(notes / "deep-evil")
    (notes / "link").symlink_to(notes / "deep")
    assert engine.index_path(notes / "link").indexed == 1


def test_what_lies_outside_of_the_scope_is_neither_searched_nor_shown(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    shutil.copy(notes / "bees.txt", notes / "deep" / "bees.txt")
    engine.index_path(notes)
    scope = (os.fsencode(notes / "deep"),)
    outside = engine.search("varnish").results[0]
    found = engine.search("queen varnish tide", limit=50, scope=scope)
    assert {Path(result.path).parent.name for result in found.results} == {"deep"}
    assert all(result.also_at == [] for result in found.results)
    with pytest.raises(PassageNotFoundError):
        engine.get_passage(outside.id, scope=scope)
    with pytest.raises(PathNotAllowedError):
        engine.remove_path(notes, scope=scope)
    with pytest.raises(PathNotAllowedError):
        engine.index_path(notes, scope=scope)
    sources = engine.list_sources(scope=scope)
    assert sources.roots == []
    assert {Path(document.path).parent.name for document in sources.documents} == {"deep"}


def test_bad_input_is_a_typed_error_and_changes_nothing(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    before = engine.index_status().model_dump(exclude={"runs"})
    with pytest.raises(UnreadableDocumentError, match="no file or folder"):
        engine.index_path(notes / "none")
    with pytest.raises(PathNotAllowedError, match="too wide"):
        engine.index_path("/")
    with pytest.raises(PathNotAllowedError, match="too wide"):
        engine.index_path("~")
    with pytest.raises(EmptyQueryError):
        engine.search(" \n\t")
    with pytest.raises(QueryError, match="100000 characters"):
        engine.search("x" * 100_000)
    for limit in (-1, 0, 51):
        with pytest.raises(QueryError, match="limit"):
            engine.search("varnish", limit=limit)
    with pytest.raises(QueryError, match="max_tokens"):
        engine.search("varnish", max_tokens=-1)
    with pytest.raises(PassageNotFoundError, match="no passage"):
        engine.get_passage("0" * 16)
    with pytest.raises(PassageNotFoundError, match="not a passage id"):
        engine.get_passage("../../etc/passwd")
    with pytest.raises(QueryError, match="before"):
        engine.get_passage("0" * 16, before=-1)
    with pytest.raises(UnreadableDocumentError, match="Nothing indexed"):
        engine.remove_path(notes / "none")
    assert engine.index_status().model_dump(exclude={"runs"}) == before


def test_an_empty_index_says_what_to_do(open_engine: EngineFactory) -> None:
    engine = open_engine()
    for mode in ("hybrid", "semantic", "lexical"):
        answer = engine.search("anything", mode=mode)  # type: ignore[arg-type]
        assert answer.results == []
        assert answer.notice is not None
        assert "index_path" in answer.notice


@pytest.mark.parametrize(
    "query", ['"', "AND OR NOT", "NEAR(", "a* b^2 (c", "col:value", "—", "🜁", "x" * 9999, "'; DROP"]
)
def test_any_query_text_is_taken_as_words(open_engine: EngineFactory, notes: Path, query: str) -> None:
    engine = open_engine()
    engine.index_path(notes)
    for mode in ("hybrid", "semantic", "lexical"):
        engine.search(query, mode=mode)  # type: ignore[arg-type]


def test_names_that_are_no_utf8_are_indexed_and_shown_escaped(open_engine: EngineFactory, notes: Path) -> None:
    name = os.fsencode(notes) + b"/caf\xe9 #1\n.txt"
    with open(name, "wb") as file:  # noqa: PTH123  # pathlib takes no bytes
        file.write("Un café près de la rivière, très tranquille.\n".encode())
    engine = open_engine()
    engine.index_path(notes)
    found = engine.search("rivière tranquille").results[0]
    assert found.path.endswith("caf\\xe9 #1\n.txt")
    assert "caf%E9%20%231%0A.txt" in found.url
    assert found.status == "current"
    assert found.model_dump_json()


def test_the_index_does_not_index_itself(open_engine: EngineFactory, notes: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    output = open_engine().index_path(tmp_path)
    assert set(output.skipped_by_reason) <= {"hidden", "empty"}
    assert output.indexed == 3


def test_a_failed_run_is_told_to_everyone_who_waits_for_it(open_engine: EngineFactory, notes: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    engine = open_engine(FakeEncoder(before_batch=fail))
    with pytest.raises(ZeroDivisionError):
        engine.index_path(notes)
    assert engine.index_status().runs[0].state == "failed"
    assert engine.index_status().documents == 0


@pytest.mark.parametrize("pattern", ["!", "[z-a]", "a\\", "*a*a*a*a*a*a*b"])
def test_a_bad_pattern_is_refused_before_it_is_kept(open_engine: EngineFactory, notes: Path, pattern: str) -> None:
    engine = open_engine()
    with pytest.raises(UnreadableDocumentError, match="pattern"):
        engine.index_path(notes, exclude=[pattern])
    assert engine.index_path(notes).indexed == 3
    with pytest.raises(QueryError, match="path filter"):
        engine.search("varnish", path=pattern)


@pytest.mark.parametrize("line", ["!", "[z-a]", "a\\", "*a*a*a*a*a*a*a*a*b"])
def test_a_bad_line_does_not_switch_an_ignore_file_off(open_engine: EngineFactory, notes: Path, line: str) -> None:
    (notes / ".gitignore").write_text(f"bread.md\n{line}\n")
    (notes / ("a" * 90 + ".txt")).write_text("An otter.\n")
    engine = open_engine()
    output = engine.index_path(notes)
    assert output.skipped_by_reason["ignored by .gitignore or .ignore"] == 1
    assert output.indexed == 3


def test_of_equal_passages_those_are_shown_whose_files_still_say_so(open_engine: EngineFactory, notes: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (notes / name).write_text("The pangolin rolls itself into a ball.\n")
    engine = open_engine()
    engine.index_path(notes)
    (notes / "a.txt").unlink()
    (notes / "c.txt").write_text("Nothing of the kind.\n")
    result = engine.search("pangolin ball").results[0]
    assert (Path(result.path).name, result.status, result.also_at) == ("b.txt", "current", [])


def test_many_equal_passages_do_not_flood_the_answer(open_engine: EngineFactory, tmp_path: Path) -> None:
    folder = tmp_path / "same"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.txt").write_text("The pangolin rolls itself into a ball.\n")
    engine = open_engine()
    engine.index_path(folder)
    answer = engine.search("pangolin ball", max_tokens=2_000)
    assert answer.tokens <= 2_000
    assert len(answer.results[0].also_at) == 10


def test_a_file_that_can_no_longer_be_read_is_not_called_current(open_engine: EngineFactory, tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    file.write_bytes(b"one\ntwo\n\nThe last line speaks of otters and of nothing else at all.\n")
    engine = open_engine(FakeEncoder(content_length=12))
    engine.index_path(file)
    file.write_bytes(b"one\0two\n\nThe last line speaks of otters and of nothing else at all.\n")
    assert engine.search("otters").results[0].status == "missing"
    file.unlink()
    file.mkdir()
    for _ in range(3):
        assert engine.search("otters").results[0].status_reason == "not a regular file"


def test_a_closed_engine_refuses_and_can_be_opened_again(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    engine.close()
    for call in (engine.index_path, engine.remove_path):
        with pytest.raises(StoreError, match="closed"):
            call(notes)
    assert open_engine().index_status().documents == 3


@pytest.mark.parametrize("path", ["", "\0", "~no-such-user/x", "/dev/null"])
def test_what_can_be_no_root_is_refused(open_engine: EngineFactory, path: str) -> None:
    engine = open_engine()
    with pytest.raises(UnreadableDocumentError):
        engine.index_path(path)
    assert engine.list_sources().roots == []


def test_text_that_is_none_is_refused(open_engine: EngineFactory, notes: Path) -> None:
    engine = open_engine()
    engine.index_path(notes)
    with pytest.raises(QueryError, match="UTF-8"):
        engine.search("\ud800 varnish")
    with pytest.raises(PassageNotFoundError):
        engine.get_passage("\ud800")


def test_a_search_says_that_indexing_is_going_on(open_engine: EngineFactory, notes: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()
    encoder = FakeEncoder()
    engine = open_engine(encoder)

    def pause() -> None:
        if threading.current_thread().name == "indexing":
            reached.set()
            go_on.wait()

    encoder.before_batch = pause
    engine.index_path(notes, wait_seconds=0)
    reached.wait()
    notice = engine.search("varnish").notice
    go_on.set()
    assert notice is not None
    assert notice.startswith("Indexing is going on")
    assert engine.wait_for_run(notes, None).state == "done"
    assert engine.search("varnish").notice is None
