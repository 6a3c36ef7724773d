"""Redis' next step under Sentinel: restarts, settings, members that leave."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database_operator.api.database import Resolved
from database_operator.api.status import Role
from database_operator.engines.base import Action, Command, Label, Member, Observation, Restart, Switchover, Wait
from database_operator.engines.redis import ENGINE, config
from database_operator.engines.redis.live import default
from database_operator.engines.redis.topology import topology
from tests.engines.test_redis import MI, database, given_parameters

SETTLED = {"role": "slave", "follows": "cache-0", "elected": "cache-0", "settings": {}, "priority": "100", "password": "current"}


def stands(db: Resolved) -> dict[str, str]:
    return {name: value for name, value in config.live(db).items() if value != default(name)}


def member(db: Resolved, number: int, role: str = "replica", **more: Any) -> Member:
    own = {"role": "master", "elected": f"cache-{number}"} if role == "primary" else {}
    facts = SETTLED | own | {"settings": stands(db)} | more.pop("facts", {})
    base = {"pod": f"cache-{number}", "uid": f"u{number}", "ready": True, "running": True, "was_ready": True, "reached": True}
    base |= {"role": Role(role), "role_label": role, "lag_bytes": 0 if role == "replica" else None}
    return Member(**(base | {"facts": facts} | more))


def next_step(db: Resolved, *members: Member) -> Action | None:
    assert ENGINE.topology is not None
    return ENGINE.topology(db, Observation(members=members, wanted=db.spec.replicas))


ONE, THREE = database(), database(replicas=3)


@pytest.mark.parametrize(
    ("db", "members", "want"),
    [
        pytest.param(ONE, [member(ONE, 0, "primary")], None, id="settled"),
        pytest.param(THREE, [member(THREE, 0, "primary"), member(THREE, 1), member(THREE, 2)], None, id="settled three"),
        pytest.param(ONE, [member(ONE, 0, "primary", reached=None)], None, id="not asked yet"),
        pytest.param(ONE, [member(ONE, 0, "primary", role_label=None)], Label("cache-0", "primary"), id="label"),
        pytest.param(
            THREE,
            [member(THREE, 0, "replica", role_label="primary"), member(THREE, 1, "primary", role_label=None)],
            Label("cache-0", "replica"),
            id="strip before label",
        ),
        pytest.param(ONE, [member(ONE, 0, "primary", outdated=True)], Restart("cache-0"), id="alone"),
        pytest.param(
            THREE,
            [member(THREE, 0, "primary", outdated=True), member(THREE, 1, outdated=True), member(THREE, 2, outdated=True)],
            Restart("cache-1"),
            id="replicas first",
        ),
        pytest.param(
            THREE,
            [member(THREE, 0, outdated=True), member(THREE, 1, "primary"), member(THREE, 2, facts={"follows": "cache-0"})],
            Wait("no other member follows cache-1 yet"),
            id="after a move the other one still follows the old primary",
        ),
        pytest.param(
            THREE,
            [
                member(THREE, 0, outdated=True, facts={"follows": "cache-1"}),
                member(THREE, 1, "primary"),
                member(THREE, 2, facts={"follows": "cache-1"}),
            ],
            Restart("cache-0"),
            id="then the old primary",
        ),
        pytest.param(
            THREE,
            [member(THREE, 0, "primary", outdated=True), member(THREE, 1, outdated=True), member(THREE, 2, lag_bytes=None)],
            Wait("no other member follows cache-0 yet"),
            id="the only copy is not restarted",
        ),
        pytest.param(
            THREE,
            [member(THREE, 0, "primary", outdated=True), member(THREE, 1, ready=False), member(THREE, 2, outdated=True)],
            Wait("cache-1 is not ready"),
            id="one at a time",
        ),
        pytest.param(
            THREE,
            [member(THREE, 0, "primary", outdated=True), member(THREE, 1)],
            Wait("2 of 3 members are there"),
            id="one is being made anew",
        ),
        pytest.param(
            THREE,
            [member(THREE, 0, "primary", outdated=True), member(THREE, 1), member(THREE, 2, outdated=True, ready=False)],
            Restart("cache-2", "it is not ready, and its inputs have changed"),
            id="revert heals",
        ),
        pytest.param(
            THREE,
            [member(THREE, 0, "primary", outdated=True), member(THREE, 1, lag_bytes=9), member(THREE, 2, lag_bytes=3)],
            Switchover("cache-2", "cache-0 is restarted"),
            id="then hand over",
        ),
        pytest.param(
            THREE,
            [member(THREE, 0, "primary", outdated=True), member(THREE, 1, lag_bytes=None), member(THREE, 2, lag_bytes=None)],
            Wait("no replica is in sync with the primary"),
            id="nobody in sync",
        ),
        pytest.param(
            THREE,
            [member(THREE, 0, outdated=True), member(THREE, 1), member(THREE, 2)],
            Wait("cache has no primary: Sentinel elects one"),
            id="never elects",
        ),
        pytest.param(
            THREE,
            [
                member(THREE, 0, "unknown", role_label="replica", facts={"role": "master", "elected": "cache-1"}),
                member(THREE, 1, "primary"),
                member(THREE, 2),
            ],
            Command("demote", "cache-0", message="Sentinel has chosen cache-1: cache-0 becomes its replica"),
            id="stale primary",
        ),
        pytest.param(
            ONE,
            [member(ONE, 0), member(ONE, 1), member(ONE, 2, "primary")],
            Switchover("cache-0", "cache-2 leaves"),
            id="the primary leaves last",
        ),
        pytest.param(ONE, [member(ONE, 0)], Command("promote", "cache-0", message="cache-0 is the only member left"), id="left behind"),
        pytest.param(
            ONE,
            [member(ONE, 0, "primary", facts={"password": "old"})],
            Command("password", "cache-0", message="handing the new password to cache-0"),
            id="new password",
        ),
        pytest.param(ONE, [member(ONE, 0, "primary", facts={"password": "both"})], None, id="both passwords for a while"),
    ],
)
def test_topology(db: Resolved, members: list[Member], want: Action | None) -> None:
    assert next_step(db, *members) == want


def test_r03_an_operator_that_comes_back_follows_sentinel() -> None:
    """A failover went on without it: labels are set by what the members and Sentinels say, and nobody is made primary again."""
    back = member(THREE, 0, role_label="primary", facts={"elected": "cache-2"})
    others = [member(THREE, 1, facts={"elected": "cache-2"}), member(THREE, 2, "primary", role_label="replica")]
    assert next_step(THREE, back, *others) == Label("cache-0", "replica")
    stripped = member(THREE, 0, facts={"elected": "cache-2"})
    assert next_step(THREE, stripped, *others) == Label("cache-2", "primary")
    assert next_step(THREE, stripped, others[0], member(THREE, 2, "primary")) is None


def test_r03_nobody_leaves_before_a_member_was_asked() -> None:
    """An operator that has just started knows of no primary: it might be among those that go."""
    unasked = [member(THREE, number, "replica", reached=None) for number in range(3)]
    one = database({"mode": "sentinel"}, replicas=1)
    found = next_step(one, *unasked)
    assert isinstance(found, Wait)
    assert next_step(THREE, *unasked) is None


def test_who_is_first_back_of_three_is_not_made_the_primary() -> None:
    alone = member(ONE, 0, role_label="replica", facts={"elected": None})
    wanted = {number: ENGINE.topology(ONE, Observation(members=(alone,), wanted=number)) for number in (1, 3)}  # type: ignore[misc]
    assert isinstance(wanted[1], Command)
    assert wanted[1].name == "promote"
    assert isinstance(wanted[3], Wait)


def test_parameters_are_set_live_and_taken_back() -> None:
    db = given_parameters({"maxmemory": "64mb"})
    action = next_step(db, member(ONE, 0, "primary", facts={"settings": stands(ONE) | {"hz": "20"}}))
    assert isinstance(action, Command)
    assert (action.name, action.pod) == ("configure", "cache-0")
    assert dict(action.arguments) == {"maxmemory": str(64 * MI), "hz": "10"}


def test_r06_writes_are_bound_to_replicas_only_once_one_is_there() -> None:
    primary = member(ONE, 0, "primary")
    assert next_step(THREE, primary) is None
    action = next_step(THREE, primary, member(THREE, 1))
    assert isinstance(action, Command)
    assert dict(action.arguments) == {"min-replicas-to-write": "1"}


def test_a_preference_of_a_planned_move_is_taken_back() -> None:
    action = next_step(ONE, member(ONE, 0, "primary", facts={"priority": "1"}))
    assert isinstance(action, Command)
    assert dict(action.arguments) == {"replica-priority": "100"}


@st.composite
def members_of_three(draw: st.DrawFn) -> list[Member]:
    roles = st.sampled_from(["primary", "replica", "unknown"])
    flags = st.booleans()
    return [
        member(
            THREE,
            number,
            draw(roles),
            ready=draw(flags),
            outdated=draw(flags),
            terminating=draw(flags),
            reached=draw(st.sampled_from([True, False, None])),
            role_label=draw(st.sampled_from(["primary", "replica", None])),
            lag_bytes=draw(st.sampled_from([None, 0, 100])),
        )
        for number in range(draw(st.integers(0, 5)))
    ]


@given(members_of_three())
def test_topology_is_total_and_never_touches_a_primary_that_has_heirs(members: list[Member]) -> None:
    action = topology(THREE, Observation(members=tuple(members), wanted=3))
    primaries = [one.pod for one in members if one.role is Role.PRIMARY]
    if isinstance(action, Restart):
        assert len(primaries) == 1
        assert action.pod != primaries[0] or len(members) == 1
    if isinstance(action, Switchover):
        target = next(one for one in members if one.pod == action.to)
        assert target.role is Role.REPLICA
        assert target.ready
    if isinstance(action, Label) and action.role == "primary":
        assert [action.pod] == primaries
    assert not (isinstance(action, Command) and action.name == "promote")
