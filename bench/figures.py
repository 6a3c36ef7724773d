"""One function a figure. All writes are counted on the server."""

import asyncio
import time
from collections import Counter

import msgspec

from bench import workload
from bench.audit import Entry, Log, counted
from bench.process import Operator
from bench.site import Site

QUIET = 5.0  # seconds without a write of the operator: it is through
IDLE_SECONDS = 60.0
CHANGES = 50
CHANGES_PER_SECOND = 5
TRICKLE_SECONDS = 20
NUDGES = 100
SERVE_RESYNC = 60  # seconds


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """Databases created at once, until the operator has nothing left to write."""

    databases: int
    writes: int
    later: int  # writes after all were created
    events: int
    seconds: float
    passes: int
    cpu: float  # seconds
    calls: Counter[str]
    waits: list[float]  # seconds to the first status of each

    @property
    def rate(self) -> float:
        return self.writes / self.seconds

    @property
    def cpu_ms_per_write(self) -> float:
        return self.cpu / (self.writes + self.events) * 1000


def together(rounds: list[Storm]) -> Storm:
    return Storm(
        databases=sum(r.databases for r in rounds),
        writes=sum(r.writes for r in rounds),
        later=sum(r.later for r in rounds),
        events=sum(r.events for r in rounds),
        seconds=sum(r.seconds for r in rounds),
        passes=sum(r.passes for r in rounds),
        cpu=sum(r.cpu for r in rounds),
        calls=sum((r.calls for r in rounds), Counter()),
        waits=[wait for r in rounds for wait in r.waits],
    )


async def storm(site: Site, operator: Operator, log: Log, indices: range) -> Storm:
    cpu, begun, wall, passes = operator.cpu(), time.monotonic(), time.time(), await _passes(operator)
    await site.create(indices)
    entries: list[Entry] = []
    used = [(time.time(), operator.cpu())]
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET:
        await asyncio.sleep(0.25)
        used.append((time.time(), operator.cpu()))
        new = list(log.entries())
        entries += new
        if any(entry.is_write for entry in new):
            quiet_since = time.monotonic()
    end = _created(entries)
    names = [workload.name(index) for index in indices]
    missing = [name for name in names if name not in site.first_status]
    if missing:
        raise RuntimeError(f"{len(missing)} Databases have no status, such as {missing[:3]}")
    waits = [site.first_status[name] - begun for name in names]
    within = [entry for entry in entries if entry.ended <= end]
    return Storm(
        databases=len(names),
        writes=sum(entry.is_write for entry in within),
        later=sum(entry.is_write for entry in entries) - sum(entry.is_write for entry in within),
        events=sum(entry.object_ref.resource == "events" for entry in within),
        seconds=end - wall,
        cpu=next((spent for at, spent in used if at >= end), used[-1][1]) - cpu,
        passes=int(await _passes(operator) - passes),
        calls=counted(entries),
        waits=waits,
    )


def _created(entries: list[Entry]) -> float:
    """When the last child was there and the last Database had its first status; what comes later is about pods that cannot run."""
    done: dict[tuple[str, str], float] = {}
    for entry in entries:
        if entry.is_write:
            done.setdefault((entry.call, entry.object_ref.name), entry.ended)
    return max(done.values())


async def until_quiet(log: Log, seconds: float = 120.0) -> list[Entry]:
    """What was asked until no write came for QUIET seconds."""
    entries: list[Entry] = []
    begun = quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET and time.monotonic() - begun < seconds:
        await asyncio.sleep(0.5)
        new = list(log.entries())
        entries += new
        if any(entry.is_write for entry in new):
            quiet_since = time.monotonic()
    return entries


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    calls: Counter[str]
    millicores: float
    seconds: float

    @property
    def writes(self) -> int:
        return sum(
            n for call, n in self.calls.items() if call.split()[0] in ("create", "update", "patch", "delete") and "leases" not in call
        )

    @property
    def lists(self) -> int:
        return sum(n for call, n in self.calls.items() if call.startswith("list"))

    @property
    def gets(self) -> int:
        return sum(n for call, n in self.calls.items() if call.startswith("get") and "leases" not in call)


async def idle(operator: Operator, log: Log, seconds: float = IDLE_SECONDS) -> Idle:
    list(log.entries())
    cpu, begun = operator.cpu(), time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - begun
    return Idle(calls=counted(list(log.entries())), millicores=(operator.cpu() - cpu) / took * 1000, seconds=took)


async def cost(site: Site, operator: Operator, count: int) -> float:
    """Milliseconds of CPU of one event and the pass that it leads to, with nothing to do in it."""
    before, cpu = await _passes(operator), operator.cpu()
    for turn in range(NUDGES):
        name = workload.name(turn * 7 % count)
        await site.patch(name, {"metadata": {"annotations": {"example.com/nudge": str(time.monotonic())}}})
        await asyncio.sleep(0.03)
    await asyncio.sleep(1.0)
    used = operator.cpu() - cpu
    return used / (await _passes(operator) - before) * 1000


async def _passes(operator: Operator) -> float:
    return await operator.metric("controller_runtime_reconcile_time_seconds_count")


async def changes(site: Site, log: Log, count: int) -> tuple[float, float]:
    """Seconds from the answer to a changed spec until the operator's first write to a child begins: p50 and p99."""
    changed: dict[str, float] = {}
    users = Log(log._path, "bench/1")
    list(log.entries())
    step = max(1, count // CHANGES)
    for turn in range(min(CHANGES, count)):
        name = workload.name(turn * step)
        await site.patch(name, {"spec": {"resources": {"memory": f"{300 + int(time.time()) % 500}Mi"}}})
        await asyncio.sleep(1 / CHANGES_PER_SECOND)
    await asyncio.sleep(3.0)
    for entry in users.entries():
        if entry.verb == "patch" and entry.object_ref.resource == "databases":
            changed[entry.object_ref.name] = entry.ended
    waits: dict[str, float] = {}
    for entry in log.entries():
        name = entry.object_ref.name[:7]
        if entry.is_write and entry.object_ref.resource != "databases" and name in changed and name not in waits:
            waits[name] = max(0.0, entry.begun - changed[name])
    if len(waits) < len(changed):
        raise RuntimeError(f"{len(changed) - len(waits)} changes led to no write")
    return quantile(list(waits.values()), 0.5), quantile(list(waits.values()), 0.99)


async def trickle(site: Site, first: int) -> tuple[float, float]:
    """Seconds to the first status of Databases that arrive at 5 a second: p50 and p99."""
    created: dict[str, float] = {}
    for turn in range(TRICKLE_SECONDS * 5):
        created[workload.name(first + turn)] = await site.create_one(first + turn)
        await asyncio.sleep(0.2)
    deadline = time.monotonic() + 30
    while any(name not in site.first_status for name in created) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    waits = [max(0.0, site.first_status[name] - at) for name, at in created.items()]
    return quantile(waits, 0.5), quantile(waits, 0.99)


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A new leader on a full population."""

    ready: float  # seconds until all copies are there
    leading: float  # seconds until it leads
    peak: float  # MiB
    resident: float  # MiB, afterwards
    applies: int  # in one resync period
    fastest: float  # writes a second, in the busiest five seconds
    changed: int  # objects


async def start(site: Site, operator: Operator, log: Log, before: dict[tuple[str, str], str]) -> Start:
    """``operator`` was just started with leader election and a resync period of SERVE_RESYNC seconds."""
    while await operator.metric("leader_election_master_status") < 1:
        await asyncio.sleep(0.1)
    leading = time.monotonic() - operator.started_at
    await asyncio.sleep(5.0)
    peak = operator.memory("VmHWM")
    await asyncio.sleep(SERVE_RESYNC * 1.3)
    entries = list(log.entries())
    after = await site.versions()
    return Start(
        ready=operator.ready_after,
        leading=leading,
        peak=peak,
        resident=operator.memory(),
        applies=sum(entry.is_write for entry in entries),
        fastest=max(Counter(int(entry.begun / 5) for entry in entries if entry.is_write).values(), default=0) / 5,
        changed=sum(before.get(what) != version for what, version in after.items()),
    )
