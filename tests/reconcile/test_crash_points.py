"""The operator dies before and after every write of a scenario: the end is that of a run in which it lived.

The API server is real, pods and engines are played. A write is a call that may change something, to the API server or
to an engine; "after" means that it was done and the answer never came.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.kube.resources import Resource
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile import normal
from tests.reconcile.crash import Axe, mortal
from tests.reconcile.harness import Hub, hub, operator, until
from tests.reconcile.scenario import VERSIONS, settled

pytestmark = pytest.mark.apiserver

NAME = "shop"
SETTLED = 150.0  # seconds, on a busy machine
AT_ONCE = 5
QUIET = 3  # looks, a second apart, at which nothing has changed: then it is the end
LOGIN = {"name": "login", "key": "password"}

Do = Callable[[Hub], Awaitable[None]]


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """``prepare`` and ``between`` are not disturbed; where ``between`` is given, ``act`` meets another operator than ``prepare``."""

    act: Do
    prepare: Do | None = None
    between: Do | None = None
    keeps: tuple[Resource, ...] = ()  # objects of these kinds that were there before are there afterwards, the very same
    stays: bool = True  # the Database is there in the end


def create(type_: str, **spec: Any) -> Do:
    async def do(at: Hub) -> None:
        head = {"name": "login", "namespace": at.namespace, "labels": {c.RELOAD: "true"}}
        if not await at.exists(r.SECRET, "login"):
            values = {"password": "one of the user's", "other": "another of the user's"}
            await at.client.create(r.SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": head, "stringData": values})
        await at.create(NAME, type_, VERSIONS[type_], **spec)

    return do


def change(**spec: Any) -> Do:
    async def do(at: Hub) -> None:
        await at.change(NAME, **spec)

    return do


async def delete(at: Hub) -> None:
    await at.client.delete(DATABASE, at.namespace, NAME)


async def delete_and_create(at: Hub) -> None:
    await delete(at)

    async def gone() -> bool:
        return not await at.exists(DATABASE, NAME)

    await until(gone, SETTLED, lambda: "the Database does not go")
    await at.create(NAME, "Elasticsearch", VERSIONS["Elasticsearch"])


async def create_and_delete(at: Hub) -> None:
    """Once its finalizer is there. Before, only a living operator remembers what it has begun (``finalize.vanished``)."""
    await at.create(NAME, "Redis", VERSIONS["Redis"], deletionPolicy="Delete")

    async def held() -> bool:
        return "finalizers" in (await at.get(DATABASE, NAME))["metadata"]

    await until(held, SETTLED, lambda: "no finalizer")
    await asyncio.sleep(0.15)
    await delete(at)


async def bad_image_and_back(at: Hub) -> None:
    await at.change(NAME, image="registry.invalid/none:1")
    await at.condition(NAME, "Ready", "ImageNotPulled", SETTLED)
    await at.change(NAME, image=None)


async def older_template(at: Hub) -> None:
    """The StatefulSet as an operator of before made it: another claim template, which nobody can change."""
    old = await at.get(r.STATEFUL_SET, NAME)
    await at.client.delete(r.STATEFUL_SET, at.namespace, NAME, propagation="Orphan")

    async def gone() -> bool:
        return not await at.exists(r.STATEFUL_SET, NAME)

    await until(gone, SETTLED, lambda: "the StatefulSet does not go")
    old["metadata"] = {key: old["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
    old["spec"]["volumeClaimTemplates"][0]["metadata"]["annotations"]["example.com/older"] = "yes"
    old.pop("status", None)
    made = await at.client.create(r.STATEFUL_SET, old)

    async def adopted() -> bool:
        owners = [owner["uid"] for pod in await at.all(r.POD) for owner in pod["metadata"].get("ownerReferences", ())]
        return owners == [made.uid]

    await until(adopted, SETTLED, lambda: "the pod is not adopted")
    # The garbage collector learns of it a moment later. A set deleted before that, which no older operator's is, takes its pod along.
    await asyncio.sleep(2)


async def lose_the_workload(at: Hub) -> None:
    await at.client.delete(r.STATEFUL_SET, at.namespace, NAME, propagation="Orphan")


async def nothing(at: Hub) -> None:
    return None


DATA = (r.SECRET, r.PERSISTENT_VOLUME_CLAIM)
RUNNING = (*DATA, r.POD, r.STATEFUL_SET)

SCENARIOS: dict[str, Scenario] = {
    "create PostgreSQL": Scenario(act=create("PostgreSQL")),
    "create MongoDB": Scenario(act=create("MongoDB")),
    "create Redis with Sentinels": Scenario(act=create("Redis", replicas=3, redis={"passwordSecret": LOGIN})),
    "create Elasticsearch": Scenario(act=create("Elasticsearch")),
    "create SQLite": Scenario(act=create("SQLite")),
    "scale Redis out": Scenario(prepare=create("Redis"), act=change(replicas=3), keeps=RUNNING),
    "scale MongoDB out": Scenario(prepare=create("MongoDB"), act=change(replicas=3), keeps=RUNNING),
    "scale PostgreSQL in": Scenario(prepare=create("PostgreSQL", replicas=3), act=change(replicas=1), keeps=(*DATA, r.STATEFUL_SET)),
    "scale MongoDB in": Scenario(prepare=create("MongoDB", replicas=3), act=change(replicas=1), keeps=(*DATA, r.STATEFUL_SET)),
    "a parameter that needs a restart": Scenario(
        prepare=create("Redis", replicas=3), act=change(redis={"parameters": {"databases": 4}}), keeps=(*DATA, r.STATEFUL_SET)
    ),
    "another password": Scenario(
        prepare=create("Redis", redis={"passwordSecret": LOGIN}), act=change(redis={"passwordSecret": {"key": "other"}}), keeps=RUNNING
    ),
    "grow the storage": Scenario(
        prepare=create("PostgreSQL", replicas=2), act=change(storage={"size": "2Gi"}), keeps=(*DATA, r.POD, r.SERVICE)
    ),
    "delete and retain": Scenario(prepare=create("PostgreSQL"), act=delete, keeps=DATA, stays=False),
    "delete with the data": Scenario(prepare=create("Redis", replicas=2, deletionPolicy="Delete"), act=delete, stays=False),
    "delete and take the data up again": Scenario(prepare=create("Elasticsearch"), act=delete_and_create, keeps=DATA),
    "create and delete at once": Scenario(act=create_and_delete, stays=False),
    "a bad image and back": Scenario(prepare=create("MongoDB"), act=bad_image_and_back, keeps=(*DATA, r.STATEFUL_SET)),
    "a claim template of an older operator": Scenario(
        prepare=create("Redis"), between=older_template, act=nothing, keeps=(*DATA, r.POD, r.SERVICE)
    ),
    "a workload deleted by hand": Scenario(prepare=create("Redis"), act=lose_the_workload, keeps=(*DATA, r.POD, r.SERVICE)),
    "stop": Scenario(prepare=create("SQLite"), act=change(replicas=0), keeps=(*DATA, r.DEPLOYMENT)),
}
EVERY_WRITE = ("create SQLite", "delete with the data")  # in ./test; the others there at one write in their middle


class End(msgspec.Struct, frozen=True):
    """What a scenario came to."""

    tree: dict[str, Any]
    writes: tuple[str, ...] = ()


async def play(plane: ControlPlane, scenario: Scenario, axe: Axe, expected: End | None) -> End:
    """The scenario once. With ``expected`` it has to come to that."""
    async with hub(plane) as at:
        if scenario.between is not None:
            assert scenario.prepare is not None
            async with operator(at):
                await scenario.prepare(at)
                await settled(at, NAME, SETTLED)
            await scenario.between(at)
        async with mortal(at, axe):
            if scenario.between is None and scenario.prepare is not None:
                await scenario.prepare(at)
                await settled(at, NAME, SETTLED)
            before = await _identities(at, scenario.keeps)
            axe.arm()
            await scenario.act(at)
            if not scenario.stays:
                await _gone(at)
            elif expected is None or axe.dead:
                await settled(at, NAME, SETTLED)
            tree = await _end(at, scenario, expected)
            after = await _identities(at, scenario.keeps)
            lost = [name for name, uid in before.items() if after.get(name) != uid]
            assert not lost, f"{lost} went, or were made anew"
            return End(tree, tuple(axe.writes))


async def _identities(at: Hub, kinds: Sequence[Resource]) -> dict[str, str]:
    """UIDs by kind and name; of a member that leaves, only the data is to be kept."""
    found = await normal.everything(at, NAME)
    named = {f"{kind.kind} {item['metadata']['name']}": item["metadata"]["uid"] for kind in kinds for item in found[kind]}
    for claim in await at.all(r.PERSISTENT_VOLUME_CLAIM) if r.PERSISTENT_VOLUME_CLAIM in kinds else ():
        named[f"PersistentVolumeClaim {claim['metadata']['name']}"] = claim["metadata"]["uid"]
    return named


async def _gone(at: Hub) -> None:
    async def gone() -> bool:
        if await at.exists(DATABASE, NAME):
            return False
        found = await normal.everything(at, NAME)
        return not any(found[kind] for kind in (*normal.WORKLOAD, r.POD))

    await until(gone, SETTLED, lambda: "the Database or its workload group does not go")


async def _end(at: Hub, scenario: Scenario, expected: End | None) -> dict[str, Any]:
    """All that there is once nothing moves; or as soon as it is what was expected."""
    tree: dict[str, Any] = {}
    differing: list[str] = []

    async def reached() -> bool:
        nonlocal tree, differing
        found = await normal.children(at, NAME)
        found["status"] = await normal.shown(at, NAME) if scenario.stays else None
        last, tree = tree, found
        differing = normal.differences(expected.tree, tree) if expected else normal.differences(last, tree)
        return not differing

    await until(reached, SETTLED, lambda: f"not as undisturbed: {differing[:4]}")
    quiet = 0 if expected is None else QUIET
    while quiet < QUIET:
        await asyncio.sleep(1)
        quiet = quiet + 1 if await reached() else 0
    return tree


async def crash(plane: ControlPlane, names: Sequence[str], most: int | None, scenarios: Mapping[str, Scenario] = SCENARIOS) -> None:
    """``most``: of the crash points of each scenario, evenly chosen; None: all."""
    slots = asyncio.Semaphore(AT_ONCE)
    found = await asyncio.gather(*(_crash(plane, name, most, slots, scenarios[name]) for name in names))
    failed = [line for lines in found for line in lines]
    if failed:
        pytest.fail(f"{len(failed)} crash points\n" + "\n".join(failed), pytrace=False)


async def _crash(plane: ControlPlane, name: str, most: int | None, slots: asyncio.Semaphore, scenario: Scenario) -> list[str]:
    async with slots:
        expected = await play(plane, scenario, Axe(), None)
    points = [(number, after) for number in range(len(expected.writes)) for after in (False, True)]
    if most is not None:
        step = max(1, -(-len(points) // most))
        points = points[step // 2 :: step]

    async def one(number: int, after: bool) -> str | None:
        async with slots:
            try:
                await play(plane, scenario, Axe(number, after=after), expected)
            except Exception as error:
                when = f"{'after' if after else 'before'} write {number} ({expected.writes[number]})"
                return f"{name}, killed {when}: {type(error).__name__} {error}"
        return None

    failed = await asyncio.gather(*(one(*point) for point in points))
    print(f"{name}: {len(expected.writes)} writes, {len(points)} crash points")
    return [line for line in failed if line is not None]


@pytest.mark.slow(90)
def test_k01_k02_k06_a_crash_at_any_write_leads_to_the_same_end(control_plane: ControlPlane) -> None:
    asyncio.run(crash(control_plane, EVERY_WRITE, None))


@pytest.mark.slow(90)
def test_k01_k02_k05_a_crash_at_some_writes_leads_to_the_same_end(control_plane: ControlPlane) -> None:
    asyncio.run(crash(control_plane, [name for name in SCENARIOS if name not in EVERY_WRITE], 1))


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in EVERY_WRITE])
def test_k01_k02_k03_long_a_crash_at_any_write_leads_to_the_same_end(control_plane: ControlPlane, name: str) -> None:
    asyncio.run(crash(control_plane, [name], None))
