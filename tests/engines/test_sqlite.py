"""SQLite as pure functions: what is refused, what is planned, what comes next."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sqlite import settings as agent_settings
from database_operator.api.database import Database, Metadata, Resolved, resolve
from database_operator.api.spec import DatabaseSpec
from database_operator.api.status import Reason, Role
from database_operator.build.manifest import Manifest
from database_operator.build.pragmas import PRAGMAS, canonical
from database_operator.engines.base import Command, Inputs, Member, Observation, Platform, Wait
from database_operator.engines.sqlite import ENGINE, config
from database_operator.engines.sqlite.topology import topology

PLATFORM = Platform(agent_image="agent:1")


def database(sqlite: dict[str, Any] | None = None, **spec: Any) -> Resolved:
    content = {"type": "SQLite", "version": "latest", "sqlite": sqlite or {}} | spec
    metadata = Metadata(name="app", namespace="shop", uid="u1")
    return resolve(Database(metadata=metadata, spec=msgspec.convert(content, DatabaseSpec)))


def plan(db: Resolved) -> dict[str, Manifest]:
    return {child["kind"]: child for child in ENGINE.plan(db, Inputs(platform=PLATFORM))}


def inputs_of(db: Resolved) -> str:
    annotations = plan(db)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    return str(annotations["databases.database-operator.io/inputs"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("writable_schema", "on"),
        ("temp_store_directory", "/etc"),
        ("trusted_schema", "on"),
        ("Trusted_Schema", 1),
        ("load_extension", "x.so"),
        ("key", "secret"),
        ("query_only", 1),
        ("user_version", 3),
        ("no_such_pragma", 1),
        ("journal_mode", "OFF"),
        ("journal_mode", "MEMORY"),
        ("journal_mode", "WAL; DROP TABLE t"),
        ("journal_mode", "WAL\nPRAGMA writable_schema=1"),
        ("synchronous", "sometimes"),
        ("cache_size", "many"),
        ("cache_size", "1e6"),
        ("busy_timeout", -1),
        ("busy_timeout", 10**30),
        ("locking_mode", "EXCLUSIVE"),
    ],
)
def test_refused_parameters_name_their_field(name: str, value: str | int) -> None:
    problems = ENGINE.problems(database({"parameters": {name: value}}))
    assert problems
    assert all(problem.field.startswith("spec.sqlite.parameters") and problem.message for problem in problems)


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({}, {"busy_timeout": "5000", "journal_mode": "wal", "synchronous": "2"}),
        ({"journal_mode": "DELETE"}, {"busy_timeout": "5000", "journal_mode": "delete", "synchronous": "2"}),
        ({"SYNCHRONOUS": 1}, {"busy_timeout": "5000", "journal_mode": "wal", "synchronous": "1"}),
        ({"foreign_keys": "on"}, {"busy_timeout": "5000", "foreign_keys": "1", "journal_mode": "wal", "synchronous": "2"}),
        ({"trusted_schema": "off", "encoding": "UTF-8"}, {"busy_timeout": "5000", "journal_mode": "wal", "synchronous": "2"}),
        ({"cache_size": "-2000"}, {"busy_timeout": "5000", "cache_size": "-2000", "journal_mode": "wal", "synchronous": "2"}),
    ],
)
def test_pragmas(parameters: dict[str, Any], wanted: dict[str, str]) -> None:
    db = database({"parameters": parameters})
    assert ENGINE.problems(db) == []
    assert config.pragmas(db) == wanted


def test_q02_a_volume_of_many_hosts_has_no_wal() -> None:
    many = {"accessMode": "ReadWriteMany"}
    assert config.pragmas(database(storage=many))["journal_mode"] == "delete"
    assert [problem.field for problem in ENGINE.problems(database({"parameters": {"journal_mode": "wal"}}, storage=many))] == [
        "spec.sqlite.parameters.journal_mode"
    ]


def test_doubled_pragma() -> None:
    assert ENGINE.problems(database({"parameters": {"foreign_keys": 1, "FOREIGN_KEYS": 0}}))


@pytest.mark.parametrize("file", ["app.db", "/data/app.db", "/data/a/b/c.sqlite3", "team/app-1.db"])
def test_files(file: str) -> None:
    db = database({"databaseFile": file})
    assert ENGINE.problems(db) == []
    assert db.sqlite.database_file.startswith("/data/")


@pytest.mark.parametrize(
    "file",
    ["../x.db", "/data/../etc/x", "/data/./a", "/data/a b", "/data/$(reboot)", "/data/a-wal", "/data/x.lock", "/data/.hidden", "a?mode=rw"],
)
def test_files_that_are_refused(file: str) -> None:
    assert [problem.field for problem in ENGINE.problems(database({"databaseFile": file}))] == ["spec.sqlite.databaseFile"]


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "SQLITE_DATABASE", "TMPDIR", "DATASETTE_SECRET"])
def test_refused_environment(name: str) -> None:
    assert [problem.field for problem in ENGINE.problems(database(env=[{"name": "TZ"}, {"name": name, "value": "x"}]))] == [
        "spec.env[1].name"
    ]


def test_two_members_are_refused() -> None:
    assert [problem.field for problem in ENGINE.problems(database(replicas=2))] == ["spec.replicas"]


def test_plan_is_pure_and_complete() -> None:
    db = database({"databaseFile": "a/app.db"})
    children = ENGINE.plan(db, Inputs(platform=PLATFORM))
    assert msgspec.json.encode(children) == msgspec.json.encode(ENGINE.plan(db, Inputs(platform=PLATFORM)))
    assert [child["kind"] for child in children] == ["ConfigMap", "Service", "PersistentVolumeClaim", "Deployment"]
    claim, deployment = children[2], children[3]
    assert claim["metadata"]["name"] == "app-data"
    assert "ownerReferences" not in claim["metadata"]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["image"] == "nouchka/sqlite3:latest"
    assert container["command"][1:] == ["sqlite", "run"]
    assert {"name": "SQLITE_DATABASE", "value": "/data/a/app.db"} in container["env"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert all("internal" not in volume["name"] for volume in pod["volumes"])
    assert container["livenessProbe"]["httpGet"]["path"] != container["readinessProbe"]["httpGet"]["path"]


def test_live_pragmas_need_no_new_pod_and_static_ones_do() -> None:
    plain = inputs_of(database())
    assert inputs_of(database({"parameters": {"journal_mode": "delete", "cache_size": 100}})) == plain
    assert inputs_of(database({"parameters": {"auto_vacuum": "full"}})) != plain


def test_a_removed_pragma_goes_back_to_its_default() -> None:
    assert config.settings(database({"parameters": {}})) == config.settings(database())
    assert config.settings(database({"parameters": {"journal_mode": "delete"}})) != config.settings(database())


def test_credentials() -> None:
    data = ENGINE.credentials(database(), "p/w:@ %é", PLATFORM)
    assert set(data) == {"type", "provider", "host", "port", "username", "password", "database", "uri"}
    assert data["uri"] == "http://token:p%2Fw%3A%40%20%25%C3%A9@app-service.shop.svc.cluster.local:8080/"
    assert "p/w" not in ENGINE.connection_string(database(), data["host"])


def member(**facts: Any) -> Member:
    return Member(pod="app-x", ready=True, running=True, reached=True, role=Role.PRIMARY, facts=facts)


DB = database({"parameters": {"foreign_keys": 1}})
IN_FORCE = config.settings_hash(DB)


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ((), None),
        ((member(settings=IN_FORCE, differing=[]),), None),
        ((member(settings="other"),), Command),
        ((member(login="refused"),), Wait),
        ((member(settings=IN_FORCE, differing=["journal_mode"]),), Wait),
        ((msgspec.structs.replace(member(settings="other"), reached=False),), None),
        ((msgspec.structs.replace(member(settings="other"), terminating=True),), None),
        ((msgspec.structs.replace(member(settings="other"), outdated=True),), Wait),
    ],
    ids=["no pod", "settled", "other pragmas", "old token", "not in force", "silent", "leaving", "about to be replaced"],
)
def test_topology(members: tuple[Member, ...], wanted: type | None) -> None:
    action = topology(DB, Observation(members=members))
    assert action is None if wanted is None else isinstance(action, wanted)


def test_configure_carries_what_the_agent_takes() -> None:
    action = topology(DB, Observation(members=(member(settings="other"),)))
    assert isinstance(action, Command)
    assert agent_settings.decode(action.arguments["settings"]).hash == IN_FORCE
    assert agent_settings.decode(action.arguments["settings"]).pragmas == config.pragmas(DB)


def test_what_is_not_in_force_is_named() -> None:
    action = topology(DB, Observation(members=(member(settings=IN_FORCE, differing=["journal_mode"]),)))
    assert isinstance(action, Wait)
    assert action.reason is Reason.UPDATE_PENDING
    assert "journal_mode" in action.message


@given(st.sampled_from(sorted(PRAGMAS)), st.one_of(st.integers(), st.text(max_size=20)))
def test_a_canonical_value_cannot_leave_its_statement(name: str, value: str | int) -> None:
    try:
        text = canonical(name, value)
    except ValueError:
        return
    assert text.removeprefix("-").isascii()
    assert text.removeprefix("-").isalnum()
    assert canonical(name, text) == text
