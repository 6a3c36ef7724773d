"""The node: a set of namespaces that holds all of a cluster.

The first process of the node's PID namespace is `pause`; every other program of the cluster, pods included, runs below it in the node's
PID, mount, network, IPC and UTS namespaces. When it ends, by `down` or by `kill -9`, the kernel ends all of them and with the last one the
mounts, bridges, nftables tables and sysctls of the node are gone. On the machine itself there is only one end of a veth pair with a
route, a cgroup and, where they were lower, two raised sysctls.
"""

import os
import time
from ipaddress import IPv4Network
from pathlib import Path

import msgspec

from localcluster import paths
from localcluster.components import NODE, Site
from localcluster.errors import ClusterError
from localcluster.host import cni_folder, try_run
from localcluster.processes import Processes, Record, end, recorded, with_environment
from localcluster.run import run

MARK = "DATABASE_OPERATOR_CLUSTER"
INIT = "init"
CGROUP_ROOT = "database-operator"
CGROUP_SECONDS = 10.0

# Run by sh in the new namespaces, with: cache folder, state folder, the first process. /run and /var become the node's own; the cache
# stays visible also where it lies below /var. The kernel settings a kubelet would change for the whole machine are shown to it as it wants
# to see them, by files mounted over them.
SETUP = """\
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/cache /run/kernel /run/lock
mount --rbind "$1" /run/cache
mount --bind "$2/var" /var
mkdir -p "$1" /var/lib/kubelet /var/log /var/tmp
mount --move /run/cache "$1"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \\
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000
do
  name=${setting%%=*}
  shown=/run/kernel/$(echo "$name" | tr / .)
  echo "${setting#*=}" >"$shown"
  if [ -e "/proc/sys/$name" ]; then mount --bind "$shown" "/proc/sys/$name"; fi
done
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
mount --make-rshared /
exec "$3"
"""


class Subnets(msgspec.Struct, frozen=True):
    """How a cluster's /16 is divided: a quarter for pods, one /24 that links node and machine, the upper half for Services."""

    whole: str

    @property
    def _base(self) -> int:
        return int(IPv4Network(self.whole).network_address)

    @property
    def pods(self) -> str:
        """The pods' subnet; the controller-manager gives each node a /24 of it."""
        return str(IPv4Network((self._base, 18)))

    @property
    def services(self) -> str:
        """The Services' subnet."""
        return str(IPv4Network((self._base + 2**15, 17)))

    @property
    def machine(self) -> str:
        """The machine's end of the link."""
        return str(IPv4Network((self._base + 2**14, 24))[1])

    @property
    def node(self) -> str:
        """The node's end of the link: the API server, the kubelet and CoreDNS listen there."""
        return str(IPv4Network((self._base + 2**14, 24))[2])

    @property
    def link(self) -> str:
        """The name of the machine's end of the link; the subnet makes it unique."""
        return f"dbop{str(IPv4Network(self.whole)).split('.')[0]}-{self.whole.split('.')[1]}"


class Namespaces:
    """The namespaces of one node, held by its first process."""

    def __init__(self, name: str, folder: Path, processes: Processes) -> None:
        self._name = name
        self._folder = folder
        self._processes = processes
        self._mark = f"{MARK}={folder}"

    def init(self) -> Record | None:
        """The first process, or None when the node is down."""
        return self._processes.running(INIT)

    def _require(self) -> Record:
        record = self.init()
        if record is None:
            raise ClusterError(f"the node of {self._name} does not run", f"localcluster up --name {self._name}")
        return record

    def create(self, pause: Path) -> None:
        """Makes the namespaces and the cgroup. What is left of a node that was killed must be gone: call `remove` first."""
        (self._folder / "var").mkdir(mode=0o755, exist_ok=True)
        script = ["sh", "-c", SETUP, "setup", str(paths.cache()), str(self._folder)]
        unshare = [
            "unshare",
            "--fork",
            "--kill-child",
            "--pid",
            "--mount-proc",
            "--net",
            "--mount",
            "--ipc",
            "--uts",
            "--propagation",
            "slave",
        ]
        environment = {**os.environ, "PATH": search_path(), MARK: str(self._folder)}
        self._processes.start(INIT, [str(pause)], wrapper=[*unshare, *script], environment=environment)
        for hierarchy in cgroup_hierarchies():
            try:
                _make_cgroup(hierarchy, self.cgroup)
            except OSError as error:
                raise ClusterError(
                    f"the cgroup {hierarchy}{self.cgroup} cannot be made ({error.strerror})", "run where the root cgroup may be written"
                ) from None

    def link(self, subnets: Subnets) -> None:
        """Links node and machine, unless they are. Raises ClusterError when the node is down."""
        if Path("/sys/class/net", subnets.link).exists():
            return
        init = self._require()
        inside = ["nsenter", "--target", str(init.pid), "--net", "--", "ip"]
        run(["ip", "link", "add", subnets.link, "type", "veth", "peer", "name", "eth0", "netns", str(init.pid)])
        run([*inside, "address", "add", f"{subnets.node}/24", "dev", "eth0"])
        run([*inside, "link", "set", "eth0", "up"])
        run(["ip", "address", "add", f"{subnets.machine}/24", "dev", subnets.link])
        run(["ip", "link", "set", subnets.link, "up"])
        run(["ip", "route", "add", subnets.whole, "via", subnets.node])

    @property
    def cgroup(self) -> str:
        """The cgroup of all pods of this node."""
        return f"/{CGROUP_ROOT}/{self._name}"

    def wrapper(self, *, mounts: bool = True) -> list[str]:
        """What makes a program run in the node. Without `mounts` it sees the machine's files. Raises ClusterError when the node is down."""
        record = self._require()
        kinds = ["--pid", "--net", "--ipc", "--uts", *(["--mount"] if mounts else [])]
        # setsid leaves the program to the node's first process, which reaps it: nsenter need not stay as its parent
        return ["nsenter", "--target", str(record.pid), *kinds, "--", "setsid", "--fork"]

    def remove(self, subnets: Subnets | None) -> None:
        """Ends every process of the node and removes what it has on the machine; nothing to do is no error."""
        record = self._processes.record(INIT)
        if record is not None:
            end([record])
        # a node whose `up` was killed before it could write a record: only programs started with this cluster's mark are ended
        for pid in with_environment(self._mark):
            end(recorded([pid]))
        self._processes.kill_all()
        if subnets is not None and Path("/sys/class/net", subnets.link).exists():
            try_run(["ip", "link", "delete", subnets.link])
        for hierarchy in cgroup_hierarchies():
            _remove_cgroup(hierarchy / self.cgroup[1:])
            if (hierarchy / CGROUP_ROOT).is_dir() and not any(entry.is_dir() for entry in (hierarchy / CGROUP_ROOT).iterdir()):
                (hierarchy / CGROUP_ROOT).rmdir()


def snapshotter(root: Path) -> str:
    """overlayfs, or native where `root` is itself on an overlay, as in a container: no overlay's upper layer may lie on another."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    under = [(len(fields[1]), fields[2]) for fields in mounts if root.is_relative_to(fields[1])]
    return "native" if under and max(under)[1] == "overlay" else "overlayfs"


def search_path() -> str:
    """PATH with the folders of system programs, which a user's may lack."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"])


def cgroup_hierarchies() -> list[Path]:
    """Where cgroups are made: one folder with version 2, one per controller with version 1."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return [Path("/sys/fs/cgroup")]
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] == "cgroup"]


def _make_cgroup(hierarchy: Path, cgroup: str) -> None:
    controllers = hierarchy / "cgroup.controllers"
    folder = hierarchy
    for part in cgroup[1:].split("/"):
        if controllers.exists():  # version 2: each level says what the next may use
            wanted = " ".join(f"+{controller}" for controller in (folder / "cgroup.controllers").read_text().split())
            (folder / "cgroup.subtree_control").write_text(wanted)
        folder = folder / part
        folder.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty at first, and nothing runs in it while it is
            if not controllers.exists() and (folder / file).exists() and not (folder / file).read_text().strip():
                (folder / file).write_text((folder.parent / file).read_text())


def _remove_cgroup(folder: Path) -> None:
    """Removes the cgroup and those below it. The kernel frees one a moment after its last process."""
    deadline = time.monotonic() + CGROUP_SECONDS
    for below, _, _ in os.walk(folder, topdown=False):
        while True:
            try:
                Path(below).rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                raise ClusterError(f"the cgroup {below} is still in use", "end what cgroup.procs there names, then `down` again") from None
            break


def write_configuration(site: Site, cgroup: str, containerd_root: Path) -> None:
    """Writes the configuration files of containerd, CNI, kubelet, kube-proxy and CoreDNS into the cluster's folder."""
    files = {
        "cni/10-ptp.conflist": _cni(site.pods),
        "containerd.toml": CONTAINERD.format(
            root=containerd_root, snapshotter=snapshotter(containerd_root), bin=cni_folder(), conf=site.folder / "cni"
        ),
        "kubelet.yaml": KUBELET.format(pki=site.pki, cgroup=cgroup, dns=site.dns_address),
        "kube-proxy.yaml": KUBE_PROXY.format(pki=site.pki, node=NODE, pods=site.pods, address=site.address),
        "Corefile": COREFILE.format(address=site.address, pki=site.pki),
    }
    (site.folder / "cni").mkdir(exist_ok=True)
    for name, content in files.items():
        file = site.folder / name
        if not file.exists() or file.read_text() != content:  # kube-proxy ends itself when its file is touched
            file.write_text(content)


def _cni(pods: str) -> str:
    # ptp: every packet between pods is routed by the node, so Services work without the bridge netfilter module
    node_pods = str(IPv4Network((int(IPv4Network(pods).network_address), 24)))
    ptp = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": node_pods}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/cni"},
    }
    return msgspec.json.encode({"cniVersion": "0.4.0", "name": "pods", "plugins": [ptp]}).decode()


PAUSE_IMAGE = "localhost/pause:1"
# restrict_oom_score_adj: without CAP_SYS_RESOURCE on the machine a sandbox's wish for a lower score fails as
# "can't get final child's PID from pipe: EOF"
CONTAINERD = f"""\
version = 2
root = "{{root}}"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{{snapshotter}}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{{bin}}"
    conf_dir = "{{conf}}"
"""

# Images come from archives, so the kubelet must never remove one; disk and memory are the machine's, so it evicts nobody for them.
KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {pki}/ca.crt}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {pki}/kubelet.crt
tlsPrivateKeyFile: {pki}/kubelet.key
clusterDNS: ["{dns}"]
clusterDomain: cluster.local
resolvConf: ""
maxPods: 250
oomScoreAdj: 0
makeIPTablesUtilChains: false
volumePluginDir: /var/lib/kubelet/volumeplugins
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 50Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}}
crashLoopBackOff: {{maxContainerRestartPeriod: 10s}}
"""

KUBE_PROXY = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {pki}/kube-proxy.kubeconfig}}
mode: nftables
hostnameOverride: {node}
clusterCIDR: {pods}
healthzBindAddress: {address}:10256
oomScoreAdj: 0
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"""

COREFILE = """\
.:53 {{
  bind {address}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {pki}/coredns.kubeconfig local
    pods insecure
    ttl 5
  }}
  cache 5
}}
"""
