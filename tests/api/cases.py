"""Specs that are accepted and changed: one table for the API server and for the operator's own validation.

An id such as I07 is the case's number in the list of bad inputs that operators of others fell for.
"""

from typing import Any, NamedTuple

Spec = dict[str, Any]


class Change(NamedTuple):
    id: str
    old: Spec
    new: Spec
    says: str | None  # part of the refusal; None: accepted


def spec(kind: str, **fields: Any) -> Spec:
    versions = {"PostgreSQL": "17", "MongoDB": "7.0", "Redis": "7.2", "Elasticsearch": "8.11.0", "SQLite": "latest"}
    return {"type": kind, "version": versions.get(kind, "1")} | fields


def postgresql(**section: Any) -> Spec:
    return spec("PostgreSQL", postgresql=section)


def redis(replicas: int = 1, **section: Any) -> Spec:
    return spec("Redis", replicas=replicas, redis=section)


def storage(**fields: Any) -> Spec:
    return spec("PostgreSQL", storage=fields)


def env(*variables: Spec) -> Spec:
    return spec("PostgreSQL", env=list(variables))


def pods(**fields: Any) -> Spec:
    return spec("PostgreSQL", pods=fields)


def service(kind: str = "PostgreSQL", **fields: Any) -> Spec:
    return spec(kind, service=fields)


EVERY_FIELD = spec(
    "PostgreSQL",
    image="reg.example:5000/pg:16.4@sha256:" + "0" * 64,
    imagePullPolicy="Always",
    imagePullSecrets=[{"name": "reg"}],
    replicas=3,
    storage={"size": "1.5Gi", "storageClassName": "fast", "accessMode": "ReadWriteOncePod"},
    resources={"cpu": "500m", "memory": "512Mi", "cpuLimit": "0.5", "memoryLimit": "1Gi"},
    postgresql={
        "database": "a \"b\" 'c' $(reboot) `id`; %s",
        "username": "shop",
        "passwordSecret": {"name": "s.x", "key": "p_w-d.1"},
        "parameters": {"max_connections": 200, "work_mem": "64MB", "auto_explain.log_min_duration": "1s"},
        "synchronous": "Required",
    },
    env=[{"name": "A"}, {"name": "b.c-d", "value": "$(A)"}, {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    deletionPolicy="DoNotDelete",
    pods={
        "labels": {"team": "shop", "example.com/x": ""},
        "annotations": {"example.com/note": "hands off"},
        "spread": "Required",
        "nodeSelector": {"disk": "ssd"},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
                }
            },
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}}
                ]
            },
        },
        "tolerations": [
            {"operator": "Exists"},
            {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 30},
        ],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}],
        "priorityClassName": "high",
        "schedulerName": "mine",
        "terminationGracePeriodSeconds": 600,
        "securityContext": {"runAsUser": 1000, "fsGroup": 1000, "runAsNonRoot": True, "supplementalGroups": [5]},
    },
    service={
        "type": "LoadBalancer",
        "annotations": {"example.com/internal": "true"},
        "labels": {"team": "shop"},
        "loadBalancerClass": "example.com/lb",
        "loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"],
        "externalTrafficPolicy": "Local",
        "nodePort": 30432,
        "readOnly": {"type": "NodePort", "nodePort": 30433},
    },
)

GOOD: list[tuple[str, Spec]] = [
    *((f"least {kind}", spec(kind)) for kind in ("PostgreSQL", "MongoDB", "Redis", "Elasticsearch", "SQLite")),
    ("every field", EVERY_FIELD),
    *(
        (f"empty section of {kind}", spec(kind, **{kind.lower(): {}}))
        for kind in ("PostgreSQL", "MongoDB", "Redis", "Elasticsearch", "SQLite")
    ),
    ("SQLite stopped", spec("SQLite", replicas=0)),
    ("Redis standalone stopped", redis(0, mode="standalone")),
    ("Redis sentinel with 1", redis(1, mode="sentinel")),
    ("Redis cluster of 6 with 3 shards", redis(6, mode="cluster", shards=3)),
    ("Redis cluster stopped with 5 shards", redis(0, mode="cluster", shards=5)),
    ("Required with 0 replicas", spec("PostgreSQL", replicas=0, postgresql={"synchronous": "Required"})),
    ("10 replicas", spec("PostgreSQL", replicas=10)),
    ("no storage class at all", storage(storageClassName="")),
    ("size 1Mi", storage(size="1Mi")),
    ("size 0.5Gi", storage(size="0.5Gi")),
    ("equal request and limit", spec("Redis", resources={"cpu": "1", "cpuLimit": "1000m", "memory": "1Gi", "memoryLimit": "1024Mi"})),
    ("file in a folder", spec("SQLite", sqlite={"databaseFile": "/data/a b/ü..db"})),
    ("node roles none", spec("Elasticsearch", elasticsearch={"nodeRoles": []})),
    ("I11 shell in a parameter", redis(parameters={"a": "$(reboot) `id`; x | y > z \\ ' \" %s {{x}}"})),
    ("parameters as numbers and words", spec("MongoDB", mongodb={"parameters": {"cacheSizeGB": 1, "net.maxIncomingConnections": "200"}})),
]

FIRST_VERSION: dict[str, Spec] = {
    "PostgreSQL": {
        "type": "PostgreSQL",
        "version": "16",
        "replicas": 1,
        "storage": {"size": "10Gi", "storageClassName": "standard", "accessMode": "ReadWriteOnce"},
        "resources": {"cpu": "500m", "memory": "512Mi", "cpuLimit": "1", "memoryLimit": "1Gi"},
        "postgresql": {
            "database": "myapp",
            "username": "postgres",
            "passwordSecret": {"name": "postgres-secret", "key": "password"},
            "parameters": {"max_connections": "200", "shared_buffers": "256MB"},
        },
    },
    "MongoDB": {
        "type": "MongoDB",
        "version": "7.0",
        "replicas": 3,
        "storage": {"size": "20Gi"},
        "resources": {"cpu": "500m", "memory": "1Gi", "cpuLimit": "2", "memoryLimit": "2Gi"},
        "mongodb": {
            "database": "myapp",
            "username": "admin",
            "passwordSecret": {"name": "mongodb-secret", "key": "password"},
            "replicaSetName": "rs0",
        },
    },
    "Redis": {
        "type": "Redis",
        "version": "7.2",
        "replicas": 1,
        "storage": {"size": "5Gi"},
        "redis": {
            "mode": "standalone",
            "passwordSecret": {"name": "redis-secret", "key": "password"},
            "parameters": {"maxmemory": "256mb"},
        },
    },
    "Elasticsearch": {
        "type": "Elasticsearch",
        "version": "8.11.0",
        "replicas": 3,
        "storage": {"size": "50Gi"},
        "elasticsearch": {
            "clusterName": "my-cluster",
            "nodeRoles": ["master", "data", "ingest"],
            "parameters": {"node.name": "elasticsearch"},
        },
    },
    "SQLite": {"type": "SQLite", "version": "latest", "replicas": 1, "storage": {"size": "1Gi"}, "sqlite": {"databaseFile": "app.db"}},
}


def _fixed(field: str, hint: str = "set it back") -> str:
    return f"spec.{field} cannot be changed: {hint}"


CHANGES = [
    Change("I02 type", spec("PostgreSQL"), spec("MongoDB"), _fixed("type")),
    Change("I03 storage shrinks", storage(size="20Gi"), storage(size="19Gi"), "spec.storage.size must not shrink"),
    Change("I03 storage shrinks in another unit", storage(size="10Gi"), storage(size="10G"), "spec.storage.size must not shrink"),
    Change("I03 storage removed", storage(size="20Gi"), spec("PostgreSQL"), "left out it counts as 10Gi"),
    Change("I03 size removed", storage(size="20Gi"), storage(), "left out it counts as 10Gi"),
    Change("I03 storage smaller than the default added", spec("PostgreSQL"), storage(size="5Gi"), "spec.storage.size must not shrink"),
    Change("storage grows", storage(size="10Gi"), storage(size="11Gi"), None),
    Change("storage added as it was", spec("PostgreSQL"), storage(size="10240Mi"), None),
    Change("small storage removed", storage(size="5Gi"), spec("PostgreSQL"), None),
    Change("I03 class changes", storage(storageClassName="a"), storage(storageClassName="b"), _fixed("storage.storageClassName")),
    Change("I03 class added", spec("PostgreSQL"), storage(storageClassName="a"), _fixed("storage.storageClassName")),
    Change("I03 no class instead of the default", spec("PostgreSQL"), storage(storageClassName=""), _fixed("storage.storageClassName")),
    Change("I03 class removed with storage", storage(storageClassName="a"), spec("PostgreSQL"), _fixed("storage.storageClassName")),
    Change("access mode changes", storage(accessMode="ReadWriteMany"), storage(accessMode="ReadWriteOnce"), _fixed("storage.accessMode")),
    Change("access mode removed", storage(accessMode="ReadWriteMany"), spec("PostgreSQL"), _fixed("storage.accessMode")),
    Change("access mode added as it was", spec("PostgreSQL"), storage(accessMode="ReadWriteOnce"), None),
    *(
        Change(f"{section}.{field} {what}", old, new, _fixed(f"{section}.{field}") if refused else None)
        for kind, field, value, default in (
            ("PostgreSQL", "database", "shop", "postgres"),
            ("PostgreSQL", "username", "shop", "postgres"),
            ("MongoDB", "database", "shop", "admin"),
            ("MongoDB", "username", "shop", "root"),
            ("MongoDB", "replicaSetName", "rs1", "rs0"),
            ("Elasticsearch", "clusterName", "shop", "orders"),
            ("SQLite", "databaseFile", "shop.db", "database.db"),
        )
        for section in (kind.lower(),)
        for what, old, new, refused in (
            ("changes", spec(kind, **{section: {field: value}}), spec(kind, **{section: {field: value + "2"}}), True),
            ("is removed", spec(kind, **{section: {field: value}}), spec(kind, **{section: {}}), True),
            ("goes with its section", spec(kind, **{section: {field: value}}), spec(kind), True),
            ("is added", spec(kind), spec(kind, **{section: {field: value}}), True),
            ("is added as its default", spec(kind), spec(kind, **{section: {field: default}}), False),
            ("is removed as its default", spec(kind, **{section: {field: default}}), spec(kind), False),
        )
    ),
    Change(
        "the same file, with its folder",
        spec("SQLite", sqlite={"databaseFile": "a.db"}),
        spec("SQLite", sqlite={"databaseFile": "/data/a.db"}),
        None,
    ),
    Change("standalone to sentinel", redis(1, mode="standalone"), redis(3, mode="sentinel"), None),
    Change("sentinel to standalone", redis(3, mode="sentinel"), redis(1, mode="standalone"), None),
    Change(
        "standalone to a cluster", redis(1, mode="standalone"), redis(3, mode="cluster"), _fixed("redis.mode", "a Redis becomes a cluster")
    ),
    Change("no mode to a cluster", spec("Redis", replicas=3), redis(3, mode="cluster"), _fixed("redis.mode", "a Redis becomes a cluster")),
    Change("cluster to sentinel", redis(3, mode="cluster"), redis(3, mode="sentinel"), _fixed("redis.mode", "a Redis becomes a cluster")),
    Change(
        "cluster section removed", redis(3, mode="cluster"), spec("Redis", replicas=3), _fixed("redis.mode", "a Redis becomes a cluster")
    ),
    Change("shards", redis(6, mode="cluster", shards=3), redis(6, mode="cluster", shards=4), None),
    Change(
        "I06 scaled to 1 with Required",
        spec("PostgreSQL", replicas=2, postgresql={"synchronous": "Required"}),
        postgresql(synchronous="Required"),
        "must not be Required with 1 replica",
    ),
    Change(
        "everything that may change",
        EVERY_FIELD,
        spec(
            "PostgreSQL",
            version="18",
            replicas=0,
            storage={"size": "2Gi", "storageClassName": "fast", "accessMode": "ReadWriteOncePod"},
            postgresql={"database": EVERY_FIELD["postgresql"]["database"], "username": "shop"},
        ),
        None,
    ),
]
