"""The figures of many runs as one table."""

import datetime
import os
import platform
from collections.abc import Iterable, Sequence

from bench.faults.checker import Overlap
from bench.faults.run import Result
from bench.report import machine

# engine, fault -> wanted p50 and slowest write gap, seconds
WANTED = {
    ("postgresql", "switchover"): (1.5, 5),
    ("postgresql", "engine-switchover"): (1.5, 5),
    ("postgresql", "evict"): (1.5, 5),
    ("postgresql", "rolling-restart"): (1.5, 5),
    ("postgresql", "delete-pod"): (3, 8),
    ("postgresql", "delete-pod-now"): (3, 8),
    ("postgresql", "kill"): (4, 10),
    ("postgresql", "hang"): (8, 15),
    ("postgresql", "partition-all"): (20, 26),
    ("redis", "switchover"): (2, 4),
    ("redis", "engine-switchover"): (2, 4),
    ("redis", "evict"): (2, 4),
    ("redis", "delete-pod"): (2, 4),
    ("redis", "rolling-restart"): (2, 4),
    ("redis", "kill"): (5, 8),
    ("redis", "delete-pod-now"): (5, 8),
    ("redis-cluster", "kill"): (5, 10),
    ("elasticsearch", "kill"): (3, 6),
    ("sqlite", "kill"): (5, 10),
}
BEGIN, END = "<!-- figures of python -m bench.faults -->", "<!-- end of the figures -->"
COLUMNS: tuple[str, ...] = (
    "engine",
    "fault",
    "runs",
    "gap through the Service",
    "gap by discovery",
    "wanted",
    "acknowledged",
    "unknown",
    "lost",
)
COLUMNS += ("two writers", "label / Service / status", "whole again", "load")


def median(values: Sequence[float]) -> float:
    """The lower of the two in the middle."""
    return sorted(values)[(len(values) - 1) // 2]


def spread(values: Iterable[float | None]) -> str:
    found = [value for value in values if value is not None]
    return f"{median(found):.1f} / {max(found):.1f}" if found else ""


def line(result: Result) -> str:
    gaps = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in result.gaps.items())
    lags = "/".join("-" if lag is None else f"{lag:.1f}" for lag in (result.label, result.service, result.status))
    text = f"gap {gaps}; {result.acknowledged} acknowledged ({result.safe} safe), {result.unknown} unknown ({result.unknown_kept} kept), "
    both = [[tuple_of(overlap) for overlap in found] for found in (result.overlaps, result.weak_overlaps)]
    text += f"{result.lost} lost ({result.lost_safe} safe); two writers {both[0]}, unconfirmed too {both[1]}; "
    text += f"moved {_number(result.moved)}, label/service/status {lags}, whole {_number(result.settled)}; {'>'.join(result.terms)}"
    return f"{text} load {result.load:.1f} {result.note}"


def tuple_of(overlap: Overlap) -> str:
    return f"{overlap.old}+{overlap.new} {overlap.seconds:.2f} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def two_writers(results: Sequence[Result]) -> str:
    """In how many runs; and for how long an old primary took writes that nobody confirmed."""
    weak = [max(overlap.seconds for overlap in result.weak_overlaps) for result in results if result.weak_overlaps and not result.overlaps]
    text = str(sum(bool(result.overlaps) for result in results))
    return f"{text} (and {len(weak)} with unconfirmed writes, {max(weak):.1f} s at most)" if weak else text


def row(results: Sequence[Result]) -> str:
    first = results[0]
    fault = first.fault + ", operator stopped" * first.operator_stopped
    wanted = WANTED.get((first.engine, first.fault))
    lost = f"{sum(result.lost_safe for result in results)}"
    weak = sum(result.lost for result in results) - sum(result.lost_safe for result in results)
    lost += f" (and {weak} that no second member had confirmed)" if weak else ""
    unread = sum(not result.read for result in results)
    lost += f"; {unread} runs not read back" * bool(unread)
    cells = [
        first.engine,
        fault,
        str(len(results)),
        spread(result.gaps.get("service") for result in results),
        spread(result.gaps.get("discovery") for result in results),
        f"{wanted[0]:g} / {wanted[1]:g}" if wanted else "",
        f"{sum(result.acknowledged for result in results):,}",
        f"{sum(result.unknown for result in results)}",
        lost,
        two_writers(results),
        "; ".join(filter(None, (spread(getattr(result, name) for result in results) for name in ("label", "service", "status")))),
        spread(result.settled for result in results),
        spread(result.load for result in results),
    ]
    return "| " + " | ".join(cells) + " |"


def table(results: Sequence[Result]) -> str:
    """Seconds are p50 / slowest."""
    groups: dict[tuple[str, str, bool], list[Result]] = {}
    for result in results:
        groups.setdefault((result.engine, result.fault, result.operator_stopped), []).append(result)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|", *(row(group) for group in groups.values())]
    return "\n".join(lines)


def head(command: str, results: Sequence[Result], kubernetes: str) -> str:
    """The command, when and where the runs were, against what."""
    dates = sorted(result.began for result in results if result.began) or [f"{datetime.datetime.now():%Y-%m-%d %H:%M}"]
    versions = sorted({f"{result.engine} {result.version}" for result in results if result.version})
    parts = ", ".join([f"Kubernetes {kubernetes}", *versions, f"Python {platform.python_version()}"])
    loads = [result.load for result in results]
    load = f" Load average at the runs: {min(loads):.0f} to {max(loads):.0f} on {os.cpu_count()} cores." if loads else ""
    return f"`{command}`, {dates[0]} to {dates[-1]}, {machine()}; {parts}.{load}\n"


def written(text: str, figures: str) -> str:
    """``text`` with the figures between its two marks. Raises ValueError where they are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{BEGIN} and {END} are to stand in the file")
    return f"{before}{BEGIN}\n\n{figures}\n{END}{after}"
