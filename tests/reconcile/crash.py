"""An operator that dies at a chosen write, in this process: its memory and its connections are gone, and a new one begins."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from yarl import URL

from database_operator.manager import Manager
from tests.reconcile.harness import Hub, manager, playing

NOT_COUNTED = ("/events", "/leases/")


class Killed(BaseException):
    """Nothing of the process goes on after this: no ``except Exception`` takes it."""


class Axe:
    """Counts what an operator changes, from ``arm`` on, and ends it before or after the write of a number."""

    def __init__(self, number: int | None = None, *, after: bool = False) -> None:
        self._number, self._after = number, after
        self.armed = self.dead = False
        self.fell = asyncio.Event()
        self.writes: list[str] = []

    def arm(self) -> None:
        self.armed = True

    def hold(self, made: Manager) -> None:
        """From now on all calls of this operator pass here."""
        real = made.client._send

        async def send(method: str, url: URL, body: bytes | None, content_type: str, accept: str) -> bytes:
            async def go() -> bytes:
                return await real(method, url, body, content_type, accept)

            if method == "GET" or any(part in url.path for part in NOT_COUNTED):
                self._living()
                return await go()
            result: bytes = await self.cut(f"{method} {url.path}", go)
            return result

        made.client._send = send  # type: ignore[method-assign]

    async def cut(self, what: str, go: Callable[[], Awaitable[Any]]) -> Any:
        """One write, to the API server or to an engine."""
        self._living()
        here = self.armed and len(self.writes) == self._number
        if self.armed:
            self.writes.append(what)
        if here and not self._after:
            self._fall()
        try:
            return await go()
        finally:
            if here:
                self._fall()
            self._living()

    def _living(self) -> None:
        if self.dead:
            raise Killed

    def _fall(self) -> None:
        self.dead = True
        self.fell.set()
        raise Killed


@contextlib.asynccontextmanager
async def mortal(at: Hub, axe: Axe, *flags: str) -> AsyncIterator[None]:
    """An operator under the axe; once it fell, another one that lives."""
    at.axe = axe
    first = manager(at, *flags)
    axe.hold(first)
    with playing(first):
        reviver = asyncio.create_task(_succeed(at, axe, first, *flags))
        try:
            yield
        finally:
            at.axe = None
            reviver.cancel()
            await asyncio.gather(reviver, return_exceptions=True)


async def _succeed(at: Hub, axe: Axe, first: Manager, *flags: str) -> None:
    running = asyncio.create_task(first.run())
    try:
        await axe.fell.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    at.axe = None
    second = manager(at, *flags)
    with playing(second):
        await second.run()
