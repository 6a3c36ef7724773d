"""An operator that starts on Databases that are settled; the API server is real, pods and their answers are simulated."""

import asyncio
from typing import Any

import pytest

from database_operator.engines.base import Member, Probe
from database_operator.kube import resources as r
from database_operator.reconcile.connections.base import Target, Unreachable
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, hub, operator

pytestmark = pytest.mark.apiserver

TYPES = {"SQLite": "latest", "PostgreSQL": "17", "Elasticsearch": "8.11.0"}
KINDS = (DATABASE, r.STATEFUL_SET, r.DEPLOYMENT, r.SERVICE, r.CONFIG_MAP, r.SECRET, r.ROLE, r.ROLE_BINDING, r.PERSISTENT_VOLUME_CLAIM)


async def versions(at: Hub) -> dict[tuple[str, str], Any]:
    return {(kind.kind, item["metadata"]["name"]): item["metadata"]["resourceVersion"] for kind in KINDS for item in await at.all(kind)}


def test_a_new_leader_looks_at_everything_and_changes_nothing(control_plane: ControlPlane) -> None:
    async def main() -> None:
        async with hub(control_plane) as at:
            answer = at.probe

            async def behind_a_login(target: Target, member: Member) -> Probe:
                if "password" not in target.credentials:
                    raise Unreachable("no password was given")
                return await answer(target, member)

            at.probe = behind_a_login  # type: ignore[method-assign]
            async with operator(at):
                for type_, version in TYPES.items():
                    await at.create(type_.lower(), type_, version)
                for type_ in TYPES:
                    await at.phase(type_.lower(), "Ready", 30)
                await asyncio.sleep(4)
            before, asked = await versions(at), at.calls("database-operator/")
            async with operator(at):
                await asyncio.sleep(9)
            assert await versions(at) == before
            assert (at.calls("database-operator/") - asked)["patch services 200"] >= 2 * len(TYPES) - 1  # it did look
            assert not asked["get services 404"]  # the first apply creates or is refused; nothing is looked for before

    asyncio.run(main())
