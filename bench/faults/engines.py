"""The databases that the bench breaks, and the faults of each one's table."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from bench.faults.clients.base import Client
from bench.faults.clients.elasticsearch import Elasticsearch, ElasticsearchMaster
from bench.faults.clients.mongodb import MongoDB
from bench.faults.clients.postgresql import PostgreSQL
from bench.faults.clients.redis import Redis
from bench.faults.clients.redis_cluster import RedisCluster
from bench.faults.clients.sqlite import SQLite
from bench.faults.site import Database

FAILOVER = ("switchover", "delete-pod", "delete-pod-now", "kill", "hang", "partition-all", "rolling-restart", "evict")
REST = ("partition-peers", "partition-clients", "partition-api", "volume-lost", "all-pods")
AWAY = ("operator-down", "api-server-down", "kill-unseen")


class Engine(Struct, frozen=True):
    name: str
    spec: Callable[[int], dict[str, Any]]  # of so many members
    members: int
    client: Callable[[Database], Client]
    faults: tuple[str, ...]


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("postgresql", PostgreSQL.spec, 3, PostgreSQL, (*FAILOVER, "hang-agent", *REST, *AWAY, "scale")),
        Engine("redis", Redis.spec, 3, Redis, (*FAILOVER, *REST, *AWAY, "scale")),
        Engine("redis-cluster", RedisCluster.spec, 6, RedisCluster, ("switchover", "kill", "delete-pod", "rolling-restart", "all-pods")),
        Engine("sqlite", SQLite.spec, 1, SQLite, ("kill", "delete-pod", "operator-down", "api-server-down")),
        Engine("mongodb-standin", MongoDB.spec, 1, MongoDB, ("kill", "delete-pod")),
        Engine("elasticsearch", Elasticsearch.spec, 3, Elasticsearch, ("kill", "delete-pod", "rolling-restart", "all-pods", "scale")),
        Engine("elasticsearch-master", Elasticsearch.spec, 3, ElasticsearchMaster, ("kill", "hang")),
    )
}
