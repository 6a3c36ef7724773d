"""The prober on a virtual clock."""

import asyncio
from typing import Any

import aiohttp

from database_operator.api.database import Metadata, Resolved
from database_operator.api.spec import DatabaseSpec, EngineType
from database_operator.api.status import Role
from database_operator.engines.base import Member, Platform, Probe
from database_operator.kube.objects import Key
from database_operator.reconcile.connections.base import Connection, Target, Unreachable
from database_operator.reconcile.prober import Asked, Prober
from tests.kube.virtual_clock import run

KEY, OTHER = Key("n", "a"), Key("n", "b")
SETTLED = 300.0


class World:
    """Databases of one member each, or more, whose answers the test decides."""

    def __init__(self, members: int = 1) -> None:
        self.members = members
        self.answer: dict[str, Any] = {}
        self.asked: list[tuple[float, str]] = []
        self.changed: list[Key] = []
        self.prober = Prober(self.ask, self.changed.append)

    def ask(self, key: Key) -> Asked | None:
        metadata = Metadata(name=key.name, namespace=key.namespace)
        database = Resolved(metadata=metadata, spec=DatabaseSpec(type=EngineType.REDIS, version="7"))
        members = tuple(
            Member(pod=f"{key.name}-{number}", uid=f"uid-{key.name}" + f"-{number}" * (number > 0), ip="127.0.0.1", running=True)
            for number in range(self.members)
        )
        session: aiohttp.ClientSession = None  # type: ignore[assignment]  # never used: the probe is ours
        target = Target(database=database, platform=Platform(agent_image="x"), session=session, members=members)
        return Asked(target, Connection(probe=self.probe), SETTLED)

    async def probe(self, target: Target, member: Member) -> Probe:
        self.asked.append((asyncio.get_running_loop().time(), member.pod))
        answer = self.answer.get(member.pod, Probe(role=Role.PRIMARY))
        if answer == "hangs":
            await asyncio.sleep(3600)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Probe)
        return answer

    def times(self, pod: str) -> list[float]:
        return [at for at, who in self.asked if who == pod]


def test_a_settled_database_is_asked_seldom_and_an_unsettled_one_often() -> None:
    async def scenario() -> None:
        world = World()
        world.prober.want(KEY, settled=True)
        world.prober.want(OTHER, settled=False)
        await asyncio.sleep(900)
        assert 3 <= len(world.times("a-0")) <= 5
        assert 29 <= len(world.times("b-0")) <= 32
        await world.prober.close()

    run(scenario())


def test_an_event_has_it_asked_at_once_and_often_for_a_while() -> None:
    async def scenario() -> None:
        world = World()
        world.prober.want(KEY, settled=True)
        await asyncio.sleep(10)
        before = len(world.asked)
        at = asyncio.get_running_loop().time()
        world.prober.event(KEY)
        await asyncio.sleep(31)
        during = world.times("a-0")[before:]
        assert during[0] - at < 0.01
        assert 55 <= len(during) <= 63
        await asyncio.sleep(60)
        assert len(world.times("a-0")) - before - len(during) <= 1
        await world.prober.close()

    run(scenario())


def test_only_a_changed_answer_enqueues_the_key() -> None:
    async def scenario() -> None:
        world = World()
        world.prober.want(KEY, settled=False)
        await asyncio.sleep(100)
        assert world.changed == [KEY]
        world.answer["a-0"] = Probe(role=Role.PRIMARY, lag_bytes=1000)
        await asyncio.sleep(31)
        world.answer["a-0"] = Probe(role=Role.PRIMARY, lag_bytes=2000)
        await asyncio.sleep(100)
        assert len(world.changed) == 2
        world.answer["a-0"] = Probe(role=Role.REPLICA, lag_bytes=2000)
        await asyncio.sleep(31)
        assert len(world.changed) == 3
        await world.prober.close()

    run(scenario())


def test_fifty_that_hang_cost_nobody_else_anything() -> None:
    async def scenario() -> None:
        world = World()
        for number in range(50):
            world.answer[f"hung{number}-0"] = "hangs"
            world.prober.want(Key("n", f"hung{number}"), settled=False)
        world.prober.want(KEY, settled=False)
        await asyncio.sleep(0.1)
        assert world.prober.answers(KEY) == {"uid-a": Probe(role=Role.PRIMARY)}
        await asyncio.sleep(10)
        assert world.prober.answers(Key("n", "hung7")) == {"uid-hung7": None}
        await world.prober.close()

    run(scenario())


def test_a_hung_primary_does_not_keep_back_who_is_primary_now() -> None:
    async def scenario() -> None:
        world = World(members=3)
        old, new, third = Probe(role=Role.PRIMARY), Probe(role=Role.PRIMARY, lag_bytes=None), Probe(role=Role.REPLICA)
        world.answer |= {"a-0": old, "a-1": third, "a-2": third}
        world.prober.want(KEY, settled=True)
        await asyncio.sleep(10)
        world.answer |= {"a-0": "hangs", "a-1": new}
        changes = len(world.changed)
        world.prober.event(KEY)
        await asyncio.sleep(1.5)
        assert world.prober.answers(KEY) == {"uid-a": None, "uid-a-1": new, "uid-a-2": third}
        assert len(world.changed) == changes + 1
        asked = len(world.times("a-2"))
        await asyncio.sleep(5)
        assert len(world.times("a-2")) > asked + 2  # the others are asked on while it hangs
        assert world.times("a-0")[-1] - world.times("a-0")[-2] >= 4  # and it is not asked again before its time is up
        world.answer["a-0"] = third
        await asyncio.sleep(10)
        assert world.prober.answers(KEY)["uid-a"] == third
        await world.prober.close()

    run(scenario())


def test_what_a_slow_member_said_stands_until_it_answers() -> None:
    async def scenario() -> None:
        world = World(members=2)
        world.answer["a-1"] = Probe(role=Role.REPLICA)
        world.prober.want(KEY, settled=True)
        await asyncio.sleep(10)
        world.answer["a-1"] = "hangs"
        world.prober.event(KEY)
        await asyncio.sleep(3)
        assert world.prober.answers(KEY)["uid-a-1"] == Probe(role=Role.REPLICA)
        await asyncio.sleep(4)
        assert world.prober.answers(KEY)["uid-a-1"] is None
        world.prober.forget(KEY)
        await asyncio.sleep(1)
        await world.prober.close()

    run(scenario())


def test_a_member_that_does_not_answer_is_known_as_such_and_heals() -> None:
    async def scenario() -> None:
        world = World()
        world.answer["a-0"] = Unreachable("refused")
        world.prober.want(KEY, settled=False)
        await asyncio.sleep(1)
        assert world.prober.answers(KEY) == {"uid-a": None}
        world.answer.clear()
        await asyncio.sleep(31)
        assert world.prober.answers(KEY) == {"uid-a": Probe(role=Role.PRIMARY)}
        world.prober.forget(KEY)
        asked = len(world.asked)
        await asyncio.sleep(1000)
        assert len(world.asked) == asked
        assert world.prober.answers(KEY) == {}

    run(scenario())


def test_where_no_member_can_be_asked_an_event_is_waited_for() -> None:
    async def scenario() -> None:
        world = World()
        looked = 0

        def nobody(_: Key) -> None:
            nonlocal looked
            looked += 1

        prober = Prober(nobody, world.changed.append)
        prober.want(KEY, settled=False)
        await asyncio.sleep(1)
        prober.event(KEY)
        await asyncio.sleep(20)
        assert looked == 2
        await prober.close()

    run(scenario())


def test_after_the_loss_of_a_node_rounds_stay_bounded() -> None:
    async def scenario() -> None:
        world = World()
        keys = [Key("n", f"d{number}") for number in range(1000)]
        for key in keys:
            world.prober.want(key, settled=True)
        await asyncio.sleep(1)
        for key in keys:
            world.prober.event(key)
        await asyncio.sleep(1)
        before = len(world.asked)
        await asyncio.sleep(20)
        assert 1500 <= len(world.asked) - before <= 2500
        await world.prober.close()

    run(scenario())
