"""Moving slots of a Redis Cluster with their keys, a bounded piece a call: what is left, the next pass finds open.

Each slot is opened at both ends, the new owner's first, so that a client is always sent where its key is; emptied; and
given to its new owner, who makes it known, before the old one lets go. Source: redis.io/commands/cluster-setslot,
"Redis Cluster live resharding explained". Every step may be repeated, and a move may be broken off after any of them.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from database_operator.engines.base import Member
from database_operator.engines.redis.config import PORT
from database_operator.reconcile.connections.base import Target, Unreachable
from database_operator.reconcile.connections.redis_client import client
from database_operator.reconcile.connections.redis_nodes import lines

MIGRATE_SECONDS = 1.0  # of a pass, until nothing more is begun
FINISH_SECONDS = 0.5  # more, for what is open
SLOTS_AT_ONCE = 16  # open together: what a primary's loss would leave half moved
KEYS_AT_ONCE = 100
KEY_TIMEOUT_MS = 10000  # between two members, without any byte


async def migrate(target: Target, source: Member, to: str, slots: Sequence[Sequence[int]]) -> None:
    """Move as much of ``slots`` (first and last of each range) from ``source`` to the pod ``to`` as time allows.

    Raises Unreachable, also where a member refuses: no memory left, or it is not what it was taken for.
    """
    deadline = time.monotonic() + MIGRATE_SECONDS
    taker_ip = target.member(to).ip or ""
    async with client(target, source.ip or "") as giver, client(target, taker_ip) as taker:
        move = _Move(target, giver, taker, taker_ip)
        await move.prepare()
        every = (slot for first, last in slots for slot in range(first, last + 1))
        for batch in _batches(every):
            if time.monotonic() >= deadline or not await move.carry(batch, deadline + FINISH_SECONDS):
                return


def _batches(slots: Iterable[int]) -> Iterable[list[int]]:
    found: list[int] = []
    for slot in slots:
        found.append(slot)
        if len(found) == SLOTS_AT_ONCE:
            yield found
            found = []
    if found:
        yield found


class _Move:
    """From one primary to another, over a connection to each."""

    def __init__(self, target: Target, giver: Any, taker: Any, taker_ip: str) -> None:
        self.giver = giver
        self.taker = taker
        self.taker_ip = taker_ip
        self.password = target.internal.get("replica-password", "")
        self.ids = ("", "")

    async def prepare(self) -> None:
        """Who they are, and the functions, which go with no slot."""
        self.ids = (await self.giver.execute_command("CLUSTER", "MYID"), await self.taker.execute_command("CLUSTER", "MYID"))
        if (await self.taker.info("replication"))["role"] != "master":
            raise Unreachable(f"Redis at {self.taker_ip} is a replica and takes no slots")
        if not await self.taker.execute_command("FUNCTION", "LIST"):
            functions = await self.giver.execute_command("FUNCTION", "DUMP")
            await self.taker.execute_command("FUNCTION", "RESTORE", functions)

    async def carry(self, slots: list[int], deadline: float) -> bool:
        """Whether all of it is done; else the time is over and the slots stay open."""
        taken = await self._set(self.taker, slots, "IMPORTING", self.ids[0], unless="already the owner")
        given = await self._set(self.giver, slots, "MIGRATING", self.ids[1], unless="not the owner")
        strange = sorted(set(given) - set(taken))
        if strange:  # neither of them owns it: somebody else does
            await self._set(self.taker, strange, "STABLE")
            raise Unreachable(f"the owner of slot {strange[0]} has changed")
        going = [slot for slot in slots if slot not in taken]
        # a member does not hear of another owner while a slot of theirs is open: after a takeover it would know of none
        await self._set(self.taker, going, "NODE", self.ids[0])
        for slot in going:
            if not await self._empty(slot, deadline):
                return False
        await self._set(self.taker, going, "NODE", self.ids[1])
        await self._set(self.giver, slots, "NODE", self.ids[1])
        return True

    async def _set(self, server: Any, slots: Sequence[int], state: str, *argument: str, unless: str = "") -> list[int]:
        """CLUSTER SETSLOT for each; gives those it was refused for with the words ``unless``."""
        from redis.exceptions import ResponseError

        if not slots:
            return []
        async with server.pipeline(transaction=False) as pipe:
            for slot in slots:
                pipe.execute_command("CLUSTER", "SETSLOT", slot, state, *argument)
            answers = await pipe.execute(raise_on_error=False)
        refused = []
        for slot, answer in zip(slots, answers, strict=True):
            if isinstance(answer, ResponseError) and unless and unless in str(answer):
                refused.append(slot)
            elif isinstance(answer, Exception):
                raise answer
        return refused

    async def _empty(self, slot: int, deadline: float) -> bool:
        """Nothing new comes into an open slot: without keys, it stays so.

        A key that is at both ends was on its way when a move was broken off; its old owner has served it since.
        """
        while keys := await self.giver.execute_command("CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE):
            if time.monotonic() >= deadline:
                return False
            login = ("AUTH2", "replica", self.password)
            await self.giver.execute_command("MIGRATE", self.taker_ip, PORT, "", 0, KEY_TIMEOUT_MS, "REPLACE", *login, "KEYS", *keys)
        return True


async def adopt(target: Target, slots: Sequence[int]) -> None:
    """Have members own again what most of the others say is theirs and they have forgotten: a crash may lose a line of nodes.conf.

    Raises Unreachable where nobody is said to own a slot, or one who is no primary now.
    """
    said: dict[int, Counter[str]] = {slot: Counter() for slot in slots}
    primaries: dict[str, str] = {}  # node id to address
    for member in target.members:
        async with client(target, member.ip or "") as server:
            for entry in lines(await server.execute_command("CLUSTER", "NODES")):
                if "myself" in entry.flags and "master" in entry.flags:
                    primaries[entry.id] = member.ip or ""
                for slot in slots:
                    if any(first <= slot <= last for first, last in entry.slots):
                        said[slot][entry.id] += 1
    for slot, votes in said.items():
        owner, number = next(iter(votes.most_common(1)), ("", 0))
        if owner not in primaries or number * 2 <= len(target.members):
            raise Unreachable(f"slot {slot} has no owner that most members know")
        async with client(target, primaries[owner]) as server:
            await server.execute_command("CLUSTER", "SETSLOT", slot, "NODE", owner)
