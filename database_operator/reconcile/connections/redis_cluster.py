"""What the operator asks of the members of a Redis Cluster, and tells them. Clients are ``redis.py``'s own."""

from collections.abc import Mapping, Sequence
from typing import Any

from database_operator.engines.base import Command, Member
from database_operator.engines.redis.config import PORT
from database_operator.engines.redis.shards import owns
from database_operator.reconcile.connections import redis_slots
from database_operator.reconcile.connections.base import Target, Unreachable
from database_operator.reconcile.connections.redis_client import client
from database_operator.reconcile.connections.redis_nodes import ask


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
                    async with client(target, target.member(pod).ip or "") as stranger:
                        await _clear(stranger)
                    await server.execute_command("CLUSTER", "MEET", target.member(pod).ip, PORT)
            case "assign":
                await server.execute_command("CLUSTER", "ADDSLOTSRANGE", arguments["first"], arguments["last"])
            case "replicate":
                await server.execute_command("CLUSTER", "REPLICATE", arguments["id"])
            case "forget":
                await _forget(server, arguments["ids"])
            case "close":
                await _close(server, arguments["slots"])
            case "adopt":
                await redis_slots.adopt(target, [slot for first, last in arguments["slots"] for slot in range(first, last + 1)])
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
    await _clear(server)
    return own.id


async def _clear(server: Any) -> None:
    """Empty the files of a member that is empty itself. RESET leaves them, and what is in them would be back at the next start."""
    own, _ = await ask(server)
    if not own.slots and not own.follows and not await server.info("keyspace"):
        await server.execute_command("FLUSHALL")


async def switchover(target: Target, to: str) -> None:
    """The replica asks its primary to stop writes, waits until it has them all, and is voted in: no acknowledged write is lost."""
    async with client(target, target.member(to).ip or "") as server:
        if (await server.info("replication"))["role"] == "slave":
            await server.execute_command("CLUSTER", "FAILOVER")
