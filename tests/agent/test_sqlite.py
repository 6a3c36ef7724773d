"""SQLite's server as a process over loopback, against a real file: durability, locking, access, injection."""

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster.host import free_port

TOKEN = "a-token-of-32-characters-at-least"
PRAGMAS = {"busy_timeout": "5000", "journal_mode": "wal", "synchronous": "2"}


class Server:
    """One server process in ``folder``; ``start`` after a kill finds the same file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "data" / "team" / "app.db"
        (folder / "data").mkdir(exist_ok=True)
        self.token_file = folder / "token"
        self.settings_file = folder / "sqlite.json"
        self.write(self.token_file, TOKEN)
        self.configure(PRAGMAS)
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None

    @staticmethod
    def write(path: Path, text: str) -> None:
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(text)
        fresh.replace(path)  # as the kubelet does: never half a file

    def settings(self, pragmas: dict[str, str]) -> str:
        return json.dumps({"databaseFile": str(self.file), "pragmas": pragmas})

    def configure(self, pragmas: dict[str, str]) -> None:
        self.write(self.settings_file, self.settings(pragmas))

    def command(self) -> list[str]:
        words = ["--settings", self.settings_file, "--token-file", self.token_file, "--data", self.folder / "data"]
        return [sys.executable, "-m", "agent", "sqlite", "run", *map(str, words), "--address", "127.0.0.1", "--port", str(self.port)]

    def start(self) -> "Server":
        self.process = subprocess.Popen(self.command(), stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.get("/-/healthz", token=None)[0] == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError("the server did not become ready")

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.process = None
        return status

    def call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def get(self, path: str, token: str | None = TOKEN) -> tuple[int, bytes]:
        return self.call("GET", path, None, {"Authorization": f"Bearer {token}"} if token else {})

    def post(self, path: str, content: Any, token: str | None = TOKEN) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        status, body = self.call("POST", path, json.dumps(content).encode(), headers | {"Content-Type": "application/json"})
        return status, json.loads(body)

    def execute(self, *statements: str | tuple[str, Any]) -> tuple[int, dict[str, Any]]:
        listed = [{"sql": one} if isinstance(one, str) else {"sql": one[0], "parameters": one[1]} for one in statements]
        return self.post("/-/execute", {"statements": listed})

    def query(self, sql: str, parameters: Any = ()) -> list[list[Any]]:
        status, answer = self.post("/-/query", {"sql": sql, "parameters": parameters})
        assert status == 200, answer
        return list(answer["rows"])

    def pragmas(self) -> dict[str, str]:
        return dict(json.loads(self.get("/-/status")[1])["pragmas"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path).start()
    yield running
    if running.process is not None:
        running.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For tests that leave the server as it was."""
    running = Server(tmp_path_factory.mktemp("shared")).start()
    yield running
    running.stop()


def test_q01_no_acknowledged_write_is_lost_by_kill_9(server: Server) -> None:
    assert server.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT NOT NULL)")[0] == 200
    acknowledged: list[int] = []
    failed = threading.Event()

    def write(first: int) -> None:
        for n in range(first, 100_000, 4):
            try:
                status, _ = server.execute(("INSERT INTO t VALUES (?, ?)", [n, "x" * 200]))
            except (OSError, http.client.HTTPException):  # cut off before, or in the middle of, the answer
                failed.set()
                return
            if status == 200:
                acknowledged.append(n)

    writers = [threading.Thread(target=write, args=(first,)) for first in range(4)]
    for thread in writers:
        thread.start()
    deadline = time.monotonic() + 60
    while len(acknowledged) < 1000 and time.monotonic() < deadline:
        time.sleep(0.01)
    server.stop(signal.SIGKILL)
    for thread in writers:
        thread.join(30)
    assert failed.is_set()
    assert len(acknowledged) >= 1000

    server.start()
    assert server.query("PRAGMA integrity_check") == [["ok"]]
    kept = {row[0] for row in server.query("SELECT n FROM t")}
    assert set(acknowledged) <= kept


def test_a_batch_takes_effect_as_a_whole_or_not_at_all(server: Server) -> None:
    assert server.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")[0] == 200
    status, answer = server.execute("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (1)")
    assert (status, answer["code"]) == (409, "SQLITE_CONSTRAINT_PRIMARYKEY")
    assert server.query("SELECT count(*) FROM t") == [[0]]
    status, answer = server.execute("INSERT INTO t VALUES (1), (2)", "INSERT INTO t VALUES (3) RETURNING n * 10 AS tenfold")
    assert status == 200
    assert answer["results"][0]["changes"] == 2
    assert answer["results"][1] == {"columns": ["tenfold"], "rows": [[30]], "truncated": False, "changes": 1, "last_insert_id": 3}


def test_values_keep_their_types(shared: Server) -> None:
    blob = {"$base64": True, "encoded": base64.b64encode(b"\0\xff").decode()}
    values = [1, -(2**63), 1.5, "ü'\"; --", None, blob]
    assert shared.query("SELECT ?, ?, ?, ?, ?, ?", values) == [values]
    assert shared.query("SELECT :a", {"a": "named"}) == [["named"]]
    for bad in ([1, 2], {"x": 1}, 2**64):
        assert shared.post("/-/query", {"sql": "SELECT ?", "parameters": [bad]})[0] == 400


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '/tmp/stolen.db' AS stolen",
        "VACUUM INTO '/tmp/stolen.db'",
        "SELECT load_extension('/tmp/x.so')",
        "SELECT fts3_tokenizer('simple')",
        "PRAGMA writable_schema=ON",
        "PRAGMA trusted_schema=ON",
        "PRAGMA temp_store_directory='/etc'",
        "PRAGMA journal_mode=OFF",
        "PRAGMA synchronous=OFF",
        "PRAGMA main.journal_mode=MEMORY",
        "CREATE VIRTUAL TABLE temp.x USING csv(filename='/etc/passwd')",
        "UPDATE sqlite_schema SET sql = 'x'",
        "BEGIN",
        "COMMIT",
        "END",
        "ROLLBACK",
        "DETACH main",
        "SELECT 1; DROP TABLE t",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('/tmp/x', 'y')",
        "SELECT edit('x', 'reboot')",
    ],
)
def test_statements_that_leave_the_file_are_refused(shared: Server, sql: str) -> None:
    before = shared.pragmas()
    assert shared.execute(sql)[0] == 400
    assert shared.post("/-/query", {"sql": sql})[0] == 400
    assert shared.pragmas() == before
    assert not Path("/tmp/stolen.db").exists()


def test_a_read_cannot_write(server: Server) -> None:
    assert server.execute("CREATE TABLE t (n)")[0] == 200
    for sql in ("INSERT INTO t VALUES (1)", "DROP TABLE t", "CREATE TABLE u (n)", "SAVEPOINT s", "PRAGMA user_version=5"):
        assert server.post("/-/query", {"sql": sql})[0] == 400
    assert server.query("SELECT count(*) FROM t") == [[0]]


def test_extensions_of_the_schema_work(server: Server) -> None:
    assert server.execute("CREATE VIRTUAL TABLE notes USING fts5(text)", ("INSERT INTO notes VALUES (?)", ["find me"]))[0] == 200
    assert server.query("SELECT text FROM notes WHERE notes MATCH ?", ["find"]) == [["find me"]]
    assert server.execute("PRAGMA user_version=7")[0] == 200
    assert server.query("PRAGMA user_version") == [[7]]
    assert server.execute("VACUUM")[0] == 200


def test_nobody_comes_in_without_the_token(shared: Server) -> None:
    paths = ["/", "/app", "/app.json?sql=select+1", "/-/versions", "/-/status", "/-/settings.json", "/-/databases.json", "/_internal"]
    paths += ["/-/login/", "/-/static/../../-/status", "//-/status", "/%2d/status", "/-/auth-token?token=x", "/-/query", "/app.db"]
    for path in paths:
        assert shared.get(path, token=None)[0] in (401, 404), path
        assert shared.get(path, token="wrong")[0] in (401, 404), path
    for path in ("/-/query", "/-/execute", "/-/configure"):
        assert shared.post(path, {"sql": "SELECT 1"}, token=None)[0] == 401
        assert shared.post(path, {"sql": "SELECT 1"}, token=TOKEN[:-1])[0] == 401
    basic = base64.b64encode(f"token:{TOKEN}".encode()).decode()
    assert shared.call("GET", "/app.json?sql=select+1", None, {"Authorization": f"Basic {basic}"})[0] == 200
    assert shared.call("GET", "/app.json", None, {"Authorization": "Basic %%%"})[0] == 401
    assert shared.get("/app.json")[0] == 200
    assert shared.get("/app.db")[0] == 403


def test_a_person_logs_in_by_the_form(server: Server) -> None:
    def raw(method: str, path: str, body: str = "", cookie: str = "") -> str:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/x-www-form-urlencoded\r\n" + (f"Cookie: {cookie}\r\n" if cookie else "")
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(f"{head}\r\n{body}".encode())
            with connection.makefile("rb") as answer:
                return answer.read().decode("utf-8", "replace")

    assert "location: /-/login" in raw("GET", "/")
    assert raw("POST", "/-/login", "token=wrong").startswith("HTTP/1.1 403")
    answer = raw("POST", "/-/login", f"token={TOKEN}")
    assert answer.startswith("HTTP/1.1 302")
    assert "HttpOnly" in answer
    cookie = next(line for line in answer.splitlines() if line.lower().startswith("set-cookie"))
    session = cookie.split(":", 1)[1].split(";")[0].strip()
    assert raw("GET", "/", cookie=session).startswith("HTTP/1.1 200")
    assert raw("GET", "/", cookie=session[:-1] + ("0" if session[-1] != "0" else "1")).startswith("HTTP/1.1 302")
    # a foreign page that posts with the person's cookie has no CSRF token
    assert raw("POST", "/-/execute", "sql=x", cookie=session).startswith("HTTP/1.1 403")
    server.write(server.token_file, "a-new-token")
    assert raw("GET", "/", cookie=session).startswith("HTTP/1.1 302")


def test_a_changed_token_holds_at_once(server: Server) -> None:
    server.write(server.token_file, "another-token\n")
    assert server.get("/-/status")[0] == 401
    assert server.get("/-/status", token="another-token")[0] == 200


def test_q03_a_second_server_refuses_the_file(shared: Server) -> None:
    second = subprocess.run(shared.command(), stderr=subprocess.PIPE, text=True, timeout=30)
    assert second.returncode == 1
    assert "is in use by another server" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert shared.query("SELECT 1") == [[1]]


def test_pragmas_change_while_clients_are_served(server: Server) -> None:
    assert server.execute("CREATE TABLE t (n)")[0] == 200
    assert server.pragmas() == PRAGMAS
    wanted = PRAGMAS | {"journal_mode": "delete", "foreign_keys": "1", "cache_size": "-4000"}
    status, answer = server.post("/-/configure", json.loads(server.settings(wanted)))
    assert (status, answer["pragmas"], answer["differing"]) == (200, wanted, [])
    assert server.query("PRAGMA foreign_keys") == [[1]]
    assert server.execute("INSERT INTO t VALUES (1)")[0] == 200
    assert server.post("/-/configure", json.loads(server.settings(PRAGMAS)))[0] == 200
    assert server.query("PRAGMA foreign_keys") == [[0]]  # what is no longer asked for is gone
    assert server.query("PRAGMA journal_mode") == [["wal"]]
    for bad in ({"writable_schema": "1"}, {"journal_mode": "off"}, {"journal_mode": "wal; drop table t"}):
        assert server.post("/-/configure", json.loads(server.settings(bad)))[0] == 400
    assert server.pragmas() == PRAGMAS


def test_a_changed_settings_file_is_followed(server: Server) -> None:
    server.configure(PRAGMAS | {"synchronous": "3"})
    deadline = time.monotonic() + 15
    while server.pragmas()["synchronous"] != "3":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_static_pragmas_come_with_a_restart(server: Server) -> None:
    assert server.execute("CREATE TABLE t (n)", "INSERT INTO t VALUES (42)")[0] == 200
    wanted = PRAGMAS | {"auto_vacuum": "1", "page_size": "8192"}
    server.configure(wanted)
    assert server.stop() == 0
    server.start()
    assert server.pragmas() == wanted
    assert server.query("SELECT n FROM t") == [[42]]


def test_sigterm_ends_in_order_and_leaves_one_whole_file(server: Server) -> None:
    assert server.execute("CREATE TABLE t (n)", "INSERT INTO t VALUES (1)")[0] == 200
    assert server.stop() == 0
    assert sorted(path.name for path in server.file.parent.iterdir()) == ["app.db", "app.db.lock"]
    with contextlib.closing(sqlite3.connect(server.file)) as connection:
        assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_identity_stays(server: Server) -> None:
    identity = json.loads(server.get("/-/status")[1])["identity"]
    server.stop(signal.SIGKILL)
    server.start()
    assert json.loads(server.get("/-/status")[1])["identity"] == identity


def test_requests_are_bounded(shared: Server) -> None:
    status, _ = shared.call("POST", "/-/execute", b"x" * (17 * 2**20), {"Authorization": f"Bearer {TOKEN}"})
    assert status == 413
    assert shared.call("POST", "/-/login", b"x" * (17 * 2**10), {})[0] == 413
    endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"
    status, answer = shared.post("/-/query", {"sql": endless})
    assert (status, len(answer["rows"]), answer["truncated"]) == (200, 10_000, True)
    assert shared.post("/-/query", {"sql": "SELECT zeroblob(100000000)"})[0] == 400


def test_q08_a_full_file_is_an_error_and_no_damage(server: Server) -> None:
    assert server.execute("CREATE TABLE t (text TEXT)")[0] == 200
    assert server.post("/-/configure", json.loads(server.settings(PRAGMAS | {"max_page_count": "20"})))[0] == 200
    status, answer = server.execute(*[("INSERT INTO t VALUES (?)", ["x" * 4000])] * 50)
    assert (status, answer["code"]) == (507, "SQLITE_FULL")
    assert server.query("SELECT count(*) FROM t") == [[0]]
    assert server.post("/-/configure", json.loads(server.settings(PRAGMAS)))[0] == 200
    assert server.execute(*[("INSERT INTO t VALUES (?)", ["x" * 4000])] * 50)[0] == 200
    assert server.query("PRAGMA integrity_check") == [["ok"]]


def test_health_does_not_wait_for_reads(shared: Server) -> None:
    slow = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000) SELECT count(*) FROM c"
    readers = [threading.Thread(target=shared.post, args=("/-/query", {"sql": slow})) for _ in range(8)]
    for thread in readers:
        thread.start()
    for path in ("/-/healthz", "/-/livez"):
        assert shared.get(path, token=None)[0] == 200
    for thread in readers:
        thread.join(60)


def test_a_broken_file_is_not_ready_but_live(server: Server) -> None:
    assert server.execute("CREATE TABLE t (n)")[0] == 200
    server.stop()
    server.file.write_bytes(b"not a database" * 1000)
    process = subprocess.run(server.command(), stderr=subprocess.PIPE, text=True, timeout=30)
    assert process.returncode == 1
    assert "file is not a database" in process.stderr


def test_no_token_no_server(tmp_path: Path) -> None:
    stopped = Server(tmp_path)
    stopped.write(stopped.token_file, " \n")
    process = subprocess.run(stopped.command(), stderr=subprocess.PIPE, text=True, timeout=30, env=os.environ)
    assert process.returncode == 1
    assert "there is no access without a token" in process.stderr
