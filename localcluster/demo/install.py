"""The operator and the samples, put into a cluster and taken away again."""

import base64
import datetime
import json
import time
from collections.abc import Callable
from typing import Any

import yaml

from localcluster.demo.place import PROJECT, Place, items
from localcluster.errors import ClusterError

OPERATOR_NAMESPACE = "database-operator-system"
NAMESPACE = "databases-demo"
READY_SECONDS = 240.0
OPERATOR_SECONDS = 180.0
SAMPLES = PROJECT / "config/samples"

Tell = Callable[[str], None]


def operator_manifest(place: Place) -> str:
    """``deploy/base`` with the image that is to run."""
    documents = list(yaml.safe_load_all(place.kubectl("kustomize", str(PROJECT / "deploy/base"))))
    for document in documents:
        if document["kind"] == "Deployment":
            template = document["spec"]["template"]
            container = template["spec"]["containers"][0]
            template["metadata"].setdefault("annotations", {})["database-operator.io/image"] = place.stamp
            before, container["image"] = container["image"], place.image
            for variable in container["env"]:
                if variable.get("value") == before:
                    variable["value"] = place.image
    return yaml.safe_dump_all(documents, sort_keys=False)


def install_operator(place: Place) -> None:
    """Apply the operator and wait until its Deployment is available."""
    place.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=operator_manifest(place))
    crd = "crd/databases.databases.database-operator.io"
    place.kubectl("wait", "--for=jsonpath={.status.acceptedNames.kind}=Database", "--timeout=60s", crd)  # until then it has no conditions
    place.kubectl("wait", "--for=condition=Established", "--timeout=60s", crd)
    argv = ("rollout", "status", "deployment/database-operator", f"--timeout={OPERATOR_SECONDS:.0f}s")
    place.kubectl("-n", OPERATOR_NAMESPACE, *argv)


def apply_samples(place: Place) -> list[str]:
    """The five samples in a namespace that enforces restricted pod security; their names."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    place.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(namespace))
    place.kubectl("apply", "--server-side", "--force-conflicts", "-n", NAMESPACE, "-f", str(SAMPLES))
    return [yaml.safe_load(path.read_text())["metadata"]["name"] for path in sorted(SAMPLES.glob("*.yaml"))]


def await_ready(place: Place, names: list[str], tell: Tell, seconds: float = READY_SECONDS) -> dict[str, dict[str, Any]]:
    """The Databases once all are Ready; tells of every change of phase. Raises ClusterError with what stands in the way."""
    deadline = time.monotonic() + seconds
    told: dict[str, str] = {}
    while True:
        found = {item["metadata"]["name"]: item for item in items(place, "databases", "-n", NAMESPACE)}
        wanted = {name: found[name] for name in names if name in found}
        for name, item in wanted.items():
            phase = item.get("status", {}).get("phase", "Pending")
            if told.get(name) != phase:
                told[name] = phase
                tell(f"{item['spec']['type']:<14} {name:<12} {phase}")
        if len(wanted) == len(names) and all(phase == "Ready" for phase in told.values()):
            return wanted
        if time.monotonic() > deadline:
            late = [
                f"{name}: {item.get('status', {}).get('message', 'no status')}" for name, item in wanted.items() if told[name] != "Ready"
            ]
            raise ClusterError(f"not Ready after {seconds:.0f} s: {'; '.join(late)}", f"kubectl -n {NAMESPACE} describe databases")
        time.sleep(0.5)


def login(place: Place, database: dict[str, Any]) -> dict[str, str]:
    """The values of the Database's binding Secret."""
    secret = items(place, "secret", database["status"]["binding"]["name"], "-n", NAMESPACE)[0]
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def seconds_to_ready(database: dict[str, Any]) -> float:
    """From creation to the last change of the condition Ready; whole seconds, as Kubernetes keeps them."""
    ready = next(condition for condition in database["status"]["conditions"] if condition["type"] == "Ready")
    created, since = (
        datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        for text in (database["metadata"]["creationTimestamp"], ready["lastTransitionTime"])
    )
    return (since - created).total_seconds()


def remove(place: Place) -> None:
    """All that the demo installed; the databases' data too."""
    place.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    place.kubectl("delete", "--ignore-not-found", "-f", "-", input=operator_manifest(place))
