"""Which member of a Redis Cluster serves which slots, and the next step towards it. Pure.

Pod k belongs to shard k modulo ``shards``. The cluster itself decides who of a shard is its primary; slots move only
when the number of shards changes or a member that owns some has to leave. Everything is decided from what the members
say now, so a move that was broken off anywhere is found again by its open slots. No step is taken but one, and none
of those that make a shard poorer before the one that needs it.
"""

from collections.abc import Iterable

from msgspec import Struct

from database_operator.api.status import Reason
from database_operator.engines.base import Action, Command, Member, Switchover, Wait

SLOTS = 16384
Ranges = tuple[tuple[int, int], ...]  # first and last of each


class Open(Struct, frozen=True, kw_only=True):
    """A slot on its way, as one end of it says."""

    slot: int
    leaves: bool  # it goes to the peer; else it comes from there
    peer: str  # node id
    pod: str  # of the peer, as far as its host name is known


class Node(Struct, frozen=True, kw_only=True):
    """What a member says of itself and of the cluster: ``Member.facts["node"]``."""

    id: str
    slots: Ranges = ()  # owned
    follows: str = ""  # id of its primary
    complete: bool = False  # cluster_state:ok
    knows: tuple[str, ...] = ()  # ids of the nodes it is connected to, its own included
    lost: tuple[str, ...] = ()  # ids of nodes that failed and own nothing
    open: tuple[Open, ...] = ()


class View(Struct, frozen=True, kw_only=True):
    """The members that answer, and what is wanted of them."""

    members: tuple[Member, ...]  # every pod, sorted by name
    nodes: dict[str, Node]  # of those that answer, by pod
    wanted: int  # members
    shards: int

    def stays(self, pod: str) -> bool:
        return ordinal(pod) < self.wanted

    def shard(self, pod: str) -> int:
        return shard_of(pod, self.shards)

    def pod(self, node_id: str) -> str | None:
        return next((pod for pod, node in self.nodes.items() if node.id == node_id), None)

    def replicas(self, pod: str) -> list[Member]:
        """Of the primary ``pod``, those in sync, the best first."""
        found = [
            member
            for member in self.members
            if member.pod in self.nodes
            and self.nodes[member.pod].follows == self.nodes[pod].id
            and member.ready
            and member.lag_bytes is not None
        ]
        return sorted(found, key=lambda member: (member.outdated, member.lag_bytes, member.pod))


def ordinal(pod: str) -> int:
    return int(pod.rpartition("-")[2])


def shard_of(pod: str, shards: int) -> int:
    return ordinal(pod) % shards


def ranges(shards: int) -> list[tuple[int, int]]:
    """First and last slot of each shard at the beginning, as even as can be."""
    bounds = [round(SLOTS * shard / shards) for shard in range(shards + 1)]
    return [(bounds[shard], bounds[shard + 1] - 1) for shard in range(shards)]


def count(slots: Iterable[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in slots)


def joined(slots: Iterable[int]) -> Ranges:
    """The ranges that hold ``slots``."""
    found: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if found and found[-1][1] == slot - 1:
            found[-1] = (found[-1][0], slot)
        else:
            found.append((slot, slot))
    return tuple(found)


def last_of(slots: Ranges, number: int) -> Ranges:
    """The ``number`` highest of ``slots``."""
    taken: list[tuple[int, int]] = []
    for first, last in reversed(slots):
        if number <= 0:
            break
        start = max(first, last - number + 1)
        taken.append((start, last))
        number -= last - start + 1
    return tuple(reversed(taken))


def heads(view: View) -> dict[int, str]:
    """Shard to the member that is, or is to be, its primary: one that owns slots, else one that follows nobody."""
    primaries = [pod for pod, node in view.nodes.items() if view.stays(pod) and (node.slots or not node.follows)]
    found: dict[int, str] = {}
    for pod in sorted(primaries, key=lambda pod: (not view.nodes[pod].slots, ordinal(pod))):
        found.setdefault(view.shard(pod), pod)
    return found


def surplus(view: View) -> list[str]:
    """Members that own slots and are no shard's primary."""
    chosen = heads(view).values()
    return [pod for pod, node in sorted(view.nodes.items()) if node.slots and pod not in chosen]


def unfinished(view: View) -> Action | None:
    """Slots that are open: their move is carried through, whatever is wanted now. Both ends of it serve until then."""
    moves: dict[tuple[str, str], list[int]] = {}
    for pod, node in sorted(view.nodes.items()):
        for found in node.open:
            owners = [other for other, one in sorted(view.nodes.items()) if owns(one, found.slot)]
            source = pod if pod in owners else next(iter(owners), None)
            target = _target(view, found) if found.leaves else pod
            if found.leaves is not (source == pod):
                return Command("close", pod, {"slots": [found.slot]}, f"{pod} ends the move of slot {found.slot}", Reason.SCALING)
            if source is None or target is None:
                return Wait(f"slot {found.slot} is on its way and not both of its members answer", Reason.SCALING)
            moves.setdefault((source, target), []).append(found.slot)
    if not moves:
        return None
    (source, target), slots = min(moves.items())
    return _migrate(source, target, joined(set(slots)))


def owns(node: Node, slot: int) -> bool:
    return any(first <= slot <= last for first, last in node.slots)


def _target(view: View, found: Open) -> str | None:
    """Where a slot that leaves has gone: to the peer, or to who has taken over from it with the keys it had."""
    pod = view.pod(found.peer) or found.pod
    node = view.nodes.get(pod)
    if node is None:
        return None
    if node.follows:
        return view.pod(node.follows)
    return pod if node.id == found.peer or node.slots else None


def _migrate(source: str, target: str, slots: Ranges) -> Command:
    arguments = {"to": target, "slots": [list(part) for part in slots]}
    return Command("migrate", source, arguments, f"moving {count(slots)} slots from {source} to {target}", Reason.SCALING)


def led(view: View) -> Action | None:
    """Every shard gets a member that can own its slots: by a takeover where that moves none, else an empty one."""
    chosen = heads(view)
    serving = {shard for shard, pod in chosen.items() if view.nodes[pod].slots}
    for pod in surplus(view):
        for heir in view.replicas(pod):
            if view.stays(heir.pod) and view.shard(heir.pod) not in serving:
                return Switchover(heir.pod, f"{heir.pod} is to serve shard {view.shard(heir.pod)}, and {pod} is not to")
    for shard in range(view.shards):
        if shard not in chosen:
            followers = sorted((pod for pod in view.nodes if view.stays(pod) and view.shard(pod) == shard), key=ordinal)
            if followers:
                return Command("detach", followers[0], {}, f"{followers[0]} is to serve shard {shard}", Reason.SCALING)
    return None


def joins(view: View) -> Action | None:
    """A member without slots and without a primary that is no shard's primary: new, drained, or back with an empty volume."""
    chosen = heads(view)
    for pod, node in sorted(view.nodes.items()):
        head = chosen.get(view.shard(pod))
        idle = not node.slots and not node.follows and not node.open
        if not view.stays(pod) or not idle or head in (None, pod) or not _serves(view, head):
            continue
        return Command("replicate", pod, {"id": view.nodes[head].id}, f"{pod} joins shard {view.shard(pod)}")
    return None


def _serves(view: View, pod: str) -> bool:
    """With slots, or about to get some: without a shard short of a primary, an empty one waits for nobody."""
    return bool(view.nodes[pod].slots) or len(heads(view)) == view.shards


def strays(view: View, *, harmless: bool) -> Action | None:
    """Replicas of another shard than their number says; ``harmless``: only those whose present primary can spare them."""
    chosen = heads(view)
    for pod, node in sorted(view.nodes.items()):
        head = chosen.get(view.shard(pod))
        if not view.stays(pod) or not node.follows or head is None or node.follows == view.nodes[head].id:
            continue
        present = view.pod(node.follows)
        spared = present is None or not view.nodes[present].slots or len(view.replicas(present)) > 1
        if spared or not harmless:
            return Command("replicate", pod, {"id": view.nodes[head].id}, f"{pod} changes to shard {view.shard(pod)}", Reason.SCALING)
    return None


def shares(view: View) -> dict[str, int]:
    """How many slots each shard's primary is to own. Those that have most keep the odd one, so that nothing moves for it."""
    ordered = sorted(heads(view).values(), key=lambda pod: (-count(view.nodes[pod].slots), ordinal(pod)))
    least, odd = divmod(SLOTS, view.shards)
    return {pod: least + (number < odd) for number, pod in enumerate(ordered)}


def balanced(view: View) -> Action | None:
    """Move slots to where they are missing, from members that are no shard's primary first. The fewest that will do."""
    wanted = shares(view)
    over = {pod: count(node.slots) - wanted.get(pod, 0) for pod, node in view.nodes.items()}
    givers = sorted((pod for pod in over if over[pod] > 0), key=lambda pod: (pod in wanted, ordinal(pod)))
    takers = sorted((pod for pod in wanted if over[pod] < 0), key=ordinal)
    if not givers or not takers:
        return None
    giver, taker = givers[0], takers[0]
    return _migrate(giver, taker, last_of(view.nodes[giver].slots, min(over[giver], -over[taker])))


def leaves(view: View) -> Action | None:
    """Members that go are emptied and made strangers, so that none of them can be voted in on its way out."""
    silent = [member.pod for member in view.members if member.ready and not member.terminating and member.pod not in view.nodes]
    unasked = [pod for pod in silent if not view.stays(pod)]
    if unasked:
        return Wait(f"{unasked[0]} leaves once it has answered", Reason.SCALING)
    going = sorted((pod for pod in view.nodes if not view.stays(pod) and not gone(view.nodes[pod])), key=ordinal)
    if not going:
        return None
    if view.nodes[going[0]].slots:
        return Wait(f"{going[0]} leaves and owns slots still", Reason.SCALING)
    staying = sorted(pod for pod in view.nodes if view.stays(pod))
    return Command("leave", going[0], {"pods": staying}, f"{going[0]} leaves the cluster", Reason.SCALING)


def gone(node: Node) -> bool:
    return not node.slots and not node.follows and node.knows == (node.id,)


def due(view: View) -> str | None:
    """What of the wanted layout is not there yet; None: nothing."""
    serving = [pod for pod, node in view.nodes.items() if node.slots]
    if not serving:
        return None
    if surplus(view) or len(serving) != view.shards:
        return f"{len(serving)} members own slots and {view.shards} shards are wanted"
    return "slots are not spread evenly" if balanced(view) is not None else None


def well(view: View) -> bool:
    """Everybody who is to stay is there and in sync, and the whole cluster says it is complete."""
    staying = [member for member in view.members if view.stays(member.pod)]
    healthy = all(member.ready and member.pod in view.nodes for member in staying)
    complete = all(node.complete for node in view.nodes.values() if node.slots)
    return healthy and complete and len(staying) >= view.wanted


def missing(owned: Iterable[tuple[int, int]]) -> Ranges:
    """The slots that none of ``owned`` holds."""
    free, begin = [], 0
    for first, last in sorted(owned):
        if first > begin:
            free.append((begin, first - 1))
        begin = max(begin, last + 1)
    return (*free, (begin, SLOTS - 1)) if begin < SLOTS else tuple(free)
