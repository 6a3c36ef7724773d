"""One write and one answer from each database, as an application would ask with the login of its binding Secret."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import psycopg
import pymongo
import redis

Login = Mapping[str, str]
SECONDS = 15


def postgresql(host: str, port: int, login: Login) -> str:
    user, password, database = login["username"], login["password"], login["database"]
    with psycopg.connect(host=host, port=port, connect_timeout=SECONDS, user=user, password=password, dbname=database) as session:
        session.execute("CREATE TABLE IF NOT EXISTS greeting (words text)")
        session.execute("INSERT INTO greeting VALUES (%s)", ("hello from PostgreSQL",))
        row = session.execute("SELECT words, current_setting('max_connections') FROM greeting").fetchone()
    assert row is not None
    return f"{row[0]} (max_connections {row[1]})"


def mongodb(host: str, port: int, login: Login) -> str:
    options: dict[str, Any] = {"username": login["username"], "password": login["password"], "authSource": "admin"}
    milliseconds = SECONDS * 1000
    with pymongo.MongoClient(host, port, directConnection=True, serverSelectionTimeoutMS=milliseconds, **options) as client:
        words = client["demo"]["greeting"]
        words.insert_one({"words": "hello from MongoDB"})
        found = words.find_one({})
    assert found is not None
    return f"{found['words']} (replica set {login['replica-set']})"


def redis_(host: str, port: int, login: Login) -> str:
    with redis.Redis(host=host, port=port, username=login["username"], password=login["password"], socket_timeout=SECONDS) as client:
        client.set("greeting", "hello from Redis")
        words: Any = client.get("greeting")
        limit: Any = client.config_get("maxmemory")
    return f"{words.decode()} (maxmemory {limit['maxmemory']})"


async def _http(method: str, url: str, body: Any, **options: Any) -> Any:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        async with session.request(method, url, json=body, **options) as response:
            response.raise_for_status()
            return await response.json()


def elasticsearch(host: str, port: int, login: Login) -> str:
    auth = aiohttp.BasicAuth(login["username"], login["password"])
    url = f"http://{host}:{port}"
    asyncio.run(_http("PUT", f"{url}/greetings/_doc/1?refresh=true", {"words": "hello from Elasticsearch"}, auth=auth))
    found = asyncio.run(_http("GET", f"{url}/greetings/_search", None, auth=auth))
    health = asyncio.run(_http("GET", f"{url}/_cluster/health", None, auth=auth))
    return f"{found['hits']['hits'][0]['_source']['words']} (cluster {health['status']})"


def sqlite(host: str, port: int, login: Login) -> str:
    headers = {"Authorization": f"Bearer {login['password']}"}
    url = f"http://{host}:{port}/-"
    batch = [
        {"sql": "CREATE TABLE IF NOT EXISTS greeting (words TEXT)"},
        {"sql": "INSERT INTO greeting VALUES (?)", "parameters": ["hello from SQLite"]},
    ]
    asyncio.run(_http("POST", f"{url}/execute", {"statements": batch}, headers=headers))
    question = {"sql": "SELECT words, (SELECT * FROM pragma_journal_mode) FROM greeting LIMIT 1", "parameters": []}
    found = asyncio.run(_http("POST", f"{url}/query", question, headers=headers))
    words, journal = found["rows"][0]
    return f"{words} (journal_mode {journal})"


ASK: dict[str, Callable[[str, int, Login], str]] = {
    "PostgreSQL": postgresql,
    "MongoDB": mongodb,
    "Redis": redis_,
    "Elasticsearch": elasticsearch,
    "SQLite": sqlite,
}
