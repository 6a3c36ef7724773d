"""What the bench asks of a client, whatever the engine."""

import http.client
from collections.abc import Iterable, Sequence
from typing import Protocol

import psycopg
import pymongo.errors
import redis
from msgspec import Struct

TIMEOUT = 1.0  # seconds for a connection, and for an answer
ERRORS = (OSError, psycopg.Error, redis.RedisError, http.client.HTTPException, pymongo.errors.PyMongoError, ValueError, LookupError)


class Refused(Exception):
    """The server said that it did not take the write, and why."""


class Route(Struct, frozen=True):
    """How the client finds a server: ``service``, ``discovery`` (the engine's own way) or ``direct``, at ``address``."""

    kind: str
    address: str = ""
    group: str = ""  # the shard to write to


class Session(Protocol):
    """One connection. ``term`` names who is behind it, as Write has it."""

    term: str

    def write(self, key: str) -> tuple[str, bool]:
        """The term and whether a second member has the write. Raises Refused; any other error leaves the outcome unknown."""

    def close(self) -> None: ...


class Client(Protocol):
    """One engine's. ``connect`` raises one of ERRORS, or Refused through it, before anything was written."""

    @property
    def process(self) -> str:
        """The server's name as the kernel has it, in /proc/<pid>/comm; "": every process of the container."""

    @property
    def routes(self) -> Sequence[Route]:
        """Those that the gap is taken of."""

    @property
    def attached(self) -> bool:
        """Whether a client inside a member's own network can write to it."""

    def prepare(self) -> None:
        """Make room for the keys. Raises one of ERRORS."""

    def key(self, route: Route, name: str) -> str: ...
    def connect(self, route: Route) -> Session: ...
    def present(self, keys: Iterable[str]) -> set[str]:
        """Those that the database holds, asked of the primary. Raises one of ERRORS."""

    def primary(self) -> str:
        """The pod that is primary, as the engine says; where there are shards, of the first. Raises one of ERRORS."""

    def heir(self) -> str:
        """The pod that a planned move makes primary. Raises one of ERRORS."""

    def switch(self) -> None:
        """Ask the engine itself for a planned move. Raises one of ERRORS."""
