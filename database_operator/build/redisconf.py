"""Lines of redis.conf, sentinel.conf and the ACL file, written so that no value leaves its line. Pure.

Quoting is that of ``sdssplitargs`` in Redis' sds.c: a word in double quotes knows ``\\n \\r \\t \\a \\b \\xHH``, and a
backslash before any other character means that character.
"""

import hashlib
import re
from collections.abc import Iterable

from msgspec import Struct

SETTINGS_FILE = "redis.conf"  # in the settings ConfigMap: what holds no secret
AGENT_FILE = "agent.json"  # likewise: an AgentSettings
MASTER_NAME = "mymaster"  # by which Sentinel knows the primary

_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=*&~-]+")
_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", 10: "\\n", 13: "\\r", 9: "\\t"}

# Directives that take several words, and how many belong to one line of theirs (0: all of them).
_WORDS = {
    "save": 2,
    "client-output-buffer-limit": 4,
    "oom-score-adj-values": 0,
    "latency-tracking-info-percentiles": 0,
    "shutdown-on-sigterm": 0,
    "shutdown-on-sigint": 0,
}


class AgentSettings(Struct, frozen=True, rename="camel"):
    """What the agent in the pods is told besides redis.conf. Hosts are whole DNS names without a final dot."""

    mode: str
    workload: str  # pods are <workload>-<ordinal>
    members: str  # host of the headless Service: <pod>.<members> is a member
    sentinels: str  # likewise of the Sentinels
    replicas: int
    master: str = MASTER_NAME
    formed: bool = False  # some volume has held data: an empty one is then no beginning, but a loss


def quoted(word: str) -> str:
    """``word`` as one word of a configuration line, whatever characters it holds."""
    if _BARE.fullmatch(word):
        return word
    return '"' + "".join(_escaped(byte) for byte in word.encode()) + '"'


def _escaped(byte: int) -> str:
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    return chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"


def line(*words: str) -> str:
    return " ".join(quoted(word) for word in words) + "\n"


def directive(name: str, value: str) -> str:
    """The line or lines of one parameter.

    A value is one word, but for the few directives that take several: those are split at white space, and the ones
    that list groups (``save``, ``client-output-buffer-limit``) get one line a group, which Redis 6.2 demands.
    """
    if name not in _WORDS:
        return line(name, value)
    words = value.split()
    if not words:
        return line(name, "")
    size = _WORDS[name] or len(words)
    return "".join(line(name, *words[start : start + size]) for start in range(0, len(words), size))


def user(name: str, passwords: Iterable[str], *rules: str) -> str:
    """An ACL user who may log in with any of ``passwords``, of which only the SHA-256 is written down."""
    hashes = [f"#{password_hash(password)}" for password in passwords]
    return " ".join(["user", name, "on", *hashes, *rules]) + "\n"


def password_hash(password: str) -> str:
    """What ``ACL GETUSER`` shows of a password: hexadecimal SHA-256."""
    return hashlib.sha256(password.encode()).hexdigest()
