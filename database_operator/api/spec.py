"""What a user writes under ``spec``: the contract, field by field.

The Structs are the one source of the CRD's schema (``api/schema.py``) and of the decoder: unknown fields are
ignored, so that a rollback of the operator still reads what a newer one accepted. Defaults that are not in the
schema are filled in by ``api.database.resolve``, in memory, and never written back.
"""

from enum import Enum
from typing import Annotated, Any

from msgspec import Meta, Struct, field


def _text(message: str, pattern: str, max_length: int) -> Meta:
    """Bounds of a string whose pattern is explained by ``message`` (``must be ...``) at admission and by the operator."""
    return Meta(min_length=1, max_length=max_length, pattern=pattern, extra={"message": message})


# A quantity in which some digit is not zero. Signs and exponents are refused: nobody means -5Gi or 1e9Gi.
POSITIVE = r"^([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]+\.[0-9]*[1-9][0-9]*)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
Quantity = Annotated[str, _text("must be a positive quantity such as 500m or 2", POSITIVE, 32)]
SIZE = POSITIVE.replace("(m|", "(")  # thousandths of a byte are nobody's wish
Size = Annotated[str, _text("must be a positive size such as 512Mi or 10Gi, or in powers of 1000 as 512M or 10G", SIZE, 32)]
Text = Annotated[str, Meta(max_length=1024)]

SUBDOMAIN = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
ObjectName = Annotated[str, _text("must be an object's name: lower-case letters, digits, '-' and '.'", rf"^{SUBDOMAIN}$", 253)]
ClassName = Annotated[
    str, Meta(max_length=253, pattern=rf"^({SUBDOMAIN})?$", extra={"message": "must be the name of a StorageClass, or empty for none"})
]
SecretKey = Annotated[str, _text("must be a key of the Secret: letters, digits, '-', '_' and '.'", r"^[-._a-zA-Z0-9]+$", 253)]
ImageTag = Annotated[str, _text("must be an image tag such as 16 or 7.2.4", r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", 128)]
ImageReference = Annotated[
    str, _text("must be an image reference such as registry.example/postgres:16", r"^[A-Za-z0-9\[][A-Za-z0-9\[\]._:/@-]*$", 512)
]
EnvName = Annotated[
    str,
    _text(
        "must be an environment variable's name: letters, digits, '-', '_' and '.', no digit first", r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", 128
    ),
]
# vendor rule: mongodb.com/docs/manual/reference/limits, "Naming Restrictions"
MongoDBName = Annotated[str, _text('must not contain / \\ . " $ * < > : | ? or a space', r"^[^/\\. \"$*<>:|?\x00\n\r]+$", 63)]
SetName = Annotated[str, _text("must be letters, digits, '-', '_' and '.'", r"^[A-Za-z0-9_.-]+$", 63)]
NodeRole = Annotated[str, _text("must be a node role such as master, data or ingest", r"^[a-z_]+$", 64)]
DATA_FILE = r"^(/data/)?[^/\x00\n\r]+(/[^/\x00\n\r]+)*$"
DataFile = Annotated[str, _text("must be a file under /data, such as app.db or /data/app.db", DATA_FILE, 255)]
AddressRange = Annotated[str, _text("must be an address range such as 10.0.0.0/8", r"^[0-9a-fA-F.:]+/[0-9]{1,3}$", 64)]

ParameterName = Annotated[
    str, _text("must be a parameter's name: letters, digits, '_', '-' and '.', no digit first", r"^[A-Za-z_][A-Za-z0-9_.-]*$", 128)
]
Parameters = Annotated[dict[ParameterName, Text | int], Meta(max_length=128)]
QUALIFIED = rf"^({SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$"
QualifiedName = Annotated[str, _text("must be a qualified name such as team or example.com/team", QUALIFIED, 317)]
LabelValue = Annotated[
    str,
    Meta(
        max_length=63,
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        extra={"message": "must be a label's value: at most 63 letters, digits, '-', '_' and '.'"},
    ),
]
Labels = Annotated[dict[QualifiedName, LabelValue], Meta(max_length=64)]
Annotations = Annotated[dict[QualifiedName, Text], Meta(max_length=64)]
OpenObject = dict[str, Any]  # a core/v1 structure that is passed on as written; its schema is in api.core


class EngineType(Enum):
    POSTGRESQL = "PostgreSQL"
    MONGODB = "MongoDB"
    REDIS = "Redis"
    ELASTICSEARCH = "Elasticsearch"
    SQLITE = "SQLite"


class DeletionPolicy(Enum):
    """What becomes of claims, credentials and cluster identity when the Database goes."""

    RETAIN = "Retain"
    DELETE = "Delete"
    DO_NOT_DELETE = "DoNotDelete"


class AccessMode(Enum):
    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"


class PullPolicy(Enum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Synchronous(Enum):
    DISABLED = "Disabled"
    PREFERRED = "Preferred"
    REQUIRED = "Required"


class RedisMode(Enum):
    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Spread(Enum):
    PREFERRED = "Preferred"
    REQUIRED = "Required"
    NONE = "None"


class ServiceType(Enum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class ExternalTrafficPolicy(Enum):
    CLUSTER = "Cluster"
    LOCAL = "Local"


class SecretKeyRef(Struct, frozen=True, rename="camel"):
    """One key of a Secret in the Database's own namespace."""

    name: ObjectName
    key: SecretKey = "password"


class NameRef(Struct, frozen=True, rename="camel"):
    name: ObjectName


class StorageSpec(Struct, frozen=True, rename="camel"):
    """The volume each member claims. ``size`` may grow and never shrink."""

    size: Size = "10Gi"
    storage_class_name: ClassName | None = None  # None: the cluster's default StorageClass
    access_mode: AccessMode = AccessMode.READ_WRITE_ONCE


class ResourcesSpec(Struct, frozen=True, rename="camel"):
    """Requests (``cpu``, ``memory``) and limits of the database container, exactly as written."""

    cpu: Quantity | None = None
    memory: Size | None = None
    cpu_limit: Quantity | None = None
    memory_limit: Size | None = None


class PostgreSQLSpec(Struct, frozen=True, rename="camel"):
    database: Annotated[str, Meta(min_length=1, max_length=63)] = "postgres"
    username: Annotated[str, Meta(min_length=1, max_length=63)] = "postgres"
    password_secret: SecretKeyRef | None = None
    parameters: Parameters = field(default_factory=dict)
    synchronous: Synchronous = Synchronous.PREFERRED


class MongoDBSpec(Struct, frozen=True, rename="camel"):
    database: MongoDBName = "admin"
    username: Annotated[str, Meta(min_length=1, max_length=128)] = "root"
    password_secret: SecretKeyRef | None = None
    replica_set_name: SetName = "rs0"
    parameters: Parameters = field(default_factory=dict)


class RedisSpec(Struct, frozen=True, rename="camel"):
    """``replicas`` counts all members, ``shards`` the primaries of a cluster."""

    password_secret: SecretKeyRef | None = None
    mode: RedisMode | None = None  # None: standalone at 0 and 1 replica, sentinel above
    shards: Annotated[int, Meta(ge=3, le=10)] | None = None  # None: 3
    parameters: Parameters = field(default_factory=dict)


class ElasticsearchSpec(Struct, frozen=True, rename="camel"):
    cluster_name: Annotated[str, Meta(min_length=1, max_length=128)] | None = None  # None: the Database's name
    node_roles: Annotated[tuple[NodeRole, ...], Meta(max_length=16)] | None = None  # None: all roles
    password_secret: SecretKeyRef | None = None
    parameters: Parameters = field(default_factory=dict)


class SQLiteSpec(Struct, frozen=True, rename="camel"):
    """``password_secret`` holds the access token; ``parameters`` are pragmas."""

    database_file: DataFile = "/data/database.db"
    password_secret: SecretKeyRef | None = None
    parameters: Parameters = field(default_factory=dict)


class EnvValueFrom(Struct, frozen=True, rename="camel"):
    secret_key_ref: SecretKeyRef


class EnvVar(Struct, frozen=True, rename="camel"):
    """Exactly one of ``value`` and ``value_from``; neither means the empty string."""

    name: EnvName
    value: Text | None = None
    value_from: EnvValueFrom | None = None


class PodsSpec(Struct, frozen=True, rename="camel"):
    """How the database pods run; names and shapes are those of core/v1."""

    labels: Labels = field(default_factory=dict)
    annotations: Annotations = field(default_factory=dict)
    spread: Spread = Spread.PREFERRED
    node_selector: Labels = field(default_factory=dict)
    affinity: OpenObject | None = None
    tolerations: Annotated[tuple[OpenObject, ...], Meta(max_length=32)] = ()
    topology_spread_constraints: Annotated[tuple[OpenObject, ...], Meta(max_length=8)] = ()
    priority_class_name: ObjectName | None = None
    scheduler_name: ObjectName | None = None
    termination_grace_period_seconds: Annotated[int, Meta(ge=1, le=3600)] | None = None  # None: the engine's
    security_context: OpenObject | None = None  # pod-level, within the restricted profile


class PublishedService(Struct, frozen=True, rename="camel"):
    """How one Service is published."""

    type: ServiceType = ServiceType.CLUSTER_IP
    annotations: Annotations = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    load_balancer_class: QualifiedName | None = None
    load_balancer_source_ranges: Annotated[tuple[AddressRange, ...], Meta(max_length=64)] = ()
    external_traffic_policy: ExternalTrafficPolicy | None = None
    node_port: Annotated[int, Meta(ge=1, le=65535)] | None = None


class ServiceSpec(PublishedService, frozen=True, rename="camel"):
    """How ``<name>-service`` is published, and with ``read_only`` how ``<name>-ro`` is."""

    read_only: PublishedService | None = None


class DatabaseSpec(Struct, frozen=True, rename="camel", kw_only=True):
    type: EngineType
    version: ImageTag
    image: ImageReference | None = None
    image_pull_policy: PullPolicy | None = None
    image_pull_secrets: Annotated[tuple[NameRef, ...], Meta(max_length=8)] = ()
    replicas: Annotated[int, Meta(ge=0, le=10)] = 1
    storage: StorageSpec = field(default_factory=StorageSpec)
    resources: ResourcesSpec = field(default_factory=ResourcesSpec)
    postgresql: PostgreSQLSpec | None = None
    mongodb: MongoDBSpec | None = None
    redis: RedisSpec | None = None
    elasticsearch: ElasticsearchSpec | None = None
    sqlite: SQLiteSpec | None = None
    env: Annotated[tuple[EnvVar, ...], Meta(max_length=100)] = ()
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    pods: PodsSpec = field(default_factory=PodsSpec)
    service: ServiceSpec = field(default_factory=ServiceSpec)
