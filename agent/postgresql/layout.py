"""Where the pod keeps what the agent reads and writes, and which programs the image brings."""

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, json

from agent.environment import clean_environment
from database_operator.build import constants as c

HANDED_OVER = 150.0  # seconds: a little more than a pod is given to end

_VERSION = re.compile(r"\(PostgreSQL\) (?P<major>[0-9]+)")


class Unusable(Exception):
    """The container cannot run this database. The message says what to change; it holds no secret."""


class Layout(Struct, frozen=True, kw_only=True):
    """Mounted folders, and ``run``: in memory, writable, for sockets and the one file that holds passwords."""

    settings: Path = Path(c.SETTINGS_PATH)
    credentials: Path = Path(c.CREDENTIALS_PATH)
    internal: Path = Path(c.INTERNAL_PATH)
    run: Path = Path("/var/run/postgresql")

    @property
    def configuration(self) -> Path:
        return self.run / "patroni.json"


class Wanted(Struct, frozen=True, kw_only=True):
    """``database.json`` of the settings: what the operator says of this database."""

    database: str
    username: str
    mount: str
    major: str | None = None


class Server(Struct, frozen=True, kw_only=True):
    """The PostgreSQL of the image, and where its data is."""

    programs: Path  # the folder of initdb, postgres, pg_ctl, pg_rewind
    major: str
    data: Path

    @property
    def unfinished(self) -> Path:
        """Stands beside the data while it is being made: what is there then is worth nothing."""
        return self.data.parent / "unfinished"


def wanted(layout: Layout) -> Wanted:
    return json.decode((layout.settings / "database.json").read_bytes(), type=Wanted)


def _programs(environment: Mapping[str, str]) -> Path:
    """The folder of the server's programs: on PATH as in the official image, else the newest of Debian's."""
    on_path = [Path(folder) for folder in environment.get("PATH", "").split(os.pathsep) if folder]
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(4), reverse=True)
    for folder in on_path + packaged:
        if all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres", "pg_ctl")):
            return folder
    raise Unusable("the image has no PostgreSQL server: neither PATH nor /usr/lib/postgresql holds initdb, postgres and pg_ctl")


def _major(programs: Path) -> str:
    answer = subprocess.run([programs / "postgres", "--version"], env=clean_environment(), capture_output=True, text=True, check=False)
    match = _VERSION.search(answer.stdout)
    if match is None:
        raise Unusable(f"postgres --version does not say a version: {(answer.stdout or answer.stderr).strip()[:200]!r}")
    return match["major"]


def server(specification: Wanted, environment: Mapping[str, str]) -> Server:
    """Raises Unusable where image, ``spec.version`` and the volume do not belong together: nothing has been touched then."""
    programs = _programs(environment)
    major = _major(programs)
    if specification.major not in (None, major):
        raise Unusable(f"the image holds PostgreSQL {major}, spec.version says {specification.major}: correct one of them")
    mount = Path(specification.mount)
    others = sorted(found.parent.parent.name for found in mount.glob("*/docker/PG_VERSION") if found.parent.parent.name != major)
    if others:
        raise Unusable(f"the volume holds data of PostgreSQL {', '.join(others)}, the image is PostgreSQL {major}: go back to that version")
    return Server(programs=programs, major=major, data=mount / major / "docker")


def hold_volume(found: Server, seconds: float = HANDED_OVER) -> int:
    """A lock on the volume that lasts as long as this process; gives its descriptor, which must stay open.

    A pod that was deleted by force may still run beside its successor, and neither server sees the other's
    process ids: only the file system keeps them apart. Raises Unusable after ``seconds``.
    """
    found.data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(found.data.parent / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise Unusable("another process still uses the volume: a pod that was deleted by force may still run") from None
            time.sleep(0.2)


def clear_unfinished(found: Server) -> str | None:
    """Removes data that a killed first start or a killed clone left half made; gives which, None if there is none.

    Neither has ever been a member: the mark is taken away before Patroni takes the lock or lets the member stream. It
    stays until ``mark_finished``, since the killed first start may have left something behind outside of the volume.
    """
    if not found.unfinished.exists():
        return None
    if found.data.exists():
        shutil.rmtree(found.data)
    return found.unfinished.read_text(encoding="utf-8")


def mark_unfinished(found: Server, what: str) -> None:
    """On disk before anything is made: a kill may come at any moment."""
    found.unfinished.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(found.unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, what.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync_folder(found.unfinished.parent)


def mark_finished(found: Server) -> None:
    found.unfinished.unlink(missing_ok=True)
    _sync_folder(found.unfinished.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
