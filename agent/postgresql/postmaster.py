"""Starts the server as an orphan, as Patroni wants it, from a small process.

Patroni starts a second Patroni for that, which takes a second of CPU and 47 MiB, just when the database is down.
"""

import multiprocessing
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from agent.environment import clean_environment

VERB = "postmaster"
STDERR = 2  # the server's log; standard output is the pipe by which this process says the id


def run(command: Sequence[str]) -> int:
    """The verb: starts ``command`` in a session of its own, says its process id, and ends, so that process 1 takes it in."""
    server = subprocess.Popen(command, env=clean_environment(), start_new_session=True, stdin=subprocess.DEVNULL, stdout=STDERR)
    print(server.pid, flush=True)
    return 0


def agent_command() -> list[str]:
    """How this very program is started again."""
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "agent"]


class Process:
    """In place of ``multiprocessing.Process(target=pg_ctl_start, args=(connection, command, environment))``."""

    def __init__(self, target: Any, args: tuple[Connection, list[str], dict[str, str]]) -> None:
        self.connection, self.command, self.environment = args

    def start(self) -> None:
        """Sends the process id, None where there is none: Patroni then tries again."""
        argv = [*agent_command(), "postgresql", VERB, *self.command]
        helper = subprocess.run(argv, env=self.environment, stdout=subprocess.PIPE, text=True, check=False)
        said = helper.stdout.strip()
        self.connection.send(int(said) if said.isdigit() else None)

    def join(self) -> None:
        """It has ended already."""


class Context:
    """As much of a multiprocessing context as ``PostmasterProcess.start`` uses."""

    Pipe = staticmethod(multiprocessing.Pipe)
    Process = Process


def get_context(method: str) -> Context:
    return Context()
