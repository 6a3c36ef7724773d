"""Runs the stages of ``./test``, names each, and stops at the first that fails."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.late import worth_another

PROJECT = Path(__file__).resolve().parents[1]
PYTEST = [sys.executable, "-m", "pytest", "--quiet"]
TWO = ["-n", "2", "--dist", "worksteal"]
# Side by side, each worker with an API server of its own; one test at a time, the slow ones first.
THREE = ["-n", "3", "--dist", "load", "--maxschedchunk", "1"]

STAGES: list[tuple[str, list[str]]] = [
    ("static checks", ["scripts/check"]),
    ("unit tests, the runtime on a virtual clock", [*PYTEST, *TWO, "-m", "not apiserver and not pods and not long"]),
    ("real API server", [*PYTEST, *THREE, "--durations=10", "-m", "apiserver and not pods and not long"]),
    ("real pods", [*PYTEST, "--durations=10", "-m", "pods and not long"]),
]
LONG = ("the full figures", [*PYTEST, "--durations=20", "-m", "long"])


def again(code: int) -> int:
    """Run the tests once more that failed for want of time, and nothing else did; gives the exit code."""
    late = worth_another(PROJECT) if code == pytest.ExitCode.TESTS_FAILED else []  # else what is kept is of an earlier run
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
    stages = STAGES[:-1] if flags.quick else STAGES + ([LONG] if flags.long else [])
    took = []
    for title, command in stages:
        print(f"\n=== {title}", flush=True)
        started = time.monotonic()
        profile = {"HYPOTHESIS_PROFILE": "random"} if title == LONG[0] else {}
        code = subprocess.run(command, cwd=PROJECT, env=os.environ | profile, check=False).returncode
        if code and flags.again and command[: len(PYTEST)] == PYTEST:
            code = again(code)
        took.append(f"{title}: {time.monotonic() - started:.0f} s")
        if code:
            print(f"\nfailed in: {title}", flush=True)
            return code
    print("\nall stages passed\n  " + "\n  ".join(took), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
