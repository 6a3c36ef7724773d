"""From all that a pass saw to the status a person reads. Pure."""

import datetime
from collections.abc import Sequence

from msgspec import Struct

from database_operator.api import refusals
from database_operator.api.database import Resolved
from database_operator.api.status import (
    BindingStatus,
    Condition,
    DatabaseStatus,
    Lag,
    MemberStatus,
    Phase,
    Reason,
    Role,
    StorageStatus,
)
from database_operator.build import constants as c
from database_operator.build import labels, names
from database_operator.build.requests import asked
from database_operator.engines.base import (
    BEHIND_BYTES,
    Action,
    Command,
    Engine,
    Member,
    Observation,
    Platform,
    Restart,
    Switchover,
    Trouble,
    Wait,
    Wipe,
)

PATIENCE = 120.0  # seconds that a reason may stand before the phase is Failed
AT_ONCE = frozenset({Reason.INVALID_SPEC, Reason.NAME_CONFLICT, Reason.DATA_CONFLICT})
# of the reasons for Degraded, the worst first: it gives the condition its reason
WORST = (
    Reason.QUORUM_LOST,
    Reason.MEMBER_DOWN,
    Reason.NO_REPLICAS,
    Reason.LAGGING,
    Reason.DURABILITY_REDUCED,
    Reason.EVEN_VOTERS,
)
NOTE_LIMIT = 80  # characters of a request's value that are shown


class Answered(Struct, frozen=True, kw_only=True):
    """A request that counts as done from now on, whether it was carried out or refused."""

    name: str
    value: str
    note: str
    refused: bool = False

    @property
    def text(self) -> str:
        return f"{_head(self.name, self.value) if self.refused else f'{self.name} {_plain(self.value)}: '}{_plain(self.note, 400)}"


def _plain(text: str, limit: int = NOTE_LIMIT) -> str:
    """One line that can stand among others in ``status.message``."""
    return " ".join(text.split()).replace("; ", ", ")[:limit]


def _head(name: str, value: str) -> str:
    return f"{name} {_plain(value)} refused: "


class Outcome(Struct, frozen=True, kw_only=True):
    """What one pass found out. ``blocked``: reason and message of what keeps it from going on."""

    observation: Observation = Observation()
    blocked: tuple[Reason, str] | None = None
    stands_for: float = 0.0  # seconds that this reason has stood
    action: Action | None = None
    held: str | None = None  # why a wanted version waits
    paused: bool = False
    update_pending: bool = False
    growing: str | None = None
    answered: tuple[Answered, ...] = ()
    storage: str | None = None  # bytes in force, as a quantity


def timestamp(now: datetime.datetime) -> str:
    return now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stood(status: DatabaseStatus, reason: str, now: datetime.datetime) -> float:
    """Seconds that this reason has kept Ready from being true, by what was told; 0 where another one was, or none."""
    told = next((condition for condition in status.conditions if condition.type == "Ready"), None)
    if told is None or told.status != "False" or told.reason != reason:
        return 0.0
    try:
        since = datetime.datetime.fromisoformat(told.last_transition_time)
    except ValueError:  # forged
        return 0.0
    return max(0.0, (now - since).total_seconds()) if since.tzinfo is not None else 0.0


def ready(database: Resolved, outcome: Outcome) -> bool:
    """Every member that should be is there and answers."""
    members = outcome.observation.members
    return len(members) == database.spec.replicas and all(member.ready for member in members)


def phase(database: Resolved, outcome: Outcome) -> Phase:
    if outcome.blocked:
        reason, _ = outcome.blocked
        if reason in AT_ONCE or outcome.stands_for >= PATIENCE:
            return Phase.FAILED
        return Phase.CREATING if outcome.observation.members else Phase.PENDING
    if database.spec.replicas == 0:
        return Phase.STOPPED
    if not ready(database, outcome):
        return Phase.CREATING
    if outcome.action is not None and _upgrading(database, outcome):
        return Phase.UPGRADING
    return Phase.READY


def _upgrading(database: Resolved, outcome: Outcome) -> bool:
    before = database.status.version
    return (
        bool(before) and any(member.outdated for member in outcome.observation.members) and not _same_version(before, database.spec.version)
    )


def _same_version(running: str | None, wanted: str) -> bool:
    return running is not None and (running == wanted or running.startswith(f"{wanted}."))


def _ready_condition(database: Resolved, outcome: Outcome) -> tuple[str, Reason, str]:
    if outcome.blocked:
        reason, message = outcome.blocked
        return "False", reason, message
    if database.spec.replicas == 0:
        return "False", Reason.STOPPED, "the database is stopped (spec.replicas is 0); its data is kept"
    if ready(database, outcome):
        return "True", Reason.DATABASE_READY, f"{database.spec.replicas} of {database.spec.replicas} members answer"
    answering = sum(member.ready for member in outcome.observation.members)
    return "False", Reason.CREATING, f"{answering} of {database.spec.replicas} members answer"


def _progressing(database: Resolved, outcome: Outcome) -> tuple[str, Reason, str]:
    if outcome.paused:
        return "False", Reason.PAUSED, f"{c.RECONCILE} is disabled: nothing is changed but deletion"
    if outcome.held:
        return "False", Reason.UPGRADE_NOT_SUPPORTED, outcome.held
    match outcome.action:
        case Wait(message=message, reason=reason):
            return "True", reason, message
        case Restart(pod=pod, why=why):
            return "True", Reason.ROLLING_OUT, f"restarting {pod}: {why or 'its inputs have changed'}"
        case Switchover(to=to, why=why):
            return "True", Reason.ROLLING_OUT, f"moving the primary to {to}{': ' + why if why else ''}"
        case Wipe(pod=pod):
            return "True", Reason.ROLLING_OUT, f"{pod} is made anew and cloned from the others"
        case Command(name=name, pod=pod, message=message, reason=reason):
            return "True", reason, message or f"{name} on {pod}"
    if outcome.growing:
        return "True", Reason.GROWING, outcome.growing
    if not ready(database, outcome):
        answering = sum(member.ready for member in outcome.observation.members)
        return "True", Reason.SCALING, f"{answering} of {database.spec.replicas} members answer"
    old = [member.pod for member in outcome.observation.members if member.outdated]
    if old:
        return "True", Reason.ROLLING_OUT, f"{', '.join(old)} still run{'s' if len(old) == 1 else ''} as the spec said before"
    if outcome.update_pending:
        return "False", Reason.UPDATE_PENDING, "a newer pod template waits for the next restart; nothing is restarted for it"
    return "False", Reason.SETTLED, "the members run as the spec says"


def _degraded(database: Resolved, engine: Engine, outcome: Outcome) -> tuple[str, Reason, str]:
    members = outcome.observation.members
    wanted = database.spec.replicas
    if wanted == 0 or not members:
        return "False", Reason.ALL_MEMBERS_HEALTHY, "no member is wanted" if wanted == 0 else "no member runs yet"
    found = _down(database, outcome) + (engine.troubles(database, outcome.observation) if engine.troubles else [])
    if not found:
        return "False", Reason.ALL_MEMBERS_HEALTHY, "every member answers"
    found.sort(key=lambda trouble: WORST.index(trouble[0]))
    return "True", found[0][0], ", and ".join(dict.fromkeys(message for _, message in found))


def _down(database: Resolved, outcome: Outcome) -> list[Trouble]:
    """What the pods and the lag say, whatever the engine."""
    members = outcome.observation.members
    before = {member.name: member.lag for member in database.status.members}
    down = [member.pod for member in members if not member.ready]
    behind = [member.pod for member in members if lag(member, before.get(member.pod)) is Lag.BEHIND]
    found: list[Trouble] = []
    if down or len(members) < database.spec.replicas:
        missing = ", ".join(down) or f"{database.spec.replicas - len(members)} not made yet"
        found.append((Reason.MEMBER_DOWN, f"not answering: {missing}"))
    if behind:
        found.append((Reason.LAGGING, f"behind the primary: {', '.join(behind)}"))
    return found


def _reachable(outcome: Outcome) -> tuple[str, Reason, str]:
    lost = [member.pod for member in outcome.observation.members if member.ready and member.reached is False]
    if lost:
        hint = "a NetworkPolicy or a mesh may keep the operator away"
        return "False", Reason.UNREACHABLE, f"{', '.join(lost)} is ready but does not answer the operator: {hint}"
    return "True", Reason.REACHED, "the operator reaches every ready member"


def lag(member: Member, before: Lag | None) -> Lag:
    """With hysteresis, so that a busy database does not rewrite its status all the time."""
    if member.role is Role.PRIMARY:
        return Lag.CURRENT
    if member.lag_bytes is None:
        return Lag.UNKNOWN
    limit = BEHIND_BYTES // 2 if before is Lag.BEHIND else BEHIND_BYTES
    return Lag.BEHIND if member.lag_bytes > limit else Lag.CURRENT


def conditions(database: Resolved, engine: Engine, outcome: Outcome, now: datetime.datetime) -> tuple[Condition, ...]:
    """Transition times stay while a condition's status stays."""
    before = {condition.type: condition for condition in database.status.conditions}
    found = {
        "Ready": _ready_condition(database, outcome),
        "Progressing": _progressing(database, outcome),
        "Degraded": _degraded(database, engine, outcome),
        "Reachable": _reachable(outcome),
    }
    made = []
    for kind, (state, reason, message) in found.items():
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == state else timestamp(now)
        made.append(
            Condition(
                type=kind,
                status=state,
                reason=reason.value,
                message=message,
                last_transition_time=since,
                observed_generation=database.metadata.generation,
            )
        )
    return tuple(made)


def _members(database: Resolved, outcome: Outcome) -> tuple[MemberStatus, ...]:
    before = {member.name: member.lag for member in database.status.members}
    return tuple(
        MemberStatus(
            name=member.pod,
            role=member.role,
            ready=member.ready,
            version=member.version,
            shard=member.shard,
            lag=lag(member, before.get(member.pod)),
        )
        for member in outcome.observation.members
    )


def host(database: Resolved, platform: Platform) -> str:
    return f"{names.service(database.name)}.{database.namespace}.svc.{platform.cluster_domain}"


def status(database: Resolved, engine: Engine, platform: Platform, outcome: Outcome, now: datetime.datetime) -> DatabaseStatus:
    """The whole status. Equal inputs give an equal status, so that nothing is written at rest."""
    made = conditions(database, engine, outcome, now)
    members = outcome.observation.members
    versions = sorted({member.version for member in members if member.version})
    answering = sum(member.ready for member in members)
    address = host(database, platform)
    notes = [condition.message for condition in made if _worth_saying(condition)] + _refused(database, outcome) + ignored(database, engine)
    return DatabaseStatus(
        phase=phase(database, outcome),
        conditions=made,
        replicas=len(members),
        ready_replicas=answering,
        ready=f"{answering}/{database.spec.replicas}",
        selector=",".join(f"{key}={value}" for key, value in sorted(labels.pod_selector(database).items())),
        service_name=names.service(database.name),
        endpoint=f"{address}:{engine.port}",
        connection_string=engine.connection_string(database, address),
        primary=None if engine.sharded(database) else shown_primary(members),
        members=_members(database, outcome),
        version=versions[0] if versions else database.status.version,
        storage=StorageStatus(outcome.storage or database.spec.storage.size),
        observed_generation=database.metadata.generation,
        message="; ".join(dict.fromkeys(notes))[:1024] or None,
        binding=BindingStatus(names.credentials(database.name)),
        requests=requests(database, outcome),
    )


def shown_primary(members: Sequence[Member]) -> str | None:
    """The pod that says it is the primary; where an old one that hangs or stops still says so too, the one that stays and is labelled."""
    claiming = [member for member in members if member.role is Role.PRIMARY]
    staying = [member for member in claiming if not member.terminating] or claiming
    labelled = [member for member in staying if member.role_label == Role.PRIMARY.value]
    return next((found[0].pod for found in (staying, labelled) if len(found) == 1), None)


def worth_writing(before: DatabaseStatus, made: DatabaseStatus) -> bool:
    """While members come up, only what a person can act on is told: a reason, one more that answers, or that the primary moved."""

    def told(status: DatabaseStatus) -> object:
        reasons = [(condition.type, condition.status, condition.reason) for condition in status.conditions if condition.type != "Degraded"]
        return status.phase, reasons, status.ready, status.observed_generation, status.requests

    coming_up = before.phase is Phase.CREATING and made.phase is Phase.CREATING
    moved = None not in (before.primary, made.primary) and before.primary != made.primary
    return told(before) != told(made) or moved if coming_up else before != made


def _worth_saying(condition: Condition) -> bool:
    """What a person would want to read in the Message column."""
    bad = {"Ready": "False", "Progressing": "True", "Degraded": "True", "Reachable": "False"}
    return condition.status == bad[condition.type] or condition.reason in (Reason.UPGRADE_NOT_SUPPORTED.value, Reason.PAUSED.value)


def ignored(database: Resolved, engine: Engine) -> list[str]:
    """Parameters that are let through without effect."""
    found = refusals.ignored(engine.parameters(database), engine.owned_parameters, f"spec.{engine.provider}.parameters")
    return [f"{problem.field} {problem.message}" for problem in found[:5]]


def _refused(database: Resolved, outcome: Outcome) -> list[str]:
    """Requests refused in this pass, and those of before whose annotation still stands: the status keeps the words for us."""
    now = {answer.name: answer.text for answer in outcome.answered if answer.refused}
    said = (database.status.message or "").split("; ")
    for name, value in asked(database).items():
        if name not in now and database.status.requests.get(name) == value:
            now.update((name, part) for part in said if part.startswith(_head(name, value)))
    return list(now.values())


def requests(database: Resolved, outcome: Outcome) -> dict[str, str]:
    """Values of the request annotations that count as done: kept, so that each is done once."""
    done = dict(database.status.requests)
    if database.status.phase is None:  # no status: what stands there was handled before, or by an earlier life
        return done | asked(database)
    done |= {answer.name: answer.value for answer in outcome.answered}
    restarted = asked(database).get("restartedAt")
    looked = outcome.blocked is None and outcome.held is None and not outcome.paused and outcome.action is None
    if restarted and looked and ready(database, outcome) and not any(member.outdated for member in outcome.observation.members):
        done["restartedAt"] = restarted
    return done
