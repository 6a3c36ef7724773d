"""``kubectl drain`` evicts: the primary of a database moves first, and only one member is away at a time."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from localcluster import ClusterError
from tests.pods import test_postgresql, test_redis, test_redis_faults
from tests.pods.running import Running

pytestmark = [pytest.mark.pods, pytest.mark.long]

Make = Callable[[dict[str, Any]], Running]


def evict(running: Running, pod: str) -> None:
    """What drain asks for: refused while a PodDisruptionBudget would be broken."""
    path = f"/api/v1/namespaces/{running.namespace}/pods/{pod}/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": running.namespace}}
    running.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(body))


def drained(running: Running, primary: Callable[[Running], str]) -> None:
    """Evict the primary, and find another; a second member is refused meanwhile."""
    first = primary(running)
    evict(running, first)
    with pytest.raises(ClusterError, match="disruption budget"):
        evict(running, sorted(pod["metadata"]["name"] for pod in running.pods() if pod["metadata"]["name"] != first)[0])
    running.wait("another primary", lambda: primary(running) != first, 60)
    running.wait_settled()


def test_an_evicted_redis_primary_moves_first(database: Make) -> None:
    cache = database(test_redis.manifest("cache", replicas=3))
    cache.wait_settled()
    with test_redis_faults.writing(cache) as writer:
        assert writer.more(20)
        drained(cache, test_redis.primary)
        assert writer.more(20)
    print(f"Redis: longest gap {writer.longest:.1f} s, {len(writer.acknowledged)} written")
    assert test_redis.kept(cache, writer.acknowledged)


def test_an_evicted_postgresql_primary_moves_first(database: Make) -> None:
    orders = database(test_postgresql.MANIFEST | {"spec": test_postgresql.MANIFEST["spec"] | {"replicas": 3}})
    orders.wait_settled()
    test_postgresql.run(orders, "CREATE TABLE written (n integer PRIMARY KEY)")
    with test_postgresql.writing(orders) as writer:
        drained(orders, test_postgresql.primary)
    print(f"PostgreSQL: longest gap {writer.longest:.1f} s, {len(writer.acknowledged)} written")
    assert not test_postgresql.lost(orders, writer.acknowledged)
