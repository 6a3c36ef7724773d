"""The few calls the local cluster itself makes to its API server."""

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from localcluster.errors import ClusterError


class ApiClient:
    """JSON over HTTPS with a token; one connection a call, as the calls are few."""

    def __init__(self, server: str, ca: Path, token: str) -> None:
        address = urlsplit(server)
        self._host, self._port = str(address.hostname), int(address.port or 443)
        self._context = ssl.create_default_context(cafile=str(ca))
        self._token = token

    def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> tuple[int, bytes]:
        """The status code and the body of the answer. Raises OSError or http.client.HTTPException when there is none within 5 s."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=5, context=self._context)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type, "User-Agent": "localcluster"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The object at `path`, or None when the API server does not answer or has none."""
        try:
            status, body = self.call("GET", path)
        except (OSError, http.client.HTTPException):
            return None
        return json.loads(body) if status == 200 else None

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self.call("GET", "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def apply(self, path: str, manifest: dict[str, Any]) -> bool:
        """Server-side apply of one object; whether it was accepted."""
        query = "?fieldManager=localcluster&force=true"
        return self.call("PATCH", f"{path}{query}", manifest, "application/apply-patch+yaml")[0] < 300


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("etcd", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def compact(etcd_socket: Path) -> int:
    """Drops all of etcd's history before its current revision, which is the value; by the JSON gateway of etcd's v3 API."""
    connection = _SocketConnection(etcd_socket)
    try:
        connection.request("POST", "/v3/kv/range", '{"key": "AA==", "limit": 1}')
        revision: str = json.loads(connection.getresponse().read())["header"]["revision"]
        connection.request("POST", "/v3/kv/compaction", json.dumps({"revision": revision, "physical": True}))
        answer = connection.getresponse()
        if answer.status != 200:
            raise ClusterError(f"etcd refused to compact: {answer.read().decode(errors='replace')}")
        return int(revision)
    finally:
        connection.close()
