"""Several members stop, and one is asked for: whoever held the last word before, nothing that was acknowledged is gone."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.pods import test_elasticsearch as elasticsearch
from tests.pods import test_postgresql as postgresql
from tests.pods import test_redis as redis
from tests.pods.running import Running
from tests.pods.test_requests import ask, degraded

pytestmark = [pytest.mark.pods, pytest.mark.long]

Make = Callable[[dict[str, Any]], Running]


def stop(running: Running) -> None:
    running.patch({"replicas": 0})
    running.wait("stopped", lambda: running.status().get("phase") == "Stopped" and not running.pods(), 120)


def come_back(running: Running, members: int) -> None:
    running.patch({"replicas": members})
    running.wait(f"{members} members", lambda: len(running.uids()) == members and running.settled(), 600)


def test_postgresql_comes_back_with_the_primary_on_a_member_that_leaves(database: Make) -> None:
    pg = database(postgresql.MANIFEST | {"spec": postgresql.MANIFEST["spec"] | {"replicas": 3}})
    pg.wait_settled()
    postgresql.run(pg, "CREATE TABLE written (n integer PRIMARY KEY)")
    pg.wait("healthy", lambda: degraded(pg) == "AllMembersHealthy", 60)
    ask(pg, switchover="orders-2")
    assert postgresql.primary(pg) == "orders-2"
    with postgresql.writing(pg) as writer:
        assert writer.more(50)
    stop(pg)
    come_back(pg, 1)
    assert not postgresql.lost(pg, writer.acknowledged)
    assert postgresql.primary(pg) == "orders-0"


def test_redis_comes_back_with_the_primary_on_a_member_that_leaves(database: Make) -> None:
    cache = database(redis.manifest("cache", replicas=3))
    cache.wait_settled()
    cache.wait("healthy", lambda: degraded(cache) == "AllMembersHealthy", 60)
    ask(cache, switchover="cache-2")
    assert redis.primary(cache) == "cache-2"
    keys = [f"key-{number}" for number in range(30)]
    cache.wait("written", lambda: all(redis.write(cache, key) for key in keys), 60)
    stop(cache)
    come_back(cache, 1)
    assert redis.kept(cache, keys)


def test_a_redis_cluster_comes_back_with_fewer_members(database: Make) -> None:
    resources = {"cpu": "20m", "memory": "32Mi", "memoryLimit": "128Mi"}
    cache = database(redis.manifest("cache", replicas=6, redis={"mode": "cluster"}, resources=resources))
    cache.wait_settled()
    keys = [f"key-{number}" for number in range(30)]
    assert all(redis.put(cache, key) for key in keys)
    stop(cache)
    come_back(cache, 3)
    assert redis.got(cache, keys)


def test_elasticsearch_comes_back_with_fewer_members(database: Make) -> None:
    search = database(elasticsearch.MANIFEST | {"spec": elasticsearch.MANIFEST["spec"] | {"replicas": 3}})
    search.wait_settled(600)
    elasticsearch.call(search, "PUT", "/alone", {"settings": {"number_of_shards": 3, "number_of_replicas": 0}})
    for number in range(30):
        elasticsearch.call(search, "PUT", f"/alone/_doc/{number}", {"n": number})
    stop(search)
    come_back(search, 1)
    elasticsearch.call(search, "POST", "/alone/_refresh")
    assert elasticsearch.call(search, "GET", "/alone/_count")["count"] == 30
