"""Events: merged, bounded, and in nobody's way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from database_operator.kube import events
from database_operator.kube.events import Recorder
from tests.kube.fake_apiserver import FakeApiServer
from tests.kube.support import config_map, serving
from tests.kube.virtual_clock import run

EVENTS = "/api/v1/events"


def about(name: str = "a") -> dict[str, Any]:
    return config_map(name, uid=f"uid-of-{name}")


@contextlib.asynccontextmanager
async def recording() -> AsyncIterator[tuple[FakeApiServer, Recorder]]:
    async with serving() as (server, client):
        recorder = Recorder(client, component="database-operator", identity="pod-1")
        task = asyncio.create_task(recorder.run())
        try:
            yield server, recorder
        finally:
            task.cancel()


def stored(server: FakeApiServer) -> list[dict[str, Any]]:
    return list(server.objects.get(EVENTS, {}).values())


def test_an_event_says_what_where_and_who() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            recorder.record(about(), "Warning", "SecretNotFound", "Secret x is not there", action="Reconcile")
            assert server.requests == [], "recording sends nothing by itself"
            await asyncio.sleep(1)
            (event,) = stored(server)
            assert event["involvedObject"] == {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "namespace": "default",
                "name": "a",
                "uid": "uid-of-a",
            }
            wanted = {"type": "Warning", "reason": "SecretNotFound", "message": "Secret x is not there", "action": "Reconcile", "count": 1}
            assert {field: event[field] for field in wanted} == wanted
            assert event["source"] == {"component": "database-operator"}
            assert event["metadata"]["namespace"] == "default"

    run(main())


def test_repeats_are_counted_with_at_most_one_write_a_minute() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            for _ in range(600):
                recorder.record(about(), "Warning", "SecretNotFound", "Secret x is not there")
                await asyncio.sleep(1)
            await asyncio.sleep(60)
            (event,) = stored(server)
            assert event["count"] == 600
            assert server.count("POST") == 1
            assert server.count("PATCH") <= 11
            await asyncio.sleep(601)
            recorder.record(about(), "Warning", "SecretNotFound", "Secret x is not there")
            await asyncio.sleep(1)
            assert [event["count"] for event in stored(server)] == [600, 1]

    run(main())


def test_one_object_cannot_flood() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            for i in range(100):
                recorder.record(about(), "Normal", "Changed", f"change {i}")
            recorder.record(about("b"), "Normal", "Changed", "another object")
            await asyncio.sleep(1)
            assert server.count("POST") == events.BURST + 1
            assert recorder.dropped == 100 - events.BURST
            await asyncio.sleep(events.REFILL)
            recorder.record(about(), "Normal", "Changed", "later")
            await asyncio.sleep(1)
            assert server.count("POST") == events.BURST + 2

    run(main())


def test_overload_drops_and_remembers_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "WAITING", 200)
    monkeypatch.setattr(events, "REMEMBERED", 100)

    async def main() -> None:
        async with recording() as (server, recorder):
            server.paused.clear()
            for i in range(300):
                recorder.record(about(f"o{i}"), "Normal", "Created", "x")
            assert recorder.dropped == 300 - events.WAITING
            assert len(recorder._series) <= events.REMEMBERED
            assert len(recorder._tokens) <= events.REMEMBERED
            server.paused.set()
            await asyncio.sleep(60)
            assert server.count("POST") == events.WAITING

    run(main())


def test_failures_lose_an_event_and_no_more() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            server.fail(3, 500)
            recorder.record(about("a"), "Normal", "Created", "x")
            await asyncio.sleep(7)
            server.fail(1, 403)
            recorder.record(about("b"), "Normal", "Created", "x")
            await asyncio.sleep(1)
            recorder.record(about("c"), "Normal", "Created", "x")
            await asyncio.sleep(1)
            assert [event["involvedObject"]["name"] for event in stored(server)] == ["c"]
            assert recorder.dropped == 2
            recorder.record(about("a"), "Normal", "Created", "x")
            await asyncio.sleep(61)
            assert sorted(event["involvedObject"]["name"] for event in stored(server)) == ["a", "c"]

    run(main())


def test_an_event_is_tried_again_where_that_may_help() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            server.fail(2, 503)
            recorder.record(about(), "Normal", "Created", "x")
            await asyncio.sleep(7)
            assert len(stored(server)) == 1
            assert (server.count("POST"), recorder.dropped) == (3, 0)

    run(main())


def test_an_event_the_server_forgot_is_made_again() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            recorder.record(about(), "Normal", "Created", "x")
            await asyncio.sleep(1)
            server.remove(EVENTS, "default", stored(server)[0]["metadata"]["name"])
            recorder.record(about(), "Normal", "Created", "x")
            await asyncio.sleep(61)
            assert [event["count"] for event in stored(server)] == [2]

    run(main())


def test_a_long_note_is_cut() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            recorder.record(about(), "Normal", "Created", "x" * 5000)
            await asyncio.sleep(1)
            assert len(stored(server)[0]["message"]) == 1024

    run(main())
