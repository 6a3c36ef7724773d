"""Redis: one member, several under Sentinel, or a Redis Cluster."""

import secrets
from collections.abc import Mapping
from urllib.parse import quote

from database_operator.api.database import Resolved
from database_operator.api.spec import EngineType, RedisMode
from database_operator.build import labels, names
from database_operator.build.redisconf import MASTER_NAME
from database_operator.engines.base import Engine, Platform
from database_operator.engines.redis import config
from database_operator.engines.redis.health import troubles
from database_operator.engines.redis.plan import AGENT_RULES, official_image, plan
from database_operator.engines.redis.requests import rebuild, switchover
from database_operator.engines.redis.topology import topology

USERNAME = "default"  # the user of clients that send a password alone, as with the official image's requirepass
_LOGINS = ("operator-password", "replica-password", "sentinel-password")


def parameters(database: Resolved) -> Mapping[str, str | int]:
    return config.given(database)


def internal(database: Resolved, existing: Mapping[str, str]) -> dict[str, str]:
    """Passwords of the operator, of replication and of Sentinel, and an identity: Redis itself has none that lasts."""
    made = {key: secrets.token_hex(24) for key in _LOGINS if key not in existing}
    return made | ({} if "cluster-id" in existing else {"cluster-id": secrets.token_hex(20)})


def credentials(database: Resolved, password: str, platform: Platform) -> dict[str, str]:
    """The data of ``<name>-credentials``."""
    domain = f"{database.namespace}.svc.{platform.cluster_domain}"
    host = f"{names.service(database.name)}.{domain}"
    login = f"{USERNAME}:{quote(password, safe='')}"
    found = {
        "type": "redis",
        "provider": "database-operator",
        "host": host,
        "port": str(config.PORT),
        "username": USERNAME,
        "password": password,
        "database": "0",
        "uri": f"redis://{login}@{host}:{config.PORT}/0",
    }
    if database.redis.mode is RedisMode.SENTINEL:
        found |= {"sentinel-host": f"{names.sentinel(database.name)}.{domain}", "sentinel-master": MASTER_NAME}
        if database.spec.replicas > 1:
            replicas = f"{names.read_only_service(database.name)}.{domain}"
            found |= {"ro-host": replicas, "ro-uri": f"redis://{login}@{replicas}:{config.PORT}/0"}
    return found


def connection_string(database: Resolved, host: str) -> str:
    return f"redis://<username>:<password>@{host}:{config.PORT}/0"


def probe_seconds(database: Resolved) -> float:
    """Sentinel's moves show as events of pods and labels; a cluster's do not."""
    return 30.0 if database.redis.mode is RedisMode.CLUSTER and database.spec.replicas > 1 else 300.0


ENGINE = Engine(
    type=EngineType.REDIS,
    provider="redis",
    title="Redis",
    port=config.PORT,
    app_protocol="redis",
    official_image=official_image,
    data_path=lambda version: config.DATA_PATH,
    major=config.major,
    problems=config.problems,
    parameters=parameters,
    owned_parameters=config.OWNED_PARAMETERS,
    owned_env=config.OWNED_ENV,
    internal=internal,
    credentials=credentials,
    connection_string=connection_string,
    plan=plan,
    topology=topology,
    troubles=troubles,
    switchover=switchover,
    rebuild=rebuild,
    read_only_service=True,
    probe_seconds=probe_seconds,
    agent_rules=AGENT_RULES,
    sharded=lambda database: database.redis.mode is RedisMode.CLUSTER,
    helpers=lambda database: {"sentinels": labels.SENTINEL_COMPONENT} if database.redis.mode is RedisMode.SENTINEL else {},
)
