"""``python -m bench``: the budget of the operator, line by line, against what one sitting measured."""

import argparse
import asyncio
import datetime
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from bench import ceiling, figures, report, workload
from bench.audit import Log
from bench.process import Operator
from bench.report import Line
from bench.site import PROJECT, Site, install
from localcluster import ControlPlane

OUT = PROJECT / "bench/out"
SETTLE_SECONDS = 2400.0  # the controllers make about four pods a second
EAGER = 35.0  # seconds; for half a minute after an event of a pod the prober asks twice a second


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--databases", type=int, default=500, metavar="N", help="default 500")
    parser.add_argument("--workers", default="1,8", help="default 1,8")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="parts of the storm, a ceiling around each: for a busy machine")
    parser.add_argument("--long", action="store_true", help="memory, idle, changes and start at 1,000 and 5,000 as well")
    parser.add_argument("--only", default="", metavar="PART", help="storm, small or population")
    return parser.parse_args()


class Bench:
    def __init__(self, plane: ControlPlane, folder: Path, databases: int) -> None:
        self.plane, self.folder, self.databases = plane, folder, databases
        self.lines: list[Line] = []
        self.ceilings: list[ceiling.Ceiling] = []
        assert plane.audit_log is not None
        self.audit = plane.audit_log

    def log(self) -> Log:
        return Log(self.audit)

    def note(self, text: str) -> None:
        load = os.getloadavg()[0]
        print(f"{datetime.datetime.now():%H:%M:%S} (load {load:.1f}) {text}", flush=True)

    def tell(self, *lines: Line) -> None:
        self.lines += lines
        for line in lines:
            self.note(f"{line.what}: {line.measured}")

    async def ceiling(self, databases: int) -> ceiling.Ceiling:
        found = await ceiling.children_only(self.plane, f"ceiling-{len(self.ceilings)}", databases)
        self.ceilings.append(found)
        self.note(f"ceiling: {found.rate:.0f} writes/s, {found.writes} writes, {found.milliseconds:.2f} ms of CPU each")
        return found

    async def storms(self, workers: list[int], rounds: int) -> None:
        share = self.databases // rounds
        for count in workers:
            found, around = [], [await self.ceiling(share)]
            whole = await ceiling.same_writes(self.plane, f"whole-{count}", share)
            self.note(f"the same writes by a bare client: {whole.rate:.0f} writes/s, {whole.milliseconds:.2f} ms of CPU each")
            for number in range(rounds):
                async with Site(self.plane, f"storm-{count}-{number}") as site:
                    log = self.log()
                    async with Operator(self.plane, self.folder, site.namespace, workers=count) as operator:
                        result = await figures.storm(site, operator, log, range(share))
                self.note(f"{count} workers: {result.rate:.0f} writes/s, {result.passes} passes, {dict(result.calls.most_common())}")
                found.append(result)
                around.append(await self.ceiling(share))
            self.tell(*report.storm(count, figures.together(found), around, whole, self.ceilings[0].writes / share))
        self.tell(report.bare(self.ceilings))

    async def small(self) -> float:
        """Memory and the cost of a pass with 10 Databases; gives the cost, in milliseconds."""
        async with Site(self.plane, "small") as site:
            log = self.log()
            async with Operator(self.plane, self.folder, site.namespace, workers=1) as operator:
                await site.create(range(10))
                await site.seen([f"db{i:05d}" for i in range(10)])
                await site.settle(SETTLE_SECONDS)
                await figures.until_quiet(log)
                await asyncio.sleep(EAGER)
                self.tell(report.memory(10, operator.memory()))
                return await figures.cost(site, operator, 10)

    async def population(self, sizes: list[int], small: float) -> None:
        async with Site(self.plane, "population") as site:
            there = 0
            for size in sizes:
                await self._at(site, there, size, small)
                there = size
            async with Operator(self.plane, self.folder, site.namespace, workers=8) as _:
                self.tell(report.trickle(*await figures.trickle(site, there)))

    async def _at(self, site: Site, there: int, size: int, small: float) -> None:
        log = self.log()
        async with Operator(self.plane, self.folder, site.namespace, workers=8) as operator:
            result = await figures.storm(site, operator, log, range(there, size))
            self.note(f"{size} Databases: {result.writes} writes in {result.seconds:.0f} s")
            took = await site.settle(SETTLE_SECONDS)
            later = await figures.until_quiet(log)
            children = sum(len(part) for view in site.databases.all() for part in workload.children(view)) / size
            self.note(f"settled after {took:.0f} s more")
            self.tell(report.writes(result, later, children))
            await asyncio.sleep(EAGER)
            self.tell(report.memory(size, operator.memory()))
            self.tell(*report.idle(size, await figures.idle(operator, log)))
            self.tell(report.cost(size, await figures.cost(site, operator, size), small))
            self.tell(report.changes(size, *await figures.changes(site, log, size)))
            await site.settle(SETTLE_SECONDS)
            await figures.until_quiet(log)
        before, log = await site.versions(), self.log()
        flags = ("--leader-elect", "--leader-election-namespace", site.namespace, "--resync-period", f"{figures.SERVE_RESYNC}s")
        async with Operator(self.plane, self.folder, site.namespace, workers=8, flags=flags) as operator:
            self.tell(*report.start(size, await figures.start(site, operator, log, before)))


async def run(flags: argparse.Namespace, plane: ControlPlane, folder: Path) -> list[Line]:
    bench = Bench(plane, folder, flags.databases)
    if flags.only in ("", "storm"):
        await bench.storms([int(n) for n in flags.workers.split(",")], flags.rounds)
    plane.kill("scheduler")  # it would go on trying to place the pods that are played from here on
    small = 0.0
    if flags.only in ("", "small", "population"):
        small = await bench.small()
    if flags.only in ("", "population"):
        sizes = sorted({flags.databases, *((1000, 5000) if flags.long else ())})
        await bench.population(sizes, small)
    return bench.lines


def main() -> None:
    flags = arguments()
    OUT.mkdir(exist_ok=True)
    began = datetime.datetime.now()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, ControlPlane(audit=True) as plane:
        install(plane)
        folder = Path(scratch)
        version: dict[str, Any] = {}
        try:
            lines = asyncio.run(run(flags, plane, folder))
            version = report.versions(plane)
        finally:
            log = folder / "operator.log"
            if log.exists():
                (OUT / "operator.log").write_bytes(log.read_bytes())
    text = report.table(lines, began, flags, version | {"Python": platform.python_version()})
    (OUT / "figures.md").write_text(text)
    print(f"\n{text}")


if __name__ == "__main__":
    main()
