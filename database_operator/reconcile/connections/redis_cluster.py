"""What the operator asks of the members of a Redis Cluster, and tells them. Clients are ``redis.py``'s own."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from database_operator.engines.base import Command, Member
from database_operator.engines.redis.cluster import Node
from database_operator.engines.redis.config import PORT
from database_operator.reconcile.connections.base import Target, Unreachable
from database_operator.reconcile.connections.redis_client import client

_UNKNOWN = ("fail", "fail?", "handshake", "noaddr")


class Line(Struct, frozen=True, kw_only=True):
    """One line of CLUSTER NODES. Source: redis.io/commands/cluster-nodes."""

    id: str
    flags: tuple[str, ...]
    primary: str = ""
    connected: bool = False
    slots: tuple[tuple[int, int], ...] = ()


def line(text: str) -> Line:
    """``<id> <address> <flags> <primary> <ping> <pong> <epoch> <link> [<slot range> …]``; slots on the move are left out."""
    words = text.split()
    parts = [word.partition("-") for word in words[8:] if not word.startswith("[")]
    return Line(
        id=words[0],
        flags=tuple(words[2].split(",")),
        primary="" if words[3] == "-" else words[3],
        connected=words[7] == "connected",
        slots=tuple((int(first), int(last or first)) for first, _, last in parts),
    )


def lines(text: str) -> list[Line]:
    return [line(entry) for entry in text.splitlines() if entry.strip()]


def node(found: Sequence[Line], complete: bool) -> Node:
    """The member that answered, with what it knows of the others. Pure; equal while nothing changes."""
    mine = next(entry for entry in found if "myself" in entry.flags)
    known = [entry.id for entry in found if entry is mine or (entry.connected and not set(entry.flags) & set(_UNKNOWN))]
    lost = [entry.id for entry in found if {"fail", "noaddr"} & set(entry.flags) and not entry.slots and entry is not mine]
    return Node(
        id=mine.id,
        slots=mine.slots,
        follows=mine.primary,
        complete=complete,
        knows=tuple(sorted(known)),
        lost=tuple(sorted(lost)),
    )


async def ask(server: Any) -> tuple[Node, tuple[tuple[int, int], ...]]:
    """The member's own node, and the slots of its shard: its primary's, where it is a replica."""
    found = lines(await server.execute_command("CLUSTER", "NODES"))
    info = await server.execute_command("CLUSTER", "INFO")
    own = node(found, "cluster_state:ok" in info)
    shard = own.slots or next((entry.slots for entry in found if entry.id == own.follows), ())
    return own, shard


async def command(target: Target, member: Member, order: Command) -> None:
    """Raises Unreachable for a command that is none of a cluster's."""
    arguments: Mapping[str, Any] = order.arguments
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
                await server.execute_command("CLUSTER", "FORGET", arguments["id"])
            case _:
                raise Unreachable(f"Redis knows no command {order.name}")


async def switchover(target: Target, to: str) -> None:
    """The replica asks its primary to stop writes, waits until it has them all, and is voted in: no acknowledged write is lost."""
    async with client(target, target.member(to).ip or "") as server:
        if (await server.info("replication"))["role"] == "slave":
            await server.execute_command("CLUSTER", "FAILOVER")
