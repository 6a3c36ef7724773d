"""Elasticsearch's next step: restarts, settings, members that leave."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from database_operator.api.database import Resolved
from database_operator.api.status import Reason, Role
from database_operator.engines.base import Action, Command, Member, Observation, Restart, Wait
from database_operator.engines.elasticsearch import config
from database_operator.engines.elasticsearch.topology import topology
from database_operator.reconcile.connections.elasticsearch import Shard, shard_facts
from tests.engines.test_elasticsearch import database, with_parameters

FACTS: dict[str, Any] = {
    "elected": True,
    "login": "taken",
    "status": "green",
    "addresses": {f"logs-{n}": f"10.0.0.{n}" for n in range(5)},
    "moving": 0,
    "settings": {},
    "excluded": (),
    "voteless": (),
    "voting": ("logs-0", "logs-1", "logs-2"),
    "lonely": {},
    "stranded": {},
}


def member(number: int, *, outdated: bool = False, facts: dict[str, Any] | None = None, **fields: Any) -> Member:
    known = {"elected": False, "login": "taken"} if facts is None else facts
    base = {"ready": True, "running": True, "was_ready": True, "reached": True, "role": Role.REPLICA} | fields
    return Member(pod=f"logs-{number}", ip=f"10.0.0.{number}", outdated=outdated, facts=known, **base)


def cluster(master: int = 0, outdated: tuple[int, ...] = (), size: int = 3, **facts: Any) -> tuple[Member, ...]:
    of_master = FACTS | facts
    return tuple(member(n, outdated=n in outdated, facts=of_master if n == master else None) for n in range(size))


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        (cluster(), None),
        (cluster(outdated=(0, 1, 2)), Restart("logs-2")),
        (cluster(outdated=(0, 1)), Restart("logs-1")),
        (cluster(outdated=(0,)), Restart("logs-0")),
        (cluster(master=2, outdated=(0, 1, 2)), Restart("logs-1")),
        (cluster(outdated=(0, 1, 2), status="yellow"), Restart("logs-2")),
        (cluster(outdated=(1,), status="red"), Wait),
        (cluster(outdated=(1,), moving=2), Wait),
        (cluster(outdated=(1,), addresses={"logs-0": "10.0.0.0", "logs-1": "10.0.0.1"}), Wait),
        (cluster(outdated=(2,), status="yellow", lonely={"logs-2": ["orders"]}), Wait),
        (cluster(outdated=(1, 2), status="yellow", lonely={"logs-2": ["orders"]}), Restart("logs-1")),
        (cluster(outdated=(0, 2), status="yellow", lonely={"logs-2": ["orders"]}), Wait),
        (cluster(outdated=(1,), addresses=FACTS["addresses"] | {"logs-2": "10.0.0.99"}), Wait),
        (cluster(outdated=(1,))[:2], Wait),
        (cluster(outdated=(0,))[:1], Wait),
        (cluster(master=9, outdated=(1,)), Wait),
        (cluster(master=9), None),
    ],
    ids=[
        "settled", "highest first", "then the next", "master last", "master last anywhere", "yellow alone does not stop it", "never on red",
        "not while shards move", "not while a node is away", "not on old news", "not while a pod is missing", "not the only one left",
        "not the only copy", "another instead", "master not before others",
        "not without a master", "no master, nothing asked",
    ],
)  # fmt: skip
def test_e03_restarts(members: tuple[Member, ...], wanted: Any) -> None:
    action = topology(database(replicas=3), Observation(members=members, wanted=3))
    assert isinstance(action, wanted) if isinstance(wanted, type) else action == wanted


def test_one_member_down_stops_a_rollout_and_a_revert_heals_it() -> None:
    down = (*cluster(outdated=(1,))[:2], member(2, ready=False))
    assert isinstance(topology(database(replicas=3), Observation(members=down, wanted=3)), Wait)
    reverted = (*cluster()[:2], member(2, outdated=True, ready=False, was_ready=False))
    action = topology(database(replicas=3), Observation(members=reverted, wanted=3))
    assert isinstance(action, Restart)
    assert action.pod == "logs-2"


@pytest.mark.parametrize(
    ("alone", "wanted"),
    [
        (member(0, facts=FACTS), None),
        (member(0, outdated=True, facts=FACTS), Restart("logs-0")),
        (member(0, outdated=True, facts=FACTS | {"status": "red"}), Restart("logs-0")),
        (member(0, outdated=True, reached=False), Restart("logs-0")),
        (member(0, outdated=True, terminating=True), None),
        (member(0, reached=False), None),
        (member(0, facts=FACTS | {"login": "refused"}), Wait),
    ],
)
def test_a_single_member(alone: Member, wanted: Any) -> None:
    action = topology(database(), Observation(members=(alone,), wanted=1))
    assert isinstance(action, wanted) if isinstance(wanted, type) else action == wanted


def test_settings_follow_the_spec_and_removed_ones_go_back() -> None:
    def step(db: Resolved, **persistent: str) -> Action | None:
        return topology(db, Observation(members=(member(0, facts=FACTS | {"settings": persistent}),), wanted=1))

    wanted = with_parameters(search__max_buckets=1000)
    first = step(wanted)
    assert isinstance(first, Command)
    assert (first.name, first.arguments) == (
        "configure",
        {"settings": {config.MANAGED: "search.max_buckets", "search.max_buckets": "1000"}},
    )
    assert step(wanted, **{"search.max_buckets": "1000", config.MANAGED: "search.max_buckets"}) is None
    changed = step(wanted, **{"search.max_buckets": "5", config.MANAGED: "search.max_buckets"})
    assert isinstance(changed, Command)
    assert changed.arguments == {"settings": {"search.max_buckets": "1000"}}
    removed = step(database(), **{"search.max_buckets": "1000", config.MANAGED: "search.max_buckets"})
    assert isinstance(removed, Command)
    assert removed.arguments == {"settings": {"search.max_buckets": None, config.MANAGED: None}}
    assert step(database(), **{"cluster.routing.allocation.enable": "none"}) is None  # somebody else's is left alone


def leave(replicas: int, **facts: Any) -> Action | None:
    return topology(database(replicas=replicas), Observation(members=cluster(**facts), wanted=replicas))


def test_i05_e06_e07_members_leave_only_empty_and_without_a_vote() -> None:
    first = leave(1)
    assert first == Command("exclude", "logs-0", {"nodes": ["logs-1", "logs-2"]}, "moving shards off logs-1, logs-2", Reason.SCALING)
    gone: dict[str, Any] = {"excluded": ("logs-1", "logs-2"), "voteless": ("logs-1", "logs-2"), "voting": ("logs-0",)}
    assert leave(1, excluded=("logs-1", "logs-2")) == first
    assert isinstance(leave(1, **gone, stranded={"logs-2": 1}), Wait)
    assert leave(1, **gone | {"voting": ("logs-0", "logs-2")}) == Wait("logs-2 leaves and still has a vote", Reason.SCALING)
    assert isinstance(leave(1, **gone, moving=1), Wait)
    assert isinstance(leave(1, **gone, master=1), Wait)
    assert leave(1, **gone) is None


def test_e07_shards_that_find_no_place_hold_their_node() -> None:
    """A disk watermark keeps Elasticsearch from moving them: nothing moves, they stay, and so does the node, for as long as it takes."""
    gone = {"excluded": ("logs-2",), "voteless": ("logs-2",), "voting": ("logs-0", "logs-1")}
    found = leave(2, **gone, moving=0, stranded={"logs-2": 3})
    assert found == Wait("shards have no copy on the members that stay: 3 on logs-2", Reason.SCALING)
    waits = leave(2, **gone, lost=["orders"])
    assert isinstance(waits, Wait)
    assert "orders: have it allocated, restore the index or delete it" in waits.message


def test_e08_nobody_leaves_who_was_asked_back() -> None:
    """3 -> 2 -> 3: what an earlier pass excluded is let back, and nobody goes."""
    for excluded, voteless in (((), ("logs-2",)), (("logs-2",), ()), (("logs-2",), ("logs-2",))):
        found = leave(3, excluded=excluded, voteless=voteless)
        assert found == Command("readmit", "logs-0", message="letting shards back on all members", reason=Reason.SCALING)
    assert leave(3) is None


def test_e04_an_index_without_copies_is_named_nowhere_and_waits_for_its_node() -> None:
    """It is on its node's volume and away while that restarts; only copies that are wanted and not there hold a restart up."""
    alone = shard_facts((Shard(index="orders", shard="0", prirep="p", state="STARTED", node="logs-2"),))
    assert alone["lonely"] == {}
    short = shard_facts(
        (
            Shard(index="orders", shard="0", prirep="p", state="STARTED", node="logs-2"),
            Shard(index="orders", shard="0", prirep="r", state="UNASSIGNED"),
        )
    )
    found = topology(database(replicas=3), Observation(members=cluster(outdated=(2,), status="yellow", **short), wanted=3))
    assert found == Wait("logs-2 holds the only started copy of shards that should have more: orders")


def test_e04_an_index_without_copies_moves_before_its_node_leaves() -> None:
    alone = shard_facts((Shard(index="orders", shard="0", prirep="p", state="STARTED", node="logs-2"),), frozenset({"logs-2"}))
    assert alone["stranded"] == {"logs-2": 1}


def test_e06_after_leaving_nothing_stays_behind() -> None:
    action = topology(database(), Observation(members=(member(0, facts=FACTS | {"voteless": ("logs-1",)}),), wanted=1))
    assert isinstance(action, Command)
    assert action.name == "readmit"
    assert isinstance(leave(3, excluded=("logs-2",), voteless=("logs-2",)), Command)  # asked back before it left


def test_e07_e08_nothing_leaves_without_a_master() -> None:
    assert isinstance(leave(1, master=9), Wait)


def test_a_stopped_database_is_left_alone() -> None:
    assert topology(database(replicas=0), Observation(members=cluster(), wanted=0)) is None


@given(
    outdated=st.sets(st.integers(0, 4)),
    master=st.integers(0, 4),
    status=st.sampled_from(["green", "yellow", "red"]),
    unready=st.sets(st.integers(0, 4)),
    lonely=st.sets(st.integers(0, 4)),
    away=st.sets(st.integers(0, 4)),
    missing=st.sets(st.integers(0, 4)),
    moving=st.integers(0, 1),
)
def test_e03_a_restart_never_endangers_the_cluster(
    outdated: set[int], master: int, status: str, unready: set[int], lonely: set[int], away: set[int], missing: set[int], moving: int
) -> None:
    addresses = {f"logs-{n}": f"10.0.0.{n}" for n in range(5) if n not in away}
    facts = {"status": status, "addresses": addresses, "moving": moving, "lonely": {f"logs-{n}": ["i"] for n in lonely}}
    made = enumerate(cluster(master, tuple(outdated), 5, **facts))
    members = tuple(msgspec.structs.replace(one, ready=n not in unready) for n, one in made if n not in missing)
    action = topology(database(replicas=5), Observation(members=members, wanted=5))
    calm = status != "red" and not moving and not away and not unready and not missing
    if isinstance(action, Restart):
        restarted = int(action.pod[-1])
        assert calm
        assert restarted in outdated
        assert restarted not in lonely
        assert restarted != master or outdated == {master}
    elif calm and outdated and not lonely:
        raise AssertionError("a rollout that could go on stands still")
