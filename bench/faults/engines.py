"""The databases that the bench breaks, and the faults of each one's table."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from bench.faults.clients.base import Client
from bench.faults.clients.postgresql import PostgreSQL
from bench.faults.clients.redis import Redis
from bench.faults.site import Database

FAILOVER = ("switchover", "evict", "delete-pod", "delete-pod-now", "kill", "hang", "partition-all", "rolling-restart")
REST = ("partition-peers", "partition-clients", "partition-api", "volume-lost", "operator-down", "api-server-down", "all-pods")


class Engine(Struct, frozen=True):
    name: str
    manifest: Callable[[], dict[str, Any]]
    client: Callable[[Database], Client]
    faults: tuple[str, ...]


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("postgresql", lambda: PostgreSQL.spec(3), PostgreSQL, FAILOVER + REST),
        Engine("redis", lambda: Redis.spec(3), Redis, FAILOVER + REST),
    )
}
