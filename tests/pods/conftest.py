"""The embedded cluster with a node and the operator in it, as its users install it."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from localcluster import Cluster
from localcluster.demo.install import OPERATOR_NAMESPACE, install_operator
from localcluster.demo.place import Embedded
from localcluster.progress import Progress
from tests.pods import leaks
from tests.pods.running import Running


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """Brought up where it is not, and left running: the next run, and the demo, find it warm."""
    place = Embedded(Progress(quiet=True))
    place.up()
    install_operator(place)
    return Cluster()


@pytest.fixture(scope="session")
def secrets(cluster: Cluster) -> Iterator[dict[str, str]]:
    """The secret values of all Databases of this run -> where they were kept. In the end the operator's log holds none."""
    found: dict[str, str] = {}
    yield found
    assert leaks.scan(cluster, OPERATOR_NAMESPACE, found) == []


@pytest.fixture
def database(cluster: Cluster, secrets: dict[str, str]) -> Iterator[Callable[[dict[str, Any]], Running]]:
    """Makes a Database in a namespace of the test's own, which goes with all that is in it; B10: no secret stands where none may."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    try:
        yield lambda manifest: Running(cluster, namespace, manifest)
        own = leaks.secrets_of(cluster, namespace)
        secrets |= own
        assert leaks.scan(cluster, namespace, own) == []
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
