"""The operator's own image, from the project's Containerfile: for the local cluster without a registry, and by the user's own builder."""

import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.host import locked
from localcluster.images import base, catalog, store
from localcluster.images.catalog import PROJECT

SUITE = "bookworm"
STALE_IMAGES = 300  # a rebuild leaves up to 15, of 150 MB together: about 3 GB
INPUTS = ("Containerfile", "requirements/agent.txt", "requirements/operator.txt", "agent", "database_operator")
# a builder and the question whether it works here: a docker client without its daemon does not
BUILDERS = {"podman": ["podman", "info"], "buildah": ["buildah", "info"], "docker": ["docker", "info"]}
# run in the image: the shortest of three starts in seconds, of the operator up to its manager and of the agent
TIMER = """
import subprocess, sys, time
def best(*argv):
    spent = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        spent.append(time.monotonic() - start)
    return min(spent)
print(f"{best(sys.executable, '-c', 'import database_operator.manager'):.2f} {best('/opt/database-agent/database-agent', 'version'):.2f}")
"""


@cache
def reference() -> str:
    """The image's name in the local cluster, with the project's version."""
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    return f"docker.io/library/database-operator:{version}"


def digest(root: Path = PROJECT) -> str:
    """12 hex digits of all the image is made of, the packages' own versions apart."""
    return catalog.digest([catalog.BASE_FORMAT, reference()], {name: root / name for name in INPUTS})


@contextmanager
def context(parent: Path | None = None) -> Iterator[Path]:
    """A folder, in ``parent`` or the system's own for such, with exactly the inputs: no builder's ignore rules matter."""
    with tempfile.TemporaryDirectory(prefix="operator-", dir=parent) as scratch:
        folder = Path(scratch)
        for name in INPUTS:
            (folder / name).parent.mkdir(exist_ok=True)
            if (PROJECT / name).is_dir():
                shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(PROJECT / name, folder / name)
        yield folder


def build_offline(progress: Callable[[str], None]) -> str:
    """Run the Containerfile's steps in the local cluster's own storage, on a base made of Debian's packages; the inputs' digest.

    It is that of the files as they were copied: an edit during the build is the next build's.
    """
    store.forget_stale(STALE_IMAGES)
    base.ensure(SUITE, progress)
    progress(f"building {reference()}")
    with context(store.scratch()) as folder:
        store.build(reference(), folder, base.sources(SUITE), {}, layers=True)
        operator, agent = store.run(reference(), ["/opt/database-operator/bin/python", "-c", TIMER]).split()
        progress(f"{reference()}: the operator starts in {operator} s, the agent in {agent} s")
        return digest(folder)


def builder() -> str:
    """The first of podman, buildah and docker that works here; ``ClusterError`` where none does."""
    for name, question in BUILDERS.items():
        if shutil.which(name) and subprocess.run(question, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0:
            return name
    raise ClusterError("no program that builds images works here", f"install one of {', '.join(BUILDERS)}")


def build(tag: str, progress: Callable[[str], None]) -> str:
    """Build the operator's image as ``tag`` and say where it is, for the user to push or load it: the builder's name or an archive's path.

    By the user's own builder; where none works or its registry does not answer, offline into an archive in the project's cache.
    ``ClusterError`` where that cannot be done either.
    """
    try:
        return f"{_by_builder(tag, progress)}'s images"
    except ClusterError as error:
        progress(f"{error}; building it from Debian's packages instead")
    store.require_tools(progress)
    archive = store.folder() / f"{tag.replace('/', '_').replace(':', '-')}.tar"
    with locked(store.folder() / ".lock", "another build of images", seconds=1800):
        store.tidy()
        build_offline(progress)
        store.tag(reference(), tag)
        store.save(tag, archive)
    return str(archive)


def _by_builder(tag: str, progress: Callable[[str], None]) -> str:
    name = builder()
    progress(f"building {tag} with {name}")
    with context() as folder:
        argv = [name, "build", "--file", str(folder / "Containerfile"), "--tag", tag, str(folder)]
        store.checked(argv, f"building {tag} with {name}", seconds=3600)
    return name
