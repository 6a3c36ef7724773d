"""The environment that programs of the database's own image are started with.

The bundle's loader points ``LD_LIBRARY_PATH`` at the bundle's own libraries and keeps what stood there before in
``LD_LIBRARY_PATH_ORIG``. A database started with it would load our libssl instead of its own.
"""

import os
from collections.abc import Mapping

_LIBRARIES = "LD_LIBRARY_PATH"
_ORIGINAL = "LD_LIBRARY_PATH_ORIG"
_RESET = "PYINSTALLER_RESET_ENVIRONMENT"  # a child from the same bundle starts afresh; its loader removes the variable again


def clean_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """A copy of ``environment`` (the process's own where none is given) as the container was started with; twice is as once."""
    clean = dict(os.environ if environment is None else environment)
    if _RESET in clean:
        return clean
    original = clean.pop(_ORIGINAL, None)
    clean.pop(_LIBRARIES, None)
    if original:
        clean[_LIBRARIES] = original
    clean[_RESET] = "1"
    return clean


def restore() -> None:
    """Make the process's own environment the clean one: Patroni and others start programs without asking us.

    The loader has read ``LD_LIBRARY_PATH`` long before, so the bundle's own libraries are still found.
    """
    clean = clean_environment()
    for name in (_LIBRARIES, _ORIGINAL):
        os.environ.pop(name, None)
    os.environ.update(clean)
