"""The Databases of the load, and the children that the operator's own plans make of them."""

import base64
from typing import Any

from database_operator.api.database import API_VERSION, KIND, Metadata, Resolved, Stored, decode, resolve
from database_operator.build import names
from database_operator.build.manifest import Manifest, data_metadata
from database_operator.engines.base import Engine, Inputs, Platform
from database_operator.engines.registry import ENGINES
from database_operator.reconcile.views import DatabaseView

PASSWORD_SECRET = "pw"
_PASSWORD = {"passwordSecret": {"name": PASSWORD_SECRET, "key": "password"}}
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("PostgreSQL", "16", {"postgresql": {"database": "app", "username": "app", **_PASSWORD}}),
    ("MongoDB", "7.0", {"mongodb": {"database": "app", "username": "app", **_PASSWORD}}),
    ("Redis", "7.2", {"redis": {**_PASSWORD, "mode": "standalone"}}),
    ("Elasticsearch", "8.11.0", {"elasticsearch": {"clusterName": "c"}}),
    ("SQLite", "latest", {"sqlite": {"databaseFile": "app.db"}}),
]
PLATFORM = Platform(agent_image="database-operator:bench")


def name(index: int) -> str:
    return f"db{index:05d}"


def manifest(namespace: str, index: int) -> Manifest:
    """One of five types in turn, one member each."""
    type_, version, section = KINDS[index % len(KINDS)]
    spec = {"type": type_, "version": version, "replicas": 1, "storage": {"size": "1Gi"}, **section}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name(index), "namespace": namespace}, "spec": spec}


def typed(view: DatabaseView) -> tuple[Resolved, Engine]:
    head = view.metadata
    metadata = Metadata(name=head.name, namespace=head.namespace, uid=head.uid, generation=head.generation)
    database = resolve(decode(Stored(metadata=metadata, spec=view.spec)))
    return database, ENGINES[database.type]


def children(view: DatabaseView) -> tuple[list[Manifest], list[Manifest]]:
    """The Secrets, which are made by POST, and all else, which is applied: as the first pass over this Database makes them."""
    database, engine = typed(view)
    internal = engine.internal(database, {}) if engine.internal else {}
    values = [(names.credentials(database.name), engine.credentials(database, "s3cret", PLATFORM))]
    values += [(names.internal(database.name), internal)] if internal else []
    secrets = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": data_metadata(database, secret),
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
        for secret, data in values
    ]
    return secrets, engine.plan(database, Inputs(platform=PLATFORM, internal=internal))
