"""``python -m bench.faults``: faults in real pods under writing clients; what they saw, as a table."""

import argparse
import datetime
import json
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from bench.faults import report
from bench.faults.clients.base import ERRORS, Client
from bench.faults.engines import ENGINES, Engine
from bench.faults.faults import FAULTS
from bench.faults.run import Result, run
from bench.faults.site import Database
from localcluster import Cluster, ClusterError
from localcluster.demo.install import install_operator
from localcluster.demo.place import Embedded
from localcluster.progress import Progress

QUIET_SECONDS = 300.0  # that a run waits for the load average wanted
REST_SECONDS = 15.0  # between runs: what a fault left behind is not measured by the next


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--engine", choices=sorted(ENGINES), action="append", help="repeatable; default: all")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append", help="repeatable; default: those of the engine's table")
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="of each, default 10")
    parser.add_argument("--operator-stopped", action="store_true", help="the operator does not run during the fault")
    parser.add_argument("--installed", action="store_true", help="the cluster runs with the operator that it has: neither is touched")
    parser.add_argument("--load", type=float, metavar="L", help="each run waits, 5 minutes at most, for a load average below L")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append each run as a line")
    parser.add_argument("--from", type=Path, dest="lines", action="append", metavar="FILE", help="no run: the table of the runs in FILE")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the table into FILE, between its marks")
    return parser.parse_args()


def say(text: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)


def await_quiet(load: float | None) -> None:
    deadline = time.monotonic() + QUIET_SECONDS
    while load is not None and os.getloadavg()[0] > load and time.monotonic() < deadline:
        time.sleep(2)


class Bench:
    def __init__(self, cluster: Cluster, engine: Engine) -> None:
        self.cluster, self.engine = cluster, engine
        self.database: Database | None = None
        self.failed = 0  # runs without a result

    def ready(self, members: int) -> tuple[Database, Client]:
        if self.database is not None and len(self.database.members()) != members:
            self.close()
        if self.database is None:
            self.database = Database(self.cluster, self.engine.spec(members))
        self.database.renew()
        self.database.wait("whole", self.database.whole, 600)
        return self.database, self.engine.client(self.database)

    def close(self) -> None:
        if self.database is not None:
            self.database.close()
            self.database = None

    def runs(self, fault: str, flags: argparse.Namespace) -> list[Result]:
        found = []
        for number in range(flags.runs):
            try:
                database, client = self.ready(FAULTS[fault].members or self.engine.members)
                time.sleep(REST_SECONDS)
                await_quiet(flags.load)
                result = run(database, client, fault, FAULTS[fault], stopped=flags.operator_stopped)
            except (TimeoutError, ClusterError, *ERRORS) as error:
                self.failed += 1
                say(f"{self.engine.name} {fault} {number + 1}: no result: {type(error).__name__}: {error}")
                self.close()
                continue
            say(f"{self.engine.name} {fault} {number + 1}: {report.line(result)}")
            found.append(msgspec.structs.replace(result, engine=self.engine.name))
            if flags.json:
                with flags.json.open("ab") as file:
                    file.write(msgspec.json.encode(found[-1]) + b"\n")
            if result.note:
                self.close()
        return found


def command(flags: argparse.Namespace) -> str:
    if flags.lines:
        return " ".join(["python -m bench.faults", *(f"--from {file.name}" for file in flags.lines)])
    given = [("--engine", flags.engine), ("--fault", flags.fault), ("--load", [f"{flags.load:g}"] if flags.load is not None else None)]
    words = [f"{name} {value}" for name, values in given for value in values or ()]
    return " ".join(["python -m bench.faults", *words, f"--runs {flags.runs}", *["--operator-stopped"] * flags.operator_stopped])


def tell(flags: argparse.Namespace, results: list[Result]) -> None:
    found = json.loads(Cluster().kubectl("version", "--output=json"))
    figures = f"{report.head(command(flags), results, found['serverVersion']['gitVersion'])}\n{report.table(results)}\n"
    print(figures)
    if flags.report:
        flags.report.write_text(report.written(flags.report.read_text(), figures))


def main() -> int:
    flags = arguments()
    if flags.lines:
        lines = [line for file in flags.lines for line in file.read_bytes().splitlines()]
        tell(flags, [msgspec.json.decode(line, type=Result) for line in lines])
        return 0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # as after Ctrl-C: what goes on is undone
    if not flags.installed:
        place = Embedded(Progress(quiet=True))
        place.up()
        install_operator(place)
    results: list[Result] = []
    failed = 0
    for name in flags.engine or ENGINES:
        bench = Bench(Cluster(), ENGINES[name])
        try:
            for fault in flags.fault or ENGINES[name].faults:
                results += bench.runs(fault, flags)
        finally:
            bench.close()
        failed += bench.failed
    tell(flags, results)
    if failed:
        print(f"{failed} runs gave no result.")
    return 0 if results and not failed and not any(result.lost_safe or result.overlaps or not result.read for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
