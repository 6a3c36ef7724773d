"""The shapes that every manifest shares: metadata, owner, hashes, Resolved-independent helpers."""

import hashlib
from typing import Any

import msgspec

from database_operator.api.database import API_VERSION, KIND, Database
from database_operator.build import constants as c
from database_operator.build import labels

Manifest = dict[str, Any]


def digest(value: Any, length: int = 16) -> str:
    """Hexadecimal digits of the SHA-256 of ``value`` as JSON with sorted keys: equal values, equal digits, in every process."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:length]


def owner_reference(database: Database) -> Manifest:
    """The controller reference by which the garbage collector and our owner index find a child."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": database.name,
        "uid": database.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def metadata(database: Database, name: str, component: str = labels.DATABASE_COMPONENT) -> Manifest:
    """Of a child of the workload group: owned, garbage-collected with the Database."""
    return {
        "name": name,
        "namespace": database.namespace,
        "labels": labels.common(database, component),
        "ownerReferences": [owner_reference(database)],
    }


def data_metadata(database: Database, name: str) -> Manifest:
    """Of an object of the data group: no owner, found again by label, guarded by annotations."""
    return {
        "name": name,
        "namespace": database.namespace,
        "labels": labels.data(database),
        "annotations": data_annotations(database),
    }


def data_annotations(database: Database) -> dict[str, str]:
    """Not the major: that of the data is known once there is data, and the template of claims cannot be changed."""
    return {c.ENGINE: database.type.value, c.DATABASE_UID: database.uid}
