"""What every engine of the registry must hold; a new one is covered without an edit here."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from database_operator.api.database import Metadata, Resolved, Stored, decode, resolve
from database_operator.api.spec import EngineType
from database_operator.api.status import Role
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.engines.base import Action, Engine, Inputs, Member, Observation, Platform, Restart, Switchover
from database_operator.engines.registry import ENGINES
from database_operator.kube.resources import by_kind

VERSIONS = {"PostgreSQL": "17.2", "MongoDB": "7.0.5", "Redis": "7.2.4", "Elasticsearch": "8.11.0", "SQLite": "latest"}
PLATFORM = Platform(agent_image="database-operator:test")
PASSWORD = "a-password-that-nobody-else-has"
LIMITS = {"StatefulSet": 52, "Deployment": 63, "Service": 63}

engines = pytest.mark.parametrize("engine", ENGINES.values(), ids=[type_.value for type_ in ENGINES])


def database(engine: Engine, name: str = "orders", replicas: int = 1, **spec: Any) -> Resolved:
    body = {"type": engine.type.value, "version": VERSIONS[engine.type.value], "replicas": replicas, **spec}
    metadata = Metadata(name=name, namespace="shop", uid="8c7e0cf4-0000-4000-8000-000000000000", generation=1)
    return resolve(decode(Stored(metadata=metadata, spec=msgspec.Raw(json.dumps(body).encode()))))


def inputs(engine: Engine, resolved: Resolved, **more: Any) -> Inputs:
    internal = engine.internal(resolved, {}) if engine.internal else {}
    return Inputs(platform=PLATFORM, internal=internal, **more)


def most(engine: Engine) -> int:
    return 1 if engine.type is EngineType.SQLITE else 10


def workloads(children: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [child for child in children if child["kind"] in ("StatefulSet", "Deployment")]


@engines
@pytest.mark.parametrize("length", [1, 2, 10, 37, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52])
def test_i09_names_fit_and_differ(engine: Engine, length: int) -> None:
    resolved = database(engine, "d" * length, replicas=most(engine))
    children = engine.plan(resolved, inputs(engine, resolved))
    keys = [(child["kind"], child["metadata"]["name"]) for child in children]
    assert len(keys) == len(set(keys))
    for kind, name in keys:
        assert len(name) <= LIMITS.get(kind, 253), (kind, name)
    for child in children:
        for value in child["metadata"]["labels"].values():
            assert len(value) <= 63


@engines
def test_a_plan_is_pure_and_stable(engine: Engine) -> None:
    resolved = database(engine)
    given_ = inputs(engine, resolved)
    first = [msgspec.json.encode(child, order="deterministic") for child in engine.plan(resolved, given_)]
    again = [msgspec.json.encode(child, order="deterministic") for child in engine.plan(database(engine), given_)]
    assert first == again


@engines
@pytest.mark.parametrize("replicas", [0, 1, 3, 6])
def test_children_are_owned_labelled_and_of_kinds_the_operator_watches(engine: Engine, replicas: int) -> None:
    resolved = database(engine, replicas=min(replicas, most(engine)))
    for child in engine.plan(resolved, inputs(engine, resolved)):
        by_kind(child["apiVersion"], child["kind"])
        head = child["metadata"]
        assert head["namespace"] == "shop"
        assert head["labels"][c.INSTANCE] == "orders"
        assert head["labels"][c.MANAGED_BY] == c.MANAGER
        assert (head["labels"].get(c.APP) == "orders") == (head["labels"][c.COMPONENT] == "database")
        assert child["kind"] != "Secret", "Secrets are random: they are made by POST, never planned"
        if child["kind"] == "PersistentVolumeClaim":
            assert "ownerReferences" not in head
            assert head["labels"][c.DATA_OF] == "orders"
        else:
            assert [owner["uid"] for owner in head["ownerReferences"] if owner["controller"]] == [resolved.uid]


@engines
@pytest.mark.parametrize("replicas", [1, 3])
def test_pods_are_restricted_and_their_names_for_things_are_fixed(engine: Engine, replicas: int) -> None:
    resolved = database(engine, replicas=min(replicas, most(engine)))
    for workload in workloads(engine.plan(resolved, inputs(engine, resolved))):
        pod = workload["spec"]["template"]["spec"]
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        assert not any(key in pod for key in ("hostNetwork", "hostPID", "hostIPC"))
        for container in pod["initContainers"] + pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert "hostPort" not in json.dumps(container)
            ports = [port["containerPort"] for port in container.get("ports", [])]
            assert len(ports) == len(set(ports))
        volumes = {volume["name"] for volume in pod["volumes"]}
        claims = {template["metadata"]["name"] for template in workload["spec"].get("volumeClaimTemplates", [])}
        for container in pod["initContainers"] + pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes | claims
        assert pod["initContainers"][0]["name"] == c.AGENT
        assert not any("hostPath" in volume for volume in pod["volumes"])


@engines
def test_selectors_are_immutable_parts_only(engine: Engine) -> None:
    before, after = database(engine), database(engine, version=VERSIONS[engine.type.value], pods={"labels": {"team": "a"}})
    for old, new in zip(
        workloads(engine.plan(before, inputs(engine, before))), workloads(engine.plan(after, inputs(engine, after))), strict=True
    ):
        selector = old["spec"]["selector"]["matchLabels"]
        assert selector == new["spec"]["selector"]["matchLabels"]
        assert c.VERSION not in selector
        assert c.MANAGED_BY not in selector
        assert selector.items() <= old["spec"]["template"]["metadata"]["labels"].items()


@engines
def test_no_secret_leaves_the_secrets(engine: Engine) -> None:
    resolved = database(engine, replicas=min(3, most(engine)))
    given_ = inputs(engine, resolved)
    planned = json.dumps(engine.plan(resolved, given_))
    assert PASSWORD in json.dumps(engine.credentials(resolved, PASSWORD, PLATFORM))
    assert PASSWORD not in engine.connection_string(resolved, "host")
    for key, value in given_.internal.items():
        if len(value) >= 16 and "certificate" not in key and not key.endswith((".crt", "names", "nodes")):
            assert value not in planned, key


@engines
def test_the_login_has_the_keys_of_a_binding(engine: Engine) -> None:
    login = engine.credentials(database(engine), PASSWORD, PLATFORM)
    assert {"type", "provider", "host", "port", "username", "password", "database", "uri"} <= login.keys()
    assert login["type"] == engine.provider
    assert login["host"].startswith(names.service("orders"))
    assert login["port"] == str(engine.port)


@engines
def test_a_password_is_percent_encoded(engine: Engine) -> None:
    login = engine.credentials(database(engine), "p@ss:w/rd?%#", PLATFORM)
    assert "p@ss:w/rd" not in login["uri"]


@engines
def test_the_sample_of_each_engine_is_valid(engine: Engine) -> None:
    assert engine.problems(database(engine)) == []


@engines
def test_metadata_that_users_may_change_restarts_nothing(engine: Engine) -> None:
    def hashes(resolved: Resolved) -> list[str]:
        planned = workloads(engine.plan(resolved, inputs(engine, resolved)))
        return [workload["spec"]["template"]["metadata"]["annotations"][c.INPUTS] for workload in planned]

    plain = hashes(database(engine))
    for live in (
        {"deletionPolicy": "Delete"},
        {"storage": {"size": "20Gi"}},
        {"service": {"type": "NodePort"}},
        {"imagePullPolicy": "Always"},
        {"pods": {"annotations": {"mesh": "on"}, "labels": {"team": "shop"}}},
    ):
        assert hashes(database(engine, **live)) == plain, live
    assert hashes(database(engine, env=[{"name": "TZ", "value": "UTC"}])) != plain
    assert hashes(database(engine, resources={"memory": "1Gi"})) != plain


@engines
def test_members_that_leave_go_before_the_others_are_restarted(engine: Engine) -> None:
    """Shrink to one member and change what needs a restart, at once: no action, so that they go; and then the restart."""
    if most(engine) < 3:
        return
    resolved = database(engine, replicas=1)
    pods = [f"{resolved.name}-{ordinal}" for ordinal in range(3)]
    facts = {"setId": "set", "role": "master", "addresses": dict.fromkeys(pods, "127.0.0.1"), "excluded": pods[1:], "voteless": pods[1:]}
    seen = [
        Member(
            pod=pod,
            ip="127.0.0.1",
            ready=True,
            running=True,
            was_ready=True,
            reached=True,
            outdated=True,
            lag_bytes=0,
            role=Role.REPLICA if number else Role.PRIMARY,
            role_label="replica" if number else "primary",
            facts={} if number else facts | {"elected": pod},
        )
        for number, pod in enumerate(pods)
    ]
    assert engine.topology is not None
    assert engine.topology(resolved, Observation(members=tuple(seen), wanted=1)) is None
    if engine.type.value != "Elasticsearch":  # lets shards back on all members first
        assert engine.topology(resolved, Observation(members=(seen[0],), wanted=1)) in (
            Restart(pods[0]),
            Restart(pods[0], "its inputs changed"),
        )


members = st.lists(
    st.builds(
        Member,
        pod=st.integers(0, 9).map(lambda ordinal: f"orders-{ordinal}"),
        uid=st.uuids().map(str),
        ip=st.sampled_from([None, "127.0.0.1"]),
        ready=st.booleans(),
        running=st.booleans(),
        was_ready=st.booleans(),
        terminating=st.booleans(),
        outdated=st.booleans(),
        revision_outdated=st.booleans(),
        role_label=st.sampled_from([None, "primary", "replica"]),
        role=st.sampled_from(list(Role)),
        lag_bytes=st.one_of(st.none(), st.integers(0, 2**40)),
        pending_restart=st.booleans(),
        reached=st.sampled_from([None, True, False]),
    ),
    max_size=5,
    unique_by=lambda member: member.pod,
).map(lambda found: tuple(sorted(found, key=lambda member: member.pod)))


@engines
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seen=members, replicas=st.integers(0, 5), formed=st.sampled_from([None, "cluster-1"]))
def test_topology_is_total_and_names_members_that_are_there(
    engine: Engine, seen: tuple[Member, ...], replicas: int, formed: str | None
) -> None:
    """Whatever is observed, it gives an action on a member that exists, or waits; and it gives the same again."""
    if engine.topology is None:
        return
    resolved = database(engine, replicas=min(replicas, most(engine)))
    observation = Observation(members=seen, wanted=resolved.spec.replicas, cluster_id=formed, formed=formed)
    action: Action | None = engine.topology(resolved, observation)
    assert action == engine.topology(resolved, observation)
    present = {member.pod for member in seen}
    if isinstance(action, Restart):
        assert action.pod in present
    if isinstance(action, Switchover):
        assert action.to in present
