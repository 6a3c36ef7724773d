"""The pipeline against a real API server; pods are simulated, so nothing here says anything about an engine."""

import asyncio
import base64
from typing import Any

import pytest

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, operator, until
from tests.reconcile.scenario import VERSIONS, run

pytestmark = pytest.mark.apiserver


def test_every_engine_becomes_ready_with_few_writes_and_is_then_silent(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            for type_, version in VERSIONS.items():
                await at.create(type_.lower(), type_, version)
            for type_ in VERSIONS:
                await at.phase(type_.lower(), "Ready", 30)
            await asyncio.sleep(3)
            children = 0
            for kind in (r.STATEFUL_SET, r.DEPLOYMENT, r.SERVICE, r.CONFIG_MAP, r.SERVICE_ACCOUNT, r.ROLE, r.ROLE_BINDING, r.SECRET):
                children += len(await at.all(kind, f"{c.MANAGED_BY}={c.MANAGER}"))
            claims = len(await at.all(r.PERSISTENT_VOLUME_CLAIM))
            before = at.calls("database-operator/")
            made = sum(at.writes().values())
            # the children, finalizer and two of status, and on pods one more per claim (`formed`) and per role label that no agent sets
            labelled = 2
            applied_claim = 1  # SQLite's; a StatefulSet makes its own
            unsure = 1  # MongoDB's simulated member does not say that it holds data
            settled = 2  # settings that change once the cluster has formed
            late = 2  # on a busy machine: a status in between, a claim that another wrote at the same time
            assert made <= children + claims + 3 * len(VERSIONS) + labelled + settled + unsure + applied_claim + late, str(
                sorted(at.writes().items())
            )
            await asyncio.sleep(4)
            assert at.calls("database-operator/") == before

    run(control_plane, scenario)


def test_k20_k21_what_is_changed_or_deleted_by_hand_is_repaired(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "PostgreSQL", "17")
            await at.phase("shop", "Ready")
            for kind, name in (
                (r.SERVICE, "shop-service"),
                (r.SERVICE, "shop-members"),
                (r.CONFIG_MAP, "shop-settings"),
                (r.SERVICE_ACCOUNT, "shop-agent"),
                (r.ROLE, "shop-agent"),
                (r.ROLE_BINDING, "shop-agent"),
                (r.STATEFUL_SET, "shop"),
            ):
                old = (await at.get(kind, name))["metadata"]["uid"]
                await at.client.delete(kind, at.namespace, name)

                async def anew(kind: r.Resource = kind, name: str = name, old: str = old) -> bool:
                    return await at.exists(kind, name) and (await at.get(kind, name))["metadata"]["uid"] != old

                await until(anew, 10, lambda name=name, kind=kind: f"{kind.kind} {name} was not made anew")
            await at.client.patch(
                r.CONFIG_MAP, at.namespace, "shop-settings", {"data": {"mine": "kept"}, "metadata": {"annotations": {"a": "b"}}}
            )
            await at.client.patch(
                r.SERVICE,
                at.namespace,
                "shop-service",
                {"spec": {"selector": {"app": "other"}}, "metadata": {"labels": {c.INSTANCE: None}}},
            )

            async def repaired() -> bool:
                service = await at.get(r.SERVICE, "shop-service")
                return bool(service["spec"]["selector"]["app"] == "shop") and service["metadata"]["labels"].get(c.INSTANCE) == "shop"

            await until(repaired, 10, lambda: "the Service was not repaired")
            assert (await at.get(r.CONFIG_MAP, "shop-settings"))["metadata"]["annotations"]["a"] == "b"

    run(control_plane, scenario)


def test_k21_a_deleted_login_comes_back_and_the_key_to_data_never_changes_by_itself(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready")
            secret = (await at.get(r.SECRET, "shop-credentials"))["data"]
            await asyncio.sleep(1)
            assert (await at.get(r.SECRET, "shop-credentials"))["data"] == secret
            await at.client.delete(r.SECRET, at.namespace, "shop-credentials")

            async def back() -> bool:
                return await at.exists(r.SECRET, "shop-credentials")

            await until(back, 15, lambda: "the Secret did not come back")
            again = (await at.get(r.SECRET, "shop-credentials"))["data"]
            assert again == secret
            assert len(base64.b64decode(again["password"])) >= 32

    run(control_plane, scenario)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (r.SERVICE, {"spec": {"ports": [{"port": 80}]}}),
        (r.CONFIG_MAP, {"data": {"theirs": "x"}}),
        (r.SECRET, {"stringData": {"theirs": "x"}}),
        (r.PERSISTENT_VOLUME_CLAIM, {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
    ],
    ids=["Service", "ConfigMap", "Secret", "claim"],
)
@pytest.mark.proves("Ready.NameConflict")
def test_k22_an_object_of_the_same_name_is_never_taken_over(control_plane: ControlPlane, kind: r.Resource, body: dict[str, object]) -> None:
    names = {"Service": "shop-service", "ConfigMap": "shop-settings", "Secret": "shop-credentials", "PersistentVolumeClaim": "data-shop-0"}
    name = names[kind.kind]

    async def scenario(at: Hub) -> None:
        theirs = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, "namespace": at.namespace}, **body}
        await at.client.create(kind, theirs)
        before = await at.get(kind, name)
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            condition = await at.condition("shop", "Ready", "NameConflict")
            assert name in condition["message"]
            assert (await at.status("shop"))["phase"] == "Failed"
            after = await at.get(kind, name)
            assert _theirs(before) == _theirs(after)

    run(control_plane, scenario)


def _theirs(found: dict[str, Any]) -> object:
    head = found["metadata"]
    marks = [key for key in head.get("annotations", {}) if "database-operator.io" in key]
    return found.get("data"), found.get("spec"), head.get("labels"), head.get("ownerReferences"), marks


@pytest.mark.proves("Ready.SecretNotFound", "annotation.reload", "bad.no-secret")
def test_a_missing_secret_is_named_and_its_coming_heals(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2", redis={"passwordSecret": {"name": "login", "key": "password"}})
            condition = await at.condition("shop", "Ready", "SecretNotFound")
            assert "login" in condition["message"]
            assert "spec.redis.passwordSecret" in condition["message"]
            assert not await at.exists(r.STATEFUL_SET, "shop")
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "login", "namespace": at.namespace, "labels": {c.RELOAD: "true"}},
            }
            await at.client.create(r.SECRET, {**secret, "stringData": {"other": "x"}})
            condition = await at.condition("shop", "Ready", "SecretNotFound")
            await at.client.patch(r.SECRET, at.namespace, "login", {"stringData": {"password": "from-the-user"}})
            await at.phase("shop", "Ready", 30)
            login = (await at.get(r.SECRET, "shop-credentials"))["data"]
            assert base64.b64decode(login["password"]) == b"from-the-user"

    run(control_plane, scenario)


@pytest.mark.proves("deletionPolicy.Retain", "Ready.DataConflict")
def test_retain_keeps_data_and_login_and_a_database_of_the_name_takes_them_up(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready")
            login = (await at.get(r.SECRET, "shop-credentials"))["data"]["password"]

            async def formed() -> bool:
                return c.FORMED in (await at.get(r.PERSISTENT_VOLUME_CLAIM, "data-shop-0"))["metadata"].get("annotations", {})

            await until(formed, 10, lambda: "the claim was not marked")
            await at.client.delete(DATABASE, at.namespace, "shop")
            await until(lambda: _gone(at, "shop"), 20, lambda: "the Database did not go")
            assert await at.exists(r.PERSISTENT_VOLUME_CLAIM, "data-shop-0")
            await at.create("shop", "PostgreSQL", "17")
            condition = await at.condition("shop", "Ready", "DataConflict")
            assert "Redis" in condition["message"]
            await at.client.delete(DATABASE, at.namespace, "shop")
            await until(lambda: _gone(at, "shop"), 20, lambda: "the Database did not go")
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready", 60)  # the garbage collector takes up to 30 s to learn of a CRD that was just installed
            assert (await at.get(r.SECRET, "shop-credentials"))["data"]["password"] == login

    run(control_plane, scenario)


async def _gone(at: Hub, name: str) -> bool:
    return not await at.exists(DATABASE, name)


@pytest.mark.proves("deletionPolicy.Delete")
def test_delete_leaves_nothing(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            for type_, name in (("Redis", "redis"), ("SQLite", "sqlite")):
                await at.create(name, type_, VERSIONS[type_], deletionPolicy="Delete")
                await at.phase(name, "Ready")
                await at.client.delete(DATABASE, at.namespace, name)
                await until(lambda name=name: _gone(at, name), 30, lambda: "the Database did not go")
            for kind in (r.PERSISTENT_VOLUME_CLAIM, r.SECRET):
                assert await at.all(kind) == []

            async def collected() -> bool:
                left = [await at.all(kind, f"{c.MANAGED_BY}={c.MANAGER}") for kind in (r.STATEFUL_SET, r.SERVICE, r.CONFIG_MAP, r.POD)]
                return not any(left)

            await until(collected, 60, lambda: "children were left")

    run(control_plane, scenario)


@pytest.mark.proves("Ready.ImageNotPulled", "bad.no-image")
def test_k25_a_bad_image_that_is_reverted_heals_with_no_human(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready")
            first = (await at.get(r.POD, "shop-0"))["metadata"]["uid"]
            at.broken["shop-0"] = "ImagePullBackOff"
            await at.change("shop", image="registry.invalid/none:1")
            await at.condition("shop", "Ready", "ImageNotPulled")
            second = first

            async def other() -> bool:
                nonlocal second
                second = await at.uid(r.POD, "shop-0")
                return second not in ("", first)

            await until(other, 10, lambda: "the pod was not replaced for the new image")
            await at.change("shop", image=None)

            async def replaced() -> bool:
                return await at.uid(r.POD, "shop-0") not in ("", second)

            await until(replaced, 10, lambda: "the stuck pod was not replaced")
            at.broken.clear()
            await at.phase("shop", "Ready")

    run(control_plane, scenario)


@pytest.mark.proves("Ready.Stopped", "phase.Stopped")
def test_replicas_zero_stops_and_keeps_the_data(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready")
            await at.change("shop", replicas=0)
            await at.phase("shop", "Stopped")
            claim = await at.get(r.PERSISTENT_VOLUME_CLAIM, "data-shop-0")
            assert c.LEFT_AT not in claim["metadata"].get("annotations", {})
            await at.change("shop", replicas=1)
            await at.phase("shop", "Ready")

    run(control_plane, scenario)


@pytest.mark.proves("annotation.reconcile", "Progressing.Paused")
def test_a_disabled_database_is_left_alone(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready")
            await at.client.patch(DATABASE, at.namespace, "shop", {"metadata": {"annotations": {c.RECONCILE: "disabled"}}})
            await at.condition("shop", "Progressing", "Paused")
            await at.client.delete(r.SERVICE, at.namespace, "shop-service")
            await asyncio.sleep(1.5)
            assert not await at.exists(r.SERVICE, "shop-service")
            await at.client.patch(DATABASE, at.namespace, "shop", {"metadata": {"annotations": {c.RECONCILE: None}}})

            async def back() -> bool:
                return await at.exists(r.SERVICE, "shop-service")

            await until(back, 10, lambda: "the Service was not made anew")

    run(control_plane, scenario)


def test_changed_settings_reach_a_running_pod_at_once(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready")
            before = (await at.get(r.POD, "shop-0"))["metadata"]
            assert c.SETTINGS_HASH not in before["annotations"]
            await at.change("shop", redis={"parameters": {"maxmemory": "64mb"}})

            async def touched() -> bool:
                return c.SETTINGS_HASH in (await at.get(r.POD, "shop-0"))["metadata"]["annotations"]

            await until(touched, 10, lambda: "the pod was not touched: the kubelet brings the file a minute later")
            assert (await at.get(r.POD, "shop-0"))["metadata"]["uid"] == before["uid"]

    run(control_plane, scenario)


def test_k37_an_immutable_part_of_an_older_operator_is_made_anew_around_running_pods(control_plane: ControlPlane) -> None:
    """As after an upgrade: the stored StatefulSet's claim template is not the one this operator plans."""

    async def scenario(at: Hub) -> None:
        async with operator(at):
            await at.create("shop", "Redis", "7.2")
            await at.phase("shop", "Ready")
        pod = (await at.get(r.POD, "shop-0"))["metadata"]["uid"]
        old = await at.get(r.STATEFUL_SET, "shop")
        await at.client.delete(r.STATEFUL_SET, at.namespace, "shop", propagation="Orphan")
        await until(lambda: _no_set(at), 20, lambda: "the StatefulSet did not go")
        old["metadata"] = {key: old["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
        old["spec"]["volumeClaimTemplates"][0]["metadata"]["annotations"]["example.com/older"] = "yes"
        old["spec"]["volumeClaimTemplates"][0]["metadata"]["annotations"].pop(c.ENGINE)
        old.pop("status", None)
        made = await at.client.create(r.STATEFUL_SET, old)
        async with operator(at):
            await at.change("shop", deletionPolicy="Delete")  # wakes the pass; restarts nothing

            async def anew() -> bool:
                return [item["metadata"]["uid"] != made.uid for item in await at.all(r.STATEFUL_SET)] == [True]

            await until(anew, 30, lambda: "the StatefulSet was not made anew")
            await at.phase("shop", "Ready", 30)
            templates = (await at.get(r.STATEFUL_SET, "shop"))["spec"]["volumeClaimTemplates"]
            assert c.ENGINE in templates[0]["metadata"]["annotations"]
            assert (await at.get(r.POD, "shop-0"))["metadata"]["uid"] == pod

    run(control_plane, scenario)


async def _no_set(at: Hub) -> bool:
    return not await at.exists(r.STATEFUL_SET, "shop")


def test_an_identity_without_its_data_is_named(control_plane: ControlPlane) -> None:
    """Patroni would wait for ever for a leader of the cluster that its ConfigMap remembers."""

    async def scenario(at: Hub) -> None:
        head = {"name": "shop-config", "namespace": at.namespace, "labels": {c.SCOPE: "shop"}}
        await at.client.create(r.CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": head})
        async with operator(at):
            await at.create("shop", "PostgreSQL", "17")
            condition = await at.condition("shop", "Ready", "DataConflict")
            assert "shop-config" in condition["message"]
            assert not await at.exists(r.STATEFUL_SET, "shop")

    run(control_plane, scenario)
