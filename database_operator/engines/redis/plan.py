"""Redis' children: settings, Services, members and, in sentinel mode, the Sentinels with their account. Pure."""

from msgspec.structs import replace

from database_operator.api.database import Resolved
from database_operator.api.spec import RedisMode, ResourcesSpec
from database_operator.build import constants as c
from database_operator.build import image, labels, names
from database_operator.build.access import agent_access
from database_operator.build.manifest import Manifest, metadata
from database_operator.build.pod import PodParts, field_env, pod_template, secret_env
from database_operator.build.redisconf import AGENT_FILE, SETTINGS_FILE
from database_operator.build.service import Port, disruption_budget, headless, service
from database_operator.build.settings import settings
from database_operator.build.workload import stateful_set
from database_operator.engines.base import Inputs
from database_operator.engines.redis import config

GRACE_SECONDS = 60
STARTUP_SECONDS = 3600  # a large append-only file is read before the first answer
MOST_MEMBERS = 10
RUN_PATH = "/run/redis"  # what the agent writes anew at every start: logins, and the Sentinels' own file
SENTINEL_PORT = "sentinel"
SENTINEL_RESOURCES = ResourcesSpec(cpu="10m", memory="32Mi", memory_limit="96Mi")

# A member serves once it answers, and a replica once it has its primary's data. LOADING and MASTERDOWN are errors by
# themselves. EVAL_RO is answered while writes are paused; `-e` (7.0) turns an error reply into an exit status.
_IN_SYNC = """\
local answer = redis.call('INFO', 'replication')
if string.find(answer, 'master_link_status:down', 1, true) then
  return redis.error_reply('MASTERDOWN the link to the primary is not up')
end
return 'ready'
"""
_CLUSTER_READY = """\
local answer = redis.call('CLUSTER', 'INFO')
if not string.find(answer, 'cluster_state:ok', 1, true) then
  return redis.error_reply('CLUSTERDOWN the cluster is not complete')
end
"""
_CLI = ("redis-cli", "--no-auth-warning", "--user", "operator")

AGENT_RULES: tuple[Manifest, ...] = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]},  # role labels
    {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get", "patch"]},  # the last election
)


def official_image(version: str) -> str:
    return f"redis:{version}"


def _exec(*command: str) -> Manifest:
    return {"exec": {"command": list(command)}}


def member_readiness(database: Resolved) -> Manifest:
    """redis-cli reads its password from REDISCLI_AUTH, so that none stands in argv."""
    if config.is_before_7(database.spec.version):  # no -e, no EVAL_RO: whether it answers at all
        command = [*_CLI, "--pipe", "--pipe-timeout", "1"]
    else:
        script = _CLUSTER_READY if database.redis.mode is RedisMode.CLUSTER else ""
        command = [*_CLI, "-e", "EVAL_RO", script + _IN_SYNC, "0"]
    return _exec(*command) | {"periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3}


def _socket(port: str, period: int, failures: int) -> Manifest:
    return {"tcpSocket": {"port": port}, "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures}


def _env(database: Resolved) -> list[Manifest]:
    return [
        field_env("POD_NAME", "metadata.name"),
        field_env("POD_NAMESPACE", "metadata.namespace"),
        field_env("POD_IP", "status.podIP"),
        secret_env("REDISCLI_AUTH", names.internal(database.name), "operator-password"),
    ]


def member_parts(database: Resolved, inputs: Inputs) -> PodParts:
    cluster = database.redis.mode is RedisMode.CLUSTER
    return PodParts(
        image=image.reference(database, official_image(database.spec.version), inputs.platform.image_registry),
        agent_image=inputs.platform.agent_image,
        command=[c.AGENT_PROGRAM, "redis", "run"],
        grace_seconds=GRACE_SECONDS,
        data_path=config.DATA_PATH,
        ports={c.DATABASE: config.PORT} | ({"bus": c.BUS_PORT} if cluster else {}),
        env=_env(database),
        readiness=member_readiness(database),
        liveness=_socket(c.DATABASE, period=10, failures=6),
        startup=_socket(c.DATABASE, period=2, failures=STARTUP_SECONDS // 2),
        lifecycle={"preStop": _exec(c.AGENT_PROGRAM, "redis", "prestop")},
        mounts=[{"name": "run", "mountPath": RUN_PATH}],
        volumes=[{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        agent_account=database.redis.mode is RedisMode.SENTINEL,
        inputs={"parameters": config.restart_inputs(database)},
        secret_versions=inputs.secret_versions,
    )


def sentinel_parts(database: Resolved, inputs: Inputs) -> PodParts:
    answers = _exec(*_CLI, "-p", str(c.SENTINEL_PORT), "-e", "PING") | {"periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2}
    readiness = _socket(SENTINEL_PORT, 5, 2) if config.is_before_7(database.spec.version) else answers
    return PodParts(
        image=image.reference(database, official_image(database.spec.version), inputs.platform.image_registry),
        agent_image=inputs.platform.agent_image,
        command=[c.AGENT_PROGRAM, "redis", "sentinel"],
        grace_seconds=10,
        data_path=RUN_PATH,
        ports={SENTINEL_PORT: c.SENTINEL_PORT},
        env=_env(database),
        readiness=readiness,
        liveness=_socket(SENTINEL_PORT, period=10, failures=6),
        startup=_socket(SENTINEL_PORT, period=2, failures=STARTUP_SECONDS // 2),
        volumes=[{"name": c.DATA_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        agent_account=True,
        component=labels.SENTINEL_COMPONENT,
    )


def sentinels(database: Resolved, inputs: Inputs) -> list[Manifest]:
    """Three, whatever ``replicas`` is: fewer have no majority. They hold no data.

    Their StatefulSet rolls them itself, one at a time and Parallel, so that a reverted template heals.
    """
    name = names.sentinel(database.name)
    component = labels.SENTINEL_COMPONENT
    # the user's resources and variables are those of the database container
    bare = replace(database, spec=replace(database.spec, resources=SENTINEL_RESOURCES, env=()))
    head = metadata(database, name, component)
    head["labels"] = labels.workload(database, component)
    workload = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": head,
        "spec": {
            "replicas": config.SENTINELS if database.spec.replicas else 0,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": labels.pod_selector(database, component)},
            "template": pod_template(bare, sentinel_parts(database, inputs)),
        },
    }
    return [headless(database, name, [Port(c.SENTINEL_PORT, SENTINEL_PORT, app_protocol="redis")], component), workload]


def agent_rules(database: Resolved) -> list[Manifest]:
    """``AGENT_RULES``, narrowed to the pods and claims of this Database."""
    pods = [f"{names.workload(database.name)}-{ordinal}" for ordinal in range(MOST_MEMBERS)]
    objects = {"pods": pods, "persistentvolumeclaims": [f"{c.DATA_VOLUME}-{pod}" for pod in pods]}
    return [dict(rule) | {"resourceNames": objects[rule["resources"][0]]} for rule in AGENT_RULES]


def services(database: Resolved, members: int = 0) -> list[Manifest]:
    """``<name>-service`` follows the primary only where Sentinel moves it: alone, a restarted pod needs nobody's label."""
    mode = database.redis.mode
    port = Port(config.PORT, app_protocol="redis")
    role = "primary" if mode is RedisMode.SENTINEL else None
    bus = [Port(c.BUS_PORT, "bus")] if mode is RedisMode.CLUSTER else []
    children = [
        service(database, names.service(database.name), [port], labels.service_selector(database, role=role), database.spec.service),
        headless(database, names.members_service(database.name), [port, *bus]),
    ]
    if mode is RedisMode.SENTINEL and max(database.spec.replicas, members) > 1:
        selector = labels.service_selector(database, role="replica")
        children.append(service(database, names.read_only_service(database.name), [port], selector, database.spec.service.read_only))
    return children


def in_force(database: Resolved, members: int) -> Resolved:
    """``database`` with the mode its members are in: Sentinel stays until only one is left, to move the primary there."""
    if database.redis.mode is not RedisMode.STANDALONE or members < 2 or database.spec.replicas == 0:
        return database
    return replace(database, spec=replace(database.spec, redis=replace(database.redis, mode=RedisMode.SENTINEL)))


def plan(database: Resolved, inputs: Inputs) -> list[Manifest]:
    """The children in the order to apply them."""
    database = in_force(database, inputs.members)
    files = {
        SETTINGS_FILE: config.settings(database),
        AGENT_FILE: config.agent_settings(database, inputs.platform.cluster_domain, formed=inputs.formed),
    }
    children = [settings(database, files), *services(database, inputs.members)]
    if database.redis.mode is RedisMode.SENTINEL:
        children += agent_access(database, agent_rules(database))
        children += sentinels(database, inputs)
    children.append(stateful_set(database, member_parts(database, inputs)))
    if database.spec.replicas > 1:
        children.append(disruption_budget(database))
    return children
