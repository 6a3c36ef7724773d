"""What a member of a Redis Cluster says of itself and of the others: CLUSTER NODES, read."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from database_operator.engines.redis.shards import Node, Open

_UNKNOWN = ("fail", "fail?", "handshake", "noaddr")


class Line(Struct, frozen=True, kw_only=True):
    """One line of CLUSTER NODES. Source: redis.io/commands/cluster-nodes."""

    id: str
    host: str  # announced, "" if it is not known
    flags: tuple[str, ...]
    primary: str = ""
    connected: bool = False
    slots: tuple[tuple[int, int], ...] = ()
    moving: tuple[tuple[int, bool, str], ...] = ()  # slot, whether it leaves, the other end's id: in a member's own line only

    @property
    def pod(self) -> str:
        return self.host.partition(".")[0]


def line(text: str) -> Line:
    """``<id> <ip:port@bus,host> <flags> <primary> <ping> <pong> <epoch> <link> [<slot range> …]``.

    A slot on its way stands as ``[<slot>->-<id of its new owner>]`` or ``[<slot>-<-<id of its owner>]``.
    """
    words = text.split()
    parts = [word.partition("-") for word in words[8:] if not word.startswith("[")]
    return Line(
        id=words[0],
        host=[*words[1].split(","), ""][1],
        flags=tuple(words[2].split(",")),
        primary="" if words[3] == "-" else words[3],
        connected=words[7] == "connected",
        slots=tuple((int(first), int(last or first)) for first, _, last in parts),
        moving=tuple(_moving(word) for word in words[8:] if word.startswith("[")),
    )


def _moving(word: str) -> tuple[int, bool, str]:
    slot, way, peer = word.strip("[]").split("-", 2)
    return int(slot), way == ">", peer


def lines(text: str) -> list[Line]:
    return [line(entry) for entry in text.splitlines() if entry.strip()]


def node(found: Sequence[Line], complete: bool) -> Node:
    """The member that answered, with what it knows of the others. Pure; equal while nothing changes."""
    mine = next(entry for entry in found if "myself" in entry.flags)
    known = [entry.id for entry in found if entry is mine or (entry.connected and not set(entry.flags) & set(_UNKNOWN))]
    lost = [entry.id for entry in found if {"fail", "noaddr"} & set(entry.flags) and not entry.slots and entry is not mine]
    pods = {entry.id: entry.pod for entry in found}
    return Node(
        id=mine.id,
        slots=mine.slots,
        follows=mine.primary,
        complete=complete,
        knows=tuple(sorted(known)),
        lost=tuple(sorted(lost)),
        open=tuple(Open(slot=slot, leaves=out, peer=peer, pod=pods.get(peer, "")) for slot, out, peer in mine.moving),
    )


async def ask(server: Any) -> tuple[Node, str | None]:
    """The member's own node, and the pod of the primary whose slots it serves; None: it serves none."""
    found = lines(await server.execute_command("CLUSTER", "NODES"))
    info = await server.execute_command("CLUSTER", "INFO")
    own = node(found, "cluster_state:ok" in info)
    primary = next((entry for entry in found if entry.id == (own.follows or own.id)), None)
    return own, primary.pod if primary is not None and primary.slots else None
