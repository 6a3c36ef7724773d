"""Databases that are gone, made anew or broken while the operator has only begun with them.

The API server is real, pods and engines are played. The numbers in the names are those of the list of fault cases.
"""

import asyncio
import random

import pytest

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, operator, until
from tests.reconcile.scenario import NAME, VERSIONS, gone, identities, run, settled

pytestmark = pytest.mark.apiserver


def test_k05_databases_that_live_for_a_moment_leave_nothing(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        chance = random.Random(3)
        async with operator(at):

            async def brief(number: int) -> None:
                type_ = chance.choice(list(VERSIONS))
                await at.create(f"brief{number}", type_, VERSIONS[type_], deletionPolicy="Delete")
                await asyncio.sleep(chance.uniform(0, 0.06))
                await at.client.delete(DATABASE, at.namespace, f"brief{number}")

            for turn in range(8):
                await asyncio.gather(*(brief(turn * 5 + number) for number in range(5)))
                await asyncio.sleep(0.2)
            for number in range(40):
                await gone(at, DATABASE, f"brief{number}")

            left: dict[str, str] = {}

            async def nothing() -> bool:
                nonlocal left
                left = await identities(at, r.SECRET, r.PERSISTENT_VOLUME_CLAIM, r.STATEFUL_SET, r.DEPLOYMENT, r.POD)
                return not left

            await until(nothing, 45, lambda: f"something was left: {list(left)}")
            await asyncio.sleep(2)
            assert await nothing()

    run(control_plane, scenario)


def test_a_file_made_anew_at_once_has_one_server(control_plane: ControlPlane) -> None:
    """The old pod takes its time; the new one waits for it."""

    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create(NAME, "SQLite", "latest")
            await settled(at)
            (pod,) = (item["metadata"]["name"] for item in await at.all(r.POD, f"{c.APP}={NAME}"))
            await at.client.delete(r.DEPLOYMENT, at.namespace, NAME, propagation="Orphan")
            await asyncio.sleep(1.1)  # timestamps are of whole seconds
            await settled(at)
            assert [item["metadata"]["name"] for item in await at.all(r.POD, f"{c.APP}={NAME}")] == [pod]
            at.node.held.add(pod)
            await at.client.delete(DATABASE, at.namespace, NAME)
            await gone(at, DATABASE, NAME)
            await at.create(NAME, "SQLite", "latest")
            for _ in range(40):
                await asyncio.sleep(0.1)
                assert len(await at.all(r.POD, f"{c.APP}={NAME}")) == 1
            assert pod in (await at.status(NAME))["message"]
            at.node.held.clear()
            await settled(at)

    run(control_plane, scenario)


def test_a_new_operator_is_not_patient_anew(control_plane: ControlPlane) -> None:
    """The reason has stood for two minutes already: it is Failed at once."""

    async def scenario(at: Hub) -> None:
        at.broken[f"{NAME}-0"] = "ImagePullBackOff"
        await at.create(NAME, "Redis", "7.2")
        async with operator(at):
            await at.condition(NAME, "Ready", "ImageNotPulled")
        status = await at.status(NAME)
        for condition in status["conditions"]:
            condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        await at.client.patch(DATABASE, at.namespace, NAME, {"status": {"conditions": status["conditions"]}}, subresource="status")
        async with operator(at):
            await at.phase(NAME, "Failed")
            at.broken.clear()
            await settled(at)

    run(control_plane, scenario)
