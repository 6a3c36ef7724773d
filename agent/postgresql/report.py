"""``GET /parameters``: which parameters of the configuration the server does not take, and what its files say of durability.

Patroni leaves the first out and only logs it; the second may come from ALTER SYSTEM, which Patroni does not see.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from patroni.exceptions import PostgresConnectionException
from patroni.utils import RetryFailedError
from psycopg import Error

FILE_SETTINGS = "SELECT name, error, setting, applied FROM pg_catalog.pg_file_settings ORDER BY seqno"
DURABILITY = ("fsync", "full_page_writes", "synchronous_commit")
WAITS_FOR_RESTART = "setting could not be applied"  # src/backend/utils/misc/guc-file.l


def untaken(wanted: Iterable[str], rows: Iterable[tuple[str | None, str | None]]) -> dict[str, str]:
    """Name -> why, of ``wanted``; ``rows`` are those of ``pg_file_settings``: what stands in the files, and what is wrong with it."""
    found: dict[str, str | None] = {}
    for name, error in rows:
        if name is not None:  # a file that is being written may have a line that is none
            found[name.lower()] = None if error == WAITS_FOR_RESTART else error
    reasons = {name: found.get(name.lower(), "this server has no such parameter, or it does not take the value") for name in wanted}
    return {name: reason for name, reason in sorted(reasons.items()) if reason}


def durability(rows: Iterable[tuple[str | None, str, bool]]) -> dict[str, str]:
    """Name -> value of those ``DURABILITY`` names that stand in the files; ``rows``: name, value, whether it is the one applied."""
    return {name.lower(): value.lower() for name, value, applied in rows if name and applied and name.lower() in DURABILITY}


def answer(handler: Any) -> None:
    """Writes the answer to one request; ``handler`` is Patroni's. 503 while the server cannot be asked."""
    configuration: Mapping[str, Any] = handler.server.patroni.config.dynamic_configuration
    try:
        rows = handler.query(FILE_SETTINGS)
    except (Error, RetryFailedError, PostgresConnectionException):
        handler.write_response(503, "the server does not answer")
        return
    parameters = (configuration.get("postgresql") or {}).get("parameters") or {}
    found = {
        "untaken": untaken(parameters, ((name, error) for name, error, _, _ in rows)),
        "durability": durability((name, setting or "", applied) for name, _, setting, applied in rows),
    }
    handler.write_response(200, json.dumps(found), content_type="application/json")
