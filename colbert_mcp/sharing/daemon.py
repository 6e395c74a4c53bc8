"""The engine process: owns one index under its lock, serves it on 127.0.0.1, and leaves when nobody calls.

Started by ``launch`` with the index directory as its argument and the settings as JSON on standard input. Its first and
only line on standard output says that it can be called, or why not. Knows nothing of who started it: it outlives them.
"""

import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import anyio
import anyio.to_thread
import uvicorn
from filelock import Timeout

from colbert_mcp.config import Config
from colbert_mcp.encoder import Encoder
from colbert_mcp.engine import Engine
from colbert_mcp.errors import ColbertMCPError, IndexLockedError
from colbert_mcp.sharing.hosting import Attendance, Host, new_endpoint
from colbert_mcp.sharing.rendezvous import Endpoint, Rendezvous
from colbert_mcp.store.failures import store_error

_LOCK_SECONDS = 5.0  # clients hold the lock for moments, to see whether there is an engine
_GRACE_SECONDS = 2
_THREADS = 200  # calls wait in threads: for the model, for a run
_CHECK_SECONDS = 5.0
_log = logging.getLogger("colbert_mcp.sharing.daemon")


def main(encoder: Encoder | None = None) -> None:
    """Run an engine as this process; ``encoder`` replaces the configured model. Does not return."""
    config = Config.model_validate_json(sys.stdin.buffer.read())
    sys.argv = ["colbert-mcp", "engine"]  # what others are told of who holds the index
    level = config.server.log_level
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _log.setLevel(min(logging.INFO, logging.getLevelName(level)))
    report = _Report()
    code = 0
    try:
        run(config, encoder, ready=report.ready)
    except ColbertMCPError as error:
        report.failed(error)
        code = error.exit_code
    except OSError as error:
        told = store_error(error, config.index_path)
        report.failed(told)
        code = told.exit_code
    except Exception:  # noqa: BLE001  # told in the log, the only place that is left
        _log.exception("The engine failed")
        code = 1
    # The index is closed by now; taking torch apart would take seconds.
    os._exit(code)


def run(
    config: Config,
    encoder: Encoder | None = None,
    *,
    ready: Callable[[Endpoint], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    check_seconds: float = _CHECK_SECONDS,
) -> None:
    """Own the configured index and serve it until told to stop or idle; ``ready`` is called when it can be called.

    Raises IndexLockedError where another process owns the index, or what else keeps it from being opened.
    """
    rendezvous = Rendezvous(config.index_path)
    rendezvous.make()
    with _only_engine(rendezvous):
        rendezvous.withdraw()  # what a killed engine left
        engine = Engine.open(config, create_missing=True, encoder=encoder)
        try:
            if config.server.watch:
                engine.watch()
            with socket.socket() as listening:
                listening.bind(("127.0.0.1", 0))
                endpoint = new_endpoint(listening.getsockname()[1], secrets.token_urlsafe(32), config)
                server = _Server(rendezvous, endpoint)
                host = Host(engine, config, endpoint, Attendance(clock), server.leave)
                _log.info("Process %d serves %s on port %d", endpoint.pid, rendezvous.index, endpoint.port)
                threading.Thread(target=_warm_up, args=(engine,), name="warm-up", daemon=True).start()
                anyio.run(server.serve_until_left, host, listening, lambda: ready(endpoint), check_seconds)
        finally:
            engine.close()
            _log.info("Process %d has closed %s", os.getpid(), rendezvous.index)


class _Report:
    """The one line on standard output, which is closed after it: whoever started the engine waits for it."""

    def ready(self, endpoint: Endpoint) -> None:
        self._tell({"ready": endpoint.pid})

    def failed(self, error: ColbertMCPError) -> None:
        _log.error("%s", error)
        self._tell({"error": type(error).__name__, "message": str(error)})

    def _tell(self, line: dict[str, object]) -> None:
        with suppress(OSError, ValueError):  # nobody may be waiting any more
            os.write(1, json.dumps(line).encode() + b"\n")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


class _Http(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # uvicorn would end the process with a signal before the index is closed


class _Server:
    """The HTTP server of an engine and what ends it."""

    def __init__(self, rendezvous: Rendezvous, endpoint: Endpoint) -> None:
        self._rendezvous = rendezvous
        self._endpoint = endpoint
        self._http: _Http | None = None

    def leave(self) -> None:
        """Be found by no new client, answer what is under way, and end."""
        self._rendezvous.withdraw(self._endpoint)
        if self._http is not None:
            self._http.should_exit = True

    async def serve_until_left(
        self, host: Host, listening: socket.socket, ready: Callable[[], None], check_seconds: float
    ) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        settings = uvicorn.Config(
            host.app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="on",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._http = _Http(settings)
        with _signals(self.leave):
            listening.listen(128)
            self._rendezvous.publish(self._endpoint)  # before the group, which would wrap what a full disk says
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, host, check_seconds)
                ready()
                try:
                    await self._http.serve([listening])
                finally:
                    self._rendezvous.withdraw(self._endpoint)
                    group.cancel_scope.cancel()

    async def _watch(self, host: Host, check_seconds: float) -> None:
        while True:
            await anyio.sleep(check_seconds)
            if host.is_idle():
                _log.info("Nobody has called for long; leaving")
                self.leave()
            elif not self._rendezvous.published(self._endpoint):
                _log.warning("The index directory is gone, or another engine's; leaving")
                self.leave()


@contextmanager
def _signals(leave: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT end the engine cleanly, a second one at once; not in a thread, where there are no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        leave()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _only_engine(rendezvous: Rendezvous) -> Iterator[None]:
    lock = rendezvous.engine_lock()
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        raise IndexLockedError(f"{rendezvous.index} has an engine already.") from None
    try:
        yield
    finally:
        lock.release()


def _warm_up(engine: Engine) -> None:
    try:
        engine.warm_up()
    except ColbertMCPError as error:  # told again by the call that needs the model
        _log.warning("%s", error)
