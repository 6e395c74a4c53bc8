"""An engine in another process, with the methods of ``engine.Engine``.

Paths are made absolute here, because the working directory is the caller's. A call that only reads is repeated once
where the engine went away in the middle of it; one that writes is not. Knows nothing of how an engine is found or
started.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from mcp.types import CallToolResult, TextContent

from colbert_mcp.config import Config
from colbert_mcp.errors import (
    ColbertMCPError,
    ConfigError,
    IndexMismatchError,
    PassageNotFoundError,
    QueryError,
    StoreError,
    UnreadableDocumentError,
    error_named,
)
from colbert_mcp.quoting.checking import check_answer
from colbert_mcp.results import (
    AnswerOutput,
    CheckOutput,
    EngineStatus,
    ExplainOutput,
    GcOutput,
    IndexOutput,
    PassageOutput,
    RemoveOutput,
    Result,
    RunOutput,
    SearchOutput,
    SourcesOutput,
    StatusOutput,
    VerifyOutput,
)
from colbert_mcp.sharing.rendezvous import Endpoint
from colbert_mcp.sharing.wire import (
    ERROR_META,
    WATCH_TOOL,
    BrokenCallError,
    Caller,
    NotSentError,
    RefusedCallError,
    SilentCallError,
)
from colbert_mcp.types import IndexingProgress, Mode, ProgressCallback

_POLL_SECONDS = 0.5
_LISTED = 50
_PAUSES = (0.0, 0.1, 0.5, 2.0)  # before another try, where no engine was reached
R = TypeVar("R", bound=Result)


class RemoteEngine:
    """Calls the engine that ``locate`` finds, anew for each call; ``locate`` may start one, or raise StoreError."""

    def __init__(self, locate: Callable[[], Endpoint], config: Config) -> None:
        self._locate = locate
        self._config = config
        self._caller = Caller()
        self._compared: tuple[Endpoint, str | None] | None = None
        self._comparing = threading.Lock()

    def close(self) -> None:
        """Let the engine go; what it is doing goes on."""
        self._caller.close()

    def warm_up(self) -> None:
        """Find the engine, or start it; it loads its model by itself."""
        self._endpoint()

    def index_path(
        self,
        path: str | os.PathLike[str],
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        *,
        wait_seconds: float | None = None,
        progress: ProgressCallback | None = None,
        list_skipped: int = _LISTED,
        verify: bool = False,
        dry_run: bool = False,
        scope: Sequence[bytes] = (),
    ) -> IndexOutput:
        """See ``Engine.index_path``. The run belongs to the engine: it goes on if this process ends."""
        start: dict[str, object] = {
            "path": _sent(path),
            "include": None if include is None else list(include),
            "exclude": None if exclude is None else list(exclude),
            "verify": verify,
            "dry_run": dry_run,
            "list_skipped": list_skipped,
        }
        output = self._write("index_in", start, IndexOutput, scope)
        if dry_run or (wait_seconds == 0 and progress is None):
            return output
        return self._wait(path, wait_seconds, progress, list_skipped, scope)

    def wait_for_run(
        self, path: str | os.PathLike[str], wait_seconds: float | None, *, scope: Sequence[bytes] = ()
    ) -> IndexOutput:
        """See ``Engine.wait_for_run``."""
        return self._wait(path, wait_seconds, None, _LISTED, scope)

    def cancel(self, path: str | os.PathLike[str], *, scope: Sequence[bytes] = ()) -> None:
        """See ``Engine.cancel``."""
        self._write("cancel_run", {"path": _sent(path)}, EngineStatus, scope)

    def search(
        self,
        query: str,
        *,
        limit: int = 5,
        path: str | Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        mode: Mode = "hybrid",
        max_tokens: int = 6000,
        explain: bool = False,
        scope: Sequence[bytes] = (),
    ) -> SearchOutput:
        """See ``Engine.search``."""
        arguments: dict[str, object] = {
            "query": query,
            "limit": limit,
            "types": None if types is None else list(types),
            "mode": mode,
            "max_tokens": max_tokens,
            "explain": explain,
        }
        if path is None or isinstance(path, str):
            return self._read("search", {**arguments, "path": path}, SearchOutput, scope)
        return self._read("search_in", {**arguments, "paths": list(path)}, SearchOutput, scope)

    def get_passage(
        self, passage_id: str, before: int = 1, after: int = 1, *, scope: Sequence[bytes] = ()
    ) -> PassageOutput:
        """See ``Engine.get_passage``."""
        arguments: dict[str, object] = {"id": passage_id, "before": before, "after": after}
        return self._read("get_passage", arguments, PassageOutput, scope)

    def explain(self, query: str, passage_id: str, *, scope: Sequence[bytes] = ()) -> ExplainOutput:
        """See ``Engine.explain``."""
        return self._read("explain", {"query": query, "id": passage_id}, ExplainOutput, scope)

    def verify_quote(
        self,
        quote: str,
        passage_id: str | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        scope: Sequence[bytes] = (),
    ) -> VerifyOutput:
        """See ``Engine.verify_quote``; a relative path means the caller's working directory, then any indexed root."""
        named = None if path is None else os.fspath(path)
        arguments: dict[str, object] = {"quote": quote, "passage_id": passage_id, "path": named}
        if named and not named.lower().startswith("file:"):
            with suppress(PassageNotFoundError, UnreadableDocumentError):
                here = {**arguments, "path": _sent(named)}
                return self._read("verify_quote", here, VerifyOutput, scope)
        return self._read("verify_quote", arguments, VerifyOutput, scope)

    def verify_answer(self, answer: str, *, scope: Sequence[bytes] = ()) -> AnswerOutput:
        """See ``Engine.verify_answer``: each quotation is one call."""
        return check_answer(answer, lambda quote, **target: self.verify_quote(quote, **target, scope=scope))

    def list_sources(self, path: str | None = None, *, limit: int = 100, scope: Sequence[bytes] = ()) -> SourcesOutput:
        """See ``Engine.list_sources``."""
        arguments: dict[str, object] = {"path": None if path is None else _sent(path), "limit": limit}
        return self._read("list_sources", arguments, SourcesOutput, scope)

    def remove_path(self, path: str | os.PathLike[str], *, scope: Sequence[bytes] = ()) -> RemoveOutput:
        """See ``Engine.remove_path``."""
        return self._write("remove_path", {"path": _sent(path)}, RemoveOutput, scope)

    def gc(self, former_days: int | None = None, *, scope: Sequence[bytes] = ()) -> GcOutput:
        """See ``Engine.gc``."""
        return self._write("gc", {"former_days": former_days}, GcOutput, scope)

    def check(
        self,
        *,
        read_data: bool = False,
        repair: bool = False,
        step: Callable[[str], None] | None = None,
        scope: Sequence[bytes] = (),
    ) -> CheckOutput:
        """See ``Engine.check``; ``step`` is told nothing."""
        return self._write("check", {"read_data": read_data, "repair": repair}, CheckOutput, scope)

    def index_status(self, *, scope: Sequence[bytes] = ()) -> StatusOutput:
        """See ``Engine.index_status``."""
        return self._read("index_status", {}, StatusOutput, scope)

    def _wait(
        self,
        path: str | os.PathLike[str],
        wait_seconds: float | None,
        progress: ProgressCallback | None,
        list_skipped: int,
        scope: Sequence[bytes],
    ) -> IndexOutput:
        """Ask again and again, so that progress is told, and an engine that went away is noticed."""
        arguments: dict[str, object] = {"path": _sent(path), "list_skipped": list_skipped}
        deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
        while True:
            left = _POLL_SECONDS if deadline is None else min(_POLL_SECONDS, deadline - time.monotonic())
            run = self._write("wait_for_run", {**arguments, "wait_seconds": max(left, 0.0)}, RunOutput, scope)
            output = run.output
            if progress is not None:
                counters = (output.files_done, output.files_total, output.chunks, output.tokens)
                progress(IndexingProgress(*counters, run.bytes_done, run.bytes_total))
            if output.state != "running" or (deadline is not None and not time.monotonic() < deadline):
                return output

    def _read(self, tool: str, arguments: dict[str, object], kind: type[R], scope: Sequence[bytes] = ()) -> R:
        try:
            return self._call(tool, arguments, kind, scope)
        except BrokenCallError:
            return self._write(tool, arguments, kind, scope)

    def _write(self, tool: str, arguments: dict[str, object], kind: type[R], scope: Sequence[bytes] = ()) -> R:
        try:
            return self._call(tool, arguments, kind, scope)
        except BrokenCallError:
            asked = "index_path" if tool == "wait_for_run" else tool
            raise StoreError(
                f"The engine of {self._config.index_path} ended in the middle of {asked}. What was committed is kept: "
                "call again, and an indexing run goes on where it stopped. If it ends again, see the log that "
                "`colbert-mcp engine status` names."
            ) from None

    def _call(self, tool: str, arguments: dict[str, object], kind: type[R], scope: Sequence[bytes]) -> R:
        _check_text(arguments)
        for pause in _PAUSES:
            time.sleep(pause)
            endpoint, notice = self._endpoint()
            try:
                result = self._caller.call(endpoint, tool, arguments, scope)
            except NotSentError:
                continue
            except SilentCallError:
                break
            except RefusedCallError:
                raise StoreError(
                    f"The engine of {self._config.index_path} could not answer {tool}: what was sent may be too large, "
                    "or see its log, which `colbert-mcp engine status` names."
                ) from None
            return _parsed(result, kind, notice, self._config)
        raise StoreError(
            f"The engine of {self._config.index_path} (process {endpoint.pid}) does not answer. End it with: "
            "colbert-mcp engine stop"
        )

    def _endpoint(self) -> tuple[Endpoint, str | None]:
        """The engine to call, and what to tell of the settings it was started with."""
        endpoint = self._locate()
        with self._comparing:
            if self._compared is None or self._compared[0] != endpoint:
                notice = settings_notice(self._config, endpoint)
                self._ask_to_watch(endpoint)
                self._compared = endpoint, notice
            return self._compared

    def _ask_to_watch(self, endpoint: Endpoint) -> None:
        """Where watching is wanted, ask it of an engine that was started without; it does as long as it lives."""
        if self._config.server.watch and not endpoint.config.get("server", {}).get("watch"):
            # The call that is to be made meets the same trouble, and tells it.
            with suppress(NotSentError, BrokenCallError, RefusedCallError, SilentCallError):
                self._caller.call(endpoint, WATCH_TOOL, {})


def settings_notice(config: Config, endpoint: Endpoint) -> str | None:
    """What differs between these settings and those that the engine was started with, which it keeps.

    Raises IndexMismatchError where it is the model, and ConfigError where it is what may be indexed.
    """
    own = config.model_dump(mode="json")
    stop = "Use the same settings, or stop the engine with: colbert-mcp engine stop"
    different = {
        f"{section}.{key}"
        for section in own.keys() - {"server"}
        for key, value in own[section].items()
        if endpoint.config.get(section, {}).get(key) != value
    }
    different.discard("index.path")
    if different & {"model.name", "model.revision", "model.document_length"}:
        theirs = endpoint.config.get("model", {}).get("name")
        raise IndexMismatchError(
            f"The engine of {config.index_path} runs with the model {theirs} and other settings of it than "
            f"{config.model.name}. {stop}"
        )
    if "index.roots" in different:
        raise ConfigError(f"The engine of {config.index_path} runs with other [index] roots. {stop}")
    if different:
        return f"The engine was started with other settings ({', '.join(sorted(different))}) and keeps them. {stop}"
    return None


def _parsed(result: CallToolResult, kind: type[R], notice: str | None, config: Config) -> R:
    if result.is_error:
        text = config.for_index("\n".join(block.text for block in result.content if isinstance(block, TextContent)))
        name = (result.meta or {}).get(ERROR_META)
        raise error_named(name, text) if isinstance(name, str) else ColbertMCPError(text)
    output = kind.model_validate(result.structured_content)
    return _noticed(output, notice)


def _noticed(output: R, notice: str | None) -> R:
    if isinstance(output, RunOutput):
        return output.model_copy(update={"output": _noticed(output.output, notice)})
    if notice is None or "notice" not in type(output).model_fields:
        return output
    present: Any = getattr(output, "notice", None)
    return output.model_copy(update={"notice": f"{present} {notice}" if present else notice})


def _check_text(arguments: dict[str, object]) -> None:
    try:
        json.dumps(arguments, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise QueryError("The text holds half a character (a lone surrogate); give it in UTF-8.") from None


def _sent(path: str | os.PathLike[str]) -> str:
    """A path as it is sent: absolute, and as a ``file:`` URL where its bytes are no text."""
    try:
        if not str(path):
            raise ValueError("it is empty")
        absolute = os.path.abspath(Path(path).expanduser())  # noqa: PTH100  # links are the engine's to resolve
    except (ValueError, RuntimeError) as error:
        raise UnreadableDocumentError(f"{ascii(str(path))[:200]} is not a path: {error}.") from None
    try:
        absolute.encode("utf-8")
    except UnicodeEncodeError:
        return Path(absolute).as_uri()
    return absolute
