"""PostgreSQL's settings: Patroni's configuration, what is derived, what is refused. Pure."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from database_operator.api import quantity
from database_operator.api.database import Resolved
from database_operator.api.refusals import Problem, effective, refused, refused_env
from database_operator.api.spec import Synchronous
from database_operator.build import constants as c
from database_operator.build import labels, names
from database_operator.engines.postgresql.refusals import (
    ALLOWED_LIBRARIES,
    IMAGE_LIBRARIES,
    OWNED_ENV,
    OWNED_PARAMETERS,
    RESERVED_DATABASES,
    RESERVED_USERS,
)

PORT = 5432
SUPERUSER = "postgres"
REPLICATION_USER = "operator_replication"
MONITOR_USER = "operator_monitor"
OPERATOR_DATABASE = "operator"  # where our own SQL runs: no tenant can define a name in it
SOCKET_PATH = "/var/run/postgresql"

PATRONI_FILE = "patroni.json"
DATABASE_FILE = "database.json"
PARAMETERS_PATH = "spec.postgresql.parameters"

OLDEST, NEWEST = 14, 18
DEFAULT_MEMORY_MEBIBYTES = 512
WAL_DEFAULT_MEBIBYTES = 1024  # PostgreSQL's own max_wal_size

Dynamic = dict[str, Any]  # Patroni's dynamic configuration, as ``GET /config`` answers it

_TAG = re.compile(r"^(?P<major>[0-9]{1,2})(?:\.[0-9]+)*(?:(?:beta|rc)[0-9]+)?(?:-.*)?$")
_NAME = re.compile(r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_$]*)*$")

# Patroni replaces a smaller value by its default without a word to the user (patroni/postgresql/config.py, CMDLINE_OPTIONS)
MINIMA = {
    "max_connections": 25,
    "max_wal_senders": 3,
    "max_prepared_transactions": 0,
    "max_locks_per_transaction": 32,
    "max_replication_slots": 4,
    "max_worker_processes": 2,
}
BOUNDS = (
    *((name, f"whole numbers of at least {least}") for name, least in MINIMA.items()),
    ("shared_preload_libraries", f"{', '.join(ALLOWED_LIBRARIES)}; with an image of your own also {', '.join(IMAGE_LIBRARIES)}"),
    ("synchronous_commit", "off and local only while spec.postgresql.synchronous is not Required"),
    ("wal_level", "replica, logical"),
)
# a hot standby must not have less of these than the primary (postgresql.org/docs/current/hot-standby.html)
STANDBY_BOUND = ("max_connections", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction", "max_worker_processes")


def major(version: str) -> str | None:
    """``16`` of ``16``, ``16.4``, ``16.4-bookworm``, ``18beta1``; None for a tag that is no version."""
    match = _TAG.match(version)
    return match["major"] if match else None


def data_path(version: str) -> str:
    """Where the volume is mounted. The images declare another place from 18 on (docker-library/postgres#1259)."""
    number = major(version)
    return "/var/lib/postgresql/data" if number is not None and int(number) < 18 else "/var/lib/postgresql"


def parameters(database: Resolved) -> dict[str, str | int]:
    """The user's, by lower-case name: PostgreSQL ignores the case, and so must every refusal."""
    return {name.lower(): value for name, value in database.postgresql.parameters.items()}


def _derived(database: Resolved) -> dict[str, str]:
    """Our own defaults, and what follows from memory and volume; a parameter of the user wins over each."""
    limit = database.spec.resources.memory_limit
    memory = quantity.mebibytes(limit) if limit else DEFAULT_MEMORY_MEBIBYTES
    volume = quantity.mebibytes(database.spec.storage.size)
    derived = {
        # a standby that is cut off or hangs holds up every commit that waits for it until the primary gives it up: a minute by default
        "wal_sender_timeout": "10s",
        "wal_receiver_timeout": "10s",
        "shared_buffers": f"{max(memory // 4, 1)}MB",
        # a replica that is gone must not fill the primary's disk with WAL; past this it is cloned anew
        "max_slot_wal_keep_size": f"{max(volume * 3 // 10, 64)}MB",
    }
    if volume // 8 < WAL_DEFAULT_MEBIBYTES:
        derived["max_wal_size"] = f"{max(volume // 8, 96)}MB"
    return derived


def server_parameters(database: Resolved) -> dict[str, str]:
    """``postgresql.parameters`` of the dynamic configuration: ours that may be overruled, the user's, ours that may not."""
    user = {name: str(value) for name, value in effective(parameters(database), OWNED_PARAMETERS).items()}
    owned = {
        "archive_mode": "on",  # turning it on later would be a restart of everybody
        "archive_command": "/bin/true",  # a command that succeeds: an empty one keeps all WAL
        "password_encryption": "scram-sha-256",
    }
    merged = {"wal_level": "replica"} | _derived(database) | user | owned
    return {name: merged[name] for name in sorted(merged)}


def timing(members: int) -> dict[str, int]:
    """Patroni's clock, in seconds.

    ``loop_wait + 2 * retry_timeout <= ttl`` and ``ttl >= 20`` are Patroni's own rules (dynamic_configuration.rst). A
    single member has nobody to hand over to: a slow clock saves the API server its writes.
    """
    if members > 1:
        return {"ttl": 20, "loop_wait": 5, "retry_timeout": 5}
    return {"ttl": 90, "loop_wait": 30, "retry_timeout": 30}


def dynamic(database: Resolved, members: int, strict: bool = False, standbys: int = 1) -> Dynamic:
    """The dynamic configuration wanted while there are ``members``, of which ``standbys`` shall be synchronous.

    ``strict``: writes wait where there is none. A Database on its way to one member lets its standbys go first.
    """
    synchronous = database.postgresql.synchronous is not Synchronous.DISABLED and min(members, database.spec.replicas) > 1
    return timing(members) | {
        "failsafe_mode": True,  # the API server's absence alone demotes nobody
        "maximum_lag_on_failover": 1048576,  # bytes
        # failing over at once loses nothing only where a standby has all that was acknowledged
        "primary_start_timeout": 0 if synchronous else 300,
        "synchronous_mode": synchronous,
        "synchronous_mode_strict": synchronous and strict,
        "synchronous_node_count": standbys,
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "remove_data_directory_on_diverged_timelines": True,
            "remove_data_directory_on_rewind_failure": True,
            "parameters": server_parameters(database),
        },
    }


def patch(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> Dynamic:
    """What ``PATCH /config`` must carry to turn ``current`` into ``wanted``; empty where nothing differs.

    Parameters that nobody wants any more become null, which takes them out. Other keys that an administrator set by
    ``patronictl`` (``pause``, ``slots``) are left alone.
    """
    found = {key: value for key, value in wanted.items() if key != "postgresql" and current.get(key) != value}
    ours, theirs = wanted["postgresql"], current.get("postgresql") or {}
    section = {key: value for key, value in ours.items() if key != "parameters" and theirs.get(key) != value}
    in_force = {name: value if value is None else str(value) for name, value in (theirs.get("parameters") or {}).items()}
    changed: dict[str, str | None] = {name: value for name, value in ours["parameters"].items() if in_force.get(name) != value}
    changed |= dict.fromkeys(sorted(in_force.keys() - ours["parameters"].keys()))
    if changed:
        section["parameters"] = changed
    return found | ({"postgresql": section} if section else {})


def host_rules(username: str) -> list[str]:
    """pg_hba.conf: passwords from outside, the operating system's word for the superuser inside the pod.

    The agent turns ``peer`` into ``scram-sha-256`` where the image knows its user by another name than ``postgres``.
    """
    superuser = [] if username == SUPERUSER else [f"host all {SUPERUSER} all reject"]
    return [
        f"local all {SUPERUSER} peer",
        f"local replication {REPLICATION_USER} scram-sha-256",
        f"local {OPERATOR_DATABASE} {MONITOR_USER} scram-sha-256",
        f"local all {REPLICATION_USER},{MONITOR_USER} reject",
        f"local {OPERATOR_DATABASE} all reject",
        "local all all scram-sha-256",
        f"host replication {REPLICATION_USER} all scram-sha-256",
        "host replication all all reject",
        f"host {OPERATOR_DATABASE} {REPLICATION_USER},{MONITOR_USER} all scram-sha-256",
        f"host all {REPLICATION_USER},{MONITOR_USER} all reject",
        f"host {OPERATOR_DATABASE} all all reject",
        *superuser,
        "host all all all scram-sha-256",
    ]


def patroni(database: Resolved, formed: bool) -> Dynamic:
    """Patroni's local configuration but for what only the pod knows: its name, its address and the passwords.

    Without a ``bootstrap`` section Patroni never makes a new database: where data was ``formed``, an empty volume
    waits to be cloned.
    """
    pod_labels = labels.pod_selector(database)
    configuration: Dynamic = {
        "scope": names.scope(database.name),
        "restapi": {"listen": f"*:{c.AGENT_PORT}"},
        "kubernetes": {
            "namespace": database.namespace,
            "use_endpoints": False,
            "labels": {key: value for key, value in sorted(pod_labels.items()) if key != c.SCOPE},
            "scope_label": c.SCOPE,
            "role_label": c.ROLE,
            "leader_label_value": "primary",
            "follower_label_value": "replica",
            "standby_leader_label_value": "replica",
        },
        "postgresql": {
            "listen": f"*:{PORT}",
            "database": OPERATOR_DATABASE,
            "use_unix_socket": True,
            "use_unix_socket_repl": True,
            "parameters": {"unix_socket_directories": SOCKET_PATH},
            "pg_hba": host_rules(database.postgresql.username),
            "basebackup": ["checkpoint=fast"],
        },
    }
    if not formed:
        initdb = ["data-checksums", {"encoding": "UTF8"}, {"locale": "C.UTF-8"}, {"auth-host": "scram-sha-256"}, {"auth-local": "peer"}]
        configuration["bootstrap"] = {"dcs": dynamic(database, max(database.spec.replicas, 1)), "initdb": initdb}
    return configuration


def settings(database: Resolved, formed: bool) -> dict[str, str]:
    """The files of ``<name>-settings``: no secret is in them, and equal specs give equal bytes."""
    own = {
        "database": database.postgresql.database,
        "username": database.postgresql.username,
        "major": major(database.spec.version),
        "mount": data_path(database.spec.version),
    }
    return {PATRONI_FILE: _text(patroni(database, formed)), DATABASE_FILE: _text(own)}


def _text(value: Dynamic) -> str:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2).decode() + "\n"


def _version_problems(database: Resolved) -> list[Problem]:
    version = database.spec.version
    number = major(version)
    if "alpine" in version:
        return [Problem("spec.version", "Alpine images lack glibc, which the agent needs; use the tag without -alpine")]
    if number is not None and not OLDEST <= int(number) <= NEWEST:
        return [Problem("spec.version", f"PostgreSQL {number} is not supported; use {OLDEST} to {NEWEST}")]
    return []


def _name_problems(database: Resolved) -> list[Problem]:
    section = database.postgresql
    found = []
    for field, name, reserved in (
        ("database", section.database, RESERVED_DATABASES),
        ("username", section.username, RESERVED_USERS),
    ):
        path = f"spec.postgresql.{field}"
        if len(name.encode()) > 63:
            found.append(Problem(path, "must be at most 63 bytes: PostgreSQL cuts longer names"))
        if not name.isprintable() or name != name.strip():
            found.append(Problem(path, "must hold printable characters only, with no space at either end"))
        if name.lower() in reserved or name.startswith("pg_"):
            found.append(Problem(path, f"{name} is reserved; choose another name"))
    return found


def _library_problems(database: Resolved) -> list[Problem]:
    value = str(parameters(database).get("shared_preload_libraries", ""))
    allowed = ALLOWED_LIBRARIES + (IMAGE_LIBRARIES if database.spec.image else ())
    wanted = [name.strip().strip("\"'") for name in value.split(",") if name.strip()]
    path = f"{PARAMETERS_PATH}.shared_preload_libraries"
    return [
        Problem(path, f"{name[:63]!r} is not on the list ({', '.join(allowed)}): it would run code in the server, or keep it from starting")
        for name in wanted
        if name not in allowed
    ]


def _value_problems(name: str, value: str) -> list[Problem]:
    path = f"{PARAMETERS_PATH}.{name}"
    if not _NAME.match(name):
        return [Problem(path, "is no name of a parameter: letters, digits, '_' and '.' only")]
    if any(character in value for character in "\n\r\0"):
        return [Problem(path, "must not hold a line break or NUL; remove it")]
    if name in MINIMA and (not value.isdigit() or int(value) < MINIMA[name]):
        return [Problem(path, f"must be a whole number of at least {MINIMA[name]}")]
    if name == "wal_level" and value not in ("replica", "logical"):
        return [Problem(path, "must be replica or logical: replicas stream it")]
    return []


def _parameter_problems(database: Resolved) -> list[Problem]:
    found = refused(parameters(database), OWNED_PARAMETERS, PARAMETERS_PATH)
    for name, value in sorted(parameters(database).items()):
        found += _value_problems(name, str(value))
    if len(parameters(database)) < len(database.postgresql.parameters):
        found.append(Problem(PARAMETERS_PATH, "a parameter is given twice: PostgreSQL ignores the case of names; keep one"))
    weak = str(parameters(database).get("synchronous_commit", "on")).lower() in ("off", "local", "false", "no", "0")
    if weak and database.postgresql.synchronous is Synchronous.REQUIRED:
        found.append(Problem(f"{PARAMETERS_PATH}.synchronous_commit", "contradicts synchronous: Required; remove one of them"))
    return found


def problems(database: Resolved) -> list[Problem]:
    """What the schema and CEL cannot say."""
    env = refused_env([variable.name for variable in database.spec.env], OWNED_ENV)
    return _version_problems(database) + _name_problems(database) + env + _parameter_problems(database) + _library_problems(database)
