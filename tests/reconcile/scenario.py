"""How a scenario on a real API server is run, and what most of them wait for."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from database_operator import config
from database_operator.build import constants as c
from database_operator.engines.base import Platform
from database_operator.kube import resources as r
from database_operator.kube.errors import NotFound
from localcluster import ControlPlane
from tests.reconcile import normal
from tests.reconcile.harness import Hub, hub, operator, until

NAME = "shop"  # of the Database where there is one
PLATFORM = Platform(agent_image=config.parse(["run"], {}).agent_image)
VERSIONS = {"PostgreSQL": "17", "MongoDB": "7.0", "Redis": "7.2", "Elasticsearch": "8.11.0", "SQLite": "latest"}
QUOTA = r.register(r.Resource("v1", "ResourceQuota", "resourcequotas"))

Scenario = Callable[[Hub], Awaitable[None]]


def run(plane: ControlPlane, scenario: Scenario, *, provisions: bool = True) -> None:
    """In a namespace of its own, without an operator."""

    async def main() -> None:
        async with hub(plane, provisions=provisions) as at:
            await scenario(at)

    asyncio.run(main())


def run_operated(plane: ControlPlane, scenario: Scenario) -> None:
    """With an operator that runs from before the scenario to its end."""

    async def operated(at: Hub) -> None:
        async with operator(at):
            await scenario(at)

    run(plane, operated)


async def settled(at: Hub, name: str = NAME, seconds: float = 60.0) -> None:
    """The declared state is reached, and said to be."""
    why: str | None = ""

    async def reached() -> bool:
        nonlocal why
        why = await normal.unsettled(at, name)
        if why is None:
            with contextlib.suppress(NotFound):
                why = await normal.difference_from_plan(at, name, PLATFORM)
        return why is None

    await until(reached, seconds, lambda: f"{name} is not settled: {why}")


async def gone(at: Hub, resource: r.Resource, name: str, seconds: float = 60.0) -> None:
    """The garbage collector learns of a kind that was just installed within 30 s."""

    async def reached() -> bool:
        return not await at.exists(resource, name)

    await until(reached, seconds, lambda: f"{resource.kind} {name} does not go")


async def identities(at: Hub, *kinds: r.Resource) -> dict[str, str]:
    """UIDs by kind and name; by default of what carries data, and of the members."""
    found = {}
    for kind in kinds or (r.POD, r.PERSISTENT_VOLUME_CLAIM, r.SECRET, r.STATEFUL_SET):
        for item in await at.all(kind, f"{c.MANAGED_BY}={c.MANAGER}"):
            found[f"{kind.kind} {item['metadata']['name']}"] = item["metadata"]["uid"]
    return found
