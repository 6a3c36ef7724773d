"""A few requests to a real API server, over one connection; the operator's own client is not what is tested with it."""

import http.client
import json
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from localcluster import ControlPlane

NAMESPACE = "admission"
DATABASES = f"/apis/databases.database-operator.io/v1alpha1/namespaces/{NAMESPACE}/databases"


class Refused(Exception):
    """The server's answer when it is not 2xx: its message, and its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiServer:
    def __init__(self, plane: ControlPlane) -> None:
        place = urlsplit(plane.server)
        assert place.hostname
        self._connection = http.client.HTTPSConnection(
            place.hostname, place.port, timeout=30, context=ssl.create_default_context(cafile=str(plane.ca))
        )
        self._token = plane.token

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None, content: str = "application/json", user: str | None = None) -> Any:
        """The answer's JSON. ``user``: impersonated. Raises Refused."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content, "Accept": "application/json"}
        if user:
            headers["Impersonate-User"] = user
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status >= 300:
            raise Refused(response.status, answer.get("message", ""))
        return answer

    def apply(self, path: str, manifest: dict[str, Any]) -> Any:
        return self.call("PATCH", f"{path}?fieldManager=test&force=true", manifest, "application/apply-patch+yaml")

    def merge(self, path: str, patch: dict[str, Any]) -> Any:
        return self.call("PATCH", path, patch, "application/merge-patch+json")

    def install(self, definition: dict[str, Any], seconds: float = 15) -> None:
        """Apply a CRD and wait until its objects are served by this version of it."""
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
        self.apply(path, definition)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            conditions = self.call("GET", path).get("status", {}).get("conditions", [])
            if any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions):
                try:
                    self.call("GET", DATABASES)
                    return
                except Refused:
                    pass
            time.sleep(0.1)
        raise TimeoutError(f"{path} was not served within {seconds} s")


def database(spec: dict[str, Any], name: str = "orders") -> dict[str, Any]:
    return {"apiVersion": "databases.database-operator.io/v1alpha1", "kind": "Database", "metadata": {"name": name}, "spec": spec}
