"""One JSON object a line on stderr."""

import logging
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec

from database_operator.kube.errors import ApiError, leaves

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "error": logging.ERROR}

#: What every line of the current pass carries: controller, namespace, name, type, reconcileID.
context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default={})  # noqa: B039 never changed in place

_PLAIN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}


def bind(**fields: str) -> None:
    """Add fields to every further line of the current task and the tasks it starts."""
    context.set({**context.get(), **fields})


class JsonFormatter(logging.Formatter):
    """``ts`` (UTC), ``level`` (debug, info or error), ``msg``, the pass's context, ``extra`` fields and ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        level = "debug" if record.levelno < logging.INFO else "info" if record.levelno < logging.ERROR else "error"
        line: dict[str, Any] = {"ts": _timestamp(record.created), "level": level, "msg": record.getMessage(), **context.get()}
        line.update((name, value) for name, value in record.__dict__.items() if name not in _PLAIN)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            line["error"] = "; ".join(describe(leaf) for leaf in leaves(error))
            if not all(isinstance(leaf, ApiError | TimeoutError) for leaf in leaves(error)):
                line["stacktrace"] = "".join(traceback.format_exception(error, limit=-20))
        return msgspec.json.encode(line, enc_hook=str).decode()


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def describe(error: BaseException) -> str:
    """One line for an error, its class first."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def setup(level: str = "info") -> None:
    """Send every log line of the process to stderr as JSON. ``level`` is debug, info or error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    logging.getLogger("asyncio").setLevel(max(logging.INFO, LEVELS[level]))
