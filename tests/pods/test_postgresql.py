"""PostgreSQL in real pods: it comes up, keeps what it acknowledged, takes changes while it runs, and fails over."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.pods.running import Running
from tests.pods.writing import Writer

pytestmark = pytest.mark.pods

MANIFEST: dict[str, Any] = {
    "apiVersion": "databases.database-operator.io/v1alpha1",
    "kind": "Database",
    "metadata": {"name": "orders"},
    "spec": {
        "type": "PostgreSQL",
        "version": "17",
        "storage": {"size": "1Gi"},
        "resources": {"cpu": "50m", "memory": "128Mi", "memoryLimit": "512Mi"},
        "postgresql": {"database": "shop", "username": 'o\'brien "x"', "parameters": {"work_mem": "8MB"}},
    },
}
ROLE = "databases.database-operator.io/role"


def connected(pg: Running, service: str = "service") -> psycopg.Connection[Any]:
    """Once the Service leads to a server that takes the login: kube-proxy follows a pod that became ready a moment later."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return connect(pg, service)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def takes(pg: Running, password: str) -> bool:
    try:
        connect(pg, password=password).close()
    except psycopg.OperationalError:
        return False
    return True


def connect(pg: Running, service: str = "service", **more: Any) -> psycopg.Connection[Any]:
    login = pg.login()
    host = pg.get("service", f"{pg.name}-{service}")["spec"]["clusterIP"]
    known = {"user": login["username"], "password": login["password"], "dbname": login["database"]}
    return psycopg.connect(host=host, connect_timeout=3, autocommit=True, options="-c statement_timeout=5000", **(known | more))


def ask(pg: Running, sql: Any, service: str = "service") -> Any:
    with connected(pg, service) as connection:
        row = connection.execute(sql).fetchone()
        return row[0] if row else None


def run(pg: Running, sql: Any) -> None:
    with connected(pg) as connection:
        connection.execute(sql)


def primary(pg: Running) -> str:
    return str(
        pg.wait("a primary", lambda: [p["metadata"]["name"] for p in pg.pods() if p["metadata"]["labels"].get(ROLE) == "primary"])[0]
    )


def signal_server(pg: Running, number: signal.Signals) -> None:
    """To the postmaster: the one process of the server whose command line begins with its path."""
    for pid in pg.cluster.pod_pids(pg.namespace, primary(pg), "database"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a backend that has ended meanwhile
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"/bin/postgres"):
                os.kill(pid, number)


@contextlib.contextmanager
def inserting(pg: Running) -> Iterator[Callable[[int], int]]:
    """One connection, through the Service."""

    def put(number: int) -> int:
        connection.execute("INSERT INTO written VALUES (%s)", [number])
        return number

    try:
        with connect(pg) as connection:
            yield put
    except psycopg.Error as error:
        raise ConnectionError(str(error)) from error


def writing(pg: Running) -> Writer[int]:
    return Writer(lambda: inserting(pg))


def lost(pg: Running, acknowledged: list[int]) -> set[int]:
    with connected(pg) as connection:
        return set(acknowledged) - {row[0] for row in connection.execute("SELECT n FROM written").fetchall()}


@pytest.fixture
def pg(database: Callable[[dict[str, Any]], Running]) -> Running:
    running = database(MANIFEST)
    running.wait_settled()
    run(running, "CREATE TABLE written (n integer PRIMARY KEY)")
    return running


@pytest.mark.proves("spec.postgresql.database", "spec.postgresql.username")
def test_postgresql_lives(pg: Running) -> None:
    assert ask(pg, "SHOW work_mem") == "8MB"
    assert ask(pg, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    for outsider, answer in (
        ({"user": "postgres"}, "rejects"),
        ({"dbname": "operator"}, "rejects"),
        ({"password": "wrong"}, "authentication"),
    ):
        with pytest.raises(psycopg.OperationalError, match=answer):
            connect(pg, **outsider)

    before = pg.uids()
    for number in (signal.SIGKILL, signal.SIGSTOP):  # P01, P03
        with writing(pg) as writer:
            signal_server(pg, number)
        assert not lost(pg, writer.acknowledged)
        run(pg, "TRUNCATE written")
    assert (pg.uids(), pg.restarts()) == (before, 0)

    run(pg, "INSERT INTO written VALUES (7)")
    pg.kubectl("delete", "pod", "--selector=app=orders")
    pg.wait("replaced", lambda: pg.uids() and pg.uids() != before)
    pg.wait_settled()
    assert ask(pg, "SELECT n FROM written") == 7


@pytest.mark.proves("spec.postgresql.parameters", "spec.postgresql.passwordSecret.name")
def test_i23_parameters_and_passwords_change_in_the_running_server(pg: Running) -> None:
    before = pg.uids()
    pg.patch({"postgresql": {"parameters": {"work_mem": None, "statement_timeout": "9s", "max_connections": 40}}})
    pg.wait("in force", lambda: ask(pg, "SHOW max_connections") == "40", 90)
    pg.wait_settled()
    assert ask(pg, "SHOW work_mem") == "4MB"
    assert ask(pg, "SELECT reset_val FROM pg_settings WHERE name = 'statement_timeout'") == "5000"  # the session's own wins
    pg.patch({"postgresql": {"parameters": None}})
    pg.wait("back", lambda: ask(pg, "SHOW max_connections") == "100", 90)
    pg.wait_settled()

    with connect(pg) as held:
        pg.make_secret("mine", password="p @ss/wörd:%")
        pg.patch({"postgresql": {"passwordSecret": {"name": "mine"}}})
        pg.wait("the new password", lambda: takes(pg, "p @ss/wörd:%"), 180)
        assert held.execute("SELECT 1").fetchone() == (1,)
    assert pg.login()["password"] == "p @ss/wörd:%"
    assert (pg.uids(), pg.restarts()) == (before, 0)


def test_p02_three_members_lose_no_acknowledged_write(pg: Running) -> None:
    with writing(pg) as writer:
        pg.patch({"replicas": 3})
        pg.wait_settled()
    assert not lost(pg, writer.acknowledged)
    pg.wait("replicated", lambda: ask(pg, "SELECT max(n) FROM written", "ro") == max(writer.acknowledged), 30)
    assert ask(pg, "SELECT pg_is_in_recovery()", "ro") is True

    first = primary(pg)
    run(pg, "TRUNCATE written")
    with writing(pg) as writer:
        pg.kubectl("delete", "pod", first)
        pg.wait("another primary", lambda: primary(pg) != first, 60)
    assert not lost(pg, writer.acknowledged)
    pg.wait_settled()

    run(pg, "TRUNCATE written")
    with writing(pg) as writer:
        pg.patch({"replicas": 1})
        pg.wait("shrunk", lambda: len(pg.pods()) == 1)
        pg.wait_settled()
    assert not lost(pg, writer.acknowledged)
    assert primary(pg) == "orders-0"
