"""Annotations on a Database that ask for something once: which of their values are still to be handled. Pure."""

from database_operator.api.database import Database
from database_operator.build import constants as c


def asked(database: Database) -> dict[str, str]:
    """The requests that stand on the Database, by name."""
    return {name: value for name, annotation in c.REQUESTS.items() if (value := database.metadata.annotations.get(annotation))}


def pending(database: Database) -> dict[str, str]:
    """Those whose value has not been handled. Without a status none is: it was handled before, or by an earlier life."""
    if database.status.phase is None:
        return {}
    return {name: value for name, value in asked(database).items() if database.status.requests.get(name) != value}


def pod(value: str) -> str:
    """``orders-1`` of ``orders-1@again``: the token makes the same request a new one."""
    return value.partition("@")[0].strip()


def wanted_primary(database: Database) -> str | None:
    """The pod that a pending request wants to be the primary."""
    value = pending(database).get("switchover")
    return pod(value) if value else None
