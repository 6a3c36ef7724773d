"""An operator whose copies are late, or whom an event never reached: nobody suffers, and it comes right.

The API server is real, pods and engines are played. The numbers in the names are those of the list of fault cases.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.kube.informer import Informer
from database_operator.kube.objects import Key
from database_operator.manager import Manager
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, manager, operator, playing, until
from tests.reconcile.scenario import NAME, VERSIONS, gone, identities, run, settled

pytestmark = pytest.mark.apiserver


def freeze(informer: Informer[Any]) -> None:
    """The copy stays as it is: an API server, or a watch, that is behind."""
    informer._take = lambda raw: _metadata_only(informer, raw)  # type: ignore[method-assign]
    informer._drop = lambda key: None  # type: ignore[method-assign]


def _metadata_only(informer: Informer[Any], raw: Any) -> Any:
    return informer._decode(raw).metadata


@contextlib.asynccontextmanager
async def late_operator(at: Hub) -> AsyncIterator[Manager]:
    """One whose copy of the Databases stays as it is now, and that looks at none unless it is told to."""
    late = manager(at)
    with playing(late):
        late._first_passes = lambda: None  # type: ignore[method-assign]
        running = asyncio.create_task(late.run())
        try:
            await until(lambda: _synced(late), 20, lambda: "not listed")
            freeze(late.stores.databases)
            yield late
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _synced(made: Manager) -> bool:
    return made._working


# late copies


def test_k08_a_late_copy_of_the_spec_takes_no_member_away(control_plane: ControlPlane) -> None:
    """Elastic's cloud-on-k8s#5274: 3 -> 1 -> 3, and the copy stands at 1."""

    async def scenario(at: Hub) -> None:
        for type_ in ("PostgreSQL", "MongoDB", "Redis", "Elasticsearch"):
            await at.create(type_.lower(), type_, VERSIONS[type_], replicas=3)
        names = ["postgresql", "mongodb", "redis", "elasticsearch"]
        async with operator(at):
            for name in names:
                await settled(at, name)
        before = await identities(at)
        for name in names:
            await at.change(name, replicas=1)
        async with late_operator(at) as late:
            for name in names:
                await at.change(name, replicas=3)
            for name in names:
                late.queue.add(Key(at.namespace, name))
            await asyncio.sleep(6)
            assert (await identities(at)) == before
            for name in names:
                assert (await at.get(r.STATEFUL_SET, name))["spec"]["replicas"] == 3
        async with operator(at):
            for name in names:
                await settled(at, name)
            assert await identities(at) == before

    run(control_plane, scenario)


def test_k08_a_late_copy_of_pods_and_claims_harms_nothing(control_plane: ControlPlane) -> None:
    """The copy shows pods that are no more, with old inputs: they are of other UIDs by now."""

    async def scenario(at: Hub) -> None:
        async with operator(at) as made:
            await at.create(NAME, "Redis", "7.2", replicas=3)
            await settled(at)
            for informer in (made.stores.pods, made.stores.claims, made.stores.stateful_sets):
                freeze(informer)
            await at.client.delete(r.POD, at.namespace, f"{NAME}-1")
            old = (await identities(at, r.POD)).get(f"Pod {NAME}-1")

            async def anew() -> bool:
                return (await identities(at, r.POD)).get(f"Pod {NAME}-1") not in (None, old)

            with contextlib.suppress(AssertionError):
                await until(anew, 5, lambda: "")
            data = await identities(at, r.PERSISTENT_VOLUME_CLAIM, r.SECRET)
            young = (await identities(at, r.POD))[f"Pod {NAME}-1"]
            await at.change(NAME, redis={"parameters": {"databases": 4}})
            await asyncio.sleep(5)
            assert await identities(at, r.PERSISTENT_VOLUME_CLAIM, r.SECRET) == data
            assert (await identities(at, r.POD))[f"Pod {NAME}-1"] == young  # it is none of the pods the copy shows
        async with operator(at):
            await settled(at)

    run(control_plane, scenario)


def test_k09_a_late_copy_of_a_deletion_harms_no_later_database_of_the_name(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        await at.create(NAME, "Redis", "7.2", deletionPolicy="Delete")
        async with operator(at):
            await settled(at)
        await at.client.delete(DATABASE, at.namespace, NAME)  # nobody is there to carry it out
        async with late_operator(at) as late:
            async with operator(at):
                await gone(at, DATABASE, NAME)
                await at.create(NAME, "Redis", "7.2", deletionPolicy="Delete")
                await settled(at)
            before = await identities(at)
            view = late.stores.databases.get(at.namespace, NAME)
            assert view is not None
            assert view.metadata.deletion_timestamp
            late.queue.add(view.metadata.key)
            await asyncio.sleep(4)
            assert await identities(at) == before

    run(control_plane, scenario)


# lost events


def test_k10_what_no_event_told_is_repaired_at_the_next_resync(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at, "--resync-period", "3s") as made:
            await at.create(NAME, "PostgreSQL", "17")
            await settled(at)
            enqueue, made._enqueue = made._enqueue, lambda key: None  # type: ignore[method-assign]
            made.queue.add = _deaf(made.queue.add)  # type: ignore[method-assign]
            await at.client.delete(r.SERVICE, at.namespace, f"{NAME}-service")
            await at.client.patch(r.ROLE, at.namespace, f"{NAME}-agent", {"rules": []})
            await settled(at, seconds=15)
            made._enqueue = enqueue  # type: ignore[method-assign]

    run(control_plane, scenario)


def _deaf(add: Callable[..., None]) -> Callable[..., None]:
    """Only timers are heard, which call with ``low``."""

    def heard(key: Any, *, low: bool | None = None) -> None:
        if low is not None:
            add(key, low=low)

    return heard


def test_k11_changes_that_end_where_they_began_do_nothing(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        await at.create(NAME, "Elasticsearch", "8.11.0", replicas=3)
        async with operator(at):
            await settled(at)
        before = await identities(at)
        for replicas in (1, 0, 3):
            await at.change(NAME, replicas=replicas)
        async with operator(at):
            await settled(at)
            assert await identities(at) == before

    run(control_plane, scenario)


@pytest.mark.parametrize("type_", ["Redis", "PostgreSQL", "SQLite"])
def test_i24_a_spec_that_flaps_restarts_members_at_most_twice(control_plane: ControlPlane, type_: str) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create(NAME, type_, VERSIONS[type_])
            await settled(at)
            seen: set[str] = set()
            for turn in range(24):
                env = [{"name": "A", "value": str(turn % 2)}]
                await at.change(NAME, env=env)
                for _ in range(5):
                    await asyncio.sleep(0.1)
                    seen |= {pod["metadata"]["uid"] for pod in await at.all(r.POD, f"{c.APP}={NAME}")}
            await settled(at)
            seen |= {pod["metadata"]["uid"] for pod in await at.all(r.POD, f"{c.APP}={NAME}")}
            assert len(seen) - 1 <= 2, f"{len(seen) - 1} restarts"

    run(control_plane, scenario)
