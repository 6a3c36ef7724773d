"""What the operator asks members and Sentinels of a Redis, and tells them: always as user ``operator``, who reads no key."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from database_operator.api.spec import RedisMode
from database_operator.api.status import Role
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.build.redisconf import MASTER_NAME, password_hash
from database_operator.engines.base import Command, Member, Probe
from database_operator.engines.redis.config import PORT
from database_operator.engines.redis.live import changed
from database_operator.engines.redis.shards import shard_of
from database_operator.reconcile.connections import redis_cluster, redis_nodes
from database_operator.reconcile.connections.base import Connection, Target, Unreachable
from database_operator.reconcile.connections.redis_client import client

SENTINELS = 3
CATCH_UP_SECONDS = 0.7
SWITCHOVER_SECONDS = 1.7  # of the two that a pass gives
PAUSE_MS = 15000  # writes wait no longer than this, should nobody come back to end the pause
BOTH_SECONDS = 180  # both passwords are taken for so long: a mounted Secret reaches its readers within two minutes
UNTIL = "accepted-until-"  # prefix of a disabled user whose name says until when; Redis has no other place for it


class View(Struct, frozen=True):
    """What one Sentinel says: whom it takes for the primary, since which election; not ``settled`` while it leads a failover.

    ``leaves``: the primary that the failover is about; ``host`` is another one as soon as that has been promoted.
    """

    epoch: int
    host: str
    address: str
    settled: bool = True
    leaves: str = ""

    @property
    def pod(self) -> str:
        return self.host.partition(".")[0]

    @property
    def promoted(self) -> bool:
        return not self.settled and self.host != self.leaves


def _sentinel_host(target: Target) -> str:
    return f"{names.sentinel(target.database.name)}.{target.database.namespace}.svc.{target.platform.cluster_domain}"


async def _sentinels(target: Target) -> list[str]:
    """Addresses of the Sentinels, sorted; none where there are none, or DNS does not know them."""
    mode = target.database.redis.mode
    if mode is RedisMode.CLUSTER or (mode is RedisMode.STANDALONE and len(target.members) < 2):
        return []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(f"{_sentinel_host(target)}.", None)
    except OSError:
        return []
    return sorted({str(entry[4][0]) for entry in found})


async def _view(server: Any, address: str) -> View | None:
    """In a failover GET-MASTER-ADDR-BY-NAME already names the promoted member, MASTER still the old one."""
    now = await server.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
    answer = await server.execute_command("SENTINEL", "MASTER", MASTER_NAME)
    pairs = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
    settled = "failover_in_progress" not in pairs["flags"]
    return View(int(pairs["config-epoch"]), now[0], address, settled, "" if settled else pairs["ip"]) if now else None


async def _views(target: Target) -> list[View]:
    """Of every Sentinel that answers, the latest election first."""

    async def one(address: str) -> View | None:
        try:
            async with client(target, address, c.SENTINEL_PORT) as server:
                return await _view(server, address)
        except Unreachable:
            return None

    found = await asyncio.gather(*(one(address) for address in await _sentinels(target)))
    return sorted((view for view in found if view), key=lambda view: (-view.epoch, view.address))


def elected(views: Sequence[View]) -> str | None:
    """The host that more than half of the three Sentinels name for the latest election. Pure.

    None while a failover goes on, or may, and nobody has been promoted: only the Sentinel that leads it knows, and until it
    is over the others name the old primary. To follow them would undo it.
    """
    promoted = [view.host for view in views if view.promoted]
    if promoted:
        return promoted[0]
    if len(views) < SENTINELS or not all(view.settled for view in views):
        return None
    latest = [view.host for view in views if view.epoch == max(other.epoch for other in views)]
    return latest[0] if len(latest) >= 2 and len(set(latest)) == 1 else None


def password_state(hashes: Sequence[str], users: Sequence[str], password: str, now: float) -> str:
    """``current``, ``old`` (the new one is not taken), ``both`` (for a while) or ``both-expired``. Pure."""
    wanted = password_hash(password)
    if wanted not in hashes:
        return "old"
    if set(hashes) == {wanted}:
        return "current"
    until = [int(user.removeprefix(UNTIL)) for user in users if user.startswith(UNTIL) and user.removeprefix(UNTIL).isdigit()]
    return "both" if any(now < moment for moment in until) else "both-expired"


async def _password_state(server: Any, password: str) -> str:
    user = await server.acl_getuser("default")
    users = await server.acl_users()
    return password_state(user["passwords"] if user else [], users, password, time.time())


async def _ask_sentinel(target: Target, member: Member) -> tuple[View | None, str]:
    """One Sentinel's view and how its login stands; each member asks another one first, so that all are looked at."""
    addresses = await _sentinels(target)
    turn = int(member.pod.rpartition("-")[2]) % len(addresses) if addresses else 0
    for address in addresses[turn:] + addresses[:turn]:
        try:
            async with client(target, address, c.SENTINEL_PORT) as server:
                return await _view(server, address), await _password_state(server, target.credentials.get("password", ""))
        except Unreachable:
            continue
    return None, "current"


def _followed(target: Target, info: Mapping[str, Any]) -> str:
    """The pod whose replica this is; empty for a primary."""
    host = str(info.get("master_host", ""))
    by_address = [member.pod for member in target.members if member.ip == host]  # a cluster names addresses
    return by_address[0] if by_address else host.partition(".")[0]


async def _primary_offset(target: Target, info: Mapping[str, Any]) -> int | None:
    try:
        primary = target.member(_followed(target, info))
        async with client(target, primary.ip or "") as server:
            return int((await server.info("replication"))["master_repl_offset"])
    except Unreachable:
        return None


def _role(said: str, pod: str, chosen: str | None) -> Role:
    """A member that takes itself for the primary against Sentinel is neither."""
    if said == "slave":
        return Role.REPLICA
    return Role.PRIMARY if chosen in (None, pod) else Role.UNKNOWN


async def probe(target: Target, member: Member) -> Probe:
    """Role, version and lag of one member, and in ``facts`` what its topology compares with the spec."""
    view, sentinel_login = await _ask_sentinel(target, member)
    offset = None
    async with client(target, member.ip or "") as server:
        info = await server.info()
        if info["role"] == "slave" and info.get("master_link_status") == "up":
            offset = await _primary_offset(target, info)
            info = await server.info()  # read after the primary's: the difference is never too small
        stands = await server.config_get("*")
        login = await _password_state(server, target.credentials.get("password", ""))
        own, serves = await redis_nodes.ask(server) if target.database.redis.mode is RedisMode.CLUSTER else (None, None)
    up = info["role"] == "master" or info.get("master_link_status") == "up"
    formed = up and not info.get("loading") and (own is None or own.complete)
    lag = None if offset is None or not up else max(0, offset - int(info.get("slave_repl_offset", 0)))
    chosen = view.pod if view else None
    return Probe(
        role=Role.UNKNOWN if own and serves is None else _role(info["role"], member.pod, chosen),
        shard=shard_of(serves, target.database.redis.shards or 3) if serves else None,
        version=str(info["redis_version"]),
        lag_bytes=lag,
        # Redis has no identity that lasts: the operator's own, which only a server started with this Secret lets in
        cluster_id=target.internal.get("cluster-id") if formed else None,
        facts={
            "role": info["role"],
            "follows": _followed(target, info),
            "elected": chosen,
            "settings": changed(stands),
            "priority": str(stands.get("replica-priority", "100")),
            "password": _worst(login, sentinel_login),
            "durability": {name: str(stands[name]) for name in ("appendonly", "appendfsync") if name in stands},
            "unwritten": sorted(name for name in ("aof_last_write_status", "rdb_last_bgsave_status") if info.get(name, "ok") != "ok"),
            "node": own,
        },
    )


def _worst(*states: str) -> str:
    return min(states, key=("old", "both-expired", "both", "current").index)


async def _configure(target: Target, member: Member, values: Mapping[str, Any]) -> None:
    from redis.exceptions import ResponseError

    async with client(target, member.ip or "") as server:
        for name, value in sorted(values.items()):
            try:
                await server.config_set(name, value)
            except ResponseError as error:
                raise Unreachable(f"{member.pod} refuses {name}: {error}") from error


async def _hand_password(target: Target, host: str, port: int) -> None:
    """Add the new password, and after a while take the old ones away. Connections that are open stay open."""
    password = target.credentials["password"]
    async with client(target, host, port) as server:
        state = await _password_state(server, password)
        if state == "old":
            until = int(time.time()) + BOTH_SECONDS
            await server.execute_command("ACL", "SETUSER", f"{UNTIL}{until}", "off")
            await server.execute_command("ACL", "SETUSER", "default", f"#{password_hash(password)}")
        elif state == "both-expired":
            await server.execute_command("ACL", "SETUSER", "default", "resetpass", f"#{password_hash(password)}")
            for user in await server.acl_users():
                if user.startswith(UNTIL):
                    await server.execute_command("ACL", "DELUSER", user)


async def _password(target: Target, member: Member) -> None:
    """On the Sentinels too. One that does not answer is starting, and reads the new Secret by itself or is found later."""
    await _hand_password(target, member.ip or "", PORT)
    addresses = await _sentinels(target)
    await asyncio.gather(*(_hand_password(target, address, c.SENTINEL_PORT) for address in addresses), return_exceptions=True)


async def _promote(target: Target, member: Member) -> None:
    """The only member left, which is still a replica. With a Sentinel about, that one decides."""
    if await _views(target):
        raise Unreachable("a Sentinel still runs: it decides who is primary")
    async with client(target, member.ip or "") as server:
        await server.execute_command("REPLICAOF", "NO", "ONE")


async def _follow(server: Any, host: str) -> None:
    """Make an old primary the replica that Sentinel has it be, before it takes another write."""
    await server.execute_command("REPLICAOF", host, PORT)
    await server.execute_command("CLIENT", "KILL", "TYPE", "normal")
    await server.execute_command("CLIENT", "UNPAUSE")


async def _demote(target: Target, member: Member) -> None:
    """Rests on the word of more than half of the Sentinels, asked now."""
    host = elected(await _views(target))
    if host is None or host.partition(".")[0] == member.pod:
        raise Unreachable(f"the Sentinels do not agree on another primary than {member.pod}")
    async with client(target, member.ip or "") as server:
        if (await server.info("replication"))["role"] == "master":
            await _follow(server, host)


async def command(target: Target, order: Command) -> None:
    """Raises Unreachable, also where the server refuses."""
    member = target.member(order.pod)
    match order.name:
        case "configure":
            await _configure(target, member, order.arguments)
        case "password":
            await _password(target, member)
        case "promote":
            await _promote(target, member)
        case "demote":
            await _demote(target, member)
        case _:
            await redis_cluster.command(target, member, order)


async def _preferred(target: Target, sentinel: Any, to: str) -> None:
    """Have Sentinel choose ``to``: it takes the replica of the lowest priority, which it reads every 10 s."""
    member = target.member(to)
    async with client(target, member.ip or "") as server:
        if (await server.config_get("replica-priority"))["replica-priority"] != "1":
            await server.config_set("replica-priority", 1)
    answer = await sentinel.execute_command("SENTINEL", "REPLICAS", MASTER_NAME)
    replicas = [entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True)) for entry in answer]
    seen = {entry["ip"].partition(".")[0]: entry.get("slave-priority") for entry in replicas}
    if to not in seen:
        raise Unreachable(f"Sentinel does not know {to} as a replica")
    if len(seen) > 1 and seen[to] != "1":
        raise Unreachable(f"Sentinel has not read yet that {to} is preferred")


async def _caught_up(primary: Any, heir: Any) -> bool:
    """The heir is asked itself: what its primary knows of it is up to a second old."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while time.monotonic() < deadline:
        wanted, info = (await primary.info("replication"))["master_repl_offset"], await heir.info("replication")
        if info.get("master_link_status") == "up" and info["slave_repl_offset"] == wanted:
            return True
        await asyncio.sleep(0.05)
    return False


async def _moved(sentinel: Any, heir: Any, view: View, to: str, deadline: float) -> str | None:
    """The new primary's host. ``to`` itself says so up to a second before Sentinel has noticed that it obeyed."""
    old = view.leaves or view.host
    while time.monotonic() < deadline:
        if (await heir.info("replication"))["role"] == "master":
            return f"{to}.{old.partition('.')[2]}"
        now = await _view(sentinel, "")
        if now is not None and now.host != old:
            return now.host
        await asyncio.sleep(0.05)
    return None


async def _awake(target: Target, views: Sequence[View]) -> View:
    """A Sentinel that does now what it is told: one whose machine has stalled (TILT) begins half a minute later, unforeseen."""
    for view in views:
        async with client(target, view.address, c.SENTINEL_PORT) as sentinel:
            if view.epoch == views[0].epoch and not int((await sentinel.info("sentinel"))["sentinel_tilt"]):
                return view
    raise Unreachable("no Sentinel acts at the moment (TILT): the machines they run on stall")


async def _hand_over(sentinel: Any, primary: Any, heir: Any, to: str) -> None:
    """Writes go on where Sentinel was not asked, or refuses; else they stay paused until the failover is over."""
    from redis.exceptions import ResponseError

    asked = False
    try:
        if not await _caught_up(primary, heir):
            raise Unreachable(f"{to} has not caught up with the primary")
        asked = True
        await sentinel.execute_command("SENTINEL", "FAILOVER", MASTER_NAME)
    except ResponseError as refused:
        asked = str(refused).startswith("INPROG")
        raise
    finally:
        if not asked:
            await primary.execute_command("CLIENT", "UNPAUSE")


async def switchover(target: Target, to: str) -> str | None:
    """Pause writes, wait until ``to`` has them all, have Sentinel fail over, and point the old primary at it.

    ``FAILOVER`` is never sent: under Sentinel it ends in two primaries (redis#13118). What does not fit into one pass
    is taken up by the next: the preference stands, the pause is renewed while the failover goes on, and an old primary is
    found by ``demote``. A pause that ends too soon loses what the old primary then takes.
    """
    if target.database.redis.mode is RedisMode.CLUSTER:
        await redis_cluster.switchover(target, to)
        return None
    deadline = time.monotonic() + SWITCHOVER_SECONDS
    views = await _views(target)
    if not views:
        raise Unreachable("no Sentinel answers")
    going = next((view for view in views if not view.settled), None)
    if going is None and views[0].pod == to:
        return None
    view = going or await _awake(target, views)
    old, heir = (target.member(pod).ip or "" for pod in ((view.leaves or view.host).partition(".")[0], to))
    async with client(target, view.address, c.SENTINEL_PORT) as sentinel, client(target, old) as primary, client(target, heir) as candidate:
        if going is None:
            await _preferred(target, sentinel, to)
        await primary.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
        if going is None:
            await _hand_over(sentinel, primary, candidate, to)
        host = await _moved(sentinel, candidate, view, to, deadline)
        if host is not None:
            await _follow(primary, host)
    return host.partition(".")[0] if host is not None else None


CONNECTION = Connection(probe=probe, command=command, switchover=switchover)
