"""A control plane without nodes for tests and benchmarks: etcd and API server, with controllers on request, on loopback only."""

import os
import re
import secrets
import shutil
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import msgspec

from localcluster import binaries, paths, pki
from localcluster.api_client import compact
from localcluster.components import AUDIT_POLICY, CONTROL_PLANE, Site
from localcluster.errors import ClusterError
from localcluster.host import free_port, locked, write_atomically
from localcluster.parts import Parts
from localcluster.processes import Processes, Record, matches, recorded
from localcluster.progress import Progress

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
PROGRAMS = {"etcd": "etcd", "apiserver": "kube-apiserver", "controller-manager": "kube-controller-manager", "scheduler": "kube-scheduler"}
SOCKET_LIMIT = 107  # bytes of a Unix socket's path, unix(7)
ATTEMPTS = 3
# without nodes, pods that a test plays would be evicted from, and collected with, a node that is not there
NO_NODES = ("*", "-node-lifecycle-controller", "-taint-eviction-controller", "-pod-garbage-collector-controller")


def check_name(name: str) -> str:
    """Gives `name` back, or raises ClusterError when it cannot name a cluster."""
    if not NAME.fullmatch(name):
        raise ClusterError(f"{name!r} cannot name a cluster", "use at most 32 lower-case letters, digits and dashes")
    return name


class ControlPlane:
    """An API server of one's own, as a context manager. Needs no root; several run at once.

    Everything ends with the block, with this process by SIGTERM or Ctrl-C, and, by the kernel's parent-death signal, with its SIGKILL.
    Programs of `$KUBEBUILDER_ASSETS` are used when that is set.
    """

    def __init__(self, name: str | None = None, *, controllers: bool = True, audit: bool = False, api_flags: tuple[str, ...] = ()) -> None:
        self.name = check_name(name or f"control-plane-{os.getpid() % 10**7}-{secrets.token_hex(3)}")
        self._components = ("etcd", "apiserver", *(("controller-manager", "scheduler") if controllers else ()))
        self._audit = audit
        self._api_flags = api_flags
        self._parts: Parts | None = None
        self._old_handler: object = None

    def __enter__(self) -> Self:
        programs = binaries.ensure([*(PROGRAMS[c] for c in self._components), "kubectl"], Progress(), assets=True)
        _sweep()
        self._catch_sigterm()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._start(programs)
            except ClusterError as error:
                self._stop()
                if "address already in use" not in str(error) or attempt == ATTEMPTS:
                    self._release_sigterm()
                    raise
            except BaseException:
                self._stop()
                self._release_sigterm()
                raise
            else:
                break
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        self._release_sigterm()

    def _start(self, programs: dict[str, Path]) -> None:
        folder = paths.clusters() / self.name
        socket = folder / "etcd.sock"
        if len(str(socket)) > SOCKET_LIMIT:
            raise ClusterError(f"{folder} is too long a path for a socket", "set XDG_CACHE_HOME to a shorter one")
        _claim(folder)
        site = Site(
            folder=folder,
            programs=programs,
            address="127.0.0.1",
            port=free_port(),
            services="10.96.0.0/16",
            etcd_socket=socket,
            audit=self._audit,
            api_flags=self._api_flags,
            controllers=NO_NODES,
        )
        pki.create(site.pki, site.server, ["127.0.0.1", "10.96.0.1"])
        (folder / "audit-policy.yaml").write_text(AUDIT_POLICY)
        self._parts = parts = Parts(site, Processes(folder), self._launch)
        for component in ("etcd", "apiserver"):
            self._launch(component)
        parts.await_ready("the API server", parts.api.ready, ("etcd", "apiserver"))
        for component in self._components[2:]:
            self._launch(component)

    def _launch(self, component: str) -> None:
        # should this process be killed, the kernel kills its components: nothing outlives a test run
        argv = CONTROL_PLANE[component](self.parts.site)
        self.parts.processes.start(component, argv, wrapper=["setpriv", "--pdeathsig", "KILL", "--"])

    def _stop(self) -> None:
        if self._parts is not None:
            self._parts.processes.kill_all()
            shutil.rmtree(self._parts.site.folder, ignore_errors=True)
            self._parts = None

    def _catch_sigterm(self) -> None:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._old_handler = signal.signal(signal.SIGTERM, leave)

    def _release_sigterm(self) -> None:
        if self._old_handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._old_handler = None

    @property
    def parts(self) -> Parts:
        """The running parts. Raises ClusterError outside the `with` block."""
        if self._parts is None:
            raise ClusterError(f"the control plane {self.name} does not run", "use it in a `with` block")
        return self._parts

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.parts.site.pki / "admin.kubeconfig"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.parts.site.server

    @property
    def token(self) -> str:
        """The administrator's token."""
        return self.parts.token

    @property
    def ca(self) -> Path:
        """The certificate the API server's is signed by."""
        return self.parts.site.pki / "ca.crt"

    @property
    def audit_log(self) -> Path | None:
        """The audit log, one JSON object a line, or None when it was not asked for."""
        return self.parts.site.audit_log

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002  as in subprocess.run
        """Runs kubectl as the administrator, with `input` as its standard input; its output. Raises CommandError."""
        return self.parts.kubectl(*args, text=input)

    def pause(self, component: str) -> None:
        """Stops the component (SIGSTOP): connections stay open and get no answer."""
        self.parts.pause(component)

    def resume(self, component: str) -> None:
        """Lets a paused component go on."""
        self.parts.resume(component)

    def kill(self, component: str) -> None:
        """Ends the component by SIGKILL."""
        self.parts.kill(component)

    def restart(self, component: str) -> None:
        """Ends the component if it runs, starts it, and waits until the API server is ready."""
        self.parts.restart(component)

    def compact(self) -> int:
        """Drops etcd's history; the revision it now begins with.

        The API server still serves recent changes from its cache: only after `restart("apiserver")` does a watch from before answer 410.
        """
        return compact(self.parts.site.etcd_socket)


def _claim(folder: Path) -> None:
    """Makes the folder with its owner's record in it, in one step: no moment leaves a folder nobody would sweep."""
    made = folder.with_name(f".{folder.name}.{os.getpid()}")
    made.mkdir(mode=0o700)
    write_atomically(made / "owner.json", msgspec.json.encode(recorded([os.getpid()])[0]))
    try:
        made.rename(folder)
    except OSError:
        shutil.rmtree(made)
        raise ClusterError(f"a cluster {folder.name} is there already", "choose another name, or take it down first") from None


def leave(number: int, frame: FrameType | None) -> None:
    """A handler of SIGTERM: raises SystemExit, so that every `with` block on the way is left."""
    sys.exit(128 + number)  # unwinds through the `with` block


def _sweep() -> None:
    """Removes what control planes left whose process was killed."""
    root = paths.clusters()
    with locked(root / ".sweep.lock", "another control plane"):
        for file in root.glob("*/owner.json"):
            try:
                owner = msgspec.json.decode(file.read_bytes(), type=Record)
            except (OSError, msgspec.DecodeError):
                continue
            if not matches(owner):
                Processes(file.parent).kill_all()
                shutil.rmtree(file.parent, ignore_errors=True)
