"""Fixtures that several folders share."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from localcluster import ControlPlane

# Machines are shared: how long an example takes says nothing about it.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

PROJECT = Path(__file__).resolve().parents[1]

STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "example.com/none",
    "allowVolumeExpansion": True,
}


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A real API server with controllers and no nodes, our CRD installed; tests use namespaces of their own."""
    with ControlPlane(audit=True) as plane:
        plane.kubectl("apply", "--server-side", "-f", str(PROJECT / "deploy/crds"))
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/databases.databases.database-operator.io")
        plane.kubectl("apply", "-f", "-", input=json.dumps(STORAGE_CLASS))
        yield plane
