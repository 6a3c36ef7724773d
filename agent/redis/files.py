"""The files that Redis and Sentinel start with. Passwords are hashed wherever Redis lets them be."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.redis.place import PORT, Place
from database_operator.build.constants import SENTINEL_PORT
from database_operator.build.redisconf import SETTINGS_FILE, line, user

SENTINEL_FILE = "sentinel.conf"
NODES_FILE = "nodes.conf"
USERS_FILE = "users.acl"
RECONFIGURE = "client-reconfig"
DOWN_AFTER = 3000  # ms without a valid answer until a Sentinel takes a member for down
FAILOVER_TIMEOUT = 10000  # ms; a failover that failed is tried again after twice that

# What the application may not do is what would set Redis against Sentinel, or run code.
APPLICATION = ("~*", "&*", "+@all", "-replicaof", "-slaveof", "-failover", "-module", "-debug")
OPERATOR = (
    *("resetkeys", "&*", "-@all", "+ping", "+echo", "+info", "+role", "+config|get", "+config|set", "+config|rewrite"),
    *("+acl|setuser", "+acl|getuser", "+acl|deluser", "+acl|users", "+client", "+replicaof", "+wait", "+@scripting", "+cluster"),
)
# https://redis.io/docs/latest/operate/oss_and_stack/management/replication/ and .../sentinel/, "ACL"
REPLICA = ("resetkeys", "resetchannels", "-@all", "+psync", "+replconf", "+ping")
# Selectors (7.0): moving slots, one member sends keys as ``operator`` tells it and the other takes them from ``replica``.
GIVES = ("+flushall", "(~* +migrate)")
TAKES = ("(~* +restore-asking +select)",)
SENTINEL = (
    *("resetkeys", "&*", "-@all", "+multi", "+slaveof", "+replicaof", "+ping", "+exec", "+subscribe", "+config|rewrite"),
    *("+role", "+publish", "+info", "+client|setname", "+client|kill", "+script|kill"),
)
_DISCOVERY = ("get-master-addr-by-name", "masters", "master", "replicas", "slaves", "sentinels", "ckquorum")
SENTINEL_APPLICATION = (
    *("resetkeys", "&*", "-@all", "+ping", "+info", "+role", "+client", "+subscribe", "+psubscribe", "+unsubscribe", "+punsubscribe"),
    *(f"+sentinel|{command}" for command in _DISCOVERY),
)
SENTINEL_OPERATOR = (
    *("resetkeys", "&*", "-@all", "+ping", "+info", "+sentinel", "+client"),
    *("+acl|setuser", "+acl|getuser", "+acl|deluser", "+acl|users"),
)
SENTINEL_PEER = ("resetkeys", "&*", "-@all", "+ping", "+info", "+publish", "+subscribe", "+sentinel", "+client")

_NODE = re.compile(r"(?P<id>[0-9a-f]{40} )(?P<ip>[0-9a-f.:]+):\d+@\d+,(?P<host>[a-z0-9.-]+)")


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def users(place: Place) -> str:
    cluster = place.settings.mode == "cluster"
    return "".join(
        (
            user("default", [place.password()], *APPLICATION),
            user("operator", [place.internal("operator-password")], *OPERATOR, *(GIVES if cluster else ())),
            user("replica", [place.internal("replica-password")], *REPLICA, *(TAKES if cluster else ())),
            user("sentinel", [place.internal("sentinel-password")], *SENTINEL),
        )
    )


def sentinel_users(place: Place) -> str:
    return "".join(
        (
            user("default", [place.password()], *SENTINEL_APPLICATION),
            user("operator", [place.internal("operator-password")], *SENTINEL_OPERATOR),
            user("sentinel", [place.internal("sentinel-password")], *SENTINEL_PEER),
        )
    )


def has_data(data: Path) -> bool:
    """Whether Redis has ever written to this volume, be it an empty database."""
    files = [data / "dump.rdb", data / "appendonly.aof", *(data / "appendonlydir").glob("*.rdb"), *(data / "appendonlydir").glob("*.aof")]
    return any(file.is_file() and file.stat().st_size > 0 for file in files)


def remembered(configuration: Path) -> str | None:
    """Of an earlier start, as Redis last rewrote it: "" it was primary, else its primary's host; None: no earlier start."""
    try:
        lines = configuration.read_text().splitlines()
    except OSError:
        return None
    words = [entry.split() for entry in lines]
    return next((entry[1].strip('"') for entry in words if len(entry) == 3 and entry[0] in ("replicaof", "slaveof")), "")


def _settings(place: Place) -> str:
    """The operator's redis.conf.

    With the append-only file on and none there, Redis 7 starts empty beside a snapshot: then it is read first, and
    the operator turns the file on live.
    """
    text = (place.settings_path / SETTINGS_FILE).read_text()
    only_snapshot = (place.data / "dump.rdb").is_file() and not (place.data / "appendonlydir").is_dir()
    if only_snapshot and not (place.data / "appendonly.aof").is_file():
        text = text.replace("appendonly yes\n", "appendonly no\n")
    return text


def configuration(place: Place, primary: str | None) -> str:
    """redis.conf of this member; ``primary``: host that it follows, None: it is primary itself."""
    own = [
        line("aclfile", str(place.run / USERS_FILE)),
        line("masteruser", "replica"),
        line("masterauth", place.internal("replica-password")),
        line("replica-announce-ip", place.host),
    ]
    if place.settings.mode == "cluster":
        own += [line("cluster-announce-hostname", place.host), line("cluster-preferred-endpoint-type", "hostname")]
    elif primary is not None:
        own.append(line("replicaof", primary, str(PORT)))
    return _settings(place) + "".join(own)


def readdressed(nodes: str, address: Callable[[str], str | None]) -> str:
    """A cluster's nodes.conf with each node's address of today, as DNS tells it by the node's host name.

    Members find one another by address alone: after all have moved at once, none would know where the others are.
    """
    lines = []
    for entry in nodes.splitlines(keepends=True):
        match = _NODE.match(entry)
        found = address(match["host"]) if match else None
        lines.append(f"{match['id']}{found}{entry[match.end('ip') :]}" if match and found else entry)
    return "".join(lines)


def sentinel_configuration(place: Place, primary: str, replicas: Sequence[str], epoch: int) -> str:
    """sentinel.conf that watches ``primary``.

    The id is made of the pod's name: a Sentinel with a new id would count as one more voter each time it lost its file.
    """
    name, port = place.settings.master, str(PORT)
    identity = hashlib.sha1(f"{place.namespace}/{place.pod}".encode(), usedforsecurity=False).hexdigest()
    lines = [
        ("port", str(SENTINEL_PORT)),
        ("protected-mode", "no"),
        ("dir", str(place.run)),
        ("aclfile", str(place.run / USERS_FILE)),
        ("sentinel", "myid", identity),
        ("sentinel", "resolve-hostnames", "yes"),
        ("sentinel", "announce-hostnames", "yes"),
        ("sentinel", "announce-ip", f"{place.pod}.{place.settings.sentinels}"),
        ("sentinel", "announce-port", str(SENTINEL_PORT)),
        ("sentinel", "sentinel-user", "sentinel"),
        ("sentinel", "sentinel-pass", place.internal("sentinel-password")),
        ("sentinel", "deny-scripts-reconfig", "yes"),
        ("sentinel", "monitor", name, primary, port, "2"),
        ("sentinel", "auth-user", name, "sentinel"),
        ("sentinel", "auth-pass", name, place.internal("sentinel-password")),
        ("sentinel", "down-after-milliseconds", name, str(DOWN_AFTER)),
        ("sentinel", "failover-timeout", name, str(FAILOVER_TIMEOUT)),
        ("sentinel", "parallel-syncs", name, "1"),
        ("sentinel", "client-reconfig-script", name, str(place.run / RECONFIGURE)),
        ("sentinel", "config-epoch", name, str(epoch)),
        *(("sentinel", "known-replica", name, host, port) for host in replicas),
        ("sentinel", "current-epoch", str(epoch)),
    ]
    return "".join(line(*words) for words in lines)
