"""Elasticsearch as pure functions: what is refused, what is planned, what comes next."""

from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from database_operator.api.database import Database, Metadata, Resolved, resolve
from database_operator.api.spec import DatabaseSpec
from database_operator.api.status import Reason, Role
from database_operator.build.manifest import Manifest
from database_operator.engines.base import Action, Command, Inputs, Member, Observation, Platform, Restart, Wait
from database_operator.engines.elasticsearch import ENGINE, config, identity
from database_operator.engines.elasticsearch.topology import topology

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


def test_first_masters_are_named_only_until_a_cluster_has_formed() -> None:
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


FACTS: dict[str, Any] = {
    "elected": True,
    "login": "taken",
    "status": "green",
    "nodes": 3,
    "moving": 0,
    "settings": {},
    "excluded": (),
    "voteless": (),
    "lonely": {},
    "stranded": {},
}


def member(number: int, *, outdated: bool = False, facts: dict[str, Any] | None = None, **fields: Any) -> Member:
    known = {"elected": False, "login": "taken"} if facts is None else facts
    base = {"ready": True, "running": True, "was_ready": True, "reached": True, "role": Role.REPLICA} | fields
    return Member(pod=f"logs-{number}", outdated=outdated, facts=known, **base)


def cluster(master: int = 0, outdated: tuple[int, ...] = (), size: int = 3, **facts: Any) -> tuple[Member, ...]:
    of_master = FACTS | {"nodes": size} | facts
    return tuple(member(n, outdated=n in outdated, facts=of_master if n == master else None) for n in range(size))


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        (cluster(), None),
        (cluster(outdated=(0, 1, 2)), Restart("logs-2")),
        (cluster(outdated=(0, 1)), Restart("logs-1")),
        (cluster(outdated=(0,)), Restart("logs-0")),
        (cluster(master=2, outdated=(0, 1, 2)), Restart("logs-1")),
        (cluster(outdated=(0, 1, 2), status="yellow"), Restart("logs-2")),
        (cluster(outdated=(1,), status="red"), Wait),
        (cluster(outdated=(1,), moving=2), Wait),
        (cluster(outdated=(1,), nodes=2), Wait),
        (cluster(outdated=(2,), status="yellow", lonely={"logs-2": ["orders"]}), Wait),
        (cluster(outdated=(1, 2), status="yellow", lonely={"logs-2": ["orders"]}), Restart("logs-1")),
        (cluster(outdated=(0, 2), status="yellow", lonely={"logs-2": ["orders"]}), Wait),
        (cluster(master=9, outdated=(1,)), Wait),
        (cluster(master=9), None),
    ],
    ids=[
        "settled", "highest first", "then the next", "master last", "master last anywhere", "yellow alone does not stop it", "never on red",
        "not while shards move", "not while a node is away", "not the only copy", "another instead", "master not before others",
        "not without a master", "no master, nothing asked",
    ],
)  # fmt: skip
def test_restarts(members: tuple[Member, ...], wanted: Any) -> None:
    action = topology(database(replicas=3), Observation(members=members, wanted=3))
    assert isinstance(action, wanted) if isinstance(wanted, type) else action == wanted


def test_one_member_down_stops_a_rollout_and_a_revert_heals_it() -> None:
    down = (*cluster(outdated=(1,))[:2], member(2, ready=False))
    assert isinstance(topology(database(replicas=3), Observation(members=down, wanted=3)), Wait)
    reverted = (*cluster()[:2], member(2, outdated=True, ready=False, was_ready=False))
    action = topology(database(replicas=3), Observation(members=reverted, wanted=3))
    assert isinstance(action, Restart)
    assert action.pod == "logs-2"


@pytest.mark.parametrize(
    ("alone", "wanted"),
    [
        (member(0, facts=FACTS | {"nodes": 1}), None),
        (member(0, outdated=True, facts=FACTS | {"nodes": 1}), Restart("logs-0")),
        (member(0, outdated=True, facts=FACTS | {"nodes": 1, "status": "red"}), Restart("logs-0")),
        (member(0, outdated=True, reached=False), Restart("logs-0")),
        (member(0, outdated=True, terminating=True), None),
        (member(0, reached=False), None),
        (member(0, facts=FACTS | {"nodes": 1, "login": "refused"}), Wait),
    ],
)
def test_a_single_member(alone: Member, wanted: Any) -> None:
    action = topology(database(), Observation(members=(alone,), wanted=1))
    assert isinstance(action, wanted) if isinstance(wanted, type) else action == wanted


def test_settings_follow_the_spec_and_removed_ones_go_back() -> None:
    def step(db: Resolved, **persistent: str) -> Action | None:
        return topology(db, Observation(members=(member(0, facts=FACTS | {"nodes": 1, "settings": persistent}),), wanted=1))

    wanted = with_parameters(search__max_buckets=1000)
    first = step(wanted)
    assert isinstance(first, Command)
    assert (first.name, first.arguments) == (
        "configure",
        {"settings": {config.MANAGED: "search.max_buckets", "search.max_buckets": "1000"}},
    )
    assert step(wanted, **{"search.max_buckets": "1000", config.MANAGED: "search.max_buckets"}) is None
    changed = step(wanted, **{"search.max_buckets": "5", config.MANAGED: "search.max_buckets"})
    assert isinstance(changed, Command)
    assert changed.arguments == {"settings": {"search.max_buckets": "1000"}}
    removed = step(database(), **{"search.max_buckets": "1000", config.MANAGED: "search.max_buckets"})
    assert isinstance(removed, Command)
    assert removed.arguments == {"settings": {"search.max_buckets": None, config.MANAGED: None}}
    assert step(database(), **{"cluster.routing.allocation.enable": "none"}) is None  # somebody else's is left alone


def leave(replicas: int, **facts: Any) -> Action | None:
    return topology(database(replicas=replicas), Observation(members=cluster(**facts), wanted=replicas))


def test_members_leave_only_empty_and_without_a_vote() -> None:
    first = leave(1)
    assert first == Command("exclude", "logs-0", {"nodes": ["logs-1", "logs-2"]}, "moving shards off logs-1, logs-2", Reason.SCALING)
    gone = {"excluded": ("logs-1", "logs-2"), "voteless": ("logs-1", "logs-2")}
    assert leave(1, excluded=("logs-1", "logs-2")) == first
    assert isinstance(leave(1, **gone, stranded={"logs-2": 1}), Wait)
    assert isinstance(leave(1, **gone, moving=1), Wait)
    assert isinstance(leave(1, **gone, master=1), Wait)
    assert leave(1, **gone) is None


def test_after_leaving_nothing_stays_behind() -> None:
    action = topology(database(), Observation(members=(member(0, facts=FACTS | {"nodes": 1, "voteless": ("logs-1",)}),), wanted=1))
    assert isinstance(action, Command)
    assert action.name == "readmit"
    assert isinstance(leave(3, excluded=("logs-2",), voteless=("logs-2",)), Command)  # asked back before it left


def test_nothing_leaves_without_a_master() -> None:
    assert isinstance(leave(1, master=9), Wait)


def test_a_stopped_database_is_left_alone() -> None:
    assert topology(database(replicas=0), Observation(members=cluster(), wanted=0)) is None


@given(
    outdated=st.sets(st.integers(0, 4)),
    master=st.integers(0, 4),
    status=st.sampled_from(["green", "yellow", "red"]),
    unready=st.sets(st.integers(0, 4)),
    lonely=st.sets(st.integers(0, 4)),
    nodes=st.integers(4, 5),
    moving=st.integers(0, 1),
)
def test_a_restart_never_endangers_the_cluster(
    outdated: set[int], master: int, status: str, unready: set[int], lonely: set[int], nodes: int, moving: int
) -> None:
    facts = {"status": status, "nodes": nodes, "moving": moving, "lonely": {f"logs-{n}": ["i"] for n in lonely}}
    members = tuple(
        msgspec.structs.replace(one, ready=n not in unready) for n, one in enumerate(cluster(master, tuple(outdated), 5, **facts))
    )
    action = topology(database(replicas=5), Observation(members=members, wanted=5))
    if isinstance(action, Restart):
        restarted = int(action.pod[-1])
        assert restarted in outdated
        assert restarted not in lonely
        assert (status != "red", nodes, moving, unready) == (True, 5, 0, set())
        assert restarted != master or outdated == {master}
    elif outdated and not unready and not lonely and status != "red" and nodes == 5 and not moving:
        raise AssertionError("a rollout that could go on stands still")
