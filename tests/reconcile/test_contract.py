"""What users get: workloads, Services, logins, the status. On the real API server, with pods and engines that are played."""

import asyncio
import base64
from typing import Any

import msgspec
import pytest

from database_operator.build import constants as c
from database_operator.engines.base import Member, Probe
from database_operator.kube import resources as r
from database_operator.reconcile.connections.base import Target, Unreachable
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.api.cases import FIRST_VERSION
from tests.reconcile.harness import Hub, until
from tests.reconcile.scenario import VERSIONS, run_operated

pytestmark = pytest.mark.apiserver

# engine -> what it becomes; the role in the last column is what <name>-service selects, of 3 members
ENGINES: dict[str, tuple[str, str, list[int], str, str | None]] = {
    "PostgreSQL": ("StatefulSet", "postgres:17", [5432], "/var/lib/postgresql/data", "primary"),
    "MongoDB": ("StatefulSet", "mongo:7.0", [27017], "/data/db", None),
    "Redis": ("StatefulSet", "redis:7.2", [6379], "/data", "primary"),
    "Elasticsearch": (
        "StatefulSet",
        "docker.elastic.co/elasticsearch/elasticsearch:8.11.0",
        [9200, 9300],
        "/usr/share/elasticsearch/data",
        None,
    ),
    "SQLite": ("Deployment", "nouchka/sqlite3:latest", [8080], "/data", None),
}


async def _create(at: Hub, type_: str, name: str | None = None, **spec: Any) -> str:
    name = name or type_.lower()
    body = {"type": type_, "version": VERSIONS[type_], "replicas": 1 if type_ == "SQLite" else 3, **spec}
    await at.client.create(DATABASE, at.manifest(name, body))
    return name


@pytest.mark.proves(
    "engine.PostgreSQL.workload", "engine.PostgreSQL.image", "engine.PostgreSQL.port", "engine.PostgreSQL.data",
    "engine.PostgreSQL.service", "engine.MongoDB.workload", "engine.MongoDB.image", "engine.MongoDB.port", "engine.MongoDB.data",
    "engine.MongoDB.service", "engine.Redis.workload", "engine.Redis.image", "engine.Redis.port", "engine.Redis.data",
    "engine.Redis.service", "engine.Elasticsearch.workload", "engine.Elasticsearch.image", "engine.Elasticsearch.port",
    "engine.Elasticsearch.data", "engine.Elasticsearch.service", "engine.SQLite.workload", "engine.SQLite.image", "engine.SQLite.port",
    "engine.SQLite.data", "engine.SQLite.service", "object.service", "object.ro", "object.members", "object.sentinel", "object.pdb",
)  # fmt: skip
def test_what_each_engine_becomes(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        for type_ in ENGINES:
            await _create(at, type_)
        for type_, (kind, image, ports, data, role) in ENGINES.items():
            name = type_.lower()
            await at.phase(name, "Ready", 90)
            workload = await at.get(r.DEPLOYMENT if kind == "Deployment" else r.STATEFUL_SET, name)
            (container,) = workload["spec"]["template"]["spec"]["containers"]
            assert container["image"] == image
            assert set(ports) <= {port["containerPort"] for port in container["ports"]}
            assert {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "data"} == {data}
            service = (await at.get(r.SERVICE, f"{name}-service"))["spec"]
            assert (service["type"], service["ports"][0]["name"], service["ports"][0]["port"]) == ("ClusterIP", "database", ports[0])
            assert service["selector"].get(c.ROLE) == role, type_
            assert service["selector"][c.APP] == name
            claims = [claim["metadata"]["name"] for claim in await at.all(r.PERSISTENT_VOLUME_CLAIM, f"{c.DATA_OF}={name}")]
            assert sorted(claims) == ([f"{name}-data"] if kind == "Deployment" else [f"data-{name}-{ordinal}" for ordinal in range(3)])
            assert await at.exists(r.SERVICE, f"{name}-ro") == (type_ in ("PostgreSQL", "MongoDB", "Redis")), type_
            assert await at.exists(r.SERVICE, f"{name}-members") == (kind == "StatefulSet")
            assert await at.exists(r.POD_DISRUPTION_BUDGET, f"{name}-pdb") == (kind == "StatefulSet")
            assert await at.exists(r.SERVICE, f"{name}-sentinel") == (type_ == "Redis")
        assert (await at.get(r.SERVICE, "redis-sentinel"))["spec"]["ports"][0]["port"] == 26379
        assert (await at.get(r.SERVICE, "redis-members"))["spec"]["clusterIP"] == "None"
        await at.change("postgresql", replicas=1)

        async def one() -> bool:
            return not await at.exists(r.SERVICE, "postgresql-ro") and not await at.exists(r.POD_DISRUPTION_BUDGET, "postgresql-pdb")

        await until(one, 60, lambda: "what is for several members stayed")

    run_operated(control_plane, scenario)


def _logins(namespace: str, name: str) -> dict[str, dict[str, str]]:
    """The whole of ``<name>-credentials`` by type, but for the password."""
    host = f"{name}-service.{namespace}.svc.cluster.local"
    ro = f"{name}-ro.{namespace}.svc.cluster.local"
    members = ",".join(f"{name}-{ordinal}.{name}-members.{namespace}.svc.cluster.local:27017" for ordinal in range(3))
    fields = {"provider": "database-operator", "host": host, "password": "p%40%20%2F"}
    return {
        "PostgreSQL": fields
        | {"type": "postgresql", "port": "5432", "username": "app", "database": "shop", "ro-host": ro}
        | {"uri": f"postgresql://app:p%40%20%2F@{host}:5432/shop", "ro-uri": f"postgresql://app:p%40%20%2F@{ro}:5432/shop"}
        | {"jdbc-uri": f"jdbc:postgresql://{host}:5432/shop?user=app&password=p%40%20%2F"},
        "MongoDB": fields
        | {"type": "mongodb", "port": "27017", "username": "root", "database": "shop", "replica-set": "rs0", "ro-host": ro}
        | {"uri": f"mongodb://root:p%40%20%2F@{members}/shop?authSource=admin&replicaSet=rs0"},
        "Redis": fields | {"type": "redis", "port": "6379", "ro-host": ro, "sentinel-master": "mymaster"},
        "Elasticsearch": fields | {"type": "elasticsearch", "port": "9200", "username": "elastic", "database": name},
        "SQLite": fields | {"type": "sqlite", "port": "8080", "database": "/data/database.db"},
    }


@pytest.mark.proves(
    "credentials.type", "credentials.provider", "credentials.host", "credentials.port", "credentials.username", "credentials.password",
    "credentials.database", "credentials.uri", "credentials.jdbc-uri", "credentials.ro-host", "credentials.ro-uri",
    "credentials.replica-set", "credentials.sentinel-host", "credentials.sentinel-master", "status.binding",
)  # fmt: skip
def test_logins_are_bindings(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        head = {"name": "own", "namespace": at.namespace}
        await at.client.create(r.SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": head, "stringData": {"password": "p@ /"}})
        own: dict[str, dict[str, str]] = {"PostgreSQL": {"database": "shop", "username": "app"}, "MongoDB": {"database": "shop"}}
        for type_ in ENGINES:
            section = own.get(type_, {}) | {"passwordSecret": {"name": "own"}}
            await _create(at, type_, **{type_.lower(): section})
            await _create(at, type_, f"{type_.lower()}-random")
        for type_ in ENGINES:
            name = type_.lower()
            await at.phase(name, "Ready", 90)
            assert (await at.status(name))["binding"] == {"name": f"{name}-credentials"}
            secret = await at.get(r.SECRET, f"{name}-credentials")
            assert secret["type"] == f"servicebinding.io/{name}"
            login = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
            assert login["password"] == "p@ /"
            wanted = _logins(at.namespace, name)[type_] | {"password": "p@ /"}
            assert {key: login.get(key) for key in wanted} == wanted
            for key in ("uri", "ro-uri", "jdbc-uri"):
                assert "p%40%20%2F" in login.get(key, "p%40%20%2F")
                assert "p@" not in login.get(key, "")
            made = (await at.get(r.SECRET, f"{name}-random-credentials"))["data"]["password"]
            assert len(base64.b64decode(made)) >= 32
        redis = (await at.get(r.SECRET, "redis-credentials"))["data"]
        assert base64.b64decode(redis["sentinel-host"]).decode() == f"redis-sentinel.{at.namespace}.svc.cluster.local"

    run_operated(control_plane, scenario)


@pytest.mark.proves(
    "status.replicas", "status.readyReplicas", "status.ready", "status.selector", "status.serviceName", "status.endpoint",
    "status.connectionString", "status.primary", "status.version", "status.storage", "status.observedGeneration", "status.message",
    "status.members.name", "status.members.role", "status.members.ready", "status.members.version", "status.members.group",
    "status.members.lag", "Ready.DatabaseReady", "Progressing.Settled", "Degraded.AllMembersHealthy", "Reachable.Reached", "phase.Ready",
)  # fmt: skip
def test_a_settled_status_says_it_all(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        name = await _create(at, "PostgreSQL", storage={"size": "1Gi"})
        await at.phase(name, "Ready", 60)
        await at.condition(name, "Progressing", "Settled", 60)
        found = await at.get(DATABASE, name)
        status: dict[str, Any] = found["status"]
        host = f"{name}-service.{at.namespace}.svc.cluster.local"
        assert status["connectionString"] == f"postgresql://<username>:<password>@{host}:5432/postgres"
        assert (status["endpoint"], status["serviceName"]) == (f"{host}:5432", f"{name}-service")
        assert (status["replicas"], status["readyReplicas"], status["ready"]) == (3, 3, "3/3")
        assert (status["storage"], status["version"], status["primary"]) == ({"size": "1Gi"}, "17.0", f"{name}-0")
        assert status["observedGeneration"] == found["metadata"]["generation"]
        assert len(await at.all(r.POD, status["selector"])) == 3
        assert "message" not in status
        assert [member["name"] for member in status["members"]] == [f"{name}-{ordinal}" for ordinal in range(3)]
        assert [member["role"] for member in status["members"]] == ["primary", "replica", "replica"]
        assert all(member["ready"] and member["version"] == "17.0" and member["lag"] == "Current" for member in status["members"])
        assert {member["group"] for member in status["members"]} == {"default"}
        reasons = {condition["type"]: (condition["status"], condition["reason"]) for condition in status["conditions"]}
        assert reasons == {
            "Ready": ("True", "DatabaseReady"),
            "Progressing": ("False", "Settled"),
            "Degraded": ("False", "AllMembersHealthy"),
            "Reachable": ("True", "Reached"),
        }
        assert all(condition["observedGeneration"] == status["observedGeneration"] for condition in status["conditions"])
        at.broken[f"{name}-2"] = "CrashLoopBackOff"
        await at.condition(name, "Ready", "CrashLooping", 30)
        assert f"{name}-2" in (await at.status(name))["message"]

    run_operated(control_plane, scenario)


@pytest.mark.proves("status.members.shard")
def test_members_of_a_cluster_tell_their_shard(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        name = await _create(at, "Redis", replicas=6, redis={"mode": "cluster"})
        await at.phase(name, "Ready", 60)

        async def told() -> bool:
            members = (await at.status(name))["members"]
            return sorted(member.get("shard", -1) for member in members) == [0, 0, 1, 1, 2, 2]

        await until(told, 60, lambda: "not every member tells its shard")
        assert "primary" not in await at.status(name)

    run_operated(control_plane, scenario)


def _said(at: Hub, lags: dict[str, int], silent: set[str]) -> None:
    """Some members lag, and some do not answer the operator."""
    usual = at.engines.probe

    async def probe(target: Target, member: Member) -> Probe:
        if member.pod in silent:
            raise Unreachable("played")
        found = await usual(target, member)
        return msgspec.structs.replace(found, lag_bytes=lags[member.pod]) if member.pod in lags else found

    at.engines.probe = probe  # type: ignore[method-assign]


@pytest.mark.proves("Degraded.MemberDown", "Degraded.Lagging", "Reachable.Unreachable", "Ready.CrashLooping")
def test_members_that_fail_are_told_apart(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        lags: dict[str, int] = {}
        silent: set[str] = set()
        _said(at, lags, silent)
        for name in ("lags", "down", "silent"):
            await _create(at, "PostgreSQL", name)
        for name in ("lags", "down", "silent"):
            await at.phase(name, "Ready", 90)
        lags["lags-1"] = 2**30
        silent.add("silent-1")
        at.broken["down-2"] = "CrashLoopBackOff"
        for name in ("lags", "silent"):  # an event of a pod has its members asked at once
            await at.client.patch(r.POD, at.namespace, f"{name}-1", {"metadata": {"annotations": {"look": "again"}}})
            await at.change(name, deletionPolicy="Delete")
            await at.client.patch(r.POD, at.namespace, f"{name}-1", {"metadata": {"labels": {"look": "again"}}})
        assert "lags-1" in (await at.condition("lags", "Degraded", "Lagging", 60))["message"]
        assert "silent-1" in (await at.condition("silent", "Reachable", "Unreachable", 60))["message"]
        assert "down-2" in (await at.condition("down", "Degraded", "MemberDown", 60))["message"]
        assert "exit code 1" in (await at.condition("down", "Ready", "CrashLooping"))["message"]
        at.broken.clear()
        await at.condition("down", "Degraded", "AllMembersHealthy", 60)

    run_operated(control_plane, scenario)


@pytest.mark.proves(
    "Ready.Creating", "Ready.InvalidSpec", "Ready.ReconciliationFailed", "Ready.StorageClassNotFound", "Ready.Unschedulable",
    "Ready.QuotaExceeded", "phase.Pending", "phase.Creating", "phase.Failed", "bad.no-class", "bad.no-node", "bad.no-quota",
)  # fmt: skip
def test_what_stands_in_the_way_is_named_and_its_going_heals(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        at.broken["slow-0"] = "ContainerCreating"
        await _create(at, "Redis", "slow", replicas=1)
        await _create(at, "Redis", "classless", replicas=1, storage={"storageClassName": "absent"})
        await _create(at, "Redis", "homeless", replicas=1, pods={"nodeSelector": {"disk": "none"}})
        await _create(at, "Redis", "outside", replicas=1, service={"type": "NodePort", "nodePort": 80})
        await _create(at, "Redis", "keyless", replicas=1, redis={"passwordSecret": {"name": "absent"}})
        await _create(at, "PostgreSQL", "wrong", replicas=1, postgresql={"parameters": {"max_connections": 3}})
        await at.condition("slow", "Ready", "Creating", 30)
        assert (await at.status("slow"))["phase"] == "Creating"
        assert '"absent"' in (await at.condition("classless", "Ready", "StorageClassNotFound", 30))["message"]
        await at.condition("homeless", "Ready", "Unschedulable", 60)
        assert (await at.status("homeless"))["phase"] == "Creating"
        assert "nodePort" in (await at.condition("outside", "Ready", "ReconciliationFailed", 30))["message"]
        await at.condition("keyless", "Ready", "SecretNotFound", 30)
        assert (await at.status("keyless"))["phase"] == "Pending"
        assert "at least 25" in (await at.condition("wrong", "Ready", "InvalidSpec", 30))["message"]
        assert (await at.status("wrong"))["phase"] == "Failed"

        limits = {"hard": {"persistentvolumeclaims": "0"}}
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": limits}
        at.plane.kubectl("--namespace", at.namespace, "apply", "-f", "-", input=msgspec.json.encode(quota).decode())
        await asyncio.sleep(2)
        await _create(at, "SQLite", "full")
        assert "exceeded quota" in (await at.condition("full", "Ready", "QuotaExceeded", 60))["message"]
        told = {("full", "QuotaExceeded"), ("homeless", "Unschedulable"), ("classless", "StorageClassNotFound")}

        async def heard() -> bool:  # an event is written after the status
            return told <= {(event["involvedObject"]["name"], event["reason"]) for event in await at.all(r.EVENT)}

        await until(heard, 30, lambda: f"not all of {told} became events")
        at.plane.kubectl("--namespace", at.namespace, "delete", "resourcequota", "full")

        at.broken.clear()
        await at.change("homeless", pods=None)
        await at.change("outside", service={"nodePort": 30417})
        await at.change("wrong", postgresql={"parameters": {"max_connections": 30}})
        for name in ("slow", "homeless", "outside", "wrong", "full"):
            await at.phase(name, "Ready", 120)

    run_operated(control_plane, scenario)


@pytest.mark.proves("Progressing.RollingOut", "Progressing.Scaling", "Progressing.UpdatePending", "phase.Upgrading", "versions.steps")
def test_a_rollout_goes_through_upgrading(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        name = await _create(at, "PostgreSQL", version="17.1")
        await at.phase(name, "Ready", 60)
        seen: set[tuple[str, str]] = set()

        async def watch() -> None:
            while True:
                status = await at.status(name)
                progressing = next((x["reason"] for x in status["conditions"] if x["type"] == "Progressing"), "")
                seen.add((status["phase"], progressing))
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        try:
            await at.change(name, version="17.2")

            async def done() -> bool:
                status = await at.status(name)
                return bool(status["phase"] == "Ready" and {member.get("version") for member in status["members"]} == {"17.2.0"})

            await until(done, 90, lambda: f"not rolled: {seen}")
            assert ("Upgrading", "RollingOut") in seen
            at.broken[f"{name}-3"] = "ContainerCreating"
            await at.change(name, replicas=4)
            await at.condition(name, "Progressing", "Scaling", 30)
            at.broken.clear()
            await at.condition(name, "Progressing", "Settled", 60)
            await at.change(name, pods={"terminationGracePeriodSeconds": 90})
            await at.condition(name, "Progressing", "UpdatePending", 30)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    run_operated(control_plane, scenario)


@pytest.mark.proves("spec.deletionPolicy", "deletionPolicy.Retain", "deletionPolicy.Delete", "phase.Deleting")
def test_a_deletion_policy_counts_as_it_stands_in_the_end(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        policies: dict[str, list[str | None]] = {"kept": ["Delete", None], "left": ["Retain"], "gone": [None, "Delete"]}
        for name, steps in policies.items():
            await _create(at, "Redis", name, replicas=1, **({"deletionPolicy": steps[0]} if steps[0] else {}))
        for name, steps in policies.items():
            await at.phase(name, "Ready", 60)
            for policy in steps[1:]:
                await at.change(name, deletionPolicy=policy)
        at.node.held.add("gone-0")
        for name in policies:
            await at.client.delete(DATABASE, at.namespace, name)
        assert "credentials last" in (await at.phase("gone", "Deleting", 30))["message"]
        at.node.held.clear()
        for name in policies:

            async def gone(name: str = name) -> bool:
                return not await at.exists(DATABASE, name)

            await until(gone, 60, lambda name=name: f"{name} did not go")
        left = {item["metadata"]["name"] for kind in (r.PERSISTENT_VOLUME_CLAIM, r.SECRET) for item in await at.all(kind)}
        assert left == {
            f"{part}{name}{tail}" for name in ("kept", "left") for part, tail in (("data-", "-0"), ("", "-internal"), ("", "-credentials"))
        }

    run_operated(control_plane, scenario)


UNSUPPORTED: list[tuple[str, str, dict[str, Any]]] = [
    ("PostgreSQL", "13", {}),
    ("PostgreSQL", "19", {}),
    ("PostgreSQL", "17-alpine", {}),
    ("MongoDB", "5.0", {}),
    ("MongoDB", "9.0", {}),
    ("Redis", "6.0", {}),
    ("Redis", "6.2", {"replicas": 3, "redis": {"mode": "cluster"}}),
    ("Elasticsearch", "7.17.0", {}),
    ("Elasticsearch", "8.1.3", {}),
]


@pytest.mark.proves("versions.taken")
def test_i01_versions_that_are_not_supported_are_said_to_be(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        for number, (type_, version, spec) in enumerate(UNSUPPORTED):
            await _create(at, type_, f"old{number}", **{"version": version, "replicas": 1} | spec)
        await _create(at, "Redis", "latest", version="latest", replicas=1)
        for number in range(len(UNSUPPORTED)):
            assert "spec.version" in (await at.condition(f"old{number}", "Ready", "InvalidSpec", 30))["message"]
            assert not await at.exists(r.STATEFUL_SET, f"old{number}")
        await at.phase("latest", "Ready", 30)

    run_operated(control_plane, scenario)


@pytest.mark.proves("bad.first-version")
def test_manifests_of_the_first_version_come_up_as_they_are(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        for spec in FIRST_VERSION.values():
            section = spec[spec["type"].lower()]
            if "passwordSecret" in section:
                head = {"name": section["passwordSecret"]["name"], "namespace": at.namespace}
                await at.client.create(
                    r.SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": head, "stringData": {"password": "first"}}
                )
        for type_, spec in FIRST_VERSION.items():
            await at.client.create(DATABASE, at.manifest(type_.lower(), spec))
        for type_, spec in FIRST_VERSION.items():
            await at.phase(type_.lower(), "Ready", 90)
            assert (await at.get(DATABASE, type_.lower()))["spec"] == spec  # no default is written back
        events = [event for event in await at.all(r.EVENT) if event["involvedObject"]["name"] == "elasticsearch"]
        assert any(event["type"] == "Warning" and "node.name" in event["message"] for event in events)

    run_operated(control_plane, scenario)
