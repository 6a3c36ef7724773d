"""MongoDB by its driver. Where the image is the stand-in, one member is all that it can be."""

from collections.abc import Iterable
from typing import Any

from pymongo import MongoClient
from pymongo.errors import NotPrimaryError, OperationFailure

from bench.faults.clients.base import TIMEOUT, Refused, Route
from bench.faults.site import Database, manifest

MILLISECONDS = int(TIMEOUT * 1000)


class Session:
    def __init__(self, database: Database, seconds: float = TIMEOUT) -> None:
        login = database.secret("credentials")
        self.client: MongoClient[dict[str, Any]] = MongoClient(
            database.service(),
            username=login["username"],
            password=login["password"],
            directConnection=True,
            retryWrites=False,
            serverSelectionTimeoutMS=MILLISECONDS,
            connectTimeoutMS=MILLISECONDS,
            socketTimeoutMS=int(seconds * 1000),
        )
        self.term = str(self.client.admin.command("hello").get("me", ""))

    def write(self, key: str) -> tuple[str, bool]:
        try:
            self.client.bench.written.insert_one({"_id": key})
        except NotPrimaryError:
            raise
        except OperationFailure as error:
            raise Refused(str(error)) from error
        return self.term, True

    def close(self) -> None:
        self.client.close()


class MongoDB:
    process = ""
    attached = False
    routes = (Route("service"),)

    def __init__(self, database: Database) -> None:
        self.database = database

    @staticmethod
    def spec(replicas: int) -> dict[str, Any]:
        return manifest("MongoDB", "7.0", replicas, {"cpu": "50m", "memory": "128Mi", "memoryLimit": "512Mi"})

    def prepare(self) -> None:
        Session(self.database).close()

    def key(self, route: Route, name: str) -> str:
        return name

    def connect(self, route: Route) -> Session:
        return Session(self.database)

    def present(self, keys: Iterable[str]) -> set[str]:
        session = Session(self.database, 30.0)
        try:
            return {document["_id"] for document in session.client.bench.written.find({}, {"_id": 1})}
        finally:
            session.close()

    def primary(self) -> str:
        return next(iter(self.database.members()))

    def heir(self) -> str:
        raise ConnectionError("one member cannot hand over")

    def switch(self) -> None:
        self.heir()
