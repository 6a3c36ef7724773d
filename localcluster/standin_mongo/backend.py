"""SecantusDB behind the front: a process of its own, on loopback, with logins demanded."""

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

USER = "__system"  # mongod's own name for the member itself
DATABASE = "local"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
_FOLDER = "secantus"
_MARK = "standin.json"  # written last: without it the first start was not through, and nothing had been answered yet
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """A front that is killed must not leave a server that holds the files."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Backend:
    """``client`` is logged in as the member itself; the front's own questions go through it."""

    def __init__(self, data: Path, cache_bytes: int) -> None:
        self.data, self.folder, self.mark = data, data / _FOLDER, data / _MARK
        self.cache = f"{max(16, cache_bytes // 1024**2)}M"
        self.port = 0
        self.process: asyncio.subprocess.Process | None = None
        self.client: MongoClient[dict[str, Any]] | None = None

    async def start(self) -> None:
        """Raises ``RuntimeError`` where it does not come up."""
        if not self.mark.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            password = secrets.token_urlsafe(24)
            await self._spawn(auth=False)
            with self._connect(None) as first:
                roles = [{"role": "root", "db": "admin"}]
                await asyncio.to_thread(first[DATABASE].command, "createUser", USER, pwd=password, roles=roles)
            await self.stop()
            self._write_mark(password)
        password = json.loads(self.mark.read_text())["password"]
        await self._spawn(auth=True)
        self.client = self._connect(password)

    def _write_mark(self, password: str) -> None:
        fresh = self.mark.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123  a descriptor
            json.dump({"password": password}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.mark)

    def _connect(self, password: str | None) -> MongoClient[dict[str, Any]]:
        login: dict[str, Any] = {"username": USER, "password": password, "authSource": DATABASE} if password else {}
        return MongoClient("127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=5000, **login)

    async def _spawn(self, *, auth: bool) -> None:
        self.port = _free_port()
        argv = [sys.executable, "-m", "secantus", "--host", "127.0.0.1", "--port", str(self.port), "--storage-path", str(self.folder)]
        argv += ["--cache-size", self.cache, "--sync-on-commit", "--log-level", "WARNING"] + (["--auth"] if auth else [])
        self.process = await asyncio.create_subprocess_exec(*argv, preexec_fn=_die_with_parent, cwd=str(self.data))
        for _ in range(int(START_SECONDS / 0.05)):
            if self.process.returncode is not None:
                break
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise RuntimeError("the data server behind the front did not come up")

    async def stop(self) -> None:
        """Cleanly, so that the next start has nothing to recover."""
        if self.client is not None:
            self.client.close()
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def run(self, command: dict[str, Any], database: str = "admin") -> dict[str, Any]:
        """As the member itself. Raises ``PyMongoError``."""
        assert self.client is not None
        client = self.client
        found: dict[str, Any] = await asyncio.to_thread(client[database].command, command)
        return found

    async def has_users(self) -> bool:
        try:
            found = await self.run({"find": "system.users", "filter": {}, "limit": 2})
        except PyMongoError:
            return True  # the careful answer: no exception for loopback
        return any(user["_id"] != f"{DATABASE}.{USER}" for user in found["cursor"]["firstBatch"])
