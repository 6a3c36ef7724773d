"""The lines of the budget: what is wanted, what was measured."""

import argparse
import datetime
import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from bench import figures
from bench.audit import Entry
from bench.ceiling import Ceiling
from bench.figures import quantile
from localcluster import ControlPlane

MEMORY = {10: 80.0, 1000: 110.0, 5000: 220.0}  # Databases -> MiB


class Line(msgspec.Struct, frozen=True):
    """``kept`` None: nothing was promised."""

    what: str
    wanted: str
    measured: str
    kept: bool | None = None


def bare(found: list[Ceiling]) -> Line:
    rates = ", ".join(f"{c.rate:.0f}" for c in found)
    cpu = sum(c.cpu for c in found) / sum(c.writes for c in found) * 1000
    text = f"{rates} writes/s, {cpu:.2f} ms of CPU each"
    return Line("ceiling: a bare client applies the same children, 16 in flight", "", text)


def storm(workers: int, found: figures.Storm, bare: list[Ceiling], whole: Ceiling, children: float) -> list[Line]:
    """``bare`` was measured right before and after the storms; ``whole`` is a bare client that makes the Databases' own writes too."""
    limit = sum(c.writes for c in bare) / sum(c.seconds for c in bare)
    share = found.rate / limit
    wanted = 0.35 if workers == 1 else 0.70
    rounds = len(bare) - 1
    what = f"{rounds} times " * (rounds > 1) + f"{found.databases // rounds} mixed Databases at once, {workers} worker{'s' * (workers > 1)}"
    rate = f"{share:.0%}: {found.rate:.0f} of {limit:.0f} writes/s"
    rate += f"; {found.databases / found.seconds:.1f} Databases/s of {children:.1f} children"
    cpu = found.cpu_ms_per_write
    return [
        Line(f"{what}: share of the ceiling", f"{wanted:.0%}", rate, share >= wanted),
        Line(f"{what}: share of the same writes by a bare client", "", f"{found.rate / whole.rate:.0%} of {whole.rate:.0f} writes/s"),
        Line(f"{what}: CPU per API write", "1.3 ms", f"{cpu:.2f} ms", cpu <= 1.3),
        Line(f"{what}: Events each", "2", f"{found.events / found.databases:.2f}", found.events <= 2 * found.databases),
        Line(f"{what}: first status, p50 / p99", "", f"{quantile(found.waits, 0.5):.1f} s / {quantile(found.waits, 0.99):.1f} s"),
    ]


def writes(found: figures.Storm, later: list[Entry], children: float) -> Line:
    """``later``: what was asked from the first running pod until all was settled."""
    databases = found.databases
    claims = sum(entry.call.startswith("patch persistentvolumeclaims") for entry in later if entry.is_write) / databases
    total = (found.writes + found.later + sum(entry.is_write for entry in later)) / databases
    wanted = children + claims + 3
    text = f"{total:.2f} for {children:.2f} children and {claims:.2f} claims marked"
    return Line("writes per Database from create to settled", f"children + claims + 3 = {wanted:.2f}", text, total <= wanted + 0.005)


def memory(databases: int, resident: float) -> Line:
    wanted = next((limit for count, limit in sorted(MEMORY.items()) if databases <= count), None)
    kept = resident <= wanted if wanted else None
    return Line(f"resident memory, {databases:,} Databases", f"{wanted:.0f} MiB" if wanted else "", f"{resident:.0f} MiB", kept)


def idle(databases: int, found: figures.Idle) -> list[Line]:
    what = f"at rest, {databases:,} Databases"
    calls = f"{found.writes} writes, {found.lists} LISTs, {found.gets} GETs in {found.seconds:.0f} s"
    return [
        Line(f"{what}: calls", "0 writes, 0 LISTs", calls, not found.writes and not found.lists),
        Line(f"{what}: CPU", "20 millicores", f"{found.millicores:.1f} millicores", found.millicores <= 20),
    ]


def cost(databases: int, found: float, small: float) -> Line:
    times = found / small
    text = f"{times:.2f} times: {found:.2f} ms of CPU against {small:.2f} ms"
    return Line(f"one event and its pass, {databases:,} Databases against 10", "1.5 times", text, times <= 1.5)


def changes(databases: int, p50: float, p99: float) -> Line:
    text = f"{p50 * 1000:.0f} ms / {p99 * 1000:.0f} ms"
    return Line(f"spec change to first child write, {databases:,} Databases, p50 / p99", "100 ms / 500 ms", text, p50 <= 0.1 and p99 <= 0.5)


def trickle(p50: float, p99: float) -> Line:
    return Line("first status, Databases arriving at 5/s, p50 / p99", "p99 2 s", f"{p50:.2f} s / {p99:.2f} s", p99 <= 2)


def start(databases: int, found: figures.Start) -> list[Line]:
    what = f"new leader, {databases:,} Databases"
    serving = f"leads after {found.leading:.1f} s, copies after {found.ready:.1f} s"
    share = found.peak / found.resident
    return [
        Line(f"{what}: serving", "20 s", serving, found.leading <= 20),
        Line(
            f"{what}: objects changed",
            "0",
            f"{found.changed} by {found.applies} applies, {found.fastest:.0f} a second at most",
            not found.changed,
        ),
        Line(
            f"{what}: peak of memory", "1.3 times resident", f"{found.peak:.0f} MiB, {share:.2f} times {found.resident:.0f}", share <= 1.3
        ),
    ]


def versions(plane: ControlPlane) -> dict[str, Any]:
    return {"Kubernetes": json.loads(plane.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]}


def machine() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{os.cpu_count()} cores ({found[1] if found else 'unknown'}), {memory:.0f} GiB, Linux {os.uname().release}"


def table(lines: list[Line], began: datetime.datetime, flags: argparse.Namespace, parts: dict[str, Any]) -> str:
    command = f"python -m bench --databases {flags.databases} --workers {flags.workers}" + " --long" * flags.long
    command += f" --rounds {flags.rounds}" * (flags.rounds > 1) + f" --only {flags.only}" * bool(flags.only)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    head = [
        f"`{command}`, begun {began:%Y-%m-%d %H:%M}, {machine()}; " + ", ".join(f"{part} {number}" for part, number in parts.items()),
        f"Load average at the end: {load}.",
        "",
        "| | wanted | measured | |",
        "|---|---|---|---|",
    ]
    marks = {None: "", True: "kept", False: "**missed**"}
    return "\n".join([*head, *(f"| {line.what} | {line.wanted} | {line.measured} | {marks[line.kept]} |" for line in lines), ""])
