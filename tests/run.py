"""Runs the stages of ``./test``, names each, and stops at the first that fails."""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.late import worth_another

PROJECT = Path(__file__).resolve().parents[1]
LAST = 19  # the niceness of what everything else goes before
PYTEST = [sys.executable, "-m", "pytest", "--quiet"]
TWO = ["-n", "2", "--dist", "worksteal"]
# Side by side, each worker with an API server of its own; one test at a time, the slow ones first.
IN_TURN = ["--dist", "load", "--maxschedchunk", "1"]


class Stage(NamedTuple):
    title: str
    command: list[str]
    meanwhile: "Stage | None" = None  # at low priority: real pods are waited for more than they compute
    cache: str = ".pytest_cache"  # of pytest's: each of two that run at once has its own


OWN_CACHE = ".pytest_cache/slow"
SLOW = Stage(
    "real API server, the long lives and the crashes",
    [*PYTEST, "-n", "2", *IN_TURN, "--durations=10", "-o", f"cache_dir={OWN_CACHE}", "-m", "apiserver and slow and not pods and not long"],
    cache=OWN_CACHE,
)
STAGES = [
    Stage("static checks", ["scripts/check"]),
    Stage("unit tests, the runtime on a virtual clock", [*PYTEST, *TWO, "-m", "not apiserver and not pods and not long"]),
    Stage("real API server", [*PYTEST, "-n", "3", *IN_TURN, "--durations=10", "-m", "apiserver and not slow and not pods and not long"]),
    Stage("real pods", [*PYTEST, "--durations=10", "-m", "pods and not long"], meanwhile=SLOW),
]
LONG = Stage("the full figures", [*PYTEST, "--durations=20", "-m", "long"])


def run(stage: Stage) -> list[tuple[Stage, int, float]]:
    """Stage, exit code and seconds, of what ran at the same time as well."""
    print(f"\n=== {stage.title}", flush=True)
    started = time.monotonic()
    env = os.environ | ({"HYPOTHESIS_PROFILE": "random"} if stage is LONG else {})

    def took(code: int, of: Stage = stage) -> tuple[Stage, int, float]:
        return of, code, time.monotonic() - started

    if stage.meanwhile is None:
        return [took(subprocess.run(stage.command, cwd=PROJECT, env=env, check=False).returncode)]
    with tempfile.TemporaryFile() as output:
        other = subprocess.Popen(stage.meanwhile.command, cwd=PROJECT, stdout=output, stderr=output, start_new_session=True)
        try:
            step_back(other.pid)
            found = [took(subprocess.run(stage.command, cwd=PROJECT, env=env, check=False).returncode)]
            print(f"\n=== {stage.meanwhile.title} (ran meanwhile)", flush=True)
            found.append(took(other.wait(), stage.meanwhile))
        finally:
            other.terminate()
            other.wait()
        output.seek(0)
        print(output.read().decode(errors="replace"), flush=True)
    return found


def step_back(pid: int) -> None:
    """Whatever else runs goes first. A session is a group of the scheduler's with a niceness of its own, see sched(7)."""
    os.setpriority(os.PRIO_PROCESS, pid, LAST)
    with contextlib.suppress(OSError):  # a kernel without
        Path(f"/proc/{pid}/autogroup").write_text(str(LAST))


def again(stage: Stage, code: int) -> int:
    """Run the tests once more that failed for want of time, and nothing else did; gives the exit code."""
    late = worth_another(PROJECT / stage.cache) if code == pytest.ExitCode.TESTS_FAILED else []  # else what is kept is of an earlier run
    if not late:
        return code
    print(f"\nlate, and run once more alone: {', '.join(late)}", flush=True)
    return subprocess.run([*PYTEST, *late], cwd=PROJECT, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="./test", description="Everything that must hold.")
    parser.add_argument("--quick", action="store_true", help="without pods")
    parser.add_argument("--long", action="store_true", help="the full figures as well")
    parser.add_argument("--again", action="store_true", help="tests that only waited in vain are run once more, alone: for shared machines")
    flags = parser.parse_args()
    stages = [*STAGES[:-1], SLOW] if flags.quick else STAGES + ([LONG] if flags.long else [])
    times = []
    for stage in stages:
        for part, first, seconds in run(stage):
            code = again(part, first) if first and flags.again and part.command[: len(PYTEST)] == PYTEST else first
            times.append(f"{part.title}: {seconds:.0f} s")
            if code:
                print(f"\nfailed in: {part.title}", flush=True)
                return code
    print("\nall stages passed\n  " + "\n  ".join(times), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
