"""The loop that turns keys into passes.

A pass is one call of ``reconcile`` with a key and nothing else. It ends in one of three ways: done (the key comes
again after the resync period), again after some seconds, or an error (again after a backoff that doubles).
"""

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from database_operator.kube import logs, metrics
from database_operator.kube.errors import ApiError, Conflict, leaves
from database_operator.kube.objects import Key
from database_operator.kube.queue import Queue, ShutDown

log = logging.getLogger(__name__)

RESYNC = 300.0  # seconds: what no watch shows
JITTER = 0.1  # of the resync period, either way, so that keys listed together do not come together for ever
PASS_TIMEOUT = 60.0  # seconds


class Result(msgspec.Struct, frozen=True):
    """``after``: seconds until the next pass, None for the resync period. ``gone``: the object is no more, do not come again."""

    after: float | None = None
    gone: bool = False


DONE = Result()
GONE = Result(gone=True)

Reconcile = Callable[[Key], Awaitable[Result]]


class Controller:
    """``workers`` passes at a time, never two for one key, each at most ``timeout`` seconds long."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        queue: Queue[Key],
        *,
        workers: int = 1,
        resync_period: float = RESYNC,
        timeout: float = PASS_TIMEOUT,
    ) -> None:
        self.name = name
        self.queue = queue
        self._reconcile = reconcile
        self._workers = workers
        self._resync_period = resync_period
        self._timeout = timeout
        self._tasks: set[asyncio.Task[None]] = set()
        self._results = {result: metrics.RECONCILES.labels(name, result) for result in ("success", "requeue_after", "requeue", "error")}
        self._errors = metrics.RECONCILE_ERRORS.labels(name)
        self._time = metrics.RECONCILE_TIME.labels(name)
        self._active = metrics.ACTIVE_WORKERS.labels(name)
        metrics.MAX_WORKERS.labels(name).set(workers)

    async def run(self) -> None:
        """Work until ``stop``, or until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._tasks = {group.create_task(self._worker(), name=f"{self.name} worker {i}") for i in range(self._workers)}

    async def stop(self, deadline: float) -> None:
        """Begin no further pass, let those under way end, and after ``deadline`` seconds cancel them."""
        self.queue.shut_down()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=deadline)
            for task in late:
                task.cancel()

    async def _worker(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except ShutDown:
                return
            self._active.inc()
            try:
                await self._pass(key)
            finally:
                self._active.dec()
                self.queue.done(key)

    async def _pass(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        fields = {"controller": self.name, "namespace": key.namespace, "name": key.name, "reconcileID": str(uuid.uuid4())}
        token = logs.context.set(fields)
        started = loop.time()
        try:
            async with asyncio.timeout(self._timeout):
                result = await self._reconcile(key)
        except Exception as error:  # noqa: BLE001 the only place: whatever it is, the other keys go on
            self._failed(key, error)
        else:
            self._ended(key, result)
        finally:
            self._time.observe(loop.time() - started)
            logs.context.reset(token)

    def _failed(self, key: Key, error: Exception) -> None:
        waits = [leaf.retry_after for leaf in leaves(error) if isinstance(leaf, ApiError) and leaf.retry_after]
        delay = self.queue.retry(key, at_least=max(waits, default=0.0))
        self._results["error"].inc()
        self._errors.inc()
        # Somebody else wrote in between: part of the day's work, unless it goes on.
        harmless = self.queue.failures(key) < 3 and all(isinstance(leaf, Conflict) for leaf in leaves(error))
        log.log(logging.DEBUG if harmless else logging.ERROR, "pass failed", exc_info=error, extra={"retryIn": round(delay, 3)})

    def _ended(self, key: Key, result: Result) -> None:
        self.queue.forget(key)
        if result.gone:
            self.queue.cancel(key)
        elif result.after is not None:
            self.queue.add_after(key, result.after)
            self._results["requeue_after"].inc()
            return
        else:
            spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 spreads the load, guards nothing
            self.queue.add_after(key, self._resync_period * spread, low=True)
        self._results["success"].inc()
