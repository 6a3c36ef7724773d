"""Fixtures that several folders share."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from localcluster import ControlPlane
from localcluster.errors import CommandError
from tests.late import Watcher

# Machines are shared: how long an example takes says nothing about it. ./test asks the same examples each time; other ones are for --long.
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", SHARED, derandomize=True)
settings.register_profile("random", SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Watcher(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest first, so that no worker is left alone with one in the end."""
    items.sort(key=lambda item: -slow.args[0] if (slow := item.get_closest_marker("slow")) else 0)


PROJECT = Path(__file__).resolve().parents[1]

STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "example.com/none",
    "allowVolumeExpansion": True,
}


def _established(plane: ControlPlane) -> None:
    """``kubectl wait`` ends with an error where the CRD has no conditions at all yet."""
    for attempt in range(3):
        try:
            plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/databases.databases.database-operator.io")
        except CommandError:
            if attempt == 2:
                raise
            time.sleep(0.5)
        else:
            return


@contextlib.contextmanager
def installed() -> Iterator[ControlPlane]:
    """A real API server with controllers and no nodes, our CRD installed; for a test that does harm to it."""
    with ControlPlane(audit=True) as plane:
        plane.kubectl("apply", "--server-side", "-f", str(PROJECT / "deploy/crds"))
        _established(plane)
        plane.kubectl("apply", "-f", "-", input=json.dumps(STORAGE_CLASS))
        yield plane


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """``installed``, shared: tests use namespaces of their own."""
    with installed() as plane:
        yield plane
