"""Redis in real pods: alone and under Sentinel, through kills, changes and a new password."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis

from tests.pods.running import Running
from tests.pods.writing import Writer

pytestmark = pytest.mark.pods

Make = Callable[[dict[str, Any]], Running]
ROLE = "databases.database-operator.io/role"


def manifest(name: str, **spec: Any) -> dict[str, Any]:
    base = {
        "type": "Redis",
        "version": "7.2",
        "storage": {"size": "1Gi"},
        "resources": {"cpu": "20m", "memory": "32Mi", "memoryLimit": "128Mi"},
    }
    kind = {"apiVersion": "databases.database-operator.io/v1alpha1", "kind": "Database"}
    return kind | {"metadata": {"name": name}, "spec": base | spec}


@contextmanager
def client(running: Running, password: str | None = None) -> Iterator[Any]:
    """Through the Service, with the password alone as with the official image's requirepass."""
    address = running.get("service", f"{running.name}-service")["spec"]["clusterIP"]
    found = redis.Redis(host=address, password=password or running.login()["password"], socket_timeout=2, decode_responses=True)
    try:
        yield found
    except redis.RedisError as error:
        raise ConnectionError(str(error)) from error
    finally:
        found.close()


def in_force(running: Running, name: str) -> str:
    with client(running) as server:
        return str(server.config_get(name)[name])


def test_redis_lives(database: Make) -> None:
    cache = database(manifest("cache"))
    cache.wait_settled()
    assert in_force(cache, "maxmemory") == str(96 * 1024**2)
    with client(cache) as server:
        for number in range(100):
            server.set(f"key-{number}", number)
        with pytest.raises(redis.ResponseError, match="permissions"):
            server.execute_command("REPLICAOF", "other", 6379)

    cache.kill_container()
    cache.wait("restarted", lambda: cache.restarts() == 1)
    cache.wait_settled()
    with client(cache) as server:
        assert server.dbsize() == 100

    before = cache.uids()
    cache.kubectl("delete", "pod", "--selector=app=cache")
    cache.wait("replaced", lambda: cache.uids() and cache.uids() != before)
    cache.wait_settled()
    with client(cache) as server:
        assert server.dbsize() == 100


@pytest.mark.proves("spec.redis.parameters", "spec.redis.passwordSecret.name")
def test_redis_changes_live(database: Make) -> None:
    cache = database(manifest("cache"))
    cache.wait_settled()
    before = cache.uids()
    cache.patch({"redis": {"parameters": {"maxmemory": "32mb", "notify-keyspace-events": "KEA"}}})
    cache.wait("in force", lambda: in_force(cache, "maxmemory") == str(32 * 1024**2), 60)
    cache.patch({"redis": {"parameters": {"maxmemory": None}}})
    cache.wait("taken back", lambda: in_force(cache, "maxmemory") == str(96 * 1024**2), 60)

    old = cache.login()["password"]
    with client(cache, old) as open_before:
        open_before.ping()
        cache.make_secret("password", password='my own "password" ü')
        cache.patch({"redis": {"passwordSecret": {"name": "password"}}})

        def new_one_works() -> bool:
            with client(cache, 'my own "password" ü') as server:
                return bool(server.ping())

        cache.wait("the new password in force", new_one_works, 60)
        assert open_before.ping()  # the connection is that of before
    with client(cache, old) as server:
        assert server.ping()  # for a while
    cache.wait_settled()
    assert cache.uids() == before
    assert cache.restarts() == 0

    cache.patch({"redis": {"parameters": {"databases": 4}}})
    cache.wait("restarted with its new settings", lambda: in_force(cache, "databases") == "4")
    assert cache.uids() != before


def primary(running: Running) -> str:
    """The pod that the Service leads to."""
    pods = [pod for pod in running.pods() if pod["metadata"]["labels"].get(ROLE) == "primary"]
    assert len(pods) == 1, [pod["metadata"]["name"] for pod in pods]
    return str(pods[0]["metadata"]["name"])


def write(running: Running, key: str) -> bool:
    """One write that a replica has confirmed."""
    with client(running) as server:
        server.set(key, "x")
        return int(server.wait(1, 1000)) >= 1


def write_all(running: Running, keys: list[str]) -> None:
    """Each again until a replica has confirmed it."""
    for key in keys:
        running.wait("written", lambda key=key: write(running, key), 30)  # type: ignore[misc]


def kept(running: Running, keys: list[str]) -> bool:
    with client(running) as server:
        return int(server.exists(*keys)) == len(keys)


def test_redis_fails_over_and_scales(database: Make) -> None:
    cache = database(manifest("cache", replicas=3))
    cache.wait_settled()
    acknowledged = [f"before-{number}" for number in range(20)]
    write_all(cache, acknowledged)

    first = primary(cache)
    cache.kubectl("delete", "pod", first, "--grace-period=0", "--force", "--wait=false")
    cache.wait("written again", lambda: write(cache, "after"), 60)
    assert kept(cache, [*acknowledged, "after"])
    cache.wait_settled()

    # a planned move, for a setting that needs a restart of everybody
    before = cache.uids()
    cache.patch({"redis": {"parameters": {"databases": 4}}})
    cache.wait("rolled", lambda: not set(before) & set(cache.uids()) and len(cache.uids()) == 3)
    cache.wait_settled()
    assert kept(cache, [*acknowledged, "after"])

    # all members and Sentinels at once
    before = cache.uids()
    cache.kubectl("delete", "pod", "--all", "--grace-period=0", "--force", "--wait=false")
    cache.wait("replaced", lambda: not set(before) & set(cache.uids()) and len(cache.uids()) == 3)
    cache.wait("written after all were gone", lambda: write(cache, "reformed"), 120)
    assert kept(cache, [*acknowledged, "after", "reformed"])
    cache.wait_settled()

    # one member again: its template has no more account, which waits for a restart that happens anyway
    cache.patch({"replicas": 1})
    cache.wait("one member", lambda: len(cache.uids()) == 1)
    cache.wait("ready", lambda: cache.status()["phase"] == "Ready" and cache.status()["ready"] == "1/1")
    assert kept(cache, [*acknowledged, "after", "reformed"])
    cache.wait("the Sentinels gone", lambda: [item["metadata"]["name"] for item in cache.get("statefulsets")["items"]] == ["cache"])


@pytest.mark.long
def test_an_empty_primary_does_not_wipe_its_replicas(database: Make) -> None:
    cache = database(manifest("cache", replicas=3))
    cache.wait_settled()
    cache.wait("written", lambda: write(cache, "precious"), 30)
    first = primary(cache)
    cache.kubectl("delete", "pvc", f"data-{first}", "--wait=false")
    cache.kubectl("delete", "pod", first, "--grace-period=0", "--force", "--wait=false")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError):  # nobody answers for a while, but never without the data
            assert kept(cache, ["precious"])
        time.sleep(0.5)
    cache.wait_settled()
    assert kept(cache, ["precious"])


def node_for(running: Running, key: str) -> Any:
    """A client of the member that owns the slot of ``key``, by the address of its pod."""
    addresses = {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in running.pods()}
    password = running.login()["password"]
    with client(running) as server:
        slot = server.execute_command("CLUSTER", "KEYSLOT", key)
        for first, last, owner, *_ in server.execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                pod = owner[0].partition(".")[0]
                return redis.Redis(host=addresses[pod], password=password, socket_timeout=2, decode_responses=True)
    raise ConnectionError(f"nobody owns the slot of {key}")


def put(running: Running, key: str) -> bool:
    try:
        with node_for(running, key) as server:
            return bool(server.set(key, "x"))
    except redis.RedisError as error:
        raise ConnectionError(str(error)) from error


@pytest.mark.long
def test_a_redis_cluster_forms_and_forms_again(database: Make) -> None:
    cache = database(manifest("cache", replicas=6, redis={"mode": "cluster"}))
    cache.wait_settled()
    assert sorted(pod["metadata"]["labels"][ROLE] for pod in cache.pods()) == ["primary"] * 3 + ["replica"] * 3
    keys = [f"key-{number}" for number in range(30)]
    assert all(put(cache, key) for key in keys)

    before = cache.uids()
    cache.patch({"redis": {"parameters": {"databases": 1}}})  # restarts every member, primaries after a takeover
    cache.wait("rolled", lambda: not set(before) & set(cache.uids()) and len(cache.uids()) == 6)
    cache.wait_settled()

    cache.kubectl("delete", "pod", "--selector=app=cache", "--grace-period=0", "--force", "--wait=false")
    cache.wait("written again", lambda: put(cache, "after"), 120)
    cache.wait_settled()
    for key in keys:
        with node_for(cache, key) as server:
            assert server.get(key) == "x"


def got(running: Running, keys: list[str]) -> bool:
    """Every one of ``keys`` is where a client that follows the cluster's slots finds it."""
    missing = []
    for key in keys:
        with node_for(running, key) as server:
            if server.get(key) != "x":
                missing.append(key)
    assert not missing, f"{len(missing)} of {len(keys)} are gone: {missing[:5]}"
    return True


@contextmanager
def following(running: Running) -> Iterator[Callable[[int], str | None]]:
    """As a client of a cluster does: asks a member for the slot's owner, and follows its redirections."""
    addresses = {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in running.pods()}
    password = running.login()["password"]

    def put(number: int) -> str | None:
        key, pod, asking = f"live-{number}", min(addresses), False
        for _ in range(4):
            server: Any = redis.Redis(host=addresses[pod], password=password, socket_timeout=2, decode_responses=True)
            with server, server.client() as one:
                try:
                    if asking:
                        one.execute_command("ASKING")
                    return key if one.set(key, "x") else None
                except redis.exceptions.MovedError as moved:
                    pod, asking = moved.host.partition(".")[0], False
                except redis.exceptions.AskError as ask:
                    pod, asking = ask.host.partition(".")[0], True
        return None

    try:
        yield put
    except (redis.RedisError, KeyError) as error:  # a member that left, or one that came since
        raise ConnectionError(str(error)) from error


@pytest.mark.proves("spec.redis.shards")
@pytest.mark.long
def test_a_redis_cluster_changes_its_shards_with_writes_going_on(database: Make) -> None:
    # on a machine that others use too: with less, members take one another for failed
    resources = {"cpu": "100m", "memory": "32Mi", "memoryLimit": "128Mi"}
    cache = database(manifest("cache", replicas=3, redis={"mode": "cluster", "shards": 3}, resources=resources))
    cache.wait_settled()
    with Writer(lambda: following(cache)) as writer:
        assert writer.more(50)
        for members, shards in ((6, 3), (8, 4), (6, 3), (3, 3)):
            cache.patch({"replicas": members, "redis": {"shards": shards}})
            cache.wait(f"{shards} shards", lambda: cache.settled() and len(cache.uids()) == members, 600)  # noqa: B023  waited for here
            with client(cache) as server:
                owners = {pod for _, _, (pod, *_), *_ in server.execute_command("CLUSTER", "SLOTS")}
                assert len(owners) == shards
            print(f"{members} members, {shards} shards: {len(writer.acknowledged)} written, longest gap {writer.longest:.1f} s")
    assert got(cache, writer.acknowledged)
