"""A Redis Cluster's next step: members meet, the first of them share the slots, the others replicate. Pure.

Pod k serves shard k modulo ``shards``; who is a shard's primary is the cluster's own affair once it is formed. Slots
are handed out once, while nothing is formed: moving them afterwards is not done.
"""

from collections.abc import Sequence

from msgspec import Struct

from database_operator.api.database import Resolved
from database_operator.api.status import Reason, Role
from database_operator.engines.base import Action, Command, Label, Member, Observation, Restart, Switchover, Wait

SLOTS = 16384


class Node(Struct, frozen=True, kw_only=True):
    """What a member says of itself and of the cluster: ``Member.facts["node"]``."""

    id: str
    slots: tuple[tuple[int, int], ...] = ()  # owned, first and last of each range
    follows: str = ""  # id of its primary
    complete: bool = False  # cluster_state:ok
    knows: tuple[str, ...] = ()  # ids of the nodes it is connected to, its own included
    lost: tuple[str, ...] = ()  # ids of nodes that failed and own nothing


def ranges(shards: int) -> list[tuple[int, int]]:
    """First and last slot of each shard, as even as can be."""
    bounds = [round(SLOTS * shard / shards) for shard in range(shards + 1)]
    return [(bounds[shard], bounds[shard + 1] - 1) for shard in range(shards)]


def shard_of(slots: Sequence[tuple[int, int]], shards: int) -> int | None:
    """The shard whose share holds the first of ``slots``."""
    return next((shard for shard, (first, last) in enumerate(ranges(shards)) if slots and first <= slots[0][0] <= last), None)


def ordinal(member: Member) -> int:
    return int(member.pod.rpartition("-")[2])


def node(member: Member) -> Node | None:
    found = member.facts.get("node")
    return found if member.reached and not member.terminating and isinstance(found, Node) else None


def topology(database: Resolved, observation: Observation) -> Action | None:
    """Everything but what any Redis needs (passwords, parameters)."""
    shards = database.redis.shards or 3
    nodes = {member.pod: found for member in observation.members if (found := node(member)) is not None}
    return (
        _meet(nodes)
        or _label(observation)
        or _form(observation, nodes, shards)
        or _replicate(observation, nodes, shards)
        or _scale_in(observation, nodes)
        or _forget(observation, nodes)
        or _rollout(observation, nodes)
        or _resharding(nodes, shards)
    )


def _label(observation: Observation) -> Action | None:
    for member in observation.members:
        known = member.reached and not member.terminating and member.role in (Role.PRIMARY, Role.REPLICA)
        if known and member.role_label != member.role.value:
            return Label(member.pod, member.role.value, member.shard)
    return None


def _meet(nodes: dict[str, Node]) -> Action | None:
    """One member meets those it is not connected to: at the beginning, and after addresses have changed."""
    if not nodes:
        return None
    host = min(nodes, key=lambda pod: (-len(nodes[pod].knows), not nodes[pod].slots, pod))
    strangers = [pod for pod, found in sorted(nodes.items()) if found.id not in nodes[host].knows]
    if strangers:
        return Command("meet", host, {"pods": strangers}, f"{host} meets {', '.join(strangers)}")
    return None


def _form(observation: Observation, nodes: dict[str, Node], shards: int) -> Action | None:
    """Hand out the slots. Never once the cluster was formed: what nobody owns then is lost with its owner, not free."""
    owned = [part for found in nodes.values() for part in found.slots]
    free = [(shard, part) for shard, part in enumerate(ranges(shards)) if not any(a <= part[1] and part[0] <= b for a, b in owned)]
    if not free:
        return None
    if observation.formed is not None:
        return Wait(f"the slots {free[0][1][0]}-{free[0][1][1]} are served by no member that answers", Reason.ROLLING_OUT)
    if len(nodes) < observation.wanted:
        return Wait(f"{len(nodes)} of {observation.wanted} members answer: the cluster is formed by all of them")
    shard, (first, last) = free[0]
    takers = [member.pod for member in observation.members if member.pod in nodes and ordinal(member) == shard]
    if not takers or nodes[takers[0]].follows:
        return Wait(f"no member is free to take the slots {first}-{last}")
    return Command("assign", takers[0], {"first": first, "last": last}, f"{takers[0]} takes the slots {first}-{last}")


def _owners(nodes: dict[str, Node], shards: int) -> dict[int, str]:
    """Shard to the id of its primary."""
    owners = {shard_of(found.slots, shards): found.id for found in nodes.values() if found.slots}
    return {shard: id_ for shard, id_ in owners.items() if shard is not None}


def _replicate(observation: Observation, nodes: dict[str, Node], shards: int) -> Action | None:
    """A member without slots and without a primary: new, or back with an empty volume."""
    owners = _owners(nodes, shards)
    for member in observation.members:
        found = nodes.get(member.pod)
        if found is None or found.slots or found.follows:
            continue
        owner = owners.get(ordinal(member) % shards)
        if owner is not None:
            return Command("replicate", member.pod, {"id": owner}, f"{member.pod} joins shard {ordinal(member) % shards}")
    return None


def _heirs(observation: Observation, nodes: dict[str, Node], primary: str) -> list[Member]:
    """Replicas of ``primary`` (an id) that may take over, the best one first."""
    found = [
        member
        for member in observation.members
        if member.pod in nodes and nodes[member.pod].follows == primary and member.ready and member.lag_bytes is not None
    ]
    stay = [member for member in found if ordinal(member) < observation.wanted]
    return sorted(stay, key=lambda member: (member.outdated, member.lag_bytes, member.pod))


def _scale_in(observation: Observation, nodes: dict[str, Node]) -> Action | None:
    for member in observation.members:
        found = nodes.get(member.pod)
        if found is None or ordinal(member) < observation.wanted or not found.slots:
            continue
        heirs = _heirs(observation, nodes, found.id)
        if heirs:
            return Switchover(heirs[0].pod, f"{member.pod} leaves")
        return Wait(f"{member.pod} leaves and no remaining replica can take its slots: set spec.replicas back", Reason.SCALING)
    return None


def _forget(observation: Observation, nodes: dict[str, Node]) -> Action | None:
    """Nodes that failed, own nothing and are none of the members: those that left, or lost their volume."""
    ids = {found.id for found in nodes.values()}
    if len(nodes) < observation.wanted:
        return None
    for pod, found in sorted(nodes.items()):
        gone = [id_ for id_ in found.lost if id_ not in ids]
        if gone:
            return Command("forget", pod, {"id": gone[0]}, f"{pod} forgets a node that has left")
    return None


def _rollout(observation: Observation, nodes: dict[str, Node]) -> Action | None:
    """Replicas first, one at a time; a primary after one of its replicas took over, or as it is where it has none."""
    outdated = [member for member in observation.members if member.outdated]
    if not outdated or len(observation.members) > observation.wanted:
        return None  # those that leave go first: none of them is restarted, or asked to take over
    owning = {pod for pod, found in nodes.items() if found.slots}
    broken = [member for member in outdated if not member.ready and not member.terminating and member.pod not in owning]
    if broken:
        return Restart(broken[0].pod, "it is not ready, and its inputs have changed")
    if len(observation.members) < observation.wanted:
        return Wait(f"{len(observation.members)} of {observation.wanted} members are there")
    waiting = [member.pod for member in observation.members if not member.ready or member.pod not in nodes]
    if waiting:
        return Wait(f"{waiting[0]} is not ready")
    replicas = [member for member in outdated if member.pod not in owning]
    if replicas:
        return Restart(replicas[0].pod)
    primary = outdated[0]
    heirs = _heirs(observation, nodes, nodes[primary.pod].id)
    if heirs:
        return Switchover(heirs[0].pod, f"{primary.pod} is restarted")
    if any(found.follows == nodes[primary.pod].id for found in nodes.values()):
        return Wait(f"no replica of {primary.pod} is in sync")
    return Restart(primary.pod)


def _resharding(nodes: dict[str, Node], shards: int) -> Action | None:
    serving = sum(1 for found in nodes.values() if found.slots)
    if serving and serving != shards:
        message = f"{serving} shards serve and spec.redis.shards is {shards}: slots are not moved, set it back"
        return Wait(message, Reason.SCALING)
    return None
