"""SQLite behind an HTTP server: one member, one file."""

from collections.abc import Mapping
from urllib.parse import quote

from database_operator.api.database import Resolved
from database_operator.api.spec import EngineType
from database_operator.build import names
from database_operator.engines.base import Engine, Platform
from database_operator.engines.sqlite import config
from database_operator.engines.sqlite.health import troubles
from database_operator.engines.sqlite.plan import PORT, major, official_image, plan
from database_operator.engines.sqlite.topology import topology

USERNAME = "token"  # the server looks at the token alone


def parameters(database: Resolved) -> Mapping[str, str | int]:
    return database.sqlite.parameters


def credentials(database: Resolved, password: str, platform: Platform) -> dict[str, str]:
    """The data of ``<name>-credentials``. The URI works as it stands: the token is taken as Basic password too."""
    host = f"{names.service(database.name)}.{database.namespace}.svc.{platform.cluster_domain}"
    return {
        "type": "sqlite",
        "provider": "database-operator",
        "host": host,
        "port": str(PORT),
        "username": USERNAME,
        "password": password,
        "database": database.sqlite.database_file,
        "uri": f"http://{USERNAME}:{quote(password, safe='')}@{host}:{PORT}/",
    }


def connection_string(database: Resolved, host: str) -> str:
    return f"http://<username>:<password>@{host}:{PORT}"


ENGINE = Engine(
    type=EngineType.SQLITE,
    provider="sqlite",
    title="SQLite",
    port=PORT,
    app_protocol="http",
    official_image=official_image,
    data_path=lambda version: config.DATA_PATH,
    major=major,
    problems=config.problems,
    parameters=parameters,
    owned_parameters=config.OWNED_PARAMETERS,
    owned_env=config.OWNED_ENV,
    internal=None,
    credentials=credentials,
    connection_string=connection_string,
    plan=plan,
    topology=topology,
    troubles=troubles,
    switchover=None,
    rebuild=None,
    read_only_service=False,
    probe_seconds=lambda database: 300.0,
    agent_rules=None,
    workload="Deployment",
    tag_is_version=False,
)
