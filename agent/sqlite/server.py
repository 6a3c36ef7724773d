"""The server's life: open the database, serve, follow the mounted settings, stop in order."""

import asyncio
import contextlib
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator

import uvicorn
from datasette.app import Datasette
from datasette.plugins import pm

from agent.sqlite.access import Access
from agent.sqlite.plugin import Plugin, StoreDatabase
from agent.sqlite.settings import Places, WatchedFile, below, decode
from agent.sqlite.store import InUse, Store

WATCH_SECONDS = 2.0
DRAIN_SECONDS = 20  # of the pod's 30 between SIGTERM and SIGKILL; the rest is for the checkpoint
DATASETTE_SETTINGS = {
    "allow_download": False,  # a file in WAL mode is not whole
    "default_cache_ttl": 0,
    "num_sql_threads": 1,  # of Datasette's own in-memory database
    "sql_time_limit_ms": 10_000,
    "max_returned_rows": 1000,
    "suggest_facets": False,
}


def log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def listening(address: str, port: int) -> socket.socket:
    """One socket for both families where the host has IPv6."""
    if not address and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # IPv6 compiled in, but switched off
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server((address, port), backlog=1024)


def token_of(file: WatchedFile) -> bytes:
    return file.read().strip()


@contextlib.contextmanager
def application(store: Store, access: Access) -> Iterator[Datasette]:
    """Datasette with one database and our plugin, which Datasette keeps in a list of the whole process."""
    plugin = Plugin(store, access)
    pm.register(plugin, Plugin.__name__)
    try:
        datasette = Datasette(files=[], memory=False, settings=DATASETTE_SETTINGS)
        datasette.remove_database("_memory")
        datasette.add_database(StoreDatabase(datasette, store))
        yield datasette
    finally:
        pm.unregister(plugin)


async def follow(file: WatchedFile, store: Store) -> None:
    """Put a changed settings file in force. What cannot be taken is said once, and the old settings stay."""
    known = file.read()
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        text = file.read()
        if text == known:
            continue
        known = text
        try:
            settings = decode(text)
            if settings.hash != store.settings.hash:
                await asyncio.get_running_loop().run_in_executor(store.writing, store.configure, settings)
                log(f"settings {settings.hash} in force")
        except (ValueError, TimeoutError, sqlite3.Error) as error:
            log(f"settings stay as they are: {error}")


async def serve(store: Store, access: Access, settings: WatchedFile, listener: socket.socket) -> None:
    """Until SIGTERM or SIGINT: then no new requests, the running ones to their end."""
    with application(store, access) as datasette:
        config = uvicorn.Config(
            datasette.app(),
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            server_header=False,
            ws="none",
            http="h11",
        )
        following = asyncio.create_task(follow(settings, store))
        try:
            await uvicorn.Server(config).serve(sockets=[listener])
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


def run(places: Places) -> int:
    """The exit status: 0 after SIGTERM, 1 with one line on stderr where the database cannot be opened."""
    settings_file, token_file = WatchedFile(places.settings), WatchedFile(places.token)
    try:
        settings = decode(settings_file.read())
        file = below(places.data, settings.database_file)
        if not token_of(token_file):
            raise ValueError(f"{places.token} is empty: there is no access without a token")
        store = Store(file, settings)
    except (OSError, ValueError, sqlite3.Error, InUse) as error:
        log(f"database-agent sqlite: {error}")
        return 1
    # uvicorn raises the signal again once it has stopped; the checkpoint comes after that
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        log(f"serving {file} with SQLite {sqlite3.sqlite_version} on port {places.port}, settings {settings.hash}")
        with listening(places.address, places.port) as listener:
            asyncio.run(serve(store, Access(lambda: token_of(token_file)), settings_file, listener))
    finally:
        store.close()
    log("stopped")
    return 0
