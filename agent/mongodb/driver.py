"""The real mongod of this pod, through pymongo, over the pod's own loopback."""

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from agent.mongodb.server import AUTHENTICATION_FAILED, CommandFailed, Document, Login, Silent

ADDRESS = "127.0.0.1"
PORT = 27017
TIMEOUT_MS = 3000
_KEPT = 3  # clients: nobody, the agent, and the login that is being tried


class Driver:
    """Implements ``server.Server``. One client a login; a login that changes replaces the oldest."""

    def __init__(self, address: str = ADDRESS, port: int = PORT) -> None:
        self._address = (address, port)
        self._clients: dict[Login | None, MongoClient[Document]] = {}
        self._lock = threading.Lock()

    def _client(self, login: Login | None) -> MongoClient[Document]:
        with self._lock:
            found = self._clients.get(login)
            if found is None:
                if len(self._clients) >= _KEPT:
                    oldest = next(key for key in self._clients if key is not None)
                    self._clients.pop(oldest).close()
                found = self._clients[login] = self._open(login)
            return found

    def _open(self, login: Login | None) -> MongoClient[Document]:
        address, port = self._address
        named: dict[str, Any] = {"username": login.username, "password": login.password, "authSource": "admin"} if login else {}
        return MongoClient(
            address,
            port,
            directConnection=True,
            appname="database-agent",
            serverSelectionTimeoutMS=TIMEOUT_MS,
            connectTimeoutMS=TIMEOUT_MS,
            socketTimeoutMS=TIMEOUT_MS,
            maxPoolSize=4,
            retryReads=False,
            retryWrites=False,
            **named,
        )

    def run(self, command: Mapping[str, Any], login: Login | None = None, database: str = "admin") -> Document:
        try:
            return self._client(login)[database].command(dict(command))
        except OperationFailure as error:
            if error.code == AUTHENTICATION_FAILED:
                self._drop(login)  # the driver holds a server whose login failed for lost, and would wait for it
            message = str((error.details or {}).get("errmsg") or error)
            raise CommandFailed(error.code or 0, message) from error
        except PyMongoError as error:
            raise Silent(f"mongod does not answer: {type(error).__name__}") from error

    def _drop(self, login: Login | None) -> None:
        with self._lock:
            found = self._clients.pop(login, None)
        if found is not None:
            found.close()

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                with contextlib.suppress(PyMongoError):
                    client.close()
            self._clients.clear()
