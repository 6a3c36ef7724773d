"""SQLite in real pods: it comes up, keeps what it acknowledged, takes changes while it runs."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.pods.running import Running

pytestmark = pytest.mark.pods

MANIFEST: dict[str, Any] = {
    "apiVersion": "databases.database-operator.io/v1alpha1",
    "kind": "Database",
    "metadata": {"name": "lite"},
    "spec": {
        "type": "SQLite",
        "version": "latest",
        "storage": {"size": "1Gi"},
        "resources": {"cpu": "20m", "memory": "64Mi", "memoryLimit": "256Mi"},
        "sqlite": {"databaseFile": "team/app.db", "parameters": {"foreign_keys": "on"}},
    },
}


def bearer(lite: Running, token: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token or lite.login()['password']}"}


def execute(lite: Running, sql: str, *parameters: Any) -> None:
    status, answer = lite.http("POST", "/-/execute", {"sql": sql, "parameters": parameters}, bearer(lite))
    assert status == 200, answer


def query(lite: Running, sql: str) -> list[list[Any]]:
    status, answer = lite.http("POST", "/-/query", {"sql": sql}, bearer(lite))
    assert status == 200, answer
    rows: list[list[Any]] = answer["rows"]
    return rows


@pytest.mark.proves("spec.sqlite.databaseFile", "spec.sqlite.parameters", "spec.sqlite.passwordSecret.name")
def test_sqlite_lives(database: Callable[[dict[str, Any]], Running]) -> None:
    lite = database(MANIFEST)
    lite.wait_settled()
    assert lite.http("GET", "/-/status")[0] == 401
    execute(lite, "CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
    for n in range(20):
        execute(lite, "INSERT INTO t VALUES (?, ?)", n, "'; DROP TABLE t; --")

    lite.kill_container()
    lite.wait("restarted", lambda: lite.restarts() == 1)
    lite.wait_settled()
    assert query(lite, "PRAGMA integrity_check") == [["ok"]]
    assert query(lite, "SELECT count(*) FROM t") == [[20]]

    before = lite.uids()
    lite.kubectl("delete", "pod", "--selector=app=lite")
    lite.wait("replaced", lambda: lite.uids() and lite.uids() != before)
    lite.wait_settled()
    assert query(lite, "SELECT count(*) FROM t") == [[20]]

    before = lite.uids()
    lite.patch({"sqlite": {"parameters": {"foreign_keys": None, "journal_mode": "DELETE"}}})
    lite.wait("in force", lambda: query(lite, "PRAGMA journal_mode") == [["delete"]], 20)
    assert query(lite, "SELECT * FROM pragma_foreign_keys") == [[0]]

    lite.make_secret("token", password="my own token: /@%")
    lite.patch({"sqlite": {"passwordSecret": {"name": "token"}}})
    lite.wait("the new token in force", lambda: lite.http("GET", "/-/status", None, bearer(lite, "my own token: /@%"))[0] == 200)
    assert lite.login()["password"] == "my own token: /@%"
    lite.wait_settled()
    assert lite.uids() == before  # both changes came to the running pod
    assert lite.restarts() == 0
