"""Random lives of Databases of every engine on a real API server; pods and engines are played.

After every step three things hold: the children are those of a plan of the spec and the status says so; a bad value
shows its reason, and reverting it heals with no human; and in the end a Database that was never anything else has the
same children. Hypothesis gives the seeds, and names the one that fails: ``STATE_MACHINE_SEED=<seed>`` plays it again.

It does not draw the steps one by one: lives run side by side, so the order of its draws would be the cluster's, and
shrinking a life costs minutes an attempt. A seed alone gives the steps (``changes.Life``).
"""

import asyncio
import base64
import contextlib
import copy
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from database_operator.build import constants as c
from database_operator.engines.base import Platform
from database_operator.kube import resources as r
from database_operator.kube.errors import Invalid, NotFound
from database_operator.kube.resources import Resource
from database_operator.manager import Manager
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile import changes, normal
from tests.reconcile.changes import Life, Step
from tests.reconcile.harness import Hub, hub, operator, until

pytestmark = pytest.mark.apiserver

NAME = "shop"
KINDS = ("PostgreSQL", "MongoDB", "Redis", "Elasticsearch", "SQLite", "Cluster")
SETTLED = 240.0  # seconds a step may take on a busy machine; most take less than three
SEED = os.environ.get("STATE_MACHINE_SEED")
FAILED: dict[int, str] = {}  # by seed: Hypothesis plays a failing example once more for its report, which would take minutes
SEEDS = st.integers(0, 10**9) if SEED is None else st.just(int(SEED))
BY_HAND = (r.SERVICE, r.CONFIG_MAP, r.STATEFUL_SET, r.DEPLOYMENT, r.ROLE, r.POD_DISRUPTION_BUDGET, r.POD)


class Machine:
    """One Database that lives through steps."""

    def __init__(self, at: Hub, fresh: Hub, platform: Platform, life: Life) -> None:
        self.at, self.fresh, self.platform, self.life = at, fresh, platform, life
        self.done: list[str] = []
        self.spec: changes.Spec = copy.deepcopy(life.spec)
        self.requested: str | None = None

    async def begin(self) -> None:
        for place in (self.at, self.fresh):
            head = {"name": changes.USER_SECRET, "namespace": place.namespace, "labels": {c.RELOAD: "true"}}
            values = {"password": "one of the user's", "other": "another/of:the@user's", "token": "t"}
            await place.client.create(r.SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": head, "stringData": values})
        await self.at.client.create(DATABASE, self.at.manifest(NAME, self.spec))
        await self.settled()

    async def step(self, step: Step) -> None:
        self.done.append(str(step))
        await getattr(self, f"_{step.do}")(step)
        await self.settled()

    async def settled(self) -> None:
        """Oracle one: the declared state is reached, and said to be."""
        why: str | None = ""

        async def reached() -> bool:
            nonlocal why
            why = await normal.unsettled(self.at, NAME)
            if why is None:
                with contextlib.suppress(NotFound):
                    why = await normal.difference_from_plan(self.at, NAME, self.platform)
            return why is None

        await until(reached, SETTLED, lambda: f"not settled: {why}")

    async def compare(self) -> None:
        """Oracle two: the same children as those of a Database made anew with this spec; one that is stopped shows too little."""
        if not self.spec.get("replicas", 1):
            return
        self.done.append("compare")
        manifest = self.fresh.manifest(NAME, self.spec)
        if self.requested:
            manifest["metadata"]["annotations"] = {c.RESTARTED_AT: self.requested}
        await self._same_secret()
        await self.fresh.client.create(DATABASE, manifest)
        found: list[str] = []

        async def same() -> bool:
            nonlocal found
            why = await normal.unsettled(self.fresh, NAME)
            if why is not None:
                found = [why]
                return False
            pairs = [(normal.children(place, NAME), normal.shown(place, NAME)) for place in (self.at, self.fresh)]
            old, new = [await asyncio.gather(*pair) for pair in pairs]
            found = normal.differences(old[0], new[0]) + normal.differences(old[1], new[1], "status")
            return not found

        await until(same, SETTLED, lambda: f"not as a fresh one: {found[:5]}")
        await remove(self.fresh)

    async def _same_secret(self) -> None:
        data = (await self.at.get(r.SECRET, changes.USER_SECRET))["data"]
        await self.fresh.client.patch(r.SECRET, self.fresh.namespace, changes.USER_SECRET, {"data": data})

    async def _put(self, spec: changes.Spec) -> None:
        patch = changes.merge_patch(self.spec, spec)
        if patch:
            await self.at.client.patch(DATABASE, self.at.namespace, NAME, {"spec": patch})
        self.spec = copy.deepcopy(spec)

    async def _with(self, step: Step) -> changes.Spec:
        spec = copy.deepcopy(self.spec)
        changes.put(spec, step.path, step.value)
        return spec

    async def _change(self, step: Step) -> None:
        await self._put(step.spec)

    async def _scale(self, step: Step) -> None:
        await self.at.client.patch(DATABASE, self.at.namespace, NAME, {"spec": {"replicas": step.value}}, subresource="scale")
        self.spec = copy.deepcopy(step.spec)

    async def _refused(self, step: Step) -> None:
        before = await self.at.get(DATABASE, NAME)
        old = self.spec
        try:
            await self._put(await self._with(step))
        except Invalid:
            self.spec = old
            assert (await self.at.get(DATABASE, NAME))["spec"] == before["spec"]
            return
        after = await self.at.get(DATABASE, NAME)
        assert after["spec"] == before["spec"], f"the API server took {step}"  # an unknown field is dropped
        self.spec = old

    async def _invalid(self, step: Step) -> None:
        """Nothing is touched, and it is said."""
        good, before = self.spec, await self._versions()
        try:
            await self._put(await self._with(step))
        except Invalid:  # CEL knows it too
            self.spec = good
            return
        await self._reason("InvalidSpec")
        assert await self._versions() == before
        await self._put(good)

    async def _bad(self, step: Step) -> None:
        """Oracle three: what cannot work shows its reason, and reverting it heals."""
        good = self.spec
        await self._put(await self._with(step))
        if step.reason:
            await self._reason(step.reason)
        else:
            await asyncio.sleep(1.5)
        await self._put(good)

    async def _held(self, step: Step) -> None:
        good, before = self.spec, await self._pods()
        await self._put(await self._with(step))
        await self.at.condition(NAME, "Progressing", "UpgradeNotSupported", SETTLED)
        await self.at.client.delete(r.SERVICE, self.at.namespace, f"{NAME}-service")

        async def back() -> bool:
            return await self.at.exists(r.SERVICE, f"{NAME}-service")

        await until(back, SETTLED, lambda: "the Service of a Database whose version is held does not come back")
        assert await self._pods() == before
        await self._put(good)

    async def _hand(self, step: Step) -> None:
        """Somebody changes or deletes a child: another one, or the old values, must come back."""
        found = await normal.everything(self.at, NAME)
        there = [(kind, item["metadata"]["name"]) for kind in BY_HAND for item in found[kind]]
        if not there:
            return
        kind, name = there[step.pick % len(there)]
        self.done[-1] += f" {kind.kind} {name}"
        if step.value == "delete" or kind is r.POD:
            uid = await self.at.uid(kind, name)
            await self.at.client.delete(kind, self.at.namespace, name)
            await self._not(kind, name, uid)
        elif step.value == "strip":
            await self.at.client.patch(kind, self.at.namespace, name, {"metadata": {"labels": {c.INSTANCE: None, c.DATABASE_TYPE: "x"}}})
        else:
            await self.at.client.patch(kind, self.at.namespace, name, _edited(kind))

    async def _not(self, kind: Resource, name: str, uid: str) -> None:
        """The old one has gone: until then a settled status may be an old one."""

        async def other() -> bool:
            return await self.at.uid(kind, name) != uid

        await until(other, SETTLED, lambda: f"{kind.kind} {name} does not go")

    async def _disabled(self, step: Step) -> None:
        """Hands off, and all that happened meanwhile is made good."""
        await self._annotate(c.RECONCILE, "disabled")
        await self.at.condition(NAME, "Progressing", "Paused", SETTLED)
        await self._hand(Step("hand", step.spec, "child", "delete" if step.pick % 2 else "edit", pick=step.pick))
        await self._annotate(c.RECONCILE, None)

    async def _restart(self, step: Step) -> None:
        self.requested = f"r{step.pick}"
        before = await self._pods()
        await self._annotate(c.RESTARTED_AT, self.requested)

        async def done() -> bool:
            return bool((await self.at.status(NAME)).get("requests", {}).get("restartedAt") == self.requested)

        if self.spec.get("replicas", 1):
            await until(done, SETTLED, lambda: "the restart was not done")
            assert not set(before) & set(await self._pods()), "a member was not restarted"

    async def _password(self, step: Step) -> None:
        """The users' Secret, which may be referred to, or not."""
        values = {"password": f"p{step.pick}", "other": f"o/{step.pick}", "token": f"t{step.pick}"}
        await self.at.client.patch(r.SECRET, self.at.namespace, changes.USER_SECRET, {"stringData": values})
        section = self.spec.get(self.life.type.lower(), {}).get("passwordSecret")
        if section:
            await self._login(values[section["key"]])
        elif any("valueFrom" in variable for variable in self.spec.get("env", ())):
            await asyncio.sleep(0.3)

    async def _login(self, wanted: str) -> None:
        async def taken() -> bool:
            data = (await self.at.get(r.SECRET, f"{NAME}-credentials"))["data"]
            return base64.b64decode(data["password"]).decode() == wanted

        await until(taken, SETTLED, lambda: "the login does not follow the user's Secret")

    async def _recreate(self, step: Step) -> None:
        """With its data or without, as the policy says."""
        kept = self.spec.get("deletionPolicy") != "Delete"
        before = await self._data()
        await remove(self.at)
        if not kept:
            assert not await self._data(), "deletionPolicy Delete left data"
        await self.at.client.create(DATABASE, self.at.manifest(NAME, self.spec))
        self.requested = None
        await self.settled()
        if kept:
            after = await self._data()
            assert {name: after.get(name) for name in before} == before, "the data was not taken up"

    async def _data(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for kind in (r.PERSISTENT_VOLUME_CLAIM, r.SECRET):
            for item in await self.at.all(kind, f"{c.DATA_OF}={NAME}"):
                found[f"{kind.kind} {item['metadata']['name']}"] = item["metadata"]["uid"]
        return found

    async def _annotate(self, key: str, value: str | None) -> None:
        await self.at.client.patch(DATABASE, self.at.namespace, NAME, {"metadata": {"annotations": {key: value}}})

    async def _reason(self, reason: str) -> None:
        await self.at.condition(NAME, "Ready", reason, SETTLED)

    async def _pods(self) -> list[str]:
        pods = await self.at.all(r.POD, f"{c.APP}={NAME}")
        return sorted(pod["metadata"]["uid"] for pod in pods)

    async def _versions(self) -> dict[str, str]:
        found = await normal.everything(self.at, NAME)
        return {f"{kind.kind} {item['metadata']['name']}": item["metadata"]["uid"] for kind, items in found.items() for item in items}


def _edited(kind: Resource) -> dict[str, Any]:
    """Fields that are ours, as somebody might set them."""
    if kind is r.SERVICE:
        return {"spec": {"selector": {"app": "theirs"}}}
    if kind is r.CONFIG_MAP:
        return {"data": None}
    if kind is r.ROLE:
        return {"rules": []}
    if kind is r.POD_DISRUPTION_BUDGET:
        return {"spec": {"maxUnavailable": 2}}
    return {"spec": {"replicas": 5}, "metadata": {"labels": {c.DATABASE_TYPE: "theirs"}}}


async def remove(at: Hub) -> None:
    """Delete the Database and wait until nothing of its workload group is there."""
    if (await at.get(DATABASE, NAME))["spec"].get("deletionPolicy") == "DoNotDelete":  # another test's admission policy may be in force
        await at.change(NAME, deletionPolicy="Retain")
    await at.client.delete(DATABASE, at.namespace, NAME)

    async def gone() -> bool:
        if await at.exists(DATABASE, NAME):
            return False
        found = await normal.everything(at, NAME)
        return not any(found[kind] for kind in (*normal.WORKLOAD, r.POD))

    await until(gone, SETTLED, lambda: "the Database or its children do not go")


async def live(plane: ControlPlane, kind: str, seed: int, steps: int, made: Callable[[], Manager]) -> None:
    """One life; a failure names the seed and the steps."""
    async with hub(plane) as at, hub(plane) as fresh:
        machine = Machine(at, fresh, _platform(made()), Life(kind, seed))
        try:
            await machine.begin()
            for _ in range(steps):
                await machine.step(machine.life.step())
            await machine.compare()
        except Exception as error:
            story = "\n  ".join(machine.done)
            last = json.dumps(await at.status(NAME))[:1500] if await at.exists(DATABASE, NAME) else "no Database"
            raise AssertionError(f"{kind}, seed {seed}: {error}\n  {story}\n{last}") from error


def _platform(made: Manager) -> Platform:
    return Platform(
        agent_image=made.config.agent_image, image_registry=made.config.image_registry, cluster_domain=made.config.cluster_domain
    )


async def lives(plane: ControlPlane, seed: int, each: int, kinds: Sequence[str], rounds: int) -> None:
    """All kinds side by side under one operator."""
    if seed in FAILED:
        pytest.fail(FAILED[seed], pytrace=False)
    async with hub(plane) as own, operator(own, "--max-concurrent-reconciles", "8", everywhere=True) as made:
        tasks: list[Awaitable[None]] = []
        for turn in range(rounds):
            tasks += [live(plane, kind, seed + turn, each, lambda: made) for kind in kinds]
        results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    if failed:
        FAILED[seed] = f"{len(failed)} of {len(results)} lives: STATE_MACHINE_SEED={seed}\n" + "\n\n".join(map(str, failed))
        pytest.fail(FAILED[seed], pytrace=False)


def played(examples: int, **more: Any) -> settings:
    """Seeds are tried once each: neither kept in a database of examples nor made smaller."""
    return settings(max_examples=examples, phases=[Phase.generate], database=None, **more)


@pytest.mark.slow(300)
@played(1, derandomize=True)
@given(seed=SEEDS)
def test_i22_i23_random_lives_reach_the_declared_state(control_plane: ControlPlane, seed: int) -> None:
    """300 steps, the same ones each time."""
    asyncio.run(lives(control_plane, seed, 25, KINDS, 2))


@pytest.mark.long
@played(14)
@given(seed=SEEDS)
def test_i22_i23_long_random_lives_reach_the_declared_state(control_plane: ControlPlane, seed: int) -> None:
    """4,000 steps, other ones each time."""
    asyncio.run(lives(control_plane, seed, 24, KINDS, 2))
