"""MongoDB asked to move its primary or to clone a member. Pure."""

from database_operator.api.database import Resolved
from database_operator.engines.asked import may_be_wiped, may_lead
from database_operator.engines.base import Member, Observation, Refused, Switchover, Verdict, Wait, Wipe
from database_operator.engines.mongodb.topology import entries_of, pod_of, settling, voters


def switchover(database: Resolved, observation: Observation, member: Member) -> Verdict:
    obstacle = may_lead(observation, member)
    primary = observation.primary
    if obstacle is not None or primary is None:
        return obstacle or Wait("no primary is known")
    if member.lag_bytes is None:
        return Refused(f"{member.pod} is behind {primary.pod}: ask again once it has caught up")
    if not any(pod_of(entry["host"]) == member.pod and entry.get("priority", 1) > 0 for entry in entries_of(primary)):
        return Refused(f"{member.pod} may not be elected: the replica set gives it no priority")
    return Switchover(member.pod, "it was asked for")


def rebuild(database: Resolved, observation: Observation, member: Member) -> Verdict:
    """A member that comes back empty copies the data of its set. Without it more than half of the votes must be left."""
    obstacle = may_be_wiped(observation, member)
    primary = observation.primary
    if obstacle is not None or primary is None:
        return obstacle or Wait("no primary is known")
    votes = voters(primary)
    if 2 * len(votes - {member.pod}) <= len(votes):
        return Refused(f"without {member.pod} no majority is left: {len(votes)} members vote")
    return settling(primary, but=member.pod) or Wipe(member.pod)
