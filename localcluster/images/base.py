"""Debian's slim images made from Debian's packages, under the names that the Containerfiles' FROM lines ask for."""

import subprocess
import tempfile
from pathlib import Path

from localcluster.images import clients, store
from localcluster.images.catalog import BASE_FORMAT
from localcluster.images.store import Say, buildah, checked

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# what the official image leaves out of its slim variants, and keeps
SLIM = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/lintian/*",
)
# bookworm's init-system-helpers otherwise brings usrmerge and with it 50 MB of perl
MERGED_USR = {"bookworm": ["--include=usr-is-merged", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]}
TRACES = ("apt/sources.list", "apt/apt.conf.d/99mmdebstrap", "hostname", "resolv.conf")  # of this machine, in /etc
LOGS = ("dpkg.log", "bootstrap.log", "apt/history.log", "apt/term.log", "apt/eipp.log.xz")


def sources(suite: str) -> Path:
    """The apt sources that the base was made from. The image itself names no archive: each build is lent these lines."""
    return store.folder() / f"{suite}-{BASE_FORMAT}.list"


def ensure(suite: str, progress: Say) -> str:
    """The name of Debian's slim image of ``suite`` in our storage; ``ClusterError`` where Debian's archive is not reached."""
    reference = f"docker.io/library/debian:{suite}-slim"
    if store.has(reference) and sources(suite).is_file():
        return reference
    progress(f"making debian:{suite}-slim from Debian's packages (20 s)")
    with tempfile.TemporaryDirectory(prefix="base-", dir=store.scratch()) as scratch:
        tree, kept = Path(scratch, "base.tar"), Path(scratch, "sources.list")
        hooks = ['cp "$1/etc/apt/sources.list" "$KEPT_SOURCES"', *(f'rm -f "$1/etc/{name}"' for name in TRACES)]
        hooks += [f'rm -f "$1/var/log/{name}"' for name in LOGS]
        argv = [*store.CONTAINED, "mmdebstrap", "--variant=minbase", "--format=tar", "--include=tzdata"]
        argv += [f"--dpkgopt={line}" for line in SLIM] + [f"--aptopt={line}" for line in clients.apt_lines()]
        argv += [f"--customize-hook={hook}" for hook in hooks]
        argv += [*MERGED_USR.get(suite, []), suite, str(tree), *clients.host_sources(suite)]
        checked(argv, f"making debian:{suite}-slim", environment={"KEPT_SOURCES": str(kept)})
        _commit(tree, reference)
        kept.replace(sources(suite))
    return reference


def _commit(tree: Path, reference: str) -> None:
    container = checked(buildah("from", "scratch"), "buildah").strip()
    try:
        checked(buildah("add", "--quiet", container, str(tree), "/"), "buildah")
        checked(buildah("config", "--cmd", "bash", "--env", PATH, container), "buildah")
        checked(buildah("commit", "--quiet", container, reference), "buildah")
    finally:
        subprocess.run(buildah("rm", container), capture_output=True, check=False)
