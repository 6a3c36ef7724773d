"""The cluster as the bench sees it: a Database in a namespace of its own, and what is said of it, with the time."""

import base64
import http.client
import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from localcluster import Cluster, ClusterError

API = "databases.database-operator.io/v1alpha1"
PREFIX = "databases.database-operator.io/"
OPERATOR = ("--namespace", "database-operator-system")
NAME = "orders"
Objects = dict[str, dict[str, Any]]


def manifest(kind: str, version: str, replicas: int, resources: dict[str, str], **sections: Any) -> dict[str, Any]:
    spec = {"type": kind, "version": version, "replicas": replicas, "storage": {"size": "1Gi"}, "resources": resources}
    return {"apiVersion": API, "kind": "Database", "metadata": {"name": NAME}, "spec": spec | sections}


class Watched:
    """The objects at ``path`` as the API server sends them; ``changes``: each new value of ``view``, with the time it was heard."""

    def __init__(self, cluster: Cluster, path: str, view: Callable[[Objects], str]) -> None:
        parts = cluster.parts
        self._site, self._token, self._api = parts.site, parts.token, parts.api
        self._context = ssl.create_default_context(cafile=str(parts.site.pki / "ca.crt"))
        self._path, self._view = path, view
        self._stop = threading.Event()
        self.objects: Objects = {}
        self.changes: list[tuple[float, str]] = []
        self._relist()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _relist(self) -> str:
        found = self._api.get(self._path)
        if found is None:
            raise ConnectionError("the API server does not answer")
        self.objects = {item["metadata"]["name"]: item for item in found["items"]}
        self._note()
        return str(found["metadata"]["resourceVersion"])

    def _note(self) -> None:
        value = self._view(self.objects)
        if not self.changes or self.changes[-1][1] != value:
            self.changes.append((time.monotonic(), value))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow(self._relist())
            except (OSError, http.client.HTTPException, ValueError):
                self._stop.wait(0.2)

    def _follow(self, version: str) -> None:
        connection = http.client.HTTPSConnection(self._site.address, self._site.port, timeout=30, context=self._context)
        try:
            query = f"?watch=true&timeoutSeconds=25&resourceVersion={version}"
            connection.request("GET", self._path + query, headers={"Authorization": f"Bearer {self._token}"})
            for line in connection.getresponse():
                event = json.loads(line)
                if event["type"] == "ERROR" or self._stop.is_set():
                    return
                name = event["object"]["metadata"]["name"]
                objects = {other: item for other, item in self.objects.items() if other != name}
                self.objects = objects if event["type"] == "DELETED" else objects | {name: event["object"]}
                self._note()
        finally:
            connection.close()


def labelled(objects: Objects) -> str:
    """The pods that carry the label of the primary and are not on their way out."""
    pods = [
        name
        for name, pod in objects.items()
        if pod["metadata"].get("labels", {}).get(f"{PREFIX}role") == "primary" and "deletionTimestamp" not in pod["metadata"]
    ]
    return ",".join(sorted(pods))


def led_to(objects: Objects) -> str:
    """The pods that the Service leads to."""
    service = f"{NAME}-service"
    endpoints = [
        endpoint
        for item in objects.values()
        if item["metadata"].get("labels", {}).get("kubernetes.io/service-name") == service
        for endpoint in item.get("endpoints") or []
    ]
    ready = [endpoint["targetRef"]["name"] for endpoint in endpoints if endpoint["conditions"].get("ready")]
    return ",".join(sorted(ready))


def named(objects: Objects) -> str:
    return str(objects.get(NAME, {}).get("status", {}).get("primary", ""))


class Database:
    """One Database in a namespace that enforces the restricted profile; ``close`` takes it away with all it has."""

    def __init__(self, cluster: Cluster, wanted: dict[str, Any]) -> None:
        self.cluster, self.namespace, self.name = cluster, f"faults-{uuid.uuid4().hex[:8]}", NAME
        self.kind = str(wanted["spec"]["type"])
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}
        cluster.kubectl("apply", "-f", "-", input=json.dumps(space))
        self.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(wanted))
        core, group = f"/api/v1/namespaces/{self.namespace}", f"namespaces/{self.namespace}"
        self.pods = Watched(cluster, f"{core}/pods", labelled)
        self.slices = Watched(cluster, f"/apis/discovery.k8s.io/v1/{group}/endpointslices", led_to)
        self.databases = Watched(cluster, f"/apis/{API}/{group}/databases", named)
        self._service = ""
        self._secrets: dict[str, dict[str, str]] = {}

    def close(self) -> None:
        for watched in (self.pods, self.slices, self.databases):
            watched.stop()
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002  as in subprocess.run
        return self.cluster.kubectl("--namespace", self.namespace, *args, input=input)

    def service(self) -> str:
        """The Service's address; it lasts as long as the Database."""
        if not self._service:
            self._service = self.kubectl("get", "service", f"{NAME}-service", "--output=jsonpath={.spec.clusterIP}")
        return self._service

    def secret(self, suffix: str) -> dict[str, str]:
        if suffix not in self._secrets:
            data = json.loads(self.kubectl("get", "secret", f"{NAME}-{suffix}", "--output=json"))["data"]
            self._secrets[suffix] = {key: base64.b64decode(value).decode() for key, value in data.items()}
        return self._secrets[suffix]

    def members(self) -> dict[str, dict[str, Any]]:
        """The database's own pods that are not on their way out."""
        return {
            name: pod
            for name, pod in sorted(self.pods.objects.items())
            if pod["metadata"].get("labels", {}).get("app") == NAME and "deletionTimestamp" not in pod["metadata"]
        }

    def addresses(self) -> list[str]:
        return [pod["status"]["podIP"] for pod in self.members().values() if pod["status"].get("podIP")]

    def address(self, pod: str) -> str:
        return str(self.pods.objects[pod]["status"]["podIP"])

    def pod_of(self, address: str) -> str:
        """The name of the pod, or the address itself where no pod has it any more."""
        return next((name for name, pod in self.pods.objects.items() if pod["status"].get("podIP") == address), address)

    def sentinels(self) -> list[str]:
        component = "app.kubernetes.io/component"
        pods = [pod for pod in self.pods.objects.values() if pod["metadata"].get("labels", {}).get(component) == "sentinel"]
        return [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.databases.objects.get(NAME, {}).get("status", {})
        return found

    def settled(self) -> bool:
        database = self.databases.objects.get(NAME, {})
        status = database.get("status", {})
        reasons = {condition["type"]: condition["reason"] for condition in status.get("conditions", [])}
        fresh = status.get("observedGeneration") == database.get("metadata", {}).get("generation", 0)
        return bool(fresh and status.get("phase") == "Ready" and reasons.get("Progressing") in ("Settled", "UpdatePending"))

    def whole(self) -> bool:
        """Settled, and every member that is wanted is there and ready."""
        wanted = self.databases.objects.get(NAME, {}).get("spec", {}).get("replicas", 1)
        ready = [pod for pod in self.members().values() if _is_ready(pod)]
        return self.settled() and len(ready) == wanted == len(self.members())

    def renew(self) -> None:
        """Pods of which a container was started again are replaced: the kubelet makes each further start wait longer."""
        worn = [name for name, pod in self.members().items() if restarts(pod)]
        if worn:
            self.kubectl("delete", "pod", *worn)
            self.wait("renewed", lambda: not any(restarts(pod) for pod in self.members().values()))

    def wait(self, what: str, condition: Callable[[], object], seconds: float = 300.0) -> float:
        """Seconds until ``condition``. Raises TimeoutError with what the Database says of itself."""
        began = time.monotonic()
        while not _true(condition):
            if time.monotonic() - began > seconds:
                status = self.status()
                raise TimeoutError(f"not {what} in {seconds:.0f} s: {status.get('phase')}: {status.get('message')}")
            time.sleep(0.2)
        return time.monotonic() - began


def _true(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except (OSError, ClusterError, http.client.HTTPException, LookupError):
        return False


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in pod["status"].get("conditions", []))


def restarts(pod: dict[str, Any]) -> int:
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))


@contextmanager
def without_operator(cluster: Cluster) -> Iterator[None]:
    """None of its pods runs in the block; as many as before are available after it."""
    before = cluster.kubectl(*OPERATOR, "get", "deployment/database-operator", "--output=jsonpath={.spec.replicas}")
    cluster.kubectl(*OPERATOR, "scale", "deployment/database-operator", "--replicas=0")
    try:
        cluster.kubectl(*OPERATOR, "wait", "--for=delete", "pod", "--all", "--timeout=60s")
        yield
    finally:
        cluster.kubectl(*OPERATOR, "scale", "deployment/database-operator", f"--replicas={int(before) or 1}")
        cluster.kubectl(*OPERATOR, "rollout", "status", "deployment/database-operator", "--timeout=120s")
