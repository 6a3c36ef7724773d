"""A whole Kubernetes with one node: control plane, containerd, kubelet, kube-proxy, CoreDNS and volumes."""

import functools
import json
import os
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import msgspec

from localcluster import binaries, host, image_store, paths, pki
from localcluster.components import CONTROL_PLANE, NODE, NODE_PARTS, PROVISIONER, Site
from localcluster.control_plane import PROGRAMS, check_name
from localcluster.errors import ClusterError
from localcluster.image_store import ImageStore
from localcluster.node import MARK, Namespaces, Subnets, search_path, write_configuration
from localcluster.parts import Parts
from localcluster.processes import Processes, all_pids, executable, stat
from localcluster.progress import Progress

API_PORT = 6443
UP_GIB = 4
COMPONENTS = (*CONTROL_PLANE, *NODE_PARTS, "provisioner")
NODE_PROGRAMS = (*PROGRAMS.values(), "kubectl", "kubelet", "kube-proxy", "coredns", "pause")


def default_name() -> str:
    """The cluster that tests and the demo use: another one by $LOCALCLUSTER, so that two checkouts work side by side."""
    return os.environ.get("LOCALCLUSTER") or "local"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster's parts do: each component is "running", "paused" or "down"; `ready` when all run and the node says it is Ready."""

    name: str
    subnet: str
    server: str
    components: dict[str, str]
    ready: bool


class Cluster:
    """One cluster by name. `up` and `down` may be called at any time, from any process of root; several clusters run side by side."""

    def __init__(self, name: str | None = None, *, subnet: str | None = None, progress: Progress | None = None) -> None:
        self.name = check_name(name or default_name())
        self.folder = paths.clusters() / self.name
        self._wanted_subnet = subnet
        self._progress = progress or Progress(quiet=True)
        self._processes = Processes(self.folder)
        self._namespaces = Namespaces(self.name, self.folder, self._processes)

    def up(self, images: Iterable[str] | None = None) -> None:
        """Brings the cluster up, or what of it is down, with the images (all that are known with None).

        Raises ClusterError, with everything of the cluster stopped, when a part is not up after 60 s.
        """
        host.require_root()
        host.require_kernel()
        host.require_disk(paths.cache(), UP_GIB, "for images and volumes")
        host.require_packages(self._progress)
        programs = binaries.ensure(NODE_PROGRAMS, self._progress)
        archives = image_store.archives(images, self._progress)
        with self._lock():
            try:
                with self._progress.step(f"starting the cluster {self.name}"):
                    self._start(programs)
                self._import(archives)
            except BaseException as error:
                self._namespaces.remove(self._subnets())
                host.restore_sysctls(self.name)
                if isinstance(error, ClusterError) and (self.folder / "logs").exists():
                    raise ClusterError(str(error), f"the logs are in {self.folder}/logs") from None
                raise

    def down(self, *, images: bool = False) -> None:
        """Ends every process of the cluster and removes its state, volumes included; with `images` its containerd's images too."""
        host.require_root()
        with self._lock(), self._progress.step(f"stopping the cluster {self.name}"):
            self._namespaces.remove(self._subnets())
            host.restore_sysctls(self.name)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            if images and self._containerd_root.exists():
                shutil.rmtree(self._containerd_root)
            self._lock_file.unlink(missing_ok=True)

    def _lock(self) -> AbstractContextManager[None]:
        return host.locked(self._lock_file, f"another up or down of the cluster {self.name}")

    @property
    def _lock_file(self) -> Path:
        return paths.clusters() / f".{self.name}.lock"

    @property
    def _containerd_root(self) -> Path:
        return paths.cache() / "containerd" / self.name

    def _subnets(self) -> Subnets | None:
        try:
            return msgspec.json.decode((self.folder / "cluster.json").read_bytes(), type=Subnets)
        except (OSError, msgspec.DecodeError):
            return None

    def _start(self, programs: dict[str, Path]) -> None:
        subnets = self._prepare(programs)
        site = self._site(subnets, programs)
        fresh = self._namespaces.init() is None
        if fresh:
            self._namespaces.remove(subnets)
            host.free_subnet(subnets.whole, ())
            self._namespaces.create(programs["pause"])
        self._namespaces.link(subnets)
        host.raise_sysctls(self.name)
        write_configuration(site, self._namespaces.cgroup, self._containerd_root)
        parts = Parts(site, self._processes, self._launch)
        for component in ("etcd", "apiserver", "containerd"):
            self._heal(component)
        self._start_containerd(parts, fresh=fresh)
        parts.await_ready("the API server", parts.api.ready, ("etcd", "apiserver"))
        if self._processes.running("kubelet") is None:
            self._forget_readiness(parts)
        for component in COMPONENTS:
            self._heal(component)
        self._install(parts)
        parts.await_ready("the node", lambda: self._node_ready(parts), (*COMPONENTS, "kubelet"))

    def _prepare(self, programs: dict[str, Path]) -> Subnets:
        """The cluster's subnets, chosen and written down with its keys the first time."""
        found = self._subnets()
        if found is not None and (self.folder / "pki/tokens.csv").exists():
            if self._wanted_subnet not in (None, found.whole):
                raise ClusterError(
                    f"the cluster {self.name} has the subnet {found.whole}", f"take it down first: localcluster down --name {self.name}"
                )
            return found
        if (self.folder / "owner.json").exists():
            raise ClusterError(f"{self.name} is the name of a control plane that runs", "choose another name")
        if self.folder.exists():  # an `up` killed before it had written all
            self._namespaces.remove(found)
            shutil.rmtree(self.folder)
        with host.locked(paths.clusters() / ".subnets.lock", "another cluster"):
            taken = [msgspec.json.decode(file.read_bytes(), type=Subnets).whole for file in paths.clusters().glob("*/cluster.json")]
            subnets = Subnets(str(host.free_subnet(self._wanted_subnet, taken)))
            self.folder.mkdir(mode=0o700)
            host.write_atomically(self.folder / "cluster.json", msgspec.json.encode(subnets))
        for folder in (self.folder / "volumes", self._containerd_root):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        site = self._site(subnets, programs)
        pki.create(site.pki, site.server, [subnets.node, "127.0.0.1", str(IPv4Network(subnets.services)[1])])
        return subnets

    def _site(self, subnets: Subnets, programs: dict[str, Path]) -> Site:
        return Site(
            folder=self.folder,
            programs=programs,
            address=subnets.node,
            port=API_PORT,
            services=subnets.services,
            pods=subnets.pods,
            etcd_socket=Path("/run/etcd.sock"),
        )

    def _launch(self, component: str) -> None:
        if component == "provisioner":
            argv = [sys.executable, "-m", "localcluster.provisioner", f"--kubeconfig={self.folder}/pki/provisioner.kubeconfig"]
            argv += [f"--root={self.folder}/volumes", f"--node={NODE}"]
        else:
            argv = {**CONTROL_PLANE, **NODE_PARTS}[component](self.parts.site)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = ["prlimit", f"--nofile={'unlimited' if limit == resource.RLIM_INFINITY else limit}", "--"]  # databases open many
        environment = {**os.environ, "PATH": search_path(), MARK: str(self.folder), "PYTHONPATH": str(Path(__file__).parent.parent)}
        wrapper = [*self._namespaces.wrapper(mounts=component != "provisioner"), *files]
        self._processes.start(component, argv, wrapper=wrapper, below=self._namespaces.init(), environment=environment)

    def _heal(self, component: str) -> None:
        record = self._processes.running(component)
        if record is None:
            self._launch(component)
        elif (now := stat(record.pid)) is not None and now.state == "T":
            self._processes.signal(component, signal.SIGCONT)

    def _start_containerd(self, parts: Parts, *, fresh: bool) -> None:
        parts.await_ready("containerd", self._containerd_ready, ("containerd",))
        store = self._store()
        if fresh and store.remove_containers():
            self._processes.kill("containerd")
            self._launch("containerd")
            parts.await_ready("containerd", self._containerd_ready, ("containerd",))
        store.import_pause(parts.site.programs["pause"])

    def _containerd_ready(self) -> bool:
        init = self._namespaces.init()
        if init is None:
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(f"/proc/{init.pid}/root/run/containerd/containerd.sock") == 0

    def _store(self) -> ImageStore:
        init = self._namespaces.init()
        if init is None:
            raise ClusterError(f"the cluster {self.name} is not up", f"localcluster up --name {self.name}")
        return ImageStore(self._containerd_root, init.pid)

    def _install(self, parts: Parts) -> None:
        for path, manifest in _manifests(parts.site):
            what = f"{manifest['kind']} {manifest['metadata']['name']}"
            parts.await_ready(what, functools.partial(parts.api.apply, path, manifest), ("apiserver",))

    def _forget_readiness(self, parts: Parts) -> None:
        """A node that was Ready before its kubelet died says so for a while: what it says next is to be the new kubelet's word."""
        unknown = {"type": "Ready", "status": "Unknown", "reason": "Restarting", "message": "the kubelet is started anew"}
        path = f"/api/v1/nodes/{NODE}/status"
        parts.api.call("PATCH", path, {"status": {"conditions": [unknown]}}, "application/strategic-merge-patch+json")

    def _node_ready(self, parts: Parts) -> bool:
        node = parts.api.get(f"/api/v1/nodes/{NODE}") or {}
        conditions = {entry["type"]: entry["status"] for entry in node.get("status", {}).get("conditions", [])}
        return conditions.get("Ready") == "True" and all(_listens(parts.site.address, port) for port in (53, 10250, 10256))

    def _import(self, archives: dict[str, Path]) -> None:
        store = self._store()
        for reference, archive in archives.items():
            start = time.monotonic()
            if store.import_archive(reference, archive):
                self._progress(f"loaded {reference}: {time.monotonic() - start:.1f} s")

    @property
    def parts(self) -> Parts:
        """The cluster's parts. Raises ClusterError when it was never brought up."""
        subnets = self._subnets()
        if subnets is None:
            raise ClusterError(f"there is no cluster {self.name}", f"localcluster up --name {self.name}")
        return Parts(self._site(subnets, binaries.ensure(NODE_PROGRAMS, self._progress)), self._processes, self._launch)

    def status(self) -> Status:
        """What runs. Raises ClusterError when there is no such cluster."""
        parts = self.parts
        components = {"init": self._state("init")} | {component: self._state(component) for component in COMPONENTS}
        ready = all(state == "running" for state in components.values()) and self._node_ready(parts)
        subnets = self._subnets()
        return Status(name=self.name, subnet=subnets.whole if subnets else "", server=parts.site.server, components=components, ready=ready)

    def _state(self, component: str) -> str:
        record = self._processes.running(component)
        if record is None:
            return "down"
        now = stat(record.pid)
        return "paused" if now is not None and now.state == "T" else "running"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "pki/admin.kubeconfig"

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
        """Ends the component by SIGKILL; "init" takes the whole node with it."""
        self.parts.kill(component)

    def restart(self, component: str) -> None:
        """Ends the component if it runs and starts it; etcd and the API server are waited for."""
        self.parts.restart(component)

    def load_image(self, path: Path) -> None:
        """Imports an image archive (`docker save` or OCI); one that was imported and did not change is passed over."""
        self._import({path.name: path.resolve()})

    def load_images(self, refs: Iterable[str] | None = None) -> None:
        """Imports the images of these references (all that are known with None), pulled or built when they are not there."""
        self._import(image_store.archives(refs, self._progress))

    def images(self) -> list[str]:
        """The references of the images in the node."""
        return self._store().references()

    def pod_pids(self, namespace: str, pod: str, container: str | None = None) -> list[int]:
        """The machine's pids of the pod's processes, of one container or of all, without the sandbox's own; empty when none runs."""
        status = json.loads(self.kubectl("get", "pod", pod, f"--namespace={namespace}", "--output=json"))["status"]
        found = []
        for entry in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            if container in (None, entry["name"]) and entry.get("containerID"):
                found += _in_cgroup(entry["containerID"].removeprefix("containerd://"))
        return sorted(found)

    def pod_netns(self, namespace: str, pod: str) -> Path:
        """The pod's network namespace, for `nsenter --net=`; it stays the same while its containers restart. Raises ClusterError."""
        uid = self.kubectl("get", "pod", pod, f"--namespace={namespace}", "--output=jsonpath={.metadata.uid}")
        sandbox = next((pid for pid in _in_cgroup(f"/pod{uid}/") if executable(pid) == "/pause"), None)
        if sandbox is None:
            raise ClusterError(f"the pod {namespace}/{pod} has no sandbox")
        return Path(f"/proc/{sandbox}/ns/net")


def _in_cgroup(part: str) -> list[int]:
    found = []
    for pid in all_pids():
        try:
            if part in Path(f"/proc/{pid}/cgroup").read_text():
                found.append(pid)
        except OSError:
            continue
    return found


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def _manifests(site: Site) -> list[tuple[str, dict[str, Any]]]:
    """What every cluster has from the start: the Service of CoreDNS, which runs beside the pods, and the StorageClass."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"clusterIP": site.dns_address, "ports": ports}}
    addresses = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [site.address]}],
    }
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": True,
    }
    return [
        ("/api/v1/namespaces/kube-system/services/kube-dns", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns", addresses),
        ("/apis/storage.k8s.io/v1/storageclasses/standard", storage_class),
    ]
