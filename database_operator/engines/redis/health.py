"""What Redis and its Sentinels say of being degraded. Pure."""

from database_operator.api.database import Resolved
from database_operator.api.spec import RedisMode
from database_operator.api.status import Reason
from database_operator.engines.base import Observation, Trouble
from database_operator.engines.redis.cluster import node

SENTINELS, MAJORITY = 3, 2
FILES = {"aof_last_write_status": "append-only file", "rdb_last_bgsave_status": "snapshot"}  # by what INFO says of them


def troubles(database: Resolved, observation: Observation) -> list[Trouble]:
    mode = database.redis.mode
    found: list[Trouble] = []
    if mode is RedisMode.SENTINEL:
        found += _sentinels(observation) + _replicas(observation)
    elif mode is RedisMode.CLUSTER:
        found += _slots(observation) + _heirs(observation, database.redis.shards or 3)
    weak = sorted({f"{name} is no" for member in observation.members for name in _off(member.facts.get("durability", {}))})
    if weak:
        found.append((Reason.DURABILITY_REDUCED, f"{', '.join(weak)}: writes of the last seconds, or all, are lost when a member stops"))
    for member in observation.members:
        unwritten = [FILES[name] for name in member.facts.get("unwritten", ())]
        if unwritten:
            found.append(
                (Reason.DURABILITY_REDUCED, f"{member.pod} could not write its {' and its '.join(unwritten)}: is its volume full?")
            )
    return found


def _off(durability: dict[str, str]) -> list[str]:
    return [name for name in ("appendonly", "appendfsync") if durability.get(name) == "no"]


def _sentinels(observation: Observation) -> list[Trouble]:
    ready = observation.facts.get("sentinels")
    if ready is None or ready >= MAJORITY:
        return []
    return [(Reason.QUORUM_LOST, f"{ready} of {SENTINELS} Sentinels are ready: they could elect no other primary")]


def _replicas(observation: Observation) -> list[Trouble]:
    primary = observation.primary
    attached = any(member.reached and member.lag_bytes is not None for member in observation.members if member is not primary)
    if primary is None or not primary.reached or observation.wanted < 2 or attached:
        return []
    return [(Reason.NO_REPLICAS, f"no replica is in sync with {primary.pod}: nobody could take over")]


def _slots(observation: Observation) -> list[Trouble]:
    """Only once formed: before, the slots are not handed out."""
    lost = [member.pod for member in observation.members if (own := node(member)) and not own.complete]
    if observation.formed is None or not lost:
        return []
    return [(Reason.QUORUM_LOST, f"the cluster is not complete as {lost[0]} sees it: a shard is down, or there is no majority")]


def _heirs(observation: Observation, shards: int) -> list[Trouble]:
    """Shards without a replica in sync, where there are members enough for one each."""
    if observation.wanted < 2 * shards or observation.formed is None:
        return []
    nodes = {member.pod: own for member in observation.members if (own := node(member))}
    followed = {nodes[member.pod].follows for member in observation.members if member.pod in nodes and member.lag_bytes is not None}
    alone = sorted(pod for pod, own in nodes.items() if own.slots and own.id not in followed)
    return [(Reason.NO_REPLICAS, f"no replica is in sync with {', '.join(alone)}: nobody could take over")] if alone else []
