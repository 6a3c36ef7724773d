"""MongoDB: a replica set from one member on, so that there is one way to grow and an oplog from the first day."""

import base64
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import quote

from database_operator.api.database import Resolved
from database_operator.api.spec import EngineType
from database_operator.build import names
from database_operator.engines.base import Engine, Platform
from database_operator.engines.mongodb import config
from database_operator.engines.mongodb.health import troubles
from database_operator.engines.mongodb.plan import APP_PROTOCOL, major, members_domain, official_image, plan
from database_operator.engines.mongodb.refusals import OWNED_ENV, OWNED_PARAMETERS
from database_operator.engines.mongodb.requests import rebuild, switchover
from database_operator.engines.mongodb.topology import topology

KEY_FILE_BYTES = 756  # 1,008 characters of base64; mongod takes 6 to 1,024: mongodb.com/docs/manual/core/security-internal-authentication
SECONDS_SETTLED = 300.0
SECONDS_SEVERAL = 30.0  # no agent labels the pods, so a silent election must be seen by asking


def parameters(database: Resolved) -> Mapping[str, str | int]:
    return database.mongodb.parameters


def internal(database: Resolved, existing: Mapping[str, str]) -> dict[str, str]:
    """The keys of ``<name>-internal`` that are missing: the members' key file, and what the sidecar is asked with and logs in with."""
    made: dict[str, Callable[[], str]] = {
        "keyfile": lambda: base64.b64encode(secrets.token_bytes(KEY_FILE_BYTES)).decode(),
        "agent-password": lambda: secrets.token_urlsafe(32),
        "agent-token": lambda: secrets.token_urlsafe(32),
    }
    return {key: make() for key, make in made.items() if not existing.get(key)}


def _uri(database: Resolved, login: str, hosts: str, options: str = "") -> str:
    """Source of the form and of what has to be encoded: mongodb.com/docs/manual/reference/connection-string."""
    mongodb = database.mongodb
    name, set_name = quote(mongodb.database, safe=""), quote(mongodb.replica_set_name, safe="")
    return f"mongodb://{login}@{hosts}/{name}?authSource=admin&replicaSet={set_name}{options}"


def credentials(database: Resolved, password: str, platform: Platform) -> dict[str, str]:
    """The data of ``<name>-credentials``. The URI names the members: a driver needs one that answers to find them all."""
    mongodb, name = database.mongodb, database.name
    domain = members_domain(database, platform.cluster_domain)
    count = max(1, database.spec.replicas)
    hosts = ",".join(f"{names.workload(name)}-{ordinal}.{domain}:{config.PORT}" for ordinal in range(count))
    login = f"{quote(mongodb.username, safe='')}:{quote(password, safe='')}"
    suffix = f"{database.namespace}.svc.{platform.cluster_domain}"
    data = {
        "type": "mongodb",
        "provider": "database-operator",
        "host": f"{names.service(name)}.{suffix}",
        "port": str(config.PORT),
        "username": mongodb.username,
        "password": password,
        "database": mongodb.database,
        "replica-set": mongodb.replica_set_name,
        "uri": _uri(database, login, hosts),
    }
    if database.spec.replicas > 1:
        host = f"{names.read_only_service(name)}.{suffix}"
        data |= {"ro-host": host, "ro-uri": _uri(database, login, f"{host}:{config.PORT}", "&readPreference=secondaryPreferred")}
    return data


def connection_string(database: Resolved, host: str) -> str:
    return _uri(database, "<username>:<password>", f"{host}:{config.PORT}")


ENGINE = Engine(
    type=EngineType.MONGODB,
    provider="mongodb",
    title="MongoDB",
    port=config.PORT,
    app_protocol=APP_PROTOCOL,
    official_image=official_image,
    data_path=lambda version: config.DATA_PATH,
    major=major,
    problems=config.problems,
    parameters=parameters,
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
    probe_seconds=lambda database: SECONDS_SEVERAL if database.spec.replicas > 1 else SECONDS_SETTLED,
    agent_rules=None,
    bounds=config.BOUNDS,
)
