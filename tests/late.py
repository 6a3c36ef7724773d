"""Tests that only waited in vain: on a machine that others use too, that may be the machine's doing.

``./test --again``, which CI runs, gives such tests a second chance, alone. It gives none to any other failure: a wrong
answer, a lost write or a leak fails at once.
"""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

MOST = 3  # more late tests than that are no accident
KEPT = "tests/late"


class Late(AssertionError):
    """What a test waited for did not come in time."""


class Watcher:
    """The pytest plugin that keeps the names of the late tests of a run, where nothing else failed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._failed: list[str] = []
        self._late: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        late = report.when == "call" and call.excinfo is not None and call.excinfo.errisinstance(Late)
        report.user_properties.append((KEPT, late))  # reaches the main process where workers run the tests
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            (self._late if (KEPT, True) in report.user_properties else self._failed).append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        if hasattr(self._config, "cache") and not hasattr(self._config, "workerinput"):
            self._config.cache.set(KEPT, [] if self._failed else self._late)


def worth_another(cache: Path) -> list[str]:
    """The tests that the last run with this cache of pytest's failed for want of time; none where something else failed too."""
    kept = cache / "v" / KEPT
    late: list[str] = json.loads(kept.read_text()) if kept.exists() else []
    return late if len(late) <= MOST else []
