"""Redis asked to move its primary or to clone a member. Pure."""

from database_operator.api.database import Resolved
from database_operator.api.spec import RedisMode
from database_operator.engines.asked import may_be_wiped, may_lead, others_are_well
from database_operator.engines.base import Member, Observation, Refused, Switchover, Verdict, Wait, Wipe
from database_operator.engines.redis.cluster import node


def switchover(database: Resolved, observation: Observation, member: Member) -> Verdict:
    if database.redis.mode is RedisMode.CLUSTER:
        return Refused("a Redis Cluster has a primary in every shard and no planned switchover")
    if database.redis.mode is RedisMode.STANDALONE:
        return Refused("a switchover needs replicas under Sentinel: spec.redis.mode is standalone")
    obstacle = may_lead(observation, member)
    if obstacle is not None:
        return obstacle
    if member.lag_bytes is None:
        return Refused(f"{member.pod} is not in sync with the primary")
    return Switchover(member.pod, "it was asked for")


def rebuild(database: Resolved, observation: Observation, member: Member) -> Verdict:
    if database.redis.mode is not RedisMode.CLUSTER:
        return may_be_wiped(observation, member) or Wipe(member.pod)
    return _shard(observation, member)


def _shard(observation: Observation, member: Member) -> Verdict:
    """Of a cluster only what every other member knows to be a replica: a primary that is down is one until somebody took over."""
    others = [other for other in observation.members if other.pod != member.pod]
    if not others:
        return Refused(f"{member.pod} is the only member, and so the last copy of the data")
    wait = others_are_well(others, observation.wanted, lambda other: node(other) is not None)
    if wait is not None:
        return wait
    if member.terminating:
        return Wait(f"{member.pod} is being replaced")
    own = node(member)
    if own is None:
        return Refused(f"{member.pod} does not answer: whether it is a replica is not known")
    if own.slots or not own.follows:
        return Refused(f"{member.pod} is no replica: it is the primary of its shard, or has none yet")
    if not any(found.id == own.follows and found.slots for found in map(node, others) if found):
        return Refused(f"the primary that {member.pod} follows does not answer")
    return Wipe(member.pod)
