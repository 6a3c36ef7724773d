"""An API server in memory, on loopback, with faults to order. It knows what the runtime relies on and no more."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

Object = dict[str, Any]
BOOKMARK_SECONDS = 60.0


class FakeApiServer:
    """Collections by path without the namespace part, for instance ``/api/v1/configmaps``."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, dict[tuple[str, str], Object]] = {}
        self.history: list[tuple[int, str, str, Object]] = []  # (version, collection, event type, object)
        self.oldest = 0  # events up to this version are forgotten
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # (method or WATCH/LIST, path, headers)
        self.faults: deque[tuple[int, dict[str, str]]] = deque()  # answers given instead, one a request
        self.speaking = asyncio.Event()  # cleared: watches say nothing, not even bookmarks
        self.speaking.set()
        self.paused = asyncio.Event()  # set: requests are answered
        self.paused.set()
        self.url = ""
        self._watches: dict[asyncio.Queue[bytes | None], tuple[str, str | None]] = {}
        self._snapshots: dict[str, list[Object]] = {}

    # what a test does to it

    def put(self, collection: str, obj: Object) -> Object:
        """Create or replace an object behind the client's back."""
        key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        known = self.objects.setdefault(collection, {})
        self.version += 1
        metadata = {"uid": f"uid-{self.version}", **known.get(key, {}).get("metadata", {}), **obj["metadata"]}
        metadata["resourceVersion"] = str(self.version)
        stored = {**obj, "metadata": metadata}
        self._emit(collection, "MODIFIED" if key in known else "ADDED", stored)
        known[key] = stored
        return stored

    def remove(self, collection: str, namespace: str, name: str) -> None:
        self.version += 1
        gone = self.objects[collection].pop((namespace, name))
        self._emit(collection, "DELETED", {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}})

    def compact(self) -> None:
        """Forget all events there were."""
        self.oldest = self.version

    def send_line(self, line: bytes) -> None:
        for queue in self._watches:
            queue.put_nowait(line)

    def cut_watches(self) -> None:
        for queue in self._watches:
            queue.put_nowait(None)

    def fail(self, times: int, status: int, headers: dict[str, str] | None = None) -> None:
        self.faults.extend([(status, headers or {})] * times)

    def count(self, method: str, path: str = "") -> int:
        return sum(1 for seen in self.requests if seen[0] == method and path in seen[1])

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["FakeApiServer"]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.paused.set()
            self.speaking.set()
            self.cut_watches()
            await runner.cleanup()

    # what it answers

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch = "watch" in request.query
        collection, namespace, name, sub = _split(request.path)
        method = "WATCH" if watch else "LIST" if request.method == "GET" and not name else request.method
        self.requests.append((method, request.path_qs, dict(request.headers)))
        await self.paused.wait()
        if self.faults:
            status, headers = self.faults.popleft()
            return _status(status, "Fault", "as ordered", headers)
        if watch:
            return await self._watch(request, collection, namespace)
        if request.method == "GET" and not name:
            return self._list(request, collection, namespace)
        if request.method == "GET":
            found = self.objects.get(collection, {}).get((namespace or "", name))
            return web.json_response(found) if found else _status(404, "NotFound", f"{name} not found")
        return self._write(request.method, collection, (namespace or "", name), sub, await _body(request))

    def _list(self, request: web.Request, collection: str, namespace: str | None) -> web.Response:
        limit = int(request.query.get("limit", 0)) or 10**9
        token = request.query.get("continue", "")
        version, start = (int(part) for part in token.split(".")) if token else (self.version, 0)
        if not token:
            self._snapshots[str(version)] = [
                o for (ns, _), o in sorted(self.objects.get(collection, {}).items()) if namespace in (None, ns)
            ]
        if token and version < self.oldest:
            return _status(410, "Expired", "The provided continue parameter is too old")
        rest = self._snapshots[str(version)][start:]
        metadata = {"resourceVersion": str(version)}
        if len(rest) > limit:
            metadata["continue"] = f"{version}.{start + limit}"
        return web.json_response({"kind": "List", "metadata": metadata, "items": rest[:limit]})

    async def _watch(self, request: web.Request, collection: str, namespace: str | None) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if version < self.oldest:
            await response.write(
                _line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})
            )
            return response
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._watches[queue] = (collection, namespace)
        for at, where, kind, obj in self.history:
            if at > version and where == collection and namespace in (None, obj["metadata"].get("namespace")):
                queue.put_nowait(_line(kind, obj))
        try:
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                await self._stream(response, queue, "allowWatchBookmarks" in request.query)
        except TimeoutError:
            pass
        finally:
            del self._watches[queue]
        return response

    async def _stream(self, response: web.StreamResponse, queue: "asyncio.Queue[bytes | None]", bookmarks: bool) -> None:
        while True:
            try:
                async with asyncio.timeout(BOOKMARK_SECONDS):
                    line = await queue.get()
            except TimeoutError:
                line = _line("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}}) if bookmarks else b""
            if line is None:
                return
            await self.speaking.wait()
            if line:
                await response.write(line)

    def _write(self, method: str, collection: str, key: tuple[str, str], sub: str, body: Any) -> web.Response:
        name = key[1] or body["metadata"]["name"]
        old = self.objects.get(collection, {}).get((key[0], name))
        if method == "POST" and old:
            return _status(409, "AlreadyExists", f"{name} already exists")
        if old is None and (method in ("PUT", "DELETE") or sub or (method == "PATCH" and "kind" not in body)):
            return _status(404, "NotFound", f"{name} not found")
        if old and not _matches(old, method, body):
            return _status(409, "Conflict", "the object has been modified")
        if method == "DELETE":
            self.remove(collection, key[0], name)
            return _status(200, "", "")
        new = _merge(old or {}, body) if method == "PATCH" else body
        new = {**new, "metadata": {**new.get("metadata", {}), "name": name, "namespace": key[0]}}
        if old is not None and _content(old) == _content(new):
            return web.json_response(old)
        return web.json_response(self.put(collection, new), status=200 if old else 201)

    def _emit(self, collection: str, kind: str, obj: Object) -> None:
        self.history.append((self.version, collection, kind, obj))
        for queue, (watched, namespace) in self._watches.items():
            if watched == collection and namespace in (None, obj["metadata"].get("namespace")):
                queue.put_nowait(_line(kind, obj))


def _split(path: str) -> tuple[str, str | None, str, str]:
    parts = path.strip("/").split("/")
    base = 2 if parts[0] == "api" else 3
    root, rest, namespace = parts[:base], parts[base:], None
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    rest += [""] * (3 - len(rest))
    return "/" + "/".join([*root, rest[0]]), namespace, rest[1], rest[2]


async def _body(request: web.Request) -> Any:
    text = await request.text()
    return json.loads(text) if text else {}


def _matches(old: Object, method: str, body: Any) -> bool:
    wanted = body.get("preconditions", {}) if method == "DELETE" else {"resourceVersion": body.get("metadata", {}).get("resourceVersion")}
    return all(old["metadata"][field] == value for field, value in wanted.items() if value)


def _merge(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    merged = {**old, **{key: _merge(old.get(key), value) for key, value in new.items()}}
    return {key: value for key, value in merged.items() if value is not None}


def _content(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in ("resourceVersion", "uid")}
    return {**obj, "metadata": metadata}


def _line(kind: str, obj: Object) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code, headers=headers)
