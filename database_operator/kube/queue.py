"""client-go's workqueue on asyncio: which key is worked on next.

Each key is queued at most once and worked on by at most one worker; a key added while it is being worked on runs
once more afterwards, behind those that already wait, so that no busy key keeps others from their turn.
Times are seconds on the event loop's clock.
"""

import asyncio
from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar

from database_operator.kube import metrics


class Ordered(Protocol):
    def __hash__(self) -> int: ...


K = TypeVar("K", bound=Ordered)

BACKOFF_BASE = 0.005
BACKOFF_CAP = 300.0
LOW_SHARE = 8  # one key in so many comes from the low lane while both wait


class ShutDown(Exception):
    """There is nothing more to work on, and there will not be."""


class Queue(Generic[K]):
    """``name`` labels the metrics. Must be made inside a running event loop's thread; needs no locks."""

    def __init__(self, name: str = "", *, base: float = BACKOFF_BASE, cap: float = BACKOFF_CAP) -> None:
        self._base, self._cap = base, cap
        self._ready: OrderedDict[K, float] = OrderedDict()  # key -> when it was added
        self._low: OrderedDict[K, float] = OrderedDict()
        self._again: dict[K, float] = {}  # to run once more after the worker is done
        self._working: dict[K, float] = {}  # key -> when it was begun
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._served = 0
        self._closed = False
        self._depth = metrics.QUEUE_DEPTH.labels(name, name)
        self._adds = metrics.QUEUE_ADDS.labels(name, name)
        self._retries = metrics.QUEUE_RETRIES.labels(name, name)
        self._wait = metrics.QUEUE_WAIT.labels(name, name)
        self._work = metrics.QUEUE_WORK.labels(name, name)
        self._depth.set_function(self.depth)
        metrics.QUEUE_UNFINISHED.labels(name, name).set_function(lambda: sum(self._ages()))
        metrics.QUEUE_LONGEST.labels(name, name).set_function(lambda: max(self._ages(), default=0.0))

    def add(self, key: K, *, low: bool = False) -> None:
        """Work on ``key`` soon. ``low`` is for what nobody waits for (resync, the first list): others go first."""
        if self._closed or key in self._ready or key in self._again:
            return
        now = self._now()
        if key in self._working:
            self._again[key] = now
        elif not low:
            self._ready[key] = self._low.pop(key, now)
        elif key in self._low:
            return
        else:
            self._low[key] = now
        self._adds.inc()
        self._wake()

    def add_after(self, key: K, delay: float, *, low: bool = False) -> None:
        """Add ``key`` in ``delay`` seconds; of several pending times of a key the earliest counts."""
        if self._closed:
            return
        if delay <= 0:
            self.add(key, low=low)
            return
        old = self._timers.get(key)
        if old is not None:
            if old.when() <= self._now() + delay:
                return
            old.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self._fire, key, low)

    def retry(self, key: K, *, at_least: float = 0.0) -> float:
        """Add ``key`` after its backoff, which doubles with every failure until ``forget``; gives the delay."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(at_least, min(self._cap, self._base * 2.0 ** min(failures - 1, 30)))
        self._retries.inc()
        self.add_after(key, delay)
        return delay

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """The key did well: its next failure starts with the shortest delay."""
        self._failures.pop(key, None)

    def cancel(self, key: K) -> None:
        """Forget the key's failures and its pending time: it no longer exists."""
        self.forget(key)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._ready) + len(self._low)

    async def get(self) -> K:
        """The next key; ``done`` must follow. Raises ShutDown once the queue is closed and empty."""
        while not self._ready and not self._low:
            if self._closed:
                raise ShutDown
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake()  # pass the turn on
                raise
        self._served += 1
        low_first = not self._ready or (self._low and self._served % LOW_SHARE == 0)
        key, added = (self._low if low_first else self._ready).popitem(last=False)
        now = self._working[key] = self._now()
        self._idle.clear()
        self._wait.observe(now - added)
        return key

    def done(self, key: K) -> None:
        """The worker is through with ``key``."""
        self._work.observe(self._now() - self._working.pop(key))
        added = self._again.pop(key, None)
        if added is not None and not self._closed:
            self._ready[key] = added
            self._wake()
        if not self._working and not self.depth():
            self._idle.set()

    def shut_down(self, *, drain: bool = False) -> None:
        """Take no more keys. Those that wait are dropped, or with ``drain`` still handed out."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if not drain:
            self._ready.clear()
            self._low.clear()
        if not self._working and not self.depth():
            self._idle.set()
        while self._waiting:
            self._wake()

    async def drained(self) -> None:
        """Wait until nothing is worked on and, after ``shut_down``, nothing waits."""
        await self._idle.wait()

    def _fire(self, key: K, low: bool) -> None:
        self._timers.pop(key, None)
        self.add(key, low=low)

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _ages(self) -> list[float]:
        now = self._now()
        return [now - begun for begun in self._working.values()]

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
