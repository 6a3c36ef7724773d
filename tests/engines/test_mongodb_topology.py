"""MongoDB's next step: who joins, restarts, hands over and leaves."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from database_operator.api.database import Resolved
from database_operator.api.status import Reason, Role
from database_operator.engines.base import Action, Command, Label, Member, Observation, Restart, Switchover, Wait
from database_operator.engines.mongodb import config
from database_operator.engines.mongodb.topology import topology
from tests.engines.test_mongodb import DOMAIN, database, with_parameters


def member(number: int, state: str, **more: Any) -> Member:
    """One that answers, in a set of three unless its state says it has none."""
    pod = f"orders-{number}"
    host = f"{pod}.{DOMAIN}:27017"
    inside = state not in ("UNINITIALIZED",)
    config_ = more.pop("config", [0, 1, 2])
    facts = {
        "state": state,
        "self": host,
        "users": True,
        "setId": "s" if inside else None,
        "config": [{"id": i, "host": f"orders-{i}.{DOMAIN}:27017", "votes": 1, "priority": 1.0} for i in config_] if inside else [],
        "states": more.pop("states", {}),
        "parameters": more.pop("parameters", dict(config.live_parameters(database()))) if inside else {},
    }
    role = {"PRIMARY": Role.PRIMARY, "SECONDARY": Role.REPLICA}.get(state, Role.UNKNOWN)
    label = {"PRIMARY": "primary", "SECONDARY": "replica"}.get(state)
    base = {"pod": pod, "uid": pod, "ready": True, "was_ready": True, "running": True, "reached": True, "lag_bytes": 0}
    return Member(**(base | {"role": role, "role_label": label, "facts": facts} | more))


def silent(number: int, **more: Any) -> Member:
    return Member(pod=f"orders-{number}", uid=str(number), running=True, reached=False, **more)


P, S, U = "PRIMARY", "SECONDARY", "UNINITIALIZED"
THREE = (member(0, P), member(1, S), member(2, S))


def decide(*members: Member, wanted: int = 3, formed: str | None = "s", db: Resolved | None = None) -> Action | None:
    return topology(db or database(replicas=wanted), Observation(members=members, wanted=wanted, formed=formed))


def test_settled_set_needs_nothing() -> None:
    assert decide(*THREE) is None
    assert decide(member(0, P, config=[0]), wanted=1) is None
    assert topology(database(replicas=0), Observation(members=(), wanted=0)) is None


def test_first_member_is_asked_to_initiate_once_all_answer() -> None:
    action = decide(member(0, U), member(1, U), member(2, U), formed=None)
    assert isinstance(action, Command)
    assert (action.name, action.pod) == ("initiate", "orders-0")


@pytest.mark.parametrize(
    "members",
    [
        (member(0, U), silent(1), member(2, U)),
        (silent(0), member(1, U), member(2, U)),
        (member(1, U), member(2, U)),
        (member(0, U),),
        (),
    ],
    ids=["one silent", "first silent", "first missing", "others missing", "none"],
)
def test_m03_nobody_initiates_before_all_answer(members: tuple[Member, ...]) -> None:
    assert isinstance(decide(*members, formed=None), Wait)


@pytest.mark.parametrize("members", [(member(0, U), member(1, U), member(2, U)), (member(0, U), silent(1), silent(2))])
def test_m04_formed_data_is_never_initiated_again(members: tuple[Member, ...]) -> None:
    action = decide(*members, formed="s")
    assert isinstance(action, Wait)
    assert action.reason is Reason.QUORUM_LOST


def test_m04_first_member_with_empty_volume_is_left_to_the_set() -> None:
    """It is in the configuration already: its peers' heartbeats bring it in."""
    assert decide(member(0, U, ready=False, role_label=None), member(1, P), member(2, S)) is None


def test_two_sets_are_never_mixed() -> None:
    other = member(1, P)
    other = msgspec.structs.replace(other, facts=dict(other.facts) | {"setId": "another"})
    assert isinstance(decide(member(0, P), other, member(2, S)), Wait)
    assert isinstance(decide(*THREE, formed="another"), Wait)


def test_m06_members_join_one_at_a_time() -> None:
    action = decide(member(0, P, config=[0]), member(1, U), member(2, U))
    assert isinstance(action, Command)
    assert action.name == "add-member"
    assert action.arguments == {"host": f"orders-1.{DOMAIN}:27017"}
    copying = {f"orders-1.{DOMAIN}:27017": "STARTUP2"}
    waiting = decide(member(0, P, config=[0, 1], states=copying), member(1, "STARTUP2", ready=False, role_label=None), member(2, U))
    assert isinstance(waiting, Wait)
    assert "orders-1 is copying" in waiting.message


def test_m07_without_primary_nothing_is_forced() -> None:
    action = decide(member(0, S), silent(1), silent(2))
    assert isinstance(action, Wait)
    assert action.reason is Reason.QUORUM_LOST
    assert isinstance(decide(member(0, S), member(1, S), member(2, S)), Wait)


def test_leaving_members_leave_the_set_highest_first() -> None:
    action = decide(*THREE, wanted=1)
    assert isinstance(action, Command)
    assert (action.name, action.arguments) == ("remove-member", {"host": f"orders-2.{DOMAIN}:27017"})
    moved = decide(member(0, S), member(1, S), member(2, P), wanted=1)
    assert moved == Switchover("orders-0", "orders-2 leaves the replica set")


def test_label_follows_the_members_own_word() -> None:
    assert decide(member(0, S, role_label="primary"), member(1, P), member(2, S)) == Label("orders-0", "replica")
    assert decide(member(0, P, role_label=None, config=[0]), wanted=1) == Label("orders-0", "primary")


def test_rollout_replicas_first_then_hand_over_then_the_old_primary() -> None:
    old = [member(0, P, outdated=True), member(1, S, outdated=True), member(2, S, outdated=True)]
    assert isinstance(decide(*old), Restart)
    assert decide(*old) == Restart("orders-1", "its inputs changed")
    assert decide(old[0], member(1, S), old[2]) == Restart("orders-2", "its inputs changed")
    assert decide(old[0], member(1, S, lag_bytes=None), member(2, S)) == Switchover("orders-2", "orders-0 restarts next")
    assert decide(member(0, S, outdated=True), member(1, P), member(2, S)) == Restart("orders-0", "its inputs changed")


def test_rollout_waits_for_every_member() -> None:
    assert isinstance(decide(member(0, P, outdated=True), member(1, S, ready=False), member(2, S, outdated=True)), Wait)


def test_m08_nobody_else_joins_or_restarts_while_one_is_too_stale() -> None:
    """It says RECOVERING until it is wiped and copies anew, by the request ``rebuild``: one initial sync at a time, and never by itself."""
    stale = {f"orders-2.{DOMAIN}:27017": "RECOVERING"}
    members = (member(0, P, states=stale), member(1, S), member(2, "RECOVERING", ready=False))
    assert decide(*members) is None
    assert decide(*members, member(3, U), wanted=4) == Wait("orders-2 is copying the data", Reason.SCALING)
    outdated = (member(0, P, states=stale, outdated=True), member(1, S, outdated=True), members[2])
    assert isinstance(decide(*outdated), Wait)


def test_m12_a_hung_secondary_is_no_quorum_for_a_rollout() -> None:
    hung = silent(2)
    assert isinstance(decide(member(0, P, outdated=True), member(1, S, outdated=True), hung), Wait)
    assert isinstance(decide(member(0, P, outdated=True), member(1, S), hung), Wait)


def test_only_member_restarts_at_once() -> None:
    assert decide(member(0, P, config=[0], outdated=True), wanted=1) == Restart("orders-0", "its inputs changed")


def test_member_that_never_was_ready_goes_first() -> None:
    """Reverting a bad change heals, primary or not."""
    broken = silent(0, outdated=True)
    action = decide(broken, wanted=1)
    assert isinstance(action, Restart)
    assert action.pod == "orders-0"


def test_live_parameters_are_asked_for_and_taken_back() -> None:
    changed = with_parameters({"slowms": 7})
    action = decide(member(0, P, config=[0]), wanted=1, db=changed)
    assert isinstance(action, Command)
    assert (action.name, action.arguments) == ("configure", {"parameters": {"slowms": 7}})
    in_force = dict(config.live_parameters(changed))
    back = decide(member(0, P, config=[0], parameters=in_force), wanted=1)
    assert isinstance(back, Command)
    assert back.arguments == {"parameters": {"slowms": 100}}


def test_parameter_that_this_version_does_not_know_is_not_asked_for() -> None:
    known = {name: value for name, value in config.live_parameters(database()).items() if name != "allowDiskUseByDefault"}
    assert decide(member(0, P, config=[0], parameters=known), wanted=1) is None


STATES = st.sampled_from(["PRIMARY", "SECONDARY", "UNINITIALIZED", "STARTUP2", "RECOVERING", "ROLLBACK", "REMOVED", "UNKNOWN"])


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    members = []
    for number in range(draw(st.integers(0, 5))):
        if draw(st.booleans()) and draw(st.booleans()):
            members.append(silent(number, outdated=draw(st.booleans()), terminating=draw(st.booleans())))
            continue
        inside = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5, unique=True))
        flags = {name: draw(st.booleans()) for name in ("ready", "was_ready", "outdated", "terminating")}
        members.append(member(number, draw(STATES), config=inside, **flags))
    return Observation(members=tuple(members), wanted=draw(st.integers(0, 5)), formed=draw(st.sampled_from([None, "s", "other"])))


@given(observations())
def test_topology_is_total_and_never_elects(observation: Observation) -> None:
    action = topology(database(replicas=observation.wanted), observation)
    assert action is None or isinstance(action, Wait | Restart | Switchover | Command | Label)
    holders = [m for m in observation.members if m.reached and m.facts.get("setId")]
    if isinstance(action, Command) and action.name == "initiate":
        assert not holders
        assert observation.formed is None
        assert all(m.reached for m in observation.members)
        assert len(observation.members) >= observation.wanted
    if isinstance(action, Switchover):
        target = next(m for m in observation.members if m.pod == action.to)
        assert target.ready
        assert observation.primary is not None
    if isinstance(action, Restart):
        restarted = next(m for m in observation.members if m.pod == action.pod)
        assert restarted.outdated
        assert not restarted.terminating
