"""Elasticsearch: its coordinator elects, the operator forms the cluster once, rolls its nodes and moves data off leaving ones."""

from collections.abc import Mapping
from urllib.parse import quote

from database_operator.api.database import Resolved
from database_operator.api.spec import EngineType
from database_operator.build import names
from database_operator.engines.base import Engine, Platform
from database_operator.engines.elasticsearch import config
from database_operator.engines.elasticsearch.health import troubles
from database_operator.engines.elasticsearch.identity import internal
from database_operator.engines.elasticsearch.plan import official_image, plan
from database_operator.engines.elasticsearch.refused import OWNED_ENV, OWNED_PARAMETERS
from database_operator.engines.elasticsearch.requests import rebuild
from database_operator.engines.elasticsearch.topology import topology

USERNAME = "elastic"
SECONDS_SETTLED, SECONDS_SEVERAL = 300.0, 30.0


def parameters(database: Resolved) -> Mapping[str, str | int]:
    return database.elasticsearch.parameters


def credentials(database: Resolved, password: str, platform: Platform) -> dict[str, str]:
    """The data of ``<name>-credentials``; ``database`` is the cluster's name."""
    host = f"{names.service(database.name)}.{database.namespace}.svc.{platform.cluster_domain}"
    return {
        "type": "elasticsearch",
        "provider": "database-operator",
        "host": host,
        "port": str(config.PORT),
        "username": USERNAME,
        "password": password,
        "database": database.elasticsearch.cluster_name or database.name,
        "uri": f"http://{USERNAME}:{quote(password, safe='')}@{host}:{config.PORT}",
    }


def connection_string(database: Resolved, host: str) -> str:
    return f"http://<username>:<password>@{host}:{config.PORT}"


def probe_seconds(database: Resolved) -> float:
    return SECONDS_SEVERAL if database.spec.replicas > 1 else SECONDS_SETTLED


ENGINE = Engine(
    type=EngineType.ELASTICSEARCH,
    provider="elasticsearch",
    title="Elasticsearch",
    port=config.PORT,
    app_protocol="http",
    official_image=official_image,
    data_path=lambda version: config.DATA_PATH,
    major=config.major,
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
    switchover=None,
    rebuild=rebuild,
    read_only_service=False,
    probe_seconds=probe_seconds,
    agent_rules=None,
)
