"""How the operator talks to members of one engine: one module an engine, each with one ``CONNECTION``.

Every call is bounded by the caller (2 s in a pass, 5 s for a probe); nothing is kept between calls but the HTTP
session's pool. Modules are found by the engine's ``provider`` name: a new engine needs no line here.
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping
from functools import cache

import aiohttp
from msgspec import Struct, field

from database_operator.api.database import Resolved
from database_operator.engines.base import Command, Member, Platform, Probe


class Unreachable(Exception):
    """The member did not answer, or not as the engine should. The message is for a person and holds no secret."""


class Target(Struct, frozen=True, kw_only=True):
    """One Database to talk to, with what is needed to log in. Never logged."""

    database: Resolved
    platform: Platform
    session: aiohttp.ClientSession
    members: tuple[Member, ...] = ()  # as Kubernetes shows them, sorted by pod name
    credentials: Mapping[str, str] = field(default_factory=dict)  # data of <name>-credentials
    internal: Mapping[str, str] = field(default_factory=dict)  # data of <name>-internal

    def member(self, pod: str) -> Member:
        for member in self.members:
            if member.pod == pod and member.ip:
                return member
        raise Unreachable(f"pod {pod} has no address yet")


class Connection(Struct, frozen=True, kw_only=True):
    """``probe`` asks one member for the truth; ``command`` carries out an engine's Command; ``switchover`` asks for a planned move.

    All raise Unreachable. ``switchover`` gives the pod that is primary now where its label is best set at once, as the agent
    takes a while or there is none. ``switchover`` and ``command`` are idempotent: a pass that died after them repeats them.
    """

    probe: Callable[[Target, Member], Awaitable[Probe]]
    command: Callable[[Target, Command], Awaitable[None]] | None = None
    switchover: Callable[[Target, str], Awaitable[str | None]] | None = None  # (target, pod that shall be primary)


@cache
def connection(provider: str) -> Connection:
    module = importlib.import_module(f"database_operator.reconcile.connections.{provider}")
    found: Connection = module.CONNECTION
    return found
