"""What may go wrong with a list and a watch, on a virtual clock."""

import asyncio
import logging
import random

import pytest

from database_operator.kube.informer import Informer
from database_operator.kube.resources import CONFIG_MAP
from tests.kube.support import CONFIG_MAPS, config_map, serving
from tests.kube.virtual_clock import now, run
from tests.kube.watching import Data, watching


def test_a_silent_watch_is_given_up_after_70_seconds_and_resumed_without_a_list() -> None:
    async def main() -> None:
        async with watching(1) as seen:
            seen.news()
            seen.server.speaking.clear()
            seen.put("c0000", "2")
            await asyncio.sleep(65)
            assert now() - seen.informer.last_heard > 60
            assert seen.server.count("WATCH") == 1
            await asyncio.sleep(10)
            seen.server.speaking.set()
            await asyncio.sleep(1)
            assert (seen.server.count("WATCH"), seen.server.count("LIST")) == (2, 1)
            assert seen.news() == [("c0000", "1", "2")]

    run(main())


def test_a_frozen_server_is_noticed_also_while_a_watch_is_opened() -> None:
    async def main() -> None:
        async with watching(1) as seen:
            seen.server.paused.clear()
            seen.server.cut_watches()
            await asyncio.sleep(200)
            seen.server.paused.set()
            seen.put("c0000", "2")
            await asyncio.sleep(30)
            assert seen.news()[-1] == ("c0000", "1", "2")

    run(main())


def test_k10_k12_history_that_is_gone_is_listed_anew_and_deletions_in_between_are_noticed() -> None:
    async def main() -> None:
        async with watching(3) as seen:
            seen.news()
            seen.server.cut_watches()
            seen.put("c0001", "2")
            seen.server.remove(CONFIG_MAPS, "default", "c0002")
            seen.put("new")
            seen.server.compact()
            await asyncio.sleep(30)
            assert seen.server.count("LIST") == 2
            assert sorted(seen.news()) == [("c0001", "1", "2"), ("c0002", "1", None), ("new", None, "1")]

    run(main())


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd is ill"}}\n',
        b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n',
        b'{"type":"MODIFIED","object":{"metadata":{"na\n',
        b"<html>gateway</html>\n",
        b'{"type":"MODIFIED","object":7}\n',
        b'{"type":"MODIFIED","object":{"metadata":{"name":7}}}\n',
        b'{"kind":"Status"}\n',
        b"\xff\xfe\n",
    ],
)
def test_k12_k13_no_line_ends_the_watching(line: bytes) -> None:
    async def main() -> None:
        async with watching(1) as seen:
            seen.news()
            seen.server.send_line(line)
            await asyncio.sleep(30)
            seen.put("c0000", "2")
            await asyncio.sleep(1)
            assert seen.news() == [("c0000", "1", "2")]
            assert seen.server.count("WATCH") == 2

    run(main())


def test_k13_an_object_of_unknown_shape_is_absent_and_harms_no_other() -> None:
    async def main() -> None:
        async with watching(2) as seen:
            seen.news()
            seen.server.put(CONFIG_MAPS, {**config_map("c0000"), "data": "no mapping"})
            seen.put("c0001", "2")
            await asyncio.sleep(1)
            assert seen.news() == [("c0000", "1", None), ("c0001", "1", "2")]
            seen.put("c0000", "3")
            await asyncio.sleep(1)
            assert seen.news() == [("c0000", None, "3")]
            assert (seen.server.count("LIST"), seen.server.count("WATCH")) == (1, 1)

    run(main())


def test_errors_are_retried_with_a_growing_pause_and_no_list() -> None:
    async def main() -> None:
        async with watching(1) as seen:
            seen.news()
            seen.server.fail(2, 500)
            seen.server.cut_watches()
            seen.put("c0000", "2")
            await asyncio.sleep(5)
            assert seen.server.count("LIST") == 1
            assert seen.news() == [("c0000", "1", "2")]
            seen.server.fail(10**6, 500)
            seen.server.cut_watches()
            before = len(seen.server.requests)
            await asyncio.sleep(600)
            assert 120 <= len(seen.server.requests) - before <= 240, "five seconds apart at most, never hot"
            seen.server.faults.clear()
            seen.server.remove(CONFIG_MAPS, "default", "c0000")
            await asyncio.sleep(11)
            assert seen.news() == [("c0000", "2", None)]

    run(main())


def test_a_watch_that_always_ends_at_once_is_not_hammered() -> None:
    async def main() -> None:
        async with watching(1) as seen:
            before = len(seen.server.requests)
            for _ in range(1000):
                seen.server.cut_watches()
                await asyncio.sleep(0.3)
            assert len(seen.server.requests) - before < 150

    run(main())


def test_an_error_that_lasts_is_written_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with watching(1) as seen:
            for status, level in (503, logging.INFO), (403, logging.ERROR):
                caplog.clear()
                seen.server.fail(20, status)
                seen.server.cut_watches()
                await asyncio.sleep(60)
                said = [
                    record.levelno
                    for record in caplog.records
                    if record.levelno >= logging.INFO and "ended" not in str(record.__dict__["error"])
                ]
                assert said == [level]
                seen.server.faults.clear()
                await asyncio.sleep(10)
                seen.put("c0000", str(status))
                await asyncio.sleep(1)

    caplog.set_level(logging.DEBUG, "database_operator.kube.informer")
    run(main())


def test_retry_after_is_obeyed() -> None:
    async def main() -> None:
        async with watching(1) as seen:
            seen.server.fail(1, 429, {"Retry-After": "20"})
            seen.server.cut_watches()
            await asyncio.sleep(19)
            assert seen.server.count("WATCH") == 2
            await asyncio.sleep(10)
            assert seen.server.count("WATCH") == 3

    run(main())


def test_a_history_lost_between_two_pages_starts_the_list_again() -> None:
    async def main() -> None:
        async with serving() as (server, client):
            for i in range(1001):
                server.put(CONFIG_MAPS, config_map(f"c{i:04}"))
            informer = Informer(client, CONFIG_MAP, Data)

            def cut(_: Data | None, new: Data | None) -> None:
                if server.count("LIST") == 1:
                    server.put(CONFIG_MAPS, config_map("late"))
                    server.compact()

            informer.on_change(cut)
            task = asyncio.create_task(informer.run())
            await asyncio.wait_for(informer.synced.wait(), 30)
            assert len(informer.all()) == 1002
            task.cancel()

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_the_copy_is_the_servers_state_after_any_trouble(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        async with watching(5) as seen:
            server = seen.server
            seen.news()
            told: dict[str, str | None] = {f"c{i:04}": "1" for i in range(5)}
            for _ in range(150):
                name = f"c{dice.randrange(12):04}"
                trouble = dice.random()
                if dice.random() < 0.3 and ("default", name) in server.objects[CONFIG_MAPS]:
                    server.remove(CONFIG_MAPS, "default", name)
                else:
                    seen.put(name, str(dice.randrange(3)))
                if trouble < 0.05:
                    server.cut_watches()
                elif trouble < 0.08:
                    server.compact()
                elif trouble < 0.10:
                    server.send_line(b"garbage\n")
                elif trouble < 0.13:
                    server.fail(dice.randrange(4), dice.choice([429, 500, 503, 410, 502]))
                elif trouble < 0.15:
                    (server.speaking.clear if server.speaking.is_set() else server.speaking.set)()
                await asyncio.sleep(dice.random() * 3)
            server.speaking.set()
            server.faults.clear()
            await asyncio.sleep(100)
            for name, old, new in seen.news():
                assert told.get(name) == old, "the handlers' story has a hole"
                told[name] = new
            wanted = {name: obj["data"]["v"] for (_, name), obj in server.objects[CONFIG_MAPS].items()}
            assert {obj.metadata.name: obj.data["v"] for obj in seen.informer.all()} == wanted
            assert {name: value for name, value in told.items() if value is not None} == wanted

    run(main())
