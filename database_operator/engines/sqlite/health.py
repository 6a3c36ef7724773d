"""What SQLite's server says of being degraded. Pure."""

from database_operator.api.database import Resolved
from database_operator.api.status import Reason
from database_operator.engines.base import Observation, Trouble


def troubles(database: Resolved, observation: Observation) -> list[Trouble]:
    """The value in force, as SQLite reads it back: 0 is OFF."""
    if any(member.facts.get("pragmas", {}).get("synchronous") == "0" for member in observation.members):
        return [(Reason.DURABILITY_REDUCED, "synchronous is OFF: a power cut may lose confirmed writes, or damage the file")]
    return []
