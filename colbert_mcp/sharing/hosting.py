"""An engine's HTTP endpoint: who may call it, what each caller is limited to, and what it serves beyond ``serve``.

It is the server of ``server.build_server`` with a few more tools, which the Python API and the command line call. Each
request is on its own: its roots limit it, and a caller that goes away stops nothing. Knows nothing of processes.
"""

import hmac
import os
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from colbert_mcp import __version__
from colbert_mcp.attach import Attachment, Index
from colbert_mcp.config import Config
from colbert_mcp.documents import in_scope, real_path
from colbert_mcp.engine import Engine
from colbert_mcp.errors import PathNotAllowedError
from colbert_mcp.results import CheckOutput, EngineStatus, ExplainOutput, GcOutput, IndexOutput, RunOutput, SearchOutput
from colbert_mcp.server import READS, WRITES, add_tool, answer, build_server, local_path, quick_answer
from colbert_mcp.sharing.rendezvous import Endpoint, Rendezvous
from colbert_mcp.sharing.wire import CLIENT_HEADER, ROOTS_HEADER, STATUS_TOOL, WATCH_TOOL, decode_roots
from colbert_mcp.types import Mode

_MAX_BODY_BYTES = 16_000_000
_UNCOUNTED = {STATUS_TOOL, WATCH_TOOL}
_ROOTS: ContextVar[tuple[bytes, ...]] = ContextVar("roots", default=())


class Attendance:
    """Who calls, and since when nobody has; ``clock`` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = self._last = clock()
        self._calls = 0
        self._clients: set[str] = set()

    def begin(self, client: str | None) -> None:
        """A call begins; ``client`` is the caller's process id."""
        self._calls += 1
        if client:
            self._clients.add(client)

    def end(self) -> None:
        """A call ends."""
        self._calls -= 1
        self._last = self._clock()

    def idle_seconds(self, *, busy: bool) -> float:
        """Seconds since the last call ended, or since the engine was last found ``busy``; 0 while there is a call."""
        if busy or self._calls:
            self._last = self._clock()
        return self._clock() - self._last

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the engine was started."""
        return self._clock() - self._started

    def clients(self) -> int:
        """How many processes have called and still live."""
        self._clients = {client for client in self._clients if _lives(client)}
        return len(self._clients)


def _lives(pid: str) -> bool:
    if not pid.isdecimal() or not 0 < int(pid) < 2**31:
        return False
    try:
        if os.name != "nt":  # there it would end the process
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class _Attachment(Attachment):
    """The engine's own index, limited to the roots of the request at hand."""

    def __init__(self, config: Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    def start(self) -> None:
        return

    def index(self) -> Index:
        return Index(self._engine, _ROOTS.get())

    def close(self) -> None:
        return


class Host:
    """What an engine serves: ``app`` is its ASGI application; ``leave`` is called when it is asked to end."""

    def __init__(
        self, engine: Engine, config: Config, endpoint: Endpoint, attendance: Attendance, leave: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._config = config
        self._endpoint = endpoint
        self._attendance = attendance
        self._leave = leave
        attachment = _Attachment(config, engine)
        server = build_server(attachment)
        server.middleware.append(self._attend)
        self._add_tools(server, attachment)
        self._add_upkeep_tools(server, attachment)
        self.app: ASGIApp = _Guarded(
            server.streamable_http_app(
                json_response=True,
                stateless_http=True,
                max_request_body_size=_MAX_BODY_BYTES,
                transport_security=TransportSecuritySettings(
                    allowed_hosts=[f"{name}:{endpoint.port}" for name in ("127.0.0.1", "localhost")], allowed_origins=[]
                ),
            ),
            endpoint.secret,
        )

    def is_idle(self) -> bool:
        """Whether nobody has called for so long that the engine should leave."""
        return self._attendance.idle_seconds(busy=self._engine.busy) > self._config.server.idle_minutes * 60

    async def _attend(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        headers = {} if ctx.request is None else ctx.request.headers
        token = _ROOTS.set(decode_roots(headers.get(ROOTS_HEADER, "")))
        counted = ctx.method == "tools/call" and (ctx.params or {}).get("name") not in _UNCOUNTED
        if counted:
            self._attendance.begin(headers.get(CLIENT_HEADER))
        try:
            return await call_next(ctx)
        finally:
            if counted:
                self._attendance.end()
            _ROOTS.reset(token)

    def _status(self) -> EngineStatus:
        rendezvous = Rendezvous(self._config.index_path)
        return EngineStatus(
            pid=self._endpoint.pid,
            port=self._endpoint.port,
            version=__version__,
            started=self._endpoint.started,
            uptime_seconds=round(self._attendance.uptime_seconds, 1),
            idle_seconds=round(self._attendance.idle_seconds(busy=self._engine.busy), 1),
            idle_minutes=self._config.server.idle_minutes,
            clients=self._attendance.clients(),
            model=self._config.model.name,
            model_loaded=self._engine.model_loaded,
            memory_bytes=_resident_bytes(),
            index=str(rendezvous.index),
            log=str(rendezvous.log),
        )

    def _add_tools(self, server: MCPServer[None], attachment: Attachment) -> None:
        """What the Python API and the command line call beyond what ``serve`` publishes."""

        @add_tool(server, "Search below several patterns", READS)
        async def search_in(
            query: str,
            paths: list[str],
            limit: int,
            types: list[str] | None,
            mode: Mode,
            max_tokens: int,
            explain: bool,
        ) -> Annotated[CallToolResult, SearchOutput]:
            """`search`, in files that match any of several patterns."""
            return await answer(
                lambda: attachment.index().search(
                    query, limit=limit, path=paths, types=types, mode=mode, max_tokens=max_tokens, explain=explain
                )
            )

        @add_tool(server, "Begin to index, or plan it", WRITES)
        async def index_in(
            path: str,
            include: list[str] | None,
            exclude: list[str] | None,
            verify: bool,
            dry_run: bool,
            list_skipped: int,
        ) -> Annotated[CallToolResult, IndexOutput]:
            """`index_path`, answered at once, or planned to the end."""
            return await answer(
                lambda: attachment.index().index_path(
                    _in_roots(path),
                    include,
                    exclude,
                    wait_seconds=0,
                    list_skipped=list_skipped,
                    verify=verify,
                    dry_run=dry_run,
                )
            )

        @add_tool(server, "Explain a passage", READS)
        async def explain(query: str, id: str) -> Annotated[CallToolResult, ExplainOutput]:  # noqa: A002
            """Say why a passage matches a query, token by token."""
            return await answer(lambda: attachment.index().explain(query, id))

        @add_tool(server, "Wait for an indexing run", READS)
        async def wait_for_run(
            path: str, wait_seconds: float, list_skipped: int
        ) -> Annotated[CallToolResult, RunOutput]:
            """Say how the latest run over a root stands after at most so many seconds."""
            return await answer(lambda: self._run(path, wait_seconds, list_skipped))

        @add_tool(server, "Cancel an indexing run", WRITES)
        async def cancel_run(path: str) -> Annotated[CallToolResult, EngineStatus]:
            """Stop the run over a root after the batch at hand; what was committed stays."""
            return await answer(lambda: self._cancelled(path))

        @add_tool(server, "Watch the indexed roots", WRITES)
        async def watch_roots() -> Annotated[CallToolResult, EngineStatus]:
            """Keep the indexed roots fresh as they change, as long as this engine lives."""
            return await answer(self._watching)

        @add_tool(server, "Show the engine", READS)
        async def engine_status() -> Annotated[CallToolResult, EngineStatus]:
            """Say what this engine is, who uses it, and what it takes."""
            # Also when every thread is taken: whoever waits for one asks this to see whether the engine lives.
            return await quick_answer(self._status)

        @add_tool(server, "End the engine", WRITES)
        async def stop_engine() -> Annotated[CallToolResult, EngineStatus]:
            """End this engine; a run stops after the batch at hand."""
            status = await quick_answer(self._status)
            self._leave()
            return status

    def _watching(self) -> EngineStatus:
        self._engine.watch()
        return self._status()

    def _add_upkeep_tools(self, server: MCPServer[None], attachment: Attachment) -> None:
        """What keeps an index sound and small."""

        @add_tool(server, "Verify the index", WRITES)
        async def check(read_data: bool, repair: bool) -> Annotated[CallToolResult, CheckOutput]:
            """Compare every part of the index with the others and with its sources; repair it if asked to."""
            return await answer(lambda: attachment.index().check(read_data=read_data, repair=repair))

        @add_tool(server, "Give back disk space", WRITES)
        async def gc(former_days: int | None) -> Annotated[CallToolResult, GcOutput]:
            """Delete what the index keeps without need, and write its files anew."""
            return await answer(lambda: attachment.index().gc(former_days))

    def _run(self, path: str, wait_seconds: float, list_skipped: int) -> RunOutput:
        named = _in_roots(path)
        output = self._engine.wait_for_run(named, wait_seconds, list_skipped)
        done, total = self._engine.run_bytes(named)
        return RunOutput(output=output, bytes_done=done, bytes_total=total)

    def _cancelled(self, path: str) -> EngineStatus:
        self._engine.cancel(_in_roots(path))
        return self._status()


def new_endpoint(port: int, secret: str, config: Config) -> Endpoint:
    """How clients find an engine of this process."""
    return Endpoint(
        pid=os.getpid(),
        port=port,
        secret=secret,
        version=__version__,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        config=config.model_dump(mode="json"),
    )


class _Guarded:
    """Refuses every request without the secret, before anything of it is looked at."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._expected = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._admits(scope.get("headers", ())):
            await self._app(scope, receive, send)
        else:
            refusal = PlainTextResponse("Unauthorized", status_code=401, headers={"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)

    def _admits(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


def _in_roots(path: str) -> str:
    named = local_path(path)
    if not in_scope(real_path(named), _ROOTS.get()):
        raise PathNotAllowedError(f"{path!a} is outside of what this client was started for (--root).")
    return named


def _resident_bytes() -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
