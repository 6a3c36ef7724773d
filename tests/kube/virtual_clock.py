"""An event loop whose clock jumps to the next timer as soon as nothing else is left to do.

Sockets on loopback between tasks of the same loop still work: the clock only jumps after they were quiet for a
moment of real time.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

QUIET = 0.001  # real seconds without a ready socket before the clock jumps
STUCK = 10.0  # real seconds without a timer and without a ready socket

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(STUCK)
            assert ready, "no timer, no socket: the test waits for ever"
            return ready
        sockets = len(self.get_map()) > 1  # beside the loop's own
        ready = super().select(min(timeout, QUIET) if sockets else 0)
        if not ready:
            self.now += max(0.0, timeout)
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()
