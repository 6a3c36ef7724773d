"""``database-agent redis prestop``: a primary that is told to stop hands over first, so that no write is lost."""

import time

from agent.redis import ask
from agent.redis.member import announce, log
from agent.redis.place import PORT, Place, place
from database_operator.build.constants import SENTINEL_PORT

PAUSE_SECONDS = 15.0
CATCH_UP_SECONDS = 5.0
MOVE_SECONDS = 10.0
AGAIN_SECONDS = 0.1


def caught_up(info: dict[str, str]) -> bool:
    """Whether some replica has all of the primary's stream: ``slave0:ip=…,state=online,offset=…`` in INFO."""
    offset = info.get("master_repl_offset", "")
    replicas = (dict(pair.partition("=")[::2] for pair in value.split(",")) for name, value in info.items() if name.startswith("slave"))
    return any(replica.get("state") == "online" and replica.get("offset") == offset for replica in replicas)


def _local(place: Place, *commands: str) -> str:
    return ask.cli("127.0.0.1", PORT, place.internal("operator-password"), commands) or ""


def _sentinel(place: Place) -> str | None:
    """The address of a Sentinel that takes this member for the primary."""
    for address in ask.addresses(place.settings.sentinels) or ():
        seen = ask.ask_sentinel(place, address)
        if isinstance(seen, ask.View) and seen.host == place.host:
            return address
    return None


def _caught_up(place: Place) -> bool:
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while time.monotonic() < deadline:
        if caught_up(ask.fields(_local(place, "INFO replication"))):
            return True
        time.sleep(AGAIN_SECONDS)
    return False


def _moved(place: Place, sentinel: str) -> str | None:
    """The host that Sentinel has made the primary instead."""
    deadline = time.monotonic() + MOVE_SECONDS
    while time.monotonic() < deadline:
        seen = ask.ask_sentinel(place, sentinel)
        if isinstance(seen, ask.View) and seen.host != place.host:
            return seen.host
        time.sleep(AGAIN_SECONDS)
    return None


def prestop() -> int:
    """Never fails: the container stops all the same, and Sentinel then finds the primary gone."""
    here = place()
    info = ask.fields(_local(here, "INFO replication"))
    if here.settings.mode != "sentinel" or info.get("role") != "master" or info.get("connected_slaves", "0") == "0":
        return 0
    sentinel = _sentinel(here)
    if sentinel is None:
        return 0
    _local(here, f"CLIENT PAUSE {int(PAUSE_SECONDS * 1000)} WRITE")
    if not _caught_up(here):
        _local(here, "CLIENT UNPAUSE")
        log("no replica caught up: stopping as primary")
        return 0
    password = here.internal("operator-password")
    ask.cli(sentinel, SENTINEL_PORT, password, [f"SENTINEL FAILOVER {here.settings.master}"])
    primary = _moved(here, sentinel)
    if primary is None:
        log("Sentinel did not move the primary in time")
        return 0
    log(f"handed over to {primary}")
    # sooner than Sentinel's script, which has to start first
    announce(here, {primary.partition(".")[0]: "primary", here.pod: "replica"})
    _local(here, f"REPLICAOF {primary} {PORT}", "CONFIG REWRITE")  # what the volume shall remember
    return 0
