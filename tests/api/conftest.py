"""A connection to the real API server, in a namespace of its own."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from localcluster import ControlPlane
from tests.apiserver import NAMESPACE, ApiServer


@pytest.fixture(scope="session")
def apiserver(control_plane: ControlPlane) -> Iterator[ApiServer]:
    with closing(ApiServer(control_plane)) as server:
        server.apply(f"/api/v1/namespaces/{NAMESPACE}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield server
