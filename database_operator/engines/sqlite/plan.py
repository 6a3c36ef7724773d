"""SQLite's children: claim, Deployment, Service, settings. Pure."""

from database_operator.api.database import Resolved
from database_operator.build import constants as c
from database_operator.build import image, labels, names
from database_operator.build.manifest import Manifest
from database_operator.build.pod import PodParts
from database_operator.build.service import Port, service
from database_operator.build.settings import settings
from database_operator.build.workload import single_deployment
from database_operator.engines.base import Inputs
from database_operator.engines.sqlite import config

PORT = 8080
GRACE_SECONDS = 30
STARTUP_SECONDS = 3600  # a VACUUM of a large file


def official_image(version: str) -> str:
    return f"nouchka/sqlite3:{version}"


def major(version: str) -> str | None:
    """None for every tag: the SQLite that serves is the agent's, and the file's format has been 3 since 2004.

    Source: https://www.sqlite.org/formatchng.html.
    """
    return None


def _http_probe(path: str, period: int, failures: int, timeout: int = 3) -> Manifest:
    return {
        "httpGet": {"path": path, "port": c.DATABASE},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def pod_parts(database: Resolved, inputs: Inputs) -> PodParts:
    return PodParts(
        image=image.reference(database, official_image(database.spec.version), inputs.platform.image_registry),
        agent_image=inputs.platform.agent_image,
        command=[c.AGENT_PROGRAM, "sqlite", "run"],
        grace_seconds=GRACE_SECONDS,
        data_path=config.DATA_PATH,
        ports={c.DATABASE: PORT},
        env=[{"name": "SQLITE_DATABASE", "value": database.sqlite.database_file}],
        readiness=_http_probe("/-/healthz", period=5, failures=3),
        # answered by the event loop alone: a locked or full database is no reason to kill the server
        liveness=_http_probe("/-/livez", period=10, failures=6, timeout=5),
        startup=_http_probe("/-/livez", period=2, failures=STARTUP_SECONDS // 2),
        internal=False,
        inputs=config.restart_inputs(database),
        secret_versions=inputs.secret_versions,
        claim=names.single_claim(database.name),
    )


def plan(database: Resolved, inputs: Inputs) -> list[Manifest]:
    port = Port(PORT, app_protocol="http")
    return [
        settings(database, {config.SETTINGS_FILE: config.settings(database)}),
        service(database, names.service(database.name), [port], labels.service_selector(database), database.spec.service),
        *single_deployment(database, pod_parts(database, inputs)),
    ]
