"""Engines that are played: as much of each as its topology asks for, so that members join, leave, hand over and take settings.

They stand in for databases in tests of the operator alone; nothing here says anything about a real engine.
"""

from typing import Any

import msgspec

from database_operator.api.spec import EngineType, RedisMode
from database_operator.api.status import Role
from database_operator.build.manifest import digest
from database_operator.engines.base import Command, Member, Probe
from database_operator.engines.mongodb import config as mongodb_config
from database_operator.engines.redis import cluster, shards
from database_operator.engines.redis import config as redis_config
from database_operator.engines.sqlite import config as sqlite_config
from database_operator.reconcile.connections.base import Target, Unreachable

NEEDS_RESTART = frozenset(
    {"max_connections", "max_worker_processes", "wal_level", "shared_buffers"}
)  # of PostgreSQL, as far as tests set them


def ordinal(pod: str) -> int:
    return int(pod.rpartition("-")[2])


class Played:
    """The members of one Database as one engine: what outlives the operator."""

    def __init__(self) -> None:
        self.primary = ""
        self.settings: dict[str, dict[str, Any]] = {}  # pod UID -> what its server runs with
        self.shared: dict[str, Any] = {}  # what the members agree on
        self.hosts: dict[str, dict[str, Any]] = {}  # MongoDB: the set's configuration by pod
        self.formed = False
        self.passwords: dict[str, str] = {}  # pod UID -> what its server takes
        self.pending: dict[str, dict[str, Any]] = {}  # PostgreSQL: pod UID -> parameters that wait
        self.slots: dict[str, tuple[tuple[int, int], ...]] = {}  # Redis Cluster, by pod
        self.follows: dict[str, str] = {}
        self.met: set[str] = set()
        self.cloned: list[str] = []  # PostgreSQL: pods that were cloned anew

    def elect(self, target: Target) -> None:
        """The first primary is the first member's to be: which pod runs first is chance."""
        alive = [member.pod for member in target.members if member.running and not member.terminating]
        first = min((member.pod for member in target.members), default="")
        if self.primary not in alive and alive and (self.primary or first in alive):
            self.primary = min(alive)


class Engines:
    """All engines of a namespace."""

    def __init__(self) -> None:
        self._played: dict[str, Played] = {}

    def of(self, target: Target) -> Played:
        return self._played.setdefault(target.database.name, Played())

    def forget(self, database: str) -> None:
        """Its data is gone."""
        self._played.pop(database, None)

    async def probe(self, target: Target, member: Member) -> Probe:
        played = self.of(target)
        played.elect(target)
        probe = {
            EngineType.POSTGRESQL: _postgresql,
            EngineType.MONGODB: _mongodb,
            EngineType.REDIS: _redis,
            EngineType.ELASTICSEARCH: _elasticsearch,
            EngineType.SQLITE: _sqlite,
        }[target.database.type](played, target, member)
        return msgspec.structs.replace(probe, version=_version(target, member))

    async def command(self, target: Target, order: Command) -> None:
        played = self.of(target)
        member = target.member(order.pod)
        run = _COMMANDS.get((target.database.type, order.name))
        if run is None:
            raise Unreachable(f"no command {order.name}")
        run(played, target, member, order)

    async def switchover(self, target: Target, to: str) -> None:
        played = self.of(target)
        if target.database.redis.mode is RedisMode.CLUSTER and target.database.type is EngineType.REDIS:
            _take_over(played, to)
            return
        if not target.member(to).running:
            raise Unreachable(f"{to} does not run")
        played.primary = to


def _version(target: Target, member: Member) -> str:
    """Of the server that runs, which its image says."""
    tag = member.image.rpartition(":")[2] or target.database.spec.version
    return f"{tag}.0" if tag[:1].isdigit() else "3.45.0"


def _role(played: Played, member: Member) -> Role:
    return Role.PRIMARY if member.pod == played.primary else Role.REPLICA


def _id(target: Target) -> str:
    return f"cluster-of-{target.database.name}"


def _postgresql(played: Played, target: Target, member: Member) -> Probe:
    replica = member.pod != played.primary
    pending = played.pending.get(member.uid, {})
    facts = {
        "config": played.shared,
        "replication_state": "streaming" if replica else None,
        "synchronous": replica and bool(played.shared.get("synchronous_mode")),
        "pending": pending,
        "untaken": {},
    }
    return Probe(role=_role(played, member), lag_bytes=0, cluster_id=_id(target), pending_restart=bool(pending), facts=facts)


def _merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    base = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = _merged(base.get(key), value)
    return base


def _pg_configure(played: Played, target: Target, member: Member, order: Command) -> None:
    before = played.shared.get("postgresql", {}).get("parameters", {})
    played.shared = _merged(played.shared, order.arguments["patch"])
    after = played.shared.get("postgresql", {}).get("parameters", {})
    if not before:
        return
    changed = {
        name: {"old_value": before.get(name), "new_value": after.get(name)} for name in NEEDS_RESTART if before.get(name) != after.get(name)
    }
    for one in target.members:
        if changed:
            played.pending.setdefault(one.uid, {}).update(changed)


def _pg_restart(played: Played, target: Target, member: Member, order: Command) -> None:
    played.pending.pop(member.uid, None)


def _pg_rebuild(played: Played, target: Target, member: Member, order: Command) -> None:
    if member.pod == played.primary:
        raise Unreachable("the leader is not cloned")
    played.cloned.append(member.pod)


def _mongodb(played: Played, target: Target, member: Member) -> Probe:
    host = f"{member.pod}.{target.database.name}-members.{target.database.namespace}.svc.cluster.local:27017"
    inside = member.pod in played.hosts
    running = played.settings.setdefault(member.uid, dict(mongodb_config.live_parameters(target.database)))
    if inside and played.primary not in played.hosts:
        played.primary = min(played.hosts)
    role = Role.UNKNOWN if not inside else _role(played, member)
    state = {Role.UNKNOWN: "UNINITIALIZED", Role.PRIMARY: "PRIMARY", Role.REPLICA: "SECONDARY"}[role]
    facts = {
        "state": state,
        "self": host,
        "setId": "set" if inside else None,
        "users": inside,
        "config": [dict(entry) for entry in played.hosts.values()],
        "states": {entry["host"]: "PRIMARY" if pod == played.primary else "SECONDARY" for pod, entry in played.hosts.items()},
        "parameters": running,
        "complaint": None,
    }
    return Probe(role=role, lag_bytes=0, cluster_id="set" if inside else None, facts=facts)


def _host_of(target: Target, pod: str) -> str:
    return f"{pod}.{target.database.name}-members.{target.database.namespace}.svc.cluster.local:27017"


def _mongo_initiate(played: Played, target: Target, member: Member, order: Command) -> None:
    if played.hosts:
        raise Unreachable("initiated already")  # a second set would be the worst of faults
    played.hosts[member.pod] = {"_id": 0, "host": _host_of(target, member.pod), "votes": 1, "priority": 1}
    played.primary = member.pod


def _mongo_add(played: Played, target: Target, member: Member, order: Command) -> None:
    host = order.arguments["host"]
    pod = host.partition(".")[0]
    played.hosts.setdefault(pod, {"_id": len(played.hosts), "host": host, "votes": 0, "priority": 0})


def _mongo_remove(played: Played, target: Target, member: Member, order: Command) -> None:
    played.hosts.pop(order.arguments["host"].partition(".")[0], None)


def _mongo_vote(played: Played, target: Target, member: Member, order: Command) -> None:
    entry = played.hosts[order.arguments["host"].partition(".")[0]]
    entry |= {"votes": 1, "priority": 1}


def _mongo_configure(played: Played, target: Target, member: Member, order: Command) -> None:
    played.settings[member.uid] |= order.arguments["parameters"]


def _redis(played: Played, target: Target, member: Member) -> Probe:
    database = target.database
    running = played.settings.setdefault(member.uid, dict(redis_config.live(database)))
    login = digest(target.credentials.get("password", ""))
    took = played.passwords.setdefault(member.uid, login)
    clustered = database.redis.mode is RedisMode.CLUSTER
    node = _cluster_node(played, target, member) if clustered else None
    role = _role(played, member)
    if node is not None:
        role = Role.PRIMARY if node.slots else Role.REPLICA if node.follows else Role.UNKNOWN
    sentinels = database.redis.mode is RedisMode.SENTINEL or len(target.members) > 1
    facts = {
        "role": "master" if role is Role.PRIMARY else "slave",
        "follows": "" if role is Role.PRIMARY else played.primary,
        "elected": played.primary if sentinels and not clustered else None,
        "settings": running,
        "priority": "100",
        "password": "current" if took == login else "old",
        "node": node,
    }
    serves = node is not None and bool(node.slots or node.follows)
    shard = shards.shard_of(member.pod, database.redis.shards or 3) if serves else None
    return Probe(role=role, lag_bytes=0, shard=shard, cluster_id=_id(target) if node is None or node.complete else None, facts=facts)


def _cluster_node(played: Played, target: Target, member: Member) -> cluster.Node:
    ids = {f"node-{pod}" for pod in played.met}
    own = f"node-{member.pod}"
    there = {f"node-{one.pod}" for one in target.members}
    owned = sum(last - first + 1 for parts in played.slots.values() for first, last in parts)
    return cluster.Node(
        id=own,
        slots=played.slots.get(member.pod, ()),
        follows=played.follows.get(member.pod, ""),
        complete=owned == shards.SLOTS,
        knows=tuple(sorted(ids & there if own in ids else {own})),
        lost=tuple(sorted(ids - there)),
    )


def _slots(played: Played, pod: str) -> set[int]:
    return {slot for first, last in played.slots.get(pod, ()) for slot in range(first, last + 1)}


def _redis_configure(played: Played, target: Target, member: Member, order: Command) -> None:
    played.settings[member.uid] |= order.arguments


def _redis_password(played: Played, target: Target, member: Member, order: Command) -> None:
    played.passwords[member.uid] = digest(target.credentials.get("password", ""))


def _redis_promote(played: Played, target: Target, member: Member, order: Command) -> None:
    played.primary = member.pod


def _redis_meet(played: Played, target: Target, member: Member, order: Command) -> None:
    played.met |= {member.pod, *order.arguments["pods"]}


def _redis_assign(played: Played, target: Target, member: Member, order: Command) -> None:
    """A pass that has not heard of it yet may ask once more."""
    part = range(order.arguments["first"], order.arguments["last"] + 1)
    played.slots[member.pod] = shards.joined(_slots(played, member.pod) | set(part))


def _redis_replicate(played: Played, target: Target, member: Member, order: Command) -> None:
    played.follows[member.pod] = order.arguments["id"]


def _redis_forget(played: Played, target: Target, member: Member, order: Command) -> None:
    for id_ in order.arguments["ids"]:
        pod = id_.removeprefix("node-")
        played.met.discard(pod)
        played.follows.pop(pod, None)


def _redis_detach(played: Played, target: Target, member: Member, order: Command) -> None:
    played.follows.pop(member.pod, None)


def _redis_leave(played: Played, target: Target, member: Member, order: Command) -> None:
    assert not played.slots.get(member.pod), f"{member.pod} leaves with slots"
    played.met.discard(member.pod)
    played.follows.pop(member.pod, None)


def _redis_migrate(played: Played, target: Target, member: Member, order: Command) -> None:
    """All at once: how slots move one by one is shown in tests/engines/test_redis_slots.py."""
    moved = {slot for first, last in order.arguments["slots"] for slot in range(first, last + 1)}
    there = _slots(played, order.arguments["to"])
    played.slots[member.pod] = shards.joined(_slots(played, member.pod) - moved)
    played.slots[order.arguments["to"]] = shards.joined(there | moved)


def _take_over(played: Played, to: str) -> None:
    old = played.follows.get(to, "").removeprefix("node-")
    if not old:
        return
    played.slots[to] = played.slots.pop(old)
    played.follows.pop(to)
    for pod, primary in played.follows.items():
        if primary == f"node-{old}":
            played.follows[pod] = f"node-{to}"
    played.follows[old] = f"node-{to}"


def _elasticsearch(played: Played, target: Target, member: Member) -> Probe:
    voteless = played.shared.get("voteless", ())
    staying = [one.pod for one in target.members if one.running and not one.terminating and one.pod not in voteless]
    if played.primary in voteless and staying:
        played.primary = min(staying)
    elected = member.pod == played.primary
    facts: dict[str, Any] = {"elected": elected, "login": "taken"}
    if elected:
        running = [one for one in target.members if one.running and not one.terminating]
        facts |= {
            "lonely": {},
            "stranded": {},
            "status": "green",
            "addresses": {one.pod: one.ip for one in running},
            "moving": 0,
            "settings": dict(played.shared.get("settings", {})),
            "excluded": tuple(played.shared.get("excluded", ())),
            "voteless": tuple(voteless),
        }
    return Probe(role=_role(played, member), lag_bytes=0, cluster_id=_id(target), facts=facts)


def _es_configure(played: Played, target: Target, member: Member, order: Command) -> None:
    played.shared["settings"] = _merged(played.shared.get("settings", {}), dict(order.arguments["settings"]))


def _es_exclude(played: Played, target: Target, member: Member, order: Command) -> None:
    played.shared["excluded"] = played.shared["voteless"] = tuple(sorted(order.arguments["nodes"]))


def _es_readmit(played: Played, target: Target, member: Member, order: Command) -> None:
    played.shared["excluded"] = played.shared["voteless"] = ()


def _sqlite(played: Played, target: Target, member: Member) -> Probe:
    wanted = sqlite_config.settings_hash(target.database)
    running = played.settings.setdefault(member.uid, {"settings": wanted})
    return Probe(role=Role.PRIMARY, lag_bytes=0, cluster_id=_id(target), facts={"settings": running["settings"], "differing": ()})


def _sqlite_configure(played: Played, target: Target, member: Member, order: Command) -> None:
    played.settings[member.uid] = {"settings": sqlite_config.settings_hash(target.database)}


_COMMANDS = {
    (EngineType.POSTGRESQL, "configure"): _pg_configure,
    (EngineType.POSTGRESQL, "restart"): _pg_restart,
    (EngineType.POSTGRESQL, "rebuild"): _pg_rebuild,
    (EngineType.MONGODB, "initiate"): _mongo_initiate,
    (EngineType.MONGODB, "add-member"): _mongo_add,
    (EngineType.MONGODB, "remove-member"): _mongo_remove,
    (EngineType.MONGODB, "add-vote"): _mongo_vote,
    (EngineType.MONGODB, "configure"): _mongo_configure,
    (EngineType.REDIS, "configure"): _redis_configure,
    (EngineType.REDIS, "password"): _redis_password,
    (EngineType.REDIS, "promote"): _redis_promote,
    (EngineType.REDIS, "meet"): _redis_meet,
    (EngineType.REDIS, "assign"): _redis_assign,
    (EngineType.REDIS, "replicate"): _redis_replicate,
    (EngineType.REDIS, "forget"): _redis_forget,
    (EngineType.REDIS, "detach"): _redis_detach,
    (EngineType.REDIS, "leave"): _redis_leave,
    (EngineType.REDIS, "migrate"): _redis_migrate,
    (EngineType.ELASTICSEARCH, "configure"): _es_configure,
    (EngineType.ELASTICSEARCH, "exclude"): _es_exclude,
    (EngineType.ELASTICSEARCH, "readmit"): _es_readmit,
    (EngineType.SQLITE, "configure"): _sqlite_configure,
}
