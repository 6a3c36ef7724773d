"""What a control plane and a whole cluster have in common: their parts can be asked, awaited, paused, killed and restarted."""

import signal
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from localcluster import pki
from localcluster.api_client import ApiClient
from localcluster.components import Site
from localcluster.errors import ClusterError
from localcluster.processes import Processes, stat
from localcluster.run import run

READY_SECONDS = 60.0


class Launcher(Protocol):
    """Starts one part by name."""

    def __call__(self, component: str) -> None: ...


class Parts:
    """The running parts of one cluster. Components are named as "apiserver", "etcd", "controller-manager", "kubelet", ..."""

    def __init__(self, site: Site, processes: Processes, launch: Launcher) -> None:
        self.site = site
        self.processes = processes
        self._launch = launch
        self.token = pki.admin_token(site.pki)
        self.api = ApiClient(site.server, site.pki / "ca.crt", self.token)

    def kubectl(self, *args: str, text: str | None = None) -> str:
        """Runs kubectl against this cluster, `text` as its standard input; its output. Raises CommandError."""
        return run([self.site.program("kubectl"), f"--kubeconfig={self.site.pki}/admin.kubeconfig", *args], text=text, seconds=600)

    def pause(self, component: str) -> None:
        """Stops the component (SIGSTOP): it keeps its connections and answers nothing."""
        record = self.processes.signal(component, signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while (now := stat(record.pid)) is not None and now.state != "T" and time.monotonic() < deadline:
            time.sleep(0.005)

    def resume(self, component: str) -> None:
        """Lets a paused component go on."""
        self.processes.signal(component, signal.SIGCONT)

    def kill(self, component: str) -> None:
        """Ends the component by SIGKILL; nothing restarts it but `restart` or `up`."""
        self.processes.require(component)
        self.processes.kill(component)

    def restart(self, component: str) -> None:
        """Ends the component if it runs, starts it, and waits until it is ready."""
        self.processes.kill(component)
        self._launch(component)
        if component in ("etcd", "apiserver"):
            self.await_ready("the API server", self.api.ready, ("etcd", "apiserver"))

    def await_ready(self, what: str, ready: Callable[[], bool], components: Iterable[str]) -> None:
        """Waits until `ready()`.

        Raises ClusterError with the last log line of the first of `components` that ended, or of the last of them after 60 s.
        """
        names = tuple(components)
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            ended = next((name for name in names if self.processes.running(name) is None), None)
            if ended is not None:
                raise ClusterError(f"{ended} ended: {self.processes.last_line(ended)}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{what} is not up after {READY_SECONDS:.0f} s, last line of {names[-1]}: {self.processes.last_line(names[-1])}"
                )
            time.sleep(0.05)
