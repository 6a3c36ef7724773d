"""Calls to the API server.

One call is one request: no read-modify-write. Every call has a time-out, a place among a bounded number in flight
and an error class from ``errors``. Answers are decoded only as far as the caller's Struct names fields, since at
hundreds of writes a second parsing whole objects would cost more than sending them.
"""

import asyncio
import builtins
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from yarl import URL

from database_operator.kube import metrics
from database_operator.kube.auth import ConfigError, Connection
from database_operator.kube.errors import ApiError, NotFound, Unavailable, from_response
from database_operator.kube.limiter import Limiter
from database_operator.kube.objects import Meta, Object
from database_operator.kube.resources import Resource

FIELD_MANAGER = "database-operator"
PAGE = 500  # objects; what client-go's pager asks for
CONNECT_TIMEOUT = 10.0  # seconds, TLS included
REQUEST_TIMEOUT = 30.0  # seconds from the first byte sent to the last received
RETRIES = 5  # of a request the server turned away unread
MAX_PAUSE = 30.0  # seconds that a Retry-After is obeyed inside one call
KEEP_ALIVE = 60.0  # seconds; the API server closes an idle connection after 90

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
_JSON = "application/json"
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"

T = TypeVar("T")
Manifest = Mapping[str, Any]


Operations = list[Any]  # of a JSON patch


class Page(NamedTuple):
    """Part of a collection: undecoded objects, the collection's resourceVersion, and whether more pages follow."""

    items: list[msgspec.Raw]
    resource_version: str
    more: bool


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decoder(type: type[T]) -> msgspec.json.Decoder[T]:
    """The decoder of a type, made once."""
    found = _decoders.get(type)
    if found is None:
        found = _decoders[type] = msgspec.json.Decoder(type)
    return found


def _pause(error: ApiError, attempt: int) -> float | None:
    """Seconds until a request that was turned away unread is sent again; None if it was read, or is not to be sent again."""
    if error.status == 401 and attempt == 0:
        return 0.0  # the token may have been rotated, and is read anew
    if error.status != 429 and (error.status != 503 or error.retry_after is None):
        return None
    pause = error.retry_after if error.retry_after is not None else 0.1 * 2.0**attempt
    return pause if pause <= MAX_PAUSE else None


def _written(answer: bytes) -> Meta:
    """What of the answer to a write is of use."""
    return decoder(Object).decode(answer).metadata


def _always() -> bool:
    return True


class Client:
    """Requests over kept-alive HTTP/1.1 connections. To be used within one event loop; ``close`` it at the end.

    ``may_write`` is asked right before each write leaves: false turns it into Unavailable (reason ``NotLeader``).

    Reads take ``type``, the Struct (or ``dict``, or ``msgspec.Raw``) the answer is decoded into; an answer that does
    not fit raises ``msgspec.ValidationError``. Writes give the metadata of what was written. All raise the classes of
    ``errors``, of which TooManyRequests comes only after the server's Retry-After was obeyed several times.
    """

    def __init__(self, connection: Connection, *, user_agent: str, in_flight: int = 16, timeout: float = REQUEST_TIMEOUT) -> None:
        self.may_write: Callable[[], bool] = _always
        self.limiter = Limiter(in_flight)
        self._connection = connection
        self._user_agent = user_agent
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=CONNECT_TIMEOUT)
        self._host = urlsplit(connection.server).netloc
        self._counters: dict[tuple[int | str, str], Any] = {}
        self._opened: aiohttp.ClientSession | None = None

    def reserved(self, *, timeout: float, in_flight: int = 1) -> "Client":
        """A lane of its own to the same server, with its own connections, for what must not queue behind the rest."""
        return Client(self._connection, user_agent=self._user_agent, in_flight=in_flight, timeout=timeout)

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()
            await asyncio.sleep(0)  # aborted TLS connections are closed by the loop's next turn
            self._opened = None

    # reads

    async def get(self, resource: Resource, namespace: str | None, name: str, *, type: type[T]) -> T:
        """One object, live. Raises NotFound."""
        return decoder(type).decode(await self._call("GET", resource.path(namespace, name)))

    async def get_raw(self, path: str) -> bytes:
        """The body of any path, for instance ``/version``."""
        return await self._call("GET", path)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, type: type[T], label_selector: str = "", field_selector: str = ""
    ) -> "builtins.list[T]":
        """All objects of a collection, live, page by page."""
        query = selection(label_selector, field_selector)
        found: builtins.list[T] = []
        async for page in self.pages(resource, namespace, query=query):
            found.extend(decoder(type).decode(item) for item in page.items)
        return found

    async def pages(
        self, resource: Resource, namespace: str | None = None, *, query: str = "", metadata_only: bool = False, limit: int = PAGE
    ) -> AsyncIterator[Page]:
        """The pages of a collection, as one consistent snapshot. Raises Gone if a continue token outlived history."""
        accept = _METADATA.format("List") if metadata_only else _JSON
        token = ""
        while True:
            asked = f"{query}&limit={limit}" + (f"&continue={quote(token, safe='')}" if token else "")
            body = await self._call("GET", resource.path(namespace), query=asked.lstrip("&"), accept=accept)
            answer = decoder(_List).decode(body)
            token = answer.metadata.continue_
            yield Page(answer.items or [], answer.metadata.resource_version, bool(token))
            if not token:
                return

    async def watch(
        self, resource: Resource, namespace: str | None = None, *, query: str = "", metadata_only: bool = False, inactivity: float = 70.0
    ) -> AsyncGenerator[bytes, None]:
        """Lines of a watch as the server sends them; first an empty one as soon as it has answered.

        Ends when the server ends it. Raises Unavailable if nothing came for ``inactivity`` seconds: a connection
        may be dead without either side being told, and bookmarks come once a minute.
        """
        accept = _METADATA.format("") if metadata_only else _JSON
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_read=inactivity)
        url = self._url(resource.path(namespace), f"watch=1&{query}")
        try:
            async with self._session().get(url, headers=await self._headers(accept), timeout=timeout) as response:
                self._count(response.status, "GET")
                if response.status != 200:
                    raise self._error(response, await response.read())
                yield b""
                tail = b""
                async for chunk in response.content.iter_any():
                    *lines, tail = (tail + chunk).split(b"\n")
                    for line in lines:
                        yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error, "GET") from error

    # writes

    async def apply(
        self,
        resource: Resource,
        manifest: Manifest,
        *,
        body: bytes | None = None,
        field_manager: str = FIELD_MANAGER,
        force: bool = True,
    ) -> Meta:
        """Server-side apply. ``body`` is the encoded manifest where the caller already has it."""
        return await self._apply(resource, manifest, body, None, f"fieldManager={field_manager}&force={str(force).lower()}")

    async def apply_status(
        self,
        resource: Resource,
        manifest: Manifest,
        *,
        field_manager: str = FIELD_MANAGER,
        force: bool = True,
    ) -> Meta:
        """Server-side apply of the status subresource. Creates nothing: raises NotFound where the object is not."""
        query = f"fieldManager={field_manager}&force={str(force).lower()}"
        return await self._apply(resource, manifest, None, "status", query)

    async def _apply(self, resource: Resource, manifest: Manifest, body: bytes | None, subresource: str | None, query: str) -> Meta:
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        answer = await self._call("PATCH", path, query=query, body=body or msgspec.json.encode(manifest), content_type=APPLY)
        return _written(answer)

    async def create(self, resource: Resource, manifest: Manifest) -> Meta:
        """POST. Raises AlreadyExists."""
        path = resource.path(manifest["metadata"].get("namespace"))
        body = msgspec.json.encode(manifest)
        return _written(await self._call("POST", path, query=f"fieldManager={FIELD_MANAGER}", body=body))

    async def update(self, resource: Resource, manifest: Manifest) -> Meta:
        """PUT of a whole object that carries the resourceVersion it was read at. Raises Conflict."""
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"])
        body = msgspec.json.encode(manifest)
        return _written(await self._call("PUT", path, query=f"fieldManager={FIELD_MANAGER}", body=body))

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Manifest | Operations,
        *,
        subresource: str | None = None,
    ) -> Meta:
        """A merge patch (a mapping) or a JSON patch (a list of operations); ``test`` operations that fail raise Invalid."""
        content_type = MERGE if isinstance(patch, Mapping) else JSON_PATCH
        path = resource.path(namespace, name, subresource)
        body = msgspec.json.encode(patch)
        answer = await self._call("PATCH", path, query=f"fieldManager={FIELD_MANAGER}", body=body, content_type=content_type)
        return _written(answer)

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str = "Background",
    ) -> bool:
        """Delete the object with this UID at this resourceVersion; False if there is none. Raises Conflict.

        ``propagation`` is Background, Foreground or Orphan.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {field: value for field, value in preconditions.items() if value},
        }
        try:
            await self._call("DELETE", resource.path(namespace, name), body=msgspec.json.encode(options))
        except NotFound:
            return False
        return True

    # one request

    async def _call(
        self, method: str, path: str, *, query: str = "", body: bytes | None = None, content_type: str = _JSON, accept: str = _JSON
    ) -> bytes:
        """Send until it is answered otherwise than "not now"."""
        url = self._url(path, query)
        for attempt in range(RETRIES):
            try:
                async with self.limiter:
                    answer = await self._send(method, url, body, content_type, accept)
            except ApiError as error:
                pause = _pause(error, attempt)
                if pause is None or attempt == RETRIES - 1:
                    raise
                await asyncio.sleep(pause * random.uniform(1.0, 1.25))  # noqa: S311 spreads the load, guards nothing
            else:
                self.limiter.succeeded()
                return answer
        raise AssertionError("unreachable")

    async def _send(self, method: str, url: URL, body: bytes | None, content_type: str, accept: str) -> bytes:
        headers = await self._headers(accept)
        if body is not None:
            headers["Content-Type"] = content_type
        if method != "GET" and not self.may_write():
            raise Unavailable(0, "NotLeader", f"{method} {url.path} not begun: this process may have lost its lease")
        try:
            async with self._session().request(method, url, data=body, headers=headers) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error, method) from error
        self._count(response.status, method)
        if 200 <= response.status < 300:
            return answer
        raise self._error(response, answer)

    async def _headers(self, accept: str) -> dict[str, str]:
        try:
            return {"Accept": accept, **await self._connection.headers()}
        except ConfigError as error:
            raise Unavailable(0, "NoCredentials", str(error)) from error

    def _error(self, response: aiohttp.ClientResponse, body: bytes) -> ApiError:
        if response.status == 401:
            self._connection.expire()
        if response.status == 429:
            self.limiter.refused()
        return from_response(response.status, body, response.headers.get("Retry-After"))

    def _unreachable(self, error: Exception, method: str) -> Unavailable:
        self._count("<error>", method)
        return Unavailable(0, type(error).__name__, str(error) or "no answer in time")

    def _count(self, code: int | str, method: str) -> None:
        counter = self._counters.get((code, method))
        if counter is None:
            counter = self._counters[code, method] = metrics.REQUESTS.labels(str(code), method, self._host)
        counter.inc()

    def _url(self, path: str, query: str) -> URL:
        return URL(f"{self._connection.server}{path}?{query}" if query else f"{self._connection.server}{path}", encoded=True)

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            context = self._connection.ssl_context
            # The limiter bounds requests; watches come on top and must not be held back by them.
            connector = aiohttp.TCPConnector(limit=0, ssl=True if context is None else context, keepalive_timeout=KEEP_ALIVE)
            self._opened = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                # No compression: the server's gzip costs more CPU than the bytes cost inside a cluster.
                headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
            )
        return self._opened


def selection(label_selector: str = "", field_selector: str = "") -> str:
    """The query of a list or watch that selects objects."""
    asked = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items() if value)
