"""What the tests of the runtime share."""

import asyncio
import contextlib
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator
from typing import Any

from database_operator.kube import auth
from database_operator.kube.auth import Connection
from database_operator.kube.client import Client
from localcluster import ControlPlane
from tests.kube.fake_apiserver import FakeApiServer

CONFIG_MAPS = "/api/v1/configmaps"


def config_map(name: str, namespace: str = "default", **extra: Any) -> dict[str, Any]:
    """A ConfigMap; ``data`` and metadata's ``labels``, ``annotations``, ``ownerReferences`` may be given."""
    data = extra.pop("data", {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, **extra}, "data": data}


def owned_by(uid: str) -> list[dict[str, Any]]:
    return [{"apiVersion": "v1", "kind": "Owner", "name": "o", "uid": uid, "controller": True}]


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[FakeApiServer, Client]]:
    """A fake API server and a client of it."""
    async with FakeApiServer().serve() as server:
        client = Client(Connection(server.url, lambda: None), user_agent="test/1", **options)
        try:
            yield server, client
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def client_of(connection: ControlPlane | Connection, **options: Any) -> AsyncIterator[Client]:
    """A client of a real API server, or of a proxy before it."""
    found = auth.load(str(connection.kubeconfig)) if isinstance(connection, ControlPlane) else connection
    client = Client(found, user_agent="database-operator/test", **options)
    try:
        yield client
    finally:
        await client.close()
        # A call given up on leaves a connection that waits 30 s for the peer's last word, longer than the test's loop lives.
        for transport in list(asyncio.get_running_loop()._transports.values()):  # type: ignore[attr-defined]
            if isinstance(transport.get_protocol(), SSLProtocol):
                transport.abort()
        await asyncio.sleep(0)
