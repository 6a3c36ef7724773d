"""One record in each kind of database: written once, read back later, by the login of the binding Secret."""

import base64
from typing import Any

import psycopg
import pymongo
import pymongo.errors
import redis

from tests.pods.running import Running

WORDS = "kept through it all"


def type_of(running: Running) -> str:
    return str(running.get("database", running.name)["spec"]["type"])


def address(running: Running) -> str:
    return str(running.get("service", f"{running.name}-service")["spec"]["clusterIP"])


def write(running: Running) -> None:
    {
        "PostgreSQL": lambda: _sql(running, f"CREATE TABLE record AS SELECT '{WORDS}' AS words"),
        "MongoDB": lambda: _mongo(running, lambda client: client.app.record.insert_one({"_id": 1, "words": WORDS})),
        "Redis": lambda: _redis(running, "SET", "record", WORDS),
        "Elasticsearch": lambda: _elastic(running, "PUT", "/records/_doc/1?refresh=true", {"words": WORDS}),
        "SQLite": lambda: _lite(running, "execute", f"CREATE TABLE record AS SELECT '{WORDS}' AS words"),
    }[type_of(running)]()


def read(running: Running) -> str:
    """Raises OSError while nobody answers."""
    found: str = {
        "PostgreSQL": lambda: _sql(running, "SELECT words FROM record"),
        "MongoDB": lambda: _mongo(running, lambda client: client.app.record.find_one({"_id": 1})["words"]),
        "Redis": lambda: _redis(running, "GET", "record"),
        "Elasticsearch": lambda: _elastic(running, "GET", "/records/_doc/1")["_source"]["words"],
        "SQLite": lambda: _lite(running, "query", "SELECT words FROM record")[0][0],
    }[type_of(running)]()
    return found


def parameter(running: Running, name: str) -> str:
    """What the server runs with."""
    found: Any = {
        "PostgreSQL": lambda: _sql(running, f"SHOW {name}"),
        "MongoDB": lambda: _mongo(running, lambda client: client.admin.command("getParameter", 1, **{name: 1})[name]),
        "Redis": lambda: _redis(running, "CONFIG", "GET", name)[name],
        "Elasticsearch": lambda: _elastic(running, "GET", "/_cluster/settings?flat_settings=true")["persistent"].get(name),
        "SQLite": lambda: _lite(running, "query", f"SELECT * FROM pragma_{name}")[0][0],
    }[type_of(running)]()
    return str(found)


def _sql(running: Running, statement: Any) -> Any:
    login = running.login()
    try:
        known = {"user": login["username"], "password": login["password"], "dbname": login["database"]}
        with psycopg.connect(host=address(running), connect_timeout=3, autocommit=True, **known) as connection:
            cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
    except psycopg.OperationalError as error:
        raise ConnectionError(str(error)) from error
    return row[0] if row else None


def _mongo(running: Running, question: Any) -> Any:
    login = running.login()
    options: dict[str, Any] = {"username": login["username"], "password": login["password"], "authSource": "admin"}
    with pymongo.MongoClient[dict[str, Any]](address(running), directConnection=True, serverSelectionTimeoutMS=3000, **options) as client:
        try:
            return question(client)
        except pymongo.errors.PyMongoError as error:
            raise ConnectionError(str(error)) from error


def _redis(running: Running, *words: str) -> Any:
    with redis.Redis(host=address(running), password=running.login()["password"], socket_timeout=3, decode_responses=True) as client:
        try:
            return client.execute_command(*words)
        except redis.RedisError as error:
            raise ConnectionError(str(error)) from error


def _elastic(running: Running, method: str, path: str, body: Any = None) -> Any:
    login = running.login()
    word = base64.b64encode(f"elastic:{login['password']}".encode()).decode()
    status, answer = running.http(method, path, body, {"Authorization": f"Basic {word}"})
    if status not in (200, 201):
        raise ConnectionError(str(answer))
    return answer


def _lite(running: Running, verb: str, sql: str) -> Any:
    headers = {"Authorization": f"Bearer {running.login()['password']}"}
    status, answer = running.http("POST", f"/-/{verb}", {"sql": sql}, headers)
    if status != 200:
        raise ConnectionError(str(answer))
    return answer.get("rows")
