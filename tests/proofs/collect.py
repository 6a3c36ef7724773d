"""The tests as their source has them: where they run, what they are marked to prove, which cases their names carry.

Read from the syntax tree, so that nothing is imported and a table cannot name a test that is not there.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
LEVELS = {"pods": "pods", "apiserver": "API server"}
UNIT = "unit"
_CASE_IN_NAME = re.compile(r"(?<![a-z0-9])([bikmpqre]\d\d)(?![a-z0-9])")
_CASE_IN_ID = re.compile(r"^([BIKMPQRE]\d\d)\b")


class Unreadable(Exception):
    """A marker that cannot be read without running the test."""


class Test(NamedTuple):
    path: str  # below the project's folder
    name: str
    level: str  # where it runs: unit, API server, pods
    long: bool  # only by ./test --long
    proves: tuple[str, ...]
    cases: tuple[str, ...]


def tests() -> list[Test]:
    """Every test below ``tests/``, in the order of files and lines. Raises Unreadable."""
    return [test for path in sorted((PROJECT / "tests").rglob("test_*.py")) for test in _of_module(path)]


def _of_module(path: Path) -> Iterator[Test]:
    module = _parsed(path)
    common = [mark for node in module.body if _assigns(node, "pytestmark") for mark in _items(node.value)]  # type: ignore[attr-defined]
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name.startswith("test_"):
                    yield _test(path, f"{node.name}.{method.name}", [*common, *node.decorator_list, *method.decorator_list])
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield _test(path, node.name, [*common, *node.decorator_list])


def _test(path: Path, name: str, decorators: list[ast.expr]) -> Test:
    marks = [mark for decorator in decorators if (mark := _mark(path, decorator))]
    names = {mark for mark, _ in marks}
    proves = [text for mark, call in marks if mark == "proves" and call is not None for text in _arguments(path, call)]
    cases = [found.upper() for found in _CASE_IN_NAME.findall(name.lower().replace("_", " "))]
    for decorator in decorators:
        cases += sorted({match[1] for text in _texts(path, decorator) if (match := _CASE_IN_ID.match(text))})
    return Test(
        path=str(path.relative_to(PROJECT)),
        name=name,
        level=next((level for mark, level in LEVELS.items() if mark in names), UNIT),
        long="long" in names,
        proves=tuple(dict.fromkeys(proves)),
        cases=tuple(dict.fromkeys(cases)),
    )


def _mark(path: Path, node: ast.expr) -> tuple[str, ast.Call | None] | None:
    """``pytest.mark.x`` or ``pytest.mark.x(…)``, also by a name of the module."""
    call = node if isinstance(node, ast.Call) else None
    named = call.func if call else node
    if isinstance(named, ast.Name):
        value = _value(path, named.id)
        return _mark(value[0], value[1]) if value and call is None else None
    dotted = ast.unparse(named)
    return (dotted.removeprefix("pytest.mark."), call) if dotted.startswith("pytest.mark.") else None


def _arguments(path: Path, call: ast.Call) -> Iterator[str]:
    """Words as they stand, and ``*TABLE``: the keys of a dict, or the texts of a list."""
    for argument in call.args:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value
        elif isinstance(argument, ast.Starred) and isinstance(argument.value, ast.Name):
            yield from _table(path, argument.value.id)
        else:
            raise Unreadable(f"{path.name}:{call.lineno}: {ast.unparse(argument)}: write words, or *TABLE")


def _table(path: Path, name: str) -> list[str]:
    value = _value(path, name)
    elements = [] if value is None else value[1].keys if isinstance(value[1], ast.Dict) else _items(value[1])
    words = [element.value for element in elements if isinstance(element, ast.Constant) and isinstance(element.value, str)]
    if not words or len(words) < len(elements):
        raise Unreadable(f"{path.name}: {name} is no plain table of words")
    return words


def _texts(path: Path, node: ast.expr) -> Iterator[str]:
    """Every text at or below ``node``, beginnings of f-strings included; names of tables are followed."""
    seen: set[tuple[Path, str]] = set()

    def below(where: Path, at: ast.expr) -> Iterator[str]:
        for part in ast.walk(at):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value
            elif isinstance(part, ast.Name) and (where, part.id) not in seen:
                seen.add((where, part.id))
                value = _value(where, part.id)
                if value:
                    yield from below(*value)

    return below(path, node)


def _value(path: Path, name: str) -> tuple[Path, ast.expr] | None:
    """What ``name`` is assigned at the top of the module, or of the module of ours that it is imported from."""
    for node in _parsed(path).body:
        if _assigns(node, name):
            return path, node.value  # type: ignore[attr-defined]
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    source = PROJECT / f"{(node.module or '').replace('.', '/')}.py"
                    return _value(source, alias.name) if source.is_file() else None
    return None


def _assigns(node: ast.stmt, name: str) -> bool:
    targets: Iterable[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets) and getattr(node, "value", None) is not None


def _items(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.List | ast.Tuple | ast.Set) else [node]


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))
