"""Real processes for tests: engines with the fake encoder, and ``serve``."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from colbert_mcp.rendezvous import Endpoint, Rendezvous

PROGRAMS = Path(__file__).parent / "programs"
ENGINE = (sys.executable, str(PROGRAMS / "engine.py"))
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
