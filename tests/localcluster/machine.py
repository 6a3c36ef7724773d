"""What a cluster could leave on the machine."""

import subprocess
from pathlib import Path
from typing import Self

import msgspec

from localcluster import paths
from localcluster.node import CGROUP_ROOT, MARK, Subnets, cgroup_hierarchies
from localcluster.processes import all_pids

PLACES = ("database-operator/clusters", "database-operator/containerd", "/run/", "/var", "kubelet", "kubernetes")


def lines(*argv: str) -> frozenset[str]:
    return frozenset(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())


class Machine(msgspec.Struct, frozen=True):
    """All that a node may touch outside its namespaces, without what belongs to other clusters by their records."""

    links: frozenset[str]
    routes: frozenset[str]
    tables: frozenset[str]
    mounts: frozenset[str]
    namespaces: frozenset[str]
    cgroups: frozenset[str]
    kernel: dict[str, str]

    @classmethod
    def now(cls, name: str) -> Self:
        others = [file for file in paths.clusters().glob("*/cluster.json") if file.parent.name != name]
        links = [msgspec.json.decode(file.read_bytes(), type=Subnets).link for file in others]
        cgroups = [found.name for root in cgroup_hierarchies() for found in (root / CGROUP_ROOT).glob("*") if found.is_dir()]
        return cls(
            links=frozenset(found.name for found in Path("/sys/class/net").iterdir() if found.name not in links),
            routes=frozenset(route for route in lines("ip", "-4", "route") if not any(f"dev {link}" in route for link in links)),
            tables=lines("nft", "list", "tables"),
            mounts=frozenset(mount for mount in Path("/proc/mounts").read_text().splitlines() if any(place in mount for place in PLACES)),
            namespaces=lines("ip", "netns", "list"),
            cgroups=frozenset(cgroups) - {file.parent.name for file in others},
            kernel={name: Path("/proc/sys", name).read_text() for name in ("net/ipv4/ip_forward", "kernel/panic", "vm/overcommit_memory")},
        )


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that belong to the cluster with this state folder."""
    found = []
    for pid in all_pids():
        try:
            environment, command = (Path(f"/proc/{pid}/{part}").read_bytes() for part in ("environ", "cmdline"))
        except OSError:
            continue
        if f"{MARK}={folder}".encode() in environment.split(b"\0") or str(folder).encode() in command:
            found.append(command.replace(b"\0", b" ").decode())
    return found
