"""Wires the parts together and runs them; the only place that knows all of them."""

import asyncio
import logging
import random
import signal
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
import msgspec
from aiohttp.web import AppRunner

from database_operator import __version__, web
from database_operator.api.database import API_VERSION, KIND, Database
from database_operator.build import constants as c
from database_operator.config import Config
from database_operator.engines.base import Platform
from database_operator.engines.registry import ENGINES
from database_operator.kube import auth, metrics
from database_operator.kube import resources as r
from database_operator.kube.client import Client
from database_operator.kube.controller import Controller, Result
from database_operator.kube.events import Recorder
from database_operator.kube.informer import Informer
from database_operator.kube.lease import Lease, LeaseLost
from database_operator.kube.objects import HasMeta, Key
from database_operator.kube.queue import Queue
from database_operator.kube.resources import Resource
from database_operator.reconcile import echo
from database_operator.reconcile.asking import asked
from database_operator.reconcile.context import Context, Stores
from database_operator.reconcile.database import reconcile
from database_operator.reconcile.metrics import Databases
from database_operator.reconcile.prober import Prober
from database_operator.reconcile.views import ChildView, DatabaseView, PodView

log = logging.getLogger(__name__)

CONTROLLER = "database"
IN_FLIGHT = 32  # calls at once; the API server's fair queuing gives an unknown client about 20 seats
PASS_SECONDS = 60.0
FIRST_PASSES = 10.0  # a second, of settled Databases by a new leader: about 50 writes, a quarter of what a small API server takes
STOP_SECONDS = 20.0  # for passes under way, inside the pod's 30 s of grace
QUIET_SECONDS = 150.0  # without a sign of life from a watch: bookmarks come every 60 s, a dead watch is redone after 70


class Events:
    """The runtime's recorder, told about Databases."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def normal(self, database: Database, reason: str, note: str) -> None:
        self._record(database, "Normal", reason, note)

    def warning(self, database: Database, reason: str, note: str) -> None:
        self._record(database, "Warning", reason, note)

    def _record(self, database: Database, kind: str, reason: str, note: str) -> None:
        metadata = {"namespace": database.namespace, "name": database.name, "uid": database.uid}
        self._recorder.record({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata}, kind, reason, note)


class Manager:
    """One process: local copies from the start, passes only while it leads."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.client = Client(
            auth.load(config.kubeconfig, config.context), user_agent=f"database-operator/{__version__}", in_flight=IN_FLIGHT
        )
        self.queue: Queue[Key] = Queue(CONTROLLER)
        self.stores = Stores(self.client, list(config.namespaces) or None)
        self.reloads: Informer[ChildView] = Informer(
            self.client,
            r.SECRET,
            ChildView,
            namespaces=list(config.namespaces) or None,
            label_selector=f"{c.RELOAD}=true",
            metadata_only=True,
            every_version=True,
        )
        self.recorder = Recorder(self.client, component="database-operator", identity=config.identity)
        self.prober = Prober(lambda key: asked(self.context, key), self._enqueue)
        self.context: Context
        self._working = False

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises LeaseLost where another may lead now: the process must end."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        collector = Databases(self.stores.databases.all, self.prober)
        metrics.REGISTRY.register(collector)
        servers = await self._serve()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10), cookie_jar=aiohttp.DummyCookieJar()) as session:
            self.context = self._context(session)
            self._wire()
            informers = [asyncio.create_task(informer.run(), name=f"informer {informer.resource.kind}") for informer in self._informers()]
            work = asyncio.create_task(self._lead(), name="leader")
            stopping = asyncio.create_task(stop.wait())
            try:
                done, _ = await asyncio.wait([work, stopping, *informers], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if not task.cancelled() and task.exception() is not None:
                        raise task.exception()  # type: ignore[misc]
            finally:
                await self._cancel([work, stopping])
                await self.prober.close()
                await self._cancel(informers)
                for server in servers:
                    await server.cleanup()
                await self.client.close()
                metrics.REGISTRY.unregister(collector)
        log.info("stopped")

    @staticmethod
    async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
        tasks = list(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _context(self, session: aiohttp.ClientSession) -> Context:
        config = self.config
        return Context(
            client=self.client,
            stores=self.stores,
            platform=Platform(agent_image=config.agent_image, image_registry=config.image_registry, cluster_domain=config.cluster_domain),
            engines=ENGINES,
            session=session,
            probes=self.prober,
            events=Events(self.recorder),
            resync=config.resync_seconds,
        )

    def _informers(self) -> list[Informer]:  # type: ignore[type-arg]
        return [*self.stores.all(), self.reloads]

    async def _serve(self) -> list[AppRunner]:
        servers = []
        if self.config.health_address is not None:
            servers.append(await web.serve(web.health_app(self._why_not_ready), self.config.health_address))
        if self.config.metrics_address is not None:
            servers.append(await web.serve(web.metrics_app(metrics.REGISTRY), self.config.metrics_address))
        return servers

    def _why_not_ready(self) -> str | None:
        now = asyncio.get_running_loop().time()
        for informer in self._informers():
            if not informer.synced.is_set():
                return f"{informer.resource.plural} not listed yet{f': {informer.trouble}' if informer.trouble else ''}"
            if now - informer.last_heard > QUIET_SECONDS:
                return f"nothing heard of {informer.resource.plural} for {now - informer.last_heard:.0f} s"
        return None

    async def _lead(self) -> None:
        """Passes, probes and events, while this process holds the lease."""
        for informer in self._informers():
            await informer.synced.wait()
        if not self.config.leader_elect:
            await self._work()
            return
        config = self.config
        lease = Lease(self.client, namespace=config.leader_election_namespace, name=config.leader_election_id, identity=config.identity)
        self.client.may_write = lease.may_write
        await lease.acquire()
        log.info("leading", extra={"identity": config.identity})
        work = asyncio.create_task(self._work())
        hold = asyncio.create_task(lease.hold())
        try:
            done, _ = await asyncio.wait([work, hold], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._cancel([work])  # passes under way end first, and may write as long as the lease is held
            await self._cancel([hold])
            await lease.release()

    async def _work(self) -> None:
        controller = Controller(
            CONTROLLER,
            self._reconcile,
            self.queue,
            workers=self.config.max_concurrent_reconciles,
            resync_period=self.config.resync_seconds,
            timeout=PASS_SECONDS,
        )
        self._working = True
        self._first_passes()
        recorder = asyncio.create_task(self.recorder.run())
        passes = asyncio.create_task(controller.run())
        try:
            await asyncio.shield(passes)
        finally:
            await controller.stop(STOP_SECONDS)
            await self._cancel([recorder, passes])

    async def _reconcile(self, key: Key) -> Result:
        return await reconcile(self.context, key)

    def _first_passes(self) -> None:
        """A new leader looks at everything once and applies it; what is settled waits its turn, at most one resync period."""
        databases = self.stores.databases.all()
        period = min(self.config.resync_seconds, len(databases) / FIRST_PASSES)
        for view in databases:
            made = self.stores.stateful_sets.by_owner(view.metadata.uid) or self.stores.deployments.by_owner(view.metadata.uid)
            if made and settled(view):  # its workload may be gone since, or be under way to be made anew
                spread = random.uniform(0.0, period)  # noqa: S311 spreads the load, guards nothing
                self.queue.add_after(view.metadata.key, spread, low=True)
            else:
                self.queue.add(view.metadata.key)

    def _wire(self) -> None:
        """An event leads to its owner's key and to nothing else."""
        self.stores.databases.on_change(self._database_changed)
        self.stores.pods.on_change(self._pod_changed)
        for resource, informer in self.stores.owned():
            informer.on_change(self._each(_owner) if resource in (r.STATEFUL_SET, r.DEPLOYMENT) else self._child_changed(resource))
        self.stores.claims.on_change(self._each(_data_of))
        self.stores.children[r.SECRET].on_change(self._own_secret_changed)
        self.reloads.on_change(self._secret_changed)

    def _each(self, key_of: Callable[[HasMeta], Key | None]) -> Callable[[HasMeta | None, HasMeta | None], None]:
        def handler(old: HasMeta | None, new: HasMeta | None) -> None:
            for key in {key_of(item) for item in (old, new) if item is not None}:  # also whose it was, if that was taken off
                if key is not None:
                    self._enqueue(key)

        return handler

    def _child_changed(self, resource: Resource) -> Callable[[HasMeta | None, HasMeta | None], None]:
        """Of a kind of which nothing is read but whether somebody else changed it."""

        def handler(old: HasMeta | None, new: HasMeta | None) -> None:
            for key in {_owner(item) for item in (old, new) if item is not None}:
                if key is not None and not echo.of_child(self.context, key, resource, new):
                    self._enqueue(key)

        return handler

    def _database_changed(self, old: DatabaseView | None, new: DatabaseView | None) -> None:
        item = new or old
        if item is not None and not echo.of_database(self.context, old, new):
            self._enqueue(item.metadata.key)

    def _enqueue(self, key: Key) -> None:
        """Not before this process leads: it then looks at everything anyway."""
        if self._working:
            self.queue.add(key)

    def _pod_changed(self, old: PodView | None, new: PodView | None) -> None:
        for key in {_instance(item) for item in (old, new) if item is not None}:
            if key is not None:
                self.prober.event(key)
                self._enqueue(key)

    def _own_secret_changed(self, old: ChildView | None, new: ChildView | None) -> None:
        """A new password is compared with what the members take."""
        for key in {_data_of(item) for item in (old, new) if item is not None}:
            if key is not None:
                self.prober.event(key)
                self._enqueue(key)

    def _secret_changed(self, old: ChildView | None, new: ChildView | None) -> None:
        """A Secret of the user that asks to be noticed at once."""
        item = new or old
        if item is None:
            return
        for key, memory in self.context.memories.items():
            if key.namespace == item.metadata.namespace and memory.user_secrets.pop(item.metadata.name, None) is not None:
                self._enqueue(key)


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _Settled(msgspec.Struct, rename="camel"):
    phase: str = ""
    conditions: list[_Condition] = []
    observed_generation: int = -1


def settled(view: DatabaseView) -> bool:
    """By its own status: good enough to decide how soon to look, not for anything else."""
    try:
        status = msgspec.json.decode(view.status, type=_Settled)
    except msgspec.DecodeError:
        return False
    moving = any(condition.type == "Progressing" and condition.status == "True" for condition in status.conditions)
    done = status.phase in ("Ready", "Stopped") and not moving and status.observed_generation == view.metadata.generation
    return done and not view.metadata.deletion_timestamp


def _instance(item: HasMeta) -> Key | None:
    name = item.metadata.labels.get(c.INSTANCE)
    return Key(item.metadata.namespace, name) if name else None


def _owner(item: HasMeta) -> Key | None:
    owner = next((owner for owner in item.metadata.owner_references if owner.controller and owner.kind == KIND), None)
    return Key(item.metadata.namespace, owner.name) if owner else None


def _data_of(item: HasMeta) -> Key | None:
    name = item.metadata.labels.get(c.DATA_OF)
    return Key(item.metadata.namespace, name) if name else None


__all__ = ["LeaseLost", "Manager"]
