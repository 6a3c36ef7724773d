"""The Go that builds: the machine's own, or the toolchain that the module asks for, fetched as the Go module it is published as."""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec

from localcluster import paths
from localcluster.errors import ClusterError
from localcluster.host import require_packages
from localcluster.progress import Progress

PACKAGE = {"go": "golang-go"}  # Debian's; old, but it can fetch a newer one
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
FALLBACK = "/usr/local/go/bin/go"  # where Go's own archive puts it, on no PATH by default


class Version(msgspec.Struct, frozen=True, order=True):
    """A Go version, as in ``go 1.25.0``."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def go(module: Path, progress: Progress) -> str:
    """The path of a Go that builds ``module``; installed into the cache where the machine's is missing or too old.

    Raises ClusterError when none is there and none can be fetched.
    """
    wanted = _version((module / "go.mod").read_text(), r"^go (\d+)\.(\d+)(?:\.(\d+))?") or Version(1, 25, 0)
    remedy = f"install Go {wanted} or newer (https://go.dev/dl) and put it on PATH"
    kept = paths.cache() / "go" / str(wanted) / "bin/go"
    found = str(kept) if kept.exists() else _installed(progress, remedy)
    # in the module's folder an older Go switches to the toolchain the module asks for, where GOTOOLCHAIN lets it
    done = subprocess.run([found, "version"], cwd=module, capture_output=True, text=True, check=False)
    version = _version(done.stdout, r"go(\d+)\.(\d+)(?:\.(\d+))?")
    if done.returncode or version is None:
        raise ClusterError(f"Go does not run ({(done.stderr or done.stdout).strip()[-160:]})", remedy)
    if version < wanted:
        with progress.step(f"fetching Go {wanted}, since {found} is {version}"):
            _fetch(found, wanted, kept.parents[1], remedy)
        return str(kept)
    return found


def _installed(progress: Progress, remedy: str) -> str:
    found = shutil.which("go") or shutil.which(FALLBACK)
    if found is None:
        try:
            require_packages(progress, PACKAGE)
        except ClusterError as error:
            raise ClusterError(f"Go is missing, and Kubernetes is not built yet: {error}", remedy) from error
        found = shutil.which("go")
    assert found is not None
    return found


def _version(text: str, pattern: str) -> Version | None:
    found = re.search(pattern, text, re.MULTILINE)
    return Version(*(int(part or 0) for part in found.groups())) if found else None


def _fetch(old: str, wanted: Version, target: Path, remedy: str) -> None:
    """Go's toolchains are modules (go.dev/doc/toolchain), checked against the public checksum database as any other."""
    machine = ARCHITECTURES.get(platform.machine())
    if machine is None:
        raise ClusterError(f"there is no Go {wanted} to fetch for {platform.machine()}", remedy)
    name = f"golang.org/toolchain@v0.0.1-go{wanted}.linux-{machine}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
        environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}
        done = subprocess.run(
            [old, "mod", "download", "-json", name], cwd=scratch, env=environment, capture_output=True, text=True, check=False
        )
        folder = msgspec.json.decode(done.stdout or "{}").get("Dir") if done.returncode == 0 else None
        if folder is None:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise ClusterError(f"Go {wanted} cannot be fetched ({said[-1][-160:] if said else 'go does not say why'})", remedy)
        fresh = Path(scratch) / "go"
        shutil.copytree(folder, fresh)
        for program in (*fresh.glob("bin/*"), *fresh.glob("pkg/tool/*/*")):  # a module's files come without their mode
            program.chmod(0o755)
        for place in (fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
            place.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
