"""Server parameters: defaults, which may be set while mongod runs, and its refusals.

Source: mongodb.com/docs/v7.0/reference/parameters. ``journalCommitInterval`` and the like follow their key in mongod.conf.
"""

from collections.abc import Mapping
from typing import Any

from .errors import Refused

Value = bool | int | float | str

RUNTIME: Mapping[str, Value] = {
    "allowDiskUseByDefault": True,
    "cursorTimeoutMillis": 600000,
    "enableFlowControl": True,
    "flowControlTargetLagSeconds": 10,
    "internalQueryMaxBlockingSortMemoryUsageBytes": 104857600,
    "journalCommitInterval": 100,
    "logLevel": 0,
    "maxIndexBuildMemoryUsageMegabytes": 200,
    "maxTransactionLockRequestTimeoutMillis": 5,
    "minSnapshotHistoryWindowInSeconds": 300,
    "notablescan": False,
    "quiet": False,
    "shutdownTimeoutMillisForSignaledShutdown": 15000,
    "syncdelay": 60,
    "transactionLifetimeLimitSeconds": 60,
    "ttlMonitorEnabled": True,
    "ttlMonitorSleepSecs": 60,
}
STARTUP: Mapping[str, Value] = {
    "enableLocalhostAuthBypass": True,
    "enableTestCommands": False,
    "localLogicalSessionTimeoutMinutes": 30,
    "disableLogicalSessionCacheRefresh": False,
    "maxSessions": 1000000,
}
FROM_CONFIG = {
    "systemLog.verbosity": "logLevel",
    "systemLog.quiet": "quiet",
    "storage.syncPeriodSecs": "syncdelay",
    "storage.journal.commitIntervalMs": "journalCommitInterval",
}
GENERIC = frozenset({"lsid", "$db", "$clusterTime", "$readPreference", "comment", "maxTimeMS", "apiVersion", "writeConcern", "readConcern"})
_CACHE = "wiredTigerEngineRuntimeConfig"


def _taken(name: str, default: Value, value: Any) -> Value:
    if isinstance(default, bool):
        if isinstance(value, str):
            return value.lower() in ("true", "1")
        return bool(value)
    try:
        number = type(default)(value)
    except (TypeError, ValueError):
        raise Refused(2, f"Invalid value for {name}: {value!r}") from None
    if isinstance(number, int | float) and number < 0:
        raise Refused(2, f"Invalid value for parameter {name}: {value} is not greater than or equal to 0")
    return number


class Parameters:
    def __init__(self, values: Mapping[str, Any]) -> None:
        """From the options. Raises Refused for an unknown ``setParameter``."""
        self.known: dict[str, Value] = dict(RUNTIME) | dict(STARTUP)
        self.cache_bytes = int(float(values.get("storage.wiredTiger.engineConfig.cacheSizeGB", 0.25)) * 1024) * 1024**2
        self.slow_ms = int(values.get("operationProfiling.slowOpThresholdMs", 100))
        for key, name in FROM_CONFIG.items():
            if key in values:
                self.known[name] = _taken(name, self.known[name], values[key])
        for key, value in values.items():
            section, _, name = key.partition(".")
            if section == "setParameter":
                if name not in self.known:
                    raise Refused(2, f'Unknown --setParameter "{name}"')
                self.known[name] = _taken(name, self.known[name], value)

    def get(self, document: Mapping[str, Any]) -> dict[str, Any]:
        wanted = document["getParameter"]
        names = [name for name in document if name != "getParameter" and name not in GENERIC]
        if wanted == "*" or (isinstance(wanted, Mapping) and wanted.get("allParameters")):
            return dict(self.known) | {"ok": 1.0}
        found = {name: self.known[name] for name in names if name in self.known}
        if not found:
            raise Refused(72, "no option found to get")
        return found | {"ok": 1.0}

    def set(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """All are checked before any is set. Raises Refused."""
        named = {name: value for name, value in document.items() if name != "setParameter" and name not in GENERIC}
        if not named:
            raise Refused(72, "no option found to set, use help:true to see options ")
        taken: dict[str, Value] = {}
        for name, value in named.items():
            if name == _CACHE:
                continue
            if name in STARTUP:
                raise Refused(20, f"not allowed to change [{name}] at runtime")
            if name not in RUNTIME:
                raise Refused(72, f"attempted to set unrecognized parameter [{name}], use help:true to see options ")
            taken[name] = _taken(name, RUNTIME[name], value)
        if _CACHE in named:
            self._cache(str(named[_CACHE]))
        was = next((self.known[name] for name in taken), "")
        self.known |= taken
        return {"was": was, "ok": 1.0}

    def _cache(self, text: str) -> None:
        size = text.removeprefix("cache_size=")
        units = {"M": 1024**2, "G": 1024**3}
        if size == text or size[-1:] not in units or not size[:-1].isdecimal():
            raise Refused(2, f"WiredTiger reconfiguration failed: {text}")
        self.cache_bytes = int(size[:-1]) * units[size[-1]]
