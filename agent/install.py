"""``database-agent install DIR``: the init container's work, a copy of the bundle for the database's container."""

import os
import shutil
import sys
from pathlib import Path

from database_operator.build.constants import AGENT_PROGRAM

PROGRAM = Path(AGENT_PROGRAM).name


def bundle() -> Path:
    """The folder the running bundle lies in; ``RuntimeError`` where the agent runs from its sources."""
    if not getattr(sys, "frozen", False):
        raise RuntimeError("install copies the built bundle; this agent runs from its sources")
    return Path(sys.executable).resolve().parent


def _copy(source: Path, target: Path) -> None:
    """One file or link under its final name only when it is whole."""
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    if source.is_symlink():
        fresh.symlink_to(source.readlink())
    else:
        shutil.copyfile(source, fresh)  # sendfile: the bytes do not pass through this process
        # any uid may run it, whatever the umask: the database's container may run as another user than this one
        fresh.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    fresh.replace(target)


def install(source: Path, target: Path) -> int:
    """Copy the bundle in ``source`` into ``target`` and give the number of files.

    The program comes last, so whoever finds it finds all it needs. A repeat, also after a kill halfway, ends in the same tree.
    ``OSError`` where the disk is full or not writable: the init container fails and the kubelet starts it again.
    """
    program = source / PROGRAM
    count = 0
    for folder, folders, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        if here != target:  # the volume's own top folder belongs to the kubelet
            here.chmod(0o755)
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted(files + links):
            path = Path(folder) / name
            if path != program:
                _copy(path, here / name)
                count += 1
    _copy(program, target / PROGRAM)
    return count + 1
