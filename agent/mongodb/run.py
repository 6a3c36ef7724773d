"""``database-agent mongodb run``: what stands before mongod in the database's container."""

import os
import sys
from pathlib import Path

from agent import environment
from agent.mongodb import first_start
from database_operator.build import constants as c

DATA = Path("/data/db")
KEY_FILE = Path("/run/database/keyfile")
CONFIG = Path(c.SETTINGS_PATH) / "mongod.conf"
_PRIVATE = 0o600  # mongod refuses a key file that its group can read, and a Secret volume's files have group bits


def copy_key_file(source: Path, target: Path) -> None:
    """Written under another name first: a start that was killed halfway leaves no half key. ``OSError``: no access."""
    fresh = target.with_name(f"{target.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    with os.fdopen(descriptor, "w") as file:
        file.write(source.read_text())
    fresh.replace(target)


def run() -> int:
    """Start mongod in this process's place, so that the kubelet's SIGTERM reaches it: it steps down and ends cleanly.

    The official entrypoint is left out: its first user would be made on each member before it joins the set, and not
    again after a crash halfway. numactl, which it uses where it may, is not allowed under the restricted profile.
    """
    try:
        if first_start.prepare(DATA):
            print("the volume is empty: first start", file=sys.stderr)
        copy_key_file(Path(c.INTERNAL_PATH) / "keyfile", KEY_FILE)
    except OSError as error:
        print(f"cannot prepare the start of mongod: {error}", file=sys.stderr)
        return 1
    environ = environment.clean_environment()
    try:
        os.execvpe("mongod", ["mongod", "--config", str(CONFIG)], environ)  # noqa: S606  argv, no shell
    except OSError as error:
        print(f"cannot start mongod: {error}", file=sys.stderr)
        return 1
