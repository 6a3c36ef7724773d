"""The look for secret values, which every test on pods ends with, finds what is there."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.pods import leaks
from tests.pods.running import Running

pytestmark = pytest.mark.pods

PLANTED = "planted/Secret+value=42"
MANIFEST: dict[str, Any] = {
    "apiVersion": "databases.database-operator.io/v1alpha1",
    "kind": "Database",
    "metadata": {"name": "lite"},
    "spec": {"type": "SQLite", "version": "latest", "storage": {"size": "1Gi"}, "resources": {"cpu": "20m", "memory": "64Mi"}},
}


def _pod() -> dict[str, Any]:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "teller",
        "image": "docker.io/nouchka/sqlite3:latest",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", f"echo 'http://x:planted%2FSecret%2Bvalue%3D42@y/'; sleep 600; : {PLANTED}"],
        "securityContext": security,
    }
    pod_security = {"runAsNonRoot": True, "runAsUser": 999, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": pod_security, "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "teller"}, "spec": spec}


def test_b10_a_planted_value_is_found_in_each_place(database: Callable[[dict[str, Any]], Running]) -> None:
    lite = database(MANIFEST)
    lite.wait_settled()
    planted = {PLANTED: "own-credentials/password"}
    assert leaks.scan(lite.cluster, lite.namespace, planted) == []
    annotation = f"databases.example/x={json.dumps(list(leaks.forms(PLANTED)))}"
    lite.kubectl("annotate", "database", "lite", annotation)
    lite.kubectl("apply", "-f", "-", input=json.dumps(_pod()))
    lite.kubectl("wait", "pod/teller", "--for=condition=Ready", "--timeout=60s")
    found = leaks.scan(lite.cluster, lite.namespace, planted)
    for where in ("Database lite", "argv of teller", "log of teller/teller"):
        assert f"own-credentials/password stands in {where}" in found
    lite.kubectl("delete", "pod", "teller", "--wait=true")
    lite.kubectl("annotate", "database", "lite", "databases.example/x-")


def test_b10_every_form_is_known() -> None:
    for form in leaks.forms(PLANTED):
        assert leaks.leaks(f"a {form} b", {PLANTED: "x"}, "log") == ["x stands in log"]
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n-----END KEY-----\n"
    assert leaks.leaks("{MIIEvQIBADANBgkqhkiG9w0BAQ}", {key: "x"}, "log")
    assert not leaks.leaks("-----BEGIN KEY-----", {key: "x"}, "log")
