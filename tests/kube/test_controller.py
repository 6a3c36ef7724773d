"""The worker loop: three outcomes, backoff, resync, time-outs, stopping, metrics and log context."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from database_operator.kube import logs, metrics
from database_operator.kube.controller import DONE, GONE, Controller, Result
from database_operator.kube.errors import Conflict, TooManyRequests, Unavailable
from database_operator.kube.objects import Key
from database_operator.kube.queue import Queue
from tests.kube.virtual_clock import now, run

A, B = Key("ns", "a"), Key("ns", "b")


class Passes:
    """Runs a controller over ``reconcile`` and notes when each pass began."""

    def __init__(self, reconcile: Callable[[Key], Awaitable[Result]], **options: float) -> None:
        metrics.reset()
        self.begun: list[tuple[float, Key]] = []
        self.queue: Queue[Key] = Queue("c")
        self.controller = Controller("c", self._noting(reconcile), self.queue, **options)  # type: ignore[arg-type]
        self.start = now()
        self.task = asyncio.create_task(self.controller.run())

    def _noting(self, reconcile: Callable[[Key], Awaitable[Result]]) -> Callable[[Key], Awaitable[Result]]:
        async def noting(key: Key) -> Result:
            self.begun.append((round(now() - self.start, 3), key))
            return await reconcile(key)

        return noting

    def times(self, key: Key = A) -> list[float]:
        return [time for time, seen in self.begun if seen == key]

    async def end(self) -> None:
        await self.controller.stop(1)
        await self.task

    @staticmethod
    def metric(name: str, **labels: str) -> float | None:
        return metrics.REGISTRY.get_sample_value(f"controller_runtime_{name}", {"controller": "c", **labels})


def test_a_settled_key_comes_again_after_the_resync_period_with_jitter() -> None:
    async def main() -> None:
        async def settled(_: Key) -> Result:
            return DONE

        passes = Passes(settled, resync_period=300)
        keys = [Key("ns", f"k{i}") for i in range(50)]
        for key in keys:
            passes.queue.add(key)
        await asyncio.sleep(340)
        gaps = [times[1] - times[0] for key in keys if (times := passes.times(key))]
        assert all(270 <= gap <= 330 for gap in gaps)
        assert max(gaps) - min(gaps) > 20, "they all come at once"
        assert passes.metric("reconcile_total", result="success") == 100
        await passes.end()

    run(main())


def test_requeue_after_some_seconds() -> None:
    async def main() -> None:
        async def moving(_: Key) -> Result:
            return Result(after=5.0)

        passes = Passes(moving)
        passes.queue.add(A)
        await asyncio.sleep(16)
        assert passes.times() == [0, 5, 10, 15]
        assert passes.metric("reconcile_total", result="requeue_after") == 4
        await passes.end()

    run(main())


def test_an_object_that_is_gone_does_not_come_again() -> None:
    async def main() -> None:
        async def gone(_: Key) -> Result:
            return GONE

        passes = Passes(gone)
        passes.queue.add_after(A, 100)
        passes.queue.add(A)
        await asyncio.sleep(1000)
        assert passes.times() == [0]
        await passes.end()

    run(main())


def test_errors_back_off_and_hurt_no_other_key() -> None:
    async def main() -> None:
        async def broken(key: Key) -> Result:
            if key == A:
                raise RuntimeError("broken")
            return Result(after=1.0)

        passes = Passes(broken)
        passes.queue.add(A)
        passes.queue.add(B)
        await asyncio.sleep(1.0)
        assert passes.times(A) == [0, 0.005, 0.015, 0.035, 0.075, 0.155, 0.315, 0.635]
        await asyncio.sleep(3599)
        late = passes.times(A)
        assert late[-1] - late[-2] == pytest.approx(300)
        assert len(passes.times(B)) == 3600
        assert passes.metric("reconcile_errors_total") == len(late) == passes.metric("reconcile_total", result="error")
        await passes.end()

    run(main())


def test_success_starts_the_backoff_anew() -> None:
    async def main() -> None:
        fail = True

        async def sometimes(_: Key) -> Result:
            if fail:
                raise Unavailable(503, "", "")
            return Result(after=1.0)

        passes = Passes(sometimes)
        passes.queue.add(A)
        await asyncio.sleep(0.04)
        fail = False
        await asyncio.sleep(0.5)
        assert passes.queue.failures(A) == 0
        await passes.end()

    run(main())


def test_the_servers_retry_after_is_kept_also_inside_a_group() -> None:
    async def main() -> None:
        async def shed(_: Key) -> Result:
            raise ExceptionGroup("applies", [Conflict(409, "Conflict", ""), TooManyRequests(429, "", "", 7.0)])

        passes = Passes(shed)
        passes.queue.add(A)
        await asyncio.sleep(10)
        assert passes.times() == [0, 7]
        await passes.end()

    run(main())


def test_a_pass_that_hangs_is_ended_and_its_key_tried_again() -> None:
    async def main() -> None:
        async def hangs(key: Key) -> Result:
            if key == A:
                await asyncio.Event().wait()
            return Result(after=1)

        passes = Passes(hangs, timeout=60, workers=2)
        passes.queue.add(A)
        passes.queue.add(B)
        await asyncio.sleep(59)
        assert (len(passes.times(A)), len(passes.times(B))) == (1, 59)
        assert passes.metric("active_workers") == 1
        assert passes.metric("max_concurrent_reconciles") == 2
        await asyncio.sleep(5)
        assert passes.times(A) == [0, 60.005]
        assert passes.metric("reconcile_time_seconds_sum") == pytest.approx(60)
        await passes.end()

    run(main())


def test_stopping_lets_passes_end_and_cancels_the_late() -> None:
    async def main() -> None:
        ended = []

        async def slow(key: Key) -> Result:
            await asyncio.sleep(5 if key == A else 500)
            ended.append(key)
            return DONE

        passes = Passes(slow, workers=2, timeout=1000)
        for key in A, B, Key("ns", "never"):
            passes.queue.add(key)
        await asyncio.sleep(1)
        begun = now()
        await passes.controller.stop(20)
        await passes.task
        assert now() - begun == pytest.approx(20)
        assert ended == [A]
        assert {key.name for _, key in passes.begun} == {"a", "b"}

    run(main())


def test_stopping_an_idle_controller_takes_no_time() -> None:
    async def main() -> None:
        async def settled(_: Key) -> Result:
            return DONE

        passes = Passes(settled, workers=3)
        await asyncio.sleep(1)
        begun = now()
        await passes.end()
        assert now() == begun

    run(main())


def test_every_line_of_a_pass_says_which(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[dict[str, Any]] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(logs.JsonFormatter().format(record)))

    async def main() -> None:
        async def speaks(key: Key) -> Result:
            logs.bind(type="Redis")
            async with asyncio.TaskGroup() as group:
                group.create_task(child(key))
            raise ValueError("no such thing")

        async def child(_: Key) -> None:
            await asyncio.sleep(0.001)
            logging.getLogger("x").info("a child speaks", extra={"member": 2})

        passes = Passes(speaks, workers=2)
        passes.queue.add(A)
        passes.queue.add(B)
        await asyncio.sleep(0.004)
        await passes.end()

    handler = Keeping()
    logging.getLogger().addHandler(handler)
    caplog.set_level(logging.DEBUG)
    try:
        run(main())
    finally:
        logging.getLogger().removeHandler(handler)
    lines = [line for line in lines if "reconcileID" in line]
    assert len({line["reconcileID"] for line in lines}) == 2
    mine = [line for line in lines if line["name"] == "a"]
    assert [line["msg"] for line in mine] == ["a child speaks", "pass failed"]
    assert all((line["controller"], line["namespace"], line["type"]) == ("c", "ns", "Redis") for line in mine)
    assert (mine[0]["level"], mine[0]["member"]) == ("info", 2)
    assert (mine[1]["level"], mine[1]["error"]) == ("error", "ValueError: no such thing")
    assert "Traceback" in mine[1]["stacktrace"]
