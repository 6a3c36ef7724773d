"""What the API server takes from a client that does nothing else: the children of N Databases, planned beforehand."""

import asyncio
import os
import time

import msgspec

from bench import workload
from bench.site import IN_FLIGHT, Site
from database_operator.kube.client import decoder
from database_operator.kube.objects import Object
from database_operator.kube.resources import by_kind
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


async def measure(plane: ControlPlane, namespace: str, count: int) -> Ceiling:
    """Create ``count`` Databases that nobody reconciles, then make their children, all requests encoded beforehand."""
    async with Site(plane, namespace) as site:
        await site.create(range(count))
        await site.seen(map(workload.name, range(count)))
        requests = []
        for view in site.databases.all():
            secrets, others = workload.children(view)
            requests += [("POST", child, msgspec.json.encode(child)) for child in secrets]
            requests += [("PATCH", child, msgspec.json.encode(child)) for child in others]
        todo = iter(requests)

        async def send() -> None:
            for method, child, body in todo:
                resource = by_kind(child["apiVersion"], child["kind"])
                if method == "POST":
                    answer = await site.client.create(resource, child)
                else:
                    answer = await site.client.apply(resource, child, body=body)
                assert answer.resource_version

        decoder(Object)
        begun, cpu = time.monotonic(), sum(os.times()[:2])
        await asyncio.gather(*(send() for _ in range(IN_FLIGHT)))
        return Ceiling(len(requests), time.monotonic() - begun, sum(os.times()[:2]) - cpu)
