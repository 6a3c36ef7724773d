"""The Sentinel pods: ``redis sentinel`` becomes Sentinel, ``redis client-reconfig`` is called by it at each failover."""

import http.client
import os
import signal
import sys
import time

from agent.environment import clean_environment
from agent.redis import ask, decide, files
from agent.redis.kubernetes import Api
from agent.redis.member import AGAIN_SECONDS, log, survey
from agent.redis.place import Place, place
from database_operator.build.constants import AGENT_PROGRAM

RETRY_SECONDS = 20.0


def configuration(place: Place) -> str:
    """Rebuilt from what the other Sentinels, the claims and the members tell, asked until somebody does."""
    said = False
    while True:
        heard = survey(place)
        primary = decide.watched(heard.views, heard.peers, heard.silent, place.settings.formed)
        if primary is not None:
            others = sorted({peer.host for peer in heard.peers} - {primary})
            epoch = max((view.epoch for view in heard.views), default=0)
            log(f"watching {primary}")
            return files.sentinel_configuration(place, primary, others, epoch)
        if not said:
            said = True
            log("waiting: no Sentinel and no member tells who is primary")
        time.sleep(AGAIN_SECONDS)


def run() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    here = place()
    files.write(here.run / files.USERS_FILE, files.sentinel_users(here))
    # Sentinel calls a program without arguments of ours: the kernel hands them over from this line.
    files.write(here.run / files.RECONFIGURE, f"#!{AGENT_PROGRAM} redis\n", 0o700)
    path = here.run / files.SENTINEL_FILE
    if not path.exists():  # a restarted container keeps what Sentinel wrote
        files.write(path, configuration(here))
    os.execvpe("redis-server", ["redis-server", str(path), "--sentinel"], clean_environment())  # noqa: S606  becomes pid 1


def roles(place: Place, primary: str, former: str) -> dict[str, str]:
    """Pod to role, the new primary first: its Service waits for it."""
    hosts = [primary, former, *(place.member(ordinal) for ordinal in range(place.settings.replicas))]
    return {host.partition(".")[0]: "primary" if host == primary else "replica" for host in hosts}


def reconfigure(arguments: list[str]) -> int:
    """``<master> <role> <state> <from host> <from port> <to host> <to port>``: tell Kubernetes who is primary now.

    Source of the arguments: sentinel.conf, "CLIENTS RECONFIGURATION SCRIPT". The exit status 1 has Sentinel try again.
    A call that comes late must not bring back an older primary, so this pod's Sentinel is asked, and the election is
    recorded only once it is over.
    """
    here = place()
    deadline = time.monotonic() + RETRY_SECONDS
    while time.monotonic() < deadline:
        seen = ask.ask_sentinel(here, "127.0.0.1")
        if isinstance(seen, ask.View):
            try:
                with Api(here.namespace) as api:
                    for pod, role in roles(here, seen.host, arguments[3]).items():
                        api.label(pod, role)
                    if seen.settled:
                        api.record(seen.host.partition(".")[0], seen.epoch)
                        return 0
            except (OSError, http.client.HTTPException) as error:
                log(f"pods not labelled: {error}")
        time.sleep(AGAIN_SECONDS)
    return 1
