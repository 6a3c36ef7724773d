"""What the API server takes from a client that does nothing but send what was planned beforehand."""

import asyncio
import datetime
import os
import time
from typing import Any

import msgspec

from bench import workload
from bench.site import CREATORS, IN_FLIGHT, Site
from database_operator.api.database import FINALIZER
from database_operator.build import constants as c
from database_operator.build.manifest import Manifest
from database_operator.kube import resources as r
from database_operator.kube.objects import AnnotatedMeta
from database_operator.kube.resources import by_kind
from database_operator.reconcile.status import Outcome, status
from database_operator.reconcile.views import DATABASE, DatabaseView
from localcluster import ControlPlane


class Ceiling(msgspec.Struct, frozen=True):
    writes: int
    seconds: float
    cpu: float  # seconds, of the client

    @property
    def rate(self) -> float:
        """Writes a second."""
        return self.writes / self.seconds

    @property
    def milliseconds(self) -> float:
        """CPU a write."""
        return self.cpu / self.writes * 1000


async def children_only(plane: ControlPlane, namespace: str, count: int) -> Ceiling:
    """The children of ``count`` Databases that are there already and that nobody reconciles; 16 requests in flight."""
    async with Site(plane, namespace) as site:
        await site.create(range(count))
        await site.seen(map(workload.name, range(count)))
        requests: list[tuple[Manifest, bytes | None]] = []
        for view in site.databases.all():
            secrets, others = workload.children(view)
            requests += [(child, None) for child in secrets]
            requests += [(child, msgspec.json.encode(child)) for child in others]
        todo = iter(requests)

        async def send() -> None:
            for child, body in todo:
                await _make(site, child, body)

        begun, cpu = time.monotonic(), sum(os.times()[:2])
        await asyncio.gather(*(send() for _ in range(IN_FLIGHT)))
        return Ceiling(len(requests), time.monotonic() - begun, sum(os.times()[:2]) - cpu)


async def _make(site: Site, child: Manifest, body: bytes | None = None) -> None:
    if child["kind"] == "Secret":
        await site.client.create(r.SECRET, child)
    else:
        await site.client.apply(by_kind(child["apiVersion"], child["kind"]), child, body=body)


async def same_writes(plane: ControlPlane, namespace: str, count: int) -> Ceiling:
    """All that creation takes, as the Databases arrive: finalizer, children and the first status, 16 Databases at a time."""
    async with Site(plane, namespace) as site:
        plans = [_planned(namespace, index) for index in range(count)]
        numbers, arrived = iter(range(count)), asyncio.Queue[tuple[int, str]]()

        async def user() -> None:
            for index in numbers:
                made = await site.client.create(DATABASE, workload.manifest(namespace, index))
                await arrived.put((index, made.uid))

        writes = 0

        async def follow() -> None:
            nonlocal writes
            while True:
                index, uid = await arrived.get()
                children, shown = plans[index]
                await site.client.patch(DATABASE, namespace, workload.name(index), {"metadata": {"finalizers": [FINALIZER]}})
                for child in children:
                    await _make(site, _owned(child, uid))
                await site.client.apply_status(DATABASE, shown)
                writes += len(children) + 2
                arrived.task_done()

        begun, cpu = time.monotonic(), sum(os.times()[:2])
        followers = [asyncio.create_task(follow()) for _ in range(IN_FLIGHT)]
        await asyncio.gather(*(user() for _ in range(CREATORS)))
        await arrived.join()
        seconds, used = time.monotonic() - begun, sum(os.times()[:2]) - cpu
        for task in followers:
            task.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        return Ceiling(writes, seconds, used)


def _planned(namespace: str, index: int) -> tuple[list[Manifest], Manifest]:
    """Children and first status of a Database that is not there yet."""
    manifest = workload.manifest(namespace, index)
    head = AnnotatedMeta(name=manifest["metadata"]["name"], namespace=namespace, uid="not-known-yet", generation=1)
    view = DatabaseView(head, msgspec.Raw(msgspec.json.encode(manifest["spec"])))
    database, engine = workload.typed(view)
    first = status(database, engine, workload.PLATFORM, Outcome(), datetime.datetime.now(datetime.UTC))
    shown = {**manifest, "status": _known(msgspec.to_builtins(first))}
    del shown["spec"]
    secrets, others = workload.children(view)
    return [*secrets, *others], shown


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(entry) for key, entry in value.items() if entry is not None}
    return [_known(entry) for entry in value] if isinstance(value, list | tuple) else value


def _owned(child: Manifest, uid: str) -> Manifest:
    for owner in child["metadata"].get("ownerReferences", ()):
        owner["uid"] = uid
    if c.DATABASE_UID in child["metadata"].get("annotations", {}):
        child["metadata"]["annotations"][c.DATABASE_UID] = uid
    return child
