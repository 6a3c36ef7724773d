"""What two Databases must have in common, and what a spec plans: the oracles of the state-machine and crash-point tests."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from database_operator.api.database import Metadata, Resolved, Stored, decode, resolve
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.build.manifest import digest
from database_operator.engines.base import Engine, Inputs, Platform
from database_operator.engines.registry import ENGINES
from database_operator.kube import resources as r
from database_operator.kube.errors import NotFound
from database_operator.kube.resources import Resource
from database_operator.reconcile.views import DATABASE
from tests.reconcile.harness import Hub

Tree = dict[str, Any]

WORKLOAD = (
    r.STATEFUL_SET,
    r.DEPLOYMENT,
    r.SERVICE,
    r.CONFIG_MAP,
    r.SERVICE_ACCOUNT,
    r.ROLE,
    r.ROLE_BINDING,
    r.POD_DISRUPTION_BUDGET,
)
KINDS = (*WORKLOAD, r.SECRET, r.PERSISTENT_VOLUME_CLAIM, r.POD)
ASSIGNED = ("clusterIP", "clusterIPs", "healthCheckNodePort", "volumeName", "paused")  # by the server, or by what a pod happens to lack
HISTORY = (c.LEFT_AT, c.SETTINGS_HASH, c.ELECTED, c.REBUILT, c.WOKEN_AT, "deployment.kubernetes.io/revision")


async def everything(at: Hub, name: str) -> dict[Resource, list[Tree]]:
    """All objects of one Database, terminating ones included; claims of members that left are not counted."""
    found = await asyncio.gather(*(at.all(kind, f"{c.MANAGED_BY}={c.MANAGER},{c.INSTANCE}={name}") for kind in KINDS))
    everything = dict(zip(KINDS, found, strict=True))
    claims = everything[r.PERSISTENT_VOLUME_CLAIM]
    everything[r.PERSISTENT_VOLUME_CLAIM] = [claim for claim in claims if c.LEFT_AT not in claim["metadata"].get("annotations", {})]
    return everything


async def children(at: Hub, name: str) -> Tree:
    """Every child as far as it must be the same whatever led to it: no UIDs, versions, random values or traces of history."""
    uid = await at.uid(DATABASE, name) or "no Database"
    found = {
        f"{kind.kind} {_name(kind, item)}": _normal(kind, item, uid)
        for kind, items in (await everything(at, name)).items()
        for item in items
    }
    text = json.dumps(found, sort_keys=True).replace(uid, "<uid>").replace(at.namespace, "<namespace>")
    result: Tree = json.loads(text)
    return result


def _name(kind: Resource, item: Tree) -> str:
    head = item["metadata"]
    owners = [owner["kind"] for owner in head.get("ownerReferences", ())]
    return "of the Deployment" if kind is r.POD and "ReplicaSet" in owners else str(head["name"])


def _normal(kind: Resource, item: Tree, uid: str) -> Tree:
    head = item["metadata"]
    if kind is r.POD:
        return _pod(item)
    made: Tree = {
        "labels": head.get("labels"),
        "annotations": {
            key: value for key, value in head.get("annotations", {}).items() if key not in HISTORY and "kubernetes.io/" not in key
        },
        "owners": [(owner["kind"], owner["name"], owner["uid"] == uid) for owner in head.get("ownerReferences", ())],
        "going": "deletionTimestamp" in head,
    }
    if c.DATABASE_UID in made["annotations"]:
        made["annotations"][c.DATABASE_UID] = "of this life" if made["annotations"][c.DATABASE_UID] == uid else "of another life"
    if kind is r.SECRET:
        return made | {"data": _secret(head["name"], item["data"]), "type": item["type"]}
    made |= {key: value for key, value in item.items() if key in ("data", "rules", "subjects", "roleRef")}
    spec = {key: value for key, value in item.get("spec", {}).items() if key not in ASSIGNED}
    for port in spec.get("ports", ()):
        port.pop("nodePort", None)
    return made | {"spec": spec}


def _pod(pod: Tree) -> Tree:
    """Not its whole template: what needs no restart waits for the next one."""
    head = pod["metadata"]
    database = pod["spec"]["containers"][0]
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in pod["status"].get("conditions", ()))
    kept = (c.APP, c.INSTANCE, c.COMPONENT, c.SCOPE, c.GROUP_LABEL)
    return {
        "inputs": head["annotations"].get(c.INPUTS),
        "labels": {key: head["labels"].get(key) for key in kept},
        "image": database["image"],
        "ready": ready,
        "going": "deletionTimestamp" in head,
    }


def _secret(name: str, data: Mapping[str, str]) -> Any:
    """The keys only, where all values are random; the values of a login but for its password."""
    if not name.endswith("-credentials"):
        return sorted(data)
    values = {key: base64.b64decode(value).decode() for key, value in data.items()}
    password = values["password"]
    return {key: value.replace(quote(password, safe=""), "***").replace(password, "***") for key, value in values.items()}


async def resolved(at: Hub, name: str) -> tuple[Resolved, Engine]:
    """The Database as the operator reads it."""
    found = await at.get(DATABASE, name)
    head = found["metadata"]
    metadata = Metadata(
        name=name,
        namespace=at.namespace,
        uid=head["uid"],
        resource_version=head["resourceVersion"],
        generation=head["generation"],
        annotations=head.get("annotations", {}),
    )
    spec, status = (msgspec.Raw(json.dumps(found.get(part, {})).encode()) for part in ("spec", "status"))
    database = resolve(decode(Stored(metadata=metadata, spec=spec, status=status)))
    return database, ENGINES[database.type]


async def difference_from_plan(at: Hub, name: str, platform: Platform) -> str | None:
    """What of the plan for the stored spec is not there, or there and not planned; None: the declared state is reached."""
    database, engine = await resolved(at, name)
    found = await everything(at, name)
    inputs = await _inputs(at, database, engine, found, platform)
    plan = engine.plan(database, inputs)
    there = {(kind.kind, item["metadata"]["name"]): item for kind, items in found.items() for item in items}
    for child in plan:
        live = there.get((child["kind"], child["metadata"]["name"]))
        fault = "is missing" if live is None else _lacks(_without_waiting(child), live, "")
        if fault:
            return f"{child['kind']} {child['metadata']['name']}: {fault}"
    planned = {(child["kind"], child["metadata"]["name"]) for child in plan}
    surplus = [key for key in there if key not in planned and key[0] in {kind.kind for kind in WORKLOAD}]
    if surplus:
        return f"not planned: {surplus}"
    return _pods_differ(database, plan, found)


def _without_waiting(child: Tree) -> Tree:
    """A Deployment's pause follows its pods; what a list holds does not name its kind."""
    child = {key: value for key, value in child.items() if key not in ("apiVersion", "kind")}
    if child.get("spec", {}).get("strategy") is None:
        return child
    return child | {"spec": {key: value for key, value in child["spec"].items() if key != "paused"}}


def _pods_differ(database: Resolved, plan: list[Tree], found: dict[Resource, list[Tree]]) -> str | None:
    workloads = [child for child in plan if child["kind"] in ("StatefulSet", "Deployment")]
    for workload in workloads:
        component = workload["spec"]["selector"]["matchLabels"][c.COMPONENT]
        pods = [pod for pod in found[r.POD] if pod["metadata"]["labels"][c.COMPONENT] == component]
        if len(pods) != workload["spec"]["replicas"]:
            return f"{len(pods)} {component} pods, not {workload['spec']['replicas']}"
        wanted = workload["spec"]["template"]["metadata"]["annotations"][c.INPUTS]
        for pod in pods:
            shown = _pod(pod)
            if shown["inputs"] != wanted or shown["going"] or not shown["ready"]:
                return f"pod {pod['metadata']['name']} is {shown}, wanted inputs {wanted}"
    claims = found[r.PERSISTENT_VOLUME_CLAIM]
    sizes = {claim["spec"]["resources"]["requests"]["storage"] for claim in claims}
    if database.spec.replicas and len(claims) != database.spec.replicas:
        return f"{len(claims)} claims in use, not {database.spec.replicas}"
    if database.spec.replicas and sizes != {database.spec.storage.size}:
        return f"claims of {sizes}, not {database.spec.storage.size}"
    return None


async def _inputs(at: Hub, database: Resolved, engine: Engine, found: dict[Resource, list[Tree]], platform: Platform) -> Inputs:
    secrets = {item["metadata"]["name"]: item["data"] for item in found[r.SECRET]}
    internal = {key: base64.b64decode(value).decode() for key, value in secrets.get(names.internal(database.name), {}).items()}
    versions = {}
    for variable in database.spec.env:
        if variable.value_from is not None:
            reference = variable.value_from.secret_key_ref
            value = base64.b64decode((await at.get(r.SECRET, reference.name))["data"][reference.key]).decode()
            versions[f"{reference.name}/{reference.key}"] = digest(value)
    pods = [pod for pod in found[r.POD] if pod["metadata"]["labels"][c.COMPONENT] == "database"]
    return Inputs(
        platform=platform,
        internal=internal,
        secret_versions=versions,
        formed=any(c.FORMED in claim["metadata"].get("annotations", {}) for claim in found[r.PERSISTENT_VOLUME_CLAIM]),
        labelled=any(pod["metadata"]["labels"].get(c.ROLE) == "primary" for pod in pods),
        members=len(pods),
    )


def _lacks(wanted: Any, live: Any, path: str) -> str | None:
    """Where ``live`` does not hold what was applied; what the server or others added does not matter."""
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return f"{path} is {live!r}"
        return next((fault for key in wanted if (fault := _lacks(wanted[key], live.get(key), f"{path}.{key}"))), None)
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(live) != len(wanted):
            return f"{path} is {live!r}, not {wanted!r}" if wanted or live else None
        pairs = enumerate(zip(wanted, live, strict=True))
        return next((fault for index, (one, other) in pairs if (fault := _lacks(one, other, f"{path}[{index}]"))), None)
    empty = wanted in ({}, [], None, "") and live is None
    return None if wanted == live or empty else f"{path} is {live!r}, not {wanted!r}"


async def unsettled(at: Hub, name: str) -> str | None:
    """Why the status does not say that all is done; None: it does."""
    try:
        found = await at.get(DATABASE, name)
    except NotFound:
        return "there is no Database"
    status, replicas = found.get("status", {}), found["spec"]["replicas"]
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return f"observedGeneration {status.get('observedGeneration')} of {found['metadata']['generation']}"
    wanted = "Ready" if replicas else "Stopped"
    moving = conditions.get("Progressing", {}).get("status") != "False" or conditions["Progressing"]["reason"] == "UpgradeNotSupported"
    if status.get("phase") != wanted or moving or status.get("ready") != f"{replicas}/{replicas}":
        return f"phase {status.get('phase')}, {status.get('ready')}, {status.get('message')}"
    if any(condition["observedGeneration"] != found["metadata"]["generation"] for condition in conditions.values()):
        return "a condition is of another generation"
    for kind in (r.STATEFUL_SET, r.DEPLOYMENT):
        with contextlib.suppress(NotFound):
            workload = await at.get(kind, name)
            generation, status = workload["metadata"]["generation"], workload.get("status", {})
            # one that was made anew may bear the status of its former self for good, which has seen more
            if status.get("observedGeneration", 0) < generation:
                return f"it may still make pods: the {kind.kind} is of generation {generation}, its controller saw {status}"
    return None


async def shown(at: Hub, name: str) -> Tree:
    """The status as far as it must be the same whatever led to it."""
    status = await at.status(name)
    kept = ("phase", "ready", "replicas", "readyReplicas", "serviceName", "endpoint", "connectionString", "selector", "version", "storage")
    made = {key: status.get(key) for key in kept}
    made["conditions"] = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
    made["members"] = [member["ready"] for member in status.get("members", ())]
    result: Tree = json.loads(json.dumps(made).replace(at.namespace, "<namespace>"))
    return result


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two trees differ, one line each."""
    if isinstance(left, dict) and isinstance(right, dict):
        return [line for key in sorted({*left, *right}) for line in differences(left.get(key), right.get(key), f"{path}.{key}")]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [line for index, pair in enumerate(zip(left, right, strict=True)) for line in differences(*pair, f"{path}[{index}]")]
    return [] if left == right else [f"{path}: {json.dumps(left)[:300]} / {json.dumps(right)[:300]}"]
