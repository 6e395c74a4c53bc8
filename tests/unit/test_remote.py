"""What becomes of a call whose engine goes away, without engines: a caller that fails as told."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import CallToolResult, TextContent

import colbert_mcp.sharing.remote
from colbert_mcp.config import Config
from colbert_mcp.errors import ColbertMCPError, IndexMismatchError, StoreError, error_named
from colbert_mcp.results import RemoveOutput, SourcesOutput
from colbert_mcp.sharing.remote import RemoteEngine
from colbert_mcp.sharing.rendezvous import Endpoint
from colbert_mcp.sharing.wire import ERROR_META, BrokenCallError, Caller, NotSentError, decode_roots, encode_roots

SOURCES = SourcesOutput(roots=[], documents=[], total_documents=0, truncated=False, generation=7)
REMOVED = RemoveOutput(path="/x", removed_documents=1, removed_passages=1, kept_documents=0, generation=7)


def endpoint(pid: int) -> Endpoint:
    config = Config().model_dump(mode="json")
    return Endpoint(pid=pid, port=1, secret="x" * 43, version="1", started="", config=config)


class Failing(Caller):
    """Answers with what it was given, in turn."""

    def __init__(self, *answers: Exception | SourcesOutput | RemoveOutput | CallToolResult) -> None:
        super().__init__()
        self.answers = list(answers)
        self.called: list[int] = []

    def call(self, endpoint: Endpoint, tool: str, arguments: object, roots: object = ()) -> CallToolResult:
        self.called.append(endpoint.pid)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, CallToolResult):
            return answer
        return CallToolResult(content=[], structured_content=answer.model_dump(mode="json"))


Make = Callable[..., tuple[RemoteEngine, Failing]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(colbert_mcp.sharing.remote, "_PAUSES", (0.0, 0.0, 0.0))
    made: list[RemoteEngine] = []

    def factory(*answers: Exception | SourcesOutput | RemoveOutput | CallToolResult) -> tuple[RemoteEngine, Failing]:
        pids = iter(range(1, 9))
        engine = RemoteEngine(lambda: endpoint(next(pids)), Config())
        engine.close()
        failing = engine._caller = Failing(*answers)
        made.append(engine)
        return engine, failing

    yield factory
    for engine in made:
        engine.close()


def test_a_call_that_reads_is_repeated_once_on_another_engine(make: Make) -> None:
    engine, caller = make(BrokenCallError(), SOURCES)
    assert engine.list_sources() == SOURCES
    assert caller.called == [1, 2]
    engine, caller = make(BrokenCallError(), BrokenCallError(), SOURCES)
    with pytest.raises(StoreError, match="ended in the middle of list_sources"):
        engine.list_sources()
    assert caller.called == [1, 2]


def test_a_call_that_writes_is_not_repeated_once_it_may_have_been_carried_out(make: Make) -> None:
    engine, caller = make(BrokenCallError(), REMOVED)
    with pytest.raises(StoreError, match="What was committed is kept"):
        engine.remove_path("/x")
    assert caller.called == [1]


def test_a_call_that_was_never_sent_is_sent_again(make: Make) -> None:
    engine, caller = make(NotSentError(), NotSentError(), REMOVED)
    assert engine.remove_path("/x") == REMOVED
    assert caller.called == [1, 2, 3]
    engine, caller = make(NotSentError(), NotSentError(), NotSentError(), REMOVED)
    with pytest.raises(StoreError, match=r"\(process 3\) does not answer.*engine stop"):
        engine.remove_path("/x")


def test_an_error_without_a_class_is_one_all_the_same(make: Make) -> None:
    def failed(**meta: object) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="Oh.")], is_error=True, _meta=meta)

    engine, _ = make(failed(), failed(**{ERROR_META: "IndexMismatchError"}), failed(**{ERROR_META: "SystemExit"}))
    for kind in (ColbertMCPError, IndexMismatchError, ColbertMCPError):
        with pytest.raises(ColbertMCPError, match=r"^Oh\.$") as raised:
            engine.list_sources()
        assert type(raised.value) is kind
    assert type(error_named("object", "x")) is ColbertMCPError


@given(st.lists(st.binary(min_size=1)))
def test_roots_are_carried_byte_for_byte(roots: list[bytes]) -> None:
    carried = encode_roots(roots)
    assert carried.isascii()
    assert carried.isprintable()
    assert decode_roots(carried) == tuple(roots)


@pytest.mark.parametrize("value", [",", "/a,", ",/a"])
def test_a_root_that_is_empty_is_refused_and_not_taken_for_everything(value: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        decode_roots(value)


def test_an_endpoint_does_not_show_its_secret() -> None:
    assert "xxx" not in repr(endpoint(1))
