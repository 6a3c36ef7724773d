"""Elasticsearch's next step. Its coordinator elects; the rules of restarts are those that the field has found. Pure.

Source of the rules: elastic/cloud-on-k8s, docs, "Upgrade predicates".
"""

from collections.abc import Sequence
from typing import Any

from database_operator.api.database import Resolved
from database_operator.api.status import Reason
from database_operator.engines.base import Action, Command, Member, Observation, Restart, Wait
from database_operator.engines.elasticsearch import config


def ordinal(member: Member) -> int:
    return int(member.pod.rpartition("-")[2])


def elected(observation: Observation) -> Member | None:
    """The elected master, whose answers are the cluster's."""
    return next((member for member in observation.members if member.reached and member.facts.get("elected")), None)


def topology(database: Resolved, observation: Observation) -> Action | None:
    """At most one step: heal a broken rollout, move data off leaving members, settings, then restarts."""
    if not observation.members or database.spec.replicas == 0:
        return None
    broken = [member for member in observation.members if member.outdated and not member.was_ready and not member.terminating]
    if broken and len(observation.members) > 1:
        return Restart(broken[-1].pod, "it has not been ready, and its inputs have changed")
    master = elected(observation)
    if master is None:
        return _without_master(database, observation)
    return _leaving(database, observation, master) or _settings(database, master) or _logins(observation) or _restart(observation, master)


def _without_master(database: Resolved, observation: Observation) -> Action | None:
    """A single node that does not answer is restarted into its new inputs: there is nobody to protect, and it may be the cure."""
    members = observation.members
    if len(members) == 1 and observation.wanted == 1:
        member = members[0]
        return Restart(member.pod) if member.outdated and not member.terminating else None
    if any(member.outdated or ordinal(member) >= database.spec.replicas for member in members):
        return Wait("no elected master answers: nodes are neither restarted nor taken away meanwhile")
    return None


def _leaving(database: Resolved, observation: Observation, master: Member) -> Action | None:
    """Before members go: no new shards for them, their shards elsewhere, their votes given up. Afterwards the traces are removed."""
    leaving = sorted(member.pod for member in observation.members if ordinal(member) >= database.spec.replicas)
    excluded = sorted(master.facts.get("excluded", ()))
    voteless = sorted(master.facts.get("voteless", ()))
    if not leaving:
        if excluded or voteless:
            return Command("readmit", master.pod, message="letting shards back on all members", reason=Reason.SCALING)
        return None
    if excluded != leaving or not set(leaving) <= set(voteless):
        return Command("exclude", master.pod, {"nodes": leaving}, f"moving shards off {', '.join(leaving)}", Reason.SCALING)
    voting = sorted(set(leaving) & set(master.facts.get("voting", ())))
    if voting:  # an exclusion is on record before the votes are counted without it
        return Wait(f"{', '.join(voting)} leaves and still has a vote", Reason.SCALING)
    if master.facts.get("moving"):
        return Wait(f"{master.facts['moving']} shards are being moved or built", Reason.SCALING)
    stranded: dict[str, int] = master.facts.get("stranded", {})
    if stranded:
        names = ", ".join(f"{count} on {pod}" for pod, count in stranded.items())
        return Wait(f"shards have no copy on the members that stay: {names}", Reason.SCALING)
    lost: Sequence[str] = master.facts.get("lost", ())
    if lost:  # a copy may be on a member that leaves, as long as nobody has started it
        named = ", ".join(sorted(lost)[:5])
        return Wait(f"no copy is started of a shard of {named}: have it allocated, restore the index or delete it", Reason.SCALING)
    if master.pod in leaving:
        return Wait(f"{master.pod} leaves and is still the elected master", Reason.SCALING)
    return None


def _settings(database: Resolved, master: Member) -> Action | None:
    """What the user has set is set, what the operator once set and the user no longer wants goes back to its default."""
    wanted = config.dynamic_settings(database)
    persistent: dict[str, str] = master.facts.get("settings", {})
    managed = [name for name in persistent.get(config.MANAGED, "").split(",") if name]
    changes: dict[str, Any] = {name: value for name, value in wanted.items() if persistent.get(name) != value}
    changes |= {name: None for name in managed if name not in wanted}
    if sorted(managed) != sorted(wanted):
        changes[config.MANAGED] = ",".join(sorted(wanted)) or None
    if not changes:
        return None
    named = ", ".join(sorted(set(changes) - {config.MANAGED}))
    return Command("configure", master.pod, {"settings": dict(sorted(changes.items()))}, f"applying {named}")


def _logins(observation: Observation) -> Action | None:
    refused = [member.pod for member in observation.members if member.facts.get("login") == "refused" and not member.terminating]
    return Wait(f"{refused[0]} does not know the new password yet: the kubelet brings it within two minutes") if refused else None


def _restart(observation: Observation, master: Member) -> Action | None:
    """One at a time, the elected master last, and only while every shard keeps a copy that is started elsewhere."""
    members = observation.members
    outdated = [member for member in members if member.outdated and not member.terminating]
    if not outdated or len(members) > observation.wanted:
        return None  # those that leave go first: none of them is restarted
    if len(members) == 1 and observation.wanted == 1:
        return Restart(outdated[0].pod)
    if len(members) < observation.wanted:
        return Wait(f"{len(members)} of {observation.wanted} members exist: waiting for the others")
    down = [member.pod for member in members if not member.ready or member.terminating]
    if down:
        return Wait(f"{', '.join(down)} is not ready")
    blocked = _unsafe(observation, master)
    if blocked:
        return Wait(blocked)
    candidates = sorted((member for member in outdated), key=lambda member: (member.pod == master.pod, -ordinal(member)))
    for member in candidates:
        if member.pod == master.pod and len(candidates) > 1:
            break
        lonely: Sequence[str] = master.facts.get("lonely", {}).get(member.pod, ())
        if not lonely:
            return Restart(member.pod)
    waiting = candidates[0]
    indices = ", ".join(sorted(master.facts.get("lonely", {}).get(waiting.pod, ()))[:5])
    return Wait(f"{waiting.pod} holds the only started copy of shards that should have more: {indices}")


def _unsafe(observation: Observation, master: Member) -> str | None:
    """Why no node may be restarted now."""
    facts = master.facts
    if facts.get("status") == "red":
        return "the cluster is red: a restart could take away more"
    # a pod made anew has another address: what the master said before it came says nothing of now
    addresses: dict[str, str] = facts.get("addresses", {})
    away = [member.pod for member in observation.members if addresses.get(member.pod) != member.ip]
    if away:
        return f"{', '.join(away)} is not in the cluster yet"
    if facts.get("moving"):
        return f"{facts['moving']} shards are being moved or built"
    return None
