"""A Redis Cluster's next step: members meet, share the slots, replicate, roll and leave. Pure.

Who is a shard's primary is the cluster's own affair once it is formed; ``shards`` says which slots go where.
"""

from database_operator.api.database import Resolved
from database_operator.api.status import Reason, Role
from database_operator.engines.base import Action, Command, Label, Member, Observation, Restart, Switchover, Wait
from database_operator.engines.redis import shards
from database_operator.engines.redis.shards import Node, View, ordinal, ranges


def node(member: Member) -> Node | None:
    found = member.facts.get("node")
    return found if member.reached and not member.terminating and isinstance(found, Node) else None


def topology(database: Resolved, observation: Observation) -> Action | None:
    """Everything but what any Redis needs (passwords, parameters)."""
    view = View(
        members=observation.members,
        nodes={member.pod: found for member in observation.members if (found := node(member)) is not None},
        wanted=observation.wanted,
        shards=database.redis.shards or 3,
    )
    due = shards.due(view)
    return (
        _meet(view)
        or _label(observation)
        or _form(view, formed=observation.formed is not None)
        or shards.joins(view)
        or shards.unfinished(view)
        or (_reshaped(view) if shards.well(view) else None)
        or (shards.leaves(view) if due is None else None)
        or _forget(view)
        or _rollout(view)
        or (Wait(due, Reason.SCALING) if due is not None else None)
    )


def _label(observation: Observation) -> Action | None:
    for member in observation.members:
        known = member.reached and not member.terminating and member.role in (Role.PRIMARY, Role.REPLICA)
        if known and member.role_label != member.role.value:
            return Label(member.pod, member.role.value, member.shard)
    return None


def _meet(view: View) -> Action | None:
    """One member meets those it is not connected to, or that do not know it: at the beginning, and after addresses have changed."""
    nodes = {pod: found for pod, found in view.nodes.items() if view.stays(pod) or not shards.gone(found)}
    if not nodes:
        return None
    host = min(nodes, key=lambda pod: (-len(nodes[pod].knows), not nodes[pod].slots, pod))
    strangers = [pod for pod, found in sorted(nodes.items()) if found.id not in nodes[host].knows or nodes[host].id not in found.knows]
    if strangers:
        return Command("meet", host, {"pods": strangers}, f"{host} meets {', '.join(strangers)}")
    return None


def _form(view: View, *, formed: bool) -> Action | None:
    """Hand out the slots. Never once the cluster was formed: what nobody owns then is lost with its owner, not free."""
    owned = [part for found in view.nodes.values() for part in found.slots]
    free = shards.missing(owned)
    if not free:
        return None
    if formed:
        return _lost(view, free)
    if len(view.nodes) < view.wanted:
        return Wait(f"{len(view.nodes)} of {view.wanted} members answer: the cluster is formed by all of them")
    for shard, (first, last) in enumerate(ranges(view.shards)):
        part = [(max(first, start), min(last, end)) for start, end in free if start <= last and first <= end]
        if part:
            return _assign(view, shard, part[0])
    return None


def _lost(view: View, free: shards.Ranges) -> Action:
    """Slots without an owner, once the cluster was formed: of one that is down, or that forgot what the others still say of it."""
    message = f"the slots {free[0][0]}-{free[0][1]} are served by no member that answers"
    staying = [pod for pod in view.nodes if view.stays(pod)]
    if len(staying) < view.wanted:
        return Wait(message)
    return Command("adopt", min(staying), {"slots": [list(part) for part in free]}, message)


def _assign(view: View, shard: int, part: tuple[int, int]) -> Action:
    first, last = part
    takers = [pod for pod in sorted(view.nodes) if ordinal(pod) == shard]
    if not takers or view.nodes[takers[0]].follows:
        return Wait(f"no member is free to take the slots {first}-{last}")
    return Command("assign", takers[0], {"first": first, "last": last}, f"{takers[0]} takes the slots {first}-{last}")


def _reshaped(view: View) -> Action | None:
    """As many shards as wanted, each with its members. Copies are made before slots move, and given up only after."""
    return shards.led(view) or shards.strays(view, harmless=True) or shards.balanced(view) or shards.strays(view, harmless=False)


def _forget(view: View) -> Action | None:
    """Nodes that failed, own nothing and are none of the members: those that left, or lost their volume."""
    ids = {found.id for found in view.nodes.values()}
    if sum(1 for pod in view.nodes if view.stays(pod)) < view.wanted:
        return None
    for pod, found in sorted(view.nodes.items()):
        lost = [id_ for id_ in found.lost if id_ not in ids]
        if lost and view.stays(pod):
            return Command("forget", pod, {"ids": lost}, f"{pod} forgets nodes that have left")
    return None


def _rollout(view: View) -> Action | None:
    """Replicas first, one at a time; a primary after one of its replicas took over, or as it is where it has none."""
    nodes = view.nodes
    members = [member for member in view.members if view.stays(member.pod)]
    outdated = [member for member in members if member.outdated]
    if not outdated:
        return None
    owning = {pod for pod, found in nodes.items() if found.slots}
    broken = [member for member in outdated if not member.ready and not member.terminating and member.pod not in owning]
    if broken:
        return Restart(broken[0].pod, "it is not ready, and its inputs have changed")
    if len(members) < len(view.members):
        return None  # those that leave go first: nobody is restarted, or asked to take over, meanwhile
    if len(members) < view.wanted:
        return Wait(f"{len(members)} of {view.wanted} members are there")
    waiting = [member.pod for member in members if not member.ready or member.pod not in nodes]
    if waiting:
        return Wait(f"{waiting[0]} is not ready")
    replicas = [member for member in outdated if member.pod not in owning]
    if replicas:
        return Restart(replicas[0].pod)
    primary = outdated[0]
    heirs = [heir for heir in view.replicas(primary.pod) if view.stays(heir.pod)]
    if heirs:
        return Switchover(heirs[0].pod, f"{primary.pod} is restarted")
    if any(found.follows == nodes[primary.pod].id for found in nodes.values()):
        return Wait(f"no replica of {primary.pod} is in sync")
    return Restart(primary.pod)
