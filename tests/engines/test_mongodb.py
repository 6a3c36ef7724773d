"""MongoDB as pure functions: what is refused, what is planned."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from database_operator.api.database import Database, Metadata, Resolved, resolve
from database_operator.api.spec import DatabaseSpec
from database_operator.build import constants as c
from database_operator.build.manifest import Manifest
from database_operator.engines.base import Inputs, Platform
from database_operator.engines.mongodb import ENGINE, config, internal

PLATFORM = Platform(agent_image="agent:1")
DOMAIN = "orders-members.shop.svc.cluster.local"


def database(mongodb: dict[str, Any] | None = None, **spec: Any) -> Resolved:
    content = {"type": "MongoDB", "version": "7.0", "mongodb": mongodb or {}} | spec
    metadata = Metadata(name="orders", namespace="shop", uid="u1")
    return resolve(Database(metadata=metadata, spec=msgspec.convert(content, DatabaseSpec)))


def with_parameters(parameters: dict[str, str | int], **spec: Any) -> Resolved:
    return database({"parameters": parameters}, **spec)


def plan(db: Resolved, **inputs: Any) -> dict[tuple[str, str], Manifest]:
    return {(child["kind"], child["metadata"]["name"]): child for child in ENGINE.plan(db, Inputs(platform=PLATFORM, **inputs))}


def inputs_of(db: Resolved) -> str:
    return str(plan(db)["StatefulSet", "orders"]["spec"]["template"]["metadata"]["annotations"][c.INPUTS])


def conf(db: Resolved) -> dict[str, Any]:
    """mongod.conf as a YAML reader takes it."""
    found: dict[str, Any] = yaml.safe_load(config.mongod_conf(db))
    return found


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


# mongod.conf


def test_conf_of_an_empty_spec() -> None:
    assert flat(conf(database())) == {
        "net.bindIpAll": True,
        "net.port": 27017,
        "net.unixDomainSocket.enabled": False,
        "replication.replSetName": "rs0",
        "security.authorization": "enabled",
        "security.keyFile": "/run/database/keyfile",
        "storage.dbPath": "/data/db",
        "storage.wiredTiger.engineConfig.cacheSizeGB": 0.25,
    }


@pytest.mark.parametrize(
    ("name", "value", "key", "read"),
    [
        ("cacheSizeGB", "1.5", "storage.wiredTiger.engineConfig.cacheSizeGB", 1.5),
        ("wiredTigerCacheSizeGB", 2, "storage.wiredTiger.engineConfig.cacheSizeGB", 2.0),
        ("storage.wiredTiger.engineConfig.cacheSizeGB", "0.25", "storage.wiredTiger.engineConfig.cacheSizeGB", 0.25),
        ("oplogSizeMB", 2048, "replication.oplogSizeMB", 2048),
        ("slowms", 50, "operationProfiling.slowOpThresholdMs", 50),
        ("operationProfiling.mode", "slowOp", "operationProfiling.mode", "slowOp"),
        ("maxConns", 500, "net.maxIncomingConnections", 500),
        ("setParameter.notablescan", "true", "setParameter.notablescan", True),
        ("setParameter.cursorTimeoutMillis", 1000, "setParameter.cursorTimeoutMillis", 1000),
        ("security.javascriptEnabled", "false", "security.javascriptEnabled", False),
        ("systemLog.component.network.verbosity", "2", "systemLog.component.network.verbosity", 2),
        ("timeStampFormat", 'a": {b: #', "systemLog.timeStampFormat", 'a": {b: #'),
    ],
)
def test_parameter_reaches_its_key(name: str, value: str | int, key: str, read: Any) -> None:
    db = with_parameters({name: value})
    assert ENGINE.problems(db) == []
    assert flat(conf(db))[key] == read


@pytest.mark.parametrize(
    ("limit", "cache"), [(None, 0.25), ("512Mi", 0.25), ("1Gi", 0.25), ("2Gi", 0.75), ("4Gi", 1.75), ("16Gi", 7.75), ("100Mi", 0.25)]
)
def test_cache_follows_the_memory_limit(limit: str | None, cache: float) -> None:
    db = database(resources={"memoryLimit": limit} if limit else {})
    assert conf(db)["storage"]["wiredTiger"]["engineConfig"]["cacheSizeGB"] == cache
    assert config.live_parameters(db)["cacheSizeGB"] == cache


@given(
    st.dictionaries(
        st.sampled_from(["storage.x", "setParameter.y", "net.z.q", "operationProfiling.filter"]), st.text(max_size=60) | st.integers()
    )
)
def test_no_value_leaves_its_place_in_the_file(parameters: dict[str, str | int]) -> None:
    """Whatever the text, a YAML reader finds our keys with our values and the user's with the user's."""
    parameters = {name: value for name, value in parameters.items() if not any(mark in str(value) for mark in "\n\r\0")}
    try:
        db = with_parameters(parameters)
    except msgspec.ValidationError:
        return  # the schema has it
    if ENGINE.problems(db):
        return
    text = config.mongod_conf(db).encode("utf-8", "surrogatepass")
    try:
        read = flat(yaml.safe_load(text))
    except yaml.reader.ReaderError:
        return  # characters that YAML has no place for: mongod's reader refuses the file too
    assert {key for key in read if key not in parameters} == set(flat(conf(database())))
    assert read["security.authorization"] == "enabled"


def test_equal_specs_give_equal_bytes() -> None:
    one = with_parameters({"slowms": 1, "maxConns": 100})
    other = with_parameters({"maxConns": 100, "slowms": 1})
    assert config.mongod_conf(one) == config.mongod_conf(other)
    assert msgspec.json.encode(ENGINE.plan(one, Inputs(platform=PLATFORM))) == msgspec.json.encode(
        ENGINE.plan(other, Inputs(platform=PLATFORM))
    )


# what is refused


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("security.authorization", "disabled", "authentication"),
        ("security.keyFile", "/tmp/x", "authentication"),
        ("security.clusterAuthMode", "x509", "authentication"),
        ("net.port", 27018, "addresses and ports"),
        ("net.bindIp", "127.0.0.1", "addresses and ports"),
        ("net.tls.mode", "disabled", "TLS is the operator's"),
        ("storage.dbPath", "/tmp", "/data/db"),
        ("storage.engine", "inMemory", "/data/db"),
        ("storage.wiredTiger.engineConfig.configString", "log=(enabled=false)", "journal"),
        ("storage.journal.enabled", "false", "journal"),
        ("replication.replSetName", "other", "replicaSetName"),
        ("replication.anything", "x", "replica set"),
        ("sharding.clusterRole", "shardsvr", "sharded"),
        ("processManagement.fork", "true", "own process"),
        ("systemLog.destination", "file", "container's output"),
        ("systemLog.path", "/data/db/log", "container's output"),
        ("auditLog.path", "/data/db/audit", "Enterprise"),
        ("setParameter.enableLocalhostAuthBypass", "false", "authentication"),
        ("setParameter.enableTestCommands", 1, "test-only"),
        ("setParameter.failpoint.x", "y", "test-only"),
        ("setParameter.wiredTigerEngineRuntimeConfig", "log=(enabled=false)", "journal"),
        ("setParameter.diagnosticDataCollectionDirectoryPath", "/tmp", "/data/db"),
        ("configExpand", "exec", "runs commands"),
        ("config", "/tmp/x", "mongod.conf"),
        ("noauth", "", "authentication"),
    ],
)
def test_i13_dangerous_parameters_are_refused(name: str, value: str | int, reason: str) -> None:
    problems = ENGINE.problems(with_parameters({name: value}))
    assert [problem.field for problem in problems] == [f"spec.mongodb.parameters.{name}"]
    assert reason in problems[0].message
    assert "remove it" in problems[0].message


@pytest.mark.parametrize(
    ("name", "value"), [("security.authorization", "enabled"), ("net.port", 27017), ("storage.dbPath", "/data/db"), ("bindIp", "0.0.0.0")]
)
def test_our_own_values_are_ignored(name: str, value: str | int) -> None:
    db = with_parameters({name: value})
    assert ENGINE.problems(db) == []
    assert config.mongod_conf(db) == config.mongod_conf(database())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"nonsense": 1}, "no option of mongod"),
        ({"storage..x": 1}, "no key of mongod.conf"),
        ({"elsewhere.x": 1}, "no section that can be set"),
        ({"cacheSizeGB": "much"}, "must be a number"),
        ({"cacheSizeGB": "0.1"}, "between 0.25"),
        ({"setParameter.notablescan": "perhaps"}, "true or false"),
        ({"slowms": "1.5"}, "whole number"),
        ({"slowms": 1, "slowOpThresholdMs": 2}, "keep one of the two"),
        ({"storage.journal": 1, "storage.journal.commitIntervalMs": 2}, "below a key that has a value"),
    ],
)
def test_wrong_parameters_are_told(parameters: dict[str, str | int], message: str) -> None:
    problems = ENGINE.problems(with_parameters(parameters))
    assert len(problems) == 1
    assert message in problems[0].message


@pytest.mark.parametrize("version", ["5.0", "4.4.29", "9.0", "3"])
def test_unsupported_versions(version: str) -> None:
    assert [problem.field for problem in ENGINE.problems(database(version=version))] == ["spec.version"]


@pytest.mark.parametrize(("version", "major"), [("7.0", "7"), ("6.0.19-jammy", "6"), ("8", "8"), ("8.0.4", "8"), ("latest", None)])
def test_supported_versions(version: str, major: str | None) -> None:
    assert ENGINE.problems(database(version=version)) == []
    assert ENGINE.major(version) == major


@pytest.mark.parametrize(
    ("mongodb", "field"),
    [
        ({"username": "database-operator-agent"}, "spec.mongodb.username"),
        ({"username": "__system"}, "spec.mongodb.username"),
        ({"database": "local"}, "spec.mongodb.database"),
        ({"replicaSetName": "rs0/host"}, "spec.mongodb.replicaSetName"),
    ],
)
def test_i12_reserved_names(mongodb: dict[str, Any], field: str) -> None:
    try:
        db = database(mongodb)
    except msgspec.ValidationError as error:
        assert field.removeprefix("spec.mongodb.") in str(error)
        return
    assert [problem.field for problem in ENGINE.problems(db)] == [field]


@pytest.mark.parametrize("name", ["LD_PRELOAD", "MONGO_INITDB_ROOT_PASSWORD", "MONGO_INITDB_DATABASE", "PATH", "PYTHONPATH"])
def test_owned_environment(name: str) -> None:
    assert [problem.field for problem in ENGINE.problems(database(env=[{"name": name, "value": "x"}]))] == ["spec.env[0].name"]


# the plan


def test_children_of_one_member() -> None:
    assert set(plan(database())) == {
        ("ConfigMap", "orders-settings"),
        ("Service", "orders-members"),
        ("Service", "orders-service"),
        ("StatefulSet", "orders"),
    }


def test_children_of_several_members() -> None:
    children = plan(database(replicas=3))
    assert ("PodDisruptionBudget", "orders-pdb") in children
    assert children["Service", "orders-ro"]["spec"]["selector"][c.ROLE] == "replica"
    assert c.ROLE not in children["Service", "orders-service"]["spec"]["selector"]


def test_sidecar_is_native_and_reads_what_it_needs() -> None:
    pod = plan(database())["StatefulSet", "orders"]["spec"]["template"]["spec"]
    sidecar = next(container for container in pod["initContainers"] if container["name"] == "agent-server")
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["image"] == "agent:1"
    assert {mount["name"] for mount in sidecar["volumeMounts"]} == {"data", "tmp", "credentials", "internal", "tls"}
    assert {"name": "MEMBER_HOST", "value": f"$(POD_NAME).{DOMAIN}:27017"} in sidecar["env"]
    assert [container["name"] for container in pod["containers"]] == ["database"]
    assert pod["terminationGracePeriodSeconds"] == 60


def test_no_secret_in_the_plan() -> None:
    secrets = internal(database(), {})
    text = msgspec.json.encode(ENGINE.plan(database(), Inputs(platform=PLATFORM, internal=secrets))).decode()
    assert not any(value in text for value in secrets.values())


@pytest.mark.parametrize(
    ("parameters", "restarts"),
    [
        ({"cacheSizeGB": 1}, False),
        ({"slowms": 1}, False),
        ({"setParameter.notablescan": "true"}, False),
        ({"logLevel": 2}, False),
        ({"maxConns": 100}, True),
        ({"operationProfiling.mode": "all"}, True),
        ({"setParameter.somethingElse": 1}, True),
        ({"oplogSizeMB": 2000}, True),
    ],
)
def test_only_what_needs_a_restart_rolls_pods(parameters: dict[str, str | int], restarts: bool) -> None:
    assert (inputs_of(with_parameters(parameters)) != inputs_of(database())) is restarts


def test_password_secret_rolls_nothing() -> None:
    db = database(
        {"passwordSecret": {"name": "login", "key": "password"}},
        env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    )

    def inputs(**versions: str) -> str:
        found = plan(db, secret_versions={key.replace("_", "/"): value for key, value in versions.items()})
        return str(found["StatefulSet", "orders"]["spec"]["template"]["metadata"]["annotations"][c.INPUTS])

    assert inputs(login_password="1", s_k="1") == inputs(login_password="2", s_k="1")
    assert inputs(login_password="1", s_k="1") != inputs(login_password="1", s_k="2")


# credentials


@given(st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text))
def test_uri_carries_any_password(password: str) -> None:
    password = password.encode("utf-8", "replace").decode()
    uri = urlsplit(ENGINE.credentials(database({"username": "a@b:c/d"}), password, PLATFORM)["uri"])
    assert unquote(uri.password or "") == password
    assert unquote(uri.username or "") == "a@b:c/d"
    assert uri.netloc.rpartition("@")[2] == f"orders-0.{DOMAIN}:27017"


def test_credentials_name_every_member() -> None:
    data = ENGINE.credentials(database({"database": "app"}, replicas=3), "secret", PLATFORM)
    uri = urlsplit(data["uri"])
    assert uri.netloc.rpartition("@")[2].split(",") == [f"orders-{number}.{DOMAIN}:27017" for number in range(3)]
    assert uri.path == "/app"
    assert parse_qs(uri.query) == {"authSource": ["admin"], "replicaSet": ["rs0"]}
    assert data["ro-host"] == "orders-ro.shop.svc.cluster.local"
    assert parse_qs(urlsplit(data["ro-uri"]).query)["readPreference"] == ["secondaryPreferred"]
    expected = {"type", "provider", "host", "port", "username", "password", "database", "replica-set", "uri", "ro-host", "ro-uri"}
    assert set(data) == expected


def test_internal_is_made_once() -> None:
    made = internal(database(), {})
    assert set(made) == {"keyfile", "agent-password", "agent-token"}
    assert 6 <= len(made["keyfile"]) <= 1024
    assert internal(database(), made) == {}
    assert set(internal(database(), {"keyfile": "x"})) == {"agent-password", "agent-token"}
