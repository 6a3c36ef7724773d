"""Redis where its memory or its files are the trouble: ids as in docs."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.pods.running import Running
from tests.pods.test_redis import Make, client, in_force, kept, manifest, primary, write, write_all
from tests.pods.test_requests import ask, degraded

pytestmark = [pytest.mark.pods, pytest.mark.long]

MEBIBYTE = 2**20


def server_of(running: Running, pod: str) -> int:
    """The process of the pod's redis-server, which becomes pid 1 of its container."""
    return next(
        pid
        for pid in running.cluster.pod_pids(running.namespace, pod, "database")
        if b"redis-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )


def data_of(running: Running, pod: str) -> Path:
    return Path(f"/proc/{server_of(running, pod)}/root/data")


def newest_log(data: Path) -> Path:
    """The append-only file that is being written."""
    return max((data / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)


def restarts_of(running: Running, pod: str) -> int:
    return int(running.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"])


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def overwritten(server: Any, key: str, value: bytes) -> bool:
    """Not while the other replica is a moment behind: the primary takes no write then."""
    try:
        return bool(server.set(key, value))
    except redis.ResponseError as error:
        if str(error).startswith("NOREPLICAS"):
            return False
        raise


def test_r08_a_replica_that_hangs_and_copies_anew_takes_no_memory_from_the_primary(database: Make) -> None:
    """With data up to ``maxmemory``: what waits for the replica, and the copy made for it, stay within the rest of the limit."""
    cache = database(manifest("cache", replicas=3))
    cache.wait_settled()
    block = os.urandom(MEBIBYTE // 4)
    room = int(in_force(cache, "maxmemory")) * 8 // 10
    with client(cache) as server:
        number = 0
        while int(server.info("memory")["used_memory"]) < room:
            server.set(f"block-{number}", block)
            number += 1
    first = primary(cache)
    victim = next(pod["metadata"]["name"] for pod in cache.pods() if pod["metadata"]["name"] != first)
    with stopped(server_of(cache, victim)), client(cache) as server:
        for turn in range(400):  # 100 MiB, of which the hanging replica takes none
            cache.wait("written", lambda turn=turn: overwritten(server, f"block-{turn % number}", block), 60)  # type: ignore[misc]
            time.sleep(0.02)
        assert restarts_of(cache, first) == 0
    cache.wait_settled()
    cache.wait("in sync again", lambda: degraded(cache) == "AllMembersHealthy", 120)
    assert primary(cache) == first
    assert cache.restarts() == 0
    with client(cache) as server:
        assert server.dbsize() == number


def test_r09_an_append_only_file_that_is_cut_is_read_up_to_the_cut(database: Make) -> None:
    cache = database(manifest("cache"))
    cache.wait_settled()
    with client(cache) as server:
        for number in range(100):
            server.set(f"key-{number}", "x" * 100)
    pid, log = server_of(cache, "cache-0"), newest_log(data_of(cache, "cache-0"))
    os.truncate(log, log.stat().st_size - 10)
    os.kill(pid, signal.SIGKILL)
    cache.wait("restarted", lambda: cache.restarts() == 1)
    cache.wait_settled()
    with client(cache) as server:
        assert server.dbsize() == 99


def test_r09_a_broken_member_is_cloned_anew_while_another_serves(database: Make) -> None:
    """Redis does not start on a file that is broken in its middle; nothing mends it in place, a replica's data is taken instead."""
    cache = database(manifest("cache", replicas=3))
    cache.wait_settled()
    keys = [f"key-{number}" for number in range(50)]
    write_all(cache, keys)
    broken = primary(cache)
    pid, log = server_of(cache, broken), newest_log(data_of(cache, broken))
    with log.open("r+b") as file:
        file.seek(log.stat().st_size // 2)
        file.write(b"\0" * 64)
    os.kill(pid, signal.SIGKILL)
    cache.wait("written again", lambda: primary(cache) != broken and write(cache, "after"), 60)
    assert kept(cache, [*keys, "after"])
    cache.wait("not starting", lambda: restarts_of(cache, broken) >= 2, 120)
    cache.wait("said", lambda: degraded(cache) == "MemberDown", 60)

    ask(cache, rebuild=broken)
    cache.wait_settled()
    cache.wait("healthy", lambda: degraded(cache) == "AllMembersHealthy", 120)
    assert restarts_of(cache, broken) == 0
    assert kept(cache, [*keys, "after"])


def test_r11_a_snapshot_that_fails_is_said_and_heals(database: Make) -> None:
    """As on a full volume: no file can be made. Redis refuses writes, the Database says why, and room is all that it takes."""
    cache = database(manifest("cache", redis={"parameters": {"save": "1 1"}}))
    cache.wait_settled()
    with client(cache) as server:
        server.set("before", "x")
    data = data_of(cache, "cache-0")
    mode = data.stat().st_mode
    data.chmod(0o555)
    try:

        def refused() -> bool:
            with client(cache) as server:
                try:
                    server.set("meanwhile", "x")
                except Exception as error:
                    return "MISCONF" in str(error)
            return False

        cache.wait("refused", refused, 60)
        cache.wait("said", lambda: degraded(cache) == "DurabilityReduced", 60)
        message = next(one["message"] for one in cache.status()["conditions"] if one["type"] == "Degraded")
        assert "snapshot" in message
    finally:
        data.chmod(mode)

    def written() -> bool:
        with client(cache) as server:
            return bool(server.set("after", "x"))

    cache.wait("written again", written, 60)
    cache.wait("healthy", lambda: degraded(cache) == "AllMembersHealthy", 60)
    with client(cache) as server:
        assert server.exists("before", "after") == 2
    assert cache.restarts() == 0
