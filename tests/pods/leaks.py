"""Looks for secret values where none may be: logs, objects, events and command lines."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from localcluster import Cluster, ClusterError

OURS = ("-credentials", "-internal")
# of those Secrets: what is public, a name, or an identity
OPEN = frozenset(
    {"type", "provider", "host", "port", "username", "database", "replica-set", "ro-host", "sentinel-host", "sentinel-master", "cluster-id"}
)
LEAST = 12  # characters: shorter ones are words that stand anywhere
KINDS = "databases,pods,statefulsets,deployments,replicasets,services,configmaps,events,persistentvolumeclaims,roles,rolebindings"


def _get(cluster: Cluster, namespace: str, kind: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(cluster.kubectl("-n", namespace, "get", kind, "-o", "json"))["items"]
    return items


def secrets_of(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Secret values of the namespace's Databases -> where each is kept."""
    found = {}
    for secret in _get(cluster, namespace, "secrets"):
        name = secret["metadata"]["name"]
        for key, value in (secret.get("data") or {}).items() if name.endswith(OURS) else ():
            text = base64.b64decode(value).decode("utf-8", "replace")
            public = key in OPEN or key.endswith((".crt", "names", "nodes", "uri")) or "certificate" in key
            if not public and len(text) >= LEAST:
                found[text] = f"{name}/{key}"
    return found


def forms(value: str) -> set[str]:
    """As it may stand in a text; of several lines each is looked for alone."""
    lines = [line for line in value.splitlines() if len(line) >= LEAST and not line.startswith("-----")]
    return {form for line in (lines or [value]) for form in (line, base64.b64encode(line.encode()).decode(), quote(line, safe=""))} | {
        base64.b64encode(value.encode()).decode()
    }


def leaks(text: str, secrets: dict[str, str], where: str) -> list[str]:
    """One line for each secret that ``text`` holds; the value itself is not in it."""
    return [f"{kept} stands in {where}" for value, kept in secrets.items() if any(form in text for form in forms(value))]


def places(cluster: Cluster, namespace: str) -> Iterator[tuple[str, str]]:
    """Every text of the namespace that is no Secret, and where it stands."""
    for item in _get(cluster, namespace, KINDS):
        yield f"{item['kind']} {item['metadata']['name']}", json.dumps(item, ensure_ascii=False)
    for pod in _get(cluster, namespace, "pods"):
        name = pod["metadata"]["name"]
        yield f"argv of {name}", "\n".join(_command_lines(cluster, namespace, name))
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
            for more in ((), ("--previous",)):
                try:
                    text = cluster.kubectl("-n", namespace, "logs", name, "-c", container["name"], *more)
                except ClusterError:  # not started yet, or only once
                    continue
                yield f"log of {name}/{container['name']}", text


def _command_lines(cluster: Cluster, namespace: str, pod: str) -> Iterator[str]:
    try:
        pids = cluster.pod_pids(namespace, pod)
    except ClusterError:  # not started yet, or gone
        return
    for pid in pids:
        try:
            yield Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue


def scan(cluster: Cluster, namespace: str, secrets: dict[str, str]) -> list[str]:
    """Where in the namespace any of ``secrets`` stands."""
    return [leak for where, text in places(cluster, namespace) for leak in leaks(text, secrets, where)]
