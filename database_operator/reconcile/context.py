"""What a pass works with: the client, the local copies, what was applied before, and the prober's answers."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import aiohttp
from msgspec import Struct, field

from database_operator.api.database import Database, Resolved, Stored
from database_operator.api.spec import EngineType
from database_operator.api.status import DatabaseStatus, Reason
from database_operator.build import constants as c
from database_operator.engines.base import Engine, Platform, Probe
from database_operator.kube import resources as r
from database_operator.kube.client import Client
from database_operator.kube.informer import Informer
from database_operator.kube.objects import Key
from database_operator.kube.resources import Resource
from database_operator.reconcile.views import (
    DATABASE,
    ChildView,
    ClaimView,
    DatabaseView,
    PodView,
    WorkloadView,
    by_app,
    by_data_of,
)

MANAGED = f"{c.MANAGED_BY}={c.MANAGER}"

# Kinds without a spec of their own to look into, watched as metadata. Those without a generation report every version:
# nothing else shows that somebody changed them.
METADATA_KINDS = (r.SERVICE, r.CONFIG_MAP, r.SECRET, r.SERVICE_ACCOUNT, r.ROLE, r.ROLE_BINDING, r.POD_DISRUPTION_BUDGET)
WITH_GENERATION = frozenset({r.STATEFUL_SET, r.DEPLOYMENT, r.POD_DISRUPTION_BUDGET})


class Stores:
    """The local copy of every kind that a pass reads; ``namespaces`` None: all."""

    def __init__(self, client: Client, namespaces: list[str] | None) -> None:
        def mine(resource: Resource, type_: type, **more: object) -> Informer:  # type: ignore[type-arg]
            return Informer(client, resource, type_, namespaces=namespaces, label_selector=MANAGED, **more)  # type: ignore[arg-type]

        self.databases: Informer[DatabaseView] = Informer(client, DATABASE, DatabaseView, namespaces=namespaces)
        self.stateful_sets: Informer[WorkloadView] = mine(r.STATEFUL_SET, WorkloadView)
        self.deployments: Informer[WorkloadView] = mine(r.DEPLOYMENT, WorkloadView)
        self.pods: Informer[PodView] = mine(r.POD, PodView, indexes={"app": by_app})
        self.claims: Informer[ClaimView] = mine(r.PERSISTENT_VOLUME_CLAIM, ClaimView, indexes={"data-of": by_data_of})
        self.children: Mapping[Resource, Informer[ChildView]] = {
            kind: mine(kind, ChildView, metadata_only=True, every_version=kind not in WITH_GENERATION, indexes={"data-of": by_data_of})
            for kind in METADATA_KINDS
        }

        self.storage_classes: Informer[ChildView] = Informer(client, r.STORAGE_CLASS, ChildView, metadata_only=True)

    def owned(self) -> Iterator[tuple[Resource, Informer]]:  # type: ignore[type-arg]
        """The kinds of the workload group, in the order in which prune looks at them."""
        yield r.STATEFUL_SET, self.stateful_sets
        yield r.DEPLOYMENT, self.deployments
        yield from ((kind, informer) for kind, informer in self.children.items() if kind is not r.SECRET)

    def store(self, resource: Resource) -> Informer:  # type: ignore[type-arg]
        special = {r.STATEFUL_SET: self.stateful_sets, r.DEPLOYMENT: self.deployments, r.PERSISTENT_VOLUME_CLAIM: self.claims}
        return special.get(resource) or self.children[resource]  # type: ignore[return-value]

    def all(self) -> list[Informer]:  # type: ignore[type-arg]
        return [self.databases, self.stateful_sets, self.deployments, self.pods, self.claims, self.storage_classes, *self.children.values()]


class Applied(Struct, frozen=True, gc=False):
    """What the last apply of a child sent and what the server made of it."""

    digest: str
    resource_version: str
    generation: int
    marks: int  # hash of the labels and annotations after the apply


class SecretData(Struct, frozen=True):
    """A Secret's decoded values at one version; never logged."""

    resource_version: str
    uid: str
    values: Mapping[str, str]
    rotated: str | None = None  # the request that its password was made for


class UserSecret(Struct, frozen=True):
    """A Secret of the user as last read; None: it was not there."""

    read_at: float  # seconds, monotonic
    values: Mapping[str, str] | None


class Told(Struct, frozen=True):
    """The status this process wrote last, and the version of the Database that came of it."""

    resource_version: str
    status: DatabaseStatus


class Refused(Struct, frozen=True):
    """A size that a claim was not allowed to grow to."""

    size: str
    message: str
    at: float  # seconds, monotonic


class Request(Struct):
    """One that is being carried out. Lost with the process, it begins anew: all of it may be repeated."""

    value: str
    since: float  # seconds, monotonic
    tried_at: float | None = None  # the engine was asked, and may have taken it whatever came back
    acted_at: float | None = None
    last: str = ""  # what stood in the way the last time


class Memory(Struct):
    """What is kept of one Database between passes. All of it may be lost at any time: it only saves calls."""

    uid: str
    applied: dict[tuple[str, str], Applied] = field(default_factory=dict)  # (kind, name)
    secrets: dict[str, SecretData] = field(default_factory=dict)  # ours, by name
    lost_secrets: dict[str, Mapping[str, str]] = field(default_factory=dict)  # ours that somebody deleted: made again as they were
    user_secrets: dict[str, UserSecret] = field(default_factory=dict)
    begun: Stored | None = None  # the Database as it was when this process was the first to see it
    told: Told | None = None
    files: tuple[bool, str] | None = None  # formed, and the hash of what the pods mount, as last written
    admitted: int = -1  # members for which the data group was looked at live
    generation: tuple[int, float] | None = None  # the one seen last, and when it was seen first (monotonic seconds)
    valid: int | None = None  # the generation whose spec was found free of problems
    not_ready: tuple[str, float] | None = None  # reason, and since when (monotonic seconds) it stands
    refusal: tuple[float, tuple[Reason, str] | None] | None = None  # when it was asked why pods are missing, and the answer
    refused: dict[str, Refused] = field(default_factory=dict)  # growth, by claim
    requests: dict[str, Request] = field(default_factory=dict)  # by name
    primaries: dict[int | None, str] = field(default_factory=dict)  # pods that were last seen to lead, by shard
    since: dict[str, float] = field(default_factory=dict)  # when something that may pass by itself was first seen

    def stands(self, what: str, holds: bool, now: float) -> float:
        """Seconds that ``what`` has been seen to hold without a break; 0 while it does not."""
        if not holds:
            self.since.pop(what, None)
            return 0.0
        return now - self.since.setdefault(what, now)


class Probes(Protocol):
    """The prober as a pass sees it."""

    def answers(self, key: Key) -> Mapping[str, Probe | None]: ...  # by pod UID; None: asked, no answer
    def want(self, key: Key, *, settled: bool) -> None: ...
    def event(self, key: Key) -> None: ...
    def forget(self, key: Key) -> None: ...


class Recorder(Protocol):
    """Events a person reads with ``kubectl describe``."""

    def normal(self, database: Database, reason: str, note: str) -> None: ...
    def warning(self, database: Database, reason: str, note: str) -> None: ...


class Context(Struct, kw_only=True):
    """One per process."""

    client: Client
    stores: Stores
    platform: Platform
    engines: Mapping[EngineType, Engine]
    session: aiohttp.ClientSession
    probes: Probes
    events: Recorder
    resync: float = 300.0  # seconds
    now: Callable[[], float] = time.monotonic
    memories: dict[Key, Memory] = field(default_factory=dict)

    def memory(self, key: Key, uid: str) -> Memory:
        """The memory of this very object; one of the same name before it is forgotten."""
        found = self.memories.get(key)
        if found is None or found.uid != uid:
            found = self.memories[key] = Memory(uid=uid)
        return found

    def forget(self, key: Key) -> None:
        self.memories.pop(key, None)
        self.probes.forget(key)


class Pass(Struct, frozen=True):
    """One pass over one Database that has a valid spec."""

    ctx: Context
    memory: Memory
    database: Resolved
    engine: Engine
    returning: bool = False  # ``database`` has as many members as hold data, which are more than the user wants


class Blocked(Exception):
    """The pass cannot go on for a reason the user has to know. ``after``: seconds until it is looked at again."""

    def __init__(self, reason: Reason, message: str, *, after: float | None = 10.0) -> None:
        super().__init__(message)
        self.reason, self.message, self.after = reason, message, after
