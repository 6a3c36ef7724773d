"""What the replica set says of being degraded. Pure."""

from database_operator.api.database import Resolved
from database_operator.api.status import Reason, Role
from database_operator.engines.base import Observation, Trouble
from database_operator.engines.mongodb.topology import entries_of, voters


def troubles(database: Resolved, observation: Observation) -> list[Trouble]:
    reached = [member for member in observation.members if member.reached]
    knows = next((member for member in [observation.primary, *reached] if member is not None and entries_of(member)), None)
    if knows is None:
        return []
    votes = voters(knows)
    up = votes & {member.pod for member in reached if not member.terminating}
    found: list[Trouble] = []
    if observation.primary is None and 2 * len(up) <= len(votes):
        lost = ", ".join(sorted(votes - up))
        found.append((Reason.QUORUM_LOST, f"{len(up)} of {len(votes)} votes are left, no majority: {lost} must come back"))
    if observation.primary is not None and observation.wanted > 1 and not any(member.role is Role.REPLICA for member in reached):
        found.append((Reason.NO_REPLICAS, f"no member follows {observation.primary.pod}: nobody could take over"))
    complete = len(observation.members) == observation.wanted == len(entries_of(knows))
    if complete and len(votes) % 2 == 0:
        found.append((Reason.EVEN_VOTERS, f"{len(votes)} members vote: they survive no more failures than {len(votes) - 1} would"))
    return found
