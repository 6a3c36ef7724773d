"""What may go wrong between the operator and the API server: refusals, an absent server, a second operator.

The API server is real, pods and engines are played. The numbers in the names are those of the list of fault cases.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import pytest
from yarl import URL

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.kube.errors import ApiError, Conflict, Forbidden, TooManyRequests, Unavailable
from database_operator.manager import Manager
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.conftest import installed
from tests.reconcile.harness import Hub, hub, manager, operator, playing, until
from tests.reconcile.scenario import NAME, QUOTA, VERSIONS, gone, identities, run, settled

pytestmark = pytest.mark.apiserver


Fault = Callable[[str, str], ApiError | None]


def disturb(made: Manager, fault: Fault) -> None:
    """``fault`` gives the error that a call ends in, unread by the server, or None."""
    real = made.client._send

    async def send(method: str, url: URL, body: bytes | None, content_type: str, accept: str) -> bytes:
        error = fault(method, url.path)
        if error is not None:
            raise error
        return await real(method, url, body, content_type, accept)

    made.client._send = send  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def disturbed(at: Hub, fault: Fault, *flags: str) -> AsyncIterator[Manager]:
    made = manager(at, *flags)
    disturb(made, fault)
    with playing(made):
        running = asyncio.create_task(made.run())
        try:
            yield made
            assert not running.done(), "the operator ended"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


# refusals


def test_k14_a_conflict_at_every_write_is_read_again_and_done(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        refused: set[tuple[str, str]] = set()

        def once_each(method: str, path: str) -> ApiError | None:
            if method == "GET" or "/events" in path or (method, path) in refused:
                return None
            refused.add((method, path))
            return Conflict(409, "Conflict", "somebody was faster")

        async with disturbed(at, once_each):
            for type_, version in VERSIONS.items():
                await at.create(type_.lower(), type_, version)
            for type_ in VERSIONS:
                await settled(at, type_.lower())
            refused.clear()
            await at.change("redis", replicas=3)
            await at.change("postgresql", env=[{"name": "A", "value": "1"}])
            await at.client.delete(DATABASE, at.namespace, "sqlite")
            await settled(at, "redis")
            await settled(at, "postgresql")
            await gone(at, DATABASE, "sqlite")
            assert len(refused) > 15

    run(control_plane, scenario)


def test_k14_fields_of_others_stay_theirs(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create(NAME, "Redis", "7.2")
            await settled(at)
            theirs = {"metadata": {"annotations": {"mesh.example.com/injected": "yes"}, "labels": {"team": "theirs"}}}
            kinds = (
                (r.SERVICE, f"{NAME}-service"),
                (r.STATEFUL_SET, NAME),
                (r.CONFIG_MAP, f"{NAME}-settings"),
                (r.SECRET, f"{NAME}-credentials"),
            )
            for kind, name in kinds:
                await at.client.patch(kind, at.namespace, name, theirs)
            await at.change(NAME, redis={"parameters": {"maxmemory": "64mb"}}, replicas=2)
            await settled(at)
            for kind, name in kinds:
                head = (await at.get(kind, name))["metadata"]
                assert head["annotations"]["mesh.example.com/injected"] == "yes", name
                assert head["labels"]["team"] == "theirs", name

    run(control_plane, scenario)


def test_k15_a_server_that_sheds_load_costs_time_and_neither_process_nor_role(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        busy = True

        def shed(method: str, path: str) -> ApiError | None:
            return TooManyRequests(429, "TooManyRequests", "busy", 1.0) if busy and "/leases" not in path else None

        flags = ("--leader-elect", "--leader-election-namespace", at.namespace)
        async with disturbed(at, lambda method, path: shed(method, path) if method != "GET" else None, *flags):
            await at.create(NAME, "Redis", "7.2")
            await asyncio.sleep(12)
            holder = (await at.get(r.LEASE, "database-operator"))["spec"]["holderIdentity"]
            assert not await at.exists(r.STATEFUL_SET, NAME)
            busy = False
            await settled(at)
            assert (await at.get(r.LEASE, "database-operator"))["spec"]["holderIdentity"] == holder

    run(control_plane, scenario)


async def storm(at: Hub, seconds: float) -> None:
    """A fifth of all calls fail, half of them after they were carried out, while Databases change."""
    chance = random.Random(7)
    stormy = True
    made = manager(at)
    real = made.client._send

    async def send(method: str, url: URL, body: bytes | None, content_type: str, accept: str) -> bytes:
        fails = stormy and chance.random() < 0.2
        error = chance.choice(
            (Unavailable(500, "InternalError", "storm"), Unavailable(503, "Unavailable", "storm"), Unavailable(0, "TimeoutError", "storm"))
        )
        if fails and chance.random() < 0.5:
            raise error
        answer = await real(method, url, body, content_type, accept)
        if fails:
            raise error
        return answer

    made.client._send = send  # type: ignore[method-assign]
    with playing(made):
        running = asyncio.create_task(made.run())
        for type_, version in VERSIONS.items():
            await at.create(type_.lower(), type_, version)
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(1.5)
            name = chance.choice(("postgresql", "mongodb", "redis", "elasticsearch"))
            await at.change(name, replicas=chance.choice((1, 2, 3)), env=[{"name": "A", "value": str(chance.random())}])
        stormy = False
        for type_ in VERSIONS:
            await settled(at, type_.lower(), 90)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_k16_a_fifth_of_all_calls_fails(control_plane: ControlPlane) -> None:
    run(control_plane, lambda at: storm(at, 12))


@pytest.mark.long
def test_k16_long_a_fifth_of_all_calls_fails_for_ten_minutes(control_plane: ControlPlane) -> None:
    run(control_plane, lambda at: storm(at, 600))


async def outage(plane: ControlPlane, seconds: float) -> None:
    async with hub(plane) as at, operator(at) as made:
        await at.create(NAME, "Redis", "7.2", replicas=3)
        await at.create("file", "SQLite", "latest")
        for name in (NAME, "file"):
            await settled(at, name)
        before = await identities(at)
        await asyncio.to_thread(plane.kill, "apiserver")
        await asyncio.sleep(seconds)
        assert made._working
        await asyncio.to_thread(plane.restart, "apiserver")
        for name in (NAME, "file"):
            await settled(at, name, 120)
        await asyncio.sleep(2)
        assert await identities(at) == before  # nobody was restarted, nothing made anew
        await at.change(NAME, replicas=2)
        await settled(at, NAME, 120)


@pytest.mark.slow(45)
def test_k17_an_absent_api_server_changes_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    with installed() as plane:
        asyncio.run(outage(plane, 8))


@pytest.mark.long
def test_k17_long_an_absent_api_server_changes_nothing_in_five_minutes() -> None:
    with installed() as plane:
        asyncio.run(outage(plane, 300))


@pytest.mark.parametrize("kind", [r.SERVICE, r.PERSISTENT_VOLUME_CLAIM], ids=["services", "claims"])
def test_k44_without_the_right_to_list_a_kind_nothing_is_done_and_it_is_said(control_plane: ControlPlane, kind: r.Resource) -> None:
    async def scenario(at: Hub) -> None:
        lacking = True

        def forbidden(method: str, path: str) -> ApiError | None:
            listed = method == "GET" and path.endswith(f"/{kind.plural}")
            return Forbidden(403, "Forbidden", f"cannot list {kind.plural}") if lacking and listed else None

        await at.create(NAME, "Redis", "7.2")
        async with disturbed(at, forbidden) as made:
            await asyncio.sleep(2)
            assert made._why_not_ready() == f"{kind.plural} not listed yet: 403 Forbidden: cannot list {kind.plural}"
            assert not await at.exists(r.STATEFUL_SET, NAME)
            lacking = False
            await settled(at)
            assert made._why_not_ready() is None

    run(control_plane, scenario)


# other writers


def test_k07_two_operators_at_once_do_no_harm(control_plane: ControlPlane) -> None:
    """As where a paused leader wakes up: both act for a while."""

    async def scenario(at: Hub) -> None:
        async with operator(at), operator(at):
            for type_, version in VERSIONS.items():
                await at.create(type_.lower(), type_, version)
            for type_ in VERSIONS:
                await settled(at, type_.lower())
            secrets = await identities(at, r.SECRET, r.PERSISTENT_VOLUME_CLAIM)
            login = {name: (await at.get(r.SECRET, f"{name}-credentials"))["data"]["password"] for name in ("redis", "mongodb")}
            for name in ("redis", "mongodb", "postgresql"):
                await at.change(name, replicas=3)
            await at.change("elasticsearch", env=[{"name": "A", "value": "1"}])
            for type_ in VERSIONS:
                await settled(at, type_.lower())
            for name in ("redis", "mongodb", "postgresql"):
                await at.change(name, replicas=1)
            for type_ in VERSIONS:
                await settled(at, type_.lower())
            after = await identities(at, r.SECRET, r.PERSISTENT_VOLUME_CLAIM)
            assert {name: after.get(name) for name in secrets} == secrets
            assert login == {name: (await at.get(r.SECRET, f"{name}-credentials"))["data"]["password"] for name in login}

    run(control_plane, scenario)


def test_k04_k43_a_forged_status_is_not_believed(control_plane: ControlPlane) -> None:
    """The primary is who the engine says it is; nothing is done on the word of a status."""

    async def scenario(at: Hub) -> None:
        await at.create(NAME, "PostgreSQL", "17", replicas=3)
        async with operator(at):
            await settled(at)
        before, told = await identities(at), await at.status(NAME)
        forged = {
            **told,
            "primary": f"{NAME}-2",
            "version": "12.1",
            "readyReplicas": 0,
            "requests": {"restartedAt": "tomorrow"},
            "members": [{"name": f"{NAME}-2", "role": "primary", "ready": True, "lag": "Current"}],
            "storage": {"size": "1Ti"},
        }
        await at.client.patch(DATABASE, at.namespace, NAME, {"status": forged}, subresource="status")
        async with operator(at):

            async def rebuilt() -> bool:
                status = await at.status(NAME)
                return all(status.get(field) == told.get(field) for field in ("primary", "version", "members", "readyReplicas", "storage"))

            await until(rebuilt, 30, lambda: "the status was not rebuilt")
            await at.client.patch(DATABASE, at.namespace, NAME, {"status": None}, subresource="status")
            await until(rebuilt, 30, lambda: "the status was not rebuilt from nothing")
            assert {name: uid for name, uid in (await identities(at)).items() if "Pod" not in name} == {
                name: uid for name, uid in before.items() if "Pod" not in name
            }

    run(control_plane, scenario)


# namespaces and quotas


def test_k23_a_terminating_namespace_is_free_in_a_minute(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            for number, (type_, version) in enumerate(VERSIONS.items()):
                await at.create(type_.lower(), type_, version, deletionPolicy="Delete" if number % 2 else "Retain")
            for type_ in VERSIONS:
                await settled(at, type_.lower())
            await at.create("late", "Redis", "7.2")
            await at.client.delete(r.NAMESPACE, None, at.namespace)
            for name in (*(type_.lower() for type_ in VERSIONS), "late"):
                await gone(at, DATABASE, name, 60)
            refused = sum(n for call, n in at.calls("database-operator/").items() if call.endswith(" 403"))
            assert refused < 100, f"{refused} creates in a namespace that ends"

    run(control_plane, scenario)


def test_k24_what_a_quota_or_a_limit_refuses_is_named_and_heals(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            head = {"name": "few", "namespace": at.namespace}
            await at.client.create(QUOTA, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": head, "spec": {"hard": {"pods": "0"}}})
            await at.create(NAME, "Redis", "7.2")
            condition = await at.condition(NAME, "Ready", "QuotaExceeded", 30)
            assert "few" in condition["message"]
            limit = {"limits": [{"type": "Container", "max": {"memory": "100Mi"}, "default": {"memory": "50Mi"}}]}
            await at.client.create(
                LIMIT_RANGE, {"apiVersion": "v1", "kind": "LimitRange", "metadata": {**head, "name": "small"}, "spec": limit}
            )
            await at.create("file", "SQLite", "latest", resources={"memory": "200Mi", "memoryLimit": "200Mi"})
            condition = await at.condition("file", "Ready", "ReconciliationFailed", 30)
            assert "100Mi" in condition["message"]

            async def woken() -> bool:
                workloads = [await at.get(r.STATEFUL_SET, NAME), await at.get(r.DEPLOYMENT, "file")]
                return all(c.WOKEN_AT in workload["metadata"].get("annotations", {}) for workload in workloads)

            await until(woken, 90, lambda: "the controllers were left to their back-off, which grows to a quarter of an hour")
            await at.client.delete(QUOTA, at.namespace, "few")
            await at.client.delete(LIMIT_RANGE, at.namespace, "small")
            await settled(at, "file", 90)
            await settled(at, NAME, 90)

    run(control_plane, scenario)


LIMIT_RANGE = r.register(r.Resource("v1", "LimitRange", "limitranges"))
