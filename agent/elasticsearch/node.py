"""A node's life under the agent: start, follow the Secrets, hand signals on, end as it ends."""

import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType

from agent.elasticsearch.files import Places, passwords, write_configuration, write_users
from agent.environment import clean_environment

WATCH_SECONDS = 2.0


def log(message: str) -> None:
    print(f"database-agent elasticsearch: {message}", file=sys.stderr, flush=True)


class Node:
    """The program and the signals for it. A signal that comes before the program does is handed on when it runs."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._program: subprocess.Popen[bytes] | None = None
        self._signal: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hand_on)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        if self._program is not None and self._program.returncode is None:
            os.kill(self._program.pid, number)

    def start(self) -> "subprocess.Popen[bytes]":
        environment = clean_environment() | {"ES_PATH_CONF": str(self._places.config)}
        program = [str(self._places.home / "bin" / "elasticsearch")]
        self._program = started = subprocess.Popen(program, env=environment, stdin=subprocess.DEVNULL)
        if self._signal is not None:
            os.kill(started.pid, self._signal)
        return started

    def wait(self, program: "subprocess.Popen[bytes]", known: tuple[str, str]) -> int:
        """The exit status of the program; until then changed passwords are brought to it. ``known``: those it has."""
        ended = os.pidfd_open(program.pid)
        try:
            while True:
                select.select([ended], [], [], WATCH_SECONDS)
                status = self._reap(program)
                if status is not None:
                    return status
                known = self._follow(known)
        finally:
            os.close(ended)

    @staticmethod
    def _reap(program: "subprocess.Popen[bytes]") -> int | None:
        """The program's exit status once it has ended. As process 1 the agent also buries what others leave behind."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return None
            if pid == program.pid:
                program.returncode = os.waitstatus_to_exitcode(status)
                return program.returncode

    def _follow(self, known: tuple[str, str]) -> tuple[str, str]:
        try:
            now = passwords(self._places)
            if now != known:
                write_users(self._places, *now)
                log("passwords have changed and are handed to the node")
            return now
        except (OSError, ValueError) as error:  # as while the kubelet swaps the folders
            log(f"passwords stay as they are: {error}")
            return known


def run(places: Places | None = None) -> int:
    """The node's exit status (128 and the signal's number where one ended it), 1 where the configuration cannot be written."""
    places = places or Places()
    node = Node(places)
    started = time.monotonic()
    try:
        write_configuration(places)
        known = passwords(places)
        program = node.start()
    except (OSError, ValueError) as error:
        log(str(error))
        return 1
    status = node.wait(program, known)
    log(f"the node ended with status {status} after {time.monotonic() - started:.0f} s")
    return 128 - status if status < 0 else status
