"""Real pods on a real node: what the databases will rely on, and that nothing is left of it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster import Cluster, ClusterError, CommandError
from localcluster.processes import executable
from tests.localcluster.conftest import PROBE
from tests.localcluster.machine import Machine, processes_of

pytestmark = pytest.mark.pods

NAMESPACE = "shop"
MANIFESTS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: members, namespace: {NAMESPACE}}}
spec: {{clusterIP: None, publishNotReadyAddresses: true, selector: {{app: cache}}, ports: [{{port: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: cache, namespace: {NAMESPACE}}}
spec: {{selector: {{app: cache}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: cache, namespace: {NAMESPACE}}}
spec:
  serviceName: members
  replicas: 2
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: cache}}}}
  template:
    metadata: {{labels: {{app: cache}}}}
    spec:
      terminationGracePeriodSeconds: 0
      enableServiceLinks: false
      securityContext: {{runAsNonRoot: true, runAsUser: 999, runAsGroup: 999, fsGroup: 999, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
        - name: database
          image: {PROBE}
          args: [serve, /data/name]
          securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
          resources: {{limits: {{memory: 64Mi, cpu: "1"}}}}
          readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
          volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
    - metadata: {{name: data}}
      spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}
"""


def until(check: Callable[[], Any], seconds: float = 30) -> Any:
    """What `check` gives, once it is true; an error of kubectl counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := check():
                return found
        except (CommandError, OSError):
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "not true in time"
        time.sleep(0.1)


def inside(cluster: Cluster, pod: str, *command: str) -> str:
    return cluster.kubectl("exec", f"--namespace={NAMESPACE}", pod, "--", "/bin/probe", *command).strip()


def rollout(cluster: Cluster) -> None:
    cluster.kubectl("rollout", "status", "statefulset/cache", f"--namespace={NAMESPACE}", "--timeout=60s")


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("apply", "--filename=-", input=MANIFESTS)
    rollout(cluster)
    yield cluster


def test_non_root_pods_write_their_volumes(shop: Cluster) -> None:
    assert inside(shop, "cache-0", "read", "/data/name") == "cache-0"
    assert inside(shop, "cache-1", "read", "/data/name") == "cache-1"
    assert "serving as cache-0 uid 999" in shop.kubectl("logs", f"--namespace={NAMESPACE}", "cache-0")


def test_the_restricted_profile_is_enforced(shop: Cluster) -> None:
    with pytest.raises(CommandError, match="violates PodSecurity"):
        shop.kubectl("run", "root", f"--image={PROBE}", f"--namespace={NAMESPACE}")


def test_names_and_services_reach_pods(shop: Cluster) -> None:
    address = shop.kubectl("get", "pod", "cache-1", f"--namespace={NAMESPACE}", "--output=jsonpath={.status.podIP}")
    until(lambda: inside(shop, "cache-0", "lookup", "cache-1.members") == f"[{address}]")
    until(lambda: inside(shop, "cache-0", "get", "http://cache"))  # kube-proxy writes its rules once a second
    assert inside(shop, "cache-0", "get", "http://cache-1.members.shop.svc.cluster.local:8080") == "cache-1"
    assert {inside(shop, "cache-0", "get", "http://cache") for _ in range(12)} == {"cache-0", "cache-1"}, (
        "a pod reaches itself through its Service too"
    )
    assert inside(shop, "cache-0", "connect", "kubernetes.default:443").endswith(":443")


def test_the_machine_reaches_pods_and_services(shop: Cluster) -> None:
    for path in ("pod/cache-0={.status.podIP}:8080", "service/cache={.spec.clusterIP}:80"):
        name, template = path.split("=")
        address = shop.kubectl("get", name, f"--namespace={NAMESPACE}", f"--output=jsonpath={template}")
        with urllib.request.urlopen(f"http://{address}", timeout=5) as answer:
            assert answer.read().startswith(b"cache-")


def test_a_claim_grows(shop: Cluster) -> None:
    claim = ["persistentvolumeclaim/data-cache-0", f"--namespace={NAMESPACE}"]
    shop.kubectl("patch", *claim, '--patch={"spec":{"resources":{"requests":{"storage":"3Gi"}}}}')
    until(lambda: shop.kubectl("get", *claim, "--output=jsonpath={.status.capacity.storage}") == "3Gi")
    with pytest.raises(CommandError, match="can not be less"):
        shop.kubectl("patch", *claim, '--patch={"spec":{"resources":{"requests":{"storage":"1Gi"}}}}')


def test_a_deleted_claims_folder_is_removed(shop: Cluster) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = json.dumps({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "spare"}, "spec": spec})
    shop.kubectl("apply", f"--namespace={NAMESPACE}", "--filename=-", input=claim)
    get = ["get", "persistentvolumeclaim/spare", f"--namespace={NAMESPACE}"]
    name = until(lambda: shop.kubectl(*get, "--output=jsonpath={.spec.volumeName}"))
    folder = shop.folder / "volumes" / name
    assert folder.is_dir()
    until(lambda: shop.kubectl(*get, "--output=jsonpath={.status.phase}") == "Bound")
    shop.kubectl("delete", "persistentvolumeclaim/spare", f"--namespace={NAMESPACE}")
    until(lambda: not folder.exists() and name not in shop.kubectl("get", "persistentvolume", "--output=name"))


def test_processes_and_network_of_a_pod_are_found(shop: Cluster) -> None:
    pids = shop.pod_pids(NAMESPACE, "cache-0", "database")
    assert [executable(pid) for pid in pids] == ["/bin/probe"]
    netns = shop.pod_netns(NAMESPACE, "cache-0")
    assert netns.readlink() == Path(f"/proc/{pids[0]}/ns/net").readlink()
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: shop.pod_pids(NAMESPACE, "cache-0") not in ([], pids))
    assert shop.pod_netns(NAMESPACE, "cache-0") == netns


def test_up_again_changes_nothing(shop: Cluster) -> None:
    before = {name: shop._processes.record(name) for name in shop._processes.names()}
    shop.up(images=())
    assert {name: shop._processes.record(name) for name in shop._processes.names()} == before
    assert shop.status().ready


def test_up_heals_what_was_killed_or_paused(shop: Cluster) -> None:
    kept = shop.pod_pids(NAMESPACE, "cache-1")
    for component in ("containerd", "kubelet", "kube-proxy", "coredns", "provisioner", "etcd"):
        shop.kill(component)
    shop.pause("controller-manager")
    assert {shop.status().components[name] for name in ("containerd", "etcd")} == {"down"}
    shop.up(images=())
    assert shop.status().ready
    rollout(shop)
    assert shop.pod_pids(NAMESPACE, "cache-1") == kept, "pods outlive the node's programs"
    until(lambda: inside(shop, "cache-0", "get", "http://cache-1.members:8080") == "cache-1")


def test_a_node_that_lost_everything_comes_back_with_its_data(shop: Cluster) -> None:
    volume = until(
        lambda: json.loads(shop.kubectl("get", "pvc", "data-cache-1", f"--namespace={NAMESPACE}", "--output=json"))["spec"]["volumeName"]
    )
    shop.kill("init")
    assert processes_of(shop.folder) == []
    shop.up(images=())
    until(lambda: shop.pod_pids(NAMESPACE, "cache-1"), 60)
    rollout(shop)
    assert shop.kubectl("get", "pvc", "data-cache-1", f"--namespace={NAMESPACE}", "--output=jsonpath={.spec.volumeName}") == volume
    until(lambda: inside(shop, "cache-0", "get", "http://cache-1.members:8080") == "cache-1")


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.5, 4.0])
def test_an_up_that_is_killed_beside_another_cluster_can_be_taken_down(shop: Cluster, seconds: float) -> None:
    name = f"test-{os.getpid()}-killed"
    machine = Machine.now(name)
    command = subprocess.Popen([sys.executable, "-m", "localcluster", "up", "--no-images", "--name", name], stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    command.kill()
    command.wait()
    cluster = Cluster(name)
    cluster.down(images=True)
    assert Machine.now(name) == machine
    assert processes_of(cluster.folder) == []
    assert shop.status().ready


def test_a_part_that_does_not_come_up_is_named_and_all_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(f"test-{os.getpid()}-broken")
    machine = Machine.now(cluster.name)
    monkeypatch.setattr("localcluster.node.COREFILE", "{address} {pki} nonsense {{")
    try:
        with pytest.raises(ClusterError, match=r"coredns (ended|did not start): .*Corefile"):
            cluster.up(images=())
        assert processes_of(cluster.folder) == []
        assert Machine.now(cluster.name) == machine
    finally:
        cluster.down(images=True)


def test_down_leaves_nothing_even_after_kills(shop: Cluster, machine: Machine) -> None:
    for component in ("containerd", "kubelet"):
        shop.kill(component)
    assert Machine.now(shop.name) != machine
    shop.down()
    assert Machine.now(shop.name) == machine
    assert processes_of(shop.folder) == []
    assert not shop.folder.exists()
    shop.down()  # nothing to do is no error
