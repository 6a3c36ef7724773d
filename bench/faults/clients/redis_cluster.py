"""Redis Cluster: a client asks any member who owns the slot of its key, and writes there. One writer for each shard."""

import itertools
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import redis
from redis.crc import key_slot

from bench.faults.clients.base import Route
from bench.faults.clients.redis import Session, found_in, server
from bench.faults.site import Database, manifest

SHARDS = 3
SLOTS = 16384


def tag(shard: int) -> str:
    """A hash tag whose slot is in the middle third of the slots of ``shard``, where no rounding matters."""
    share = SLOTS / SHARDS
    return next(
        word
        for word in (f"{{{number}}}" for number in itertools.count())
        if shard + 1 / 3 < key_slot(word[1:-1].encode()) / share < shard + 2 / 3
    )


class RedisCluster:
    process = "redis-server"
    attached = True
    routes = tuple(Route("discovery", group=str(shard)) for shard in range(SHARDS))

    def __init__(self, database: Database) -> None:
        self.database = database
        self.password = database.secret("credentials")["password"]

    @staticmethod
    def spec(replicas: int) -> dict[str, Any]:
        resources = {"cpu": "20m", "memory": "32Mi", "memoryLimit": "128Mi"}
        return manifest("Redis", "7.2", replicas, resources, redis={"mode": "cluster"})

    def prepare(self) -> None:
        for route in self.routes:
            self.connect(route).close()

    def key(self, route: Route, name: str) -> str:
        return f"{tag(int(route.group))}{name}"

    def owner(self, group: str) -> str:
        """The pod that owns the shard, by the first member that answers."""
        slot = key_slot(tag(int(group))[1:-1].encode())
        for address in self.database.addresses():
            try:
                with closing(server(address, self.password)) as member:
                    slots = member.execute_command("CLUSTER", "SLOTS")
            except (redis.RedisError, OSError):
                continue
            for first, last, owner, *_ in slots:
                if int(first) <= slot <= int(last):
                    return str(owner[0]).partition(".")[0]
        raise ConnectionError(f"nobody owns slot {slot}")

    def connect(self, route: Route) -> Session:
        address = route.address or self.database.address(self.owner(route.group))
        return Session(server(address, self.password))

    def present(self, keys: Iterable[str]) -> set[str]:
        wanted = list(keys)
        found: set[str] = set()
        for route in self.routes:
            start = tag(int(route.group))
            address = self.database.address(self.owner(route.group))
            found |= found_in(server(address, self.password), [key for key in wanted if key.startswith(start)])
        return found

    def primary(self) -> str:
        return self.owner("0")

    def heir(self) -> str:
        with closing(server(self.database.address(self.primary()), self.password)) as primary:
            info = primary.info("replication")
        replicas = [value for name, value in info.items() if name.startswith("slave") and isinstance(value, dict)]
        if not replicas:
            raise ConnectionError("the shard has no replica")
        return str(replicas[0]["ip"]).partition(".")[0]

    def switch(self) -> None:
        """The replica asks: its primary holds writes until it has them all."""
        operator = self.database.secret("internal")["operator-password"]
        server(self.database.address(self.heir()), operator, "operator").execute_command("CLUSTER", "FAILOVER")
