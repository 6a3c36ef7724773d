"""A control plane of one's own: real etcd, API server and controllers, several at once."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from localcluster import ClusterError, CommandError, ControlPlane, paths
from tests.localcluster.machine import processes_of

pytestmark = pytest.mark.apiserver


def request(plane: ControlPlane, path: str, token: str | None) -> int:
    address = urlsplit(plane.server)
    connection = http.client.HTTPSConnection(
        str(address.hostname), address.port, timeout=2, context=ssl.create_default_context(cafile=plane.ca)
    )
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status
    finally:
        connection.close()


def test_only_the_token_opens_it(plane: ControlPlane) -> None:
    assert urlsplit(plane.server).hostname == "127.0.0.1"
    assert plane.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert [request(plane, "/api/v1/namespaces", token) for token in (plane.token, "wrong", None)] == [200, 401, 401]


def test_controllers_work_and_admission_refuses(plane: ControlPlane) -> None:
    plane.kubectl("create", "namespace", "restricted")
    plane.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    plane.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace=restricted", "--timeout=20s")
    with pytest.raises(CommandError, match="violates PodSecurity"):
        plane.kubectl("run", "x", "--image=x", "--namespace=restricted")
    assert "admissionregistration.k8s.io/v1" in plane.kubectl("api-versions")


def test_every_request_is_audited(plane: ControlPlane) -> None:
    plane.kubectl("get", "namespace", "default", "--output=name")
    assert plane.audit_log is not None
    entries = [json.loads(line) for line in plane.audit_log.read_text().splitlines()]
    assert any(
        entry["requestURI"].startswith("/api/v1/namespaces/default") and entry["userAgent"].startswith("kubectl/") for entry in entries
    )


def test_faults(plane: ControlPlane) -> None:
    plane.pause("apiserver")
    with pytest.raises(TimeoutError):
        request(plane, "/readyz", plane.token)
    plane.resume("apiserver")
    assert request(plane, "/readyz", plane.token) == 200
    plane.kubectl("create", "namespace", "kept")
    for component in ("etcd", "apiserver"):
        plane.kill(component)
        with pytest.raises(ClusterError, match=f"{component} does not run"):
            plane.pause(component)
        plane.restart(component)
    assert plane.kubectl("get", "namespace", "kept", "--output=name") == "namespace/kept\n"


def test_compacted_history_is_gone(plane: ControlPlane) -> None:
    old = json.loads(plane.kubectl("get", "--raw=/api/v1/namespaces"))["metadata"]["resourceVersion"]
    plane.kubectl("create", "namespace", "later")
    assert plane.compact() > int(old)
    plane.restart("apiserver")
    assert '"code":410' in plane.kubectl("get", f"--raw=/api/v1/namespaces?watch=1&resourceVersion={old}&timeoutSeconds=2")


def test_two_at_once_share_nothing_and_leave_nothing(plane: ControlPlane) -> None:
    with ControlPlane(controllers=False) as other:
        assert other.server != plane.server
        assert other.audit_log is None
        other.kubectl("create", "namespace", "other")
        assert "other" not in plane.kubectl("get", "namespaces")
        folder = other.kubeconfig.parent.parent
        assert len(processes_of(folder)) == 2
    assert processes_of(folder) == []
    assert not folder.exists()
    with pytest.raises(ClusterError, match="does not run"):
        other.kubectl("get", "namespaces")


SCRIPT = """
import time
from localcluster import ControlPlane
with ControlPlane({name!r}, controllers=False):
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_its_owner(number: signal.Signals) -> None:
    name = f"test-{os.getpid()}-owner"
    folder = paths.clusters() / name
    with subprocess.Popen([sys.executable, "-c", SCRIPT.format(name=name)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        assert len(processes_of(folder)) == 2
        owner.send_signal(number)
    deadline = time.monotonic() + 5
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_of(folder) == []
    assert folder.exists() == (number == signal.SIGKILL)
    if folder.exists():  # what a killed owner left is no hindrance
        with ControlPlane(name, controllers=False) as again:
            assert again.kubectl("get", "--raw=/readyz") == "ok"


def test_a_server_that_does_not_start_is_reported_by_its_last_line() -> None:
    name = f"test-{os.getpid()}-broken"
    with (
        pytest.raises(ClusterError, match=r"apiserver .*no-such-flag"),
        ControlPlane(name, controllers=False, api_flags=("--no-such-flag",)),
    ):
        pass
    assert not Path(paths.clusters(), name).exists()
    assert processes_of(paths.clusters() / name) == []
