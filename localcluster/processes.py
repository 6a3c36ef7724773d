"""Programs that run on after us: started, recorded, found again, and signalled only when they are still the ones we started.

A pid may meanwhile be somebody else's, so a record holds three things of /proc: the pid, the executable and the start time in clock
ticks since boot (field 22 of /proc/<pid>/stat, see proc_pid_stat(5)). Only a process that matches all three is ever signalled.
"""

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from localcluster.errors import ClusterError
from localcluster.host import write_atomically

EXEC_SECONDS = 10.0
WRAPPERS = ("nsenter", "setsid", "prlimit", "setpriv")  # what a started process is for a moment before it becomes the program
# Programs with a parent-death signal get it when the THREAD that started them ends, so all are started by one that lives as long as we do.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")
_children: list[subprocess.Popen[bytes]] = []  # kept so that they can be reaped and none warns when it is collected


class Record(msgspec.Struct, frozen=True):
    """One process: pid on the host, executable, start in clock ticks since boot."""

    pid: int
    executable: str
    started: int


class Stat(msgspec.Struct, frozen=True):
    """What /proc/<pid>/stat says: state letter, parent's pid, start in clock ticks since boot."""

    state: str
    parent: int
    started: int


def stat(pid: int) -> Stat | None:
    """The process's Stat, or None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything, brackets too
    return Stat(fields[0], int(fields[1]), int(fields[19]))


def executable(pid: int) -> str:
    """The path of what the process runs, also where that file was replaced meanwhile; empty when it is gone or a zombie."""
    try:
        return str(Path(f"/proc/{pid}/exe").readlink()).removesuffix(" (deleted)")
    except OSError:
        return ""


def matches(record: Record) -> bool:
    """Whether the recorded process still runs."""
    now = stat(record.pid)
    return now is not None and now.state != "Z" and now.started == record.started and executable(record.pid) == record.executable


def all_pids() -> Iterator[int]:
    """Every pid of the machine."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208  /proc changes under a Path iterator


def children(parent: int) -> list[int]:
    """The pids whose parent this is."""
    return [pid for pid in all_pids() if (found := stat(pid)) is not None and found.parent == parent]


def with_environment(entry: str) -> list[int]:
    """The pids whose first environment holds `entry`, as NAME=value."""
    found = []
    for pid in all_pids():
        try:
            if entry.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue
    return found


def end(records: Iterable[Record], seconds: float = 15) -> None:
    """Ends the recorded processes by SIGKILL and waits until the kernel has closed all they held.

    A pidfd names the process, never a successor of its pid, and is readable once the last of its threads is gone: only then is a
    listening port free again. Raises ClusterError for one that does not end.
    """
    deadline = time.monotonic() + seconds
    open_files: dict[int, Record] = {}
    try:
        for record in records:
            try:
                descriptor = os.pidfd_open(record.pid)
            except ProcessLookupError:
                continue
            open_files[descriptor] = record
            if matches(record):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for descriptor, record in open_files.items():
            if is_ending(record) and not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                where = f"see /proc/{record.pid}/stack for what it waits for"
                raise ClusterError(f"{record.executable} (pid {record.pid}) does not end after SIGKILL", where)
    finally:
        for descriptor in open_files:
            os.close(descriptor)
        reap()


def is_ending(record: Record) -> bool:
    """Whether the recorded process is still there; one that is dying has no executable any more."""
    now = stat(record.pid)
    return now is not None and now.started == record.started and executable(record.pid) in (record.executable, "")


def recorded(pids: Iterable[int]) -> list[Record]:
    """The records of those of the pids that run now."""
    return [Record(pid, executable(pid), found.started) for pid in pids if (found := stat(pid)) is not None]


def reap() -> None:
    """Collects the exit codes of started programs that ended."""
    _children[:] = [child for child in _children if child.poll() is None]


class Processes:
    """The programs of one cluster, by name; records in `folder`/run, output in `folder`/logs."""

    def __init__(self, folder: Path) -> None:
        self._records = folder / "run"
        self._logs = folder / "logs"

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        wrapper: Sequence[str] = (),
        below: Record | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Record:
        """Starts `argv` and records it. `wrapper` is a program that becomes `argv`'s first program, is its parent, or hands it to `below`.

        Raises ClusterError when it ends at once.
        """
        for folder in (self._records, self._logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        program = shutil.which(argv[0])
        if program is None:
            raise ClusterError(f"{argv[0]} is missing")
        resolved = str(Path(program).resolve())
        if below is not None:  # one that was started and not recorded, as its `up` was killed in between
            end(recorded(pid for pid in children(below.pid) if executable(pid) == resolved))
        # started by the path given: a virtual environment's Python finds its packages by it
        child = _starter.submit(self._spawn, name, [*wrapper, program, *argv[1:]], environment).result()
        record = self._await_exec(name, child, resolved, below)
        write_atomically(self._records / f"{name}.json", msgspec.json.encode(record))
        return record

    def _spawn(self, name: str, argv: list[str], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        with (self._logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                umask=0o022,  # containerd makes a container's root by it, and pods are not root
            )
        _children.append(child)
        return child

    def _await_exec(self, name: str, child: subprocess.Popen[bytes], program: str, below: Record | None) -> Record:
        """The record of the started program: the child, its child, or a new child of `below`."""
        deadline = time.monotonic() + EXEC_SECONDS
        while time.monotonic() < deadline:
            ended = child.poll() is not None  # asked first: what it started is then below its last parent
            candidates = [child.pid, *children(child.pid), *(children(below.pid) if below else ())]
            runs = {pid: executable(pid) for pid in candidates}
            found = recorded(pid for pid, path in runs.items() if path == program)
            if found:
                return found[0]
            if ended and not any(Path(path).name in WRAPPERS for path in runs.values()):
                break
            time.sleep(0.005)
        raise ClusterError(f"{name} did not start: {self.last_line(name)}")

    def names(self) -> list[str]:
        """The names of all programs ever started here."""
        return sorted(file.stem for file in self._records.glob("*.json"))

    def record(self, name: str) -> Record | None:
        """The record of the program, whether or not it still runs."""
        try:
            return msgspec.json.decode((self._records / f"{name}.json").read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return None

    def running(self, name: str) -> Record | None:
        """The record of the program if it runs (a paused one does)."""
        reap()
        record = self.record(name)
        return record if record is not None and matches(record) else None

    def require(self, name: str) -> Record:
        """The record of the running program. Raises ClusterError when it does not run."""
        record = self.running(name)
        if record is None:
            raise ClusterError(f"{name} does not run", f"known are {', '.join(self.names())}")
        return record

    def signal(self, name: str, number: int) -> Record:
        """Sends a signal other than SIGKILL (see `kill`). Raises ClusterError when the program does not run."""
        record = self.require(name)
        os.kill(record.pid, number)
        return record

    def kill(self, name: str) -> None:
        """Ends the program by SIGKILL, if it runs, and waits until it is gone."""
        record = self.record(name)
        if record is not None:
            end([record])

    def kill_all(self) -> None:
        """Ends all programs by SIGKILL."""
        end(record for name in self.names() if (record := self.record(name)) is not None)

    def log(self, name: str) -> Path:
        """The file with the program's output."""
        return self._logs / f"{name}.log"

    def last_line(self, name: str) -> str:
        """The last line of the program's output, at most 300 characters."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()
        except OSError:
            return "it wrote no log"
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "its log is empty")
