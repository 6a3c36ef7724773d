"""As what a member starts, and whom a new Sentinel watches. Pure: a table of evidence in, one decision out.

The order of trust: the last election, as the Sentinels know it or as it is recorded on the claims; members that run;
what this member's own volume remembers. Silence is no answer: where somebody may know better, nobody starts. Ordinal 0
begins only where nothing has ever held data, and an empty member never becomes primary over others' data.
"""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from agent.redis.ask import Peer, View


class Evidence(Struct, frozen=True, kw_only=True):
    host: str  # own name
    first: str  # name of ordinal 0
    sentinel: bool  # Sentinel mode; else this member is alone
    formed: bool  # some volume of this database has held data
    has_data: bool  # this one does
    remembers: str | None = None  # on the own volume: "" was primary, a host was its replica, None nothing
    replicas: int = 1  # members wanted
    views: Sequence[View] = ()  # of the Sentinels, and as recorded on the claims
    peers: Sequence[Peer] = ()
    silent: int = 0  # that may know and did not answer


class Primary(Struct, frozen=True):
    pass


class Follow(Struct, frozen=True):
    host: str


class Hold(Struct, frozen=True):
    """Do not start yet."""

    why: str


Decision = Primary | Follow | Hold


def elected(views: Sequence[View]) -> str | None:
    """The primary of the latest election any Sentinel knows of."""
    return max(views, key=lambda view: (view.epoch, view.host)).host if views else None


def running_primary(peers: Sequence[Peer], formed: bool) -> Peer | None:
    """The member that runs as primary. Of several, the one that has replicas; None where that does not tell either."""
    primaries = [peer for peer in peers if peer.role == "master" and (peer.keys or peer.replicas or not formed)]
    followed = [peer for peer in primaries if peer.replicas] or primaries
    return followed[0] if len(followed) == 1 else None


def followed(peers: Sequence[Peer]) -> str | None:
    """Whom most running replicas name as their primary."""
    named = Counter(peer.master_host for peer in peers if peer.role == "slave" and peer.master_host)
    return min(named, key=lambda host: (-named[host], host)) if named else None


def watched(views: Sequence[View], peers: Sequence[Peer], silent: int, formed: bool) -> str | None:
    """Who is primary, as far as others can tell: whom a Sentinel that knows nothing shall watch. None: nothing tells yet.

    A running primary that somebody replicates from needs no further witness; one without is believed only if nobody
    is silent.
    """
    choice = elected(views)
    if choice is not None:
        return choice
    running = running_primary(peers, formed)
    if running is not None and (running.replicas or not silent):
        return running.host
    return None if silent or running is not None else followed(peers)


def member(evidence: Evidence) -> Decision:
    if not evidence.sentinel:
        return _alone(evidence)
    if not evidence.formed and not evidence.has_data and not evidence.views and not evidence.peers:
        return Primary() if evidence.host == evidence.first else Follow(evidence.first)  # the beginning
    choice = watched(evidence.views, evidence.peers, evidence.silent, evidence.formed)
    if choice is None:
        return Hold("not everybody who may know the primary answers") if evidence.silent else _unasked(evidence)
    if choice != evidence.host:
        return Follow(choice)
    return _as_primary(evidence)


def _alone(evidence: Evidence) -> Decision:
    """The one member; while a scale-in is under way, another may still be primary."""
    running = running_primary(evidence.peers, formed=True)
    if running is None and evidence.silent and evidence.peers:
        return Hold("another member is there and does not answer yet")
    return Follow(running.host) if running else Primary()


def _as_primary(evidence: Evidence) -> Decision:
    """The others take this member for their primary. Empty, it would make them throw their data away."""
    if evidence.has_data or not evidence.formed:
        return Primary()
    if any(peer.keys for peer in evidence.peers):
        return Hold("this volume is empty and other members hold data: waiting for Sentinel to choose one of them")
    if len(evidence.peers) >= evidence.replicas - 1:
        return Primary()
    return Hold("this volume is empty and not every other member answers yet")


def _unasked(evidence: Evidence) -> Decision:
    """Nobody runs who could tell."""
    several = [peer.host for peer in evidence.peers if peer.role == "master" and peer.keys]
    if len(several) > 1:
        return Hold(f"several members run as primary ({', '.join(several)}) and no Sentinel answers")
    if evidence.has_data and evidence.remembers is not None:
        return Follow(evidence.remembers) if evidence.remembers not in ("", evidence.host) else Primary()
    if evidence.host != evidence.first:
        return Follow(evidence.first)
    return Primary() if evidence.has_data else _as_primary(evidence)
