"""An operator in this process against a real API server, with simulated pods instead of nodes."""

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from database_operator import config
from database_operator.engines.base import Member, Probe
from database_operator.kube import auth
from database_operator.kube.client import Client
from database_operator.kube.errors import ApiError, NotFound
from database_operator.kube.resources import POD, Resource
from database_operator.manager import Manager
from database_operator.reconcile.connections import base
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane

WRITES = frozenset({"create", "update", "patch", "delete"})


class Hub:
    """One namespace of a real API server, with a client for the test and a node that is played."""

    def __init__(self, plane: ControlPlane, namespace: str, client: Client) -> None:
        self.plane, self.namespace, self.client = plane, namespace, client
        self.roles: dict[str, str] = {}  # pod -> what its engine says; default: the first pod is the primary
        self.broken: dict[str, str] = {}  # pod -> waiting reason of its container
        self.versions: dict[str, str] = {}  # pod -> version its server reports

    async def create(self, name: str, type_: str, version: str, **spec: Any) -> None:
        body = {"type": type_, "version": version, "storage": {"size": "1Gi"}, **spec}
        await self.client.create(DATABASE, self.manifest(name, body))

    def manifest(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": DATABASE.api_version,
            "kind": DATABASE.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }

    async def change(self, name: str, **spec: Any) -> None:
        await self.client.patch(DATABASE, self.namespace, name, {"spec": spec})

    async def get(self, resource: Resource, name: str) -> dict[str, Any]:
        return await self.client.get(resource, self.namespace, name, type=dict)

    async def exists(self, resource: Resource, name: str) -> bool:
        try:
            await self.get(resource, name)
        except NotFound:
            return False
        return True

    async def all(self, resource: Resource, selector: str = "") -> list[dict[str, Any]]:
        return await self.client.list(resource, self.namespace, type=dict, label_selector=selector)

    async def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get(DATABASE, name)).get("status", {})
        return found

    async def phase(self, name: str, wanted: str, seconds: float = 20.0) -> dict[str, Any]:
        """The status once the phase is ``wanted``."""
        status: dict[str, Any] = {}

        async def reached() -> bool:
            nonlocal status
            status = await self.status(name)
            return bool(status.get("phase") == wanted)

        await until(reached, seconds, lambda: f"{name} is not {wanted}: {json.dumps(status)[:600]}")
        return status

    async def condition(self, name: str, type_: str, reason: str, seconds: float = 20.0) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def reached() -> bool:
            nonlocal found
            conditions = (await self.status(name)).get("conditions", [])
            found = next((condition for condition in conditions if condition["type"] == type_), {})
            return bool(found.get("reason") == reason)

        await until(reached, seconds, lambda: f"{name}: {type_} is {found}, not {reason}")
        return found

    async def play_node(self) -> None:
        """Give every pod what a kubelet would: addresses, running containers, readiness. Until cancelled."""
        while True:
            for pod in await self.client.list(POD, self.namespace, type=dict):
                with contextlib.suppress(ApiError):
                    await self._play(pod)
            await asyncio.sleep(0.1)

    async def _play(self, pod: dict[str, Any]) -> None:
        head = pod["metadata"]
        if head.get("deletionTimestamp"):
            await self.client.delete(POD, self.namespace, head["name"])
            return
        wanted = self._pod_status(pod)
        current = pod.get("status", {})
        if any(current.get(key) != value for key, value in wanted.items() if key in ("phase", "containerStatuses")):
            await self.client.patch(POD, self.namespace, head["name"], {"status": wanted}, subresource="status")

    def _pod_status(self, pod: dict[str, Any]) -> dict[str, Any]:
        name = pod["metadata"]["name"]
        stuck = self.broken.get(name)
        state: dict[str, Any] = (
            {"waiting": {"reason": stuck, "message": "simulated"}} if stuck else {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        )
        ready = "False" if stuck else "True"
        containers = [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": not stuck,
                "started": not stuck,
                "restartCount": 0,
                "state": state,
                "lastState": {},
            }
            for container in pod["spec"]["containers"]
        ]
        conditions = [{"type": kind, "status": ready} for kind in ("Ready", "ContainersReady")]
        return {
            "phase": "Pending" if stuck else "Running",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": conditions,
            "containerStatuses": containers,
        }

    async def probe(self, target: base.Target, member: Member) -> Probe:
        """What the members' engines say."""
        first = min(other.pod for other in target.members)
        role = self.roles.get(member.pod, "primary" if member.pod == first else "replica")
        return Probe(
            role=msgspec.convert(role, type=type(Probe().role)),
            version=self.versions.get(member.pod, f"{target.database.spec.version}.0"),
            lag_bytes=0,
            cluster_id=f"cluster-of-{target.database.name}",
        )

    def calls(self, agent: str) -> Counter[str]:
        """What the API server was asked in this namespace by ``agent`` so far, as ``verb resource code``."""
        assert self.plane.audit_log is not None
        found: Counter[str] = Counter()
        for line in Path(self.plane.audit_log).read_text().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                reference = entry.get("objectRef") or {}
                mine = entry.get("userAgent", "").startswith(agent) and reference.get("namespace") == self.namespace
                if mine and entry.get("stage") == "ResponseComplete":
                    subresource = f"/{reference['subresource']}" if reference.get("subresource") else ""
                    found[f"{entry['verb']} {reference.get('resource')}{subresource} {entry['responseStatus']['code']}"] += 1
        return found

    def writes(self) -> Counter[str]:
        calls = self.calls("database-operator/")
        return Counter({call: n for call, n in calls.items() if call.split()[0] in WRITES and call.split()[1] != "events"})


async def until(reached: Callable[[], Awaitable[bool]], seconds: float, why: Callable[[], str]) -> None:
    """Wait until ``reached``; fails the test with ``why`` after ``seconds``."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await reached():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(why())
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def hub(plane: ControlPlane, *, restricted: bool = True) -> AsyncIterator[Hub]:
    """A fresh namespace, gone in the background afterwards."""
    client = Client(auth.load(str(plane.kubeconfig)), user_agent="test/1")
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
    head = {"name": namespace, "labels": labels}
    from database_operator.kube.resources import NAMESPACE

    await client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": head})
    made = Hub(plane, namespace, client)
    node = asyncio.create_task(made.play_node())
    try:
        yield made
    finally:
        node.cancel()
        await asyncio.gather(node, return_exceptions=True)
        await client.delete(NAMESPACE, None, namespace)
        await client.close()
        await asyncio.sleep(0.1)  # TLS connections are closed by the loop's next turns


@contextlib.asynccontextmanager
async def operator(at: Hub, *flags: str) -> AsyncIterator[Manager]:
    """An operator that watches the hub's namespace; its probes are answered by the hub, its commands succeed."""
    argv = ["run", "--kubeconfig", str(at.plane.kubeconfig), "--namespace", at.namespace, "--metrics-bind-address", "0"]
    argv += ["--health-probe-bind-address", "0", "--max-concurrent-reconciles", "4", *flags]
    manager = Manager(config.parse(argv, {}))

    async def accepted(*_: object) -> None:
        return None

    simulated = base.Connection(probe=at.probe, command=accepted, switchover=accepted)
    real = base.connection
    modules = _users_of_connection()
    for module in modules:
        module.connection = lambda _provider: simulated
    running = asyncio.create_task(manager.run())
    try:
        yield manager
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for module in modules:
            module.connection = real


def _users_of_connection() -> list[Any]:
    from database_operator.reconcile import act, asking

    return [act, asking]
