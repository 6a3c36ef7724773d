"""Plays the node: gives every pod the status a kubelet would write once its containers run."""

import asyncio
import contextlib

import msgspec

from database_operator.kube.client import Client
from database_operator.kube.errors import ApiError
from database_operator.kube.objects import Object
from database_operator.kube.resources import POD

STARTED = "2026-01-01T00:00:00Z"


class _Container(msgspec.Struct):
    name: str
    image: str = ""


class _Spec(msgspec.Struct):
    containers: list[_Container]


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""


class _Pod(Object, frozen=True):
    spec: _Spec
    status: _Status = _Status()


def running(pod: _Pod) -> dict[str, object]:
    containers = [
        {
            "name": container.name,
            "image": container.image,
            "imageID": "",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": STARTED}},
        }
        for container in pod.spec.containers
    ]
    conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]
    return {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": conditions,
        "containerStatuses": containers,
    }


async def play(client: Client, namespace: str) -> int:
    """One round over the namespace; gives how many pods were started."""
    waiting = [pod for pod in await client.list(POD, namespace, type=_Pod) if pod.status.phase != "Running"]

    async def start(pod: _Pod) -> None:
        with contextlib.suppress(ApiError):
            await client.patch(POD, namespace, pod.metadata.name, {"status": running(pod)}, subresource="status")

    await asyncio.gather(*(start(pod) for pod in waiting if pod.metadata.deletion_timestamp is None))
    return len(waiting)
