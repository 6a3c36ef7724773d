"""Where the demo runs: the embedded cluster, or one of the user's by context."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from localcluster import Cluster, ClusterError
from localcluster.images import operator
from localcluster.progress import Progress

PROJECT = Path(__file__).resolve().parents[2]


class Place(Protocol):
    """A cluster to install into."""

    image: str  # the operator's
    stamp: str  # changes with the image's content, where its name does not

    def kubectl(self, *args: str, input: str | None = None) -> str: ...  # noqa: A002
    def address(self, namespace: str, service: str, port: int) -> contextlib.AbstractContextManager[tuple[str, int]]: ...
    def down(self) -> None: ...


class Embedded:
    """The cluster on this machine; Services are reached as they are."""

    def __init__(self, progress: Progress) -> None:
        self._cluster = Cluster(progress=progress)
        self._progress = progress
        self.image = operator.reference()
        self.stamp = operator.digest()

    def up(self) -> None:
        self._cluster.up()

    def down(self) -> None:
        self._cluster.down()

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002
        return self._cluster.kubectl(*args, input=input)

    @contextlib.contextmanager
    def address(self, namespace: str, service: str, port: int) -> Iterator[tuple[str, int]]:
        found = json.loads(self.kubectl("-n", namespace, "get", "service", service, "-o", "json"))
        yield found["spec"]["clusterIP"], port


class Yours:
    """A cluster of the user's kubeconfig; Services are reached through ``kubectl port-forward``."""

    def __init__(self, context: str, image: str) -> None:
        found = shutil.which("kubectl")
        if found is None:
            raise ClusterError("kubectl was not found", "install it, or put it on PATH")
        self._command = [found, "--context", context]
        self.image = image
        self.stamp = image

    def down(self) -> None:
        return

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002
        done = subprocess.run([*self._command, *args], input=input, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(
                f"kubectl {args[0]} failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
            )
        return done.stdout

    @contextlib.contextmanager
    def address(self, namespace: str, service: str, port: int) -> Iterator[tuple[str, int]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            local = probe.getsockname()[1]
        argv = [*self._command, "-n", namespace, "port-forward", f"service/{service}", f"{local}:{port}"]
        forward = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _await_port(local)
            yield "127.0.0.1", local
        finally:
            forward.terminate()
            forward.wait(10)


def _await_port(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise ClusterError("kubectl port-forward did not open its port", "see that your user may port-forward")


def items(place: Place, *args: str) -> list[dict[str, Any]]:
    """The objects of ``kubectl get … -o json``."""
    found = json.loads(place.kubectl("get", *args, "-o", "json"))
    listed: list[dict[str, Any]] = found.get("items", [found])
    return listed
