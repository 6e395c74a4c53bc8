"""Results as a person reads them: everything that matters is told, and nothing that a terminal obeys gets through."""

import types
import unicodedata
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from rich.text import Text

from colbert_mcp.render.passages import emphasised, passage_lines, search_lines
from colbert_mcp.render.upkeep import index_lines, remove_lines, sources_lines, status_lines
from colbert_mcp.results import (
    IndexOutput,
    Passage,
    PassageOutput,
    Place,
    RemoveOutput,
    SearchOutput,
    Skipped,
    SourcesOutput,
    StatusOutput,
)

HOSTILE = "a\x1b]0;owned\x07\x9b \u202eb\u2066 c\u2028d\u2029 e\ue000f\u200bg"
M = TypeVar("M", bound=BaseModel)


def filled(model: type[M], **given: object) -> M:
    """A result with hostile text in every field that holds text."""
    return model(**{name: value(field.annotation) for name, field in model.model_fields.items()} | given)


def value(annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return value(arguments[0])
    if origin is Annotated:
        return value(arguments[0])
    if origin is Literal:
        return arguments[-1]
    if origin is tuple:
        return tuple(value(argument) for argument in arguments)
    if origin is list:
        return [value(arguments[0])]
    if origin is dict:
        return {value(arguments[0]): value(arguments[1])}
    if issubclass(annotation, BaseModel):
        return filled(annotation)
    return HOSTILE if annotation is str else annotation(1)


def plain(lines: Iterable[Text]) -> str:
    return "\n".join(line.plain for line in lines)


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (SearchOutput, search_lines),
        (PassageOutput, passage_lines),
        (IndexOutput, index_lines),
        (StatusOutput, status_lines),
        (SourcesOutput, sources_lines),
        (RemoveOutput, remove_lines),
    ],
)
def test_no_field_of_a_result_reaches_the_terminal_as_it_is(
    result: type[BaseModel], lines: Callable[[Any], Iterable[Text]]
) -> None:
    shown = plain(lines(filled(result)))
    assert "\\x1b]0;owned\\x07" in shown
    for character in set(shown) - {"\n"}:
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}, ascii(character)


def a_passage(**given: object) -> Passage:
    return filled(Passage, text="The otter sleeps.\nIt dreams.", quote="It dreams.", status="current", **given)


def an_answer(**given: object) -> SearchOutput:
    return filled(SearchOutput, **{"query": "sleeping otters", "notice": None, "withheld": [], **given})


def test_a_passage_that_may_not_stand_any_more_says_so_beside_its_place() -> None:
    update = {"path": "/a", "page": None, "cell": None, "status": "modified", "status_reason": "it is gone"}
    modified = a_passage().model_copy(update=update)
    first, _, scores, *_ = plain(search_lines(an_answer(results=[modified]))).split("\n")
    assert first == "1. /a:1  [modified: it is gone]"
    assert scores.endswith("modified")
    current = modified.model_copy(update={"status": "current"})
    first, _, scores, *_ = plain(search_lines(an_answer(results=[current]))).split("\n")
    assert first == "1. /a:1"
    assert scores.endswith("current")
    for part in ({"page": 7}, {"cell": 7}):
        lines = plain(search_lines(an_answer(results=[current.model_copy(update=part)]))).split("\n")
        assert lines[0] == f"1. /a, {next(iter(part))} 7"


def test_other_places_withheld_results_and_an_empty_answer_are_told() -> None:
    twin = Place(id="f" * 16, path="/b", line_start=7, line_end=8)
    shown = plain(search_lines(an_answer(results=[a_passage(also_at=[twin])], withheld=["1", "2"])))
    assert "also at /b:7" in shown
    assert "2 more withheld; raise --max-tokens" in shown
    assert "No passage found." not in shown
    assert "No passage found." in plain(search_lines(an_answer(results=[])))


def test_a_passage_is_shown_between_what_surrounds_it_with_its_bytes() -> None:
    passage = a_passage().model_copy(update={"byte_start": 0, "byte_end": 28})
    output = PassageOutput(passage=passage, before_text="Before.", after_text="After.", generation=1)
    shown = plain(passage_lines(output))
    around = "before it:\n   Before.\nthe passage:\n   The otter sleeps.\n   It dreams.\nafter it:\n   After."
    assert around in shown
    assert "bytes 0-28" in shown
    extracted = passage.model_copy(update={"byte_start": None, "byte_end": None})
    assert "bytes -" in plain(passage_lines(output.model_copy(update={"passage": extracted})))


def test_expected_skips_are_counted_and_the_first_twenty_others_listed() -> None:
    expected = [Skipped(path=f"/hidden/{number}", reason="hidden") for number in range(3)]
    others = [Skipped(path=f"/binary/{number}", reason="binary") for number in range(21)]
    counts = {"binary": 21, "hidden": 3}
    output = filled(
        IndexOutput, problems=[*others, *expected], skipped_by_reason=counts, skipped_as_before=False, notice=None
    )
    shown = plain(index_lines(output))
    assert "skipped 3: hidden" in shown
    assert "/hidden/" not in shown
    assert shown.count("/binary/") == 20
    assert shown.endswith("and 1 more; index --list-skipped lists them all.")
    everything = plain(index_lines(output, list_skipped=True))
    assert (everything.count("/binary/"), everything.count("/hidden/")) == (21, 3)
    assert "--list-skipped" not in everything
    fewer = {"problems": [*others[:20], *expected], "skipped_by_reason": {"binary": 20, "hidden": 3}}
    twenty = plain(index_lines(output.model_copy(update=fewer)))
    assert twenty.count("/binary/") == 20
    assert "--list-skipped" not in twenty
    few = plain(index_lines(output.model_copy(update={"problems": [*others[:2], *expected]})))
    assert "/hidden/" not in few
    known = output.model_copy(update={"skipped_as_before": True})
    _, *lines = plain(index_lines(known)).split("\n")
    assert lines == ["  skipped 3: hidden", "  skipped 21 as in the last run; index --list-skipped lists them."]
    assert plain(index_lines(known, list_skipped=True)) == everything


def test_a_cut_list_of_files_and_a_read_only_index_are_told() -> None:
    sources = filled(SourcesOutput, total_documents=5, truncated=True)
    assert "and 4 more files; raise --limit" in plain(sources_lines(sources))
    assert "more files" not in plain(sources_lines(sources.model_copy(update={"truncated": False})))
    assert "(read-only)" in plain(status_lines(filled(StatusOutput, read_only=True)))
    assert "(read-only)" not in plain(status_lines(filled(StatusOutput, read_only=False)))


def test_words_that_share_a_stem_with_the_query_are_marked() -> None:
    text = emphasised("The Otter sleeps; others sleep on a slope.", "sleeping otters")
    assert [text.plain[span.start : span.end] for span in text.spans] == ["Otter", "sleeps", "sleep"]
