"""The Database object as read from the API server, and the same with its defaults filled in."""

from typing import Any

import msgspec
from msgspec import Struct, field

from database_operator.api.spec import (
    DatabaseSpec,
    ElasticsearchSpec,
    EngineType,
    MongoDBSpec,
    PostgreSQLSpec,
    RedisMode,
    RedisSpec,
    SQLiteSpec,
)
from database_operator.api.status import DatabaseStatus

GROUP = "databases.database-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Database"
PLURAL = "databases"
PREFIX = f"{GROUP}/"  # of our labels and annotations
FINALIZER = f"{PREFIX}finalizer"


class Metadata(Struct, frozen=True, rename="camel", kw_only=True):
    """The part of ``metadata`` that a pass looks at."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()


class Stored(Struct, frozen=True, kw_only=True):
    """A Database as stored. ``spec`` stays raw: what slipped past admission must not stop the watch."""

    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: msgspec.Raw = msgspec.Raw(b"{}")


class Database(Struct, frozen=True, kw_only=True):
    """A Database whose spec has the right types; ``Resolved`` once defaults are filled in."""

    metadata: Metadata
    spec: DatabaseSpec
    status: DatabaseStatus = field(default_factory=DatabaseStatus)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def type(self) -> EngineType:
        return self.spec.type


class Resolved(Database, frozen=True, kw_only=True):
    """A Database with every default filled in: the section of its type is there, and ``redis.mode`` and the like are set."""

    @property
    def postgresql(self) -> PostgreSQLSpec:
        return self.spec.postgresql or PostgreSQLSpec()

    @property
    def mongodb(self) -> MongoDBSpec:
        return self.spec.mongodb or MongoDBSpec()

    @property
    def redis(self) -> RedisSpec:
        return self.spec.redis or RedisSpec()

    @property
    def elasticsearch(self) -> ElasticsearchSpec:
        return self.spec.elasticsearch or ElasticsearchSpec()

    @property
    def sqlite(self) -> SQLiteSpec:
        return self.spec.sqlite or SQLiteSpec()


def decode(stored: Stored) -> Database:
    """The typed Database.

    Raises ``msgspec.ValidationError`` naming the field (condition InvalidSpec; not retried until the spec changes).
    A status that was forged or is of another version counts as none: it is never believed, only compared.
    """
    spec = msgspec.json.decode(stored.spec, type=DatabaseSpec)
    try:
        status = msgspec.json.decode(stored.status, type=DatabaseStatus)
    except msgspec.ValidationError:
        status = DatabaseStatus()
    return Database(metadata=stored.metadata, spec=spec, status=status)


def resolve(database: Database) -> Resolved:
    """``database`` with its defaults: pure, never written back."""
    spec = database.spec
    sections: dict[str, Any] = {}
    match spec.type:
        case EngineType.POSTGRESQL:
            sections["postgresql"] = spec.postgresql or PostgreSQLSpec()
        case EngineType.MONGODB:
            sections["mongodb"] = spec.mongodb or MongoDBSpec()
        case EngineType.REDIS:
            redis = spec.redis or RedisSpec()
            mode = redis.mode or (RedisMode.SENTINEL if spec.replicas > 1 else RedisMode.STANDALONE)
            sections["redis"] = msgspec.structs.replace(redis, mode=mode, shards=redis.shards or 3)
        case EngineType.ELASTICSEARCH:
            elasticsearch = spec.elasticsearch or ElasticsearchSpec()
            name = elasticsearch.cluster_name or database.name
            sections["elasticsearch"] = msgspec.structs.replace(elasticsearch, cluster_name=name)
        case EngineType.SQLITE:
            sqlite = spec.sqlite or SQLiteSpec()
            file = sqlite.database_file if sqlite.database_file.startswith("/") else f"/data/{sqlite.database_file}"
            sections["sqlite"] = msgspec.structs.replace(sqlite, database_file=file)
    return Resolved(metadata=database.metadata, spec=msgspec.structs.replace(spec, **sections), status=database.status)
