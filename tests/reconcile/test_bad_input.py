"""Input that only a running cluster can judge: what it does to a Database, and that mending it heals."""

import asyncio
import base64
import contextlib
import json
from typing import Any

import pytest

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.kube.errors import ApiError
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, until
from tests.reconcile.scenario import run_operated

pytestmark = pytest.mark.apiserver


def _secret(at: Hub, name: str, **data: bytes) -> dict[str, Any]:
    head = {"name": name, "namespace": at.namespace, "labels": {c.RELOAD: "true"}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": head,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


BAD_SECRETS: dict[str, bytes | None] = {
    "missing": None,
    "other-key": b"",
    "empty": b"",
    "not-text": b"\xff\xfe\x00",
    "broken-line": b"a\nb",
    "with-nul": b"a\0b",
}


def test_i15_a_secret_that_is_none_is_named_and_a_good_one_heals(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        for name, value in BAD_SECRETS.items():
            if value is not None:
                await at.client.create(r.SECRET, _secret(at, name, **({"other": b"x"} if name == "other-key" else {"password": value})))
            await at.create(f"db-{name}", "Redis", "7.2", redis={"passwordSecret": {"name": name}})
        for name in BAD_SECRETS:
            message = (await at.condition(f"db-{name}", "Ready", "SecretNotFound", 30))["message"]
            assert message.startswith("spec.redis.passwordSecret")
            assert name in message
            assert not await at.exists(r.STATEFUL_SET, f"db-{name}")
        for name in BAD_SECRETS:
            with contextlib.suppress(ApiError):
                await at.client.delete(r.SECRET, at.namespace, name)
            await at.client.create(r.SECRET, _secret(at, name, password=b"good at last"))
        for name in BAD_SECRETS:
            await at.phase(f"db-{name}", "Ready", 60)

    run_operated(control_plane, scenario)


def test_i15_a_secret_as_large_as_can_be_is_only_looked_into(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        secrets = [_secret(at, "large", password=b"small", ballast=b"x" * 1_000_000), _secret(at, "long", password=b"x" * 1_000_000)]
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": secrets})
        at.plane.kubectl("apply", "--server-side", "-f", "-", input=manifest)
        await at.create("beside", "Redis", "7.2", redis={"passwordSecret": {"name": "large"}})
        await at.create("itself", "Redis", "7.2", redis={"passwordSecret": {"name": "long"}})
        await at.phase("beside", "Ready", 60)
        assert "4096" in (await at.condition("itself", "Ready", "SecretNotFound", 30))["message"]
        assert "xxx" not in str(await at.status("itself"))
        await at.create("other", "Redis", "7.2")
        await at.phase("other", "Ready", 30)

    run_operated(control_plane, scenario)


def test_i10_what_the_api_server_refuses_of_a_child_costs_no_running_member(control_plane: ControlPlane) -> None:
    """An operator of another vendor deleted the workload and made it anew: the database was gone."""

    async def scenario(at: Hub) -> None:
        await at.create("shop", "Redis", "7.2")
        await at.phase("shop", "Ready")
        before = [await at.uid(kind, name) for kind, name in ((r.POD, "shop-0"), (r.STATEFUL_SET, "shop"), (r.SERVICE, "shop-service"))]
        await at.change("shop", pods={"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]})
        refused = await at.condition("shop", "Ready", "ReconciliationFailed", 30)
        assert "tolerations" in refused["message"]
        await asyncio.sleep(2)
        after = [await at.uid(kind, name) for kind, name in ((r.POD, "shop-0"), (r.STATEFUL_SET, "shop"), (r.SERVICE, "shop-service"))]
        assert after == before
        await at.change("shop", pods=None)
        await at.condition("shop", "Ready", "DatabaseReady", 30)
        assert await at.uid(r.POD, "shop-0") == before[0]

    run_operated(control_plane, scenario)


@pytest.mark.parametrize("seconds", [12, pytest.param(300, marks=pytest.mark.long)])
def test_i24_a_spec_that_flaps_takes_one_member_at_a_time_and_settles(control_plane: ControlPlane, seconds: int) -> None:
    async def scenario(at: Hub) -> None:
        await at.create("shop", "PostgreSQL", "17", replicas=3)
        await at.phase("shop", "Ready", 60)
        least, uids = 3, set[str]()

        async def watch() -> None:
            nonlocal least
            while True:
                pods = await at.all(r.POD, "app=shop")
                uids.update(pod["metadata"]["uid"] for pod in pods)
                ready = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and _is_ready(pod)]
                least = min(least, len(ready))
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        for second in range(seconds):
            await at.change("shop", env=[{"name": "A", "value": str(second % 2)}])
            await asyncio.sleep(1)
        await at.change("shop", env=[{"name": "A", "value": "last"}])

        async def settled() -> bool:
            pods = await at.all(r.POD, "app=shop")
            values = [variable.get("value") for pod in pods for variable in pod["spec"]["containers"][0]["env"] if variable["name"] == "A"]
            status = await at.status("shop")
            return values == ["last"] * 3 and (status["phase"], status["ready"]) == ("Ready", "3/3")

        await until(settled, 60, lambda: "it did not settle on the last value")
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert least >= 2, "more than one member was away"

    run_operated(control_plane, scenario)


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in pod.get("status", {}).get("conditions", []))
