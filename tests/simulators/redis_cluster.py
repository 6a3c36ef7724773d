"""Members of a Redis Cluster as the operator's commands see them, with clients that write, and a crash after any command.

What one member learns of a change the others know at once: gossip is not simulated, nor are elections. Refusals and
redirections are those of Redis 7.0 (src/cluster.c: getNodeByQuery, clusterCommand).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import ResponseError

from database_operator.api.database import Resolved
from database_operator.api.status import Role
from database_operator.engines.base import Action, Command, Label, Member, Observation, Platform, Switchover, Wait
from database_operator.engines.redis.topology import topology
from database_operator.reconcile.connections import redis_cluster, redis_nodes
from database_operator.reconcile.connections.base import Target, Unreachable


class Crash(BaseException):
    """The operator is gone."""


class Server:
    """One member: what it holds in memory and in its nodes.conf."""

    def __init__(self, number: int, slots: int) -> None:
        self.number = number
        self.life = 0
        self.slots: set[int] = set()
        self.forgotten: set[int] = set()  # that the others say it owns
        self.follows: str | None = None
        self.keys: dict[int, dict[str, int]] = {slot: {} for slot in range(slots)}
        self.importing: dict[int, str] = {}
        self.migrating: dict[int, str] = {}
        self.knows: set[str] = {self.id}

    @property
    def id(self) -> str:
        return f"{self.number}-{self.life}"

    @property
    def pod(self) -> str:
        return f"cache-{self.number}"

    def holds_keys(self) -> bool:
        return any(self.keys.values())

    def empty(self) -> None:
        self.keys = {slot: {} for slot in self.keys}


class World:
    """All members by address; ``crash_at`` counts the commands that change something."""

    def __init__(self, slots: int, members: int) -> None:
        self.slots = slots
        self.servers = [Server(number, slots) for number in range(members)]
        self.labels: dict[str, str | None] = {}
        self.truth: dict[str, int] = {}
        self.changes = 0
        self.crash_at, self.crash_after = -1, False
        self.watch: Callable[[], None] = lambda: None

    def by_id(self, id_: str) -> Server:
        found = next((server for server in self.servers if server.id == id_), None)
        if found is None:
            raise ResponseError(f"Unknown node {id_}")
        return found

    def owner(self, slot: int) -> Server | None:
        return next((server for server in self.servers if slot in server.slots), None)

    def place(self, key: str, slot: int) -> Server:
        """Where a client that follows redirections ends with this key."""
        owner = self.owner(slot)
        assert owner is not None, f"slot {slot} has no owner"
        if key in owner.keys[slot] or slot not in owner.migrating:
            return owner
        peer = self.by_id(owner.migrating[slot])
        assert peer.importing.get(slot), f"slot {slot}: sent to {peer.pod}, which sends back"
        return peer

    def write(self, key: str, slot: int) -> None:
        place = self.place(key, slot)
        assert place.keys[slot].get(key, 0) == self.truth.get(key, 0), f"{key} is not what it was at {place.pod}"
        self.truth[key] = place.keys[slot][key] = self.truth.get(key, 0) + 1
        for server in self.servers:
            if server.follows == place.id:
                server.keys[slot] = dict(place.keys[slot])

    def synced(self) -> None:
        for server in self.servers:
            if server.follows:
                server.keys = {slot: dict(keys) for slot, keys in self.by_id(server.follows).keys.items()}


class Handle:
    """A connection, with the part of redis.py that the operator uses."""

    def __init__(self, world: World, server: Server) -> None:
        self.world, self.server = world, server
        self.queued: list[tuple[Any, ...]] = []

    async def info(self, section: str) -> dict[str, Any]:
        if section == "keyspace":
            return {"db0": {}} if self.server.holds_keys() else {}
        return {"role": "slave" if self.server.follows else "master"}

    async def execute_command(self, *words: Any) -> Any:
        return self.run(*words)

    @asynccontextmanager
    async def pipeline(self, transaction: bool) -> AsyncIterator["Pipe"]:
        yield Pipe(self)

    def run(self, *words: Any) -> Any:
        name = "_".join(str(word).lower() for word in words[: 2 if words[0] in ("CLUSTER", "FUNCTION") else 1])
        arguments = words[2:] if words[0] in ("CLUSTER", "FUNCTION") else words[1:]
        if name in ("cluster_nodes", "cluster_info", "cluster_myid", "cluster_getkeysinslot", "function_list", "function_dump"):
            return getattr(self, name)(*arguments)
        here = self.world.changes == self.world.crash_at
        self.world.changes += 1
        if here and not self.world.crash_after:
            raise Crash
        answer = getattr(self, name)(*arguments)
        self.world.synced()
        self.world.watch()
        if here:
            raise Crash
        return answer

    def cluster_nodes(self) -> str:
        return "".join(self._line(server) for server in self.world.servers if server.id in self.server.knows)

    def _line(self, server: Server) -> str:
        mine = server is self.server
        role = ("myself," if mine else "") + ("slave" if server.follows else "master")
        words = [server.id, f"10.0.0.{server.number}:6379@16379,{server.pod}.m", role, server.follows or "-", "0", "0", "1", "connected"]
        words += [str(slot) for slot in sorted(server.slots if mine else server.slots | server.forgotten)]
        if mine:
            words += [f"[{slot}->-{peer}]" for slot, peer in server.migrating.items()]
            words += [f"[{slot}-<-{peer}]" for slot, peer in server.importing.items()]
        return " ".join(words) + "\n"

    def cluster_info(self) -> str:
        return "cluster_state:ok" if all(self.world.owner(slot) for slot in range(self.world.slots)) else "cluster_state:fail"

    def cluster_myid(self) -> str:
        return self.server.id

    def cluster_getkeysinslot(self, slot: int, number: int) -> list[str]:
        return sorted(self.server.keys[slot])[:number]

    def function_list(self) -> list[str]:
        return []

    def function_dump(self) -> str:
        return ""

    def function_restore(self, functions: str) -> None:
        pass

    def cluster_meet(self, address: str, port: int) -> None:
        other = self.world.servers[int(address.rpartition(".")[2])]
        everybody = self.server.knows | other.knows
        for server in self.world.servers:
            if server.id in everybody:
                server.knows |= everybody

    def cluster_addslotsrange(self, first: int, last: int) -> None:
        assert not any(self.world.owner(slot) for slot in range(first, last + 1))
        self.server.slots |= set(range(first, last + 1))

    def cluster_replicate(self, id_: str) -> None:
        if not self.server.follows and (self.server.slots or self.server.holds_keys()):
            raise ResponseError("To set a master the node must be empty and without assigned slots.")
        if self.world.by_id(id_).follows:
            raise ResponseError("I can only replicate a master, not a replica.")
        self.server.follows = id_
        self.server.importing, self.server.migrating = {}, {}

    def cluster_forget(self, id_: str) -> None:
        if id_ not in self.server.knows:
            raise ResponseError(f"Unknown node {id_}")
        self.server.knows.discard(id_)

    def cluster_failover(self) -> None:
        assert self.server.follows
        old = self.world.by_id(self.server.follows)
        self.server.follows, self.server.slots, old.slots = None, old.slots, set()
        for server in self.world.servers:
            if server.follows == old.id:
                server.follows = self.server.id
        old.follows, old.importing, old.migrating = self.server.id, {}, {}

    def cluster_reset(self, how: str) -> None:
        server = self.server
        if not server.follows and server.holds_keys():
            raise ResponseError("CLUSTER RESET can't be called with master nodes containing keys")
        server.empty()
        server.slots, server.follows, server.importing, server.migrating = set(), None, {}, {}
        server.life += how == "HARD"
        server.knows = {server.id}

    def flushall(self) -> None:
        assert not self.server.holds_keys()

    def cluster_setslot(self, slot: int, state: str, id_: str = "") -> None:
        server = self.server
        if server.follows:
            raise ResponseError("You can use SETSLOT only with masters.")
        match state:
            case "IMPORTING":
                if slot in server.slots:
                    raise ResponseError(f"I'm already the owner of hash slot {slot}")
                server.importing[slot] = self.world.by_id(id_).id
            case "MIGRATING":
                if slot not in server.slots:
                    raise ResponseError(f"I'm not the owner of hash slot {slot}")
                server.migrating[slot] = self.world.by_id(id_).id
            case "STABLE":
                server.importing.pop(slot, None)
                server.migrating.pop(slot, None)
            case "NODE":
                self._give(slot, id_)

    def _give(self, slot: int, id_: str) -> None:
        server = self.server
        if slot in server.slots and id_ != server.id and server.keys[slot]:
            raise ResponseError("Can't assign hashslot to a different node while I still hold keys for this hash slot.")
        if not server.keys[slot]:
            server.migrating.pop(slot, None)
        if id_ == server.id:
            before = self.world.owner(slot)
            assert before is None or before is server or not before.keys[slot], f"{before.pod} loses the keys of slot {slot}"
            if before is not None:
                before.slots.discard(slot)
            server.slots.add(slot)
            server.forgotten.discard(slot)
            server.importing.pop(slot, None)

    def migrate(self, address: str, port: int, key: str, database: int, timeout: int, *words: str) -> str:
        assert words[:3] == ("REPLACE", "AUTH2", "replica")
        slots = {key: slot for slot, keys in self.server.keys.items() for key in keys}
        target = self.world.servers[int(address.rpartition(".")[2])]
        for name in words[5:]:
            slot = slots[name]
            if slot not in target.importing and slot not in target.slots:
                raise ResponseError("MOVED")
            target.keys[slot][name] = self.server.keys[slot].pop(name)
        return "OK"


class Pipe:
    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.queued: list[tuple[Any, ...]] = []

    def execute_command(self, *words: Any) -> None:
        self.queued.append(words)

    async def execute(self, raise_on_error: bool) -> list[Any]:
        answers: list[Any] = []
        for words in self.queued:
            try:
                answers.append(self.handle.run(*words))
            except ResponseError as error:
                answers.append(error)
        return answers


class Operator:
    """Real topology and real commands over a World. Restarted as often as it crashes: it remembers nothing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps = 0

    @asynccontextmanager
    async def client(self, target: Target, host: str, port: int = 6379) -> AsyncIterator[Handle]:
        try:
            yield Handle(self.world, self.world.servers[int(host.rpartition(".")[2])])
        except ResponseError as error:
            raise Unreachable(str(error)) from error

    def target(self, database: Resolved, members: tuple[Member, ...] = ()) -> Target:
        return Target(database=database, platform=Platform(agent_image="a"), session=None, members=members)  # type: ignore[arg-type]

    async def observation(self, database: Resolved, formed: bool) -> Observation:
        members = []
        for server in self.world.servers:
            own, serves = await redis_nodes.ask(Handle(self.world, server))
            role = Role.UNKNOWN if serves is None else Role.REPLICA if server.follows else Role.PRIMARY
            members.append(
                Member(
                    pod=server.pod,
                    ip=f"10.0.0.{server.number}",
                    ready=True,
                    running=True,
                    reached=True,
                    role=role,
                    role_label=self.world.labels.get(server.pod),
                    lag_bytes=0 if server.follows else None,
                    facts={"node": own},
                )
            )
        return Observation(members=tuple(members), wanted=database.spec.replicas, formed="x" if formed else None)

    async def settle(self, database: Resolved, *, formed: bool = True, most: int = 400) -> None:
        """Until nothing is left to do. Raises AssertionError if that takes too long, Crash if it is told to."""
        for _ in range(most):
            seen = await self.observation(database, formed)
            action = topology(database, seen)
            if action is None:
                return
            assert not isinstance(action, Wait), action
            self.steps += 1
            await self.act(database, seen, action)
        raise AssertionError(f"not settled, still {action}")

    async def act(self, database: Resolved, seen: Observation, action: Action) -> None:
        target = self.target(database, seen.members)
        if isinstance(action, Label):
            self.world.labels[action.pod] = action.role
        elif isinstance(action, Switchover):
            await redis_cluster.switchover(target, action.to)
        else:
            assert isinstance(action, Command), action
            await redis_cluster.command(target, target.member(action.pod), action)
