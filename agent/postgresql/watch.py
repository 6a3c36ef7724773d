"""Whether the server still takes new connections. Patroni keeps its own open and never notices a stopped postmaster (patroni#1371)."""

import logging
import os
import select
import socket
import struct
import time
from enum import Enum
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

EVERY = 2.0  # seconds
AGAIN = 1.0  # seconds
REAPED = 0.1  # seconds
TIMEOUT = 2.0  # seconds for the first byte of an answer
STOPPED_FAILURES = 2  # of a postmaster that the kernel shows as stopped
SLOW_FAILURES = 10  # of one that runs: a throttled CPU must not be taken for a hung server
PROTOCOL_3 = 196608


class Answer(Enum):
    ALIVE = "alive"  # any answer, also a refusal such as "too many clients" or "starting up"
    SILENT = "silent"
    ABSENT = "absent"  # nobody listens


def startup_message(user: str, database: str) -> bytes:
    """postgresql.org/docs/current/protocol-message-formats.html, StartupMessage."""
    words = "".join(f"{word}\0" for word in ("user", user, "database", database)) + "\0"
    return struct.pack("!ii", len(words) + 8, PROTOCOL_3) + words.encode()


def ask(path: Path, message: bytes, timeout: float = TIMEOUT) -> Answer:
    """What a new connection over the Unix socket ``path`` gets; it is closed before a login, which the server does not log."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(message)
            return Answer.ALIVE if connection.recv(4096) else Answer.SILENT  # all of it: a close with bytes unread is a reset
    except TimeoutError:
        return Answer.SILENT
    except BlockingIOError:  # the queue of a server that accepts nobody is full
        return Answer.SILENT
    except OSError:
        return Answer.ABSENT


def is_stopped(pid: int) -> bool:
    """Whether the kernel shows the process as stopped or traced: the third field of proc(5)'s ``stat``, after the name in brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def is_hung(failures: int, stopped: bool) -> bool:
    return failures >= (STOPPED_FAILURES if stopped else SLOW_FAILURES)


def ended(pid: int, seconds: float) -> bool:
    """Waits until process ``pid`` ends, ``seconds`` at most; whether it did."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:  # a kernel or a seccomp profile that has no pidfd_open
        time.sleep(seconds)
        return False
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)


class Watch:
    """One thread of a member. ``patroni`` is the running daemon."""

    def __init__(self, patroni: Any, path: Path, message: bytes) -> None:
        self.patroni, self.path, self.message = patroni, path, message
        self.failures = 0

    def run(self) -> None:
        while not self.patroni.received_sigterm:
            server = self.patroni.postgresql
            if server.state != "running":
                time.sleep(AGAIN)
                continue
            postmaster = server.is_running()
            if postmaster is None:
                self._wake()
            elif self.failures or not ended(postmaster.pid, EVERY):
                self.turn(postmaster)
            else:
                time.sleep(REAPED)  # until process 1 has taken it in, Patroni takes it for running

    def _wake(self) -> None:
        """Patroni's loop may have half a minute to go until it looks. It is given time to."""
        log.error("the server does not run: waking Patroni")
        self.failures = 0
        self.patroni.ha.wakeup()
        time.sleep(AGAIN)

    def turn(self, postmaster: Any) -> None:
        answer = ask(self.path, self.message)
        if answer is Answer.ALIVE or self.patroni.received_sigterm or self.patroni.postgresql.state != "running":
            self.failures = 0
            return
        if answer is Answer.ABSENT:
            self._wake()
            return
        self.failures += 1
        if is_hung(self.failures, is_stopped(postmaster.pid)):
            log.error("the server has not answered %d new connections: killing it", self.failures)
            postmaster.signal_kill()  # it and all its children, each of which is a process group of its own
            self._wake()
