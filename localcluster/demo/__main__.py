"""``./demo``: see ``--help``."""

import argparse
import sys
import time

from rich import box
from rich.console import Console
from rich.table import Table

from localcluster.demo import install
from localcluster.demo.ask import ASK
from localcluster.demo.place import Embedded, Place, Yours, items
from localcluster.errors import ClusterError
from localcluster.images import operator
from localcluster.progress import Progress

PIPE_WIDTH = 200  # characters, where the output is no terminal
EPILOG = """
  ./demo                                   on an embedded cluster on this machine (root, Linux)
  ./demo down                              remove it again
  ./demo image [--tag REF]                 build the operator's image
  ./demo --context NAME --image REF        on your own cluster, with an image that it can pull
  ./demo down --context NAME --image REF   remove it from there
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="./demo",
        description="Shows the five databases come up from their manifests and answer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("command", nargs="?", choices=("up", "down", "image"), default="up")
    top.add_argument("--context", help="a context of your kubeconfig; default: the embedded cluster")
    top.add_argument("--image", help="the operator's image, where your cluster can pull it")
    top.add_argument("--tag", help="name of the image that ./demo image builds")
    top.add_argument("--yes", action="store_true", help="do not ask before installing into your cluster")
    return top


def main() -> int:
    """0: every database answered; 1: the cause in one line; 130: interrupted, and the machine left clean."""
    flags = parser().parse_args()
    progress = Progress()
    embedded = flags.context is None
    try:
        if flags.command == "image":
            progress(f"built {operator.build(flags.tag or operator.reference(), progress)}: push it, or load it into your cluster's nodes")
            return 0
        place: Embedded | Yours = Embedded(progress) if embedded else _yours(flags)
        if flags.command == "down":
            if not embedded:
                install.remove(place)
            place.down()
            return 0
        if isinstance(place, Embedded):
            return _embedded(place, progress)
        if not _agreed(place, flags):
            return 1
        show(place, progress)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _embedded(place: Embedded, progress: Progress) -> int:
    try:
        place.up()
        show(place, progress)
    except KeyboardInterrupt:
        print("interrupted: taking the cluster down", file=sys.stderr)
        place.down()
        return 130
    progress("./demo down removes the cluster and all of its data")
    return 0


def _yours(flags: argparse.Namespace) -> Yours:
    if not flags.image:
        raise ClusterError(
            "--context needs --image, the operator's image where your cluster can pull it",
            "build one with ./demo image --tag REGISTRY/database-operator:TAG and push it, or load it into the nodes",
        )
    return Yours(flags.context, flags.image)


def _agreed(place: Yours, flags: argparse.Namespace) -> bool:
    print(f"This installs into the cluster of context {flags.context}:")
    print("  - the CustomResourceDefinition databases.databases.database-operator.io, ClusterRoles and an admission policy")
    print(f"  - the operator ({place.image}) in the namespace {install.OPERATOR_NAMESPACE}")
    print(f"  - five small databases in the namespace {install.NAMESPACE} (in all about 1.5 CPU, 4 GiB and five volumes)")
    if flags.yes:
        return True
    if not sys.stdin.isatty():
        print("error: nobody to ask: say --yes", file=sys.stderr)
        return False
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")


def show(place: Place, progress: Progress) -> None:
    """Install, wait, ask, and print the table."""
    with progress.step("installing the operator"):
        install.install_operator(place)
    started = time.monotonic()
    names = install.apply_samples(place)
    databases = install.await_ready(place, names, progress)
    progress(f"all Ready {time.monotonic() - started:.0f} s after kubectl apply; asking each through its Service")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("Name", "Type", "Version", "Ready after", "Answer", "Endpoint"):
        table.add_column(column, overflow="fold")
    for name, database in databases.items():
        kind, status = database["spec"]["type"], database["status"]
        login = install.login(place, database)
        with place.address(install.NAMESPACE, status["serviceName"], int(login["port"])) as (host, port):
            answer = ASK[kind](host, port, login)
        status = items(place, "database", name, "-n", install.NAMESPACE)[0]["status"]  # with what its members have said by now
        seconds = f"{install.seconds_to_ready(database):.0f} s"
        table.add_row(name, kind, status.get("version", ""), seconds, answer, status["endpoint"])
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


if __name__ == "__main__":
    sys.exit(main())
