"""The mark of a first start that is not through.

A kill while WiredTiger makes its files for the first time can leave a folder that mongod refuses to open. The mark is
set on an empty volume before mongod starts, and taken away by the sidecar once mongod answers and before anything is
asked of it: while it stands, the volume has never held data, so starting over loses nothing.
"""

import os
import shutil
from pathlib import Path

MARK = ".first-start"
_KEPT = frozenset({MARK, "lost+found"})


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prepare(data: Path) -> bool:
    """Set the mark on an empty volume; with the mark there, start over. Says whether this is a first start. ``OSError``: no access."""
    mark = data / MARK
    content = [entry for entry in data.iterdir() if entry.name not in _KEPT]
    if mark.exists():
        for entry in content:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    elif content:
        return False
    else:
        mark.touch()
    _sync(data)
    return True


def done(data: Path) -> None:
    """Take the mark away, for good before this comes back."""
    mark = data / MARK
    if mark.exists():
        mark.unlink()
        _sync(data)
