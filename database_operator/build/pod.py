"""The pod template: one shape for every engine, restricted pod security throughout."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field, to_builtins

from database_operator.api.database import Resolved
from database_operator.api.spec import EnvVar, PodsSpec, PullPolicy, ResourcesSpec, Spread
from database_operator.build import constants as c
from database_operator.build import labels, names
from database_operator.build.manifest import Manifest, digest

CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
# The resolver's own patience is five seconds, for which Sentinel and others stand still where one packet is lost.
IMPATIENT = [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "4"}]


class PodParts(Struct, frozen=True, kw_only=True):
    """What an engine says of its pod; all else is the same for every engine.

    ``inputs`` are the engine's own values whose change needs a restart; what every engine shares is added here.
    """

    image: str
    agent_image: str
    command: list[str]
    user: int = 999
    group: int = 999
    grace_seconds: int
    data_path: str
    ports: dict[str, int]  # name -> containerPort
    env: list[Manifest] = field(default_factory=list)
    readiness: Manifest
    liveness: Manifest
    startup: Manifest
    lifecycle: Manifest | None = None
    mounts: list[Manifest] = field(default_factory=list)
    volumes: list[Manifest] = field(default_factory=list)
    sidecars: list[Manifest] = field(default_factory=list)  # native: init containers with restartPolicy Always
    agent_account: bool = False  # mounts a service-account token
    internal: bool = True  # mounts <name>-internal
    inputs: Mapping[str, Any] = field(default_factory=dict)
    secret_versions: Mapping[str, str] = field(default_factory=dict)
    component: str = labels.DATABASE_COMPONENT
    claim: str | None = None  # a Deployment's claim; a StatefulSet brings its own template


def field_env(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def secret_env(name: str, secret: str, key: str) -> Manifest:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def user_env(variables: tuple[EnvVar, ...]) -> list[Manifest]:
    """The user's variables in their order; Kubernetes' own $(NAME) expansion is kept off by doubling the dollar."""
    entries: list[Manifest] = []
    for variable in variables:
        if variable.value_from:
            reference = variable.value_from.secret_key_ref
            entries.append(secret_env(variable.name, reference.name, reference.key))
        else:
            entries.append({"name": variable.name, "value": (variable.value or "").replace("$(", "$$(")})
    return entries


def resources(spec: ResourcesSpec) -> Manifest:
    """Exactly as written, nothing invented."""
    requests = {key: value for key, value in (("cpu", spec.cpu), ("memory", spec.memory)) if value}
    limits = {key: value for key, value in (("cpu", spec.cpu_limit), ("memory", spec.memory_limit)) if value}
    return ({"requests": requests} if requests else {}) | ({"limits": limits} if limits else {})


def rolling_inputs(database: Resolved, parts: PodParts) -> str:
    """Hash of what the user wrote and the versions of its Secrets, as far as a change needs a new pod.

    A new operator or agent must not change it: so it holds the user's words, not the manifest made of them.
    """
    spec = database.spec
    pods = spec.pods
    placement = {
        "spread": pods.spread,
        "nodeSelector": pods.node_selector,
        "affinity": pods.affinity,
        "tolerations": pods.tolerations,
        "topologySpreadConstraints": pods.topology_spread_constraints,
        "priorityClassName": pods.priority_class_name,
        "schedulerName": pods.scheduler_name,
        "securityContext": pods.security_context,
    }
    # taking the annotation away asks for nothing: the last value that was acted on stays in force
    restarted = database.metadata.annotations.get(c.RESTARTED_AT) or database.status.requests.get("restartedAt")
    written = {
        "version": spec.version,
        "image": spec.image,
        "resources": spec.resources,
        "env": spec.env,
        "placement": placement,
        "restartedAt": restarted,
        "secrets": dict(parts.secret_versions),
        "engine": dict(parts.inputs),
    }
    return digest(to_builtins(written))


def written(pods: PodsSpec) -> dict[str, str]:
    """The annotation by which a running pod's labels and annotations are told from the user's present ones; none where there are none."""
    if not pods.labels and not pods.annotations:
        return {}
    words = {"labels": sorted(pods.labels), "annotations": sorted(pods.annotations), "hash": digest([pods.labels, pods.annotations])}
    return {c.WRITTEN: msgspec.json.encode(words).decode()}


def topology_spread(database: Resolved, selector: Mapping[str, str]) -> list[Manifest]:
    """One member a node and as even over zones as can be had; only ``Required`` keeps a pod from being scheduled."""
    pods = database.spec.pods
    if pods.topology_spread_constraints:
        return [dict(constraint) for constraint in pods.topology_spread_constraints]
    if pods.spread is Spread.NONE:
        return []
    on_node = "DoNotSchedule" if pods.spread is Spread.REQUIRED else "ScheduleAnyway"
    keys = (("kubernetes.io/hostname", on_node), ("topology.kubernetes.io/zone", "ScheduleAnyway"))
    return [
        {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": action, "labelSelector": {"matchLabels": dict(selector)}}
        for key, action in keys
    ]


def _volumes(database: Resolved, parts: PodParts) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": c.AGENT_VOLUME, "emptyDir": {}},
        {"name": c.TMP_VOLUME, "emptyDir": {}},
        {"name": c.SETTINGS_VOLUME, "configMap": {"name": names.settings(database.name), "defaultMode": 0o440}},
        {"name": c.CREDENTIALS_VOLUME, "secret": {"secretName": names.credentials(database.name), "defaultMode": 0o440}},
        {"name": c.TLS_VOLUME, "secret": {"secretName": names.tls(database.name), "optional": True, "defaultMode": 0o440}},
    ]
    if parts.internal:
        volumes.append({"name": c.INTERNAL_VOLUME, "secret": {"secretName": names.internal(database.name), "defaultMode": 0o440}})
    if parts.claim:
        volumes.append({"name": c.DATA_VOLUME, "persistentVolumeClaim": {"claimName": parts.claim}})
    return volumes + parts.volumes


def _mounts(parts: PodParts) -> list[Manifest]:
    mounts: list[Manifest] = [
        {"name": c.DATA_VOLUME, "mountPath": parts.data_path},
        {"name": c.AGENT_VOLUME, "mountPath": c.AGENT_PATH, "readOnly": True},
        {"name": c.TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108  the container's own
        {"name": c.SETTINGS_VOLUME, "mountPath": c.SETTINGS_PATH, "readOnly": True},
        {"name": c.CREDENTIALS_VOLUME, "mountPath": c.CREDENTIALS_PATH, "readOnly": True},
        {"name": c.TLS_VOLUME, "mountPath": c.TLS_PATH, "readOnly": True},
    ]
    if parts.internal:
        mounts.append({"name": c.INTERNAL_VOLUME, "mountPath": c.INTERNAL_PATH, "readOnly": True})
    return mounts + parts.mounts


def _agent_container(parts: PodParts) -> Manifest:
    """Copies the bundle into the emptyDir, so that the official images need no change."""
    return {
        "name": c.AGENT,
        "image": parts.agent_image,
        "command": [c.AGENT_PROGRAM, "install", "/bundle"],
        "securityContext": CONTAINER_SECURITY,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": c.AGENT_VOLUME, "mountPath": "/bundle"}],
    }


def _database_container(database: Resolved, parts: PodParts) -> Manifest:
    spec = database.spec
    container: Manifest = {
        "name": c.DATABASE,
        "image": parts.image,
        "command": parts.command,
        "env": parts.env + user_env(spec.env),
        "ports": [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in parts.ports.items()],
        "resources": resources(spec.resources),
        "securityContext": CONTAINER_SECURITY,
        "readinessProbe": parts.readiness,
        "livenessProbe": parts.liveness,
        "startupProbe": parts.startup,
        "volumeMounts": _mounts(parts),
    }
    if parts.lifecycle:
        container["lifecycle"] = parts.lifecycle
    # also for `latest`: a restart must not hang on a registry, nor bring a server of another version
    container["imagePullPolicy"] = (spec.image_pull_policy or PullPolicy.IF_NOT_PRESENT).value
    return container


def pod_template(database: Resolved, parts: PodParts) -> Manifest:
    """``spec.template`` of the workload. Labels of the user never replace ours."""
    spec, pods = database.spec, database.spec.pods
    selector = labels.pod_selector(database, parts.component)
    security: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": parts.user,
        "runAsGroup": parts.group,
        "fsGroup": parts.user if parts.group == 0 else parts.group,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    } | (pods.security_context or {})
    pod: Manifest = {
        "automountServiceAccountToken": parts.agent_account,
        # always named: taken out of an apply it stays in force, by the deprecated serviceAccount that the API server keeps beside it
        "serviceAccountName": names.agent(database.name) if parts.agent_account else "default",
        "enableServiceLinks": False,
        "dnsConfig": {"options": IMPATIENT},
        "terminationGracePeriodSeconds": pods.termination_grace_period_seconds or parts.grace_seconds,
        "securityContext": security,
        "initContainers": [_agent_container(parts), *parts.sidecars],
        "containers": [_database_container(database, parts)],
        "volumes": _volumes(database, parts),
    }
    spread = topology_spread(database, selector)
    optional = {
        "topologySpreadConstraints": spread,
        "imagePullSecrets": [{"name": secret.name} for secret in spec.image_pull_secrets],
        "nodeSelector": dict(pods.node_selector),
        "affinity": pods.affinity,
        "tolerations": list(pods.tolerations),
        "priorityClassName": pods.priority_class_name,
        "schedulerName": pods.scheduler_name,
    }
    pod |= {key: value for key, value in optional.items() if value}
    return {
        "metadata": {
            "labels": pods.labels | labels.workload(database, parts.component),
            "annotations": pods.annotations | {c.INPUTS: rolling_inputs(database, parts)} | written(database.spec.pods),
        },
        "spec": pod,
    }
