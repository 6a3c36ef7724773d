"""Elasticsearch: an index of one shard with one replica. Each answer carries the term of the primary copy that took the write."""

import base64
import http.client
import json
from collections.abc import Iterable
from typing import Any

from bench.faults.clients.base import TIMEOUT, Refused, Route
from bench.faults.site import Database, manifest

INDEX = "written"


class Session:
    term = ""

    def __init__(self, host: str, login: str, seconds: float = TIMEOUT) -> None:
        self.connection = http.client.HTTPConnection(host, 9200, timeout=seconds)
        self.headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        self.connection.request(method, path, None if body is None else json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def write(self, key: str) -> tuple[str, bool]:
        status, answer = self.ask("PUT", f"/{INDEX}/_create/{key}?timeout=1s", {"key": key})
        if status == 201:
            return f"term {answer['_primary_term']}", answer["_shards"]["successful"] > 1
        if status in (401, 403, 409, 429):
            raise Refused(f"{status} {str(answer)[:200]}")
        raise ConnectionError(f"{status} {str(answer)[:200]}")  # 503 may come after the primary copy has it

    def close(self) -> None:
        self.connection.close()


class Elasticsearch:
    process = "java"
    attached = False
    routes = (Route("service"), Route("discovery"))

    def __init__(self, database: Database) -> None:
        self.database = database
        login = f"elastic:{database.secret('credentials')['password']}"
        self.login = base64.b64encode(login.encode()).decode()

    @staticmethod
    def spec(replicas: int) -> dict[str, Any]:
        resources = {"cpu": "100m", "memory": "900Mi", "memoryLimit": "1200Mi"}
        return manifest("Elasticsearch", "8.11.0", replicas, resources)

    def session(self, seconds: float = 10.0) -> Session:
        return Session(self.database.service(), self.login, seconds)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        session = self.session()
        try:
            status, answer = session.ask(method, path, body)
            if status >= 300 and "resource_already_exists" not in str(answer):
                raise ConnectionError(f"{status} {str(answer)[:200]}")
            return answer
        finally:
            session.close()

    def prepare(self) -> None:
        self._ask("PUT", f"/{INDEX}", {"settings": {"number_of_shards": 1, "number_of_replicas": 1}})
        self._ask("GET", f"/_cluster/health/{INDEX}?wait_for_status=green&timeout=5s")

    def key(self, route: Route, name: str) -> str:
        return name

    def connect(self, route: Route) -> Session:
        """``discovery``: as the official clients do, the next node of a list after each error."""
        if route.kind == "service":
            return Session(self.database.service(), self.login)
        addresses = self.database.addresses()
        self._turn = getattr(self, "_turn", -1) + 1
        return Session(addresses[self._turn % len(addresses)], self.login)

    def present(self, keys: Iterable[str]) -> set[str]:
        wanted, found = list(keys), set[str]()
        for first in range(0, len(wanted), 500):
            answer = self._ask("POST", f"/{INDEX}/_mget?_source=false", {"ids": wanted[first : first + 500]})
            if any("error" in document for document in answer["docs"]):
                raise ConnectionError("a shard does not answer")
            found |= {document["_id"] for document in answer["docs"] if document["found"]}
        return found

    def primary(self) -> str:
        """The node with the primary copy; ``master`` is another question."""
        shards = self._ask("GET", f"/_cat/shards/{INDEX}?format=json")
        return str(next(shard["node"] for shard in shards if shard["prirep"] == "p"))

    def heir(self) -> str:
        raise ConnectionError("Elasticsearch moves no copy by itself when asked")

    def switch(self) -> None:
        self.heir()


class ElasticsearchMaster(Elasticsearch):
    """The victim is the elected master."""

    def primary(self) -> str:
        return str(self._ask("GET", "/_cat/master?format=json")[0]["node"])
