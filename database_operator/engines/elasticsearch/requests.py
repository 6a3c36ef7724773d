"""Elasticsearch asked to clone a member: only while every shard has a copy elsewhere. Pure."""

from database_operator.api.database import Resolved
from database_operator.engines.asked import may_be_wiped
from database_operator.engines.base import Member, Observation, Refused, Verdict, Wait, Wipe
from database_operator.engines.elasticsearch.topology import elected


def rebuild(database: Resolved, observation: Observation, member: Member) -> Verdict:
    """The primary is the elected master, which speaks for the cluster."""
    obstacle = may_be_wiped(observation, member)
    master = elected(observation)
    if obstacle is not None or master is None:
        return obstacle or Wait("no elected master answers")
    only = master.facts.get("only", {}).get(member.pod, ())
    if only:
        return Refused(f"{member.pod} holds the only copy of shards: {', '.join(sorted(only)[:5])}")
    if master.facts.get("status") != "green":
        return Wait(f"the cluster is {master.facts.get('status')}: a member is cloned only while it is green")
    addresses: dict[str, str] = master.facts.get("addresses", {})
    away = [other.pod for other in observation.members if other.pod != member.pod and addresses.get(other.pod) != other.ip]
    if away:
        return Wait(f"{', '.join(away)} is not in the cluster yet")
    if master.facts.get("moving"):
        return Wait(f"{master.facts['moving']} shards are being moved or built")
    return Wipe(member.pod)
