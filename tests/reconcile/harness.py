"""An operator in this process against a real API server, with simulated pods instead of nodes."""

import asyncio
import contextlib
import json
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol

import msgspec

from database_operator import config
from database_operator.api.status import Role
from database_operator.engines.base import Command, Member, Probe
from database_operator.kube import auth
from database_operator.kube import resources as r
from database_operator.kube.client import Client
from database_operator.kube.errors import ApiError, NotFound
from database_operator.kube.resources import Resource
from database_operator.manager import Manager
from database_operator.reconcile.connections import base
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.late import Late
from tests.reconcile.engines import Engines
from tests.reconcile.node import Node

LEAST, MOST = 0.05, 0.6  # seconds between two looks at what is waited for
WRITES = frozenset({"create", "update", "patch", "delete"})


class Cuts(Protocol):
    """``tests.reconcile.crash.Axe`` as a hub sees it."""

    async def cut(self, what: str, go: Callable[[], Awaitable[Any]]) -> Any: ...


class Hub:
    """One namespace of a real API server, with a client for the test and a node that is played."""

    def __init__(self, plane: ControlPlane, namespace: str, client: Client) -> None:
        self.plane, self.namespace, self.client = plane, namespace, client
        self.node = Node(client, namespace)
        self.engines = Engines()
        self.node.data_gone = self.engines.forget
        self.broken = self.node.broken  # pod -> waiting reason of its container
        self.axe: Cuts | None = None
        self.connection: base.Connection | None = None  # takes the place of the engines
        self.roles: dict[str, str] = {}  # pod -> what its engine says, where it is not the played engine's word
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
        role = Role(self.roles[member.pod]) if member.pod in self.roles else probe.role
        return msgspec.structs.replace(probe, role=role, version=self.versions.get(member.pod, probe.version))

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

    async def ordered(self, what: str, order: Callable[[], Awaitable[None]]) -> None:
        """A command of the operator's to an engine: one more moment at which it may die."""
        if self.axe is None:
            await order()
        else:
            await self.axe.cut(what, order)

    def calls(self, agent: str) -> Counter[str]:
        """What the API server was asked in this namespace by ``agent`` so far, as ``verb resource code``."""
        assert self.plane.audit_log is not None
        found: Counter[str] = Counter()
        with self.plane.audit_log.open("rb") as log:
            lines = [line for line in log if self.namespace.encode() in line]  # the other tests' are most of them
        for line in lines:
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
    """Wait until ``reached``; fails the test with ``why`` after ``seconds``.

    The longer it takes, the rarer are the looks: dozens of tests wait side by side, and looks are most of what the API server does.
    A call of the test's own that had no answer counts as not yet: machines are shared.
    """
    began = asyncio.get_running_loop().time()

    async def now() -> bool:
        try:
            return await reached()
        except ApiError as error:
            if error.status:
                raise
            return False

    while not await now():
        waited = asyncio.get_running_loop().time() - began
        if waited > seconds:
            raise Late(why())
        await asyncio.sleep(min(MOST, max(LEAST, waited / 6)))


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


def _hub(target: base.Target) -> Hub:
    """An operator of several hubs may not have heard yet that one of them is over."""
    at = HUBS.get(target.database.namespace)
    if at is None:
        raise base.Unreachable("nothing is played any more")
    return at


async def _probe(target: base.Target, member: Member) -> Probe:
    at = _hub(target)
    return await (at.connection.probe if at.connection else at.probe)(target, member)


async def _command(target: base.Target, order: Command) -> None:
    at = _hub(target)
    run = (at.connection and at.connection.command) or at.engines.command
    await at.ordered(f"command {order.name}", lambda: run(target, order))


async def _switchover(target: base.Target, to: str) -> None:
    at = _hub(target)
    move = (at.connection and at.connection.switchover) or at.engines.switchover
    await at.ordered("switchover", lambda: move(target, to))


PLAYED = base.Connection(probe=_probe, command=_command, switchover=_switchover)


OPERATORS: set[Manager] = set()


def _users_of_connection() -> list[Any]:
    """The modules of the pipeline that look up how members are asked."""
    loaded = [module for name, module in sys.modules.items() if name.startswith("database_operator.reconcile.") and module is not base]
    return [module for module in loaded if getattr(module, "connection", None) is base.connection]


REAL = {module: module.connection for module in _users_of_connection()}


def manager(at: Hub, *flags: str, everywhere: bool = False) -> Manager:
    """An operator that watches the hub's namespace or all, not started."""
    argv = ["run", "--kubeconfig", str(at.plane.kubeconfig), "--metrics-bind-address", "0"]
    argv += [] if everywhere else ["--namespace", at.namespace]
    argv += ["--health-probe-bind-address", "0", "--max-concurrent-reconciles", "4", *flags]
    return Manager(config.parse(argv, {}))


@contextlib.asynccontextmanager
async def operator(at: Hub, *flags: str, everywhere: bool = False, connection: base.Connection | None = None) -> AsyncIterator[Manager]:
    """An operator that watches the hub's namespace, or all; its members are asked, and take commands, as the hub's engines play them."""
    made, at.connection = manager(at, *flags, everywhere=everywhere), connection
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
