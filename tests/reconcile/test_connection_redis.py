"""Whom the operator takes for chosen by the Sentinels, and that no write is taken by a primary that is about to leave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from database_operator.api.spec import RedisMode
from database_operator.reconcile.connections import redis
from database_operator.reconcile.connections.base import Unreachable
from database_operator.reconcile.connections.redis import View, elected

OLD, NEW = "orders-0.orders-members", "orders-1.orders-members"
PAUSE, UNPAUSE = "CLIENT PAUSE 15000 WRITE", "CLIENT UNPAUSE"
FOLLOW = [f"REPLICAOF {NEW} 6379", "CLIENT KILL TYPE normal", UNPAUSE]


@pytest.mark.parametrize(
    ("views", "host"),
    [
        pytest.param([View(1, NEW, "a"), View(1, NEW, "b"), View(1, NEW, "c")], NEW, id="all agree"),
        pytest.param([View(2, NEW, "a"), View(2, NEW, "b"), View(1, OLD, "c")], NEW, id="one has not heard of the election"),
        pytest.param([View(2, NEW, "a"), View(1, OLD, "b"), View(1, OLD, "c")], None, id="one alone knows of it"),
        pytest.param([View(0, OLD, "a", False, OLD), View(0, OLD, "b"), View(0, OLD, "c")], None, id="r03 a failover goes on"),
        pytest.param([View(0, NEW, "a", False, OLD), View(0, OLD, "b"), View(0, OLD, "c")], NEW, id="r03 it has promoted one"),
        pytest.param([View(0, OLD, "b"), View(0, OLD, "c")], None, id="the one that is silent may lead a failover"),
        pytest.param([], None, id="nobody answers"),
    ],
)
def test_r03_a_promotion_that_goes_on_is_not_undone(views: list[View], host: str | None) -> None:
    assert elected(views) == host


class Played:
    """The Sentinels, which are one here, and the old primary; ``said`` is what they are told that changes anything."""

    def __init__(self, *, going: bool = False, tilt: bool = False, caught_up: bool = True, answer: Exception | None = None) -> None:
        self.going, self.tilt, self.behind, self.answer = going, tilt, 0 if caught_up else 1, answer
        self.said: list[str] = []

    async def execute_command(self, *words: Any) -> Any:
        match words:
            case ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", _):
                return [OLD, 6379]  # Sentinel looks once a second
            case ("SENTINEL", "MASTER", _):
                return {"config-epoch": 1, "ip": OLD, "flags": "master,failover_in_progress" if self.going else "master"}
            case ("SENTINEL", "REPLICAS", _):
                return [{"ip": NEW, "slave-priority": "1"}]
            case ("SENTINEL", "FAILOVER", _):
                self.said.append("SENTINEL FAILOVER")
                if self.answer is not None:
                    raise self.answer
                self.going = True
            case _:
                self.said.append(" ".join(map(str, words)))
        return "OK"

    async def info(self, section: str) -> dict[str, Any]:
        if section == "sentinel":
            return {"sentinel_tilt": int(self.tilt)}
        return {
            "role": "master" if self.going else "slave",
            "master_repl_offset": 7,
            "slave_repl_offset": 7 - self.behind,
            "master_link_status": "up",
        }

    async def config_get(self, name: str) -> dict[str, str]:
        return {name: "1"}


@pytest.mark.parametrize(
    ("played", "said"),
    [
        pytest.param(Played(), [PAUSE, "SENTINEL FAILOVER", *FOLLOW], id="in one pass"),
        pytest.param(Played(going=True), [PAUSE, *FOLLOW], id="a failover goes on: the pause is renewed"),
        pytest.param(Played(caught_up=False), [PAUSE, UNPAUSE], id="behind: writes go on"),
        pytest.param(Played(tilt=True), [], id="Sentinel would begin when the pause is over"),
        pytest.param(Played(answer=ResponseError("NOGOODSLAVE none")), [PAUSE, "SENTINEL FAILOVER", UNPAUSE], id="refused: writes go on"),
        pytest.param(Played(answer=ResponseError("INPROG it goes on")), [PAUSE, "SENTINEL FAILOVER"], id="another asked: still paused"),
        pytest.param(Played(answer=TimeoutError()), [PAUSE, "SENTINEL FAILOVER"], id="no answer: it may have heard"),
    ],
)
def test_writes_stay_paused_while_sentinel_may_fail_over(monkeypatch: pytest.MonkeyPatch, played: Played, said: list[str]) -> None:
    @asynccontextmanager
    async def client(*_: Any) -> AsyncIterator[Played]:
        try:
            yield played
        except (ResponseError, OSError) as error:
            raise Unreachable(str(error)) from error

    async def sentinels(_: Any) -> list[str]:
        return ["10.0.0.1"]

    monkeypatch.setattr(redis, "client", client)
    monkeypatch.setattr(redis, "_sentinels", sentinels)
    target: Any = SimpleNamespace(
        database=SimpleNamespace(redis=SimpleNamespace(mode=RedisMode.SENTINEL)), member=lambda pod: SimpleNamespace(pod=pod, ip="10.0.0.2")
    )
    moved = None
    with suppress(Unreachable):
        moved = asyncio.run(redis.switchover(target, "orders-1"))
    assert played.said == said
    assert (moved == "orders-1") == (said[-len(FOLLOW) :] == FOLLOW)
