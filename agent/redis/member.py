"""``database-agent redis run``: decide as what this member starts, write its files, become redis-server."""

import http.client
import os
import signal
import sys
import time

from msgspec.structs import replace

from agent.environment import clean_environment
from agent.redis import ask, decide, files
from agent.redis.kubernetes import Api, has_account
from agent.redis.place import MOST_MEMBERS, Place, place

AGAIN_SECONDS = 1.0


def log(message: str) -> None:
    print(f"database-agent: {message}", flush=True)


def survey(place: Place) -> ask.Survey:
    """Everybody who might know is asked; the claims, whose records count as one more Sentinel's view, where those do not tell."""
    sentinel = place.settings.mode == "sentinel"
    heard = ask.survey(place, sentinels=sentinel)
    if not sentinel or not place.settings.formed or len(heard.views) > 1:
        return heard
    if not has_account():  # a pod from before its Database got several members; the Sentinels can read, and then tell
        return replace(heard, silent=heard.silent + 1)
    pods = [place.member(ordinal).partition(".")[0] for ordinal in range(MOST_MEMBERS)]
    try:
        with Api(place.namespace) as api:
            records = [ask.View(epoch, f"{pod}.{place.settings.members}") for epoch, pod in api.recorded(pods)]
    except (OSError, http.client.HTTPException):
        return replace(heard, silent=heard.silent + 1)
    return replace(heard, views=[*heard.views, *records])


def evidence(place: Place) -> decide.Evidence:
    heard = survey(place)
    return decide.Evidence(
        host=place.host,
        first=place.member(0),
        sentinel=place.settings.mode == "sentinel",
        formed=place.settings.formed,
        has_data=files.has_data(place.data),
        remembers=files.remembered(place.configuration),
        replicas=place.settings.replicas,
        views=heard.views,
        peers=heard.peers,
        silent=heard.silent,
    )


def decision(place: Place) -> decide.Primary | decide.Follow:
    """Asks again until the answer is clear. Says why it waits, once per reason."""
    said = ""
    while True:
        found = decide.member(evidence(place))
        if not isinstance(found, decide.Hold):
            return found
        if found.why != said:
            said = found.why
            log(f"not started: {said}")
        time.sleep(AGAIN_SECONDS)


def announce(place: Place, roles: dict[str, str]) -> None:
    """Label pods for the Services, where the agent may; without an API server Redis goes on all the same."""
    if place.settings.mode != "sentinel" or not has_account():
        return
    try:
        with Api(place.namespace) as api:
            for pod, role in roles.items():
                api.label(pod, role)
    except (OSError, http.client.HTTPException) as error:
        log(f"pods not labelled: {error}")


def run() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # as pid 1 nothing else would end the wait
    here = place()
    primary = None
    if here.settings.mode != "cluster":
        found = decision(here)
        primary = found.host if isinstance(found, decide.Follow) else None
        log(f"starting as {'replica of ' + primary if primary else 'primary'}")
    elif (here.data / files.NODES_FILE).is_file():
        nodes = here.data / files.NODES_FILE
        files.write(nodes, files.readdressed(nodes.read_text(), lambda host: next(iter(ask.addresses(host) or ()), None)))
    files.write(here.run / files.USERS_FILE, files.users(here))
    files.write(here.configuration, files.configuration(here, primary))
    announce(here, {here.pod: "replica" if primary else "primary"})  # it may be back before Sentinel has missed it
    os.execvpe("redis-server", ["redis-server", str(here.configuration)], clean_environment())  # noqa: S606  becomes pid 1
