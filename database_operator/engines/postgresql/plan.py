"""PostgreSQL's children: the agent's account, settings, Services, the members, the disruption budget. Pure."""

from database_operator.api.database import Resolved
from database_operator.build import constants as c
from database_operator.build import image, labels, names
from database_operator.build.access import agent_access
from database_operator.build.manifest import Manifest
from database_operator.build.pod import PodParts, field_env
from database_operator.build.service import Port, disruption_budget, headless, service
from database_operator.build.settings import settings
from database_operator.build.workload import stateful_set
from database_operator.engines.base import Inputs
from database_operator.engines.postgresql import config

GRACE_SECONDS = 120  # a shutdown checkpoint, and handing over
STARTUP_SECONDS = 3600
MOST_MEMBERS = 10
RUN_VOLUME, SHM_VOLUME = "run", "shm"

# what the agent's Role may contain: with `resourceNames` where the API server can hold requests to a name
_POD_VERBS, _CONFIG_VERBS = ["get", "patch"], ["get", "patch", "update"]
AGENT_RULES: tuple[Manifest, ...] = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "patch", "watch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "list", "patch", "update", "watch"]},
)


def official_image(version: str) -> str:
    return f"postgres:{version}"


def agent_rules(database: Resolved) -> list[Manifest]:
    """The Role of this Database's members: their own pods and Patroni's four ConfigMaps.

    ``create``, ``list`` and ``watch`` cannot be narrowed to names.
    """
    workload, scope = names.workload(database.name), names.scope(database.name)
    pods = [f"{workload}-{ordinal}" for ordinal in range(MOST_MEMBERS)]
    objects = [f"{scope}-{suffix}" for suffix in ("config", "failover", "leader", "sync")]
    return [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "resourceNames": pods, "verbs": _POD_VERBS},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": objects, "verbs": _CONFIG_VERBS},
    ]


def _probe(path: str, period: int, failures: int, timeout: int = 5) -> Manifest:
    return {
        "httpGet": {"path": path, "port": c.AGENT},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _environment(database: Resolved) -> list[Manifest]:
    section = database.postgresql
    return [
        {"name": "POSTGRES_DB", "value": section.database.replace("$(", "$$(")},
        {"name": "POSTGRES_USER", "value": section.username.replace("$(", "$$(")},
        field_env("POD_NAME", "metadata.name"),
        field_env("POD_IP", "status.podIP"),
    ]


def pod_parts(database: Resolved, inputs: Inputs) -> PodParts:
    """The memory volumes: sockets and the one file with passwords, and shared memory beyond a container's 64 MiB for parallel queries.

    Only the loop of Patroni decides about liveness: recovery and a clone may take hours. An answer may be late there, as on a
    node with too little CPU, where a restart of every member would make it worse; a hung Patroni goes after 30 s as before.
    """
    return PodParts(
        image=image.reference(database, official_image(database.spec.version), inputs.platform.image_registry),
        agent_image=inputs.platform.agent_image,
        command=[c.AGENT_PROGRAM, "postgresql", "run"],
        grace_seconds=GRACE_SECONDS,
        data_path=config.data_path(database.spec.version),
        ports={c.DATABASE: config.PORT, c.AGENT: c.AGENT_PORT},
        env=_environment(database),
        readiness=_probe("/readiness", period=2, failures=3),
        liveness=_probe("/liveness", period=10, failures=3, timeout=10),
        startup=_probe("/liveness", period=1, failures=STARTUP_SECONDS),
        mounts=[{"name": RUN_VOLUME, "mountPath": config.SOCKET_PATH}, {"name": SHM_VOLUME, "mountPath": "/dev/shm"}],  # noqa: S108
        volumes=[
            {"name": RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
            {"name": SHM_VOLUME, "emptyDir": {"medium": "Memory"}},
        ],
        agent_account=True,
        secret_versions=inputs.secret_versions,
    )


def plan(database: Resolved, inputs: Inputs) -> list[Manifest]:
    port = Port(config.PORT, app_protocol="postgresql")
    several = database.spec.replicas > 1
    children = [
        *agent_access(database, agent_rules(database)),
        settings(database, config.settings(database, inputs.formed)),
        service(
            database,
            names.service(database.name),
            [port],
            labels.service_selector(database, role="primary"),
            database.spec.service,
        ),
        headless(database, names.members_service(database.name), [port, Port(c.AGENT_PORT, name=c.AGENT, app_protocol="http")]),
    ]
    if several:
        selector = labels.service_selector(database, role="replica")
        children.append(service(database, names.read_only_service(database.name), [port], selector, database.spec.service.read_only))
    children.append(stateful_set(database, pod_parts(database, inputs)))
    if several:
        children.append(disruption_budget(database))
    return children
