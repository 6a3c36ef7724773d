"""What a call sends, which error it raises, and how it behaves when the server cannot take more."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from database_operator.kube import auth, errors, metrics
from database_operator.kube.auth import Connection
from database_operator.kube.client import Client
from database_operator.kube.objects import Object
from database_operator.kube.resources import CONFIG_MAP, NAMESPACE, SECRET, STATEFUL_SET, Resource, by_kind, register
from tests.kube.support import CONFIG_MAPS, config_map, serving
from tests.kube.virtual_clock import now, run


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (CONFIG_MAP.path(), "/api/v1/configmaps"),
        (CONFIG_MAP.path("ns"), "/api/v1/namespaces/ns/configmaps"),
        (CONFIG_MAP.path("ns", "c"), "/api/v1/namespaces/ns/configmaps/c"),
        (STATEFUL_SET.path("ns", "s", "status"), "/apis/apps/v1/namespaces/ns/statefulsets/s/status"),
        (NAMESPACE.path(None, "ns"), "/api/v1/namespaces/ns"),
        (NAMESPACE.path("ignored", "ns"), "/api/v1/namespaces/ns"),
        (SECRET.path("ns", "a b?c#d"), "/api/v1/namespaces/ns/secrets/a%20b%3Fc%23d"),
    ],
)
def test_paths(path: str, wanted: str) -> None:
    assert path == wanted


@pytest.mark.parametrize("name", [".", "..", "../x", "a/b", "a%2fb", "/"])
def test_a_name_never_leaves_its_segment(name: str) -> None:
    with pytest.raises(errors.Invalid):
        SECRET.path("ns", name)
    with pytest.raises(errors.Invalid):
        SECRET.path(name, "a")


def test_a_namespaced_object_needs_its_namespace() -> None:
    with pytest.raises(errors.Invalid):
        SECRET.path(None, "a")


def test_kinds_are_found_and_registered() -> None:
    assert by_kind("apps/v1", "StatefulSet").group == "apps"
    assert by_kind("v1", "Secret").group == ""
    with pytest.raises(KeyError):
        by_kind("example.org/v1", "Thing")
    thing = register(Resource("example.org/v1", "Thing", "things"))
    assert by_kind("example.org/v1", "Thing") is thing


@pytest.mark.parametrize(
    ("status", "body", "header", "wanted", "retry_after"),
    [
        (404, '{"reason":"NotFound"}', None, errors.NotFound, None),
        (409, '{"reason":"Conflict"}', None, errors.Conflict, None),
        (409, '{"reason":"AlreadyExists"}', None, errors.AlreadyExists, None),
        (410, '{"reason":"Expired"}', None, errors.Gone, None),
        (403, '{"reason":"Forbidden"}', None, errors.Forbidden, None),
        (422, '{"reason":"Invalid"}', None, errors.Invalid, None),
        (400, "plain text", None, errors.Invalid, None),
        (429, '{"details":{"retryAfterSeconds":3}}', None, errors.TooManyRequests, 3),
        (429, '{"details":{"retryAfterSeconds":3}}', "1", errors.TooManyRequests, 1),
        (429, "", "Wed, 21 Oct 2026 07:28:00 GMT", errors.TooManyRequests, None),
        (500, "etcdserver: request timed out", None, errors.Unavailable, None),
        (503, "<html>", "10", errors.Unavailable, 10),
        (504, "null", None, errors.Unavailable, None),
        (401, '{"reason":"Unauthorized"}', None, errors.ApiError, None),
        (0, '{"code":500}', None, errors.Unavailable, None),
    ],
)
def test_error_classes(status: int, body: str, header: str | None, wanted: type[errors.ApiError], retry_after: float | None) -> None:
    error = errors.from_response(status, body.encode(), header)
    assert type(error) is wanted
    assert error.retry_after == retry_after


def test_an_error_tells_its_causes() -> None:
    body = b'{"reason":"Forbidden","message":"no","details":{"causes":[{"reason":"NamespaceTerminating","field":"x"}]}}'
    error = errors.from_response(403, body)
    assert error.causes == ("NamespaceTerminating",)
    assert str(error) == "403 Forbidden: no"


def test_calls() -> None:
    async def main() -> None:
        async with serving() as (server, client):
            made = await client.create(CONFIG_MAP, config_map("a", data={"x": "1"}))
            assert (made.name, made.namespace, made.uid) == ("a", "default", "uid-101")
            with pytest.raises(errors.AlreadyExists):
                await client.create(CONFIG_MAP, config_map("a"))
            applied = await client.apply(CONFIG_MAP, config_map("a", data={"y": "2"}))
            assert applied.uid == made.uid and applied.resource_version > made.resource_version
            same = await client.apply(CONFIG_MAP, config_map("a", data={"y": "2"}))
            assert same.resource_version == applied.resource_version
            found = await client.get(CONFIG_MAP, "default", "a", type=dict)
            assert found["data"] == {"x": "1", "y": "2"}
            assert (await client.get(CONFIG_MAP, "default", "a", type=Object)).metadata == applied
            assert [obj.metadata.name for obj in await client.list(CONFIG_MAP, "default", type=Object, label_selector="a=b,c in (d)")] == [
                "a"
            ]
            assert "labelSelector=a%3Db%2Cc%20in%20%28d%29&limit=500" in server.requests[-1][1]
            await client.patch(CONFIG_MAP, "default", "a", {"data": {"x": None}})
            with pytest.raises(errors.Conflict):
                await client.update(CONFIG_MAP, {**found, "data": {}})
            with pytest.raises(errors.Conflict):
                await client.delete(CONFIG_MAP, "default", "a", uid="another")
            assert await client.delete(CONFIG_MAP, "default", "a", uid=made.uid, resource_version=str(server.version))
            assert not await client.delete(CONFIG_MAP, "default", "a", uid=made.uid)
            with pytest.raises(errors.NotFound):
                await client.get(CONFIG_MAP, "default", "a", type=Object)
            with pytest.raises(errors.NotFound):
                await client.apply_status(CONFIG_MAP, config_map("a"))

    run(main())


def test_what_goes_over_the_wire() -> None:
    async def main() -> None:
        async with serving() as (server, client):
            await client.apply(CONFIG_MAP, config_map("a"), body=msgspec.json.encode(config_map("a", data={"encoded": "before"})))
            method, path, headers = server.requests[-1]
            assert (method, path) == ("PATCH", "/api/v1/namespaces/default/configmaps/a?fieldManager=database-operator&force=true")
            assert headers["Content-Type"] == "application/apply-patch+yaml"
            assert headers["User-Agent"] == "test/1"
            assert server.objects[CONFIG_MAPS]["default", "a"]["data"] == {"encoded": "before"}
            await client.patch(CONFIG_MAP, "default", "a", {"data": {}}, subresource="status")
            assert server.requests[-1][1].startswith("/api/v1/namespaces/default/configmaps/a/status?")
            assert server.requests[-1][2]["Content-Type"] == "application/merge-patch+json"

    run(main())


def test_k15_a_request_that_was_turned_away_is_sent_again_when_the_server_says() -> None:
    async def main() -> None:
        async with serving() as (server, client):
            begun = now()
            server.fail(2, 429, {"Retry-After": "3"})
            server.fail(1, 503, {"Retry-After": "1"})
            await client.create(CONFIG_MAP, config_map("a"))
            assert 7 <= now() - begun <= 9
            assert server.count("POST") == 4
            server.fail(5, 429, {"Retry-After": "1"})
            with pytest.raises(errors.TooManyRequests) as caught:
                await client.create(CONFIG_MAP, config_map("b"))
            assert caught.value.retry_after == 1
            assert server.count("POST") == 9
            server.fail(1, 429, {"Retry-After": "3600"})
            with pytest.raises(errors.TooManyRequests):
                await client.create(CONFIG_MAP, config_map("b"))

    run(main())


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_may_have_been_executed_is_not_sent_again(status: int) -> None:
    async def main() -> None:
        async with serving() as (server, client):
            server.fail(1, status)
            with pytest.raises(errors.Unavailable):
                await client.create(CONFIG_MAP, config_map("a"))
            assert server.count("POST") == 1

    run(main())


def test_fewer_at_once_after_429_and_more_again_after_success() -> None:
    async def main() -> None:
        async with serving(in_flight=16) as (server, client):

            async def burst(count: int) -> None:
                async with asyncio.TaskGroup() as group:
                    for i in range(count):
                        group.create_task(client.apply(CONFIG_MAP, config_map(f"c{i}")))

            server.fail(10, 429, {"Retry-After": "1"})
            assert client.limiter.limit == 16
            await asyncio.wait_for(burst(16), 60)
            assert client.limiter.limit == 8 or client.limiter.limit == 9, "one second's refusals count once"
            await burst(300)
            assert client.limiter.limit == 16

    run(main())


def test_no_more_at_once_than_allowed_and_nobody_is_passed_over() -> None:
    async def main() -> None:
        async with serving(in_flight=3) as (server, client):
            server.paused.clear()
            calls = [asyncio.create_task(client.create(CONFIG_MAP, config_map(f"c{i}"))) for i in range(9)]
            await asyncio.sleep(1)
            assert len(server.requests) == 3
            calls[4].cancel()
            calls[0].cancel()
            await asyncio.sleep(1)
            assert len(server.requests) == 4, "a cancelled call gives its place to the next"
            server.paused.set()
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert [isinstance(result, BaseException) for result in done] == [i in (0, 4) for i in range(9)]
            assert ("default", "c4") not in server.objects[CONFIG_MAPS]

    run(main())


def test_k15_the_reserved_lane_does_not_wait_behind_the_others() -> None:
    async def main() -> None:
        async with serving(in_flight=1, timeout=1000) as (server, client):
            lane = client.reserved(timeout=5)
            server.paused.clear()
            stuck = asyncio.create_task(client.create(CONFIG_MAP, config_map("stuck")))
            await asyncio.sleep(1)
            urgent = asyncio.create_task(lane.create(CONFIG_MAP, config_map("urgent")))
            await asyncio.sleep(1)
            assert len(server.requests) == 2
            server.paused.set()
            await asyncio.gather(stuck, urgent)
            await lane.close()

    run(main())


def test_a_frozen_server_ends_a_call_in_time() -> None:
    async def main() -> None:
        async with serving(timeout=30) as (server, client):
            server.paused.clear()
            begun = now()
            with pytest.raises(errors.Unavailable):
                await client.get(CONFIG_MAP, "default", "a", type=Object)
            assert now() - begun == pytest.approx(30, abs=1)

    run(main())


def test_nobody_listening_is_unavailable() -> None:
    async def main() -> None:
        client = Client(Connection("http://127.0.0.1:1", lambda: None), user_agent="test/1")
        with pytest.raises(errors.Unavailable) as caught:
            await client.get_raw("/version")
        assert caught.value.status == 0
        with pytest.raises(errors.Unavailable):
            async for _ in client.watch(CONFIG_MAP):
                pass
        await client.close()

    run(main())


def test_no_write_begins_without_the_right_to_lead() -> None:
    async def main() -> None:
        async with serving(in_flight=1) as (server, client):
            leads = True
            client.may_write = lambda: leads
            await client.create(CONFIG_MAP, config_map("a"))
            server.fail(1, 429, {"Retry-After": "5"})
            waiting = asyncio.create_task(client.apply(CONFIG_MAP, config_map("a", data={"x": "1"})))
            await asyncio.sleep(1)
            leads = False
            with pytest.raises(errors.Unavailable, match="NotLeader"):
                await waiting
            writes = [
                client.apply(CONFIG_MAP, config_map("a")),
                client.apply_status(CONFIG_MAP, config_map("a")),
                client.create(CONFIG_MAP, config_map("b")),
                client.update(CONFIG_MAP, config_map("a")),
                client.patch(CONFIG_MAP, "default", "a", {}),
                client.delete(CONFIG_MAP, "default", "a"),
            ]
            before = len(server.requests)
            for write in writes:
                with pytest.raises(errors.Unavailable, match="NotLeader"):
                    await write
            assert len(server.requests) == before
            assert await client.get(CONFIG_MAP, "default", "a", type=Object)

    run(main())


def test_a_refused_token_is_read_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving() as (server, _):
            (tmp_path / "token").write_text("old\n")
            client = Client(Connection(server.url, lambda: None, auth._token_file(tmp_path / "token")), user_agent="test/1")
            await client.create(CONFIG_MAP, config_map("a"))
            assert server.requests[-1][2]["Authorization"] == "Bearer old"
            (tmp_path / "token").write_text("new\n")
            server.fail(1, 401)
            assert await client.get(CONFIG_MAP, "default", "a", type=Object)
            assert server.requests[-1][2]["Authorization"] == "Bearer new"
            server.fail(2, 401)
            with pytest.raises(errors.ApiError, match="401"):
                await client.get(CONFIG_MAP, "default", "a", type=Object)
            (tmp_path / "token").unlink()
            with pytest.raises(errors.Unavailable, match="token"):
                await client.get(CONFIG_MAP, "default", "a", type=Object)
            await client.close()

    run(main())


def test_requests_are_counted() -> None:
    async def main() -> None:
        metrics.reset()
        async with serving() as (server, client):
            await client.create(CONFIG_MAP, config_map("a"))
            await client.create(CONFIG_MAP, config_map("b"))
            with pytest.raises(errors.NotFound):
                await client.get(CONFIG_MAP, "default", "c", type=Object)
            host = server.url.removeprefix("http://")

            def value(code: str, method: str) -> float | None:
                return metrics.REGISTRY.get_sample_value("rest_client_requests_total", {"code": code, "method": method, "host": host})

            assert (value("201", "POST"), value("404", "GET")) == (2, 1)

    run(main())


@contextlib.asynccontextmanager
async def chunks(*parts: bytes) -> AsyncIterator[Client]:
    """A client of a server that answers any watch with these parts of bytes, one a moment."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0.1)
        return response

    app = web.Application()
    app.router.add_get("/{tail:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = Client(Connection(f"http://127.0.0.1:{runner.addresses[0][1]}", lambda: None), user_agent="test/1")
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


def test_lines_are_put_together_however_they_were_cut() -> None:
    async def main() -> None:
        large = json.dumps({"x": "y" * 3_000_000}).encode()
        async with chunks(b'{"a":', b"1}\n{", b'"b":2}\n\n' + large[:1_000_000], large[1_000_000:] + b"\n", b'{"cut off') as client:
            lines = [line async for line in client.watch(CONFIG_MAP)]
        assert [line for line in lines if line] == [b'{"a":1}', b'{"b":2}', large]

    run(main())
