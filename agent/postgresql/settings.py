"""Patroni's whole configuration: the operator's part, and what only the pod knows."""

import ipaddress
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, json

from agent.postgresql.layout import Layout, Server, wanted

SUPERUSER = "postgres"
REPLICATION_USER = "operator_replication"
MONITOR_USER = "operator_monitor"
REST_USER = "operator"
OPERATOR_DATABASE = "operator"


class Logins(Struct, frozen=True, kw_only=True):
    """Every password this member knows. Never logged: its repr says nothing."""

    username: str
    database: str
    password: str
    superuser: str
    replication: str
    monitor: str
    rest: str

    def __repr__(self) -> str:
        return "Logins(...)"


def _read(folder: Path, key: str) -> str:
    return (folder / key).read_text(encoding="utf-8")


def logins(layout: Layout) -> Logins:
    """Raises OSError while a Secret is not mounted as it should be."""
    specification = wanted(layout)
    password = _read(layout.credentials, "password")
    own = _read(layout.internal, "superuser-password")
    return Logins(
        username=specification.username,
        database=specification.database,
        password=password,
        superuser=password if specification.username == SUPERUSER else own,
        replication=_read(layout.internal, "replication-password"),
        monitor=_read(layout.internal, "monitor-password"),
        rest=_read(layout.internal, "rest-password"),
    )


def knows_superuser() -> bool:
    """Whether the operating system calls this process's user ``postgres``, as ``peer`` needs it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name == SUPERUSER
    except KeyError:
        return False


def _with_port(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ipaddress.ip_address(address).version == 6 else f"{address}:{port}"


def _port(listen: str) -> str:
    return listen.rpartition(":")[2]


def configuration(layout: Layout, server: Server, environment: Mapping[str, str]) -> dict[str, Any]:
    """What Patroni reads. Raises OSError or KeyError where a mount or a variable of the pod is missing."""
    content: dict[str, Any] = json.decode((layout.settings / "patroni.json").read_bytes())
    known = logins(layout)
    address = environment["POD_IP"]
    content["name"] = environment["POD_NAME"]
    content["kubernetes"]["pod_ip"] = address
    content["restapi"] |= {
        "connect_address": _with_port(address, _port(content["restapi"]["listen"])),
        "authentication": {"username": REST_USER, "password": known.rest},
    }
    replication = {"username": REPLICATION_USER, "password": known.replication}
    content["postgresql"] |= {
        "connect_address": _with_port(address, _port(content["postgresql"]["listen"])),
        "data_dir": str(server.data),
        "bin_dir": str(server.programs),
        "pgpass": str(layout.run / "pgpass"),
        "authentication": {
            "superuser": {"username": SUPERUSER, "password": known.superuser},
            "replication": replication,
            "rewind": replication,
        },
    }
    if not knows_superuser():
        _without_peer(content)
    return content


def _without_peer(content: dict[str, Any]) -> None:
    rules = content["postgresql"]["pg_hba"]
    content["postgresql"]["pg_hba"] = [f"{rule[: -len('peer')]}scram-sha-256" if rule.endswith(" peer") else rule for rule in rules]
    initdb = content.get("bootstrap", {}).get("initdb", [])
    content.get("bootstrap", {})["initdb"] = [{"auth-local": "scram-sha-256"} if "auth-local" in option else option for option in initdb]


def write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, readable by this user alone."""
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.encode(content))
    fresh.replace(path)
