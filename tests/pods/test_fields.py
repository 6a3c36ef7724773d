"""Every field in real pods, one after another: set, changed, taken back. By hand: it takes most of an hour."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from database_operator.api.documentation import LIVE, NEXT, REFUSED, ROLLING
from database_operator.kube.errors import NotFound
from database_operator.kube.resources import Resource
from localcluster import ClusterError
from tests.pods.running import Running
from tests.proofs.rows import spec_fields
from tests.reconcile.fields import FIELDS, Field
from tests.reconcile.harness import Hub
from tests.reconcile.scenario import VERSIONS

pytestmark = [pytest.mark.pods, pytest.mark.long]

ELSEWHERE = {
    "spec.postgresql.parameters": "test_postgresql.py asks the server",
    "spec.postgresql.synchronous": "test_postgresql.py asks the server",
    "spec.version": "the image store has one version of each",
    "spec.image": "test_samples.py; no other image can be pulled",
    "spec.imagePullPolicy": "Always needs a registry; test_samples.py has Never",
    "spec.pods.nodeSelector": "the one node has no such label; test_samples.py",
    "spec.pods.affinity": "the one node is in no zone; test_samples.py",
    "spec.pods.schedulerName": "there is one scheduler",
    "spec.pods.securityContext": "the data is another user's; test_samples.py",
}
CHANGES = spec_fields()
TRIED = [path for path in FIELDS if path not in ELSEWHERE and CHANGES[path.removeprefix("spec.")] != REFUSED]


class Kubectl:
    """As much of a Hub as the table's looks need."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def get(self, resource: Resource, name: str) -> dict[str, Any]:
        try:
            return self._running.get(f"{resource.plural}.{resource.group}".rstrip("."), name)
        except ClusterError as error:
            raise NotFound(404, "NotFound", str(error)) from error


def _body(field: Field) -> dict[str, Any]:
    small = {"cpu": "20m", "memory": "600Mi"} if field.type == "Elasticsearch" else {"cpu": "20m"}
    body: dict[str, Any] = {"type": field.type, "version": VERSIONS[field.type], "storage": {"size": "1Gi"}, "resources": small}
    for part in (field.base, field.value):
        for key, value in part.items():
            body[key] = body.get(key, {}) | value if isinstance(value, dict) else value
    return body


@pytest.mark.parametrize("path", TRIED)
def test_i23_a_field_is_set_changed_and_taken_back(database: Callable[[dict[str, Any]], Running], path: str) -> None:
    field, change = FIELDS[path], CHANGES[path.removeprefix("spec.")]
    kind = {"apiVersion": "databases.database-operator.io/v1alpha1", "kind": "Database", "metadata": {"name": "db"}}
    running = database({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "first"}, "stringData": _values("first")})
    running.make_secret("second", **_values("second"))
    running.name = "db"
    running.apply(kind | {"spec": _body(field)})

    def shows(wanted: Any) -> bool:
        found = asyncio.run(field.seen(cast(Hub, Kubectl(running)), "db"))
        assert found == wanted, f"{path}: {found!r} is seen, not {wanted!r}"
        return True

    steps = [field.changed, *([field.gone] if field.gone is not None else [])]
    running.wait("as created", lambda: shows(field.wants[0]))
    for patch, wanted in zip(steps, field.wants[1:], strict=True):
        running.wait_settled()
        before = running.uids()
        running.kubectl("patch", "database", "db", "--type=merge", "--patch", json.dumps({"spec": patch}))
        running.wait("changed", lambda wanted=wanted: shows(wanted))  # type: ignore[misc]
        if change == ROLLING:
            running.wait("replaced", lambda before=before: running.uids() and not set(before) & set(running.uids()))  # type: ignore[misc]
        running.wait_settled()
        if change in (LIVE, NEXT) and path != "spec.replicas":
            assert set(before) <= set(running.uids())


def _values(name: str) -> dict[str, str]:
    return {key: f"{name}'s {key}" for key in ("password", "one", "two")}
