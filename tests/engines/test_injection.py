"""Payloads in every string field of every engine: refused, or one literal value where it belongs. And no shell anywhere."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import yaml
from msgspec import inspect

from database_operator.api.database import Metadata, Resolved, Stored, decode, resolve
from database_operator.api.spec import DatabaseSpec, EngineType
from database_operator.api.validation import problems
from database_operator.engines.base import Engine, Inputs, Platform
from database_operator.engines.registry import ENGINES
from tests.engines.test_redis import split

PROJECT = Path(__file__).resolve().parents[2]
PLATFORM = Platform(agent_image="database-operator:test")
VERSIONS = {"PostgreSQL": "17.2", "MongoDB": "7.0.5", "Redis": "7.2.4", "Elasticsearch": "8.11.0", "SQLite": "latest"}
TOKEN = "zqtokenqz"  # a word that no field refuses

CORE = [
    *(
        "$(reboot)",
        "`reboot`",
        "; reboot",
        "&& reboot",
        "| reboot",
        "|| reboot",
        "> /data/x",
        "< /etc/passwd",
        "${IFS}reboot",
        "$(POD_NAME)",
    ),
    *("\n", "\nreboot", "a\nloadmodule /x.so", "a\r\nreboot", "\0", "a\0b", "\x1b[2J", "\x07", "\x7f", "\u2028reboot", "\u0085reboot"),
    *(
        "'",
        "''",
        "' OR '1'='1",
        "'; DROP ROLE postgres; --",
        '"',
        '""',
        '"; DROP ROLE postgres; --',
        "\\",
        "\\\\",
        "\\'",
        '\\"',
        "$$",
        "$x$a$x$",
    ),
    *(
        "%s",
        "%n%n%n",
        "%(x)s",
        "{0}",
        "{{7*7}}",
        "${7*7}",
        "#{7*7}",
        "{x.__class__}",
        "${env:PATH}",
        "${POD_IP}",
        "<%= 7 %>",
        "${jndi:ldap://x}",
    ),
    *(
        "#",
        "# comment",
        "a # b",
        "a: b",
        "a:\n  b: c",
        "- a",
        "? a",
        "! a",
        "!!python/object/apply:os.system",
        "&a",
        "*a",
        "[",
        "{",
        "]",
        "}",
        ",",
    ),
    *("|", ">", "@", "%", "---", "...", "null", "~", "true", "yes", "on", "0x10", "1e3", ".inf", "0o7", "2001-01-01", "=", "<<"),
    *("../../etc/passwd", "/etc/passwd", "..", ".", "/", "//", "file:///etc/passwd", "http://169.254.169.254/", "a/../b", "~root", "C:\\x"),
    *("-c", "--help", "-Djava=1", "--requirepass x", "--eval 1", "-javaagent:/x.jar", "--include /x", "- -", "-"),
    *("é", "\u202eabc", "\u200b", "ａｄｍｉｎ", "аdmin", "𝒂", "😀", "\ufeff", "ﬁ", "ß", "İ"),
    *("postgres", "pg_x", "admin", "local", "config", "__system", "root", "operator", "template0", "public", "none", "elastic", "default"),
    *(
        "x" * 64,
        "x" * 1024,
        "x" * 1025,
        "é" * 63,
        " ",
        "  ",
        " a",
        "a ",
        "\t",
        "a\tb",
        "*",
        "?",
        "[a]",
        "a,b",
        "a=b",
        "a@b",
        "a:b@c",
        "a?b&c=d",
    ),
    *(
        "</script>",
        "<!--",
        "]]>",
        "*)(uid=*",
        "1; exec xp_cmdshell",
        "load_extension('x')",
        "wal; ATTACH 'x' AS y",
        "COPY x TO PROGRAM 'y'",
    ),
]
PAYLOADS = [*CORE, *(f"a{payload}" for payload in CORE)]
SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "ksh", "env", "eval", "xargs"})
Spec = dict[str, Any]


def _places(kind: inspect.Type, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Ways from the spec to every string.

    Of names of fields; ``[]`` is an item, ``{}`` a value and ``{x}`` a name in a map, ``...`` what is passed on as written.
    """
    match kind:
        case inspect.Metadata():
            yield from _places(kind.type, path)
        case inspect.UnionType():
            for member in kind.types:
                yield from _places(member, path)
        case inspect.StrType():
            yield path
        case inspect.StructType():
            for field in kind.fields:
                yield from _places(field.type, (*path, field.encode_name))
        case inspect.VarTupleType():
            yield from _places(kind.item_type, (*path, "[]"))
        case inspect.DictType(value_type=inspect.AnyType()):
            yield (*path, "...")
        case inspect.DictType():
            yield (*path, "{x}")
            yield from _places(kind.value_type, (*path, "{}"))


SECTIONS = {type_.value.lower() for type_ in EngineType}
PLACES = [place for place in _places(inspect.type_info(DatabaseSpec), ()) if place != ("type",)]
# what stands beside a field that cannot stand alone
BESIDE: dict[str, Spec] = {"env": {"name": "A"}, "secretKeyRef": {"name": "a"}, "passwordSecret": {"name": "a"}}
OPEN: dict[str, Spec] = {
    "affinity": {
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "{}"}}]}
    },
    "tolerations": {"key": "{}", "operator": "Exists"},
    "topologySpreadConstraints": {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "topologyKey": "{}"},
    "securityContext": {"seLinuxOptions": {"level": "{}"}},
}
# parameters that take any text, so that the text itself is what is tried
FREE = {"postgresql": "application_name", "mongodb": "setParameter.x", "redis": "proc-title", "elasticsearch": "node.attr.x", "sqlite": "x"}


def _filled(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, text) for item in value]
    return text if value == "{}" else value


def _spec(type_: str, place: tuple[str, ...], text: str) -> Spec:
    """A spec in which ``text`` stands at ``place`` alone."""

    def build(at: int) -> Any:
        if at == len(place):
            return text
        step, before = place[at], place[at - 1] if at else ""
        match step:
            case "[]":
                item = build(at + 1)
                return [BESIDE.get(before, {}) | item if isinstance(item, dict) else item]
            case "{}":
                return {FREE.get(place[0], "a"): build(at + 1)}
            case "{x}":
                return {text: "1"}
            case "...":
                return _filled(OPEN[next(name for name in reversed(place) if name in OPEN)], text)
        below = build(at + 1)
        return {step: BESIDE.get(step, {}) | below if isinstance(below, dict) else below}

    base: Spec = {"type": type_, "version": VERSIONS[type_], "replicas": 1 if type_ == "SQLite" else 3}
    return base | ({"service": {"type": "LoadBalancer"}} if place[0] == "service" else {}) | _deep(base, build(0))


def _deep(base: Spec, patch: Spec) -> Spec:
    service = {"type": "LoadBalancer"} if "service" in patch else {}
    return {key: service | value if key == "service" else value for key, value in patch.items()}


def _accepted(engine: Engine, spec: Spec) -> Resolved | None:
    """The Database, or None where it is refused."""
    try:
        database = decode(Stored(metadata=Metadata(name="orders", namespace="shop", uid="u"), spec=msgspec.Raw(msgspec.json.encode(spec))))
    except msgspec.ValidationError:
        return None
    if problems(database):
        return None
    resolved = resolve(database)
    return None if engine.problems(resolved) else resolved


def _children(engine: Engine, resolved: Resolved) -> list[dict[str, Any]]:
    internal = {"initial-master-nodes": "orders-0"}
    return engine.plan(resolved, Inputs(platform=PLATFORM, internal=internal))


def _read(name: str, text: str) -> Any:
    """A file of the settings, as the program that reads it does."""
    if name.endswith(".json"):
        return json.loads(text)
    if name.endswith((".yml", "mongod.conf")):
        return yaml.load(text, Loader=yaml.CBaseLoader)
    return {line.partition(" ")[0]: split(line) for line in text.split("\n")}


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every scalar with the way to it; a map's keys belong to the way."""
    if isinstance(value, dict):
        if not value:
            yield path, "{}"
        for key, item in value.items():
            if path and path[-1] == "data":  # a ConfigMap's files
                yield from _leaves(_read(key, item), (*path, key))
            else:
                yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _forms(text: str, path: tuple[Any, ...]) -> set[str]:
    """How a text may be written: as it is, percent-encoded, as a label's value; in a variable with Kubernetes' own expansion kept off."""
    return {text.replace("$(", "$$(")} if "env" in path else {text, quote(text, safe=""), text[:63].strip("-_.")}


def _same(place: tuple[str, ...], plain: list[dict[str, Any]], tried: list[dict[str, Any]], text: str) -> None:
    """But for the token's place, where the text stands whole, the two plans are one."""
    name = text if place[-1] == "{x}" else TOKEN  # a name in a map is a key of what is made of it
    before = dict(_leaves(plain))
    after = {tuple(TOKEN if step in (name, name.lower()) else step for step in path): value for path, value in _leaves(tried)}
    assert before.keys() == after.keys(), f"{place}: {text!r} changes the shape: {sorted(map(str, before.keys() ^ after.keys()))[:5]}"
    for path, value in before.items():
        found = after[path]
        if value == found or any("databases.database-operator.io/" in str(step) for step in path):  # hashes of it all
            continue
        assert isinstance(value, str), f"{place}: {text!r} changes {path}: {found!r}"
        assert TOKEN in value, f"{place}: {text!r} changes {path}: {found!r}"
        typed = {json.dumps(found)} if isinstance(found, bool | int | float) else {str(found)}  # a number that was written as text
        wanted = {value.replace(TOKEN, form) for form in _forms(text, path)}
        assert typed & (wanted | {form.lower() for form in wanted}), f"{place}: {text!r} becomes {found!r} at {path}"


def _argv(children: list[dict[str, Any]]) -> list[str]:
    """Every word of every command of the pods."""
    return [str(value) for path, value in _leaves(children) if isinstance(path[-1], int) and {"command", "args"} & set(path[-3:])]


@pytest.mark.parametrize("engine", ENGINES.values(), ids=[type_.value for type_ in ENGINES])
def test_i11_i12_i13_a_payload_is_refused_or_literal(engine: Engine) -> None:
    tried = refused = 0
    turn = list(ENGINES).index(engine.type)
    for place in PLACES:
        own = place[0] == engine.type.value.lower()
        if place[0] in SECTIONS and not own:
            continue
        name = ".".join(place)
        plain = _accepted(engine, _spec(engine.type.value, place, TOKEN))
        children = None if plain is None else _children(engine, plain)
        assert TOKEN not in str(_argv(children or []))
        for text in PAYLOADS if own else PAYLOADS[turn :: len(ENGINES)]:  # what all engines share is shared among them
            if place == ("postgresql", "username") and text == "postgres":
                continue  # it has a meaning of its own, as in the official image
            tried += 1
            resolved = _accepted(engine, _spec(engine.type.value, place, text))
            if resolved is None:
                refused += 1
                continue
            assert not any(character in text for character in "\n\r\0"), f"{name}: {text!r} was taken"
            made = _children(engine, resolved)
            if children is not None:
                _same(place, children, made, text)
                assert _argv(made) == _argv(children), f"{name}: {text!r} changes a command"
            login = engine.credentials(resolved, f"p{text}", PLATFORM)
            assert "\n" not in login["uri"]
    assert refused < tried
    assert tried >= 1000


def test_the_corpus_is_large() -> None:
    assert len(set(PAYLOADS)) >= 250
    assert len(PLACES) * len(set(PAYLOADS)) >= 10_000


@pytest.mark.parametrize("engine", ENGINES.values(), ids=[type_.value for type_ in ENGINES])
def test_i11_the_pods_of_no_engine_start_a_shell(engine: Engine) -> None:
    for replicas in (1, 3, 6):
        spec: Spec = {
            "type": engine.type.value,
            "version": VERSIONS[engine.type.value],
            "replicas": 1 if engine.type.value == "SQLite" else replicas,
        }
        resolved = _accepted(engine, spec)
        assert resolved is not None
        words = _argv(_children(engine, resolved))
        assert words
        assert not {word.rpartition("/")[2] for word in words} & SHELLS


CALLS = frozenset(
    {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "pty.spawn"}
)


def _shells(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in CALLS:
                yield node.lineno, ast.unparse(node.func)
            if any(
                word.arg == "shell" and not (isinstance(word.value, ast.Constant) and word.value.value is False) for word in node.keywords
            ):
                yield node.lineno, "shell="
        if isinstance(node, ast.List | ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
            word = str(node.elts[0].value).rpartition("/")[2]
            if word in SHELLS - {"env", "eval"} and len(node.elts) > 1:
                yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("folder", ["database_operator", "agent"])
def test_i11_the_operator_and_the_agent_start_no_shell(folder: str) -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{line}: {what}"
        for path in (PROJECT / folder).rglob("*.py")
        for line, what in _shells(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "run(['sh', '-c', x])",
        "['/bin/bash', '-c', x]",
        "asyncio.create_subprocess_shell(x)",
    ],
)
def test_a_shell_would_be_found(text: str) -> None:
    assert list(_shells(ast.parse(text)))
