"""What the bounds of single fields cannot say: each rule once as CEL, for admission, and once in Python, for the operator.

``Rule`` looks at one object, ``Fixed`` compares with the stored one. ``api.schema`` writes both into the CRD, where
the API server evaluates them; ``api.validation`` runs the Python side of ``Rule`` on what slipped past.
"""

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from database_operator.api import quantity
from database_operator.api.database import PREFIX, Database
from database_operator.api.spec import (
    DatabaseSpec,
    EngineType,
    EnvVar,
    PodsSpec,
    PostgreSQLSpec,
    PublishedService,
    RedisMode,
    ResourcesSpec,
    ServiceType,
    SQLiteSpec,
    StorageSpec,
    Synchronous,
)


class Rule(Struct, frozen=True):
    """Holds for every valid object of its Struct. ``field`` is the path below it, as users write it."""

    field: str
    message: str  # the whole sentence but the field's path, which is put before it
    cel: str
    holds: Callable[[Any], bool]


class Fixed(Struct, frozen=True):
    """``spec.<field>`` is set once. ``value`` is a CEL expression of ``{self}`` with the default where it was left out."""

    field: str
    value: str
    hint: str = "set it back, or create another Database and move the data"


NAME_LIMIT = 52  # build.names: a StatefulSet's name that leaves its pods room for controller-revision-hash
NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"  # a DNS-1035 label: Services are named after the Database


def _at_most(request: str | None, limit: str | None) -> bool:
    return request is None or limit is None or quantity.parse(request) <= quantity.parse(limit)


def _at_least_a_mebibyte(size: str | None) -> bool:
    return size is None or quantity.parse(size) >= quantity.MEBIBYTE


MINIMUM = "must be at least 1Mi: without a suffix it counts bytes"


def _minimum(field: str, attribute: str) -> Rule:
    cel = f"!has(self.{field}) || !isQuantity(self.{field}) || quantity(self.{field}).compareTo(quantity('1Mi')) >= 0"
    return Rule(field, MINIMUM, cel, lambda part: _at_least_a_mebibyte(getattr(part, attribute)))


def _limit(request: str, limit: str, limit_attribute: str) -> Rule:
    absent = f"!has(self.{request}) || !has(self.{limit}) || !isQuantity(self.{request}) || !isQuantity(self.{limit})"
    cel = f"{absent} || quantity(self.{request}).compareTo(quantity(self.{limit})) <= 0"
    message = f"is a request and must not be above {limit}: lower it or raise the limit"
    return Rule(request, message, cel, lambda part: _at_most(getattr(part, request), getattr(part, limit_attribute)))


def _section(field: str, engine: EngineType) -> Rule:
    return Rule(
        field,
        f"is only for type {engine.value}: remove it or correct spec.type",
        f"!has(self.{field}) || self.type == '{engine.value}'",
        lambda spec: getattr(spec, field) is None or spec.type is engine,
    )


def _sixty_three_bytes(field: str) -> Rule:
    return Rule(
        field,
        "must be at most 63 bytes: PostgreSQL cuts longer names",
        f"!has(self.{field}) || bytes(self.{field}).size() <= 63",
        lambda part: len(getattr(part, field).encode()) <= 63,
    )


def _redis_mode(spec: DatabaseSpec) -> RedisMode | None:
    return spec.redis.mode if spec.redis else None


def _shards(spec: DatabaseSpec) -> int | None:
    return spec.redis.shards if spec.redis else None


MODE = "self.?redis.?mode.orValue('')"

SPEC_RULES = (
    Rule(
        "replicas",
        "must be 0 or 1: SQLite is one file written by one process",
        "self.type != 'SQLite' || self.replicas <= 1",
        lambda spec: spec.type is not EngineType.SQLITE or spec.replicas <= 1,
    ),
    Rule(
        "replicas",
        "must be 0 or 1 while redis.mode is standalone: set redis.mode to sentinel for a highly available Redis, or to cluster for shards",
        f"{MODE} != 'standalone' || self.replicas <= 1",
        lambda spec: _redis_mode(spec) is not RedisMode.STANDALONE or spec.replicas <= 1,
    ),
    Rule(
        "replicas",
        "must be 0 or at least 3 while redis.mode is cluster: a Redis Cluster has at least 3 primaries",
        f"{MODE} != 'cluster' || self.replicas == 0 || self.replicas >= 3",
        lambda spec: _redis_mode(spec) is not RedisMode.CLUSTER or spec.replicas == 0 or spec.replicas >= 3,
    ),
    Rule(
        "redis.shards",
        "is only for redis.mode cluster: remove it or set the mode",
        f"!has(self.redis) || !has(self.redis.shards) || {MODE} == 'cluster'",
        lambda spec: _shards(spec) is None or _redis_mode(spec) is RedisMode.CLUSTER,
    ),
    Rule(
        "redis.shards",
        "must not be above replicas: every shard needs a member as its primary",
        "self.replicas == 0 || self.?redis.?shards.orValue(0) <= self.replicas",
        lambda spec: spec.replicas == 0 or (_shards(spec) or 0) <= spec.replicas,
    ),
    Rule(
        "postgresql.synchronous",
        "must not be Required with 1 replica, where no write could be confirmed: use Preferred, or at least 2 replicas",
        "self.?postgresql.?synchronous.orValue('') != 'Required' || self.replicas != 1",
        lambda spec: not spec.postgresql or spec.postgresql.synchronous is not Synchronous.REQUIRED or spec.replicas != 1,
    ),
    Rule(
        "service.readOnly",
        "is only for PostgreSQL, MongoDB and Redis: every member of the others takes writes; remove it",
        "!has(self.service) || !has(self.service.readOnly) || self.type in ['PostgreSQL', 'MongoDB', 'Redis']",
        lambda spec: spec.service.read_only is None or spec.type not in (EngineType.ELASTICSEARCH, EngineType.SQLITE),
    ),
    _section("postgresql", EngineType.POSTGRESQL),
    _section("mongodb", EngineType.MONGODB),
    _section("redis", EngineType.REDIS),
    _section("elasticsearch", EngineType.ELASTICSEARCH),
    _section("sqlite", EngineType.SQLITE),
)

RESERVED_LABELS = ("app", "database-type")
LABEL_PREFIXES = ("app.kubernetes.io/", PREFIX)


def _reserved_labels(label_map: str) -> str:
    names = " || ".join([f"k == '{name}'" for name in RESERVED_LABELS] + [f"k.startsWith('{prefix}')" for prefix in LABEL_PREFIXES])
    return f"!has(self.{label_map}) || self.{label_map}.all(k, !({names}))"


def _free_of(names: tuple[str, ...], prefixes: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda keys: not any(key in names or key.startswith(prefixes) for key in keys)


_LABELS = Rule(
    "labels",
    f"must not hold app, database-type, app.kubernetes.io/* or {PREFIX}*: the operator selects by them; choose other names",
    _reserved_labels("labels"),
    lambda part: _free_of(RESERVED_LABELS, LABEL_PREFIXES)(part.labels),
)
_ANNOTATIONS = Rule(
    "annotations",
    f"must not hold {PREFIX}*, which belongs to the operator: choose other names",
    f"!has(self.annotations) || self.annotations.all(k, !k.startsWith('{PREFIX}'))",
    lambda part: _free_of((), (PREFIX,))(part.annotations),
)


def _published(field: str, attribute: str, types: tuple[ServiceType, ...]) -> Rule:
    words = [service_type.value for service_type in types]
    return Rule(
        field,
        f"is only for type {' or '.join(words)}: remove it or set the type",
        f"!has(self.{field}) || self.?type.orValue('ClusterIP') in {words}",
        lambda part: not getattr(part, attribute) or part.type in types,
    )


_BALANCED, _OPEN = (ServiceType.LOAD_BALANCER,), (ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER)

RULES: dict[type, tuple[Rule, ...]] = {
    Database: (
        Rule(
            "metadata.name",
            f"must be at most {NAME_LIMIT} characters, a-z, 0-9 and '-', with a letter first and no '-' last: Services are named after it",
            f"size(self.metadata.name) <= {NAME_LIMIT} && self.metadata.name.matches('{NAME}')",
            lambda database: len(database.name) <= NAME_LIMIT and re.fullmatch(NAME, database.name) is not None,
        ),
    ),
    DatabaseSpec: SPEC_RULES,
    StorageSpec: (_minimum("size", "size"),),
    ResourcesSpec: (
        _limit("cpu", "cpuLimit", "cpu_limit"),
        _limit("memory", "memoryLimit", "memory_limit"),
        _minimum("memory", "memory"),
        _minimum("memoryLimit", "memory_limit"),
    ),
    PostgreSQLSpec: (_sixty_three_bytes("database"), _sixty_three_bytes("username")),
    SQLiteSpec: (
        Rule(
            "databaseFile",
            "must stay under /data: no '.' or '..' in its path",
            "!has(self.databaseFile) || self.databaseFile.split('/').all(part, part != '.' && part != '..')",
            lambda part: not {".", ".."} & set(part.database_file.split("/")),
        ),
    ),
    EnvVar: (
        Rule(
            "",
            "must have one of value and valueFrom, not both: remove one",
            "!has(self.value) || !has(self.valueFrom)",
            lambda part: part.value is None or part.value_from is None,
        ),
    ),
    PodsSpec: (_LABELS, _ANNOTATIONS),
    PublishedService: (
        _LABELS,
        _ANNOTATIONS,
        _published("nodePort", "node_port", _OPEN),
        _published("externalTrafficPolicy", "external_traffic_policy", _OPEN),
        _published("loadBalancerClass", "load_balancer_class", _BALANCED),
        _published("loadBalancerSourceRanges", "load_balancer_source_ranges", _BALANCED),
    ),
}


def _value(path: str, default: str) -> str:
    """CEL for ``path`` below ``{self}``, or ``default``. Written out: the API server cannot price ``.?field.orValue()``."""
    parts = path.split(".")
    present = " && ".join(f"has({{self}}.{'.'.join(parts[: end + 1])})" for end in range(len(parts)) if parts[: end + 1] != ["spec"])
    return f"({present} ? {{self}}.{path} : {default})"


FIXED = (
    Fixed("type", "{self}.type"),
    # '*' is no name: left out differs from every class, and from none
    Fixed("storage.storageClassName", _value("storage.storageClassName", "'*'")),
    Fixed("storage.accessMode", _value("storage.accessMode", "'ReadWriteOnce'")),
    Fixed("postgresql.database", _value("postgresql.database", "'postgres'")),
    Fixed("postgresql.username", _value("postgresql.username", "'postgres'")),
    Fixed("mongodb.database", _value("mongodb.database", "'admin'")),
    Fixed("mongodb.username", _value("mongodb.username", "'root'")),
    Fixed("mongodb.replicaSetName", _value("mongodb.replicaSetName", "'rs0'")),
    Fixed(
        "redis.mode",
        "(" + _value("redis.mode", "''") + " == 'cluster')",
        "a Redis becomes a cluster, or stops being one, only as another Database: set it back, or create that and move the data",
    ),
    Fixed("sqlite.databaseFile", "('/data/' + " + _value("sqlite.databaseFile", "'database.db'") + ").replace('/data//data/', '/data/')"),
)
CLUSTER_NAME = Fixed("elasticsearch.clusterName", _value("spec.elasticsearch.clusterName", "{self}.metadata.name"))

DEFAULT_SIZE = StorageSpec().size
SIZE = _value("storage.size", f"'{DEFAULT_SIZE}'")
SHRINKING = f"must not shrink, and left out it counts as {DEFAULT_SIZE}: volumes only grow. Set the earlier size or a larger one"
