"""Random steps in a Database's life, chosen by a seed alone: the same seed gives the same steps whatever the cluster does."""

import copy
import random
from collections.abc import Callable
from typing import Any

import msgspec

from database_operator.api.database import Metadata, Stored, decode, resolve
from database_operator.api.validation import problems
from database_operator.build import constants as c
from database_operator.engines.registry import ENGINES
from tests.reconcile.node import BAD_REGISTRY, CRASH

Spec = dict[str, Any]

USER_SECRET = "login"  # a Secret that is there, with the keys ``password``, ``other`` and ``token``
SIZES = ("1Gi", "2Gi", "3Gi", "4Gi")

FROM_SECRET = {"valueFrom": {"secretKeyRef": {"name": USER_SECRET, "key": "token"}}}
PREFERRED = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}
        ]
    }
}
NOWHERE = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["none"]}]}]
        }
    }
}
ZONES = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}

# path -> the values it may take; None: left out
COMMON: dict[str, tuple[Any, ...]] = {
    "imagePullPolicy": (None, "Always", "IfNotPresent"),
    "imagePullSecrets": (None, [{"name": "pull"}]),
    "resources": (None, {"cpu": "100m"}, {"cpu": "200m", "memory": "256Mi", "cpuLimit": "2", "memoryLimit": "1Gi"}, {"memoryLimit": "2Gi"}),
    "env": (
        None,
        [{"name": "A", "value": "1"}],
        [{"name": "A", "value": "2"}, {"name": "B", "value": "$(A)"}],
        [{"name": "TOKEN", **FROM_SECRET}],
    ),
    "deletionPolicy": (None, "Retain", "Delete", "DoNotDelete"),
    "pods.labels": (None, {"team": "a"}, {"team": "b", "cost": "1"}),
    "pods.annotations": (None, {"example.com/note": "x"}),
    "pods.spread": (None, "None", "Required"),
    "pods.affinity": (None, PREFERRED),
    "pods.tolerations": (None, [{"key": "dedicated", "operator": "Exists"}]),
    "pods.topologySpreadConstraints": (None, [ZONES]),
    "pods.terminationGracePeriodSeconds": (None, 10, 40),
    "pods.securityContext": (None, {"supplementalGroups": [2000]}),
    "service.type": (None, "ClusterIP", "NodePort", "LoadBalancer"),
    "service.annotations": (None, {"example.com/lb": "internal"}),
    "service.labels": (None, {"exposed": "yes"}),
}
PASSWORDS = (None, {"name": USER_SECRET, "key": "password"}, {"name": USER_SECRET, "key": "other"})
OWN: dict[str, dict[str, tuple[Any, ...]]] = {
    "PostgreSQL": {
        "version": ("17", "17.4", "17.6"),
        "replicas": (0, 1, 2, 3),
        "postgresql.passwordSecret": PASSWORDS,
        "postgresql.parameters": (None, {"work_mem": "8MB"}, {"max_connections": 150}, {"max_connections": "80", "log_statement": "ddl"}),
        "postgresql.synchronous": (None, "Disabled", "Preferred", "Required"),
        "service.readOnly": (None, {"type": "NodePort"}),
    },
    "MongoDB": {
        "version": ("7.0", "7.0.14", "7.0.20"),
        "replicas": (0, 1, 2, 3),
        "mongodb.passwordSecret": PASSWORDS,
        "mongodb.parameters": (None, {"cacheSizeGB": "1"}, {"systemLog.verbosity": 1}, {"net.maxIncomingConnections": 500}),
        "service.readOnly": (None, {"type": "NodePort"}),
    },
    "Redis": {
        "version": ("7.2", "7.2.5", "7.4"),
        "replicas": (0, 1, 2, 3),
        "redis.mode": (None, "standalone", "sentinel"),
        "redis.passwordSecret": PASSWORDS,
        "redis.parameters": (None, {"maxmemory": "64mb"}, {"maxmemory-policy": "allkeys-lru", "hz": 20}, {"databases": 4}),
    },
    "Elasticsearch": {
        "version": ("8.11.0", "8.11.3", "8.12.0"),
        "replicas": (0, 1, 2, 3),
        "elasticsearch.passwordSecret": PASSWORDS,
        "elasticsearch.nodeRoles": (None, ["master", "data"], ["master", "data", "ingest"]),
        "elasticsearch.parameters": (None, {"action.auto_create_index": "false"}, {"indices.fielddata.cache.size": "20%"}),
    },
    "SQLite": {
        "version": ("latest", "3.46"),
        "replicas": (0, 1),
        "sqlite.passwordSecret": PASSWORDS,
        "sqlite.parameters": (None, {"journal_mode": "WAL"}, {"cache_size": -4000, "foreign_keys": "ON"}),
    },
}
CLUSTER: dict[str, tuple[Any, ...]] = {
    "version": ("7.2", "7.2.5", "7.4"),
    "replicas": (0, 3, 4, 6),
    "redis.passwordSecret": PASSWORDS,
    "redis.parameters": (None, {"hz": 20}, {"databases": 4}),
}
FIRST: dict[str, Spec] = {
    "PostgreSQL": {},
    "MongoDB": {},
    "Redis": {},
    "Elasticsearch": {},
    "SQLite": {},
    "Cluster": {"replicas": 3, "redis": {"mode": "cluster"}},
}

# refused by the API server: the path and a value no spec may have
REFUSED: tuple[tuple[str, Any], ...] = (
    ("type", "Oracle"),
    ("replicas", 11),
    ("replicas", -1),
    ("storage.size", "512Mi"),
    ("storage.size", "much"),
    ("storage.accessMode", "ReadWriteMany"),
    ("storage.storageClassName", "other"),
    ("resources", {"cpu": "2", "cpuLimit": "1"}),
    ("env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
    ("env", [{"name": "A", "value": "two\nlines"}]),
    ("pods.labels", {"app": "theirs"}),
    ("service.nodePort", 80808),
    ("unknown", 1),
)
# taken by the API server and refused by the operator: InvalidSpec, nothing touched
INVALID: dict[str, tuple[tuple[str, Any], ...]] = {
    "PostgreSQL": (("postgresql.parameters", {"archive_command": "id"}), ("env", [{"name": "PGDATA", "value": "/x"}])),
    "MongoDB": (("mongodb.parameters", {"security.authorization": "disabled"}), ("env", [{"name": "LD_PRELOAD", "value": "/x"}])),
    "Redis": (("redis.parameters", {"loadmodule": "/x.so"}), ("env", [{"name": "LD_PRELOAD", "value": "/x"}])),
    "Elasticsearch": (("elasticsearch.nodeRoles", ["ingest"]), ("elasticsearch.parameters", {"path.data": "/x"})),
    "SQLite": (("sqlite.parameters", {"writable_schema": "ON"}), ("env", [{"name": "LD_PRELOAD", "value": "/x"}])),
}
# taken, and only the cluster knows that it cannot work: the reason that Ready must show
BAD: tuple[tuple[str, Any, str], ...] = (
    ("image", f"{BAD_REGISTRY}none:1", "ImageNotPulled"),
    ("pods.nodeSelector", {"disk": "none"}, "Unschedulable"),
    ("pods.affinity", NOWHERE, "Unschedulable"),
    ("resources", {"cpu": "100"}, "Unschedulable"),
    ("pods.schedulerName", "nobody", ""),  # nobody says why
    ("env", [{"name": CRASH, "value": "1"}], "CrashLooping"),
    ("env", [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "x"}}}], "SecretNotFound"),
    ("pods.priorityClassName", "absent", "ReconciliationFailed"),
)
HELD: dict[str, str] = {"PostgreSQL": "18", "MongoDB": "8.0", "Redis": "7.0", "Elasticsearch": "8.10.0"}
HAND = ("delete", "strip", "edit")


class Step(msgspec.Struct, frozen=True):
    """``do``: change refused invalid bad held hand scale disabled restart password recreate."""

    do: str
    spec: Spec  # as it stands afterwards, when all is well again
    path: str = ""
    value: Any = None
    reason: str = ""  # of Ready, while a bad value stands
    pick: int = 0  # which child

    def __str__(self) -> str:
        return f"{self.do} {self.path}={self.value!r}" if self.path else f"{self.do} {self.pick}"


class Life:
    """The steps of one Database, as far as they are its own choice."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.chance = kind, random.Random(seed)
        self.type = "Redis" if kind == "Cluster" else kind
        self.fields = {**COMMON, **(CLUSTER if kind == "Cluster" else OWN[kind])}
        self.spec: Spec = {
            "type": self.type,
            "version": self.fields["version"][0],
            "storage": {"size": SIZES[0]},
            **copy.deepcopy(FIRST[kind]),
        }

    def step(self) -> Step:
        weighed: dict[Callable[[], Step | None], int] = {
            self._change: 10,
            self._refused: 1,
            self._invalid: 1,
            self._bad: 3,
            self._held: 1,
            self._hand: 2,
            self._scale: 2,
            self._grow: 1,
            lambda: Step("disabled", self.spec, pick=self.chance.randrange(100)): 1,
            lambda: Step("restart", self.spec, pick=self.chance.randrange(10**6)): 1,
            lambda: Step("password", self.spec, pick=self.chance.randrange(10**6)): 1,
            lambda: Step("recreate", self.spec): 1,
        }
        while True:
            (made,) = self.chance.choices(list(weighed), list(weighed.values()))
            found = made()
            if found is not None:
                self.spec = copy.deepcopy(found.spec)
                return found

    def _change(self) -> Step | None:
        """One to four fields at once."""
        spec, paths = copy.deepcopy(self.spec), []
        for path in self.chance.sample(sorted(self.fields), self.chance.choice((1, 1, 2, 4))):
            values = self.fields[path]
            if path == "version":  # a downgrade waits
                values = values[values.index(spec["version"]) :]
            put(spec, path, self.chance.choice(values))
            paths.append(path)
        if spec == self.spec or not self.valid(spec):
            return None
        return Step("change", spec, ",".join(paths), {path: get(spec, path) for path in paths})

    def _scale(self) -> Step | None:
        """By the subresource, which an autoscaler uses."""
        spec = copy.deepcopy(self.spec)
        spec["replicas"] = self.chance.choice(self.fields["replicas"])
        return Step("scale", spec, "replicas", spec["replicas"]) if spec != self.spec and self.valid(spec) else None

    def _grow(self) -> Step | None:
        at = SIZES.index(self.spec["storage"]["size"])
        if at + 1 == len(SIZES):
            return None
        spec = copy.deepcopy(self.spec)
        spec["storage"]["size"] = SIZES[at + 1]
        return Step("change", spec, "storage.size", SIZES[at + 1])

    def _refused(self) -> Step:
        path, value = self.chance.choice(REFUSED)
        return Step("refused", self.spec, path, value)

    def _invalid(self) -> Step:
        path, value = self.chance.choice(INVALID[self.type])
        return Step("invalid", self.spec, path, value)

    def _bad(self) -> Step | None:
        path, value, reason = self.chance.choice(BAD)
        return Step("bad", self.spec, path, value, reason) if self.spec.get("replicas", 1) else None

    def _held(self) -> Step | None:
        wanted = HELD.get(self.type)
        return Step("held", self.spec, "version", wanted) if wanted and self.spec.get("replicas", 1) else None

    def _hand(self) -> Step:
        return Step("hand", self.spec, "child", self.chance.choice(HAND), pick=self.chance.randrange(100))

    def valid(self, spec: Spec) -> bool:
        """Judged as the operator judges it; the API server judges once more."""
        metadata = Metadata(name="x", namespace="x", uid="x", resource_version="1", generation=1)
        try:
            database = decode(Stored(metadata=metadata, spec=msgspec.Raw(msgspec.json.encode(spec)), status=msgspec.Raw(b"{}")))
        except msgspec.ValidationError:
            return False
        return not problems(database) and not ENGINES[database.type].problems(resolve(database))


def get(spec: Spec, path: str) -> Any:
    part: Any = spec
    for word in path.split("."):
        part = part.get(word) if isinstance(part, dict) else None
    return part


def put(spec: Spec, path: str, value: Any) -> None:
    """Set one field, or take it away with None; sections left empty go."""
    *above, last = path.split(".")
    part = spec
    for word in above:
        part = part.setdefault(word, {})
    if value is None:
        part.pop(last, None)
    else:
        part[last] = copy.deepcopy(value)
    if above and not part:
        spec.pop(above[0])


def merge_patch(old: Any, new: Any) -> Any:
    """RFC 7386: what turns ``old`` into ``new``."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    changed = {key: merge_patch(old.get(key), value) for key, value in new.items() if key not in old or old[key] != value}
    return changed | {key: None for key in old if key not in new}


__all__ = ["REQUEST", "Life", "Step", "get", "merge_patch", "put"]
REQUEST = c.RESTARTED_AT
