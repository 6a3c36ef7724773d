"""PostgreSQL under Patroni, from the first member on."""

import secrets
from collections.abc import Mapping
from urllib.parse import quote

from database_operator.api.database import Resolved
from database_operator.api.spec import EngineType
from database_operator.build import names
from database_operator.engines.base import Engine, Platform
from database_operator.engines.postgresql import config
from database_operator.engines.postgresql.health import troubles
from database_operator.engines.postgresql.plan import AGENT_RULES, official_image, plan
from database_operator.engines.postgresql.refusals import OWNED_ENV, OWNED_PARAMETERS
from database_operator.engines.postgresql.requests import rebuild, switchover
from database_operator.engines.postgresql.topology import topology

INTERNAL_KEYS = ("superuser-password", "replication-password", "monitor-password", "rest-password")
PASSWORD_BYTES = 24
PROBE_SECONDS = 300.0  # Patroni's role labels show every change of roles at once


def internal(database: Resolved, existing: Mapping[str, str]) -> dict[str, str]:
    """The passwords of ``<name>-internal`` that are not there yet. Random, so never called for one that exists."""
    return {key: secrets.token_urlsafe(PASSWORD_BYTES) for key in INTERNAL_KEYS if not existing.get(key)}


def _host(database: Resolved, service: str, platform: Platform) -> str:
    return f"{service}.{database.namespace}.svc.{platform.cluster_domain}"


def _uri(database: Resolved, password: str, host: str) -> str:
    section = database.postgresql
    login = f"{quote(section.username, safe='')}:{quote(password, safe='')}"
    return f"postgresql://{login}@{host}:{config.PORT}/{quote(section.database, safe='')}"


def credentials(database: Resolved, password: str, platform: Platform) -> dict[str, str]:
    """The data of ``<name>-credentials``, a service binding (servicebinding.io/spec/core/1.1.0)."""
    section = database.postgresql
    host = _host(database, names.service(database.name), platform)
    query = f"user={quote(section.username, safe='')}&password={quote(password, safe='')}"
    data = {
        "type": "postgresql",
        "provider": "database-operator",
        "host": host,
        "port": str(config.PORT),
        "username": section.username,
        "password": password,
        "database": section.database,
        "uri": _uri(database, password, host),
        "jdbc-uri": f"jdbc:postgresql://{host}:{config.PORT}/{quote(section.database, safe='')}?{query}",
    }
    if database.spec.replicas > 1:
        read_only = _host(database, names.read_only_service(database.name), platform)
        data |= {"ro-host": read_only, "ro-uri": _uri(database, password, read_only)}
    return data


def connection_string(database: Resolved, host: str) -> str:
    return f"postgresql://<username>:<password>@{host}:{config.PORT}/{quote(database.postgresql.database, safe='')}"


ENGINE = Engine(
    type=EngineType.POSTGRESQL,
    provider="postgresql",
    title="PostgreSQL",
    port=config.PORT,
    app_protocol="postgresql",
    official_image=official_image,
    data_path=config.data_path,
    major=config.major,
    problems=config.problems,
    parameters=config.parameters,
    owned_parameters=OWNED_PARAMETERS,
    owned_env=OWNED_ENV,
    internal=internal,
    credentials=credentials,
    connection_string=connection_string,
    plan=plan,
    topology=topology,
    troubles=troubles,
    switchover=switchover,
    rebuild=rebuild,
    read_only_service=True,
    probe_seconds=lambda database: PROBE_SECONDS,
    agent_rules=AGENT_RULES,
    bounds=config.BOUNDS,
    own_config_maps=names.patroni,
)
