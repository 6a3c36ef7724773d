"""mongod's flags and mongod.conf: what it takes, and the refusals it ends with."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Values = dict[str, Any]

VERSION = os.environ.get("MONGO_VERSION", "7.0.14")  # the official image sets it too

# Keys of mongod.conf that a 7.0 takes, without setParameter's: mongodb.com/docs/v7.0/reference/configuration-options
KEYS = frozenset(
    {
        "net.port",
        "net.bindIp",
        "net.bindIpAll",
        "net.ipv6",
        "net.maxIncomingConnections",
        "net.wireObjectCheck",
        "net.compression.compressors",
        "net.unixDomainSocket.enabled",
        "net.unixDomainSocket.pathPrefix",
        "net.unixDomainSocket.filePermissions",
        "net.tls.mode",
        "net.tls.certificateKeyFile",
        "net.tls.CAFile",
        "net.tls.allowConnectionsWithoutCertificates",
        "operationProfiling.mode",
        "operationProfiling.slowOpThresholdMs",
        "operationProfiling.slowOpSampleRate",
        "operationProfiling.filter",
        "replication.replSetName",
        "replication.oplogSizeMB",
        "replication.enableMajorityReadConcern",
        "security.authorization",
        "security.keyFile",
        "security.clusterAuthMode",
        "security.javascriptEnabled",
        "security.transitionToAuth",
        "storage.dbPath",
        "storage.engine",
        "storage.directoryPerDB",
        "storage.syncPeriodSecs",
        "storage.oplogMinRetentionHours",
        "storage.journal.commitIntervalMs",
        "storage.wiredTiger.engineConfig.cacheSizeGB",
        "storage.wiredTiger.engineConfig.journalCompressor",
        "storage.wiredTiger.engineConfig.directoryForIndexes",
        "storage.wiredTiger.engineConfig.configString",
        "storage.wiredTiger.engineConfig.zstdCompressionLevel",
        "storage.wiredTiger.collectionConfig.blockCompressor",
        "storage.wiredTiger.collectionConfig.configString",
        "storage.wiredTiger.indexConfig.prefixCompression",
        "storage.wiredTiger.indexConfig.configString",
        "systemLog.verbosity",
        "systemLog.quiet",
        "systemLog.traceAllExceptions",
        "systemLog.destination",
        "systemLog.path",
        "systemLog.logAppend",
        "systemLog.logRotate",
        "systemLog.timeStampFormat",
        "systemLog.syslogFacility",
        "processManagement.fork",
        "processManagement.pidFilePath",
        "processManagement.timeZoneInfo",
    }
)
FLAGS = {
    "dbpath": "storage.dbPath",
    "port": "net.port",
    "bind_ip": "net.bindIp",
    "replSet": "replication.replSetName",
    "keyFile": "security.keyFile",
    "wiredTigerCacheSizeGB": "storage.wiredTiger.engineConfig.cacheSizeGB",
    "oplogSize": "replication.oplogSizeMB",
    "maxConns": "net.maxIncomingConnections",
    "slowms": "operationProfiling.slowOpThresholdMs",
}
SWITCHES = {"bind_ip_all": "net.bindIpAll", "ipv6": "net.ipv6", "auth": "security.authorization", "quiet": "systemLog.quiet"}
_COMPONENT = re.compile(r"systemLog\.component\.[A-Za-z.]+\.verbosity")
_NUMBERS = {
    "net.port": (int, 0, 65535),
    "net.maxIncomingConnections": (int, 10, 1_000_000),
    "operationProfiling.slowOpThresholdMs": (int, 0, 2**31),
    "replication.oplogSizeMB": (int, 1, 2**31),
    "storage.journal.commitIntervalMs": (int, 1, 500),
    "storage.syncPeriodSecs": (float, 0, 9 * 10**6),
    "storage.wiredTiger.engineConfig.cacheSizeGB": (float, 0.25, 10000),
    "systemLog.verbosity": (int, 0, 5),
}


class Bad(Exception):
    """mongod would not start; ``status`` is its exit status."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Values:
    found: Values = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def _file(path: str) -> Values:
    try:
        tree = yaml.safe_load(Path(path).read_text()) or {}
    except OSError as error:
        raise Bad(f"Error opening config file: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise Bad(f"Error parsing YAML config file: {error}") from error
    if not isinstance(tree, Mapping):
        raise Bad("Error parsing YAML config file: not a mapping")
    return _flat(tree)


def _flags(argv: list[str]) -> Values:
    found: Values = {}
    words = iter(argv)
    for word in words:
        if not word.startswith("--"):
            if word != "-f":
                raise Bad(f"Error parsing command line: too many positional options have been specified on the command line: {word}")
            word = "--config"
        name, given, value = word[2:].partition("=")
        if name in SWITCHES:
            found[SWITCHES[name]] = "enabled" if name == "auth" else True
            continue
        if name not in FLAGS and name not in ("config", "setParameter"):
            raise Bad(f"Error parsing command line: unrecognised option '--{name}'")
        value = value if given else next(words, "")
        if name == "setParameter":
            parameter, _, value = value.partition("=")
            found[f"setParameter.{parameter}"] = value
        else:
            found[FLAGS.get(name, name)] = value
    return found


def _number(key: str, value: Any) -> float | int:
    kind, least, most = _NUMBERS[key]
    try:
        number: float | int = float(value) if kind is float else int(value)
    except (TypeError, ValueError):
        raise Bad(f'Error parsing option "{key}" as {kind.__name__}: bad value {value!r}') from None
    if isinstance(value, bool) or not least <= number <= most:
        raise Bad(f"BadValue: {key} must be between {least} and {most}", 1)
    return number


def check_key_file(path: str) -> None:
    """mongod's own rules for a key file: security_file.cpp and security_key.cpp. Raises Bad."""
    try:
        mode = Path(path).stat().st_mode
        text = Path(path).read_text()
    except OSError as error:
        raise Bad(f"Unable to acquire security key: {path}: {error.strerror}", 1) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Bad(f"permissions on {path} are too open", 1)
    key = "".join(text.split())
    if not re.fullmatch(r"[A-Za-z0-9+/=]*", key):
        raise Bad(f"invalid char in key file {path}", 1)
    if not 6 <= len(key) <= 1024:
        raise Bad(f"security key in {path} has length {len(key)}, must be between 6 and 1024 chars", 1)


def read(argv: list[str]) -> Values:
    """Dotted keys and their values, flags before the file. Raises Bad."""
    flags = _flags(argv)
    values = (_file(str(flags.pop("config"))) if "config" in flags else {}) | flags
    for key in sorted(values):
        if key not in KEYS and not key.startswith("setParameter.") and not _COMPONENT.fullmatch(key):
            raise Bad(f"Unrecognized option: {key}")
        if key in _NUMBERS:
            values[key] = _number(key, values[key])
    if values.get("security.keyFile"):
        check_key_file(str(values["security.keyFile"]))
        values["security.authorization"] = "enabled"  # implied: mongodb.com/docs/manual/reference/program/mongod, --keyFile
    return {"net.port": 27017, "storage.dbPath": "/data/db", "net.bindIp": "localhost"} | values
