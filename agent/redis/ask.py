"""Questions to members and Sentinels, through the image's own redis-cli. No password stands in argv."""

import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from msgspec import Struct

from agent.environment import clean_environment
from agent.redis.place import PORT, Place
from database_operator.build.constants import SENTINEL_PORT

ANSWER_SECONDS = 2.0
T = TypeVar("T")


class Peer(Struct, frozen=True, kw_only=True):
    """A running member, as it describes itself."""

    host: str
    role: str  # master | slave
    master_host: str = ""
    link_up: bool = False
    keys: bool = False  # holds data, or is reading it
    replicas: int = 0  # connected
    offset: int = 0  # bytes of the replication stream


class View(Struct, frozen=True):
    """Whom a Sentinel takes for the primary, and since which of its elections; not ``settled`` while a failover goes on."""

    epoch: int
    host: str
    settled: bool = True


class Survey(Struct, frozen=True, kw_only=True):
    """What was heard from everybody who might know. ``silent`` counts those of whom nothing is known: they may know better.

    A refused connection is an answer: nothing runs there yet.
    """

    views: Sequence[View] = ()
    peers: Sequence[Peer] = ()
    silent: int = 0


def cli(host: str, port: int, password: str, commands: Iterable[str], seconds: float = ANSWER_SECONDS) -> str | None:
    """Raw replies to ``commands``, one after the other, error replies too; "": the connection was refused; None: no answer."""
    argv = ["redis-cli", "--no-auth-warning", "--raw", "--user", "operator", "-h", host, "-p", str(port)]
    environment = clean_environment() | {"REDISCLI_AUTH": password}
    script = "".join(f"{command}\n" for command in commands)
    try:
        done = subprocess.run(argv, input=script, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except (subprocess.TimeoutExpired, OSError):
        return None
    if not done.stdout and "Connection refused" in done.stderr:
        return ""
    return done.stdout or None


def addresses(host: str) -> list[str] | None:
    """Of a headless Service, none where it has no pods; None: DNS does not answer. The final dot keeps the search list out."""
    try:
        found = socket.getaddrinfo(f"{host}.", None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return [] if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else None
    except OSError:
        return None
    return sorted({str(entry[4][0]) for entry in found})


def all_of(function: Callable[[str], T], arguments: Sequence[str]) -> list[T]:
    """The answers of ``function``, asked for at the same time, in the order of ``arguments``."""
    if not arguments:
        return []
    with ThreadPoolExecutor(max_workers=len(arguments)) as pool:
        return list(pool.map(function, arguments))


def fields(text: str) -> dict[str, str]:
    """``name:value`` lines of INFO."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: value.strip() for name, _, value in pairs}


def peer(text: str) -> Peer | None:
    """From the replies to ``INFO`` and ``CONFIG GET replica-announce-ip``."""
    info = fields(text)
    lines = text.splitlines()
    announced = lines.index("replica-announce-ip") if "replica-announce-ip" in lines else -1
    if "role" not in info or announced < 0 or announced + 1 >= len(lines):
        return None
    return Peer(
        host=lines[announced + 1].strip(),
        role=info["role"],
        master_host=info.get("master_host", ""),
        link_up=info.get("master_link_status") == "up",
        keys=info.get("loading", "0") != "0" or any(name.startswith("db") and value.startswith("keys=") for name, value in info.items()),
        replicas=int(info.get("connected_slaves", "0")),
        offset=int(info.get("master_repl_offset", "0")),
    )


def ask_member(place: Place, host: str) -> Peer | str | None:
    """A Peer, "" where nothing runs, None where nothing is known."""
    answer = cli(host, PORT, place.internal("operator-password"), ["INFO", "CONFIG GET replica-announce-ip"])
    return peer(answer) if answer else answer


def view(text: str) -> View | None:
    """From the replies to GET-MASTER-ADDR-BY-NAME (host, port) and MASTER (field and value in turn).

    In a failover the first already names the promoted member while the second still shows the old one.
    """
    host, port, *rest = [*text.splitlines(), "", ""]
    pairs = dict(zip(rest[::2], rest[1::2], strict=False))
    if not port.isdigit() or not pairs.get("config-epoch", "").isdigit():
        return None
    return View(int(pairs["config-epoch"]), host, pairs.get("ip") == host)


def ask_sentinel(place: Place, host: str) -> View | str | None:
    """A View, "" where nothing runs, None where nothing is known."""
    name = place.settings.master
    commands = [f"SENTINEL GET-MASTER-ADDR-BY-NAME {name}", f"SENTINEL MASTER {name}"]
    answer = cli(host, SENTINEL_PORT, place.internal("operator-password"), commands)
    return view(answer) if answer else answer


def survey(place: Place, sentinels: bool = True) -> Survey:
    """Ask every other member, and every other Sentinel."""
    members = addresses(place.settings.members)
    watchers = addresses(place.settings.sentinels) if sentinels else []
    silent = [members, watchers].count(None)
    peers = all_of(lambda host: ask_member(place, host), [host for host in members or () if host != place.ip])
    views = all_of(lambda host: ask_sentinel(place, host), [host for host in watchers or () if host != place.ip])
    silent += [*peers, *views].count(None)
    found = [answer for answer in peers if isinstance(answer, Peer)]
    return Survey(
        views=[answer for answer in views if isinstance(answer, View)],
        peers=sorted(found, key=lambda one: one.host),
        silent=silent,
    )
