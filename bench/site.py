"""A control plane with what a load needs, and the load's own requests to it."""

import asyncio
import base64
import json
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from bench import player, workload
from database_operator.kube import auth
from database_operator.kube import resources as r
from database_operator.kube.client import Client, Manifest
from database_operator.kube.informer import Informer
from database_operator.kube.objects import Key, Object
from database_operator.reconcile.views import DATABASE, DatabaseView
from localcluster import ControlPlane

PROJECT = Path(__file__).resolve().parents[1]
STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "example.com/none",
}
IN_FLIGHT = 16
CREATORS = 4  # users who create Databases at the same time


class _Phase(msgspec.Struct, rename="camel"):
    phase: str = ""
    observed_generation: int = -1


def install(plane: ControlPlane) -> None:
    plane.kubectl("apply", "--server-side", "-f", str(PROJECT / "deploy/crds"))
    path = "{.status.conditions[?(@.type=='Established')].status}"
    deadline = time.monotonic() + 60
    while plane.kubectl("get", "crd/databases.databases.database-operator.io", f"--output=jsonpath={path}") != "True":
        if time.monotonic() > deadline:
            raise TimeoutError("the CRD is not served")
        time.sleep(0.2)
    plane.kubectl("apply", "-f", "-", input=json.dumps(STORAGE_CLASS))


class Site:
    """The users' side of one namespace: they create and change Databases and watch their status."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane, self.namespace = plane, namespace
        self.client = Client(auth.load(str(plane.kubeconfig)), user_agent="bench/1", in_flight=IN_FLIGHT, timeout=120.0)
        self.first_status: dict[str, float] = {}  # name -> time.monotonic when its first phase was seen
        self.databases: Informer[DatabaseView] = Informer(self.client, DATABASE, DatabaseView, namespaces=[namespace])
        self.databases.on_change(self._changed)
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Site":
        await self.client.create(r.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        secret = {"name": workload.PASSWORD_SECRET, "namespace": self.namespace}
        data = {"password": base64.b64encode(b"s3cret-for-load").decode()}
        await self.client.create(r.SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": data})
        self._watching = asyncio.create_task(self.databases.run())
        await self.databases.synced.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self.client.close()

    def _changed(self, _: DatabaseView | None, new: DatabaseView | None) -> None:
        if new is not None and new.metadata.name not in self.first_status and phase(new).phase:
            self.first_status[new.metadata.name] = time.monotonic()

    async def create(self, indices: Iterable[int]) -> None:
        """As fast as the server takes them."""
        todo = iter(list(indices))

        async def user() -> None:
            for index in todo:
                await self.client.create(DATABASE, workload.manifest(self.namespace, index))

        await asyncio.gather(*(user() for _ in range(CREATORS)))

    async def create_one(self, index: int) -> float:
        """Time (monotonic) at which the server said yes."""
        await self.client.create(DATABASE, workload.manifest(self.namespace, index))
        return time.monotonic()

    async def patch(self, name: str, patch: Manifest) -> str:
        """The resourceVersion that came of it."""
        return (await self.client.patch(DATABASE, self.namespace, name, patch)).resource_version

    async def seen(self, names: Iterable[str], seconds: float = 30.0) -> None:
        """Wait until the watch shows these Databases."""
        deadline = time.monotonic() + seconds
        wanted = list(names)
        while any(self.databases.get(self.namespace, name) is None for name in wanted):
            if time.monotonic() > deadline:
                raise TimeoutError("Databases were created and not seen")
            await asyncio.sleep(0.05)

    def unsettled(self) -> list[str]:
        """Databases that are not Ready, or whose newest spec was not looked at yet."""
        left = []
        for view in self.databases.all():
            status = phase(view)
            if status.phase != "Ready" or status.observed_generation != view.metadata.generation:
                left.append(view.metadata.name)
        return left

    async def settle(self, seconds: float) -> float:
        """Play the node until every Database is Ready and no pod is left to start; gives the seconds it took."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            started = await player.play(self.client, self.namespace)
            if not started and not self.unsettled():
                return time.monotonic() - begun
            await asyncio.sleep(0.5)
        left = self.unsettled()
        raise TimeoutError(f"{len(left)} Databases are not Ready after {seconds:.0f} s, such as {left[:3]}")

    async def versions(self) -> dict[tuple[str, str], str]:
        """The resourceVersion of every object in the namespace that the operator has to do with."""
        kinds = (DATABASE, r.STATEFUL_SET, r.DEPLOYMENT, r.SERVICE, r.CONFIG_MAP, r.SECRET, r.SERVICE_ACCOUNT, r.ROLE, r.ROLE_BINDING)
        found: dict[tuple[str, str], str] = {}
        for kind in (*kinds, r.POD_DISRUPTION_BUDGET, r.PERSISTENT_VOLUME_CLAIM, r.POD):
            async for page in self.client.pages(kind, self.namespace, metadata_only=True):
                heads = (msgspec.json.decode(item, type=Object).metadata for item in page.items)
                found |= {(kind.kind, head.name): head.resource_version for head in heads}
        return found

    def key(self, name: str) -> Key:
        return Key(self.namespace, name)


def phase(view: DatabaseView) -> _Phase:
    return msgspec.json.decode(view.status, type=_Phase)
