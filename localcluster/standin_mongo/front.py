"""``mongod``, as a stand-in: flags, wire protocol, replica set, logins; the data lies in SecantusDB behind it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from . import options, wire
from .backend import Backend
from .connection import Connection
from .errors import Refused
from .parameters import Parameters
from .rules import Node

TICK_SECONDS = 0.05
_KEPT = "replset.json"


def log(level: str, message: str, **attributes: object) -> None:
    """mongod's structured form."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime())
    line = {"t": {"$date": now}, "s": level, "c": "CONTROL", "ctx": "standin", "msg": message, "attr": attributes}
    print(json.dumps(line), flush=True)


def is_own_address(host: str, port: int) -> bool:
    """Whether ``host`` (name:port) leads to this machine, as mongod finds itself in a configuration."""
    name, _, number = host.rpartition(":")
    if number != str(port):
        return False
    try:
        found = {entry[4][:2] for entry in socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM)}
    except OSError:
        return False
    for address, _ in found:
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind((address, 0))  # only the kernel knows all its own addresses
            return True
    return False


class Front:
    """What all connections share."""

    def __init__(self, values: options.Values) -> None:
        self.values = values
        self.port = int(values["net.port"])
        self.data = Path(str(values["storage.dbPath"]))
        self.auth = values.get("security.authorization") == "enabled"
        self.parameters = Parameters(values)
        self.backend = Backend(self.data, self.parameters.cache_bytes)
        self.users_seen = False
        self.defaults: dict[str, Any] = {}
        self.stopping = asyncio.Event()
        self.changed = asyncio.Condition()
        self.node: Node | None = None
        self._own: dict[str, bool] = {}
        name = values.get("replication.replSetName")
        if name:
            self.node = Node(str(name), self._is_self, time.monotonic, keep=self._keep)

    def _is_self(self, host: str) -> bool:
        if host not in self._own and is_own_address(host, self.port):
            self._own[host] = True  # a name that is not there yet is looked up again
        return self._own.get(host, False)

    def _keep(self, kept: dict[str, Any]) -> None:
        """On disk before the command is answered."""
        from bson import json_util

        path = self.data / _KEPT
        fresh = path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(json_util.dumps(kept | {"defaults": self.defaults}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def keep_defaults(self, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        if self.node is not None:
            self.node.save()

    def _load(self) -> None:
        from bson import json_util

        path = self.data / _KEPT
        if self.node is None or not path.exists():
            return
        kept = json_util.loads(path.read_text())
        self.defaults = kept.get("defaults", {})
        config = kept.get("config")
        if config and config["_id"] != self.node.set_name:
            raise options.Bad(
                f"Rejecting the stored configuration of replica set {config['_id']}: the command line says {self.node.set_name}", 1
            )
        self.node.load(kept)

    async def has_users(self) -> bool:
        """Once there was one, loopback has no exception until the next start."""
        if not self.users_seen:
            self.users_seen = await self.backend.has_users()
        return self.users_seen

    async def tick(self) -> None:
        """The only member's elections: it wins any it stands for."""
        while not self.stopping.is_set():
            node = self.node
            if node is not None and node.config is not None:
                if node.state == "REMOVED" and node.mine is not None:  # its name resolves again
                    node.become("SECONDARY")
                node.last_write = int(time.time())
                if node.may_stand() and len(node.config["members"]) == 1:
                    node.win()
                    log("I", "transition to PRIMARY", term=node.term)
                    async with self.changed:
                        self.changed.notify_all()
            await asyncio.sleep(TICK_SECONDS)

    async def _watch_backend(self) -> None:
        process = self.backend.process
        assert process is not None
        await process.wait()
        if not self.stopping.is_set():
            log("F", "the data server behind the front ended", status=process.returncode)
            os._exit(14)  # as mongod ends itself on an unrecoverable error

    def _addresses(self) -> list[str]:
        if self.values.get("net.bindIpAll"):
            return ["0.0.0.0", "::"] if self.values.get("net.ipv6") else ["0.0.0.0"]
        return [part.replace("*", "0.0.0.0") for part in str(self.values["net.bindIp"]).split(",")]

    async def serve(self) -> int:
        if not self.data.is_dir() or not os.access(self.data, os.W_OK):
            raise options.Bad(f"Data directory {self.data} not found or not writable", 100)
        self._load()
        await self.backend.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        tasks = [loop.create_task(self.tick()), loop.create_task(self._watch_backend())]
        server = await asyncio.start_server(self._connected, self._addresses(), self.port, reuse_address=True)
        log("I", "Waiting for connections", port=self.port, version=options.VERSION)
        await self.stopping.wait()
        log("I", "received signal, stepping down and shutting down")
        if self.node is not None and self.node.state == "PRIMARY":
            self.node.become("SECONDARY")
        server.close()
        await self.backend.stop()
        for task in tasks:
            task.cancel()
        return 0

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, writer.get_extra_info("peername")[0])
        try:
            await connection.serve(reader, writer)
        except (wire.Broken, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client's affair, or the end of the server
        finally:
            connection.close()
            writer.close()


def main(argv: list[str] | None = None) -> int:
    """The exit status, mongod's own."""
    words = sys.argv[1:] if argv is None else argv
    if words == ["--version"]:
        print(f"db version v{options.VERSION}\nBuild Info: stand-in over SecantusDB")
        return 0
    try:
        return asyncio.run(Front(options.read(words)).serve())
    except options.Bad as error:
        print(f"{error}\ntry 'mongod --help' for more information", file=sys.stderr)
        return error.status
    except Refused as error:
        print(str(error), file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:
        log("F", "cannot start", error=str(error))
        return 1
