"""A node that is played: what a kubelet, a provisioner and a resizer do to pods and claims, at once and without any container."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from database_operator.build import constants as c
from database_operator.kube.client import Client
from database_operator.kube.errors import ApiError
from database_operator.kube.informer import Informer
from database_operator.kube.objects import AnnotatedMeta, Key
from database_operator.kube.resources import PERSISTENT_VOLUME_CLAIM, POD, Resource, register

VOLUME = register(Resource("v1", "PersistentVolume", "persistentvolumes", namespaced=False))

BAD_REGISTRY = "registry.invalid/"  # no image of it can be pulled
CRASH = "TEST_CRASH"  # a variable of the database container that ends it at once
MOST_CORES = 64  # of the node: what asks for more is not scheduled
AGAIN = 0.2  # seconds until a call that failed is tried again


class Played(msgspec.Struct, frozen=True, gc=False):
    """A pod or a claim as it is."""

    metadata: AnnotatedMeta
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: msgspec.Raw = msgspec.Raw(b"{}")


class Node:
    """Plays the pods and claims of one namespace. Whoever starts a pod may keep it from being ready: ``broken``, ``silent``."""

    def __init__(self, client: Client, namespace: str, *, provisions: bool = True, binds: bool = True) -> None:
        self._client, self._namespace = client, namespace
        self.provisions, self.binds = provisions, binds
        self.broken: dict[str, str] = {}  # pod -> waiting reason of its container
        self.held: set[str] = set()  # pods that do not end while they stand here
        self.data_gone: Callable[[str], None] = lambda database: None  # told when the last claim of a Database has gone
        self._pods = Informer(client, POD, Played, namespaces=[namespace], every_version=True)
        self._claims = Informer(client, PERSISTENT_VOLUME_CLAIM, Played, namespaces=[namespace], every_version=True)
        self._todo: asyncio.Queue[tuple[Resource, str]] = asyncio.Queue()

    async def run(self) -> None:
        """Until cancelled."""
        self._pods.on_change(lambda old, new: self._noticed(POD, old, new))
        self._claims.on_change(lambda old, new: self._noticed(PERSISTENT_VOLUME_CLAIM, old, new))
        async with asyncio.TaskGroup() as group:
            for informer in (self._pods, self._claims):
                group.create_task(informer.run())
            group.create_task(self._look_again())
            while True:
                resource, name = await self._todo.get()
                await self._play(resource, name)

    def _noticed(self, resource: Resource, old: Played | None, new: Played | None) -> None:
        item = new or old
        assert item is not None
        self._todo.put_nowait((resource, item.metadata.name))
        if resource is PERSISTENT_VOLUME_CLAIM:
            database = item.metadata.labels.get(c.DATA_OF, "")
            if new is None and not any(claim.metadata.labels.get(c.DATA_OF) == database for claim in self._claims.all()):
                self.data_gone(database)
            for pod in self._pods.all():
                self._todo.put_nowait((POD, pod.metadata.name))

    async def _look_again(self) -> None:
        """Tests change ``broken`` and ``held`` without an event."""
        while True:
            await asyncio.sleep(AGAIN)
            for pod in self._pods.all():
                self._todo.put_nowait((POD, pod.metadata.name))

    async def _play(self, resource: Resource, name: str) -> None:
        informer = self._pods if resource is POD else self._claims
        item = informer.get(self._namespace, name)
        with contextlib.suppress(ApiError, KeyError):
            if item is None:
                return
            if resource is POD:
                await self._pod(item)
            else:
                await self._claim(item)

    # pods

    async def _pod(self, pod: Played) -> None:
        head = pod.metadata
        spec: dict[str, Any] = msgspec.json.decode(pod.spec)
        if head.deletion_timestamp:
            if head.name not in self.held:
                await self._end(head)
            return
        if self.binds and not spec.get("nodeName"):
            if fits(spec):
                await self._bind(head)
            return
        if self.provisions and not self._bound(spec):
            return
        status: dict[str, Any] = msgspec.json.decode(pod.status)
        wanted = pod_status(spec, self.broken.get(head.name))
        if any(status.get(key) != value for key, value in wanted.items() if key in ("phase", "containerStatuses")):
            written = await self._client.patch(
                POD, self._namespace, head.name, {"metadata": {"uid": head.uid}, "status": wanted}, subresource="status"
            )
            await self._pods.wait_for(Key(self._namespace, head.name), written.resource_version, 5)

    def _bound(self, spec: dict[str, Any]) -> bool:
        names = [volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
        claims = [self._claims.get(self._namespace, name) for name in names]
        return all(claim is not None and msgspec.json.decode(claim.status).get("phase") == "Bound" for claim in claims)

    async def _bind(self, head: AnnotatedMeta) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": "played"}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": head.name, "uid": head.uid}, "target": target}
        path = POD.path(self._namespace, head.name, "binding")
        await self._client._call("POST", path, body=msgspec.json.encode(binding))
        await self._pods.wait_for(Key(self._namespace, head.name), str(int(head.resource_version) + 1), 5)

    async def _end(self, head: AnnotatedMeta) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": head.uid}}
        await self._client._call("DELETE", POD.path(self._namespace, head.name), body=msgspec.json.encode(options))

    # claims

    async def _claim(self, claim: Played) -> None:
        head = claim.metadata
        spec: dict[str, Any] = msgspec.json.decode(claim.spec)
        status: dict[str, Any] = msgspec.json.decode(claim.status)
        ours = c.DATA_OF in head.labels and spec.get("storageClassName") == "standard"
        if not self.provisions or not ours or head.deletion_timestamp:
            return
        size, name = spec["resources"]["requests"]["storage"], f"pv-{head.uid}"
        if status.get("phase") == "Pending" and not spec.get("volumeName"):
            reference = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": self._namespace,
                "name": head.name,
                "uid": head.uid,
            }
            volume = {
                "capacity": {"storage": size},
                "accessModes": spec["accessModes"],
                "storageClassName": "standard",
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": reference,
                "hostPath": {"path": "/played"},
            }
            await self._client.create(VOLUME, {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume})
        elif status.get("phase") == "Bound" and status.get("capacity", {}).get("storage") != size:
            await self._client.patch(VOLUME, None, name, {"spec": {"capacity": {"storage": size}}})
            patch = {"status": {"capacity": {"storage": size}}}
            await self._client.patch(PERSISTENT_VOLUME_CLAIM, self._namespace, head.name, patch, subresource="status")


def fits(spec: dict[str, Any]) -> bool:
    """Whether the node takes a pod: it has no labels, and not every size."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    cores = [container.get("resources", {}).get("requests", {}).get("cpu", "0") for container in spec["containers"]]
    large = any(core.isdigit() and int(core) > MOST_CORES for core in cores)
    nowhere = "requiredDuringSchedulingIgnoredDuringExecution" in affinity or spec.get("nodeSelector")
    return not nowhere and not large and spec.get("schedulerName") == "default-scheduler"


def pod_status(spec: dict[str, Any], broken: str | None) -> dict[str, Any]:
    """What a kubelet would tell of the pod."""
    database = next((container for container in spec["containers"] if container["name"] == c.DATABASE), spec["containers"][0])
    if broken is None and database["image"].startswith(BAD_REGISTRY):
        broken = "ImagePullBackOff"
    if broken is None and any(variable["name"] == CRASH for variable in database.get("env", ())):
        broken = "CrashLoopBackOff"
    crashed = broken == "CrashLoopBackOff"
    state: dict[str, Any] = (
        {"waiting": {"reason": broken, "message": "played"}} if broken else {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    )
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": "played", "containerID": "", "startedAt": None, "finishedAt": None}}
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": not broken,
            "started": not broken,
            "restartCount": 3 if crashed else 0,
            "state": state,
            "lastState": last if crashed else {},
        }
        for container in spec["containers"]
    ]
    ready = "False" if broken else "True"
    return {
        "phase": "Pending" if broken and not crashed else "Running",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [{"type": kind, "status": ready} for kind in ("Ready", "ContainersReady")],
        "containerStatuses": containers,
    }
