"""What the cluster says of being degraded. Pure."""

from database_operator.api.database import Resolved
from database_operator.api.status import Reason
from database_operator.engines.base import Observation, Trouble
from database_operator.engines.elasticsearch.topology import elected


def troubles(database: Resolved, observation: Observation) -> list[Trouble]:
    """Once formed: a cluster that begins has no master, and nothing to lose."""
    if observation.formed is None or observation.wanted < 2:
        return []
    master = elected(observation)
    if master is None:
        silent = [member.pod for member in observation.members if member.reached is False]
        return [(Reason.QUORUM_LOST, f"no elected master answers, and {', '.join(silent)} does not")] if silent else []
    lonely = sorted({index for indices in master.facts.get("lonely", {}).values() for index in indices})
    if lonely and not master.facts.get("moving"):
        return [(Reason.NO_REPLICAS, f"only one copy of their shards is started of {', '.join(lonely[:5])}")]
    return []
