"""The embedded cluster with a node and the operator in it, as its users install it."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from localcluster import Cluster
from localcluster.demo.install import install_operator
from localcluster.demo.place import Embedded
from localcluster.progress import Progress
from tests.pods.running import Running


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """Brought up where it is not, and left running: the next run, and the demo, find it warm."""
    place = Embedded(Progress(quiet=True))
    place.up()
    install_operator(place)
    return Cluster()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Callable[[dict[str, Any]], Running]]:
    """Makes a Database in a namespace of the test's own, which goes with all that is in it."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    yield lambda manifest: Running(cluster, namespace, manifest)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
