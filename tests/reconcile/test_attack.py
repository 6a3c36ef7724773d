"""What must not happen: data or its key lost, an object of somebody else's taken, a state that nothing leaves, a call made for ever.

On a real API server with simulated pods.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.kube.resources import Resource
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.crash import Axe, mortal
from tests.reconcile.harness import Hub, operator, until
from tests.reconcile.scenario import gone, run

pytestmark = pytest.mark.apiserver


async def _formed(at: Hub, claim: str) -> None:
    async def formed() -> bool:
        return c.FORMED in (await at.get(r.PERSISTENT_VOLUME_CLAIM, claim))["metadata"].get("annotations", {})

    await until(formed, 15, lambda: f"{claim} was not marked")


async def _uid(at: Hub, resource: Resource, name: str) -> str:
    return str((await at.get(resource, name))["metadata"]["uid"])


async def _annotate(at: Hub, name: str, **values: str | None) -> None:
    annotations = {f"databases.database-operator.io/{key}": value for key, value in values.items()}
    await at.client.patch(DATABASE, at.namespace, name, {"metadata": {"annotations": annotations}})


async def _create(at: Hub, resource: Resource, name: str, **body: Any) -> None:
    head = {"name": name, "namespace": at.namespace, **body.pop("metadata", {})}
    await at.client.create(resource, {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": head, **body})


@pytest.mark.proves("Progressing.UpgradeNotSupported", "versions.held")
def test_a_new_operator_holds_a_version_as_the_old_one_did_and_misses_no_workload(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        at.versions["shop-0"] = "16.2"
        async with operator(at):
            await at.create("shop", "PostgreSQL", "16")
            await at.create("cache", "Redis", "7.2")
            await at.phase("shop", "Ready")
            await at.phase("cache", "Ready")
            await _formed(at, "data-shop-0")
            await at.change("shop", version="17")
            await at.condition("shop", "Progressing", "UpgradeNotSupported")
        await at.client.delete(r.STATEFUL_SET, at.namespace, "cache", propagation="Orphan")
        await gone(at, r.STATEFUL_SET, "cache")
        member = await _uid(at, r.POD, "cache-0")
        async with operator(at, "--resync-period", "4s"):

            async def made_anew() -> bool:
                return await at.exists(r.STATEFUL_SET, "cache")

            await until(made_anew, 10, lambda: "the StatefulSet was not made anew")
            await asyncio.sleep(6)
            status = await at.status("shop")
            assert status["phase"] == "Ready", status
            assert {condition["reason"] for condition in status["conditions"]} >= {"DatabaseReady", "UpgradeNotSupported"}
            assert await _uid(at, r.POD, "cache-0") == member

    run(control_plane, scenario)


def test_a_version_that_never_ran_can_be_changed(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            at.broken["shop-0"] = "ImagePullBackOff"
            await at.create("shop", "PostgreSQL", "18")
            await at.condition("shop", "Ready", "ImageNotPulled")
            never_ran = await at.uid(r.POD, "shop-0")
            await at.change("shop", version="17")

            async def replaced() -> bool:
                return await at.uid(r.POD, "shop-0") not in ("", never_ran)

            await until(replaced, 10, lambda: "the stuck pod was not replaced")
            at.broken.clear()
            await at.phase("shop", "Ready", 30)
            await _formed(at, "data-shop-0")
            claim = await at.get(r.PERSISTENT_VOLUME_CLAIM, "data-shop-0")
            assert claim["metadata"]["annotations"][c.MAJOR] == "17"

    run(control_plane, scenario)


def test_what_a_stranger_holds_is_not_taken_over_later_either(control_plane: ControlPlane) -> None:
    """By members that come later, by what an engine makes itself, and after one of ours was replaced."""

    async def scenario(at: Hub) -> None:
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        await _create(at, r.CONFIG_MAP, "app-config", data={"theirs": "x"})
        async with operator(at):
            await at.create("app", "PostgreSQL", "17")
            await at.create("shop", "PostgreSQL", "17")
            assert "app-config" in (await at.condition("app", "Ready", "NameConflict"))["message"]
            assert not await at.exists(r.STATEFUL_SET, "app")
            await at.phase("shop", "Ready")
            await _create(at, r.PERSISTENT_VOLUME_CLAIM, "data-shop-1", spec=claim)
            await at.change("shop", replicas=2)
            assert "data-shop-1" in (await at.condition("shop", "Ready", "NameConflict"))["message"]
            assert (await at.get(r.STATEFUL_SET, "shop"))["spec"]["replicas"] == 1
            await at.change("shop", replicas=1)
            await at.phase("shop", "Ready")

            await _annotate(at, "shop", reconcile="disabled")
            await at.condition("shop", "Progressing", "Paused")
            await at.client.delete(r.SERVICE, at.namespace, "shop-service")
            await _create(at, r.SERVICE, "shop-service", spec={"ports": [{"port": 80}]})
            theirs = await _uid(at, r.SERVICE, "shop-service")
            await _annotate(at, "shop", reconcile=None)
            await at.condition("shop", "Ready", "NameConflict")
            service = await at.get(r.SERVICE, "shop-service")
            assert service["metadata"]["uid"] == theirs
            assert "ownerReferences" not in service["metadata"]
            assert service["spec"]["ports"][0]["port"] == 80

    run(control_plane, scenario)


def test_a_secret_of_the_users_that_vanishes_harms_no_running_database(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        binary = base64.b64encode(b"\xff\xfe\x00keystore").decode()
        async with operator(at):
            await _create(
                at,
                r.SECRET,
                "login",
                metadata={"labels": {c.RELOAD: "true"}},
                stringData={"password": "of the user's", "token": "t"},
                data={"keystore.jks": binary},
            )
            env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}}]
            await at.create("shop", "Redis", "7.2", redis={"passwordSecret": {"name": "login", "key": "password"}}, env=env)
            await at.phase("shop", "Ready", 30)
            login = (await at.get(r.SECRET, "shop-credentials"))["data"]
            member = await _uid(at, r.POD, "shop-0")
            await at.client.delete(r.SECRET, at.namespace, "login")
            await at.condition("shop", "Ready", "SecretNotFound")
            await at.client.delete(r.SERVICE, at.namespace, "shop-service")

            async def back() -> bool:
                return await at.exists(r.SERVICE, "shop-service")

            await until(back, 10, lambda: "a running Database was not looked after")
            assert await _uid(at, r.POD, "shop-0") == member
            assert (await at.get(r.SECRET, "shop-credentials"))["data"] == login
            events = [event["reason"] for event in await at.all(r.EVENT) if event["involvedObject"]["kind"] == "Database"]
            assert "SecretNotFound" in events

    run(control_plane, scenario)


@pytest.mark.proves("Progressing.Growing")
def test_a_claim_that_may_not_grow_is_asked_once_and_the_database_goes_on(control_plane: ControlPlane) -> None:
    """Nothing provisions here, and a claim that is not bound may not be changed."""

    async def scenario(at: Hub) -> None:
        async with operator(at):
            for name, type_, version in (("file", "SQLite", "latest"), ("shop", "Redis", "7.2")):
                await at.create(name, type_, version)
            for name in ("file", "shop"):
                await at.phase(name, "Ready")
            member = await _uid(at, r.POD, "shop-0")
            before = _refused(at)
            for name in ("file", "shop"):
                await at.change(name, storage={"size": "2Gi"})
            assert "cannot grow" in (await at.condition("shop", "Progressing", "Growing"))["message"]

            async def anew() -> bool:
                sets = await at.all(r.STATEFUL_SET)
                sizes = [item["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] for item in sets]
                return sizes == ["2Gi"]

            await until(anew, 10, lambda: "the StatefulSet was not made anew")
            await asyncio.sleep(7)
            assert _refused(at) - before == 2
            for name in ("file", "shop"):
                assert (await at.status(name))["phase"] == "Ready"
            assert await _uid(at, r.POD, "shop-0") == member

            await at.client.delete(DATABASE, at.namespace, "file")
            await gone(at, DATABASE, "file")
            await at.create("file", "SQLite", "latest", storage={"size": "512Mi"})
            await at.phase("file", "Ready", 60)

    def _refused(at: Hub) -> int:
        calls = at.calls("database-operator/")
        return sum(n for call, n in calls.items() if call.startswith("patch persistentvolumeclaims") and not call.endswith("200"))

    run(control_plane, scenario, provisions=False)


def test_delete_finds_members_without_an_owner_and_children_just_made(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2", deletionPolicy="Delete")
            await at.phase("shop", "Ready")
            await _annotate(at, "shop", reconcile="disabled")
            await at.condition("shop", "Progressing", "Paused")
            await at.client.delete(r.STATEFUL_SET, at.namespace, "shop", propagation="Orphan")
            await gone(at, r.STATEFUL_SET, "shop")
            await at.client.delete(DATABASE, at.namespace, "shop")
            for number in range(4):
                await at.create(f"brief{number}", "Redis", "7.2", deletionPolicy="Delete")
                await asyncio.sleep(0.3 + 0.15 * number)
                await at.client.delete(DATABASE, at.namespace, f"brief{number}")
            for name in ("shop", *(f"brief{number}" for number in range(4))):
                await gone(at, DATABASE, name)
            await asyncio.sleep(2)
            left = [item["metadata"]["name"] for kind in (r.POD, r.PERSISTENT_VOLUME_CLAIM, r.SECRET) for item in await at.all(kind)]
            assert left == []

    run(control_plane, scenario)


@pytest.mark.proves("annotation.restartedAt", "status.requests")
def test_a_restart_is_done_once_per_value(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready")
            first = await _uid(at, r.POD, "shop-0")
            await _annotate(at, "shop", restartedAt="monday")

            async def done() -> bool:
                return bool((await at.status("shop")).get("requests") == {"restartedAt": "monday"})

            await until(done, 20, lambda: "the request was not kept")
            second = await _uid(at, r.POD, "shop-0")
            assert second != first
            await _annotate(at, "shop", restartedAt=None)
            await asyncio.sleep(3)
            assert await _uid(at, r.POD, "shop-0") == second

    run(control_plane, scenario)


def test_a_refused_database_that_is_deleted_takes_no_key_of_the_data_it_was_refused(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "PostgreSQL", "17")
            await at.phase("shop", "Ready")
            await _formed(at, "data-shop-0")
            login = (await at.get(r.SECRET, "shop-credentials"))["data"]
            await at.client.delete(DATABASE, at.namespace, "shop")
            await gone(at, DATABASE, "shop")
            await at.create("shop", "PostgreSQL", "16", deletionPolicy="Delete")
            await at.condition("shop", "Ready", "DataConflict")
            await at.client.delete(DATABASE, at.namespace, "shop")
            await gone(at, DATABASE, "shop")
            assert await at.exists(r.PERSISTENT_VOLUME_CLAIM, "data-shop-0")
            assert await at.exists(r.SECRET, "shop-internal")
            assert (await at.get(r.SECRET, "shop-credentials"))["data"] == login

    run(control_plane, scenario)


class AtStatus(Axe):
    """Ends the operator before it can say that it has thrown a member's pod away."""

    async def cut(self, what: str, go: Callable[[], Awaitable[Any]]) -> Any:
        if what.endswith("/status") and any(done.startswith("DELETE") and "/pods/" in done for done in self.writes):
            self._fall()
        return await super().cut(what, go)


def test_a_volume_is_thrown_away_once_for_a_request_though_the_operator_dies_of_it(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        axe = AtStatus()
        async with mortal(at, axe):
            await at.create("shop", "Redis", "7.2", replicas=3)
            await at.phase("shop", "Ready", 60)
            await at.condition("shop", "Progressing", "Settled", 60)
            axe.arm()
            await _annotate(at, "shop", rebuild="shop-2@1")

            async def done() -> bool:
                return bool((await at.status("shop")).get("requests", {}).get("rebuild") == "shop-2@1")

            await until(done, 60, lambda: "the request was not handled")
            await at.phase("shop", "Ready", 60)
            assert axe.dead
            await asyncio.sleep(3)
            deleted = {call: n for call, n in at.writes().items() if call.startswith("delete persistentvolumeclaims")}
            assert sum(deleted.values()) == 1, deleted

    run(control_plane, scenario)


@pytest.mark.parametrize("same_uid", [True, False], ids=["with our UID", "with another UID"])
def test_k22_a_child_of_another_groups_database_is_not_ours(control_plane: ControlPlane, same_uid: bool) -> None:
    """Others have a kind of this name; neither that nor a Database's name or UID makes their object ours."""

    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready")
            await _annotate(at, "shop", reconcile="disabled")
            await at.condition("shop", "Progressing", "Paused")
            await at.client.delete(r.SERVICE, at.namespace, "shop-service")
            uid = await _uid(at, DATABASE, "shop") if same_uid else "11111111-2222-3333-4444-555555555555"
            owner = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Database", "name": "shop", "uid": uid, "controller": True}
            head = {"labels": {c.MANAGED_BY: c.MANAGER, c.INSTANCE: "shop"}, "ownerReferences": [owner]}
            await _create(at, r.SERVICE, "shop-service", metadata=head, spec={"ports": [{"port": 80}]})
            await _annotate(at, "shop", reconcile=None)
            assert "shop-service" in (await at.condition("shop", "Ready", "NameConflict"))["message"]
            assert (await at.get(r.SERVICE, "shop-service"))["spec"]["ports"][0]["port"] == 80

    run(control_plane, scenario)
