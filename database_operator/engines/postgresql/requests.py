"""PostgreSQL asked to move its primary or to clone a member: Patroni does both. Pure."""

from database_operator.api.database import Resolved
from database_operator.engines.asked import may_be_wiped, may_lead
from database_operator.engines.base import Command, Member, Observation, Refused, Switchover, Verdict, Wait, Wipe


def switchover(database: Resolved, observation: Observation, member: Member) -> Verdict:
    """In synchronous mode Patroni takes a synchronous standby only; ``topology`` has them all made so while one is asked for."""
    obstacle = may_lead(observation, member)
    if obstacle is not None:
        return obstacle
    if member.facts.get("replication_state") != "streaming":
        return Refused(f"{member.pod} does not stream from the primary")
    primary = observation.primary
    synchronous = primary is not None and primary.facts.get("config", {}).get("synchronous_mode")
    if synchronous and not member.facts.get("synchronous"):
        return Wait(f"{member.pod} becomes a synchronous standby first")
    return Switchover(member.pod, "it was asked for")


def rebuild(database: Resolved, observation: Observation, member: Member) -> Verdict:
    """By Patroni where it answers; a member whose Patroni does not is made anew, volume and all."""
    obstacle = may_be_wiped(observation, member)
    if obstacle is not None:
        return obstacle
    if member.reached:
        return Command("rebuild", member.pod, message=f"{member.pod} is cloned anew")
    return Wipe(member.pod)
