"""MongoDB's children: members, Services, settings. Pure."""

from database_operator.api.database import Resolved
from database_operator.build import constants as c
from database_operator.build import image, labels, names
from database_operator.build.manifest import Manifest
from database_operator.build.pod import CONTAINER_SECURITY, PodParts, field_env
from database_operator.build.service import Port, disruption_budget, headless, service
from database_operator.build.settings import settings
from database_operator.build.workload import stateful_set
from database_operator.engines.base import Inputs
from database_operator.engines.mongodb import config

GRACE_SECONDS = 60
STARTUP_SECONDS = 3600  # recovery of a large journal
SIDECAR = "agent-server"
RUN_VOLUME = "run"
APP_PROTOCOL = "mongo"  # as service meshes name it


def official_image(version: str) -> str:
    return f"mongo:{version}"


def major(version: str) -> str | None:
    found = config.version_of(version)
    return str(found[0]) if found else None


def members_domain(database: Resolved, cluster_domain: str) -> str:
    return f"{names.members_service(database.name)}.{database.namespace}.svc.{cluster_domain}"


def _probe(path: str, period: int, failures: int, timeout: int = 5) -> Manifest:
    """Asks the sidecar, which asks mongod."""
    return {
        "httpGet": {"path": path, "port": c.AGENT_PORT},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _sidecar(database: Resolved, inputs: Inputs) -> Manifest:
    """Carries the driver, so that the operator need not, and answers the probes. It starts before mongod and ends after it."""
    domain = members_domain(database, inputs.platform.cluster_domain)
    return {
        "name": SIDECAR,
        "image": inputs.platform.agent_image,
        "command": [c.AGENT_PROGRAM, "mongodb", "sidecar"],
        "restartPolicy": "Always",
        "env": [
            field_env("POD_NAME", "metadata.name"),
            {"name": "MEMBERS_DOMAIN", "value": domain},
            {"name": "MEMBER_HOST", "value": f"$(POD_NAME).{domain}:{config.PORT}"},
            {"name": "REPLICA_SET_NAME", "value": database.mongodb.replica_set_name},
        ],
        "ports": [{"name": c.AGENT, "containerPort": c.AGENT_PORT, "protocol": "TCP"}],
        # its own and sooner than mongod's, which goes through it: a hung sidecar must not cost mongod its life
        "livenessProbe": _probe("/healthz", period=10, failures=6, timeout=10) | {"initialDelaySeconds": 60},
        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": c.DATA_VOLUME, "mountPath": config.DATA_PATH},
            {"name": c.TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108  the container's own
            {"name": c.CREDENTIALS_VOLUME, "mountPath": c.CREDENTIALS_PATH, "readOnly": True},
            {"name": c.INTERNAL_VOLUME, "mountPath": c.INTERNAL_PATH, "readOnly": True},
            {"name": c.TLS_VOLUME, "mountPath": c.TLS_PATH, "readOnly": True},
        ],
    }


def _used_secrets(database: Resolved, inputs: Inputs) -> dict[str, str]:
    """Versions of the Secrets that ``env`` names: a changed password is applied live."""
    references = [variable.value_from.secret_key_ref for variable in database.spec.env if variable.value_from]
    keys = {f"{reference.name}/{reference.key}" for reference in references}
    return {key: version for key, version in sorted(inputs.secret_versions.items()) if key in keys}


def pod_parts(database: Resolved, inputs: Inputs) -> PodParts:
    mongodb = database.mongodb
    return PodParts(
        image=image.reference(database, official_image(database.spec.version), inputs.platform.image_registry),
        agent_image=inputs.platform.agent_image,
        command=[c.AGENT_PROGRAM, "mongodb", "run"],
        grace_seconds=GRACE_SECONDS,
        data_path=config.DATA_PATH,
        ports={c.DATABASE: config.PORT},
        env=[
            {"name": "MONGO_INITDB_ROOT_USERNAME", "value": mongodb.username.replace("$(", "$$(")},
            {"name": "MONGO_INITDB_DATABASE", "value": mongodb.database.replace("$(", "$$(")},
        ],
        readiness=_probe("/readiness", period=5, failures=3),
        liveness=_probe("/liveness", period=10, failures=15, timeout=10),
        startup=_probe("/liveness", period=2, failures=STARTUP_SECONDS // 2, timeout=10),
        mounts=[{"name": RUN_VOLUME, "mountPath": config.RUN_PATH}],
        volumes=[{"name": RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        sidecars=[_sidecar(database, inputs)],
        inputs={"parameters": config.restart_parameters(database), "replicaSetName": mongodb.replica_set_name},
        secret_versions=_used_secrets(database, inputs),
    )


def plan(database: Resolved, inputs: Inputs) -> list[Manifest]:
    port = Port(config.PORT, app_protocol=APP_PROTOCOL)
    published = database.spec.service
    every = labels.service_selector(database)
    children = [
        settings(database, {config.CONFIG_FILE: config.mongod_conf(database)}),
        headless(database, names.members_service(database.name), [port]),
        service(database, names.service(database.name), [port], every, published),
        stateful_set(database, pod_parts(database, inputs)),
    ]
    if database.spec.replicas > 1:
        replicas = labels.service_selector(database, role="replica")
        children.append(service(database, names.read_only_service(database.name), [port], replicas, published.read_only))
        children.append(disruption_budget(database))
    return children
