"""Ways to look at what has become of a Database: parts of its children, of its settings, of its login."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

from database_operator.kube import resources as r
from database_operator.kube.errors import NotFound
from database_operator.kube.resources import Resource
from tests.reconcile.harness import Hub

Seen = Callable[[Hub, str], Awaitable[Any]]


def child(resource: Resource, suffix: str, *path: str | int) -> Seen:
    """A part of a child; None where the part, or the child, is not there."""

    async def look(at: Hub, name: str) -> Any:
        try:
            found: Any = await at.get(resource, f"{name}{suffix}")
        except NotFound:
            return None
        for step in path:
            try:
                found = found[step]
            except (KeyError, IndexError):
                return None
        return found

    return look


def template(*path: str | int) -> Seen:
    return child(r.STATEFUL_SET, "", "spec", "template", *path)


def container(*path: str | int) -> Seen:
    return template("spec", "containers", 0, *path)


def service(*path: str | int, suffix: str = "-service") -> Seen:
    return child(r.SERVICE, suffix, *path)


def both(*looks: Seen) -> Seen:
    async def look(at: Hub, name: str) -> Any:
        return tuple([await each(at, name) for each in looks])

    return look


def login(key: str) -> Seen:
    async def look(at: Hub, name: str) -> Any:
        value = await child(r.SECRET, "-credentials", "data", key)(at, name)
        return base64.b64decode(value).decode() if value else None

    return look


def line(file: str, start: str) -> Seen:
    """What follows ``start`` in its line of a file of the settings; None without such a line."""

    async def look(at: Hub, name: str) -> Any:
        text = await child(r.CONFIG_MAP, "-settings", "data", file)(at, name)
        return next((row.strip().removeprefix(start) for row in text.splitlines() if row.strip().startswith(start)), None)

    return look


def pragma(name: str) -> Seen:
    async def look(at: Hub, database: str) -> Any:
        return json.loads(await child(r.CONFIG_MAP, "-settings", "data", "sqlite.json")(at, database))["pragmas"].get(name)

    return look


def patroni(*path: str) -> Seen:
    """Of Patroni's dynamic configuration, as the operator's commands have left it."""

    async def look(at: Hub, name: str) -> Any:
        found: Any = at.engines._played[name].shared
        for step in path:
            found = found.get(step, {})
        return found or None

    return look


def environment(name: str) -> Seen:
    async def look(at: Hub, database: str) -> Any:
        entries = await container("env")(at, database)
        return next((entry.get("valueFrom", entry.get("value", "")) for entry in entries if entry["name"] == name), None)

    return look
