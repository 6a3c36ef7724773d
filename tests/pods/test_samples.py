"""The five samples together, through their whole life: up, changed in every field that may change, stopped, deleted, taken up again."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import ClusterError
from tests.pods import records
from tests.pods.running import Running

pytestmark = pytest.mark.pods

TOGETHER_SECONDS = 480.0  # five databases start at once
Make = Callable[[dict[str, Any]], Running]
SAMPLES = [yaml.safe_load(path.read_text()) for path in sorted((Path(__file__).resolve().parents[2] / "config/samples").glob("*.yaml"))]
IMAGES = {
    "PostgreSQL": "docker.io/library/postgres:17",
    "MongoDB": "docker.io/library/mongo:7.0",
    "Redis": "docker.io/library/redis:7.2",
    "Elasticsearch": "docker.elastic.co/elasticsearch/elasticsearch:8.11.0",
    "SQLite": "docker.io/nouchka/sqlite3:latest",
}
# type -> parameter that a running server takes: its name, value and what is read back; and the default
PARAMETERS: dict[str, tuple[str, str | int, str, str]] = {
    "PostgreSQL": ("work_mem", "9MB", "9MB", "4MB"),
    "MongoDB": ("cursorTimeoutMillis", 400000, "400000", "300000"),
    "Redis": ("maxmemory-policy", "volatile-lru", "volatile-lru", "allkeys-lru"),
    "Elasticsearch": ("search.max_buckets", 30000, "30000", "20000"),
    "SQLite": ("foreign_keys", "off", "0", "1"),
}
WRITTEN = {"MongoDB": "setParameter.cursorTimeoutMillis"}  # where the spec names a parameter otherwise than the server

# what may change of a Database of one member, in one manifest: each field in turn, all at once
EVERY_FIELD: dict[str, Any] = {
    "imagePullPolicy": "Never",
    "imagePullSecrets": [{"name": "pull"}],
    "storage": {"size": "3Gi"},
    "resources": {"cpu": "40m", "cpuLimit": "2"},
    "env": [{"name": "NOTE", "value": "$(HOME)"}, {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "own", "key": "word"}}}],
    "deletionPolicy": "Retain",
    "pods": {
        "labels": {"team": "shop"},
        "annotations": {"example.com/note": "x"},
        "spread": "None",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}}
                ]
            }
        },
        "tolerations": [{"key": "x", "operator": "Exists"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}],
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 25,
        "securityContext": {"supplementalGroups": [1234]},
    },
    "service": {"type": "NodePort", "labels": {"team": "shop"}, "annotations": {"example.com/note": "x"}, "externalTrafficPolicy": "Local"},
}


def _changed(sample: dict[str, Any]) -> dict[str, Any]:
    manifest = copy.deepcopy(sample)
    spec, type_ = manifest["spec"], manifest["spec"]["type"]
    section = spec.setdefault(type_.lower(), {})
    name, value, *_ = PARAMETERS[type_]
    section.setdefault("parameters", {})[WRITTEN.get(type_, name)] = value
    section["passwordSecret"] = {"name": "own", "key": "password"}
    resources = spec["resources"] | EVERY_FIELD["resources"]
    spec |= copy.deepcopy(EVERY_FIELD) | {"resources": resources, "image": IMAGES[type_]}
    return manifest


def _replace(running: Running, manifest: dict[str, Any]) -> None:
    """Whole, as ``kubectl replace`` does: what is not in the manifest is taken away."""
    running.kubectl("replace", "-f", "-", input=json.dumps(manifest))


def _pod(running: Running) -> dict[str, Any]:
    (pod,) = running.pods()
    return pod


def _kept(running: Running) -> None:
    assert running.wait("answering with its data", lambda: records.read(running), 240) == records.WORDS


def _shows_every_field(running: Running, type_: str) -> None:
    pod = _pod(running)
    spec, head = pod["spec"], pod["metadata"]
    (container,) = spec["containers"]
    env = {variable["name"]: variable for variable in container["env"]}
    assert container["image"] == IMAGES[type_]
    assert container["imagePullPolicy"] == "Never"
    assert (container["resources"]["requests"]["cpu"], container["resources"]["limits"]["cpu"]) == ("40m", "2")
    assert env["NOTE"]["value"] == "$$(HOME)"
    assert env["WORD"]["valueFrom"]["secretKeyRef"] == {"name": "own", "key": "word"}
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert (head["labels"]["team"], head["annotations"]["example.com/note"]) == ("shop", "x")
    for field in ("nodeSelector", "affinity", "topologySpreadConstraints", "schedulerName", "terminationGracePeriodSeconds"):
        assert spec[field] == EVERY_FIELD["pods"][field], field
    assert EVERY_FIELD["pods"]["tolerations"][0] in spec["tolerations"]
    assert spec["securityContext"]["supplementalGroups"] == [1234]
    service = running.get("service", f"{running.name}-service")
    assert (service["spec"]["type"], service["spec"]["externalTrafficPolicy"]) == ("NodePort", "Local")
    assert (service["metadata"]["labels"]["team"], service["metadata"]["annotations"]["example.com/note"]) == ("shop", "x")
    assert running.login()["password"] == "of my own: /@"
    running.wait("grown", lambda: running.status()["storage"] == {"size": "3Gi"}, 60)


def _shows_none(running: Running, sample: dict[str, Any]) -> None:
    pod = _pod(running)
    (container,) = pod["spec"]["containers"]
    assert not {"NOTE", "WORD"} & {variable["name"] for variable in container["env"]}
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["resources"]["requests"]["cpu"] == sample["spec"]["resources"]["cpu"]
    assert "team" not in pod["metadata"]["labels"]
    assert "example.com/note" not in pod["metadata"]["annotations"]
    assert not {"nodeSelector", "affinity", "imagePullSecrets"} & pod["spec"].keys()
    service = running.get("service", f"{running.name}-service")
    assert service["spec"]["type"] == "ClusterIP"
    assert "team" not in service["metadata"]["labels"]


def _in_force(running: Running, wanted: str) -> None:
    name = PARAMETERS[records.type_of(running)][0]

    def read_back() -> bool:
        found = records.parameter(running, name)
        assert found == wanted, f"{running.name}: {name} is {found!r}, not {wanted!r}"
        return True

    running.wait(f"{name} {wanted}", read_back, 240)


def _stop_and_start(samples: list[Running]) -> None:
    for running in samples:
        running.kubectl("scale", "database", running.name, "--replicas=0")
    for running in samples:
        running.wait("stopped", lambda running=running: running.status()["phase"] == "Stopped" and not running.pods(), 240)  # type: ignore[misc]
        running.kubectl("scale", "database", running.name, "--replicas=1")
    for running in samples:
        running.wait_settled(TOGETHER_SECONDS)
        _kept(running)


def _gone(running: Running) -> bool:
    try:
        running.get("database", running.name)
    except ClusterError:
        return not running.pods()
    return False


@pytest.mark.proves(
    "spec.image", "spec.imagePullPolicy", "spec.imagePullSecrets[].name", "spec.replicas", "spec.storage.size", "spec.resources.cpu",
    "spec.resources.cpuLimit", "spec.env[].name", "spec.env[].value", "spec.env[].valueFrom.secretKeyRef.name",
    "spec.env[].valueFrom.secretKeyRef.key", "spec.deletionPolicy", "spec.pods.labels", "spec.pods.annotations", "spec.pods.spread",
    "spec.pods.nodeSelector", "spec.pods.affinity", "spec.pods.tolerations", "spec.pods.topologySpreadConstraints",
    "spec.pods.schedulerName", "spec.pods.terminationGracePeriodSeconds", "spec.pods.securityContext", "spec.service.type",
    "spec.service.labels", "spec.service.annotations", "spec.service.externalTrafficPolicy", "spec.postgresql.passwordSecret.name",
    "spec.mongodb.passwordSecret.name", "spec.redis.passwordSecret.name", "spec.elasticsearch.passwordSecret.name",
    "spec.sqlite.passwordSecret.name", "spec.postgresql.parameters", "spec.mongodb.parameters", "spec.redis.parameters",
    "spec.elasticsearch.parameters", "spec.sqlite.parameters", "deletionPolicy.Retain",
)  # fmt: skip
@pytest.mark.long
def test_the_samples_live(database: Make) -> None:
    samples = [database(sample) for sample in SAMPLES]
    for running in samples:
        running.wait_settled(TOGETHER_SECONDS)
        records.write(running)
    samples[0].make_secret("own", password="of my own: /@", word="hello")
    for running, sample in zip(samples, SAMPLES, strict=True):
        _replace(running, _changed(sample))
    for running, sample in zip(samples, SAMPLES, strict=True):
        running.wait_settled(TOGETHER_SECONDS)
        _shows_every_field(running, sample["spec"]["type"])
        _in_force(running, PARAMETERS[sample["spec"]["type"]][2])
        _kept(running)

    for running, sample in zip(samples, SAMPLES, strict=True):
        plain = copy.deepcopy(sample)
        plain["spec"]["storage"] = {"size": "3Gi"}  # never smaller
        _replace(running, plain)
    for running, sample in zip(samples, SAMPLES, strict=True):
        running.wait_settled(TOGETHER_SECONDS)
        _shows_none(running, sample)
        _in_force(running, PARAMETERS[sample["spec"]["type"]][3])
    _stop_and_start(samples)

    for running in samples:
        running.kubectl("delete", "database", running.name, "--wait=false")
    for running, sample in zip(samples, SAMPLES, strict=True):
        running.wait("gone", lambda running=running: _gone(running), 240)  # type: ignore[misc]
        again = copy.deepcopy(sample)
        again["spec"]["storage"] = {"size": "3Gi"}
        running.apply(again)
    for running in samples:
        running.wait_settled(TOGETHER_SECONDS)
        _kept(running)
