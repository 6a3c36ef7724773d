"""Elasticsearch as pure functions: what is refused, what is planned, what comes next."""

from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from database_operator.api.database import Database, Metadata, Resolved, resolve
from database_operator.api.spec import DatabaseSpec
from database_operator.build.manifest import Manifest
from database_operator.engines.base import Inputs, Platform
from database_operator.engines.elasticsearch import ENGINE, config, identity

PLATFORM = Platform(agent_image="agent:1")


def database(elasticsearch: dict[str, Any] | None = None, **spec: Any) -> Resolved:
    content = {"type": "Elasticsearch", "version": "8.11.0", "elasticsearch": elasticsearch or {}} | spec
    metadata = Metadata(name="logs", namespace="shop", uid="u1")
    return resolve(Database(metadata=metadata, spec=msgspec.convert(content, DatabaseSpec)))


def with_parameters(**parameters: Any) -> Resolved:
    return database({"parameters": {name.replace("__", "."): value for name, value in parameters.items()}})


def inputs(*, formed: bool = False) -> Inputs:
    return Inputs(platform=PLATFORM, internal={"initial-master-nodes": "logs-0,logs-1,logs-2"}, formed=formed)


def plan(db: Resolved, *, formed: bool = False) -> dict[str, Manifest]:
    return {f"{child['kind']}/{child['metadata']['name']}": child for child in ENGINE.plan(db, inputs(formed=formed))}


def inputs_of(db: Resolved) -> str:
    template = plan(db)["StatefulSet/logs"]["spec"]["template"]
    return str(template["metadata"]["annotations"]["databases.database-operator.io/inputs"])


def yml(db: Resolved, *, formed: bool = False) -> dict[str, Any]:
    lines = config.elasticsearch_yml(db, inputs(formed=formed)).splitlines()
    return {name: msgspec.json.decode(value) for name, _, value in (line.partition(": ") for line in lines)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path.data", "/etc"),
        ("path.repo", "/"),
        ("network.host", "127.0.0.1"),
        ("http.port", 9201),
        ("transport.port", 9301),
        ("discovery.seed_hosts", "evil.example"),
        ("discovery.type", "zen"),
        ("cluster.initial_master_nodes", "logs-0"),
        ("xpack.security.enabled", "false"),
        ("xpack.security.authc.realms.file.f.order", 0),
        ("xpack.security.transport.ssl.verification_mode", "none"),
        ("node.roles", "data"),
        ("bootstrap.memory_lock", "true"),
        ("cluster.routing.allocation.exclude._name", "logs-0"),
        ("cluster.metadata.database_operator_settings", "x"),
        ("readiness.port", 1),
        ("search.max_buckets", "${ELASTIC_PASSWORD}"),
        ("node.attr.zone", "a\nxpack.security.enabled: false"),
        ("node.attr.zone", "a\0"),
    ],
)
def test_refused_parameters_name_their_field(name: str, value: str | int) -> None:
    problems = ENGINE.problems(database({"parameters": {name: value}}))
    assert [problem.field for problem in problems] == [f"spec.elasticsearch.parameters.{name}"]
    assert problems[0].message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node.name", "mine"),
        ("cluster.name", "mine"),
        ("http.port", 9200),
        ("discovery.type", "single-node"),
        ("xpack.security.enabled", "true"),
    ],
)
def test_ignored_parameters_have_no_effect(name: str, value: str | int) -> None:
    db = database({"parameters": {name: value}})
    assert ENGINE.problems(db) == []
    assert yml(db) == yml(database())
    assert inputs_of(db) == inputs_of(database())


@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ({"name": "ES_PATH_CONF", "value": "/x"}, "spec.env[0].name"),
        ({"name": "discovery.type", "value": "single-node"}, "spec.env[0].name"),
        ({"name": "path.data", "value": "/x"}, "spec.env[0].name"),
        ({"name": "ES_SETTING_PATH_DATA", "value": "/x"}, "spec.env[0].name"),
        ({"name": "ELASTIC_PASSWORD", "value": "x"}, "spec.env[0].name"),
        ({"name": "LD_PRELOAD", "value": "x"}, "spec.env[0].name"),
        ({"name": "JAVA_TOOL_OPTIONS", "value": "-javaagent:x.jar"}, "spec.env[0].name"),
        ({"name": "ES_JAVA_OPTS", "value": "-Xmx1g -javaagent:/tmp/x.jar"}, "spec.env[0].value"),
        ({"name": "ES_JAVA_OPTS", "value": "-XX:OnError=reboot"}, "spec.env[0].value"),
        ({"name": "ES_JAVA_OPTS", "value": "@/tmp/options"}, "spec.env[0].value"),
        ({"name": "ES_JAVA_OPTS", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}, "spec.env[0]"),
    ],
)
def test_refused_environment(variable: dict[str, Any], field: str) -> None:
    assert [problem.field for problem in ENGINE.problems(database(env=[variable]))] == [field]


def test_heap_options_are_taken() -> None:
    assert (
        ENGINE.problems(database(env=[{"name": "ES_JAVA_OPTS", "value": "-Xms1g -Xmx1g -XX:+UseParallelGC -XX:MaxDirectMemorySize=1g"}]))
        == []
    )


@pytest.mark.parametrize(("version", "good"), [("8.2.0", True), ("8.11.0", True), ("9.0.1", True), ("latest", True), ("8", True)])
def test_versions(version: str, good: bool) -> None:
    assert (ENGINE.problems(database(version=version)) == []) is good


@pytest.mark.parametrize("version", ["8.1.3", "7.17.10", "6", "v7.1"])
def test_versions_that_are_too_old(version: str) -> None:
    assert [problem.field for problem in ENGINE.problems(database(version=version))] == ["spec.version"]


@pytest.mark.parametrize(
    ("roles", "good"),
    [
        (["master", "data"], True),
        (["master", "data_content", "data_hot", "ingest"], True),
        ([], False),
        (["data"], False),
        (["master"], False),
        (["master", "data_hot"], False),
        (["master", "data", "data"], False),
        (["master", "data", "king"], False),
    ],
)
def test_roles(roles: list[str], good: bool) -> None:
    db = database({"nodeRoles": roles})
    assert (ENGINE.problems(db) == []) is good
    assert yml(db)["node.roles"] == roles


@pytest.mark.parametrize("name", ["a:b", "-x", "a b", "ü"])
def test_cluster_names_that_are_refused(name: str) -> None:
    assert [problem.field for problem in ENGINE.problems(database({"clusterName": name}))] == ["spec.elasticsearch.clusterName"]


@pytest.mark.parametrize(
    ("limit", "heap"), [(None, 512), ("2Gi", 1024), ("1536Mi", 768), ("1G", 476), ("100Mi", 128), ("128Gi", 31 * 1024)]
)
def test_heap(limit: str | None, heap: int) -> None:
    resources = {"memoryLimit": limit} if limit else {}
    assert config.jvm_options(database(resources=resources)).splitlines()[:2] == [f"-Xms{heap}m", f"-Xmx{heap}m"]


def test_e05_first_masters_are_named_only_until_a_cluster_has_formed() -> None:
    assert yml(database())["cluster.initial_master_nodes"] == ["logs-0", "logs-1", "logs-2"]
    assert "cluster.initial_master_nodes" not in yml(database(), formed=True)
    for formed in (False, True):
        assert "discovery.type" not in yml(database(), formed=formed)


def test_settings_are_secure_and_the_operators_own_win() -> None:
    settings = yml(database({"parameters": {"node.store.allow_mmap": "true", "node.attr.zone": 'a"b: c'}}))
    assert settings["node.store.allow_mmap"] == "true"
    assert settings["node.attr.zone"] == 'a"b: c'
    assert settings["xpack.security.enabled"] == settings["xpack.security.transport.ssl.enabled"] == "true"
    assert list(settings) == sorted(settings)


def test_live_settings_need_no_new_pod_and_static_ones_do() -> None:
    plain = inputs_of(database())
    assert inputs_of(with_parameters(search__max_buckets=5, logger__org="DEBUG")) == plain
    assert inputs_of(with_parameters(indices__query__bool__max_clause_count=5)) != plain
    assert inputs_of(database({"nodeRoles": ["master", "data"]})) != plain
    assert "search.max_buckets" not in yml(with_parameters(search__max_buckets=5))


def test_plan_is_pure_and_complete() -> None:
    db = database(replicas=3)
    assert msgspec.json.encode(ENGINE.plan(db, inputs())) == msgspec.json.encode(ENGINE.plan(db, inputs()))
    assert list(plan(db)) == [
        "ConfigMap/logs-settings",
        "Service/logs-service",
        "Service/logs-members",
        "StatefulSet/logs",
        "PodDisruptionBudget/logs-pdb",
    ]
    assert "PodDisruptionBudget/logs-pdb" not in plan(database())
    pod = plan(db)["StatefulSet/logs"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (1000, 0)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["image"] == "docker.elastic.co/elasticsearch/elasticsearch:8.11.0"
    assert container["readinessProbe"]["tcpSocket"] == {"port": "agent"}
    assert all("secretKeyRef" not in str(variable) for variable in container["env"])
    assert "role" not in plan(db)["Service/logs-service"]["spec"]["selector"]


def test_forming_changes_no_pod() -> None:
    template = plan(database())["StatefulSet/logs"]
    assert template == plan(database(), formed=True)["StatefulSet/logs"]


def test_identity_is_made_once_and_is_sound() -> None:
    db = database(replicas=3)
    made = identity.internal(db, {})
    assert set(made) == {"operator-password", "initial-master-nodes", "ca.crt", "ca.key", "node.crt", "node.key"}
    assert made["initial-master-nodes"] == "logs-0,logs-1,logs-2"
    assert identity.internal(db, made) == {}
    assert identity.internal(database(replicas=5), made) == {}
    authority, node = (x509.load_pem_x509_certificate(made[key].encode()) for key in ("ca.crt", "node.crt"))
    node.verify_directly_issued_by(authority)
    key = load_pem_private_key(made["node.key"].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == node.public_key()
    alternatives = node.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert {"localhost", "*.logs-members.shop.svc", "logs-service.shop.svc"} <= set(alternatives)
    assert (node.not_valid_after_utc - node.not_valid_before_utc).days >= 3650


def test_a_stopped_database_still_names_a_first_master() -> None:
    assert identity.first_masters(database(replicas=0)) == ["logs-0"]


def test_only_what_is_missing_is_made() -> None:
    made = identity.internal(database(), {})
    assert set(identity.internal(database(), {key: value for key, value in made.items() if key != "operator-password"})) == {
        "operator-password"
    }


def test_credentials() -> None:
    data = ENGINE.credentials(database({"clusterName": "search"}), "p/w:@ %é", PLATFORM)
    assert set(data) == {"type", "provider", "host", "port", "username", "password", "database", "uri"}
    assert data["uri"] == "http://elastic:p%2Fw%3A%40%20%25%C3%A9@logs-service.shop.svc.cluster.local:9200"
    assert (data["username"], data["database"]) == ("elastic", "search")
