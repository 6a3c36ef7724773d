"""What becomes of a request, as tables: a switchover and a member cloned anew, for every engine."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from database_operator.api.database import Metadata, Resolved, Stored, decode, resolve
from database_operator.api.spec import EngineType
from database_operator.api.status import DatabaseStatus, Phase, Role
from database_operator.build import constants as c
from database_operator.build.requests import asked, pending, pod, wanted_primary
from database_operator.engines.base import BEHIND_BYTES, Command, Handled, Member, Observation, Refused, Switchover, Verdict, Wait, Wipe
from database_operator.engines.redis.cluster import Node
from database_operator.engines.registry import ENGINES
from database_operator.reconcile.requests import judge
from tests.engines.test_conformance import VERSIONS
from tests.engines.test_conformance import members as any_members

SYNCHRONOUS = {"config": {"synchronous_mode": True}}


def database(type_: str, replicas: int = 3, annotations: dict[str, str] | None = None, **section: Any) -> Resolved:
    body = {"type": type_, "version": VERSIONS[type_], "replicas": replicas, **section}
    stored = Stored(metadata=Metadata(name="shop", annotations=annotations or {}), spec=msgspec.Raw(json.dumps(body).encode()))
    return resolve(decode(stored))


def member(ordinal: int, role: Role = Role.REPLICA, **more: Any) -> Member:
    said = {"ready": True, "reached": True, "running": True, "lag_bytes": 0, "ip": f"10.0.0.{ordinal}", "role": role}
    return Member(pod=f"shop-{ordinal}", **(said | more))


def three(*changes: dict[str, Any], **facts: Any) -> Observation:
    """shop-0 leads; ``changes`` to the members, by their place; ``facts`` of every member."""
    found = [member(0, Role.PRIMARY), member(1), member(2)]
    for place, change in enumerate(changes):
        found[place] = msgspec.structs.replace(found[place], **change)
    members = tuple(msgspec.structs.replace(one, facts=facts | dict(one.facts)) for one in found)
    return Observation(members=members, wanted=3, formed="yes")


def verdict(type_: str, request: str, value: str, seen: Observation, **section: Any) -> Verdict:
    resolved = database(type_, replicas=seen.wanted, **section)
    return judge(resolved, ENGINES[resolved.type], seen, request, value)


STREAMS = {"replication_state": "streaming"}
FAR = BEHIND_BYTES + 1
NODES = [
    {"facts": {"node": Node(id="a", slots=((0, 16383),))}},
    {"facts": {"node": Node(id="b", follows="a")}},
    {"facts": {"node": Node(id="c", follows="a")}},
]
SET = {
    "config": [{"host": f"shop-{ordinal}.shop-members:27017", "votes": 1, "priority": 1} for ordinal in range(3)],
    "states": {f"shop-{ordinal}.shop-members:27017": "SECONDARY" for ordinal in range(3)},
}
ADDRESSES = {f"shop-{ordinal}": f"10.0.0.{ordinal}" for ordinal in range(3)}
GREEN = {"elected": True, "status": "green", "moving": 0, "addresses": ADDRESSES}


@pytest.mark.parametrize(
    ("type_", "value", "seen", "want"),
    [
        ("PostgreSQL", "shop-1", three(**STREAMS), Switchover("shop-1", "it was asked for")),
        ("PostgreSQL", "shop-1@again", three(**STREAMS), Switchover("shop-1", "it was asked for")),
        ("PostgreSQL", "shop-0", three(**STREAMS), Handled("shop-0 is the primary")),
        ("PostgreSQL", "shop-7", three(**STREAMS), Refused("there is no member of this name: shop-0, shop-1, shop-2 are there")),
        ("PostgreSQL", "@", three(**STREAMS), Refused("there is no member of this name: shop-0, shop-1, shop-2 are there")),
        ("PostgreSQL", "shop-1", three({}, {"ready": False}, **STREAMS), Refused("shop-1 is not ready")),
        ("PostgreSQL", "shop-1", three({}, {"terminating": True}, **STREAMS), Refused("shop-1 is not ready")),
        ("PostgreSQL", "shop-1", three({}, {"reached": None}, **STREAMS), Wait("the members are being asked")),
        ("PostgreSQL", "shop-1", three({"role": Role.UNKNOWN}, **STREAMS), Wait("no primary is known")),
        (
            "PostgreSQL",
            "shop-1",
            three({}, {"lag_bytes": FAR}, **STREAMS),
            Refused("shop-1 is 16 MiB behind shop-0: ask again once it has caught up"),
        ),
        ("PostgreSQL", "shop-1", three(), Refused("shop-1 does not stream from the primary")),
        ("PostgreSQL", "shop-1", three(**STREAMS, **SYNCHRONOUS), Wait("shop-1 becomes a synchronous standby first")),
        (
            "PostgreSQL",
            "shop-1",
            three({}, {"facts": {"synchronous": True}}, **STREAMS, **SYNCHRONOUS),
            Switchover("shop-1", "it was asked for"),
        ),
        ("Redis", "shop-2", three(), Switchover("shop-2", "it was asked for")),
        ("Redis", "shop-2", three({}, {}, {"lag_bytes": None}), Refused("shop-2 is not in sync with the primary")),
        ("MongoDB", "shop-2", three(**SET), Switchover("shop-2", "it was asked for")),
        (
            "MongoDB",
            "shop-2",
            three({}, {}, {"lag_bytes": None}, **SET),
            Refused("shop-2 is behind shop-0: ask again once it has caught up"),
        ),
        (
            "MongoDB",
            "shop-2",
            three(config=SET["config"][:2]),
            Refused("shop-2 may not be elected: the replica set gives it no priority"),
        ),
        ("Elasticsearch", "shop-1", three(), Refused("Elasticsearch has no switchover")),
        ("SQLite", "shop-1", three(), Refused("SQLite has no switchover")),
    ],
)
def test_switchover(type_: str, value: str, seen: Observation, want: Verdict) -> None:
    assert verdict(type_, "switchover", value, seen) == want


def test_a_member_that_leaves_does_not_become_the_primary() -> None:
    seen = msgspec.structs.replace(three(**STREAMS), wanted=2)
    assert verdict("PostgreSQL", "switchover", "shop-2", seen) == Refused("shop-2 is to leave: spec.replicas is 2")


@pytest.mark.parametrize(("mode", "word"), [("cluster", "every shard"), ("standalone", "standalone")])
def test_redis_moves_its_primary_under_sentinel_only(mode: str, word: str) -> None:
    found = verdict("Redis", "switchover", "shop-1", three(*NODES), redis={"mode": mode})
    assert isinstance(found, Refused)
    assert word in found.why


CLONED = Command("rebuild", "shop-2", message="shop-2 is cloned anew")
DOWN = {"ready": False, "reached": False, "role": Role.UNKNOWN, "lag_bytes": None}
NOT_WELL = "a member is cloned only while all others are well, and shop-1 is not"


@pytest.mark.parametrize(
    ("type_", "seen", "want"),
    [
        ("PostgreSQL", three(), CLONED),
        ("PostgreSQL", three({}, {}, {"ready": False}), CLONED),
        ("PostgreSQL", three({}, {}, DOWN), Wipe("shop-2")),
        ("PostgreSQL", three({}, DOWN), Wait(NOT_WELL)),
        ("PostgreSQL", three({"role": Role.UNKNOWN}), Wait("no primary is known")),
        ("PostgreSQL", three({}, {}, {"terminating": True}), Wait("shop-2 is being replaced")),
        ("Redis", three(), Wipe("shop-2")),
        ("Redis", three({}, {}, DOWN), Wipe("shop-2")),
        ("Redis", three({}, {"ready": False}), Wait(NOT_WELL)),
        ("MongoDB", three(**SET), Wipe("shop-2")),
        ("MongoDB", three({}, {}, DOWN, **SET), Wipe("shop-2")),
        (
            "MongoDB",
            three(config=[entry | {"votes": ordinal % 2} for ordinal, entry in enumerate(SET["config"])]),
            Wipe("shop-2"),
        ),
        (
            "MongoDB",
            three(config=[entry | {"votes": ordinal // 2} for ordinal, entry in enumerate(SET["config"])]),
            Refused("without shop-2 no majority is left: 1 members vote"),
        ),
        (
            "MongoDB",
            three(config=SET["config"], states={"shop-1.shop-members:27017": "STARTUP2"}),
            Wait("shop-1 is copying the data"),
        ),
        ("Elasticsearch", three({"facts": GREEN}), Wipe("shop-2")),
        (
            "Elasticsearch",
            three({"facts": GREEN | {"status": "yellow"}}),
            Wait("the cluster is yellow: a member is cloned only while it is green"),
        ),
        (
            "Elasticsearch",
            three({"facts": GREEN | {"only": {"shop-2": ["logs", "audit"]}}}),
            Refused("shop-2 holds the only copy of shards: audit, logs"),
        ),
        ("Elasticsearch", three({"facts": GREEN | {"moving": 2}}), Wait("2 shards are being moved or built")),
        ("Elasticsearch", three({"facts": GREEN | {"addresses": {"shop-0": "10.0.0.0"}}}), Wait("shop-1 is not in the cluster yet")),
        ("SQLite", three(), Refused("SQLite has no rebuild")),
    ],
)
def test_rebuild(type_: str, seen: Observation, want: Verdict) -> None:
    found = verdict(type_, "rebuild", "shop-2", seen)
    assert found == want or (isinstance(found, Wait) and isinstance(want, Wait) and found.message == want.message)


@pytest.mark.parametrize("type_", ["PostgreSQL", "Redis", "MongoDB", "Elasticsearch"])
def test_neither_the_primary_nor_the_last_copy_is_wiped(type_: str) -> None:
    seen = three({"facts": GREEN}, **SET)
    assert verdict(type_, "rebuild", "shop-0", seen) == Refused("shop-0 is the primary: move the primary to another member first")
    alone = Observation(members=(member(0, Role.PRIMARY),), wanted=1)
    found = verdict(type_, "rebuild", "shop-0", alone)
    assert isinstance(found, Refused)
    assert "last copy" in found.why


def test_mongodb_with_two_members_clones_none() -> None:
    seen = Observation(members=(member(0, Role.PRIMARY, facts={"config": SET["config"][:2]}), member(1)), wanted=2)
    assert verdict("MongoDB", "rebuild", "shop-1", seen) == Refused("without shop-1 no majority is left: 2 members vote")


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ((), Wipe),
        (({}, {}, {"reached": False}), Refused),
        (({}, {"ready": False}), Wait),
        (({}, {}, {"facts": {"node": Node(id="c", slots=((5, 6),))}}), Refused),
        (({}, {}, {"facts": {"node": Node(id="c")}}), Refused),
        (({}, {}, {"facts": {"node": Node(id="c", follows="x")}}), Refused),
    ],
)
def test_of_a_redis_cluster_only_a_known_replica_is_wiped(changes: tuple[dict[str, Any], ...], want: type) -> None:
    merged = [node | (changes[place] if place < len(changes) else {}) for place, node in enumerate(NODES)]
    assert isinstance(verdict("Redis", "rebuild", "shop-2", three(*merged), redis={"mode": "cluster"}), want)


def test_a_stopped_database_takes_no_request() -> None:
    resolved = database("PostgreSQL", replicas=0)
    for request in ("switchover", "rebuild"):
        assert judge(resolved, ENGINES[resolved.type], Observation(wanted=0), request, "shop-0") == Refused("the database is stopped")


@pytest.mark.parametrize("type_", [engine.value for engine in EngineType])
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200, deadline=None)
@given(seen=any_members, target=st.integers(0, 9), votes=st.integers(0, 10))
def test_no_observation_makes_an_engine_wipe_a_primary_or_a_last_copy(
    type_: str, seen: tuple[Member, ...], target: int, votes: int
) -> None:
    entries = [{"host": f"orders-{ordinal}.orders-members:27017", "votes": 1} for ordinal in range(votes)]
    members = tuple(msgspec.structs.replace(one, facts={"config": entries} if type_ == "MongoDB" else GREEN) for one in seen)
    observation = Observation(members=members, wanted=max(len(members), 1))
    wanted = f"orders-{target}"
    found = verdict(type_, "rebuild", wanted, observation)
    if isinstance(found, Wipe | Command):
        one = next(one for one in members if one.pod == wanted)
        others = [other for other in members if other is not one]
        assert one.role is not Role.PRIMARY
        assert observation.primary in others
        assert all(other.ready and other.reached and not other.terminating for other in others)


# --- which requests are still to be handled

DONE = DatabaseStatus(phase=Phase.READY, requests={"switchover": "shop-1@a"})


@pytest.mark.parametrize(
    ("annotations", "status", "want"),
    [
        ({}, DONE, {}),
        ({c.SWITCHOVER: "shop-1@a"}, DONE, {}),
        ({c.SWITCHOVER: "shop-1@b"}, DONE, {"switchover": "shop-1@b"}),
        ({c.SWITCHOVER: "shop-1"}, DatabaseStatus(), {}),
        ({c.REBUILD: ""}, DONE, {}),
        ({c.REBUILD: "shop-2", c.RESTARTED_AT: "now"}, DONE, {"rebuild": "shop-2", "restartedAt": "now"}),
    ],
)
def test_each_value_is_pending_once(annotations: dict[str, str], status: DatabaseStatus, want: dict[str, str]) -> None:
    resolved = msgspec.structs.replace(database("Redis", annotations=annotations), status=status)
    assert pending(resolved) == want
    assert set(want) <= set(asked(resolved))


def test_the_token_is_no_part_of_the_pod() -> None:
    assert [pod(value) for value in ("a-1", "a-1@x", " a-1 @x@y", "@x")] == ["a-1", "a-1", "a-1", ""]
    resolved = msgspec.structs.replace(database("Redis", annotations={c.SWITCHOVER: "shop-2@x"}), status=DONE)
    assert wanted_primary(resolved) == "shop-2"
    assert wanted_primary(database("Redis")) is None
