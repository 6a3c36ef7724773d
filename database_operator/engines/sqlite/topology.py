"""SQLite's next step: there is one member, and the Deployment replaces it; only settings are left to do. Pure."""

from database_operator.api.database import Resolved
from database_operator.api.status import Reason
from database_operator.engines.base import Action, Command, Observation, Wait
from database_operator.engines.sqlite import config


def topology(database: Resolved, observation: Observation) -> Action | None:
    """Hand the pragmas of the spec to a server that runs with others.

    The server reads the mounted file too, but the kubelet takes up to two minutes to bring it; the command takes
    one request. Both carry the same text, so their order does not matter.
    """
    wanted = config.settings_hash(database)
    for member in observation.members:
        if member.outdated:
            return Wait(f"the Deployment replaces {member.pod}")
        if not member.reached or member.terminating:
            continue
        if member.facts.get("login") == "refused":
            return Wait(f"{member.pod} does not know the new token yet: the kubelet brings it within two minutes")
        if member.facts.get("settings") != wanted:
            arguments = {"settings": config.settings(database)}
            return Command("configure", member.pod, arguments, message=f"applying pragmas on {member.pod}")
        differing = member.facts.get("differing")
        if differing:
            return Wait(f"not in force on {member.pod}: {', '.join(differing)}", Reason.UPDATE_PENDING)
    return None
