"""A Redis Cluster as a pure decider: how it forms, heals, rolls and shrinks."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database_operator.api.status import Reason, Role
from database_operator.engines.base import Action, Command, Label, Member, Observation, Restart, Switchover, Wait
from database_operator.engines.redis import config, shards
from database_operator.engines.redis.live import default
from database_operator.engines.redis.shards import Node, Open
from database_operator.engines.redis.topology import topology
from database_operator.reconcile.connections import redis_nodes
from tests.engines.test_redis import database

SIX = database({"mode": "cluster", "shards": 3}, replicas=6)
SHARES = shards.ranges(3)
IDS = [f"id-{number}" for number in range(6)]


def member(number: int, node: Node | None = None, **more: Any) -> Member:
    node = node or settled(number)
    stands = {name: value for name, value in config.live(SIX).items() if value != default(name)}
    role = Role.PRIMARY if node.slots else Role.REPLICA if node.follows else Role.UNKNOWN
    base: dict[str, Any] = {
        "pod": f"cache-{number}",
        "role": role,
        "role_label": role.value if role is not Role.UNKNOWN else None,
        "reached": True,
        "ready": True,
        "running": True,
        "lag_bytes": 0 if node.follows else None,
        "facts": {"settings": stands, "password": "current", "priority": "100", "node": node},
    }
    return Member(**(base | more))


def settled(number: int, **more: Any) -> Node:
    slots = (SHARES[number],) if number < 3 else ()
    base: dict[str, Any] = {"id": IDS[number], "slots": slots, "follows": "" if number < 3 else IDS[number - 3], "knows": tuple(IDS)}
    return Node(**(base | {"complete": True} | more))


def fresh(number: int, *knows: int) -> Node:
    return Node(id=IDS[number], knows=tuple(IDS[other] for other in knows))


def next_step(*members: Member, formed: str | None = "x", wanted: int = 6) -> Action | None:
    return topology(SIX, Observation(members=members, wanted=wanted, formed=formed))


ALL = [member(number) for number in range(6)]


def but(*others: Member) -> list[Member]:
    """The settled members, with ``others`` in the place of their namesakes."""
    replaced = {other.pod: other for other in others}
    return [replaced.get(one.pod, one) for one in ALL]


def test_the_shares_are_whole_and_even() -> None:
    for number in range(3, 11):
        found = shards.ranges(number)
        assert [slot for first, last in found for slot in range(first, last + 1)] == list(range(16384))
        assert {shards.count([share]) for share in found} <= {16384 // number, 16384 // number + 1}


def test_it_forms_by_itself() -> None:
    """Every command is carried out on a model of the members, until nothing is left to do."""
    nodes = {f"cache-{number}": fresh(number, number) for number in range(6)}
    labels: dict[str, str | None] = {}
    steps = 0
    while True:
        found = [
            member(int(pod[-1]), node, role_label=labels.get(pod), facts=ALL[0].facts | {"node": node})
            for pod, node in sorted(nodes.items())
        ]
        action = next_step(*found, formed=None)
        if action is None:
            break
        steps += 1
        assert steps < 30
        if isinstance(action, Label):
            labels[action.pod] = action.role
            continue
        assert isinstance(action, Command), action
        node = nodes[action.pod]
        if action.name == "meet":
            nodes = {pod: Node(id=one.id, knows=tuple(IDS), slots=one.slots, follows=one.follows) for pod, one in nodes.items()}
        elif action.name == "assign":
            share = (action.arguments["first"], action.arguments["last"])
            nodes[action.pod] = Node(id=node.id, knows=node.knows, slots=(share,))
        else:
            assert action.name == "replicate"
            nodes[action.pod] = Node(id=node.id, knows=node.knows, follows=action.arguments["id"])
    assert [node.slots for node in nodes.values()][:3] == [(share,) for share in SHARES]
    assert [node.follows for node in nodes.values()][3:] == IDS[:3]


OUT = {"outdated": True}
CASES: list[tuple[str, list[Member], Action | None]] = [
    ("settled", ALL, None),
    (
        "one does not know the others",
        but(member(5, settled(5, knows=(IDS[5],))), member(0)),
        Command("meet", "cache-0", {"pods": ["cache-5"]}, "cache-0 meets cache-5"),
    ),
    (
        "one is not connected",
        [member(number, settled(number, knows=tuple(IDS[:5]) if number < 5 else (IDS[5],))) for number in range(6)],
        Command("meet", "cache-0", {"pods": ["cache-5"]}, "cache-0 meets cache-5"),
    ),
    (
        "back with an empty volume, its replica took over",
        but(member(0, fresh(0, *range(6))), member(3, settled(3, slots=(SHARES[0],), follows=""))),
        Command("replicate", "cache-0", {"id": IDS[3]}, "cache-0 joins shard 0"),
    ),
    (
        "slots lost with their owner are not handed out again",
        but(member(0, fresh(0, *range(6))), member(3, fresh(3, *range(6)))),
        Command("adopt", "cache-0", {"slots": [[0, 5460]]}, "the slots 0-5460 are served by no member that answers"),
    ),
    (
        "a node that left",
        but(member(2, settled(2, lost=("old",)))),
        Command("forget", "cache-2", {"ids": ["old"]}, "cache-2 forgets nodes that have left"),
    ),
    ("replicas first", but(member(0, **OUT), member(4, **OUT)), Restart("cache-4")),
    ("one at a time", but(member(0, **OUT), member(4, **OUT), member(5, ready=False)), Wait("cache-5 is not ready")),
    ("one is being made anew", but(member(0, **OUT))[:5], Wait("5 of 6 members are there")),
    ("then its replica takes over", but(member(0, **OUT)), Switchover("cache-3", "cache-0 is restarted")),
    ("nobody in sync", but(member(0, **OUT), member(3, lag_bytes=None)), Wait("no replica of cache-0 is in sync")),
    ("a role changed", but(member(3, role_label="primary")), Label("cache-3", "replica")),
]


@pytest.mark.parametrize(("members", "want"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_topology(members: list[Member], want: Action | None) -> None:
    assert next_step(*members) == want


def test_a_silent_cluster_is_not_settled() -> None:
    assert next_step(*[member(number, reached=False) for number in range(6)]) == Wait("no member answers")
    assert next_step(*[member(number, reached=None) for number in range(6)]) is None


def test_who_leaves_is_asked_first() -> None:
    """An operator that has just started has heard of the others only."""
    found = next_step(*ALL[:3], *[member(number, reached=None) for number in range(3, 6)], wanted=3)
    assert found == Wait("cache-3 leaves once it has answered", Reason.SCALING)


def test_a_shard_without_replica_is_restarted_as_it_is() -> None:
    three = [member(number, settled(number, knows=tuple(IDS[:3])), outdated=number == 1) for number in range(3)]
    assert next_step(*three, wanted=3) == Restart("cache-1")


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()), min_size=6, max_size=6))
def test_topology_is_total_and_never_stops_a_serving_primary_with_heirs(flags: list[tuple[bool, bool, bool, bool]]) -> None:
    members = [
        member(number, ready=ready, outdated=outdated, reached=reached, terminating=terminating)
        for number, (ready, outdated, reached, terminating) in enumerate(flags)
    ]
    action = next_step(*members)
    if isinstance(action, Restart):
        assert not settled(int(action.pod[-1])).slots
    assert not (isinstance(action, Command) and action.name == "assign")


def test_cluster_nodes_are_read() -> None:
    text = (
        "a 10.0.0.1:6379@16379,cache-0.m myself,master - 0 0 1 connected 0-5460 9999 [77->-b] [9998-<-c]\n"
        "b 10.0.0.2:6379@16379,cache-1.m slave a 0 1 1 connected\n"
        "c 10.0.0.3:6379@16379,cache-2.m master,fail - 0 1 2 disconnected 5461-9998\n"
        "d :0@0 master,fail,noaddr - 0 1 2 disconnected\n"
    )
    found = redis_nodes.lines(text)
    moving = Open(slot=77, leaves=True, peer="b", pod="cache-1"), Open(slot=9998, leaves=False, peer="c", pod="cache-2")
    want = Node(id="a", slots=((0, 5460), (9999, 9999)), complete=True, knows=("a", "b"), lost=("d",), open=moving)
    assert redis_nodes.node(found, complete=True) == want
