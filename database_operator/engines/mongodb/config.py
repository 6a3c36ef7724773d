"""mongod.conf from the user's parameters, and what is wrong with a spec. Pure."""

import math
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from database_operator.api import quantity
from database_operator.api.database import Resolved
from database_operator.api.refusals import Problem, effective, find, refused, refused_env
from database_operator.build.scalar import scalar
from database_operator.engines.mongodb.refusals import OWNED_ENV, OWNED_PARAMETERS

PORT = 27017
DATA_PATH = "/data/db"
RUN_PATH = "/run/database"  # an emptyDir in memory: mongod refuses a key file with group bits, which Secret volumes have
KEY_FILE = f"{RUN_PATH}/keyfile"
CONFIG_FILE = "mongod.conf"
AGENT_USER = "database-operator-agent"
PARAMETERS_PATH = "spec.mongodb.parameters"
DEFAULT_MEMORY = "512Mi"
MIN_CACHE_GB = 0.25  # mongod's own least: mongodb.com/docs/manual/reference/program/mongod, --wiredTigerCacheSizeGB
MAX_CACHE_GB = 10000.0

BOUNDS = (("cacheSizeGB", f"numbers from {MIN_CACHE_GB} to {MAX_CACHE_GB:.0f}"),)

CACHE = "storage.wiredTiger.engineConfig.cacheSizeGB"
SLOW_MS = "operationProfiling.slowOpThresholdMs"
OPLOG_MB = "replication.oplogSizeMB"

Value = str | int | float | bool

# mongod's options as written on a command line, and the keys of mongod.conf they mean
OPTIONS = {
    "cacheSizeGB": CACHE,
    "wiredTigerCacheSizeGB": CACHE,
    "wiredTigerJournalCompressor": "storage.wiredTiger.engineConfig.journalCompressor",
    "wiredTigerCollectionBlockCompressor": "storage.wiredTiger.collectionConfig.blockCompressor",
    "wiredTigerIndexPrefixCompression": "storage.wiredTiger.indexConfig.prefixCompression",
    "oplogSize": OPLOG_MB,
    "oplogSizeMB": OPLOG_MB,
    "oplogMinRetentionHours": "storage.oplogMinRetentionHours",
    "maxConns": "net.maxIncomingConnections",
    "maxIncomingConnections": "net.maxIncomingConnections",
    "networkMessageCompressors": "net.compression.compressors",
    "ipv6": "net.ipv6",
    "slowms": SLOW_MS,
    "slowOpThresholdMs": SLOW_MS,
    "slowOpSampleRate": "operationProfiling.slowOpSampleRate",
    "syncdelay": "storage.syncPeriodSecs",
    "journalCommitInterval": "storage.journal.commitIntervalMs",
    "notablescan": "setParameter.notablescan",
    "logLevel": "systemLog.verbosity",
    "quiet": "systemLog.quiet",
    "timeStampFormat": "systemLog.timeStampFormat",
    "javascriptEnabled": "security.javascriptEnabled",
}
ALLOWED = frozenset({"security.javascriptEnabled", OPLOG_MB})  # inside sections that are otherwise the operator's
SECTIONS = ("net", "operationProfiling", "replication", "security", "setParameter", "storage", "systemLog")


class Live(Struct, frozen=True):
    """A key that a running mongod takes: ``parameter`` is the name the agent sets it by, ``default`` what mongod has without it."""

    parameter: str
    default: int | float | bool


# Set at run time as well as at start: mongodb.com/docs/manual/reference/parameters. The agent translates cacheSizeGB
# (wiredTigerEngineRuntimeConfig) and slowms (profile). All else needs a restart.
LIVE = {
    CACHE: Live("cacheSizeGB", MIN_CACHE_GB),
    SLOW_MS: Live("slowms", 100),
    "systemLog.verbosity": Live("logLevel", 0),
    "systemLog.quiet": Live("quiet", False),
    "storage.syncPeriodSecs": Live("syncdelay", 60),
    "storage.journal.commitIntervalMs": Live("journalCommitInterval", 100),
    "setParameter.cursorTimeoutMillis": Live("cursorTimeoutMillis", 600000),
    "setParameter.notablescan": Live("notablescan", False),
    "setParameter.ttlMonitorEnabled": Live("ttlMonitorEnabled", True),
    "setParameter.ttlMonitorSleepSecs": Live("ttlMonitorSleepSecs", 60),
    "setParameter.transactionLifetimeLimitSeconds": Live("transactionLifetimeLimitSeconds", 60),
    "setParameter.maxTransactionLockRequestTimeoutMillis": Live("maxTransactionLockRequestTimeoutMillis", 5),
    "setParameter.maxIndexBuildMemoryUsageMegabytes": Live("maxIndexBuildMemoryUsageMegabytes", 200),
    "setParameter.flowControlTargetLagSeconds": Live("flowControlTargetLagSeconds", 10),
    "setParameter.enableFlowControl": Live("enableFlowControl", True),
    "setParameter.allowDiskUseByDefault": Live("allowDiskUseByDefault", True),
}

_SEGMENT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"([0-9]+)(?:\.([0-9]+))?(?:\.[0-9]+)*(?:[-.].*)?")


def version_of(tag: str) -> tuple[int, int | None] | None:
    """Major and minor of an image tag (``7.0.14-jammy`` -> 7, 0); None: the tag is no version."""
    match = _VERSION.fullmatch(tag)
    return (int(match[1]), int(match[2]) if match[2] else None) if match else None


def cache_gb(memory_limit: str | None) -> float:
    """WiredTiger's cache in GiB: half the memory limit less 256 MiB, at least 256 MiB; the rest is for connections and sorts."""
    mebibytes = quantity.mebibytes(memory_limit or DEFAULT_MEMORY) // 2 - 256
    return max(MIN_CACHE_GB, math.floor(mebibytes / 1024 * 100) / 100)


def _typed(value: str | int) -> Value:
    """The value as mongod.conf's own type, so that a switch is not written as a text."""
    if isinstance(value, str):
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        if re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", value):
            return int(value)
        if re.fullmatch(r"-?[0-9]{1,9}\.[0-9]{1,6}", value):
            return float(value)
    return value


def _live_value(live: Live, value: str | int) -> Value:
    """``value`` in the type of the default. Raises ``ValueError`` for a person."""
    typed = _typed(value)
    if isinstance(live.default, bool):
        if typed in (0, 1):  # True and False too
            return bool(typed)
        raise ValueError("must be true or false")
    if isinstance(typed, bool) or not isinstance(typed, int | float):
        raise ValueError("must be a number")
    if live.parameter == "cacheSizeGB":
        if not MIN_CACHE_GB <= typed <= MAX_CACHE_GB:
            raise ValueError(f"must be between {MIN_CACHE_GB} and {MAX_CACHE_GB:.0f}")
        return round(float(typed), 2)  # mongod keeps whole MiB: what is asked for must be what is read back
    if isinstance(typed, float):
        raise ValueError("must be a whole number")
    return typed


def key_of(name: str) -> str | None:
    """The key of mongod.conf that a parameter's name means; None: no such option."""
    if name in OPTIONS:
        return OPTIONS[name]
    return name if "." in name else None


def chosen(database: Resolved) -> dict[str, str | int]:
    """The user's parameters by their key in mongod.conf, without those that are ignored."""
    keys = {key_of(name) or name: value for name, value in database.mongodb.parameters.items()}
    allowed = {key: value for key, value in keys.items() if key in ALLOWED}
    return dict(sorted((effective(keys, OWNED_PARAMETERS) | allowed).items()))


def live_parameters(database: Resolved) -> dict[str, Value]:
    """What a running mongod must have in force, by the names the agent sets them by; a parameter taken out is back at its default."""
    values: dict[str, Value] = {live.parameter: live.default for live in LIVE.values()}
    values["cacheSizeGB"] = cache_gb(database.spec.resources.memory_limit)
    for key, value in chosen(database).items():
        if key in LIVE:
            values[LIVE[key].parameter] = _live_value(LIVE[key], value)
    return dict(sorted(values.items()))


def restart_parameters(database: Resolved) -> dict[str, Value]:
    """What only a new start takes up."""
    return {key: _typed(value) for key, value in chosen(database).items() if key not in LIVE}


def _yaml(tree: Mapping[str, Any], indent: int = 0) -> list[str]:
    """Block mappings with sorted keys. Scalars are written as JSON, which YAML reads the same: no text leaves its quotes."""
    lines = []
    for key, value in sorted(tree.items()):
        if isinstance(value, Mapping):
            lines += [f"{' ' * indent}{key}:", *_yaml(value, indent + 2)]
        else:
            lines.append(f"{' ' * indent}{key}: {scalar(value)}")
    return lines


def _tree(values: Mapping[str, Value]) -> dict[str, Any]:
    """Dotted keys as nested mappings. Raises ``ValueError`` where a key is a value and a section at once."""
    tree: dict[str, Any] = {}
    for key, value in sorted(values.items()):
        node = tree
        *path, leaf = key.split(".")
        for segment in path:
            node = node.setdefault(segment, {})
            if not isinstance(node, dict):
                raise ValueError(f"{key} lies below a key that has a value")
        if isinstance(node.get(leaf), dict):
            raise ValueError(f"{key} is a section of mongod.conf, not a key")
        node[leaf] = value
    return tree


def mongod_conf(database: Resolved) -> str:
    """The text of mongod.conf: our defaults, then the user's, then what the operator owns.

    Raises ``ValueError`` for a spec that ``problems`` refuses.
    """
    values: dict[str, Value] = {CACHE: cache_gb(database.spec.resources.memory_limit)}
    for key, chosen_value in chosen(database).items():
        values[key] = _live_value(LIVE[key], chosen_value) if key in LIVE else _typed(chosen_value)
    owned: dict[str, Value] = {
        "net.bindIpAll": True,
        "net.port": PORT,
        "net.unixDomainSocket.enabled": False,
        "replication.replSetName": database.mongodb.replica_set_name,
        "security.authorization": "enabled",
        "security.keyFile": KEY_FILE,
        "storage.dbPath": DATA_PATH,
    }
    return "\n".join(_yaml(_tree(values | owned))) + "\n"


def _key_problem(name: str, key: str | None, value: str | int) -> str | None:
    """What is wrong with one parameter that is not refused; None: nothing."""
    if any(character in str(value) for character in "\n\r\0"):
        return "must not hold a line break or NUL"
    if key is None:
        return "is no option of mongod that can be set here; write its key in mongod.conf with dots, or setParameter.<name>"
    if not all(_SEGMENT.fullmatch(segment) for segment in key.split(".")):
        return "is no key of mongod.conf; write it as section.key"
    if key.split(".")[0] not in SECTIONS:
        return f"is in no section that can be set; the sections are {', '.join(SECTIONS)}"
    if key in LIVE:
        try:
            _live_value(LIVE[key], value)
        except ValueError as error:
            return str(error)
    return None


def _parameter_problems(database: Resolved) -> list[Problem]:
    found = []
    names: dict[str, str] = {}
    for name, value in sorted(database.mongodb.parameters.items()):
        key = key_of(name)
        if find(name, OWNED_PARAMETERS) is not None and name not in ALLOWED:
            continue  # said, or ignored, already
        reason = _key_problem(name, key, value)
        if reason is None and key in names:
            reason = f"means the same as {names[key]}; keep one of the two"
        if reason is not None:
            found.append(Problem(f"{PARAMETERS_PATH}.{name}", reason))
        names[key or name] = name
    if not found:
        try:
            mongod_conf(database)
        except ValueError as error:
            found.append(Problem(PARAMETERS_PATH, str(error)))
    return found


def _name_problems(database: Resolved) -> list[Problem]:
    mongodb = database.mongodb
    found = []
    if mongodb.username in (AGENT_USER, "__system"):
        found.append(Problem("spec.mongodb.username", f"{mongodb.username} is reserved; choose another name"))
    if mongodb.database in ("local", "config"):
        found.append(Problem("spec.mongodb.database", f"{mongodb.database} belongs to the replica set itself; choose another name"))
    if not _SET_NAME.fullmatch(mongodb.replica_set_name):
        found.append(Problem("spec.mongodb.replicaSetName", "must be of letters, digits, '_', '-' and '.'"))
    return found


def _version_problems(database: Resolved) -> list[Problem]:
    version = version_of(database.spec.version)
    if version and not 6 <= version[0] <= 8:
        return [Problem("spec.version", "MongoDB 6 to 8 are supported")]
    return []


def problems(database: Resolved) -> list[Problem]:
    """What the schema and CEL cannot say."""
    refusable = {name: value for name, value in database.mongodb.parameters.items() if name not in ALLOWED}
    forbidden = refused(refusable, OWNED_PARAMETERS, PARAMETERS_PATH)
    found = (
        refused_env([variable.name for variable in database.spec.env], OWNED_ENV) + _version_problems(database) + _name_problems(database)
    )
    return found + (forbidden or _parameter_problems(database))
