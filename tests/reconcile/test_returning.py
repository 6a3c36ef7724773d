"""Fewer members come back than stopped, or than left their claims behind: all that hold data start, and then some leave.

The API server is real, pods and engines are played. What engines make of it is shown in tests/pods/test_returning.py.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.kube.errors import NotFound
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, until
from tests.reconcile.scenario import NAME, QUOTA, VERSIONS, gone, run_operated, settled

pytestmark = pytest.mark.apiserver


@contextlib.asynccontextmanager
async def watched(at: Hub) -> AsyncIterator[set[int]]:
    """Every number of replicas that the workload had meanwhile."""
    seen: set[int] = set()

    async def look() -> None:
        while True:
            with contextlib.suppress(NotFound):
                seen.add((await at.get(r.STATEFUL_SET, NAME))["spec"]["replicas"])
            await asyncio.sleep(0.02)

    task = asyncio.create_task(look())
    try:
        yield seen
    finally:
        task.cancel()


async def all_hold_data(at: Hub, members: int) -> None:
    """Every claim bears the mark of it, which comes a pass after its member is ready."""

    async def marked() -> bool:
        claims = await at.all(r.PERSISTENT_VOLUME_CLAIM, f"{c.DATA_OF}={NAME}")
        return sum(c.FORMED in claim["metadata"]["annotations"] for claim in claims) == members

    await until(marked, 60, lambda: "not every claim is marked")


CASES = [
    pytest.param("PostgreSQL", 3, 1, {}, id="PostgreSQL"),
    pytest.param("Redis", 3, 1, {}, id="Redis"),
    pytest.param("Redis", 6, 3, {"redis": {"mode": "cluster", "shards": 3}}, id="Redis Cluster"),
    pytest.param("Elasticsearch", 3, 1, {}, id="Elasticsearch"),
]


@pytest.mark.parametrize(("type_", "many", "few", "more"), CASES)
def test_all_that_hold_data_come_back_before_some_leave(
    control_plane: ControlPlane, type_: str, many: int, few: int, more: dict[str, Any]
) -> None:
    async def scenario(at: Hub) -> None:
        await at.create(NAME, type_, VERSIONS[type_], replicas=many, **more)
        await settled(at)
        await all_hold_data(at, many)
        await at.change(NAME, replicas=0)
        await settled(at)
        async with watched(at) as seen:
            await at.change(NAME, replicas=few)
            await settled(at, seconds=90)
        assert seen >= {0, many, few}, seen
        assert c.RETURNING not in (await at.get(r.STATEFUL_SET, NAME))["metadata"]["labels"]
        claims = await at.all(r.PERSISTENT_VOLUME_CLAIM, f"{c.DATA_OF}={NAME}")
        left = sorted(claim["metadata"]["name"] for claim in claims if c.LEFT_AT in claim["metadata"]["annotations"])
        assert left == [f"data-{NAME}-{ordinal}" for ordinal in range(few, many)]
        await at.change(NAME, replicas=0)
        await settled(at)
        async with watched(at) as seen:
            await at.change(NAME, replicas=few)
            await settled(at)
        assert seen == {0, few}, "who left before has no say"

    run_operated(control_plane, scenario)


def test_a_database_made_anew_with_fewer_members_takes_up_all_claims_first(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        await at.create(NAME, "PostgreSQL", "17", replicas=3)
        await settled(at)
        await all_hold_data(at, 3)
        await at.client.delete(DATABASE, at.namespace, NAME)
        await gone(at, DATABASE, NAME)
        await gone(at, r.POD, f"{NAME}-2")
        async with watched(at) as seen:
            await at.create(NAME, "PostgreSQL", "17", replicas=1)
            await settled(at, seconds=90)
        assert seen == {3, 1}, seen

    run_operated(control_plane, scenario)


def test_a_claim_that_is_deleted_is_not_waited_for(control_plane: ControlPlane) -> None:
    """The way out where a member cannot come back."""

    async def scenario(at: Hub) -> None:
        await at.create(NAME, "PostgreSQL", "17", replicas=3)
        await settled(at)
        await all_hold_data(at, 3)
        await at.change(NAME, replicas=0)
        await settled(at)
        at.broken[f"{NAME}-1"] = "ImagePullBackOff"
        await at.client.delete(r.PERSISTENT_VOLUME_CLAIM, at.namespace, f"data-{NAME}-1")
        await gone(at, r.PERSISTENT_VOLUME_CLAIM, f"data-{NAME}-1")
        async with watched(at) as seen:
            await at.change(NAME, replicas=1)
            await settled(at)
        assert seen == {0, 3, 1}, seen

    run_operated(control_plane, scenario)


def test_nobody_leaves_while_a_member_with_data_is_away_and_nobody_leads(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        await at.create(NAME, "PostgreSQL", "17", replicas=3)
        await settled(at)
        await all_hold_data(at, 3)
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": at.namespace}}
        await at.client.create(QUOTA, quota | {"spec": {"hard": {"pods": "0"}}})
        for ordinal in range(3):
            await at.client.delete(r.POD, at.namespace, f"{NAME}-{ordinal}")
        await gone(at, r.POD, f"{NAME}-2")
        async with watched(at) as seen:
            await at.change(NAME, replicas=1)

            async def told() -> bool:
                return "holds data and is not there" in str(await at.status(NAME))

            await until(told, 30, lambda: "the reason is not told")
        assert seen == {3}
        await at.client.delete(QUOTA, at.namespace, "none")
        await settled(at, seconds=90)

    run_operated(control_plane, scenario)
