"""PostgreSQL with three members, hurt in ways that take their time: ids as in docs."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.pods.running import Running
from tests.pods.test_postgresql import MANIFEST, ROLE, ask, connect, connected, lost, primary, run, takes, writing
from tests.pods.test_requests import ask as request
from tests.pods.test_requests import degraded

pytestmark = [pytest.mark.pods, pytest.mark.long]

Make = Callable[[dict[str, Any]], Running]
SECRET = "a password of the tenant's"


@pytest.fixture
def three(database: Make) -> Running:
    pg = database(MANIFEST | {"spec": MANIFEST["spec"] | {"replicas": 3}})
    pg.wait_settled()
    pg.wait("healthy", lambda: degraded(pg) == "AllMembersHealthy", 60)
    run(pg, "CREATE TABLE written (n integer PRIMARY KEY)")
    return pg


def roles(pg: Running) -> dict[str, str]:
    """Pod -> its role as Patroni has it: leader, sync_standby, replica."""
    address = next(pod["status"]["podIP"] for pod in pg.pods() if pod["status"].get("podIP"))
    with urllib.request.urlopen(f"http://{address}:8008/cluster", timeout=5) as response:
        return {member["name"]: member["role"] for member in json.loads(response.read())["members"]}


def who(pg: Running, role: str) -> str:
    return str(pg.wait(f"a {role}", lambda: next((name for name, found in roles(pg).items() if found == role), None), 60))


def kill(pg: Running, *pods: str) -> None:
    pg.kubectl("delete", "pod", *pods, "--grace-period=0", "--force", "--wait=false")


@contextmanager
def cordoned(pg: Running) -> Iterator[None]:
    """No pod that is made meanwhile finds a node."""
    nodes = [node["metadata"]["name"] for node in pg.get("nodes")["items"]]
    pg.kubectl("cordon", *nodes)
    try:
        yield
    finally:
        pg.kubectl("uncordon", *nodes)


def test_p06_the_primary_and_its_only_synchronous_standby_die(three: Running) -> None:
    """The third may lack writes: it is not promoted, and the Database says what is missing."""
    leader, standby = who(three, "leader"), who(three, "sync_standby")
    (third,) = {f"orders-{ordinal}" for ordinal in range(3)} - {leader, standby}
    with writing(three) as writer:
        with cordoned(three):
            kill(three, leader, standby)
            deadline = time.monotonic() + 45  # twice the time of the primary's lock
            while time.monotonic() < deadline:
                assert roles(three).get(third) != "leader"
                assert third not in [pod["metadata"]["name"] for pod in three.pods() if pod["metadata"]["labels"].get(ROLE) == "primary"]
                time.sleep(0.5)
            three.wait("said", lambda: degraded(three) == "QuorumLost", 30)
        three.wait("a primary that has all", lambda: primary(three) in (leader, standby), 120)
        three.wait_settled()
    assert not lost(three, writer.acknowledged)
    three.wait("healthy", lambda: degraded(three) == "AllMembersHealthy", 60)


def test_p07_another_becomes_the_synchronous_standby(three: Running) -> None:
    leader, standby = who(three, "leader"), who(three, "sync_standby")
    with writing(three) as writer:
        with cordoned(three):
            kill(three, standby)
            assert writer.more(20)
            three.wait("another standby", lambda: who(three, "sync_standby") != standby, 60)
            three.wait("said", lambda: degraded(three) == "MemberDown", 30)
        three.wait_settled()
    print(f"longest gap {writer.longest:.1f} s, {len(writer.acknowledged)} written")
    assert primary(three) == leader
    assert not lost(three, writer.acknowledged)


def test_p15_a_setting_that_standbys_must_not_lag_behind_or_run_ahead_of(three: Running) -> None:
    """A standby with less than its primary would stop; down and up again, everybody replicates on."""
    with writing(three) as writer:
        for most in ("60", "140"):
            three.patch({"postgresql": {"parameters": {"max_connections": most}}})
            for service in ("service", "ro"):
                three.wait("in force", lambda: ask(three, "SHOW max_connections", service) == most, 180)  # noqa: B023  waited for here
            three.wait_settled()
            three.wait("healthy", lambda: degraded(three) == "AllMembersHealthy", 60)
    assert not lost(three, writer.acknowledged)
    assert three.restarts() == 0
    newest = max(writer.acknowledged)
    three.wait("replicated", lambda: ask(three, "SELECT max(n) FROM written", "ro") == newest, 30)


# What every statement of an administrator or a monitor uses, under the same names, in front of the real ones.
TRAP = """
CREATE FUNCTION public.caught(what text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN RAISE LOG 'caught by % in %', session_user, what; RETURN what; END $$;
CREATE FUNCTION public.pg_is_in_recovery() RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.caught('pg_is_in_recovery'); RETURN false; END $$;
CREATE FUNCTION public.version() RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.caught('version'); RETURN 'none'; END $$;
CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.caught('current_setting'); RETURN ''; END $$;
CREATE FUNCTION public.same(text, text) RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.caught('='); RETURN true; END $$;
CREATE FUNCTION public.same(name, name) RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.caught('='); RETURN true; END $$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same);
CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = name, FUNCTION = public.same);
CREATE VIEW public.pg_settings AS SELECT public.caught('pg_settings'), * FROM pg_catalog.pg_settings;
CREATE VIEW public.pg_roles AS SELECT public.caught('pg_roles'), * FROM pg_catalog.pg_roles;
CREATE VIEW public.pg_database AS SELECT public.caught('pg_database'), * FROM pg_catalog.pg_database;
CREATE VIEW public.pg_stat_replication AS SELECT public.caught('pg_stat_replication'), * FROM pg_catalog.pg_stat_replication;
ALTER DATABASE shop SET search_path = public, pg_catalog;
"""


def test_p16_a_tenant_s_names_catch_nobody_but_the_tenant(database: Make) -> None:
    """Through start, probes, a new password, parameters and a switchover; the trap is sprung by the tenant's own questions."""
    pg = database(MANIFEST | {"spec": MANIFEST["spec"] | {"replicas": 2}})
    pg.wait_settled()
    run(pg, TRAP)
    tenant = pg.login()["username"]
    with connected(pg) as connection:
        connection.execute("SELECT pg_is_in_recovery(), version() FROM pg_roles WHERE rolname = 'postgres'")

    pg.make_secret("mine", password=SECRET)
    pg.patch({"postgresql": {"passwordSecret": {"name": "mine"}, "parameters": {"work_mem": "9MB", "max_connections": 90}}})
    pg.wait("the new password", lambda: takes(pg, SECRET), 180)
    pg.wait(
        "in force",
        lambda: ask(pg, "SELECT setting FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'work_mem'") == "9216",
        120,
    )
    pg.wait_settled()
    first = primary(pg)
    other = next(pod["metadata"]["name"] for pod in pg.pods() if pod["metadata"]["name"] != first)
    request(pg, switchover=other)
    pg.wait_settled()
    log = "".join(pg.kubectl("logs", pod["metadata"]["name"], "--container=database") for pod in pg.pods())
    caught = {line.partition("caught by ")[2] for line in log.splitlines() if "caught by " in line}
    assert f"{tenant} in version" in caught
    assert {entry for entry in caught if not entry.startswith(f"{tenant} in ")} == set()
    with pytest.raises(psycopg.OperationalError, match="rejects"):
        connect(pg, dbname="operator")
