"""The workqueue: one worker a key, fairness, delays, backoff, shutting down."""

import asyncio
import random

import pytest

from database_operator.kube import metrics
from database_operator.kube.queue import Queue, ShutDown
from tests.kube.virtual_clock import now, run


async def taken(queue: Queue[str], count: int) -> list[str]:
    keys = []
    for _ in range(count):
        key = await asyncio.wait_for(queue.get(), 1000)
        queue.done(key)
        keys.append(key)
    return keys


def test_a_key_is_queued_once_and_runs_again_after_it_was_added_during_work() -> None:
    async def main() -> None:
        queue: Queue[str] = Queue()
        queue.add("a")
        queue.add("a")
        assert queue.depth() == 1
        key = await queue.get()
        queue.add("a")
        queue.add("a")
        assert queue.depth() == 0, "a second worker could take it"
        queue.done(key)
        assert queue.depth() == 1
        assert await taken(queue, 1) == ["a"]
        assert queue.depth() == 0

    run(main())


def test_a_busy_key_goes_behind_those_that_wait() -> None:
    async def main() -> None:
        queue: Queue[str] = Queue()
        for key in "noisy", "b", "c":
            queue.add(key)
        order = []
        for _ in range(6):
            key = await queue.get()
            order.append(key)
            queue.add("noisy")
            queue.done(key)
        assert order == ["noisy", "b", "c", "noisy", "noisy", "noisy"]

    run(main())


def test_low_keys_wait_for_others_but_not_for_ever() -> None:
    async def main() -> None:
        queue: Queue[str] = Queue()
        queue.add("resync", low=True)
        for i in range(20):
            queue.add(f"k{i:02}")
        order = await taken(queue, 21)
        assert order.index("resync") == 7

    run(main())


def test_a_low_key_that_somebody_waits_for_goes_first() -> None:
    async def main() -> None:
        queue: Queue[str] = Queue()
        for key in "abc":
            queue.add(key, low=True)
        queue.add("c")
        queue.add("a", low=True)
        assert await taken(queue, 3) == ["c", "a", "b"]
        assert queue.depth() == 0

    run(main())


def test_of_several_delays_the_earliest_counts() -> None:
    async def main() -> None:
        queue: Queue[str] = Queue()
        begun = now()
        queue.add_after("a", 10)
        queue.add_after("a", 300)
        queue.add_after("b", 300)
        queue.add_after("b", 20)
        assert await taken(queue, 1) == ["a"]
        assert now() - begun == pytest.approx(10)
        assert await taken(queue, 1) == ["b"]
        assert now() - begun == pytest.approx(20)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 1000)

    run(main())


def test_backoff_doubles_to_the_cap_until_forgotten() -> None:
    async def main() -> None:
        queue: Queue[str] = Queue()
        delays = []
        for _ in range(20):
            delays.append(queue.retry("a"))
            begun = now()
            assert await taken(queue, 1) == ["a"]
            assert now() - begun == pytest.approx(delays[-1])
        assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
        assert delays[15:] == [163.84, 300, 300, 300, 300]
        queue.forget("a")
        assert queue.retry("a") == 0.005
        assert queue.retry("b", at_least=7) == 7

    run(main())


def test_a_cancelled_key_neither_comes_nor_remembers_its_failures() -> None:
    async def main() -> None:
        queue: Queue[str] = Queue()
        for _ in range(9):
            queue.retry("a")
        queue.cancel("a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 1000)
        assert queue.retry("a") == 0.005

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_never_two_workers_on_one_key_and_no_add_is_lost(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        queue: Queue[int] = Queue()
        active: set[int] = set()
        dirty: set[int] = set()  # added since their last work began
        passes = 0

        async def worker() -> None:
            nonlocal passes
            while True:
                key = await queue.get()
                assert key not in active
                active.add(key)
                dirty.discard(key)
                await asyncio.sleep(dice.random())
                active.discard(key)
                queue.done(key)
                passes += 1

        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(worker()) for _ in range(4)]
            for _ in range(500):
                key = dice.randrange(8)
                dirty.add(key)
                if dice.random() < 0.5:
                    queue.add(key)
                else:
                    queue.retry(key)
                if not active:  # a worker that waits may be cancelled even with a key on its way to it
                    workers.pop(dice.randrange(4)).cancel()
                    workers.append(group.create_task(worker()))
                await asyncio.sleep(dice.random() * 0.2)
            await asyncio.sleep(1000)
            assert not dirty
            assert queue.depth() == 0
            assert passes < 500, "nothing was merged"
            for task in workers:
                task.cancel()

    run(main())


def test_shutting_down_drops_what_waits_and_ends_the_workers() -> None:
    async def main() -> None:
        queue: Queue[str] = Queue()
        waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.add("a")
        await asyncio.sleep(0)
        queue.add_after("later", 5)
        queue.shut_down()
        queue.add("c")
        await asyncio.sleep(10)
        ended = [task.exception() or task.result() for task in waiting]
        assert ended[0] == "a"
        assert [type(end) for end in ended[1:]] == [ShutDown, ShutDown]
        drained = asyncio.create_task(queue.drained())
        await asyncio.sleep(1)
        assert not drained.done(), "a is still worked on"
        queue.done("a")
        await asyncio.wait_for(drained, 1)
        with pytest.raises(ShutDown):
            await queue.get()

    run(main())


def test_draining_hands_out_what_waits() -> None:
    async def main() -> None:
        queue: Queue[str] = Queue()
        for key in "abc":
            queue.add(key)
        queue.shut_down(drain=True)
        assert await taken(queue, 3) == ["a", "b", "c"]
        await asyncio.wait_for(queue.drained(), 1)
        with pytest.raises(ShutDown):
            await queue.get()

    run(main())


def test_metrics() -> None:
    async def main() -> None:
        metrics.reset()
        queue: Queue[str] = Queue("databases")

        def value(name: str) -> float | None:
            return metrics.REGISTRY.get_sample_value(f"workqueue_{name}", {"name": "databases", "controller": "databases"})

        queue.add("a")
        queue.add("b")
        queue.retry("c")
        assert (value("depth"), value("adds_total"), value("retries_total")) == (2, 2, 1)
        await asyncio.sleep(5)
        first, second = await queue.get(), await queue.get()
        assert value("queue_duration_seconds_sum") == pytest.approx(10)
        await asyncio.sleep(2)
        assert value("unfinished_work_seconds") == pytest.approx(4)
        assert value("longest_running_processor_seconds") == pytest.approx(2)
        queue.done(first)
        queue.done(second)
        assert value("work_duration_seconds_sum") == pytest.approx(4)
        assert value("unfinished_work_seconds") == 0

    run(main())
