"""Requests on a real API server: each is done once, or refused with its reason, and survives a crash. Pods and engines are played."""

import asyncio
from typing import Any

import msgspec
import pytest

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.reconcile import requests
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, until
from tests.reconcile.scenario import VERSIONS, run_operated
from tests.reconcile.test_crash_points import DATA, RUNNING, Do, Scenario, crash, create

pytestmark = pytest.mark.apiserver

NAME = "shop"
SECONDS = 60.0  # on a busy machine


async def settled(at: Hub, type_: str, replicas: int = 1, **spec: Any) -> None:
    await at.create(NAME, type_, VERSIONS[type_], replicas=replicas, **spec)
    await at.phase(NAME, "Ready", SECONDS)
    await at.condition(NAME, "Progressing", "Settled", SECONDS)


async def annotate(at: Hub, **values: str | None) -> None:
    annotations = {f"databases.database-operator.io/{key}": value for key, value in values.items()}
    await at.client.patch(DATABASE, at.namespace, NAME, {"metadata": {"annotations": annotations}})


async def handled(at: Hub, **values: str) -> dict[str, Any]:
    """The status once these requests count as done."""
    status: dict[str, Any] = {}

    async def reached() -> bool:
        nonlocal status
        status = await at.status(NAME)
        kept = status.get("requests", {})
        return all(kept.get(key) == value for key, value in values.items())

    await until(reached, SECONDS, lambda: f"{values} not handled: {status.get('requests')}; {status.get('message')}")
    return status


async def ask(at: Hub, **values: str) -> dict[str, Any]:
    await annotate(at, **values)
    return await handled(at, **values)


async def events(at: Hub, reason: str) -> list[str]:
    """Notes of the events of one reason, once there is one."""
    found: list[str] = []

    async def there() -> bool:
        nonlocal found
        every = await at.client.list(r.EVENT, at.namespace, type=dict)
        found = [event["message"] for event in every if event["reason"] == reason and event["involvedObject"]["name"] == NAME]
        return bool(found)

    await until(there, SECONDS, lambda: f"no event {reason}")
    return found


async def uids(at: Hub, kind: r.Resource) -> dict[str, str]:
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in await at.all(kind)}


async def password(at: Hub) -> str:
    return str((await at.get(r.SECRET, f"{NAME}-credentials"))["data"]["password"])


@pytest.mark.proves("annotation.switchover")
@pytest.mark.parametrize("type_", ["PostgreSQL", "MongoDB", "Redis"])
def test_a_switchover_is_done_once_and_told(control_plane: ControlPlane, type_: str) -> None:
    async def scenario(at: Hub) -> None:
        await settled(at, type_, 3)
        pods = await uids(at, r.POD)
        status = await ask(at, switchover=f"{NAME}-2")
        assert status["primary"] == f"{NAME}-2"
        assert await events(at, "RequestDone") == [f"switchover {NAME}-2: {NAME}-2 is the primary"]
        assert await events(at, "PrimaryChanged") == [f"{NAME}-2 is the primary after {NAME}-0"]
        assert not status.get("message")

        status = await ask(at, switchover=f"{NAME}-0@back")
        assert status["primary"] == f"{NAME}-0"
        await annotate(at, switchover=None)
        await at.condition(NAME, "Progressing", "Settled", SECONDS)
        await annotate(at, switchover=f"{NAME}-0@back")  # again the value that was handled last
        await asyncio.sleep(2)
        status = await at.status(NAME)
        assert (status["primary"], status.get("message")) == (f"{NAME}-0", None)
        assert await uids(at, r.POD) == pods

    run_operated(control_plane, scenario)


@pytest.mark.parametrize(
    ("type_", "replicas", "request_", "why"),
    [
        ("PostgreSQL", 3, {"switchover": "shop-7"}, "there is no member of this name: shop-0, shop-1, shop-2 are there"),
        ("PostgreSQL", 3, {"switchover": "shop-0"}, "shop-0 is the primary"),
        ("PostgreSQL", 1, {"rebuild": "shop-0"}, "shop-0 is the only member, and so the last copy of the data"),
        ("Redis", 3, {"rebuild": "shop-0"}, "shop-0 is the primary: move the primary to another member first"),
        ("MongoDB", 2, {"rebuild": "shop-1"}, "without shop-1 no majority is left: 2 members vote"),
        ("Elasticsearch", 2, {"switchover": "shop-1"}, "Elasticsearch has no switchover"),
        ("SQLite", 1, {"rebuild": "shop-0"}, "SQLite has no rebuild"),
    ],
)
def test_what_cannot_be_done_is_refused_once_and_said_until_the_annotation_goes(
    control_plane: ControlPlane, type_: str, replicas: int, request_: dict[str, str], why: str
) -> None:
    async def scenario(at: Hub) -> None:
        await settled(at, type_, replicas)
        before = await uids(at, r.POD), await uids(at, r.PERSISTENT_VOLUME_CLAIM)
        ((name, value),) = request_.items()
        status = await ask(at, **request_)
        note = f"{name} {value} refused: {why}"
        assert note in status["message"].split("; ")
        assert await events(at, "RequestRefused") == [note]
        await asyncio.sleep(2)
        calls = at.writes()
        await at.client.patch(DATABASE, at.namespace, NAME, {"metadata": {"labels": {"any": "change"}}})
        await asyncio.sleep(1)
        assert at.writes() == calls  # the words stay, and cost nothing
        assert note in (await at.status(NAME))["message"].split("; ")
        assert (await uids(at, r.POD), await uids(at, r.PERSISTENT_VOLUME_CLAIM)) == before
        await annotate(at, **dict.fromkeys(request_))

        async def silent() -> bool:
            return note not in (await at.status(NAME)).get("message", "")

        await until(silent, SECONDS, lambda: "the refusal is still said")

    run_operated(control_plane, scenario)


@pytest.mark.proves("annotation.rebuild")
@pytest.mark.parametrize("type_", ["Redis", "MongoDB", "Elasticsearch"])
def test_a_member_is_made_anew_with_its_volume_and_no_other_is(control_plane: ControlPlane, type_: str) -> None:
    async def scenario(at: Hub) -> None:
        await settled(at, type_, 3)
        pods, claims = await uids(at, r.POD), await uids(at, r.PERSISTENT_VOLUME_CLAIM)
        await ask(at, rebuild=f"{NAME}-2@1")

        async def anew() -> bool:
            there, data = await uids(at, r.POD), await uids(at, r.PERSISTENT_VOLUME_CLAIM)
            gone = there.get(f"{NAME}-2") not in (None, pods[f"{NAME}-2"])
            return gone and data.get(f"data-{NAME}-2") not in (None, claims[f"data-{NAME}-2"])

        await until(anew, SECONDS, lambda: "the member was not made anew")
        await at.phase(NAME, "Ready", SECONDS)
        await at.condition(NAME, "Progressing", "Settled", SECONDS)
        await asyncio.sleep(1)
        pods |= {f"{NAME}-2": (await uids(at, r.POD))[f"{NAME}-2"]}
        claims |= {f"data-{NAME}-2": (await uids(at, r.PERSISTENT_VOLUME_CLAIM))[f"data-{NAME}-2"]}
        await asyncio.sleep(2)
        assert await uids(at, r.POD) == pods
        assert await uids(at, r.PERSISTENT_VOLUME_CLAIM) == claims

    run_operated(control_plane, scenario)


def test_patroni_clones_a_member_and_its_volume_stays(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        await settled(at, "PostgreSQL", 3)
        before = await uids(at, r.POD), await uids(at, r.PERSISTENT_VOLUME_CLAIM)
        await ask(at, rebuild=f"{NAME}-1")
        await asyncio.sleep(2)
        assert at.engines._played[NAME].cloned == [f"{NAME}-1"]
        assert (await uids(at, r.POD), await uids(at, r.PERSISTENT_VOLUME_CLAIM)) == before

    run_operated(control_plane, scenario)


def test_a_clone_rests_on_what_the_members_say_now(control_plane: ControlPlane) -> None:
    """The prober's last answer says that all are well; at the moment of the act the primary does not answer."""

    async def scenario(at: Hub) -> None:
        await settled(at, "Redis", 3)
        before = await uids(at, r.POD), await uids(at, r.PERSISTENT_VOLUME_CLAIM)
        told = at.engines.probe

        async def silent(target: Any, member: Any) -> Any:
            if (
                len(target.members) == 3 and member.pod == f"{NAME}-0" and member.lag_bytes is not None
            ):  # asked by a pass, not by the prober
                raise OSError("gone")
            return await told(target, member)

        at.engines.probe = silent  # type: ignore[method-assign]
        await annotate(at, rebuild=f"{NAME}-2")
        await at.condition(NAME, "Progressing", "RollingOut", SECONDS)
        await asyncio.sleep(3)
        assert "not taken yet" in (await at.status(NAME))["message"]
        assert (await uids(at, r.POD), await uids(at, r.PERSISTENT_VOLUME_CLAIM)) == before
        at.engines.probe = told  # type: ignore[method-assign]
        await handled(at, rebuild=f"{NAME}-2")

    run_operated(control_plane, scenario)


@pytest.mark.parametrize("answers", [True, False])
def test_a_member_on_its_way_to_lead_is_not_refused(control_plane: ControlPlane, answers: bool) -> None:
    """Between the engine's yes, which may get lost, and the new role its link is down, as Redis' is."""

    async def scenario(at: Hub) -> None:
        await settled(at, "Redis", 3)
        told, moved, asked = at.engines.probe, at.engines.switchover, []

        async def takes(target: Any, to: str) -> None:
            asked.append(to)
            if len(asked) == 1:
                asyncio.get_running_loop().call_later(3, lambda: asked.append("moved"))
            if not answers:
                raise requests.Unreachable("the connection broke")

        async def between(target: Any, member: Any) -> Any:
            if asked[-1:] == ["moved"]:
                await moved(target, f"{NAME}-1")
            found = await told(target, member)
            return msgspec.structs.replace(found, lag_bytes=None) if asked == [f"{NAME}-1"] and member.pod == f"{NAME}-1" else found

        at.engines.probe, at.engines.switchover = between, takes  # type: ignore[method-assign]
        status = await ask(at, switchover=f"{NAME}-1")
        assert (status["primary"], status.get("message")) == (f"{NAME}-1", None)
        assert asked == [f"{NAME}-1", "moved"]

    run_operated(control_plane, scenario)


def test_nothing_is_tried_for_ever(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(at: Hub) -> None:
        await settled(at, "Redis", 3)

        async def refuses(target: Any, to: str) -> None:
            raise requests.Unreachable("the engine is busy")

        at.engines.switchover = refuses  # type: ignore[method-assign]
        await ask(at, switchover=f"{NAME}-1")
        assert await events(at, "RequestRefused") == [f"switchover {NAME}-1 refused: given up after 3 s: the engine is busy"]
        await at.condition(NAME, "Progressing", "Settled", SECONDS)

    monkeypatch.setattr(requests, "PATIENCE", 3.0)
    run_operated(control_plane, scenario)


@pytest.mark.proves("annotation.credentialsRotatedAt")
def test_a_new_password_once_per_value(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        await settled(at, "Redis", 3)
        before, pods = await password(at), await uids(at, r.POD)
        await ask(at, credentialsRotatedAt="monday")
        after = await password(at)
        assert after != before
        assert (await events(at, "RequestDone")) == ["credentialsRotatedAt monday: a new password is in the Secret of the credentials"]

        async def taken() -> bool:
            played = at.engines._played[NAME]
            return len(set(played.passwords.values())) == 1 and (await at.status(NAME)).get("message") is None

        await until(taken, SECONDS, lambda: "the members do not take the new password")
        await asyncio.sleep(2)
        assert await password(at) == after
        assert await uids(at, r.POD) == pods
        await ask(at, credentialsRotatedAt="tuesday")
        assert await password(at) not in (before, after)

    run_operated(control_plane, scenario)


def test_a_password_of_the_users_is_not_rotated(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"password": "of the user"}}
        await at.client.create(r.SECRET, secret | {"metadata": {"name": "mine", "namespace": at.namespace}})
        await settled(at, "PostgreSQL", postgresql={"passwordSecret": {"name": "mine"}})
        before = await password(at)
        status = await ask(at, credentialsRotatedAt="monday")
        assert "the password is that of Secret mine: change it there" in status["message"]
        assert await password(at) == before

    run_operated(control_plane, scenario)


def test_requests_of_before_the_first_status_count_as_done(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        asked = {"switchover": "shop-1", "rebuild": "shop-2", "credentialsRotatedAt": "x", "restartedAt": "y"}
        manifest = at.manifest(NAME, {"type": "Redis", "version": "7.2", "replicas": 3, "storage": {"size": "1Gi"}})
        manifest["metadata"]["annotations"] = {c.REQUESTS[name]: value for name, value in asked.items()}
        await at.client.create(DATABASE, manifest)
        status = await at.phase(NAME, "Ready", SECONDS)
        assert status["requests"] == asked
        pods = await uids(at, r.POD)
        await asyncio.sleep(2)
        assert (await at.status(NAME))["primary"] == "shop-0"
        assert await uids(at, r.POD) == pods

    run_operated(control_plane, scenario)


def test_hands_off(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        await settled(at, "Redis", 3)
        await annotate(at, reconcile="disabled")
        await at.condition(NAME, "Progressing", "Paused", SECONDS)
        writes = at.writes()
        pods, before = await uids(at, r.POD), await password(at)
        await annotate(at, switchover="shop-1", rebuild="shop-2", credentialsRotatedAt="x", restartedAt="y")
        await at.client.delete(r.SERVICE, at.namespace, f"{NAME}-ro")
        await asyncio.sleep(3)
        assert await uids(at, r.POD) == pods
        assert await password(at) == before
        assert not await at.exists(r.SERVICE, f"{NAME}-ro")
        assert not (at.writes() - writes).keys() - {"patch databases/status 200"}
        assert (await at.status(NAME)).get("requests") is None
        await annotate(at, reconcile=None, rebuild=None)
        status = await handled(at, switchover="shop-1", credentialsRotatedAt="x", restartedAt="y")
        assert "Paused" not in str(status["conditions"])
        assert await at.exists(r.SERVICE, f"{NAME}-ro")
        await annotate(at, reconcile="disabled")
        await at.client.delete(DATABASE, at.namespace, NAME)

        async def gone() -> bool:
            return not await at.exists(DATABASE, NAME)

        await until(gone, SECONDS, lambda: "deletion waits for hands that are off")

    run_operated(control_plane, scenario)


def test_parameters_without_effect_are_told_once_a_generation(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        await settled(at, "Elasticsearch", elasticsearch={"parameters": {"node.name": "mine", "indices.query.bool.max_clause_count": 2048}})
        note = (await at.status(NAME))["message"]
        assert note.startswith("spec.elasticsearch.parameters.node.name has no effect: ")
        assert await events(at, "ParameterIgnored") == [note]
        await annotate(at, restartedAt="now")
        await handled(at, restartedAt="now")
        assert (await at.status(NAME))["message"] == note
        assert len(await events(at, "ParameterIgnored")) == 1
        await at.change(NAME, elasticsearch={"parameters": {"node.name": None}})

        async def silent() -> bool:
            return not (await at.status(NAME)).get("message")

        await until(silent, SECONDS, lambda: "still said")

    run_operated(control_plane, scenario)


# --- the operator dies before and after each write


def asking(**values: str) -> Do:
    async def do(at: Hub) -> None:
        await ask(at, **values)

    return do


def rebuilding(pod: str) -> Do:
    async def do(at: Hub) -> None:
        before = await at.uid(r.POD, pod)
        status = await ask(at, rebuild=pod)

        async def anew() -> bool:
            return await at.uid(r.POD, pod) not in ("", before)

        await until(anew, SECONDS, lambda: f"{pod} was not made anew: {status.get('message')}")

    return do


LEFT = (r.SECRET, r.STATEFUL_SET, r.SERVICE)
SCENARIOS = {
    "a switchover of PostgreSQL": Scenario(prepare=create("PostgreSQL", replicas=3), act=asking(switchover="shop-2"), keeps=RUNNING),
    "a switchover of Redis": Scenario(prepare=create("Redis", replicas=3), act=asking(switchover="shop-2"), keeps=RUNNING),
    "a switchover of MongoDB": Scenario(prepare=create("MongoDB", replicas=3), act=asking(switchover="shop-2"), keeps=RUNNING),
    "a clone of PostgreSQL": Scenario(prepare=create("PostgreSQL", replicas=3), act=asking(rebuild="shop-1"), keeps=RUNNING),
    "a member of Redis made anew": Scenario(prepare=create("Redis", replicas=3), act=rebuilding("shop-2"), keeps=LEFT),
    "a member of Elasticsearch made anew": Scenario(prepare=create("Elasticsearch", replicas=3), act=rebuilding("shop-2"), keeps=LEFT),
    "a new password": Scenario(prepare=create("Redis", replicas=3), act=asking(credentialsRotatedAt="now"), keeps=RUNNING),
    "a restart": Scenario(prepare=create("PostgreSQL", replicas=2), act=asking(restartedAt="now"), keeps=(*DATA, r.STATEFUL_SET)),
}


@pytest.mark.slow(90)
def test_k03_a_crash_in_a_request_leads_to_the_same_end(control_plane: ControlPlane) -> None:
    asyncio.run(crash(control_plane, list(SCENARIOS), 2, SCENARIOS))


@pytest.mark.long
@pytest.mark.parametrize("name", SCENARIOS)
def test_k03_long_a_crash_at_any_write_of_a_request_leads_to_the_same_end(control_plane: ControlPlane, name: str) -> None:
    asyncio.run(crash(control_plane, [name], None, SCENARIOS))
