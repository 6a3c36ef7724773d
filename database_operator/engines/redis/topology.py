"""Redis' next step. Sentinel decides who is primary; here it is asked for planned moves and never overruled. Pure."""

from collections.abc import Sequence

from database_operator.api.database import Resolved
from database_operator.api.spec import RedisMode
from database_operator.api.status import Reason, Role
from database_operator.build.requests import wanted_primary
from database_operator.engines.base import Action, Command, Label, Member, Observation, Restart, Switchover, Wait
from database_operator.engines.redis import cluster, config
from database_operator.engines.redis.live import LIVE, default

PRIORITY = "100"  # of every member: only a planned move sets another one, for its target


def ordinal(member: Member) -> int:
    return int(member.pod.rpartition("-")[2])


def topology(database: Resolved, observation: Observation) -> Action | None:
    """The next step towards the spec, or None. At most one, and a disruptive one only while everybody else is well."""
    if observation.wanted == 0:
        return None
    if not any(member.reached for member in observation.members):
        return _unasked(database, observation)
    if database.redis.mode is RedisMode.CLUSTER:
        return _password(observation.members) or cluster.topology(database, observation) or _configure(database, observation)
    return (
        _label(observation)
        or _demote(observation)
        or _password(observation.members)
        or _scale_in(database, observation)
        or _primary(database, observation)
        or _rollout(observation)
        or _configure(database, observation)
    )


def _unasked(database: Resolved, observation: Observation) -> Action | None:
    """Nobody answers: an operator that has just started has asked nobody yet. What a cluster lacks cannot be told then."""
    leaving = [member.pod for member in observation.members if ordinal(member) >= observation.wanted]
    if leaving:
        return Wait(f"{', '.join(leaving)} leaves once a member says who is primary", Reason.SCALING)
    silent = any(member.reached is False for member in observation.members)
    return Wait("no member answers") if silent and database.redis.mode is RedisMode.CLUSTER else None


def _label(observation: Observation) -> Action | None:
    """Roles of pods follow the engine. The primary's label is first taken from whoever is it no more."""
    primary = observation.primary
    if primary is None:
        return None
    for member in observation.members:
        if member.role_label == Role.PRIMARY.value and member is not primary:
            return Label(member.pod, Role.REPLICA.value)
    for member in observation.members:
        known = member.reached and member.role in (Role.PRIMARY, Role.REPLICA)
        if known and not member.terminating and member.role_label != member.role.value:
            return Label(member.pod, member.role.value)
    return None


def _demote(observation: Observation) -> Action | None:
    """A member that takes itself for the primary while Sentinel has chosen another: what Sentinel does too, 8 s later."""
    for member in observation.members:
        elsewhere = member.facts.get("elected")
        if member.reached and member.facts.get("role") == "master" and elsewhere and elsewhere != member.pod:
            return Command("demote", member.pod, message=f"Sentinel has chosen {elsewhere}: {member.pod} becomes its replica")
    return None


def _password(members: Sequence[Member]) -> Action | None:
    for member in members:
        if member.reached and not member.terminating and member.facts.get("password") in ("old", "both-expired"):
            return Command("password", member.pod, message=f"handing the new password to {member.pod}")
    return None


def _candidates(observation: Observation) -> list[Member]:
    """Members that may become primary, the best one first: of the wanted template, and with the least lag."""
    found = [
        member
        for member in observation.members
        if member.role is Role.REPLICA
        and member.ready
        and not member.terminating
        and member.lag_bytes is not None
        and ordinal(member) < observation.wanted
    ]
    return sorted(found, key=lambda member: (member.outdated, member.lag_bytes, member.pod))


def _scale_in(database: Resolved, observation: Observation) -> Action | None:
    """The highest ordinals leave; a primary among them moves first."""
    primary = observation.primary
    if primary is None or ordinal(primary) < observation.wanted:
        return None
    candidates = _candidates(observation)
    if not candidates:
        return Wait(f"{primary.pod} is the primary and leaves: no remaining member is in sync yet", Reason.SCALING)
    return Switchover(candidates[0].pod, f"{primary.pod} leaves")


def _primary(database: Resolved, observation: Observation) -> Action | None:
    if observation.primary is not None:
        return None
    members = observation.members
    alone = len(members) == 1 and observation.wanted == 1
    if database.redis.mode is RedisMode.STANDALONE and alone and members[0].role is Role.REPLICA:
        # what a scale-in left behind that met a failure: no Sentinel is there to decide
        return Command("promote", members[0].pod, message=f"{members[0].pod} is the only member left")
    return Wait(f"{database.name} has no primary: Sentinel elects one")


def _rollout(observation: Observation) -> Action | None:
    """Replicas first, one at a time, then a planned move, the old primary last."""
    outdated = [member for member in observation.members if member.outdated]
    primary = observation.primary
    if not outdated or primary is None or len(observation.members) > observation.wanted:
        return None  # those that leave go first: none of them is restarted, or asked to take over
    broken = [member for member in outdated if not member.ready and not member.terminating and member is not primary]
    if broken:
        return Restart(broken[0].pod, "it is not ready, and its inputs have changed")
    if len(observation.members) < observation.wanted:
        return Wait(f"{len(observation.members)} of {observation.wanted} members are there")
    waiting = [member.pod for member in observation.members if not member.ready]
    if waiting:
        return Wait(f"{waiting[0]} is not ready")
    replicas = [member for member in outdated if member is not primary]
    if replicas and not _leaves_a_copy(observation, primary, replicas[0]):
        return Wait(f"no other member follows {primary.pod} yet")
    if replicas:
        return Restart(replicas[0].pod)
    if len(observation.members) == 1:
        return Restart(primary.pod)
    candidates = _candidates(observation)
    if not candidates:
        return Wait("no replica is in sync with the primary")
    return Switchover(candidates[0].pod, f"{primary.pod} is restarted")


def _leaves_a_copy(observation: Observation, primary: Member, goes: Member) -> bool:
    """Another member has the primary's writes: without one it takes none. After a move one may still follow the old primary, which goes."""
    others = [member for member in observation.members if member not in (primary, goes)]
    follows = [member for member in others if member.facts.get("follows") == primary.pod and member.lag_bytes is not None]
    return bool(follows) or not others


def _differing(database: Resolved, observation: Observation, member: Member) -> dict[str, str]:
    """Live directives of ``member`` that shall stand otherwise, sorted by name."""
    stands = member.facts.get("settings", {})
    wanted = config.live(database)
    differing = {name: wanted[name] for name in LIVE if stands.get(name, default(name)) != wanted[name]}
    in_sync = sum(1 for other in observation.members if other.role is Role.REPLICA and other.ready)
    if int(differing.get("min-replicas-to-write", "0")) > in_sync:
        del differing["min-replicas-to-write"]  # it would stop writes until the replicas have come
    if member.facts.get("priority", PRIORITY) != PRIORITY and member.pod != wanted_primary(database):
        differing["replica-priority"] = PRIORITY
    return dict(sorted(differing.items()))


def _configure(database: Resolved, observation: Observation) -> Action | None:
    for member in observation.members:
        if not member.reached or member.terminating or member.outdated or "settings" not in member.facts:
            continue
        differing = _differing(database, observation, member)
        if differing:
            return Command("configure", member.pod, differing, message=f"setting {', '.join(differing)} on {member.pod}")
    return None
