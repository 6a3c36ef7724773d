"""Redis as pure functions: what is refused, what is planned."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from database_operator.api.database import Database, Metadata, Resolved, resolve
from database_operator.api.quantity import whole_bytes
from database_operator.api.spec import DatabaseSpec
from database_operator.build import constants as c
from database_operator.build import redisconf
from database_operator.build.manifest import Manifest
from database_operator.engines.base import Inputs, Platform
from database_operator.engines.redis import ENGINE, config
from database_operator.engines.redis.live import LIVE, changed, default

PLATFORM = Platform(agent_image="agent:1")
MI = 1024**2


def database(redis: dict[str, Any] | None = None, **spec: Any) -> Resolved:
    content = {"type": "Redis", "version": "7.2", "redis": redis or {}} | spec
    metadata = Metadata(name="cache", namespace="shop", uid="u1")
    return resolve(Database(metadata=metadata, spec=msgspec.convert(content, DatabaseSpec)))


def given_parameters(parameters: dict[str, str | int], **spec: Any) -> Resolved:
    return database({"parameters": parameters}, **spec)


def plan(db: Resolved, **inputs: Any) -> dict[tuple[str, str], Manifest]:
    return {(child["kind"], child["metadata"]["name"]): child for child in ENGINE.plan(db, Inputs(platform=PLATFORM, **inputs))}


def inputs_of(db: Resolved) -> str:
    annotations = plan(db)["StatefulSet", "cache"]["spec"]["template"]["metadata"]["annotations"]
    return str(annotations[c.INPUTS])


def settings_of(db: Resolved) -> str:
    return str(plan(db)["ConfigMap", "cache-settings"]["data"]["redis.conf"])


def split(line: str) -> list[str]:
    """A configuration line read back as Redis' own ``sdssplitargs`` reads it."""
    words: list[str] = []
    position = 0
    while position < len(line):
        if line[position] == " ":
            position += 1
            continue
        word = bytearray()
        if line[position] != '"':
            end = (line + " ").index(" ", position)
            words.append(line[position:end])
            position = end
            continue
        position += 1
        while line[position] != '"':
            if line.startswith("\\x", position):
                word.append(int(line[position + 2 : position + 4], 16))
                position += 4
            elif line[position] == "\\":
                word += {"n": b"\n", "r": b"\r", "t": b"\t", "b": b"\b", "a": b"\a"}.get(line[position + 1], line[position + 1].encode())
                position += 2
            else:
                word += line[position].encode()
                position += 1
        words.append(word.decode())
        position += 1
    return words


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_no_word_leaves_its_place(words: list[str]) -> None:
    line = redisconf.line(*words)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert line.isascii()
    assert split(line[:-1]) == words


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("maxmemory", "1", "maxmemory 1\n"),
        ("save", "", 'save ""\n'),
        ("save", "900 1 300 10", "save 900 1\nsave 300 10\n"),
        (
            "client-output-buffer-limit",
            "normal 0 0 0 pubsub 32mb 8mb 60",
            "client-output-buffer-limit normal 0 0 0\nclient-output-buffer-limit pubsub 32mb 8mb 60\n",
        ),
        ("latency-tracking-info-percentiles", "50 99", "latency-tracking-info-percentiles 50 99\n"),
        ("syslog-ident", "a b", 'syslog-ident "a b"\n'),
    ],
)
def test_directives_of_several_words(name: str, value: str, text: str) -> None:
    assert redisconf.directive(name, value) == text


REFUSED = [
    ("port", 6380),
    ("dir", "/tmp"),
    ("dbfilename", "../x"),
    ("bind", "10.0.0.1"),
    ("requirepass", "x"),
    ("masterauth", "x"),
    ("aclfile", "/data/x"),
    ("user", "default on nopass"),
    ("replicaof", "evil 6379"),
    ("slaveof", "evil 6379"),
    ("SlaveOf", "evil 6379"),
    ("slave-read-only", "no"),
    ("replica-priority", 0),
    ("loadmodule", "/data/x.so"),
    ("LOADMODULE", "/data/x.so"),
    ("rename-command", "CONFIG x"),
    ("include", "/data/x.conf"),
    ("daemonize", "yes"),
    ("unixsocket", "/data/s"),
    ("tls-port", 6380),
    ("cluster-enabled", "yes"),
    ("cluster-announce-ip", "1.2.3.4"),
    ("enable-debug-command", "yes"),
    ("enable-module-command", "local"),
    ("enable-protected-configs", "yes"),
    ("oom-score-adj-values", "0 0 0"),
    ("logfile", "/data/log"),
    ("maxmemory", "lots"),
    ("maxmemory", -1),
    ("maxmemory-policy", "sometimes"),
    ("appendonly", "true"),
    ("hz", 0),
    ("save", "900"),
    ("notify-keyspace-events", "KQ"),
    ("min-replicas-to-write", 1),
    ("timeout", "1\nloadmodule /data/x.so"),
    ("databases", "16\nloadmodule /data/x.so"),
    ("databases", "1\0"),
    ("x.y", "1"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_refused_parameters_name_their_field(name: str, value: str | int) -> None:
    found = ENGINE.problems(given_parameters({name: value}))
    assert [problem.field for problem in found] == [f"spec.redis.parameters.{config.canonical_name(name)}"]
    assert found[0].message


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 6379), ("dir", "/data"), ("protected-mode", "yes"), ("pidfile", "/x"), ("bind", "0.0.0.0"), ("daemonize", "no")],
)
def test_harmless_parameters_are_ignored(name: str, value: str | int) -> None:
    db = given_parameters({name: value})
    assert ENGINE.problems(db) == []
    assert settings_of(db) == settings_of(database())


def test_a_parameter_given_under_two_names_is_refused() -> None:
    found = ENGINE.problems(given_parameters({"slave-lazy-flush": "yes", "Replica-Lazy-Flush": "no"}))
    assert [problem.field for problem in found] == ["spec.redis.parameters.replica-lazy-flush"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"version": "6.0"}, "spec.version"),
        ({"version": "5"}, "spec.version"),
        ({"version": "7.2-alpine"}, "spec.version"),
        ({"version": "alpine"}, "spec.version"),
        ({"image": "registry.local/redis:7-alpine3.20"}, "spec.image"),
        ({"version": "6.2", "redis": {"mode": "cluster"}, "replicas": 3}, "spec.version"),
        ({"redis": {"parameters": {"maxmemory": "1gb"}}, "resources": {"memoryLimit": "512Mi"}}, "spec.redis.parameters.maxmemory"),
        ({"redis": {"parameters": {"min-replicas-to-write": 3}}, "replicas": 3}, "spec.redis.parameters.min-replicas-to-write"),
        ({"env": [{"name": "LD_PRELOAD", "value": "/data/x.so"}]}, "spec.env[0].name"),
        ({"env": [{"name": "TZ", "value": "UTC"}, {"name": "REDISCLI_AUTH", "value": "x"}]}, "spec.env[1].name"),
    ],
)
def test_problems(spec: dict[str, Any], field: str) -> None:
    assert [problem.field for problem in ENGINE.problems(database(**spec))] == [field]


@pytest.mark.parametrize("version", ["6.2", "7", "7.2.4", "7.2-bookworm", "8.0", "latest", "7.2.4-alpha1"])
def test_versions_that_are_taken(version: str) -> None:
    assert ENGINE.problems(database(version=version)) == []


@pytest.mark.parametrize(
    ("spec", "mebibytes"),
    [({}, 384), ({"resources": {"memoryLimit": "1Gi"}}, 768), ({"resources": {"memory": "1Gi"}}, 384)],
)
def test_maxmemory_leaves_a_quarter(spec: dict[str, Any], mebibytes: int) -> None:
    assert config.live(database(**spec))["maxmemory"] == str(mebibytes * MI)


@pytest.mark.parametrize(("limit", "hard", "soft"), [("128Mi", 16 * MI, 8 * MI), ("1Gi", 128 * MI, 64 * MI), ("64Gi", 256 * MI, 64 * MI)])
def test_r08_what_waits_for_a_replica_fits_beside_the_data(limit: str, hard: int, soft: int) -> None:
    db = database(resources={"memoryLimit": limit})
    assert config.live(db)["client-output-buffer-limit"] == f"normal 0 0 0 slave {hard} {soft} 60 pubsub {32 * MI} {8 * MI} 60"
    assert hard + config.default_maxmemory(db) < whole_bytes(limit)


def test_a_parameter_wins() -> None:
    wanted = config.live(given_parameters({"MaxMemory": "64mb", "appendonly": "no"}, resources={"memoryLimit": "1Gi"}))
    assert wanted["maxmemory"] == str(64 * MI)
    assert wanted["appendonly"] == "no"


def test_settings_are_sorted_and_hold_what_the_operator_owns() -> None:
    buffers = (("normal", "0 0 0"), ("slave", "67108864 33554432 60"), ("pubsub", "33554432 8388608 60"))
    assert settings_of(given_parameters({"maxmemory": "64mb", "databases": 4})) == (
        "appendonly yes\n" + "".join(f"client-output-buffer-limit {kind} {limits}\n" for kind, limits in buffers) + "databases 4\n"
        "dir /data\nmaxmemory 67108864\nmaxmemory-policy noeviction\nmin-replicas-max-lag 3\n"
        "min-replicas-to-write 0\nport 6379\nprotected-mode no\nrepl-diskless-sync-delay 1\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "rolls"),
    [
        ("databases", 4, True),
        ("io-threads", 2, True),
        ("hash-max-ziplist-entries", 64, True),
        ("maxmemory", "64mb", False),
        ("hz", 20, False),
    ],
)
def test_only_what_a_running_server_cannot_take_rolls(name: str, value: str | int, rolls: bool) -> None:
    assert (inputs_of(given_parameters({name: value})) != inputs_of(database())) is rolls


def test_growing_to_sentinel_restarts_nobody() -> None:
    assert inputs_of(database(replicas=1)) == inputs_of(database(replicas=3))


def test_children() -> None:
    alone = [
        ("ConfigMap", "cache-settings"),
        ("Service", "cache-service"),
        ("Service", "cache-members"),
        ("StatefulSet", "cache"),
    ]
    assert list(plan(database())) == alone
    three = {
        *alone,
        ("Service", "cache-ro"),
        ("ServiceAccount", "cache-agent"),
        ("Role", "cache-agent"),
        ("RoleBinding", "cache-agent"),
        ("Service", "cache-sentinel"),
        ("StatefulSet", "cache-sentinel"),
        ("PodDisruptionBudget", "cache-pdb"),
    }
    assert set(plan(database(replicas=3))) == three
    assert set(plan(database(replicas=3), members=3)) == three


def test_sentinels_stay_until_one_member_is_left() -> None:
    assert ("StatefulSet", "cache-sentinel") in plan(database(replicas=1), members=3)
    assert ("StatefulSet", "cache-sentinel") not in plan(database(replicas=1), members=1)
    assert ("StatefulSet", "cache-sentinel") not in plan(database(replicas=0), members=3)


@pytest.mark.parametrize(("replicas", "role"), [(1, None), (2, "primary"), (3, "primary")])
def test_only_sentinel_mode_selects_by_role(replicas: int, role: str | None) -> None:
    selector = plan(database(replicas=replicas))["Service", "cache-service"]["spec"]["selector"]
    assert selector.get(c.ROLE) == role


def test_the_agent_may_touch_its_own_pods_and_claims_alone() -> None:
    pods = [f"cache-{ordinal}" for ordinal in range(10)]
    assert plan(database(replicas=3))["Role", "cache-agent"]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"], "resourceNames": pods},
        {
            "apiGroups": [""],
            "resources": ["persistentvolumeclaims"],
            "verbs": ["get", "patch"],
            "resourceNames": [f"data-{pod}" for pod in pods],
        },
    ]


def test_no_secret_in_plan() -> None:
    secret = {key: f"secret-{key}" for key in ENGINE.internal(database(), {})} if ENGINE.internal else {}
    assert secret
    text = msgspec.json.encode(ENGINE.plan(database(replicas=3), Inputs(platform=PLATFORM, internal=secret))).decode()
    assert not [value for value in secret.values() if value in text]


def test_internal_is_made_once() -> None:
    assert ENGINE.internal is not None
    first = ENGINE.internal(database(), {})
    assert sorted(first) == ["cluster-id", "operator-password", "replica-password", "sentinel-password"]
    assert ENGINE.internal(database(), first) == {}
    assert set(ENGINE.internal(database(), {"cluster-id": "x"})) == set(first) - {"cluster-id"}


def test_credentials() -> None:
    alone = ENGINE.credentials(database(), "p@ss:/ü", PLATFORM)
    assert alone == {
        "type": "redis",
        "provider": "database-operator",
        "host": "cache-service.shop.svc.cluster.local",
        "port": "6379",
        "username": "default",
        "password": "p@ss:/ü",
        "database": "0",
        "uri": "redis://default:p%40ss%3A%2F%C3%BC@cache-service.shop.svc.cluster.local:6379/0",
    }
    three = ENGINE.credentials(database(replicas=3), "x", PLATFORM)
    assert {key: three[key] for key in three if key not in alone} == {
        "sentinel-host": "cache-sentinel.shop.svc.cluster.local",
        "sentinel-master": "mymaster",
        "ro-host": "cache-ro.shop.svc.cluster.local",
        "ro-uri": "redis://default:x@cache-ro.shop.svc.cluster.local:6379/0",
    }


def test_probes_ask_the_database_and_hold_no_password() -> None:
    container = plan(database())["StatefulSet", "cache"]["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["exec"]["command"][:6] == ["redis-cli", "--no-auth-warning", "--user", "operator", "-e", "EVAL_RO"]
    old = plan(database(version="6.2"))["StatefulSet", "cache"]["spec"]["template"]["spec"]["containers"][0]
    assert "-e" not in old["readinessProbe"]["exec"]["command"]


def test_the_user_s_resources_are_not_the_sentinels() -> None:
    children = plan(database(replicas=3, resources={"memory": "4Gi"}, env=[{"name": "TZ", "value": "UTC"}]))
    container = children["StatefulSet", "cache-sentinel"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"]["memory"] == "32Mi"
    assert "TZ" not in [variable["name"] for variable in container["env"]]


@pytest.mark.parametrize(
    ("name", "written", "shown"),
    [
        ("maxmemory", "64MB", "67108864"),
        ("maxmemory", "64m", "64000000"),
        ("maxmemory", "0", "0"),
        ("appendonly", "YES", "yes"),
        ("notify-keyspace-events", "AKE", "g$lshzxetdKE"),
        ("notify-keyspace-events", "Ex$", "$xE"),
        ("save", '""', ""),
        ("save", "900  1", "900 1"),
        ("slowlog-log-slower-than", "-1", "-1"),
        (
            "client-output-buffer-limit",
            "replica 1gb 1mb 060 normal 0 0 0",
            "normal 0 0 0 slave 1073741824 1048576 60 pubsub 33554432 8388608 60",
        ),
    ],
)
def test_canonical_values(name: str, written: str, shown: str) -> None:
    assert LIVE[name].canonical(written) == shown
    assert LIVE[name].canonical(shown) == shown


def test_changed_shows_only_what_differs_from_the_defaults() -> None:
    answer = {name: default(name) for name in LIVE} | {"maxmemory": "5", "databases": "16", "masterauth": "secret"}
    assert changed(answer) == {"maxmemory": "5"}
