"""List and watch, on a virtual clock."""

import asyncio
import tracemalloc

import pytest

from database_operator.kube.informer import Informer
from database_operator.kube.objects import Key, Object
from database_operator.kube.resources import CONFIG_MAP
from tests.kube.support import CONFIG_MAPS, config_map, owned_by, serving
from tests.kube.virtual_clock import now, run
from tests.kube.watching import Data, Whole, watching


def test_lists_in_pages_then_watches() -> None:
    async def main() -> None:
        async with watching(1201) as seen:
            assert len(seen.news()) == len(seen.informer.all()) == 1201
            assert seen.server.count("LIST") == 3
            seen.put("new")
            seen.put("c0001", "2")
            seen.server.remove(CONFIG_MAPS, "default", "c0000")
            await asyncio.sleep(1)
            assert seen.news() == [("new", None, "1"), ("c0001", "1", "2"), ("c0000", "1", None)]
            found = seen.informer.get("default", "c0001")
            assert found is not None and found.data == {"v": "2"}
            assert seen.informer.get("default", "c0000") is None
            assert seen.server.count("LIST") == 3

    run(main())


def test_an_event_that_changes_nothing_kept_reaches_no_handler_but_its_version_counts() -> None:
    async def main() -> None:
        async with watching(1) as seen:
            seen.news()
            written = seen.put("c0000", annotations={"patroni": "busy"})
            await asyncio.sleep(1)
            assert seen.news() == []
            version = written["metadata"]["resourceVersion"]
            assert await seen.informer.wait_for(Key("default", "c0000"), version, 0)
            found = seen.informer.get("default", "c0000")
            assert found is not None and found.metadata.resource_version == version

    run(main())


def test_every_version_can_be_asked_for() -> None:
    async def main() -> None:
        async with watching(1, type=Object, metadata_only=True, every_version=True) as seen:
            seen.news()
            seen.put("c0000", "2")
            await asyncio.sleep(1)
            assert [name for name, _, _ in seen.news()] == ["c0000"]
            seen.server.put("/api/v1/secrets", config_map("elsewhere"))
            seen.server.compact()
            seen.server.cut_watches()
            await asyncio.sleep(30)
            assert seen.server.count("LIST") == 2
            assert seen.news() == [], "the same version listed again is no news"
            assert all("PartialObjectMetadata" in headers["Accept"] for _, _, headers in seen.server.requests)

    run(main())


def test_an_idle_hour_costs_no_list_and_few_watches() -> None:
    async def main() -> None:
        async with watching(3) as seen:
            seen.news()
            await asyncio.sleep(3600)
            assert seen.server.count("LIST") == 1
            assert 6 <= seen.server.count("WATCH") <= 13
            assert now() - seen.informer.last_heard <= 61
            assert seen.news() == []

    run(main())


def test_bookmarks_keep_the_version_young_enough_to_outlive_a_compaction() -> None:
    async def main() -> None:
        async with watching(1) as seen:
            seen.server.put("/api/v1/secrets", config_map("elsewhere"))
            await asyncio.sleep(61)
            seen.server.compact()
            seen.server.cut_watches()
            await asyncio.sleep(30)
            assert (seen.server.count("LIST"), seen.server.count("WATCH")) == (1, 2)

    run(main())


def test_several_namespaces_and_none_else() -> None:
    async def main() -> None:
        async with watching(0, namespaces=["one", "two"]) as seen:
            for namespace in "one", "two", "three":
                seen.server.put(CONFIG_MAPS, config_map("c", namespace, data={"v": namespace}))
            await asyncio.sleep(1)
            assert sorted(value for _, _, value in seen.news()) == ["one", "two"]
            seen.server.compact()
            seen.server.remove(CONFIG_MAPS, "one", "c")
            seen.server.cut_watches()
            seen.server.compact()
            await asyncio.sleep(30)
            assert [obj.metadata.key for obj in seen.informer.all()] == [Key("two", "c")]
            version = str(seen.server.version)
            assert not await seen.informer.wait_for(Key("two", "c"), str(seen.server.version + 1), 0)
            assert await seen.informer.wait_for(Key("two", "c"), version, 200)

    run(main())


def test_owners_and_indexes() -> None:
    async def main() -> None:
        def secret_of(obj: Data) -> list[str]:
            return [obj.data["secret"]] if "secret" in obj.data else []

        async with watching(0, indexes={"secret": secret_of}) as seen:
            put = seen.server.put
            put(CONFIG_MAPS, config_map("a", ownerReferences=owned_by("u1"), data={"secret": "s"}))
            put(CONFIG_MAPS, config_map("b", ownerReferences=owned_by("u1"), data={"secret": "s"}))
            put(CONFIG_MAPS, config_map("c", ownerReferences=[{**owned_by("u1")[0], "controller": False}]))
            await asyncio.sleep(1)

            def names(found: list[Data]) -> list[str]:
                return [obj.metadata.name for obj in found]

            assert names(seen.informer.by_owner("u1")) == ["a", "b"]
            assert names(seen.informer.by_index("secret", "s")) == ["a", "b"]
            put(CONFIG_MAPS, config_map("a", ownerReferences=owned_by("u2"), data={"secret": "other"}))
            seen.server.remove(CONFIG_MAPS, "default", "b")
            await asyncio.sleep(1)
            assert names(seen.informer.by_owner("u1")) == names(seen.informer.by_index("secret", "s")) == []
            assert names(seen.informer.by_owner("u2")) == names(seen.informer.by_index("secret", "other")) == ["a"]

    run(main())


def test_waiting_for_ones_own_write_is_bounded() -> None:
    async def main() -> None:
        async with watching(1) as seen:
            key = Key("default", "c0000")
            version = str(seen.server.version + 1)
            waiting = asyncio.create_task(seen.informer.wait_for(key, version, 5))
            await asyncio.sleep(1)
            assert not waiting.done()
            seen.put("c0000", "2")
            assert await waiting
            found = seen.informer.get("default", "c0000")
            assert found is not None and found.data == {"v": "2"}
            begun = now()
            assert not await seen.informer.wait_for(key, str(seen.server.version + 1), 5)
            assert now() - begun == pytest.approx(5)
            assert not await seen.informer.wait_for(key, "not-a-number", 1)

    run(main())


def test_raw_fields_do_not_keep_the_page_they_came_in() -> None:
    async def main() -> None:
        async with serving() as (server, client):
            for i in range(3):
                server.put(CONFIG_MAPS, {**config_map(f"c{i}", data={"v": str(i)}), "unwanted": "x" * 1_000_000})
            informer = Informer(client, CONFIG_MAP, Whole)
            tracemalloc.start(8)
            task = asyncio.create_task(informer.run())
            await informer.synced.wait()
            await asyncio.sleep(1)
            server._snapshots.clear()
            large = [trace for trace in tracemalloc.take_snapshot().traces if trace.size > 500_000]
            kept = [trace for trace in large if not any("web_response" in frame.filename for frame in trace.traceback)]  # nor the server's
            tracemalloc.stop()
            assert [bytes(found.data) for found in informer.all()] == [b'{"v": "0"}', b'{"v": "1"}', b'{"v": "2"}']
            assert not kept
            task.cancel()

    run(main())
