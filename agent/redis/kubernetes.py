"""What the agent tells Kubernetes, so that Services and a later start need no operator: role labels of the member
pods, and on a claim the number of the election that its member won.
"""

import http.client
import json
import os
import ssl
from pathlib import Path
from typing import Any

from database_operator.build.constants import DATA_VOLUME, ELECTED, ROLE

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 3.0


class Refused(OSError):
    """The API server answered, and not with what was asked for."""


def has_account() -> bool:
    """A pod from before its Database got several members has none, and needs none until it is replaced."""
    return (ACCOUNT / "token").is_file()


class Api:
    """One connection, as the pod's service account. Every call raises OSError or HTTPException."""

    def __init__(self, namespace: str) -> None:
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
        self._connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
        self._path = f"/api/v1/namespaces/{namespace}"
        self._headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "User-Agent": "database-agent"}

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any] | None:
        """The object; None: there is none of that name."""
        headers = self._headers | ({"Content-Type": "application/merge-patch+json"} if body else {})
        self._connection.request(method, f"{self._path}/{path}", json.dumps(body) if body else None, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status == 404:
            return None
        if answer.status >= 300:
            raise Refused(f"the API server answered {answer.status} to {method} {path}")
        found: dict[str, Any] = json.loads(text)
        return found

    def label(self, pod: str, role: str) -> None:
        """Set the role of ``pod``, if it is there."""
        self._call("PATCH", f"pods/{pod}?fieldManager=database-agent", {"metadata": {"labels": {ROLE: role}}})

    def record(self, pod: str, epoch: int) -> None:
        """Note on the claim of ``pod`` that it won election ``epoch``."""
        claim = f"persistentvolumeclaims/{DATA_VOLUME}-{pod}"
        self._call("PATCH", f"{claim}?fieldManager=database-agent", {"metadata": {"annotations": {ELECTED: str(epoch)}}})

    def recorded(self, pods: list[str]) -> list[tuple[int, str]]:
        """The elections that the claims of ``pods`` tell of, with their winners."""
        found = []
        for pod in pods:
            claim = self._call("GET", f"persistentvolumeclaims/{DATA_VOLUME}-{pod}") or {}
            epoch = claim.get("metadata", {}).get("annotations", {}).get(ELECTED, "")
            if epoch.isdigit():
                found.append((int(epoch), pod))
        return found
