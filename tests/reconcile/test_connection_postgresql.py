"""What the operator asks Patroni, against an HTTP server that answers as Patroni does."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from database_operator.api.status import Role
from database_operator.build import constants as c
from database_operator.engines.base import Command, Member, Platform, Probe
from database_operator.reconcile.connections.base import Target, Unreachable
from database_operator.reconcile.connections.postgresql import CONNECTION
from tests.engines.test_postgresql import database

PRIMARY, REPLICA = "127.0.86.1", "127.0.86.2"
CONFIG = {"ttl": 20, "postgresql": {"parameters": {"work_mem": "4MB"}}}
STATUS: dict[str, dict[str, Any]] = {
    PRIMARY: {
        "state": "running",
        "role": "primary",
        "server_version": 170002,
        "xlog": {"location": 1000},
        "timeline": 3,
        "pending_restart": True,
        "pending_restart_reason": {"max_connections": {"old_value": "100", "new_value": "200"}},
        "database_system_identifier": "7711618459600317634",
    },
    REPLICA: {
        "state": "running",
        "role": "replica",
        "server_version": 170002,
        "xlog": {"received_location": 950, "replayed_location": 900},
        "timeline": 3,
        "replication_state": "streaming",
        "sync_standby": True,
        "database_system_identifier": "7711618459600317634",
    },
}
UNTAKEN = {"untaken": {"work_mem": "no such value"}, "durability": {"fsync": "off"}}
CLUSTER = {"members": [{"name": "orders-0", "role": "leader"}, {"name": "orders-1", "role": "sync_standby"}]}


class Patroni:
    """Two members; keeps the changes it was asked for."""

    def __init__(self, status: int = 200, delay: float = 0.0) -> None:
        self.changes: list[tuple[str, str, str, Any]] = []
        self.status, self.delay = status, delay

    async def handle(self, request: web.Request) -> web.Response:
        host, path = request.url.host or "", request.path
        if request.method == "GET":
            answer = {"/patroni": STATUS[host], "/config": CONFIG, "/cluster": CLUSTER, "/parameters": UNTAKEN}[path]
            return web.json_response(answer)
        login = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        assert login == "operator:pw-rest"
        self.changes.append((host, request.method, path, await request.json()))
        await asyncio.sleep(self.delay)
        return web.Response(status=self.status, text="no candidate is good")


def members(*addresses: str) -> tuple[Member, ...]:
    roles = {PRIMARY: "primary", REPLICA: "replica"}
    return tuple(Member(pod=f"orders-{n}", uid=f"u{n}", ip=ip, role_label=roles.get(ip)) for n, ip in enumerate(addresses))


def with_patroni(patroni: Patroni, ask: Callable[[Target], Awaitable[Any]], *addresses: str) -> Any:
    async def run() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", patroni.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            for address in (PRIMARY, REPLICA):
                await web.TCPSite(runner, address, c.AGENT_PORT).start()
            async with aiohttp.ClientSession() as session:
                target = Target(
                    database=database(replicas=2),
                    platform=Platform(agent_image="agent:1"),
                    session=session,
                    members=members(*(addresses or (PRIMARY, REPLICA))),
                    internal={"rest-password": "pw-rest"},
                )
                return await ask(target)
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def test_a_primary_says_what_it_is() -> None:
    probe: Probe = with_patroni(Patroni(), lambda target: CONNECTION.probe(target, target.members[0]))
    assert (probe.role, probe.version, probe.lag_bytes, probe.pending_restart) == (Role.PRIMARY, "17.2", None, True)
    assert probe.cluster_id == "7711618459600317634"
    assert probe.facts["config"] == CONFIG
    assert probe.facts["untaken"] == {"work_mem": "no such value"}
    assert probe.facts["durability"] == {"fsync": "off"}
    assert probe.facts["pending"] == {"max_connections": {"old_value": "100", "new_value": "200"}}


def test_a_replica_is_measured_against_the_primary() -> None:
    probe: Probe = with_patroni(Patroni(), lambda target: CONNECTION.probe(target, target.members[1]))
    assert (probe.role, probe.lag_bytes, probe.facts["synchronous"], probe.facts["replication_state"]) == (
        Role.REPLICA,
        100,
        True,
        "streaming",
    )
    assert "xlog" not in probe.facts  # what moves with every write must not look like a change


def test_the_lag_is_unknown_without_a_primary_that_answers() -> None:
    probe: Probe = with_patroni(Patroni(), lambda target: CONNECTION.probe(target, target.members[1]), "127.0.86.9", REPLICA)
    assert probe.lag_bytes is None


def test_a_member_that_does_not_answer_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="orders-0"):
        with_patroni(Patroni(), lambda target: CONNECTION.probe(target, target.members[0]), "127.0.86.9")


@pytest.mark.parametrize(
    ("command", "change"),
    [
        (Command("configure", "orders-0", {"patch": {"ttl": 90}}), (PRIMARY, "PATCH", "/config", {"ttl": 90})),
        (Command("restart", "orders-1"), (REPLICA, "POST", "/restart", {"restart_pending": True})),
        (Command("rebuild", "orders-1"), (REPLICA, "POST", "/reinitialize", {"force": True})),
    ],
)
def test_commands_are_sent_with_the_password(command: Command, change: tuple[str, str, str, Any]) -> None:
    assert CONNECTION.command
    patroni = Patroni()
    with_patroni(patroni, lambda target: CONNECTION.command(target, command))  # type: ignore[misc]
    assert patroni.changes == [change]


def test_a_planned_move_is_asked_of_the_primary_once() -> None:
    patroni = Patroni()
    with_patroni(patroni, lambda target: CONNECTION.switchover(target, "orders-1"))  # type: ignore[misc]
    assert patroni.changes == [(PRIMARY, "POST", "/switchover", {"leader": "orders-0", "candidate": "orders-1"})]
    with_patroni(patroni, lambda target: CONNECTION.switchover(target, "orders-0"))  # type: ignore[misc]
    assert len(patroni.changes) == 1


def test_a_refusal_says_why_and_a_late_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable, match="412 no candidate is good"):
        with_patroni(Patroni(status=412), lambda target: CONNECTION.switchover(target, "orders-1"))  # type: ignore[misc]
    monkeypatch.setattr("database_operator.reconcile.connections.postgresql.ANSWER_SECONDS", 0.2)
    patroni = Patroni(delay=1.0)
    with_patroni(patroni, lambda target: CONNECTION.switchover(target, "orders-1"))  # type: ignore[misc]
    assert len(patroni.changes) == 1
