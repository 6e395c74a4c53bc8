"""One tool call to a running engine: plain MCP over streamable HTTP on 127.0.0.1, and what became of it.

What travels beside a call's arguments are three headers: the secret, who calls (to count clients), and the roots that
limit the call, percent-encoded in the file system's own bytes. Knows nothing of indexes nor of what the tools do.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult

from colbert_mcp.sharing.rendezvous import Endpoint

CLIENT_HEADER = "x-colbert-mcp-client"
ROOTS_HEADER = "x-colbert-mcp-roots"
ERROR_META = "colbert-mcp/error"  # the key of a failed result's _meta that holds the class of the error
STATUS_TOOL = "engine_status"  # what an engine answers at once, however busy it is
WATCH_TOOL = "watch_roots"
PATIENCE_SECONDS = 10.0  # then it is asked whether it answers at all
PROBE_SECONDS = 30.0  # a machine may be so busy that even this takes its time
_PROTOCOL = "2026-07-28"
_UNAUTHORIZED = 401


class NotSentError(Exception):
    """The call has not reached an engine, so nothing was done."""


class BrokenCallError(Exception):
    """The engine went away before it answered: whether the call was carried out is unknown."""


class RefusedCallError(Exception):
    """The engine answered, but not with a tool's result: the call is too large, say, or the engine is at fault."""


class SilentCallError(Exception):
    """The engine does not answer: it hangs or was stopped. Whether the call will be carried out is unknown."""


class Caller:
    """Calls engines from any thread, also from one that runs an event loop; a call blocks until it is answered.

    Every call is one request with a connection of its own, so nothing is left of an engine that went away. A call may
    take as long as it needs while its engine says how it is when it is asked on the side; an engine that does not is
    waited for no longer.
    """

    def __init__(self) -> None:
        self._loop: AbstractContextManager[BlockingPortal] = start_blocking_portal(name="engine-calls")
        self._portal = self._loop.__enter__()

    def close(self) -> None:
        """End the thread that makes the calls; what is under way is answered first."""
        self._loop.__exit__(None, None, None)

    def call(
        self,
        endpoint: Endpoint,
        tool: str,
        arguments: dict[str, object],
        roots: Sequence[bytes] = (),
        *,
        seconds: float | None = None,
    ) -> CallToolResult:
        """The tool's result, which may be an error of the tool; with ``seconds``, within so long. Raises one of the
        errors above.
        """
        headers = {"authorization": f"Bearer {endpoint.secret}", CLIENT_HEADER: str(os.getpid())}
        if roots:
            headers[ROOTS_HEADER] = encode_roots(roots)
        future = self._portal.start_task_soon(_call, endpoint.url, headers, tool, arguments)
        try:
            while True:
                try:
                    return future.result(PATIENCE_SECONDS if seconds is None else seconds)
                except TimeoutError:  # nothing else is raised as this
                    if seconds is not None:
                        raise SilentCallError(tool) from None
                    self._probe(endpoint)
        except BaseException:
            future.cancel()
            raise

    def _probe(self, endpoint: Endpoint) -> None:
        """Raise SilentCallError unless the engine says how it is; what else is wrong, the call itself will tell."""
        with suppress(NotSentError, BrokenCallError, RefusedCallError):
            self.call(endpoint, STATUS_TOOL, {}, seconds=PROBE_SECONDS)


def encode_roots(roots: Sequence[bytes]) -> str:
    """Real paths as the value of a header."""
    return ",".join(quote_from_bytes(root) for root in roots)


def decode_roots(value: str) -> tuple[bytes, ...]:
    """The real paths of a header's value. Raises ValueError for an empty one, below which everything would lie."""
    roots = tuple(unquote_to_bytes(root) for root in value.split(",")) if value else ()
    if not all(roots):
        raise ValueError("a root is empty")
    return roots


class _Transport(httpx2.AsyncHTTPTransport):
    """Takes note of how a request failed, and answers in the engine's place, since the SDK tells failures as one."""

    failure: type[Exception] | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await super().handle_async_request(request)
            await response.aread()  # the engine answers in JSON, so this ends with the answer
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            self.failure = NotSentError
        except httpx2.TransportError:
            self.failure = BrokenCallError
        else:
            if response.status_code == _UNAUTHORIZED:
                self.failure = NotSentError
            return response
        return httpx2.Response(502, request=request)


async def _call(url: str, headers: dict[str, str], tool: str, arguments: dict[str, object]) -> CallToolResult:
    transport = _Transport(verify=False, limits=httpx2.Limits(max_keepalive_connections=0))  # plain HTTP
    timeout = httpx2.Timeout(None, connect=10)
    http = httpx2.AsyncClient(transport=transport, headers=headers, timeout=timeout, trust_env=False)
    try:
        async with http, Client(streamable_http_client(url, http_client=http), mode=_PROTOCOL) as client:
            # Not Client.call_tool, which would fetch the tool list to validate what we validate ourselves.
            return await client.session.send_request(
                CallToolRequest(params=CallToolRequestParams(name=tool, arguments=dict[str, Any](arguments))),
                CallToolResult,
            )
    except Exception as error:
        if transport.failure is not None:
            raise transport.failure(tool) from error
        raise RefusedCallError(tool) from error
