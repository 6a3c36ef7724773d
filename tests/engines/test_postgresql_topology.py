"""PostgreSQL's next step: Patroni elects, the operator configures, restarts and asks for planned moves."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database_operator.api.database import Resolved
from database_operator.api.spec import Synchronous
from database_operator.api.status import Reason, Role
from database_operator.engines.base import Action, Command, Member, Observation, Restart, Switchover, Wait
from database_operator.engines.postgresql import config
from database_operator.engines.postgresql.topology import topology
from tests.engines.test_postgresql import database, given_parameters


def member(ordinal: int, role: Role = Role.REPLICA, **more: Any) -> Member:
    streaming = {"replication_state": "streaming", "synchronous": True} if role is Role.REPLICA else {}
    facts = streaming | more.pop("facts", {})
    content: dict[str, Any] = {"ready": True, "running": True, "was_ready": True, "reached": True, "lag_bytes": 0} | more
    return Member(pod=f"orders-{ordinal}", uid=f"u{ordinal}", ip=f"10.0.0.{ordinal}", role=role, facts=facts, **content)


def next_step(db: Resolved, *members: Member) -> Action | None:
    return topology(db, Observation(members=members, wanted=db.spec.replicas))


P, R, U = Role.PRIMARY, Role.REPLICA, Role.UNKNOWN
ONE, THREE = database(), database(replicas=3)
DECREASE = {"pending": {"max_connections": {"old_value": "200", "new_value": "100"}}}
INCREASE = {"pending": {"max_connections": {"old_value": "100", "new_value": "200"}}}

STEPS: list[tuple[str, Resolved, list[Member], Action | None]] = [
    ("nothing there", ONE, [], None),
    ("settled", THREE, [member(0, P), member(1), member(2)], None),
    ("alone and outdated", ONE, [member(0, P, outdated=True)], Restart("orders-0")),
    ("alone, outdated and broken", ONE, [member(0, U, outdated=True, ready=False)], Restart("orders-0")),
    ("replicas first", THREE, [member(0, P, outdated=True), member(1, outdated=True), member(2, outdated=True)], Restart("orders-1")),
    (
        "one at a time",
        THREE,
        [member(0, P, outdated=True), member(1, U, ready=False), member(2, outdated=True)],
        Wait("orders-1 is not ready"),
    ),
    (
        "one is gone",
        THREE,
        [member(0, P, outdated=True), member(2, outdated=True)],
        Wait("2 of 3 members exist: waiting for the others"),
    ),
    (
        "hand over to the nearest",
        THREE,
        [member(0, P, outdated=True), member(1, lag_bytes=9), member(2, lag_bytes=3)],
        Switchover("orders-2", "orders-0 hands over: its inputs have changed"),
    ),
    (
        "nobody streams",
        THREE,
        [member(0, P, outdated=True), member(1, facts={"replication_state": None}), member(2, facts={"replication_state": "x"})],
        Wait("orders-0 is the primary and no replica can take over: waiting for one that streams"),
    ),
    ("no primary: never elects", THREE, [member(0, outdated=True), member(1), member(2)], Wait("no primary is known: waiting for Patroni")),
    (
        "two primaries",
        THREE,
        [member(0, P, outdated=True), member(1, P), member(2)],
        Wait("no primary is known: waiting for Patroni"),
    ),
    (
        "a revert heals",
        THREE,
        [member(0, P), member(1, U, outdated=True, ready=False, was_ready=False), member(2)],
        Restart("orders-1", "it never became ready with its inputs, which have changed since"),
    ),
    (
        "alone with a parameter that waits",
        ONE,
        [member(0, P, pending_restart=True, facts=INCREASE)],
        Command("restart", "orders-0", message="restarting the server on orders-0 for max_connections"),
    ),
    (
        "P15 an increase: replicas first",
        THREE,
        [member(0, P, pending_restart=True, facts=INCREASE), member(1, pending_restart=True, facts=INCREASE), member(2)],
        Command("restart", "orders-1", message="restarting the server on orders-1 for max_connections"),
    ),
    (
        "P15 an increase: then a planned move",
        THREE,
        [member(0, P, pending_restart=True, facts=INCREASE), member(1), member(2)],
        Switchover("orders-1", "orders-0 hands over: a parameter waits for it"),
    ),
    (
        "P15 a decrease: the primary first",
        THREE,
        [member(0, P, pending_restart=True, facts=DECREASE), member(1, pending_restart=True, facts=DECREASE), member(2)],
        Command("restart", "orders-0", message="restarting the server on orders-0 for max_connections"),
    ),
    (
        "a primary that is to leave moves first",
        ONE,
        [member(0), member(1, P), member(2, lag_bytes=0)],
        Switchover("orders-0", "orders-1 hands over: it is to leave"),
    ),
    ("replicas that are to leave just leave", ONE, [member(0, P), member(1), member(2)], None),
]


@pytest.mark.parametrize(("db", "members", "wanted"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS])
def test_next_step(db: Resolved, members: list[Member], wanted: Action | None) -> None:
    assert next_step(db, *members) == wanted


def test_configuration_comes_first_and_once() -> None:
    db = given_parameters({"work_mem": "8MB"})
    old = config.dynamic(database(), 1)
    step = next_step(db, member(0, P, outdated=True, facts={"config": old}))
    assert isinstance(step, Command)
    assert step.arguments["patch"] == {"postgresql": {"parameters": {"work_mem": "8MB"}}}
    assert next_step(db, member(0, P, facts={"config": config.dynamic(db, 1)})) is None


def test_the_fast_clock_is_set_before_a_second_member_joins_and_taken_back_after_the_last_has_left() -> None:
    single, several = config.dynamic(ONE, 1), config.dynamic(THREE, 3)
    grow = next_step(THREE, member(0, P, facts={"config": single}))
    assert isinstance(grow, Command)
    assert grow.arguments["patch"]["ttl"] == 20
    lone = config.dynamic(ONE, 2)
    assert lone["ttl"] == 20
    assert next_step(ONE, member(0, P, facts={"config": lone}), member(1)) is None
    shrunk = next_step(ONE, member(0, P, facts={"config": several}))
    assert isinstance(shrunk, Command)
    assert shrunk.arguments["patch"]["ttl"] == 90
    assert shrunk.arguments["patch"]["synchronous_mode"] is False


def test_a_primary_on_its_way_out_finds_a_synchronous_standby_that_stays() -> None:
    db = database(replicas=3)
    facts, lazy = {"config": config.dynamic(db, 5)}, {"synchronous": False}
    five = [member(0, facts=lazy), member(1, facts=lazy), member(2, facts=lazy), member(3, P, facts=facts), member(4)]
    step = next_step(db, *five)
    assert isinstance(step, Command)
    assert step.arguments["patch"] == {"synchronous_node_count": 4}
    facts = {"config": config.dynamic(db, 5, standbys=4)}
    step = next_step(db, member(0), member(1), member(2), member(3, P, facts=facts), member(4))
    assert step == Switchover("orders-0", "orders-3 hands over: it is to leave")
    step = next_step(db, member(0, P, facts=facts), member(1), member(2), member(3), member(4))
    assert isinstance(step, Command)
    assert step.arguments["patch"] == {"synchronous_node_count": 1}


def test_on_the_way_to_one_member_nothing_waits_for_standbys_that_leave() -> None:
    facts, lazy = {"config": config.dynamic(THREE, 3)}, {"synchronous": False}
    step = next_step(ONE, member(0, facts=lazy), member(1, P, facts=facts), member(2))
    assert isinstance(step, Command)
    assert step.arguments["patch"]["synchronous_mode"] is False
    facts = {"config": config.dynamic(ONE, 3, standbys=2)}
    assert next_step(ONE, member(0, facts=lazy), member(1, P, facts=facts), member(2)) == Switchover(
        "orders-0", "orders-1 hands over: it is to leave"
    )


def test_nobody_leaves_while_no_primary_is_known() -> None:
    """It might be among those that go, and be the only one with the last writes."""
    step = next_step(ONE, member(0, U, ready=False), member(1, U, ready=False), member(2, U, ready=False))
    assert step == Wait("no primary is known: members leave once there is one", Reason.SCALING)
    never = member(2, U, ready=False, was_ready=False, outdated=True)
    assert isinstance(next_step(ONE, member(0, U, ready=False), never), Restart)


def test_who_stops_stays_synchronous() -> None:
    """Members that come back elect by what Patroni noted: with synchronous mode off, one that lacks writes might win."""
    facts = {"config": config.dynamic(THREE, 3)}
    assert next_step(database(replicas=0), member(0, P, facts=facts), member(1, facts=facts), member(2, facts=facts)) is None


def test_p07_required_begins_with_the_first_standby_and_is_not_let_go() -> None:
    db = database({"synchronous": "Required"}, replicas=2)
    loose, strict = config.dynamic(db, 2), config.dynamic(db, 2, strict=True)
    assert next_step(db, member(0, P, facts={"config": loose})) is None
    joined = next_step(db, member(0, P, facts={"config": loose}), member(1))
    assert isinstance(joined, Command)
    assert joined.arguments["patch"] == {"synchronous_mode_strict": True}
    assert next_step(db, member(0, P, facts={"config": strict}), member(1, U, ready=False, reached=False)) is None
    assert db.postgresql.synchronous is Synchronous.REQUIRED


def test_a_value_the_server_does_not_take_is_told() -> None:
    step = next_step(ONE, member(0, P, facts={"untaken": {"work_mem": "invalid value", "jit": "no such parameter"}}))
    message = "parameter jit is not in force (and 1 more): no such parameter; correct or remove it"
    assert step == Wait(message, Reason.UPDATE_PENDING)


def test_several_members_are_settled_once_a_standby_is_synchronous() -> None:
    facts, lazy = {"config": config.dynamic(THREE, 3)}, {"synchronous": False}
    waiting = next_step(THREE, member(0, P, facts=facts), member(1, facts=lazy), member(2, facts=lazy))
    assert isinstance(waiting, Wait)
    assert waiting.reason is Reason.SCALING
    assert next_step(THREE, member(0, P, facts=facts), member(1, facts=lazy), member(2)) is None
    asynchronous = database({"synchronous": "Disabled"}, replicas=3)
    facts = {"config": config.dynamic(asynchronous, 3)}
    assert next_step(asynchronous, member(0, P, facts=facts), member(1, facts=lazy), member(2, facts=lazy)) is None


def test_only_a_synchronous_standby_is_asked_to_take_over() -> None:
    facts = {"config": config.dynamic(THREE, 3)}
    lazy = {"synchronous": False}
    step = next_step(THREE, member(0, P, outdated=True, facts=facts), member(1, facts=lazy, lag_bytes=0), member(2, lag_bytes=5))
    assert step == Switchover("orders-2", "orders-0 hands over: its inputs have changed")
    step = next_step(THREE, member(0, P, outdated=True, facts=facts), member(1, facts=lazy), member(2, facts=lazy))
    assert isinstance(step, Wait)


members_ = st.builds(
    lambda role, ready, was, outdated, pending, lag, terminating: {
        "role": role,
        "ready": ready and not terminating,
        "was_ready": was or ready,
        "outdated": outdated,
        "pending_restart": pending,
        "lag_bytes": lag,
        "terminating": terminating,
    },
    st.sampled_from([P, R, R, U]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(0, 99),
    st.booleans(),
)


@given(st.lists(members_, max_size=5), st.integers(0, 5))
def test_topology_never_elects_and_takes_down_one_at_a_time(drawn: list[dict[str, Any]], wanted: int) -> None:
    members = tuple(member(ordinal, **content) for ordinal, content in enumerate(drawn))
    by_pod = {m.pod: m for m in members}
    observation = Observation(members=members, wanted=wanted)
    step = topology(database(replicas=wanted), observation)
    primary = observation.primary
    if isinstance(step, Switchover):
        assert primary is not None
        assert step.to != primary.pod
        assert by_pod[step.to].ready
        assert not by_pod[step.to].terminating
    if isinstance(step, Restart):
        victim = by_pod[step.pod]
        assert victim.outdated
        assert not victim.terminating
        never_was = not victim.ready and not victim.was_ready
        alone = wanted <= 1 and sum(not m.terminating for m in members) == 1
        if not never_was and not alone:
            assert primary is not None
            assert victim is not primary
            assert all(m.ready or m.outdated for m in members)


@given(st.integers(1, 5), st.data())
def test_a_rollout_ends_with_one_member_down_at_a_time(count: int, data: st.DataObject) -> None:
    """A model of the pods: a restarted one is away for a while, a planned move makes another the primary."""
    db = database(replicas=count)
    outdated = [True] * count
    primary, away, moves = data.draw(st.integers(0, count - 1)), -1, 0
    for _ in range(4 * count + 4):
        members = [
            member(
                i,
                U if i == away else P if i == primary else R,
                ready=i != away,
                outdated=outdated[i],
                lag_bytes=data.draw(st.integers(0, 9)),
            )
            for i in range(count)
        ]
        step = next_step(db, *members)
        away_before, away = away, -1
        match step:
            case None:
                break
            case Restart(pod=pod):
                ordinal = int(pod[-1])
                assert away_before == -1
                assert ordinal != primary or count == 1
                outdated[ordinal], away = False, ordinal
            case Switchover(to=to):
                primary, moves = int(to[-1]), moves + 1
            case Wait():
                assert away_before != -1
    assert not any(outdated)
    assert moves == (1 if count > 1 else 0)
