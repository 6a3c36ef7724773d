"""Faults by signal find the server's processes, and say where there is none."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bench.faults.faults import _runs, _send, _stopped
from localcluster import ClusterError


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_stopped_process_goes_on_at_the_end_and_one_that_is_gone_does_not_matter() -> None:
    sleeper, other = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    try:
        deadline = time.monotonic() + 10
        while not _runs(sleeper.pid, "sleep") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _runs(sleeper.pid, "sleep")
        assert not _runs(sleeper.pid, "postgres")
        with _stopped([sleeper.pid, other.pid]):
            while state(sleeper.pid) != "T" and time.monotonic() < deadline:
                time.sleep(0.01)
            assert state(sleeper.pid) == "T"
            other.kill()
            other.wait()
        while state(sleeper.pid) == "T" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state(sleeper.pid) != "T"
    finally:
        for process in (sleeper, other):
            process.kill()
            process.wait()


def test_a_fault_that_finds_nobody_did_not_happen() -> None:
    with pytest.raises(ClusterError, match="no such process"):
        _send([], signal.SIGKILL)
    assert not _runs(os.getpid(), "redis-server")
