"""The outermost layer: answers the kubelet, and lets nobody to Datasette without a token. Bounds size, time and number."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

import msgspec

from agent.sqlite.access import Access

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 16 * 2**20
BODY_SECONDS = 30.0
LOGIN_BODY_BYTES = 16 * 2**10
DISCARDED_BYTES = 4 * MAX_BODY_BYTES  # read on that far: a client that still sends would not see the answer
MAX_REQUESTS = 64  # at once; what is more is told to come again
ACTOR = "database.actor"
LIVE, READY, LOGIN, STATIC = b"/-/livez", b"/-/healthz", b"/-/login", b"/-/static/"


class BodyTooLarge(Exception):
    """The message says what there may be."""


def replayed(body: bytes, receive: Receive) -> Receive:
    """``receive`` for an application that is given ``body`` at once; then it waits for the client to leave."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def respond(send: Send, status: int, content: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """``content`` as JSON."""
    body = msgspec.json.encode(content)
    fixed = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


def cookies_of(headers: dict[bytes, bytes]) -> dict[str, str]:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


class Gate:
    """``ready`` raises where the database does not answer."""

    def __init__(self, app: App, access: Access, ready: Callable[[], Awaitable[None]]) -> None:
        self._app = app
        self._access = access
        self._ready = ready
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = bytes(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]  # undecoded, as Datasette routes
        if path == LIVE:
            await respond(send, 200, {"live": True})
            return
        if path == READY:
            await self._readiness(send)
            return
        headers = {name.lower(): value for name, value in scope.get("headers", ())}
        allowed = self._access.allows(headers, cookies_of(headers))
        if not allowed and path != LOGIN and not path.startswith(STATIC):
            await self._refuse(path, headers, send)
            return
        if self._running >= MAX_REQUESTS:
            await respond(send, 503, {"error": "too many requests at once"}, ((b"retry-after", b"1"),))
            return
        self._running += 1
        try:
            body = await self._body(scope, receive, MAX_BODY_BYTES if allowed else LOGIN_BODY_BYTES)
            await self._app({**scope, ACTOR: {"id": "token"} if allowed else None}, replayed(body, receive), send)
        except BodyTooLarge as error:
            await respond(send, 413, {"error": str(error)}, ((b"connection", b"close"),))
        except TimeoutError:
            await respond(send, 408, {"error": f"the request did not arrive in {BODY_SECONDS:.0f} s"}, ((b"connection", b"close"),))
        finally:
            self._running -= 1

    async def _readiness(self, send: Send) -> None:
        try:
            await self._ready()
        except Exception as error:  # noqa: BLE001  whatever keeps the database from answering is what the kubelet must know
            await respond(send, 503, {"ready": False, "error": type(error).__name__})
        else:
            await respond(send, 200, {"ready": True})

    async def _refuse(self, path: bytes, headers: dict[bytes, bytes], send: Send) -> None:
        """A person is led to the login form, a program is told what to send."""
        if b"text/html" in headers.get(b"accept", b"") and b"authorization" not in headers:
            await send({"type": "http.response.start", "status": 302, "headers": [(b"location", LOGIN), (b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await respond(send, 401, {"error": "the token is missing or wrong"}, ((b"www-authenticate", b"Bearer"),))

    async def _body(self, scope: Scope, receive: Receive, limit: int) -> bytes:
        """The whole request, read before Datasette sees it: there, what is raised becomes an error page."""
        if scope["method"] in ("GET", "HEAD"):
            return b""
        body = bytearray()
        size = 0
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                size += len(message.get("body", b""))
                if size <= limit:
                    body += message.get("body", b"")
                elif size > DISCARDED_BYTES:
                    break
                if message["type"] != "http.request" or not message.get("more_body", False):
                    break
        if size > limit:
            raise BodyTooLarge(f"a request may have {limit} bytes")
        return bytes(body)
