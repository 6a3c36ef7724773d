"""Members and shards of a Redis Cluster out and in, with clients that write, and a crash at every command."""

import asyncio
import copy
from collections.abc import Callable
from contextlib import suppress

import pytest

from database_operator.api.database import Resolved
from database_operator.engines.redis import shards
from database_operator.reconcile.connections import redis_cluster, redis_slots
from database_operator.reconcile.connections.base import Unreachable
from tests.engines.test_redis import database
from tests.simulators.redis_cluster import Crash, Operator, Server, World

SLOTS = 24  # of a cluster small enough to crash everywhere


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SLOTS", SLOTS)
    monkeypatch.setattr(redis_slots, "SLOTS_AT_ONCE", 3)
    monkeypatch.setattr(redis_slots, "KEYS_AT_ONCE", 1)


def sized(members: int, number: int) -> Resolved:
    return database({"mode": "cluster", "shards": number}, replicas=members)


def serve(monkeypatch: pytest.MonkeyPatch, world: World) -> Operator:
    operator = Operator(world)
    monkeypatch.setattr(redis_slots, "client", operator.client)
    monkeypatch.setattr(redis_cluster, "client", operator.client)
    return operator


def formed(monkeypatch: pytest.MonkeyPatch, members: int, number: int) -> tuple[World, Operator]:
    """With two keys in every slot, and clients that write one of them after every change."""
    world = World(SLOTS, members)
    operator = serve(monkeypatch, world)
    asyncio.run(operator.settle(sized(members, number), formed=False))
    for slot in range(SLOTS):
        for name in "ab":
            world.write(f"{name}{slot}", slot)
    world.watch = lambda: written(world)
    return world, operator


def written(world: World) -> None:
    for slot in range(SLOTS):
        for name in "ab":
            place = world.place(f"{name}{slot}", slot)
            assert place.keys[slot].get(f"{name}{slot}") == world.truth[f"{name}{slot}"], f"a client misses {name}{slot} at {place.pod}"
    slot = world.changes * 7 % SLOTS
    world.write(f"{'ab'[world.changes % 2]}{slot}", slot)


def grow(world: World, members: int) -> None:
    world.servers += [Server(number, SLOTS) for number in range(len(world.servers), members)]


def shaped(world: World, members: int, number: int) -> None:
    """As wanted: shares are even, pod k serves shard k modulo ``number``, nobody holds what is not its own, those that leave nothing."""
    staying = world.servers[:members]
    primaries = [server for server in staying if not server.follows]
    assert sorted(len(server.slots) for server in primaries) == sorted(len(range(SLOTS)[rest::number]) for rest in range(number))
    assert {server.number % number for server in primaries} == set(range(number))
    for server in staying:
        if server.follows:
            assert world.by_id(server.follows).number % number == server.number % number
        assert not server.importing
        assert not server.migrating
    for server in primaries:
        assert {slot for slot, keys in server.keys.items() if keys} == server.slots
    for server in world.servers[members:]:
        assert not server.slots
        assert not server.holds_keys()
        assert server.knows == {server.id}
    written(world)


MOVES = [
    ("a shard more with two members", (6, 3), (8, 4)),
    ("a shard less with two members", (8, 4), (6, 3)),
    ("replicas become primaries", (6, 3), (6, 6)),
    ("primaries become replicas", (6, 6), (6, 3)),
    ("the last replicas leave", (6, 3), (3, 3)),
    ("an odd member", (7, 3), (5, 4)),
]
CASES = [move[1:] for move in MOVES]
NAMES = [move[0] for move in MOVES]


@pytest.mark.parametrize(("before", "after"), CASES, ids=NAMES)
def test_shards_change_with_clients_writing(monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int]) -> None:
    world, operator = formed(monkeypatch, *before)
    shaped(world, *before)
    grow(world, after[0])
    asyncio.run(operator.settle(sized(*after)))
    shaped(world, *after)


@pytest.mark.parametrize(("before", "after"), CASES, ids=NAMES)
def test_a_crash_at_any_command_is_taken_up(monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int]) -> None:
    begin, _ = formed(monkeypatch, *before)
    grow(begin, after[0])
    at = 0
    while crashed(monkeypatch, begin, after, at):
        at += 1
    assert at >= 15  # nothing was left out


def crashed(monkeypatch: pytest.MonkeyPatch, begin: World, after: tuple[int, int], at: int) -> bool:
    """Whether there was a command number ``at`` to crash at: every other one is carried out before the operator is gone."""
    world = again(begin)
    operator = serve(monkeypatch, world)
    world.changes, world.crash_at, world.crash_after = 0, at, at % 2 == 0
    try:
        asyncio.run(operator.settle(sized(*after)))
    except Crash:
        asyncio.run(operator.settle(sized(*after)))
    else:
        return False
    shaped(world, *after)
    return True


def again(begin: World) -> World:
    begin.watch = lambda: None
    world = copy.deepcopy(begin)
    world.watch = lambda: written(world)
    return world


def test_a_change_of_mind_midway(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spec goes back while slots are open: they are brought to an end, then home."""
    begin, _ = formed(monkeypatch, 6, 3)
    grow(begin, 8)
    for at in range(5, 40, 5):
        world = again(begin)
        operator = serve(monkeypatch, world)
        world.changes, world.crash_at = 0, at
        with pytest.raises(Crash):
            asyncio.run(operator.settle(sized(8, 4)))
        asyncio.run(operator.settle(sized(6, 3)))
        shaped(world, 6, 3)


def takeover(pick: Callable[[World], str]) -> Callable[[World], None]:
    def happen(world: World) -> None:
        old = world.by_id(pick(world))
        heir = next(server for server in world.servers if server.follows == old.id)
        old_slots, heir.follows = old.slots, None
        heir.slots, old.slots = old_slots, set()
        old.follows, old.importing, old.migrating = heir.id, {}, {}

    return happen


@pytest.mark.parametrize("end", ["source", "target"])
def test_a_takeover_while_slots_are_open(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """The heir of either end knows of no open slot, but has the keys: the move goes on with it."""
    begin, _ = formed(monkeypatch, 6, 3)
    grow(begin, 8)
    for at in range(60):
        world = again(begin)
        operator = serve(monkeypatch, world)
        world.changes, world.crash_at, world.crash_after = 0, at, True
        with suppress(Crash):
            asyncio.run(operator.settle(sized(8, 4)))
        movers = [server for server in world.servers if server.migrating]
        if not movers:
            continue
        peer = next(iter(movers[0].migrating.values()))
        world.watch = lambda: None  # until the move goes on, clients are sent wrong: Redis keeps open slots at one member only
        if any(server.follows == peer for server in world.servers):
            takeover(lambda world, found=movers[0].id if end == "source" else peer: found)(world)  # type: ignore[misc]
        asyncio.run(operator.settle(sized(8, 4)))
        shaped(world, 8, 4)


def test_a_slot_that_its_owner_forgot_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world, operator = formed(monkeypatch, 6, 3)
    world.watch = lambda: None  # nobody serves it meanwhile
    owner = world.servers[1]
    slot = min(owner.slots)
    owner.slots.discard(slot)
    owner.forgotten.add(slot)
    asyncio.run(operator.settle(sized(6, 3)))
    shaped(world, 6, 3)
    assert slot in owner.slots


def test_a_slot_that_nobody_is_said_to_own_is_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world, operator = formed(monkeypatch, 6, 3)
    world.servers[1].slots.clear()
    with pytest.raises(Unreachable, match="no owner that most members know"):
        asyncio.run(operator.settle(sized(6, 3)))


def test_one_that_owns_slots_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the prober saw may be old: the member itself is asked before it is made a stranger."""
    world, operator = formed(monkeypatch, 6, 3)
    seen = asyncio.run(operator.observation(sized(3, 3), formed=True))
    takeover(lambda world: world.servers[0].id)(world)
    action = shards.leaves(
        shards.View(members=seen.members, nodes={member.pod: member.facts["node"] for member in seen.members}, wanted=3, shards=3)
    )
    assert action is not None
    with pytest.raises(Unreachable, match="cache-3 owns slots"):
        asyncio.run(operator.act(sized(3, 3), seen, action))
    world.watch = lambda: None
    asyncio.run(operator.settle(sized(3, 3)))
    shaped(world, 3, 3)
