"""Elasticsearch's children: settings, Services, members. Pure."""

from database_operator.api.database import Resolved
from database_operator.build import constants as c
from database_operator.build import image, labels, names
from database_operator.build.manifest import Manifest
from database_operator.build.pod import PodParts, field_env
from database_operator.build.service import Port, disruption_budget, headless, service
from database_operator.build.settings import settings
from database_operator.build.workload import stateful_set
from database_operator.engines.base import Inputs
from database_operator.engines.elasticsearch import config

GRACE_SECONDS = 120
STARTUP_SECONDS = 3600  # recovery of many shards
LEAVING_SECONDS = 3  # between a pod's end being known and its node closing: Services stop sending to it in that time
TRANSPORT = "transport"


def official_image(version: str) -> str:
    return f"docker.elastic.co/elasticsearch/elasticsearch:{version}"


def _socket(port: str, period: int, failures: int) -> Manifest:
    return {"tcpSocket": {"port": port}, "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures}


def pod_parts(database: Resolved, inputs: Inputs) -> PodParts:
    """Uid 1000 and group 0 are the official image's. Liveness never asks about the cluster; readiness.port opens with a master."""
    return PodParts(
        image=image.reference(database, official_image(database.spec.version), inputs.platform.image_registry),
        agent_image=inputs.platform.agent_image,
        command=[c.AGENT_PROGRAM, "elasticsearch", "run"],
        user=1000,
        group=0,
        grace_seconds=GRACE_SECONDS,
        data_path=config.DATA_PATH,
        ports={c.DATABASE: config.PORT, TRANSPORT: c.TRANSPORT_PORT, c.AGENT: c.AGENT_PORT},
        env=[
            field_env("POD_NAME", "metadata.name"),
            field_env("POD_IP", "status.podIP"),
            {"name": "ES_PATH_CONF", "value": config.CONFIG_PATH},
        ],
        readiness=_socket(c.AGENT, period=5, failures=3),
        liveness=_socket(TRANSPORT, period=10, failures=6),
        startup=_socket(TRANSPORT, period=2, failures=STARTUP_SECONDS // 2),
        lifecycle={"preStop": {"sleep": {"seconds": LEAVING_SECONDS}}},
        mounts=[{"name": "config", "mountPath": config.CONFIG_PATH}, {"name": "logs", "mountPath": config.LOGS_PATH}],
        volumes=[{"name": "config", "emptyDir": {"sizeLimit": "64Mi"}}, {"name": "logs", "emptyDir": {}}],
        inputs=config.restart_inputs(database),
        secret_versions=inputs.secret_versions,
    )


def plan(database: Resolved, inputs: Inputs) -> list[Manifest]:
    http = Port(config.PORT, app_protocol="http")
    transport = Port(c.TRANSPORT_PORT, TRANSPORT, app_protocol="tcp")
    selector = labels.service_selector(database)
    children = [
        settings(database, config.settings_files(database, inputs)),
        service(database, names.service(database.name), [http], selector, database.spec.service),
        headless(database, names.members_service(database.name), [http, transport]),
        stateful_set(database, pod_parts(database, inputs)),
    ]
    return children + ([disruption_budget(database)] if database.spec.replicas > 1 else [])
