"""Who leads, on a virtual clock: never two at once, and never nobody for longer than need be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from database_operator.kube import metrics
from database_operator.kube.auth import Connection
from database_operator.kube.client import Client
from database_operator.kube.lease import Lease, LeaseLost
from tests.kube.fake_apiserver import FakeApiServer
from tests.kube.virtual_clock import now, run

LEASES = "/apis/coordination.k8s.io/v1/leases"


class Process:
    """One candidate. ``paused`` stops it as SIGSTOP would: its code does not run, its clock goes on."""

    def __init__(self, server: FakeApiServer, identity: str) -> None:
        self.client = Client(Connection(server.url, lambda: None), user_agent=identity)
        self.lease = Lease(self.client, namespace="system", name="leader", identity=identity, clock=now)
        self.led_from = self.led_until = float("nan")
        self.lost: LeaseLost | None = None
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self.lease.acquire()
        self.led_from = now()
        try:
            await self.lease.hold()
        except LeaseLost as lost:
            self.lost = lost
        self.led_until = now()

    async def kill(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.lease._client.close()


@contextlib.asynccontextmanager
async def election(*identities: str) -> AsyncIterator[tuple[FakeApiServer, list[Process]]]:
    """Candidates of which the first leads."""
    async with FakeApiServer().serve() as server:
        processes = []
        for identity in identities:
            processes.append(Process(server, identity))
            await asyncio.sleep(3)
        assert processes[0].lease.may_write()
        try:
            yield server, processes
        finally:
            for process in processes:
                await process.kill()


def record(server: FakeApiServer) -> dict[str, Any]:
    return dict(server.objects[LEASES]["system", "leader"]["spec"])


def writers(processes: list[Process]) -> list[str]:
    return [process.lease.identity for process in processes if process.lease.may_write()]


def test_the_leader_renews_and_nobody_else_leads() -> None:
    async def main() -> None:
        async with election("a", "b", "c") as (server, processes):
            before, begun = server.count("PUT"), now()
            for _ in range(300):
                await asyncio.sleep(1)
                assert writers(processes) == ["a"]
            assert (server.count("PUT") - before) / (now() - begun) <= 0.5

    run(main())


def test_the_metric_says_who_leads() -> None:
    async def main() -> None:
        metrics.reset()

        def leading() -> float | None:
            return metrics.REGISTRY.get_sample_value("leader_election_master_status", {"name": "leader"})

        async with election("a") as (server, (a,)):
            assert leading() == 1
            server.fail(10**6, 503)
            await asyncio.sleep(15)
            assert a.lost is not None
            assert leading() == 0

    run(main())


def test_the_record_is_as_client_go_writes_it() -> None:
    async def main() -> None:
        async with election("a") as (server, _):
            spec = record(server)
            assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 15, 0)
            assert spec["renewTime"].endswith("Z") and len(spec["renewTime"]) == len("2026-01-01T00:00:00.000000Z")
            acquired, renewed = spec["acquireTime"], spec["renewTime"]
            await asyncio.sleep(10)
            assert record(server)["acquireTime"] == acquired
            assert record(server)["renewTime"] > renewed

    run(main())


def test_a_killed_leader_is_followed_after_the_lease_has_run_out() -> None:
    async def main() -> None:
        async with election("a", "b") as (server, (a, b)):
            await asyncio.sleep(30)
            await a.kill()
            killed = now()
            await asyncio.sleep(25)
            assert 12 <= b.led_from - killed <= 20, "from the last renewal the lease's 15 s, and a candidate's pause"
            assert record(server)["leaseTransitions"] == 1

    run(main())


def test_a_released_lease_is_taken_at_once_and_not_written_to_again() -> None:
    async def main() -> None:
        async with election("a", "b") as (server, (a, b)):
            await asyncio.sleep(30)
            a.task.cancel()
            await a.lease.release()
            released = now()
            assert not a.lease.may_write()
            assert "holderIdentity" not in record(server)
            await asyncio.sleep(3)
            assert b.led_from - released <= 2.5
            assert record(server)["holderIdentity"] == "b"
            writes = server.count("PUT")
            await a.lease.release()
            assert server.count("PUT") == writes

    run(main())


def test_k07_a_paused_leader_begins_no_write_when_it_wakes_up() -> None:
    async def main() -> None:
        async with election("a", "b") as (_, (a, b)):
            renew = a.lease._put

            async def paused(holder: str | None) -> None:
                await asyncio.sleep(40)
                await renew(holder)

            a.lease._put = paused  # type: ignore[method-assign]
            for _ in range(60):
                await asyncio.sleep(1)
                assert len(writers([a, b])) <= 1
            assert a.lost is not None
            assert writers([a, b]) == ["b"]

    run(main())


def test_a_server_that_is_away_for_a_moment_costs_nothing_and_for_long_the_role() -> None:
    async def main() -> None:
        async with election("a") as (server, (a,)):
            server.paused.clear()
            await asyncio.sleep(6)
            server.paused.set()
            await asyncio.sleep(6)
            assert a.lease.may_write() and a.lost is None
            server.fail(10**6, 500)
            failing = now()
            await asyncio.sleep(14)
            assert a.lost is not None
            assert a.led_until - failing <= 11
            assert not a.lease.may_write()

    run(main())


def test_a_frozen_server_ends_the_role_in_time() -> None:
    async def main() -> None:
        async with election("a", "b") as (server, processes):
            server.paused.clear()
            frozen = now()
            await asyncio.sleep(12)
            assert processes[0].lost is not None
            assert processes[0].led_until - frozen <= 11
            server.paused.set()
            await asyncio.sleep(20)
            assert len(writers(processes)) <= 1

    run(main())


def test_others_may_annotate_or_delete_the_record() -> None:
    async def main() -> None:
        async with election("a", "b") as (server, processes):
            stored = server.objects[LEASES]["system", "leader"]
            server.put(LEASES, {**stored, "metadata": {**stored["metadata"], "annotations": {"seen": "yes"}}})
            await asyncio.sleep(10)
            assert writers(processes) == ["a"]
            assert server.objects[LEASES]["system", "leader"]["metadata"]["annotations"] == {"seen": "yes"}
            server.remove(LEASES, "system", "leader")
            for _ in range(60):
                await asyncio.sleep(1)
                assert len(writers(processes)) <= 1
            assert len(writers(processes)) == 1

    run(main())


def test_a_stolen_lease_is_lost_at_the_next_renewal() -> None:
    async def main() -> None:
        async with election("a") as (server, (a,)):
            stored = server.objects[LEASES]["system", "leader"]
            server.put(LEASES, {**stored, "spec": {**stored["spec"], "holderIdentity": "thief"}})
            await asyncio.sleep(3.5)
            assert a.lost is not None and "thief" in str(a.lost)
            assert not a.lease.may_write()
            assert record(server)["holderIdentity"] == "thief"

    run(main())


@pytest.mark.parametrize("seed", range(3))
def test_k07_never_two_whatever_happens(seed: int) -> None:
    import random

    async def main() -> None:
        dice = random.Random(seed)
        async with election("a", "b", "c") as (server, processes):
            led = set()
            for _ in range(250):
                trouble = dice.random()
                if trouble < 0.05:
                    server.fail(dice.randrange(8), dice.choice([429, 500, 503, 409]))
                elif trouble < 0.08:
                    (server.paused.clear if server.paused.is_set() else server.paused.set)()
                elif trouble < 0.11:
                    victim = dice.randrange(3)
                    await processes[victim].kill()
                    processes[victim] = Process(server, f"{victim}-{now()}")
                elif trouble < 0.13:
                    server.cut_watches()
                await asyncio.sleep(dice.random() * 4)
                for i, process in enumerate(processes):
                    if process.task.done():
                        await process.kill()
                        processes[i] = Process(server, f"{i}-{now()}")
                leading = writers(processes)
                assert len(leading) <= 1
                led.update(leading)
            assert len(led) > 1, "the role never moved"

    run(main())
