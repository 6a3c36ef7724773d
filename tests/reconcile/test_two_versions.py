"""A newer operator, whose builders and agent differ, takes over Databases of an older one; pods and engines are played."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from database_operator.build import constants as c
from database_operator.build import pod as pods
from database_operator.kube import resources as r
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, hub, operator, until
from tests.reconcile.scenario import VERSIONS

pytestmark = pytest.mark.apiserver

NEWER = ("--agent-image", "registry.example/agent:next")


@pytest.fixture
def newer_builders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """While the list holds True, every pod template has a variable more, as a later release might."""
    switch = [False]
    real = pods._database_container

    def container(*args: Any) -> Any:
        made = real(*args)
        return made | {"env": [*made["env"], {"name": "NEXT", "value": "1"}]} if switch[0] else made

    monkeypatch.setattr(pods, "_database_container", container)
    yield switch


async def members(at: Hub) -> dict[str, str]:
    found = await at.all(r.POD, f"{c.COMPONENT}=database")
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


async def reason(at: Hub, name: str) -> str:
    conditions = (await at.status(name)).get("conditions", ())
    return str(next((condition["reason"] for condition in conditions if condition["type"] == "Progressing"), ""))


async def all_are(at: Hub, wanted: str) -> None:
    async def reached() -> bool:
        return {await reason(at, name.lower()) for name in VERSIONS} == {wanted}

    await until(reached, 60, lambda: f"not all are {wanted}")


def test_k37_a_newer_operator_restarts_nothing_and_says_what_waits(control_plane: ControlPlane, newer_builders: list[bool]) -> None:
    """And the older one again: nothing either. A restart that happens anyway brings the new template."""

    async def scenario(at: Hub) -> None:
        async with operator(at):
            for type_, version in VERSIONS.items():
                await at.create(type_.lower(), type_, version, replicas=1 if type_ == "SQLite" else 2)
            for type_ in VERSIONS:
                await at.phase(type_.lower(), "Ready", 60)
            await all_are(at, "Settled")
        before = await members(at)
        newer_builders[0] = True
        async with operator(at, "--resync-period", "3s", *NEWER):
            await all_are(at, "UpdatePending")
            assert {(await at.status(type_.lower()))["phase"] for type_ in VERSIONS} == {"Ready"}
            await asyncio.sleep(4)
            assert await members(at) == before
            restart = {"metadata": {"annotations": {c.RESTARTED_AT: "now"}}}
            await at.client.patch(DATABASE, at.namespace, "redis", restart)
            await at.client.patch(DATABASE, at.namespace, "sqlite", restart)

            async def renewed() -> bool:
                return (await reason(at, "redis"), await reason(at, "sqlite")) == ("Settled", "Settled")

            await until(renewed, 60, lambda: "a restart did not bring the new template")
            for pod in await at.all(r.POD, f"{c.COMPONENT}=database"):
                of = pod["metadata"]["labels"][c.INSTANCE]
                new = any(variable["name"] == "NEXT" for variable in pod["spec"]["containers"][0]["env"])
                assert new is (of in ("redis", "sqlite")), of
        newer_builders[0] = False
        between = await members(at)
        async with operator(at, "--resync-period", "3s"):
            await asyncio.sleep(8)
            assert await members(at) == between
            assert await reason(at, "postgresql") == "Settled"
            assert await reason(at, "redis") == "UpdatePending"

    async def main() -> None:
        async with hub(control_plane) as at:
            await scenario(at)

    asyncio.run(main())
