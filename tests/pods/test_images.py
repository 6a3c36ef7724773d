"""The images in real pods: each as its own user, under the restricted profile, with the agent's bundle beside its programs."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster import Cluster
from localcluster.errors import ClusterError
from localcluster.images import operator

pytestmark = pytest.mark.pods

AGENT = "/opt/database-agent"
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
# container: image, uid, gid, a command of the image's own programs, what it says
IMAGES = {
    "postgres": (
        "docker.io/library/postgres:17",
        999,
        999,
        "initdb -D /tmp/data -U postgres && postgres --version",
        "postgres (PostgreSQL) 17",
    ),
    "redis": ("docker.io/library/redis:7.2", 999, 999, "redis-server --version && redis-cli --version", "Redis server v="),
    "elasticsearch": ("docker.elastic.co/elasticsearch/elasticsearch:8.11.0", 1000, 0, "elasticsearch --version", "Version: 8.11.0"),
    "mongo": ("docker.io/library/mongo:7.0", 999, 999, "mongod --version", "db version v7.0"),
    "sqlite": ("docker.io/nouchka/sqlite3:latest", 999, 999, "sqlite3 :memory: 'select 40 + 2'", "42"),
}


def pod() -> dict[str, Any]:
    bundle = {"name": "agent", "mountPath": AGENT, "readOnly": True}
    containers = [
        {
            "name": name,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", f"id; {command} && {AGENT}/database-agent check && ! touch /root-is-writable"],
            "env": [{"name": "ES_JAVA_OPTS", "value": "-Xmx64m"}],
            "securityContext": RESTRICTED | {"runAsUser": uid, "runAsGroup": gid},
            "volumeMounts": [bundle, {"name": f"tmp-{name}", "mountPath": "/tmp"}],
        }
        for name, (image, uid, gid, command, _) in IMAGES.items()
    ]
    install = {
        "name": "install",
        "image": operator.reference(),
        "imagePullPolicy": "IfNotPresent",
        "command": [f"{AGENT}/database-agent", "install", "/bundle"],
        "securityContext": RESTRICTED,
        "resources": {"limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "agent", "mountPath": "/bundle"}],
    }
    security = {"runAsNonRoot": True, "runAsUser": 998, "fsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"}}
    volumes = [{"name": name, "emptyDir": {}} for name in ("agent", *(f"tmp-{name}" for name in IMAGES))]
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": security, "volumes": volumes}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "images", "namespace": "images"},
        "spec": spec | {"initContainers": [install], "containers": containers},
    }


@pytest.fixture(scope="module")
def logs(cluster: Cluster) -> Iterator[dict[str, str]]:
    """What each container said, once all of them have succeeded."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "images", "labels": labels}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [namespace, pod()]}))
    try:
        cluster.kubectl("-n", "images", "wait", "pod/images", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
    except ClusterError as error:
        raise AssertionError(cluster.kubectl("-n", "images", "describe", "pod/images")) from error
    yield {name: cluster.kubectl("-n", "images", "logs", "images", "-c", name) for name in IMAGES}
    cluster.kubectl("delete", "namespace", "images", "--wait=false")


@pytest.mark.parametrize("name", IMAGES)
def test_programs_and_bundle_run_as_the_images_user(name: str, logs: dict[str, str]) -> None:
    _, uid, gid, _, expected = IMAGES[name]
    assert f"uid={uid}(" in logs[name] or f"uid={uid} " in logs[name]
    assert f"gid={gid}" in logs[name]
    assert expected in logs[name]
    assert "engines: elasticsearch, mongodb, postgresql, redis, sqlite" in logs[name]
