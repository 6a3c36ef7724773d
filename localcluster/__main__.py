"""The command line: `python -m localcluster up | down | status | images | kubeconfig [--name NAME]`."""

import argparse
import signal
import sys
import time

from localcluster import paths
from localcluster.cluster import Cluster, default_name
from localcluster.control_plane import leave
from localcluster.errors import ClusterError
from localcluster.progress import Progress


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="localcluster", description="A real Kubernetes on this machine.")
    commands = top.add_subparsers(dest="command", required=True)
    for name, text in (
        ("up", "start the cluster, or what of it is down"),
        ("down", "stop it and remove its state and volumes"),
        ("status", "say what runs; exit code 1 unless all does"),
        ("images", "get the database images and load them into the cluster"),
        ("kubeconfig", "print the path of the kubeconfig"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--name", default=default_name(), help="the cluster's name (default: $LOCALCLUSTER, else local)")
        if name == "up":
            command.add_argument("--subnet", help="an IPv4 /16 for pods and Services (default: a free one)")
            command.add_argument("--no-images", action="store_true", help="load no database images")
        if name == "down":
            command.add_argument("--images", action="store_true", help="remove its loaded images too")
        if name == "images":
            command.add_argument("reference", nargs="*", help="images to load (default: all that are known)")
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs one command; the exit code."""
    arguments = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, leave)  # as Ctrl-C: what is half-made is taken down
    try:
        return _run(arguments)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace) -> int:
    progress = Progress()
    cluster = Cluster(arguments.name, subnet=getattr(arguments, "subnet", None), progress=progress)
    if arguments.command == "up":
        start = time.monotonic()
        cluster.up(images=() if arguments.no_images else None)
        progress(f"the cluster {cluster.name} is up after {time.monotonic() - start:.1f} s: export KUBECONFIG={cluster.kubeconfig}")
    elif arguments.command == "down":
        cluster.down(images=arguments.images)
    elif arguments.command == "status":
        return _status(cluster)
    elif arguments.command == "images":
        cluster.load_images(arguments.reference or None)
        print("\n".join(cluster.images()))
    else:
        if not cluster.kubeconfig.exists():
            raise ClusterError(f"there is no cluster {cluster.name} in {paths.clusters()}", f"localcluster up --name {cluster.name}")
        print(cluster.kubeconfig)
    return 0


def _status(cluster: Cluster) -> int:
    status = cluster.status()
    print(f"{status.name}: {'ready' if status.ready else 'not ready'}, {status.server}, subnet {status.subnet}")
    for component, state in status.components.items():
        print(f"  {component:20}{state}")
    return 0 if status.ready else 1


if __name__ == "__main__":
    sys.exit(main())
