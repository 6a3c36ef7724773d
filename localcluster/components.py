"""The argv of each program of a cluster."""

from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path

import msgspec

NODE = "node1"
PROVISIONER = "localcluster.database-operator.io/folder"  # of the StorageClass `standard`
ETCD_QUOTA_BYTES = 8 * 2**30


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where one cluster's parts are. Addresses are IPv4, subnets CIDR."""

    folder: Path
    programs: dict[str, Path]
    address: str
    port: int
    services: str
    pods: str = ""
    etcd_socket: Path
    audit: bool = False
    api_flags: tuple[str, ...] = ()
    controllers: tuple[str, ...] = ()

    @property
    def pki(self) -> Path:
        """The folder with keys, certificates and kubeconfigs."""
        return self.folder / "pki"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.port}"

    @property
    def dns_address(self) -> str:
        """The address of the Service kube-dns."""
        return str(IPv4Network(self.services)[10])

    @property
    def audit_log(self) -> Path | None:
        """The API server's audit log, one JSON object a line, or None."""
        return self.folder / "logs/audit.log" if self.audit else None

    def program(self, name: str) -> str:
        """The path of a program."""
        return str(self.programs[name])


def etcd(site: Site) -> list[str]:
    """etcd on a socket only root reaches. Without fsync: a crash of etcd loses nothing, one of the machine may."""
    # nobody but the API server's socket connects: the advertised addresses are never used, port 0 lets the kernel choose
    argv = [site.program("etcd"), f"--data-dir={site.folder}/etcd", f"--listen-client-urls=unix://{site.etcd_socket}"]
    argv += ["--advertise-client-urls=http://127.0.0.1:0", "--listen-peer-urls=http://127.0.0.1:0", "--log-level=warn"]
    return [*argv, "--unsafe-no-fsync", f"--quota-backend-bytes={ETCD_QUOTA_BYTES}"]


def apiserver(site: Site) -> list[str]:
    """kube-apiserver on one address, with tokens and without anonymous requests."""
    pki = site.pki
    argv = [
        site.program("kube-apiserver"),
        f"--etcd-servers=unix://{site.etcd_socket}",
        f"--bind-address={site.address}",
        f"--secure-port={site.port}",
    ]
    argv += [
        f"--advertise-address={site.address}",
        "--anonymous-auth=false",
        "--authorization-mode=RBAC",
        f"--token-auth-file={pki}/tokens.csv",
    ]
    argv += [f"--client-ca-file={pki}/ca.crt", f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key"]
    argv += [f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key"]
    argv += [
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={site.services}",
        "--allow-privileged=true",
    ]
    argv += [f"--kubelet-client-certificate={pki}/kubelet-client.crt", f"--kubelet-client-key={pki}/kubelet-client.key"]
    argv += [f"--kubelet-certificate-authority={pki}/ca.crt", "--kubelet-preferred-address-types=InternalIP"]
    if not site.pods:  # a loopback address may be in no Endpoints
        argv.append("--endpoint-reconciler-type=none")
    if site.audit:
        argv += [f"--audit-policy-file={site.folder}/audit-policy.yaml", f"--audit-log-path={site.audit_log}"]
    return [*argv, *site.api_flags]


AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


def controller_manager(site: Site) -> list[str]:
    """kube-controller-manager with its own defaults, node lifecycle included."""
    argv = [
        site.program("kube-controller-manager"),
        f"--kubeconfig={site.pki}/controller-manager.kubeconfig",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    argv += [
        f"--service-account-private-key-file={site.pki}/sa.key",
        f"--root-ca-file={site.pki}/ca.crt",
        "--use-service-account-credentials=false",
    ]
    if site.controllers:
        argv.append(f"--controllers={','.join(site.controllers)}")
    if site.pods:
        argv += ["--allocate-node-cidrs=true", f"--cluster-cidr={site.pods}", f"--service-cluster-ip-range={site.services}"]
    return argv


def scheduler(site: Site) -> list[str]:
    """kube-scheduler."""
    return [site.program("kube-scheduler"), f"--kubeconfig={site.pki}/scheduler.kubeconfig", "--leader-elect=false", "--secure-port=0"]


def containerd(site: Site) -> list[str]:
    """containerd; its socket is in the node's own /run."""
    return ["containerd", "--config", f"{site.folder}/containerd.toml"]


def kubelet(site: Site) -> list[str]:
    """The kubelet."""
    argv = [site.program("kubelet"), f"--config={site.folder}/kubelet.yaml", f"--kubeconfig={site.pki}/kubelet.kubeconfig"]
    return [*argv, f"--hostname-override={NODE}", f"--node-ip={site.address}"]


def kube_proxy(site: Site) -> list[str]:
    """kube-proxy."""
    return [site.program("kube-proxy"), f"--config={site.folder}/kube-proxy.yaml"]


def coredns(site: Site) -> list[str]:
    """CoreDNS."""
    return [site.program("coredns"), "-conf", f"{site.folder}/Corefile"]


Argv = Callable[[Site], list[str]]
# in the order they are started
CONTROL_PLANE: dict[str, Argv] = {"etcd": etcd, "apiserver": apiserver, "controller-manager": controller_manager, "scheduler": scheduler}
NODE_PARTS: dict[str, Argv] = {"containerd": containerd, "kubelet": kubelet, "kube-proxy": kube_proxy, "coredns": coredns}
