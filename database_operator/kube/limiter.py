"""How many requests may be under way at once."""

import asyncio
from collections import deque


class Limiter:
    """A fair semaphore that halves itself when the server says 429 and grows again by one a round of successes.

    Priority and Fairness bounds concurrency, not rate (about 20 seats for a client without a FlowSchema of its
    own), so the number in flight is what has to give way.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._last_cut = float("-inf")

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return int(self._limit)

    async def __aenter__(self) -> None:
        if self._busy < self.limit and not self._waiting:
            self._busy += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                await self.__aexit__()  # the slot was already given
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._busy -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._busy < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._busy += 1
                turn.set_result(None)

    def succeeded(self) -> None:
        if self._limit < self._most:
            self._limit = min(self._most, self._limit + 1 / self._limit)
            self._wake()

    def refused(self) -> None:
        """The server said 429. All those in flight may be told at once, so it counts at most once a second."""
        now = asyncio.get_running_loop().time()
        if now - self._last_cut >= 1.0:
            self._last_cut = now
            self._limit = max(1.0, self._limit / 2)
