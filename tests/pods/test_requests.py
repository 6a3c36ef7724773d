"""Requests on real pods: each comes about in the running database, and no confirmed write is lost on the way."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pods import test_postgresql as postgresql
from tests.pods import test_redis as redis
from tests.pods.running import Running

pytestmark = pytest.mark.pods

Make = Callable[[dict[str, Any]], Running]


def ask(running: Running, seconds: float = 120.0, **values: str) -> dict[str, Any]:
    """Annotate, and wait until the request counts as done; the status then."""
    annotations = [f"databases.database-operator.io/{key}={value}" for key, value in values.items()]
    running.kubectl("annotate", "--overwrite", "database", running.name, *annotations)
    began = time.monotonic()

    def handled() -> bool:
        kept = running.status().get("requests", {})
        return all(kept.get(key) == value for key, value in values.items())

    running.wait(f"handled: {values}", handled, seconds)
    status = running.status()
    print(f"{values}: {time.monotonic() - began:.1f} s, {status.get('message')}")
    return status


def claims(running: Running) -> dict[str, str]:
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in running.get("pvc")["items"]}


def degraded(running: Running) -> str:
    return next(str(one["reason"]) for one in running.status()["conditions"] if one["type"] == "Degraded")


def replicates(pg: Running, pod: str) -> bool:
    """It is a ready replica that is not behind, by the operator's word."""
    member = next(member for member in pg.status()["members"] if member["name"] == pod)
    return bool(member["ready"] and member["role"] == "replica" and member["lag"] == "Current")


def made_at(pg: Running, pod: str) -> float:
    """When the first file of the member's data was written."""
    pid = pg.cluster.pod_pids(pg.namespace, pod, "database")[0]
    return Path(f"/proc/{pid}/root/var/lib/postgresql/data/17/docker/PG_VERSION").stat().st_ctime


@pytest.mark.long
def test_postgresql_takes_requests(database: Make) -> None:
    pg = database(postgresql.MANIFEST | {"spec": postgresql.MANIFEST["spec"] | {"replicas": 3}})
    pg.wait_settled()
    pg.wait("healthy", lambda: degraded(pg) == "AllMembersHealthy", 60)
    postgresql.run(pg, "CREATE TABLE written (n integer PRIMARY KEY)")
    first = postgresql.primary(pg)
    others = [f"orders-{ordinal}" for ordinal in range(3) if f"orders-{ordinal}" != first]
    before = pg.uids()

    for target in others:  # one of them is not the synchronous standby
        with postgresql.writing(pg) as writer:
            assert "refused" not in str(ask(pg, switchover=target).get("message"))
            assert postgresql.primary(pg) == target
        assert not postgresql.lost(pg, writer.acknowledged)
        print(f"switchover to {target}: {writer.longest:.1f} s without a write")
        postgresql.run(pg, "TRUNCATE written")
        pg.wait_settled()
    assert pg.uids() == before
    leader, victim = others[1], others[0]

    message = ask(pg, rebuild=leader)["message"]
    assert f"rebuild {leader} refused: {leader} is the primary" in message

    volumes = claims(pg)
    with postgresql.writing(pg) as writer:
        age = made_at(pg, victim)
        ask(pg, rebuild=victim)
        pg.wait("cloned", lambda: made_at(pg, victim) > age and replicates(pg, victim), 180)
    assert not postgresql.lost(pg, writer.acknowledged)
    pg.wait_settled()
    assert (claims(pg), pg.uids()) == (volumes, before)
    postgresql.run(pg, "TRUNCATE written")

    old = pg.login()["password"]
    with postgresql.connect(pg) as held:
        ask(pg, credentialsRotatedAt="monday")
        new = pg.login()["password"]
        assert new != old
        pg.wait("the new password", lambda: postgresql.takes(pg, new), 180)
        assert not postgresql.takes(pg, old)
        assert held.execute("SELECT 1").fetchone() == (1,)

    with postgresql.writing(pg) as writer:
        ask(pg, 300, restartedAt="monday")
    assert not set(before) & set(pg.uids())
    assert not postgresql.lost(pg, writer.acknowledged)
    pg.wait_settled()
    assert pg.login()["password"] == new

    postgresql.run(pg, "TRUNCATE written")
    pg.patch({"postgresql": {"parameters": {"synchronous_commit": "off"}}})
    pg.wait("said", lambda: degraded(pg) == "DurabilityReduced", 60)
    pg.patch({"postgresql": {"parameters": None}})
    pg.wait("healthy again", lambda: degraded(pg) == "AllMembersHealthy", 60)


@pytest.mark.long
def test_redis_takes_requests(database: Make) -> None:
    cache = database(redis.manifest("cache", replicas=3))
    cache.wait_settled()
    cache.wait("healthy", lambda: degraded(cache) == "AllMembersHealthy", 120)  # the Sentinels too
    acknowledged = [f"before-{number}" for number in range(20)]
    redis.write_all(cache, acknowledged)
    first = redis.primary(cache)
    target, other = [f"cache-{ordinal}" for ordinal in range(3) if f"cache-{ordinal}" != first]
    before = cache.uids()

    assert "refused" not in str(ask(cache, switchover=target).get("message"))
    cache.wait("the Service follows", lambda: redis.primary(cache) == target, 30)
    cache.wait("written", lambda: redis.write(cache, "after"), 30)
    assert redis.kept(cache, [*acknowledged, "after"])
    cache.wait_settled()
    assert cache.uids() == before

    volumes = claims(cache)
    ask(cache, rebuild=other)
    cache.wait("a new volume", lambda: claims(cache).get(f"data-{other}") not in (None, volumes[f"data-{other}"]), 60)
    cache.wait_settled()
    assert redis.primary(cache) == target
    assert {name: uid for name, uid in claims(cache).items() if name != f"data-{other}"} == {
        name: uid for name, uid in volumes.items() if name != f"data-{other}"
    }
    cache.wait("written", lambda: redis.write(cache, "cloned"), 30)
    ask(cache, switchover=other)  # which now has all of it
    cache.wait("the Service follows", lambda: redis.primary(cache) == other, 30)
    assert redis.kept(cache, [*acknowledged, "after", "cloned"])
