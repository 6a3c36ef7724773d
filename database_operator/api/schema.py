"""The CustomResourceDefinition, made from the Structs of ``api.spec`` and ``api.status`` and the rules of ``api.rules``.

A structural schema (apiextensions.k8s.io/v1) with a bound on everything, because CEL prices a rule by the largest
object the schema allows. Its one default is ``replicas: 1``, which the scale subresource needs.
"""

from collections.abc import Iterable
from inspect import get_annotations
from typing import Any

from msgspec import inspect

from database_operator.api import core, owned
from database_operator.api.core import Schema
from database_operator.api.database import GROUP, KIND, PLURAL, VERSION, Database
from database_operator.api.documentation import description
from database_operator.api.owned import Owned
from database_operator.api.rules import CLUSTER_NAME, FIXED, NAME_LIMIT, RULES, SHRINKING, SIZE, Fixed, Rule
from database_operator.api.spec import DatabaseSpec
from database_operator.api.status import DatabaseStatus

NAME = f"{PLURAL}.{GROUP}"
_KEYS = ("name", "type", "key")  # what tells the items of a list apart, the first that every item has

COLUMNS = (
    ("Type", ".spec.type", "string", 0),
    ("Version", ".spec.version", "string", 0),
    ("Phase", ".status.phase", "string", 0),
    ("Ready", ".status.ready", "string", 0),
    ("Primary", ".status.primary", "string", 0),
    ("Age", ".metadata.creationTimestamp", "date", 0),
    ("Endpoint", ".status.endpoint", "string", 1),
    ("Storage", ".status.storage.size", "string", 1),
    ("Message", ".status.message", "string", 1),
)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def validation(rule: Rule, path: str) -> Schema:
    """``rule`` as the API server takes it; ``path`` is where its object stands."""
    whole = ".".join(part for part in (path, rule.field) if part)
    pointed = {"fieldPath": f".{rule.field}"} if rule.field and path else {}
    return {"rule": rule.cel, "message": f"{whole} {rule.message}"} | pointed


def transition(fixed: Fixed, path: str) -> Schema:
    """Refuses a change of ``fixed``; evaluated on updates only, because it names ``oldSelf``."""
    cel = f"{fixed.value.format(self='self')} == {fixed.value.format(self='oldSelf')}"
    return {"rule": cel, "message": f"spec.{fixed.field} cannot be changed: {fixed.hint}", "fieldPath": f"{path}.{fixed.field}"}


def growth() -> Schema:
    new, old = SIZE.format(self="self"), SIZE.format(self="oldSelf")
    cel = f"!isQuantity({new}) || quantity({new}).compareTo(quantity({old})) >= 0"
    return {"rule": cel, "message": f"spec.storage.size {SHRINKING}", "fieldPath": ".storage.size"}


def owner(cls: type, field: str) -> str:
    """The name of the Struct that declares ``field``: a derived one shares its documentation."""
    return next(base.__name__ for base in reversed(cls.__mro__) if field in get_annotations(base))


class _Walk:
    """One walk over a tree of types. ``strict`` (spec) writes every bound; status is bounded by its one writer."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict

    def schema(self, kind: inspect.Type, path: str) -> Schema:
        match kind:
            case inspect.Metadata():
                return self.explained(kind, path)
            case inspect.UnionType():
                return self.union(kind, path)
            case inspect.StrType():
                return self.string(kind)
            case inspect.IntType():
                bounds = {"minimum": kind.ge, "maximum": kind.le}
                return {"type": "integer", "format": "int64"} | {key: value for key, value in bounds.items() if value is not None}
            case inspect.BoolType():
                return {"type": "boolean"}
            case inspect.EnumType():
                return {"type": "string"} | ({"enum": [member.value for member in kind.cls]} if self.strict else {})
            case inspect.DictType():
                return self.mapping(kind, path)
            case inspect.VarTupleType():
                return self.array(kind, path)
            case inspect.StructType():
                return self.struct(kind, path)
        raise TypeError(f"{path}: no schema for {kind!r}")

    def explained(self, kind: inspect.Metadata, path: str) -> Schema:
        """A string whose pattern has a message: the pattern becomes a rule, so that users read words and no expression."""
        schema = self.schema(kind.type, path)
        message = (kind.extra or {}).get("message")
        if message and "pattern" in schema:
            cel = f"self.matches({_quoted(schema.pop('pattern'))})"
            schema["x-kubernetes-validations"] = [{"rule": cel, "message": f"{path} {message}"}]
        return schema

    def union(self, kind: inspect.UnionType, path: str) -> Schema:
        types = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        if len(types) == 1:
            return self.schema(types[0], path)
        (text,) = (member for member in types if isinstance(member, inspect.StrType))
        return {key: value for key, value in self.string(text).items() if key != "type"} | {"x-kubernetes-int-or-string": True}

    def string(self, kind: inspect.StrType) -> Schema:
        if not self.strict:
            return {"type": "string"}
        bounds = {"minLength": kind.min_length, "maxLength": kind.max_length, "pattern": kind.pattern or core.ONE_LINE}
        return {"type": "string"} | {key: value for key, value in bounds.items() if value is not None}

    def mapping(self, kind: inspect.DictType, path: str) -> Schema:
        schema: Schema = {"type": "object", "additionalProperties": self.schema(kind.value_type, f"{path}[]")}
        if self.strict:
            schema["maxProperties"] = kind.max_length
            schema["x-kubernetes-validations"] = [self.keys(kind.key_type, path)]
        return schema

    def keys(self, kind: inspect.Type, path: str) -> Schema:
        if not isinstance(kind, inspect.Metadata) or not isinstance(kind.type, inspect.StrType):
            raise TypeError(f"{path}: the keys of a map need a pattern with a message")
        cel = f"self.all(k, size(k) <= {kind.type.max_length} && k.matches({_quoted(kind.type.pattern or '')}))"
        return {"rule": cel, "message": f"a name in {path} {(kind.extra or {})['message']}"}

    def array(self, kind: inspect.VarTupleType, path: str) -> Schema:
        items = self.schema(kind.item_type, f"{path}[]")
        schema: Schema = {"type": "array", "items": items}
        if self.strict:
            schema["maxItems"] = kind.max_length
        key = next((key for key in _KEYS if key in items.get("required", ())), None)
        if key:
            return schema | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
        return schema | {"x-kubernetes-list-type": "set" if items["type"] == "string" else "atomic"}

    def struct(self, kind: inspect.StructType, path: str) -> Schema:
        properties: Schema = {}
        for field in kind.fields:
            below = f"{path}.{field.encode_name}"
            declared = owner(kind.cls, field.name)
            meaning = {"description": description(declared, field.encode_name)} if self.strict else {}
            properties[field.encode_name] = meaning | self.field(declared, field, below)
        schema: Schema = {"type": "object", "properties": properties}
        required = sorted(field.encode_name for field in kind.fields if field.required)
        rules = [validation(rule, path) for cls in kind.cls.__mro__[::-1] for rule in RULES.get(cls, ())] if self.strict else []
        return schema | ({"required": required} if required else {}) | ({"x-kubernetes-validations": rules} if rules else {})

    def field(self, declared: str, field: inspect.Field, path: str) -> Schema:
        shape = core.SHAPES.get((declared, field.encode_name))
        if shape is None:
            return self.schema(field.type, path)
        return core.array(shape, field.type.max_length or 0) if isinstance(field.type, inspect.VarTupleType) else shape


def spec_schema(refusals: Iterable[Owned]) -> Schema:
    schema = _Walk(strict=True).schema(inspect.type_info(DatabaseSpec), "spec")
    schema["properties"]["replicas"]["default"] = 1
    schema["x-kubernetes-validations"] += [*(transition(fixed, "") for fixed in FIXED), growth()]
    for engine in refusals:
        schema["x-kubernetes-validations"] += owned.environment(engine)
        section = schema["properties"][engine.type.value.lower()]["properties"]
        section["parameters"]["x-kubernetes-validations"] += owned.parameters(engine)
    return schema


def object_schema(refusals: Iterable[Owned]) -> Schema:
    """Of the whole object. The rule on the name looks at new objects only: an older one must stay deletable."""
    (name,) = RULES[Database]
    named = validation(name, "") | {"rule": f"oldSelf.hasValue() || ({name.cel})", "optionalOldSelf": True}
    return {
        "type": "object",
        "description": f"A database that the operator runs. Its name has at most {NAME_LIMIT} characters.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"description": "What is wanted."} | spec_schema(refusals),
            "status": {"description": "What is there."} | _Walk(strict=False).schema(inspect.type_info(DatabaseStatus), "status"),
        },
        "x-kubernetes-validations": [named, transition(CLUSTER_NAME, ".spec")],
    }


def custom_resource_definition(refusals: Iterable[Owned] = ()) -> dict[str, Any]:
    """``databases.databases.database-operator.io``, a Provisioned Service (servicebinding.io) by its label.

    ``refusals``: what each engine never takes, see ``api.owned``.
    """
    columns = [{"name": name, "jsonPath": path, "type": kind, "priority": priority} for name, path, kind, priority in COLUMNS]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME, "labels": {"servicebinding.io/provisioned-service": "true"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["db"],
                "categories": ["databases"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": object_schema(refusals)},
                    "additionalPrinterColumns": columns,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                }
            ],
        },
    }
