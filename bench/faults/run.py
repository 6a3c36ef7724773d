"""One run: clients write, the fault happens, all settles, and every write is accounted for."""

import contextlib
import datetime
import os
import time
from collections.abc import Callable

from msgspec import Struct

from bench.faults import checker
from bench.faults.checker import Overlap, Write
from bench.faults.clients.base import ERRORS, Client, Route
from bench.faults.faults import Fault, scene
from bench.faults.site import Database, Watched, without_operator
from bench.faults.writer import Writer
from localcluster import ClusterError

WARM = 20  # writes of each client before the fault
STEADY_SECONDS = 3.0  # of writes without an error, after which a database counts as back
BACK_SECONDS = 180.0
SETTLE_SECONDS = 300.0
READ_SECONDS = 300.0


class Result(Struct, frozen=True, kw_only=True):
    """Seconds throughout; None where there is none, as a role change in a fault that moves nobody."""

    engine: str
    fault: str
    operator_stopped: bool
    victim: str
    gaps: dict[str, float]  # by route
    acknowledged: int
    safe: int
    failed: int
    unknown: int
    unknown_kept: int
    lost: int
    lost_safe: int
    overlaps: list[Overlap]
    moved: float | None  # from the fault to the first write that another primary granted
    label: float | None  # from there to the label, the Service and the status that name it
    service: float | None
    status: float | None
    settled: float | None  # from the fault; None: not in time
    terms: list[str]  # in the order of their first write
    load: float
    weak_overlaps: list[Overlap] = []  # overlaps among all writes, also those that no second member confirmed
    read: bool = True  # False: the keys could not be read back, so nobody knows what is lost
    note: str = ""
    version: str = ""  # of the server
    began: str = ""  # the fault's local date and time


class Crew:
    """The writers of one run."""

    def __init__(self, database: Database, client: Client, tag: str, *, plain: bool) -> None:
        self.client = client
        routes = client.routes[:1] if plain else client.routes
        self.through = [Writer(f"{tag}-{number}", client, route) for number, route in enumerate([*routes, routes[0]])]
        self.attached: list[Writer] = []
        if client.attached and not plain:
            victim = primary(database, client)
            network = database.cluster.pod_netns(database.namespace, victim)
            self.attached = [Writer(f"{tag}-attached", client, Route("direct", database.address(victim), client.routes[0].group), network)]

    def __enter__(self) -> "Crew":
        for writer in self.all():
            writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.all():
            writer.stop()
        for writer in self.all():
            writer.join()

    def all(self) -> list[Writer]:
        return [*self.through, *self.attached]

    def writes(self, kind: str | None = None) -> list[Write]:
        return [write for writer in self.all() for write in list(writer.writes) if kind in (None, write.route)]

    def warm(self) -> bool:
        return all(len(writer.writes) >= WARM and writer.last() for writer in self.all())

    def steady(self, since: float) -> bool:
        """Every client that goes through the Service or discovery has written without a stop for a while."""
        now = time.monotonic()
        if now - since < STEADY_SECONDS:
            return False
        return all(checker.gap(writer.writes, now - STEADY_SECONDS, now) < 1.0 for writer in self.through)

    def errors(self) -> str:
        return "; ".join(f"{writer.name} {writer.last_error}" for writer in self.all() if writer.last_error)


def run(database: Database, client: Client, name: str, fault: Fault, *, stopped: bool = False) -> Result:
    """Raises TimeoutError or one of ERRORS where the run could not begin; whatever comes after the fault is in the Result."""
    database.wait("whole", database.whole)
    database.wait("prepared", lambda: _quiet(client.prepare), 60)
    tag = f"{name}-{time.time_ns() // 10**6}"
    notes: list[str] = []
    settled: float | None = None
    happened = False
    with Crew(database, client, tag, plain=fault.plain) as crew:
        database.wait("writing", crew.warm, BACK_SECONDS)
        with without_operator(database.cluster) if stopped else contextlib.nullcontext():
            victim = "" if fault.plain else primary(database, client)
            stage = scene(database, client, victim)
            before = {pod["metadata"]["uid"] for pod in database.members().values()}
            since = time.monotonic()
            try:
                with fault.inject(stage):
                    happened = True
                    _hold(database, fault, since)
                database.wait("replaced", lambda: not fault.replaces or not _left(database, before), BACK_SECONDS)
                database.wait("moved", lambda: not fault.moves or _quiet(lambda: _other(client, victim)), BACK_SECONDS)
                over = time.monotonic()
                database.wait("writing again", lambda: crew.steady(over), BACK_SECONDS)
            except (TimeoutError, ClusterError) as error:
                if not happened:
                    raise
                notes.append(f"{error}; {crew.errors()}")
            until = time.monotonic()
        with contextlib.suppress(TimeoutError):
            database.wait("whole", database.whole, SETTLE_SECONDS)
            settled = time.monotonic() - since
        if settled is None:
            notes.append(f"not whole: {database.status().get('message')}")
    return _result(database, crew, _Span(since, until, settled), (name, stopped, victim), notes)


def primary(database: Database, client: Client) -> str:
    """As the engine says; asked until it does. Raises TimeoutError."""
    found = ""

    def ask() -> None:
        nonlocal found
        found = client.primary()

    database.wait("telling its primary", lambda: _quiet(ask), 60)
    return found


class _Span(Struct, frozen=True):
    since: float
    until: float
    settled: float | None


def _hold(database: Database, fault: Fault, since: float) -> None:
    time.sleep(max(0.0, fault.hold - (time.monotonic() - since)))


def _other(client: Client, victim: str) -> None:
    """Raises ConnectionError while the victim is the primary, as well as where nobody tells."""
    if client.primary() == victim:
        raise ConnectionError(f"{victim} is the primary still")


def _left(database: Database, before: set[str]) -> bool:
    now = {pod["metadata"]["uid"] for pod in database.pods.objects.values()}
    return bool(now & before) or len(database.members()) < len(before)


def _result(database: Database, crew: Crew, span: _Span, what: tuple[str, bool, str], notes: list[str]) -> Result:
    keys = [write.key for write in crew.writes()]
    present: set[str] = set()

    def read() -> None:
        nonlocal present
        present = crew.client.present(keys)

    try:
        database.wait("read", lambda: _quiet(read), READ_SECONDS)
    except TimeoutError as error:
        notes.append(f"nothing could be read back: {error}")
        present = set(keys)
    verdict = checker.judge(crew.writes(), present)
    lost = [write for write in crew.writes() if write.key in verdict.lost_safe]  # what was promised
    notes += [f"lost: {write.key} of {write.term}, {write.ended - span.since:.3f} s after the fault" for write in lost[:5]]
    change = checker.role_change(crew.writes(), span.since)
    right = _right(database, change)
    return Result(
        engine=database.kind,
        fault=what[0],
        operator_stopped=what[1],
        victim=what[2],
        gaps={kind: checker.gap(crew.writes(kind), span.since, span.until) for kind in sorted({w.route.kind for w in crew.through})},
        acknowledged=verdict.acknowledged,
        safe=verdict.safe,
        failed=verdict.failed,
        unknown=verdict.unknown,
        unknown_kept=verdict.unknown_kept,
        lost=len(verdict.lost),
        lost_safe=len(verdict.lost_safe),
        overlaps=list(verdict.overlaps),
        weak_overlaps=list(verdict.weak_overlaps),
        moved=change[0] - span.since if change else None,
        label=right[0],
        service=right[1],
        status=right[2],
        settled=span.settled,
        terms=list(dict.fromkeys(write.term for write in checker.acknowledged(crew.writes()))),
        load=os.getloadavg()[0],
        read=not any(note.startswith("nothing could be read") for note in notes),
        note=" | ".join(notes),
        version=str(database.status().get("version", "")),
        began=f"{datetime.datetime.now() - datetime.timedelta(seconds=time.monotonic() - span.since):%Y-%m-%d %H:%M}",
    )


def _quiet(ask: Callable[[], None]) -> bool:
    try:
        ask()
    except ERRORS as error:
        raise ConnectionError(str(error)) from error
    return True


def _right(database: Database, change: tuple[float, str] | None) -> list[float | None]:
    """Seconds from the role change until pods' labels, Service and status name that primary and nobody else; 0.0: before."""
    if change is None:
        return [None, None, None]
    moment, term = change
    pod = term.partition("/")[0]
    return [_since(watched, moment, pod) for watched in (database.pods, database.slices, database.databases)]


def _since(watched: Watched, moment: float, pod: str) -> float | None:
    right = [time for time, value in watched.changes if value == pod]
    stood = [value for time, value in watched.changes if time <= moment]
    if stood and stood[-1] == pod:
        return 0.0
    return next((time - moment for time in right if time > moment), None)
