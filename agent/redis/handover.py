"""``database-agent redis prestop``: a primary that is told to stop hands over first, so that no write is lost."""

import time

from agent.redis import ask
from agent.redis.member import announce, log
from agent.redis.place import PORT, Place, place
from database_operator.build.constants import SENTINEL_PORT

PAUSE_SECONDS = 60.0  # longer than all below together: the container stops after them, and takes no more writes
CATCH_UP_SECONDS = 5.0
MOVE_SECONDS = 10.0
AGAIN_SECONDS = 0.1


def caught_up(info: dict[str, str], replica: dict[str, str]) -> bool:
    """Whether the replica has all of the primary's stream, by what each says of itself: its primary hears of it once a second."""
    return replica.get("master_link_status") == "up" and replica.get("slave_repl_offset") == info.get("master_repl_offset", "")


def _local(place: Place, *commands: str) -> str:
    return ask.cli("127.0.0.1", PORT, place.internal("operator-password"), commands) or ""


def _sentinel(place: Place) -> str | None:
    """The address of a Sentinel that takes this member for the primary."""
    for address in ask.addresses(place.settings.sentinels) or ():
        seen = ask.ask_sentinel(place, address)
        if isinstance(seen, ask.View) and seen.host == place.host:
            return address
    return None


def _asked(place: Place, host: str) -> dict[str, str]:
    return ask.fields(ask.cli(host, PORT, place.internal("operator-password"), ["INFO replication"], 1.0) or "")


def _caught_up(place: Place, candidates: list[str]) -> bool:
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while time.monotonic() < deadline:
        info = ask.fields(_local(place, "INFO replication"))
        if any(caught_up(info, _asked(place, host)) for host in candidates):
            return True
        time.sleep(AGAIN_SECONDS)
    return False


def _moved(place: Place, sentinel: str, candidates: list[str]) -> str | None:
    """The host that Sentinel has made the primary instead; it says so itself up to a second before Sentinel has noticed."""
    deadline = time.monotonic() + MOVE_SECONDS
    while time.monotonic() < deadline:
        for host in candidates:
            if _asked(place, host).get("role") == "master":
                return host
        seen = ask.ask_sentinel(place, sentinel)
        if isinstance(seen, ask.View) and seen.host != place.host:
            return seen.host
        time.sleep(AGAIN_SECONDS)
    return None


def heirs(info: dict[str, str]) -> list[str]:
    """Hosts of the replicas in sync, the one with the most first."""
    replicas = [dict(pair.partition("=")[::2] for pair in value.split(",")) for name, value in info.items() if name.startswith("slave")]
    online = [replica for replica in replicas if replica.get("state") == "online"]
    return [replica["ip"] for replica in sorted(online, key=lambda replica: -int(replica.get("offset", "0")))]


def prestop() -> int:
    """Never fails: the container stops all the same, and the others then find the primary gone."""
    here = place()
    info = ask.fields(_local(here, "INFO replication"))
    if here.settings.mode == "standalone" or info.get("role") != "master" or info.get("connected_slaves", "0") == "0":
        return 0
    moved = _by_takeover(here, info) if here.settings.mode == "cluster" else _by_sentinel(here, heirs(info))
    log(f"handed over to {moved}" if moved else "stopping as primary: nobody took over in time")
    return 0


def _by_takeover(place: Place, info: dict[str, str]) -> str | None:
    """In a cluster the replica asks: its primary stops writes until it has them all, and the others vote for it."""
    for heir in heirs(info)[:1]:
        ask.cli(heir, PORT, place.internal("operator-password"), ["CLUSTER FAILOVER"])
        deadline = time.monotonic() + MOVE_SECONDS
        while time.monotonic() < deadline:
            if ask.fields(_local(place, "INFO replication")).get("role") == "slave":
                return heir
            time.sleep(AGAIN_SECONDS)
    return None


def _by_sentinel(place: Place, candidates: list[str]) -> str | None:
    sentinel = _sentinel(place)
    if sentinel is None:
        return None
    _local(place, f"CLIENT PAUSE {int(PAUSE_SECONDS * 1000)} WRITE")
    if not _caught_up(place, candidates):
        _local(place, "CLIENT UNPAUSE")
        return None
    ask.cli(sentinel, SENTINEL_PORT, place.internal("operator-password"), [f"SENTINEL FAILOVER {place.settings.master}"])
    primary = _moved(place, sentinel, candidates)
    if primary is not None:
        # sooner than Sentinel's script, which has to start first
        announce(place, {primary.partition(".")[0]: "primary", place.pod: "replica"})
        _local(place, f"REPLICAOF {primary} {PORT}", "CONFIG REWRITE")  # what the volume shall remember
    return primary
