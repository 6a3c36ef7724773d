"""What PostgreSQL and Patroni say of being degraded. Pure."""

from database_operator.api.database import Resolved
from database_operator.api.status import Reason, Role
from database_operator.engines.base import Member, Observation, Trouble

_OFF = ("off", "false", "no", "0")


def troubles(database: Resolved, observation: Observation) -> list[Trouble]:
    """Only members that answered count: a pod that is down is said elsewhere."""
    reached = [member for member in observation.members if member.reached and not member.terminating]
    if not reached:
        return []
    primary = observation.primary
    config = (primary or reached[0]).facts.get("config", {})
    standby = any(member.facts.get("synchronous") for member in reached)
    found: list[Trouble] = []
    if config.get("synchronous_mode") and observation.wanted > 1 and not standby:
        found += _without_standby(observation, primary, bool(config.get("synchronous_mode_strict")))
    replicas = [member for member in reached if member.role is Role.REPLICA and member.facts.get("replication_state") == "streaming"]
    if primary is not None and primary.reached and observation.wanted > 1 and not replicas:
        found.append((Reason.NO_REPLICAS, f"no replica streams from {primary.pod}: nobody could take over"))
    weak = sorted({word for member in reached for word in _weakened(member, observation.wanted)})
    if weak:
        found.append((Reason.DURABILITY_REDUCED, f"{', '.join(weak)}: a write that was confirmed may be lost"))
    return found


def _without_standby(observation: Observation, primary: Member | None, strict: bool) -> list[Trouble]:
    if primary is None:
        return [(Reason.QUORUM_LOST, "the primary and every synchronous standby are gone: another member might lack writes")]
    if strict:
        return [(Reason.QUORUM_LOST, "no replica is a synchronous standby: writes wait for one")]
    return [(Reason.DURABILITY_REDUCED, "no replica is a synchronous standby: a write is confirmed by the primary alone")]


def _weakened(member: Member, wanted: int) -> list[str]:
    """Settings in the server's files that give durability away, as ``fsync = off``."""
    found = []
    for name, value in member.facts.get("durability", {}).items():
        alone = name == "synchronous_commit" and value == "local" and wanted > 1
        if value in _OFF or alone:
            found.append(f"{name} is {value}")
    return found
