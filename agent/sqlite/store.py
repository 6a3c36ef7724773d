"""The database file: one writer, a few readers, one process. Everything here runs in threads, never in the event loop."""

import contextlib
import fcntl
import os
import queue
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agent.sqlite.guard import Guard
from agent.sqlite.settings import Settings
from database_operator.build.pragmas import STATIC

T = TypeVar("T")

READERS = 4
DRAIN_SECONDS = 60.0  # longer than any read may take
VALUE_BYTES = 64 * 2**20  # the largest text or blob
SQL_BYTES = 2**20
PROGRESS_STEPS = 10_000  # virtual machine instructions between two looks at the clock: below a millisecond
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "fuse.gluster", "lustre", "afs")


class InUse(Exception):
    """Another process holds the database file."""


class Connection(sqlite3.Connection):
    """A connection with its guard at hand. Nothing is cached: a cached statement would not be asked about again."""

    guard: Guard


@contextlib.contextmanager
def time_limit(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Interrupts what runs longer: ``sqlite3.OperationalError`` with ``SQLITE_INTERRUPT``."""
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def _connect(file: Path, writer: bool) -> Connection:
    """SQL of users is guarded from here on; until ``guard.trusted`` is off, the server sets the connection up."""
    uri = f"{file.as_uri()}?mode={'rwc' if writer else 'ro'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=0, factory=Connection)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda data: str(data, "utf-8", "replace")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES)
    connection.guard = Guard(writer)
    connection.set_authorizer(connection.guard)
    connection.execute("PRAGMA trusted_schema=0")
    return connection


def _value(connection: sqlite3.Connection, pragma: str) -> str:
    row = connection.execute(f"PRAGMA {pragma}").fetchone()
    return str(row[0]).lower() if row else ""


def _set(connection: sqlite3.Connection, pragmas: dict[str, str]) -> None:
    """Names and values are of ``build.pragmas``: letters, digits and '_' only, so they cannot leave the statement."""
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name}={value}").fetchall()


def is_network_file_system(path: Path, mounts: str) -> bool:
    """Whether ``path`` lies on one by ``mounts`` (the text of /proc/self/mounts): WAL has no shared memory there."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        point = fields[1].replace("\\040", " ").rstrip("/") if len(fields) > 2 else None
        if point is not None and len(point) >= len(best) and f"{path}/".startswith(f"{point}/"):
            best, kind = point, fields[2]
    return kind.startswith(NETWORK_FILE_SYSTEMS)


class Lock:
    """An exclusive lock on ``<file>.lock``, which also holds the identity of this database: a random id made once."""

    def __init__(self, file: Path) -> None:
        path = file.with_name(f"{file.name}.lock")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise InUse(f"{file} is in use by another server, which holds the lock on {path}") from None
        self.identity = os.pread(self._descriptor, 64, 0).decode("ascii", "replace").strip()
        if not self.identity:
            self.identity = str(uuid.uuid4())
            os.pwrite(self._descriptor, f"{self.identity}\n".encode(), 0)
            os.fsync(self._descriptor)

    def release(self) -> None:
        os.close(self._descriptor)


class Store:
    """The open database. ``read`` and ``write`` are called from any thread; one thread writes."""

    def __init__(self, file: Path, settings: Settings) -> None:
        """Opens ``file``, or makes it. Raises ``InUse``, ``sqlite3.Error`` or ``OSError``; a VACUUM may take its time."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self.settings = settings
        self.in_force: dict[str, str] = {}
        self._lock = Lock(file)
        self.identity = self._lock.identity
        self._readers: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        self._health: Connection | None = None
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self.reading = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self.checking = ThreadPoolExecutor(1, thread_name_prefix="health")  # never behind long reads
        try:
            self._rewrite(settings)
            self._writer = self._open_writer(settings)
        except BaseException:
            self._lock.release()
            raise
        for _ in range(READERS):
            self._readers.put(None)

    @property
    def writing(self) -> ThreadPoolExecutor:
        return self._writing

    @property
    def differing(self) -> list[str]:
        """Pragmas that the settings name and that have another value in force."""
        wanted = self.settings.pragmas
        return sorted(name for name, value in wanted.items() if self.in_force.get(name) != value)

    def read(self, work: Callable[[Connection], T]) -> T:
        """``work`` on a connection that cannot write. Runs in ``reading``."""
        connection = self._readers.get()
        try:
            if connection is None:
                connection = self._open_reader()
            result = work(connection)
        except BaseException:
            if connection is not None:
                connection.close()
            self._readers.put(None)  # what failed starts afresh
            raise
        self._readers.put(connection)
        return result

    def write(self, work: Callable[[Connection], T]) -> T:
        """``work`` on the one connection that writes. Runs in ``writing``, one after the other."""
        try:
            return work(self._writer)
        finally:
            self._writer.guard.trusted = True
            if self._writer.in_transaction:
                self._writer.rollback()
            self._writer.guard.trusted = False

    def check(self) -> None:
        """A real query, past both pools. Raises ``sqlite3.Error`` where the database does not answer. Runs in ``checking``."""
        if self._health is None:
            self._health = self._open_reader()
        try:
            self._health.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error:
            self._health.close()
            self._health = None
            raise

    def configure(self, settings: Settings) -> None:
        """Put ``settings`` in force by opening every connection anew, so that what is no longer set is gone. Runs in ``writing``.

        Static pragmas wait for the next start. ``TimeoutError`` where a read did not end: nothing is changed then.
        """
        taken = self._drain()
        try:
            self.checking.submit(self._close_health).result()
            self._writer.close()
            self._writer = self._open_writer(settings)
            self.settings = settings
        finally:
            for _ in range(taken):
                self._readers.put(None)

    def close(self) -> None:
        """Waits for what runs, moves the WAL into the file, gives the lock up."""
        for pool in (self.checking, self.reading, self._writing):
            pool.shutdown()
        while not self._readers.empty():
            connection = self._readers.get()
            if connection is not None:
                connection.close()
        self._close_health()
        self._writer.guard.trusted = True
        if self.in_force.get("journal_mode") == "wal":
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._writer.close()
        self._lock.release()

    def _drain(self) -> int:
        """Takes every reader out of use and closes it; gives their number."""
        deadline = time.monotonic() + DRAIN_SECONDS
        taken = 0
        try:
            while taken < READERS:
                connection = self._readers.get(timeout=max(0.0, deadline - time.monotonic()))
                taken += 1
                if connection is not None:
                    connection.close()
        except queue.Empty:
            for _ in range(taken):
                self._readers.put(None)
            raise TimeoutError("a read did not end in time; the settings stay as they are") from None
        return taken

    def _close_health(self) -> None:
        if self._health is not None:
            self._health.close()
            self._health = None

    def _open_reader(self) -> Connection:
        connection = _connect(self.file, writer=False)
        own = {name: value for name, value in self.settings.pragmas.items() if name not in STATIC and name != "journal_mode"}
        _set(connection, own | {"query_only": "1"})
        connection.guard.trusted = False
        return connection

    def _open_writer(self, settings: Settings) -> Connection:
        pragmas = dict(settings.pragmas)
        mounts = Path("/proc/self/mounts").read_text()
        if pragmas.get("journal_mode") == "wal" and is_network_file_system(self.file.parent.resolve(), mounts):
            pragmas["journal_mode"] = "delete"  # shows as differing
        connection = _connect(self.file, writer=True)
        busy = {"busy_timeout": pragmas["busy_timeout"]} if "busy_timeout" in pragmas else {}
        _set(connection, busy | {name: value for name, value in pragmas.items() if name not in STATIC})
        self.in_force = {name: _value(connection, name) for name in settings.pragmas}
        connection.guard.trusted = False
        return connection

    def _rewrite(self, settings: Settings) -> None:
        """Static pragmas that the file does not have yet: by a VACUUM, which can change them outside WAL only.

        Source: https://www.sqlite.org/lang_vacuum.html.
        """
        static = {name: value for name, value in settings.pragmas.items() if name in STATIC}
        connection = _connect(self.file, writer=True)
        try:
            if any(_value(connection, name) != value for name, value in static.items()):
                _set(connection, {"journal_mode": "delete"} | static)
                connection.execute("VACUUM")
        finally:
            connection.close()
