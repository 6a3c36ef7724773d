"""Building images by buildah in a storage of our own under the user's cache: the user's own images are not touched."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from localcluster import paths
from localcluster.errors import ClusterError
from localcluster.host import require_packages
from localcluster.images import clients

Say = Callable[[str], None]
PACKAGES = {"mmdebstrap": "mmdebstrap", "buildah": "buildah", "runc": "runc", "unshare": "util-linux", "setpriv": "util-linux"}
# A builder's mounts and processes live in namespaces of their own and end with it, and it with us, also by a SIGKILL: none is left.
CONTAINED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
CAUSES = (
    "No space left on device",
    "E: Failed to fetch",
    "Temporary failure resolving",
    "Could not connect",
    "E: ",
    "ERROR: ",
    "[ERROR]",
    "error: ",
    "Error: ",
)
STEP_SECONDS = 1800
LOG_BYTES = 5_000_000
PULL_ANSWER_SECONDS = 10
PULL_SECONDS = 1800


def folder() -> Path:
    """``images/`` in the project's part of the user's cache."""
    made = paths.cache() / "images"
    made.mkdir(exist_ok=True)
    return made


def scratch() -> Path:
    """Where builds keep what is of no use after them."""
    made = folder() / "tmp"
    made.mkdir(exist_ok=True)
    return made


def tidy() -> None:
    """Remove what a killed build left; only under the lock of ``images/``."""
    shutil.rmtree(scratch(), ignore_errors=True)
    if (folder() / "storage").is_dir():
        subprocess.run(buildah("rm", "--all"), capture_output=True, check=False, stdin=subprocess.DEVNULL)


def require_tools(progress: Callable[[str], None], programs: Mapping[str, str] = PACKAGES) -> None:
    """Installs what building images needs; ``ClusterError`` where that cannot be had, or for want of root."""
    if os.geteuid() != 0:
        raise ClusterError("building images needs root (chroot)", "run it with sudo -H")
    require_packages(progress, programs)


def cause(output: str, what: str) -> str:
    """The line of a build's output that says why it failed: the first error of the step, not the builder's last word."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for sign in CAUSES:
        for line in lines:
            if sign in line:
                return line[:300]
    return lines[-1][:300] if lines else f"{what} does not say why"


def checked(
    argv: list[str], what: str, *, seconds: float = STEP_SECONDS, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Standard output of ``argv``; ``ClusterError`` with one line that says what failed and why. All that was said is in ``images/log``."""
    with (folder() / "log").open("a") as log:
        if log.tell() > LOG_BYTES:
            log.truncate(0)
        try:
            variables = {**os.environ, "TMPDIR": str(scratch()), **(environment or {})}
            done = subprocess.run(
                argv, capture_output=True, text=True, errors="replace", timeout=seconds, cwd=cwd, env=variables, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{what} did not end within {seconds:.0f} s", "see whether the package archives are reached") from None
        except FileNotFoundError:
            raise ClusterError(f"{argv[0]} is missing", f"apt-get install {argv[0]}") from None
        log.write(f"{time.strftime('%F %T')} {what}\n{done.stdout}{done.stderr}")
    if done.returncode:
        reason = cause(done.stdout + done.stderr, what)
        raise ClusterError(f"{what} failed ({reason})", f"all that was said is in {folder() / 'log'}")
    return done.stdout


def buildah(*words: str) -> list[str]:
    """The argv of a buildah command on our own storage."""
    return [*CONTAINED, "buildah", "--root", str(folder() / "storage"), "--runroot", str(folder() / "run"), *words]


def has(reference: str) -> bool:
    found = subprocess.run(buildah("inspect", "--type", "image", reference), capture_output=True, check=False)
    return found.returncode == 0


def forget_stale(limit: int) -> None:
    """Empty the storage once it holds more than ``limit`` images, of layers kept for a next build that went another way."""
    kept = checked(buildah("images", "--all", "--quiet"), "buildah").split()
    if len(kept) > limit:
        checked(buildah("rmi", "--all", "--force"), "buildah")


def build(reference: str, context: Path, sources: Path, arguments: Mapping[str, str], *, layers: bool = False) -> None:
    """Run the steps of the context's Containerfile with this machine's package clients, apt with the lines of ``sources``.

    ``layers`` keeps each step for the next build.
    """
    with clients.lent(sources, scratch()) as settings:
        argv = buildah("build", "--isolation", "chroot", "--network", "host", "--pull-never", f"--layers={'true' if layers else 'false'}")
        argv += ["--volume", f"{settings}:{clients.MOUNT}:ro", "--file", str(context / "Containerfile"), "--tag", reference]
        for name, value in {**clients.ARGUMENTS, **arguments}.items():
            argv += ["--build-arg", f"{name}={value}"]
        checked([*argv, str(context)], f"building {reference}")


def run(reference: str, argv: list[str]) -> str:
    """Standard output of a program of the image."""
    container = checked(buildah("from", "--pull-never", reference), "buildah").strip()
    try:
        return checked(buildah("run", "--isolation", "chroot", container, "--", *argv), f"running {reference}", seconds=120)
    finally:
        subprocess.run(buildah("rm", container), capture_output=True, check=False)


def save(reference: str, archive: Path) -> None:
    """The image as a tar that ``ctr images import`` takes; the file is there whole or not at all."""
    fresh = scratch() / archive.name
    try:
        checked(buildah("push", "--quiet", reference, f"docker-archive:{fresh}:{reference}"), f"writing {archive.name}")
        fresh.replace(archive)
    finally:
        fresh.unlink(missing_ok=True)


def tag(reference: str, name: str) -> None:
    """Give the image another name beside its own."""
    checked(buildah("tag", reference, name), "buildah")


def remove(reference: str) -> None:
    """Forget the image; its archive stays."""
    subprocess.run(buildah("rmi", reference), capture_output=True, check=False)


def pull(reference: str, progress: Say) -> bool:
    """Whether the registry gave the image. A registry that does not answer within seconds is taken as not reached."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            buildah("pull", "--retry", "0", reference), stdout=subprocess.DEVNULL, stderr=said, stdin=subprocess.DEVNULL
        )
        try:
            process.wait(PULL_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            said.seek(0)
            answered = "Getting image source signatures" in said.read()
            if answered:
                progress(f"pulling {reference}")
            _end(process, PULL_SECONDS if answered else 0)
        return process.returncode == 0


def _end(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
