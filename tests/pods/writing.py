"""A client that writes without a pause while a test does something to the database, and keeps what was acknowledged."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Generic, TypeVar

from localcluster import ClusterError

T = TypeVar("T")
PAUSE = 0.02  # seconds between two writes
AGAIN = 0.1  # seconds before a connection that broke is made anew


class Writer(Generic[T]):
    """Writes 1, 2, 3 … as long as it is entered, and until it has written again at the end.

    ``opened`` gives one connection: a function that writes a number and gives what is to be found later, or None where
    the write was not acknowledged. It, and the function, raise OSError or ClusterError where there is no database.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[Callable[[int], T | None]]]) -> None:
        self.acknowledged: list[T] = []
        self.longest = 0.0  # seconds between two acknowledged writes
        self._opened = opened
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> "Writer[T]":
        self._thread.start()
        assert self.more(1, 60), "nothing could be written"
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is None:
            self.more(3, 60)
        self._stop.set()
        self._thread.join(30)

    def more(self, count: int, seconds: float = 60.0) -> bool:
        """So many more were acknowledged in this time."""
        wanted, deadline = len(self.acknowledged) + count, time.monotonic() + seconds
        while len(self.acknowledged) < wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        return len(self.acknowledged) >= wanted

    def _write(self) -> None:
        number, last = 0, time.monotonic()
        while not self._stop.is_set():
            with suppress(OSError, ClusterError), self._opened() as put:
                while not self._stop.is_set():
                    number += 1
                    written = put(number)
                    if written is not None:
                        self.acknowledged.append(written)
                        self.longest, last = max(self.longest, time.monotonic() - last), time.monotonic()
                    self._stop.wait(PAUSE)
            self._stop.wait(AGAIN)
