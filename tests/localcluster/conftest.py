"""A control plane and a whole cluster, each brought up once for all tests that need it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import Cluster, ControlPlane
from localcluster.archive import write_image
from tests.localcluster.machine import Machine

NAME = f"test-{os.getpid()}"
PROBE = "localhost/probe:1"


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(audit=True) as plane:
        yield plane


@pytest.fixture(scope="session")
def probe_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    build = ["go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(folder / "probe"), "."]
    subprocess.run(build, cwd=Path(__file__).parent / "probe", env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    write_image(folder / "probe.tar", PROBE, {"bin/probe": (folder / "probe").read_bytes()}, ["/bin/probe"])
    return folder / "probe.tar"


@pytest.fixture(scope="session")
def machine() -> Machine:
    """What the machine was like before the cluster."""
    return Machine.now(NAME)


@pytest.fixture(scope="session")
def cluster(machine: Machine, probe_image: Path) -> Iterator[Cluster]:
    cluster = Cluster(NAME)
    try:
        cluster.up(images=())
        cluster.load_image(probe_image)
        yield cluster
    finally:
        cluster.down(images=True)
