"""Redis alone or under Sentinel. An answer to WAIT tells whether a replica has the write: only those are promised to stay."""

import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bench.faults.clients.base import TIMEOUT, Refused, Route
from bench.faults.site import Database, manifest
from database_operator.build.redisconf import MASTER_NAME

WAIT_MS = 500


def server(host: str, password: str, username: str = "default", port: int = 6379) -> Any:
    """One connection, made at once, that does nothing twice: redis-py would send a write again by itself."""
    return redis.Redis(
        host=host,
        port=port,
        username=username,
        password=password,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        single_connection_client=True,
    )


class Session:
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        info = connection.info("replication")
        if info["role"] != "master":
            connection.close()
            raise ConnectionError("a replica")
        host = str(connection.config_get("replica-announce-ip")["replica-announce-ip"])
        self.term = f"{host.partition('.')[0]}/{info['master_replid'][:8]}"

    def write(self, key: str) -> tuple[str, bool]:
        try:
            self.connection.set(key, "x")
        except redis.ResponseError as error:
            raise Refused(str(error)) from error
        try:
            return self.term, int(self.connection.wait(1, WAIT_MS)) >= 1
        except redis.RedisError:
            return self.term, False

    def close(self) -> None:
        self.connection.close()


class Redis:
    process = "redis-server"
    attached = True
    routes = (Route("service"), Route("discovery"))

    def __init__(self, database: Database) -> None:
        self.database = database
        self.password = database.secret("credentials")["password"]

    @staticmethod
    def spec(replicas: int) -> dict[str, Any]:
        return manifest("Redis", "7.2", replicas, {"cpu": "20m", "memory": "32Mi", "memoryLimit": "128Mi"})

    def prepare(self) -> None:
        Session(server(self.database.service(), self.password)).close()

    def key(self, route: Route, name: str) -> str:
        return name

    def connect(self, route: Route) -> Session:
        address = route.address or self.database.service()
        if route.kind == "discovery":
            address = self.database.address(self.primary())
        return Session(server(address, self.password))

    def present(self, keys: Iterable[str]) -> set[str]:
        return found_in(server(self.database.service(), self.password), keys)

    def primary(self) -> str:
        """Of the first Sentinel that answers, as a client asks."""
        for address in self.database.sentinels():
            try:
                with closing(server(address, self.password, port=26379)) as sentinel:
                    found = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
                return str(found[0]).partition(".")[0]
            except (redis.RedisError, OSError, TypeError):
                continue
        raise ConnectionError("no Sentinel answers")

    def heir(self) -> str:
        primary = self.primary()
        return next(pod for pod in self.database.members() if pod != primary)

    def switch(self) -> None:
        """Writes wait until a replica has them all, then Sentinel fails over: as the agent does when the primary's pod stops."""
        password = self.database.secret("internal")["operator-password"]
        primary = server(self.database.address(self.primary()), password, "operator")
        sentinel = server(self.database.sentinels()[0], password, "operator", 26379)
        primary.execute_command("CLIENT", "PAUSE", 15000, "WRITE")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not _caught_up(primary.info("replication")):
            time.sleep(0.02)
        sentinel.execute_command("SENTINEL", "FAILOVER", MASTER_NAME)
        primary.close()
        sentinel.close()


def _caught_up(info: dict[str, Any]) -> bool:
    replicas = [value for name, value in info.items() if name.startswith("slave") and isinstance(value, dict)]
    return any(int(replica["offset"]) == int(info["master_repl_offset"]) for replica in replicas if replica["state"] == "online")


def found_in(connection: Any, keys: Iterable[str]) -> set[str]:
    wanted, found = list(keys), set[str]()
    for first in range(0, len(wanted), 500):
        part = wanted[first : first + 500]
        pipeline = connection.pipeline(transaction=False)
        for key in part:
            pipeline.exists(key)
        found |= {key for key, there in zip(part, pipeline.execute(), strict=True) if there}
    connection.close()
    return found
