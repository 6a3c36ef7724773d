"""Where things lie: `$XDG_CACHE_HOME` or `~/.cache`, in `database-operator/`.

bin/<module>-<digest>/     programs built from the modules in localcluster/go
clusters/<name>/           all state of one cluster, removed by `down`
containerd/<name>/         its images, kept by `down` so that the next `up` imports nothing
images/                    image archives
"""

import os
from pathlib import Path


def cache() -> Path:
    """The project's folder in the user's cache, absolute, without symlinks; made when it is not there."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base).resolve() / "database-operator"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clusters() -> Path:
    """The folder of all clusters' state."""
    folder = cache() / "clusters"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
