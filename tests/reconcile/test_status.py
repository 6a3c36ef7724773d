"""The status as a table: what was seen -> what a person reads."""

import datetime
import json
from typing import Any

import msgspec
import pytest

from database_operator.api.database import Metadata, Resolved, Stored, decode, resolve
from database_operator.api.status import Condition, DatabaseStatus, Lag, Phase, Reason, Role
from database_operator.engines.base import Command, Member, Observation, Platform, Restart, Wait
from database_operator.engines.registry import ENGINES
from database_operator.reconcile import blockers, versions
from database_operator.reconcile.status import BEHIND_BYTES, PATIENCE, Answered, Outcome, lag, shown_primary, status, stood, worth_writing
from database_operator.reconcile.views import ClaimView, PodSpecView, PodView

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(seconds=90)
PLATFORM = Platform(agent_image="agent:1")


def database(before: DatabaseStatus | None = None, annotations: dict[str, str] | None = None, **spec: Any) -> Resolved:
    body = {"type": "Redis", "version": "7.2", "replicas": 1, **spec}
    metadata = Metadata(name="shop", namespace="n", uid="u", generation=3, annotations=annotations or {})
    stored = Stored(metadata=metadata, spec=msgspec.Raw(json.dumps(body).encode()))
    return msgspec.structs.replace(resolve(decode(stored)), status=before or DatabaseStatus())


def made(resolved: Resolved, now: datetime.datetime = NOW, **outcome: Any) -> DatabaseStatus:
    return status(resolved, ENGINES[resolved.type], PLATFORM, Outcome(**outcome), now)


def seen(*members: Member) -> Observation:
    return Observation(members=members)


UP = Member(pod="shop-0", ready=True, role=Role.PRIMARY, version="7.2.4", reached=True)
DOWN = Member(pod="shop-0", ready=False)
NO_IMAGE = (Reason.IMAGE_NOT_PULLED, "shop-0: no such image")


@pytest.mark.parametrize(
    ("spec", "outcome", "phase", "ready", "progressing", "degraded"),
    [
        ({}, {}, Phase.CREATING, "Creating", "Scaling", "False"),
        ({}, {"observation": seen(UP)}, Phase.READY, "DatabaseReady", "Settled", "False"),
        ({}, {"observation": seen(DOWN)}, Phase.CREATING, "Creating", "Scaling", "True"),
        ({"replicas": 0}, {}, Phase.STOPPED, "Stopped", "Settled", "False"),
        ({"replicas": 3}, {"observation": seen(UP)}, Phase.CREATING, "Creating", "Scaling", "True"),
        ({}, {"blocked": NO_IMAGE}, Phase.PENDING, "ImageNotPulled", "Scaling", "False"),
        ({}, {"blocked": NO_IMAGE, "observation": seen(DOWN)}, Phase.CREATING, "ImageNotPulled", "Scaling", "True"),
        ({}, {"blocked": NO_IMAGE, "stands_for": PATIENCE}, Phase.FAILED, "ImageNotPulled", "Scaling", "False"),
        ({}, {"blocked": (Reason.NAME_CONFLICT, "x")}, Phase.FAILED, "NameConflict", "Scaling", "False"),
        ({}, {"observation": seen(UP), "held": "no"}, Phase.READY, "DatabaseReady", "UpgradeNotSupported", "False"),
        ({}, {"observation": seen(UP), "paused": True}, Phase.READY, "DatabaseReady", "Paused", "False"),
        ({}, {"observation": seen(UP), "action": Wait("w")}, Phase.READY, "DatabaseReady", "RollingOut", "False"),
        ({}, {"observation": seen(UP), "action": Restart("shop-0")}, Phase.READY, "DatabaseReady", "RollingOut", "False"),
        (
            {},
            {"observation": seen(UP), "action": Command("c", "shop-0", reason=Reason.GROWING)},
            Phase.READY,
            "DatabaseReady",
            "Growing",
            "False",
        ),
        ({}, {"observation": seen(msgspec.structs.replace(UP, outdated=True))}, Phase.READY, "DatabaseReady", "RollingOut", "False"),
        ({}, {"observation": seen(UP), "update_pending": True}, Phase.READY, "DatabaseReady", "UpdatePending", "False"),
    ],
)
def test_phase_and_conditions(
    spec: dict[str, Any], outcome: dict[str, Any], phase: Phase, ready: str, progressing: str, degraded: str
) -> None:
    found = made(database(**spec), **outcome)
    conditions = {condition.type: condition for condition in found.conditions}
    assert found.phase is phase
    assert conditions["Ready"].reason == ready
    assert (conditions["Ready"].status == "True") == (ready == "DatabaseReady")
    assert conditions["Progressing"].reason == progressing
    assert conditions["Degraded"].status == degraded
    assert {condition.observed_generation for condition in found.conditions} == {3}


def test_a_version_change_under_way_is_upgrading() -> None:
    outdated = msgspec.structs.replace(UP, outdated=True)
    before = DatabaseStatus(version="7.0.15", phase=Phase.READY)
    assert made(database(before), observation=seen(outdated), action=Restart("shop-0")).phase is Phase.UPGRADING


def test_transition_times_change_with_the_status_only() -> None:
    first = made(database(), observation=seen(DOWN))
    second = made(database(first), LATER, observation=seen(UP))
    third = made(database(second), LATER + datetime.timedelta(hours=1), observation=seen(UP))
    times = [next(c.last_transition_time for c in found.conditions if c.type == "Ready") for found in (first, second, third)]
    assert times == ["2026-01-02T03:04:05Z", "2026-01-02T03:05:35Z", "2026-01-02T03:05:35Z"]
    assert second == third


def test_what_a_settled_database_shows() -> None:
    found = made(database(), observation=seen(UP))
    assert (found.ready, found.replicas, found.ready_replicas, found.primary) == ("1/1", 1, 1, "shop-0")
    assert found.version == "7.2.4"
    assert found.endpoint == "shop-service.n.svc.cluster.local:6379"
    assert found.message is None
    assert found.binding is not None
    assert found.binding.name == "shop-credentials"


@pytest.mark.parametrize(
    ("old", "shown"),
    [
        pytest.param(Member(pod="shop-0", role=Role.REPLICA), "shop-1", id="it follows"),
        pytest.param(Member(pod="shop-0", role=Role.PRIMARY, terminating=True, role_label="primary"), "shop-1", id="it stops"),
        pytest.param(Member(pod="shop-0", role=Role.PRIMARY), "shop-1", id="it hangs, and the new one took its label"),
        pytest.param(Member(pod="shop-0", role=Role.PRIMARY, role_label="primary"), None, id="nobody can tell"),
    ],
)
def test_the_new_primary_is_shown_while_the_old_one_still_says_that_it_is(old: Member, shown: str | None) -> None:
    new = Member(pod="shop-1", role=Role.PRIMARY, role_label="primary")
    assert shown_primary([old, new]) == shown
    assert shown_primary([msgspec.structs.replace(old, role=Role.PRIMARY)]) == "shop-0"
    assert shown_primary([Member(pod="shop-0")]) is None


def test_a_primary_that_moves_is_told_while_members_come_up() -> None:
    coming = made(database(), observation=seen(DOWN))
    assert coming.phase is Phase.CREATING
    was, is_now = (msgspec.structs.replace(coming, primary=pod) for pod in ("shop-0", "shop-1"))
    assert worth_writing(was, is_now)
    assert not worth_writing(coming, is_now)  # the first is told with what comes next
    assert not worth_writing(was, coming)


def test_an_unreachable_member_is_said_to_be() -> None:
    lost = msgspec.structs.replace(UP, reached=False)
    conditions = {condition.type: condition for condition in made(database(), observation=seen(lost)).conditions}
    assert (conditions["Reachable"].status, conditions["Reachable"].reason) == ("False", "Unreachable")
    assert "shop-0" in conditions["Reachable"].message


@pytest.mark.parametrize(
    ("member", "before", "want"),
    [
        (UP, None, Lag.CURRENT),
        (Member(pod="a", role=Role.REPLICA), None, Lag.UNKNOWN),
        (Member(pod="a", role=Role.REPLICA, lag_bytes=BEHIND_BYTES), None, Lag.CURRENT),
        (Member(pod="a", role=Role.REPLICA, lag_bytes=BEHIND_BYTES + 1), None, Lag.BEHIND),
        (Member(pod="a", role=Role.REPLICA, lag_bytes=BEHIND_BYTES), Lag.BEHIND, Lag.BEHIND),
        (Member(pod="a", role=Role.REPLICA, lag_bytes=BEHIND_BYTES // 2), Lag.BEHIND, Lag.CURRENT),
    ],
)
def test_lag_has_hysteresis(member: Member, before: Lag | None, want: Lag) -> None:
    assert lag(member, before) is want


def test_requests_without_a_status_count_as_done() -> None:
    annotations = {"databases.database-operator.io/restartedAt": "today"}
    assert made(database(annotations=annotations)).requests == {"restartedAt": "today"}
    assert made(database(DatabaseStatus(phase=Phase.READY), annotations)).requests == {}


SWITCHOVER = {"databases.database-operator.io/switchover": "shop-9; x\n"}


def test_a_refusal_is_said_until_its_annotation_changes() -> None:
    asked = database(DatabaseStatus(phase=Phase.READY), SWITCHOVER)
    refused = Answered(name="switchover", value="shop-9; x\n", note="no such; member", refused=True)
    first = made(asked, observation=seen(UP), answered=(refused,))
    assert first.requests == {"switchover": "shop-9; x\n"}
    assert first.message == "switchover shop-9, x refused: no such, member"
    assert made(database(first, SWITCHOVER), observation=seen(UP)) == first
    assert made(database(first, {}), observation=seen(UP)).message is None
    again = dict.fromkeys(SWITCHOVER, "shop-1")
    assert made(database(first, again), observation=seen(UP)).message is None


def test_what_was_done_is_no_message() -> None:
    done = Answered(name="switchover", value="shop-1", note="shop-1 is the primary")
    found = made(database(DatabaseStatus(phase=Phase.READY)), observation=seen(UP), answered=(done,))
    assert (found.requests, found.message) == ({"switchover": "shop-1"}, None)


def test_a_long_value_is_kept_and_read_back() -> None:
    long = {"databases.database-operator.io/restartedAt": "x" * 5000}
    status = made(database(annotations=long), observation=seen(UP))
    stored = Stored(
        metadata=Metadata(name="a"), spec=msgspec.Raw(b'{"type":"Redis","version":"7"}'), status=msgspec.Raw(msgspec.json.encode(status))
    )
    assert decode(stored).status.requests == {"restartedAt": "x" * 5000}


def test_a_parameter_without_effect_is_said() -> None:
    found = made(database(redis={"parameters": {"replica-priority": "100"}}), observation=seen(UP))
    assert found.message is not None
    assert found.message.startswith("spec.redis.parameters.replica-priority has no effect: ")


def test_while_members_come_up_only_what_helps_is_written() -> None:
    first = made(database(), observation=seen())
    with_pod = made(database(first), observation=seen(DOWN))
    with_reason = made(database(first), observation=seen(DOWN), blocked=NO_IMAGE)
    assert not worth_writing(first, with_pod)
    assert worth_writing(first, with_reason)
    assert worth_writing(first, made(database(first), observation=seen(UP)))


def test_a_forged_status_of_wrong_shape_counts_as_none() -> None:
    stored = Stored(
        metadata=Metadata(name="a"), spec=msgspec.Raw(b'{"type":"Redis","version":"7"}'), status=msgspec.Raw(b'{"phase":"Great"}')
    )
    assert decode(stored).status == DatabaseStatus()


def test_conditions_survive_the_way_through_the_api_server() -> None:
    condition = Condition(type="Ready", status="True", reason="DatabaseReady", last_transition_time="2026-01-02T03:04:05Z")
    assert msgspec.json.decode(msgspec.json.encode(condition), type=Condition) == condition


def pod(**status_: Any) -> PodView:
    return msgspec.convert({"metadata": {"name": "shop-0"}, "spec": {"nodeName": "node1"}, "status": status_}, PodView)


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "database", "image": "redis:none", **state}]}


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (pod(), None),
        (pod(**container(state={"running": {}})), None),
        (pod(**container(state={"waiting": {"reason": "ContainerCreating"}})), None),
        (pod(**container(state={"waiting": {"reason": "ImagePullBackOff", "message": "x"}})), Reason.IMAGE_NOT_PULLED),
        (pod(**container(state={"waiting": {"reason": "InvalidImageName"}})), Reason.IMAGE_NOT_PULLED),
        (pod(**container(state={"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=4)), Reason.CRASH_LOOPING),
        (pod(**container(state={"waiting": {"reason": "CreateContainerConfigError"}})), Reason.RECONCILIATION_FAILED),
        (
            pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]),
            Reason.UNSCHEDULABLE,
        ),
    ],
)
def test_what_stands_in_the_way_of_a_pod(view: PodView, reason: Reason | None) -> None:
    found = blockers.of_pod(view)
    assert (found.reason if found else None) is reason
    assert blockers.stuck(view) == (reason is not None)


def test_a_pod_that_runs_nowhere_loses_nothing() -> None:
    assert blockers.stuck(msgspec.structs.replace(pod(), spec=PodSpecView()))


def test_a_crash_is_told_with_its_exit_code() -> None:
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    found = blockers.of_pod(pod(**container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended, restartCount=4)))
    assert found is not None
    assert "OOMKilled (exit code 137)" in found.message


@pytest.mark.parametrize(
    ("asked", "classes", "default", "says"),
    [
        (None, frozenset({"a"}), "a", None),
        (None, frozenset({"a"}), None, "no default StorageClass"),
        ("b", frozenset({"a"}), "a", 'no StorageClass "b"'),
        ("a", frozenset({"a"}), None, None),
    ],
)
def test_a_missing_storage_class_is_named(asked: str | None, classes: frozenset[str], default: str | None, says: str | None) -> None:
    spec = {"storageClassName": asked} if asked else {}
    claim = msgspec.convert({"metadata": {"name": "data-0"}, "spec": spec, "status": {"phase": "Pending"}}, ClaimView)
    found = blockers.of_claims([claim], classes, default)
    assert (found is None) if says is None else (found is not None and says in found)


@pytest.mark.parametrize(
    ("wanted", "running", "older"),
    [
        ("7.0", "7.2.4", True),
        ("7.2", "7.2.4", False),
        ("7.2.3", "7.2.4", True),
        ("7", "7.2.4", False),
        ("16-bookworm", "17.1", True),
        ("latest", "17.1", False),
        ("17", "unknown", False),
        ("10", "9.6", False),
    ],
)
def test_what_counts_as_a_downgrade(wanted: str, running: str, older: bool) -> None:
    assert versions.older(wanted, running) is older


@pytest.mark.parametrize(
    ("type_", "wanted", "running", "held"),
    [("Redis", "7.0", "7.2.4", True), ("Redis", "7.4", "7.2.4", False), ("SQLite", "3.40", "3.45.0", False)],
)
def test_a_downgrade_is_held_also_where_data_is_of_no_major(type_: str, wanted: str, running: str, held: bool) -> None:
    resolved = database(type=type_, version=wanted)
    found = versions.held(resolved, ENGINES[resolved.type], [], seen(Member(pod="shop-0", ready=True, version=running)))
    assert (found is not None) is held


@pytest.mark.parametrize(
    ("ready", "reason", "since", "seconds"),
    [
        ("False", "ImageNotPulled", "2026-01-02T03:02:05Z", 120.0),
        ("False", "Unschedulable", "2026-01-02T03:02:05Z", 0.0),
        ("True", "ImageNotPulled", "2026-01-02T03:02:05Z", 0.0),
        ("False", "ImageNotPulled", "2026-01-02T04:04:05Z", 0.0),
        ("False", "ImageNotPulled", "yesterday", 0.0),
    ],
)
def test_how_long_a_reason_has_stood_by_what_was_told(ready: str, reason: str, since: str, seconds: float) -> None:
    told = DatabaseStatus(conditions=(Condition(type="Ready", status=ready, reason=reason, last_transition_time=since),))
    assert stood(told, "ImageNotPulled", NOW) == seconds
