"""MongoDB's members under real topology and real sidecars, on a simulator of mongod's rules: no mongod runs here.

Each scenario is first run whole, then again with a crash before and after every command that changes something.
"""

from collections.abc import Callable

import msgspec
import pytest

from agent.mongodb import member as agent_member
from agent.mongodb.member import Conflict, NotYet
from agent.mongodb.server import CommandFailed, Login, Silent
from database_operator.api.database import Database, Metadata, Resolved, resolve
from database_operator.api.spec import DatabaseSpec
from database_operator.api.status import Reason
from database_operator.engines.base import Command, Restart, Switchover, Wait
from database_operator.engines.mongodb.topology import topology
from tests.simulators.mongodb import World
from tests.simulators.mongodb_operator import AGENT, Crash, CrashPlan, Operator, host_of

LOGIN = Login("root", "p@ss")


def database(replicas: int, **mongodb: object) -> Resolved:
    content = {"type": "MongoDB", "version": "7.0", "replicas": replicas, "mongodb": mongodb}
    return resolve(Database(metadata=Metadata(name="orders", namespace="shop", uid="u"), spec=msgspec.convert(content, DatabaseSpec)))


def pods(*numbers: int) -> list[str]:
    return [f"orders-{number}" for number in numbers]


def operator(replicas: int, plan: CrashPlan | None = None, *, running: bool = True) -> Operator:
    """``replicas`` empty members, as a StatefulSet makes them."""
    world = World()
    for pod in pods(*range(replicas)):
        world.start(host_of(pod))
    made = Operator(world, database(replicas), plan or CrashPlan(), LOGIN)
    if running:
        made.settle()
    return made


def scale(running: Operator, replicas: int) -> None:
    """As the pipeline does it: new pods at once, leaving ones once topology has nothing left to do."""
    before = len(running.pods())
    running.database = database(replicas)
    for pod in pods(*range(before, replicas)):
        running.world.start(host_of(pod))
    if replicas < before:
        for _ in range(120):
            if running.turn() is None:
                break
        for pod in pods(*range(replicas, before)):
            del running.world.members[host_of(pod)]
    running.settle()


def create(running: Operator) -> None:
    running.settle()


def grow(running: Operator) -> None:
    if running.database.spec.replicas == 1:  # after a crash the spec is as the user left it
        running.settle()
        running.world.insert("before")
    scale(running, 3)


def shrink(running: Operator) -> None:
    if running.database.spec.replicas == 3:
        running.settle()
        running.world.insert("before")
    scale(running, 1)


def roll(running: Operator) -> None:
    running.settle()
    running.world.insert("before")
    running.outdated = set(running.pods())
    running.settle()


def password(running: Operator) -> None:
    running.settle()
    running.login = Login("root", "another")
    for sidecar in running.sidecars.values():
        sidecar.login = running.login
    running.settle()


def parameters(running: Operator) -> None:
    running.settle()
    running.database = database(running.database.spec.replicas, parameters={"setParameter.notablescan": "true"})
    running.settle()


SCENARIOS: dict[str, tuple[int, Callable[[Operator], None]]] = {
    "one member": (1, create),
    "three members": (3, create),
    "one to three": (1, grow),
    "three to one": (3, shrink),
    "rolling restart of three": (3, roll),
    "password of one": (1, password),
    "parameters of three": (3, parameters),
}


def undisturbed(name: str) -> CrashPlan:
    replicas, scenario = SCENARIOS[name]
    plan = CrashPlan()
    running = operator(replicas, plan, running=False)
    scenario(running)
    assert running.world.lost() == []
    return plan


def crashed(name: str, at: int, *, after: bool, kills_mongod: bool) -> Operator:
    """The scenario again; at the crash the operator, every sidecar and perhaps mongod lose what they had in memory."""
    replicas, scenario = SCENARIOS[name]
    running = operator(replicas, CrashPlan(at, after=after), running=False)
    for _ in range(3):
        try:
            scenario(running)
            return running
        except Crash as crash:
            running.sidecars.clear()
            running.formed = None if running.world.primary() is None and len(running.done) < 2 else running.formed
            if kills_mongod:
                running.world.restart(crash.host)
    raise AssertionError("crashed more than once")


@pytest.mark.parametrize("name", SCENARIOS)
def test_standin_undisturbed(name: str) -> None:
    assert undisturbed(name).count > 0


@pytest.mark.parametrize("kills_mongod", [False, True], ids=["sidecar", "sidecar and mongod"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_standin_every_crash_point(name: str, after: bool, kills_mongod: bool) -> None:
    for at in range(undisturbed(name).count):
        running = crashed(name, at, after=after, kills_mongod=kills_mongod)
        assert running.settled()
        assert len(running.world.sets) == 1
        assert running.world.lost() == []


def test_standin_m01_primary_killed() -> None:
    running = operator(3)
    world = running.world
    world.insert("acknowledged")
    world.step()
    primary = world.primary()
    assert primary is not None
    assert any(what == ("insert", "acknowledged") for _, what in world.committed)
    world.stop(primary.host)
    running.turns(10)
    assert world.primary() is not None
    assert world.lost() == []
    world.restart(primary.host)
    running.settle()
    assert world.lost() == []


def test_standin_m02_primary_steps_down_before_it_restarts() -> None:
    running = operator(3)
    primary = running.world.primary()
    assert primary is not None
    running.outdated = set(running.pods())
    running.settle()
    moves = [action for action in running.done if isinstance(action, Restart | Switchover)]
    assert [type(move) for move in moves] == [Restart, Restart, Switchover, Restart]
    assert isinstance(moves[-1], Restart)
    assert host_of(moves[-1].pod) == primary.host


def test_standin_m03_name_comes_late() -> None:
    """Until the member's own name leads to it, mongod refuses to initiate; nothing is half made."""
    running = operator(1, running=False)
    host = host_of("orders-0")
    running.world.unknown.add(host)
    running.turns(5)
    assert running.world.sets == set()
    with pytest.raises(NotYet, match="maps to this node"):
        running.command("orders-0", "/initiate", {})
    running.world.unknown.clear()
    running.settle()
    assert len(running.world.sets) == 1


def test_standin_m04_empty_volume_joins_and_never_initiates() -> None:
    running = operator(3)
    running.world.insert("kept")
    running.world.step()
    running.world.step()
    running.done.clear()
    running.world.restart(host_of("orders-0"), wiped=True)
    running.sidecars.clear()
    running.settle()
    assert len(running.world.sets) == 1
    assert not any(isinstance(action, Command) and action.name == "initiate" for action in running.done)
    assert running.world.lost() == []


def test_standin_m04_only_member_with_empty_volume_waits() -> None:
    """A formed set whose data is gone is a loss that a person must see, not a reason to begin anew."""
    running = operator(1)
    running.world.restart(host_of("orders-0"), wiped=True)
    running.sidecars.clear()
    action = running.turns(10)
    assert isinstance(action, Wait)
    assert action.reason is Reason.QUORUM_LOST
    assert "no member holds" in action.message
    assert len(running.world.sets) == 1


def test_standin_m04_sidecar_refuses_while_a_peer_belongs_to_a_set() -> None:
    """Even with the operator's permit: the second look is the sidecar's own."""
    running = operator(3)
    running.world.cut |= {frozenset((host_of("orders-2"), host_of(pod))) for pod in pods(0, 1)}
    running.world.restart(host_of("orders-2"), wiped=True)
    running.sidecars.clear()
    with pytest.raises(Conflict, match="belongs to a replica set already"):
        running.command("orders-2", "/initiate", {})


def test_standin_m05_user_made_and_exception_gone() -> None:
    """The agent's user was made, its answer lost: the next turn logs in with the Secret and goes on."""
    running = operator(1, CrashPlan(1, after=True), running=False)
    with pytest.raises(Crash):
        running.settle()
    assert set(running.world.members[host_of("orders-0")].users) == {AGENT.username}
    running.sidecars.clear()
    running.settle()


def test_standin_m05_no_known_login_is_said() -> None:
    running = operator(1)
    world = running.world
    found = world.members[host_of("orders-0")]
    found.disk.oplog = [entry for entry in found.disk.oplog if entry.what[0] != "user"]
    world.run(found.host, {"createUser": "somebody", "pwd": "else", "roles": []})
    running.sidecars.clear()
    with pytest.raises(Conflict, match="neither the agent's login"):
        running.sidecar("orders-0").turn()


def test_standin_m05_agent_user_dropped_by_hand_is_made_again() -> None:
    running = operator(1)
    found = running.world.members[host_of("orders-0")]
    found.disk.oplog = [entry for entry in found.disk.oplog if entry.what[:2] != ("user", AGENT.username)]
    running.sidecars.clear()
    running.settle()
    assert AGENT.username in found.users


def test_standin_m06_one_voter_at_a_time() -> None:
    """Two voters in one step: mongod refuses, and the sidecar never asks for it."""
    running = operator(1)
    world = running.world
    for pod in pods(1, 2):
        world.start(host_of(pod))
    primary = world.primary()
    assert primary is not None
    config = world.run(primary.host, {"replSetGetConfig": 1}, AGENT)["config"]
    both = [{"_id": 1, "host": host_of("orders-1")}, {"_id": 2, "host": host_of("orders-2")}]
    wanted = config | {"version": config["version"] + 1, "members": config["members"] + both}
    with pytest.raises(CommandFailed, match="at most 1 voting member") as refused:
        world.run(primary.host, {"replSetReconfig": wanted}, AGENT)
    assert refused.value.code == 93
    running.database = database(3)
    running.settle()
    assert all("force" not in action.arguments for action in running.done if isinstance(action, Command))


def test_standin_m07_majority_lost_is_told_and_nothing_forced() -> None:
    running = operator(3)
    for pod in pods(1, 2):
        running.world.stop(host_of(pod))
    before = running.plan.count
    action = running.turns(20)
    assert isinstance(action, Wait)
    assert action.reason is Reason.QUORUM_LOST
    assert running.plan.count == before
    for pod in pods(1, 2):
        running.world.restart(host_of(pod))
    running.settle()


def test_standin_m11_majority_is_the_default_write_concern() -> None:
    running = operator(3)
    for mongod in running.world.members.values():
        assert mongod.defaults == {"w": "majority"}


def test_standin_m11_a_persons_choice_stays() -> None:
    running = operator(1)
    host = host_of("orders-0")
    running.world.run(host, {"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": 1}}, AGENT)
    running.sidecars.clear()
    running.settle()
    assert running.world.members[host].defaults == {"w": 1}


def test_standin_m13_of_two_members_neither_writes_alone() -> None:
    """Two votes have no majority without each other: no arbiter is made, the one that is left gives up, and goes on with the other."""
    running = operator(2)
    primary = running.world.primary()
    assert primary is not None
    assert [entry["votes"] for entry in running.observe().members[0].facts["config"]] == [1, 1]
    assert running.world.insert("before")
    gone = next(host for host, mongod in running.world.members.items() if mongod is not primary)
    running.world.stop(gone)
    action = running.turns(20)
    assert running.world.primary() is None
    assert isinstance(action, Wait)
    assert action.reason is Reason.QUORUM_LOST
    running.world.restart(gone)
    running.settle()
    assert running.world.insert("after")
    assert not running.world.lost()


def test_standin_votes_stop_at_seven() -> None:
    running = operator(9)
    primary = running.observe().primary
    assert primary is not None
    assert sum(entry["votes"] for entry in primary.facts["config"]) == 7
    assert all(entry["priority"] == entry["votes"] for entry in primary.facts["config"])
    scale(running, 7)
    primary = running.observe().primary
    assert primary is not None
    assert sum(entry["votes"] for entry in primary.facts["config"]) == 7


def test_standin_vote_passes_on_when_a_voter_leaves() -> None:
    running = operator(9)
    scale(running, 8)
    primary = running.observe().primary
    assert primary is not None
    votes = {entry["host"].split(".")[0]: entry["votes"] for entry in primary.facts["config"]}
    assert sum(votes.values()) == 7


def test_standin_leaving_primary_hands_over_first() -> None:
    running = operator(3)
    world = running.world
    leader = world.primary()
    assert leader is not None
    for pod in running.pods():  # move the primary to the highest
        if pod != "orders-2" and host_of(pod) != leader.host:
            running.command(pod, "/freeze", {"seconds": 60})
    running.command(leader.host.split(".")[0], "/step-down", {})
    running.turns(5)
    moved = world.primary()
    assert moved is not None
    assert moved.host == host_of("orders-2")
    world.insert("before")
    world.clock += 120
    running.settle()
    scale(running, 1)
    assert running.pods() == ["orders-0"]
    assert world.lost() == []


def test_standin_two_sets_are_never_mixed() -> None:
    running = operator(1)
    running.formed = "of another set"
    seen = running.observe()
    action = topology(running.database, seen)
    assert isinstance(action, Wait)
    assert "different replica sets" in action.message


def test_standin_removed_member_comes_back() -> None:
    """It greets like one that never had a set, but holds data: it is let in again, and copies nothing over."""
    running = operator(3)
    primary = running.world.primary()
    assert primary is not None
    agent_member.remove_member(running.sidecar(primary.host.split(".")[0]).member, host_of("orders-2"))
    for _ in range(3):
        running.world.step()
    assert running.sidecar("orders-2").status([])["state"] == "REMOVED"
    running.settle()
    assert len(running.world.sets) == 1


def test_standin_silent_member_keeps_everything_waiting() -> None:
    running = operator(3, running=False)
    running.world.stop(host_of("orders-1"))
    for _ in range(5):
        assert isinstance(running.turn(), Wait)
    assert running.world.sets == set()
    with pytest.raises(Silent):
        running.world.run(host_of("orders-1"), {"hello": 1})
