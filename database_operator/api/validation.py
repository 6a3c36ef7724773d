"""The rules of admission once more, for a Database that was stored before them or came past them.

What an engine alone can judge (its parameters, its versions, its reserved names) is in ``Engine.problems``.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct, inspect, structs

from database_operator.api import core
from database_operator.api.database import Database
from database_operator.api.refusals import Problem as Problem
from database_operator.api.rules import RULES
from database_operator.api.spec import DatabaseSpec

_CONTROL = re.compile(r"[\x00\n\r]")
_ESCAPED = re.compile(rb"\\(n|r|u0000)")  # in JSON; or an escaped backslash before such a letter: then it is looked at closely
_AT = re.compile(r"(?P<what>.*) - at (?P<key>`key` in )?`\$(?P<path>.*)`", re.DOTALL)
_REGEX = re.compile(r"Expected `str` matching regex (?P<regex>'.*'|\".*\")", re.DOTALL)


def problems(database: Database) -> list[Problem]:
    """Everything that is wrong with ``database``, in the order of its fields; empty if nothing is. Pure.

    The fields already have their types and bounds: ``api.database.decode`` has seen to that.
    """
    if _ESCAPED.search(msgspec.json.encode(database.spec)):
        multiline = list(_control_characters(msgspec.to_builtins(database.spec), "spec"))
        if multiline:
            return multiline  # the rules below may rely on one line
    named = [Problem(rule.field, rule.message) for rule in RULES[Database] if not rule.holds(database)]
    return named + list(_broken(database.spec, "spec"))


def explanation(error: msgspec.ValidationError) -> Problem:
    """What ``decode`` did not take, as a Problem in the words of admission."""
    match = _AT.fullmatch(str(error))
    what, path, key = (match["what"], match["path"], match["key"]) if match else (str(error), "", None)
    field = f"spec{path.replace('[...]', '')}"
    regex = _REGEX.fullmatch(what)
    if regex:
        what = _messages().get(regex["regex"][1:-1].encode().decode("unicode_escape"), what)
    if what.startswith("Expected `int | str`"):
        what += ': write it in quotes, as "on", "true" or "0.5"'
    return Problem(field, f"has a name that {what}" if key else what)


def _control_characters(value: Any, path: str) -> Iterator[Problem]:
    if isinstance(value, str) and _CONTROL.search(value):
        yield Problem(path, "must be one line without NUL: remove the line break or control character")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _control_characters(key, f"{path} (a name in it)")
            yield from _control_characters(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _control_characters(item, f"{path}[{index}]")


def _broken(part: Struct, path: str) -> Iterator[Problem]:
    """The broken rules of ``part`` and of every Struct below it."""
    for cls in reversed(type(part).__mro__):
        for rule in RULES.get(cls, ()):
            if not rule.holds(part):
                yield Problem(f"{path}.{rule.field}" if rule.field else path, rule.message)
    for name, encoded, shape in _fields(type(part)):
        value, below = getattr(part, name), f"{path}.{encoded}"
        if shape is not None:
            items = [(below, value)] if isinstance(value, dict) else [(f"{below}[{index}]", item) for index, item in enumerate(value or ())]
            yield from (Problem(*fault) for place, item in items for fault in core.faults(item, shape, place))
        elif isinstance(value, Struct):
            yield from _broken(value, below)
        elif isinstance(value, tuple):
            yield from _doubled(value, below)
            for index, item in enumerate(value):
                if isinstance(item, Struct):
                    yield from _broken(item, f"{below}[{index}]")


@cache
def _fields(cls: type[Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Name, name in the manifest and shape of the fields of a Struct; asked of msgspec once, for it evaluates the annotations each time."""
    return tuple((field.name, field.encode_name, core.SHAPES.get((cls.__name__, field.encode_name))) for field in structs.fields(cls))


def _doubled(items: tuple[Any, ...], path: str) -> Iterator[Problem]:
    """Items that a list of the kind "map" or "set" must not hold twice."""
    names = [getattr(item, "name", item) for item in items]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(f"{path}[{index}]", f"{name} is there twice: remove one")


@cache
def _messages() -> dict[str, str]:
    """Pattern -> what its message says, for every pattern of the spec."""
    found: dict[str, str] = {}

    def visit(kind: Any) -> None:
        if isinstance(kind, inspect.Metadata) and isinstance(kind.type, inspect.StrType) and kind.extra:
            found[str(kind.type.pattern)] = str(kind.extra["message"])
        elif isinstance(kind, inspect.StructType):
            for field in kind.fields:
                visit(field.type)
        elif isinstance(kind, inspect.UnionType):
            for member in kind.types:
                visit(member)
        elif isinstance(kind, inspect.DictType):
            visit(kind.key_type)
            visit(kind.value_type)
        elif isinstance(kind, inspect.VarTupleType):
            visit(kind.item_type)

    visit(inspect.type_info(DatabaseSpec))
    return found
