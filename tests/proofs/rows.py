"""The rows of the contract with users, each of which some test has to prove; from the types and the registry where those know them."""

import argparse
import json
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import inspect

from database_operator import config, reference
from database_operator.api.database import Metadata, Resolved, Stored, decode, resolve
from database_operator.api.documentation import CONDITIONS, FIELDS
from database_operator.api.schema import COLUMNS, owner
from database_operator.api.spec import DatabaseSpec, DeletionPolicy
from database_operator.api.status import DatabaseStatus, MemberStatus, Phase
from database_operator.build import constants as c
from database_operator.engines.base import Platform
from database_operator.engines.registry import ENGINES


class Row(NamedTuple):
    id: str
    says: str
    real: bool = True  # proven only by the real API server or real pods


class Section(NamedTuple):
    title: str
    rows: list[Row]


# Objects whose fields are rows of their own.
WHOLES = frozenset({"storage", "resources", "postgresql", "mongodb", "redis", "elasticsearch", "sqlite", "pods", "service"})
WHOLES |= {"imagePullSecrets", "env", "env[].valueFrom", "env[].valueFrom.secretKeyRef", "service.readOnly"}
WHOLES |= {f"{section}.passwordSecret" for section in ("postgresql", "mongodb", "redis", "elasticsearch", "sqlite")}

BAD_INPUT = {
    "type": "an unknown type",
    "replicas": "replicas out of 0–10, or above 1 for SQLite",
    "standalone": "a standalone Redis with several members",
    "cluster-members": "a Redis cluster of 1 or 2 members",
    "quantity": "a bad or zero quantity",
    "request-above-limit": "a request above its limit",
    "shrinking": "storage that shrinks",
    "refused-change": "a change of what is set once",
    "section": "an engine's section that is not of the type",
    "databaseFile": "a databaseFile that leaves /data",
    "env-name": "an env name that is none",
    "doubled": "a name that a list holds twice",
    "name": "a name that is no DNS-1035 label, or over 52 characters",
    "control-characters": "a newline or NUL in any string",
    "owned-parameters": "a parameter that the operator owns or that runs code",
    "owned-env": "an env name that would break the database",
    "no-secret": "a Secret or key that is missing: a condition, an event, a retry",
    "no-class": "a StorageClass that is missing: likewise",
    "no-image": "an image that cannot be pulled: likewise",
    "no-node": "a pod that no node takes: likewise",
    "no-quota": "a quota that leaves no room: likewise",
    "first-version": "manifests of the first version: taken, unchanged",
}
OBJECTS = {
    "service": "`<name>-service`: a ClusterIP with the port `database`, to the primary or to whom each engine says",
    "ro": "`<name>-ro` from the second member on",
    "members": "headless `<name>-members`",
    "sentinel": "`<name>-sentinel` in sentinel mode",
    "pdb": "`<name>-pdb` from the second member on",
}
ENGINE_COLUMNS = ("workload", "image", "port", "data", "service")
VERSIONS = {
    "steps": "patch and minor steps roll",
    "held": "a major step or downgrade is held, and reverting heals",
    "taken": "which versions",
}


def sections() -> list[Section]:
    """All rows, in the order of the page."""
    return [
        Section("Fields of the spec", list(_fields())),
        Section("Versions", [Row(f"versions.{key}", text) for key, text in VERSIONS.items()]),
        Section(
            "Deletion policies", [Row(f"deletionPolicy.{policy.value}", f"deletionPolicy `{policy.value}`") for policy in DeletionPolicy]
        ),
        Section(
            "What each engine becomes",
            [Row(f"engine.{type_.value}.{column}", f"{type_.value}: {column}") for type_ in ENGINES for column in ENGINE_COLUMNS]
            + [Row(f"object.{key}", text) for key, text in OBJECTS.items()],
        ),
        Section("Keys of `<name>-credentials`", [Row(f"credentials.{key}", f"`{key}`") for key in _credential_keys()]),
        Section("Phases", [Row(f"phase.{phase.value}", f"`{phase.value}`") for phase in Phase]),
        Section("Conditions and reasons", list(_reasons())),
        Section("Fields of the status", list(_status())),
        Section("Columns of kubectl", [Row(f"column.{name}", f"`{name}`") for name, *_ in COLUMNS]),
        Section("Annotations and labels of the user", list(_annotations())),
        Section("Bad input", [Row(f"bad.{key}", text) for key, text in BAD_INPUT.items()]),
        Section("Flags", list(_flags())),
    ]


def spec_fields() -> dict[str, str]:
    """Every field with an effect of its own, ``a.b[].c`` -> what a change of it does, of it or of what it is part of."""
    found: dict[str, str] = {}
    changes: dict[str, str] = {}
    for path, kind, field in reference.fields(inspect.type_info(DatabaseSpec), ""):
        entry = FIELDS[f"{owner(kind.cls, field.name)}.{field.encode_name}"]
        above = path.removesuffix(f".{field.encode_name}").removesuffix("[]")
        changes[path] = entry.change or changes.get(above, "")
        if path not in WHOLES:
            found[path] = changes[path]
    return found


def _fields() -> Iterator[Row]:
    for path, change in spec_fields().items():
        yield Row(f"spec.{path}", f"`{path}`; on change: {change}")


def _credential_keys() -> list[str]:
    """Of every engine, alone and with several members."""
    keys: dict[str, None] = {}
    for engine in ENGINES.values():
        for replicas in (1, 3):
            body = {"type": engine.type.value, "version": reference.EXAMPLE_VERSIONS[engine.type], "replicas": replicas}
            keys |= dict.fromkeys(engine.credentials(_resolved(body), "secret", Platform(agent_image="agent")))
    return list(keys)


def _resolved(body: dict[str, object]) -> Resolved:
    return resolve(decode(Stored(metadata=Metadata(name="orders", namespace="shop"), spec=msgspec.Raw(json.dumps(body).encode()))))


def _reasons() -> Iterator[Row]:
    for condition, (_, reasons) in CONDITIONS.items():
        for reason, _, says in (line.partition(": ") for line in reasons):
            yield Row(f"{condition}.{reason}", f"`{condition}`: `{reason}`, {says}")


def _status() -> Iterator[Row]:
    for field in msgspec.structs.fields(DatabaseStatus):
        if field.encode_name not in ("phase", "conditions", "members"):
            yield Row(f"status.{field.encode_name}", f"`{field.encode_name}`")
    for field in msgspec.structs.fields(MemberStatus):
        yield Row(f"status.members.{field.encode_name}", f"`members[].{field.encode_name}`")


def _annotations() -> Iterator[Row]:
    for name in (c.RECONCILE, *c.REQUESTS.values(), c.RELOAD):
        yield Row(f"annotation.{name.rpartition('/')[2]}", f"`{name.rpartition('/')[2]}`")


def _flags() -> Iterator[Row]:
    commands = next(action for action in config.parser()._actions if isinstance(action, argparse._SubParsersAction))
    for action in commands.choices["run"]._actions:
        if action.dest != "help":
            yield Row(f"flag.{action.option_strings[0]}", f"`{action.option_strings[0]}`", real=False)
