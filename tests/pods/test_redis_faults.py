"""Redis under Sentinel, hurt in ways that take their time: ids as in docs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.pods.running import Running
from tests.pods.test_redis import Make, client, kept, manifest, primary, write
from tests.pods.writing import Writer

pytestmark = [pytest.mark.pods, pytest.mark.long]


@contextmanager
def confirmed(running: Running) -> Iterator[Callable[[int], str | None]]:
    """One connection through the Service; what a replica confirmed counts as written."""
    with client(running) as server:

        def put(number: int) -> str | None:
            server.set(f"live-{number}", "x")
            return f"live-{number}" if int(server.wait(1, 1000)) >= 1 else None

        yield put


def writing(running: Running) -> Writer[str]:
    return Writer(lambda: confirmed(running))


def kill(running: Running, pod: str) -> None:
    running.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")


def sentinels(running: Running) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = running.get("pods", "--selector=app.kubernetes.io/component=sentinel")["items"]
    return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


def test_r05_a_second_kill_during_the_failover(database: Make) -> None:
    cache = database(manifest("cache", replicas=3))
    cache.wait_settled()
    cache.wait("written", lambda: write(cache, "precious"), 30)
    first = primary(cache)
    kill(cache, first)
    second = cache.wait("a new primary", lambda: (found := primary(cache)) != first and found, 60)
    kill(cache, second)
    cache.wait("written again", lambda: write(cache, "after"), 120)
    assert kept(cache, ["precious", "after"])
    cache.wait_settled()
    assert primary(cache)


def test_r07_two_of_three_sentinels_lost(database: Make) -> None:
    """Writes go on; the Sentinels that come back know the last election, and the next failover works."""
    cache = database(manifest("cache", replicas=3))
    cache.wait_settled()
    kill(cache, primary(cache))  # so that there has been an election
    cache.wait("written", lambda: write(cache, "one"), 60)
    cache.wait_settled()
    before = primary(cache)
    with writing(cache) as writer:
        for pod in sentinels(cache)[:2]:
            kill(cache, pod["metadata"]["name"])
        ready = lambda pod: any(condition["type"] == "Ready" and condition["status"] == "True" for condition in pod["status"]["conditions"])  # noqa: E731
        cache.wait("three Sentinels", lambda: sum(map(ready, sentinels(cache))) == 3, 120)
        time.sleep(10)
    assert primary(cache) == before
    assert kept(cache, writer.acknowledged[-1:])
    kill(cache, before)
    cache.wait("written after a failover", lambda: primary(cache) != before and write(cache, "two"), 60)
    assert kept(cache, ["one", "two", *writer.acknowledged])


def test_r10_a_new_password_with_sentinels_connected(database: Make) -> None:
    """Both passwords work for a while, everywhere, and a failover right after the change is as any other."""
    cache = database(manifest("cache", replicas=3))
    cache.wait_settled()
    old = cache.login()["password"]
    cache.make_secret("password", password="a new one")
    cache.patch({"redis": {"passwordSecret": {"name": "password"}}})

    def works(password: str) -> bool:
        with client(cache, password) as server:
            return bool(server.ping())

    cache.wait("the new password in force", lambda: works("a new one"), 60)
    assert works(old)
    before = primary(cache)
    kill(cache, before)
    cache.wait("written after a failover", lambda: primary(cache) != before and write(cache, "after"), 60)
    cache.wait_settled()
    assert cache.restarts() == 0


def test_a_rolling_restart_and_a_scale_in_move_the_primary(database: Make) -> None:
    cache = database(manifest("cache", replicas=3))
    cache.wait_settled()
    before = cache.uids()
    with writing(cache) as writer:
        cache.patch({"redis": {"parameters": {"databases": 4}}})
        cache.wait("rolled", lambda: not set(before) & set(cache.uids()) and len(cache.uids()) == 3)
        cache.wait_settled()
        print(f"rolling restart: longest gap {writer.longest:.1f} s, {len(writer.acknowledged)} written")
        writer.longest = 0.0
        cache.patch({"replicas": 2})
        cache.wait("two members", lambda: len(cache.uids()) == 2 and cache.settled())
        print(f"scale-in to two: longest gap {writer.longest:.1f} s, {len(writer.acknowledged)} written")
    assert kept(cache, writer.acknowledged)
