"""Flags and environment -> one frozen Config."""

import argparse
import os
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from msgspec import Struct

from database_operator import __version__

# what the first version took and nothing here needs
IGNORED = (
    *("--zap-devel", "--zap-log-level", "--zap-encoder", "--zap-stacktrace-level", "--zap-time-encoding", "--enable-http2"),
    *("--webhook-cert-path", "--webhook-cert-name", "--webhook-cert-key"),
    *("--metrics-cert-path", "--metrics-cert-name", "--metrics-cert-key"),
)
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Config(Struct, frozen=True, kw_only=True):
    """What ``database-operator run`` was asked to do. Addresses are ``(host, port)``; None is off."""

    kubeconfig: str | None
    context: str | None
    namespaces: tuple[str, ...]  # empty: all
    metrics_address: tuple[str, int] | None
    health_address: tuple[str, int] | None
    leader_elect: bool
    leader_election_id: str
    leader_election_namespace: str
    max_concurrent_reconciles: int
    resync_seconds: float
    agent_image: str
    image_registry: str
    cluster_domain: str
    log_level: str
    identity: str


class _Parser(argparse.ArgumentParser):
    """One line and exit 2 for anything that is wrong."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"database-operator: {message}; see --help\n")
        raise SystemExit(2)


def boolean(text: str) -> bool:
    """``true``, ``false`` and what else Go's flag package takes for them."""
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def seconds(text: str) -> float:
    """A duration as ``5m``, ``1h30m`` or ``90s``."""
    parts = DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 5m or 90s")
    total = sum(float(number) * UNIT_SECONDS[unit] for number, unit in parts)
    if total < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is shorter than a second")
    return total


def address(text: str) -> tuple[str, int] | None:
    """``host:port``, ``:port``, or ``0`` for off."""
    if text == "0":
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no address such as :8080, and not 0")
    return host.strip("[]"), int(port)


def workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 64")
    return int(text)


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog="database-operator", description="Runs databases on Kubernetes from Database resources.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"database-operator {__version__}")
    commands = top.add_subparsers(dest="command", required=True, parser_class=_Parser)
    run = commands.add_parser("run", help="reconcile Databases until stopped", allow_abbrev=False)
    add: Any = run.add_argument
    flag = {"type": boolean, "nargs": "?", "const": True, "metavar": "true|false"}
    add("--kubeconfig", help="default: in-cluster, then $KUBECONFIG, then ~/.kube/config")
    add("--context", help="of the kubeconfig; default: its current one")
    add("--namespace", action="append", default=[], help="watch only this namespace; may be repeated; default: all")
    add("--metrics-bind-address", type=address, default=("", 8080), metavar="ADDRESS", help="default :8080; 0 is off")
    add("--metrics-secure", default=False, help="accepted; metrics are served as plain HTTP", **flag)
    add(
        "--health-probe-bind-address",
        type=address,
        default=("", 8081),
        metavar="ADDRESS",
        help="/healthz, /readyz; default :8081; 0 is off",
    )
    add("--leader-elect", default=False, help="only one of several replicas reconciles; default false", **flag)
    add("--leader-election-id", default="database-operator", help="name of the Lease")
    add("--leader-election-namespace", default="", help="default: the pod's own")
    add("--max-concurrent-reconciles", type=workers, default=1, metavar="N", help="default 1")
    add("--resync-period", type=seconds, default=300.0, metavar="DURATION", help="default 5m")
    add("--agent-image", default="", help="default: $AGENT_IMAGE, else the operator's own image name and version")
    add("--image-registry", default="", help="where the official images are mirrored, as registry.example/mirror")
    add("--cluster-domain", default="cluster.local")
    add("--log-level", choices=("debug", "info", "error"), default="info")
    for name in IGNORED:
        add(name, nargs="?", help=argparse.SUPPRESS)
    return top


def parse(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Config:
    """Raises SystemExit(2) after one line on stderr for an unknown flag or a bad value."""
    environment = os.environ if environment is None else environment
    flags = parser().parse_args(argv)
    return Config(
        kubeconfig=flags.kubeconfig,
        context=flags.context,
        namespaces=tuple(dict.fromkeys(flags.namespace)),
        metrics_address=flags.metrics_bind_address,
        health_address=flags.health_probe_bind_address,
        leader_elect=flags.leader_elect,
        leader_election_id=flags.leader_election_id,
        leader_election_namespace=flags.leader_election_namespace or environment.get("POD_NAMESPACE", "default"),
        max_concurrent_reconciles=flags.max_concurrent_reconciles,
        resync_seconds=flags.resync_period,
        agent_image=flags.agent_image or environment.get("AGENT_IMAGE") or f"database-operator:{__version__}",
        image_registry=flags.image_registry,
        cluster_domain=flags.cluster_domain,
        log_level=flags.log_level,
        identity=f"{environment.get('POD_NAME') or os.uname().nodename}_{uuid.uuid4().hex[:8]}",  # no earlier process's: it may still write
    )
