"""One pod cut off from others, by nftables in the network namespace of the local cluster's node.

There, and not in the pod's own, as every packet of a pod is routed by the node: the kubelet's probes, which come from the
node itself, go on as they would on a node that is cut off, and a client in the pod's own network still reaches its
server. The rules name addresses that the kernel forgets after a time given, so a bench that is killed leaves nothing.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from localcluster import Cluster
from localcluster.node import Subnets

API_PORT = 6443
DNS_PORT = 53
SIDES = ("peers", "clients", "api", "all")


def table(pod: str) -> str:
    """One of its own for each pod, so that several may be cut off at once."""
    return f"inet faults_{pod.replace('.', '_')}"


def rules(side: str, pod: str, peers: list[str], machine: str, seconds: int) -> str:
    """What nft reads. ``machine``: the address that clients outside the cluster come from."""
    others = {"peers": peers, "clients": [machine], "api": [], "all": ["0.0.0.0/0"]}[side]
    forward = ["ip saddr @pod ip daddr @others drop", "ip daddr @pod ip saddr @others drop"]
    node = [f"ip saddr @pod tcp dport {API_PORT} drop"] if side in ("api", "all") else []
    node += [f"ip saddr @pod meta l4proto {{ tcp, udp }} th dport {DNS_PORT} drop"] if side == "all" else []
    lines = [
        f"table {table(pod)}",
        f"delete table {table(pod)}",
        f"table {table(pod)} {{",
        "  set pod { type ipv4_addr; flags timeout; }",
        "  set others { type ipv4_addr; flags interval; }",
        "  chain forward { type filter hook forward priority -10; " + "; ".join(forward) + "; }",
        "  chain input { type filter hook input priority -10; " + "; ".join([*node, ""]) + "}",
        "}",
        f"add element {table(pod)} pod {{ {pod} timeout {seconds}s }}",
    ]
    lines += [f"add element {table(pod)} others {{ {', '.join(others)} }}"] if others else []
    return "\n".join(lines) + "\n"


def nft(cluster: Cluster, text: str) -> None:
    """In the node's network namespace."""
    record = cluster.parts.processes.require("init")
    argv = ["nsenter", f"--net=/proc/{record.pid}/ns/net", "nft", "-f", "-"]
    subprocess.run(argv, input=text, text=True, check=True, capture_output=True, timeout=10)


@contextmanager
def cut_off(cluster: Cluster, side: str, pod: str, peers: list[str], seconds: int) -> Iterator[None]:
    """``pod`` and ``peers``: addresses. Ends with the block, and after ``seconds`` whatever happens."""
    machine = msgspec.json.decode((cluster.folder / "cluster.json").read_bytes(), type=Subnets).machine
    nft(cluster, rules(side, pod, peers, machine, seconds))
    try:
        yield
    finally:
        nft(cluster, f"table {table(pod)}\ndelete table {table(pod)}\n")
