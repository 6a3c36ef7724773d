"""The page, and what is wrong with it: a row without a test or a reason, a marker without a row, a reason that is no longer true."""

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from tests.proofs.collect import PROJECT, UNIT, Test, tests
from tests.proofs.rows import sections

CATALOGUE = "tests/proofs/catalogue.toml"
FAMILIES = {
    "K": "The operator and the Kubernetes API",
    "I": "Input",
    "P": "PostgreSQL",
    "M": "MongoDB",
    "R": "Redis",
    "E": "Elasticsearch",
    "Q": "SQLite",
    "B": "Secrets",
}


class Case(NamedTuple):
    id: str
    case: str  # what happens
    without: str  # why no test carries the id, and what was done instead
    note: str  # what the tests leave open


@cache
def _collected() -> tuple[Test, ...]:
    return tuple(tests())


@cache
def _catalogue() -> dict[str, Any]:
    return tomllib.loads((PROJECT / CATALOGUE).read_text())


def _cases() -> list[Case]:
    return [Case(key, entry["case"], entry.get("without", ""), entry.get("note", "")) for key, entry in _catalogue()["cases"].items()]


def _by(what: str) -> dict[str, list[Test]]:
    found: dict[str, list[Test]] = defaultdict(list)
    for test in _collected():
        for key in getattr(test, what):
            found[key].append(test)
    return found


def problems() -> list[str]:
    """One line each; empty if every row and every case has a test or a reason, and no marker or reason is idle."""
    proven, carried, without = _by("proves"), _by("cases"), _catalogue()["rows"]
    rows = [row for section in sections() for row in section.rows]
    found = []
    for row in rows:
        real = [test for test in proven[row.id] if test.level != UNIT or not row.real]
        where = "on the real API server or in pods " if row.real else ""
        found += _judged(row.id, bool(real), without.get(row.id, ""), f"mark a test {where}with proves({row.id!r})")
    for case in _cases():
        found += _judged(case.id, case.id in carried, case.without, f"put {case.id.lower()} into a test's name")
    found += [
        f"{test.path}: {test.name}: proves {key!r}, which is no row"
        for key in sorted(proven.keys() - {row.id for row in rows})
        for test in proven[key]
    ]
    found += [f"{CATALOGUE}: {key} is no row" for key in sorted(without.keys() - {row.id for row in rows})]
    known = {case.id for case in _cases()}
    return found + [
        f"{test.path}: {test.name}: case {key} is not in {CATALOGUE}" for key in sorted(carried.keys() - known) for test in carried[key]
    ]


def _judged(key: str, tested: bool, reason: str, remedy: str) -> list[str]:
    if tested and reason:
        return [f"{CATALOGUE}: {key} has a test now: remove its reason"]
    return [] if tested or reason else [f"{key} has neither a test nor a reason: {remedy}, or say why not in {CATALOGUE}"]


def mended(catalogue: str) -> str:
    """The catalogue's text without the reasons of rows and cases that have a test now."""
    proven = {key for key, found in _by("proves").items() if any(test.level != UNIT for test in found)}
    carried = _by("cases")
    lines = []
    for line in catalogue.splitlines(keepends=True):
        key = line.partition(" = ")[0].strip('"')
        if key in proven:
            continue
        lines.append(re.sub(r', without = "[^"]*"', "", line) if key in carried else line)
    return "".join(lines)


def page() -> str:
    """The whole text of ``docs/reference/tests.md``."""
    proven, carried, without = _by("proves"), _by("cases"), _catalogue()["rows"]
    parts = ["<!-- made by scripts/generate; do not edit -->", "# What proves it", ""]
    parts += [
        "Every row of the contract and every case of the catalogue, and the tests that prove it: in real pods (P), in real pods by",
        "`./test --long` (L), on the real API server with simulated pods (A), or on the code alone (U). A row without a test says why.",
        "Read from the tests' own source (`tests/proofs`); `scripts/check` fails where a row has neither a test nor a reason.",
        "",
    ]
    for section in sections():
        parts += [f"## {section.title}", "", "| what | tests |", "| --- | --- |"]
        parts += [_line(row.says, proven[row.id], without.get(row.id, "")) for row in section.rows]
        parts.append("")
    parts += ["## Cases", "", "Faults and inputs that operators of others fell for, by their number in our catalogue.", ""]
    for letter, title in FAMILIES.items():
        cases = [case for case in _cases() if case.id[0] == letter]
        parts += [f"### {title}", "", "| case | | tests |", "| --- | --- | --- |"]
        parts += [f"| {case.id} {_line(case.case, carried[case.id], case.without or case.note)}" for case in cases]
        parts.append("")
    return "\n".join(parts)


def _line(says: str, found: Iterable[Test], reason: str) -> str:
    shown = [f"{_letter(test)} `{test.path.removeprefix('tests/')}` {test.name}" for test in found]
    cell = "<br>".join(shown + ([f"*{reason}*"] if reason else []))
    return f"| {says.replace('|', chr(92) + '|')} | {cell} |"


def _letter(test: Test) -> str:
    return {"pods": "L" if test.long else "P", "API server": "A"}.get(test.level, "U")
