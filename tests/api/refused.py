"""Specs that are refused: one table for the API server and for the operator's own validation.

An id such as I07 is the case's number in the list of bad inputs that operators of others fell for.
"""

from collections.abc import Callable
from typing import NamedTuple

from tests.api.cases import Spec, env, pods, postgresql, redis, service, spec, storage


class Bad(NamedTuple):
    id: str
    spec: Spec
    says: str  # part of the API server's message
    operator: str | None = None  # part of the operator's, where it is another
    name: str = "orders"


QUANTITY = "must be a positive quantity such as 500m or 2"
SIZE = "must be a positive size such as 512Mi or 10Gi"
ONE_LINE = "one line without NUL"
NAME = "metadata.name must be at most 52 characters"
Make = Callable[[str], Spec]
SHAPES: list[tuple[str, Make]] = [
    ("postgresql.database", lambda text: postgresql(database=text)),
    ("postgresql.username", lambda text: postgresql(username=text)),
    ("postgresql.parameters.x", lambda text: postgresql(parameters={"x": text})),
    ("mongodb.username", lambda text: spec("MongoDB", mongodb={"username": text})),
    ("elasticsearch.clusterName", lambda text: spec("Elasticsearch", elasticsearch={"clusterName": text})),
    ("env[0].value", lambda text: env({"name": "A", "value": text})),
    ("pods.annotations.a", lambda text: pods(annotations={"a": text})),
    ("service.annotations.a", lambda text: service(annotations={"a": text})),
]
PATTERNED: list[tuple[str, str, str, Make]] = [
    ("version", "7", "must be an image tag", lambda text: spec("Redis", version=text)),
    ("image", "a/b:1", "must be an image reference", lambda text: spec("Redis", image=text)),
    ("imagePullSecrets[].name", "a", "must be an object's name", lambda text: spec("Redis", imagePullSecrets=[{"name": text}])),
    ("storage.size", "10Gi", SIZE, lambda text: storage(size=text)),
    ("storage.storageClassName", "a", "must be the name of a StorageClass", lambda text: storage(storageClassName=text)),
    ("resources.cpu", "1", QUANTITY, lambda text: spec("Redis", resources={"cpu": text})),
    ("mongodb.database", "a", "must not contain / ", lambda text: spec("MongoDB", mongodb={"database": text})),
    ("mongodb.replicaSetName", "a", "must be letters, digits", lambda text: spec("MongoDB", mongodb={"replicaSetName": text})),
    ("redis.passwordSecret.name", "a", "must be an object's name", lambda text: redis(passwordSecret={"name": text})),
    ("redis.passwordSecret.key", "a", "must be a key of the Secret", lambda text: redis(passwordSecret={"name": "x", "key": text})),
    ("elasticsearch.nodeRoles[]", "data", "must be a node role", lambda text: spec("Elasticsearch", elasticsearch={"nodeRoles": [text]})),
    ("sqlite.databaseFile", "a", "must be a file under /data", lambda text: spec("SQLite", sqlite={"databaseFile": text})),
    ("env[].name", "A", "must be an environment variable's name", lambda text: env({"name": text})),
    ("redis.parameters", "a", "must be a parameter's name", lambda text: redis(parameters={text: "1"})),
    ("pods.labels[]", "a", "must be a label's value", lambda text: pods(labels={"a": text})),
    ("pods.labels", "a", "must be a qualified name", lambda text: pods(labels={text: "a"})),
    ("pods.nodeSelector[]", "a", "must be a label's value", lambda text: pods(nodeSelector={"a": text})),
    ("pods.priorityClassName", "a", "must be an object's name", lambda text: pods(priorityClassName=text)),
    (
        "service.loadBalancerSourceRanges[]",
        "10.0.0.0/8",
        "must be an address range",
        lambda text: service(type="LoadBalancer", loadBalancerSourceRanges=[text]),
    ),
]
BREAKS = {"newline": "\nb", "last newline": "\n", "return": "\rb", "NUL": "\0b"}

BAD = [
    Bad("I01 unknown type", spec("Oracle"), 'Unsupported value: "Oracle": supported values: "PostgreSQL"', "Invalid enum value 'Oracle'"),
    Bad("I01 no type", {"version": "1"}, "spec.type: Required value", "missing required field `type`"),
    Bad("I01 no version", {"type": "Redis"}, "spec.version: Required value", "missing required field `version`"),
    Bad(
        "I01 version is no tag",
        spec("Redis", version="7.2; reboot"),
        "spec.version must be an image tag such as 16 or 7.2.4",
        "must be an image tag",
    ),
    Bad("I01 version is empty", spec("Redis", version=""), "spec.version", "spec.version"),
    Bad("I01 version is too long", spec("Redis", version="1" * 129), "spec.version: Too long", "length <= 128"),
    Bad("I01 version is a number", spec("Redis", version=7), "spec.version in body must be of type string", "Expected `str`, got `int`"),
    Bad(
        "I04 replicas -1",
        spec("PostgreSQL", replicas=-1),
        "spec.replicas in body should be greater than or equal to 0",
        "Expected `int` >= 0",
    ),
    Bad(
        "I04 replicas 11",
        spec("PostgreSQL", replicas=11),
        "spec.replicas in body should be less than or equal to 10",
        "Expected `int` <= 10",
    ),
    Bad(
        "I04 replicas 1000",
        spec("Redis", replicas=1000),
        "spec.replicas in body should be less than or equal to 10",
        "Expected `int` <= 10",
    ),
    Bad("SQLite with 2 replicas", spec("SQLite", replicas=2), "spec.replicas must be 0 or 1: SQLite is one file", "must be 0 or 1: SQLite"),
    Bad(
        "Redis standalone with 3 replicas",
        redis(3, mode="standalone"),
        "spec.replicas must be 0 or 1 while redis.mode is standalone: set redis.mode to sentinel",
        "must be 0 or 1 while redis.mode is standalone",
    ),
    Bad(
        "Redis cluster of 1",
        redis(1, mode="cluster"),
        "spec.replicas must be 0 or at least 3 while redis.mode is cluster",
        "must be 0 or at least 3",
    ),
    Bad(
        "Redis cluster of 2",
        redis(2, mode="cluster"),
        "spec.replicas must be 0 or at least 3 while redis.mode is cluster",
        "must be 0 or at least 3",
    ),
    Bad("Redis cluster without replicas", spec("Redis", redis={"mode": "cluster"}), "must be 0 or at least 3 while redis.mode is cluster"),
    Bad(
        "Redis shards below 3",
        redis(6, mode="cluster", shards=2),
        "spec.redis.shards in body should be greater than or equal to 3",
        "Expected `int` >= 3",
    ),
    Bad(
        "Redis shards above 10",
        redis(10, mode="cluster", shards=11),
        "spec.redis.shards in body should be less than or equal to 10",
        "Expected `int` <= 10",
    ),
    Bad(
        "Redis more shards than members",
        redis(4, mode="cluster", shards=5),
        "spec.redis.shards must not be above replicas",
        "must not be above replicas",
    ),
    Bad(
        "Redis shards without a cluster",
        redis(5, shards=3),
        "spec.redis.shards is only for redis.mode cluster",
        "is only for redis.mode cluster",
    ),
    Bad(
        "Redis mode that is none",
        redis(1, mode="Sentinel"),
        'spec.redis.mode: Unsupported value: "Sentinel"',
        "Invalid enum value 'Sentinel'",
    ),
    Bad(
        "I06 Required with 1 replica",
        postgresql(synchronous="Required"),
        "spec.postgresql.synchronous must not be Required with 1 replica",
        "must not be Required with 1 replica",
    ),
    *(
        Bad(f"I07 size {text!r}", storage(size=text), "spec.storage.size", "spec.storage.size")
        for text in (
            "",
            "0",
            "0Gi",
            "0.0Gi",
            "-5Gi",
            "+5Gi",
            "1e3",
            "1e100Gi",
            "1E3",
            "1.5.2",
            "5GB",
            "5 Gi",
            "ten",
            "Gi",
            ".5Gi",
            "NaN",
            "0x10",
            "9" * 33,
        )
    ),
    Bad("I07 size without a suffix", storage(size="10"), "spec.storage.size must be at least 1Mi", "must be at least 1Mi"),
    Bad("I07 size in thousandths", storage(size="10000m"), f"spec.storage.size {SIZE}", SIZE),
    Bad("I07 size in GB", storage(size="10GB"), f"spec.storage.size {SIZE}", SIZE),
    Bad("I07 size as a number", storage(size=10), "spec.storage.size in body must be of type string", "Expected `str`, got `int`"),
    *(
        Bad(f"I07 {field} {text!r}", spec("Redis", resources={field: text}), f"spec.resources.{field} {says}", says)
        for field, says in (("cpu", QUANTITY), ("memory", SIZE), ("cpuLimit", QUANTITY), ("memoryLimit", SIZE))
        for text in ("0", "-1", "1e3", "1.5.2")
    ),
    Bad(
        "memory in thousandths",
        spec("Redis", resources={"memory": "512m"}),
        f"spec.resources.memory {SIZE}",
        SIZE,
    ),
    Bad(
        "memoryLimit in bytes",
        spec("Redis", resources={"memoryLimit": "512"}),
        "spec.resources.memoryLimit must be at least 1Mi",
        "must be at least 1Mi",
    ),
    Bad(
        "CPU request above its limit",
        spec("Redis", resources={"cpu": "1", "cpuLimit": "999m"}),
        "spec.resources.cpu is a request and must not be above cpuLimit: lower it or raise the limit",
        "must not be above cpuLimit",
    ),
    Bad(
        "memory request above its limit",
        spec("Redis", resources={"memory": "1Gi", "memoryLimit": "1G"}),
        "spec.resources.memory is a request and must not be above memoryLimit",
        "must not be above memoryLimit",
    ),
    *(
        Bad(
            f"section {section} in {kind}",
            spec(kind, **{section: {}}),
            f"spec.{section} is only for type {owner}",
            f"is only for type {owner}",
        )
        for section, owner, kind in (
            ("postgresql", "PostgreSQL", "MongoDB"),
            ("mongodb", "MongoDB", "PostgreSQL"),
            ("redis", "Redis", "SQLite"),
            ("elasticsearch", "Elasticsearch", "Redis"),
            ("sqlite", "SQLite", "Elasticsearch"),
        )
    ),
    *(
        Bad(f"databaseFile {text!r}", spec("SQLite", sqlite={"databaseFile": text}), "spec.sqlite.databaseFile", "spec.sqlite.databaseFile")
        for text in (
            "",
            "/etc/passwd",
            "/data",
            "/data/",
            "../x.db",
            "/data/../etc/x",
            "a/../../x",
            "./a.db",
            "/data/./a.db",
            "..",
            "a//b",
            "a/",
            "//data/x",
        )
    ),
    *(
        Bad(f"env name {text!r}", env({"name": text}), "spec.env[0].name", "spec.env[0].name")
        for text in ("", "1A", "A B", "A=B", "é", "A$")
    ),
    Bad(
        "env value and valueFrom",
        env({"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
        "must have one of value and valueFrom",
    ),
    Bad(
        "env valueFrom nothing",
        env({"name": "A", "valueFrom": {}}),
        "spec.env[0].valueFrom.secretKeyRef: Required value",
        "missing required field `secretKeyRef`",
    ),
    Bad(
        "env name twice",
        env({"name": "A", "value": "1"}, {"name": "A", "value": "2"}),
        "spec.env[1]: Duplicate value",
        "A is there twice: remove one",
    ),
    Bad(
        "pull secret twice",
        spec("Redis", imagePullSecrets=[{"name": "a"}, {"name": "a"}]),
        "spec.imagePullSecrets[1]: Duplicate value",
        "a is there twice",
    ),
    Bad(
        "too many variables",
        env(*({"name": f"A{i}"} for i in range(101))),
        "spec.env: Too many: 101: must have at most 100 items",
        "length <= 100",
    ),
    Bad("too many parameters", redis(parameters={f"a{i}": 1 for i in range(129)}), "spec.redis.parameters: Too many", "length <= 128"),
    Bad("a parameter too long", redis(parameters={"a": "x" * 1025}), "spec.redis.parameters.a: Too long", "length <= 1024"),
    Bad("a parameter that is on", redis(parameters={"a": True}), "spec.redis.parameters.a", "got `bool`: write it in quotes"),
    Bad("a parameter that is a fraction", redis(parameters={"a": 0.5}), "spec.redis.parameters.a", "Expected `int | str`, got `float`"),
    Bad(
        "node role twice",
        spec("Elasticsearch", elasticsearch={"nodeRoles": ["data", "data"]}),
        "spec.elasticsearch.nodeRoles[1]: Duplicate value",
        "data is there twice",
    ),
    Bad(
        "I12 a database of 64 bytes",
        postgresql(database="é" * 32),
        "spec.postgresql.database must be at most 63 bytes",
        "must be at most 63 bytes",
    ),
    Bad(
        "I12 a MongoDB database with a dollar",
        spec("MongoDB", mongodb={"database": "$x"}),
        "spec.mongodb.database must not contain / ",
        "must not contain / ",
    ),
    Bad("I09 name of 53 characters", spec("Redis"), NAME, "must be at most 52 characters", name="a" * 53),
    Bad("I09 name of 253 characters", spec("Redis"), NAME, "must be at most 52 characters", name="a" * 253),
    Bad("name 1db", spec("Redis"), NAME, "with a letter first", name="1db"),
    Bad("name orders.eu", spec("Redis"), NAME, "with a letter first", name="orders.eu"),
    *(
        Bad(f"I10 pods.{field} {key}", pods(**{field: {key: "x"}}), f"spec.pods.{field} must not hold", "must not hold")
        for field, key in (
            ("labels", "app"),
            ("labels", "database-type"),
            ("labels", "app.kubernetes.io/instance"),
            ("labels", "databases.database-operator.io/role"),
            ("annotations", "databases.database-operator.io/inputs"),
        )
    ),
    Bad("I10 label of the Service", service(labels={"app": "x"}), "spec.service.labels must not hold app", "must not hold app"),
    Bad(
        "I20 as root", pods(securityContext={"runAsUser": 0}), "spec.pods.securityContext.runAsUser", "spec.pods.securityContext.runAsUser"
    ),
    Bad("I20 root allowed", pods(securityContext={"runAsNonRoot": False}), "spec.pods.securityContext.runAsNonRoot", "must be one of True"),
    Bad(
        "I20 seccomp off",
        pods(securityContext={"seccompProfile": {"type": "Unconfined"}}),
        "seccompProfile.type: Unsupported value",
        "must be one of RuntimeDefault",
    ),
    Bad("toleration that is a word", pods(tolerations=["all"]), "spec.pods.tolerations[0]", "Expected `object`, got `str`"),
    Bad(
        "toleration with an unknown effect",
        pods(tolerations=[{"effect": "Never"}]),
        "tolerations[0].effect: Unsupported value",
        "must be one of NoSchedule",
    ),
    Bad(
        "spread constraint without a key",
        pods(topologySpreadConstraints=[{"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]),
        "topologyKey: Required value",
        "is required",
    ),
    Bad(
        "affinity of no shape",
        pods(affinity={"nodeAffinity": []}),
        "spec.pods.affinity.nodeAffinity in body must be of type object",
        "must be of type object",
    ),
    Bad("spread is none", pods(spread="none"), 'spec.pods.spread: Unsupported value: "none"', "Invalid enum value 'none'"),
    Bad("grace period of 0", pods(terminationGracePeriodSeconds=0), "should be greater than or equal to 1", "Expected `int` >= 1"),
    Bad(
        "readOnly of Elasticsearch",
        service("Elasticsearch", readOnly={}),
        "spec.service.readOnly is only for PostgreSQL, MongoDB and Redis",
        "is only for PostgreSQL",
    ),
    Bad(
        "readOnly of SQLite",
        service("SQLite", readOnly={}),
        "spec.service.readOnly is only for PostgreSQL, MongoDB and Redis",
        "is only for PostgreSQL",
    ),
    Bad(
        "nodePort of a ClusterIP",
        service(nodePort=30000),
        "spec.service.nodePort is only for type NodePort or LoadBalancer",
        "is only for type NodePort",
    ),
    Bad(
        "nodePort below readOnly",
        service(readOnly={"nodePort": 30000}),
        "spec.service.readOnly.nodePort is only for type",
        "is only for type NodePort",
    ),
    Bad(
        "class of a NodePort",
        service(type="NodePort", loadBalancerClass="x"),
        "spec.service.loadBalancerClass is only for type LoadBalancer",
        "is only for type LoadBalancer",
    ),
    Bad(
        "access mode",
        storage(accessMode="ReadOnlyMany"),
        'spec.storage.accessMode: Unsupported value: "ReadOnlyMany"',
        "Invalid enum value",
    ),
    Bad("deletionPolicy", spec("Redis", deletionPolicy="retain"), 'spec.deletionPolicy: Unsupported value: "retain"', "Invalid enum value"),
    *(Bad(f"I11 {kind} in {path}", make(f"a{text}"), f"spec.{path}", ONE_LINE) for path, make in SHAPES for kind, text in BREAKS.items()),
    *(
        Bad(
            f"I11 {kind} in {path}",
            make(valid + text),
            f"spec.{path} {message}" if not path.endswith(("labels", "parameters")) else message,
            message if kind != "last newline" else ONE_LINE,
        )
        for path, valid, message, make in PATTERNED
        for kind, text in BREAKS.items()
    ),
]
