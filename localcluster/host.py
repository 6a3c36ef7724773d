"""What the machine must have and what a cluster takes of it: root, kernel, disk, packages, subnet, ports, sysctls."""

import fcntl
import ipaddress
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from localcluster import paths
from localcluster.errors import ClusterError, CommandError
from localcluster.run import run

KERNEL_MINIMUM = (5, 13)  # kube-proxy's nftables mode
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
# program -> the Debian package that has it
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "ptp": "containernetworking-plugins",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
}
# second parts of the 10.X.0.0/16 tried: high ones first, as home routers, VPNs and Docker take the low ones
SUBNETS = (244, *range(245, 255), *range(200, 244), *range(100, 200))
# machine-wide settings a node needs at least: Elasticsearch asks for the first, many watching containers for the second
PROC_SYS = Path("/proc/sys")
SYSCTLS = {"vm/max_map_count": 262144, "fs/inotify/max_user_instances": 1024}


@contextmanager
def locked(file: Path, holder: str, *, seconds: float = 300) -> Iterator[None]:
    """Holds an exclusive lock on `file`; ClusterError names `holder` when it is not had in time. Whoever holds it may remove the file."""
    deadline = time.monotonic() + seconds
    while True:
        with file.open("a") as handle:
            if _lock(handle, file):
                yield
                return
        if time.monotonic() > deadline:
            raise ClusterError(f"{holder} is at work", "wait for it to end")
        time.sleep(0.1)


def _lock(handle: IO[str], file: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())  # else its holder has removed it meanwhile
    except (BlockingIOError, FileNotFoundError):
        return False


def require_root() -> None:
    """Raises ClusterError for a user other than root."""
    if os.geteuid() != 0:
        raise ClusterError(
            "a node needs root (namespaces, mounts, network)", "run it with sudo, as `sudo -H .venv/bin/python -m localcluster ...`"
        )


def require_kernel() -> None:
    """Raises ClusterError for a kernel too old for kube-proxy's nftables mode."""
    release = os.uname().release
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    if version < KERNEL_MINIMUM:
        raise ClusterError(
            f"Linux {release} is too old", f"use {'.'.join(map(str, KERNEL_MINIMUM))} or newer, as Debian 12 and Ubuntu 22.04 have"
        )


def require_disk(folder: Path, gib: int, purpose: str) -> None:
    """Raises ClusterError unless `gib` GiB are free where `folder` lies."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < gib:
        raise ClusterError(
            f"{free:.1f} GiB are free at {folder}, and {gib} GiB are needed {purpose}", "free some, or set XDG_CACHE_HOME to a larger disk"
        )


def missing_packages(programs: Mapping[str, str] = PACKAGES) -> list[str]:
    """The Debian packages of those ``programs`` (program -> package) that this machine lacks; by default those a node needs."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *map(str, CNI_FOLDERS)])
    return sorted({package for program, package in programs.items() if shutil.which(program, path=search) is None})


def require_packages(say: Callable[[str], None], programs: Mapping[str, str] = PACKAGES) -> None:
    """Installs what is missing of ``programs`` from Debian's packages; ClusterError when that is not possible."""
    missing = missing_packages(programs)
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise ClusterError(f"programs of the packages {names} are missing", "install them with this system's package manager")
    say(f"installing {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]):
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode or missing_packages(programs):
        said = [line for line in done.stderr.strip().splitlines() if line.startswith("E:")] or ["apt-get does not say why"]
        raise ClusterError(
            f"{names} cannot be installed ({said[0]})", f"connect to the network, or install by hand: apt-get install {names}"
        )


def cni_folder() -> Path:
    """Where the CNI plugins are."""
    return next((folder for folder in CNI_FOLDERS if (folder / "ptp").exists()), CNI_FOLDERS[0])


def free_port() -> int:
    """A TCP port of 127.0.0.1 nobody listens on, below the range the kernel gives to outgoing connections."""
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ClusterError("no free port between 20000 and 32000 on 127.0.0.1", "stop what listens there")


def routes() -> list[ipaddress.IPv4Network]:
    """All IPv4 networks this machine has a route to, other than the default route."""
    found = []
    for route in msgspec.json.decode(run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]"):
        if route["dst"] != "default":
            found.append(ipaddress.IPv4Network(route["dst"], strict=False))
    return found


def free_subnet(wanted: str | None, taken: Iterable[str]) -> ipaddress.IPv4Network:
    """A /16 that clashes with no route of the machine and none of `taken` (other clusters' subnets).

    Raises ClusterError when `wanted` is no /16 or clashes, or when none is free.
    """
    used = [*routes(), *(ipaddress.IPv4Network(subnet) for subnet in taken)]
    if wanted is None:
        for second in SUBNETS:
            subnet = ipaddress.IPv4Network(f"10.{second}.0.0/16")
            if not any(subnet.overlaps(other) for other in used):
                return subnet
        raise ClusterError("no subnet of 10.100.0.0/16 to 10.254.0.0/16 is free", "name one with --subnet")
    try:
        subnet = ipaddress.IPv4Network(wanted)
    except ValueError:
        raise ClusterError(f"{wanted} is not an IPv4 subnet", "name a /16, as 10.99.0.0/16") from None
    if subnet.prefixlen != 16:
        raise ClusterError(f"{wanted} is not a /16", "name a /16, as 10.99.0.0/16")
    clash = next((other for other in used if subnet.overlaps(other)), None)
    if clash is not None:
        raise ClusterError(f"the subnet {wanted} is taken by {clash}", "name another with --subnet, or none and a free one is chosen")
    return subnet


class Changed(msgspec.Struct):
    """What the sysctls were before the first cluster, and the clusters that need them as they are."""

    before: dict[str, int] = {}
    users: list[str] = []


def raise_sysctls(cluster: str) -> None:
    """Raises what is lower than a node needs, and records what it was."""
    with _sysctls() as changed:
        if cluster not in changed.users:
            changed.users.append(cluster)
        for name, least in SYSCTLS.items():
            file = PROC_SYS / name
            now = int(file.read_text())
            if now < least:
                changed.before.setdefault(name, now)
                file.write_text(str(least))


def restore_sysctls(cluster: str) -> None:
    """Sets back what was raised, once no other cluster needs it; what somebody else changed meanwhile stays."""
    with _sysctls() as changed:
        changed.users = [user for user in changed.users if user != cluster and (paths.clusters() / user).is_dir()]
        if changed.users:
            return
        for name, before in changed.before.items():
            file = PROC_SYS / name
            if int(file.read_text()) == SYSCTLS.get(name):
                file.write_text(str(before))
        changed.before = {}


@contextmanager
def _sysctls() -> Iterator[Changed]:
    folder = paths.clusters()
    record = folder / ".sysctls.json"
    with locked(folder / ".sysctls.lock", "another cluster"):
        changed = msgspec.json.decode(record.read_bytes(), type=Changed) if record.exists() else Changed()
        yield changed
        if changed.before or changed.users:
            write_atomically(record, msgspec.json.encode(changed))
        else:
            record.unlink(missing_ok=True)


def write_atomically(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Writes `file` so that it is there whole or as it was, never readable by more than `mode` says."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "wb") as handle:  # noqa: PTH123  a descriptor, for the mode from the first byte on
        handle.write(content)
    temporary.replace(file)


def try_run(argv: list[str]) -> bool:
    """Runs a program whose failure means that nothing was to do; whether it succeeded."""
    try:
        run(argv)
    except CommandError:
        return False
    return True
