"""What each engine knows of being degraded, as tables of what its members say."""

import msgspec
import pytest

from database_operator.api.status import DatabaseStatus, Lag, MemberStatus, Reason, Role
from database_operator.engines.base import BEHIND_BYTES, Member, Observation
from database_operator.engines.redis.cluster import Node
from database_operator.engines.registry import ENGINES
from database_operator.reconcile.status import Outcome, conditions
from tests.engines.test_requests import DOWN, SET, database, member, three
from tests.reconcile.test_status import NOW

HEALTHY = Reason.ALL_MEMBERS_HEALTHY
ON = {"synchronous_mode": True}
STRICT = ON | {"synchronous_mode_strict": True}
STREAMS = {"replication_state": "streaming"}
STANDBY = {"facts": STREAMS | {"synchronous": True}}
PAIR = {"config": SET["config"][:2]}


def degraded(type_: str, seen: Observation, before: DatabaseStatus | None = None, **section: object) -> tuple[str, str]:
    resolved = database(type_, replicas=seen.wanted, **section)
    resolved = msgspec.structs.replace(resolved, status=before or DatabaseStatus())
    found = {one.type: one for one in conditions(resolved, ENGINES[resolved.type], Outcome(observation=seen), NOW)}["Degraded"]
    assert (found.status == "True") == (found.reason != HEALTHY.value)
    return found.reason, found.message


def wanted(count: int, *members: Member, **facts: object) -> Observation:
    return Observation(members=members, wanted=count, formed="yes", facts=facts)


@pytest.mark.parametrize(
    ("type_", "seen", "want", "word"),
    [
        ("PostgreSQL", three({}, STANDBY, **STREAMS, config=ON), HEALTHY, "every member answers"),
        ("PostgreSQL", three(**STREAMS, config=ON), Reason.DURABILITY_REDUCED, "confirmed by the primary alone"),
        ("PostgreSQL", three(**STREAMS, config=STRICT), Reason.QUORUM_LOST, "writes wait"),
        ("PostgreSQL", three(DOWN, DOWN, **STREAMS, config=ON), Reason.QUORUM_LOST, "might lack writes"),  # P06
        ("PostgreSQL", three(DOWN, STANDBY, **STREAMS, config=ON), Reason.MEMBER_DOWN, "shop-0"),
        ("PostgreSQL", three({}, DOWN, STANDBY, **STREAMS, config=ON), Reason.MEMBER_DOWN, "not answering: shop-1"),
        ("PostgreSQL", three({}, DOWN, **STREAMS, config=ON), Reason.MEMBER_DOWN, "and no replica is a synchronous standby"),  # P07
        ("PostgreSQL", three(config={}), Reason.NO_REPLICAS, "no replica streams from shop-0"),
        ("PostgreSQL", three({}, {"lag_bytes": BEHIND_BYTES + 1}, **STREAMS, config={}), Reason.LAGGING, "shop-1"),
        (
            "PostgreSQL",
            three(**STREAMS, config={}, durability={"fsync": "off", "full_page_writes": "on"}),
            Reason.DURABILITY_REDUCED,
            "fsync is off",
        ),
        ("PostgreSQL", three(**STREAMS, config={}, durability={"synchronous_commit": "local"}), Reason.DURABILITY_REDUCED, "local"),
        ("PostgreSQL", three(**STREAMS, config={}, durability={"synchronous_commit": "remote_write"}), HEALTHY, "answers"),
        (
            "PostgreSQL",
            wanted(1, member(0, Role.PRIMARY, facts={"config": {}, "durability": {"fsync": "off"}})),
            Reason.DURABILITY_REDUCED,
            "",
        ),
        ("PostgreSQL", wanted(1, member(0, Role.PRIMARY, facts={"durability": {"synchronous_commit": "local"}})), HEALTHY, ""),
        ("Redis", wanted(3, *three().members, sentinels=3), HEALTHY, ""),
        ("Redis", wanted(3, *three().members, sentinels=2), HEALTHY, ""),
        ("Redis", wanted(3, *three().members, sentinels=1), Reason.QUORUM_LOST, "1 of 3 Sentinels are ready"),  # R07
        ("Redis", three({}, {"lag_bytes": None}, {"lag_bytes": None}), Reason.NO_REPLICAS, "in sync with shop-0"),
        ("Redis", three(durability={"appendonly": "no", "appendfsync": "everysec"}), Reason.DURABILITY_REDUCED, "appendonly is no"),  # I14
        ("Redis", three(durability={"appendonly": "yes", "appendfsync": "no"}), Reason.DURABILITY_REDUCED, "appendfsync is no"),
        ("Redis", three(durability={"appendonly": "yes", "appendfsync": "always"}), HEALTHY, ""),
        (
            "Redis",
            three({"facts": {"unwritten": ["rdb_last_bgsave_status"]}}),
            Reason.DURABILITY_REDUCED,
            "shop-0 could not write its snapshot",
        ),
        ("MongoDB", three(**SET), HEALTHY, ""),
        ("MongoDB", wanted(2, member(0, Role.PRIMARY, facts=PAIR), member(1)), Reason.EVEN_VOTERS, "2 members vote"),  # M13
        ("MongoDB", wanted(3, member(0, Role.PRIMARY, facts=PAIR), member(1)), Reason.MEMBER_DOWN, "1 not made yet"),
        (
            "MongoDB",
            three(DOWN, DOWN, **SET),
            Reason.QUORUM_LOST,
            "1 of 3 votes are left, no majority: shop-0, shop-1 must come back",
        ),  # M07
        ("MongoDB", three(DOWN, **SET), Reason.MEMBER_DOWN, "shop-0"),
        ("Elasticsearch", three({"facts": {"elected": True}}), HEALTHY, ""),
        ("Elasticsearch", three({"facts": {"elected": True, "lonely": {"shop-1": ["logs"]}}}), Reason.NO_REPLICAS, "logs"),
        ("Elasticsearch", three({"facts": {"elected": True, "lonely": {"shop-1": ["logs"]}, "moving": 1}}), HEALTHY, ""),
        ("Elasticsearch", three(DOWN, DOWN), Reason.QUORUM_LOST, "no elected master answers"),
        ("SQLite", wanted(1, member(0, Role.PRIMARY, facts={"pragmas": {"synchronous": "2"}})), HEALTHY, ""),
        ("SQLite", wanted(1, member(0, Role.PRIMARY, facts={"pragmas": {"synchronous": "0"}})), Reason.DURABILITY_REDUCED, "power cut"),
        ("PostgreSQL", wanted(0), HEALTHY, "no member is wanted"),
        ("PostgreSQL", wanted(3), HEALTHY, "no member runs yet"),
    ],
)
def test_i14_p06_p07_m07_m13_r07_r11_degraded(type_: str, seen: Observation, want: Reason, word: str) -> None:
    reason, message = degraded(type_, seen)
    assert reason == want.value
    assert word in message


@pytest.mark.parametrize(
    ("complete", "follows", "want"),
    [(True, "abc", HEALTHY), (False, "abc", Reason.QUORUM_LOST), (True, "aab", Reason.NO_REPLICAS)],
)
def test_a_redis_cluster(complete: bool, follows: str, want: Reason) -> None:
    thirds = dict(zip("abc", ((0, 5460), (5461, 10922), (10923, 16383)), strict=True))
    leading = [Node(id=id_, slots=(part,), complete=complete) for id_, part in thirds.items()]
    nodes = [*leading, *(Node(id=id_, follows=of, complete=complete) for id_, of in zip("def", follows, strict=True))]
    roles = [Role.PRIMARY] * 3 + [Role.REPLICA] * 3
    lags = [None] * 3 + [0] * 3
    seen = [member(n, roles[n], lag_bytes=lags[n], facts={"node": node}) for n, node in enumerate(nodes)]
    assert degraded("Redis", wanted(6, *seen), redis={"mode": "cluster"})[0] == want.value


def test_a_replica_that_was_behind_stays_so_until_it_has_half_caught_up() -> None:
    before = DatabaseStatus(members=(MemberStatus(name="shop-1", lag=Lag.BEHIND),))
    near = three({}, {"lag_bytes": BEHIND_BYTES - 1}, **STREAMS, config={})
    assert degraded("PostgreSQL", near)[0] == HEALTHY.value
    assert degraded("PostgreSQL", near, before)[0] == Reason.LAGGING.value
