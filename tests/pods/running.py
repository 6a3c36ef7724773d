"""One Database in real pods, as a test sees it: apply, wait, ask, break."""

import base64
import errno
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localcluster import Cluster, ClusterError
from tests.late import Late

READY_SECONDS = 240.0  # a loaded machine starts a JVM in a minute


class Running:
    """A Database by name in a namespace of its own, which enforces the restricted profile."""

    def __init__(self, cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.name = str(manifest["metadata"]["name"])
        self.apply(manifest)

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002  as in subprocess.run
        return self.cluster.kubectl("--namespace", self.namespace, *args, input=input)

    def get(self, *args: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *args, "--output=json"))
        return found

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(manifest))

    def patch(self, spec: dict[str, Any]) -> None:
        self.kubectl("patch", "database", self.name, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = READY_SECONDS) -> Any:
        """The first true answer of ``condition``; what it raises of connections, kubectl and assertions counts as not yet."""
        deadline = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = condition()
            except (OSError, ClusterError, AssertionError) as error:
                last = error
            else:
                if last:
                    return last
            time.sleep(0.2)
        status = self.get("database", self.name).get("status", {})
        kind = AssertionError if isinstance(last, AssertionError) else Late  # a wrong answer to the end is no lateness
        raise kind(f"not {what} in {seconds:.0f} s: {last!r}; {status.get('phase')}: {status.get('message')}")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("database", self.name).get("status", {})
        return found

    def settled(self) -> bool:
        """Ready, for the spec as it now is, with nothing going on."""
        database = self.get("database", self.name)
        status = database.get("status", {})
        progress = {condition["type"]: condition["reason"] for condition in status.get("conditions", [])}.get("Progressing")
        fresh = status.get("observedGeneration") == database["metadata"]["generation"]
        return bool(fresh and status.get("phase") == "Ready" and progress == "Settled")

    def wait_settled(self, seconds: float = READY_SECONDS) -> None:
        self.wait("settled", self.settled, seconds)

    def pods(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get("pods", f"--selector=app={self.name}")["items"]
        return sorted((pod for pod in items if "deletionTimestamp" not in pod["metadata"]), key=lambda pod: str(pod["metadata"]["name"]))

    def uids(self) -> list[str]:
        return [pod["metadata"]["uid"] for pod in self.pods()]

    def login(self) -> dict[str, str]:
        data = self.get("secret", f"{self.name}-credentials")["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def make_secret(self, name: str, **values: str) -> None:
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
        self.apply(manifest)

    def kill_container(self, marker: str = "") -> None:
        """SIGKILL to the processes of the first pod's database whose command line holds ``marker``."""
        pod = self.pods()[0]["metadata"]["name"]
        for pid in self.cluster.pod_pids(self.namespace, pod, "database"):
            if marker.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    def restarts(self) -> int:
        return sum(status["restartCount"] for pod in self.pods() for status in pod["status"].get("containerStatuses", []))

    def http(self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Through the Service, as a client in the cluster would; the body decoded from JSON."""
        service = self.get("service", f"{self.name}-service")["spec"]
        url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}{path}"
        body = json.dumps(content).encode() if content is not None else None
        request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": "application/json"} | (headers or {}))
        try:
            with self.opened(request) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode("utf-8", "replace")

    @staticmethod
    def opened(request: urllib.request.Request, seconds: float = 10.0) -> Any:
        """The answer; an address that kube-proxy does not know yet is asked again, as a client in the cluster would."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return urllib.request.urlopen(request, timeout=10)
            except urllib.error.HTTPError:
                raise
            except urllib.error.URLError as error:
                unrouted = isinstance(error.reason, OSError) and error.reason.errno in (errno.ENETUNREACH, errno.ECONNREFUSED)
                if not unrouted or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
