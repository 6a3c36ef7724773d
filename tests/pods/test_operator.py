"""The main job in the cluster: the demo as a user runs it, and the operator under its own rights, killed while it works."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import Cluster

pytestmark = pytest.mark.pods

PROJECT = Path(__file__).resolve().parents[2]
SYSTEM = "database-operator-system"
SAMPLES = [yaml.safe_load(path.read_text()) for path in sorted((PROJECT / "config/samples").glob("*.yaml"))]
READY_SECONDS = 300.0


def operator_pods(cluster: Cluster) -> list[dict[str, Any]]:
    found = json.loads(cluster.kubectl("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=database-operator", "-o", "json"))
    items: list[dict[str, Any]] = found["items"]
    return items


def logs(cluster: Cluster) -> str:
    """What every operator process said, the ones before a restart included."""
    said = []
    for pod in operator_pods(cluster):
        for more in ((), ("--previous",)):
            argv = ("-n", SYSTEM, "logs", pod["metadata"]["name"], *more)
            if not more or any(status["restartCount"] for status in pod["status"].get("containerStatuses", [])):
                said.append(cluster.kubectl(*argv))
    return "\n".join(said)


def kill_leader(cluster: Cluster) -> bool:
    """SIGKILL to the process of the pod that the Lease names; whether there was one."""
    lease = json.loads(cluster.kubectl("-n", SYSTEM, "get", "leases", "-o", "json"))["items"]
    holders = [
        item["spec"].get("holderIdentity", "").partition("_")[0] for item in lease if item["metadata"]["name"] == "database-operator"
    ]
    for pod in operator_pods(cluster):
        if pod["metadata"]["name"] in holders:
            pids = cluster.pod_pids(SYSTEM, pod["metadata"]["name"])
            for pid in pids:
                if b"database-operator" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    return True
    return False


def test_the_demo_shows_every_engine_answer(cluster: Cluster) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "localcluster.demo"], cwd=PROJECT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for sample in SAMPLES:
        assert sample["metadata"]["name"] in done.stdout
        assert f"hello from {sample['spec']['type']}" in done.stdout.replace("\n", "")


def test_the_samples_fit_one_small_node() -> None:
    from database_operator.api.quantity import mebibytes, millicores

    resources = [sample["spec"]["resources"] for sample in SAMPLES]
    assert len(SAMPLES) == 5
    assert sum(millicores(each["cpu"]) for each in resources) <= 1500
    assert sum(mebibytes(each["memory"]) for each in resources) <= 4096
    assert not any("storageClassName" in sample["spec"].get("storage", {}) for sample in SAMPLES)


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.long)])
def test_the_leader_is_killed_while_the_samples_come_up(cluster: Cluster, kills: int) -> None:
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    chance = random.Random()
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.kubectl(
        "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    )
    try:
        killed = 0
        waiting = list(SAMPLES)
        deadline = time.monotonic() + READY_SECONDS
        while killed < kills or waiting:
            assert time.monotonic() < deadline, f"{killed} of {kills} leaders killed"
            if waiting:
                cluster.kubectl("-n", namespace, "apply", "--server-side", "-f", "-", input=json.dumps(waiting.pop()))
            time.sleep(chance.uniform(0.0, 2.0))
            killed += kill_leader(cluster)
        _await_ready(cluster, namespace, deadline)
        _nothing_twice(cluster, namespace)
        assert " 403 " not in logs(cluster)
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def _await_ready(cluster: Cluster, namespace: str, deadline: float) -> None:
    phases: dict[str, str] = {}
    while time.monotonic() < deadline:
        found = json.loads(cluster.kubectl("-n", namespace, "get", "databases", "-o", "json"))["items"]
        phases = {item["metadata"]["name"]: item.get("status", {}).get("phase", "") for item in found}
        if len(phases) == len(SAMPLES) and set(phases.values()) == {"Ready"}:
            return
        time.sleep(0.5)
    raise AssertionError(f"not all Ready: {phases}")


def _nothing_twice(cluster: Cluster, namespace: str) -> None:
    """Every child has the one owner that is there, and every Database one pod."""
    found = json.loads(cluster.kubectl("-n", namespace, "get", "databases", "-o", "json"))["items"]
    uids = {item["metadata"]["uid"] for item in found}
    kinds = "statefulsets,deployments,services,configmaps,serviceaccounts,roles,rolebindings"
    children = json.loads(
        cluster.kubectl("-n", namespace, "get", kinds, "-l", "app.kubernetes.io/managed-by=database-operator", "-o", "json")
    )["items"]
    for child in children:
        assert next(owner["uid"] for owner in child["metadata"]["ownerReferences"]) in uids
    workloads = [child["metadata"]["labels"]["app"] for child in children if child["kind"] in ("StatefulSet", "Deployment")]
    assert sorted(workloads) == sorted(item["metadata"]["name"] for item in found)
    pods = json.loads(cluster.kubectl("-n", namespace, "get", "pods", "-o", "json"))["items"]
    assert len([pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]) == len(SAMPLES)
