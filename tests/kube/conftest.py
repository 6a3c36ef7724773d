"""One control plane for all tests of this folder."""

from collections.abc import Iterator

import pytest

from localcluster import ControlPlane


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """etcd and an API server that forgets its history after seconds."""
    with ControlPlane(controllers=False, api_flags=("--etcd-compaction-interval=1s",)) as running:
        yield running
