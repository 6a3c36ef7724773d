"""What may go wrong between the operator and the API server: late copies, lost events, refusals, an absent server, a second operator.

The API server is real, pods and engines are played. The numbers in the names are those of the list of fault cases.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from yarl import URL

from database_operator import config
from database_operator.build import constants as c
from database_operator.engines.base import Platform
from database_operator.kube import resources as r
from database_operator.kube.errors import ApiError, Conflict, Forbidden, NotFound, TooManyRequests, Unavailable
from database_operator.kube.informer import Informer
from database_operator.kube.objects import Key
from database_operator.manager import Manager
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.conftest import installed
from tests.reconcile import normal
from tests.reconcile.harness import Hub, hub, manager, operator, playing, until

pytestmark = pytest.mark.apiserver

PLATFORM = Platform(agent_image=config.parse(["run"], {}).agent_image)
VERSIONS = {"PostgreSQL": "17", "MongoDB": "7.0", "Redis": "7.2", "Elasticsearch": "8.11.0", "SQLite": "latest"}
NAME = "shop"

Fault = Callable[[str, str], ApiError | None]


def run(plane: ControlPlane, scenario: Callable[[Hub], Awaitable[None]]) -> None:
    async def main() -> None:
        async with hub(plane) as at:
            await scenario(at)

    asyncio.run(main())


async def settled(at: Hub, name: str = NAME, seconds: float = 60.0) -> None:
    """The declared state is reached, and said to be."""
    why: str | None = ""

    async def reached() -> bool:
        nonlocal why
        why = await normal.unsettled(at, name)
        if why is None:
            with contextlib.suppress(NotFound):
                why = await normal.difference_from_plan(at, name, PLATFORM)
        return why is None

    await until(reached, seconds, lambda: f"{name} is not settled: {why}")


async def gone(at: Hub, resource: r.Resource, name: str, seconds: float = 60.0) -> None:
    async def reached() -> bool:
        return not await at.exists(resource, name)

    await until(reached, seconds, lambda: f"{resource.kind} {name} does not go")


async def identities(at: Hub, *kinds: r.Resource) -> dict[str, str]:
    found = {}
    for kind in kinds or (r.POD, r.PERSISTENT_VOLUME_CLAIM, r.SECRET, r.STATEFUL_SET):
        for item in await at.all(kind, f"{c.MANAGED_BY}={c.MANAGER}"):
            found[f"{kind.kind} {item['metadata']['name']}"] = item["metadata"]["uid"]
    return found


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


def freeze(informer: Informer[Any]) -> None:
    """The copy stays as it is: an API server, or a watch, that is behind."""
    informer._take = lambda raw: _metadata_only(informer, raw)  # type: ignore[method-assign]
    informer._drop = lambda key: None  # type: ignore[method-assign]


def _metadata_only(informer: Informer[Any], raw: Any) -> Any:
    return informer._decode(raw).metadata


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
        late = manager(at)
        with playing(late):
            late._first_passes = lambda: None  # type: ignore[method-assign]
            running = asyncio.create_task(late.run())
            await until(lambda: _synced(late), 20, lambda: "not listed")
            freeze(late.stores.databases)
            for name in names:
                await at.change(name, replicas=3)
            for name in names:
                late.queue.add(Key(at.namespace, name))
            await asyncio.sleep(6)
            assert (await identities(at)) == before
            for name in names:
                assert (await at.get(r.STATEFUL_SET, name))["spec"]["replicas"] == 3
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        async with operator(at):
            for name in names:
                await settled(at, name)
            assert await identities(at) == before

    run(control_plane, scenario)


async def _synced(made: Manager) -> bool:
    return made._working


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
        late = manager(at)
        with playing(late):
            late._first_passes = lambda: None  # type: ignore[method-assign]
            running = asyncio.create_task(late.run())
            await until(lambda: _synced(late), 20, lambda: "not listed")
            freeze(late.stores.databases)
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
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

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
            await at.client.delete(QUOTA, at.namespace, "few")
            limit = {"limits": [{"type": "Container", "max": {"memory": "100Mi"}, "default": {"memory": "50Mi"}}]}
            await at.client.create(
                LIMIT_RANGE, {"apiVersion": "v1", "kind": "LimitRange", "metadata": {**head, "name": "small"}, "spec": limit}
            )
            await at.create("file", "SQLite", "latest", resources={"memory": "200Mi", "memoryLimit": "200Mi"})
            condition = await at.condition("file", "Ready", "ReconciliationFailed", 30)
            assert "100Mi" in condition["message"]
            await at.client.delete(LIMIT_RANGE, at.namespace, "small")
            await settled(at, "file", 90)
            await settled(at, NAME, 90)

    run(control_plane, scenario)


QUOTA = r.register(r.Resource("v1", "ResourceQuota", "resourcequotas"))
LIMIT_RANGE = r.register(r.Resource("v1", "LimitRange", "limitranges"))


# lives that end as they begin


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
