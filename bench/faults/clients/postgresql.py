"""PostgreSQL by libpq's own calls that do not block: a server that hangs must not hang its client."""

import base64
import json
import select
import time
import urllib.request
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import pq
from psycopg.conninfo import make_conninfo

from bench.faults.clients.base import TIMEOUT, Refused, Route
from bench.faults.site import Database, manifest

READ_ONLY = b"25006"
WHO = (
    "SELECT host(inet_server_addr()), CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END"
)


class Connection:
    """One connection to ``host``. Raises OSError for whatever goes wrong, TimeoutError after ``TIMEOUT``."""

    def __init__(self, host: str, login: dict[str, str]) -> None:
        known = {"user": login["username"], "password": login["password"], "dbname": login["database"]}
        self.warnings: list[str] = []
        self.server = pq.PGconn.connect_start(make_conninfo(host=host, port=5432, **known).encode())
        self.server.notice_handler = lambda notice: self.warnings.append(_text(notice.error_message))
        deadline = time.monotonic() + TIMEOUT
        while True:
            match self.server.connect_poll():
                case pq.PollingStatus.OK:
                    break
                case pq.PollingStatus.FAILED:
                    self._fail()
                case pq.PollingStatus.READING:
                    self._wait(deadline, writing=False)
                case _:
                    self._wait(deadline, writing=True)
        self.server.nonblocking = 1

    def _fail(self) -> None:
        message = _text(self.server.error_message)
        self.server.finish()
        raise ConnectionError(message)

    def _wait(self, deadline: float, *, writing: bool) -> None:
        sockets = [self.server.socket]
        ready = select.select([] if writing else sockets, sockets if writing else [], [], max(0.0, deadline - time.monotonic()))
        if not (ready[0] or ready[1]):
            self.server.finish()
            raise TimeoutError("the server does not answer")

    def ask(self, sql: str, parameters: Sequence[str] = (), seconds: float = TIMEOUT) -> list[list[str]]:
        """The rows as text. Raises Refused for a server that is read-only."""
        deadline = time.monotonic() + seconds
        self.warnings.clear()
        self.server.send_query_params(sql.encode(), [parameter.encode() for parameter in parameters])
        while self.server.flush():
            self._wait(deadline, writing=True)
        rows: list[list[str]] = []
        result = self._result(deadline)
        while result is not None:  # "done" is sent before the commit: what follows may take it back
            rows = self._rows(result)
            result = self._result(deadline)
        if self.server.status != pq.ConnStatus.OK:
            raise ConnectionError(_text(self.server.error_message))
        return rows

    def _result(self, deadline: float) -> Any:
        while self.server.is_busy():
            self._wait(deadline, writing=False)
            self.server.consume_input()
        return self.server.get_result()

    def _rows(self, result: Any) -> list[list[str]]:
        if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            message = _text(result.error_message)
            if result.error_field(pq.DiagnosticField.SQLSTATE) == READ_ONLY:
                raise Refused(message)
            raise ConnectionError(message)
        return [[(result.get_value(row, column) or b"").decode() for column in range(result.nfields)] for row in range(result.ntuples)]

    def close(self) -> None:
        self.server.finish()


def _text(message: bytes | None) -> str:
    return (message or b"").decode(errors="replace").strip()


class Session:
    def __init__(self, connection: Connection, database: Database) -> None:
        self.connection = connection
        address, timeline = connection.ask(WHO)[0]
        if not timeline:
            connection.close()
            raise ConnectionError(f"{address} is a replica")
        self.term = f"{database.pod_of(address)}/{timeline}"

    def write(self, key: str) -> tuple[str, bool]:
        """A warning comes with a commit that nobody waited for any more: it is granted on one member's word (P17)."""
        self.connection.ask("INSERT INTO written VALUES ($1)", [key])
        if self.connection.warnings:
            raise ConnectionError(self.connection.warnings[0])
        return self.term, True

    def close(self) -> None:
        self.connection.close()


class PostgreSQL:
    process = "postgres"
    attached = True
    routes = (Route("service"), Route("discovery"))

    def __init__(self, database: Database) -> None:
        self.database = database
        self.login = database.secret("credentials")

    @staticmethod
    def spec(replicas: int) -> dict[str, Any]:
        resources = {"cpu": "50m", "memory": "128Mi", "memoryLimit": "512Mi"}
        section = {"database": "shop", "username": "shop"}
        return manifest("PostgreSQL", "17", replicas, resources, postgresql=section)

    def prepare(self) -> None:
        connection = self._connection(Route("service"))
        connection.ask("CREATE TABLE IF NOT EXISTS written (key text PRIMARY KEY)", seconds=10)
        connection.close()

    def key(self, route: Route, name: str) -> str:
        return name

    def _connection(self, route: Route) -> Connection:
        if route.kind != "discovery":
            return Connection(route.address or self.database.service(), self.login)
        for address in self.database.addresses():  # what libpq does with several hosts and target_session_attrs=read-write
            try:
                connection = Connection(address, self.login)
                if connection.ask("SHOW transaction_read_only") == [["off"]]:
                    return connection
                connection.close()
            except (OSError, Refused):
                continue
        raise ConnectionError("no host takes writes")

    def connect(self, route: Route) -> Session:
        return Session(self._connection(route), self.database)

    def present(self, keys: Iterable[str]) -> set[str]:
        """Of the primary: a replica may be a moment behind."""
        connection = self._connection(Route("discovery"))
        try:
            return {row[0] for row in connection.ask("SELECT key FROM written", seconds=60)}
        finally:
            connection.close()

    def primary(self) -> str:
        for address in self.database.addresses():
            try:
                cluster = _get(address, "/cluster")
            except OSError:
                continue
            leaders = [member["name"] for member in cluster["members"] if member["role"] == "leader"]
            if leaders:
                return str(leaders[0])
        raise ConnectionError("Patroni names no leader")

    def heir(self) -> str:
        """The synchronous standby: another one would not have all that was acknowledged."""
        cluster = _get(self.database.address(self.primary()), "/cluster")
        standbys = [member["name"] for member in cluster["members"] if member["role"] in ("sync_standby", "quorum_standby")]
        if not standbys:
            raise ConnectionError("there is no synchronous standby")
        return str(standbys[0])

    def switch(self) -> None:
        """Patroni answers when all is done."""
        heir = self.heir()
        login = base64.b64encode(f"operator:{self.database.secret('internal')['rest-password']}".encode()).decode()
        body = json.dumps({"leader": self.primary(), "candidate": heir}).encode()
        url = f"http://{self.database.address(self.primary())}:8008/switchover"
        request = urllib.request.Request(url, data=body, method="POST", headers={"Authorization": f"Basic {login}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()


def _get(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"http://{address}:8008{path}", timeout=2) as answer:
        return json.loads(answer.read())
