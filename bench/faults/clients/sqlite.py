"""SQLite over its HTTP API."""

import http.client
import json
from collections.abc import Iterable
from typing import Any

from bench.faults.clients.base import TIMEOUT, Refused, Route
from bench.faults.site import Database, manifest


class Session:
    def __init__(self, database: Database, seconds: float = TIMEOUT) -> None:
        token = database.secret("credentials")["password"]
        self.connection = http.client.HTTPConnection(database.service(), 8080, timeout=seconds)
        self.connection.connect()
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.term = ",".join(database.members())

    def ask(self, path: str, sql: str, *parameters: str) -> Any:
        self.connection.request("POST", path, json.dumps({"sql": sql, "parameters": parameters}), self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status in (400, 401, 403, 404):
            raise Refused(f"{answer.status} {body[:200]!r}")
        if answer.status != 200:
            raise ConnectionError(f"{answer.status} {body[:200]!r}")
        return json.loads(body)

    def write(self, key: str) -> tuple[str, bool]:
        self.ask("/-/execute", "INSERT INTO written VALUES (?)", key)
        return self.term, True

    def close(self) -> None:
        self.connection.close()


class SQLite:
    process = ""  # the interpreter's name is the image's matter: all of the container
    attached = False
    routes = (Route("service"),)

    def __init__(self, database: Database) -> None:
        self.database = database

    @staticmethod
    def spec(replicas: int) -> dict[str, Any]:
        return manifest("SQLite", "latest", replicas, {"cpu": "20m", "memory": "64Mi", "memoryLimit": "256Mi"})

    def _ask(self, path: str, sql: str) -> Any:
        session = Session(self.database, 30.0)
        try:
            return session.ask(path, sql)
        except Refused as error:
            raise ConnectionError(str(error)) from error
        finally:
            session.close()

    def prepare(self) -> None:
        self._ask("/-/execute", "CREATE TABLE IF NOT EXISTS written (key TEXT PRIMARY KEY)")

    def key(self, route: Route, name: str) -> str:
        return name

    def connect(self, route: Route) -> Session:
        return Session(self.database)

    def present(self, keys: Iterable[str]) -> set[str]:
        """Raises ConnectionError where the file is damaged."""
        if self._ask("/-/query", "PRAGMA integrity_check")["rows"] != [["ok"]]:
            raise ConnectionError("integrity_check is not ok")
        rows = self._ask("/-/query", "SELECT json_group_array(key) FROM written")["rows"]  # one row: answers are bounded
        return set(json.loads(rows[0][0]))

    def primary(self) -> str:
        return next(iter(self.database.members()))

    def heir(self) -> str:
        raise ConnectionError("SQLite has one member")

    def switch(self) -> None:
        self.heir()
