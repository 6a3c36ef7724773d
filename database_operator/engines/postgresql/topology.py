"""PostgreSQL's next step. Patroni elects; we configure, restart and ask for planned moves. Pure."""

from database_operator.api.database import Resolved
from database_operator.api.spec import Synchronous
from database_operator.api.status import Reason, Role
from database_operator.build.requests import wanted_primary
from database_operator.engines.base import Action, Command, Member, Observation, Restart, Switchover, Wait
from database_operator.engines.postgresql import config


def topology(database: Resolved, observation: Observation) -> Action | None:
    """Configuration first, then a primary that is to leave, pods with old inputs, parameters that wait for a restart.

    Members on the way out are nobody's concern: Patroni hands over by itself when a pod is stopped.
    """
    members = tuple(member for member in observation.members if not member.terminating)
    if not members or observation.wanted == 0:
        return None  # who stops has nothing to configure: synchronous mode holds until all of them are back
    return (
        _configure(database, observation, members)
        or _leave(observation, members)
        or _roll_pods(observation, members)
        or _restart_servers(observation, members)
        or _untaken(observation, members)
        or _protected(observation, members)
    )


def _configure(database: Resolved, observation: Observation, members: tuple[Member, ...]) -> Action | None:
    """Bring Patroni's dynamic configuration in line; every member answers with the same one, any may take the change."""
    reached = sorted((member for member in members if "config" in member.facts), key=lambda member: member.role is not Role.PRIMARY)
    if not reached:
        return None
    current = reached[0].facts["config"]
    count = max(observation.wanted, len(observation.members))
    leaving = _leaving_primary(observation, members) is not None
    # Patroni moves to a synchronous standby only, and the one there is may leave too: then all of them are made so
    moving = leaving or (current.get("synchronous_mode") and _asked_for_another(database, members))
    standbys = len(members) - 1 if moving and len(members) > 2 else 1
    wanted = config.dynamic(database, count, strict=_strict(database, current, members), standbys=standbys)
    patch = config.patch(current, wanted)
    if not patch:
        return None
    changed = sorted({*patch, *(patch.get("postgresql", {}).get("parameters") or {})} - {"postgresql"})
    message = f"applying {', '.join(changed[:5])}{' and more' if len(changed) > 5 else ''}"
    return Command("configure", reached[0].pod, {"patch": patch}, message=message)


def _asked_for_another(database: Resolved, members: tuple[Member, ...]) -> bool:
    """A switchover is asked for to a replica that might not be the synchronous one."""
    wanted = wanted_primary(database)
    return any(member.pod == wanted and member.ready and _streams(member) for member in members)


def _strict(database: Resolved, current: config.Dynamic, members: tuple[Member, ...]) -> bool:
    """``Required`` holds from the moment a replica streams, and is not let go when the last one fails."""
    if database.postgresql.synchronous is not Synchronous.REQUIRED:
        return False
    return bool(current.get("synchronous_mode_strict")) or any(_streams(member) for member in members)


def _streams(member: Member) -> bool:
    return member.role is Role.REPLICA and member.facts.get("replication_state") == "streaming"


def _ordinal(member: Member) -> int:
    return int(member.pod.rpartition("-")[2])


def _leaving_primary(observation: Observation, members: tuple[Member, ...]) -> Member | None:
    """The primary, if it is among the highest ordinals, which scale-in takes."""
    primary = observation.primary
    if observation.wanted == 0 or primary is None or primary not in members:
        return None
    return primary if _ordinal(primary) >= observation.wanted else None


def _leave(observation: Observation, members: tuple[Member, ...]) -> Action | None:
    """A primary that is to leave hands over to a member that stays, first."""
    if observation.primary is None and observation.wanted < len(observation.members):
        if _never_ready(members):
            return None  # what may keep the primary away is mended first
        return Wait("no primary is known: members leave once there is one", Reason.SCALING)
    primary = _leaving_primary(observation, members)
    if primary is None:
        return None
    staying = tuple(member for member in members if _ordinal(member) < observation.wanted)
    return _hand_over(primary, staying, "it is to leave")


def _never_ready(members: tuple[Member, ...]) -> Member | None:
    """Of a template that is no longer wanted."""
    return next((member for member in members if member.outdated and not member.ready and not member.was_ready), None)


def _roll_pods(observation: Observation, members: tuple[Member, ...]) -> Action | None:
    """Replicas first, one at a time, then a planned move, the old primary last; it stops at the first pod that stays unready."""
    outdated = [member for member in members if member.outdated]
    if not outdated:
        return None
    never = _never_ready(members)
    if never:
        return Restart(never.pod, "it never became ready with its inputs, which have changed since")
    if len(observation.members) > observation.wanted:
        return None  # those that leave go first: none of them is restarted, or asked to take over
    if observation.wanted <= 1 and len(members) == 1:
        return Restart(outdated[0].pod)
    waiting = _unready(observation, members, outdated)
    if waiting:
        return waiting
    primary = observation.primary
    if primary is None:
        return Wait("no primary is known: waiting for Patroni")
    broken_first = sorted((member for member in outdated if member is not primary), key=lambda member: (member.ready, member.pod))
    if broken_first:
        return Restart(broken_first[0].pod)
    return _hand_over(primary, members, "its inputs have changed")


def _unready(observation: Observation, members: tuple[Member, ...], pending: list[Member]) -> Wait | None:
    """A member that has what is wanted and is not ready yet, or is not there at all, holds the others back."""
    if len(members) < observation.wanted or len(members) < len(observation.members):
        return Wait(f"{len(members)} of {observation.wanted} members exist: waiting for the others")
    for member in members:
        if member not in pending and not member.ready:
            return Wait(f"{member.pod} is not ready")
    return None


def _hand_over(primary: Member, members: tuple[Member, ...], why: str) -> Action:
    """To the replica among ``members`` that is nearest; in synchronous mode Patroni takes a synchronous standby only."""
    able = [member for member in members if member is not primary and member.ready and _streams(member)]
    synchronous = [member for member in able if member.facts.get("synchronous")]
    candidates = synchronous if primary.facts.get("config", {}).get("synchronous_mode") else able
    if not candidates:
        return Wait(f"{primary.pod} is the primary and no replica can take over: waiting for one that streams")
    best = min(candidates, key=lambda member: (member.lag_bytes is None, member.lag_bytes or 0, member.pod))
    return Switchover(best.pod, f"{primary.pod} hands over: {why}")


def _restart_servers(observation: Observation, members: tuple[Member, ...]) -> Action | None:
    """Parameters that only a restart of the server takes up, in the order a hot standby needs.

    A standby must not have less of ``STANDBY_BOUND`` than its primary: for a decrease the primary comes first, in
    place, for all else the replicas and then a planned move (patroni/docs/patroni_configuration.rst).
    """
    pending = [member for member in members if member.pending_restart]
    if not pending or len(observation.members) > observation.wanted:
        return None
    primary = observation.primary
    if observation.wanted <= 1 and len(members) == 1:
        return _restart(pending[0])
    waiting = _unready(observation, members, pending)
    if waiting:
        return waiting
    if primary is None:
        return Wait("no primary is known: waiting for Patroni")
    if primary in pending and _decreases(primary):
        return _restart(primary)
    replicas = [member for member in pending if member is not primary]
    if replicas:
        return _restart(min(replicas, key=lambda member: (member.ready, member.pod)))
    return _hand_over(primary, members, "a parameter waits for it")


def _untaken(observation: Observation, members: tuple[Member, ...]) -> Wait | None:
    """Values that only the server could judge: nothing else is held back by them, and they are not passed over in silence."""
    if len(members) > observation.wanted:
        return None
    for member in members:
        reasons = member.facts.get("untaken")
        if reasons:
            name, reason = min(reasons.items())
            others = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            return Wait(f"parameter {name} is not in force{others}: {reason}; correct or remove it", Reason.UPDATE_PENDING)
    return None


def _protected(observation: Observation, members: tuple[Member, ...]) -> Wait | None:
    """Until a standby is synchronous, losing the primary means waiting for it: nobody else may take over."""
    primary = observation.primary
    asked = primary is not None and primary.facts.get("config", {}).get("synchronous_mode")
    complete = 1 < observation.wanted <= len(members) and all(member.ready and member.reached for member in members)
    if asked and complete and not any(member.facts.get("synchronous") for member in members):
        return Wait("no replica is synchronous yet: waiting for Patroni to choose one", Reason.SCALING)
    return None


def _restart(member: Member) -> Command:
    waiting = sorted(member.facts.get("pending", {}))
    message = f"restarting the server on {member.pod} for {', '.join(waiting) or 'parameters'}"
    return Command("restart", member.pod, message=message, reason=Reason.ROLLING_OUT)


def _decreases(member: Member) -> bool:
    for name, change in member.facts.get("pending", {}).items():
        old, new = (str(change.get(key, "")) for key in ("old_value", "new_value"))
        if name in config.STANDBY_BOUND and old.isdigit() and new.isdigit() and int(new) < int(old):
            return True
    return False
