"""The programs of a Kubernetes, built once from their Go modules into the user's cache.

Each folder of `go/` is a Go module whose go.sum pins every source by hash. A build goes to a temporary folder and is renamed when it is
whole, under a name that holds a digest of the module's files: a folder that exists is complete and current.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec

from localcluster import golang, paths
from localcluster.errors import ClusterError
from localcluster.host import locked, require_disk
from localcluster.progress import Progress

GO_MODULES = Path(__file__).parent / "go"
BUILD_GIB = 8  # measured: 3.3 GiB build cache, 1.8 GiB module cache, 0.6 GiB programs
NETWORK_SIGNS = (
    "dial tcp",
    "no such host",
    "i/o timeout",
    "connection refused",
    "proxyconnect",
    "TLS handshake",
    "Bad Gateway",
    "server misbehaving",
)


class Module(msgspec.Struct, frozen=True):
    """One Go module: the programs it gives, and the package each is built from."""

    folder: str
    programs: dict[str, str]
    minutes: str


MODULES = (
    Module(
        "kubernetes",
        {
            p: f"k8s.io/kubernetes/cmd/{p}"
            for p in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")
        },
        "about 6 minutes on 2 cores",
    ),
    Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, "half a minute"),
    Module("coredns", {"coredns": "."}, "about a minute"),
    Module("pause", {"pause": "."}, "seconds"),
)


def kubernetes_version() -> str:
    """The version of Kubernetes the module file asks for, as 1.35.4."""
    found = re.search(r"k8s\.io/kubernetes v(\S+)", (GO_MODULES / "kubernetes/go.mod").read_text())
    return found.group(1) if found else "0.0.0"


def ensure(programs: Iterable[str], progress: Progress, *, assets: bool = False) -> dict[str, Path]:
    """The path of each program asked for, built when it is not there yet.

    With `assets`, a program in the folder `$KUBEBUILDER_ASSETS` is taken as it is. Raises ClusterError when Go, its modules or the disk
    space is missing.
    """
    found: dict[str, Path] = {}
    folder = os.environ.get("KUBEBUILDER_ASSETS") if assets else None
    for program in programs:
        ready = Path(folder, program) if folder else None
        if ready and os.access(ready, os.X_OK):
            found[program] = ready.resolve()
            continue
        module = next(m for m in MODULES if program in m.programs)
        found[program] = _built(module, progress) / program
    return found


def _built(module: Module, progress: Progress) -> Path:
    digest = hashlib.sha256()
    for file in sorted((GO_MODULES / module.folder).iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    root = paths.cache() / "bin"
    root.mkdir(exist_ok=True)
    target = root / f"{module.folder}-{digest.hexdigest()[:12]}"
    if target.is_dir():
        return target
    with locked(root / ".lock", "another build", seconds=1800):
        if not target.is_dir():
            _build(module, target, progress)
    return target


def _build(module: Module, target: Path, progress: Progress) -> None:
    go = golang.go(GO_MODULES / module.folder, progress)
    require_disk(target.parent, BUILD_GIB if module.folder == "kubernetes" else 1, "to build Kubernetes")
    for left in target.parent.glob(f".{module.folder}-*"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{module.folder}-", dir=target.parent))
    try:
        # one package per `go build` with an -o file, so that a program's name is ours to choose; several share one run
        output = f"{temporary}/" if len(module.programs) > 1 else str(temporary / next(iter(module.programs)))
        # ends with us, even when we are killed
        argv = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            go,
            "build",
            "-v",
            "-mod=readonly",
            "-buildvcs=false",
            "-ldflags",
            _ldflags(module),
            "-o",
            output,
            *module.programs.values(),
        ]
        with progress.step(f"building {module.folder} from Go modules, once ({module.minutes})") as detail:
            lines: deque[str] = deque(maxlen=20)
            environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "PATH": f"{Path(go).parent}:{os.environ.get('PATH', '')}"}
            with subprocess.Popen(argv, cwd=GO_MODULES / module.folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
                assert process.stderr is not None
                for line in process.stderr:
                    lines.append(line.strip())
                    detail(lines[-1])
        if process.returncode:
            _explain(lines)
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _ldflags(module: Module) -> str:
    if module.folder != "kubernetes":
        return "-s -w"
    version, package = kubernetes_version(), "k8s.io/component-base/version"
    major, minor, _ = version.split(".")
    return f"-s -w -X {package}.gitVersion=v{version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"


def _explain(lines: Iterable[str]) -> None:
    said = [line for line in lines if line]
    for line in said:
        if any(sign in line for sign in NETWORK_SIGNS):
            raise ClusterError(
                f"Go modules cannot be downloaded ({line[-160:]})", "connect to the network, or set GOPROXY to a module proxy that answers"
            )
        if "no space left" in line:
            raise ClusterError("the disk is full", f"free {BUILD_GIB} GiB; `go clean -cache` removes old build results")
    raise ClusterError(f"go build failed: {said[-1] if said else 'it said nothing'}")
