"""A local copy of one kind, kept by list and watch.

The copy holds frozen Structs with the wanted fields only: a StatefulSet takes 1 KiB instead of 47 KiB as a dict.
It may be late, never wrong about the past: nothing destructive is done on what stands here.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from database_operator.kube.client import Client, decoder, selection
from database_operator.kube.errors import ApiError, Forbidden, Gone, NotFound, Unavailable, from_response
from database_operator.kube.objects import HasMeta, Key, Meta
from database_operator.kube.resources import Resource
from database_operator.kube.store import Store

log = logging.getLogger(__name__)

INACTIVITY = 70.0  # seconds without a line; bookmarks come every 60
WATCH_SECONDS = (300, 600)  # the server ends a watch after a time between these, so that they do not end at once
BACKOFF = (0.2, 5.0)  # seconds: first and longest pause after an error
REFUSALS_BEFORE_LIST = 3  # in a row by a server that answers; then the remembered resourceVersion is no longer trusted

T = TypeVar("T", bound=HasMeta)
Handler = Callable[[T | None, T | None], None]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Only(msgspec.Struct):
    metadata: Meta


class Informer(Generic[T]):
    """The objects of one kind in some namespaces (None: all), decoded into ``type``.

    ``indexes`` gives each index a function from an object to the values it is found by. Handlers are called with
    the old and the new object (None: there is none), unless the two are equal apart from the resourceVersion;
    ``every_version`` reports those too, for kinds whose change shows nowhere else. Index functions and handlers
    run inside the watch: they must be quick and must not raise.
    """

    def __init__(  # noqa: PLR0913 each is one property of the copy
        self,
        client: Client,
        resource: Resource,
        type: type[T],
        *,
        namespaces: Sequence[str] | None = None,
        label_selector: str = "",
        metadata_only: bool = False,
        indexes: Mapping[str, Callable[[T], Iterable[str]]] | None = None,
        every_version: bool = False,
        inactivity: float = INACTIVITY,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self._store: Store[T] = Store(indexes or {})
        self._handlers: list[Handler[T]] = []
        self._every_version = every_version
        self._decode = decoder(type).decode
        self._raw_fields = [field.name for field in msgspec.structs.fields(type) if field.type is msgspec.Raw]  # type: ignore[arg-type]
        query = selection(label_selector)
        scopes: Sequence[str | None] = namespaces or [None]
        self._reflectors = [_Reflector(self, client, namespace, query, metadata_only, inactivity) for namespace in scopes]

    def on_change(self, handler: Handler[T]) -> None:
        self._handlers.append(handler)

    async def run(self) -> None:
        """List and watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())

    def get(self, namespace: str, name: str) -> T | None:
        return self._store.get(Key(namespace, name))

    def all(self) -> list[T]:
        return self._store.all()

    def by_owner(self, uid: str) -> list[T]:
        """Objects whose controlling owner has this UID."""
        return self._store.by_index("owner", uid)

    def by_index(self, name: str, value: str) -> list[T]:
        return self._store.by_index(name, value)

    @property
    def last_heard(self) -> float:
        """Time on the loop's clock at which the quietest of the watches last gave a sign of life; -inf before the first list."""
        return min(reflector.last_heard for reflector in self._reflectors)

    @property
    def trouble(self) -> str:
        """The error that keeps a watch from going on; empty while all is well."""
        return next((reflector.reported for reflector in self._reflectors if reflector.reported), "")

    async def wait_for(self, key: Key, resource_version: str, timeout: float) -> bool:  # noqa: ASYNC109 False is an answer
        """Wait until the copy has seen this version of an object, or anything newer; False if it has not in ``timeout`` seconds.

        resourceVersions of one kind grow with every write (KEP-5504 lets clients rely on it), so any later event counts.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._has_seen(key, resource_version):
                    await self._news(key).wait()
        except TimeoutError:
            return False
        return True

    def _reflector(self, namespace: str) -> "_Reflector[T]":
        return next((r for r in self._reflectors if r.namespace in (None, namespace)), self._reflectors[0])

    def _news(self, key: Key) -> asyncio.Event:
        return self._reflector(key.namespace).news

    def _has_seen(self, key: Key, resource_version: str) -> bool:
        seen = self._reflector(key.namespace).resource_version
        if resource_version.isdigit() and seen is not None and seen.isdigit():
            return int(seen) >= int(resource_version)
        stored = self._store.get(key)
        return stored is not None and stored.metadata.resource_version == resource_version

    # called by the reflectors

    def _take(self, raw: msgspec.Raw) -> Meta:
        """Store an object as it now is."""
        try:
            new = self._decode(raw)
        except msgspec.ValidationError as error:
            return self._refuse(raw, error)
        for name in self._raw_fields:  # a Raw keeps the whole message it was cut from
            msgspec.structs.force_setattr(new, name, getattr(new, name).copy())  # type: ignore[arg-type]
        new.metadata.share_strings()
        key = new.metadata.key
        old = self._store.put(key, new)
        same_version = old is not None and old.metadata.resource_version == new.metadata.resource_version
        if old != new or (self._every_version and not same_version):
            self._tell(old, new)
        return new.metadata

    def _refuse(self, raw: msgspec.Raw, error: msgspec.ValidationError) -> Meta:
        """An object that does not fit the type counts as absent: the others must not suffer from it."""
        metadata = decoder(_Only).decode(raw).metadata
        extra = {"kind": self.resource.kind, "object": str(metadata.key), "error": str(error)}
        log.error("object of unknown shape ignored", extra=extra)
        self._drop(metadata.key)
        return metadata

    def _drop(self, key: Key) -> None:
        old = self._store.remove(key)
        if old is not None:
            self._tell(old, None)

    def _tell(self, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            handler(old, new)

    def _keys_in(self, namespace: str | None) -> list[Key]:
        return [key for key in self._store if namespace in (None, key.namespace)]

    def _listed(self) -> None:
        if all(reflector.resource_version is not None for reflector in self._reflectors):
            self.synced.set()


class _Reflector(Generic[T]):
    """List and watch of one namespace, or of all."""

    def __init__(
        self, informer: Informer[T], client: Client, namespace: str | None, query: str, metadata_only: bool, inactivity: float
    ) -> None:
        self.namespace = namespace
        self.resource_version: str | None = None
        self.news = asyncio.Event()
        self.last_heard = float("-inf")
        self._informer = informer
        self._client = client
        self._query = query
        self._metadata_only = metadata_only
        self._inactivity = inactivity
        self._failures = 0
        self._refusals = 0
        self.reported = ""  # the error last written to the log, until a line has come again

    async def run(self) -> None:
        listed = False
        while True:
            started = self._now()
            try:
                if not listed:
                    await self._list()
                    listed = True
                await self._watch()
                if self._now() - started < 1.0:
                    raise Unavailable(0, "WatchEnded", "the server ended the watch at once")
            except (Gone, msgspec.DecodeError) as error:
                listed = False
                await self._pause(error, started)
            except ApiError as error:
                self._refusals += error.status != 0
                listed = listed and self._refusals < REFUSALS_BEFORE_LIST
                await self._pause(error, started)

    async def _list(self) -> None:
        informer = self._informer
        gone = set(informer._keys_in(self.namespace))
        pages = self._client.pages(informer.resource, self.namespace, query=self._query, metadata_only=self._metadata_only)
        async for page in pages:
            self._heard()
            for raw in page.items:
                gone.discard(informer._take(raw).key)
        for key in gone:
            informer._drop(key)
        self._refusals = 0
        self.reported = ""
        self._advance(page.resource_version)
        informer._listed()

    async def _watch(self) -> None:
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 spreads the load, guards nothing
        query = f"allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={self.resource_version}"
        query += f"&{self._query}" if self._query else ""
        lines = self._client.watch(
            self._informer.resource, self.namespace, query=query, metadata_only=self._metadata_only, inactivity=self._inactivity
        )
        async with contextlib.aclosing(lines):
            async for line in lines:
                self._heard()
                if line:
                    self._event(line)
                    self._failures = self._refusals = 0
                    self.reported = ""

    def _event(self, line: bytes) -> None:
        event = decoder(_Event).decode(line)
        if event.type == "ERROR":
            error = from_response(0, event.object)
            raise Gone(error.status, error.reason, error.message)  # whatever it is, this watch cannot be resumed
        if event.type in ("ADDED", "MODIFIED"):
            metadata = self._informer._take(event.object)
        else:
            metadata = decoder(_Only).decode(event.object).metadata
        if event.type == "DELETED":
            self._informer._drop(metadata.key)
        self._advance(metadata.resource_version)

    def _advance(self, resource_version: str) -> None:
        self.resource_version = resource_version
        self.news.set()
        self.news = asyncio.Event()

    async def _pause(self, error: Exception, started: float) -> None:
        if self._now() - started > 5.0:
            self._failures = 0
        self._failures += 1
        first, longest = BACKOFF
        delay = min(longest, first * 2.0 ** min(self._failures - 1, 16)) * random.uniform(0.5, 1.0)  # noqa: S311
        if isinstance(error, ApiError) and error.retry_after is not None:
            delay = max(delay, error.retry_after)
        self._report(error, delay)
        await asyncio.sleep(delay)

    def _report(self, error: Exception, pause: float) -> None:
        """Once for each error however long it lasts; what needs a human (a missing right, a missing kind) as an error."""
        level = logging.ERROR if isinstance(error, Forbidden | NotFound) else logging.INFO
        if str(error) == self.reported:
            level = logging.DEBUG
        self.reported = str(error)
        extra = {"kind": self._informer.resource.kind, "watched": self.namespace or "all namespaces", "error": str(error)}
        log.log(level, "watch interrupted", extra={**extra, "pause": round(pause, 2)})

    def _heard(self) -> None:
        self.last_heard = self._now()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
