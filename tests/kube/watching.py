"""An informer of ConfigMaps on a fake API server, and what its handlers were told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from database_operator.kube.informer import Informer
from database_operator.kube.objects import Meta
from database_operator.kube.resources import CONFIG_MAP
from tests.kube.fake_apiserver import FakeApiServer
from tests.kube.support import CONFIG_MAPS, config_map, serving


class Data(msgspec.Struct, frozen=True, gc=False):
    metadata: Meta
    data: dict[str, str] = {}


class Whole(msgspec.Struct, frozen=True, gc=False):
    metadata: Meta
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Seen:
    """What the handlers were told, as (name, value of ``data.v`` before, and after; None where there is no object)."""

    def __init__(self, server: FakeApiServer, informer: Informer[Any]) -> None:
        self.server = server
        self.informer = informer
        self.changes: list[tuple[str, Any, Any]] = []
        informer.on_change(self._note)

    def _note(self, old: Any, new: Any) -> None:
        value = [None if obj is None else getattr(obj, "data", {}).get("v") for obj in (old, new)]
        self.changes.append(((new or old).metadata.name, *value))

    def put(self, name: str, value: str = "1", **extra: Any) -> dict[str, Any]:
        return self.server.put(CONFIG_MAPS, config_map(name, data={"v": value}, **extra))

    def news(self) -> list[tuple[str, Any, Any]]:
        told, self.changes = self.changes, []
        return told


@contextlib.asynccontextmanager
async def watching(before: int = 0, type: Any = Data, **options: Any) -> AsyncIterator[Seen]:
    """An informer that is in sync with a server that held ``before`` objects ``c0000`` …"""
    async with serving() as (server, client):
        for i in range(before):
            server.put(CONFIG_MAPS, config_map(f"c{i:04}", data={"v": "1"}))
        seen = Seen(server, Informer(client, CONFIG_MAP, type, **options))
        task = asyncio.create_task(seen.informer.run())
        await asyncio.wait_for(seen.informer.synced.wait(), 60)
        await asyncio.sleep(1)
        try:
            yield seen
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
