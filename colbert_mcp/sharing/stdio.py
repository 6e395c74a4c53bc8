"""``serve``: the server on standard input and output, as a process, and everything that ends it.

It is light: the engine, in a process of its own, holds the index and the model, and is found or started after the first
answer. The process ends within about a second at the end of its input, on SIGINT and SIGTERM, and when its parent is
gone, which some clients forget to tell. Knows nothing of the tools.
"""

import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

from colbert_mcp.attach import Attachment, EngineAttachment
from colbert_mcp.config import Config
from colbert_mcp.server import build_server

_CLOSING_SECONDS = 0.8
_WATCH_SECONDS = 0.3


def serve(config: Config, roots: list[str], *, standalone: bool = False, command: Sequence[str] | None = None) -> None:
    """Serve MCP on stdin and stdout until stdin closes; ``roots`` limits indexing and search. Does not return.

    ``standalone`` keeps the index and the model in this process; ``command`` is what runs an engine otherwise.
    """
    logging.basicConfig(level=config.server.log_level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    alone = standalone or _is_read_only(config)
    attachment = Attachment(config, roots) if alone else EngineAttachment(config, roots, command)
    process = _Process(attachment)
    process.watch()
    build_server(attachment).run()
    process.leave(0)
    threading.Event().wait()  # the threads that close the index end the process


class _Process:
    """Ends this process soon: clients kill a server that lingers, and a kill harms no commit."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._parent = os.getppid()

    def watch(self) -> None:
        """From now on, leave on signals, at the end of the input, and with the parent."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _: self.leave(128 + received))
        sys.stdin = io.TextIOWrapper(_Input(self._begin_to_leave), encoding="utf-8")
        threading.Thread(target=self._watch_parent, name="parent-watch", daemon=True).start()

    def leave(self, code: int) -> None:
        """End the process, with the index closed if that is quick."""
        self._begin_to_leave(code)
        threading.Thread(target=self._close_and_leave, args=(code,), daemon=True).start()

    def _begin_to_leave(self, code: int = 0) -> None:
        """From now on calls are not cancelled but left, and nothing takes long: not a batch that is being encoded."""
        self._attachment.leaving.set()
        deadline = threading.Timer(_CLOSING_SECONDS, os._exit, [code])
        deadline.daemon = True
        deadline.start()

    def _close_and_leave(self, code: int) -> None:
        self._attachment.close()
        os._exit(code)

    def _watch_parent(self) -> None:
        while os.getppid() == self._parent:
            time.sleep(_WATCH_SECONDS)
        self.leave(0)


class _Input(io.BufferedReader):
    """Standard input, which says when it has ended before the server is told: then it cancels all calls.

    The server reads it in place; the descriptor itself gives nothing more, so that no child can read a message.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        super().__init__(io.FileIO(os.dup(0), closefd=False))
        self._ended = ended
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 0)

    def read1(self, size: int = -1, /) -> bytes:
        data = super().read1(size)
        if not data:
            self._ended()
        return data


def _is_read_only(config: Config) -> bool:
    """Whether the index can only be read, which needs no lock and so no engine."""
    return config.index_path.exists() and not os.access(config.index_path, os.W_OK)
