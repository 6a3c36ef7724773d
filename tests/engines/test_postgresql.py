"""PostgreSQL as pure functions: what is refused, what is planned, what comes next."""

from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patroni.utils import patch_config

from database_operator.api.database import Database, Metadata, Resolved, resolve
from database_operator.api.spec import DatabaseSpec
from database_operator.build import constants as c
from database_operator.build.manifest import Manifest
from database_operator.engines.base import Inputs, Platform
from database_operator.engines.postgresql import ENGINE, config, internal
from database_operator.engines.postgresql.plan import AGENT_RULES

PLATFORM = Platform(agent_image="agent:1")


def database(postgresql: dict[str, Any] | None = None, **spec: Any) -> Resolved:
    content = {"type": "PostgreSQL", "version": "17", "postgresql": postgresql or {}} | spec
    metadata = Metadata(name="orders", namespace="shop", uid="u1")
    return resolve(Database(metadata=metadata, spec=msgspec.convert(content, DatabaseSpec)))


def given_parameters(parameters: dict[str, str | int], **spec: Any) -> Resolved:
    return database({"parameters": parameters}, **spec)


def plan(db: Resolved, **inputs: Any) -> dict[tuple[str, str], Manifest]:
    return {(child["kind"], child["metadata"]["name"]): child for child in ENGINE.plan(db, Inputs(platform=PLATFORM, **inputs))}


def fields(db: Resolved) -> list[str]:
    return [problem.field for problem in ENGINE.problems(db)]


# --- versions and places


@pytest.mark.parametrize(
    ("version", "major", "path"),
    [
        ("14", "14", "/var/lib/postgresql/data"),
        ("17.2-bookworm", "17", "/var/lib/postgresql/data"),
        ("18", "18", "/var/lib/postgresql"),
        ("18beta1", "18", "/var/lib/postgresql"),
        ("18rc1-trixie", "18", "/var/lib/postgresql"),
        ("latest", None, "/var/lib/postgresql"),
        ("bookworm", None, "/var/lib/postgresql"),
    ],
)
def test_version_decides_about_format_and_mount(version: str, major: str | None, path: str) -> None:
    assert (ENGINE.major(version), ENGINE.data_path(version)) == (major, path)
    assert ENGINE.problems(database(version=version)) == []


@pytest.mark.parametrize("version", ["13", "9.6", "19", "16-alpine", "16.4-alpine3.20"])
def test_versions_that_cannot_run_are_refused(version: str) -> None:
    assert fields(database(version=version)) == ["spec.version"]


# --- refusals

REFUSED = {
    "listen_addresses": "127.0.0.1",
    "port": 5433,
    "data_directory": "/etc",
    "hba_file": "/tmp/hba",
    "ssl": "on",
    "ssl_passphrase_command": "reboot",
    "archive_command": "reboot",
    "restore_command": "reboot",
    "archive_library": "x",
    "shared_preload_libraries": "/tmp/x",
    "session_preload_libraries": "x",
    "local_preload_libraries": "x",
    "dynamic_library_path": "/tmp",
    "jit_provider": "x",
    "plperl.on_init": "system('reboot')",
    "primary_conninfo": "host=x",
    "synchronous_standby_names": "*",
    "recovery_target_time": "now",
    "hot_standby": "off",
    "wal_level": "minimal",
    "password_encryption": "md5",
    "fsync": "off",
    "full_page_writes": "off",
    "zero_damaged_pages": "on",
    "logging_collector": "on",
    "log_directory": "/tmp",
    "archive_mode": "off",
    "max_connections": 5,
    "max_wal_senders": "none",
    "work_mem": "4MB\narchive_command='reboot'",
    "application_name": "a\0b",
    "a-b": "1",
    "a.": "1",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("spell", [str, str.upper])
def test_i13_parameters_that_are_ours_or_run_code_are_refused(name: str, spell: Any) -> None:
    problems = ENGINE.problems(given_parameters({spell(name): REFUSED[name]}))
    assert problems
    assert all(problem.field.startswith("spec.postgresql.parameters") and problem.message for problem in problems)


ACCEPTED: dict[str, str | int] = {
    "max_connections": 200,
    "work_mem": "16MB",
    "TimeZone": "Europe/Berlin",
    "shared_preload_libraries": "pg_stat_statements, auto_explain",
    "pg_stat_statements.max": 5000,
    "wal_level": "logical",
    "search_path": '"$user", public, $(reboot) `id`; \'"',
    "synchronous_commit": "off",
}


def test_what_harms_nobody_is_applied() -> None:
    db = given_parameters(ACCEPTED)
    assert ENGINE.problems(db) == []
    in_force = config.server_parameters(db)
    assert {name.lower(): str(value) for name, value in ACCEPTED.items()}.items() <= in_force.items()


def test_our_own_values_are_ignored_and_never_reach_the_server() -> None:
    db = given_parameters({"listen_addresses": "*", "port": 5432, "fsync": "on", "cluster_name": "mine", "archive_mode": "on"})
    assert ENGINE.problems(db) == []
    assert not {"listen_addresses", "port", "fsync", "cluster_name"} & config.server_parameters(db).keys()


def test_a_library_of_an_own_image_needs_that_image() -> None:
    parameters: dict[str, str | int] = {"shared_preload_libraries": "timescaledb"}
    assert fields(given_parameters(parameters)) == ["spec.postgresql.parameters.shared_preload_libraries"]
    assert fields(given_parameters(parameters, image="reg.example/timescale:17")) == []


def test_a_name_given_twice_is_refused() -> None:
    assert "spec.postgresql.parameters" in fields(given_parameters({"work_mem": "4MB", "WORK_MEM": "8MB"}))


def test_i14_required_contradicts_commits_that_do_not_wait() -> None:
    db = database({"synchronous": "Required", "parameters": {"synchronous_commit": "local"}}, replicas=3)
    assert fields(db) == ["spec.postgresql.parameters.synchronous_commit"]


@pytest.mark.parametrize(
    "name",
    ["PGDATA", "PGHOST", "POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS", "PATRONI_SCOPE", "LD_PRELOAD", "PYTHONPATH", "PATH", "POD_IP"],
)
def test_environment_that_would_break_the_container_is_refused(name: str) -> None:
    assert fields(database(env=[{"name": "TZ", "value": "UTC"}, {"name": name, "value": "x"}])) == ["spec.env[1].name"]


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ({"database": "operator"}, "database"),
        ({"database": "template1"}, "database"),
        ({"database": "ä" * 32}, "database"),
        ({"database": "a\nb"}, "database"),
        ({"username": "pg_monitor"}, "username"),
        ({"username": "operator_replication"}, "username"),
        ({"username": "PUBLIC"}, "username"),
        ({"username": " app"}, "username"),
    ],
)
def test_i12_reserved_and_impossible_names_are_refused(section: dict[str, str], field: str) -> None:
    assert fields(database(section)) == [f"spec.postgresql.{field}"]


@pytest.mark.parametrize("name", ['"; DROP ROLE postgres; --', "o'brien", "%s", "$(id)", "Ünïcode", "with space"])
def test_i12_names_with_quotes_are_names(name: str) -> None:
    db = database({"database": name, "username": name})
    assert ENGINE.problems(db) == []
    data = ENGINE.credentials(db, "p@ss:/?#w%", PLATFORM)
    uri = urlsplit(data["uri"])
    assert (unquote(uri.username or ""), unquote(uri.password or ""), unquote(uri.path[1:])) == (name, "p@ss:/?#w%", name)


# --- configuration


def test_equal_specs_give_equal_bytes() -> None:
    one, other = given_parameters({"work_mem": "4MB", "jit": "off"}), given_parameters({"jit": "off", "work_mem": "4MB"})
    assert config.settings(one, False) == config.settings(other, False)


@pytest.mark.parametrize("members", range(11))
def test_patronis_own_rule_of_its_clock_holds(members: int) -> None:
    timing = config.timing(members)
    assert timing["loop_wait"] + 2 * timing["retry_timeout"] <= timing["ttl"] >= 20
    assert timing["loop_wait"] >= 1
    assert timing["retry_timeout"] >= 3


@pytest.mark.parametrize(
    ("resources", "parameters", "wanted"),
    [
        ({}, {}, "128MB"),
        ({"memoryLimit": "2Gi"}, {}, "512MB"),
        ({"memory": "2Gi"}, {}, "128MB"),
        ({"memoryLimit": "2Gi"}, {"Shared_Buffers": "64MB"}, "64MB"),
    ],
)
def test_shared_buffers_follow_the_limit_and_a_parameter_wins(resources: Any, parameters: Any, wanted: str) -> None:
    assert config.server_parameters(given_parameters(parameters, resources=resources))["shared_buffers"] == wanted


@pytest.mark.parametrize(("size", "slots", "wal"), [("10Gi", "3072MB", None), ("1Gi", "307MB", "128MB"), ("100Mi", "64MB", "96MB")])
def test_p11_wal_is_bounded_by_the_volume(size: str, slots: str, wal: str | None) -> None:
    in_force = config.server_parameters(database(storage={"size": size}))
    assert (in_force["max_slot_wal_keep_size"], in_force.get("max_wal_size")) == (slots, wal)


@pytest.mark.parametrize(
    ("synchronous", "members", "strict", "wanted"),
    [
        ("Preferred", 1, False, (False, False, 300)),
        ("Preferred", 3, False, (True, False, 0)),
        ("Required", 3, True, (True, True, 0)),
        ("Required", 3, False, (True, False, 0)),
        ("Disabled", 3, True, (False, False, 300)),
    ],
)
def test_synchronous_mode(synchronous: str, members: int, strict: bool, wanted: tuple[bool, bool, int]) -> None:
    found = config.dynamic(database({"synchronous": synchronous}, replicas=members), members, strict)
    assert (found["synchronous_mode"], found["synchronous_mode_strict"], found["primary_start_timeout"]) == wanted


values = st.one_of(st.integers(-9, 9), st.booleans(), st.text("abc", max_size=3))
names_ = st.sampled_from(["work_mem", "jit", "max_connections", "shared_buffers", "archive_command", "old.one"])
currents = st.fixed_dictionaries(
    {},
    optional={
        "ttl": values,
        "loop_wait": values,
        "pause": st.booleans(),
        "synchronous_mode": values,
        "postgresql": st.fixed_dictionaries({}, optional={"use_slots": values, "parameters": st.dictionaries(names_, values)}),
    },
)


@given(currents, st.dictionaries(st.sampled_from(["work_mem", "jit", "max_connections"]), st.integers(100, 200)), st.integers(1, 4))
def test_i23_a_patch_reaches_the_wanted_and_takes_away_the_rest(current: Any, parameters: Any, members: int) -> None:
    wanted = config.dynamic(given_parameters(parameters), members)
    before = msgspec.json.decode(msgspec.json.encode(current))
    patch_config(current, config.patch(current, wanted))  # what Patroni does with it
    assert config.patch(current, wanted) == {}
    assert current["postgresql"]["parameters"] == wanted["postgresql"]["parameters"]
    assert current.get("pause") == before.get("pause")


def test_an_empty_volume_of_formed_data_waits_for_a_clone() -> None:
    assert "bootstrap" in config.patroni(database(), formed=False)
    assert "bootstrap" not in config.patroni(database(), formed=True)


@pytest.mark.parametrize("username", ["postgres", "app"])
def test_nobody_gets_in_without_a_password_and_the_superuser_not_from_outside(username: str) -> None:
    rules = config.host_rules(username)
    assert not any(rule.endswith("trust") for rule in rules)
    assert ("host all postgres all reject" in rules) == (username != "postgres")
    hosts = [rule for rule in rules if rule.startswith("host replication")]
    assert hosts == ["host replication operator_replication all scram-sha-256", "host replication all all reject"]
    assert all(rule.split()[-1] in ("scram-sha-256", "reject", "peer") for rule in rules)


# --- plan


def test_one_member() -> None:
    assert set(plan(database())) == {
        ("ServiceAccount", "orders-agent"),
        ("Role", "orders-agent"),
        ("RoleBinding", "orders-agent"),
        ("ConfigMap", "orders-settings"),
        ("Service", "orders-service"),
        ("Service", "orders-members"),
        ("StatefulSet", "orders"),
    }


def test_more_members_bring_the_read_only_service_and_the_budget() -> None:
    more = plan(database(replicas=3))
    assert set(more) - set(plan(database())) == {("Service", "orders-ro"), ("PodDisruptionBudget", "orders-pdb")}
    assert more["Service", "orders-service"]["spec"]["selector"][c.ROLE] == "primary"
    assert more["Service", "orders-ro"]["spec"]["selector"][c.ROLE] == "replica"


def test_no_secret_is_in_the_settings() -> None:
    files = plan(database(), internal={"superuser-password": "canary"})["ConfigMap", "orders-settings"]["data"]
    assert "canary" not in str(files)
    assert '"password"' not in str(files)


@pytest.mark.parametrize(
    "changed",
    [
        given_parameters({"max_connections": 200}),
        database({"synchronous": "Required"}, replicas=3),
        database(replicas=3),
        database(storage={"size": "20Gi"}),
    ],
)
def test_what_is_applied_live_restarts_nobody(changed: Resolved) -> None:
    def inputs(db: Resolved) -> str:
        return str(plan(db)["StatefulSet", "orders"]["spec"]["template"]["metadata"]["annotations"][c.INPUTS])

    assert inputs(changed) == inputs(database())
    assert inputs(database(version="17.3")) != inputs(database())


def test_the_role_of_the_agent_is_within_what_the_operator_holds() -> None:
    held = {(rule["resources"][0], verb) for rule in AGENT_RULES for verb in rule["verbs"]}
    for rule in plan(database())["Role", "orders-agent"]["rules"]:
        assert {(rule["resources"][0], verb) for verb in rule["verbs"]} <= held
        if not {"create", "list", "watch"} >= set(rule["verbs"]):
            assert len(rule["resourceNames"]) in (4, 10)


def test_internal_passwords_are_made_once() -> None:
    first = internal(database(), {})
    assert all(len(value) >= 32 for value in first.values())
    assert internal(database(), first) == {}
    assert internal(database(), first | {"rest-password": ""}).keys() == {"rest-password"}


def test_binding() -> None:
    data = ENGINE.credentials(database({"database": "shop", "username": "app"}, replicas=2), "s3cret", PLATFORM)
    assert data["host"] == "orders-service.shop.svc.cluster.local"
    assert data["uri"] == "postgresql://app:s3cret@orders-service.shop.svc.cluster.local:5432/shop"
    assert data["jdbc-uri"] == "jdbc:postgresql://orders-service.shop.svc.cluster.local:5432/shop?user=app&password=s3cret"
    assert data["ro-uri"] == "postgresql://app:s3cret@orders-ro.shop.svc.cluster.local:5432/shop"
    assert "ro-uri" not in ENGINE.credentials(database(), "x", PLATFORM)
    assert ENGINE.connection_string(database(), "h") == "postgresql://<username>:<password>@h:5432/postgres"


def test_p07_a_standby_that_is_cut_off_is_given_up_soon_unless_the_user_says_otherwise() -> None:
    assert config.server_parameters(database())["wal_sender_timeout"] == "10s"
    wanted = given_parameters({"wal_sender_timeout": "1min"})
    assert config.server_parameters(wanted)["wal_sender_timeout"] == "1min"
