"""Every field of the spec: a value, another one, the field gone again, and what must be seen of each."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from database_operator.build import constants as c
from database_operator.kube import resources as r
from tests.reconcile.looks import Seen, both, child, container, environment, line, login, patroni, pragma, service, template


class Field(Struct, frozen=True, kw_only=True):
    """``value``, ``changed`` and ``gone`` are merge patches of the spec; ``wants`` what is seen after each."""

    type: str = "PostgreSQL"
    value: dict[str, Any]
    changed: dict[str, Any]
    gone: dict[str, Any] | None = None  # None: the field is required
    seen: Seen
    wants: tuple[Any, ...]
    base: Mapping[str, Any] = {}


def _refer(kind: str, **reference: str | None) -> dict[str, Any]:
    return {kind.lower(): {"passwordSecret": reference}}


def _secret(kind: str) -> Field:
    """A changed password is handed to running members; taken away, the last one stays in force: nobody is locked out."""
    return Field(
        type=kind,
        value=_refer(kind, name="first"),
        changed=_refer(kind, name="second"),
        gone={kind.lower(): {"passwordSecret": None}},
        seen=login("password"),
        wants=("first's password", "second's password", "second's password"),
    )


def _key(kind: str) -> Field:
    return Field(
        type=kind,
        value=_refer(kind, name="first", key="one"),
        changed=_refer(kind, name="first", key="two"),
        gone=_refer(kind, name="first", key=None),
        seen=login("password"),
        wants=("first's one", "first's two", "first's password"),
    )


def _fixed(kind: str, path: str, value: Any, changed: Any, seen: Seen) -> Field:
    section, name = path.split(".")
    return Field(
        type=kind,
        value={section: {name: value}},
        changed={section: {name: changed}},
        gone={section: {name: None}},
        seen=seen,
        wants=(value,),
    )


def _resource(field: str, kind: str, name: str, values: tuple[str, str]) -> Field:
    return Field(
        value={"resources": {field: values[0]}},
        changed={"resources": {field: values[1]}},
        gone={"resources": {field: None}},
        seen=container("resources", kind, name),
        wants=(*values, None),
    )


def _placed(field: str, value: Any, changed: Any, default: Any = None, seen: Seen | None = None, wants: tuple[Any, ...] = ()) -> Field:
    return Field(
        value={"pods": {field: value}},
        changed={"pods": {field: changed}},
        gone={"pods": {field: None}},
        seen=seen or template("spec", field),
        wants=wants or (value, changed, default),
    )


def _noted(field: str, key: str) -> Field:
    """On the running member, which must not be replaced for it, and in the template of those to come."""
    seen = both(child(r.POD, "-0", "metadata", field, key), template("metadata", field, key))
    return _placed(field, {key: "a"}, {key: "b"}, seen=seen, wants=(("a", "a"), ("b", "b"), (None, None)))


def _published(value: Any, changed: Any, seen: Seen, wants: tuple[Any, ...], **base: Any) -> Field:
    (name,) = value
    return Field(value={"service": base | value}, changed={"service": changed}, gone={"service": {name: None}}, seen=seen, wants=wants)


def _terms(zone: str) -> dict[str, Any]:
    expression = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _constraint(key: str) -> dict[str, Any]:
    labels = {"matchLabels": {"team": "shop"}}
    return {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": labels}


def _variable(**entry: Any) -> dict[str, Any]:
    return {"env": [entry]}


def _of_secret(**reference: str) -> dict[str, Any]:
    return _variable(name="TOKEN", valueFrom={"secretKeyRef": reference})


def _reference(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


_SPREAD = template("spec", "topologySpreadConstraints", 0, "whenUnsatisfiable")
_SYNCHRONOUS = both(patroni("synchronous_mode"), patroni("synchronous_mode_strict"))

FIELDS: dict[str, Field] = {
    "spec.type": Field(
        value={}, changed={"type": "Redis"}, seen=child(r.STATEFUL_SET, "", "metadata", "labels", c.DATABASE_TYPE), wants=("PostgreSQL",)
    ),
    "spec.version": Field(
        value={"version": "17.1"}, changed={"version": "17.2"}, seen=container("image"), wants=("postgres:17.1", "postgres:17.2")
    ),
    "spec.image": Field(
        value={"image": "registry.example/pg:17"},
        changed={"image": "registry.example/pg:17.1"},
        gone={"image": None},
        seen=container("image"),
        wants=("registry.example/pg:17", "registry.example/pg:17.1", "postgres:17"),
    ),
    "spec.imagePullPolicy": Field(
        value={"imagePullPolicy": "Always"},
        changed={"imagePullPolicy": "Never"},
        gone={"imagePullPolicy": None},
        seen=container("imagePullPolicy"),
        wants=("Always", "Never", "IfNotPresent"),
    ),
    "spec.imagePullSecrets[].name": Field(
        value={"imagePullSecrets": [{"name": "a"}]},
        changed={"imagePullSecrets": [{"name": "b"}]},
        gone={"imagePullSecrets": None},
        seen=template("spec", "imagePullSecrets"),
        wants=([{"name": "a"}], [{"name": "b"}], None),
    ),
    "spec.replicas": Field(
        value={"replicas": 2},
        changed={"replicas": 3},
        gone={"replicas": None},
        seen=child(r.STATEFUL_SET, "", "spec", "replicas"),
        wants=(2, 3, 1),
    ),
    "spec.storage.size": Field(
        value={"storage": {"size": "11Gi"}},
        changed={"storage": {"size": "12Gi"}},
        seen=child(r.STATEFUL_SET, "", "spec", "volumeClaimTemplates", 0, "spec", "resources", "requests", "storage"),
        wants=("11Gi", "12Gi"),
    ),
    "spec.storage.storageClassName": Field(
        value={"storage": {"storageClassName": "standard"}},
        changed={"storage": {"storageClassName": "other"}},
        gone={"storage": {"storageClassName": None}},
        seen=child(r.PERSISTENT_VOLUME_CLAIM, "", "spec", "storageClassName"),
        wants=("standard",),
        base={"storage": {"size": "10Gi"}},
    ),
    "spec.storage.accessMode": Field(
        value={"storage": {"accessMode": "ReadWriteOncePod"}},
        changed={"storage": {"accessMode": "ReadWriteOnce"}},
        gone={"storage": {"accessMode": None}},
        seen=child(r.PERSISTENT_VOLUME_CLAIM, "", "spec", "accessModes", 0),
        wants=("ReadWriteOncePod",),
    ),
    "spec.resources.cpu": _resource("cpu", "requests", "cpu", ("100m", "200m")),
    "spec.resources.memory": _resource("memory", "requests", "memory", ("128Mi", "256Mi")),
    "spec.resources.cpuLimit": _resource("cpuLimit", "limits", "cpu", ("1", "2")),
    "spec.resources.memoryLimit": _resource("memoryLimit", "limits", "memory", ("512Mi", "1Gi")),
    "spec.postgresql.database": _fixed("PostgreSQL", "postgresql.database", "shop", "other", login("database")),
    "spec.postgresql.username": _fixed("PostgreSQL", "postgresql.username", "shop", "other", login("username")),
    "spec.postgresql.passwordSecret.name": _secret("PostgreSQL"),
    "spec.postgresql.passwordSecret.key": _key("PostgreSQL"),
    "spec.postgresql.parameters": Field(
        value={"postgresql": {"parameters": {"work_mem": "8MB"}}},
        changed={"postgresql": {"parameters": {"work_mem": "16MB"}}},
        gone={"postgresql": {"parameters": {"work_mem": None}}},
        seen=patroni("postgresql", "parameters", "work_mem"),
        wants=("8MB", "16MB", None),
    ),
    "spec.postgresql.synchronous": Field(
        value={"postgresql": {"synchronous": "Disabled"}},
        changed={"postgresql": {"synchronous": "Required"}},
        gone={"postgresql": {"synchronous": None}},
        seen=_SYNCHRONOUS,
        wants=((None, None), (True, True), (True, None)),
        base={"replicas": 2},
    ),
    "spec.mongodb.database": _fixed("MongoDB", "mongodb.database", "shop", "other", login("database")),
    "spec.mongodb.username": _fixed("MongoDB", "mongodb.username", "shop", "other", login("username")),
    "spec.mongodb.passwordSecret.name": _secret("MongoDB"),
    "spec.mongodb.passwordSecret.key": _key("MongoDB"),
    "spec.mongodb.replicaSetName": _fixed("MongoDB", "mongodb.replicaSetName", "rs7", "rs8", login("replica-set")),
    "spec.mongodb.parameters": Field(
        type="MongoDB",
        value={"mongodb": {"parameters": {"slowms": 50}}},
        changed={"mongodb": {"parameters": {"slowms": 60}}},
        gone={"mongodb": {"parameters": None}},
        seen=line("mongod.conf", "slowOpThresholdMs: "),
        wants=("50", "60", None),
    ),
    "spec.redis.passwordSecret.name": _secret("Redis"),
    "spec.redis.passwordSecret.key": _key("Redis"),
    "spec.redis.mode": Field(
        type="Redis",
        value={"redis": {"mode": "standalone"}},
        changed={"redis": {"mode": "sentinel"}},
        gone={"redis": {"mode": None}},
        seen=child(r.STATEFUL_SET, "-sentinel", "spec", "replicas"),
        wants=(None, 3, None),
    ),
    "spec.redis.parameters": Field(
        type="Redis",
        value={"redis": {"parameters": {"maxmemory": "32mb"}}},
        changed={"redis": {"parameters": {"maxmemory": "64mb"}}},
        gone={"redis": {"parameters": {"maxmemory": None}}},
        seen=line("redis.conf", "maxmemory "),
        wants=(str(32 * 2**20), str(64 * 2**20), str(384 * 2**20)),
    ),
    "spec.elasticsearch.clusterName": _fixed("Elasticsearch", "elasticsearch.clusterName", "one", "two", login("database")),
    "spec.elasticsearch.nodeRoles": Field(
        type="Elasticsearch",
        value={"elasticsearch": {"nodeRoles": ["master", "data"]}},
        changed={"elasticsearch": {"nodeRoles": ["master", "data", "ingest"]}},
        gone={"elasticsearch": {"nodeRoles": None}},
        seen=line("elasticsearch.yml", "node.roles: "),
        wants=('["master","data"]', '["master","data","ingest"]', None),
    ),
    "spec.elasticsearch.passwordSecret.name": _secret("Elasticsearch"),
    "spec.elasticsearch.passwordSecret.key": _key("Elasticsearch"),
    "spec.elasticsearch.parameters": Field(
        type="Elasticsearch",
        value={"elasticsearch": {"parameters": {"indices.query.bool.max_clause_count": 2048}}},
        changed={"elasticsearch": {"parameters": {"indices.query.bool.max_clause_count": 4096}}},
        gone={"elasticsearch": {"parameters": None}},
        seen=line("elasticsearch.yml", "indices.query.bool.max_clause_count: "),
        wants=("2048", "4096", None),
    ),
    "spec.sqlite.databaseFile": Field(
        type="SQLite",
        value={"sqlite": {"databaseFile": "app.db"}},
        changed={"sqlite": {"databaseFile": "other.db"}},
        gone={"sqlite": {"databaseFile": None}},
        seen=login("database"),
        wants=("/data/app.db",),
    ),
    "spec.sqlite.passwordSecret.name": _secret("SQLite"),
    "spec.sqlite.passwordSecret.key": _key("SQLite"),
    "spec.sqlite.parameters": Field(
        type="SQLite",
        value={"sqlite": {"parameters": {"foreign_keys": "on"}}},
        changed={"sqlite": {"parameters": {"foreign_keys": "off"}}},
        gone={"sqlite": {"parameters": None}},
        seen=pragma("foreign_keys"),
        wants=("1", "0", None),
    ),
    "spec.env[].name": Field(
        value=_variable(name="A", value="1"),
        changed=_variable(name="B", value="1"),
        gone={"env": None},
        seen=both(environment("A"), environment("B")),
        wants=(("1", None), (None, "1"), (None, None)),
    ),
    "spec.env[].value": Field(
        value=_variable(name="A", value="$(HOME) 'x'"),
        changed=_variable(name="A"),
        gone={"env": None},
        seen=environment("A"),
        wants=("$$(HOME) 'x'", "", None),
    ),
    "spec.env[].valueFrom.secretKeyRef.name": Field(
        value=_of_secret(name="first"),
        changed=_of_secret(name="second"),
        gone={"env": None},
        seen=environment("TOKEN"),
        wants=(_reference("first", "password"), _reference("second", "password"), None),
    ),
    "spec.env[].valueFrom.secretKeyRef.key": Field(
        value=_of_secret(name="first", key="one"),
        changed=_of_secret(name="first", key="two"),
        gone=_of_secret(name="first"),
        seen=environment("TOKEN"),
        wants=(_reference("first", "one"), _reference("first", "two"), _reference("first", "password")),
    ),
    "spec.pods.labels": _noted("labels", "team"),
    "spec.pods.annotations": _noted("annotations", "note"),
    "spec.pods.spread": _placed("spread", "Required", "None", seen=_SPREAD, wants=("DoNotSchedule", None, "ScheduleAnyway")),
    "spec.pods.nodeSelector": _placed("nodeSelector", {"disk": "ssd"}, {"disk": "nvme"}),
    "spec.pods.affinity": _placed("affinity", _terms("a"), _terms("b")),
    "spec.pods.tolerations": _placed("tolerations", [{"key": "a", "operator": "Exists"}], [{"key": "b", "operator": "Exists"}]),
    "spec.pods.topologySpreadConstraints": _placed(
        "topologySpreadConstraints",
        [_constraint("rack")],
        [_constraint("row")],
        seen=template("spec", "topologySpreadConstraints", 0, "topologyKey"),
        wants=("rack", "row", "kubernetes.io/hostname"),
    ),
    "spec.pods.priorityClassName": _placed("priorityClassName", "system-cluster-critical", "system-node-critical"),
    "spec.pods.schedulerName": _placed("schedulerName", "mine", "other", "default-scheduler"),
    "spec.pods.terminationGracePeriodSeconds": _placed("terminationGracePeriodSeconds", 30, 40, 120),
    "spec.pods.securityContext": _placed(
        "securityContext",
        {"runAsUser": 1001},
        {"runAsUser": 1002},
        seen=template("spec", "securityContext", "runAsUser"),
        wants=(1001, 1002, 999),
    ),
    "spec.service.type": _published(
        {"type": "NodePort"}, {"type": "LoadBalancer"}, service("spec", "type"), ("NodePort", "LoadBalancer", "ClusterIP")
    ),
    "spec.service.annotations": _published(
        {"annotations": {"note": "a"}}, {"annotations": {"note": "b"}}, service("metadata", "annotations", "note"), ("a", "b", None)
    ),
    "spec.service.labels": _published(
        {"labels": {"team": "a"}}, {"labels": {"team": "b"}}, service("metadata", "labels", "team"), ("a", "b", None)
    ),
    "spec.service.loadBalancerClass": _published(
        {"loadBalancerClass": "example.com/a"},
        {"loadBalancerClass": "example.com/b"},
        service("spec", "loadBalancerClass"),
        ("example.com/a", "example.com/b", None),
        type="LoadBalancer",
    ),
    "spec.service.loadBalancerSourceRanges": _published(
        {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
        {"loadBalancerSourceRanges": ["10.1.0.0/16"]},
        service("spec", "loadBalancerSourceRanges"),
        (["10.0.0.0/8"], ["10.1.0.0/16"], None),
        type="LoadBalancer",
    ),
    "spec.service.externalTrafficPolicy": _published(
        {"externalTrafficPolicy": "Local"},
        {"externalTrafficPolicy": "Cluster"},
        service("spec", "externalTrafficPolicy"),
        ("Local", "Cluster", "Cluster"),
        type="NodePort",
    ),
    "spec.service.nodePort": _published(
        {"nodePort": 30411}, {"nodePort": 30412}, service("spec", "ports", 0, "nodePort"), (30411, 30412, 30412), type="NodePort"
    ),
    "spec.service.readOnly.type": Field(
        value={"service": {"readOnly": {"type": "NodePort"}}},
        changed={"service": {"readOnly": {"type": "LoadBalancer"}}},
        gone={"service": {"readOnly": None}},
        seen=service("spec", "type", suffix="-ro"),
        wants=("NodePort", "LoadBalancer", "ClusterIP"),
        base={"replicas": 2},
    ),
}
