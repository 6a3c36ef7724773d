"""The tables of ``docs/reference``: fields, conditions and engines, from the types and the registry."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from msgspec import NODEFAULT, inspect, to_builtins

from database_operator.api.documentation import CONDITIONS, FIELDS, PHASES, Entry
from database_operator.api.refusals import Refusal
from database_operator.api.schema import owner
from database_operator.api.spec import DatabaseSpec, EngineType
from database_operator.engines.base import Engine

EXAMPLE_VERSIONS = {
    EngineType.POSTGRESQL: "17",
    EngineType.MONGODB: "7.0",
    EngineType.REDIS: "7.2",
    EngineType.ELASTICSEARCH: "8.11.0",
    EngineType.SQLITE: "latest",
}


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _page(note: str, title: str, *parts: str) -> str:
    return "\n".join([f"<!-- {note} -->", f"# {title}", "", *parts])


def spec(note: str) -> str:
    rows = [
        (f"`{path}`", _bounds(field.type), _default(kind, field), _entry(kind, field).meaning, _entry(kind, field).change)
        for path, kind, field in fields(inspect.type_info(DatabaseSpec), "")
    ]
    text = (
        "Defaults are filled in when the operator reads a Database and are never written back; `replicas: 1` alone is in the schema.\n"
        "On change: live = in the running database; rolling = replicas first, then the primary hands over; refused = by the API server.\n"
    )
    return _page(note, "Database: spec", text, _table(("field", "type", "default", "meaning", "on change"), rows))


def conditions(note: str) -> str:
    parts = ["## status.phase\n", _table(("phase", "meaning"), [(f"`{phase}`", text) for phase, text in PHASES.items()])]
    for name, (meaning, reasons) in CONDITIONS.items():
        rows = [(f"`{reason}`", text) for reason, _, text in (line.partition(": ") for line in reasons)]
        parts += [f"## {name}\n\n{meaning}\n", _table(("reason", "meaning"), rows)]
    return _page(note, "Database: status.phase and status.conditions", *parts)


def engines(every: Iterable[Engine], note: str) -> str:
    known = list(every)
    rows = [
        (
            engine.title,
            f"`{engine.official_image(EXAMPLE_VERSIONS[engine.type])}`",
            str(engine.port),
            f"`{engine.data_path(EXAMPLE_VERSIONS[engine.type])}`",
            "yes" if engine.read_only_service else "no",
            "yes" if engine.internal else "no",
            "yes" if engine.switchover else "no",
            "yes" if engine.rebuild else "no",
            "; ".join(_rule(rule) for rule in engine.agent_rules or ()) or "none",
        )
        for engine in known
    ]
    heads = (
        *("engine", "image (as an example)", "port", "data", "`<name>-ro`", "`<name>-internal`", "`switchover`", "`rebuild`"),
        "rights of the agent in its namespace",
    )
    parts = [_table(heads, rows)]
    for engine in known:
        parts += [f"## {engine.title}: parameters that are refused\n", _refusals(engine.owned_parameters)]
        if engine.bounds:
            rows_ = [(f"`{name}`", text) for name, text in engine.bounds]
            parts += [f"## {engine.title}: parameters within bounds\n", _table(("name", "takes"), rows_)]
        parts += [f"## {engine.title}: environment names that are refused\n", _refusals(engine.owned_env)]
    return _page(note, "Engines", *parts)


def _refusals(refusals: Iterable[Refusal]) -> str:
    rows = [(f"`{refusal.pattern}`", refusal.reason, _accepted(refusal)) for refusal in refusals]
    return _table(("name", "because", "ignored with a warning when it is"), rows) if rows else "None.\n"


def _accepted(refusal: Refusal) -> str:
    if refusal.accept is None:
        return ""
    return ", ".join(f"`{value}`" for value in refusal.accept) or "set to anything"


def _rule(rule: dict[str, Any]) -> str:
    return f"{', '.join(rule['resources'])}: {', '.join(rule['verbs'])}"


def fields(kind: inspect.Type, path: str) -> Iterator[tuple[str, inspect.StructType, inspect.Field]]:
    """Every field below ``kind``: (path, the Struct it is in, the field)."""
    if isinstance(kind, inspect.UnionType):
        kind = kind.types[0]
    if isinstance(kind, inspect.VarTupleType):
        kind, path = kind.item_type, f"{path}[]"
    if not isinstance(kind, inspect.StructType):
        return
    for field in kind.fields:
        below = f"{path}.{field.encode_name}".removeprefix(".")
        if path == "service.readOnly" and field.encode_name != "type":
            continue  # the same fields once more
        yield below, kind, field
        yield from fields(field.type, below)


def _entry(kind: inspect.StructType, field: inspect.Field) -> Entry:
    return FIELDS[f"{owner(kind.cls, field.name)}.{field.encode_name}"]


def _default(kind: inspect.StructType, field: inspect.Field) -> str:
    entry = _entry(kind, field)
    if field.required or entry.default:
        return entry.default or "required"
    if field.default in (NODEFAULT, None, ()):
        return ""
    value = field.default.value if isinstance(field.default, Enum) else to_builtins(field.default)
    return f"`{value}`"


def _bounds(kind: inspect.Type) -> str:
    """The type in a few words."""
    match kind:
        case inspect.Metadata():
            return _bounds(kind.type)
        case inspect.UnionType():
            return " or ".join(_bounds(member) for member in kind.types if not isinstance(member, inspect.NoneType))
        case inspect.StrType():
            return f"string, at most {kind.max_length}"
        case inspect.IntType():
            return f"{kind.ge}–{kind.le}" if kind.ge is not None else "integer"
        case inspect.EnumType():
            return ", ".join(f"`{member.value}`" for member in kind.cls)
        case inspect.DictType(value_type=inspect.AnyType()) | inspect.StructType():
            return "object"
        case inspect.DictType():
            return f"map to {_bounds(kind.value_type)}; at most {kind.max_length} entries"
        case inspect.VarTupleType():
            return f"list of {_bounds(kind.item_type)}; at most {kind.max_length}"
    return "object"
