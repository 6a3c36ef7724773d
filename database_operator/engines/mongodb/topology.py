"""MongoDB's next step: the replica set elects; members are asked to join, to leave and to hand over. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from database_operator.api.database import Resolved
from database_operator.api.status import Reason, Role
from database_operator.engines.base import Action, Command, Label, Member, Observation, Restart, Switchover, Wait
from database_operator.engines.mongodb import config

UNINITIALIZED = "UNINITIALIZED"
MAX_VOTERS = 7  # mongodb.com/docs/manual/reference/limits: voting members of a replica set
_SYNCING = ("STARTUP", "STARTUP2", "RECOVERING", "ROLLBACK")
_LABELS = {Role.PRIMARY: "primary", Role.REPLICA: "replica", Role.ARBITER: "arbiter"}

Config = list[Mapping[str, Any]]  # the members of the set's configuration: id, host, votes, priority


def pod_of(host: str) -> str:
    """``orders-0.orders-members.shop.svc.cluster.local:27017`` is pod ``orders-0``."""
    return host.split(".", 1)[0]


def _ordinal(pod: str) -> int:
    tail = pod.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else -1


def _set_id(member: Member) -> str | None:
    found = member.facts.get("setId")
    return str(found) if found else None


def _states(primary: Member) -> Mapping[str, str]:
    """What the primary's heartbeats say: host -> state."""
    found: Mapping[str, str] = primary.facts.get("states", {})
    return found


def entries_of(member: Member) -> Config:
    return list(member.facts.get("config", ()))


def voters(member: Member) -> set[str]:
    """Pods that have a vote in the set's configuration, as ``member`` knows it."""
    return {pod_of(entry["host"]) for entry in entries_of(member) if entry.get("votes", 1)}


def _first(observation: Observation) -> Action:
    """No reached member belongs to a set. A set is initiated once in the life of its data, by the lowest member, if all answer.

    ``formed`` is kept on the claims: with it, an empty volume is a loss, and never a reason to begin anew.
    """
    members = observation.members
    silent = [member.pod for member in members if not member.reached]
    if observation.formed:
        if silent or len(members) < observation.wanted:
            return Wait(f"waiting for members of the replica set: {', '.join(silent) or 'pods are missing'}", Reason.QUORUM_LOST)
        return Wait(
            "no member holds the replica set's data any more; restore the volumes, or delete the Database and its claims to begin anew",
            Reason.QUORUM_LOST,
        )
    if silent or len(members) < observation.wanted:
        return Wait(f"waiting for {', '.join(silent) or 'pods'} before the replica set is initiated", Reason.SCALING)
    first = min(members, key=lambda member: _ordinal(member.pod))
    if first.facts.get("state") != UNINITIALIZED:
        return Wait(f"{first.pod} is starting", Reason.SCALING)
    return Command("initiate", first.pod, message=f"initiating the replica set on {first.pod}", reason=Reason.SCALING)


def _no_primary(observation: Observation) -> Wait:
    silent = [member.pod for member in observation.members if not member.reached]
    if not silent:
        return Wait("the members are electing a primary", Reason.SCALING)
    return Wait(
        f"no primary: {', '.join(silent)} cannot be reached and the rest is no majority, or an election is going on", Reason.QUORUM_LOST
    )


def _label(observation: Observation) -> Action | None:
    """Each member's own word on its role. The last known label of one that cannot be reached stays: readiness takes it out of Services."""
    for member in observation.members:
        wanted = _LABELS.get(member.role)
        if member.reached and not member.terminating and wanted and member.role_label != wanted:
            return Label(member.pod, wanted)
    return None


def _best(observation: Observation, primary: Member) -> Member | None:
    """The secondary that has most of the data and may be elected."""
    electable = {pod_of(entry["host"]) for entry in entries_of(primary) if entry.get("priority", 1) > 0}
    ready = [
        member
        for member in observation.members
        if member is not primary and member.ready and not member.terminating and member.pod in electable and not member.outdated
    ]
    return min(ready, key=lambda member: (member.lag_bytes is None, member.lag_bytes or 0, member.pod), default=None)


def settling(primary: Member, but: str = "") -> Wait | None:
    """A change of the set waits until the last one is through: one initial sync, one change of votes at a time.

    ``but``: a pod whose state does not count.
    """
    configured = {entry["host"] for entry in entries_of(primary) if pod_of(entry["host"]) != but}
    syncing = sorted(host for host, state in _states(primary).items() if host in configured and state in _SYNCING)
    if syncing:
        return Wait(f"{pod_of(syncing[0])} is copying the data", Reason.SCALING)
    return None


def _leave(observation: Observation, primary: Member) -> Action | None:
    """Members above the wanted count leave the set, the highest first, before their pods are missed."""
    leaving = [entry["host"] for entry in entries_of(primary) if _ordinal(pod_of(entry["host"])) >= max(observation.wanted, 1)]
    if not leaving:
        return None
    host = max(leaving, key=lambda host: _ordinal(pod_of(host)))
    if pod_of(host) == primary.pod:
        staying = _best(observation, primary)
        if staying is None or _ordinal(staying.pod) >= observation.wanted:
            return Wait(f"{primary.pod} is to leave but no staying member can take over", Reason.SCALING)
        return Switchover(staying.pod, f"{primary.pod} leaves the replica set")
    return Command("remove-member", primary.pod, {"host": host}, f"{pod_of(host)} leaves the replica set", Reason.SCALING)


def _join(observation: Observation, primary: Member) -> Action | None:
    """Members outside the set join it, the lowest first. Only empty ones: what holds another set's data is never wiped here."""
    entries = entries_of(primary)
    inside = {entry["host"] for entry in entries}
    for member in sorted(observation.members, key=lambda member: _ordinal(member.pod)):
        host = member.facts.get("self")
        if not member.reached or member.terminating or not host or host in inside or _ordinal(member.pod) >= observation.wanted:
            continue
        if member.facts.get("state") not in (UNINITIALIZED, "REMOVED"):
            continue
        return settling(primary) or Command(
            "add-member", primary.pod, {"host": host}, f"{member.pod} joins the replica set", Reason.SCALING
        )
    voters = sum(1 for entry in entries if entry.get("votes", 1))
    silent = [entry["host"] for entry in entries if not entry.get("votes", 1)]
    if silent and voters < MAX_VOTERS:
        host = min(silent, key=lambda host: _ordinal(pod_of(host)))
        return settling(primary) or Command("add-vote", primary.pod, {"host": host}, f"{pod_of(host)} gets a vote", Reason.SCALING)
    return None


def _configure(database: Resolved, observation: Observation) -> Action | None:
    """Parameters that a running mongod takes. One that this version does not know is not reported and not asked for."""
    wanted = config.live_parameters(database)
    for member in observation.members:
        in_force = member.facts.get("parameters") or {}
        differing = {name: wanted[name] for name in sorted(wanted) if name in in_force and in_force[name] != wanted[name]}
        if member.reached and not member.terminating and differing:
            names = ", ".join(differing)
            return Command("configure", member.pod, {"parameters": differing}, f"setting {names} on {member.pod}")
    return None


def _rollout(observation: Observation, primary: Member | None) -> Action | None:
    """Broken members first, then replicas one at a time, then a planned step-down, the old primary last."""
    members = observation.members
    outdated = [member for member in members if member.outdated and not member.terminating]
    if not outdated:
        return None
    never_ready = [member for member in outdated if not member.ready and not member.was_ready]
    if never_ready:
        return Restart(never_ready[0].pod, "it never became ready with its old inputs")
    if len(members) > observation.wanted:
        return None  # those that leave go first: none of them is restarted, or asked to take over
    if len(members) == 1:
        return Restart(outdated[0].pod, "its inputs changed")
    if primary is None:
        return _no_primary(observation)
    waiting = [member.pod for member in members if not member.ready or member.terminating]
    if waiting or len(members) < observation.wanted:
        return Wait(f"waiting for {', '.join(waiting) or 'pods'} before the next member restarts")
    replicas = [member for member in outdated if member is not primary]
    if replicas:
        return settling(primary) or Restart(replicas[0].pod, "its inputs changed")
    successor = _best(observation, primary)
    if successor is None:
        return Wait(f"no secondary can take over from {primary.pod}")
    return Switchover(successor.pod, f"{primary.pod} restarts next")


def _without_primary(observation: Observation) -> Action:
    healing = _rollout(observation, None) if observation.members else None
    return healing if isinstance(healing, Restart) else _no_primary(observation)


def topology(database: Resolved, observation: Observation) -> Action | None:
    """At most one step. Without a primary nothing is done to the set: electing one is the members' affair, and force is a person's."""
    if observation.wanted == 0 and not observation.members:
        return None
    reached = [member for member in observation.members if member.reached]
    sets = {set_id for set_id in map(_set_id, reached) if set_id}
    if observation.formed:
        sets.add(observation.formed)
    if len(sets) > 1:
        return Wait("members hold data of different replica sets; nothing is done before a person decides", Reason.QUORUM_LOST)
    labelling = _label(observation)
    if labelling:
        return labelling
    if not any(map(_set_id, reached)):
        healing = _rollout(observation, None) if observation.members else None
        return healing if isinstance(healing, Restart) else _first(observation)
    primary = observation.primary
    if primary is None or not primary.reached:
        return _without_primary(observation)
    steps: tuple[Callable[[], Action | None], ...] = (
        lambda: _leave(observation, primary),
        lambda: _join(observation, primary),
        lambda: _configure(database, observation),
        lambda: _rollout(observation, primary),
    )
    return next((action for action in (step() for step in steps) if action), None)
