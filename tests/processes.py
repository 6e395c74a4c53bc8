"""Real processes for tests: engines with the fake encoder, and ``serve``."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from colbert_mcp.errors import ColbertMCPError
from colbert_mcp.results import (
    IndexOutput,
    PassageOutput,
    RemoveOutput,
    Result,
    SearchOutput,
    SourcesOutput,
    VerifyOutput,
)
from colbert_mcp.sharing.rendezvous import Endpoint, Rendezvous
from colbert_mcp.types import Mode

PROGRAMS = Path(__file__).parent / "programs"
ENGINE = (sys.executable, str(PROGRAMS / "engine.py"))
R = TypeVar("R", bound=Result)
CLIENT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}


def kill(endpoint: Endpoint, rendezvous: Rendezvous) -> None:
    os.kill(endpoint.pid, signal.SIGKILL)
    with rendezvous.engine_lock().acquire(timeout=30):
        pass


class Served:
    """A ``serve`` process, spoken to by hand."""

    def __init__(
        self, index: Path, *roots: Path, gate: Path | None = None, command: Sequence[str] | None = None
    ) -> None:
        serve = command or [sys.executable, PROGRAMS / "serve.py", index, gate or "", *roots]
        self.process = subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.messages: list[dict[str, Any]] = []
        self._number = 0

    def __enter__(self) -> "Served":
        self.request("initialize", CLIENT)
        self.answer()
        self.send({"method": "notifications/initialized"})
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def request(self, method: str, params: dict[str, Any]) -> int:
        self._number += 1
        self.send({"id": self._number, "method": method, "params": params})
        return self._number

    def answer(self) -> dict[str, Any]:
        """The next answer; notifications before it are kept in ``messages``."""
        assert self.process.stdout is not None
        while "id" not in (message := json.loads(self.process.stdout.readline())):
            self.messages.append(message)
        answer: dict[str, Any] = message["result"]
        return answer

    def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        self.request("tools/call", {"name": tool, "arguments": arguments})
        return self.answer()


class ServedIndex:
    """``serve``, with those methods of ``Index`` that are used here."""

    def __init__(self, index: str) -> None:
        self._served = Served(Path(index)).__enter__()

    def close(self) -> None:
        self._served.process.communicate(timeout=60)

    def index_path(self, path: Path, *, dry_run: bool = False) -> IndexOutput:
        return self._call("index_path", IndexOutput, path=str(path), wait_seconds=600, dry_run=dry_run)

    def search(self, query: str, *, limit: int, path: str | None, mode: Mode, max_tokens: int) -> SearchOutput:
        return self._call("search", SearchOutput, query=query, limit=limit, path=path, mode=mode, max_tokens=max_tokens)

    def get_passage(self, passage_id: str) -> PassageOutput:
        return self._call("get_passage", PassageOutput, id=passage_id)

    def verify_quote(self, quote: str, passage_id: str | None = None, path: Path | None = None) -> VerifyOutput:
        named = None if path is None else str(path)
        return self._call("verify_quote", VerifyOutput, quote=quote, passage_id=passage_id, path=named)

    def list_sources(self, path: str, *, limit: int) -> SourcesOutput:
        return self._call("list_sources", SourcesOutput, path=path, limit=limit)

    def remove_path(self, path: Path) -> RemoveOutput:
        return self._call("remove_path", RemoveOutput, path=str(path))

    def _call(self, tool: str, kind: type[R], **arguments: object) -> R:
        answer = self._served.call(tool, **arguments)
        if answer.get("isError"):
            raise ColbertMCPError(answer["content"][0]["text"])
        return kind.model_validate(answer["structuredContent"])
