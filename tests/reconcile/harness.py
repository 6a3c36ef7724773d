"""An operator in this process against a real API server, with simulated pods instead of nodes."""

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from database_operator import config
from database_operator.engines.base import Command, Member, Probe
from database_operator.kube import auth
from database_operator.kube import resources as r
from database_operator.kube.client import Client
from database_operator.kube.errors import ApiError, NotFound
from database_operator.kube.resources import Resource
from database_operator.manager import Manager
from database_operator.reconcile import act, asking
from database_operator.reconcile.connections import base
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.engines import Engines
from tests.reconcile.node import Node

WRITES = frozenset({"create", "update", "patch", "delete"})


class Hub:
    """One namespace of a real API server, with a client for the test and a node that is played."""

    def __init__(self, plane: ControlPlane, namespace: str, client: Client) -> None:
        self.plane, self.namespace, self.client = plane, namespace, client
        self.node = Node(client, namespace)
        self.engines = Engines()
        self.node.data_gone = self.engines.forget
        self.broken = self.node.broken  # pod -> waiting reason of its container
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

    async def uid(self, resource: Resource, name: str) -> str:
        """Empty while there is none."""
        try:
            return str((await self.get(resource, name))["metadata"]["uid"])
        except NotFound:
            return ""

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

    async def probe(self, target: base.Target, member: Member) -> Probe:
        """What the members' engines say."""
        probe = await self.engines.probe(target, member)
        version = self.versions.get(member.pod)
        return probe if version is None else msgspec.structs.replace(probe, version=version)

    async def clear(self) -> None:
        """Take the workloads away; the namespace itself goes with the control plane, since its deletion costs far more."""
        for database in await self.all(DATABASE):
            name = database["metadata"]["name"]
            with contextlib.suppress(ApiError):
                await self.client.patch(DATABASE, self.namespace, name, {"metadata": {"finalizers": []}})
                await self.client.delete(DATABASE, self.namespace, name)
        for kind in (r.STATEFUL_SET, r.DEPLOYMENT, r.POD):
            options = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
            await self.client._call("DELETE", kind.path(self.namespace), body=json.dumps(options).encode())

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
async def hub(plane: ControlPlane, *, restricted: bool = True, provisions: bool = True) -> AsyncIterator[Hub]:
    """A fresh namespace with a node and engines that are played; its workloads are gone afterwards."""
    client = Client(auth.load(str(plane.kubeconfig)), user_agent="test/1", in_flight=64)
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
    head = {"name": namespace, "labels": labels}
    await client.create(r.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": head})
    made = Hub(plane, namespace, client)
    made.node.provisions = provisions
    node = asyncio.create_task(made.node.run())
    HUBS[namespace] = made
    try:
        yield made
    finally:
        del HUBS[namespace]
        await made.clear()
        node.cancel()
        await asyncio.gather(node, return_exceptions=True)
        await client.close()
        await asyncio.sleep(0.1)  # TLS connections are closed by the loop's next turns


HUBS: dict[str, Hub] = {}  # by namespace: operators of several hubs run side by side in one process


async def _probe(target: base.Target, member: Member) -> Probe:
    return await HUBS[target.database.namespace].probe(target, member)


async def _command(target: base.Target, order: Command) -> None:
    await HUBS[target.database.namespace].engines.command(target, order)


async def _switchover(target: base.Target, to: str) -> None:
    await HUBS[target.database.namespace].engines.switchover(target, to)


PLAYED = base.Connection(probe=_probe, command=_command, switchover=_switchover)


OPERATORS: set[Manager] = set()
REAL = {module: module.connection for module in (act, asking)}


def manager(at: Hub, *flags: str) -> Manager:
    """An operator that watches the hub's namespace, not started."""
    argv = ["run", "--kubeconfig", str(at.plane.kubeconfig), "--namespace", at.namespace, "--metrics-bind-address", "0"]
    argv += ["--health-probe-bind-address", "0", "--max-concurrent-reconciles", "4", *flags]
    return Manager(config.parse(argv, {}))


@contextlib.asynccontextmanager
async def operator(at: Hub, *flags: str) -> AsyncIterator[Manager]:
    """An operator that watches the hub's namespace; its members are asked, and take commands, as the hub's engines play them."""
    made = manager(at, *flags)
    with playing(made):
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@contextlib.contextmanager
def playing(made: Manager) -> Iterator[None]:
    """While ``made`` runs, members are asked of the hubs."""
    OPERATORS.add(made)
    for module in REAL:
        module.connection = lambda _provider: PLAYED  # type: ignore[attr-defined]
    try:
        yield
    finally:
        OPERATORS.discard(made)
        if not OPERATORS:
            for module, real in REAL.items():
                module.connection = real  # type: ignore[attr-defined]
