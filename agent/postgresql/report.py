"""``GET /parameters``: which parameters of the configuration the server does not take. Patroni leaves them out and only logs it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from patroni.exceptions import PostgresConnectionException
from patroni.utils import RetryFailedError
from psycopg import Error

FILE_SETTINGS = "SELECT name, error FROM pg_catalog.pg_file_settings"
WAITS_FOR_RESTART = "setting could not be applied"  # src/backend/utils/misc/guc-file.l


def untaken(wanted: Iterable[str], rows: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Name -> why, of ``wanted``; ``rows`` are those of ``pg_file_settings``: what stands in the files, and what is wrong with it."""
    found: dict[str, str | None] = {}
    for name, error in rows:
        found[name.lower()] = None if error == WAITS_FOR_RESTART else error
    reasons = {name: found.get(name.lower(), "this server has no such parameter, or it does not take the value") for name in wanted}
    return {name: reason for name, reason in sorted(reasons.items()) if reason}


def answer(handler: Any) -> None:
    """Writes the answer to one request; ``handler`` is Patroni's. 503 while the server cannot be asked."""
    configuration: Mapping[str, Any] = handler.server.patroni.config.dynamic_configuration
    try:
        rows = handler.query(FILE_SETTINGS)
    except (Error, RetryFailedError, PostgresConnectionException):
        handler.write_response(503, "the server does not answer")
        return
    parameters = (configuration.get("postgresql") or {}).get("parameters") or {}
    handler.write_response(200, json.dumps({"untaken": untaken(parameters, rows)}), content_type="application/json")
