"""The redis.conf directives that a running server takes by CONFIG SET, with their kinds and compiled-in defaults.

What stands here is changed live and, once removed from the spec, set back to its default; every other directive
needs a new start, where the file alone decides. A directive is here only if its default is the same in every version
from 6.2 on and CONFIG GET shows it in a form that can be compared. Source: ``static_configs`` in Redis' src/config.c.
"""

import re
from typing import Any

from msgspec import Struct

_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
_MEMORY = re.compile(r"([0-9]+)([a-z]*)")
_EVENTS = "g$lshzxetd"  # what the letter A stands for
_LARGEST = 2**31 - 1


class Number(Struct, frozen=True):
    default: int
    least: int = 0
    most: int = _LARGEST

    def canonical(self, value: str) -> str:
        if not re.fullmatch(r"-?[0-9]{1,18}", value) or not self.least <= int(value) <= self.most:
            raise ValueError(f"must be a whole number from {self.least} to {self.most}")
        return str(int(value))


class Memory(Struct, frozen=True):
    """Bytes. ``k m g`` are powers of 1000 and ``kb mb gb`` of 1024, in any case."""

    default: int
    least: int = 0

    def canonical(self, value: str) -> str:
        match = _MEMORY.fullmatch(value.lower())
        if match is None or match[2] not in _UNITS:
            raise ValueError("must be a size in bytes, or one with a unit: 64mb, 2gb")
        size = int(match[1]) * _UNITS[match[2]]
        if not self.least <= size < 2**63:
            raise ValueError(f"must be a size of at least {self.least} bytes, below 8 EiB")
        return str(size)


class Choice(Struct, frozen=True):
    default: str
    values: tuple[str, ...]

    def canonical(self, value: str) -> str:
        if value.lower() not in self.values:
            raise ValueError(f"must be one of {', '.join(self.values)}")
        return value.lower()


class Events(Struct, frozen=True):
    """Classes of keyspace events; ``A`` stands for most of them, and the order of letters means nothing."""

    default: str = ""

    def canonical(self, value: str) -> str:
        letters = set(value.replace("A", _EVENTS))
        if not letters <= set(f"KE{_EVENTS}mn"):
            raise ValueError("must be letters of K E g $ l s h z x e t d m n A, or empty")
        return "".join(letter for letter in f"{_EVENTS}KEmn" if letter in letters)


class Save(Struct, frozen=True):
    """Pairs of seconds and changes; empty: no snapshots."""

    default: str = "3600 1 300 100 60 10000"

    def canonical(self, value: str) -> str:
        words = value.replace('""', "").split()
        if len(words) % 2 or not all(re.fullmatch(r"[0-9]{1,9}", word) for word in words) or "0" in words[::2]:
            raise ValueError('must be pairs of seconds and changes ("900 1 300 10"), or empty for no snapshots')
        return " ".join(str(int(word)) for word in words)


class Buffers(Struct, frozen=True):
    """``client-output-buffer-limit``: of each class of clients a hard limit, a soft one, and for how many seconds that may be passed.

    A class that is not named keeps its default. Redis shows replicas under their old name.
    """

    default: str = "normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60"

    def canonical(self, value: str) -> str:
        limits = self._limits(self.default) | self._limits(value)
        return " ".join(f"{kind} {hard} {soft} {seconds}" for kind, (hard, soft, seconds) in limits.items())

    @staticmethod
    def _limits(value: str) -> dict[str, tuple[str, str, str]]:
        words = value.lower().replace("replica", "slave").split()
        groups = list(zip(*[iter(words)] * 4, strict=False))
        if len(words) % 4 or any(kind not in ("normal", "slave", "pubsub") or not seconds.isdecimal() for kind, _, _, seconds in groups):
            raise ValueError("must be groups of four: normal, replica or pubsub, a hard limit, a soft limit, seconds")
        size = Memory(0)
        return {kind: (size.canonical(hard), size.canonical(soft), str(int(seconds))) for kind, hard, soft, seconds in groups}


Kind = Number | Memory | Choice | Events | Save | Buffers


def _switch(*, default: bool) -> Choice:
    return Choice("yes" if default else "no", ("yes", "no"))


_MEBIBYTE = 1024**2
_LRU = tuple(f"{keys}-{how}" for keys in ("volatile", "allkeys") for how in ("lru", "lfu", "random"))

LIVE: dict[str, Kind] = {
    "acllog-max-len": Number(128),
    "active-expire-effort": Number(1, 1, 10),
    "activedefrag": _switch(default=False),
    "activerehashing": _switch(default=True),
    "aof-load-truncated": _switch(default=True),
    "aof-rewrite-incremental-fsync": _switch(default=True),
    "aof-use-rdb-preamble": _switch(default=True),
    "appendfsync": Choice("everysec", ("always", "everysec", "no")),
    "appendonly": _switch(default=False),
    "auto-aof-rewrite-min-size": Memory(64 * _MEBIBYTE),
    "auto-aof-rewrite-percentage": Number(100),
    "client-output-buffer-limit": Buffers(),
    "client-query-buffer-limit": Memory(1024 * _MEBIBYTE, _MEBIBYTE),
    "dynamic-hz": _switch(default=True),
    "hll-sparse-max-bytes": Memory(3000),
    "hz": Number(10, 1, 500),
    "jemalloc-bg-thread": _switch(default=True),
    "latency-monitor-threshold": Number(0),
    "lazyfree-lazy-eviction": _switch(default=False),
    "lazyfree-lazy-expire": _switch(default=False),
    "lazyfree-lazy-server-del": _switch(default=False),
    "lazyfree-lazy-user-del": _switch(default=False),
    "lazyfree-lazy-user-flush": _switch(default=False),
    "lfu-decay-time": Number(1),
    "lfu-log-factor": Number(10),
    "list-compress-depth": Number(0),
    "loglevel": Choice("notice", ("debug", "verbose", "notice", "warning")),
    "maxmemory": Memory(0),
    "maxmemory-eviction-tenacity": Number(10, 0, 100),
    "maxmemory-policy": Choice("noeviction", ("noeviction", "volatile-ttl", *_LRU)),
    "maxmemory-samples": Number(5, 1, 64),
    "min-replicas-max-lag": Number(10),
    "min-replicas-to-write": Number(0, 0, 9),
    "no-appendfsync-on-rewrite": _switch(default=False),
    "notify-keyspace-events": Events(),
    "proto-max-bulk-len": Memory(512 * _MEBIBYTE, _MEBIBYTE),
    "rdb-save-incremental-fsync": _switch(default=True),
    "rdbcompression": _switch(default=True),
    "repl-backlog-size": Memory(_MEBIBYTE, 16384),
    "repl-backlog-ttl": Number(3600),
    "repl-disable-tcp-nodelay": _switch(default=False),
    "repl-diskless-sync-delay": Number(5),
    "repl-ping-replica-period": Number(10, 1),
    "repl-timeout": Number(60, 1),
    "replica-ignore-maxmemory": _switch(default=True),
    "replica-lazy-flush": _switch(default=False),
    "replica-serve-stale-data": _switch(default=True),
    "save": Save(),
    "set-max-intset-entries": Number(512),
    "slowlog-log-slower-than": Number(10000, -1),
    "slowlog-max-len": Number(128),
    "stop-writes-on-bgsave-error": _switch(default=True),
    "stream-node-max-bytes": Memory(4096),
    "stream-node-max-entries": Number(100),
    "tcp-keepalive": Number(300),
    "timeout": Number(0),
    "tracking-table-max-keys": Number(1_000_000),
}


def default(name: str) -> str:
    """The compiled-in default in its canonical form."""
    return LIVE[name].canonical(str(LIVE[name].default))


def changed(answer: dict[str, Any]) -> dict[str, str]:
    """Of an answer to ``CONFIG GET *``: the live directives that stand otherwise than compiled in, canonical, sorted."""
    found = {}
    for name in LIVE:
        value = answer.get(name)
        if value is None:
            continue
        try:
            canonical = LIVE[name].canonical(str(value))
        except ValueError:
            canonical = str(value)
        if canonical != default(name):
            found[name] = canonical
    return found
