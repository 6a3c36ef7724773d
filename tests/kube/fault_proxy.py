"""A proxy before a real API server that answers some requests itself, wrongly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Literal

import aiohttp
from aiohttp import web

from database_operator.kube.auth import Connection

Fault = int | Literal["cut", "late cut"] | None
"""A status to answer with, ``cut``: close the connection unread, ``late cut``: pass it on but lose the answer."""


class FaultProxy:
    """``fault`` is asked for each request, by method (WATCH and LIST apart from GET) and path."""

    def __init__(self, connection: Connection) -> None:
        self.fault: Callable[[str, str], Fault] = lambda method, path: None
        self.seen: list[tuple[str, str]] = []
        self.connection: Connection
        self._upstream = connection
        self._watches: set[asyncio.Transport] = set()

    def count(self, method: str) -> int:
        return sum(1 for seen, _ in self.seen if seen == method)

    def cut_watches(self) -> None:
        """Reset the connections of all watches, without a last word."""
        for transport in self._watches:
            transport.abort()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["FaultProxy"]:
        app = web.Application(client_max_size=2**22)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.connection = Connection(f"http://127.0.0.1:{runner.addresses[0][1]}", lambda: None)
        connector = aiohttp.TCPConnector(limit=0, ssl=self._upstream.ssl_context or True)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            try:
                yield self
            finally:
                self.cut_watches()
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch = "watch=1" in request.query_string
        method = "WATCH" if watch else "LIST" if "limit=" in request.query_string else request.method
        self.seen.append((method, request.path_qs))
        fault = self.fault(method, request.path_qs)
        body = await request.read()
        if fault == "cut":
            return _abort(request)
        if isinstance(fault, int):
            headers = {"Retry-After": "1"} if fault in (429, 503) else {}
            return web.json_response({"kind": "Status", "code": fault, "message": "storm"}, status=fault, headers=headers)
        headers = {"Content-Type": request.headers.get("Content-Type", ""), "Accept": request.headers["Accept"]}
        headers |= await self._upstream.headers()
        try:
            async with self._session.request(
                request.method, self._upstream.server + request.path_qs, data=body or None, headers=headers
            ) as answer:
                if fault == "late cut":
                    await answer.read()
                    return _abort(request)
                return await self._pass(request, answer, watch)
        except aiohttp.ClientError:
            return _abort(request)

    async def _pass(self, request: web.Request, answer: aiohttp.ClientResponse, watch: bool) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.headers.get("Content-Type", "")})
        await response.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        if watch:
            self._watches.add(transport)
        try:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
        finally:
            self._watches.discard(transport)
        return response


def _abort(request: web.Request) -> web.Response:
    assert isinstance(request.transport, asyncio.Transport)
    request.transport.abort()
    return web.Response()
