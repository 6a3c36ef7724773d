"""The lines on stderr."""

import json
import logging
import sys

import pytest

from database_operator.kube import logs, metrics
from database_operator.kube.errors import Conflict, Unavailable


def line(level: int = logging.INFO, msg: str = "hello %s", error: BaseException | None = None, **extra: object) -> dict[str, str]:
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("x", level, __file__, 1, msg, ("you",) if "%" in msg else None, exc_info)
    record.__dict__.update(extra)
    text = logs.JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, str] = json.loads(text)
    return found


@pytest.mark.parametrize(
    ("level", "name"),
    [(logging.DEBUG, "debug"), (logging.INFO, "info"), (logging.WARNING, "info"), (logging.ERROR, "error"), (logging.CRITICAL, "error")],
)
def test_fields(level: int, name: str) -> None:
    found = line(level, member="db-0")
    assert found.pop("ts").endswith("Z")
    assert found == {"level": name, "msg": "hello you", "member": "db-0"}


def test_errors() -> None:
    expected = ExceptionGroup("applies", [Conflict(409, "Conflict", "somebody\nelse"), Unavailable(0, "TimeoutError", "no answer")])
    found = line(error=expected)
    assert found["error"] == "Conflict: 409 Conflict: somebody\nelse; Unavailable: 0 TimeoutError: no answer"
    assert "stacktrace" not in found, "what the API server says needs no traceback"
    assert "ZeroDivisionError" in line(error=ZeroDivisionError("x"))["stacktrace"]


def test_what_json_cannot_hold_is_written_as_text() -> None:
    assert line(value={1, 2}, other=object())["value"] in ([1, 2], "{1, 2}")


def test_setup_sends_everything_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.setup("info")
        logging.getLogger("a.b").debug("no")
        logging.getLogger("a.b").info("yes")
        print("not this", file=sys.stdout)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert [json.loads(text)["msg"] for text in capsys.readouterr().err.splitlines()] == ["yes"]


def test_metrics_start_from_nothing_after_reset() -> None:
    metrics.LEADER.labels("x").set(1)
    assert metrics.REGISTRY.get_sample_value("leader_election_master_status", {"name": "x"}) == 1
    metrics.reset()
    assert metrics.REGISTRY.get_sample_value("leader_election_master_status", {"name": "x"}) is None
    assert metrics.REGISTRY.get_sample_value("process_resident_memory_bytes")
