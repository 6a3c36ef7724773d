"""Clients that write without end: one thread each, a fresh connection after every error."""

import contextlib
import ctypes
import os
import threading
import time
from pathlib import Path

from bench.faults.checker import Outcome, Write
from bench.faults.clients.base import ERRORS, Client, Refused, Route, Session

AGAIN = 0.1  # seconds after an error
PACE = 0.02  # seconds after an answer
CLONE_NEWNET = 0x40000000


def enter_network(path: Path) -> None:
    """Moves this thread alone into another network namespace. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


class Writer:
    """``writes`` grows while it runs; ``network``: the network namespace of the pod whose client it plays."""

    def __init__(self, name: str, client: Client, route: Route, network: Path | None = None) -> None:
        self.name, self.client, self.route, self.network = name, client, route, network
        self.writes: list[Write] = []
        self.turned_away = 0  # connections that were not had
        self.last_error = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join(30)

    def last(self) -> float:
        """When the last write was acknowledged, 0.0 before the first."""
        return next((write.ended for write in reversed(self.writes) if write.outcome is Outcome.ACKNOWLEDGED), 0.0)

    def _run(self) -> None:
        if self.network is not None:
            enter_network(self.network)
        session: Session | None = None
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                session = session or self.client.connect(self.route)
            except ERRORS as error:
                self.turned_away += 1
                self.last_error = f"{type(error).__name__}: {error}"
                self._stop.wait(AGAIN)
                continue
            if self._write(session, number):
                self._stop.wait(PACE)
                continue
            self._close(session)
            session = None
            self._stop.wait(AGAIN)
        if session is not None:
            self._close(session)

    def _write(self, session: Session, number: int) -> bool:
        key, term, safe = self.client.key(self.route, f"{self.name}-{number}"), session.term, False
        began = time.monotonic()
        try:
            term, safe = session.write(key)
            outcome = Outcome.ACKNOWLEDGED
        except Refused as error:
            outcome, self.last_error = Outcome.FAILED, str(error)
        except ERRORS as error:
            outcome, self.last_error = Outcome.UNKNOWN, f"{type(error).__name__}: {error}"
        ended = time.monotonic()
        route, group = self.route.kind, self.route.group
        self.writes.append(Write(key=key, began=began, ended=ended, outcome=outcome, term=term, group=group, route=route, safe=safe))
        return outcome is Outcome.ACKNOWLEDGED

    @staticmethod
    def _close(session: Session) -> None:
        with contextlib.suppress(*ERRORS):
            session.close()
