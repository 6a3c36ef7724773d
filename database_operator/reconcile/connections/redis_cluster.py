"""What the operator asks of the members of a Redis Cluster, and tells them. Clients are ``redis.py``'s own."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from database_operator.engines.base import Command, Member
from database_operator.engines.redis.config import PORT
from database_operator.engines.redis.shards import Node, Open, owns
from database_operator.reconcile.connections import redis_slots
from database_operator.reconcile.connections.base import Target, Unreachable
from database_operator.reconcile.connections.redis_client import client

_UNKNOWN = ("fail", "fail?", "handshake", "noaddr")


class Line(Struct, frozen=True, kw_only=True):
    """One line of CLUSTER NODES. Source: redis.io/commands/cluster-nodes."""

    id: str
    host: str  # announced, "" if it is not known
    flags: tuple[str, ...]
    primary: str = ""
    connected: bool = False
    slots: tuple[tuple[int, int], ...] = ()
    moving: tuple[tuple[int, bool, str], ...] = ()  # slot, whether it leaves, the other end's id: in a member's own line only

    @property
    def pod(self) -> str:
        return self.host.partition(".")[0]


def line(text: str) -> Line:
    """``<id> <ip:port@bus,host> <flags> <primary> <ping> <pong> <epoch> <link> [<slot range> …]``.

    A slot on its way stands as ``[<slot>->-<id of its new owner>]`` or ``[<slot>-<-<id of its owner>]``.
    """
    words = text.split()
    parts = [word.partition("-") for word in words[8:] if not word.startswith("[")]
    return Line(
        id=words[0],
        host=[*words[1].split(","), ""][1],
        flags=tuple(words[2].split(",")),
        primary="" if words[3] == "-" else words[3],
        connected=words[7] == "connected",
        slots=tuple((int(first), int(last or first)) for first, _, last in parts),
        moving=tuple(_moving(word) for word in words[8:] if word.startswith("[")),
    )


def _moving(word: str) -> tuple[int, bool, str]:
    slot, way, peer = word.strip("[]").split("-", 2)
    return int(slot), way == ">", peer


def lines(text: str) -> list[Line]:
    return [line(entry) for entry in text.splitlines() if entry.strip()]


def node(found: Sequence[Line], complete: bool) -> Node:
    """The member that answered, with what it knows of the others. Pure; equal while nothing changes."""
    mine = next(entry for entry in found if "myself" in entry.flags)
    known = [entry.id for entry in found if entry is mine or (entry.connected and not set(entry.flags) & set(_UNKNOWN))]
    lost = [entry.id for entry in found if {"fail", "noaddr"} & set(entry.flags) and not entry.slots and entry is not mine]
    pods = {entry.id: entry.pod for entry in found}
    return Node(
        id=mine.id,
        slots=mine.slots,
        follows=mine.primary,
        complete=complete,
        knows=tuple(sorted(known)),
        lost=tuple(sorted(lost)),
        open=tuple(Open(slot=slot, leaves=out, peer=peer, pod=pods.get(peer, "")) for slot, out, peer in mine.moving),
    )


async def ask(server: Any) -> tuple[Node, str | None]:
    """The member's own node, and the pod of the primary whose slots it serves; None: it serves none."""
    found = lines(await server.execute_command("CLUSTER", "NODES"))
    info = await server.execute_command("CLUSTER", "INFO")
    own = node(found, "cluster_state:ok" in info)
    primary = next((entry for entry in found if entry.id == (own.follows or own.id)), None)
    return own, primary.pod if primary is not None and primary.slots else None


async def command(target: Target, member: Member, order: Command) -> None:
    """Raises Unreachable, also for a command that is none of a cluster's."""
    arguments: Mapping[str, Any] = order.arguments
    if order.name == "migrate":
        await redis_slots.migrate(target, member, arguments["to"], arguments["slots"])
        return
    async with client(target, member.ip or "") as server:
        match order.name:
            case "meet":
                for pod in arguments["pods"]:
                    await server.execute_command("CLUSTER", "MEET", target.member(pod).ip, PORT)
            case "assign":
                await server.execute_command("CLUSTER", "ADDSLOTSRANGE", arguments["first"], arguments["last"])
            case "replicate":
                await server.execute_command("CLUSTER", "REPLICATE", arguments["id"])
            case "forget":
                await _forget(server, arguments["ids"])
            case "close":
                await _close(server, arguments["slots"])
            case "detach":
                await _reset(server, member.pod, "SOFT")
            case "leave":
                id_ = await _reset(server, member.pod, "HARD")
                for pod in arguments["pods"]:
                    async with client(target, target.member(pod).ip or "") as other:
                        await _forget(other, [id_])
            case _:
                raise Unreachable(f"Redis knows no command {order.name}")


async def _forget(server: Any, ids: Sequence[str]) -> None:
    """Those it does not know are forgotten already; its own primary it keeps until it has another."""
    from redis.exceptions import ResponseError

    for id_ in ids:
        try:
            await server.execute_command("CLUSTER", "FORGET", id_)
        except ResponseError as error:
            if "nknown node" not in str(error) and "my master" not in str(error):
                raise


async def _close(server: Any, slots: Sequence[int]) -> None:
    """Not of a slot that the member gives away and owns as yet: it would answer for keys that have gone."""
    own, _ = await ask(server)
    giving = {found.slot for found in own.open if found.leaves and owns(own, found.slot)}
    for slot in set(slots) - giving:
        await server.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")


async def _reset(server: Any, pod: str, how: str) -> str:
    """Make a member that owns nothing a primary that nobody knows; ``HARD`` with a new id. Gives the id it had.

    Rests on what the member says now. Redis itself refuses it to a primary that holds keys.
    """
    own, _ = await ask(server)
    if own.slots:
        raise Unreachable(f"{pod} owns slots")
    await server.execute_command("CLUSTER", "RESET", how)
    return own.id


async def switchover(target: Target, to: str) -> None:
    """The replica asks its primary to stop writes, waits until it has them all, and is voted in: no acknowledged write is lost."""
    async with client(target, target.member(to).ip or "") as server:
        if (await server.info("replication"))["role"] == "slave":
            await server.execute_command("CLUSTER", "FAILOVER")
